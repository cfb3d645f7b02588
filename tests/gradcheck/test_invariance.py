"""Zero because nothing depends on the parameter is right; zero because all is saturated tells nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn.gradcheck import compare_gradients

RNG = np.random.default_rng(5)
X, Y = (jnp.asarray(RNG.normal(size=(4, 3)), jnp.float32) for _ in range(2))


def shifted(b, x, y):
    """Shifting all scores of a row changes no share."""
    return jnp.sum(jax.nn.softmax(x + b) * y)


def shares(b, x, y):
    p = jax.nn.softmax(x + b)
    return jnp.sum(p * (y - jnp.sum(p * y, 1, keepdims=True)))


def centred(b, x, y):
    """A bias before batch norm."""
    z = x + b[None]
    z = (z - jnp.mean(z, 0, keepdims=True)) / jnp.sqrt(jnp.var(z, 0, keepdims=True) + 1e-5)
    return jnp.mean((jnp.tanh(z) - y) ** 2)


INVARIANT = {
    # loss, its gradient by hand: zero but for rounding, or zeros
    "softmax": (shifted, shares, jnp.float32(0.3)),
    "softmax, zeros": (shifted, lambda b, x, y: jnp.zeros(()), jnp.float32(0.3)),
    "batch norm": (centred, lambda b, x, y: jnp.zeros(3), jnp.zeros(3)),
}


@pytest.mark.parametrize("name", INVARIANT)
def test_a_gradient_that_is_zero_by_invariance_is_right(name):
    loss, by_hand, b = INVARIANT[name]
    report = compare_gradients(loss, by_hand, b, X, Y)
    assert report.correct is True
    assert (
        "the loss does not depend on b: its gradient is zero at every point, but for rounding" in report.notes
    )


def test_what_is_off_by_more_than_rounding_is_wrong_there_too():
    report = compare_gradients(shifted, lambda b, x, y: shares(b, x, y) + 1e-9, jnp.float32(0.3), X, Y)
    assert report.correct is False


@pytest.mark.parametrize(
    ("squashed", "at"), [(jax.nn.sigmoid, 100.0), (jnp.tanh, 90.0), (jax.nn.relu, -90.0)]
)
def test_zeros_where_all_is_saturated_are_not_known_to_be_right(squashed, at):
    loss = lambda b: jnp.sum(squashed(b + at) * jnp.arange(1.0, 4.0))  # noqa: E731
    assert compare_gradients(loss, jnp.zeros_like, jnp.zeros(3)).correct is None
