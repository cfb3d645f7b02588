"""Every sum, product and reduction that has a bound: it covers exact rational arithmetic, and is narrow."""

import functools
import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from jaxnn.gradcheck.bounds.bounded import UNIT, VARIES, Bounded
from jaxnn.gradcheck.bounds.products import split
from jaxnn.gradcheck.bounds.sums import SUMS

exactly = np.vectorize(Fraction, otypes=[object])
REDUCTIONS = {"reduce_sum": np.sum, "reduce_prod": np.prod, "reduce_max": np.max, "reduce_min": np.min}
RUNNING = {"cumsum": np.add, "cumprod": np.multiply, "cummax": np.maximum, "cummin": np.minimum}
ALONE = {"dot_general", "reduce_and", "reduce_or", "argmax", "argmin"}


def test_every_rule_is_looked_at():
    assert {*REDUCTIONS, *RUNNING, *ALONE} == set(SUMS)


def of(values, errors, active=True):
    return Bounded(np.array(values), None if errors is None else np.array(errors), active)


def signs(rng, shape, others):
    """Patterns of shifts: one way, the other, towards the largest result, and four at random."""
    aligned = np.sign(others) if others is not None else np.ones(shape)
    return [np.ones(shape), -np.ones(shape), aligned, -aligned, *rng.choice([-1, 1], (4, *shape))]


def assert_covers(out, truths, rounded, widest):
    """The bound is above all the errors, and not wider than the largest of them and some roundings."""
    error = np.zeros(out.value.shape) if out.error is None else np.broadcast_to(out.error, out.value.shape)
    for place, value in np.ndenumerate(out.value):
        reach = max(abs(Fraction(float(value)) - t[place]) for t in truths)
        assert reach <= Fraction(float(error[place])) * (1 + Fraction(1, 10**12))
        assert error[place] <= widest * reach + rounded[place]


def product(a, b, dimensions):
    """The products of numbers of any kind, as an array of objects."""
    (contract_a, contract_b), (batch_a, batch_b) = dimensions
    free_a = [d for d in range(a.ndim) if d not in (*contract_a, *batch_a)]
    free_b = [d for d in range(b.ndim) if d not in (*contract_b, *batch_b)]
    a = a.transpose(*batch_a, *free_a, *contract_a)
    b = b.transpose(*batch_b, *free_b, *contract_b)
    batch, rows = a.shape[: len(batch_a)], a.shape[len(batch_a) : len(batch_a) + len(free_a)]
    columns = b.shape[len(batch_b) : len(batch_b) + len(free_b)]
    out = np.empty((*batch, *rows, *columns), object)
    for k, i, j in itertools.product(*map(np.ndindex, (batch, rows, columns))):
        out[(*k, *i, *j)] = np.sum(a[(*k, *i)] * b[(*k, *j)])
    return out


def as_floats(numbers):
    return np.asarray(numbers, float)


PRODUCTS = {
    # name: (shapes, dimension numbers)
    "matrices": ((3, 5), (5, 2), (((1,), (0,)), ((), ()))),
    "transposed": ((5, 3), (2, 5), (((0,), (1,)), ((), ()))),
    "batches": ((3, 4, 2), (5, 2, 4), (((1,), (2,)), ((2,), (1,)))),
    "two axes": ((3, 4, 5), (5, 2, 4), (((1, 2), (2, 0)), ((), ()))),
    "outer": ((3,), (2,), (((), ()), ((), ()))),
    "one term": ((3, 1), (1, 2), (((1,), (0,)), ((), ()))),
    "vectors": ((7,), (7,), (((0,), (0,)), ((), ()))),
}


@pytest.mark.parametrize("name", PRODUCTS)
@pytest.mark.parametrize("off", ["neither", "first", "second", "both"])
def test_a_product_of_matrices(name, off):
    shape_a, shape_b, dimensions = PRODUCTS[name]
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=shape_a), rng.normal(size=shape_b)
    e_a = 1e-6 * rng.random(shape_a) if off in ("first", "both") else None
    e_b = 1e-6 * rng.random(shape_b) if off in ("second", "both") else None
    out = SUMS["dot_general"]({"dimension_numbers": dimensions}, of(a, e_a), of(b, e_b))
    sizes = as_floats(product(exactly(np.abs(a)), exactly(np.abs(b)), dimensions))
    shifts = zip(signs(rng, shape_a, a), signs(rng, shape_b, b), strict=True)
    truths = [
        product(
            exactly(a) + exactly(np.zeros(shape_a) if e_a is None else e_a) * exactly(s),
            exactly(b) + exactly(np.zeros(shape_b) if e_b is None else e_b) * exactly(t),
            dimensions,
        )
        for s, t in shifts
    ]
    largest = product(
        exactly(np.zeros(shape_a) if e_a is None else e_a), exactly(np.abs(b)), dimensions
    ) + product(exactly(np.abs(a)), exactly(np.zeros(shape_b) if e_b is None else e_b), dimensions)
    assert_covers(out, truths, 16 * UNIT * sizes + 1.00001 * as_floats(largest), 0)


def test_errors_of_both_factors_that_go_the_worst_way_are_all_of_the_bound():
    rng = np.random.default_rng(1)
    (a, b), (e_a, e_b) = rng.random((2, 7)) + 0.1, rng.random((2, 7)) / 3
    dimensions = PRODUCTS["vectors"][2]
    out = SUMS["dot_general"]({"dimension_numbers": dimensions}, of(a, e_a), of(b, e_b))
    worst = (exactly(a) + exactly(e_a * np.sign(b)), exactly(b) + exactly(e_b * np.sign(a)))
    assert_covers(out, [np.asarray(product(*worst, dimensions), object)], np.asarray(8 * UNIT), 1.0001)


def test_a_product_of_what_cancels_is_known_to_far_more_than_its_terms():
    rng = np.random.default_rng(2)
    for terms in (8, 33, 250):
        a = 0.9 + 0.1 * rng.random((4, terms))
        b = 0.9 + 0.1 * rng.random((terms, 3))
        b[1::2] = -b[::2][: len(b[1::2])] * a[0, ::2][: len(b[1::2]), None] / a[0, 1::2, None]
        out = SUMS["dot_general"]({"dimension_numbers": PRODUCTS["matrices"][2]}, of(a, None), of(b, None))
        truth = product(exactly(a), exactly(b), PRODUCTS["matrices"][2])
        sizes = np.abs(a) @ np.abs(b)
        assert_covers(out, [truth], 4 * UNIT * np.abs(out.value) + 2.0**-12 * UNIT * sizes, 0)


def test_numbers_are_split_without_any_rounding():
    x = np.random.default_rng(8).normal(size=(40, 9)) * 10.0 ** np.random.default_rng(9).integers(
        -3, 4, (40, 1)
    )
    for bits in (12, 23, 50):
        high, low, most = split(x, np.abs(x), -1, bits)
        assert np.array_equal(exactly(high) + exactly(low), exactly(x))
        assert np.all(np.abs(low) <= most)
        assert np.max(np.abs(low) / most) > 0.9
        assert np.all(np.abs(x).max(axis=1, keepdims=True) <= most * 2.0**bits)
        assert np.all(high / most % 2 == 0)


@pytest.mark.parametrize("scale", [1e-170, 1e-130, 1e130])
def test_a_product_near_the_ends_of_what_float64_holds(scale):
    rng = np.random.default_rng(3)
    a, b = scale * rng.normal(size=(3, 6)), rng.normal(size=(6, 2)) * (scale if scale < 1 else 1)
    dimensions = PRODUCTS["matrices"][2]
    out = SUMS["dot_general"]({"dimension_numbers": dimensions}, of(a, None), of(b, None))
    sizes = np.abs(a) @ np.abs(b)
    assert_covers(out, [product(exactly(a), exactly(b), dimensions)], 8 * UNIT * sizes + 1e-322, 0)


def test_an_unbounded_factor_reaches_only_what_it_is_multiplied_with():
    a, e = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[0.0, np.inf], [0.0, 0.0]])
    b = np.array([[5.0, 6.0], [0.0, 7.0]])
    first = SUMS["dot_general"]({"dimension_numbers": PRODUCTS["matrices"][2]}, of(a, e), of(b, None))
    assert np.isinf(first.error).tolist() == [[False, True], [False, False]]
    second = SUMS["dot_general"]({"dimension_numbers": PRODUCTS["matrices"][2]}, of(b.T, None), of(a.T, e.T))
    assert np.isinf(second.error).tolist() == [[False, False], [True, False]]


def test_a_product_of_whole_numbers_is_exact_or_has_no_bound():
    a, b = np.array([[1, 2]]), np.array([[3], [4]])
    rule = functools.partial(SUMS["dot_general"], {"dimension_numbers": PRODUCTS["matrices"][2]})
    assert (rule(of(a, None), of(b, None)).value.tolist(), rule(of(a, None), of(b, None)).error) == (
        [[11]],
        None,
    )
    assert rule(of(a, [[0.0, np.inf]]), of(b, None)) is None


@pytest.mark.parametrize("axes", [(0,), (1,), (0, 2), (0, 1, 2)])
@pytest.mark.parametrize("name", REDUCTIONS)
@pytest.mark.parametrize("size", [0.0, 1e-6, 0.3])
def test_a_reduction(name, axes, size):
    rng = np.random.default_rng(4)
    x = rng.normal(size=(2, 4, 3))
    e = size * rng.random(x.shape) if size else None
    out = SUMS[name]({"axes": axes}, of(x, e))
    given = exactly(np.zeros(x.shape) if e is None else e)
    truths = [np.asarray(REDUCTIONS[name](exactly(x) + given * exactly(s), axis=axes), object)
              for s in signs(rng, x.shape, None)]  # fmt: skip
    count = math.prod(x.shape[d] for d in axes)
    if name == "reduce_prod":
        sizes = np.asarray(np.prod(np.abs(x) + (0 if e is None else e), axis=axes))
        most = sizes - np.abs(np.prod(x, axis=axes))
        assert_covers(out, truths, np.asarray(1.0001 * most + 2 * count * UNIT * sizes), 0)
    elif name == "reduce_sum":
        sizes = np.asarray(np.abs(x).sum(axis=axes))
        assert_covers(out, truths, 4 * UNIT * sizes, 1.0001)
    else:
        largest = np.asarray(np.max(np.zeros(x.shape) if e is None else e, axis=axes))
        assert_covers(out, truths, largest, 0)
        if e is None:
            assert out.error is None


def test_an_extreme_has_the_error_of_its_contenders_only():
    x, e = [[5.0, 4.5, 1.0], [5.0, 2.0, 1.0]], [[0.125, 0.5, 3.0], [0.125, 0.5, 3.0]]
    assert SUMS["reduce_max"]({"axes": (1,)}, of(x, e)).error.tolist() == [0.5, 0.125]
    assert SUMS["reduce_min"]({"axes": (1,)}, of(np.negative(x), e)).error.tolist() == [0.5, 0.125]


@pytest.mark.parametrize("terms", [1, 2, 9, 700])
def test_a_sum_of_what_cancels_is_known_to_far_more_than_its_terms(terms):
    rng = np.random.default_rng(5)
    x = 0.9 + 0.1 * rng.random((6, terms))
    x[:, 1::2] *= -1
    out = SUMS["reduce_sum"]({"axes": (1,)}, of(x, None))
    truth = exactly(x).sum(axis=1)
    slack = 2.0**-20 * UNIT * np.abs(x).sum(axis=1) if terms > 1 else np.zeros(6)
    assert_covers(out, [truth], 4 * UNIT * np.abs(out.value) + slack, 0)


@pytest.mark.parametrize("scale", [1e-300, 1e200])
def test_a_sum_near_the_ends_of_what_float64_holds(scale):
    x = scale * np.random.default_rng(6).normal(size=(3, 40))
    out = SUMS["reduce_sum"]({"axes": (1,)}, of(x, None))
    assert_covers(out, [exactly(x).sum(axis=1)], 40 * UNIT * np.abs(x).sum(axis=1), 0)


def test_a_sum_of_whole_numbers_is_exact():
    assert SUMS["reduce_sum"]({"axes": (0,)}, of([3.0, -5.0, 2.0**52], None)).error is None
    assert SUMS["reduce_sum"]({"axes": (0,)}, of([3.0, -5.5, 2.0], None)).error is not None
    assert SUMS["reduce_sum"]({"axes": (0,)}, of([2.0**53, 1.0], None)).error > 0
    whole = SUMS["reduce_sum"]({"axes": (0,)}, of([3, -5], None))
    assert (whole.value.dtype.kind, int(whole.value), whole.error) == ("i", -2, None)
    assert SUMS["reduce_sum"]({"axes": (0,)}, of([3, -5], [0.0, np.inf])).error == np.inf
    alone = of([[1.0, 2.0]], [[0.5, 0.25]])
    assert SUMS["reduce_sum"]({"axes": ()}, alone) is alone


def test_a_sum_or_a_product_of_zeros_alone_is_exactly_zero():
    zeros = of(np.zeros((2, 5)), np.zeros((2, 5)))
    assert not np.any(SUMS["reduce_sum"]({"axes": (1,)}, zeros).error)
    b, dimensions = of(np.random.default_rng(7).normal(size=(5, 3)), None), PRODUCTS["matrices"][2]
    assert not np.any(SUMS["dot_general"]({"dimension_numbers": dimensions}, zeros, b).error)


@pytest.mark.parametrize("name", ["reduce_max", "reduce_min", "reduce_prod"])
def test_a_reduction_of_whole_numbers_is_exact_or_not_known_at_all(name):
    assert SUMS[name]({"axes": (0,)}, of([3, -5], None)).error is None
    assert SUMS[name]({"axes": (0,)}, of([3, -5], [np.inf, 0.0])).error == np.inf


@pytest.mark.parametrize("name", ["reduce_and", "reduce_or"])
def test_truth_values_together(name):
    x = np.array([[True, False], [True, True], [False, False]])
    out = SUMS[name]({"axes": (1,)}, of(x, None))
    assert out.value.tolist() == ([False, True, False] if name == "reduce_and" else [True, True, False])
    assert out.error is None
    doubtful = SUMS[name]({"axes": (1,)}, of(x, np.where(x, 0.0, 1.0)))
    assert np.all(doubtful.error[[0, 2]] == 1)


@pytest.mark.parametrize(("name", "sign"), [("argmax", 1), ("argmin", -1)])
def test_a_place_is_in_doubt_where_another_may_be_it(name, sign):
    x = sign * np.array([[3.0, 1.0, 2.0], [3.0, 1.0, 2.0], [2.0, 2.0, 1.0], [3.0, 3.0, 1.0]])
    e = [[0.5, 0.0, 0.25], [0.5, 2.0, 0.5], [0.0, 0.0, 0.0], [VARIES, 0.0, 0.0]]
    rule = functools.partial(SUMS[name], {"axes": (1,), "index_dtype": np.int32})
    assert rule(of(x, e)).value.tolist() == [0, 0, 0, 0]
    assert rule(of(x, e)).error.tolist() == [0.0, np.inf, np.inf, np.inf]
    assert rule(of(x, None)).error is None
    assert rule(of(x.astype(int), None)).value.dtype == np.int32


@pytest.mark.parametrize("name", RUNNING)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("size", [0.0, 1e-6])
def test_a_running_reduction(name, reverse, size):
    rng = np.random.default_rng(7)
    x = rng.normal(size=(2, 5))
    e = size * rng.random(x.shape) if size else None
    out = SUMS[name]({"axis": 1, "reverse": reverse}, of(x, e))
    given = exactly(np.zeros(x.shape) if e is None else e)

    def run(v):
        return (
            np.flip(RUNNING[name].accumulate(np.flip(v, 1), 1), 1)
            if reverse
            else RUNNING[name].accumulate(v, 1)
        )

    truths = [run(exactly(x) + given * exactly(s)) for s in signs(rng, x.shape, None)]
    sizes = run(np.abs(x)) if name in ("cumsum", "cumprod") else np.zeros(x.shape)
    if name == "cumprod":
        most = run(np.abs(x) + given.astype(float)) - sizes
        assert_covers(out, truths, 1.0001 * most + 16 * UNIT * sizes, 0)
    elif name == "cumsum":
        assert_covers(out, truths, 16 * UNIT * sizes, 1.0001)
    else:
        assert_covers(out, truths, np.full(x.shape, size), 0)
    assert SUMS[name]({"axis": 0, "reverse": reverse}, of(np.zeros((0, 3)), None)).value.shape == (0, 3)
