"""A layer to plant mistakes in: its forward pass, and a backward pass that makes the mistake it is told."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name


class Layer(NamedTuple):
    """forward(p, X, *rest) → A, backward(mistake)(p, X, dA, *rest) → (dp, dX), mistakes with their ids.

    arguments: of two sizes a function of a generator → (p, X, *rest). An X of whole numbers has no dX.
    """

    name: str
    forward: Callable
    backward: Callable[[str], Callable]
    arguments: tuple[Callable, Callable]
    mistakes: dict[str, str]


class Planted(NamedTuple):
    """A wrong backward at a place.

    shown: the steps of its backward pass, if it shows them; own: those that this layer makes.
    """

    id: str
    where: str
    loss: Callable
    gradient: Callable
    args: Callable[[np.random.Generator], tuple]
    argnums: tuple[int, ...] | int
    shown: Callable | None = None
    own: frozenset[str] = frozenset()


def sizes(p: dict, *shapes: tuple[int, ...], rest: Callable = lambda rng: ()) -> Callable:
    """Generic parameters and an input of these shapes; rest: what the layer is handed besides."""

    def arguments(rng: np.random.Generator) -> tuple:
        drawn = {name: rng.normal(size=shape) for name, shape in p.items()}
        return (drawn, *(rng.normal(size=shape) for shape in shapes), *rest(rng))

    return arguments


def alone(layer: Layer, mistake: str) -> Planted:
    """⟨C, layer⟩, as a rule for derivatives is looked at."""
    arguments, _ = layer.arguments

    def loss(p, X, C, *rest):
        return jnp.sum(C * layer.forward(p, X, *rest))

    def gradient(p, X, C, *rest):
        dp, dX = layer.backward(mistake)(p, X, C, *rest)
        return dp if dX is None else (dp, dX)

    def args(rng):
        p, X, *rest = arguments(rng)
        C = rng.normal(size=jax.eval_shape(layer.forward, p, X, *rest).shape)
        return (p, X, C, *rest)

    _, X, *_ = arguments(np.random.default_rng(0))
    where = f"{layer.name}, {mistake}, alone"
    argnums = (0, 1) if np.issubdtype(X.dtype, np.floating) else 0
    return Planted(layer.mistakes.get(mistake, ""), where, loss, gradient, args, argnums)


def inside(layer: Layer, mistake: str) -> Planted:
    """Between a dense layer, unless its input is whole numbers, and a squared error; the steps are shown."""
    _, arguments = layer.arguments

    def before(p, X):
        return checkpoint_name(jnp.tanh(X @ p["W0"].T), "A1") if "W0" in p else X

    def loss(p, X, Y, *rest):
        A = checkpoint_name(layer.forward(p, before(p, X), *rest), "A2")
        return jnp.mean((A - Y) ** 2)

    def both(p, X, Y, *rest):
        A1 = before(p, X)
        A2 = layer.forward(p, A1, *rest)
        dA2 = 2 * (A2 - Y) / A2.size
        own = {name: value for name, value in p.items() if name != "W0"}
        dp, dA1 = layer.backward(mistake)(own, A1, dA2, *rest)
        if dA1 is None:
            return dp, {"dA2": dA2}
        rows = (dA1 * (1 - A1 * A1)).reshape(-1, A1.shape[-1])
        return dp | {"W0": rows.T @ X.reshape(-1, X.shape[-1])}, {"dA1": dA1, "dA2": dA2}

    def args(rng):
        p, X, *rest = arguments(rng)
        if np.issubdtype(X.dtype, np.floating):
            p = p | {"W0": rng.normal(size=(X.shape[-1], 3)) / 2}
            X = rng.normal(size=(*X.shape[:-1], 3))
        A = jax.eval_shape(lambda *at: layer.forward(at[0], before(*at[:2]), *at[2:]), p, X, *rest)
        return (p, X, rng.normal(size=A.shape), *rest)

    p, *_ = arguments(np.random.default_rng(0))
    known = layer.mistakes.get(mistake, ""), f"{layer.name}, {mistake}, in a network"
    sides = loss, lambda *at: both(*at)[0], args, 0, lambda *at: both(*at)[1]
    return Planted(*known, *sides, frozenset({"dA1", *(f"p['{name}']" for name in p)}))


def plants_of(layers: tuple[Layer, ...]) -> Iterator[Planted]:
    """Every mistake alone, and in a network of other sizes."""
    for layer in layers:
        for mistake in layer.mistakes:
            yield alone(layer, mistake)
            yield inside(layer, mistake)
