"""Error bounds where a function steps or has a corner: comparisons, extremes, choices, roundings."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxnn.gradcheck.bounds.bounded import (
    Bounded,
    error_of,
    holds_nan,
    integral,
    is_float,
    is_number,
    settled,
    stretched,
)
from jaxnn.gradcheck.jaxprs.primitives import Kind, as_integers, of


def compared(function, exact_ties: bool):
    """The rule of a comparison; exact_ties: two varying numbers that are equal are the same."""

    def rule(params, a, b):
        value = np.asarray(function(a.value, b.value))
        if not (is_number(a.value) and is_number(b.value)):
            return integral(value, a, b)
        active = a.active or b.active
        if a.error is None and b.error is None:
            return Bounded(value, None, active)
        gap, slack = np.abs(a.value - b.value), error_of(a) + error_of(b)
        # the rule of max asks whether it is x that came out: equal is equal, but to a constant
        tied = gap if exact_ties and a.active == b.active else slack
        doubtful = (gap <= slack) & (tied > 0) & (gap < np.inf)  # what is finite, is
        return Bounded(value, doubtful.astype(np.float64), active)

    return rule


def _logical(function):
    """and, or: certain where either truth value of what is in doubt gives the same."""

    def rule(params, a, b):
        value = function(a.value, b.value)
        if value.dtype != bool or (a.error is None and b.error is None):
            return integral(value, a, b)
        low, high = (
            function(*(np.where(np.asarray(error_of(x)) > 0, worst, x.value) for x in (a, b)))
            for worst in (False, True)
        )
        return Bounded(value, (low != high).astype(np.float64), a.active or b.active)

    return rule


def extreme(function, sign: int):
    """The rule of max (sign 1) or min (sign −1)."""

    def rule(params, a, b):
        value = function(a.value, b.value)
        if not is_float(value) or a.error is b.error is None:
            return _exact(value, a, b)
        lead = sign * (a.value - b.value)
        slack = error_of(a) + error_of(b)
        both = np.maximum(error_of(a), error_of(b))
        error = np.where(lead > slack, error_of(a), np.where(-lead > slack, error_of(b), both))
        return settled(value, error, a, b)

    return rule


def _clamp(params, low, x, high):
    return extreme(np.minimum, -1)({}, extreme(np.maximum, 1)({}, x, low), high)


def _exact(value, *inputs: Bounded) -> Bounded:
    """What is made of inputs that are exactly known, or no floating-point numbers."""
    return settled(value, None, *inputs) if is_float(value) else integral(value, *inputs)


def _sign(params, x):
    value = np.sign(x.value)
    if not is_float(value) or x.error is None:
        return _exact(value, x)
    doubtful = (np.abs(x.value) <= x.error) & (x.error > 0)
    return settled(value, np.where(doubtful, 1.0 + np.abs(value), 0.0), x)


def _stepped(function):
    """floor, ceil, round: the error is the largest jump within reach."""

    def rule(params, x):
        value = function(x.value)
        if x.error is None or not is_float(value):
            return _exact(value, x)
        low, high = function(x.value - x.error), function(x.value + x.error)
        return settled(value, np.maximum(high - value, value - low), x)

    return rule


def _round(params, x):
    half_even = params["rounding_method"] == lax.RoundingMethod.TO_NEAREST_EVEN
    away = lambda v: np.where(np.abs(v) % 1 == 0.5, v + np.sign(v) / 2, np.rint(v))  # noqa: E731
    return _stepped(np.rint if half_even else away)(params, x)


def _rem(params, a, b):
    value = np.fmod(a.value, b.value)
    if not is_float(value):
        return integral(value, a, b)
    whole = np.abs(np.trunc(a.value / b.value))
    error = error_of(a) + stretched(whole, np.asarray(error_of(b)))
    size = np.abs(value)
    jump = (error > 0) & ((size <= error) | (np.abs(b.value) - size <= error))
    return settled(value, np.where(jump, np.abs(b.value) + error, error), a, b)


def _select(params, which, *cases):
    values, errors = [c.value for c in cases], [error_of(c) for c in cases]
    exact = all(c.error is None for c in cases)
    active = which.active or any(c.active for c in cases)
    value, error = values[0], errors[0]
    for k in range(1, len(cases)):
        taken = which.value if which.value.dtype == bool else which.value == k
        value = np.where(taken, values[k], value)
        error = error if exact else np.where(taken, errors[k], error)
    doubtful = np.zeros((), bool) if which.error is None else which.error > 0
    if exact and not doubtful.any():
        return Bounded(value, None, active)
    if doubtful.any():  # any of the cases may be the right one
        spread = error
        for v, e in zip(values, errors, strict=True):
            if is_float(v):
                spread = np.maximum(spread, np.where(v == value, 0.0, np.abs(v - value)) + e)
            else:
                spread = np.maximum(spread, np.where(v == value, e, np.inf))
        error = np.where(doubtful, spread, error)
    if holds_nan(error):
        error = np.where(np.isnan(error), np.inf, error)
    if value.dtype == bool:
        error = np.minimum(error, 1.0)
    elif is_float(value) and not np.isfinite(np.sum(value)):
        error = np.where(np.isnan(value), np.inf, error)
    return Bounded(value, np.broadcast_to(error, value.shape), active)


def _convert(params, x):
    target = np.dtype(params["new_dtype"])
    if jnp.issubdtype(target, jnp.floating):
        return Bounded(x.value.astype(np.float64), x.error, x.active)
    if target.kind == "b":
        return compared(np.not_equal, True)({}, x, Bounded(np.zeros((), x.value.dtype), None, False))
    value = as_integers(x.value, target) if is_float(x.value) else x.value.astype(target)
    if x.error is None or not is_float(x.value):
        return integral(value, x)
    low, high = as_integers(x.value - x.error, target), as_integers(x.value + x.error, target)
    return Bounded(value, np.where(low == high, 0.0, np.inf), x.active)


COMPARISONS: dict[str, Callable] = {
    "eq": compared(np.equal, True),
    "ne": compared(np.not_equal, True),
    "gt": compared(np.greater, False),
    "ge": compared(np.greater_equal, False),
    "lt": compared(np.less, False),
    "le": compared(np.less_equal, False),
    "eq_to": compared(np.equal, True),
    "lt_to": compared(np.less, False),
    "le_to": compared(np.less_equal, False),
}
STEPS_AND_CORNERS: dict[str, Callable] = {
    **COMPARISONS,
    "rem": _rem,
    "and": _logical(np.bitwise_and),
    "or": _logical(np.bitwise_or),
    "max": extreme(np.maximum, 1),
    "min": extreme(np.minimum, -1),
    "clamp": _clamp,
    "sign": _sign,
    "floor": _stepped(np.floor),
    "ceil": _stepped(np.ceil),
    "round": _round,
    "select_n": _select,
    "convert_element_type": _convert,
    "is_finite": lambda p, x: Bounded(np.isfinite(x.value), None, x.active),
}
CORNERS = of(Kind.STEP, Kind.ORDER)
