"""The page of a sweep: heat maps of its networks, the best of them, and how the best one learnt."""

import math
from statistics import median
from typing import NamedTuple

from jaxnn.seeing.pages.page import page
from jaxnn.seeing.pages.run import Told, charts

BEST, MAPS, MOST = 10, 6, 40  # networks in the table, maps, and the rows and the columns of one


class Cell(NamedTuple):
    """Networks that differ in their seeds: in words, how many, and the accuracies of those that converged."""

    words: tuple[str, ...]
    networks: int
    accuracies: list[float]
    median: float | None
    shade: float  # 0 to 1, by the logarithm of the part that is misread


def sweep_page(dataset: str, rows: list[dict], told: Told, refresh: int = 0) -> str:
    """The page, as HTML, of networks each with its settings and curves."""
    good = sorted((row for row in rows if not diverged(row)), key=accuracy, reverse=True)
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
        best=[(100 * accuracy(row), row["curves"]["test_loss"][-1], words(row)) for row in good[:BEST]],
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


def heat_maps(rows: list[dict]) -> list[tuple]:
    """Of final accuracies, for each scale a map: its title, corner, columns, rows, and how many there are.

    The columns are learning rates and the rows are hidden layers; or scales, if the layers are all the same.
    """
    groups: dict[tuple, list[dict]] = {}
    for row in rows:
        groups.setdefault((row["scale"], tuple(row["hidden"]), row["learning_rate"]), []).append(row)
    scales, hidden, rates = (sorted(set(values)) for values in zip(*groups, strict=True))
    good = {key: [accuracy(row) for row in group if not diverged(row)] for key, group in groups.items()}
    middle = {key: median(found) for key, found in good.items() if found}
    dark = {key: -math.log(max(1 - found, 1e-4)) for key, found in middle.items()}
    least, most = min(dark.values(), default=0.0), max(dark.values(), default=0.0)

    def cell(*key) -> Cell | None:
        if key not in groups:
            return None
        shade = (dark[key] - least) / (most - least) if key in dark and most > least else 0.5
        return Cell(words(groups[key][0]), len(groups[key]), good[key], middle.get(key), shade)

    def heat_map(title: str, corner: str, lines: list[tuple]) -> tuple:
        cells = [(name, [cell(s, h, rate) for rate in rates[:MOST]]) for name, s, h in lines[:MOST]]
        many = len(lines), len(rates), len(scales)
        return title, corner, [f"{rate:g}" for rate in rates[:MOST]], cells, many

    if len(hidden) == 1:
        lines = [(f"{s:g}", s, hidden[0]) for s in scales]
        return [heat_map(f"hidden {sizes(hidden[0])}", "scale, α", lines)]
    return [heat_map(f"scale {s:g}", "hidden, α", [(sizes(h), s, h) for h in hidden]) for s in scales[:MAPS]]
