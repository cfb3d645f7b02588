"""The first line of the report, and what a reader should know besides."""

import math

import numpy as np

from jaxnn.gradcheck.bounds.bounded import Note
from jaxnn.gradcheck.calls.call import Call
from jaxnn.gradcheck.jaxprs.primitives import called
from jaxnn.gradcheck.report.report import Leaf, Report, apart, place, ulps
from jaxnn.gradcheck.verdict.trials import SIGNS, Point


def headline(report: Report, shown: Point) -> str:
    """The verdict in one line; where it is wrong, the worst entry and the likeliest cause."""
    hand, loss = report.names
    hand = "the gradient" if hand == loss else hand  # as jax.grad names what it returns
    wrong = [leaf for leaf in report.leaves if leaf.wrong]
    if report.correct is False and not wrong:
        return blaming(f"{hand} is wrong: its calls depend on one another", report.causes)
    if wrong:
        worst = max(wrong, key=_severity)
        where = "" if shown.name == "the given point" else f" at {shown.name}"
        kept = "signs" if shown.name == SIGNS else "sizes"
        opening = "" if report.correct is False else f"cannot tell at these {kept}, but "
        mine, right = apart(worst.hand, worst.autodiff)
        line = (
            f"{opening}{place(worst)}: by hand {mine}, autodiff {right}, "
            f"{ulps(worst.ulps)} {report.dtype} ULPs apart{where}"
        )
        return blaming(line, report.causes)
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
    writes = any(p.name == "arguments" and p.passed is False for p in report.probes)
    besides = ", but it writes into its arguments" if writes else ""
    what = "that" if hand == "the gradient" else "the gradient"
    return f"{hand} is {what} of {loss}{besides}"


def blaming(line: str, causes: list) -> str:
    """The first line with the likeliest cause at its end, in one sentence."""
    line = line.partition(BLAME)[0]
    return f"{line}{BLAME}{causes[0].sentence.split('. ')[0].rstrip('.')}" if causes else line


BLAME = "; likely cause: "


def _severity(leaf: Leaf) -> float:
    """How wrong, so that the first line shows the parameter that is worst off."""
    size = max(abs(leaf.hand), abs(leaf.autodiff)) if math.isfinite(leaf.hand) else 0.0
    return leaf.error / size if size else math.inf


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
