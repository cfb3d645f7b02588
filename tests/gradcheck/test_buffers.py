"""NumPy code that keeps what it computes in fewer digits, whatever it is given: right to that is right."""

import sys

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from jaxnn.gradcheck import compare_gradients
from jaxnn.gradcheck.calls.precisions import precisions

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


DATA = RNG.normal(size=(12, 5)).astype(np.float32)
T, V = RNG.normal(size=12).astype(np.float32), RNG.normal(size=5).astype(np.float32)
HALVES = [np.float16, ml_dtypes.bfloat16]


def fitted(w):
    return jnp.mean((DATA @ w - T) ** 2)


def fitted_by_hand(w):
    return 2 * DATA.T @ (DATA @ np.asarray(w) - T) / 12


def in_buffer(kind, times):
    def gradient(w):
        out = np.zeros(5, kind)
        for x, t in zip(DATA, T, strict=True):
            out += (times * 2 / 12 * (x @ np.asarray(w) - t) * x).astype(kind)
        return out

    return gradient


def of_closed_over_data(kind, times):
    held = DATA.astype(kind)
    return lambda w: times * 2 * DATA.T @ (held @ np.asarray(w) - T) / 12


def throughout(kind, times):
    def gradient(w):
        x, t, w = DATA.astype(kind), T.astype(kind), np.asarray(w).astype(kind)
        return (2 * times * (x.T @ (x @ w - t)) / 12).astype(kind)

    return gradient


@pytest.mark.parametrize("kind", HALVES)
@pytest.mark.parametrize("made", [in_buffer, of_closed_over_data, throughout])
def test_halves_are_right_to_their_own_rounding(made, kind):
    report = compare_gradients(fitted, made(kind, 1.0), V)
    assert (report.correct, report.accurate) == (True, False)
    assert f"the gradient by hand rounds to {np.dtype(kind).name} inside" in " ".join(report.notes)


@pytest.mark.parametrize(("made", "kind"), [(in_buffer, HALVES[0]), (of_closed_over_data, HALVES[1])])
def test_halves_excuse_no_mistake(made, kind):
    wrong = compare_gradients(fitted, made(kind, -1.2), V)
    assert wrong.correct is False
    assert not any("stopped" in note for note in wrong.notes)


@pytest.mark.parametrize("kind", [jnp.float16, jnp.bfloat16])
@pytest.mark.parametrize("closed_over", [True, False])
def test_numbers_and_arrays_of_the_code_in_halves_are_right_to_their_own_rounding(kind, closed_over):
    """A tenth in half precision is 2.4e-4 off, or 2e-3: twice the bound is 2 %, and 5 % are a mistake."""
    A, y = jnp.asarray(RNG.normal(size=(7, 3)), kind), jnp.asarray(RNG.normal(size=7), kind)
    weights = np.hanning(9)[1:-1] if closed_over else 0.1

    def loss(w):
        return jnp.sum(weights * (A @ w - y) ** 2)

    def gradient(w, times=1.0):
        return 2 * A.T @ (jnp.asarray(weights * times, kind) * (A @ w - y))

    w = jnp.asarray([0.5, -1.25, 2.0], kind)
    with jax.numpy_dtype_promotion("standard"):
        assert compare_gradients(loss, gradient, w).correct is True
        assert compare_gradients(loss, lambda w: gradient(w, 1.05), w).correct is False


def test_integers_that_cut_off_are_wrong():
    def gradient(w):
        out = np.zeros(5, int)
        out[:] = fitted_by_hand(w)
        return out.astype(np.float32)

    assert compare_gradients(fitted, gradient, V).correct is False


def test_what_a_library_names_is_no_excuse():
    """scipy's expm asks whether it is given float16."""
    import scipy.linalg

    assert precisions(lambda: scipy.linalg.expm(np.eye(2)), lambda x: False) == set()


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_constants_that_are_summed_in_float32_are_right_to_that(kind):
    data, w = RNG.normal(size=(3000, 3)).astype(np.float32), V[:3]
    loss, total = lambda w: jnp.sum(data @ w), (np.ones(3000, np.float32) @ data).astype(kind)
    assert compare_gradients(loss, lambda w: total, w).correct is True
    assert compare_gradients(loss, lambda w: 1.001 * total, w).correct is False


def test_a_soft_argmax_that_cancels_in_float32_is_right_to_that():
    s, at = 10 * RNG.normal(size=16).astype(np.float32), np.arange(16, dtype=np.float32)

    def gradient(s, times=1.0):
        e = np.exp(np.asarray(s, np.float32) - np.max(s).astype(np.float32))
        p = e / np.sum(e)
        return np.float32(times) * p * (at - np.sum(p * at))

    loss = lambda s: jax.nn.softmax(s) @ at  # noqa: E731
    assert compare_gradients(loss, gradient, s).correct is True
    assert compare_gradients(loss, lambda s: gradient(s, 1.05), s).correct is False


def test_precisions_are_those_held_or_named_and_a_profiler_is_given_back():
    data = np.ones(3, np.float16)

    def held():
        x = np.zeros(2, ml_dtypes.bfloat16)
        return [x] * data.size

    def named(x):
        return x.astype("float32").astype(float)

    before = sys.getprofile()
    assert precisions(held, lambda x: x is data) == {np.dtype(ml_dtypes.bfloat16)}
    assert precisions(held, lambda x: False) == {np.dtype(ml_dtypes.bfloat16), np.dtype(np.float16)}
    assert precisions(lambda: named(np.ones(2)), lambda x: False) == {np.dtype(np.float32)}
    assert precisions(lambda: fitted_by_hand(V), lambda x: True) == set()
    assert sys.getprofile() is before


def test_what_is_looked_at_may_be_anything():
    class Hostile:
        @property
        def __dict__(self):
            raise RuntimeError

    def gradient(w):
        kept = [Hostile(), w, np.float16, iter([])]
        return fitted_by_hand(kept[1]).astype(kept[2])

    assert compare_gradients(fitted, gradient, V).correct is True
    assert compare_gradients(fitted, lambda w: -gradient(w), V).correct is False
