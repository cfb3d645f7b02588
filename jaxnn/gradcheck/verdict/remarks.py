"""What a reader should know besides the verdicts."""

import numpy as np

from jaxnn.gradcheck.bounds.bounded import Note
from jaxnn.gradcheck.calls.call import Call
from jaxnn.gradcheck.jaxprs.primitives import called
from jaxnn.gradcheck.verdict.point import Point


def remarks(call: Call, tried: list[Point], rows: list, printed, correct: bool | None) -> list[str]:
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
                f"a kink{at}: {count} {'tie' if count == 1 else 'ties'} ({called(note.what)}) at the given "
                "point, where the derivative has no single value; either side is accepted"
            )
        if note.kind == "unknown":
            out.append(
                f"no rule for {called(note.what)}{at}: its error is estimated by moving "
                "its inputs, with a margin"
            )
        if note.kind == "pinned":
            out.append(f"the code rounds to {note.what}{at}")
    off = [
        float(np.max(np.abs(h - r)[f] / np.abs(r)[f]))
        for p in tried
        for h, r, f in zip(p.hand.values, p.reference.values, p.faint, strict=True)
        if f.any()
    ]
    if off and correct:
        out.append(
            f"by hand and by autodiff differ by up to {max(off):.1g} of an entry: more than float64 rounds, "
            "and no more than numbers with few digits explain, in the code or the data"
        )
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
