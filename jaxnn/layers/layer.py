"""What a layer is."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

LARGE = 1 << 16  # entries: an array of more is worth making again rather than kept


class ShapeError(ValueError):
    """Arrays that do not fit: which layer, and both shapes."""


class Layer(NamedTuple):
    """A layer, or a whole network, as three pure functions.

    - `init(key) -> params`
    - `forward(params, A_prev, key=None) -> (A, residuals)`: residuals are what backward needs of the forward
      pass. A key means training, where a layer may draw random numbers; None means evaluation.
    - `backward(params, residuals, dA) -> (dparams, dA_prev)`: dparams has the structure of params.

    The rest describes it, for whoever looks at it. Two say what some layers can do besides:

    - `again(params, residuals) -> A`: the output, made again, where that costs next to nothing. What the next
      layer would keep of it is then left out of its residuals.
    - `squared_norms(params, residuals, dA) -> (‖dparams_i‖², dA_prev)`: as backward, but of the gradient of
      each example i alone its squared norm (N,). Or else the name of the part that has none, "" for itself.

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
    again: Callable | None = None
    squared_norms: Callable | str = ""

    def __repr__(self) -> str:
        """Its name."""
        return self.name


def rows(A: Float[Array, "*N n"]) -> Float[Array, "M n"]:
    """A as a matrix: whatever comes before its last axis, examples or places in them, are rows."""
    return A if A.ndim == 2 else A.reshape(math.prod(A.shape[:-1]), A.shape[-1])


def own(key, l):
    """The key of part l of a network, or None, which every part is handed in an evaluation."""
    return None if key is None else jax.random.fold_in(key, l)


def parts_norms(parts: Sequence[Layer], squared_norms: Callable) -> Callable | str:
    """The squared_norms of a layer made of parts, if all of them have their own; else the name of one."""
    without = (p.squared_norms or p.name for p in parts if isinstance(p.squared_norms, str))
    return next(without, squared_norms)


def no_params(backward: Callable) -> Callable:
    """The squared norms of a layer without parameters, 0, beside its backward."""
    return lambda params, residuals, dA: (jnp.zeros(len(dA), dA.dtype), backward(params, residuals, dA)[1])


def apart(kept, dA, size: int):
    """The same arrays, where XLA will not join what is made of them with the forward pass.

    Else it finds that a thing made again was there before, and keeps it from then on: no memory is saved. If
    that is of small size it is left to it: it fits into the caches, and what is joined is not computed twice.
    """
    return (kept, dA) if size <= LARGE else jax.lax.optimization_barrier((kept, dA))
