"""The gradient of whole networks against jax.grad, by a check that is itself put to the test."""

from itertools import pairwise
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import normal
from jaxnn.activations import (
    Activation,
    gelu,
    identity,
    leaky_relu,
    logistic,
    relu,
    sigmoid,
    silu,
    softplus,
    tanh,
)
from jaxnn.layers import Dense, Layer, dense, mlp, serial
from jaxnn.losses import Loss, binary_cross_entropy, cross_entropy, squared_error
from jaxnn.objective import cost, value_and_grad
from tests.test_activations import ACTIVATIONS
from tests.test_losses import LOSSES, labels

pytestmark = pytest.mark.usefixtures("compiled_plainly")
SIZES = (11, 5, 9, 4, 6)  # pairwise different, and different from every N below


def assert_matches_autodiff(net: Layer, loss: Loss, n: tuple[int, ...], N: int):
    """value_and_grad of a network n[0]-n[1]-...-n[L] equals jax.value_and_grad of its cost.

    To 1e-12 of the largest entry of each parameter's gradient, and exactly where that is 0.

    The first neuron of each hidden layer stands exactly at the kink, Z = 0.
    """
    rng = np.random.default_rng(N)  # NumPy draws, and compares: it compiles nothing
    params = []
    for l, p in enumerate(jax.eval_shape(net.init, jax.random.key(0)), start=1):
        W, b = rng.uniform(-1, 1, p.W.shape), 0.5 * np.arange(len(p.b))[:, None] - 1
        if l < len(n) - 1:
            W[0] = b[0] = 0
        params.append(Dense(jnp.asarray(W), jnp.asarray(b)))
    X, Y = jnp.asarray(rng.normal(size=(N, n[0]))), labels(rng, N, n[-1])

    J, dparams = value_and_grad(net, loss)(params, X, Y)
    by_autodiff = jax.value_and_grad(cost(net, loss), argnums=(0, 1))
    expected_J, (expected, expected_dX) = by_autodiff(params, X, Y)
    np.testing.assert_allclose(J, expected_J, rtol=1e-14)
    assert jax.tree.structure(dparams) == jax.tree.structure(expected) == jax.tree.structure(params)
    Z, residuals = net.forward(params, X)
    _, dX = net.backward(params, residuals, loss.backward(Z, Y))
    for ours, theirs in zip(
        jax.tree.leaves((dparams, dX)), jax.tree.leaves((expected, expected_dX)), strict=True
    ):
        ours, theirs = np.asarray(ours), np.asarray(theirs)
        assert ours.shape == theirs.shape
        assert (ours[theirs == 0] == 0).all()
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12 * np.abs(theirs).max())


DEPTHS = [(0, 7), (1, 32), (2, 7), (3, 1), (4, 7)]  # and numbers of examples
TWO_OF_EACH = [  # pairs of an activation and a loss: each of the two meets every depth
    (g, loss, *DEPTHS[(i + 2 * j + k) % len(DEPTHS)])
    for i, g in enumerate(ACTIVATIONS)
    for j, loss in enumerate(LOSSES)
    for k in range(2)
]


@pytest.mark.parametrize(("g", "loss", "depth", "N"), TWO_OF_EACH)
def test_every_network_matches_autodiff(g, loss, depth, N, x64):
    n = SIZES[4 - depth :]
    net = mlp(*n, g=ACTIVATIONS[g]) if depth else serial()
    assert_matches_autodiff(net, LOSSES[loss], n, N)


THREE = SIZES[1:]  # sizes of three layers


def of_slope(g: Activation, backward) -> tuple[Layer, Loss]:
    """A network whose activation goes back like this."""
    return mlp(*THREE, g=g._replace(backward=backward, reads="ZA")), cross_entropy


def of_loss(loss: Loss, backward) -> tuple[Layer, Loss]:
    """A network whose loss goes back like this, given dZ[L] as it should be."""
    return mlp(*THREE, g=tanh), loss._replace(backward=lambda Z, Y: backward(loss.backward(Z, Y), Z, Y))


class Backward(NamedTuple):
    """The backward pass of a dense layer: what goes in, dZ, and what comes out."""

    W: jax.Array
    A_prev: jax.Array
    dA: jax.Array
    dZ: jax.Array
    dW: jax.Array
    db: jax.Array
    dA_prev: jax.Array


def of_layers(wrong) -> tuple[Layer, Loss]:
    """A network whose layers go back like this, given the right Backward."""

    def planted(n_prev, n, g):
        layer = dense(n_prev, n, g)

        def backward(params, residuals, dA):
            (dW, db), dA_prev = layer.backward(params, residuals, dA)
            dZ = g.backward(dA, residuals.Z, residuals.A)
            found = wrong(Backward(params.W, residuals.A_prev, dA, dZ, dW, db, dA_prev))
            return Dense(found.dW, found.db), found.dA_prev

        return layer._replace(backward=backward)

    *hidden, last = pairwise(THREE)
    return serial(*(planted(*sizes, tanh) for sizes in hidden), planted(*last, identity)), cross_entropy


def layers_swapped() -> tuple[Layer, Loss]:
    net = mlp(*THREE, g=tanh)

    def backward(params, residuals, dA):
        dparams, dX = net.backward(params, residuals, dA)
        return dparams[::-1], dX

    return net._replace(backward=backward), cross_entropy


FAULTS = {
    "activation's slope forgotten": of_slope(tanh, identity.backward),
    "slope at A": of_slope(tanh, lambda dA, Z, A: tanh.backward(dA, A, A)),
    "slope at dA": of_slope(sigmoid, lambda dA, Z, A: sigmoid.backward(dA, dA, A)),
    "¼ forgotten": of_slope(sigmoid, lambda dA, Z, A: 4 * sigmoid.backward(dA, Z, A)),
    "tanh's slope for σ's": of_slope(sigmoid, tanh.backward),
    "relu's kink": of_slope(relu, lambda dA, Z, A: jnp.where(Z < 0, 0, dA)),
    "leaky relu's kink": of_slope(
        leaky_relu, lambda dA, Z, A: jnp.where(Z == 0, dA, leaky_relu.backward(dA, Z, A))
    ),
    "leak forgotten": of_slope(leaky_relu, relu.backward),
    "softplus passes dA on": of_slope(softplus, identity.backward),
    "silu without its second term": of_slope(silu, lambda dA, Z, A: dA * logistic(Z)),
    "gelu without its second term": of_slope(gelu, lambda dA, Z, A: dA * normal.cdf(Z)),
    "identity doubled": of_slope(identity, lambda dA, Z, A: 2 * dA),
    "mean forgotten": of_loss(binary_cross_entropy, lambda dZ, Z, Y: len(Z) * dZ),
    "mean over everything": of_loss(binary_cross_entropy, lambda dZ, Z, Y: dZ * len(Z) / Z.size),
    "Y - Ŷ": of_loss(binary_cross_entropy, lambda dZ, Z, Y: -dZ),
    "negatives ignored": of_loss(binary_cross_entropy, lambda dZ, Z, Y: -Y * logistic(-Z) / len(Z)),
    "ΣY taken for 1": of_loss(cross_entropy, lambda dZ, Z, Y: (jax.nn.softmax(Z) - Y) / len(Z)),
    "labels ignored": of_loss(cross_entropy, lambda dZ, Z, Y: jax.nn.softmax(Z) / len(Z)),
    "factor two": of_loss(squared_error, lambda dZ, Z, Y: 2 * dZ),
    "sign of dW": of_layers(lambda b: b._replace(dW=-b.dW)),
    "1/N once more in dW": of_layers(lambda b: b._replace(dW=b.dW / len(b.dZ))),
    "last example missing in dW": of_layers(lambda b: b._replace(dW=b.dZ[:-1].T @ b.A_prev[:-1])),
    "db by mean": of_layers(lambda b: b._replace(db=b.db / len(b.dZ))),
    "db of dA": of_layers(lambda b: b._replace(db=jnp.sum(b.dA.T, axis=1, keepdims=True))),
    "dA for dZ on the way down": of_layers(lambda b: b._replace(dA_prev=b.dA @ b.W)),
    "updated weights": of_layers(lambda b: b._replace(dA_prev=b.dZ @ (b.W - 0.1 * b.dW))),
    "stops after one layer": of_layers(lambda b: b._replace(dA_prev=0 * b.dA_prev)),
    "layers swapped": layers_swapped(),
}


NONE = {
    "slope": of_slope(tanh, lambda dA, Z, A: tanh.backward(dA, Z, A)),
    "loss": of_loss(cross_entropy, lambda dZ, Z, Y: dZ),
    "layers": of_layers(lambda b: b),
}


@pytest.mark.parametrize("of", NONE)
def test_where_nothing_wrong_is_planted_it_matches(of, x64):
    assert_matches_autodiff(*NONE[of], THREE, N=7)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_caught(fault, x64):
    with pytest.raises(AssertionError):
        assert_matches_autodiff(*FAULTS[fault], THREE, N=7)
