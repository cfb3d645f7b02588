"""Where a mistake is said to be: lines, names and sizes of the caller's own, and never more than is true."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn.gradcheck import compare_gradients, compare_vjp
from jaxnn.gradcheck.report.confidence import GUESS, SURE


def test_nothing_fits_by_the_bound_of_what_cancels():
    """The gradient of w[0] is 0, as the softmax does not change; 1 is no step's doing."""

    def loss(w, x):
        return jnp.sum(jax.nn.softmax(x + w[0]) * jnp.arange(3.0)) + w[1] ** 2

    args = (np.array([1.0, 2.0], np.float32), np.array([0.3, 1.0, -2.0], np.float32))
    causes = compare_gradients(loss, lambda w, x: jnp.stack([jnp.ones(()), 2 * w[1]]), *args).causes
    assert [(c.id, c.confidence) for c in causes] == [("unknown", GUESS)]


def test_a_place_is_a_line_of_the_callers_and_never_what_a_rule_is_handed():
    """Of all places that would explain it, from the last before the parameters to the first."""

    @jax.custom_vjp
    def rule(x, W):
        return jnp.exp(jnp.tanh(x @ W))

    def backward(kept, c):
        x, W = kept
        A = jnp.tanh(x @ W)
        dZ = c * jnp.exp(A) * (1 - A * A) * jnp.cos(3 * A)
        return dZ @ W.T, x.T @ dZ

    rule.defvjp(lambda x, W: (rule.fun(x, W), (x, W)), backward)
    rng = np.random.default_rng(0)
    (cause,) = compare_vjp(rule, rng.normal(size=(3, 5)), rng.normal(size=(5, 4))).causes[-1:]
    assert "multiplication" not in cause.where
    assert cause.where.startswith("between a matrix product at test_places.py:")
    assert "(of shape 3×4) and what the function returns" in cause.where


def normal(*shapes):
    rng = np.random.default_rng(0)
    return [rng.normal(size=shape) for shape in shapes]


def test_the_step_below_an_exponential_is_blamed_and_not_the_exponential():
    """A cap on the scores: 1 − S² of the capped S, where tanh′ is of S/3."""

    def loss(p, X):
        S = 3 * jnp.tanh(X @ p["Q"] @ (X @ p["K"]).T / 3)
        return jnp.mean(jax.nn.softmax(S, axis=-1) ** 2)

    def gradient(p, X):
        Q, K = X @ p["Q"], X @ p["K"]
        S = 3 * jnp.tanh(Q @ K.T / 3)
        P = jax.nn.softmax(S, axis=-1)
        dS = P * (2 * P / P.size - jnp.sum(2 * P * P / P.size, axis=-1, keepdims=True)) * (1 - S * S)
        return {"Q": X.T @ dS @ K, "K": X.T @ dS.T @ Q}

    Q, K, X = normal((5, 4), (5, 4), (6, 5))
    (cause,) = compare_gradients(loss, gradient, {"Q": Q, "K": K}, X).causes
    assert cause.sentence.startswith("tanh′, written by the result of a division and tanh")
    assert "exp" not in cause.where
    assert "(of shape 6×6)" in cause.sentence  # and not that of a smaller point


def test_a_step_inside_a_function_of_jax_has_the_line_that_calls_it():
    @jax.custom_vjp
    def rule(x):
        return jnp.sin(jnp.cumsum(x, axis=0))

    rule.defvjp(
        lambda x: (rule.fun(x), x), lambda x, c: (jnp.cumsum(c * jnp.cos(jnp.cumsum(x, axis=0)), axis=0),)
    )
    (cause,) = compare_vjp(rule, *normal((4, 3))).causes
    assert (cause.id, cause.confidence) == ("not-turned-round", SURE)
    assert "a running sum at test_places.py:" in cause.sentence


def test_what_is_wrong_for_one_parameter_alone_is_said_to_be():
    """The gate of what is handed on is left out on the way to u, and not on the way to a."""

    def plain(a, u):
        step = lambda h, au: (au[0] * h + au[1],) * 2  # noqa: E731
        return jax.lax.scan(step, jnp.zeros(u.shape[1]), (a, u))[1]

    rule = jax.custom_vjp(plain)

    def backward(kept, c):
        da, _ = jax.vjp(plain, *kept)[1](c)
        return da, jnp.cumsum(c[::-1], axis=0)[::-1]

    rule.defvjp(lambda a, u: (plain(a, u), (a, u)), backward)
    (cause,) = compare_vjp(rule, *normal((5, 3), (5, 3))).causes
    assert (cause.id, cause.where) == ("multiplier-forgotten", "u")
    assert cause.sentence.endswith("is missing, in the gradient of u only.")


def test_a_size_written_into_the_code_hides_no_mistake():
    t = np.array([0, 2, 1, 2])

    def loss(x):
        return -jnp.mean(jnp.log(jax.nn.softmax(x)[jnp.arange(4), t] + 1e-7))

    def gradient(x):
        p = np.exp(x - x.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        p[np.arange(4), t] -= 1
        return p / 4

    (cause,) = compare_gradients(loss, gradient, *normal((4, 3))).causes
    assert cause.id == "epsilon-left-out"
    assert "ε = 1e-07" in cause.sentence


def test_the_noise_of_a_gradient_that_is_zero_is_not_taken_for_a_mistake():
    """Of the bias before a norm: W alone is wrong, where the variance is taken for a constant."""

    def normed(p, X, stop=lambda x: x):
        Z = X @ p["W"] + p["b"]
        centred = Z - jnp.mean(Z, axis=0, keepdims=True)
        return jnp.tanh(p["g"] * centred / jnp.sqrt(stop(jnp.mean(centred**2, axis=0, keepdims=True)) + 1e-3))

    def loss(p, X, Y):
        return jnp.mean((normed(p, X) - Y) ** 2)

    def gradient(p, X, Y):
        return jax.grad(lambda p: jnp.mean((normed(p, X, jax.lax.stop_gradient) - Y) ** 2))(p)

    W, b, g, X, Y = normal((4, 3), (1, 3), (1, 3), (7, 4), (7, 3))
    cause, *_ = compare_gradients(loss, gradient, {"W": W, "b": b, "g": g}, X, Y).causes
    assert cause.id == "statistic-left-out"
    assert "depends on its variance" in cause.sentence


def test_the_rest_is_said_to_be_right_only_where_all_of_it_shows():
    """At a corner of a, any number between two is its gradient: of a nothing is said, of b it is."""

    def loss(p, x):
        return jnp.sum(jax.nn.relu(p["a"])) + jnp.sum(jnp.sin(p["b"])) + jnp.sum((p["c"] - x) ** 2 * x)

    def gradient(p, x):
        return jax.grad(loss)(p, x) | {"c": jnp.tanh(p["c"] * x) + jnp.array([0.3, -2.0, 5.0])}

    a, b, c = jnp.array([0.0, 1.0, 2.0]), jnp.array([0.4, -1.3]), jnp.array([0.5, 1.5, -0.7])
    report = compare_gradients(loss, gradient, {"a": a, "b": b, "c": c}, jnp.array([1.1, 0.2, -0.6]))
    assert {leaf.path: leaf.correct for leaf in report.leaves} == {
        "p['a']": None,
        "p['b']": True,
        "p['c']": False,
    }
    assert "p['a']" not in report.causes[0].sentence
    assert "p['b']" in report.causes[0].sentence
    everywhere = {"a": a + 0.5, "b": b, "c": c}
    report = compare_gradients(loss, gradient, everywhere, jnp.array([1.1, 0.2, -0.6]))
    assert "p['a'] and p['b']" in report.causes[0].sentence


def half_of_a_square(p, X, Y):
    return 0.5 * jnp.mean(jnp.sum((X @ p["W"].T + p["c"] - Y) ** 2, 1))


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.float16])
def test_what_buffers_round_and_a_size_that_is_written_are_not_said_to_be_wrong(kind):
    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32)  # noqa: E731

    def gradient(p, X, Y):  # only dc is wrong; 7 is N
        W, c, X, Y = (np.asarray(x, kind) for x in (p["W"], p["c"], X, Y))
        E = X @ W.T + c - Y
        return {"W": E.T @ X / kind(7), "c": (E**2).sum(0, keepdims=True) / kind(7)}

    args = {"W": draw(3, 5), "c": draw(1, 3)}, draw(7, 5), draw(7, 3)
    report = compare_gradients(half_of_a_square, gradient, *args)
    assert report.correct is False
    said = report.causes[0].sentence + report.causes[0].where
    assert "p['c']" in said, report
    assert "dZ[1]" not in said, report


def test_a_weight_made_of_micro_batches_is_blamed_and_not_what_is_handed_down():
    """Means over 4, 4 and 2 examples, averaged: with 4 examples a third of it, with 10 no multiple."""

    def loss(p, X, Y):
        return jnp.mean((jnp.tanh(X @ p["W"]) @ p["V"] - Y) ** 2)

    def gradient(p, X, Y):
        A = np.tanh(X @ p["W"])
        dZ = 2 * (A @ p["V"] - Y) / Y.size
        parts = [slice(k, k + 4) for k in range(0, len(X), 4)]
        dV = sum(A[s].T @ dZ[s] * len(X) / len(A[s]) for s in parts) / 3
        return {"V": dV, "W": X.T @ (dZ @ p["V"].T * (1 - A * A))}

    W, V, X, Y = normal((4, 5), (5, 2), (10, 4), (10, 2))
    report = compare_gradients(loss, gradient, {"W": W, "V": V}, X, Y)
    assert report.headline.startswith("p['V'] wrong: ")
    assert not any("times what it should be" in c.sentence or "dZ[1]" in c.sentence for c in report.causes)
