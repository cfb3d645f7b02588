"""What a gradient of another library is, and what is wrong with it."""

from collections.abc import Callable
from enum import Enum
from typing import Any, NamedTuple

import numpy as np


class Fault(Enum):
    """What of a gradient is wrong."""

    NUMBERS = "other numbers"
    NAN = "not finite"
    SHAPE = "another shape"
    RAISES = "raises"


class Case(NamedTuple):
    """A loss and its gradient as the library computes both, where, and the same loss in jax.numpy."""

    loss: Callable[[Any], Any]
    gradient: Callable[[Any], Any]
    plain: Callable[[Any], Any]
    at: np.ndarray


class Release(NamedTuple):
    """A package as pip knows it; month: of the release."""

    package: str
    version: str
    month: str


class Row(NamedTuple):
    """A gradient seen to be wrong; said: what is wrong with it; make: imports the library."""

    release: Release
    function: str
    fault: Fault
    said: str
    make: Callable[[], Case]


def weighted(y):
    """Σ weights · y: the entries of y made one number, none of them like another.

    >>> float(weighted(np.array([1.0, 1.0])))
    0.5
    """
    return (y * weights(y.shape)).sum()


def weights(shape: tuple[int, ...]) -> np.ndarray:
    """1/8, 3/8, 5/8, ...: exact in every precision."""
    return (2 * np.arange(np.prod(shape, dtype=int)).reshape(shape) + 1) / 8


MATRIX = np.array([[0.3, -1.2, 0.7], [2.0, 0.4, -0.5]])
SQUARE = np.array([[2.0, 0.3, 0.1], [0.2, 1.0, 0.25], [0.1, 0.15, 1.5]])
