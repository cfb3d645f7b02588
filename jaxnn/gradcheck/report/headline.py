"""The first line of the report."""

import math

from jaxnn.gradcheck.report.model import Cause, Leaf
from jaxnn.gradcheck.report.report import Report
from jaxnn.gradcheck.report.words import apart, joined, listed, ulps

FAILED = {
    "arguments": "it writes into its arguments",
    "forward": "it returns other values than the plain function",
}
"""Probes whose failure is told in the first line of what is right, by their names."""


def headline(report: Report, at: str, kept: str, opening: str = "", seen_in: str = "") -> str:
    """The verdict in one line; where it is wrong, the parameters and the likeliest cause.

    at: the point that is shown, "" for the given one; kept: what of it was kept where that is why nothing
    could tell; opening: what is to be said first, and is all where nothing could tell; seen_in: the type in
    half precision that the gradient computes in, if it does: more than its digits is not known to be right.
    """
    if opening and report.correct is None:
        return opening
    said = _verdict(report, at, kept, "differences" if opening else "autodiff")
    if seen_in and report.correct:
        said = f"as far as {seen_in} shows, {said}"
    return f"{opening}: {said}" if opening else said


def _verdict(report: Report, at: str, kept: str, judge: str) -> str:
    name, loss = report.names
    hand = "the gradient" if name == loss else name  # as jax.grad names what it returns
    wrong = [leaf.path for leaf in report.leaves if leaf.wrong]
    if wrong or report.correct is False:
        opening = "" if report.correct is False else f"cannot tell at these {kept}; at {at} "
        subject = joined(wrong, 2) if wrong else f"{hand}, whose calls depend on one another,"
        said = (
            _cause(report.causes[0], joined(wrong))
            if report.causes
            else _apart(report.worst or report.leaves[0], judge)
        )
        return f"{opening}{subject} wrong: {said}"
    if report.correct is None:
        return _cannot_tell(hand, report.leaves)
    line = f"{hand} is {'that' if name == loss else 'the gradient'} of {loss}"
    if report.accurate is False:
        worst = max((x for x in report.leaves if x.accurate is False), key=lambda leaf: leaf.ulps)
        line = (
            f"{worst.place}: the formula is right, but in {report.dtype} it is "
            f"{ulps(worst.ulps)} ULPs off where autodiff is {ulps(worst.autodiff_ulps)}"
        )
    return line + "".join(
        f", but {FAILED[p.name]}" for p in report.probes if p.passed is False and p.name in FAILED
    )


def _cause(cause: Cause, wrong: str) -> str:
    """A cause, by its id if it has one, without the names of the parameters that were said already."""
    says = cause.sentence.rstrip(".").replace(f"The gradient of {wrong} ", "the gradient ")
    return says if cause.id == "unknown" else f"{cause.id} ({cause.confidence}): {says}"


def _apart(leaf: Leaf, judge: str) -> str:
    mine, right = apart(leaf.hand, leaf.autodiff)
    return f"{leaf.place} is {mine} by hand, {right} by {judge}"


def _cannot_tell(hand: str, leaves: list[Leaf]) -> str:
    for leaf in leaves:
        if not math.isfinite(leaf.hand) and leaf.hand != leaf.autodiff:
            return (
                f"cannot tell whether {hand} is right here: {leaf.place} is {leaf.hand:.6g} by hand and "
                f"{leaf.autodiff:.6g} by autodiff; write both so that they stay finite"
            )
    silent = listed([leaf.path for leaf in leaves if leaf.correct is None], 3)
    return f"cannot tell whether {hand} is right: indistinguishable at every point tried, for {silent}"
