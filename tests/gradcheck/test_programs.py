"""Programs are kept from one comparison to the next, and nothing of what was seen of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn.gradcheck import compare_gradients
from jaxnn.gradcheck.verdict.programs import compiled

X = jnp.array([0.5, -1.25, 2.0])


def probes_of(gradient, x) -> dict:
    report = compare_gradients(lambda x: jnp.sum(x**2), gradient, x)
    assert report.correct is True
    return {p.name: p.passed for p in report.probes}


@jax.custom_batching.custom_vmap
def doubled(x):
    return 2 * x


@doubled.def_vmap
def _(size, batched, x):
    return 2 * x + (jnp.abs(x) > 10), True


def test_other_arguments_are_batched_anew():
    """The very same program: its rule for batches is right for small numbers only."""
    assert probes_of(doubled, X)["vmap"] is True
    assert probes_of(doubled, 100 * X)["vmap"] is False
    assert probes_of(doubled, X)["vmap"] is True


class Named:
    """A function of Python that prints like any other of its kind."""

    def __init__(self, factor):
        self.factor = factor

    def __repr__(self):
        return "named"

    def __call__(self, x):
        return np.asarray(self.factor * x)


def closing_over(array):
    """A jitted function whose constant stands in no text."""
    return jax.jit(lambda x: x * array)


@pytest.mark.parametrize(
    "of",
    [
        lambda k: lambda x: x * k,
        lambda k: lambda x: x * np.array(k, np.float32),
        lambda k: lambda x: x * np.full(3, k, np.float32),
        lambda k: closing_over(np.full(3, k, np.float32)),
        lambda k: jax.jit(closing_over(np.full(3, k, np.float32))),
        lambda k: lambda x: jax.pure_callback(Named(np.float32(k)), x, x),
    ],
    ids=["number", "scalar", "array", "inner array", "array within", "Python"],
)
def test_programs_that_differ_in_a_constant_are_not_mixed_up(of):
    for k in (2.0, 3.0, 2.0000002):
        (found,) = compiled(jax.make_jaxpr(of(k))(X), [X]).run(X)
        np.testing.assert_array_equal(found, np.float32(k) * X)


def test_a_program_is_compiled_once(caplog):
    with jax.log_compiles():
        for _ in range(2):
            compiled(jax.make_jaxpr(lambda x: jnp.tanh(3.5 * x))(X), [X]).run(X)
    assert sum("Finished XLA compilation" in record.message for record in caplog.records) == 1


def test_two_gradients_with_one_text_are_judged_by_their_own_numbers():
    """The second in the first one's place would be said to be computed badly."""
    w, data = jnp.array([1.0, 2.0, 3.0]), np.array([1.0, -2.0, 0.5], np.float32)
    for factor in (1.0, 7.0):
        gradient = jax.jit(lambda w, c=factor * data: 2 * w * c)
        report = compare_gradients(lambda w, c=factor * data: jnp.sum(w**2 * c), gradient, w)
        assert (report.correct, report.accurate) == (True, True)
        assert {p.name: p.passed for p in report.probes}["jit"] is True
