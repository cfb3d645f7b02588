"""A value with a bound on its error, and what happens to the two in a rounding."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

UNIT = 2.0**-53  # the unit roundoff of float64
SINGLE = 2.0**-24  # that of float32
TINY = 5e-324  # the smallest float64: what underflow costs
VARIES = 1e-300  # the error of a differentiated argument: what has none does not vary with it
NORMAL = 2.3e-308  # below this, rounding is no longer relative
HALVES = {np.dtype(t): float(jnp.finfo(t).eps) / 2 for t in (jnp.float16, jnp.bfloat16)}  # and their roundoff
SHORT = 12  # binary digits of a number that is surely meant so
SHORT_HALF = 4  # the same of one in half precision, such as 0.625


class Bounded(NamedTuple):
    """A value and a bound on its error. A truth value with error 1 may be either.

    error: None where all of it is exactly known; active: it depends on a differentiated argument.
    """

    value: Any
    error: np.ndarray | None
    active: bool

    @property
    def errors(self) -> np.ndarray:
        """The error of every entry."""
        return np.broadcast_to(np.asarray(error_of(self), float), np.shape(self.value))


class Note(NamedTuple):
    """Something met on the way: kind is "kink", "pinned", or why a bound is sampled."""

    kind: str
    what: str
    where: str


def error_of(x: Bounded):
    """The bound on the error, 0 where all is exactly known."""
    return 0.0 if x.error is None else x.error


def is_float(x) -> bool:
    """Whether x is a NumPy array or number in floating point."""
    return isinstance(x, np.ndarray | np.generic) and x.dtype.kind == "f"


def is_number(x) -> bool:
    """Whether x is a NumPy array or number in floating point, real or complex."""
    return isinstance(x, np.ndarray | np.generic) and x.dtype.kind in "fc"


def is_wide(x) -> bool:
    """Whether x is an array in float64, or as wide in complex numbers."""
    return isinstance(x, np.ndarray) and x.dtype in (np.float64, np.complex128)


def in_single(values) -> np.ndarray:
    """Which numbers are those of float32."""
    return np.asarray(values, np.float32).astype(np.float64) == values


def is_short(values: np.ndarray, digits: int = SHORT) -> np.ndarray:
    """Which numbers are whole or have so few binary digits: what is written so is meant so."""
    mantissa = np.frexp(values)[0] * 2**digits
    return (mantissa == np.rint(mantissa)) | (values == np.rint(values))


def half_rounding(values: np.ndarray, kind) -> np.ndarray:
    """The relative error that numbers may have which a type of half precision holds; 0 of all others."""
    held = values.astype(kind).astype(np.float64) == values
    return np.where(held & ~is_short(values, SHORT_HALF), HALVES[kind], 0.0)


def stretched(slope, error):
    """slope · error, where no error is no error even on an infinite slope."""
    out = slope * error
    return np.where(error == 0, 0.0, out) if holds_nan(out) else out


def holds_nan(x) -> bool:
    """Whether any entry is not a number: then so is their sum, if none of them is −∞."""
    return bool(np.isnan(np.sum(x)))


def rounding(value, ulps: int | float, *factors):
    """What rounding to nearest costs; a zero may be an underflow if none of the factors is zero."""
    size = np.abs(value)
    out = (ulps * UNIT) * size
    if not np.min(size, initial=np.inf) >= NORMAL:
        live = [x != 0 for x in factors or (value,)]
        out = np.where(
            np.logical_and.reduce(np.broadcast_arrays(size < NORMAL, *live)), out + ulps * TINY, out
        )
    return out


def _extends(x, y) -> bool:
    """Whether x broadcasts to the shape of y."""
    small, large = np.shape(x)[::-1], np.shape(y)[::-1]
    return len(small) <= len(large) and all(m in (1, n) for m, n in zip(small, large, strict=False))


def settled(value, error, *inputs: Bounded) -> Bounded:
    """Clean the bound: not a number means unbounded; an infinity handed on is exact."""
    active = any(x.active for x in inputs)
    if error is None:
        return Bounded(value, None, active)
    error = np.broadcast_to(error, np.shape(value))
    if not np.isfinite(np.sum(value)):
        given = np.zeros(np.shape(value), bool)
        for x in inputs:
            if is_float(x.value):
                known = np.isinf(x.value) & (error_of(x) == 0)
                given |= known if _extends(known, given) else known.any()
        error = np.where(np.isinf(value), np.where(given, 0.0, np.inf), error)
        error = np.where(np.isnan(value), np.inf, error)
    if holds_nan(error):
        error = np.where(np.isnan(error), np.inf, error)
    return Bounded(value, error, active)


def integral(value, *inputs: Bounded) -> Bounded:
    """A result in integers or truth values: exact, unless an input may be another one."""
    active = any(x.active for x in inputs)
    doubt = [x.error for x in inputs if x.error is not None]
    if not any(np.any(d) for d in doubt):
        return Bounded(value, None, active)
    doubtful = np.zeros(np.shape(value), bool)
    for d in doubt:
        doubtful = doubtful | ((d > 0) if _extends(d, doubtful) else np.any(d > 0))
    return Bounded(value, np.where(doubtful, 1.0 if value.dtype == bool else np.inf, 0.0), active)


def nearest(x, e):
    """The least absolute value in [x − e, x + e]."""
    return np.maximum(np.abs(x) - e, 0.0)
