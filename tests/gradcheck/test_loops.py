"""A mistake in one turn of a loop over time is said with its parameters, not with numbers of layers."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn.gradcheck import compare_gradients
from jaxnn.gradcheck.tape import trace

N, T, n_x, n_h = 6, 4, 3, 5
RNG = np.random.default_rng(0)


def n(*shape):
    return jnp.asarray(RNG.normal(size=shape) * 0.6, jnp.float32)


P = {"W": n(n_x, n_h), "U": n(n_h, n_h), "b": n(1, n_h), "V": n(n_h, 2)}
X, Y = n(T, N, n_x), n(N, 2)


def unrolled(p, X, Y):
    h = jnp.zeros((X.shape[1], p["U"].shape[0]))
    for x in X:
        h = jnp.tanh(x @ p["W"] + h @ p["U"] + p["b"])
    return jnp.mean(jnp.sum((h @ p["V"] - Y) ** 2, axis=1))


def scanned(p, X, Y):
    def step(h, x):
        return jnp.tanh(x @ p["W"] + h @ p["U"] + p["b"]), None

    h, _ = jax.lax.scan(step, jnp.zeros((X.shape[1], p["U"].shape[0])), X)
    return jnp.mean(jnp.sum((h @ p["V"] - Y) ** 2, axis=1))


def backward(mistake=""):
    """Backpropagation through time, with a mistake."""

    def gradient(p, X, Y):
        A = [jnp.zeros((X.shape[1], p["U"].shape[0]))]
        for x in X:
            A.append(jnp.tanh(x @ p["W"] + A[-1] @ p["U"] + p["b"]))
        dY = 2 * (A[-1] @ p["V"] - Y) / len(Y)
        G = {k: jnp.zeros_like(w) for k, w in p.items()} | {"V": A[-1].T @ dY}
        dA = dY @ p["V"].T
        for t in reversed(range(len(X))):
            before, after = A[t], A[t + 1]
            slope = {"no slope": 1, "slope before": 1 - before**2, "σ′": after * (1 - after)}
            dZ = dA * slope.get(mistake, 1 - after**2)
            kept = 0 if mistake == "overwritten" else 1
            G["W"] = kept * G["W"] + (X[t - 1] if mistake == "input before" else X[t]).T @ dZ
            G["U"] = kept * G["U"] + (after if mistake == "own" else before).T @ dZ
            G["b"] = kept * G["b"] + dZ.sum(axis=0, keepdims=True)
            dA = (dA if mistake == "dA down" else dZ) @ (p["U"] if mistake == "not transposed" else p["U"].T)
            dA = 0 * dA if mistake == "dropped" else dA
        return G

    return gradient


MISTAKES = {
    # mistake: (id, what is said)
    "no slope": ("missing-activation-derivative", "derivative of tanh"),
    "slope before": ("derivative-at-wrong-layer", "stands where the derivative of tanh"),
    "σ′": ("wrong-activation-derivative", "σ′"),
    "overwritten": ("turns-left-out", "only turn 0 of the loop's 4, counted from 0: it is overwritten"),
    "input before": ("wrong-operand", "of the turn before"),
    "own": ("own-activation", "gradient of p['U'] is made with"),
    "dA down": (
        "wrong-cotangent",
        "is made of what comes back to the hidden state, not of what comes back to Z",
    ),
    "not transposed": ("weights-not-transposed", "p['U'] transposed"),
    "dropped": ("turns-left-out", "nothing is handed down from one turn to the turn before"),
}


def test_the_gradient_without_a_mistake_is_right():
    assert compare_gradients(unrolled, backward(), P, X, Y).correct is True


@pytest.mark.parametrize(
    ("mistake", "loss"),
    [*((m, scanned) for m in MISTAKES), *((m, unrolled) for m in ("no slope", "overwritten", "own"))],
)
def test_what_every_turn_does_wrong_is_named(mistake, loss):
    id, said = MISTAKES[mistake]
    report = compare_gradients(loss, backward(mistake), P, X, Y)
    assert report.correct is False
    assert report.causes[0].id == id
    assert said in report.causes[0].sentence
    assert not re.search(r"layer|d[ZAW]\[\d", report.causes[0].sentence + report.causes[0].where)
    assert any(f"p['{k}']" in report.causes[0].where for k in "WUb")


def test_a_loop_too_long_to_be_unrolled_is_looked_at_in_few_turns(monkeypatch):
    monkeypatch.setattr(trace, "UNROLLED", 30)
    many = n(9, 9, n_x)  # as many examples as turns
    (cause, *_) = compare_gradients(scanned, backward("no slope"), P, many, n(9, 2)).causes
    assert cause.id == "missing-activation-derivative"


def test_another_gate_is_named_by_its_parameter():
    def gated(h, x, p):
        return jax.nn.sigmoid(x @ p["F"] + h), jax.nn.sigmoid(x @ p["G"])

    def loss(p, X):
        c = jnp.zeros((X.shape[1], p["F"].shape[1]))
        for x in X:
            f, g = gated(c, x, p)
            c = f * c + g * jnp.tanh(x @ p["C"])
        return jnp.sum(c**2)

    def gradient(p, X, wrong=True):
        C, S = [jnp.zeros((X.shape[1], p["F"].shape[1]))], []
        for x in X:
            f, g = gated(C[-1], x, p)
            S.append((f, g, jnp.tanh(x @ p["C"])))
            C.append(f * C[-1] + g * S[-1][2])
        G, dc = {k: 0.0 for k in p}, 2 * C[-1]
        for x, before, (f, g, u) in zip(X[::-1], C[-2::-1], S[::-1], strict=True):
            df, dg, du = (
                dc * before * f * (1 - f),
                dc * u * g * (1 - g),
                dc * (f if wrong else g) * (1 - u * u),
            )
            G = {"F": G["F"] + x.T @ df, "G": G["G"] + x.T @ dg, "C": G["C"] + x.T @ du}
            dc = dc * f + df
        return G

    p = {"F": n(n_x, n_h), "G": n(n_x, n_h), "C": n(n_x, n_h)}
    few = n(2, N, n_x)
    assert compare_gradients(loss, lambda *a: gradient(*a, wrong=False), p, few).correct is True
    (cause, *_) = compare_gradients(loss, gradient, p, few).causes
    assert cause.id == "wrong-operand"
    assert cause.sentence.startswith("A of p['F'] stands where the other factor")
    assert cause.where == "dA of p['C'] (in a loop)"


def test_the_hidden_state_of_another_turn_is_called_so():
    def loss(p, xs, h):
        J = 0.0
        for t in range(4):
            h = jnp.tanh(p["U"][:, xs[t]] + p["V"] @ h + p["b"])
            J += jnp.sum((p["W"] @ h) ** 2)
        return J

    def after_for_before(p, xs, h):
        hs = [h]
        for t in range(4):
            hs.append(jnp.tanh(p["U"][:, xs[t]] + p["V"] @ hs[-1] + p["b"]))
        right, back, V = jax.grad(loss)(p, xs, h), jnp.zeros(5), jnp.zeros((5, 5))
        for t in reversed(range(4)):
            dz = (2 * p["W"].T @ (p["W"] @ hs[t + 1]) + back) * (1 - hs[t + 1] ** 2)
            V, back = V + jnp.outer(dz, hs[t + 1]), p["V"].T @ dz
        return {**right, "V": V}

    rng = np.random.default_rng(0)
    shapes = {"U": (5, 6), "V": (5, 5), "W": (3, 5), "b": (5,)}
    p = {name: rng.normal(size=shape) / 2 for name, shape in shapes.items()}
    args = p, rng.integers(0, 6, 4), rng.normal(size=5)
    cause = compare_gradients(loss, after_for_before, *args).causes[0]
    assert cause.id == "own-activation"
    assert cause.sentence == (
        "The gradient of p['V'] is made with the hidden state after each turn (h_t) "
        "in the place of that before it (h_{t-1})."
    )


def test_steps_of_one_line_that_read_more_and_less_are_no_turns_of_one_loop():
    def loss(A):
        return jnp.trace(jax.scipy.linalg.expm(A))

    report = compare_gradients(loss, jax.scipy.linalg.expm, n(3, 3))
    assert (report.causes[0].id, report.causes[0].confidence) == ("transposed", "sure"), report
    assert not any("could not be tried" in note for note in report.notes)


def test_a_typed_key_is_closed_over():
    key = jax.random.key(1)

    def masked(W, X):
        return jnp.where(jax.random.bernoulli(key, 0.5, (W.shape[1],)), X @ W, 0.0)

    def halved(W, X):
        return X.T @ masked(W, X)

    report = compare_gradients(lambda W, X: jnp.sum(masked(W, X) ** 2), halved, n(3, 4), n(5, 3))
    assert (report.correct, report.causes[0].id) == (False, "factor-two"), report
