"""What a loss is as a tape: its steps and values, a backward pass over them, the layers they make."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

Edge = tuple[int, int]  # (the place of a step, which of its inputs)


class Node(NamedTuple):
    """A step: outputs = apply(*inputs). An input is the number of a value, or a Literal."""

    name: str
    apply: Callable[..., Sequence]
    inputs: tuple[Any, ...]
    outputs: tuple[int, ...]
    elementwise: bool
    params: dict[str, Any]
    line: str
    spot: tuple = ()  # where in the code, with its callers

    @property
    def reads(self) -> list[int]:
        """The inputs that are values."""
        return [i for i in self.inputs if not isinstance(i, Literal)]

    def given(self, values: Mapping[int, Any]) -> list:
        """The inputs, of these values."""
        return [_number(i) if isinstance(i, Literal) else values[i] for i in self.inputs]

    def slope(self, given: Sequence, k: int):
        """The local derivative of an elementwise step by its k-th input."""
        alone = lambda x: self.apply(*given[:k], x, *given[k + 1 :])[0]  # noqa: E731
        return jax.jvp(alone, (given[k],), (jnp.ones_like(given[k]),))[1]


def _number(literal: Any) -> np.ndarray:
    return np.asarray(literal.val, getattr(literal.aval, "dtype", None))


def done(nodes: Iterable[Node], values: dict[int, Any]) -> dict[int, Any]:
    """These values, and all that the steps make of them."""
    values = dict(values)
    for node in nodes:
        values.update(zip(node.outputs, node.apply(*node.given(values)), strict=True))
    return values


class Tape(NamedTuple):
    """A loss, flat: its steps in order, and the numbers of the values that go in and come out."""

    nodes: tuple[Node, ...]
    inputs: tuple[int, ...]  # the leaves of args, in order
    parameters: tuple[int, ...]  # those of args[argnums]
    constants: dict[int, Any]  # what the loss closes over
    output: int
    shapes: dict[int, jax.ShapeDtypeStruct]
    active: frozenset[int]  # depends on a parameter, and is differentiable

    def maker(self, value: int) -> int | None:
        """The place of the step that makes a value; None of what goes in."""
        return next((place for place, node in enumerate(self.nodes) if value in node.outputs), None)

    def edges(self, node: Node) -> list[tuple[int, int]]:
        """(k, value) of every input of a step through which something is differentiated."""
        return [(k, i) for k, i in enumerate(node.inputs) if not isinstance(i, Literal) and i in self.active]


class Change(NamedTuple):
    """What a backward pass is done with. The defaults of a Point make it the right one.

    The cotangent of value v, once summed, becomes free[v] · it + given[v]. What stands in none of
    gains, given, free and taken is as it was.
    """

    factors: dict[Edge, Any]  # the local derivative of an elementwise step
    operands: dict[Edge, Any]  # the operand of any other step
    gains: dict[Edge, Any]  # a scalar on that edge
    given: dict[int, Any]
    free: dict[int, Any]
    taken: dict[Edge, tuple[int, bool]]  # the value whose cotangent it gets; transposed?
    moved: dict[Edge, Callable]  # all cotangents above → what goes down there


class Pulled(NamedTuple):
    """What a backward pass gives: the gradient, and what comes back to each value, whole and by edges."""

    gradient: list[np.ndarray]
    cotangents: dict[int, np.ndarray]
    parts: dict[Edge, np.ndarray]
    change: Change  # what it was done with
    work: float  # what it took, in multiplications


class Programs(NamedTuple):
    """The two programs of a tape at some shapes: leaves → values and defaults; change → gradient."""

    prepare: Callable
    pull: Callable[..., Pulled]  # (change, what another pass gave, if that is known)
    edges: frozenset[Edge]  # all that something is differentiated through
    work: float  # of one backward pass, in multiplications
    step: Callable  # (place of a step, its inputs, slope of) → outputs, or its slope by one of them
    back: Callable  # (place of a step, change, cotangents above) → those below, of a step not elementwise


class Point(NamedTuple):
    """A tape at one point: all its values, and the right backward pass there, which can be changed."""

    tape: Tape
    args: tuple
    values: dict[int, np.ndarray]
    pulled: Pulled
    programs: Programs
    found: dict  # what was found of it once

    @property
    def change(self) -> Change:
        """What the right backward pass is done with."""
        return self.pulled.change

    @property
    def gradient(self) -> list[np.ndarray]:
        """The right gradient."""
        return self.pulled.gradient

    @property
    def cotangents(self) -> dict[int, np.ndarray]:
        """What rightly comes back to each value."""
        return self.pulled.cotangents


class Layer(NamedTuple):
    """A product with a parameter, the bias added to it, and the activation function after it."""

    number: int
    place: int  # of the product's step
    input_side: int  # which of its operands is A[l-1]; the other is W[l]
    weight: int  # which parameter leaf
    bias: int | None
    before: int  # the value that is the operand A[l-1]
    product: int  # the value of the product
    z: int
    a: int  # = z where no activation function follows
    activation: int | None  # the place of Z → A


class Structure(NamedTuple):
    """What a loss is made of, by numbers of values and places of steps."""

    layers: tuple[Layer, ...]
    turns: tuple[Layer, ...]  # what would be a layer, were it not one turn of a loop; no numbers
    views: dict[int, int]  # value → the parameter leaf of which it is a view
    penalties: tuple[Edge, ...]  # on which a term of parameters alone is added
    masks: tuple[Edge, ...]  # on which a layer's values meet an array of numbers
    targets: tuple[int, ...]  # inputs and constants that only the loss reads: Y
    data: tuple[int, ...]  # the others that are arrays: X, masks

    @property
    def products(self) -> tuple[Layer, ...]:
        """The layers, or where there are none what each turn of a loop does like one."""
        return self.layers or self.turns
