"""The rows of a report: parameters, causes, probes and costs, as plain data."""

from typing import NamedTuple


class Leaf(NamedTuple):
    """One parameter. `hand`, `autodiff`, `error` and `bound` are in float64, at `index`.

    index: where it is wrong most, or, where it is right, where the caller's precision hurts most;
    ulps: error there in units in the last place of the caller's dtype; ratio: the largest
    error / bound of all entries, above 1 where the gradient is wrong; wrong: how many entries are;
    accurate: whether its numbers are good in that dtype, None where the formula is wrong or none is known;
    picture: error relative to the largest entry, as log10, in no more than 48 × 96 cells.
    """

    path: str
    shape: tuple[int, ...]
    index: tuple[int, ...]  # pyright: ignore[reportIncompatibleMethodOverride]
    hand: float
    autodiff: float
    ulps: float
    autodiff_ulps: float
    error: float
    bound: float
    ratio: float
    correct: bool | None
    accurate: bool | None
    better: bool
    wrong: int
    picture: list[list[float]]

    @property
    def place(self) -> str:
        """W1[3, 5], or b when it is one number."""
        return self.path + (f"[{', '.join(map(str, self.index))}]" if self.index else "")


class Cost(NamedTuple):
    """FLOPs and bytes moved, temporary memory in bytes, equations of the jaxpr; None: not known."""

    flops: float | None
    bytes: float | None
    temporary: int | None
    equations: int


class Probe(NamedTuple):
    """A property, whether it holds (None: it could not be tried), and what was seen."""

    name: str
    passed: bool | None
    sentence: str


class Cause(NamedTuple):
    """A mistake that would explain the candidate; confidence: sure, likely or a guess (confidence.py)."""

    id: str
    sentence: str
    where: str
    confidence: str
    equation: str
