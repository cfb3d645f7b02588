"""Where each mistake of the catalogue can be planted, and at which points."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from experiments.planted.mistakes import NEEDS_SATURATION, mutants
from experiments.planted.network import gradient_of, loss_of
from experiments.planted.points import KINDS, point_of


class Planting(NamedTuple):
    """A place where a mistake can be planted."""

    what: str
    loss: Callable
    right: Callable
    wrong: Callable[[], Callable]  # → a fresh gradient: some keep state between calls
    args: Callable[[str, np.random.Generator], tuple]  # kind, generator → a point
    kinds: tuple[str, ...] = KINDS


def plantings(nets, losses) -> dict[str, list[Planting]]:
    """Every place of every mistake, in (network, N) and in losses that are no network."""
    found: dict[str, list[Planting]] = {}
    for net, n in nets:
        loss, right = loss_of(net), gradient_of(net)
        for place, (id, where, _) in enumerate(mutants(net)):
            planting = Planting(
                f"{net.sizes} {net.cost} {id} {where}",
                loss,
                right,
                lambda net=net, place=place: list(mutants(net))[place].gradient,
                lambda kind, rng, net=net, n=n: point_of(net, n, kind, rng),
                ("saturated",) if id in NEEDS_SATURATION else KINDS,
            )
            found.setdefault(id, []).append(planting)
    for id, where, loss, gradient, args in losses:
        planting = Planting(
            f"{where}: {id}",
            loss,
            jax.grad(loss),
            lambda gradient=gradient: gradient,
            lambda kind, rng, args=args: args(int(rng.integers(2**31))),
            ("generic",),
        )
        found.setdefault(id, []).append(planting)
    return found
