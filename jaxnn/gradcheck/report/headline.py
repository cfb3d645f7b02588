"""The first line of the report."""

import math

import numpy as np

from jaxnn.gradcheck.report.model import Leaf
from jaxnn.gradcheck.report.report import Report
from jaxnn.gradcheck.report.words import apart, place, ulps


def headline(report: Report, at: str, kept: str, blank: list[np.ndarray]) -> str:
    """The verdict in one line; where it is wrong, the worst entry and the likeliest cause.

    at: the point that is shown, "" for the given one; kept: what of it was kept where that is why nothing
    could tell; blank: of each leaf, where neither side is finite.
    """
    hand, loss = report.names
    hand = "the gradient" if hand == loss else hand  # as jax.grad names what it returns
    wrong = [leaf for leaf in report.leaves if leaf.wrong]
    if report.correct is False and not wrong:
        return blaming(f"{hand} is wrong: its calls depend on one another", report.causes)
    if wrong:
        worst = max(wrong, key=_severity)
        where = f" at {at}" if at else ""
        opening = "" if report.correct is False else f"cannot tell at these {kept}, but "
        mine, right = apart(worst.hand, worst.autodiff)
        line = (
            f"{opening}{place(worst)}: by hand {mine}, autodiff {right}, "
            f"{ulps(worst.ulps)} {report.dtype} ULPs apart{where}"
        )
        return blaming(line, report.causes)
    if report.correct is None:
        if any(b.any() for b in blank):
            leaf = next(x for x, b in zip(report.leaves, blank, strict=True) if b.any())
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
