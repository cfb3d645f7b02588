"""A mistake at a step that may have been made, and the search for the first that was."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from jaxnn.gradcheck.mistakes.finding import Finding, Mistake, Part, finding, holds
from jaxnn.gradcheck.tape.paths import smallest
from jaxnn.gradcheck.tape.scene import Scene


class Guess(NamedTuple):
    """What would be said, as of a Finding, and the gradient that it predicts; None where it cannot be."""

    mistake: Mistake
    says: str
    where: str
    rank: float
    predict: Callable[[Scene], list[np.ndarray] | None]
    parts: Mapping[str, Part]


def guess(mistake: Mistake, says: str, where: str, rank: float, predict: Callable, **parts: Part) -> Guess:
    """A guess of its parts."""
    return Guess(mistake, says, where, rank, predict, parts)


def first_that_holds(
    guesses: Callable[[Scene], Iterable[Guess]],
) -> Callable[[list[Scene]], Iterator[Finding]]:
    """The search for the first guess that holds at all scenes, of those that the smallest one suggests."""

    def search(scenes: list[Scene]) -> Iterator[Finding]:
        probe = smallest(scenes)
        for one in guesses(probe) if probe else ():
            if holds(scenes, one.predict):
                yield finding(one.mistake, one.says, one.where, one.rank, True, probe, **one.parts)
                return

    return search
