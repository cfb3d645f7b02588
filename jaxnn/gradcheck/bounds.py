"""Running-error bounds: a jaxpr interpreted with (value, bound on the value's error) at every step.

Everything is computed in NumPy in float64, whatever precision the code asks for, so nothing is
compiled. The bound is against exact real arithmetic on the same inputs: two programs that compute
the same function give values that differ by no more than the sum of their bounds.

Source: N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.3.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import Literal

from jaxnn.gradcheck.jaxprs import line_of, opened, primitives, scan_counts

UNIT = 2.0**-53  # the unit roundoff of float64
TINY = 5e-324  # the smallest float64: what underflow costs
VARIES = 1e-300  # the error of a differentiated argument: what has none does not vary with it
NORMAL = 2.3e-308  # below this, rounding is no longer relative
STEPS = 50_000  # equations, all turns of all loops together


class Bounded(NamedTuple):
    """A value and a bound on its error. A truth value with error 1 may be either.

    error: None where all of it is exactly known; active: it depends on a differentiated argument.
    """

    value: Any
    error: np.ndarray | None
    active: bool


class Note(NamedTuple):
    """Something met on the way: kind is "unknown", "kink", "pinned" or "callback"."""

    kind: str
    what: str
    where: str


class TooLong(Exception):
    """The loops of a program run for more steps than an interpreter should take."""


class Reading(NamedTuple):
    """How a program is read: what is noted, and the precision below which a pin is obeyed."""

    notes: dict[Note, int]
    obeyed: float  # roundings coarser than this machine epsilon are carried out; inf: none
    plans: dict[int, tuple]
    draws: dict[int, tuple]
    expanded: dict[int, tuple]
    steps: list[int]


def _e(x: Bounded):
    return 0.0 if x.error is None else x.error


def _is_float(x) -> bool:
    return isinstance(x, np.ndarray | np.generic) and x.dtype.kind == "f"


def _times(slope, error):
    """slope · error, where no error is no error even on an infinite slope."""
    return np.where(error == 0, 0.0, slope * error)


def _rounded(value, ulps: int | float, live=None):
    """What rounding to nearest costs; `live`: where a zero may be an underflow."""
    out = (ulps * UNIT) * np.abs(value)
    small = np.abs(value) < NORMAL
    if small.any():
        live = value != 0 if live is None else live
        out = np.where(small & live, out + ulps * TINY, out)
    return out


def _extends(x, y) -> bool:
    """Whether x broadcasts to the shape of y."""
    small, large = np.shape(x)[::-1], np.shape(y)[::-1]
    return len(small) <= len(large) and all(m in (1, n) for m, n in zip(small, large, strict=False))


def _settled(value, error, *inputs: Bounded) -> Bounded:
    """Clean the bound: not a number means unbounded; an infinity handed on is exact."""
    active = any(x.active for x in inputs)
    if error is None:
        return Bounded(value, None, active)
    error = np.broadcast_to(error, np.shape(value))
    if not np.isfinite(value).all():
        given = np.zeros(np.shape(value), bool)
        for x in inputs:
            if _is_float(x.value):
                known = np.isinf(x.value) & (_e(x) == 0)
                given |= known if _extends(known, given) else known.any()
        error = np.where(np.isinf(value), np.where(given, 0.0, np.inf), error)
        error = np.where(np.isnan(value), np.inf, error)
    if np.isnan(error).any():
        error = np.where(np.isnan(error), np.inf, error)
    return Bounded(value, error, active)


def _fits(x) -> bool:
    """Whether all of it are float32 numbers."""
    return bool(np.array_equal(np.asarray(x, np.float32).astype(np.float64), x))


# Sums and products


def _add(sign: int):
    def rule(params, a, b):
        value = a.value + b.value if sign > 0 else a.value - b.value
        if not _is_float(value):
            return _integral(value, a, b)
        if a.error is None and b.error is None:
            first, second = a.value, sign * b.value  # Knuth's TwoSum: the rounding itself
            virtual = value - first
            residual = np.abs((first - (value - virtual)) + (second - virtual))
            return _settled(value, residual if residual.any() else None, a, b)
        return _settled(value, _e(a) + _e(b) + UNIT * np.abs(value), a, b)

    return rule


def _mul(params, a, b):
    value = a.value * b.value
    if not _is_float(value):
        return _integral(value, a, b)
    if a.error is b.error is None and _fits(a.value) and _fits(b.value):
        return _settled(value, None, a, b)  # 24 + 24 digits fit into 53
    size_a, size_b = np.abs(a.value), np.abs(b.value)
    error = _rounded(value, 1, (size_a != 0) & (size_b != 0))
    if b.error is not None:
        error = error + _times(size_a, b.error)
    if a.error is not None:
        error = error + _times(size_b + _e(b), a.error)
    return _settled(value, error, a, b)


def _div(params, a, b):
    value = a.value / b.value
    known = a.error is b.error is None and _fits(value) and _fits(b.value)
    if known and np.array_equal(value * b.value, a.value):
        return _settled(value, None, a, b)
    error = _rounded(value, 1, a.value != 0)
    if a.error is not None or b.error is not None:
        least = np.abs(b.value) - _e(b)
        share = np.abs(value) * _e(b) + _e(a)
        error = error + np.where(share == 0, 0.0, np.where(least > 0, share / least, np.inf))
    return _settled(value, error, a, b)


def _integral(value, *inputs: Bounded) -> Bounded:
    """A result in integers or truth values: exact, unless an input may be another one."""
    active = any(x.active for x in inputs)
    doubt = [x.error for x in inputs if x.error is not None]
    if not any(np.any(d) for d in doubt):
        return Bounded(value, None, active)
    doubtful = np.zeros(np.shape(value), bool)
    for d in doubt:
        doubtful = doubtful | ((d > 0) if _extends(d, doubtful) else np.any(d > 0))
    return Bounded(value, np.where(doubtful, 1.0 if value.dtype == bool else np.inf, 0.0), active)


def _lifted(function):
    """A function of integers or truth values only."""
    return lambda params, *inputs: _integral(np.asarray(function(*(x.value for x in inputs))), *inputs)


# Smooth functions of one number: |f(x ± e) − f(x)| ≤ e · max |f′| over the interval


def _nearest(x, e):
    return np.maximum(np.abs(x) - e, 0.0)


def _logistic(x):
    q = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, q) / (1.0 + q)


def _bell(x, e):
    q = np.exp(-_nearest(x, e))
    return q / (1 + q) ** 2


def _root_slope(x, e):
    return np.minimum(0.5 / np.sqrt(np.maximum(x - e, 0.0)), 1.0 / np.sqrt(e))


def _pole(distance):
    return np.where(distance > 0, 1.0 / distance, np.inf)


SMOOTH: dict[str, tuple[Callable, Callable, float]] = {
    # name: (f, max |f′| over [x − e, x + e], ulps of f itself)
    "neg": (np.negative, lambda x, e: 1.0, 0),
    "abs": (np.abs, lambda x, e: 1.0, 0),
    "exp": (np.exp, lambda x, e: np.exp(x + e), 4),
    "exp2": (np.exp2, lambda x, e: math.log(2) * np.exp2(x + e), 4),
    "expm1": (np.expm1, lambda x, e: np.exp(x + e), 4),
    "log": (np.log, lambda x, e: _pole(x - e), 4),
    "log1p": (np.log1p, lambda x, e: _pole(1 + x - e), 4),
    "log2": (np.log2, lambda x, e: _pole(x - e) / math.log(2), 4),
    "logistic": (_logistic, _bell, 8),
    "tanh": (np.tanh, lambda x, e: 4 * _bell(2 * x, 2 * e), 4),
    "sqrt": (np.sqrt, _root_slope, 1),
    "rsqrt": (lambda x: 1 / np.sqrt(x), lambda x, e: 0.5 * _pole(x - e) ** 1.5, 3),
    "cbrt": (np.cbrt, lambda x, e: _pole(_nearest(x, e)) ** (2 / 3) / 3, 4),
    "square": (np.square, lambda x, e: 2 * (np.abs(x) + e), 1),
    "one_minus_square": (lambda x: (1 - x) * (1 + x), lambda x, e: 2 * (np.abs(x) + e), 4),
    "sin": (np.sin, lambda x, e: np.minimum(1.0, np.abs(np.cos(x)) + e), 4),
    "cos": (np.cos, lambda x, e: np.minimum(1.0, np.abs(np.sin(x)) + e), 4),
    "tan": (np.tan, lambda x, e: _pole(np.abs(np.cos(x)) - e) ** 2, 8),
    "asin": (np.arcsin, lambda x, e: _pole(1 - (np.abs(x) + e) ** 2) ** 0.5, 4),
    "acos": (np.arccos, lambda x, e: _pole(1 - (np.abs(x) + e) ** 2) ** 0.5, 4),
    "atan": (np.arctan, lambda x, e: 1 / (1 + _nearest(x, e) ** 2), 4),
    "sinh": (np.sinh, lambda x, e: np.cosh(np.abs(x) + e), 4),
    "cosh": (np.cosh, lambda x, e: np.sinh(np.abs(x) + e), 4),
    "asinh": (np.arcsinh, lambda x, e: 1 / np.sqrt(1 + _nearest(x, e) ** 2), 4),
    "acosh": (np.arccosh, lambda x, e: _pole((x - e) ** 2 - 1) ** 0.5, 4),
    "atanh": (np.arctanh, lambda x, e: _pole(1 - (np.abs(x) + e) ** 2), 4),
}
BELL = 2 / math.sqrt(math.pi)
COMPILED: dict[str, tuple[Callable, float]] = {
    # the same, for functions NumPy has not got: name: (max |f′|, ulps)
    "erf": (lambda x, e: BELL * np.exp(-(_nearest(x, e) ** 2)), 8),
    "erfc": (lambda x, e: BELL * np.exp(-(_nearest(x, e) ** 2)), 32),
}


def _smooth(function, slope, ulps):
    def rule(params, x):
        value = function(x.value)
        if not _is_float(value):
            return _integral(value, x)
        if x.error is None and ulps == 0:
            return _settled(value, None, x)
        error = _rounded(value, ulps)
        if np.any(np.isinf(value)):  # log 0 and exp(-inf) are what they are
            error = np.where(np.isinf(value) & (_e(x) == 0) & (np.abs(x.value) < 1), 0.0, error)
        if x.error is not None:
            error = error + _times(slope(x.value, x.error), x.error)
        return _settled(value, error, x)

    return rule


def _integer_pow(params, x):
    n = params["y"]
    value = (
        x.value**n if n >= 0 or not _is_float(x.value) else 1.0 / x.value ** abs(n)
    )  # x**n, exact in its exponent
    if not _is_float(value):
        return _integral(value, x)
    extreme = np.abs(x.value) + _e(x) if n >= 1 else _nearest(x.value, _e(x))
    power = extreme ** (n - 1) if n >= 1 else _pole(extreme) ** (1 - n)
    error = _rounded(value, 4 + abs(n), x.value != 0)
    return _settled(value, error + _times(abs(n) * power, np.asarray(_e(x))), x)


def _pow(params, x, y):
    base, exponent = x.value, y.value.astype(np.float64)
    value = np.power(base, exponent)
    size, e = np.abs(base), _e(x)
    reach = np.where(e < size, -np.log1p(-np.minimum(e / size, 1.0)), np.inf)
    reach = np.where(np.broadcast_to(e == 0, np.shape(reach)), 0.0, reach)
    relative = _times(reach, np.abs(exponent))
    if y.error is not None:
        relative = relative + _times(np.abs(np.log(size)) + reach, y.error)
    error = _times(np.abs(value), np.expm1(relative))
    at_zero = (size <= e) & (exponent > 0)  # xʸ from 0 to (|x| + e)ʸ
    error = np.where(at_zero, (size + e) ** exponent, error)
    return _settled(value, error + _rounded(value, 8, size != 0), x, y)


def _polynomial(params, x, *coefficients):
    """c₀ + c₁ x + c₂ x² + …, by Horner."""
    total = coefficients[-1]
    for c in coefficients[-2::-1]:
        total = _add(1)({}, _mul({}, total, x), c)
    return total


def _atan2(params, y, x):
    value = np.arctan2(y.value, x.value)
    e = np.hypot(_e(x), _e(y))
    reach = np.hypot(x.value, y.value) - e
    error = np.where(e == 0, 0.0, np.where(reach > 0, e / np.maximum(reach, TINY), np.inf))
    return _settled(value, error + _rounded(value, 4), x, y)


# Steps and corners


def _compared(function, exact_ties: bool):
    def rule(params, a, b):
        value = np.asarray(function(a.value, b.value))
        if not (_is_float(a.value) and _is_float(b.value)):
            return _integral(value, a, b)
        active = a.active or b.active
        if a.error is None and b.error is None:
            return Bounded(value, None, active)
        gap, slack = np.abs(a.value - b.value), _e(a) + _e(b)
        # the rule of max asks whether it is x that came out: equal is equal
        doubtful = (gap <= slack) & ((gap if exact_ties else slack) > 0)
        return Bounded(value, doubtful.astype(np.float64), active)

    return rule


def _extreme(function, sign: int):
    def rule(params, a, b):
        value = function(a.value, b.value)
        if not _is_float(value):
            return _integral(value, a, b)
        if a.error is None and b.error is None:
            return _settled(value, None, a, b)
        lead = sign * (a.value - b.value)
        slack = _e(a) + _e(b)
        both = np.maximum(_e(a), _e(b))
        error = np.where(lead > slack, _e(a), np.where(-lead > slack, _e(b), both))
        return _settled(value, error, a, b)

    return rule


def _clamp(params, low, x, high):
    return EVERY["min"]({}, EVERY["max"]({}, x, low), high)


def _sign(params, x):
    value = np.sign(x.value)
    if not _is_float(value) or x.error is None:
        return _integral(value, x) if not _is_float(value) else _settled(value, None, x)
    doubtful = (np.abs(x.value) <= x.error) & (x.error > 0)
    return _settled(value, np.where(doubtful, 1.0 + np.abs(value), 0.0), x)


def _stepped(function):
    """floor, ceil, round: the error is the largest jump within reach."""

    def rule(params, x):
        value = function(x.value)
        if x.error is None or not _is_float(value):
            return _integral(value, x) if not _is_float(value) else _settled(value, None, x)
        low, high = function(x.value - x.error), function(x.value + x.error)
        return _settled(value, np.maximum(high - value, value - low), x)

    return rule


def _round(params, x):
    half_even = "EVEN" in str(params.get("rounding_method", "EVEN"))
    away = lambda v: np.where(np.abs(v) % 1 == 0.5, v + np.sign(v) / 2, np.rint(v))  # noqa: E731
    return _stepped(np.rint if half_even else away)(params, x)


def _rem(params, a, b):
    value = np.fmod(a.value, b.value)
    if not _is_float(value):
        return _integral(value, a, b)
    whole = np.abs(np.trunc(a.value / b.value))
    error = _e(a) + _times(whole, np.asarray(_e(b)))
    size = np.abs(value)
    jump = (error > 0) & ((size <= error) | (np.abs(b.value) - size <= error))
    return _settled(value, np.where(jump, np.abs(b.value) + error, error), a, b)


def _select(params, which, *cases):
    index = np.asarray(which.value).astype(np.int64)
    values, errors = [c.value for c in cases], [_e(c) for c in cases]
    exact = all(c.error is None for c in cases)
    active = which.active or any(c.active for c in cases)
    index = np.broadcast_to(index, values[0].shape)
    value, error = values[0], errors[0]
    for k in range(1, len(cases)):
        value = np.where(index == k, values[k], value)
        error = error if exact else np.where(index == k, errors[k], error)
    doubtful = np.zeros((), bool) if which.error is None else which.error > 0
    if exact and not doubtful.any():
        return Bounded(value, None, active)
    if doubtful.any():  # any of the cases may be the right one
        spread = error
        for v, e in zip(values, errors, strict=True):
            if _is_float(v):
                spread = np.maximum(spread, np.where(v == value, 0.0, np.abs(v - value)) + e)
            else:
                spread = np.maximum(spread, np.where(v == value, e, np.inf))
        error = np.where(doubtful, spread, error)
    error = np.where(np.isnan(error), np.inf, error)
    if value.dtype == bool:
        error = np.minimum(error, 1.0)
    elif _is_float(value):
        error = np.where(np.isnan(value), np.inf, error)
    return Bounded(value, np.broadcast_to(error, value.shape), active)


def _convert(params, x):
    target = np.dtype(params["new_dtype"])
    if jnp.issubdtype(target, jnp.floating):
        return Bounded(x.value.astype(np.float64), x.error, x.active)
    if target.kind == "b":
        return EVERY["ne"]({}, x, Bounded(np.zeros((), x.value.dtype), None, False))
    value = x.value.astype(target)
    if x.error is None or not _is_float(x.value):
        return _integral(value, x)
    low, high = np.trunc(x.value - x.error), np.trunc(x.value + x.error)
    return Bounded(value, np.where(low == high, 0.0, np.inf), x.active)


# Reductions and contractions


def _split(x, axis: int, bits: int):
    """x = high + low exactly, high with so many bits beside the largest entry along the axis.

    Also the largest that an entry of low can be. Source: S. M. Rump, T. Ogita, S. Oishi, Accurate
    floating-point summation, SIAM J. Sci. Comput. 31 (2008), section 3.
    """
    _, exponent = np.frexp(np.max(np.abs(x), axis=axis, keepdims=True, initial=0.0))
    shift = np.ldexp(1.5, exponent + (53 - bits))
    high = (x + shift) - shift
    return high, x - high, np.ldexp(1.0, exponent - bits)


def _ordinary(*arrays) -> bool:
    """Far from overflow and underflow, so that splitting is exact."""
    tops = [np.max(np.abs(x), initial=0.0) for x in arrays]
    return all(t == 0 or 1e-120 < t < 1e120 for t in tops)


def _product(a, b):
    """a @ b and a bound on the rounding: the high parts multiply without any."""
    terms = a.shape[-1]
    if terms <= 1 or not _ordinary(a, b):
        value = a @ b
        return value, (terms + 1) * (UNIT * (np.abs(a) @ np.abs(b)) + TINY)
    bits = (55 - (terms - 1).bit_length()) // 2
    high_a, low_a, left_a = _split(a, -1, bits)
    high_b, low_b, left_b = _split(b, -2, bits)
    value = high_a @ high_b + (high_a @ low_b + low_a @ b)
    remainder = np.abs(a).sum(-1, keepdims=True) * left_b
    remainder = remainder + left_a * np.abs(b).sum(-2, keepdims=True)
    return value, 2 * UNIT * np.abs(value) + (terms + 4) * UNIT * remainder


def _spread(a, b):
    """a @ b of bounds, where ∞ · 0 = 0."""
    infinite = np.isinf(a)
    if not infinite.any():
        return a @ b
    reached = infinite.astype(np.float64) @ (b != 0).astype(np.float64)
    return np.where(reached > 0, np.inf, np.where(infinite, 0.0, a) @ b)


def _dot_general(params, a, b):
    (contract_a, contract_b), (batch_a, batch_b) = params["dimension_numbers"]

    def three(x, batch, contract, last: bool):
        batch, contract = list(batch), list(contract)
        free = [d for d in range(x.ndim) if d not in batch and d not in contract]
        order = batch + free + contract if last else batch + contract + free
        shape = lambda dims: [x.shape[d] for d in dims]  # noqa: E731
        size = lambda dims: math.prod(shape(dims))  # noqa: E731
        middle = [size(free), size(contract)] if last else [size(contract), size(free)]
        return (
            lambda v: (
                np.transpose(v, order).reshape([size(batch), *middle])
                if batch
                else np.transpose(v, order).reshape(middle)
            ),
            shape(batch),
            shape(free),
        )

    left, batch, rows = three(a.value, batch_a, contract_a, True)
    right, _, columns = three(b.value, batch_b, contract_b, False)
    first, second = left(a.value), right(b.value)
    back = lambda v: np.reshape(v, [*batch, *rows, *columns])  # noqa: E731
    if not _is_float(first):
        return _integral(back(first @ second), a, b) if a.error is b.error is None else None
    product, error = _product(first, second)
    value = back(product)
    if a.error is not None:  # e_A (|B| + e_B)
        high_b = np.abs(second)
        if b.error is not None:
            high_b = high_b + right(np.broadcast_to(b.error, b.value.shape))
        error = error + _spread(left(np.broadcast_to(a.error, a.value.shape)), high_b)
    if b.error is not None:  # |A| e_B
        flipped = np.swapaxes(right(np.broadcast_to(b.error, b.value.shape)), -1, -2)
        reached = _spread(flipped, np.swapaxes(np.abs(first), -1, -2))
        error = error + np.swapaxes(reached, -1, -2)
    return _settled(value, back(error), a, b)


def _rows(x, axes):
    """x with the axes to be reduced as one, last and contiguous (so NumPy sums it pairwise)."""
    kept = [d for d in range(x.ndim) if d not in axes]
    moved = np.transpose(x, [*kept, *axes])
    return np.ascontiguousarray(moved).reshape([*(x.shape[d] for d in kept), -1])


def _reduce_sum(params, x):
    axes = [int(d) for d in params["axes"]]
    if not axes:
        return x
    rows = _rows(x.value, axes)
    if not _is_float(rows):
        value = np.asarray(rows.sum(-1, dtype=rows.dtype))
        return _integral(value, x) if x.error is None else Bounded(value, value + np.inf, True)
    value, error = _total(rows)
    if x.error is None and np.all(np.rint(rows) == rows) and np.abs(rows).sum() < 2**53:
        return _settled(value, None, x)
    if x.error is not None:
        error = error + _rows(np.broadcast_to(x.error, x.value.shape), axes).sum(-1)
    return _settled(value, error, x)


def _total(rows):
    """The sum along the last axis, and a bound on its rounding; NumPy's own sum is pairwise."""
    terms = rows.shape[-1]
    if terms <= 1 or not _ordinary(rows):
        passed = max(terms - 1, 0)
        return np.asarray(rows.sum(-1)), passed * UNIT * np.abs(rows).sum(-1)
    high, low, left = _split(rows, -1, 54 - (terms - 1).bit_length())
    value = np.asarray(high.sum(-1) + low.sum(-1))
    passed = min(terms, 24 + terms.bit_length())
    return value, 2 * UNIT * np.abs(value) + passed * UNIT * terms * left[..., 0]


def _reduce_extreme(function, sign: int):
    def rule(params, x):
        axes = [int(d) for d in params["axes"]]
        rows = _rows(x.value, axes)
        value = np.asarray(function(rows, -1))
        if not _is_float(value):
            return _integral(value, x) if x.error is None else Bounded(value, value + np.inf, True)
        if x.error is None:
            return _settled(value, None, x)
        errors = _rows(np.broadcast_to(x.error, x.value.shape), axes)
        surely = np.max(sign * rows - errors, -1, keepdims=True)
        contends = sign * rows + errors >= surely
        return _settled(value, np.max(np.where(contends, errors, 0.0), -1), x)

    return rule


def _reduce_prod(params, x):
    rows = _rows(x.value, [int(d) for d in params["axes"]])
    if not _is_float(rows):
        return _integral(np.asarray(rows.prod(-1, dtype=rows.dtype)), x)
    errors = _rows(np.broadcast_to(_e(x), x.value.shape), [int(d) for d in params["axes"]])
    total = Bounded(np.ones(rows.shape[:-1]), None, x.active)
    for k in range(rows.shape[-1]):
        exact = x.error is None
        total = _mul({}, total, Bounded(rows[..., k], None if exact else errors[..., k], x.active))
    return total


def _reduce_logic(function):
    def rule(params, x):
        return _integral(
            np.asarray(function(x.value, axis=tuple(int(d) for d in params["axes"]))),
            Bounded(None, None if x.error is None else np.max(x.error, initial=0.0), x.active),
        )

    return rule


def _arg_extreme(function, sign: int):
    def rule(params, x):
        (axis,) = (int(d) for d in params["axes"])
        value = function(x.value, axis=axis).astype(params["index_dtype"])
        if x.error is None or not _is_float(x.value):
            return _integral(value, x)
        surely = np.max(sign * x.value - x.error, axis, keepdims=True)
        contenders = np.sum(sign * x.value + x.error >= surely, axis)
        return Bounded(value, np.where(contenders > 1, np.inf, 0.0), x.active)

    return rule


def _running(step):
    """cumsum, cumprod, cummax, cummin: the two-argument rule, turn by turn."""

    def rule(params, x):
        axis, turns = params["axis"], range(x.value.shape[params["axis"]])
        errors = None if x.error is None else np.broadcast_to(x.error, x.value.shape)
        total, out = None, []
        for k in reversed(turns) if params["reverse"] else turns:
            part = Bounded(
                np.take(x.value, k, axis),
                None if errors is None else np.take(errors, k, axis),
                x.active,
            )
            total = part if total is None else EVERY[step]({}, total, part)
            out.append(total)
        out = out[::-1] if params["reverse"] else out
        if not out:
            return x
        error = None
        if any(o.error is not None for o in out):
            error = np.stack([np.broadcast_to(_e(o), o.value.shape) for o in out], axis)
        return Bounded(np.stack([o.value for o in out], axis), error, x.active)

    return rule


# Entries moved about


def _moved(function):
    """The same entries elsewhere: their errors go with them."""

    def rule(params, *inputs):
        value = function(params, *(x.value for x in inputs))
        active = any(x.active for x in inputs)
        if all(x.error is None for x in inputs):
            return Bounded(value, None, active)
        errors = (np.broadcast_to(np.asarray(_e(x), float), x.value.shape) for x in inputs)
        return Bounded(value, function(params, *errors), active)

    return rule


def _broadcast_in_dim(params, x, *_):
    shape = [1] * len(params["shape"])
    for d, size in zip(params["broadcast_dimensions"], x.shape, strict=True):
        shape[d] = size
    return np.broadcast_to(x.reshape(shape), params["shape"])


def _slice(params, x):
    strides = params["strides"] or (1,) * x.ndim
    zipped = zip(params["start_indices"], params["limit_indices"], strides, strict=True)
    return x[tuple(slice(*bounds) for bounds in zipped)]


def _expand_dims(params, x):
    return np.expand_dims(x, params["dimensions"])


MOVED: dict[str, Callable] = {
    "broadcast_in_dim": _broadcast_in_dim,
    "reshape": lambda p, x, *_: np.reshape(x, p["new_sizes"]),
    "squeeze": lambda p, x: np.squeeze(x, tuple(int(d) for d in p["dimensions"])),
    "expand_dims": _expand_dims,
    "transpose": lambda p, x: np.transpose(x, p["permutation"]),
    "rev": lambda p, x: np.flip(x, p["dimensions"]),
    "slice": _slice,
    "concatenate": lambda p, *xs: np.concatenate(xs, p["dimension"]),
}


def _same(params, *inputs):
    return inputs[0] if len(inputs) == 1 else list(inputs)


def _apply(equation, values) -> list:
    """The primitive itself, on these values."""
    params = dict(equation.params)
    wide = all(_is_float(v) and v.dtype == np.float64 for v in values)
    if wide and params.get("preferred_element_type") is not None:
        params["preferred_element_type"] = np.dtype(np.float64)
    name, scatter = equation.primitive.name.replace("-", "_"), None
    if name in ("scatter", "scatter_add", "scatter_mul", "scatter_min", "scatter_max"):
        scatter = getattr(lax, name)
    if scatter is not None:
        names = ("dimension_numbers", "indices_are_sorted", "unique_indices", "mode")
        out = scatter(*values, **{n: params[n] for n in names})
    else:
        out = equation.primitive.bind(*values, **equation.primitive.get_bind_params(params))
    out = list(out) if equation.primitive.multiple_results else [out]
    return [_plain(o) for o in out]


def _plain(x):
    """As NumPy, floats as float64; keys of random numbers stay as they are."""
    if jnp.issubdtype(jnp.result_type(x), jax.dtypes.extended):
        return x
    x = np.asarray(x)
    return x.astype(np.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x


def _carried(equation, inputs) -> list[Bounded]:
    """gather, pad, dynamic_slice and their kin: moves entries; integers say where."""
    values = _apply(equation, [x.value for x in inputs])
    active = any(x.active for x in inputs)
    if all(x.error is None for x in inputs):
        return [Bounded(v, None, active) for v in values]
    places = [x for x in inputs if not _is_float(x.value)]
    if any(x.error is not None and np.any(x.error) for x in places):
        return [Bounded(v, np.full(v.shape, np.inf), active) for v in values]
    shifted = [
        np.array(np.broadcast_to(_e(x), x.value.shape)) if _is_float(x.value) else x.value for x in inputs
    ]
    errors = [np.where(np.isnan(e), np.inf, e) for e in _apply(equation, shifted)]
    return [_settled(v, e if _is_float(v) else None, *inputs) for v, e in zip(values, errors, strict=True)]


def _accumulated(equation, inputs) -> list[Bounded]:
    """scatter_add, reduce_window_sum: sums of moved entries."""
    (carried,) = _carried(equation, inputs)
    ones = [np.ones(x.value.shape) if _is_float(x.value) else x.value for x in inputs]
    sizes = [np.abs(x.value) if _is_float(x.value) else x.value for x in inputs]
    (count,), (size,) = _apply(equation, ones), _apply(equation, sizes)
    error = _e(carried) + UNIT * count * size
    return [_settled(carried.value, error, *inputs)]


def _conv(equation, inputs) -> list[Bounded]:
    a, b = inputs
    (value,) = _apply(equation, [a.value, b.value])
    out_features = equation.params["dimension_numbers"].rhs_spec[0]
    terms = b.value.size // max(b.value.shape[out_features], 1)
    terms *= equation.params["batch_group_count"]
    size_a, size_b = np.abs(a.value), np.abs(b.value)
    gamma = (terms + 2) * UNIT
    (error,) = _apply(equation, [_e(a) + gamma * (size_a + _e(a)), size_b + _e(b)])
    if b.error is not None:
        error = error + _apply(equation, [size_a, np.array(b.error)])[0]
    return [_settled(value, error, a, b)]


def _sorted(equation, inputs) -> list[Bounded]:
    """Sorting moves no entry further than the largest error; what goes along may be swapped."""
    values = _apply(equation, [x.value for x in inputs])
    axis = equation.params["dimension"]
    keys = equation.params["num_keys"]
    active = any(x.active for x in inputs)
    if all(x.error is None for x in inputs):
        return [Bounded(v, None, active) for v in values]
    gap = np.abs(np.diff(values[0], axis=axis))
    reach = np.max(_e(inputs[0]), axis=axis, keepdims=True) if inputs[0].error is not None else 0.0
    tied = np.any(gap <= 2 * reach, axis=axis, keepdims=True) if gap.size else np.array(False)
    out = []
    for k, (x, v) in enumerate(zip(inputs, values, strict=True)):
        worst = np.max(np.broadcast_to(_e(x), x.value.shape), axis=axis, keepdims=True, initial=0)
        error = np.broadcast_to(worst, v.shape)
        out.append(Bounded(v, error if k < keys else np.where(tied, np.inf, error), active))
    return out


def _top_k(equation, inputs) -> list[Bounded]:
    (x,) = inputs
    values, index = _apply(equation, [x.value])
    if x.error is None:
        return [Bounded(values, None, x.active), Bounded(index, None, x.active)]
    worst = np.broadcast_to(np.max(x.error, axis=-1, keepdims=True), values.shape)
    ordered = -np.sort(-x.value, axis=-1)[..., : values.shape[-1] + 1]
    gap = np.abs(np.diff(ordered, axis=-1))
    tied = np.any(gap <= 2 * worst[..., :1], axis=-1, keepdims=True)
    error = np.where(tied, np.inf, np.zeros(index.shape))
    return [Bounded(values, worst, x.active), Bounded(index, error, x.active)]


def _pooled_back(equation, inputs) -> list[Bounded]:
    """The backward pass of max pooling: each entry goes to the winner of its window."""
    source, operand = inputs
    values = [source.value, operand.value]
    (value,) = _apply(equation, values)
    ones = [np.ones(source.value.shape), operand.value]
    sizes = [np.abs(source.value), operand.value]
    errors = [np.array(np.broadcast_to(_e(source), source.value.shape)), operand.value]
    (count,), (size,), (error,) = (_apply(equation, v) for v in (ones, sizes, errors))
    error = error + UNIT * count * size
    if operand.error is not None:
        rng = np.random.default_rng(0)
        for _ in range(16):  # nearly equal entries: any of them may win
            noise = operand.error + 4 * UNIT * np.abs(operand.value) + TINY
            shaken = operand.value + noise * rng.uniform(-1, 1, noise.shape)
            (other,) = _apply(equation, [source.value, shaken])
            error = np.maximum(error, np.abs(other - value))
    return [_settled(value, error, source, operand)]


def _bitcast(equation, inputs) -> list[Bounded]:
    (x,) = inputs
    width = np.dtype(equation.invars[0].aval.dtype)
    given = x.value.astype(width) if _is_float(x.value) else x.value
    values = [_plain(v) for v in _apply(equation, [given])]
    doubt = x.error is not None and np.any(x.error)
    return [Bounded(v, np.full(v.shape, np.inf) if doubt else None, x.active) for v in values]


def _unknown(equation, inputs) -> list[Bounded]:
    """A primitive without a rule: how far its outputs move when its inputs do, with a margin.

    The inputs are moved by the unit roundoff of their largest entry, beside their own errors:
    what a backward stable algorithm may do to them. Integers that stay as they are, such as the
    pivots of a factorisation, are exact.
    """
    values = [x.value for x in inputs]
    out = _apply(equation, values)
    movable = [
        k
        for k, v in enumerate(values)
        if (_is_float(v) or np.iscomplexobj(v)) and inputs[k].error is not None
    ]
    if all(not _is_float(v) and not np.iscomplexobj(v) for v in out):
        return [_integral(v, *inputs) if isinstance(v, np.ndarray) else Bounded(v, None, False)
                for v in out]  # fmt: skip
    rng = np.random.default_rng(0)
    stretch = 2.0**16
    moves = [np.zeros(np.shape(v)) for v in out]
    places = any(x.error is not None and np.any(x.error) and not _is_float(x.value) for x in inputs)
    for _ in range(6):
        shaken = list(values)
        for k in movable:
            v = values[k]
            e = _e(inputs[k]) + 8 * UNIT * (np.max(np.abs(v), initial=0.0))
            e = np.where(np.isfinite(e), e, np.abs(v))
            shaken[k] = v + stretch * e * rng.choice([-1.0, 1.0], v.shape)
        for m, v, w in zip(moves, out, _apply(equation, shaken), strict=True):
            if _is_float(v) or np.iscomplexobj(v):
                np.maximum(m, np.abs(w - v) / stretch, out=m)
            else:
                np.maximum(m, np.where(w == v, 0.0, np.inf), out=m)
    widest = max((v.size for v in out), default=1)
    settled = []
    for v, m in zip(out, moves, strict=True):
        if not (_is_float(v) or np.iscomplexobj(v)):
            doubt = np.full(v.shape, np.inf) if places else m
            error = np.minimum(doubt, 1.0) if v.dtype == bool else doubt
            settled.append(Bounded(v, error, any(x.active for x in inputs)))
            continue
        scale = np.max(np.abs(v[np.isfinite(v)]), initial=0.0)
        around = np.max(m[np.isfinite(m)], initial=0.0)
        error = 8 * m + 2 * around + 32 * (1 + math.sqrt(widest)) * UNIT * scale
        settled.append(_settled(v, error, *(x for x in inputs if isinstance(x.value, np.ndarray))))
    return settled


# Control flow


def _inlined(equation, inputs, reading) -> list[Bounded]:
    p = equation.params
    if not any(x.active for x in inputs) and _draws(equation, reading):
        given = [
            x.value if not _is_float(x.value) else x.value.astype(v.aval.dtype)
            for x, v in zip(inputs, equation.invars, strict=True)
        ]  # random numbers are data: the very same on both sides
        return [Bounded(v, None, False) for v in _apply(equation, given)]
    jaxpr, consts = opened(next(p[k] for k in ("jaxpr", "call_jaxpr", "fun_jaxpr") if k in p))
    held = [_constant(c) for c in consts]
    name = getattr(getattr(jaxpr, "debug_info", None), "func_name", "")
    if name == "exp_neg_sq" and (known := _bell_curve(jaxpr, held, inputs, reading)):
        return known
    return _run(jaxpr, held, inputs, reading)


def _bell_curve(jaxpr, held, inputs, reading) -> list[Bounded] | None:
    """e^(−x²) of a program that splits x by its bits, which no bound follows; None if it is not that."""
    (x,) = inputs
    (out,) = _run(jaxpr, held, [x._replace(error=None)], reading)
    right = np.exp(-np.square(x.value))
    slack = (16 + 4 * np.square(x.value)) * UNIT * right + 1e-300
    if not np.all(np.abs(out.value - right) <= slack):
        return None
    steepest = np.minimum(0.86, 2 * (np.abs(x.value) + _e(x)) * np.exp(-(_nearest(x.value, _e(x)) ** 2)))
    error = _rounded(out.value, 16) + _times(steepest, np.asarray(_e(x)))
    return [_settled(out.value, error, x)]


def _expanded(equation, inputs, reading) -> list[Bounded]:
    """A call that JAX itself writes out in simpler primitives."""
    call = equation.params["_prim"]
    if id(call) not in reading.expanded:

        def flat(*leaves):
            return jax.tree.leaves(call.expand(*jax.tree.unflatten(call.in_tree, leaves)))

        closed = jax.make_jaxpr(flat)(*(v.aval for v in equation.invars))
        reading.expanded[id(call)] = (closed, call)
    jaxpr, consts = opened(reading.expanded[id(call)][0])
    return _run(jaxpr, [_constant(c) for c in consts], inputs, reading)


def _draws(equation, reading: Reading) -> bool:
    key = id(equation)
    if key not in reading.draws:
        inner = [v for k, v in equation.params.items() if k in ("jaxpr", "call_jaxpr")]
        reading.draws[key] = (any(primitives(j) & RANDOM for j in inner), equation)
    return reading.draws[key][0]


def _stacked(columns: list[list[Bounded]], shapes) -> list[Bounded]:
    out = []
    for column, aval in zip(columns, shapes, strict=True):
        if not column:
            out.append(Bounded(np.zeros(aval.shape, _wide(aval.dtype)), None, False))
            continue
        error = None
        if any(x.error is not None for x in column):
            error = np.stack([np.broadcast_to(_e(x), np.shape(x.value)) for x in column])
        stack = jnp.stack if not isinstance(column[0].value, np.ndarray) else np.stack
        out.append(Bounded(stack([x.value for x in column]), error, any(x.active for x in column)))
    return out


def _wide(dtype):
    return np.float64 if jnp.issubdtype(dtype, jnp.floating) else dtype


def _at(x: Bounded, t: int) -> Bounded:
    error = None if x.error is None else np.broadcast_to(x.error, x.value.shape)[t]
    value = x.value[t]
    return Bounded(np.asarray(value) if isinstance(x.value, np.ndarray) else value, error, x.active)


def _scan(equation, inputs, reading) -> list[Bounded]:
    p = equation.params
    n_consts, n_carry = scan_counts(p)
    jaxpr, consts = opened(p["jaxpr"])
    held = [_constant(c) for c in consts]
    fixed, carry = inputs[:n_consts], list(inputs[n_consts : n_consts + n_carry])
    xs = inputs[n_consts + n_carry :]
    columns: list[list[Bounded]] = [[] for _ in equation.outvars[n_carry:]]
    turns = range(p["length"])
    for t in reversed(turns) if p["reverse"] else turns:
        out = _run(jaxpr, held, [*fixed, *carry, *(_at(x, t) for x in xs)], reading)
        carry = out[:n_carry]
        for column, y in zip(columns, out[n_carry:], strict=True):
            column.append(y)
    columns = [c[::-1] for c in columns] if p["reverse"] else columns
    return [*carry, *_stacked(columns, [v.aval for v in equation.outvars[n_carry:]])]


def _while(equation, inputs, reading) -> list[Bounded]:
    p = equation.params
    n_cond, n_body = p["cond_nconsts"], p["body_nconsts"]
    condition, condition_consts = opened(p["cond_jaxpr"])
    body, body_consts = opened(p["body_jaxpr"])
    held_c = [_constant(c) for c in condition_consts]
    held_b = [_constant(c) for c in body_consts]
    fixed_c, fixed_b = inputs[:n_cond], inputs[n_cond : n_cond + n_body]
    carry, doubt = list(inputs[n_cond + n_body :]), False
    while True:
        (go,) = _run(condition, held_c, [*fixed_c, *carry], reading)
        doubt = doubt or (go.error is not None and bool(np.any(go.error)))
        if not go.value.all():
            break
        carry = _run(body, held_b, [*fixed_b, *carry], reading)
    if not doubt:
        return carry
    return [  # another turn, or one less, may have been right
        Bounded(x.value, np.full(np.shape(x.value), np.inf), x.active) if _is_float(x.value) else x
        for x in carry
    ]


def _cond(equation, inputs, reading) -> list[Bounded]:
    which, *operands = inputs
    branches = [opened(b) for b in equation.params["branches"]]
    index = int(np.clip(int(which.value), 0, len(branches) - 1))

    def taken(k: int) -> list[Bounded]:
        return _run(branches[k][0], [_constant(c) for c in branches[k][1]], operands, reading)

    out = taken(index)
    if which.error is None or not np.any(which.error):
        return out
    others = [taken(k) for k in range(len(branches)) if k != index]
    wide = []
    for k, x in enumerate(out):
        error = _e(x)
        for other in others:
            error = np.maximum(error, np.abs(other[k].value - x.value) + _e(other[k]))
        wide.append(_settled(x.value, error, x, *(o[k] for o in others)))
    return wide


INLINED = {
    *("jit", "pjit", "closed_call", "core_call", "remat", "remat2", "checkpoint", "call"),
    *("custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr", "custom_lin"),
}
CONTROL = {"scan": _scan, "while": _while, "cond": _cond, "call_hi_primitive": _expanded}
SAME = {
    *("copy", "copy_p", "name", "optimization_barrier", "device_put", "sharding_constraint"),
    *("layout_constraint", "stop_gradient", "pvary", "reduce_precision", "mesh_cast", "reshard"),
}
WHOLE: dict[str, Callable] = {
    # rules that need the primitive itself
    **dict.fromkeys(("gather", "dynamic_slice", "dynamic_update_slice", "pad", "split", "scatter"), _carried),
    **dict.fromkeys(("reduce_window_max", "reduce_window_min"), _carried),
    **dict.fromkeys(("scatter_add", "scatter-add", "reduce_window_sum"), _accumulated),
    "conv_general_dilated": _conv,
    "sort": _sorted,
    "top_k": _top_k,
    "select_and_scatter_add": _pooled_back,
    "bitcast_convert_type": _bitcast,
}
EVERY: dict[str, Callable] = {
    **{name: _smooth(*row) for name, row in SMOOTH.items()},
    **{name: _moved(function) for name, function in MOVED.items()},
    **dict.fromkeys(SAME, _same),
    "add": _add(1),
    "add_any": _add(1),
    "sub": _add(-1),
    "mul": _mul,
    "div": _div,
    "integer_pow": _integer_pow,
    "pow": _pow,
    "polynomial": _polynomial,
    "atan2": _atan2,
    "rem": _rem,
    "max": _extreme(np.maximum, 1),
    "min": _extreme(np.minimum, -1),
    "clamp": _clamp,
    "sign": _sign,
    "floor": _stepped(np.floor),
    "ceil": _stepped(np.ceil),
    "round": _round,
    "select_n": _select,
    "convert_element_type": _convert,
    "is_finite": lambda p, x: Bounded(np.isfinite(x.value), None, x.active),
    "eq": _compared(np.equal, True),
    "ne": _compared(np.not_equal, True),
    "gt": _compared(np.greater, False),
    "ge": _compared(np.greater_equal, False),
    "lt": _compared(np.less, False),
    "le": _compared(np.less_equal, False),
    "eq_to": _compared(np.equal, True),
    "lt_to": _compared(np.less, False),
    "le_to": _compared(np.less_equal, False),
    "and": _lifted(np.bitwise_and),
    "or": _lifted(np.bitwise_or),
    "xor": _lifted(np.bitwise_xor),
    "not": _lifted(np.invert),
    "dot_general": _dot_general,
    "reduce_sum": _reduce_sum,
    "reduce_max": _reduce_extreme(np.max, 1),
    "reduce_min": _reduce_extreme(np.min, -1),
    "reduce_prod": _reduce_prod,
    "reduce_and": _reduce_logic(np.all),
    "reduce_or": _reduce_logic(np.any),
    "argmax": _arg_extreme(np.argmax, 1),
    "argmin": _arg_extreme(np.argmin, -1),
    "cumsum": _running("add"),
    "cumprod": _running("mul"),
    "cummax": _running("max"),
    "cummin": _running("min"),
}
CORNERS = {
    *("gt", "ge", "lt", "le", "eq", "ne", "sign", "floor", "ceil", "round", "argmax", "argmin"),
    *("sort", "top_k", "rem", "lt_to", "le_to", "eq_to"),
}
RANDOM = {"random_bits", "threefry2x32", "random_seed", "random_wrap", "random_gamma"}
INTEGERS_TOO = {"div", "rem", "pow"}  # integers divide otherwise in NumPy


def _plan(jaxpr) -> list[tuple[Any, list]]:
    """The equations that matter, each with the variables that are not needed after it."""
    needed = {v for v in jaxpr.outvars if not isinstance(v, Literal)}
    plan = []
    for equation in reversed(jaxpr.eqns):
        if not equation.effects and not any(v in needed for v in equation.outvars):
            continue
        fresh = {v for v in equation.invars if not isinstance(v, Literal)} - needed
        needed |= fresh
        plan.append((equation, list(fresh)))
    return plan[::-1]


def _constant(value, shared: bool = True) -> Bounded:
    """A constant is as exact as the shortest format that holds it: 0.5 is, 0.1 is not."""
    value = _plain(value)
    if not _is_float(value) or not np.all(np.isfinite(value)):
        return Bounded(value, None, False)
    if value.size != 1 and shared:
        return Bounded(value, None, False)
    mantissa, _ = np.frexp(value)
    short = (mantissa * 4096 == np.rint(mantissa * 4096)) | (value == np.rint(value))
    narrow = value.astype(np.float32).astype(np.float64) == value
    error = np.where(short, 0.0, np.where(narrow, 2.0**-24, UNIT) * np.abs(value))
    return Bounded(value, error if error.any() else None, False)


def _precision(aval) -> float:
    return float(jnp.finfo(aval.dtype).eps)


def _pins(equation, out: list[Bounded], inputs, reading: Reading) -> list[Bounded]:
    """Name every loss of precision; carry it out where it is to be obeyed."""
    floats = [v.aval for v in equation.invars if jnp.issubdtype(v.aval.dtype, jnp.floating)]
    finest = min((_precision(a) for a in floats), default=0.0)
    result = []
    for x, v in zip(out, equation.outvars, strict=True):
        dtype = v.aval.dtype
        if not jnp.issubdtype(dtype, jnp.floating) or not _is_float(x.value):
            result.append(x)
            continue
        eps, name = _precision(v.aval), str(dtype)
        if equation.primitive.name == "reduce_precision":
            bits = equation.params["mantissa_bits"]
            eps, name = 2.0**-bits, f"{bits} bits of mantissa"
            finest = 0.0 if eps > finest else finest
        narrow = x.value
        if eps > reading.obeyed or (floats and eps > finest):
            if equation.primitive.name == "reduce_precision":
                scale = 2.0 ** (np.frexp(x.value)[1] - equation.params["mantissa_bits"] - 1.0)
                narrow = np.where(x.value == 0, 0.0, np.rint(x.value / scale) * scale)
            else:
                narrow = x.value.astype(dtype).astype(np.float64)
            changed = not np.array_equal(narrow, x.value, equal_nan=True)
            if changed and eps > finest and x.active:
                note = Note("pinned", name, line_of(equation))
                reading.notes[note] = reading.notes.get(note, 0) + 1
        if eps > reading.obeyed:
            x = Bounded(narrow, x.error, x.active)
        result.append(x)
    return result


def _step(equation, inputs: list[Bounded], reading: Reading) -> list[Bounded]:
    name = equation.primitive.name
    if name in INLINED:
        return _inlined(equation, inputs, reading)
    if name in CONTROL:
        return CONTROL[name](equation, inputs, reading)
    plain = all(isinstance(x.value, np.ndarray) for x in inputs)
    whole = plain and not any(np.iscomplexobj(x.value) for x in inputs)
    whole = whole and not any(jnp.issubdtype(v.aval.dtype, jnp.complexfloating) for v in equation.outvars)
    real = any(jnp.issubdtype(v.aval.dtype, jnp.floating) for v in equation.outvars)
    out = None
    if whole and name in EVERY and (real or name not in INTEGERS_TOO):
        out = EVERY[name](equation.params, *inputs)
    elif whole and name in WHOLE:
        out = WHOLE[name](equation, inputs)
    elif whole and name in COMPILED:
        slope, ulps = COMPILED[name]
        out = _smooth(lambda v: _apply(equation, [v])[0], slope, ulps)(equation.params, *inputs)
    if out is None:
        floating = real or any(jnp.issubdtype(v.aval.dtype, jnp.complexfloating) for v in equation.outvars)
        fed = any(_is_float(x.value) or np.iscomplexobj(x.value) for x in inputs if plain)
        if plain and floating and fed and name != "iota":
            note = Note("unknown", name, line_of(equation))
            reading.notes[note] = reading.notes.get(note, 0) + 1
            out = _unknown(equation, inputs)
        else:
            values = _apply(equation, [x.value for x in inputs])
            checked = [x for x in inputs if isinstance(x.value, np.ndarray)]
            out = [
                _integral(v, *(c for c in checked if not _is_float(c.value)))
                if isinstance(v, np.ndarray) and not _is_float(v) and not checked
                else _exactly(v, checked)
                for v in values
            ]
    out = [out] if isinstance(out, Bounded) else list(out)
    return [Bounded(np.asarray(x.value), x.error, x.active)
            if isinstance(x.value, np.generic) else x for x in out]  # fmt: skip


def _exactly(value, inputs) -> Bounded:
    doubt = any(x.error is not None and np.any(x.error) for x in inputs)
    active = any(x.active for x in inputs)
    if not doubt or not isinstance(value, np.ndarray):
        return Bounded(value, None, active)
    return Bounded(value, np.full(value.shape, 1.0 if value.dtype == bool else np.inf), active)


def _run(jaxpr, consts: Sequence[Bounded], args: Sequence[Bounded], reading: Reading) -> list:
    if id(jaxpr) not in reading.plans:
        reading.plans[id(jaxpr)] = (_plan(jaxpr), jaxpr)
    plan, _ = reading.plans[id(jaxpr)]
    reading.steps[0] += len(plan)
    if reading.steps[0] > STEPS:
        raise TooLong
    known: dict[Any, Bounded] = {}
    known.update(zip(jaxpr.constvars, consts, strict=True))
    known.update(zip(jaxpr.invars, args, strict=True))
    read = lambda v: _constant(v.val) if isinstance(v, Literal) else known[v]  # noqa: E731
    for equation, last in plan:
        inputs = [read(v) for v in equation.invars]
        out = _pins(equation, _step(equation, inputs, reading), inputs, reading)
        if equation.primitive.name in CORNERS:
            doubtful = sum(_doubts(x) for x in out)
            if doubtful:
                note = Note("kink", equation.primitive.name, line_of(equation))
                reading.notes[note] = reading.notes.get(note, 0) + doubtful
        known.update(zip(equation.outvars, out, strict=True))
        for v in last:
            known.pop(v, None)
    return [read(v) for v in jaxpr.outvars]


def _doubts(x: Bounded) -> int:
    """How many truth values, indices or steps are in doubt; rounding does not count."""
    if x.error is None:
        return 0
    return int(np.count_nonzero(x.error >= 0.5 if _is_float(x.value) else x.error))


def interpret(
    jaxpr, consts: Sequence, args: Sequence, active: Sequence[bool], obeyed: float = math.inf
) -> tuple[list[Bounded], dict[Note, int]]:
    """The outputs of a jaxpr with bounds on their errors, and what was noted on the way.

    args: the values of its inputs, of any shape; active: which of them are differentiated. consts
    and args may hold Bounded entries where they are not exact. Precision losses to a machine
    epsilon above `obeyed` are carried out, all others are looked past.
    Raises TooLong when the loops run for too many steps. Call it with x64 enabled.
    """
    reading = Reading({}, obeyed, {}, {}, {}, [0])
    given = []
    for value, live in zip(args, active, strict=True):
        if isinstance(value, Bounded):
            given.append(value)
            continue
        value = _plain(value)
        floats = _is_float(value) and live
        given.append(Bounded(value, np.full(value.shape, VARIES) if floats else None, floats))
    held = [c if isinstance(c, Bounded) else _constant(c) for c in consts]
    with np.errstate(all="ignore"):
        out = _run(jaxpr, held, given, reading)
    return out, reading.notes
