"""The points that are tried, and what both sides say of each other there."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from itertools import chain

import numpy as np

from jaxnn.gradcheck.bounds.bounded import UNIT, is_float, is_short
from jaxnn.gradcheck.calls.call import BadCall, Call
from jaxnn.gradcheck.calls.returned import Calls
from jaxnn.gradcheck.verdict import points
from jaxnn.gradcheck.verdict.point import Point, Side, Sides, compared, is_coarse
from jaxnn.gradcheck.verdict.sides import sides_of

SIGNS, SIZES = "a point where weights change sign", "the same batch three times over"
NEAR = "a point near it"
NEAREST = "a point with weights halved until autodiff is finite"


def judged(name: str, call: Call, leaves: list, sides: Sides) -> Point:
    """Both sides at a point with these leaves, side by side."""
    with ThreadPoolExecutor(1) as beside:
        referring = beside.submit(copy_context().run, sides.reference, leaves)
        hand = sides.hand(leaves)
        reference = referring.result()
    if any(is_coarse(note, call.dtype) for note in reference.notes):
        hand = sides.as_meant(leaves)
    point = compared(name, call, leaves, reference, hand)
    return point if call.dtype == np.float64 or name == NEAREST else _of_few_digits(point, sides)


def _of_few_digits(point: Point, sides: Sides) -> Point:
    """Faint, not wrong, where data and numbers of float32's digits explain it.

    As where π has ten digits, or labels sum to 1 but for their rounding. What is off by more than half a
    millionth of the largest entry is wrong, unless the rounding of the data is seen to do it: then the
    point cannot tell.
    """
    off = [np.abs(h - r) for h, r in zip(point.hand.values, point.reference.values, strict=True)]
    tops = [np.max(np.abs(r[np.isfinite(r)]), initial=0.0) for r in point.reference.values]
    if not point.is_wrong or any(np.any(w & (o > t)) for w, o, t in zip(point.wrong, off, tops, strict=True)):
        return point
    rough = sides.reference(point.leaves, grain=2.0**-22)  # computed in float32, in a few roundings
    for w, o, e, h in zip(point.wrong, off, rough.errors, point.hand.errors, strict=True):
        if np.any(w & (o > e + h)):
            return point
    faint = [w & (o <= 2.0**-21 * t) for w, o, t in zip(point.wrong, off, tops, strict=True)]
    if any(np.any(w & ~f) for w, f in zip(point.wrong, faint, strict=True)) and not _of_data(point, sides):
        return point
    none = [np.zeros_like(w) for w in point.wrong]
    unseen = [s & ~w for s, w in zip(point.seen, point.wrong, strict=True)]
    return point._replace(wrong=none, seen=unseen, faint=faint)


def _of_data(point: Point, sides: Sides) -> bool:
    """Whether the two are apart by far more where the data are rounded to fewer digits."""
    rng = np.random.default_rng(0)
    moved = [
        x
        if k in point.call.places or not is_float(x)
        else np.where(is_short(x), x, x * (1 + 2.0**-17 * rng.uniform(-1, 1, x.shape)))
        for k, x in enumerate(point.leaves)
    ]
    try:
        pairs = zip(sides.hand(moved).values, sides.reference(moved).values, strict=True)
    except BadCall:  # a gradient that is only called may refuse other data: nothing speaks against it
        return True
    there = [np.abs(h - r)[w].max(initial=0.0) for (h, r), w in zip(pairs, point.wrong, strict=True)]
    here = [
        np.abs(h - r)[w].max(initial=0.0)
        for h, r, w in zip(point.hand.values, point.reference.values, point.wrong, strict=True)
    ]
    return all(t >= 4 * o for t, o in zip(there, here, strict=True))


def told_of(tried: list[Point]) -> list[bool]:
    """Whether the points together tell of every entry of a leaf."""
    return [bool(np.any(seen, axis=0).all()) for seen in zip(*(p.seen for p in tried), strict=True)]


def nearly(tried: list[Point]) -> list[bool]:
    """Whether three points or more show every entry of a leaf right but for numbers with few digits."""
    leaves = range(len(tried[0].seen))
    times = [np.sum([p.seen[n] | p.faint[n] for p in tried], axis=0) for n in leaves]
    return [bool(np.all(t >= 3)) and any(p.faint[n].any() for p in tried) for n, t in enumerate(times)]


def _candidates(call: Call, leaves: list) -> Iterator[tuple[str, Callable[[], list], bool]]:
    """Points of one's own choosing, in the order they are tried: (name, its leaves, always)."""

    def moved(how: Callable, seed: int, given: list = leaves) -> Callable[[], list]:
        return lambda: points.moved(call, given, how, seed)

    yield NEAR, moved(points.near, 1), True
    if (switched := points.switched_on(call, leaves)) is not None:
        yield f"{NEAR}, zero scalars switched on", moved(points.near, 1, switched), True
    fresh = moved(points.generic, 2)
    yield "a point with fresh weights", fresh, points.extreme(call, leaves)
    yield "a point with small weights", moved(points.small, 3), False
    if (tamed := points.tamed(call, leaves, 4)) is not None:
        yield "a point with fresh weights and data of size 1", moved(points.generic, 2, tamed), True
        yield "a point with small weights and data of size 1", moved(points.small, 3, tamed), False
    yield "a point with fresh weights, signs turned", lambda: points.turned(call, leaves, fresh()), False
    if (mixed := points.of_both_signs(call, leaves, 5)) is not None:
        yield SIGNS, lambda: mixed, True


def _unsaturated(call: Call, leaves: list, sides: Sides) -> list | None:
    """Weights halved until autodiff is finite: the nearest to those given where it can judge."""
    for k in range(1, 8):
        halved = [np.asarray(x) / 2**k if n in call.places else x for n, x in enumerate(leaves)]
        side = sides.reference(halved)
        if all(np.isfinite(r).all() for r in side.values):
            return halved
    return None


def _within_signs(point: Point, leaves: list, sides: Sides, belongs: Callable[[list], bool]) -> Point | None:
    """A point that condemns, once entries of other signs than those given are no reason for it.

    Where an entry must be positive, a loss is no number at others, or a formula none, or another.
    So the point with the signs given, in arrays where any is positive, is asked too: if it condemns, it is
    the one; if it is right and tells of all, the first counts only as a point where weights change sign;
    where the loss or the gradient by hand is not finite, it is none at all.
    """
    call = point.call
    kept = [
        np.where(np.asarray(x) == 0, at, np.copysign(at, x)) if n in call.places and np.any(x > 0) else at
        for n, (at, x) in enumerate(zip(point.leaves, leaves, strict=True))
    ]
    if all(np.array_equal(kept[n], point.leaves[n]) for n in call.places):
        return point if _is_sound(point) else None
    inside = None
    with contextlib.suppress(BadCall):  # a gradient that is only called may refuse it
        inside = judged(point.name, call, kept, sides)
    if inside and inside.is_wrong and _is_sound(inside):
        return inside
    if not (_is_sound(point) and belongs(point.leaves)):
        return None
    return point._replace(name=SIGNS) if inside and all(inside.told) else point


def _is_sound(point: Point) -> bool:
    """Whether the loss is a number there, and far from the given point the gradient by hand is too."""
    loss, near = point.reference.loss, point.name.startswith(NEAR)
    finite = near or all(np.isfinite(h).all() for h in point.hand.values)
    return finite and (loss is None or np.isfinite(loss))


def tried_points(call: Call, leaves: list, sides: Sides, belongs: Callable[[list], bool]) -> list[Point]:
    """The given point, then others until one is wrong, or one near it is right and all is told.

    A positive matrix may have to be so: another that changes sign counts only where both sides are
    finite and it belongs to what they are meant for.
    """
    tried = [judged("the given point", call, leaves, sides)]
    if tried[0].is_wrong or sides.precomputed:
        return tried
    others: Iterable = _candidates(call, leaves)
    if not all(np.isfinite(r).all() for r in tried[0].reference.values):
        nearest = _unsaturated(call, leaves, sides)
        others = chain([(NEAREST, lambda: nearest, True)] if nearest else [], others)
    for name, chosen, always in others:
        if not always and all(told_of(tried)):
            continue
        at = chosen()
        try:
            point = judged(name, call, at, sides)
        except BadCall:  # a gradient that is only called may refuse a point
            continue
        if point.is_wrong and name != NEAREST:
            point = _within_signs(point, leaves, sides, belongs)
            if point is None:
                continue
        tried.append(point)
        if point.is_wrong:
            break
    return tried


def at_other_sizes(call: Call, leaves: list, sides: Sides) -> Point | None:
    """The batch three times over, where its size hides mistakes; None where it makes no sense."""
    more = points.repeated(call, leaves)
    if more is None or sides.precomputed:
        return None
    bigger = call._replace(args=call.rebuilt(more), leaves=more)
    try:
        return judged(SIZES, bigger, more, sides_of(bigger, more, sides.readable))
    except Exception:  # a size the functions do not take: nothing is learned
        return None


def unsteady(call: Call, leaves: list, reference: Side, calls: Calls, eps: float) -> Point:
    """A gradient whose calls disagree, at the given point: the call that is furthest off."""
    scale = 64 * eps / UNIT

    def held(values: list[np.ndarray]) -> Point:
        errors = [scale * e + 64 * eps * np.abs(v) for e, v in
                  zip(reference.errors, values, strict=True)]  # fmt: skip
        side = Side(values, errors, [False] * len(values), {})
        return compared("the given point, called again", call, leaves, reference, side)

    each = [held(v) for v in (calls.first, calls.last)]
    return max(each, key=lambda p: sum(int(w.sum()) for w in p.wrong))


def what_it_says(point: Point) -> str:
    """What the point says of the gradient, in words."""
    if point.is_wrong:
        return "wrong"
    kinks = sum(count for note, count in point.reference.notes.items() if note.kind == "kink")
    if all(point.told):
        return "right"
    silent = [p for p, told in zip(point.call.paths, point.told, strict=True) if not told]
    names = ", ".join(silent[:3]) + (", …" if len(silent) > 3 else "")
    if all(bool((seen | faint).all()) for seen, faint in zip(point.seen, point.faint, strict=True)):
        return "right to the digits of float32"
    why = "at a kink" if kinks else "zero, cancelling or unbounded"
    if any(b.any() for b in point.blank):
        why = "neither side is finite"
    return f"nothing wrong, but indistinguishable here ({why}): {names}"
