"""Losses that draw random numbers or are float32 by themselves, and gradients in NumPy of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxnn.gradcheck import BadCall, compare_gradients, compare_vjp

KEEP = 0.6
RNG = np.random.default_rng(0)
X, W, U = (RNG.normal(size=s).astype(np.float32) for s in ((5, 3), (3, 4), (4, 4)))
START = np.ones(4, np.float32) / 3


def dropped(p):
    """A loop with dropout, over an array of typed keys."""

    def turn(h, xk):
        x, key = xk
        kept = jax.random.bernoulli(key, KEEP, (4,))
        return jnp.where(kept, jnp.tanh(x @ p["W"] + h @ p["U"]) / KEEP, 0.0), None

    keys = jax.random.split(jax.random.key(3), len(X))
    return jnp.sum(lax.scan(turn, START, (X, keys))[0] ** 2)


def gone_back(p, masked=True):
    keys = jax.random.split(jax.random.key(3), len(X))
    masks = np.stack([np.asarray(jax.random.bernoulli(k, KEEP, (4,))) for k in keys]) / KEEP
    h, kept = START, []
    for x, m in zip(X, masks, strict=True):
        a = np.tanh(x @ p["W"] + h @ p["U"])
        kept.append((x, h, a))
        h = a * m
    dh, dW, dU = 2 * h, np.zeros((3, 4)), np.zeros((4, 4))
    for (x, h, a), m in zip(kept[::-1], masks[::-1], strict=True):
        dZ = dh * (m if masked else 1) * (1 - a * a)
        dW, dU, dh = dW + np.outer(x, dZ), dU + np.outer(h, dZ), p["U"] @ dZ
    return {"W": dW, "U": dU}


def test_numpy_draws_what_the_loss_draws():
    p = {"W": W, "U": U}
    assert compare_gradients(dropped, gone_back, p).correct is True
    report = compare_gradients(dropped, lambda p: gone_back(p, masked=False), p)
    assert report.correct is False
    assert not any("could not be tried" in note for note in report.notes)


def test_a_loop_that_begins_in_float32_is_diagnosed():
    def loss(U):
        return jnp.sum(lax.scan(lambda h, _: (h + 0.3 * jnp.tanh(U @ h), None), START, None, 4)[0] ** 2)

    def gradient(U, late=1):
        states = [START]
        for _ in range(4):
            states.append(states[-1] + 0.3 * np.tanh(U @ states[-1]))
        dh, dU = 2 * states[-1], 0 * U
        for t in range(3, -1, -1):
            h = states[t + late]
            dZ = 0.3 * dh * (1 - np.tanh(U @ h) ** 2)
            dU, dh = dU + np.outer(dZ, h), dh + U.T @ dZ
        return dU

    assert compare_gradients(loss, lambda U: gradient(U, 0), U).correct is True
    assert compare_gradients(loss, gradient, U).causes[0].id == "state-of-another-turn"


def test_what_traces_and_does_not_run_is_called():
    """NumPy's argsort tells a tracer of its own options."""
    x = RNG.normal(size=7)
    loss = lambda x: jnp.sum(jnp.arange(7.0) * jnp.sort(x))  # noqa: E731
    assert compare_gradients(loss, lambda x: 1.0 * np.argsort(np.argsort(x)), x).correct is True


def test_of_a_path_left_out_no_more_is_said_than_it_shows():
    """The plan is held fixed: Σ P is 1, so that of C left out of what comes back to P nothing is seen."""
    C = RNG.random((3, 4))
    plan = lambda C: jax.nn.softmax(-C.ravel()).reshape(C.shape)  # noqa: E731
    cause = compare_gradients(lambda C: jnp.sum(plan(C) * C), plan, C).causes[0]
    assert cause.confidence != "sure" or cause.id == "statistic-left-out"
    assert "is not differentiated" in cause.sentence


def test_of_equal_factors_every_line_is_told():
    def loss(p):
        first = 0.25 * jnp.sum(jnp.tanh(X @ p["a"]))
        return first + 0.25 * jnp.sum(jnp.cos(X @ p["b"]))

    def gradient(p):
        return {"a": X.T @ (1 - np.tanh(X @ p["a"]) ** 2) / 4, "b": -X.T @ np.sin(X @ p["b"])}

    p = {"a": RNG.normal(size=3), "b": RNG.normal(size=3)}
    assert compare_gradients(loss, gradient, p).causes[0].sentence.count("test_as_written.py:") == 2


def test_a_rule_around_a_while_loop_asks_for_a_reference():
    @jax.custom_vjp
    def root(a):
        return lax.while_loop(lambda x: jnp.abs(x * x - a) > 1e-6, lambda x: (x + a / x) / 2, a)

    root.defvjp(lambda a: (root(a), root(a)), lambda x, c: (c / (2 * x),))
    with pytest.raises(BadCall, match=r"root.*reference="):
        compare_vjp(root, jnp.float32(3.0))


def test_a_leaf_of_fewer_axes_beside_a_wrong_one_fails_no_family():
    p = {"c": RNG.normal(size=(2, 3, 4)), "s": RNG.normal(size=(2, 3))}

    def loss(p):
        return jnp.sum(jnp.tanh(jnp.cumsum(p["s"], axis=1)[:, :, None] * p["c"]) ** 2)

    def gradient(p):
        s = np.cumsum(p["s"], axis=1)[:, :, None]
        t = np.tanh(s * p["c"])
        d = 2 * t * (1 - t * t)
        return {"c": d * s, "s": np.sum(d * p["c"], axis=2)}  # and no sum back over the running sum

    report = compare_gradients(loss, gradient, p)
    assert report.correct is False
    assert not any("could not be tried" in note for note in report.notes)


def test_entries_beside_an_infinity_are_counted():
    at, c = np.array([0, 1, 1, 2]), np.array([0.4, 1.1, -0.7, 2.0])

    def loss(t):
        return jnp.sum(c * jax.nn.sigmoid(jnp.concatenate([jnp.array([-jnp.inf]), t])[at]))

    def gradient(t):
        s, dt = 1 / (1 + np.exp(-t[at[1:] - 1])), np.zeros(2)
        dt[at[1:] - 1] += c[1:] * s * (1 - s)
        return dt

    report = compare_gradients(loss, gradient, np.array([-1.0, 0.3]))
    assert report.correct is False
    assert report.causes[0].id == "entries-overwritten"
    assert not any("could not be tried" in note for note in report.notes)


def test_an_argument_for_another():
    s, t = RNG.normal(size=(2, 5, 3))

    def loss(W, s, t):
        return jnp.sum((s @ W - lax.stop_gradient(jnp.tanh(t @ W))) ** 2)

    def gradient(W, s, t):
        return 2 * s.T @ (s @ W - np.tanh(s @ W))

    first, *_ = compare_gradients(loss, gradient, RNG.normal(size=(3, 2)), s, t).causes
    assert first.sentence == "s stands where t belongs."
