"""Which axes of a loss's arguments must have equal sizes, and the same loss at other sizes.

At sizes that are pairwise different primes, N cannot be taken for n_x, nor W for Wᵀ; with few
examples and wide layers, dW = dZᵀ A tells dZ itself.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from itertools import count
from typing import NamedTuple

import jax
import numpy as np

from jaxnn.gradcheck.jaxprs.equations import kind_of
from jaxnn.gradcheck.jaxprs.primitives import CALLS, Kind, of
from jaxnn.gradcheck.tape.tape import Node, Tape
from jaxnn.gradcheck.tape.trace import ELEMENTWISE, flatten, origins, reached

KEEPING = (  # every axis, but for those that grow or shrink
    ELEMENTWISE
    | of(Kind.RUNNING)
    | {"rev", "sort", "concatenate", "slice", "dynamic_slice", "pad", "select_and_scatter_add"}
)
PRIMES = (5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47)


class Axes(NamedTuple):
    """For every leaf of args a tuple: the class of each of its axes; and what the classes mean."""

    leaves: tuple[tuple[int, ...], ...]
    sizes: Mapping[int, int]
    examples: frozenset[int]  # classes no parameter has: N
    inputs: frozenset[int]  # classes of data that meet a parameter and not the loss: n_x
    outputs: frozenset[int]  # classes of data and parameters at the loss: n_L


Letters = tuple[Iterable[int | None], ...]  # of the axes of what a step reads, and of its output


def _of_product(p, x, y) -> Letters:
    (cx, cy), (bx, by) = p["dimension_numbers"]
    shared = dict(zip((*cy, *by), (*cx, *bx), strict=True))
    left, right = range(len(x)), [shared.get(k, len(x) + k) for k in range(len(y))]
    return left, right, [*bx, *(k for k in left if k not in (*cx, *bx)), *(k for k in right if k >= len(x))]


def _of_convolution(p, x, y) -> Letters:
    examples, neurons, before = 0, 1, 2 if p["feature_group_count"] == 1 else None
    of_each = (examples, before), (neurons, before), (examples, neurons)
    known = map(dict, map(zip, p["dimension_numbers"], of_each))
    return tuple([letters.get(a) for a in range(len(x))] for letters in known)


def _of_reshape(p, x) -> Letters:
    """An axis that it leaves whole, counted from the front or from the back."""
    y = p["new_sizes"]
    if p["dimensions"] is not None:
        return (), ()
    back = [len(x) - len(y) + k if x[k - len(y) :] == y[k - len(y) :] else None for k in range(len(y))]
    return range(len(x)), [k if x[: k + 1] == y[: k + 1] else b for k, b in enumerate(back)]


def _of_sum(p, x) -> Letters:
    gone = p["axes"] if "axes" in p else p["dimensions"]
    return range(len(x)), [a for a in range(len(x)) if a not in gone]


LETTERS: dict[str, Callable[..., Letters]] = {
    **dict.fromkeys(of(Kind.SUM) | {"argmax", "argmin", "squeeze"}, _of_sum),
    "transpose": lambda p, x: (range(len(x)), p["permutation"]),
    "broadcast_in_dim": lambda p, x: (p["broadcast_dimensions"], range(len(p["shape"]))),
    "reshape": _of_reshape,
    "dot_general": _of_product,
    "conv_general_dilated": _of_convolution,
}


def _same_axes(node: Node, shapes, constant: set[int]) -> Iterable[list[tuple[int, int]]]:
    """Lists of (value, axis) that a step demands to be of one size: those with one letter.

    An axis of size 1 of a value that is constant over the data, as of a bias, may only be broadcast.
    """
    values = *node.reads, node.outputs[0]
    sizes = [shapes[i].shape for i in values]
    letters: Iterable[Iterable] = ()
    if node.name in KEEPING:
        out, free = sizes[-1], constant if values[-1] not in constant else ()
        alike = [(i, x if len(x) == len(out) else ()) for i, x in zip(values, sizes, strict=True)]
        letters = [
            [a if n == out[a] and (n > 1 or i not in free) else None for a, n in enumerate(x)]
            for i, x in alike
        ]
    elif node.name in LETTERS and len(node.reads) == len(node.inputs):
        letters = LETTERS[node.name](node.params, *sizes[:-1])
    same = defaultdict(list)
    for value, size, names in zip(values, sizes, letters, strict=False):
        for axis, key in enumerate(zip(names, size, strict=False)):
            same[key].append((value, axis))
    return [axes for (letter, _), axes in same.items() if letter is not None]


def axes_of(loss: Callable, args: tuple, argnums: int | tuple[int, ...] = 0) -> Axes:
    """The classes of axes of args that the jaxpr of loss(*args) ties together."""
    tape = flatten(loss, args, CALLS)
    shapes, owner = tape.shapes, parameter_leaves(args, argnums)
    own = {i for i, mine in zip(tape.inputs, owner, strict=True) if mine}
    data = set(tape.inputs) - own
    parent: dict[tuple[int, int], tuple[int, int]] = {}

    def root(a):
        while parent.get(a, a) != a:
            a = parent[a]
        return a

    constant = set(shapes) - reached(tape.nodes, {i for i in data if shapes[i].shape})
    for node in tape.nodes:
        for first, *others in _same_axes(node, shapes, constant):
            for other in others:
                parent[root(other)] = root(first)

    number = defaultdict(count().__next__)
    classes = {i: tuple(number[root((i, a))] for a in range(len(shapes[i].shape))) for i in tape.inputs}
    sizes = {c: n for i, cs in classes.items() for c, n in zip(cs, shapes[i].shape, strict=True)}
    of_data, of_own, at_loss = (
        {c for i in values for c in classes[i]} for values in (data, own, data - _meeting(tape, own))
    )
    shared = of_data & of_own
    return Axes(
        tuple(classes.values()),
        sizes,
        frozenset(of_data - of_own),
        frozenset(shared - at_loss),
        frozenset(shared & at_loss),
    )


def _meeting(tape: Tape, own: set[int]) -> set[int]:
    """Inputs that meet a parameter by a product: all but targets, weights of a loss."""
    origin, met = origins(tape.nodes, tape.inputs), set()
    for node in tape.nodes:
        if node.name in of(Kind.PRODUCT) and node.reads:
            first, last = (origin.get(node.reads[k], set()) for k in (0, -1))
            met |= (first if last & own else set()) | (last if first & own else set())
    return met


def parameter_leaves(args: tuple, argnums: int | tuple[int, ...]) -> tuple[bool, ...]:
    """For every leaf of args, in order: whether it is one of args[argnums]."""
    chosen = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    return tuple(n in chosen for n, a in enumerate(args) for _ in jax.tree.leaves(a))


def _new_sizes(
    axes: Axes, examples: int | None = 3, only_examples=False, squares=False, together=False
) -> dict[int, int]:
    """Other sizes, pairwise different primes; the old ones if examples is None.

    With `squares`, what was equal stays equal. With `together`, all axes that may be of examples and are
    as long as the first are so after.
    """
    if examples is None:
        return dict(axes.sizes)
    primes, sizes, chosen = iter(PRIMES), dict(axes.sizes), {}
    first = sorted(axes.examples)[:1]
    if together:
        first = [c for c in axes.examples if sizes[c] == sizes[first[0]]]
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
    if kind_of(x) in {"i", "u"}:
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
        y.flat[:2] = (1.0, 0.0)[: y.size]
        return y
    if x.size and (x >= 0).all() and (x <= 1).all():
        y = rng.uniform(0.05, 0.95, size=shape)
        shares = x.ndim > 1 and x.shape[-1] > 1 and np.allclose(x.sum(axis=-1), 1)
        return y / y.sum(axis=-1, keepdims=True) if shares else y
    return rng.normal(size=shape) * 1.5


def _as_that_is(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The other values for data, symmetric, with an empty diagonal or with the sum 1 if the data are so."""
    if kind_of(x) != "f":
        return y
    if x.ndim == 2 and x.shape == x.T.shape and y.shape == y.T.shape and np.array_equal(x, x.T):
        y = np.triu(y, 0 if np.diag(x).any() else 1) + np.triu(y, 1).T
    weights = 1 not in x.shape and ((x > 0) & (x < 1)).any() and np.isclose(x.sum(), 1)  # of all, no one-hot
    return y / y.sum() if weights and (x >= 0).all() and (y > 0).any() and (y >= 0).all() else y


def generic(
    loss: Callable, args: tuple, argnums: int | tuple[int, ...], axes: Axes, seed: int, nearby=False, **how
) -> tuple | None:
    """The arguments at generic values and other sizes, as `_new_sizes` has them, or None.

    None where the loss is not defined. With `nearby`, the values are the caller's, a little moved.
    """
    rng, sizes = np.random.default_rng(seed), _new_sizes(axes, **how)
    flat, tree = jax.tree.flatten(args)
    new = []
    for x, cs, own in zip(flat, axes.leaves, parameter_leaves(args, argnums), strict=True):
        shape = tuple(sizes[c] for c in cs)
        y = _nearby(x, shape, rng) if nearby else _generic(x, shape, own, sizes, rng)
        new.append(y if own else _as_that_is(np.asarray(x), y))
    there = jax.tree.unflatten(tree, new)
    try:
        return there if jax.eval_shape(loss, *there).shape == () else None
    except Exception:  # whatever a loss raises that is not made for these sizes
        return None


def _nearby(leaf, shape, rng) -> np.ndarray:
    """The leaf's own values, repeated or cut to the shape, each a little moved."""
    x = np.resize(np.asarray(leaf), shape)
    return x * (1 + 0.1 * rng.normal(size=shape)) if kind_of(x) == "f" else x
