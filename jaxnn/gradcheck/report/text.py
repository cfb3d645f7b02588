"""A report as text, for a terminal."""

import textwrap

from jaxnn.gradcheck.report.model import Leaf
from jaxnn.gradcheck.report.words import amount, dimensions, short, ulps


def plain(item) -> dict:
    """A row as a dictionary."""
    return item._asdict() if hasattr(item, "_asdict") else {"text": str(item)}


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


MARK = {True: "right", False: "WRONG", None: "cannot tell"}


def of_known_numbers(report) -> list[Leaf]:
    """The parameters of which the second verdict says anything."""
    return [leaf for leaf in report.leaves if not leaf.wrong]


def good_numbers(report) -> bool | None:
    """The second verdict, where the formula is right; None where it is nowhere."""
    leaves = of_known_numbers(report)
    return None if report.accurate is None or not leaves else all(leaf.accurate for leaf in leaves)


def title(cause) -> str:
    """A cause by its id, if it has one."""
    return "no name" if cause.id == "unknown" else cause.id


def body(report) -> list[str]:
    """All lines but the first."""
    lines = [""]
    numbers = {True: "good", False: "POOR", None: "not judged"}[good_numbers(report)]
    lines += [
        f"formula   {MARK[report.correct]}  (float64, bound derived from the computation)",
        f"numerics  {numbers}  (in {report.dtype}, in ULPs beside autodiff)",
        "",
        f"{'parameter':<22} {'shape':<12} {'worst at':<10} {'error/bound':>11} {'ULPs':>8} {'autodiff':>8}",
    ]
    for leaf in report.leaves:
        flag = {True: "  ", False: "x ", None: "? "}[leaf.correct]
        if leaf.correct and not leaf.accurate:
            flag = "~ "
        lines.append(
            f"{flag}{_elided(leaf.path, 20):<20} {_elided(dimensions(leaf.shape), 12):<12} "
            f"{_elided(', '.join(map(str, leaf.index)), 10):<10} {short(leaf.ratio):>11} "
            f"{ulps(leaf.ulps):>8} {ulps(leaf.autodiff_ulps):>8}"
        )
    flags = {"x wrong": any(leaf.correct is False for leaf in report.leaves),
             "? cannot tell": any(leaf.correct is None for leaf in report.leaves),
             "~ right, but computed badly": any(leaf.correct and not leaf.accurate
                                                for leaf in report.leaves)}  # fmt: skip
    if any(flags.values()):
        lines.append("  " + "; ".join(k for k, shown in flags.items() if shown))
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
            lines += _wrapped(step_text(step))
    lines += ["", "points"]
    for name, said in report.points:
        lines += _wrapped(f"{name}: {said}")
    if report.probes:
        lines += ["", "probes"]
        mark = {True: "ok", False: "FAILED", None: "not tried"}
        for probe in report.probes:
            lines += _wrapped(f"{probe.name}: {mark[probe.passed]}, {probe.sentence}", "    ", "  ")
    hand, auto = report.cost.get("hand"), report.cost.get("autodiff")
    if auto is not None:
        lines += ["", f"{'cost':<22} {'by hand':>14} {'autodiff':>14}"]
        for name, unit, field in COSTS:
            left = "-" if hand is None else amount(getattr(hand, field), unit)
            lines.append(f"  {name:<20} {left:>14} {amount(getattr(auto, field), unit):>14}")
    for n, note in enumerate(report.notes):
        lines += (["", "notes"] if n == 0 else []) + _wrapped(note, "    ", "  - ")
    return lines


COSTS = (
    ("arithmetic", "FLOP", "flops"),
    ("memory traffic", "B", "bytes"),
    ("temporary memory", "B", "temporary"),
    ("operations", "", "equations"),
)


def step_text(step) -> str:
    """A faulty step in a sentence."""
    if hasattr(step, "sentence"):
        return step.sentence
    return ", ".join(f"{k} {v}" for k, v in plain(step).items())
