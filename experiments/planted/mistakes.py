"""Every mistake that a dense network can have, to plant: the table of steps with one step exchanged."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.planted import hidden, outputs, parameters
from experiments.planted.network import ACTIVATIONS, COSTS, RIGHT, Network, gradient_of


class Mutant(NamedTuple):
    """A gradient with a mistake in it."""

    id: str
    where: str  # which layer or parameter
    gradient: Callable


def _stateful(net: Network) -> Iterator[Mutant]:
    right = gradient_of(net)

    def accumulated():
        kept: list = []

        def gradient(*args):
            kept.append(right(*args))
            return jax.tree.map(lambda *gs: sum(gs), *kept)

        return gradient

    def stale():
        before: list = []

        def gradient(*args):
            before.append(args)
            return right(*before[max(len(before) - 2, 0)])

        return gradient

    def resampled():
        rng = np.random.default_rng(0)

        def gradient(params, X, Y, masks):
            keep = 1 / max(float(np.max(m)) for m in masks)
            new = tuple((rng.uniform(size=m.shape) < keep) / keep for m in masks)
            steps = RIGHT._replace(mask=lambda t, l: new[l - 1])
            return gradient_of(net, steps)(params, X, Y, masks)

        return gradient

    yield Mutant("accumulated", "", accumulated())
    yield Mutant("stale", "", stale())
    if net.masked and len(net.sizes) > 2:
        yield Mutant("mask-resampled", "", resampled())


def _numerical(net: Network) -> Iterator[tuple[str, dict]]:
    """Mistakes that show only where the output is saturated."""
    if not net.cost.startswith("bce"):
        return
    yield (
        "clipped-log",
        dict(error=lambda t: jnp.where((t.A[-1] > 1e-7) & (t.A[-1] < 1 - 1e-7), RIGHT.error(t), 0)),
    )
    yield (
        "saturated-nan",
        dict(error=lambda t: ((1 - t.Y) / (1 - t.A[-1]) - t.Y / t.A[-1]) * t.A[-1] * (1 - t.A[-1]) / t.N),
    )


def mutants(net: Network) -> Iterator[Mutant]:
    """Every mistake that a network can have, at every place where it can be made."""
    yield from _stateful(net)
    layers = range(1, len(net.sizes))
    families = [
        ("", outputs.at_the_output(net)),
        ("", parameters.in_all_parameters(net)),
        ("", parameters.penalties(net)),
        ("", parameters.exchanged(net)),
        ("every hidden layer", hidden.in_every_hidden_layer(net)),
        ("", _numerical(net)),
    ]
    for of_layer, which in (
        (hidden.ways_down, layers[:-1]),
        (hidden.derivatives, layers[:-1]),
        (parameters.operands, layers),
        (parameters.entries, layers),
    ):
        families += [(f"layer {l}", of_layer(net, l)) for l in which]
    for where, family in families:
        for id, steps in family:
            yield Mutant(id, where, gradient_of(net, RIGHT._replace(**steps)))


NEEDS_SATURATION = frozenset({"clipped-log", "saturated-nan"})
STATEFUL = frozenset({"accumulated", "stale", "mask-resampled"})


def planted(net: Network, id: str, layer: int | None = None) -> Mutant:
    """The first mutant of that id (in that layer, if one is given).

    Raises ValueError, with the ids that the network can have, if it cannot have this one.

    >>> planted(Network((3, 4, 2)), "missing-activation-derivative").where
    'layer 1'
    """
    every = list(mutants(net))
    for mutant in every:
        if mutant.id == id and (layer is None or mutant.where == f"layer {layer}"):
            return mutant
    ids = ", ".join(sorted({m.id for m in every}))
    place = "" if layer is None else f" in layer {layer}"
    raise ValueError(f"no mistake {id!r}{place} can be planted in {net.sizes}; it can have: {ids}")


def exposed_steps(net: Network, params, X, Y, wrong: str, fault: Callable) -> tuple[Any, dict[str, Any]]:
    """(gradient, steps) of a backward pass by hand that shows its steps; the one named `wrong` is faulty."""

    def made(name: str, value):
        return fault(value) if name == wrong else value

    g, top = ACTIVATIONS[net.hidden], len(params)
    Z, A = [None], [X]
    for l, (W, b) in enumerate(params, 1):
        Z.append(A[-1] @ W.T + b.T)
        A.append(Z[-1] if l == top else g.forward(Z[-1]))
    steps = {f"dZ[{top}]": made(f"dZ[{top}]", COSTS[net.cost].error(Z[top], Y) / len(X))}
    gradient = []
    for l in range(top, 0, -1):
        dZ, (W, _) = steps[f"dZ[{l}]"], params[l - 1]
        dW = made(f"dW[{l}]", dZ.T @ A[l - 1] + net.penalty / len(X) * W)
        db = made(f"db[{l}]", jnp.sum(dZ, axis=0)[:, None])
        gradient.insert(0, (dW, db))
        if l > 1:
            dA = steps[f"dA[{l - 1}]"] = made(f"dA[{l - 1}]", dZ @ W)
            steps[f"dZ[{l - 1}]"] = made(f"dZ[{l - 1}]", dA * g.slope(Z[l - 1], A[l - 1]))
    return tuple(gradient), steps
