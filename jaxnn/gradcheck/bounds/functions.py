"""Error bounds of functions of numbers: sums, products, powers, and the smooth ones."""

import math
from collections.abc import Callable

import numpy as np

from jaxnn.gradcheck.bounds.bounded import (
    TINY,
    UNIT,
    error_of,
    in_single,
    integral,
    is_float,
    nearest,
    rounding,
    settled,
    stretched,
)
from jaxnn.gradcheck.jaxprs.primitives import PRIMITIVES


def add(sign: int):
    """The rule of a + b (sign 1) or a − b (sign −1)."""

    def rule(params, a, b):
        value = a.value + b.value if sign > 0 else a.value - b.value
        if not is_float(value):
            return integral(value, a, b)
        if a.error is None and b.error is None:
            first, second = a.value, sign * b.value  # Knuth's TwoSum: the rounding itself
            virtual = value - first
            residual = np.abs((first - (value - virtual)) + (second - virtual))
            return settled(value, residual if residual.any() else None, a, b)
        return settled(value, error_of(a) + error_of(b) + UNIT * np.abs(value), a, b)

    return rule


def mul(params, a, b):
    """The rule of a · b."""
    value = a.value * b.value
    if not is_float(value):
        return integral(value, a, b)
    if a.error is b.error is None and in_single(a.value).all() and in_single(b.value).all():
        return settled(value, None, a, b)  # 24 + 24 digits fit into 53
    error = rounding(value, 1, a.value, b.value)
    if b.error is not None:
        error = error + stretched(np.abs(a.value), b.error)
    if a.error is not None:
        error = error + stretched(np.abs(b.value) + error_of(b), a.error)
    return settled(value, error, a, b)


def _div(params, a, b):
    value = a.value / b.value
    known = a.error is b.error is None and in_single(value).all() and in_single(b.value).all()
    if known and np.array_equal(value * b.value, a.value):
        return settled(value, None, a, b)
    error = rounding(value, 1, a.value)
    if a.error is not None or b.error is not None:
        least = np.abs(b.value) - error_of(b)
        share = np.abs(value) * error_of(b) + error_of(a)
        if np.min(least, initial=np.inf) > 0:
            error = error + share / least
        else:
            error = error + np.where(share == 0, 0.0, np.where(least > 0, share / least, np.inf))
    return settled(value, error, a, b)


def _lifted(function):
    """A function of integers or truth values only."""
    return lambda params, *inputs: integral(np.asarray(function(*(x.value for x in inputs))), *inputs)


# Smooth functions of one number: |f(x ± e) − f(x)| ≤ e · max |f′| over the interval


def _bell(x, e):
    q = np.exp(-nearest(x, e))
    return q / (1 + q) ** 2


def _root_slope(x, e):
    return np.minimum(0.5 / np.sqrt(np.maximum(x - e, 0.0)), 1.0 / np.sqrt(e))


def _pole(distance):
    return np.where(distance > 0, 1.0 / distance, np.inf)


def _fall(x, e):
    """|f′| of f = e^(−|x|) I₀(x) is f − e^(−|x|) I₁(|x|), and falls with |x|."""
    from scipy.special import i0e, i1e

    least = nearest(x, e)
    return i0e(least) * (1 + 16 * UNIT) - i1e(least)


BELL = 2 / math.sqrt(math.pi)
SMOOTH: dict[str, tuple[Callable, float]] = {
    # name: (max |f′| over [x − e, x + e], ulps of f itself)
    "exp": (lambda x, e: np.exp(x + e), 4),
    "exp2": (lambda x, e: math.log(2) * np.exp2(x + e), 4),
    "expm1": (lambda x, e: np.exp(x + e), 4),
    "log": (lambda x, e: _pole(x - e), 4),
    "log1p": (lambda x, e: _pole(1 + x - e), 4),
    "log2": (lambda x, e: _pole(x - e) / math.log(2), 4),
    "logistic": (_bell, 8),
    "tanh": (lambda x, e: 4 * _bell(2 * x, 2 * e), 4),
    "sqrt": (_root_slope, 1),
    "rsqrt": (lambda x, e: 0.5 * _pole(x - e) ** 1.5, 3),
    "cbrt": (lambda x, e: _pole(nearest(x, e)) ** (2 / 3) / 3, 4),
    "square": (lambda x, e: 2 * (np.abs(x) + e), 1),
    "one_minus_square": (lambda x, e: 2 * (np.abs(x) + e), 4),
    "sin": (lambda x, e: np.minimum(1.0, np.abs(np.cos(x)) + e), 4),
    "cos": (lambda x, e: np.minimum(1.0, np.abs(np.sin(x)) + e), 4),
    "tan": (lambda x, e: _pole(np.abs(np.cos(x)) - e) ** 2, 8),
    "asin": (lambda x, e: _pole(1 - (np.abs(x) + e) ** 2) ** 0.5, 4),
    "acos": (lambda x, e: _pole(1 - (np.abs(x) + e) ** 2) ** 0.5, 4),
    "atan": (lambda x, e: 1 / (1 + nearest(x, e) ** 2), 4),
    "sinh": (lambda x, e: np.cosh(np.abs(x) + e), 4),
    "cosh": (lambda x, e: np.sinh(np.abs(x) + e), 4),
    "asinh": (lambda x, e: 1 / np.sqrt(1 + nearest(x, e) ** 2), 4),
    "acosh": (lambda x, e: _pole((x - e) ** 2 - 1) ** 0.5, 4),
    "atanh": (lambda x, e: _pole(1 - (np.abs(x) + e) ** 2), 4),
    "erf": (lambda x, e: BELL * np.exp(-(nearest(x, e) ** 2)), 8),
    "bessel_i0e": (_fall, 16),
    "erfc": (lambda x, e: BELL * np.exp(-(nearest(x, e) ** 2)), 32),
}


def _smooth(function, slope, ulps):
    """The rule of a function, given the bound on its slope and its own error in ulps."""

    def rule(params, x):
        value = function(x.value)
        if not is_float(value):
            return integral(value, x)
        error = rounding(value, ulps)
        if np.any(np.isinf(value)):  # log 0 and exp(-inf) are what they are
            error = np.where(np.isinf(value) & (error_of(x) == 0) & (np.abs(x.value) < 1), 0.0, error)
        if x.error is not None:
            error = error + stretched(slope(x.value, x.error), x.error)
        return settled(value, error, x)

    return rule


def _signed(function):
    """Another sign, the same error."""
    return lambda params, x: (
        integral(function(x.value), x) if not is_float(x.value) else x._replace(value=function(x.value))
    )


def _integer_pow(params, x):
    n = params["y"]
    value = x.value**n if n >= 0 or not is_float(x.value) else 1.0 / x.value ** abs(n)
    if not is_float(value):
        return integral(value, x)
    extreme = np.abs(x.value) + error_of(x) if n >= 1 else nearest(x.value, error_of(x))
    power = extreme ** (n - 1) if n >= 1 else _pole(extreme) ** (1 - n)
    error = rounding(value, 4 + abs(n), x.value)
    return settled(value, error + stretched(abs(n) * power, np.asarray(error_of(x))), x)


def _pow(params, x, y):
    base, exponent = x.value, y.value.astype(np.float64)
    value = np.power(base, exponent)
    size, e = np.abs(base), error_of(x)
    reach = np.where(e < size, -np.log1p(-np.minimum(e / size, 1.0)), np.inf)
    reach = np.where(np.broadcast_to(e == 0, np.shape(reach)), 0.0, reach)
    relative = stretched(reach, np.abs(exponent))
    if y.error is not None:
        relative = relative + stretched(np.abs(np.log(size)) + reach, y.error)
    error = stretched(np.abs(value), np.expm1(relative))
    at_zero = (size <= e) & (exponent > 0)  # xʸ from 0 to (|x| + e)ʸ
    error = np.where(at_zero, (size + e) ** exponent, error)
    return settled(value, error + rounding(value, 8, size), x, y)


def _polynomial(params, x, *coefficients):
    """c₀ + c₁ x + c₂ x² + …, by Horner."""
    total = coefficients[-1]
    for c in coefficients[-2::-1]:
        total = add(1)({}, mul({}, total, x), c)
    return total


def _atan2(params, y, x):
    value = np.arctan2(y.value, x.value)
    e = np.hypot(error_of(x), error_of(y))
    reach = np.hypot(x.value, y.value) - e
    error = np.where(e == 0, 0.0, np.where(reach > 0, e / np.maximum(reach, TINY), np.inf))
    cut = (np.abs(y.value) < error_of(y)) & (x.value < error_of(x))  # beyond it lies the same angle less 2π
    error = np.where(cut, np.maximum(error, 2 * np.pi), error)
    return settled(value, error + rounding(value, 4), x, y)


FUNCTIONS: dict[str, Callable] = {
    **{name: _smooth(PRIMITIVES[name].plain, *row) for name, row in SMOOTH.items()},
    "neg": _signed(np.negative),
    "abs": _signed(np.abs),
    "add": add(1),
    "add_any": add(1),
    "sub": add(-1),
    "mul": mul,
    "div": _div,
    "integer_pow": _integer_pow,
    "pow": _pow,
    "polynomial": _polynomial,
    "atan2": _atan2,
    "xor": _lifted(np.bitwise_xor),
    "not": _lifted(np.invert),
}
