"""What a finding is: a mistake whose predicted gradient is the candidate's, at every point looked at."""

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from jaxnn.gradcheck.tape.scene import Scene, fits, telling


class Finding(NamedTuple):
    """A mistake that reproduces the candidate. `rank`: the smaller, the simpler."""

    id: str
    sentence: str
    where: str
    rank: float
    sure: bool = True  # False where it takes more than the mistake, such as a size in the code


Predict = Callable[[Scene], list[np.ndarray] | None]


class OutOfTime(Exception):
    """No further mistake is tried."""


def holds(scenes: list[Scene], predict: Predict) -> bool:
    """Whether the prediction is the candidate's gradient at all scenes, and not the right one at one.

    Raises OutOfTime.
    """
    if time.thread_time() > scenes[0].until:
        raise OutOfTime
    tells = False
    for scene in reversed(scenes):  # the caller's own is first, and the largest
        guess = predict(scene)
        if guess is None or not fits(scene, guess):
            return False
        tells = tells or telling(scene, guess)
    return tells


def off_entries(scene: Scene, k: int) -> np.ndarray:
    """Which entries of a leaf are wrong."""
    g, r = scene.hand[k], scene.reference[k]
    with np.errstate(all="ignore"):
        top = max(np.abs(r).max(initial=0), np.abs(g).max(initial=0))
        return ~(np.abs(g - r) <= scene.bound[k] + 1e-10 * top)


def place_of(scenes: list[Scene], scene: Scene) -> int:
    """Which of the scenes it is."""
    return next(n for n, s in enumerate(scenes) if s is scene)


def parameter_values(scene: Scene) -> list[np.ndarray]:
    """The parameters' own values."""
    return [scene.point.values[p] for p in scene.point.tape.parameters if p in scene.point.tape.active]
