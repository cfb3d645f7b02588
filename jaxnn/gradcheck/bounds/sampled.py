"""Error bounds that are estimates, by moving the inputs: of max pooling backward, of what has no rule."""

import math
from collections.abc import Callable

import numpy as np

from jaxnn.gradcheck.bounds.bounded import (
    TINY,
    UNIT,
    Bounded,
    error_of,
    integral,
    is_float,
    is_number,
    settled,
)
from jaxnn.gradcheck.jaxprs.by_numpy import applied


def pooled_back(equation, inputs) -> list[Bounded]:
    """The backward pass of max pooling: each entry goes to the winner of its window."""
    source, operand = inputs
    values = [source.value, operand.value]
    (value,) = applied(equation, values)
    ones = [np.ones(source.value.shape), operand.value]
    sizes = [np.abs(source.value), operand.value]
    errors = [np.array(source.errors), operand.value]
    (count,), (size,), (error,) = (applied(equation, v) for v in (ones, sizes, errors))
    error = error + UNIT * count * size
    if operand.error is not None:
        rng = np.random.default_rng(0)
        for _ in range(16):  # nearly equal entries: any of them may win
            noise = operand.error + 4 * UNIT * np.abs(operand.value) + TINY
            shaken = operand.value + noise * rng.uniform(-1, 1, noise.shape)
            (other,) = applied(equation, [source.value, shaken])
            error = np.maximum(error, np.abs(other - value))
    return [settled(value, error, source, operand)]


def unknown(run: Callable[[list], list], inputs) -> list[Bounded]:
    """What has no rule, only a way to run: how far its outputs move when its inputs do, with a margin.

    The inputs are moved by the unit roundoff of their largest entry, beside their own errors:
    what a backward stable algorithm may do to them. Integers that stay as they are, such as the
    pivots of a factorisation, are exact.
    """
    values = [x.value for x in inputs]
    out = run(values)
    movable = [k for k, x in enumerate(inputs) if is_number(x.value) and x.error is not None]
    if not any(map(is_number, out)):
        as_it_is = lambda v: Bounded(v, None, False)  # noqa: E731
        return [integral(v, *inputs) if isinstance(v, np.ndarray) else as_it_is(v) for v in out]
    rng = np.random.default_rng(0)
    stretch = 2.0**16
    moves = [np.zeros(np.shape(v)) for v in out]
    places = any(x.error is not None and np.any(x.error) and not is_float(x.value) for x in inputs)
    for _ in range(6):
        shaken = list(values)
        for k in movable:
            v = values[k]
            e = error_of(inputs[k]) + 8 * UNIT * (np.max(np.abs(v), initial=0.0))
            e = np.where(np.isfinite(e), e, np.abs(v))
            shaken[k] = v + stretch * e * rng.choice([-1.0, 1.0], v.shape)
        for m, v, w in zip(moves, out, run(shaken), strict=True):
            far = np.abs(w - v) / stretch if is_number(v) else np.where(w == v, 0.0, np.inf)
            np.maximum(m, far, out=m)
    widest = max((v.size for v in out), default=1)
    bounded = []
    for v, m in zip(out, moves, strict=True):
        if not is_number(v):
            doubt = np.full(v.shape, np.inf) if places else m
            error = np.minimum(doubt, 1.0) if v.dtype == bool else doubt
            bounded.append(Bounded(v, error, any(x.active for x in inputs)))
            continue
        scale = np.max(np.abs(v[np.isfinite(v)]), initial=0.0)
        around = np.max(m[np.isfinite(m)], initial=0.0)
        error = 8 * m + 2 * around + 32 * (1 + math.sqrt(widest)) * UNIT * scale
        bounded.append(settled(v, error, *(x for x in inputs if isinstance(x.value, np.ndarray))))
    return bounded


SAMPLED = {"select_and_scatter_add": pooled_back}
