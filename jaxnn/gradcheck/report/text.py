"""A report as text, for a terminal: 80 columns, what helps most first."""

import textwrap

from jaxnn.gradcheck.report.model import Cause, Leaf
from jaxnn.gradcheck.report.words import amount, apart, dimensions, joined, short, ulps

WIDTH = 80
EVERYWHERE = {"every parameter", "all parameters"}
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
        text, WIDTH, initial_indent=first, subsequent_indent=indent, break_on_hyphens=False
    ) or [""]


def _elided(text: str, width: int) -> str:
    keep = width - 1
    return text if len(text) <= width else text[: keep // 2] + "…" + text[-(keep - keep // 2) :]


def _section(title: str, lines: list[str], first: str = "  ") -> list[str]:
    """A title and what stands below it, after an empty line; nothing where there is nothing to say."""
    return ["", title, *(part for line in lines for part in _wrapped(line, first=first))] if lines else []


def derived(report) -> str:
    """Where its bounds are from."""
    return "partly an estimate" if report.estimated else "derived from the computation"


def title(cause: Cause) -> str:
    """A cause by its id, if it has one."""
    return "no name" if cause.id == "unknown" else cause.id


def _flag(leaf: Leaf) -> str:
    if leaf.correct and leaf.accurate is False:
        return "~"
    return {True: " ", False: "x", None: "?"}[leaf.correct]


def _row(*cells: str) -> str:
    """Cells under one another: a parameter's name, its shape, an entry, and numbers."""
    name, shape, at, *numbers = cells
    words = f"{_elided(name, 22):<22} {_elided(shape, 12):<12} {_elided(at, 10):<10}"
    return words + "".join(f" {number:>10}" for number in numbers)


def _parameter(leaf: Leaf, *numbers: str) -> str:
    at = ", ".join(map(str, leaf.index))
    return _row(f"{_flag(leaf)} {_elided(leaf.path, 20)}", dimensions(leaf.shape), at, *numbers)


def _opening(report) -> list[str]:
    """The verdict and the cause, the equation, the the worst entry."""
    lines = _wrapped(report.headline, "  ", "")
    if report.causes:
        first = report.causes[0]
        lines += _wrapped(f"right: {_equation(first)}", "         ") if first.equation else []
        where = first.where.removeprefix("the gradient of ")
        known = {*EVERYWHERE, joined([leaf.path for leaf in report.leaves if leaf.wrong])}
        if where not in known and where not in report.headline:
            lines += _wrapped(f"where: {where}", "         ")
    if worst := report.worst:
        at = next((f", at {name}" for name, said in report.points[1:] if said == "wrong"), "")
        mine, right = apart(worst.hand, worst.autodiff)
        lines += _wrapped(f"{worst.place}: by hand {mine}, autodiff {right}{at}", "         ")
    return lines


def _equation(cause: Cause) -> str:
    """What it breaks: of the equations of all that has no name, the one of the quantity that is wrong.

    >>> every = "dZ[l] = dA[l] ⊙ g′(Z[l]); db[l] = dZ[l]ᵀ 1"
    >>> _equation(Cause("unknown", "db[2] is zero.", "db[2] (b2)", "a guess", every))
    'db[l] = dZ[l]ᵀ 1'
    """
    own = [e for e in cause.equation.split("; ") if cause.where.startswith(e.partition("[")[0] + "[")]
    return own[0] if own and cause.id == "unknown" else cause.equation


def _others(causes: list[Cause]) -> list[str]:
    """The causes after the first, each with the equation that it breaks."""
    lines = []
    for n, cause in enumerate(causes, 2):
        says = f"{cause.sentence} [{title(cause)}; {cause.where}; {cause.confidence}]"
        lines += _wrapped(says, "     ", f"  {n}. ")
        lines += _wrapped(f"right: {_equation(cause)}", "            ", "     ") if cause.equation else []
    return ["", "or else", *lines] if lines else []


def text(report, verbose: bool) -> str:
    """The report; verbose: with ULPs, bounds, points, probes and costs."""
    met = set(map(_flag, report.leaves))
    meant = "; ".join(f"{flag} {words}" for flag, words in FLAGS.items() if flag in met)
    probes = [p for p in report.probes if verbose or p.passed is False]
    points = report.points if verbose or report.correct is None else []
    lines = [
        *_opening(report),
        "",
        f"formula   {MARK[report.correct]}" + f"  (float64, bound {derived(report)})" * verbose,
        f"numerics  {NUMBERS[report.accurate]}  (in {report.dtype}{', in ULPs beside autodiff' * verbose})",
        "",
        _row("parameter", "shape", "worst at", "wrong", "by hand", "autodiff"),
        *(_parameter(x, f"{x.wrong:,}", short(x.hand), short(x.autodiff)) for x in report.leaves),
        *([f"  {meant}"] if meant else []),
        *_others(report.causes[1:]),
        *_section("the steps handed in", [step.sentence for step in report.steps]),
    ]
    if verbose:
        lines += ["", _row("errors", "", "", "err/bound", "ULPs", "autodiff’s")]
        lines += [_parameter(x, short(x.ratio), ulps(x.ulps), ulps(x.autodiff_ulps)) for x in report.leaves]
    lines += _section("points", [f"{name}: {said}" for name, said in points])
    lines += _section("probes", [f"{p.name}: {PROBED[p.passed]}, {p.sentence}" for p in probes])
    if verbose and (rows := costs(report)):
        lines += ["", f"{'cost':<22} {'by hand':>14} {'autodiff':>14}"]
        lines += [f"  {name:<20} {left:>14} {right:>14}" for name, left, right in rows]
    return "\n".join([*lines, *_section("notes", report.notes, "  - ")])


def costs(report) -> list[tuple[str, str, str]]:
    """What both sides cost: (of what, by hand, autodiff); nothing where autodiff was not compiled."""
    hand, auto = report.cost.get("hand"), report.cost.get("autodiff")
    if auto is None:
        return []
    return [
        (name, amount(getattr(hand, field, None), unit), amount(getattr(auto, field), unit))
        for name, unit, field in COSTS
    ]
