"""A loss to plant mistakes in, and arguments for it."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Loss(NamedTuple):
    """A loss, `backward(mistake)` → its gradient ("": none), arguments, and the id of every mistake."""

    name: str
    of: Callable
    backward: Callable[[str], Callable]
    arguments: Callable[[int], tuple]
    mistakes: dict[str, str]


def drawn(*shapes: tuple[int, ...], scale: float = 0.6) -> Callable:
    """Arrays of numbers around 0."""

    def arrays(seed: int) -> list[np.ndarray]:
        rng = np.random.default_rng(seed)
        return [scale * rng.normal(size=shape) for shape in shapes]

    return arrays


def params(names: str, *shapes: tuple[int, ...], data: int = 1) -> Callable[[int], tuple]:
    """({name: array}, *data): the last `data` shapes are those of the data."""
    numbers = drawn(*shapes)

    def arguments(seed: int) -> tuple:
        arrays = numbers(seed)
        return dict(zip(names, arrays, strict=False)), *arrays[len(arrays) - data :]

    return arguments
