"""What a reader should know besides the verdicts, in words."""

from itertools import compress

import numpy as np

from jaxnn.gradcheck.bounds.bounded import Note
from jaxnn.gradcheck.calls.call import Call
from jaxnn.gradcheck.jaxprs.primitives import called
from jaxnn.gradcheck.report.formats import listed
from jaxnn.gradcheck.verdict.point import Point, Sides

ESTIMATES = {"sampled", "unknown", "long", "differences"}  # kinds of notes on bounds that are not derived
NOTES = {
    "sampled": "the bound of {what}{at} is an estimate: it was sampled",
    "unknown": "the bound of {what}{at} is an estimate: there is no rule for it, so it was sampled",
    "long": "the bound of {what}{at} is an estimate: its loops are too long to be read, so it was sampled",
    "differences": "the bound of differences is an estimate, from steps of three sizes",
    "single": "the gradient by hand rounds to float32 inside, and is held to what that allows",
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
            what=called(note.what),
            at=note.where and f" at {note.where}",
            ties=f"{count} tie" if count == 1 else f"{count} ties",
        )
        for note, count in notes_of(tried).items()
        if count or note.kind != "kink"
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
    if lines := printed.getvalue().count("\n"):
        out.append(f"the functions printed {lines} lines, which are not shown")
    return out


def what_it_says(point: Point) -> str:
    """What the point says of the gradient, in words."""
    if point.is_wrong:
        return "wrong"
    if all(point.told):
        return "right"
    if all((pair.seen | pair.faint).all() for pair in point.pairs):
        return "right to the digits of float32"
    kink = any(count for note, count in point.reference.notes.items() if note.kind == "kink")
    why = "at a kink" if kink else "zero, cancelling or unbounded"
    why = "flat" if any(pair.flat for pair in point.pairs) else why
    why = "neither side is finite" if point.is_blank else why
    silent = [p for p, told in zip(point.call.paths, point.told, strict=True) if not told]
    return f"nothing wrong, but indistinguishable here ({why}): {listed(silent, 3)}"
