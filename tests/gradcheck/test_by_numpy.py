"""What NumPy computes in the place of a primitive is what JAX computes."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from jaxnn.gradcheck.jaxprs.by_numpy import planned
from jaxnn.gradcheck.jaxprs.equations import opened, primitives
from jaxnn.gradcheck.jaxprs.primitives import PRIMITIVES

rng = np.random.default_rng(0)
BLOCK = rng.normal(size=(4, 5, 3))
SQUARES = rng.normal(size=(2, 5, 5)) + 4 * np.eye(5)
DEFINITE = SQUARES @ SQUARES.swapaxes(1, 2)


def by_numpy(name, params, *args):
    return PRIMITIVES[name].shaped(params, *args)


def held(name, function, *args, exact=True):
    """JAX's value against NumPy's, for the one primitive of that name that the function binds."""
    with jax.enable_x64(True):
        equations = jax.make_jaxpr(function)(*args).jaxpr.eqns
        (equation,) = [e for e in equations if e.primitive.name == name]
        want = np.asarray(function(*args))
    got = by_numpy(name, equation.params, *map(np.asarray, args))
    assert (got.dtype, got.shape) == (want.dtype, want.shape)
    np.testing.assert_allclose(got, want, rtol=0 if exact else 1e-12, atol=0)


@pytest.mark.parametrize(
    "widths",
    [
        ((1, 2, 0), (0, 0, 2), (3, 1, 1)),
        ((-1, 2, 1), (0, -2, 0), (-1, -1, 2)),
        ((5, -2, 1), (0, -9, 3), (-4, 2, 3)),
    ],
)
def test_pad(widths):
    held("pad", lambda x, v: lax.pad(x, v, widths), BLOCK, np.float64(2.5))


@pytest.mark.parametrize("starts", [(0, 0, 0), (3, 9, -4), (1, -1, 2)])
def test_windows_stay_inside(starts):
    starts = tuple(map(np.int32, starts))
    part = np.full((2, 3, 1), 7.0)
    with jax.enable_x64(True):
        window = lax.dynamic_slice_p.bind(BLOCK, *starts, slice_sizes=(2, 3, 1))
        updated = lax.dynamic_update_slice_p.bind(BLOCK, part, *starts)
    mine = by_numpy("dynamic_slice", {"slice_sizes": (2, 3, 1)}, BLOCK, *starts)
    np.testing.assert_array_equal(mine, window)
    np.testing.assert_array_equal(by_numpy("dynamic_update_slice", {}, BLOCK, part, *starts), updated)


@pytest.mark.parametrize(("axis", "dtype"), [(0, np.int32), (1, np.float32), (2, np.uint8)])
def test_iota(axis, dtype):
    held("iota", lambda: lax.broadcasted_iota(dtype, (3, 4, 2), axis))


@pytest.mark.parametrize("form", list(itertools.product(*[[False, True]] * 5)))
def test_triangular_solve(form):
    left, lower, transposed, conjugated, unit = form
    A = SQUARES + 1j * SQUARES[::-1] if conjugated else SQUARES
    B = (BLOCK[:2, :, :3] if left else BLOCK[:2].swapaxes(1, 2)).astype(A.dtype)
    options = {"left_side": left, "lower": lower, "transpose_a": transposed, "unit_diagonal": unit}
    solve = lambda a, b: lax.linalg.triangular_solve(a, b, conjugate_a=conjugated, **options)  # noqa: E731
    held("triangular_solve", solve, A, B, exact=False)


def test_a_singular_triangle_gives_what_is_not_finite():
    held(
        "triangular_solve",
        lambda a, b: lax.linalg.triangular_solve(a, b, left_side=True, lower=True),
        np.array([[0.0, 0.0], [1.0, 2.0]]),
        np.array([[1.0], [3.0]]),
    )


def test_cholesky():
    A = np.stack([DEFINITE[0], -DEFINITE[1], DEFINITE[1]])
    with jax.enable_x64(True):
        want = np.asarray(lax.linalg.cholesky(jax.numpy.asarray(A), symmetrize_input=False))
    np.testing.assert_allclose(np.tril(by_numpy("cholesky", {}, A)), want, rtol=1e-12)


WIDE = np.concatenate([rng.normal(size=9), 40 * rng.normal(size=9), [0.0, 1.0, -1.0]]).reshape(3, 7)
ABOVE, WITHIN = np.abs(WIDE) + 0.1, np.tanh(WIDE) * 0.99
FLAGS, WHOLE = WIDE > 0.3, np.rint(WIDE).astype(np.int64)


BINDING = {
    # a primitive: (a function that binds it, what it is given)
    **{
        name: (getattr(lax, name), (x,))
        for name, x in (
            *(
                (n, WIDE)
                for n in ("neg", "tanh", "sin", "cos", "tan", "atan", "cbrt", "square", "abs", "sign")
            ),
            *(
                (n, WIDE)
                for n in ("floor", "ceil", "logistic", "erf", "erfc", "is_finite", "exp", "exp2", "expm1")
            ),
            *((n, ABOVE) for n in ("log", "log1p", "sqrt", "rsqrt", "lgamma", "digamma")),
            ("acosh", ABOVE + 1),
            ("bessel_i0e", WIDE),
            *((n, WITHIN) for n in ("asin", "acos", "sinh", "cosh", "asinh", "atanh", "erf_inv")),
        )
    },
    **{
        name: (getattr(lax, name), (WIDE, WIDE[::-1]))
        for name in ("add", "sub", "mul", "max", "min", "atan2", "div", "eq", "ne", "lt", "le", "gt", "ge")
    },
    "clamp": (lambda x: lax.clamp(-0.5, x, 1.5), (WIDE,)),
    "copy": (jnp.copy, (WIDE,)),
    "pow": (lax.pow, (ABOVE, WITHIN)),
    "integer_pow": (lambda x: lax.integer_pow(x, 3) + lax.integer_pow(x, -2), (ABOVE,)),
    "and": (lambda x, y: x & y, (FLAGS, FLAGS[::-1])),
    "or": (lambda x, y: x | y, (FLAGS, FLAGS[::-1])),
    "xor": (lambda x, y: x ^ y, (WHOLE, WHOLE[::-1])),
    "not": (lambda x: ~x, (FLAGS,)),
    "select_n": (lax.select, (FLAGS, WIDE, WIDE[::-1])),
    "convert_element_type": (
        lambda x, k, b: x.astype(np.int32) + k + b.astype(np.float32),
        (WIDE, WHOLE, FLAGS),
    ),
    "name": (lambda x: checkpoint_name(x, "x"), (WIDE,)),
    "transpose": (lambda x: lax.transpose(x, (2, 0, 1)), (BLOCK,)),
    "reshape": (
        lambda x: lax.reshape(x, (6, 10)) @ jnp.ones(10) + jnp.sum(lax.reshape(x, (60,), (2, 0, 1))[:9]),
        (BLOCK,),
    ),
    "squeeze": (lambda x: lax.squeeze(x[:, :1], (1,)), (BLOCK,)),
    "broadcast_in_dim": (lambda x: lax.broadcast_in_dim(x, (2, 3, 4, 7), (1, 3)), (WIDE,)),
    "rev": (lambda x: lax.rev(x, (0, 2)), (BLOCK,)),
    "concatenate": (lambda x: lax.concatenate([x, x[:, 1:]], 1), (BLOCK,)),
    "stack": (lambda x: jnp.stack([x, x[:, ::-1]], 2), (BLOCK,)),
    "tile": (lambda x: jnp.tile(x, (1, 2, 3)), (BLOCK,)),
    "split": (lambda x: jnp.sum(jnp.stack([p[:, 0] for p in lax.split(x, (1, 2, 2), 1)]), 0), (BLOCK,)),
    "unstack": (lambda x: sum(k * p for k, p in enumerate(jnp.unstack(x, axis=1))), (BLOCK,)),
    "slice": (lambda x: lax.slice(x, (0, 1, 0), (4, 5, 3), (2, 1, 2)) + x[:2, 1:, :2], (BLOCK,)),
    "reduce_sum": (lambda x, k: jnp.sum(x, (0, 2)) + jnp.sum(k), (BLOCK, WHOLE)),
    "reduce_prod": (lambda x: jnp.prod(x, 1), (BLOCK,)),
    "reduce_max": (lambda x: jnp.max(x, (1, 2)), (BLOCK,)),
    "reduce_min": (lambda x: jnp.min(x, 0), (BLOCK,)),
    "reduce_and": (lambda x: jnp.all(x, 1), (FLAGS,)),
    "reduce_or": (lambda x: jnp.any(x, 0), (FLAGS,)),
    "cumsum": (lambda x: lax.cumsum(x, 1) + lax.cumsum(x, 0, reverse=True), (BLOCK,)),
    "cumprod": (lambda x: lax.cumprod(x, 2, reverse=True), (BLOCK,)),
    "cummax": (lambda x: lax.cummax(x, 1), (BLOCK,)),
    "cummin": (lambda x: lax.cummin(x, 1, reverse=True), (BLOCK,)),
    "dot_general": (lambda x, y: jnp.einsum("aki,bak->abi", x, y), (BLOCK, rng.normal(size=(2, 4, 5)))),
    "whole quotients": (lambda k: k // 3 + lax.div(k, jnp.full_like(k, 4)), (WHOLE,)),
    "a complex sigmoid": (lambda x: jnp.real(lax.logistic(x * (1 + 2j))), (WITHIN,)),
    "one of three": (lambda k: lax.select_n(jnp.clip(k, 0, 2).astype(np.int32), k, 2 * k, 3 * k), (WHOLE,)),
    "inner programs": (lambda x: jax.checkpoint(jnp.sin)(jax.nn.softplus(jax.jit(jnp.cos)(x))), (WIDE,)),
}
ELSEWHERE = {
    *("add_any", "log2", "one_minus_square", "stop_gradient", "iota", "pad", "cholesky"),
    *("dynamic_slice", "dynamic_update_slice", "triangular_solve"),
}


def test_every_primitive_that_numpy_computes_is_looked_at():
    computed = {name for name, row in PRIMITIVES.items() if row.plain or row.shaped}
    assert computed <= BINDING.keys() | ELSEWHERE


@pytest.mark.parametrize("name", BINDING)
def test_numpy_computes_what_jax_computes(name):
    function, args = BINDING[name]
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        closed = jax.make_jaxpr(function)(*args)
        want = np.asarray(jax.jit(function)(*args))
        (got,) = planned(*opened(closed))(*args)
    assert " " in name or name in primitives(closed)
    assert (got.dtype, got.shape) == (want.dtype, want.shape)
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", ["log2", "one_minus_square", "add_any"])
def test_what_only_some_versions_of_jax_bind(name):
    exact = {
        "log2": lambda x: np.log(x) / np.log(2),
        "one_minus_square": lambda x: 1 - x**2,
        "add_any": lambda x: 2 * x,
    }
    np.testing.assert_allclose(
        PRIMITIVES[name].plain(*[ABOVE] * (1 + (name == "add_any"))), exact[name](ABOVE), rtol=1e-9
    )
