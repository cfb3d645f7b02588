"""The page of a sweep: heat maps of its networks, the best of them, and how the best one learnt."""

import math
from statistics import median

from jaxnn.seeing.pages.page import page
from jaxnn.seeing.pages.run import Heat, Told, charts

BEST = 10  # networks in the table


def sweep_page(dataset: str, rows: list[dict], told: Told, refresh: int = 0) -> str:
    """The page, as HTML, of networks each with its settings and curves."""
    good = sorted((row for row in rows if not diverged(row)), key=lambda row: -accuracy(row))
    return page(
        "sweep.html",
        f"{dataset}, {len(rows)} network{'s' * (len(rows) > 1)}",
        {"charts": charts(good[0]["curves"], []) if good else []},
        ("charts.js",),
        refresh,
        told=told,
        networks=len(rows),
        diverged=len(rows) - len(good),
        maps=heat_maps(rows),
        best=[
            (f"{100 * accuracy(row):.2f} %", f"{row['curves']['test_loss'][-1]:.4g}", *words(row))
            for row in good[:BEST]
        ],
    )


def diverged(row: dict) -> bool:
    """Whether a loss of a network was ever not finite."""
    return any(None in row["curves"][key] for key in ("loss", "test_loss"))


def accuracy(row: dict) -> float:
    """The accuracy after its last epoch."""
    return row["curves"]["test_accuracy"][-1]


def words(row: dict) -> tuple[str, ...]:
    """Learning rate, hidden layers, scale and seed."""
    return f"{row['learning_rate']:g}", sizes(row["hidden"]), f"{row['scale']:g}", str(row["seed"])[:20]


def sizes(hidden) -> str:
    """Of hidden layers, in words."""
    return "-".join(map(str, hidden))[:40]


def heat_maps(rows: list[dict]) -> list[tuple[str, str, list[str], list[tuple[str, list[Heat]]]]]:
    """Of final accuracies, for each scale a map: its title, corner, columns and rows.

    The columns are learning rates and the rows are hidden layers; or scales, if the layers are all the same.
    """
    groups: dict[tuple, list[dict]] = {}
    for row in rows:
        groups.setdefault((row["scale"], tuple(row["hidden"]), row["learning_rate"]), []).append(row)
    scales, hidden, rates = (sorted(set(values)) for values in zip(*groups, strict=True))
    shades = [shade(median(found)) for group in groups.values() if (found := accuracies(group))]
    ends = min(shades, default=0.0), max(shades, default=0.0)

    def heat_map(title: str, corner: str, lines: list[tuple]):
        cells = [
            (name, [cell(groups.get((s, h, rate), []), *ends) for rate in rates]) for name, s, h in lines
        ]
        return title, corner, [f"{rate:g}" for rate in rates], cells

    if len(hidden) == 1:
        lines = [(f"{s:g}", s, hidden[0]) for s in scales]
        return [heat_map(f"hidden {sizes(hidden[0])}", "scale, α", lines)]
    return [heat_map(f"scale {s:g}", "hidden, α", [(sizes(h), s, h) for h in hidden]) for s in scales]


def accuracies(group: list[dict]) -> list[float]:
    """Those of the networks that did not diverge."""
    return [accuracy(row) for row in group if not diverged(row)]


def shade(accuracy: float) -> float:
    """How dark it is: by the logarithm of the part that is misread."""
    return -math.log(max(1 - accuracy, 1e-4))


def cell(group: list[dict], least: float, most: float) -> Heat:
    """What is seen of networks that differ in their seeds: the median, and the spread."""
    if not group:
        return Heat("", 0.0, "no such network")
    found = accuracies(group)
    lost = f"{len(group) - len(found)} of {len(group)} diverged" if len(found) < len(group) else ""
    where = "learning rate {}, hidden {}, scale {}".format(*words(group[0])[:3])
    if not found:
        return Heat("diverged", 0.0, f"{where}: {lost}")
    middle, low, high = (100 * value for value in (median(found), min(found), max(found)))
    spread = f"{low:.1f} to {high:.1f}" if len(found) > 1 else ""
    said = ", ".join(filter(None, (f"median {middle:.2f} %", spread and f"{spread} %", lost)))
    dark = (shade(median(found)) - least) / (most - least) if most > least else 0.5
    return Heat(f"{middle:.1f}", dark, f"{where}: {said}", lost or spread)
