"""What NumPy computes in the place of a primitive is what JAX computes."""

import itertools

import jax
import numpy as np
import pytest
from jax import lax

from jaxnn.gradcheck.jaxprs.by_numpy import BUILT

rng = np.random.default_rng(0)
BLOCK = rng.normal(size=(4, 5, 3))
SQUARES = rng.normal(size=(2, 5, 5)) + 4 * np.eye(5)
DEFINITE = SQUARES @ SQUARES.swapaxes(1, 2)


def held(function, *args, exact=True):
    """JAX's value against NumPy's, for the one primitive of its name that the function binds."""
    with jax.enable_x64(True):
        equations = jax.make_jaxpr(function)(*args).jaxpr.eqns
        (equation,) = [e for e in equations if e.primitive.name in BUILT]
        want = np.asarray(function(*args))
    got = BUILT[equation.primitive.name](equation.params, *map(np.asarray, args))
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
    held(lambda x, v: lax.pad(x, v, widths), BLOCK, np.float64(2.5))


@pytest.mark.parametrize("starts", [(0, 0, 0), (3, 9, -4), (1, -1, 2)])
def test_windows_stay_inside(starts):
    starts = tuple(map(np.int32, starts))
    part = np.full((2, 3, 1), 7.0)
    with jax.enable_x64(True):
        window = lax.dynamic_slice_p.bind(BLOCK, *starts, slice_sizes=(2, 3, 1))
        updated = lax.dynamic_update_slice_p.bind(BLOCK, part, *starts)
    np.testing.assert_array_equal(BUILT["dynamic_slice"]({"slice_sizes": (2, 3, 1)}, BLOCK, *starts), window)
    np.testing.assert_array_equal(BUILT["dynamic_update_slice"]({}, BLOCK, part, *starts), updated)


@pytest.mark.parametrize(("axis", "dtype"), [(0, np.int32), (1, np.float32), (2, np.uint8)])
def test_iota(axis, dtype):
    held(lambda: lax.broadcasted_iota(dtype, (3, 4, 2), axis))


@pytest.mark.parametrize("form", list(itertools.product(*[[False, True]] * 5)))
def test_triangular_solve(form):
    left, lower, transposed, conjugated, unit = form
    A = SQUARES + 1j * SQUARES[::-1] if conjugated else SQUARES
    B = (BLOCK[:2, :, :3] if left else BLOCK[:2].swapaxes(1, 2)).astype(A.dtype)
    options = {"left_side": left, "lower": lower, "transpose_a": transposed, "unit_diagonal": unit}
    held(lambda a, b: lax.linalg.triangular_solve(a, b, conjugate_a=conjugated, **options), A, B, exact=False)


def test_a_singular_triangle_gives_what_is_not_finite():
    held(
        lambda a, b: lax.linalg.triangular_solve(a, b, left_side=True, lower=True),
        np.array([[0.0, 0.0], [1.0, 2.0]]),
        np.array([[1.0], [3.0]]),
    )


def test_cholesky():
    A = np.stack([DEFINITE[0], -DEFINITE[1], DEFINITE[1]])
    with jax.enable_x64(True):
        want = np.asarray(lax.linalg.cholesky(jax.numpy.asarray(A), symmetrize_input=False))
    np.testing.assert_allclose(np.tril(BUILT["cholesky"]({}, A)), want, rtol=1e-12)
