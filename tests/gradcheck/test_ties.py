"""Ties that are no kinks leave nothing in doubt; kinks do, and either side of them is accepted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxnn.gradcheck import compare_gradients
from jaxnn.gradcheck.bounds.interpreter import interpret
from jaxnn.gradcheck.bounds.ties import kinks
from jaxnn.gradcheck.jaxprs.equations import opened

X = np.array([0.9, -0.4, 1.1, 0.7])
A = np.array([1.3, 0.8, -0.6, -1.7])


def read(function, x):
    """(the gradient of function with its bound, its notes) at x."""
    with jax.enable_x64(True):
        jaxpr, consts = opened(jax.make_jaxpr(jax.grad(function))(x))
        (out,), notes = interpret(jaxpr, consts, [x], [True])
    return out, notes


def smaller(a, b):
    return jnp.where(a < b, a, b)


def huber(x):
    return jnp.sum(jnp.where(jnp.abs(x) <= 1, x**2 / 2, jnp.abs(x) - 0.5))


HARMLESS = {
    # functions whose derivative has one value at X, though two numbers tie there
    "one function, clipped out of reach": lambda x: jnp.sum(jnp.minimum(x * A, jnp.clip(x, -2, 2) * A)),
    "the same number": lambda x: jnp.sum(jnp.maximum(x**2, x * x)),
    "where": lambda x: jnp.sum(jnp.where(x**2 > x * x, x**2, x * x)),
    "a smooth joint": lambda x: huber(x / 0.9),
    "a square": lambda x: jnp.sum(jnp.maximum(x - 0.7, 0) ** 2),
    "by cond": lambda x: lax.cond(x[0] >= 0.9, lambda: (x[0] - 0.9) ** 2, lambda: 0.0),
}
KINKS = {
    "relu": lambda x: jnp.sum(jnp.maximum(x - 0.7, 0)),
    "relu by where": lambda x: jnp.sum(jnp.where(x > 0.7, x, 0.7)),
    "two that cancel": lambda x: jnp.maximum(x[0] + x[1] - 0.5, 0) - jnp.maximum(x[0] - x[3] - 0.2, 0),
    "the end of a clipping": lambda x: jnp.sum(smaller(x * A, jnp.clip(x, -2, 0.7) * A)),
    "two equal entries": lambda x: smaller(x[0] + 0.2, x[2]),
    "a far smaller side": lambda x: jnp.sum(jnp.maximum(1 + 1e-9 * (x - 0.7), 1)) * 1e9,
}


@pytest.mark.parametrize("name", HARMLESS)
def test_a_tie_that_changes_nothing_is_no_kink(name):
    out, notes = read(HARMLESS[name], X)
    assert not kinks(notes)
    assert np.all(out.errors <= 1e-7)


@pytest.mark.parametrize("name", KINKS)
def test_a_kink_stays_one(name):
    out, notes = read(KINKS[name], X)
    assert kinks(notes)
    assert np.max(out.errors) >= 0.5


def test_a_surrogate_that_is_clipped_out_of_reach_is_judged():
    """PPO inside the range: 10 % too little is found, as is right."""

    def surrogate(w, s):
        ratio = jnp.exp(s @ w)
        return jnp.mean(jnp.minimum(ratio * A, jnp.clip(ratio, 0.1, 9.0) * A))

    def slope(w, s):
        return s.T @ (jnp.exp(s @ w) * A) / 4

    w, s = jnp.array([0.3, -0.2]), jnp.asarray(np.outer(X, [1, 0.5]) + np.outer(A, [0, 1]), jnp.float32)
    assert compare_gradients(surrogate, slope, w, s).correct is True
    assert compare_gradients(surrogate, lambda w, s: 0.9 * slope(w, s), w, s).correct is False


def test_how_often_a_loop_turns_is_no_kink():
    def root(x):
        turned = lambda c: (0.5 * (c[0] + x[0] / c[0]), c[0])  # noqa: E731
        return lax.while_loop(lambda c: jnp.abs(c[0] - c[1]) > 1e-6, turned, (x[0], 0.0))[0]

    with jax.enable_x64(True):
        jaxpr, consts = opened(jax.make_jaxpr(root)(X))
        (out,), notes = interpret(jaxpr, consts, [X], [True])
    assert not kinks(notes)
    assert out.error < 1e-6


def test_what_is_finite_is_not_infinite():
    """Its bound may be unbounded, and yet jnp.logaddexp's case for infinities is none."""
    far = lambda x: jnp.logaddexp(-1e30 + x[0], -1e30 + x[1]) * 0 + x[0] ** 2  # noqa: E731
    assert not kinks(read(far, X)[1])


@pytest.mark.parametrize(
    ("slope", "correct"), [(jnp.sign, False), (lambda x: jnp.where(x < 0, -1.0, 1), True)]
)
def test_a_corner_of_the_gradient_alone_is_judged_by_what_it_returns_there(slope, correct):
    """The loss is smooth at 0, though it compares; a sign that is 0 there makes a gradient of 0."""

    def loss(x):
        return jnp.sum(jnp.where(x < 0, -jnp.log1p(-x), jnp.log1p(x)))

    def gradient(x):
        return jnp.abs(slope(x)) / (1 + jnp.abs(x))

    report = compare_gradients(loss, gradient, jnp.array([0.0, -1.0, 2.0]))
    assert report.correct is correct
