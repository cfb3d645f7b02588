"""Gradients that are right or wrong, at points: what the comparison is asked about. Imports no jax itself."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from experiments.planted.points import (
    DTYPES,
    KINDS,
    as_dtype,
    large_networks,
    networks,
    point_of,
    wide_networks,
)

BLOCK = 28  # right gradients of one kind, one after the other: they share their compiled programs


class Case(NamedTuple):
    """A gradient at a point, and what is known of it."""

    what: str
    loss: Callable
    gradient: Callable
    args: tuple
    dtype: str
    id: str | None  # of the mistake; None if it is right
    effect: float  # of the mistake on the gradient, relative to its largest entry
    hard: bool
    argnums: tuple[int, ...] | int = 0
    shown: Callable | None = None  # the steps of the gradient, if it shows them
    own: frozenset[str] = frozenset()  # what is made wrongly: steps if they are shown, else parameters


def right_cases(count: int, seed: int, done: set[str]) -> Iterator[tuple[str, Case]]:
    """Right gradients, each in one of five formulations; those that are done are left out."""
    from experiments.planted.network import formulations, loss_of

    every = [
        (net, n, loss_of(net), name, gradient, dtype)
        for net, n in (*networks(), *wide_networks())
        for name, gradient in formulations(net).items()
        for dtype in DTYPES
    ]
    for k in range(count):
        key = f"right {seed} {k}"
        if key not in done:
            net, n, loss, name, gradient, dtype = every[k // BLOCK % len(every)]
            kind = KINDS[k % len(KINDS)]
            args = point_of(net, n, kind, np.random.default_rng([seed, 0, k]))
            what = f"{net.sizes} {net.cost} {name}, {kind}, {dtype}"
            yield key, Case(what, loss, gradient, args, dtype, None, 0.0, kind != "generic")


def planted_cases(
    name: str, nets: tuple, losses: tuple, count: int, seed: int, done: set[str]
) -> Iterator[tuple[str, Case]]:
    """Planted mistakes, each id in every turn, and how much they change the gradient where they are."""
    from experiments.planted.mistakes import STATEFUL
    from experiments.planted.plantings import plantings

    found = plantings(nets, losses)
    order = np.random.default_rng([seed, 1])
    places = {id: order.permutation(len(every)) for id, every in sorted(found.items())}
    turns = [order.permutation(sorted(found)) for _ in range(count // len(found) + 1)]
    for k in range(count):
        key = f"{name} {seed} {k}"
        if key in done:
            continue
        turn, n = divmod(k, len(found))
        id = str(turns[turn][n])
        planting = found[id][places[id][turn % len(places[id])]]
        gradient = planting.wrong()
        kind, dtype = KINDS[k % len(KINDS)], DTYPES[k // len(KINDS) % len(DTYPES)]
        if name == "large":
            kind, dtype = "generic", "float32"
        kind = kind if kind in planting.kinds else planting.kinds[0]
        args = planting.args(kind, np.random.default_rng([seed, 2, k]))
        args = args if dtype == "float64" else as_dtype(args, dtype)
        size = 1.0 if id in STATEFUL else _effect(gradient, planting.right, args)
        if id in {"low-precision", "few-digits"} and dtype == "bfloat16":
            size = 0.0  # it is the caller's own precision
        what = f"{planting.what}, {kind}, {dtype}"
        yield key, Case(what, planting.loss, gradient, args, dtype, id, size, kind != "generic")


def wrong_cases(count: int, seed: int, done: set[str]) -> Iterator[tuple[str, Case]]:
    """The mistakes of the catalogue in all networks, and in the losses that no network is."""
    from experiments.planted.losses import PLANTS

    return planted_cases("wrong", networks(), PLANTS, count, seed, done)


def large_cases(count: int, seed: int, done: set[str]) -> Iterator[tuple[str, Case]]:
    """Those that large networks can have."""
    return planted_cases("large", large_networks(), (), count, seed, done)


def layer_cases(count: int, seed: int, done: set[str]) -> Iterator[tuple[str, Case]]:
    """The mistakes that people make in the backward of a layer, in an order drawn by the seed."""
    from experiments.planted.layer import plants_of
    from experiments.planted.layers import LAYERS
    from experiments.planted.sequences import SEQUENCES

    plants = list(plants_of(LAYERS + SEQUENCES))
    for k in np.random.default_rng([seed, 4]).permutation(len(plants))[:count]:
        key = f"layer {seed} {k}"
        if key not in done:
            yield key, layer_case(plants[k], np.random.default_rng([seed, 5, k]))


def layer_case(plant, rng: np.random.Generator) -> Case:
    """A wrong backward of a layer at a point, and what of it is wrong there."""
    import jax

    args = plant.args(rng)
    sizes = _effects(plant.gradient, jax.grad(plant.loss, plant.argnums), args)
    names = [f"p{jax.tree_util.keystr(path)}" for path, _ in jax.tree_util.tree_leaves_with_path(args[0])]
    off = {name for name, size in zip((*names, "X"), sizes, strict=False) if size > 1e-6}
    about = "float32", plant.id, max(sizes, default=0.0), False
    rest = plant.argnums, plant.shown, plant.own or frozenset(off)
    return Case(plant.where, plant.loss, plant.gradient, as_dtype(args, "float32"), *about, *rest)


def _effect(wrong: Callable, right: Callable, args: tuple) -> float:
    """The largest difference, relative to the largest entry of its parameter."""
    return max(_effects(wrong, right, args), default=0.0)


def _effects(wrong: Callable, right: Callable, args: tuple) -> list[float]:
    """The largest difference in each parameter, relative to its largest entry."""
    import jax

    with jax.enable_x64(True):
        args = as_dtype(args, "float64")
        try:
            hand = jax.jit(wrong)(*args)  # else each of its steps is compiled alone
        except jax.errors.JAXTypeError:  # it is in NumPy
            hand = wrong(*args)
        sides = jax.tree.leaves(hand), jax.tree.leaves(jax.jit(right)(*args))
        pairs = [(np.asarray(g), np.asarray(r)) for g, r in zip(*sides, strict=True)]
    if not all(np.isfinite(r).all() for _, r in pairs):
        return []
    if not all(np.isfinite(g).all() for g, _ in pairs):
        return [np.inf]
    with np.errstate(all="ignore"):
        tops = [max(np.abs(r).max(), np.abs(g).max()) for g, r in pairs]
        return [float(np.abs(g - r).max() / top) if top > 0 else 0.0
                for (g, r), top in zip(pairs, tops, strict=True)]  # fmt: skip
