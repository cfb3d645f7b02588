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

    The rest describes it, for whoever looks at it; none of the three reads it.

    >>> from jaxnn.activations import sigmoid
    >>> from jaxnn.layers import mlp
    >>> print(mlp(784, 17, 10, g=sigmoid))
    784-17-10: dense(784→17, sigmoid), dense(17→10)
    """

    init: Callable
    forward: Callable
    backward: Callable
    name: str = "layer"  # for the reader alone: nothing branches on it
    takes: tuple[int, ...] | None = None  # the shape of one example of its input, where it knows that
    layers: tuple["Layer", ...] = ()  # those that it is, one after the other

    def __repr__(self) -> str:
        """Its name."""
        return self.name
