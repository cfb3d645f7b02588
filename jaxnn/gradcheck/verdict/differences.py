"""The gradient of a loss by differences in float64, for entries where autodiff is no number."""

from collections.abc import Callable, Iterator
from itertools import pairwise

import jax
import numpy as np

from jaxnn.gradcheck.bounds.bounded import UNIT, Note
from jaxnn.gradcheck.calls.call import Call, replaced
from jaxnn.gradcheck.verdict.point import Side, Sides
from jaxnn.gradcheck.verdict.rounding import by_hand, jittered

MOST = 2048  # entries
STEP = 2.0**-10  # of the size of a leaf
SAFE = 16  # so many times what is seen of the error
KINK = 2.0**-8  # of the slope: by more than this the slopes of both sides differ at a kink only


def by_differences(call: Call, sides: Sides) -> Sides:
    """The sides, with differences for what autodiff cannot say; no bound is read from the gradient by hand.

    What is not finite in one is often just avoided in the other, by a comparison that is in doubt.
    """
    program = jax.jit(lambda leaves: call.loss(*call.rebuilt(leaves)))

    def loss(leaves: list) -> float:
        with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
            return float(program(leaves))

    def reference(at: list, **how) -> Side:
        return _filled(call, loss, sides.reference(at, **how), at)

    def hand(at: list) -> Side:
        return jittered(call, by_hand(call), at, reference(at))

    def narrow(at: list) -> Iterator[Side]:
        return sides.narrow(at, reference(at))

    return sides._replace(reference=reference, hand=hand, as_meant=hand, narrow=narrow)


def _filled(call: Call, loss: Callable[[list], float], side: Side, leaves: list) -> Side:
    values, errors = [], []
    for place, value, error in zip(call.places, side.values, side.errors, strict=True):
        value, error, x = value.copy(), error.copy(), np.asarray(leaves[place], np.float64)
        step = STEP * (float(np.sqrt(np.mean(x[np.isfinite(x)] ** 2))) or 1.0)
        unknown = ~(np.isfinite(value) & np.isfinite(error))
        for index in np.argwhere(unknown & np.isfinite(x))[:MOST]:

            def along(t: float, at=tuple(index), x=x, place=place) -> float:
                there = x.copy()
                there[at] += t
                return loss(replaced(leaves, [place], [there]))

            value[tuple(index)], error[tuple(index)] = slope(along, step)
        values.append(value)
        errors.append(error)
    notes = side.notes | {Note("differences", "", ""): 1}
    return side._replace(values=values, errors=errors, notes=notes)


def slope(f: Callable[[float], float], step: float) -> tuple[float, float]:
    """f′(0) and a bound on its error, an estimate; at a kink, wide enough for the slopes of both sides.

    Source: L. F. Richardson, The deferred approach to the limit, Phil. Trans. A 226 (1927).
    """
    here = f(0.0)
    up, down = ([f(sign * step / 2**k) for k in range(3)] for sign in (1, -1))
    first = [(u - d) * 2**k / (2 * step) for k, (u, d) in enumerate(zip(up, down, strict=True))]
    second = [(4 * b - a) / 3 for a, b in pairwise(first)]
    best = (16 * second[1] - second[0]) / 15
    right, left = (sign * (4 * s[2] - s[1] - 3 * here) * 2 / step for sign, s in ((1, up), (-1, down)))
    size = max(map(abs, (here, *up, *down)))
    error = SAFE * (abs(best - second[1]) + UNIT * size / step)
    return best, max(error, abs(right - left)) if abs(right - left) > KINK * max(
        abs(right), abs(left)
    ) else error
