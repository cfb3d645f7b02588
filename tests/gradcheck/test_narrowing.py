"""What is said of a mistake that has no name: where it can be, and what is right."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.gradcheck.diagnosing import diagnosed


@pytest.fixture(autouse=True)
def _written_as_people_write():
    with jax.numpy_rank_promotion("allow"):
        yield


def drawn(*shapes):
    rng = np.random.default_rng(4)
    return [rng.normal(size=shape) for shape in shapes]


def test_two_statistics_that_are_wrong_together_are_placed():
    def scaled(X):
        Z = X.reshape(len(X), 2, -1)
        s = 1 / jnp.sqrt(jnp.var(Z, axis=2, keepdims=True) + 1e-3)
        return s, (Z - jnp.mean(Z, axis=2, keepdims=True)) * s

    def loss(X, Y):
        return jnp.sum((scaled(X)[1].reshape(X.shape) - Y) ** 2)

    def gradient(X, Y):  # the means are those over all, not over a group
        s, A = scaled(X)
        d = 2 * (A.reshape(X.shape) - Y).reshape(A.shape)
        mean, along = (jnp.mean(x, axis=(1, 2), keepdims=True) for x in (d, d * A))
        return (s * (d - mean - A * along)).reshape(X.shape)

    cause = diagnosed(loss, gradient, tuple(drawn((3, 8), (3, 8))))[0]
    assert cause.id == "unknown"
    assert cause.sentence.startswith("Both what comes back to a "), cause.sentence


def test_what_the_right_gradients_show_to_be_right_is_said_to_be():
    def loss(p, X):
        M, c = p
        return -jnp.mean(jax.nn.logsumexp(c - jnp.sum((X[:, None] - M) ** 2, axis=2), axis=1))

    def gradient(p, X):  # the step of an expectation maximisation, not the gradient
        M, c = p
        R = jax.nn.softmax(c - jnp.sum((X[:, None] - M) ** 2, axis=2), axis=1)
        return M - R.T @ X / jnp.sum(R, axis=0)[:, None], -jnp.mean(R, axis=0)

    cause = diagnosed(loss, gradient, (tuple(drawn((3, 2), (3,))), *drawn((7, 2))))[0]
    assert (cause.id, cause.where) == ("unknown", "[0]")
    assert "what comes back there is right, as far as that of [1] shows" in cause.sentence
    assert "[0] is wrong by a factor for each row" in cause.sentence
