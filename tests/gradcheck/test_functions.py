"""Every function of numbers that has a bound: it covers what 40 digits give, and is not much wider."""

import itertools

import mpmath
import numpy as np
import pytest

from jaxnn.gradcheck.bounds.bounded import UNIT, VARIES, Bounded
from jaxnn.gradcheck.bounds.functions import FUNCTIONS

COUNT = 24


def line(rng):
    return rng.normal(size=COUNT) * 10.0 ** rng.uniform(-2, 2, COUNT)


def moderate(rng):
    return rng.uniform(-6, 6, COUNT)


def positive(rng):
    return np.abs(line(rng)) + 1e-3


def above_minus_one(rng):
    return positive(rng) - 0.9


def within_one(rng):
    return rng.uniform(-0.97, 0.97, COUNT)


def above_one(rng):
    return 1.02 + positive(rng)


def few(rng):
    return rng.uniform(0.3, 3, COUNT) * rng.choice([-1, 1], COUNT)


EXACT = {
    # name: (what it is, in numbers of any precision; where its arguments come from)
    "exp": (mpmath.exp, moderate),
    "exp2": (lambda x: mpmath.mpf(2) ** x, moderate),
    "expm1": (mpmath.expm1, moderate),
    "log": (mpmath.log, positive),
    "log1p": (lambda x: mpmath.log(1 + x), above_minus_one),
    "log2": (lambda x: mpmath.log(x) / mpmath.log(2), positive),
    "logistic": (lambda x: 1 / (1 + mpmath.exp(-x)), line),
    "tanh": (mpmath.tanh, moderate),
    "sqrt": (mpmath.sqrt, positive),
    "rsqrt": (lambda x: 1 / mpmath.sqrt(x), positive),
    "cbrt": (mpmath.cbrt, positive),
    "square": (lambda x: x * x, line),
    "one_minus_square": (lambda x: 1 - x * x, within_one),
    "sin": (mpmath.sin, moderate),
    "cos": (mpmath.cos, moderate),
    "tan": (mpmath.tan, moderate),
    "asin": (mpmath.asin, within_one),
    "acos": (mpmath.acos, within_one),
    "atan": (mpmath.atan, line),
    "sinh": (mpmath.sinh, moderate),
    "cosh": (mpmath.cosh, moderate),
    "asinh": (mpmath.asinh, line),
    "acosh": (mpmath.acosh, above_one),
    "atanh": (mpmath.atanh, within_one),
    "erf": (mpmath.erf, few),
    "erfc": (mpmath.erfc, few),
    "bessel_i0e": (lambda x: mpmath.exp(-abs(x)) * mpmath.besseli(0, x), line),
    "neg": (lambda x: -x, line),
    "abs": (abs, line),
    "add": (lambda x, y: x + y, line, line),
    "add_any": (lambda x, y: x + y, line, line),
    "sub": (lambda x, y: x - y, line, line),
    "mul": (lambda x, y: x * y, line, line),
    "div": (lambda x, y: x / y, line, line),
    "pow": (lambda x, y: x**y, positive, few),
    "polynomial": (lambda x, c, b, a: c + x * (b + x * a), within_one, few, few, few),
    "atan2": (mpmath.atan2, line, few),
    **{f"integer_pow {n}": (lambda x, n=n: x**n, few) for n in (-3, -2, -1, 0, 1, 2, 5)},
}
TWO_OF_THE_TRUTH = {"xor": np.bitwise_xor, "not": np.invert}


def rule_of(name):
    """x, y, … with bounds → the output with its bound."""
    kind, _, power = name.partition(" ")

    def applied(*inputs):
        with np.errstate(all="ignore"):
            return FUNCTIONS[kind]({"y": int(power)} if power else {}, *inputs)

    return applied


def test_every_rule_is_looked_at():
    assert {n.partition(" ")[0] for n in EXACT} | set(TWO_OF_THE_TRUTH) == set(FUNCTIONS)


def furthest(name, inputs, errors, value):
    """How far the exact values are from this one, the arguments moved by all of their errors."""
    function = EXACT[name][0]
    reach = np.zeros(value.shape)
    with mpmath.workdps(40):
        for k, v in enumerate(value):
            for signs in itertools.product((-1, 0, 0.7, 1), repeat=len(inputs)):
                at = [mpmath.mpf(x[k]) + s * mpmath.mpf(e[k])
                      for x, e, s in zip(inputs, errors, signs, strict=True)]  # fmt: skip
                reach[k] = max(reach[k], float(abs(mpmath.mpf(v) - function(*at))))
    return reach


WIDER = {"atan2": np.inf, "polynomial": 1.6}  # of two errors that reach the result together


def test_an_angle_is_off_by_no_more_than_the_place_is():
    y, x, e = (
        np.array([3.0, 0.0, -300.0, 1e-3]),
        np.array([4.0, 50.0, 1.0, 1e-3]),
        np.array([1e-3, 1.0, 2.0, 1e-2]),
    )
    out = rule_of("atan2")(Bounded(y, e, True), Bounded(x, None, True))
    reach = furthest("atan2", [y, x], [e, np.zeros(4)], out.value)
    assert np.isinf(out.error).tolist() == [False, False, False, True]
    assert np.all(reach <= out.error)
    away = np.hypot(x, y)[:3]
    assert np.all(out.error[:3] <= e[:3] / (away - e[:3]) + 1e-15)
    assert out.error[1] <= 1.1 * reach[1]


def test_an_angle_near_its_cut_may_be_the_other_way_round():
    y, x, e = np.array([1e-9]), np.array([-5.0]), np.array([1e-6])
    out = rule_of("atan2")(Bounded(y, e, True), Bounded(x, None, True))
    assert np.all(furthest("atan2", [y, x], [e, np.zeros(1)], out.value) <= out.error)


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("relative", [None, 1e-9, 1e-3])
def test_a_bound_covers_what_is_exact_and_is_narrow(name, relative):
    rng = np.random.default_rng(4)
    inputs = [place(rng) for place in EXACT[name][1:]]
    errors = [np.zeros(COUNT) if relative is None else relative * np.abs(x) * rng.uniform(0.3, 1, COUNT)
              for x in inputs]  # fmt: skip
    given = [Bounded(x, None if relative is None else e, True) for x, e in zip(inputs, errors, strict=True)]
    out = rule_of(name)(*given)
    error = np.zeros(COUNT) if out.error is None else out.error
    reach = furthest(name, inputs, errors, out.value)
    assert np.all(reach <= error * (1 + 1e-12))
    rounded = 40 * UNIT * np.maximum(np.abs(out.value), 1e-3)
    assert np.all(error <= WIDER.get(name, 1.2) * reach + rounded)
    assert out.active


ROUNDED = {"neg", "abs", "add", "add_any", "sub", "mul", "div", "polynomial", "sqrt", "square"}


@pytest.mark.parametrize("name", [n for n in EXACT if " " not in n and n not in ROUNDED])
def test_a_library_function_may_be_off_by_one_unit_in_the_last_place(name):
    """As the C libraries allow themselves; only what IEEE 754 rounds may be off by half of one."""
    rng = np.random.default_rng(5)
    out = rule_of(name)(*(Bounded(place(rng), None, True) for place in EXACT[name][1:]))
    assert np.all(out.error >= np.spacing(np.abs(out.value)))


@pytest.mark.parametrize("name", ["add", "sub", "mul", "div"])
def test_the_rounding_of_arithmetic_is_known_almost_exactly(name):
    rng = np.random.default_rng(6)
    x, y = 1 + rng.random(300) / 4, rng.random(300)
    ulps = np.full(300, VARIES)
    out = rule_of(name)(Bounded(x, ulps, True), Bounded(y, ulps, True))
    reach = np.array([furthest(name, [x[k : k + 1], y[k : k + 1]], [ulps, ulps], out.value[k : k + 1])[0]
                      for k in range(300)])  # fmt: skip
    assert np.all(reach <= out.error)
    assert np.max(reach / out.error) > 0.8


@pytest.mark.parametrize("sign", [1, -1])
def test_a_sum_of_two_exact_numbers_knows_its_rounding(sign):
    rng = np.random.default_rng(7)
    x, y = rng.normal(size=(2, 50)) * 10.0 ** rng.integers(-9, 9, (2, 50))
    name = "add" if sign > 0 else "sub"
    out = rule_of(name)(Bounded(x, None, False), Bounded(y, None, True))
    assert np.array_equal(out.error, furthest(name, [x, y], [np.zeros(50)] * 2, out.value))
    assert rule_of(name)(Bounded(np.array(0.5), None, True), Bounded(np.array(3.0), None, True)).error is None


def test_what_fits_into_53_digits_is_exact():
    short, long = np.array([1.5, -0.375, 8191.0]), np.array([0.1, 0.7, 1e9 / 7])
    for name in ("mul", "div"):
        assert rule_of(name)(Bounded(short, None, True), Bounded(short[::-1], None, True)).error is None or (
            name == "div"
        )
        assert np.all(rule_of(name)(Bounded(long, None, True), Bounded(long[::-1], None, True)).error > 0)
        assert np.all(rule_of(name)(Bounded(short, None, True), Bounded(long, None, True)).error > 0)
    assert rule_of("div")(Bounded(short, None, True), Bounded(np.array(0.25), None, True)).error is None
    third = rule_of("div")(Bounded(np.array([1.0]), None, True), Bounded(np.array([3.0]), None, True))
    with mpmath.workdps(40):
        assert 0 < abs(mpmath.mpf(third.value[0]) - mpmath.mpf(1) / 3) <= third.error[0] <= UNIT


POLES = {
    # name: (a point, how far its pole or its domain's end is)
    "log": (1.0, 1.0),
    "log1p": (0.5, 1.5),
    "log2": (1.0, 1.0),
    "rsqrt": (1.0, 1.0),
    "cbrt": (-0.5, 0.5),
    "tan": (1.25, 0.32),
    "asin": (-0.75, 0.25),
    "acos": (0.75, 0.25),
    "acosh": (1.5, 0.5),
    "atanh": (-0.75, 0.25),
    "integer_pow -2": (-0.5, 0.5),
    "integer_pow -1": (0.5, 0.5),
    "pow": (1.0, 1.0),
}


@pytest.mark.parametrize("name", POLES)
def test_a_pole_that_may_be_reached_leaves_nothing_known(name):
    at, far = POLES[name]
    exponent = [Bounded(np.full(2, -1.5), None, False)] if name == "pow" else []
    out = rule_of(name)(Bounded(np.full(2, at), far * np.array([0.9, 1.1]), True), *exponent)
    assert np.isinf(out.error).tolist() == [False, True]


def test_a_quotient_by_what_may_be_zero_is_unbounded_but_for_zero():
    b = Bounded(np.array([1e-3, -1e-3, 2.0, 1e-3]), np.array([1e-3, 2e-3, 0.5, 0.0]), True)
    a = Bounded(np.array([1.0, 1.0, 1.0, 0.0]), np.array([0.0, 0.0, 0.5, 0.0]), True)
    error = rule_of("div")(a, b).error
    assert np.isinf(error[:2]).all()
    assert 1.0 - 0.5 <= error[2] <= (0.5 * 0.5 + 0.5) / 1.5 + 1e-12
    assert error[3] == 0.0


def test_a_root_whose_argument_may_be_zero_is_bounded():
    x, e = np.array([0.0, 1e-12, 1e-4, 1.0]), np.array([1e-6, 1e-6, 1e-4, 1e-3])
    out = rule_of("sqrt")(Bounded(x, e, True))
    furthest_away = np.maximum(np.sqrt(x + e) - np.sqrt(x), np.sqrt(x) - np.sqrt(np.maximum(x - e, 0)))
    assert np.all(furthest_away <= out.error)
    assert np.all(out.error <= 1.01 * furthest_away + 2 * UNIT)


def test_a_power_of_what_may_be_zero_is_bounded():
    x, e = np.array([0.0, 1e-3, 1e-3]), np.array([1e-2, 1e-3, 1e-2])
    out = rule_of("pow")(Bounded(x, e, True), Bounded(np.full(3, 1.5), None, False))
    assert np.all((x + e) ** 1.5 - x**1.5 <= out.error)
    assert np.all(out.error <= (x + e) ** 1.5 * (1 + 1e-12))


def test_an_exponent_that_is_not_exact_counts_with_the_logarithm():
    x, y = np.array([5.0, 0.2]), np.array([1.5, 2.5])
    out = rule_of("pow")(Bounded(x, None, True), Bounded(y, np.full(2, 1e-6), True))
    reach = x**y * np.abs(np.log(x)) * 1e-6
    assert np.all(reach <= out.error)
    assert np.all(out.error <= 1.001 * reach)


def test_no_error_is_no_error_on_an_infinite_slope():
    zero = Bounded(np.zeros(2), np.array([0.0, 1e-9]), True)
    assert (np.isinf(rule_of("sqrt")(zero).error)).tolist() == [False, False]
    infinite = Bounded(np.array([np.inf, 1.0]), np.array([0.0, np.inf]), True)
    error = rule_of("mul")(infinite, Bounded(np.array([2.0, 2.0]), None, True)).error
    assert error.tolist() == [0.0, np.inf]


@pytest.mark.parametrize(("name", "x"), [("log", 0.0), ("log1p", -1.0)])
def test_an_infinity_of_a_function_at_its_pole_is_exact(name, x):
    with np.errstate(divide="ignore"):
        exact = rule_of(name)(Bounded(np.array([x]), np.zeros(1), True))
        doubtful = rule_of(name)(Bounded(np.array([x]), np.array([1e-9]), True))
    assert (exact.value[0], doubtful.error[0]) == (-np.inf, np.inf)


@pytest.mark.parametrize("name", TWO_OF_THE_TRUTH)
def test_truth_values_in_doubt_stay_in_doubt(name):
    a = Bounded(np.array([True, False, True]), np.array([0.0, 1.0, 0.0]), True)
    inputs = (a,) if name == "not" else (a, Bounded(np.array([True, True, False]), None, False))
    out = FUNCTIONS[name]({}, *inputs)
    np.testing.assert_array_equal(out.value, TWO_OF_THE_TRUTH[name](*(x.value for x in inputs)))
    assert out.error.tolist() == [0.0, 1.0, 0.0]


@pytest.mark.parametrize("name", ["add", "sub", "mul", "neg", "abs", "square", "integer_pow 2"])
def test_whole_numbers_are_exact_or_not_known_at_all(name):
    x = np.array([-3, 0, 7])
    inputs = [x, x[::-1]] if name in ("add", "sub", "mul") else [x]
    assert rule_of(name)(*(Bounded(v, None, True) for v in inputs)).error is None
    doubt = Bounded(x, np.array([0.0, np.inf, 0.0]), True)
    out = rule_of(name)(doubt, *(Bounded(v, None, True) for v in inputs[1:]))
    assert out.error.tolist() == [0.0, np.inf, 0.0]
    assert out.value.tolist() == [int(EXACT[name][0](*map(int, at))) for at in zip(*inputs, strict=True)]
