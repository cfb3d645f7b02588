"""Error bounds of sums and products of many numbers, and of other reductions."""

import math
from collections.abc import Callable

import numpy as np

from jaxnn.gradcheck.bounds.bounded import UNIT, Bounded, integral, is_float, settled
from jaxnn.gradcheck.bounds.corners import extreme
from jaxnn.gradcheck.bounds.functions import add, mul
from jaxnn.gradcheck.bounds.products import multiplied, ordinary, split
from jaxnn.gradcheck.jaxprs.primitives import matrices


def _spread(a, b):
    """a @ b of bounds, where ∞ · 0 = 0."""
    if a.size and not any(a.strides) and np.isfinite(a.flat[0]):  # all alike
        return a.flat[0] * np.broadcast_to(b.sum(-2, keepdims=True), (*a.shape[:-1], b.shape[-1]))
    infinite = np.isinf(a)
    if not infinite.any():
        return a @ b
    reached = infinite.astype(np.float64) @ (b != 0).astype(np.float64)
    return np.where(reached > 0, np.inf, np.where(infinite, 0.0, a) @ b)


def _dot_general(params, a, b):
    left, right, shape = matrices(params, a.value, b.value)
    first, second = left(a.value), right(b.value)
    back = lambda v: np.reshape(v, shape)  # noqa: E731
    if not is_float(first):
        return integral(back(first @ second), a, b) if a.error is b.error is None else None
    size_a, size_b = np.abs(first), np.abs(second)
    product, error = multiplied(first, second, size_a, size_b)
    value = back(product)
    if a.error is not None:  # e_A (|B| + e_B)
        high_b = size_b if b.error is None else size_b + right(b.errors)
        error = error + _spread(left(a.errors), high_b)
    if b.error is not None:  # |A| e_B
        flipped = np.swapaxes(right(b.errors), -1, -2)
        reached = _spread(flipped, np.swapaxes(size_a, -1, -2))
        error = error + np.swapaxes(reached, -1, -2)
    return settled(value, back(error), a, b)


def _rows(x, axes):
    """x with the axes to be reduced as one, last and contiguous (so NumPy sums it pairwise)."""
    kept = [d for d in range(x.ndim) if d not in axes]
    moved = np.transpose(x, [*kept, *axes])
    terms = math.prod(x.shape[d] for d in axes)
    return np.ascontiguousarray(moved).reshape([*(x.shape[d] for d in kept), terms])


def _reduce_sum(params, x):
    axes = params["axes"]
    if not axes:
        return x
    rows = _rows(x.value, axes)
    if not is_float(rows):
        value = np.asarray(rows.sum(-1, dtype=rows.dtype))
        return integral(value, x) if x.error is None else Bounded(value, value + np.inf, True)
    value, error = _total(rows)
    if x.error is None and np.all(np.rint(rows) == rows) and np.abs(rows).sum() < 2**53:
        return settled(value, None, x)
    if x.error is not None:
        error = error + _rows(x.errors, axes).sum(-1)
    return settled(value, error, x)


def _total(rows):
    """The sum along the last axis, and a bound on its rounding; NumPy's own sum is pairwise."""
    terms = rows.shape[-1]
    size = np.abs(rows)
    if terms <= 1 or not ordinary(size):
        passed = max(terms - 1, 0)
        return np.asarray(rows.sum(-1)), passed * UNIT * size.sum(-1)
    high, low, left = split(rows, size, -1, 54 - (terms - 1).bit_length())
    value = np.asarray(high.sum(-1) + low.sum(-1))
    passed = min(terms, 24 + terms.bit_length())
    return value, 2 * UNIT * np.abs(value) + passed * UNIT * terms * left[..., 0]


def _reduce_extreme(function, sign: int):
    def rule(params, x):
        rows = _rows(x.value, params["axes"])
        value = np.asarray(function(rows, -1))
        if not is_float(value):
            return integral(value, x) if x.error is None else Bounded(value, value + np.inf, True)
        if x.error is None:
            return settled(value, None, x)
        errors = _rows(x.errors, params["axes"])
        surely = np.max(sign * rows - errors, -1, keepdims=True)
        contends = sign * rows + errors >= surely
        return settled(value, np.max(np.where(contends, errors, 0.0), -1), x)

    return rule


def _reduce_prod(params, x):
    rows, errors = _rows(x.value, params["axes"]), _rows(x.errors, params["axes"])
    if not is_float(rows):
        return integral(np.asarray(rows.prod(-1, dtype=rows.dtype)), x)
    total = Bounded(np.ones(rows.shape[:-1]), None, x.active)
    for k in range(rows.shape[-1]):
        total = mul({}, total, Bounded(rows[..., k], None if x.error is None else errors[..., k], x.active))
    return total


def _reduce_logic(function):
    def rule(params, x):
        value = np.asarray(function.reduce(x.value, axis=tuple(params["axes"])))
        return integral(value, x._replace(error=None if x.error is None else np.max(x.error, initial=0.0)))

    return rule


def _arg_extreme(function, sign: int):
    def rule(params, x):
        (axis,) = params["axes"]
        value = function(x.value, axis=axis).astype(params["index_dtype"])
        if x.error is None or not is_float(x.value):
            return integral(value, x)
        surely = np.max(sign * x.value - x.error, axis, keepdims=True)
        contenders = np.sum(sign * x.value + x.error >= surely, axis)
        return Bounded(value, np.where(contenders > 1, np.inf, 0.0), x.active)

    return rule


def _running(step):
    """cumsum, cumprod, cummax, cummin: the two-argument rule, turn by turn."""

    def rule(params, x):
        axis, turns = params["axis"], range(x.value.shape[params["axis"]])
        total, out = None, []
        for k in reversed(turns) if params["reverse"] else turns:
            error = None if x.error is None else np.take(x.errors, k, axis)
            part = Bounded(np.take(x.value, k, axis), error, x.active)
            total = part if total is None else step({}, total, part)
            out.append(total)
        out = out[::-1] if params["reverse"] else out
        if not out:
            return x
        error = None
        if any(o.error is not None for o in out):
            error = np.stack([o.errors for o in out], axis)
        return Bounded(np.stack([o.value for o in out], axis), error, x.active)

    return rule


SUMS: dict[str, Callable] = {
    "dot_general": _dot_general,
    "reduce_sum": _reduce_sum,
    "reduce_max": _reduce_extreme(np.max, 1),
    "reduce_min": _reduce_extreme(np.min, -1),
    "reduce_prod": _reduce_prod,
    "reduce_and": _reduce_logic(np.bitwise_and),
    "reduce_or": _reduce_logic(np.bitwise_or),
    "argmax": _arg_extreme(np.argmax, 1),
    "argmin": _arg_extreme(np.argmin, -1),
    "cumsum": _running(add(1)),
    "cumprod": _running(mul),
    "cummax": _running(extreme(np.maximum, 1)),
    "cummin": _running(extreme(np.minimum, -1)),
}
