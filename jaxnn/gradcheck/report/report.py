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
        fields = self._asdict()
        for rows in ("leaves", "causes", "steps", "probes"):
            fields[rows] = [row._asdict() for row in fields[rows]]
        fields["cost"] = {k: None if c is None else c._asdict() for k, c in self.cost.items()}
        return json.dumps(_finite(fields), allow_nan=False, ensure_ascii=False, indent=1)

    def to_html(self, path: str | Path, picture: str = "") -> None:
        """Write one self-contained page: verdicts, pictures, table, cause and equation.

        `picture` is an SVG of yours, such as a graph of the computation; the page shows it below the causes.
        Raises ValueError where it is none.
        """
        Path(path).write_text(page(self, picture), encoding="utf-8")


def _finite(tree):
    if isinstance(tree, dict):
        return {str(k): _finite(v) for k, v in tree.items()}
    if isinstance(tree, list | tuple):
        return [_finite(v) for v in tree]
    if isinstance(tree, np.ndarray | np.generic):
        return _finite(tree.tolist())
    if isinstance(tree, float) and not math.isfinite(tree):
        return str(tree)
    return tree
