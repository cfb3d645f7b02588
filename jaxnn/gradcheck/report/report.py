"""What a comparison found, whole: to print, as JSON, and as a page."""

import html
import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxnn.gradcheck.report.model import Cost, Leaf, Probe
from jaxnn.gradcheck.report.page import page
from jaxnn.gradcheck.report.text import text

SCHEMA = 1  # of the JSON: it changes with the meaning of a field


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

    @property
    def worst(self) -> Leaf | None:
        """The parameter that is worst off, or None where none is wrong."""
        return max((leaf for leaf in self.leaves if leaf.wrong), key=_severity, default=None)

    def __str__(self) -> str:
        """Verdict, cause and equation first, in 80 columns."""
        return self.to_text()

    def to_text(self, verbose: bool = False) -> str:
        """The report in 80 columns; verbose: with ULPs, bounds, points, probes and costs."""
        return text(self, verbose)

    def to_json(self, pictures: bool = False) -> str:
        """The whole report in one line of JSON; numbers that are not finite are strings."""
        rows = [leaf._asdict() for leaf in self.leaves]
        for row in rows if not pictures else ():
            del row["picture"]
        fields = {"schema": SCHEMA, **self._asdict(), "leaves": rows}
        return json.dumps(_plain(fields), allow_nan=False, ensure_ascii=False, separators=(",", ":"))

    def to_html(self, path: str | Path, picture: str = "") -> None:
        """Write one self-contained page: verdicts, pictures, table, cause and equation.

        `picture` is an SVG of yours, such as a graph of the computation; the page shows it below the causes.
        Raises ValueError where it is none.
        """
        Path(path).write_text(page(self, picture), encoding="utf-8")

    def _repr_html_(self) -> str:
        """The page, as a notebook shows it."""
        return (
            f'<iframe srcdoc="{html.escape(page(self))}" style="border:0;width:100%;height:36rem"></iframe>'
        )


def _severity(leaf: Leaf) -> float:
    """How wrong, as a part of the entry."""
    size = max(abs(leaf.hand), abs(leaf.autodiff)) if math.isfinite(leaf.hand) else 0.0
    return leaf.error / size if size else math.inf


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
