"""The second verdict: how far off numbers may be in their own precision, beside those of autodiff."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn.gradcheck.bounds.bounded import UNIT
from jaxnn.gradcheck.verdict.numerics import in_ulps, numerics, ulp

ULP = 2.0**-23  # of float32, at 1
COUNT = 20


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_an_ulp_is_the_distance_to_the_next_number(dtype):
    x = np.array([1.0, 1.999, 2.0, 0.3, 1000.0, 6.1e-5], dtype)
    assert np.array_equal(ulp(x.astype(float), dtype), np.spacing(x).astype(float))
    assert ulp(np.array(0.0), dtype) == np.spacing(np.finfo(dtype).tiny)


def test_an_ulp_of_bfloat16_and_of_what_is_not_finite():
    assert ulp(np.array([1.0, 3.0, np.inf]), jnp.bfloat16).tolist() == [2.0**-7, 2.0**-6, 2.0**-7]
    assert in_ulps(np.array([np.nan, 2.0**-7, -(2.0**-6)]), np.ones(3), jnp.bfloat16).tolist() == [
        np.inf,
        1,
        2,
    ]


def judged(hand, autodiff=0.0, bound=0.0, shaken=0.0, count=COUNT, size=1.0):
    """The row of a parameter of ones; by hand and autodiff in ULPs off, the bounds in ULPs of float32."""
    truth = np.full(count, size)
    at = lambda off: truth + size * ULP * np.broadcast_to(np.array(off, float), truth.shape)  # noqa: E731
    scale = 2.0**-24 / UNIT
    e = np.full(count, size * ULP * bound / scale)
    s = np.full(count, size * ULP * shaken)
    (row,) = numerics([truth], [e], [s], [at(hand)], [at(autodiff)], np.float32)
    return row


@pytest.mark.parametrize("size", [1.0, 2.0**40])
def test_sixteen_units_are_good_and_seventeen_are_not(size):
    assert judged(15.5, size=size).accurate
    poor = judged([16.5, *[0.0] * (COUNT - 1)], size=size)
    assert not poor.accurate
    assert poor.poor.tolist() == [True, *[False] * (COUNT - 1)]
    assert poor.ulps[0] == 16.5
    assert poor.relative[0] == 16.5 * ULP


def test_twice_as_bad_as_autodiff_is_good_enough():
    assert judged(118.0, 60.0).accurate
    assert not judged(122.0, 60.0).accurate


def test_so_much_of_the_bound_is_allowed_as_autodiff_uses_32_times_over():
    """Of 6400 units autodiff uses 10, so that 320 are allowed, beside the 16."""
    assert judged(330.0, 10.0, bound=6400.0).accurate
    assert not judged(345.0, 10.0, bound=6400.0).accurate
    assert judged(6410.0, 1000.0, bound=6400.0).accurate
    assert not judged(6420.0, 1000.0, bound=6400.0).accurate


def test_of_few_entries_how_much_autodiff_uses_says_nothing():
    assert judged(6000.0, 10.0, bound=6400.0, count=15).accurate
    assert not judged(6000.0, 10.0, bound=6400.0, count=16).accurate


def test_near_a_corner_all_that_a_rounding_does_is_allowed():
    assert judged(1900.0, shaken=2000.0).accurate
    assert not judged(2020.0, shaken=2000.0).accurate
    assert not judged(900.0, shaken=950.0).accurate  # that is no corner yet
    assert judged(1900.0, bound=0.9, shaken=2000.0).accurate
    assert not judged(1900.0, bound=1.2, shaken=2000.0).accurate


def test_what_is_not_finite_is_poor_where_the_truth_is_known():
    nan, inf = np.nan, np.inf
    truth, e = [np.ones(4)], [np.zeros(4)]
    hand = [np.array([nan, inf, nan, 1.0])]
    (row,) = numerics(truth, e, e, hand, [np.array([1.0, 1.0, nan, nan])], np.float32)
    assert row.poor.tolist() == [True, True, True, False]
    (row,) = numerics([np.array([nan, 1e39, 1.0])], [np.zeros(3)], [np.zeros(3)], [np.array([5.0, 5.0, 1.0])],
                      [np.ones(3)], np.float32)  # fmt: skip
    assert (row.accurate, row.ulps.tolist(), row.relative.tolist()) == (True, [0.0] * 3, [0.0] * 3)


@pytest.mark.parametrize(
    ("hand", "autodiff", "better"),
    [(0.0, 17.0, True), (0.0, 15.0, False), (10.0, 90.0, True), (10.0, 70.0, False), (10.0, -90.0, True)],
)
def test_eight_times_better_than_autodiff_and_by_more_than_sixteen_units_is_praised(hand, autodiff, better):
    assert judged(hand, autodiff).better is better


def test_an_entry_that_no_one_knows_is_no_reason_for_praise():
    """Autodiff is worse in units where the gradient is small, and hardly so where it is large."""
    truth = np.array([1.0, 1024.0, np.nan])
    hand = truth + ULP * np.array([0, 5 * 1024, 0])
    autodiff = truth + ULP * np.array([100, 6 * 1024, 0])
    hand[2] = autodiff[2] = 7.0
    (row,) = numerics([truth], [np.zeros(3)], [np.zeros(3)], [hand], [autodiff], np.float32)
    assert (row.accurate, row.better) == (True, False)
    assert (row.ulps.tolist(), row.autodiff_ulps.tolist()) == ([0.0, 5.0, 0.0], [100.0, 6.0, 0.0])


def test_parameters_share_what_autodiff_uses():
    """Of the first it uses a tenth, so all of the second's bound is allowed."""
    ones, scale = np.ones(COUNT), 2.0**-24 / UNIT
    bound = ULP * 6400 / scale * ones
    rows = numerics([ones, ones], [bound, bound], [0 * ones] * 2, [ones, ones + 6000 * ULP],
                    [ones + 640 * ULP, ones], np.float32)  # fmt: skip
    assert [row.accurate for row in rows] == [True, True]
