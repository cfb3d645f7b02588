"""Parameters that the loss does not depend on: their gradient is zero, and what is left of it rounding.

Zero to its bound is also a gradient where everything is saturated, so the parameter alone is moved too, far:
what was saturated is not so there, or is on the other side.
"""

import numpy as np

from jaxnn.gradcheck.calls.call import replaced
from jaxnn.gradcheck.verdict.point import Point, Sides, visible

POINTS = 3  # the least number of them at which it must be zero
FAR = (1.0, 30.0, 1000.0)  # the parameter is moved by so much, both ways
UNMOVED = 1e-6  # of the loss: what rounding may change it by there


def invariant(tried: list[Point], sides: Sides) -> list[bool]:
    """Whether the loss does not depend on a leaf, as seen at all points tried and far from the last."""
    losses = [abs(p.reference.loss or 0.0) for p in tried]
    size = max(*losses, *(pair.top for p in tried for pair in p.pairs))
    return [
        len(tried) >= POINTS
        and all(_vanishes(p, n, size) for p in tried)
        and _moves_nothing(tried[-1], place, bool(np.all(tried[0].leaves[place] > 0)), sides)
        for n, place in enumerate(tried[0].call.places)
    ]


def _vanishes(point: Point, n: int, size: float) -> bool:
    """Whether a leaf is zero to its bound, and would be seen if it were of the size of the others."""
    pair, zero = point.pairs[n], np.abs(point.reference.values[n]) <= point.reference.errors[n]
    return bool(
        np.all(zero & (pair.bound <= visible(point.reference, point.hand) * size)) and not pair.wrong.any()
    )


def _moves_nothing(point: Point, place: int, positive: bool, sides: Sides) -> bool:
    """Whether the loss is the same wherever the leaf is moved to, but where it is not finite."""
    there, first = np.asarray(point.leaves[place]), point.reference.loss
    way = np.random.default_rng(6).uniform(0.3, 1.0, there.shape)
    ways = [way * there] if positive else [way, -way]
    moved = (there + far * w for far in FAR for w in ways)
    losses = [sides.reference(replaced(point.leaves, [place], [x])).loss for x in moved]
    known = [x for x in losses if x is not None and np.isfinite(x)]
    return (
        first is not None
        and len(known) >= len(ways)
        and bool(np.all(np.abs(np.subtract(known, first)) <= UNMOVED * np.abs(first)))
    )
