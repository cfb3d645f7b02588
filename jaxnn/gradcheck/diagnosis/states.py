"""Mistakes that keep something from one call to the next."""

import contextlib

import jax
import numpy as np

from jaxnn.gradcheck.bounds.bounded import UNIT
from jaxnn.gradcheck.calls.call import BadCall, Call, widened
from jaxnn.gradcheck.calls.returned import Calls, called
from jaxnn.gradcheck.mistakes.finding import ACCUMULATED, RESAMPLED, STALE, Mistake
from jaxnn.gradcheck.report.confidence import GUESS, LIKELY, SURE
from jaxnn.gradcheck.report.model import Cause
from jaxnn.gradcheck.verdict import points
from jaxnn.gradcheck.verdict.point import Kind, Point, Sides

SAYS = {
    ACCUMULATED: "It adds to what earlier calls left: every call is the one before plus the gradient.",
    STALE: "It uses values kept from the call before: right only when called twice at one point.",
    RESAMPLED: "Two calls with the same arguments disagree: something is drawn anew, such as a mask.",
}

NEAR = 1e-4  # of the largest entry: what is kept may be kept in float32


def _close(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    top = lambda x: np.abs(x).max(initial=0)  # noqa: E731
    return all(top(x - y) <= NEAR * max(top(x), top(y)) for x, y in zip(a, b, strict=True))


def kept(call: Call, leaves: list, reference) -> Mistake | None:
    """What a gradient whose calls disagree does: it adds up, or is late; None for neither.

    It is called in float64 at two points of one's own choosing, where autodiff is neither zero nor
    the same: leaves → Side is `reference`.
    """
    p, q = (points.moved(call, leaves, points.near, seed) for seed in (21, 22))

    def at(leaves: list) -> list[np.ndarray]:
        with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
            return called(call, call.rebuilt(leaves))

    with contextlib.suppress(BadCall):  # what it kept may be of a trace that is over
        at(p)
    try:
        first, second, other = at(p), at(p), at(q)
        there, elsewhere = reference(p).values, reference(q).values
    except BadCall:
        return None
    added = [[b - a for a, b in zip(x, y, strict=True)] for x, y in ((first, second), (second, other))]
    if _close(added[0], there) and _close(added[1], elsewhere):
        return ACCUMULATED
    return STALE if _close(other, there) and not _close(there, elsewhere) else None


def unsteady_causes(call: Call, sides: Sides, leaves: list, calls: Calls) -> list[Cause]:
    """What a gradient may do whose calls depend on one another."""
    mistake = kept(call, leaves, sides.reference)
    if calls.keeps and mistake is None:
        says = "It computes with values that an earlier call left behind, though here its calls agree."
        return [_cause(m, says, GUESS) for m in (STALE, ACCUMULATED)]
    mistake, confidence = (mistake, SURE) if mistake else (RESAMPLED, LIKELY)
    return [_cause(mistake, SAYS[mistake], confidence)]


def _cause(mistake: Mistake, says: str, confidence: str) -> Cause:
    return Cause(mistake.id, says, "all parameters", confidence, mistake.equation)


def stale_cause(call: Call, sides: Sides, shown: Point, calls: Calls, eps: float) -> Cause | None:
    """Right where it was called first, the same values ever after."""
    if calls.elsewhere is None or shown.kind is not Kind.GIVEN:
        return None
    moved = [np.asarray(x, np.float64) for x in calls.elsewhere]
    if not all(np.array_equal(a, b) for a, b in zip(moved, calls.first, strict=True)):
        return None
    first = points.as_given(call, points.moved(call, shown.leaves, points.near, 1))
    there = sides.reference([widened(x) for x in first])

    def near(found: list) -> bool:
        return all(
            np.all(np.abs(m - r) <= 64 * eps / UNIT * e + 64 * eps * np.abs(r))
            for m, r, e in zip(found, there.values, there.errors, strict=True)
        )

    if near(shown.reference.values) or not near(moved) or not any(np.any(m) for m in moved):
        return None  # where the right gradient is the same at both points, so may a fresh one be
    return _cause(
        STALE, "It keeps what its first call computed: right there, the same values ever after.", SURE
    )
