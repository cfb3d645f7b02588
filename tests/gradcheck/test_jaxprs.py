"""What is read of a program: its numbers, its primitives, how long it runs and on what it depends."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxnn.gradcheck.jaxprs.equations import LONG, depends, line_of, numbers, primitives, turns


def test_numbers_that_something_is_multiplied_by():
    third = jnp.float32(1 / 3)

    def function(x):
        inner = jax.jit(lambda y: y * 2.5)(x)
        return (x * 0.3 / 4 + inner * third + x * jnp.sqrt(2.0)) * 1.0 * -1.0

    found = numbers(jax.make_jaxpr(function)(np.float32(1)))
    np.testing.assert_allclose(sorted(found), [0.25, 0.3, 1 / 3, 2**0.5, 2.5], rtol=1e-6)
    assert all(line.startswith("test_jaxprs.py:") for line in found.values())
    assert not numbers(jax.make_jaxpr(lambda x: 3.0 + x)(1.0))


def test_arrays_are_no_numbers():
    held = np.array([2.0, 3.0], np.float32)
    assert not numbers(jax.make_jaxpr(lambda x: x * jnp.asarray(held))(held))


def test_primitives_inside_others_are_found():
    def function(x):
        return lax.cond(
            x > 0, lambda x: lax.scan(lambda c, _: (jnp.tanh(c), None), x, None, 3)[0], jnp.sin, x
        )

    assert {"gt", "cond", "scan", "tanh", "sin"} <= primitives(jax.make_jaxpr(function)(1.0))
    assert "exp" not in primitives(jax.make_jaxpr(function)(1.0))


@pytest.mark.parametrize(
    ("function", "most"),
    [
        (lambda x: jnp.sin(jnp.cos(x)), 2),
        (lambda x: lax.scan(lambda c, _: (jnp.sin(c), None), x, None, 7)[0], 7),
        (lambda x: lax.scan(lambda c, _: (jnp.sin(jnp.cos(c)) + 1.0, None), x, None, 5)[0] * 2.0, 16),
    ],
)
def test_turns_are_counted(function, most):
    assert turns(jax.make_jaxpr(function)(1.0)) == most


def test_a_loop_of_unknown_length_is_a_long_one():
    closed = jax.make_jaxpr(lambda k: lax.while_loop(lambda c: c < 9, lambda c: c * 2, k))(1)
    assert turns(closed) >= LONG


def test_what_an_output_depends_on():
    closed = jax.make_jaxpr(lambda x, y, z: (jnp.sin(x), x * y, 3.0))(1.0, 2.0, 3.0)
    assert [depends(closed, [k]) for k in range(3)] == [True, True, False]
    assert [depends(closed, [k], skipped=1) for k in range(3)] == [True, True, False]
    assert [depends(closed, [k], skipped=2) for k in range(3)] == [False] * 3


def test_a_line_is_that_of_the_caller():
    (equation,) = jax.make_jaxpr(lambda x: jnp.sin(x))(1.0).jaxpr.eqns
    name, _, number = line_of(equation).partition(":")
    assert name == "test_jaxprs.py"
    assert int(number) == test_a_line_is_that_of_the_caller.__code__.co_firstlineno + 1
