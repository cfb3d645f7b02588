"""Which axes of a loss's arguments must have equal sizes, and the same loss at other sizes.

At sizes that are pairwise different primes, N cannot be taken for n_x, nor W for Wᵀ; with few
examples and wide layers, dW = dZᵀ A tells dZ itself.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from itertools import count
from typing import NamedTuple

import jax
import numpy as np

from jaxnn.gradcheck.jaxprs.primitives import CALLS, Kind, of
from jaxnn.gradcheck.tape.tape import ELEMENTWISE, flatten, origins, reached

KEEPING = ELEMENTWISE | of(Kind.RUNNING) | {"rev", "sort"}  # every axis
PRIMES = (5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47)


class Axes(NamedTuple):
    """For every leaf of args a tuple: the class of each of its axes; and what the classes mean."""

    leaves: tuple[tuple[int, ...], ...]
    sizes: Mapping[int, int]
    examples: frozenset[int]  # classes no parameter has: N
    inputs: frozenset[int]  # classes of data that meet a parameter and not the loss: n_x
    outputs: frozenset[int]  # classes of data and parameters at the loss: n_L


def _same_axes(node, shapes, constant) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Pairs ((value, axis), (value, axis)) that a step demands to be of one size.

    An axis of size 1 of a value that is constant over the data, as of a bias, may only be broadcast.
    """
    ins, p, out = node.reads, node.params, node.outputs[0]
    rank = len(shapes[out].shape)
    if node.name in KEEPING:
        pairs = [
            ((i, a), (out, a))
            for i in ins
            if len(shapes[i].shape) == rank
            for a in range(rank)
            if shapes[i].shape[a] > 1 or i not in constant or out in constant
        ]
        return [(x, y) for x, y in pairs if _size(x, shapes) == _size(y, shapes)]
    if not ins:
        return []
    x = ins[0]
    axes = range(len(shapes[x].shape))
    if node.name == "transpose":
        return [((x, a), (out, k)) for k, a in enumerate(p["permutation"])]
    if node.name == "broadcast_in_dim":
        return [
            ((x, k), (out, a))
            for k, a in enumerate(p["broadcast_dimensions"])
            if shapes[x].shape[k] == shapes[out].shape[a]
        ]
    if node.name == "squeeze" or (node.name in of(Kind.SUM, Kind.ORDER) and "axes" in p):
        gone = p["axes"] if "axes" in p else p["dimensions"]
        return [((x, a), (out, k)) for k, a in enumerate(a for a in axes if a not in gone)]
    if node.name == "reshape" and p["dimensions"] is None:
        return _reshaped_axes(x, out, shapes)
    if node.name == "dot_general" and len(ins) == 2:
        y = ins[1]
        (cx, cy), (bx, by) = p["dimension_numbers"]
        pairs = [((x, a), (y, b)) for a, b in zip((*cx, *bx), (*cy, *by), strict=True)]
        free_x = [a for a in axes if a not in (*cx, *bx)]
        free_y = [b for b in range(len(shapes[y].shape)) if b not in (*cy, *by)]
        order = [(x, a) for a in (*bx, *free_x)] + [(y, b) for b in free_y]
        return pairs + [(s, (out, k)) for k, s in enumerate(order)]
    if node.name == "concatenate":
        return [((i, a), (out, a)) for i in ins for a in range(rank) if a != p["dimension"]]
    if node.name == "conv_general_dilated" and len(ins) == 2:
        d, y = p["dimension_numbers"], ins[1]
        pairs = [((x, d.lhs_spec[0]), (out, d.out_spec[0]))]
        pairs += [((y, d.rhs_spec[0]), (out, d.out_spec[1]))]
        if p["feature_group_count"] == 1:
            pairs += [((x, d.lhs_spec[1]), (y, d.rhs_spec[1]))]
        return pairs
    if node.name in {"slice", "pad", "select_and_scatter_add", "dynamic_slice"} and len(axes) == rank:
        return [((x, a), (out, a)) for a in axes if _size((x, a), shapes) == _size((out, a), shapes)]
    return []


def _size(axis: tuple[int, int], shapes) -> int:
    return shapes[axis[0]].shape[axis[1]]


def _reshaped_axes(x: int, out: int, shapes) -> list:
    """Axes that a reshape leaves whole, from the front and from the back."""
    a, b = shapes[x].shape, shapes[out].shape
    parts = range(1, min(len(a), len(b)) + 1)
    front = [((x, k - 1), (out, k - 1)) for k in parts if a[:k] == b[:k]]
    return front + [((x, len(a) - k), (out, len(b) - k)) for k in parts if a[-k:] == b[-k:]]


def axes_of(loss: Callable, args: tuple, argnums: int | tuple[int, ...] = 0) -> Axes:
    """The classes of axes of args that the jaxpr of loss(*args) ties together."""
    nodes, inputs, _, _, shapes = flatten(loss, args, CALLS)
    parent: dict[tuple[int, int], tuple[int, int]] = {}

    def root(a):
        while parent.get(a, a) != a:
            a = parent[a]
        return a

    owner = parameter_leaves(args, argnums)
    data_inputs = {i for i, own in zip(inputs, owner, strict=True) if not own and shapes[i].shape}
    constant = set(shapes) - reached(nodes, data_inputs)
    for node in nodes:
        for x, y in _same_axes(node, shapes, constant):
            parent[root(x)] = root(y)

    number = defaultdict(count().__next__)
    leaves = tuple(tuple(number[root((i, a))] for a in range(len(shapes[i].shape))) for i in inputs)
    sizes = {c: shapes[i].shape[a] for i, cs in zip(inputs, leaves, strict=True) for a, c in enumerate(cs)}
    rows = list(zip(inputs, leaves, owner, strict=True))
    with_parameters, with_data = (
        {c for _, cs, own in rows if own == mine for c in cs} for mine in (True, False)
    )
    after = _after_parameters(nodes, inputs, owner)
    at_loss = {c for i, cs, own in rows if not own and i in after for c in cs}
    shared = with_data & with_parameters
    return Axes(
        leaves,
        sizes,
        frozenset(with_data - with_parameters),
        frozenset(shared - at_loss),
        frozenset(shared & at_loss),
    )


def _after_parameters(nodes, inputs, owner) -> set[int]:
    """Inputs that meet no parameter by a product: targets, weights of a loss."""
    own = {i for i, own in zip(inputs, owner, strict=True) if own}
    origin, met = origins(nodes, inputs), set()
    for node in nodes:
        if node.name in of(Kind.PRODUCT):
            sides = [origin.get(i, set()) for i in node.reads]
            for one, other in ((0, -1), (-1, 0)):
                if sides and sides[other] & own:
                    met |= sides[one]
    return set(inputs) - own - met


def parameter_leaves(args: tuple, argnums: int | tuple[int, ...]) -> tuple[bool, ...]:
    """For every leaf of args, in order: whether it is one of args[argnums]."""
    chosen = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    return tuple(n in chosen for n, a in enumerate(args) for _ in jax.tree.leaves(a))


def _new_sizes(
    axes: Axes, examples: int, only_examples: bool, squares: bool, together: bool
) -> dict[int, int]:
    """Other sizes: pairwise different primes; with `squares`, what was equal stays equal.

    With `together`, all axes that may be of examples and are as long as the first are so after.
    """
    primes, sizes, chosen = iter(PRIMES), dict(axes.sizes), {}
    first = sorted(axes.examples)[:1]
    if together:
        first = [c for c in axes.examples if axes.sizes[c] == axes.sizes[first[0]]]
    for c, size in axes.sizes.items():
        if c in first and size >= 1:
            sizes[c] = examples
        elif size > 1 and not only_examples:
            if not (squares and size in chosen):
                chosen[size] = next(primes, size)
            sizes[c] = chosen[size]
    return sizes


def _generic(leaf, shape, own: bool, sizes, rng) -> np.ndarray:
    """Values like those of `leaf`, at another shape, none of them special."""
    x = np.asarray(leaf)
    if x.dtype == bool:
        return rng.uniform(size=shape) < 0.6
    if np.issubdtype(x.dtype, np.integer):
        high = max(int(x.max(initial=0)) + 1, 2)
        smallest = min([s for s in sizes.values() if s > 1], default=high)
        return rng.integers(0, min(high, smallest), size=shape).astype(x.dtype)
    if own:
        fan_in = shape[-1] if len(shape) > 1 and shape[-1] > 1 else 2
        return rng.normal(size=shape) * 1.2 / np.sqrt(fan_in)
    if not shape:
        return np.asarray(x * 1.3 if x != 0 else 0.3)
    if x.size and np.isin(x, (0.0, 1.0)).all() and 0 < x.mean() < 1:
        if x.ndim == 2 and (x.sum(axis=-1) == 1).all() and shape[-1] > 1:
            return np.eye(shape[-1])[np.arange(shape[0]) % shape[-1]]
        y = (rng.uniform(size=shape) < 0.5).astype(np.float64)
        y.flat[: min(2, y.size)] = (1.0, 0.0)[: min(2, y.size)]
        return y
    if x.size and (x >= 0).all() and (x <= 1).all():
        y = rng.uniform(0.05, 0.95, size=shape)
        if x.ndim > 1 and x.shape[-1] > 1 and np.allclose(x.sum(axis=-1), 1):
            y = y / y.sum(axis=-1, keepdims=True)
        return y
    return rng.normal(size=shape) * 1.5


def generic(
    loss: Callable,
    args: tuple,
    argnums: int | tuple[int, ...],
    axes: Axes,
    seed: int,
    examples: int | None = 3,
    only_examples: bool = False,
    squares: bool = False,
    together: bool = False,
    nearby: bool = False,
) -> tuple | None:
    """The arguments at generic values and new sizes (the old ones if examples is None), or None.

    None where the loss is not defined. With `nearby`, the values are the caller's, a little moved.
    """
    rng = np.random.default_rng(seed)
    owner = parameter_leaves(args, argnums)
    sizes = dict(axes.sizes)
    if examples is not None:
        sizes = _new_sizes(axes, examples, only_examples, squares, together)
    flat, tree = jax.tree.flatten(args)
    new = []
    for x, cs, own in zip(flat, axes.leaves, owner, strict=True):
        shape = tuple(sizes[c] for c in cs)
        new.append(_nearby(x, shape, rng) if nearby else _generic(x, shape, own, sizes, rng))
    there = jax.tree.unflatten(tree, new)
    try:
        return there if jax.eval_shape(loss, *there).shape == () else None
    except Exception:
        return None


def _nearby(leaf, shape, rng) -> np.ndarray:
    """The leaf's own values, repeated or cut to the shape, each a little moved."""
    x = np.resize(np.asarray(leaf), shape)
    return x * (1 + 0.1 * rng.normal(size=shape)) if np.issubdtype(x.dtype, np.floating) else x
