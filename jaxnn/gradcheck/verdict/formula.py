"""The first verdict, and what it rests on."""

from typing import NamedTuple

from jaxnn.gradcheck.calls.returned import Calls
from jaxnn.gradcheck.verdict.point import Point, Sides


class Formula(NamedTuple):
    """The first verdict, and what it rests on.

    correct: True, False, or None where nothing could tell; tried: the points, the given one first;
    resized: the batch repeated, where that was tried; shown: the point that condemns, or the given one;
    told: whether all of a leaf was seen right; calls: as they turned out to be; opening: what is said
    before all else, where autodiff is no measure.
    """

    correct: bool | None
    tried: list[Point]
    resized: Point | None
    shown: Point
    told: list[bool]
    calls: Calls
    sides: Sides
    notes: list[str]
    opening: str = ""
