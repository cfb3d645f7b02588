"""The points that are tried, and what both sides say of each other there."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from itertools import chain, compress

import jax
import numpy as np

from jaxnn.gradcheck.bounds.bounded import is_short
from jaxnn.gradcheck.calls.call import ROUNDINGS, BadCall, Call, function_name, replaced, widened
from jaxnn.gradcheck.calls.repeated import left_behind
from jaxnn.gradcheck.calls.returned import Calls
from jaxnn.gradcheck.report.words import listed
from jaxnn.gradcheck.verdict import points
from jaxnn.gradcheck.verdict.differences import by_differences
from jaxnn.gradcheck.verdict.formula import Formula
from jaxnn.gradcheck.verdict.invariance import invariant
from jaxnn.gradcheck.verdict.point import Kind, Pair, Point, Side, Sides, compared, in_precision, is_coarse
from jaxnn.gradcheck.verdict.sides import sides_of

FEW = 2.0**-22  # computed in float32, in a few roundings: the relative error of numbers with few digits
FAINT = 2.0**-21  # of the largest entry: what such numbers explain, where the data's are not seen to do it
STIRRED = 2.0**-17  # data moved by so much, far more than FEW, move with them what their digits do
FAR = 4  # times as far apart
TOUCHED = 2.0**-8  # a leaf moved by so much is at no step, where it was at one
HALVINGS = 7
UNTOLD = {
    Kind.SIGNS: "right with weights of the signs given, wrong with others, where it may not belong",
    Kind.SIZES: "right at the sizes given, wrong at others: no point of these sizes can tell",
}
"""Points that condemn, and yet not the gradient as it was called."""
LOST = "autodiff is not finite at any point, for {}; differences of the loss stand for it"
FLAT = (
    "{} is flat in {}, so autodiff is 0 and cannot judge: a gradient that is not 0 stands for another "
    "function; compare it with that one, which compare_vjp takes as reference="
)
OUTSIDE = (
    "the gradient is another than autodiff's where what is positive here is not, which is no fault "
    "where it never is so: say within={...} to leave such points out"
)
SAVED = "the gradient does not depend on its arguments: only the given point is judged"
UNMOVED = "the loss does not depend on {}: its gradient is zero at every point, but for rounding"


def judged(kind: Kind, call: Call, leaves: list, sides: Sides) -> Point:
    """Both sides at a point with these leaves, side by side."""
    with ThreadPoolExecutor(1) as beside:
        referring = beside.submit(copy_context().run, sides.reference, leaves)
        hand = sides.hand(leaves)
        reference = referring.result()
    if any(is_coarse(note, call.dtype) for note in reference.notes):
        hand = sides.as_meant(leaves)
    point = compared(kind, call, leaves, reference, hand)
    if point.is_wrong and (sides.program is None or not sides.program.varies):
        for narrow in sides.narrow(leaves):
            point = compared(kind, call, leaves, reference, narrow)
            if not point.is_wrong:
                return point
    point = _unjudged_where_flat(point, sides) if point.is_wrong else point
    return point if call.dtype == np.float64 or kind is Kind.NEAREST else _of_few_digits(point, sides)


def _of_few_digits(point: Point, sides: Sides) -> Point:
    """Faint, not wrong, where data and numbers of float32's digits explain it.

    As where π has ten digits, or labels sum to 1 but for their rounding. What is off by more than FAINT is
    wrong, unless the rounding of the data is seen to do it: then the point cannot tell.
    """
    small = [bool(np.any(p.wrong)) and not np.any(p.wrong & (p.off > p.top)) for p in point.pairs]
    if not any(small):
        return point
    rough, pairs = sides.reference(point.leaves, grain=FEW), list(point.pairs)
    of_data: list[bool] = []
    for n, (p, e, h) in enumerate(zip(point.pairs, rough.errors, point.hand.errors, strict=True)):
        if not small[n] or np.any(p.wrong & (p.off > e + h)):
            continue
        faint = p.wrong & (p.off <= FAINT * p.top)
        if np.any(p.wrong & ~faint):
            of_data = of_data or _of_data(point, sides)
            if not of_data[n]:
                continue
        pairs[n] = p._replace(wrong=np.zeros_like(p.wrong), seen=p.seen & ~p.wrong, faint=faint)
    return point._replace(pairs=pairs)


def _of_data(point: Point, sides: Sides) -> list[bool]:
    """Of which leaves the two are apart by far more where the data are rounded to fewer digits."""
    rng = np.random.default_rng(0)
    stir = lambda x: np.where(is_short(x), x, x * (1 + STIRRED * rng.uniform(-1, 1, x.shape)))  # noqa: E731
    data = points.data(point.call, point.leaves)
    moved = replaced(point.leaves, data, [stir(point.leaves[k]) for k in data])
    try:
        there = compared(point.kind, point.call, moved, sides.reference(moved), sides.hand(moved))
    except BadCall:  # a gradient that is only called may refuse other data: nothing speaks against it
        return [True] * len(point.pairs)
    return [
        far.off[near.wrong].max(initial=0.0) >= FAR * near.off[near.wrong].max(initial=0.0)
        for far, near in zip(there.pairs, point.pairs, strict=True)
    ]


def told_of(tried: list[Point]) -> list[bool]:
    """Whether the points together tell of every entry of a leaf."""
    return [bool(np.any([p.seen for p in pairs], axis=0).all()) for pairs in _by_leaf(tried)]


def nearly(tried: list[Point]) -> list[bool]:
    """Whether three points or more show every entry of a leaf right but for numbers with few digits."""
    return [
        any(p.faint.any() for p in pairs)
        and bool(np.all(np.sum([p.seen | p.faint for p in pairs], axis=0) >= 3))
        for pairs in _by_leaf(tried)
    ]


def _by_leaf(tried: list[Point]) -> Iterator[tuple[Pair, ...]]:
    return zip(*(point.pairs for point in tried), strict=True)


def _candidates(call: Call, leaves: list, weights: frozenset[int]) -> Iterator[tuple[Kind, Callable, bool]]:
    """Points of one's own choosing, in the order they are tried: (which, its leaves, always)."""

    def moved(leaves: list, how, seed: int) -> Callable[[], list]:
        return partial(points.moved, call, leaves, how, seed, weights)

    fresh = moved(leaves, points.generic, 2)
    yield Kind.NEAR, moved(leaves, points.near, 1), True
    if (switched := points.switched_on(call, leaves)) is not None:
        yield Kind.SWITCHED, moved(switched, points.near, 1), True
    yield Kind.FRESH, fresh, points.extreme(call, leaves)
    yield Kind.SMALL, moved(leaves, points.small, 3), False
    if (tamed := points.tamed(call, leaves, 4)) is not None:
        yield Kind.FRESH_TAMED, moved(tamed, points.generic, 2), True
        yield Kind.SMALL_TAMED, moved(tamed, points.small, 3), False
    yield Kind.TURNED, lambda: points.turned(call, leaves, fresh()), False
    others = frozenset(call.places) - weights
    for kind, places in ((Kind.SIGNS, weights), (Kind.OUTSIDE, others)):
        if (flipped := points.of_both_signs(call, leaves, places, 5)) is not None:
            yield kind, partial(list, flipped), True


def _unsaturated(call: Call, leaves: list, sides: Sides) -> list | None:
    """Weights halved until autodiff is finite: the nearest to those given where it can judge."""
    for k in range(1, HALVINGS + 1):
        halved = [np.asarray(x) / 2**k if n in call.places else x for n, x in enumerate(leaves)]
        if all(np.isfinite(r).all() for r in sides.reference(halved).values):
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
        inside = judged(point.kind, call, kept, sides)
    if inside and inside.is_wrong and _is_sound(inside):
        return inside
    if not (_is_sound(point) and belongs(point.leaves)):
        return None
    if not (inside and all(inside.told)):
        return point
    changed = {n for n in call.places if not np.array_equal(kept[n], point.leaves[n])}
    return point._replace(kind=Kind.SIGNS if changed & sides.weights else Kind.OUTSIDE)


def _is_sound(point: Point) -> bool:
    """Whether the loss is a number there, and far from the given point the gradient by hand is too."""
    loss, near = point.reference.loss, point.kind in {Kind.NEAR, Kind.SWITCHED}
    finite = near or all(np.isfinite(h).all() for h in point.hand.values)
    return finite and (loss is None or np.isfinite(loss))


def tried_points(call: Call, leaves: list, sides: Sides, belongs: Callable[[list], bool]) -> list[Point]:
    """The given point, then others until one is wrong, or one near it is right and all is told.

    A positive matrix may have to be so: another that changes sign counts only where both sides are
    finite and it belongs to what they are meant for.
    """
    tried = [judged(Kind.GIVEN, call, leaves, sides)]
    if tried[0].is_wrong or sides.saved(tried[0].hand):
        return tried
    others: Iterable = _candidates(call, leaves, sides.weights)
    if not all(np.isfinite(r).all() for r in tried[0].reference.values):
        nearest = _unsaturated(call, leaves, sides)
        others = chain([(Kind.NEAREST, lambda: nearest, True)] if nearest else [], others)
    for kind, chosen, always in others:
        if not always and all(told_of(tried)):
            continue
        point = None
        with contextlib.suppress(BadCall):  # a gradient that is only called may refuse a point
            point = judged(kind, call, chosen(), sides)
        if point and point.is_wrong and kind is not Kind.NEAREST:
            point = _within_signs(point, leaves, sides, belongs)
        tried += [point] if point else []
        if tried[-1].is_wrong and tried[-1].kind is not Kind.OUTSIDE:
            break
    return tried


def at_other_sizes(call: Call, leaves: list, sides: Sides) -> Point | None:
    """The batch three times over, where its size hides mistakes; None where it makes no sense."""
    more = points.repeated(call, leaves)
    if more is None:
        return None
    bigger = call._replace(args=call.rebuilt(more), leaves=more)
    try:
        return judged(Kind.SIZES, bigger, more, sides_of(bigger, more, sides.program is not None))
    except Exception:  # most functions take but the size they were made for: nothing is learned, nor amiss
        return None


def _without_numbers(tried: list[Point]) -> list[bool]:
    """Whether autodiff is no number anywhere, of some entry of a leaf."""
    return [
        bool(np.all([~np.isfinite(p.reference) for p in pairs], axis=0).any()) for pairs in _by_leaf(tried)
    ]


def _unjudged_where_flat(point: Point, sides: Sides) -> Point:
    """The same, but that nothing is said of leaves in which the loss is made of steps.

    Its derivative is zero, and a gradient that is not zero stands for another function's.
    """
    pairs = [
        pair._replace(wrong=np.zeros_like(pair.wrong), seen=np.zeros_like(pair.seen), flat=True)
        if fixed and pair.wrong.any() and not pair.reference.any() and _is_flat(point, place, sides)
        else pair
        for pair, fixed, place in zip(point.pairs, point.reference.fixed, point.call.places, strict=True)
    ]
    return point._replace(pairs=pairs)


def _is_flat(point: Point, place: int, sides: Sides) -> bool:
    """Whether the loss stays the very same as a leaf is moved a little, and does not as it is moved far."""
    x = np.asarray(point.leaves[place], np.float64)
    way = np.random.default_rng(7).uniform(0.3, 1.0, x.shape)

    def loss(far: float) -> float | None:
        return sides.reference(replaced(point.leaves, [place], [x + far * way])).loss

    return loss(TOUCHED) == loss(TOUCHED * (1 + FEW)) and any(
        loss(far) != loss(0.0) for far in (1.0, -1.0, 30.0, -30.0)
    )


def unsteady(call: Call, leaves: list, reference: Side, calls: Calls) -> Point:
    """A gradient whose calls disagree, at the given point: the call that is furthest off."""

    def held(values: list[np.ndarray]) -> Point:
        pairs = zip(values, reference.errors, strict=True)
        errors = [in_precision(call.eps, v, e, ROUNDINGS) for v, e in pairs]
        side = Side(values, errors, [False] * len(values), {})
        return compared(Kind.AGAIN, call, leaves, reference, side)

    return max(
        map(held, (calls.first, calls.last)), key=lambda p: sum(int(pair.wrong.sum()) for pair in p.pairs)
    )


def formula_of(call: Call, calls: Calls, belongs: Callable[[list], bool]) -> Formula:
    """Both sides at the given point, then at others until one condemns or all is told."""
    leaves = [widened(x) for x in call.leaves]
    sides = sides_of(call, leaves, calls.repeatable)
    tried, resized, opening = [], None, ""
    if calls.repeatable:
        try:
            tried = tried_points(call, leaves, sides, belongs)
            lost = _without_numbers(tried)
            if any(lost) and not tried[-1].is_wrong and np.isfinite(tried[0].reference.loss or 0.0):
                sides = by_differences(call, sides)
                tried = tried_points(call, leaves, sides, belongs)
                opening = LOST.format(listed(list(compress(call.paths, lost)), 3))
        except BadCall as error:
            if not isinstance(error.__cause__, jax.errors.UnexpectedTracerError):
                raise
            calls = left_behind(calls)
    if not calls.repeatable:
        tried = [unsteady(call, leaves, sides.reference(leaves), calls)]
    outside = next((p for p in tried if p.is_wrong and p.kind is Kind.OUTSIDE), None)
    tried = [p for p in tried if p is not outside]
    shown = next((p for p in tried if p.is_wrong), tried[0])
    saved = sides.saved(tried[0].hand)
    if calls.repeatable and not (shown.is_wrong or saved):
        resized = at_other_sizes(call, leaves, sides)
        shown = resized if resized is not None and resized.is_wrong else shown
    told = [
        (every or faintly) and not pair.blank.any()
        for every, faintly, pair in zip(told_of(tried), nearly(tried), tried[0].pairs, strict=True)
    ]
    still = [False] * len(told) if shown.is_wrong or all(told) else invariant(tried, sides)
    told = [a or b for a, b in zip(told, still, strict=True)]
    correct = True if all(told) else None
    if not calls.repeatable or shown.is_wrong:
        correct = None if shown.kind in UNTOLD else False
    notes = [
        *sides.notes,
        *[SAVED] * saved,
        *[OUTSIDE] * (outside is not None),
        *map(UNMOVED.format, compress(call.paths, still)),
        *(said for kind, said in UNTOLD.items() if kind is shown.kind),
    ]
    flat = [path for path, pair in zip(call.paths, tried[0].pairs, strict=True) if pair.flat]
    opening = FLAT.format(function_name(call.loss), listed(flat, 3)) if flat and correct is None else opening
    return Formula(correct, tried, resized, shown, told, calls, sides, notes, opening)
