"""The page of a sweep: heat maps of its networks, the best of them, and how the best one learnt."""

import math
from statistics import median
from typing import NamedTuple

from jaxnn.runs.fields import SCORES
from jaxnn.runs.record import merit
from jaxnn.seeing.pages.page import page
from jaxnn.seeing.pages.run import Told, charts

BEST, MAPS, MOST = 10, 6, 40  # networks in the table, maps, and the rows and the columns of one


class Cell(NamedTuple):
    """Networks that differ in their seeds: in words, how many, and the scores of those that converged."""

    words: tuple[str, ...]
    networks: int
    scores: list[float]
    median: float | None
    shade: float  # 0 to 1, by the logarithm of the part that is misread, or of the error


def sweep_page(dataset: str, rows: list[dict], told: Told, refresh: int = 0) -> str:
    """The page, as HTML, of networks each with its settings and curves."""
    good = sorted((row for row in rows if not diverged(row)), key=goodness, reverse=True)
    return page(
        "sweep.html",
        f"{dataset}, {len(rows)} network{'s' * (len(rows) > 1)}",
        {"charts": charts(good[0]["curves"], []) if good else []},
        ("charts.js",),
        refresh,
        told=told,
        of_classes=SCORES[0] in rows[0]["curves"],
        networks=len(rows),
        diverged=len(rows) - len(good),
        maps=heat_maps(rows),
        best=[(score(row), row["curves"]["test_loss"][-1], words(row)) for row in good[:BEST]],
    )


def diverged(row: dict) -> bool:
    """Whether a loss of a network, or its error, was ever not finite."""
    return any(None in curve for curve in row["curves"].values())


def score(row: dict) -> float:
    """The accuracy, or the error, after its last epoch."""
    return next(row["curves"][name][-1] for name in SCORES if name in row["curves"])


def goodness(row: dict) -> float:
    """What is larger the better it is."""
    return merit({name: row["curves"][name][-1] for name in SCORES if name in row["curves"]})


def words(row: dict) -> tuple[str, ...]:
    """Learning rate, hidden layers, scale and seed."""
    return f"{row['learning_rate']:g}", sizes(row["hidden"]), f"{row['scale']:g}", str(row["seed"])[:20]


def sizes(hidden) -> str:
    """Of hidden layers, in words."""
    return "-".join(map(str, hidden))[:40]


def heat_maps(rows: list[dict]) -> list[tuple]:
    """Of final scores, for each scale a map: its title, corner, columns, rows, and how many there are.

    The columns are learning rates and the rows are hidden layers; or scales, if the layers are all the same.
    """
    groups: dict[tuple, list[dict]] = {}
    for row in rows:
        groups.setdefault((row["scale"], tuple(row["hidden"]), row["learning_rate"]), []).append(row)
    scales, hidden, rates = (sorted(set(values)) for values in zip(*groups, strict=True))
    good = {key: [score(row) for row in group if not diverged(row)] for key, group in groups.items()}
    middle = {key: median(found) for key, found in good.items() if found}
    of_classes = all(SCORES[0] in row["curves"] for row in rows)
    dark = {
        key: -math.log(max(1 - found if of_classes else found, 1e-4 if of_classes else 1e-300))
        for key, found in middle.items()
    }
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
