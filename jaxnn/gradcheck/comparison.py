"""Is a hand-written gradient right? Two verdicts, the place, the cause."""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.gradcheck import points
from jaxnn.gradcheck.bounded import UNIT, Note
from jaxnn.gradcheck.bounds import TooLong
from jaxnn.gradcheck.calls import BadCall, Call, called, checked, function_name, own_copies, quiet
from jaxnn.gradcheck.causes import Cause, find_causes
from jaxnn.gradcheck.corners import CORNERS
from jaxnn.gradcheck.cost import Program, compiled
from jaxnn.gradcheck.findings import EQUATIONS
from jaxnn.gradcheck.jaxprs import primitives, turns
from jaxnn.gradcheck.numerics import Numerics, in_ulps, numerics
from jaxnn.gradcheck.probes import Calls, Probe, called_repeatedly
from jaxnn.gradcheck.report import Leaf, Report, picture, place, ulps
from jaxnn.gradcheck.sides import (
    Side,
    compiled_reference,
    evaluated,
    jittered,
    traced,
    widened,
    with_doubt,
)
from jaxnn.gradcheck.states import kept
from jaxnn.gradcheck.steps import check_steps

VISIBLE = 1e-6  # a point tells of an entry whose bound is below so much of the largest one
SIGNS, SIZES = "a point where weights change sign", "the same batch three times over"
NEAREST = "a point with weights halved until autodiff is finite"
VISIBLE_SINGLE = 1e-2  # the same for a gradient that is only called, and computes in float32


class GradientMismatch(AssertionError):
    """The hand-written gradient is wrong, or nothing could tell. The message is the report."""

    def __init__(self, report: Report):
        """Keep the report, beside its text."""
        super().__init__(str(report))
        self.report = report


class Point(NamedTuple):
    """Both sides at one point, and what they say of each other, leaf by leaf."""

    name: str
    call: Call
    leaves: list
    reference: Side
    hand: Side
    wrong: list[np.ndarray]
    seen: list[np.ndarray]  # the bound is small enough to tell of the entry
    blank: list[np.ndarray]  # by hand not finite, and autodiff says nothing either

    @property
    def is_wrong(self) -> bool:
        """Whether any entry is beyond its bound."""
        return any(w.any() for w in self.wrong)

    @property
    def told(self) -> list[bool]:
        """Whether the point tells of every entry of a leaf."""
        return [bool(seen.all()) for seen in self.seen]

    def bound(self, n: int) -> np.ndarray:
        """The bound on |hand − autodiff| of leaf n."""
        return np.asarray(self.reference.errors[n] + self.hand.errors[n])


class Sides(NamedTuple):
    """Both sides as functions of a point: leaves → Side."""

    reference: Callable[..., Side]
    hand: Callable[[list], Side]
    as_meant: Callable[[list], Side]  # no loss of precision carried out
    readable: bool
    cornered: bool  # the reference compares, sorts or rounds somewhere
    precomputed: bool  # the hand-written one returns constants, autodiff does not
    notes: list[str]


def compare_gradients(
    loss,
    gradient,
    *args,
    argnums: int | tuple[int, ...] = 0,
    steps=None,
    names: Sequence[str] | None = None,
) -> Report:
    """Compare a hand-written gradient with autodiff: verdicts, place, cause.

    loss: (*args) → scalar, in jax.numpy; gradient: (*args) → a tree like args[argnums], written by
    hand, in jax.numpy or NumPy; steps: optionally what it computed on the way, a dict such as
    {"dZ[2]": …, "dA[1]": …}, or a function (*args) → such a dict; names: optionally what to call the
    leaves of args[argnums], in their order.
    Raises BadCall, in one sentence, when the comparison cannot be made.

    >>> import jax.numpy as jnp
    >>> loss = lambda w, x: jnp.mean((x @ w) ** 2)
    >>> x = jnp.array([[1.0, 2.0], [3.0, -1.0], [0.5, 4.0]])
    >>> report = compare_gradients(loss, lambda w, x: 2 * x.T @ (x @ w) / 3, jnp.ones(2), x)
    >>> report.correct, report.accurate
    (True, True)
    """
    with quiet() as printed:
        call = checked(loss, gradient, args, argnums)
        if names is not None:
            if len(names) != len(call.paths):
                raise BadCall(f"names: got {len(names)}, expected {len(call.paths)}, one for each leaf")
            call = call._replace(paths=tuple(names))
        return reported(call, steps, printed)


def assert_gradients_match(loss, gradient, *args, argnums: int | tuple[int, ...] = 0, steps=None) -> None:
    """Raise GradientMismatch, whose message is the report, unless the gradient is right.

    The arguments are those of compare_gradients. Also raised when nothing could tell: a test that
    cannot fail is none.

    >>> import jax.numpy as jnp
    >>> assert_gradients_match(lambda w: jnp.sum(w**3), lambda w: 3 * w**2, jnp.array([1.0, 2.0]))
    """
    __tracebackhide__ = True  # pytest shows the line that calls it, and the report
    report = compare_gradients(loss, gradient, *args, argnums=argnums, steps=steps)
    if report.correct is not True:
        raise GradientMismatch(report)


def _sides(call: Call, leaves: list, readable: bool) -> Sides:
    """How to evaluate both sides at points with leaves of these shapes."""
    differentiated = jax.value_and_grad(call.loss, call.argnums)
    try:
        ours = traced(call, differentiated, leaves, skipped=1)
    except Exception as error:
        text = [*str(error).strip().splitlines(), ""][0][:160]
        raise BadCall(f"autodiff of the loss raised {type(error).__name__}: {text}") from error
    notes, theirs = [], None
    if readable:
        try:
            theirs = traced(call, call.gradient, leaves)
            called_back = primitives(theirs.closed) & {"pure_callback", "io_callback"}
            why = f"calls Python by {min(called_back)}" if called_back else ""
        except Exception as error:
            why = f"cannot be traced by JAX ({type(error).__name__})"
        if why:
            theirs = None
            notes.append(
                f"the gradient {why}, so it is only called; its own error is estimated, beside the "
                "bound of autodiff"
            )
    if not ours.exact or (theirs is not None and not theirs.exact):
        notes.append(
            f"the code insists on {call.dtype} or draws random numbers, so it is read as written "
            "for that precision, and its constants carry that rounding"
        )
        ours = traced(call, differentiated, leaves, skipped=1, wide=False)
        theirs = None if theirs is None else traced(call, call.gradient, leaves, wide=False)
    if theirs is not None:
        ours, theirs = with_doubt(ours, theirs, leaves), with_doubt(theirs, ours, leaves)

    def reference(at: list, shake: float = 0.0) -> Side:
        try:
            return evaluated(call, ours, at, shake=shake)
        except TooLong:
            return jittered(call, compiled_reference(call, ours), at, None, turns(ours.closed))

    def only_called(at: list) -> list:
        with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
            return called(call, call.rebuilt(at))

    def hand(at: list, obeyed: float = math.inf) -> Side:
        if theirs is None:
            return jittered(call, only_called, at, reference(at))
        try:
            if theirs.varies or not ours.varies:
                return evaluated(call, theirs, at, obeyed)
        except TooLong:
            return jittered(call, compiled_reference(call, theirs), at, reference(at), turns(theirs.closed))
        return jittered(call, only_called, at, reference(at))

    eps = float(jnp.finfo(call.dtype).eps)
    cornered = bool(primitives(ours.closed) & CORNERS)
    precomputed = theirs is not None and ours.varies and not theirs.varies
    if precomputed:
        notes.append("the gradient does not depend on its arguments: only the given point is judged")
    return Sides(
        reference,
        lambda at: hand(at, eps),
        hand,
        theirs is not None,
        cornered,
        precomputed,
        notes,
    )


def _coarse(note: Note, dtype) -> bool:
    """Whether a pinned precision is below that of the dtype."""
    if note.kind != "pinned":
        return False
    try:
        return bool(jnp.finfo(note.what).eps > jnp.finfo(dtype).eps)
    except (TypeError, ValueError):
        return True


def _judged(name: str, call: Call, leaves: list, sides: Sides) -> Point:
    reference = sides.reference(leaves)
    coarse = any(_coarse(note, call.dtype) for note in reference.notes)
    hand = sides.as_meant(leaves) if coarse else sides.hand(leaves)
    return _held(name, call, leaves, reference, hand)


def _held(name: str, call: Call, leaves: list, reference: Side, hand: Side) -> Point:
    """One side against the other: an entry is wrong beyond its bound."""
    wrong, seen, blank = [], [], []
    visible = VISIBLE_SINGLE if hand.single else VISIBLE
    for n, (r, h) in enumerate(zip(reference.values, hand.values, strict=True)):
        e_r, e_h = reference.errors[n], hand.errors[n]
        with np.errstate(all="ignore"):
            beyond = ~(np.abs(h - r) <= e_r + e_h)
        sound = np.isfinite(r) & np.isfinite(e_r)
        lost = sound & ~np.isfinite(h)
        wrong.append((sound & np.isfinite(e_h) & beyond) | lost)
        largest = np.max(np.abs(r[sound]), initial=0.0)
        visible_here = sound & (largest > 0) & (e_r + e_h <= visible * largest)
        nothing = bool(reference.fixed[n]) and not np.any(r)
        blank.append(~np.isfinite(h) & ~lost & (h != r))
        seen.append((visible_here | nothing) & ~blank[n])
    return Point(name, call, leaves, reference, hand, wrong, seen, blank)


def _told(tried: list[Point]) -> list[bool]:
    """Whether the points together tell of every entry of a leaf."""
    return [bool(np.any(seen, axis=0).all()) for seen in zip(*(p.seen for p in tried), strict=True)]


def _candidates(call: Call, leaves: list):
    """Points of one's own choosing, in the order they are tried: (name, leaves, always)."""
    close = points.moved(call, leaves, points.near, 1)
    yield "a point near it", close, True
    if (switched := points.switched_on(call, close)) is not None:
        yield "a point near it, zero scalars switched on", switched, True
    fresh = points.moved(call, leaves, points.generic, 2)
    yield "a point with fresh weights", fresh, points.extreme(call, leaves)
    few = points.moved(call, leaves, points.small, 3)
    yield "a point with small weights", few, False
    for weights, name in ((fresh, "fresh"), (few, "small")):
        if (tamed := points.tamed(call, weights, 4)) is not None:
            yield f"a point with {name} weights and data of size 1", tamed, weights is fresh
    yield "a point with fresh weights, signs turned", points.turned(call, leaves, fresh), False
    if (mixed := points.of_both_signs(call, leaves, 5)) is not None:
        yield SIGNS, mixed, True


def _unsaturated(call: Call, leaves: list, sides: Sides) -> list | None:
    """Weights halved until autodiff is finite: the nearest to those given where it can judge."""
    for k in range(1, 8):
        halved = [np.asarray(x) / 2**k if n in call.places else x for n, x in enumerate(leaves)]
        side = sides.reference(halved)
        if all(np.isfinite(r).all() for r in side.values):
            return halved
    return None


def _tried(call: Call, leaves: list, sides: Sides, belongs: Callable[[list], bool]) -> list[Point]:
    """The given point, then others until one is wrong, or one near it is right and all is told.

    A positive matrix may have to be so: another that changes sign counts only where both sides are
    finite and it belongs to what they are meant for.
    """
    tried = [_judged("the given point", call, leaves, sides)]
    if tried[0].is_wrong or sides.precomputed:
        return tried
    others: Iterable = _candidates(call, leaves)
    if not all(np.isfinite(r).all() for r in tried[0].reference.values):
        nearest = _unsaturated(call, leaves, sides)
        others = chain([(NEAREST, nearest, True)] if nearest else [], others)
    for name, at, always in others:
        if not always and all(_told(tried)):
            continue
        try:
            point = _judged(name, call, at, sides)
        except BadCall:  # a gradient that is only called may refuse a point
            continue
        finite = all(np.all(np.isfinite(h)) for h in point.hand.values)
        if name == SIGNS and point.is_wrong and not (finite and belongs(at)):
            continue
        tried.append(point)
        if point.is_wrong:
            break
    return tried


def _resized(call: Call, leaves: list, readable: bool) -> Point | None:
    """The batch three times over, where its size hides mistakes; None where it makes no sense."""
    more = points.repeated(call, leaves)
    if more is None or not readable:
        return None
    bigger = call._replace(args=call.rebuilt(more), leaves=more)
    try:
        return _judged(SIZES, bigger, more, _sides(bigger, more, True))
    except Exception:  # a size the functions do not take: nothing is learned
        return None


def _said(point: Point) -> str:
    if point.is_wrong:
        return "wrong"
    kinks = sum(count for note, count in point.reference.notes.items() if note.kind == "kink")
    if all(point.told):
        return "right"
    silent = [p for p, told in zip(point.call.paths, point.told, strict=True) if not told]
    names = ", ".join(silent[:3]) + (", …" if len(silent) > 3 else "")
    why = "at a kink" if kinks else "zero, cancelling or unbounded"
    if any(b.any() for b in point.blank):
        why = "neither side is finite"
    return f"nothing wrong, but indistinguishable here ({why}): {names}"


def _cast(call: Call, leaves: list) -> list:
    """Float64 leaves as the caller's own kinds."""
    out = []
    for x, original in zip(leaves, call.leaves, strict=True):
        if isinstance(original, jax.Array) and jnp.issubdtype(original.dtype, jnp.floating):
            out.append(jnp.asarray(x, original.dtype))
        elif isinstance(original, np.ndarray | np.generic) and original.dtype.kind == "f":
            out.append(np.asarray(x, original.dtype))
        else:
            out.append(float(x) if isinstance(original, float) else x)
    return out


def reported(call: Call, steps, printed, belongs: Callable[[list], bool] = lambda _: True) -> Report:
    """The report on a call that is known to make sense; printed: what was held back so far.

    belongs: whether a point of these leaves is one that the functions are meant for.
    """
    eps = float(jnp.finfo(call.dtype).eps)
    leaves = [widened(x) for x in call.leaves]
    elsewhere = _cast(call, points.moved(call, leaves, points.near, 1))
    calls = called_repeatedly(call, elsewhere, eps)
    sides = _sides(call, leaves, calls.repeatable)
    notes = list(sides.notes)
    tried: list[Point] = []
    if calls.repeatable:
        try:
            tried = _tried(call, leaves, sides, belongs)
        except BadCall as error:
            if not isinstance(error.__cause__, jax.errors.UnexpectedTracerError):
                raise
            kept = Probe("purity", False, "it computes with values that an earlier call left behind")
            probes = [kept if p.name == "purity" else p for p in calls.probes]
            calls = calls._replace(probes=probes, repeatable=False, keeps=True)
    if not calls.repeatable:
        tried = [_unsteady(call, leaves, sides.reference(leaves), calls, eps)]
    decisive = next((p for p in tried if p.is_wrong), None)
    told = [t and not b.any() for t, b in zip(_told(tried), tried[0].blank, strict=True)]
    said = [(p.name, _said(p)) for p in tried]
    causes: list[Cause] = []
    correct: bool | None = True if all(told) else None
    if decisive is not None and decisive.name == SIGNS:
        correct = None
        notes.append("right with weights of the signs given, wrong with others, where it may not belong")
    elif decisive is not None or not calls.repeatable:
        correct = False
    elif (resized := _resized(call, leaves, sides.readable)) is not None:
        said.append((resized.name, _said(resized)))
        if resized.is_wrong:
            correct, decisive = None, resized
            notes.append("right at the sizes given, wrong at others: no point of these sizes can tell")
    shown = decisive or tried[0]
    reference_program, hand_program, probes = _programs(call, sides, tried, calls, eps)
    rows, accurate = _numbers(call, sides, tried[0], calls, reference_program)
    if correct is False or decisive is not None:
        causes, trouble = _causes(call, sides, shown, tried, calls, eps)
        notes += trouble
    parameters = [
        _leaf(call, shown, n, rows[n] if shown is tried[0] else None, told[n], correct)
        for n in range(len(call.places))
    ]
    faulty = _steps(shown, steps) if steps is not None else []
    notes += _remarks(call, tried, rows, printed)
    report = Report(
        correct,
        accurate,
        "",
        parameters,
        causes,
        faulty,
        [*calls.probes, *probes],
        {
            "hand": None if hand_program is None else hand_program.cost,
            "autodiff": None if reference_program is None else reference_program.cost,
        },
        said,
        notes,
        str(call.dtype),
        (function_name(call.gradient), function_name(call.loss)),
    )
    return report._replace(headline=_headline(report, shown))


def _unsteady(call: Call, leaves: list, reference: Side, calls: Calls, eps: float) -> Point:
    """A gradient whose calls disagree, at the given point: the call that is furthest off."""
    scale = 64 * eps / UNIT

    def held(values: list[np.ndarray]) -> Point:
        errors = [scale * e + 64 * eps * np.abs(v) for e, v in
                  zip(reference.errors, values, strict=True)]  # fmt: skip
        side = Side(values, errors, [False] * len(values), {})
        return _held("the given point, called again", call, leaves, reference, side)

    each = [held(v) for v in (calls.first, calls.second, calls.last)]
    return max(each, key=lambda p: sum(int(w.sum()) for w in p.wrong))


def _programs(
    call: Call, sides: Sides, tried: list[Point], calls: Calls, eps: float
) -> tuple[Program | None, Program | None, list[Probe]]:
    """Both sides compiled in the caller's dtype; jit against eager, vmap against a loop."""
    given = [call.leaves[k] for k in call.dynamic]
    derivative = jax.grad(call.loss, call.argnums)
    try:
        of_dynamic, _ = call.traceable(derivative, call.leaves)
        ours = compiled(jax.make_jaxpr(of_dynamic)(*given), given)
    except Exception:  # what runs in float64 need not run here, as on a device without that dtype
        ours = None
    if not sides.readable:
        return ours, None, []
    try:
        of_dynamic, _ = call.traceable(call.gradient, call.leaves)
        theirs = compiled(jax.make_jaxpr(of_dynamic)(*given), given)
        jitted = [np.asarray(x).astype(np.float64) for x in theirs.run(*given)]
    except Exception as error:
        return ours, None, [Probe("jit", False, f"jax.jit of it raised {type(error).__name__}")]
    probes = []
    if calls.repeatable:
        with np.errstate(all="ignore"):
            agree = all(
                bool(np.all((np.abs(j - g) <= 4 * eps / UNIT * e + 64 * eps * np.abs(g))
                            | (np.isnan(j) & np.isnan(g)) | (j == g)))
                for j, g, e in zip(jitted, calls.last, tried[0].hand.errors, strict=True)
            )  # fmt: skip
        text = "compiled and not, it gives the same" if agree else "compiled, it gives other values"
        probes.append(Probe("jit", agree, text))
    near = next((p for p in tried if p.name == "a point near it"), None)
    if near is not None:
        probes.append(_batched(call, tried[0], near, theirs))
    return ours, theirs, probes


def _batched(call: Call, p: Point, q: Point, program: Program) -> Probe:
    """jax.vmap over two points against the two, one after the other; once for each program."""
    if program.seen:
        return program.seen[0]
    program.seen.append(_batched_anew(call, p, q))
    return program.seen[0]


def _batched_anew(call: Call, p: Point, q: Point) -> Probe:
    live = set(call.places)
    stacked = [
        np.stack([p.leaves[k], q.leaves[k]]) if k in live else p.leaves[k] for k in range(len(p.leaves))
    ]
    axes = tuple(0 if k in live else None for k in call.dynamic)

    def batched(*args):
        flat = jax.tree.leaves(args)
        of_dynamic, _ = call.traceable(call.gradient, p.leaves)
        return jax.vmap(of_dynamic, in_axes=axes)(*(flat[k] for k in call.dynamic))

    try:
        both = evaluated(call, traced(call, batched, stacked), stacked)
    except Exception as error:
        return Probe("vmap", None, f"it cannot be batched ({type(error).__name__})")
    agree = True
    for n, value in enumerate(both.values):
        for k, point in enumerate((p, q)):
            bound = both.errors[n][k] + point.hand.errors[n]
            with np.errstate(all="ignore"):
                apart = np.abs(value[k] - point.hand.values[n]) > bound
            agree = agree and not apart.any()
    text = "jax.vmap over points agrees with a loop"
    return Probe("vmap", agree, text if agree else "jax.vmap over points differs from a loop")


def _numbers(
    call: Call, sides: Sides, given: Point, calls: Calls, program: Program | None
) -> tuple[list[Numerics | None], bool | None]:
    """The second verdict at the given point; None where autodiff does not run in that dtype."""
    if program is None:
        return [None] * len(call.places), None
    autodiff = program.run(*(call.leaves[k] for k in call.dynamic))
    truth = [
        np.where(np.isfinite(r), r, np.where(e < np.inf, h, np.nan))
        for r, h, e in zip(given.reference.values, given.hand.values, given.hand.errors, strict=True)
    ]
    eps = float(jnp.finfo(call.dtype).eps)
    shaken = given.reference
    if sides.cornered:
        shaken = sides.reference(given.leaves, shake=2 * eps)
    with np.errstate(all="ignore"):
        rows = numerics(
            truth,
            given.reference.errors,
            [_corners(given, n, s) for n, s in enumerate(shaken.errors)],
            calls.last,
            [np.asarray(a).astype(np.float64) for a in autodiff],
            call.dtype,
        )
    blank = any(b.any() for b in given.blank)
    return list(rows), None if blank else all(r.accurate for r in rows)


def _corners(given: Point, n: int, shaken: np.ndarray) -> np.ndarray:
    """The reference's errors when shaken, unbounded where a kink decides."""
    sides = (given.reference, given.hand)
    if not any(note.kind == "kink" for side in sides for note in side.notes):
        return shaken
    undecided = given.bound(n) > 1e-3 * np.abs(given.reference.values[n])
    return np.where(undecided, np.inf, shaken)


def _tree(call: Call, flat: list[np.ndarray]):
    """Leaves as a tree like args[argnums]."""
    return jax.tree.unflatten(jax.tree.structure(call.selected(call.args)), flat)


def _causes(
    call: Call, sides: Sides, shown: Point, tried: list[Point], calls: Calls, eps: float
) -> tuple[list[Cause], list[str]]:
    if not calls.repeatable:
        return _unsteady_causes(call, sides, shown.leaves, calls), []
    if any(_coarse(note, call.dtype) for note in shown.hand.notes) and shown.call is call:
        meant = _held("", call, shown.leaves, shown.reference, sides.as_meant(shown.leaves))
        if not meant.is_wrong:
            return [_low_precision(shown, call.dtype)], []
    stale = _stale_cause(call, sides, shown, calls, eps)
    if stale is not None:
        return [stale], []

    def gradient(*args):
        return call.gradient(*own_copies(args))

    n_places = range(len(call.places))
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        try:
            found = find_causes(
                call.loss,
                gradient,
                shown.call.rebuilt(shown.leaves),
                call.argnums,
                _tree(shown.call, shown.hand.values),
                _tree(shown.call, shown.reference.values),
                _tree(shown.call, [shown.bound(n) for n in n_places]),
            )
        except Exception as error:  # the verdict stands without a diagnosis
            text = [*str(error).strip().splitlines(), ""][0][:120]
            return [], [f"the diagnosis stopped with {type(error).__name__}: {text}"]
    return [_renamed(call, cause) for cause in found], []


def _renamed(call: Call, cause: Cause) -> Cause:
    """The cause with the names of the report in the place of bare paths: W1 for ['W1']."""
    paths, _ = jax.tree_util.tree_flatten_with_path(call.selected(call.args))
    bare = {jax.tree_util.keystr(path): name for (path, _), name in zip(paths, call.paths, strict=True)}
    if (alone := bare.pop("", None)) is not None:
        bare["the parameter"] = alone
    longest_first = "|".join(map(re.escape, sorted(bare, key=len, reverse=True)))
    pattern = re.compile(rf"(?<![\w\]])(?:{longest_first})(?![\[\w]|\.\w)")

    def named(text: str) -> str:
        return pattern.sub(lambda match: bare[match[0]], text)

    return cause._replace(sentence=named(cause.sentence), where=named(str(cause.where)))


def _low_precision(shown: Point, dtype) -> Cause:
    pinned = [note for note in shown.hand.notes if _coarse(note, dtype)]
    where = ", ".join(sorted({n.where for n in pinned if n.where})) or "inside the gradient"
    what = " and ".join(sorted({n.what for n in pinned}))
    return Cause(
        "low-precision",
        f"it is computed in {what} on the way, the loss is not; the formula itself is right",
        where,
        1.0,
        "the conversion stands in the code: keep the precision of the parameters",
    )


def _unsteady_causes(call: Call, sides: Sides, leaves: list, calls: Calls) -> list[Cause]:
    kind = kept(call, leaves, sides.reference)
    if calls.keeps and kind is None:
        sentence = "it computes with values that an earlier call left behind, though here its calls agree"
        return [Cause(id, sentence, "all parameters", 0.45, EQUATIONS[id]) for id in ("stale", "accumulated")]
    sentence, confidence = KEPT.get(kind or "", (DRAWN, 0.8))
    id = kind or "mask-resampled"
    return [Cause(id, sentence, "all parameters", confidence, EQUATIONS[id])]


KEPT = {
    "accumulated": (
        "it adds to what earlier calls left: every call is the one before plus the gradient",
        1.0,
    ),
    "stale": ("it uses values kept from the call before: right only when called twice at one point", 1.0),
}
DRAWN = "two calls with the same arguments disagree: something is drawn anew, such as a mask"


def _stale_cause(call: Call, sides: Sides, shown: Point, calls: Calls, eps: float) -> Cause | None:
    """Right where it was called first, the same values ever after."""
    if calls.elsewhere is None or shown.name != "the given point":
        return None
    moved = [np.asarray(x, np.float64) for x in calls.elsewhere]
    if not all(np.array_equal(a, b) for a, b in zip(moved, calls.first, strict=True)):
        return None
    first = _cast(call, points.moved(call, shown.leaves, points.near, 1))
    there = sides.reference([widened(x) for x in first])
    scale = 64 * eps / UNIT
    right = all(
        np.all(np.abs(m - r) <= scale * e + 64 * eps * np.abs(r))
        for m, r, e in zip(moved, there.values, there.errors, strict=True)
    )
    if not right or not any(np.any(m) for m in moved):
        return None
    return Cause(
        "stale",
        "it keeps what its first call computed: right there, the same values ever after",
        "all parameters",
        1.0,
        "every residual belongs to the forward pass of the same call",
    )


def _steps(shown: Point, steps) -> list:
    call = shown.call
    args = call.rebuilt(shown.leaves)
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        handed: Any = steps(*own_copies(args)) if callable(steps) else steps
        return check_steps(call.loss, args, call.argnums, _tree(call, shown.hand.values), handed)


def _leaf(call: Call, shown: Point, n: int, row: Numerics | None, told: bool, correct) -> Leaf:
    r, h, wrong, bound = (
        shown.reference.values[n],
        shown.hand.values[n],
        shown.wrong[n],
        shown.bound(n),
    )
    with np.errstate(all="ignore"):
        error = np.where(np.isfinite(h), np.abs(h - r), np.inf)
        ratio = np.where(error == 0, 0.0, error / bound)
        ratio = np.where(wrong & ~np.isfinite(h), np.inf, np.where(np.isnan(ratio), 0.0, ratio))
        own = in_ulps(h - r, r, call.dtype)
        largest = np.max(np.abs(r[np.isfinite(r)]), initial=0.0)
        relative = np.where(error == 0, 0.0, error / largest)
    theirs = np.full(r.shape, np.nan)
    if row is not None:
        theirs = row.autodiff_ulps
        if not wrong.any():
            own, relative = row.ulps, row.relative
    blame = np.where(np.isfinite(r), relative, -1.0)
    if wrong.any():
        blame = np.where(wrong, error, -1.0)
    elif shown.blank[n].any():
        blame = np.where(shown.blank[n], 1.0, 0.0)
    elif row is not None and row.poor.any():
        blame = np.where(row.poor, row.ulps, -1.0)
    index = tuple(int(i) for i in np.unravel_index(np.argmax(blame), r.shape)) if r.size else ()

    def at(a: np.ndarray) -> float:
        return float(a[index]) if r.size else 0.0

    verdict = True if told else None
    if wrong.any():
        verdict = correct
    return Leaf(
        path=call.paths[n],
        shape=tuple(r.shape),
        index=index,
        hand=at(h),
        autodiff=at(r),
        ulps=at(own),
        autodiff_ulps=at(theirs),
        error=at(error),
        bound=at(bound),
        ratio=float(np.max(ratio, initial=0.0)),
        correct=verdict,
        accurate=row is None or row.accurate,
        better=row is not None and row.better,
        wrong=int(wrong.sum()),
        picture=picture(relative),
    )


def _remarks(call: Call, tried: list[Point], rows: list, printed) -> list[str]:
    """What a reader should know besides: kinks, unknown primitives, pinned precisions, praise."""
    met: dict[Note, int] = {}
    for point in tried:
        for side in (point.reference, point.hand):
            for note, count in side.notes.items():
                met[note] = max(met.get(note, 0), count if point is tried[0] else 0)
    out = []
    for note, count in met.items():
        at = f" at {note.where}" if note.where else ""
        if note.kind == "kink" and count:
            out.append(
                f"a kink{at}: {count} {'tie' if count == 1 else 'ties'} ({note.what}) at the given "
                "point, where the derivative has no single value; either side is accepted"
            )
        if note.kind == "unknown":
            out.append(
                f"no rule for the primitive {note.what}{at}: its error is estimated by moving "
                "its inputs, with a margin"
            )
        if note.kind == "pinned":
            out.append(f"the code rounds to {note.what}{at}")
    better = [p for p, row in zip(call.paths, rows, strict=True) if row is not None and row.better]
    if better:
        out.append(
            f"more accurate than autodiff in {call.dtype}, for {', '.join(better[:4])}"
            + (", …" if len(better) > 4 else "")
            + ": well done"
        )
    lost = [
        p for p, r in zip(call.paths, tried[0].reference.values, strict=True) if not np.all(np.isfinite(r))
    ]
    if lost:
        out.append(
            f"autodiff is not finite at the given point, for {', '.join(lost[:4])}"
            + (", …" if len(lost) > 4 else "")
            + ": those entries are judged at other points"
        )
    blank = [p for p, b in zip(call.paths, tried[0].blank, strict=True) if b.any()]
    agreed = [p.name for p in tried if all(p.told)]
    if blank and agreed:
        out.append(f"where both sides are finite they agree: right at {', '.join(agreed)}")
    lines = printed.getvalue().count("\n")
    if lines:
        out.append(f"the functions printed {lines} lines, which are not shown")
    return out


def _headline(report: Report, shown: Point) -> str:
    hand = report.names[0]
    cause = f"; likeliest cause: {report.causes[0].sentence}" if report.causes else ""
    wrong = [leaf for leaf in report.leaves if leaf.wrong]
    if report.correct is False and not wrong:
        return f"{hand} is wrong: its calls depend on one another{cause}"
    if wrong:
        worst = max(wrong, key=_severity)
        where = "" if shown.name == "the given point" else f" at {shown.name}"
        kept = "signs" if shown.name == SIGNS else "sizes"
        opening = "" if report.correct is False else f"cannot tell at these {kept}, but "
        return (
            f"{opening}{place(worst)}: by hand {worst.hand:.6g}, autodiff {worst.autodiff:.6g}, "
            f"{ulps(worst.ulps)} {report.dtype} ULPs apart{where}{cause}"
        )
    if report.correct is None:
        if any(b.any() for b in shown.blank):
            leaf = next(x for x, b in zip(report.leaves, shown.blank, strict=True) if b.any())
            return (
                f"cannot tell whether {hand} is right here: {place(leaf)} is {leaf.hand:.6g} by hand and "
                f"{leaf.autodiff:.6g} by autodiff; write both so that they stay finite"
            )
        silent = [leaf.path for leaf in report.leaves if leaf.correct is None]
        return (
            f"cannot tell whether {hand} is right: indistinguishable at every point tried, for "
            + ", ".join(silent[:3])
            + (", …" if len(silent) > 3 else "")
        )
    if report.accurate is False:
        worst = max((x for x in report.leaves if not x.accurate), key=lambda leaf: leaf.ulps)
        return (
            f"{place(worst)}: the formula is right, but in {report.dtype} it is "
            f"{ulps(worst.ulps)} ULPs off where autodiff is {ulps(worst.autodiff_ulps)}"
        )
    return f"{hand} is the gradient of {report.names[1]}"


def _severity(leaf: Leaf) -> float:
    """How wrong, so that the first line shows the parameter that is worst off."""
    size = max(abs(leaf.hand), abs(leaf.autodiff)) if math.isfinite(leaf.hand) else 0.0
    return leaf.error / size if size else math.inf
