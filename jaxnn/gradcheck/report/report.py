"""What a comparison found, whole: to print, as JSON, and as a page."""

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxnn.gradcheck.report.model import Cost, Leaf, Probe
from jaxnn.gradcheck.report.page import page
from jaxnn.gradcheck.report.text import body


class Report(NamedTuple):
    """The verdicts, and what they rest on.

    correct: is the formula right? True, False, or None where nothing tried could tell;
    accurate: are the numbers good in `dtype`, or None where that could not be seen;
    leaves: a row a parameter; causes: ranked, empty when correct; steps: the faulty steps, where
    steps were handed in; points: (name, what it said) of every point tried; estimated: some bound was
    sampled, not derived from the computation.
    """

    correct: bool | None
    accurate: bool | None
    headline: str
    leaves: list[Leaf]
    causes: list[Any]
    steps: list[Any]
    probes: list[Probe]
    cost: dict[str, Cost | None]
    points: list[tuple[str, str]]
    notes: list[str]
    dtype: str
    names: tuple[str, str]
    estimated: bool = False

    def __str__(self) -> str:
        """The report in text, no wider than 80 columns but for its first line."""
        return "\n".join([self.headline, *body(self)])

    def to_json(self) -> str:
        """The whole report as JSON; numbers that are not finite are strings."""
        return json.dumps(_plain(self), allow_nan=False, ensure_ascii=False, indent=1)

    def to_html(self, path: str | Path, picture: str = "") -> None:
        """Write one self-contained page: verdicts, pictures, table, cause and equation.

        `picture` is an SVG of yours, such as a graph of the computation; the page shows it below the causes.
        Raises ValueError where it is none.
        """
        Path(path).write_text(page(self, picture), encoding="utf-8")


def _plain(tree):
    """What JSON has: a dict for every row, text for a number that is not finite."""
    if hasattr(tree, "_asdict"):
        tree = tree._asdict()
    if isinstance(tree, dict):
        return {str(k): _plain(v) for k, v in tree.items()}
    if isinstance(tree, list | tuple):
        return [_plain(v) for v in tree]
    if isinstance(tree, np.ndarray | np.generic):
        return _plain(tree.tolist())
    if isinstance(tree, float) and not math.isfinite(tree):
        return str(tree)
    return tree
