"""Rules for derivatives of jax and of libraries on top of it."""

from collections.abc import Callable
from importlib import import_module

import numpy as np

from experiments.found.row import MATRIX, Case, Fault, Release, Row, weighted

JAX = Release("jax", "0.12.0.1", "2026-10")
DISTRAX = Release("distrax", "0.1.9", "2026-06")
RLAX = Release("rlax", "0.1.9", "2026-06")
OTT = Release("ott-jax", "0.6.0", "2025-11")


def by_jax(function: Callable, plain: Callable, at) -> Case:
    """A function of JAX, differentiated by jax.grad, which takes the rule that the library gave it."""
    import jax

    def loss(x):
        return weighted(function(x))

    return Case(loss, jax.grad(loss), lambda x: weighted(plain(x)), np.asarray(at))


def spence() -> Case:
    """∫ log t / (1 − t) from 1 to x; the plain form adds up forty values of it, by Gauss."""
    import jax.numpy as jnp

    nodes, parts = np.polynomial.legendre.leggauss(40)

    def plain(x):
        t = 1 + (x - 1) * (nodes[:, None] + 1) / 2
        return (x - 1) / 2 * jnp.sum(parts[:, None] * jnp.log(t) / (1 - t), 0)

    return by_jax(import_module("jax.scipy.special").spence, plain, [0.5, 1.5, 1.8, 3.0])


def determinant() -> Case:
    """A matrix of rank 3: its cofactors are not zero."""
    import itertools

    import jax.numpy as jnp

    orders = list(itertools.permutations(range(4)))
    signs = [np.linalg.det(np.eye(4)[list(order)]).round() for order in orders]

    def plain(A):
        rows = jnp.arange(4)
        return sum(sign * jnp.prod(A[rows, jnp.array(n)]) for sign, n in zip(signs, orders, strict=True))

    return by_jax(jnp.linalg.det, lambda A: jnp.asarray(plain(A)), np.diag([1.0, 2.0, 0.0, 3.0]))


def ott_norm() -> Case:
    """The norm of every row, one of which is zero; the plain form is finite there."""
    import jax.numpy as jnp

    norm = import_module("ott.math.utils").norm

    def plain(x):
        squares = jnp.sum(x**2, axis=1)
        return jnp.where(squares > 0, jnp.sqrt(jnp.where(squares > 0, squares, 1.0)), 0.0)

    return by_jax(lambda x: norm(x, axis=1), plain, MATRIX * [[0], [1]])


def ott_logsumexp() -> Case:
    """log Σ exp of every row, keepdims=True."""
    import jax.numpy as jnp

    logsumexp = import_module("ott.math.utils").logsumexp
    return by_jax(
        lambda x: logsumexp(x, axis=1, keepdims=True),
        lambda x: jnp.log(jnp.sum(jnp.exp(x), axis=1, keepdims=True)),
        MATRIX,
    )


def ott_softmin() -> Case:
    """−γ log Σ exp(−x/γ), as a function of γ."""
    import jax.numpy as jnp

    softmin = import_module("ott.math.utils").softmin
    return by_jax(
        lambda gamma: softmin(MATRIX, gamma, axis=1),
        lambda gamma: -gamma * jnp.log(jnp.sum(jnp.exp(-MATRIX / gamma), axis=1)),
        0.7,
    )


def power() -> Case:
    """xʸ, which is 1 for y = 0, whatever x."""
    import jax.numpy as jnp

    function, y = import_module("distrax._src.utils.math").power_no_nan, np.array([0.0, 0.0, 2.0])
    return by_jax(
        lambda x: function(x, y),
        lambda x: jnp.where(y == 0, 1.0, x ** np.where(y == 0, 1.0, y)),
        [0.0, 1.5, 0.0],
    )


def signed() -> Case:
    """sign(x) log(1 + |x|), whose slope is 1 at 0 from either side."""
    import jax.numpy as jnp

    def plain(x):
        size = jnp.where(x < 0, -x, x)
        return jnp.where(x < 0, -jnp.log1p(size), jnp.log1p(size))

    return by_jax(import_module("rlax").signed_logp1, plain, [0.0, -1.0, 2.0])


ROWS = (
    Row(JAX, "jax.scipy.special.spence", Fault.NAN, "NaN for 1 < x ≤ 2; and 0 for −1 at x = 1", spence),
    Row(
        JAX,
        "jax.numpy.linalg.det",
        Fault.NUMBERS,
        "of a singular matrix: 0 for its cofactor, where LU meets the pivot 0 early",
        determinant,
    ),
    Row(
        OTT, "ott.math.utils.norm(axis=1)", Fault.NAN, "NaN for a row of zeros, unless all rows are", ott_norm
    ),
    Row(
        OTT,
        "ott.math.utils.logsumexp(keepdims=True)",
        Fault.RAISES,
        "the tangent has an axis too many",
        ott_logsumexp,
    ),
    Row(OTT, "ott.math.utils.softmin", Fault.NUMBERS, "0 in gamma", ott_softmin),
    Row(DISTRAX, "distrax._src.utils.math.power_no_nan", Fault.NAN, "NaN in x at 0 for y = 0", power),
    Row(
        RLAX,
        "rlax.signed_logp1",
        Fault.NUMBERS,
        "0 for 1 at 0; as in signed_expm1, signed_parabolic and signed_hyperbolic",
        signed,
    ),
)
