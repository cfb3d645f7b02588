"""The gradient of whole networks against jax.grad, by a check that is itself put to the test."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import layers, objective
from jaxnn.activations import Activation
from jaxnn.losses import Loss
from tests.test_activations import ACTIVATIONS
from tests.test_losses import LOSSES, labels

SIZES = (11, 5, 9, 4, 6)  # pairwise different, and different from every N below
MODULES = ("activations", "losses", "layers", "objective")


def assert_matches_autodiff(layers, objective, g: Activation, loss: Loss, depth: int, N: int):
    """value_and_grad of a network of `depth` layers equals jax.value_and_grad of its cost.

    To 1e-12 of the largest entry of each parameter's gradient, and exactly where that is 0.

    The first neuron of each hidden layer stands exactly at the kink, Z = 0.
    """
    n = SIZES[4 - depth :]
    net = layers.mlp(*n, g=g) if depth else layers.serial()
    params = [
        layers.Dense(
            p.W.at[0].set(0), (0.5 * jnp.arange(len(p.b), dtype=p.b.dtype) - 1)[:, None].at[0].set(0)
        )
        if l < depth
        else p
        for l, p in enumerate(net.init(jax.random.key(depth)), start=1)
    ]
    rng = np.random.default_rng(N)
    X, Y = jnp.asarray(rng.normal(size=(N, n[0]))), labels(rng, N, n[-1])

    J, dparams = objective.value_and_grad(net, loss)(params, X, Y)
    by_autodiff = jax.value_and_grad(objective.cost(net, loss), argnums=(0, 1))
    expected_J, (expected, expected_dX) = by_autodiff(params, X, Y)
    np.testing.assert_allclose(J, expected_J, rtol=1e-14)
    assert jax.tree.structure(dparams) == jax.tree.structure(expected) == jax.tree.structure(params)
    Z, residuals = net.forward(params, X)
    _, dX = net.backward(params, residuals, loss.backward(Z, Y))
    for ours, theirs in zip(
        jax.tree.leaves((dparams, dX)), jax.tree.leaves((expected, expected_dX)), strict=True
    ):
        assert ours.shape == theirs.shape
        assert (ours[theirs == 0] == 0).all()
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12 * float(jnp.abs(theirs).max()))


def load(module: str = "", old: str = "", new: str = "") -> dict[str, ModuleType]:
    """The modules of the mathematics, freshly made, one of them with one piece of text changed."""
    loaded = {}
    try:
        for name in MODULES:
            spec = importlib.util.find_spec(f"jaxnn.{name}")
            source = Path(spec.origin).read_text("utf-8")
            if name == module:
                assert source.count(old) == 1, f"{old!r} occurs {source.count(old)} times in {name}.py"
                source = source.replace(old, new)
            loaded[name] = ModuleType(f"jaxnn.{name}")
            sys.modules[f"jaxnn.{name}"], loaded[name].original = loaded[name], sys.modules[f"jaxnn.{name}"]
            exec(compile(source, spec.origin, "exec"), loaded[name].__dict__)
    finally:
        for name, fresh in loaded.items():
            sys.modules[f"jaxnn.{name}"] = fresh.original
    return loaded


@pytest.mark.parametrize("N", [1, 7, 32])
@pytest.mark.parametrize("depth", range(5))
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("g", ACTIVATIONS)
def test_every_network_matches_autodiff(g, loss, depth, N, x64):
    assert_matches_autodiff(layers, objective, ACTIVATIONS[g], LOSSES[loss], depth, N)


FAULTS = {
    "activation's slope forgotten": ("layers", "dZ = g.backward(dA, Z, A)", "dZ = dA"),
    "slope at A": ("layers", "g.backward(dA, Z, A)", "g.backward(dA, A, A)"),
    "sign of dW": ("layers", "dW = dZ.T @ A_prev", "dW = -dZ.T @ A_prev"),
    "1/N once more in dW": ("layers", "dW = dZ.T @ A_prev", "dW = dZ.T @ A_prev / len(dZ)"),
    "last example missing in dW": ("layers", "dW = dZ.T @ A_prev", "dW = dZ[:-1].T @ A_prev[:-1]"),
    "db by mean": ("layers", "db = jnp.sum(", "db = jnp.mean("),
    "db of dA": ("layers", "jnp.sum(dZ.T,", "jnp.sum(dA.T,"),
    "dA for dZ on the way down": ("layers", "dA_prev = dZ @ W", "dA_prev = dA @ W"),
    "updated weights": ("layers", "dA_prev = dZ @ W", "dA_prev = dZ @ (W - 0.1 * dW)"),
    "layers swapped": ("layers", "return dparams[::-1], dA", "return dparams, dA"),
    "stops after one layer": (
        "layers",
        "dp, dA = layer.backward(p, r, dA)",
        "dp, dA = layer.backward(p, r, dA); dA = 0 * dA",
    ),
    "mean forgotten": ("losses", "Y * rest) / len(Z)", "Y * rest)"),
    "mean over everything": ("losses", "Y * rest) / len(Z)", "Y * rest) / Z.size"),
    "Y - Ŷ": ("losses", "((1 - Y) * Y_hat - Y * rest)", "(Y * rest - (1 - Y) * Y_hat)"),
    "negatives ignored": ("losses", "((1 - Y) * Y_hat -", "(0 *"),
    "ΣY taken for 1": ("losses", "jnp.sum(Y, axis=-1, keepdims=True) - Y", "1 - Y"),
    "labels ignored": ("losses", "- Y * others", "- others"),
    "factor two": ("losses", "return (Z - Y) / len(Z)", "return 2 * (Z - Y) / len(Z)"),
    "¼ forgotten": ("activations", "dA * (sech_squared(Z / 2) / 4)", "dA * sech_squared(Z / 2)"),
    "tanh's slope for σ's": ("activations", "(sech_squared(Z / 2) / 4)", "sech_squared(Z)"),
    "tanh's slope at A": ("activations", "return dA * sech_squared(Z)", "return dA * sech_squared(A)"),
    "relu's kink": ("activations", "jnp.where(Z <= 0, 0, dA)", "jnp.where(Z < 0, 0, dA)"),
    "leaky relu's kink": (
        "activations",
        "jnp.where(Z <= 0, LEAK * dA, dA)",
        "jnp.where(Z < 0, LEAK * dA, dA)",
    ),
    "leak forgotten": ("activations", "jnp.where(Z <= 0, LEAK * dA, dA)", "jnp.where(Z <= 0, 0, dA)"),
    "softplus passes dA on": ("activations", "return dA * logistic(Z)", "return dA"),
    "silu without its second term": (
        "activations",
        "dA * (logistic(Z) + Z * sech",
        "dA * (logistic(Z) + 0 * sech",
    ),
    "gelu without its second term": ("activations", "dA * normal.cdf_plus_Z_pdf(Z)", "dA * normal.cdf(Z)"),
    "identity doubled": ("activations", "return dA  #", "return 2 * dA  #"),
}


def matches_everywhere(modules: dict[str, ModuleType]):
    activations, losses, layers, objective = (modules[name] for name in MODULES)
    hidden = [g for name, g in vars(activations).items() if name in ACTIVATIONS]
    for g in hidden:
        assert_matches_autodiff(layers, objective, g, losses.binary_cross_entropy, depth=2, N=7)
    for name in LOSSES:
        assert_matches_autodiff(layers, objective, activations.tanh, getattr(losses, name), depth=3, N=7)


def test_freshly_made_modules_match(x64):
    matches_everywhere(load())


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_caught(fault, x64):
    modules = load(*FAULTS[fault])
    with pytest.raises(AssertionError):
        matches_everywhere(modules)
