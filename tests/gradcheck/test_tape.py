"""The tape is the loss: same values, same gradient, and its layers are found."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn.gradcheck.tape.axes import axes_of, generic
from jaxnn.gradcheck.tape.backward import point
from jaxnn.gradcheck.tape.layers import structure
from jaxnn.gradcheck.tape.trace import trace

RNG = np.random.default_rng(5)


def n(*shape):
    return RNG.normal(size=shape)


def dense(params, X, Y):
    A = X
    for W, b in params[:-1]:
        A = jax.nn.gelu(A @ W.T + b.T)
    W, b = params[-1]
    A = 1 / (1 + jnp.exp(-(A @ W.T + b.T)))
    return -jnp.mean(jnp.sum(Y * jnp.log(A) + (1 - Y) * jnp.log(1 - A), axis=1))


def recurrent(p, xs):
    def step(h, x):
        h = jnp.tanh(x @ p["W"] + h @ p["U"])
        return h, h

    return jnp.sum(jax.lax.scan(step, jnp.zeros((2, 3)), xs)[1] ** 2)


def attention(p, x):
    q, k, v = x @ p["q"], x @ p["k"], x @ p["v"]
    return jnp.sum((jax.nn.softmax(q @ k.T / 2.0) @ v) ** 3)


def convolution(p, x):
    z = jax.lax.conv_general_dilated(x, p["w"], (1, 1), "SAME") + p["b"][None, :, None, None]
    return jnp.mean(jax.nn.relu(z).max(axis=(2, 3)) ** 2)


def chosen(p, ix):
    return -jnp.mean(jax.nn.log_softmax(jnp.tanh(p["C"][ix]) @ p["W"])[jnp.arange(4), ix])


def piecewise(p, x):
    y = jnp.where(x > 0, p * x, jax.nn.softplus(p - x))
    return jnp.sum(jnp.sort(y) * jnp.cumsum(y)) + jax.lax.cond(p[0] > 0, jnp.sum, jnp.prod, y)


LOSSES = {
    "dense": (dense, (((n(4, 5), n(4, 1)), (n(3, 4), n(3, 1))), n(6, 5), RNG.uniform(size=(6, 3)))),
    "recurrent": (recurrent, ({"W": n(4, 3), "U": n(3, 3)}, n(5, 2, 4))),
    "attention": (attention, ({"q": n(5, 4), "k": n(5, 4), "v": n(5, 3)}, n(6, 5))),
    "convolution": (convolution, ({"w": n(3, 2, 3, 3), "b": n(3)}, n(2, 2, 5, 4))),
    "chosen": (chosen, ({"C": n(7, 3), "W": n(3, 7)}, np.array([0, 3, 3, 6]))),
    "piecewise": (piecewise, (n(5), n(5))),
}


@pytest.mark.parametrize("name", LOSSES)
def test_backward_pass_of_the_tape_is_autodiffs(name):
    loss, args = LOSSES[name]
    with jax.enable_x64(True):
        here = point(trace(loss, args), args)
        value, gradient = jax.value_and_grad(loss)(*args)
    assert np.isclose(here.values[here.tape.output], value, rtol=1e-13)
    for mine, theirs in zip(here.gradient, jax.tree.leaves(gradient), strict=True):
        scale = np.abs(theirs).max()
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-13 * scale)


def test_layers_are_found_whatever_they_are_called():
    loss, args = LOSSES["dense"]
    with jax.enable_x64(True):
        tape = trace(loss, args)
        found = structure(tape)
        values = point(tape, args).values
    (W1, b1), (W2, b2) = args[0]
    assert [(y.weight, y.bias) for y in found.layers] == [(0, 1), (2, 3)]
    Z1 = args[1] @ W1.T + b1.T
    np.testing.assert_allclose(values[found.layers[0].z], Z1, rtol=1e-12)
    np.testing.assert_allclose(values[found.layers[1].z], values[found.layers[0].a] @ W2.T + b2.T, rtol=1e-12)
    assert [tape.shapes[t].shape for t in found.targets] == [(6, 3)]


def test_layers_are_found_in_columns_too():
    def loss(p, X, Y):
        A = jnp.tanh(p["W1"] @ X + p["b1"])
        return jnp.mean((p["W2"] @ A + p["b2"] - Y) ** 2)

    p = {"W1": n(4, 3), "b1": n(4, 1), "W2": n(2, 4), "b2": n(2, 1)}
    args = (p, n(3, 7), n(2, 7))
    with jax.enable_x64(True):
        found = structure(trace(loss, args))
    assert [(y.weight, y.bias) for y in found.layers] == [(0, 2), (1, 3)]
    assert all(y.input_side == 1 for y in found.layers)


def test_axes_tell_examples_from_features():
    loss, args = LOSSES["dense"]
    with jax.enable_x64(True):
        axes = axes_of(loss, args)
    assert [axes.sizes[c] for c in axes.examples] == [6]
    assert [axes.sizes[c] for c in axes.inputs] == [5]
    assert [axes.sizes[c] for c in axes.outputs] == [3]


def test_other_sizes_are_pairwise_different_and_fit():
    loss, args = LOSSES["dense"]
    with jax.enable_x64(True):
        there = generic(loss, args, 0, axes_of(loss, args), 1)
        assert there is not None
        value = loss(*there)
    (W1, b1), (W2, _) = there[0]
    sizes = {there[1].shape[0], W1.shape[1], W1.shape[0], W2.shape[0]}
    assert len(sizes) == 4
    assert b1.shape == (W1.shape[0], 1)
    assert there[2].shape == (there[1].shape[0], W2.shape[0])
    assert np.isfinite(value)


def test_other_sizes_are_refused_where_the_loss_has_its_own():
    def loss(w, X):
        return jnp.sum(X.reshape(6, 2) @ w)

    args = (n(2), n(6, 2))
    with jax.enable_x64(True):
        axes = axes_of(loss, args)
        assert generic(loss, args, 0, axes, 1) is None
        assert generic(loss, args, 0, axes, 1, examples=None) is not None


def test_labels_are_of_several_classes_though_those_given_are_of_one():
    def loss(W, X, y):
        return -jnp.mean(jax.nn.log_softmax(X @ W.T)[jnp.arange(6), y])

    args = (n(3, 4), n(6, 4), np.zeros(6, int))
    with jax.enable_x64(True):
        _, X, y = generic(loss, args, 0, axes_of(loss, args), 1, examples=None)
    assert (X.shape, y.dtype) == ((6, 4), args[2].dtype)
    assert set(y) == {0, 1}
