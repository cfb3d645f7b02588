"""What a reader should know besides the verdicts, in words."""

from itertools import compress

import numpy as np

from jaxnn.gradcheck.bounds.bounded import UNIT, Note
from jaxnn.gradcheck.calls.call import Call
from jaxnn.gradcheck.jaxprs.primitives import called
from jaxnn.gradcheck.report.words import listed
from jaxnn.gradcheck.verdict.point import VISIBLE, Pair, Point, Sides

ESTIMATES = {"sampled", "unknown", "long", "whole", "iterated", "differences"}  # notes on bounds not derived
NOTES = {
    "sampled": "the bound of {what}{at} is an estimate: it was sampled",
    "unknown": "the bound of {what}{at} is an estimate: there is no rule for it, so it was sampled",
    "long": "the bound of {what}{at} is an estimate: its loops are too long to be read, so it was sampled",
    "differences": "the bound of differences is an estimate, from steps of three sizes",
    "rounded": "the gradient by hand rounds to {what} inside, and is held to what that allows",
    "whole": "the bound of {what}{at} is an estimate: JAX runs it only as a whole, so it was sampled",
    "iterated": "the bound of {what}{at} is an estimate: it iterates, and more turns would take it so far",
    "pinned": "the code rounds to {what}{at}",
    "kink": "a kink{at}: {ties} ({what}) at the given point, where the derivative has no single value; "
    "either side is accepted",
}


def notes_of(tried: list[Point]) -> dict[Note, int]:
    """All that was noted at any point, each with how often at the given one."""
    met: dict[Note, int] = {}
    for n, point in enumerate(tried):
        for side in (point.reference, point.hand):
            for note, count in side.notes.items():
                met[note] = max(met.get(note, 0), 0 if n else count)
    return met


def is_estimate(tried: list[Point], sides: Sides) -> bool:
    """Whether some bound is no more than an estimate."""
    return sides.program is None or any(note.kind in ESTIMATES for note in notes_of(tried))


def remarks(call: Call, tried: list[Point], rows: list, printed, correct: bool | None) -> list[str]:
    """What a reader should know besides: kinks, estimates, pinned precisions, praise."""
    out = [
        NOTES[note.kind].format(
            what=called(note.what), at=_at(note), ties=f"{count} tie" if count == 1 else f"{count} ties"
        )
        for note, count in notes_of(tried).items()
        if note.kind in NOTES and (count or note.kind != "kink")
    ]
    off = [
        float(np.max(pair.off[pair.faint] / np.abs(pair.reference)[pair.faint]))
        for point in tried
        for pair in point.pairs
        if pair.faint.any()
    ]
    if off and correct:
        out.append(
            f"by hand and by autodiff differ by up to {max(off):.1g} of an entry: more than float64 rounds, "
            "and no more than numbers with few digits explain, in the code or the data"
        )
    if correct and any(_in_few_digits(point) for point in tried):
        out.append("numbers or arrays have few digits in the code: entries are held to what these allow")
    given = tried[0]
    better = list(compress(call.paths, (row is not None and row.better for row in rows)))
    if better:
        out.append(f"more accurate than autodiff in {call.dtype}, for {listed(better, 4)}: well done")
    lost = list(compress(call.paths, (not np.isfinite(r).all() for r in given.reference.values)))
    if lost:
        out.append(
            f"autodiff is not finite at the given point, for {listed(lost, 4)}: those entries are judged "
            "at other points"
        )
    agreed = [p.kind.value for p in tried if all(p.told)]
    if agreed and given.is_blank:
        out.append(f"where both sides are finite they agree: right at {', '.join(agreed)}")
    if printed.lines:
        out.append(f"the functions printed {printed.lines} lines, which are not shown")
    return out


def _in_few_digits(point: Point) -> bool:
    """Whether an entry is told of that is not known to the digits of float64."""
    coarse = (np.any(p.bound[p.seen] > VISIBLE[UNIT] * p.top) for p in point.pairs if p.top > 0)
    return point.reference.grain > UNIT and any(coarse)


def what_it_says(point: Point) -> str:
    """What the point says of the gradient, in words."""
    if point.is_wrong:
        return "wrong"
    if all(point.told):
        return "right"
    if all((pair.seen | pair.faint).all() for pair in point.pairs):
        return "right to the digits of float32"
    silent: dict[str, list[str]] = {}
    for path, told, pair in zip(point.call.paths, point.told, point.pairs, strict=True):
        if not told:
            silent.setdefault(_why(point, pair), []).append(path)
    reasons = "; ".join(f"{listed(paths, 3)} ({why})" for why, paths in silent.items())
    return f"nothing wrong, but indistinguishable here: {reasons}"


def _why(point: Point, pair: Pair) -> str:
    """Why a point does not tell of a leaf."""
    met = {note.kind: note for side in (point.hand, point.reference) for note in side.notes}
    if pair.blank.any():
        return "neither side is finite"
    if pair.flat:
        return "flat"
    if pair.top == 0 and np.isfinite(pair.bound).all():
        return "zero"
    if kink := met.get("kink"):
        return f"at a kink{_at(kink)}"
    if np.isfinite(pair.bound[~pair.seen]).all():
        return "cancelling: too small beside what was added up"
    if step := met.get("unbounded"):
        return f"no bound on the rounding of {called(step.what)}{_at(step)}"
    return "unbounded"


def _at(note: Note) -> str:
    return note.where and f" at {note.where}"
