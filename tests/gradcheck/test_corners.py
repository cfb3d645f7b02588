"""Every step and corner that has a bound: what may come out otherwise is in doubt, and nothing else is."""

import itertools
import math
import operator
from fractions import Fraction

import numpy as np
import pytest
from jax import lax

from jaxnn.gradcheck.bounds.bounded import VARIES, Bounded
from jaxnn.gradcheck.bounds.corners import STEPS_AND_CORNERS

COMPARISONS = {
    "eq": operator.eq,
    "ne": operator.ne,
    "gt": operator.gt,
    "ge": operator.ge,
    "lt": operator.lt,
    "le": operator.le,
    "eq_to": operator.eq,
    "lt_to": operator.lt,
    "le_to": operator.le,
}
LOGIC = {"and": operator.and_, "or": operator.or_}
EXTREMES = {"max": max, "min": min}
STEPS = {"sign": lambda x: (x > 0) - (x < 0), "floor": math.floor, "ceil": math.ceil, "round": round}
ALONE = {"rem", "clamp", "select_n", "convert_element_type", "is_finite"}


def test_every_rule_is_looked_at():
    assert {*COMPARISONS, *LOGIC, *EXTREMES, *STEPS, *ALONE} == set(STEPS_AND_CORNERS)


def of(values, errors, active=True):
    return Bounded(np.array(values), None if errors is None else np.array(errors), active)


def ends(x, e):
    """The interval's ends, its middle, and what lies between."""
    x, e = Fraction(x), Fraction(e)
    return [x + e * Fraction(k, 8) for k in range(-8, 9)]


GRID = list(itertools.product((-0.5, 0.0, 0.25, 1.0), (0.0, VARIES, 0.25, 0.5)))
PAIRS = list(itertools.product(GRID, GRID))


@pytest.mark.parametrize("name", COMPARISONS)
@pytest.mark.parametrize("active", [True, False])
def test_a_comparison_is_in_doubt_where_it_may_come_out_otherwise(name, active):
    """Two varying numbers that are equal are taken to be the same; to a constant, they only happen to be."""
    (a, b) = (np.array(side) for side in zip(*PAIRS, strict=True))
    out = STEPS_AND_CORNERS[name]({}, of(a[:, 0], a[:, 1]), of(b[:, 0], b[:, 1], active))
    for ((x, e), (y, d)), value, error in zip(PAIRS, out.value, out.error, strict=True):
        assert value == COMPARISONS[name](x, y)
        outcomes = {COMPARISONS[name](u, v) for u in ends(x, e) for v in ends(y, d)}
        same = active and x == y and name in ("eq", "ne", "eq_to")
        sides = active or e == d == 0  # a tie at one end: it counts as one
        if sides or e + d != abs(Fraction(x) - Fraction(y)):
            touching = e + d == abs(Fraction(x) - Fraction(y)) and e + d > 0
            assert error == (not same and (len(outcomes) > 1 or touching))


@pytest.mark.parametrize("name", COMPARISONS)
def test_a_comparison_of_exact_numbers_is_exact(name):
    assert STEPS_AND_CORNERS[name]({}, of([1.0, 2.0], None), of([1.0, 1.0], None)).error is None
    doubtful = STEPS_AND_CORNERS[name]({}, of([1, 2], [np.inf, 0.0]), of([1, 1], None))
    assert doubtful.error.tolist() == [1.0, 0.0]


@pytest.mark.parametrize("name", LOGIC)
def test_what_is_certain_of_truth_values_in_doubt(name):
    states = list(itertools.product((False, True), (0.0, 1.0)))
    pairs = list(itertools.product(states, states))
    a, b = ([p[k] for p in pairs] for k in (0, 1))
    split = lambda side: of([v for v, _ in side], [d for _, d in side])  # noqa: E731
    out = STEPS_AND_CORNERS[name]({}, split(a), split(b))
    for ((x, d), (y, e)), value, error in zip(pairs, out.value, out.error, strict=True):
        outcomes = {LOGIC[name](u, v) for u in ({x, not x} if d else {x}) for v in ({y, not y} if e else {y})}
        assert (value, error) == (LOGIC[name](x, y), len(outcomes) > 1)
    assert STEPS_AND_CORNERS[name]({}, of([True], None), of([False], None)).error is None


@pytest.mark.parametrize("name", EXTREMES)
def test_an_extreme_has_the_error_of_those_that_may_be_it(name):
    a, b = (np.array(side) for side in zip(*PAIRS, strict=True))
    out = STEPS_AND_CORNERS[name]({}, of(a[:, 0], a[:, 1]), of(b[:, 0], b[:, 1]))
    for ((x, e), (y, d)), value, error in zip(PAIRS, out.value, out.error, strict=True):
        assert value == EXTREMES[name](x, y)
        reach = max(abs(EXTREMES[name](u, v) - Fraction(value)) for u in ends(x, e) for v in ends(y, d))
        assert reach <= error <= max(e, d)
        if abs(x - y) > e + d:
            assert error == (e if value == x else d)
    assert STEPS_AND_CORNERS[name]({}, of([1.0], None), of([2.0], None)).error is None
    assert STEPS_AND_CORNERS[name]({}, of([1], [np.inf]), of([2], None)).error.tolist() == [np.inf]


def test_a_clamp_has_the_error_of_what_comes_out():
    x, e = np.array([-2.0, -1.1, 0.3, 0.9, 3.0]), np.full(5, 0.2)
    out = STEPS_AND_CORNERS["clamp"]({}, of(-1.0, 0.0), of(x, e), of(1.0, 0.0))
    assert out.value.tolist() == [-1.0, -1.0, 0.3, 0.9, 1.0]
    assert out.error.tolist() == [0.0, 0.2, 0.2, 0.2, 0.0]


def rounded(name, method):
    if name != "round":
        return STEPS_AND_CORNERS[name], STEPS[name]
    even = method == lax.RoundingMethod.TO_NEAREST_EVEN
    away = lambda x: math.copysign(math.floor(abs(x) + Fraction(1, 2)), x)  # noqa: E731
    rule = STEPS_AND_CORNERS["round"]
    return lambda _, x: rule({"rounding_method": method}, x), round if even else away


@pytest.mark.parametrize(
    ("name", "method"),
    [*((n, None) for n in ("sign", "floor", "ceil")), *(("round", m) for m in lax.RoundingMethod)],
)
def test_a_step_has_the_error_of_the_largest_jump_within_reach(name, method):
    rule, exact = rounded(name, method)
    states = [(x, e) for x in (-2.5, -1.25, -0.5, 0.0, 0.25, 0.5, 1.5, 2.5) for e in (0.0, 0.125, 0.5, 1.375)]
    out = rule({}, of([x for x, _ in states], [e for _, e in states]))
    for (x, e), value, error in zip(states, out.value, out.error, strict=True):
        assert value == exact(Fraction(x))
        reach = max(abs(exact(u) - value) for u in ends(x, e))
        assert reach <= error <= (2 if name == "sign" and x else max(reach, 1 if name == "sign" and e else 0))
        if reach == 0 and name != "sign":
            assert error == 0
    assert rule({}, of([0.25], None)).error is None


def test_a_sign_is_in_doubt_only_within_reach_of_zero():
    out = STEPS_AND_CORNERS["sign"]({}, of([0.5, 0.5, -0.5, 0.0, 0.0], [0.25, 0.75, 0.5, 0.1, 0.0]))
    assert out.error.tolist() == [0.0, 2.0, 2.0, 1.0, 0.0]


@pytest.mark.parametrize(("b", "d"), [(0.75, 0.0), (-0.75, 0.0), (0.75, 1e-3)])
def test_a_remainder_jumps_at_multiples_of_the_divisor(b, d):
    rng = np.random.default_rng(0)
    x, e = rng.uniform(-3, 3, 200), 10.0 ** rng.uniform(-4, -1, 200)
    out = STEPS_AND_CORNERS["rem"]({}, of(x, e), of(b, d))
    np.testing.assert_array_equal(out.value, np.fmod(x, b))
    shifts = np.linspace(-1, 1, 41)
    reach = np.max(
        [np.abs(np.fmod(x + s * e, b + t * d) - out.value) for s in shifts for t in (-1, 1)], axis=0
    )
    assert np.all(reach <= out.error + 1e-15)
    calm = reach < 0.3
    most = e + np.ceil(np.abs(x / b)) * d
    near = np.minimum(np.abs(out.value), abs(b) - np.abs(out.value)) <= 1.1 * most
    assert np.all(out.error[calm & ~near] <= most[calm & ~near])
    assert np.all(out.error <= abs(b) + most)
    assert np.any(~near)
    assert np.any(~calm)


def test_a_choice_in_doubt_may_be_any_of_the_cases():
    which = of([0, 1, 2, 1], [0.0, 0.0, 0.0, np.inf])
    cases = [of(np.arange(4.0) + 10 * k, np.full(4, 0.125 * (k + 1))) for k in range(3)]
    out = STEPS_AND_CORNERS["select_n"]({}, which, *cases)
    assert out.value.tolist() == [0.0, 11.0, 22.0, 13.0]
    assert out.error.tolist() == [0.125, 0.25, 0.375, 10 + 0.375]


def test_a_choice_between_two():
    doubt = of([False, True, True], [0.0, 0.0, 1.0])
    first, second = of([1.0, 2.0, 3.0], None), of([1.5, np.nan, np.inf], [0.5, 0.0, 0.0])
    with np.errstate(invalid="ignore"):
        out = STEPS_AND_CORNERS["select_n"]({}, doubt, first, second)
    assert out.error.tolist() == [0.0, np.inf, np.inf]
    sure = STEPS_AND_CORNERS["select_n"]({}, of([True, False, True], None), first, of([4.0, 5.0, 6.0], None))
    assert (sure.value.tolist(), sure.error) == ([4.0, 2.0, 6.0], None)
    whole = STEPS_AND_CORNERS["select_n"]({}, doubt, of([1, 2, 3], None), of([1, 5, 6], None))
    assert whole.error.tolist() == [0.0, 0.0, np.inf]
    truth = STEPS_AND_CORNERS["select_n"]({}, doubt, of([True] * 3, None), of([True, False, False], None))
    assert truth.error.tolist() == [0.0, 0.0, 1.0]


def test_infinities_on_both_sides_of_a_choice_are_the_same():
    with np.errstate(invalid="ignore"):
        out = STEPS_AND_CORNERS["select_n"]({}, of([True], [1.0]), of([np.inf], None), of([np.inf], None))
    assert out.error.tolist() == [0.0]


def test_a_conversion_is_exact_or_not_known_at_all():
    convert = STEPS_AND_CORNERS["convert_element_type"]
    x = of([1.75, 1.75, -0.5, 300.0], [0.125, 0.25, 0.25, 0.0])
    assert convert({"new_dtype": "int32"}, x).value.tolist() == [1, 1, 0, 300]
    assert convert({"new_dtype": "int32"}, x).error.tolist() == [0.0, np.inf, 0.0, 0.0]
    assert convert({"new_dtype": "uint8"}, x).value.tolist() == [1, 1, 0, 255]
    assert convert({"new_dtype": "bfloat16"}, x).error is x.error
    assert convert({"new_dtype": "float32"}, of([3, 4], [0.0, np.inf])).error.tolist() == [0.0, np.inf]
    truth = convert({"new_dtype": "bool"}, of([0.0, 0.5, 0.5], [0.0, 0.5, 0.25]))
    assert (truth.value.tolist(), truth.error.tolist()) == ([False, True, True], [0.0, 1.0, 0.0])
    assert convert({"new_dtype": "int32"}, of([1.75], None)).error is None


def test_what_is_finite_is_certain():
    out = STEPS_AND_CORNERS["is_finite"]({}, of([1.0, np.inf, np.nan], [1.0, 0.0, 0.0]))
    assert (out.value.tolist(), out.error) == ([True, False, False], None)
