"""A report as text, for a terminal."""

import textwrap

from jaxnn.gradcheck.report.formats import amount, dimensions, short, ulps
from jaxnn.gradcheck.report.model import Leaf

FLAGS = {"x": "wrong", "?": "cannot tell", "~": "right, but computed badly"}
MARK = {True: "right", False: "WRONG", None: "cannot tell"}
NUMBERS = {True: "good", False: "POOR", None: "not judged"}
PROBED = {True: "ok", False: "FAILED", None: "not tried"}
COSTS = (
    ("arithmetic", "FLOP", "flops"),
    ("memory traffic", "B", "bytes"),
    ("temporary memory", "B", "temporary"),
    ("operations", "", "equations"),
)


def _wrapped(text: str, indent: str = "    ", first: str = "  ") -> list[str]:
    return textwrap.wrap(
        text, 80, initial_indent=first, subsequent_indent=indent, break_on_hyphens=False
    ) or [""]


def _elided(text: str, width: int) -> str:
    keep = width - 1
    return text if len(text) <= width else text[: keep // 2] + "…" + text[-(keep - keep // 2) :]


def of_known_numbers(report) -> list[Leaf]:
    """The parameters of which the second verdict says anything."""
    return [leaf for leaf in report.leaves if not leaf.wrong]


def good_numbers(report) -> bool | None:
    """The second verdict, where the formula is right; None where it is nowhere."""
    leaves = of_known_numbers(report)
    return None if report.accurate is None or not leaves else all(leaf.accurate for leaf in leaves)


def derived(report) -> str:
    """Where its bounds are from."""
    return "partly an estimate" if report.estimated else "derived from the computation"


def title(cause) -> str:
    """A cause by its id, if it has one."""
    return "no name" if cause.id == "unknown" else cause.id


def _flag(leaf: Leaf) -> str:
    return "~" if leaf.correct and not leaf.accurate else {True: " ", False: "x", None: "?"}[leaf.correct]


def place_and_ulps(leaf: Leaf) -> tuple[str, str, str, str]:
    """A parameter's shape, the entry that is shown, and the ULPs of both sides there."""
    at = ", ".join(map(str, leaf.index))
    return dimensions(leaf.shape), at, ulps(leaf.ulps), ulps(leaf.autodiff_ulps)


def _line(leaf: Leaf) -> str:
    shape, at, own, autodiff = place_and_ulps(leaf)
    return (
        f"{_flag(leaf)} {_elided(leaf.path, 20):<20} {_elided(shape, 12):<12} {_elided(at, 10):<10} "
        f"{short(leaf.ratio):>11} {own:>8} {autodiff:>8}"
    )


def body(report) -> list[str]:
    """All lines but the first."""
    met = set(map(_flag, report.leaves))
    meant = [f"{flag} {words}" for flag, words in FLAGS.items() if flag in met]
    lines = [
        "",
        f"formula   {MARK[report.correct]}  (float64, bound {derived(report)})",
        f"numerics  {NUMBERS[good_numbers(report)]}  (in {report.dtype}, in ULPs beside autodiff)",
        "",
        f"{'parameter':<22} {'shape':<12} {'worst at':<10} {'error/bound':>11} {'ULPs':>8} {'autodiff':>8}",
        *map(_line, report.leaves),
        *(["  " + "; ".join(meant)] if meant else []),
    ]
    if report.causes:
        lines += ["", "likeliest causes" if len(report.causes) > 1 else "likeliest cause"]
    for n, cause in enumerate(report.causes, 1):
        says = f"{cause.sentence} [{title(cause)}; {cause.where}; {cause.confidence}]"
        lines += _wrapped(says, "     ", f"  {n}. ")
        for equation in filter(None, cause.equation.split("; ")):
            lines += _wrapped(equation, "     ", "     ")
    if report.steps:
        lines += ["", "the steps handed in"]
        lines += [line for step in report.steps for line in _wrapped(step.sentence, "  ")]
    lines += ["", "points"]
    lines += [line for name, said in report.points for line in _wrapped(f"{name}: {said}", "  ")]
    lines += ["", "probes"]
    for probe in report.probes:
        lines += _wrapped(f"{probe.name}: {PROBED[probe.passed]}, {probe.sentence}")
    if rows := costs(report):
        lines += ["", f"{'cost':<22} {'by hand':>14} {'autodiff':>14}"]
        lines += [f"  {name:<20} {left:>14} {right:>14}" for name, left, right in rows]
    if report.notes:
        lines += ["", "notes", *(line for note in report.notes for line in _wrapped(note, first="  - "))]
    return lines


def costs(report) -> list[tuple[str, str, str]]:
    """What both sides cost: (of what, by hand, autodiff); nothing where autodiff was not compiled."""
    hand, auto = report.cost.get("hand"), report.cost.get("autodiff")
    if auto is None:
        return []
    return [
        (name, amount(getattr(hand, field, None), unit), amount(getattr(auto, field), unit))
        for name, unit, field in COSTS
    ]
