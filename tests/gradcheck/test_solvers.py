"""Loops that end by what they compute: solvers, roots, implicit derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.sparse.linalg import cg

from jaxnn.gradcheck import compare_gradients, compare_vjp
from jaxnn.gradcheck.bounds import interpreter
from jaxnn.gradcheck.jaxprs.by_numpy import Loops, ended, iterates

A = np.float32([0.3, 0.5, 0.8])
P = np.float32([[3, 1, 0], [1, 2, 0.5], [0, 0.5, 4]])


def newton(a):
    """√a, up to a tolerance; where a is negative it never ends."""
    return jax.lax.while_loop(lambda s: jnp.any(jnp.abs(s * s - a) > 1e-6 * a), lambda s: (s + a / s) / 2, a)


root = jax.custom_vjp(newton)
root.defvjp(lambda a: (newton(a), newton(a)), lambda s, c: (c / (2 * s),))


def loss(a):
    return jnp.sum(root(a) ** 3)


def gradient(a):
    return 1.5 * jnp.sqrt(a)


@pytest.mark.parametrize(("wrong", "correct"), [(1.0, True), (1.001, False)])
def test_a_closed_form_is_right_to_where_the_iteration_ended(wrong, correct):
    report = compare_gradients(loss, lambda a: wrong * gradient(a), A)
    assert report.correct is correct
    assert report.estimated
    assert any("it iterates, and more turns would take it so far" in note for note in report.notes)


def test_a_loop_that_never_ends_elsewhere_is_left_there():
    never = lambda a: jnp.sum(jnp.sqrt(a)) + jnp.sum(jax.lax.stop_gradient(newton(a)))  # noqa: E731
    assert compare_gradients(never, lambda a: 1 / jnp.sqrt(a), A).correct is False


def test_a_rule_over_a_loop_too_long_to_be_read_is_judged_compiled(monkeypatch):
    monkeypatch.setattr(interpreter, "STEPS", 40)
    descent = jax.custom_vjp(
        lambda b: jax.lax.fori_loop(0, 300, lambda _, x: x - 0.2 * (P @ x - b), jnp.zeros(3, b.dtype))
    )
    solved = lambda b: jnp.asarray(np.linalg.inv(P), b.dtype) @ b  # noqa: E731
    descent.defvjp(lambda b: (descent(b), None), lambda _, c: (solved(c),))
    assert compare_vjp(descent, jnp.asarray(A), reference=solved).correct is True


def test_a_system_solved_by_conjugate_gradients():
    energy = lambda b: b @ cg(lambda v: P @ v, b)[0] / 2  # noqa: E731
    assert compare_gradients(energy, lambda b: jnp.linalg.solve(P, b), A).correct is True


def test_a_root_differentiated_implicitly():
    def square_root(a):
        return jax.lax.custom_root(
            lambda s: s * s - a, a, lambda _, s: newton(a), lambda g, y: y / g(jnp.ones_like(y))
        )

    cubed = lambda a: jnp.sum(square_root(a) ** 3)  # noqa: E731
    assert compare_gradients(cubed, gradient, A).correct is True


def test_while_loops_end_and_those_that_converge_turn_on():
    counted = jax.make_jaxpr(
        lambda x: jax.lax.while_loop(lambda s: s[0] < 5, lambda s: (s[0] + 1, 2 * s[1]), (0, x))
    )(1.0)
    halved = jax.make_jaxpr(lambda x: jax.lax.while_loop(lambda x: x > 1, lambda x: x / 2, x))(8.0)
    run = lambda closed, x, **how: ended(closed.jaxpr, closed.consts, x, loops=Loops(**how))[-1]  # noqa: E731
    assert (iterates(counted), iterates(halved)) == (False, True)
    assert run(counted, 1.0) == run(counted, 1.0, times=2) == 32
    assert (run(halved, 8.0), run(halved, 8.0, times=2)) == (1, 1 / 16)
    assert np.isnan(run(halved, np.inf, most=50))


def halving(x):
    return jax.lax.while_loop(lambda x: x > 1, lambda x: x / 2, x)


HELD = {
    "mapped": (jax.vmap(halving), [8.0, 3.0, 0.5], [1, 0.75, 0.5]),
    "in a scan": (lambda x: jax.lax.scan(lambda c, r: (c + halving(r), None), 0.0, x)[0], [8.0, 3.0], 1.75),
    "in a branch": (lambda x: jax.lax.cond(x[0] > 1, halving, jnp.sin, x[1]), [2.0, 5.0], 0.625),
    "in a call": (jax.jit(lambda x: halving(x[0])), [3.0], 0.75),
}


@pytest.mark.parametrize("name", HELD)
def test_a_loop_inside_something_ends_too(name):
    function, x, expected = HELD[name]
    closed = jax.make_jaxpr(function)(jnp.float32(x))
    of = lambda x, most: ended(closed.jaxpr, closed.consts, jnp.float32(x), loops=Loops(most))[0]  # noqa: E731
    assert np.array_equal(of(x, 20), np.float32(expected))
    assert np.isnan(of([*x[:-1], np.inf], 20)).any()
