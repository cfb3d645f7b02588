"""Steps that only move entries, several as one: which entry goes where."""

from collections.abc import Collection, Iterator
from itertools import permutations
from typing import NamedTuple

import numpy as np
from jax.extend.core import Literal

from jaxnn.gradcheck.jaxprs.equations import kind_of
from jaxnn.gradcheck.jaxprs.primitives import Kind, of
from jaxnn.gradcheck.mistakes.finding import Mistake, Way
from jaxnn.gradcheck.tape.forward import arrays, step
from jaxnn.gradcheck.tape.scene import Scene
from jaxnn.gradcheck.tape.tape import Edge, Node
from jaxnn.gradcheck.tape.trace import VIEWS, consumers

MOVES = VIEWS | of(Kind.PART) | {"concatenate", "stack", "tile", "pad", "name", "neg"}
CHOICES = {"max", "reduce_max", "reduce_window_max"}
FACTORS = {"mul", "div"}


def put_over(d: np.ndarray, at: np.ndarray, n: int) -> np.ndarray:
    """Each where it goes, one over the other."""
    out = np.zeros(n)
    out[at] = d
    return out


def added(d: np.ndarray, at: np.ndarray, n: int) -> np.ndarray:
    """Each added to the others where it goes."""
    return np.bincount(at, d, n)


COPIED = "A_i = E[t_i], so dE_k = Σ dA_i over the i with t_i = k"
OVERWRITTEN = Mistake(
    "entries-overwritten", "what comes back to repeated entries, or to windows that overlap, is not added up",
    COPIED, "dE[t] += dA  # in NumPy the last wins: np.add.at(dE, t, dA)", "where entries are used twice",
    (
        Way("the last that comes back to an entry overwrites the others", put_over, 1),
        Way("the first that comes back to an entry stands for all",
            lambda d, at, n: put_over(d[::-1], at[::-1], n), 1.1),
        Way("the mean of what comes back to an entry stands for the sum",
            lambda d, at, n: added(d, at, n) / np.maximum(np.bincount(at, minlength=n), 1), 1.2),
    ),
)  # fmt: skip
REGROUPED = Mistake(
    "groups-exchanged", "what comes back is added up, or put back, by another order of the axes",
    "A = repeat(K, m), so dK_k = Σ dA_i over the i with ⌊i/m⌋ = k; a reshape is undone by a reshape",
    "dK = dA.reshape(m, n, d).sum(axis=0)  # for dA.reshape(n, m, d).sum(axis=1)",
    "where an axis is repeated, split or merged",
)  # fmt: skip


class Block(NamedTuple):
    """Steps that lead from one value to another and nowhere else."""

    source: int
    top: int
    places: tuple[int, ...]
    bottom: tuple[Edge, ...]  # those that read the source


def blocks_of(scene: Scene, kinds: frozenset[str] | set[str], of: Collection[int]) -> Iterator[Block]:
    """Every block of these steps, of one value of these and to another."""
    tape = scene.point.tape
    readers = consumers(tape.nodes)
    maker = {o: p for p, node in enumerate(tape.nodes) for o in node.outputs}
    read = [
        [(k, i) for k, i in enumerate(n.inputs) if not isinstance(i, Literal) and i in of] for n in tape.nodes
    ]
    for top in sorted(maker.keys() & of):
        places, front = set(), {top}
        while front:
            value = max(front, key=lambda v: maker.get(v, -1))
            place = maker.get(value)
            if place is None or not _is_of(tape.nodes[place], kinds, of):
                break
            places.add(place)
            front = front.difference(tape.nodes[place].outputs) | {i for _, i in read[place]}
            made = {o for p in places for o in tape.nodes[p].outputs} - {top}
            if len(front) == 1 and all(places.issuperset(readers.get(v, ())) for v in made):
                (source,) = front
                bottom = tuple((p, k) for p in sorted(places) for k, i in read[p] if i == source)
                yield Block(source, top, tuple(sorted(places)), bottom)


def _is_of(node: Node, kinds: Collection[str], of: Collection[int]) -> bool:
    """Whether it is a step of these; with sums, a product with what is no value of these is one."""
    if node.name not in FACTORS:
        return node.name in kinds
    own = [not isinstance(i, Literal) and i in of for i in node.inputs]
    return "reduce_sum" in kinds and own[0] != own[1] and (node.name == "mul" or own[0])


def made_of(scene: Scene, block: Block, source: np.ndarray) -> np.ndarray:
    """What a block makes of another source, where all else that is added to it is 0."""
    tape, values = scene.point.tape, dict(scene.point.values)
    values[block.source] = source
    inside = {block.source}
    for place in block.places:
        node = tape.nodes[place]
        given = arrays(node, values)
        known = [not isinstance(i, Literal) and i in inside for i in node.inputs]
        if node.name not in FACTORS:
            pairs = zip(known, given, strict=True)
            given = [x if own or kind_of(x) != "f" else np.zeros_like(x) for own, x in pairs]
        values |= dict(zip(node.outputs, step(scene, place, given), strict=True))
        inside.update(node.outputs)
    return values[block.top]


def where_from(scene: Scene, block: Block) -> np.ndarray:
    """Which entry of the source each entry of the top is: from 1, with its sign; 0 for none of them."""
    x = scene.point.values[block.source]
    names = {scene.point.tape.nodes[p].name for p in block.places}
    if not names & CHOICES:
        return made_of(scene, block, np.arange(1.0, x.size + 1).reshape(x.shape)).astype(int)
    order = np.argsort(x, axis=None, kind="stable")
    ranks = np.empty(x.size)
    ranks[order] = np.arange(1.0, x.size + 1)
    chosen = made_of(scene, block, ranks.reshape(x.shape)).astype(int)
    return np.where(chosen > 0, order[np.maximum(chosen, 1) - 1] + 1, 0)


def other_orders(x: tuple[int, ...], y: tuple[int, ...]) -> Iterator[tuple[tuple, np.ndarray]]:
    """Which entry of x those of y would be, were they repeated along another axis or in another order."""
    size, whole = int(np.prod(x)), int(np.prod(y))
    if not size or whole % size or len(x) > 5:
        return
    entries = np.arange(1, size + 1).reshape(x)
    if whole > size:
        many = np.broadcast_to(entries, (whole // size, *x))
        for axis in range(len(x) + 1):
            yield (axis,), np.moveaxis(many, 0, axis).reshape(y)
    else:
        for order in permutations(range(len(x))):
            yield order, entries.transpose(order).reshape(y)


def repeated(scene: Scene) -> list[tuple[Block, ...]]:
    """The blocks that repeat a value, the shortest of each; together those that repeat theirs alike."""
    shapes, alike, seen = scene.point.tape.shapes, {}, set()
    floats = {v for v, shape in shapes.items() if kind_of(shape) == "f"}
    for block in blocks_of(scene, MOVES - {"neg"}, floats):
        x, y = (scene.point.values[v] for v in (block.source, block.top))
        if 1 < x.size < y.size and block.source not in seen:
            at = where_from(scene, block)
            if any(not np.array_equal(at, other) for _, other in other_orders(x.shape, y.shape)):
                seen.add(block.source)
                alike.setdefault((x.shape, at.shape, at.tobytes()), []).append(block)
    return [tuple(blocks) for blocks in alike.values()]


def in_another_order(scene: Scene, blocks: tuple[Block, ...]) -> dict[tuple, dict[int, np.ndarray]]:
    """What blocks make, were the values repeated along another axis: by the axis."""
    x, y = (scene.point.values[v] for v in (blocks[0].source, blocks[0].top))
    at = where_from(scene, blocks[0])
    sources = [scene.point.values[block.source].ravel() for block in blocks]
    return {
        key: {block.top: values[other - 1] for block, values in zip(blocks, sources, strict=True)}
        for key, other in other_orders(x.shape, y.shape)
        if not np.array_equal(other, at)
    }
