"""What a layer is."""

from collections.abc import Callable
from typing import NamedTuple


class ShapeError(ValueError):
    """Arrays that do not fit: which layer, and both shapes."""


class Layer(NamedTuple):
    """A layer, or a whole network, as three pure functions.

    - `init(key) -> params`
    - `forward(params, A_prev) -> (A, residuals)`: residuals are what backward needs of the forward pass.
    - `backward(params, residuals, dA) -> (dparams, dA_prev)`: dparams has the structure of params.
    """

    init: Callable
    forward: Callable
    backward: Callable
    name: str = "layer"  # for the reader alone: nothing branches on it
