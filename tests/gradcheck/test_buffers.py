"""NumPy code that keeps what it computes in float32, whatever it is given: right to that is right."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn.gradcheck import compare_gradients

RNG = np.random.default_rng(1)
X, C = RNG.normal(size=(2, 4, 2)), RNG.normal(size=(2, 4, 3))
P = {k: RNG.normal(size=s).astype(np.float32) for k, s in {"U": (2, 3), "W": (3, 3)}.items()}


def loss(p):
    """A recurrent layer over two turns."""

    def step(h, x):
        h = jnp.tanh(x @ p["U"] + h @ p["W"])
        return h, h

    return jnp.sum(C * jax.lax.scan(step, 0 * X[0] @ p["U"], X)[1])


def by_hand(states, sums, times=1.0):
    def gradient(p):
        U, W = np.asarray(p["U"]), np.asarray(p["W"])
        h = np.zeros((3, 4, 3), states)
        for t in range(2):
            h[t + 1] = np.tanh(X[t] @ U + h[t] @ W)
        out, dh = {"U": np.zeros_like(U, sums), "W": np.zeros_like(W, sums)}, 0.0
        for t in reversed(range(2)):
            dz = times * (dh + C[t]) * (1 - h[t + 1] ** 2)
            out["U"] += (X[t].T @ dz).astype(sums)
            out["W"] += (h[t].T @ dz).astype(sums)
            dh = dz @ W.T
        return out

    return gradient


SINGLE, DOUBLE = np.float32, np.float64


@pytest.mark.parametrize(("states", "sums"), [(SINGLE, DOUBLE), (DOUBLE, SINGLE), (SINGLE, SINGLE)])
def test_buffers_in_float32_are_right_to_their_own_rounding(states, sums):
    report = compare_gradients(loss, by_hand(states, sums), P)
    assert (report.correct, report.accurate) == (True, True)
    assert any("rounds to float32 inside" in note for note in report.notes)


def test_buffers_in_float32_excuse_no_mistake():
    assert compare_gradients(loss, by_hand(SINGLE, SINGLE, 1.0003), P).correct is False


def test_without_such_buffers_float32_is_no_excuse():
    report = compare_gradients(loss, by_hand(DOUBLE, DOUBLE), P)
    assert report.correct is True
    assert not any("float32 inside" in note for note in report.notes)
    assert compare_gradients(loss, by_hand(DOUBLE, DOUBLE, 1 + 2e-6), P).correct is False
