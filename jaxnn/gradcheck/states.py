"""Mistakes that keep something from one call to the next."""

import contextlib

import jax
import numpy as np

from jaxnn.gradcheck import points
from jaxnn.gradcheck.calls import BadCall, Call, called
from jaxnn.gradcheck.sides import Side

NEAR = 1e-4  # of the largest entry: what is kept may be kept in float32


def _close(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    sizes = [
        max(np.max(np.abs(x), initial=0.0), np.max(np.abs(y), initial=0.0)) for x, y in zip(a, b, strict=True)
    ]
    return all(bool(np.all(np.abs(x - y) <= NEAR * s)) for x, y, s in zip(a, b, sizes, strict=True))


def kept(call: Call, leaves: list, reference) -> str | None:
    """What a gradient whose calls disagree does: "accumulated", "stale"; None for neither.

    It is called in float64 at two points of one's own choosing, where autodiff is neither zero nor
    the same: leaves → Side is `reference`.
    """
    p, q = (points.moved(call, leaves, points.near, seed) for seed in (21, 22))

    def at(leaves: list) -> list[np.ndarray]:
        with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
            return [np.asarray(x).astype(np.float64) for x in called(call, call.rebuilt(leaves))]

    def right(leaves: list) -> list[np.ndarray]:
        side: Side = reference(leaves)
        return side.values

    with contextlib.suppress(BadCall):  # what it kept may be of a trace that is over
        at(p)
    try:
        first, second, other = at(p), at(p), at(q)
        there, elsewhere = right(p), right(q)
    except BadCall:
        return None
    added = [[b - a for a, b in zip(x, y, strict=True)] for x, y in ((first, second), (second, other))]
    if _close(added[0], there) and _close(added[1], elsewhere):
        return "accumulated"
    return "stale" if _close(other, there) and not _close(there, elsewhere) else None
