"""A report as text, for a terminal."""

import textwrap

from jaxnn.gradcheck.report.model import Leaf
from jaxnn.gradcheck.report.words import amount, dimensions, short, ulps


def _wrapped(text: str, indent: str = "  ", first: str | None = None) -> list[str]:
    return textwrap.wrap(
        text,
        80,
        initial_indent=indent if first is None else first,
        subsequent_indent=indent,
        break_on_hyphens=False,
    ) or [""]


def _elided(text: str, width: int) -> str:
    if len(text) <= width:
        return text
    keep = width - 1
    return text[: keep // 2] + "…" + text[-(keep - keep // 2) :]


FLAGS = {"x": "wrong", "?": "cannot tell", "~": "right, but computed badly"}
MARK = {True: "right", False: "WRONG", None: "cannot tell"}


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


def body(report) -> list[str]:
    """All lines but the first."""
    numbers = {True: "good", False: "POOR", None: "not judged"}[good_numbers(report)]
    lines = [
        "",
        f"formula   {MARK[report.correct]}  (float64, bound {derived(report)})",
        f"numerics  {numbers}  (in {report.dtype}, in ULPs beside autodiff)",
        "",
        f"{'parameter':<22} {'shape':<12} {'worst at':<10} {'error/bound':>11} {'ULPs':>8} {'autodiff':>8}",
    ]
    lines += [
        f"{_flag(leaf)} {_elided(leaf.path, 20):<20} {_elided(dimensions(leaf.shape), 12):<12} "
        f"{_elided(', '.join(map(str, leaf.index)), 10):<10} {short(leaf.ratio):>11} "
        f"{ulps(leaf.ulps):>8} {ulps(leaf.autodiff_ulps):>8}"
        for leaf in report.leaves
    ]
    met = {_flag(leaf) for leaf in report.leaves}
    if meant := [f"{flag} {words}" for flag, words in FLAGS.items() if flag in met]:
        lines.append("  " + "; ".join(meant))
    for n, cause in enumerate(report.causes):
        if n == 0:
            lines += ["", "likeliest causes" if len(report.causes) > 1 else "likeliest cause"]
        lines += _wrapped(
            f"{cause.sentence} [{title(cause)}; {cause.where}; {cause.confidence}]", "     ", f"  {n + 1}. "
        )
        for equation in filter(None, cause.equation.split("; ")):
            lines += _wrapped(equation, "     ")
    if report.steps:
        lines += ["", "the steps handed in"]
        for step in report.steps:
            lines += _wrapped(step.sentence)
    lines += ["", "points"]
    for name, said in report.points:
        lines += _wrapped(f"{name}: {said}")
    lines += ["", "probes"]
    mark = {True: "ok", False: "FAILED", None: "not tried"}
    for probe in report.probes:
        lines += _wrapped(f"{probe.name}: {mark[probe.passed]}, {probe.sentence}", "    ", "  ")
    if rows := costs(report):
        lines += ["", f"{'cost':<22} {'by hand':>14} {'autodiff':>14}"]
        lines += [f"  {name:<20} {left:>14} {right:>14}" for name, left, right in rows]
    for n, note in enumerate(report.notes):
        lines += (["", "notes"] if n == 0 else []) + _wrapped(note, "    ", "  - ")
    return lines


COSTS = (
    ("arithmetic", "FLOP", "flops"),
    ("memory traffic", "B", "bytes"),
    ("temporary memory", "B", "temporary"),
    ("operations", "", "equations"),
)


def costs(report) -> list[tuple[str, str, str]]:
    """What both sides cost: (of what, by hand, autodiff); nothing where autodiff was not compiled."""
    hand, auto = report.cost.get("hand"), report.cost.get("autodiff")
    return [
        (
            name,
            "-" if hand is None else amount(getattr(hand, field), unit),
            amount(getattr(auto, field), unit),
        )
        for name, unit, field in COSTS
        if auto is not None
    ]
