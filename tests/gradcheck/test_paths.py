"""A step done with another value is said by what stands where; a path left out by its line."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn.gradcheck import compare_gradients
from jaxnn.gradcheck.report.confidence import SURE

RNG = np.random.default_rng(3)


def n(*shape):
    return jnp.asarray(RNG.normal(size=shape) * 0.6, jnp.float32)


def attention(p, X):
    Q, K, V = X @ p["Q"], X @ p["K"], X @ p["V"]
    return jnp.mean((jax.nn.softmax(Q @ K.T / jnp.sqrt(4), axis=-1) @ V) ** 2)


def attention_backward(mistake):
    def gradient(p, X):
        Q, K, V = X @ p["Q"], X @ p["K"], X @ p["V"]
        A = jax.nn.softmax(Q @ K.T / jnp.sqrt(4), axis=-1)
        dO = 2 * A @ V / V.size
        dA = dO @ V.T
        dS = A * (dA - jnp.sum(dA * A, axis=-1, keepdims=True))
        dS = dS if mistake == "unscaled" else dS / jnp.sqrt(4)
        dK = (dS if mistake == "dS" else dS.T) @ Q
        return {
            "Q": X.T @ dS @ (Q if mistake == "Q for K" else K),
            "K": X.T @ dK,
            "V": X.T @ (A if mistake == "A" else A.T) @ dO,
        }

    return gradient


ATTENTION = {
    "Q for K": ("wrong-operand", "dZ[1] is made with Z[1] transposed in the place of Z[2]"),
    "dS": ("wrong-cotangent", "is taken transposed where dZ[2] is made"),
    "A": ("wrong-operand", "dZ[3] is made with"),
    "unscaled": ("factor-two", "or the factor 1/2 at"),
}


@pytest.mark.parametrize("mistake", ATTENTION)
def test_a_mistake_in_attention_is_said(mistake):
    args = {k: n(5, 4) for k in "QKV"}, n(6, 5)
    assert compare_gradients(attention, attention_backward(""), *args).correct is True
    report = compare_gradients(attention, attention_backward(mistake), *args)
    id, said = ATTENTION[mistake]
    assert report.causes[0].id == id
    assert said in report.causes[0].sentence
    assert report.causes[0].confidence != SURE


def normalised(p, X):
    Z = X @ p["W"]
    centred = Z - jnp.mean(Z, axis=0, keepdims=True)
    hat = centred / jnp.sqrt(jnp.mean(centred**2, axis=0, keepdims=True) + 1e-3)
    return jnp.mean(jnp.tanh(p["γ"] * hat) ** 2 * jnp.arange(1.0, 6.0)[None])


def normalised_backward(mistake):
    def gradient(p, X):
        Z = X @ p["W"]
        mean = lambda x: jnp.mean(x, axis=0, keepdims=True)  # noqa: E731
        s = 1 / jnp.sqrt(mean((Z - mean(Z)) ** 2) + 1e-3)
        hat = (Z - mean(Z)) * s
        A = jnp.tanh(p["γ"] * hat)
        dB = 2 * A * jnp.arange(1.0, 6.0)[None] / Z.size * (1 - A * A)
        d = dB if mistake == "γ" else dB * p["γ"]
        through_variance = 0 if mistake == "variance" else hat * mean(d * hat)
        dZ = s * (d - mean(d) - through_variance)
        return {"W": X.T @ dZ, "γ": jnp.sum(dB * (Z if mistake == "Z" else hat), axis=0, keepdims=True)}

    return gradient


NORMALISED = {
    "Z": ("wrong-operand", "p['γ']", "stands where the other factor in a multiplication"),
    "γ": ("multiplier-forgotten", "", "other factor in a multiplication"),
    "variance": ("statistic-left-out", "", "its variance"),
}


@pytest.mark.parametrize("mistake", NORMALISED)
def test_a_mistake_in_batch_normalisation_is_said(mistake):
    args = {"W": n(3, 5), "γ": 1 + n(1, 5)}, n(8, 3)
    assert compare_gradients(normalised, normalised_backward(""), *args).correct is True
    (cause, *_) = compare_gradients(normalised, normalised_backward(mistake), *args).causes
    id, where, said = NORMALISED[mistake]
    assert cause.id == id
    assert where in cause.where
    assert said in cause.sentence


def test_a_branch_left_out_has_no_name_of_the_output_layer():
    def loss(p, X):
        def both(X):
            return jnp.tanh(X @ p["W"]) @ p["U"]

        return jnp.mean((both(X) - both(X[::-1] ** 2)) ** 2)

    def one(p, X):
        d = 2 * ((A := jnp.tanh(X @ p["W"])) @ p["U"] - jnp.tanh(X[::-1] ** 2 @ p["W"]) @ p["U"])
        d = d / d.size
        return {"W": X.T @ (d @ p["U"].T * (1 - A * A)), "U": A.T @ d}

    causes = compare_gradients(loss, one, {"W": n(3, 5), "U": n(5, 4)}, n(7, 3)).causes
    assert causes[0].id == "path-left-out"
    assert "not differentiated" in causes[0].sentence


def test_the_derivative_of_a_number_is_missing():
    y = np.array([0.4, -1.3, 2.2, 0.9])

    def loss(p, y):
        m, s = p[0], jnp.exp(p[1])
        return jnp.mean((y - m) ** 2 / s + jnp.log(s))

    def gradient(p, y):
        s = np.exp(p[1])
        return np.array([-2 * np.mean(y - p[0]) / s, np.mean(1 / s - (y - p[0]) ** 2 / s**2)])

    first, *_ = compare_gradients(loss, gradient, np.array([0.3, -0.4]), y).causes
    assert first.sentence.startswith("The derivative of exp")
    assert first.sentence.endswith("is missing.")
