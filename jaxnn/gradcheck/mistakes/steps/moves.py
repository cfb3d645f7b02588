"""Mistakes where entries are moved, repeated or chosen: what comes back is put together otherwise."""

import math
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from typing import NamedTuple

import numpy as np

from jaxnn.gradcheck.jaxprs.primitives import Kind, of
from jaxnn.gradcheck.mistakes.finding import Cotangent, Finding, Mistake, Step, Value, Way, finding, holds
from jaxnn.gradcheck.mistakes.steps.blocks import (
    CHOICES,
    FACTORS,
    MOVES,
    OVERWRITTEN,
    REGROUPED,
    Block,
    added,
    blocks_of,
    made_of,
    other_orders,
    put_over,
    where_from,
)
from jaxnn.gradcheck.mistakes.steps.guesses import Guess, first_that_holds, guess
from jaxnn.gradcheck.tape.paths import near, smallest
from jaxnn.gradcheck.tape.scene import Scene, fits, gradient_with, without
from jaxnn.gradcheck.tape.tape import Edge
from jaxnn.gradcheck.tape.trace import VIEWS, consumers, reached

LINEAR = MOVES | {"reduce_sum", "cumsum", "reduce_window_sum", "add", "add_any", "sub"}
LARGEST = 4096  # entries of what is chosen from, up to which it is asked which window has which

UNMASKED = Mistake(
    "window-unmasked", "what comes back to a maximum goes to every entry it was taken of",
    "A = max Z_i, so dZ_i = dA where Z_i = A, and 0 elsewhere",
    "dZ = np.repeat(dA, 2, axis=1)  # and no (Z == A)", "max pooling, a maximum",
)  # fmt: skip
MISPLACED = Mistake(
    "window-misplaced", "what comes back to a maximum goes to another entry of its window",
    "A = max Z_i, so dZ_i = dA where Z_i = A, and 0 elsewhere",
    "dZ[i, j] = dA  # for dZ[i, j, k[i, j]], k = argmax over the window", "max pooling, a maximum",
    (
        Way("the first entry", lambda at, x: at[0]),
        Way("the last entry", lambda at, x: at[-1]),
        Way("the least entry", lambda at, x: at[np.argmin(x[at])]),
        Way("the entry that the largest is if rows and columns are exchanged", lambda at, x: _across(at, x)),
    ),
)  # fmt: skip
FORWARDS = Mistake(
    "not-turned-round", "a step is done forwards on the way back, where its transpose belongs",
    "A = R Z, so dZ = Rᵀ dA: a running sum goes the other way",
    "dZ = np.cumsum(dA)  # for np.cumsum(dA[::-1])[::-1]", "a running sum, a rotation, a shift",
)  # fmt: skip
OUTSIDE = Mistake(
    "factor-after", "a factor is multiplied in after a step that mixes entries, where before it belongs",
    "A = R Z ⊙ s, so dZ = Rᵀ (dA ⊙ s), not (Rᵀ dA) ⊙ s",
    "dz = rotated_back(dA) * sin  # of A = rotated(z) * sin", "beside a rotation, a mean, a sum",
)  # fmt: skip
EARLY = Mistake(
    "residual-too-early", "what comes around a block is added before the way back through it, not after",
    "B = A + F(N(A)), so dA = dB + N′(dN)", "dA = norm_back(dB + dN)  # for dB + norm_back(dN)",
    "a residual connection",
)  # fmt: skip
OF_MOVES = (UNMASKED, MISPLACED, OVERWRITTEN, REGROUPED, FORWARDS, OUTSIDE, EARLY)


def _across(at: np.ndarray, x: np.ndarray) -> int | None:
    """Of a square window, the entry on the other side of its diagonal."""
    side = math.isqrt(len(at))
    row, column = divmod(int(np.argmax(x[at])), side)
    return at[column * side + row] if side**2 == len(at) else None


def _at(d: np.ndarray, at: list, shape: tuple[int, ...]) -> np.ndarray:
    return added(d.ravel(), np.asarray(at), math.prod(shape)).reshape(shape)


class Back(NamedTuple):
    """A way in which what comes back to the top of a block is put together for its source."""

    mistake: Mistake
    says: str
    rank: float
    of: Callable[[np.ndarray], np.ndarray]


def _backs(scene: Scene, block: Block) -> dict[tuple, Back]:
    """Each way that is another than the right one, by what it is called here."""
    x, y = (scene.point.values[v] for v in (block.source, block.top))
    names = {scene.point.tape.nodes[p].name for p in block.places}
    backs: dict[tuple, Back] = {}
    if x.shape == y.shape and names <= LINEAR | FACTORS and not names <= {"neg", *VIEWS}:
        says = "On the way back, {step} is done forwards where its transpose belongs."
        backs[FORWARDS.id, 0] = Back(FORWARDS, says, 1.0, partial(made_of, scene, block))
    if not names <= MOVES | CHOICES or x.size > LARGEST:
        return backs
    at, n = where_from(scene, block), x.size + 1

    def put(how: Callable, at: np.ndarray, d: np.ndarray) -> np.ndarray:
        return how((d * np.where(at < 0, -1, 1)).ravel(), np.abs(at).ravel(), n)[1:].reshape(x.shape)

    if np.bincount(np.abs(at).ravel(), minlength=n)[1:].max(initial=0) > 1:
        for k, way in enumerate(OVERWRITTEN.ways):
            says = f"Below {{step}}, {way.says}: {{value}} has entries that are there more than once."
            backs[OVERWRITTEN.id, k] = Back(OVERWRITTEN, says, way.rank, partial(put, way.of, at))
    if not names & CHOICES:
        for key, other in other_orders(x.shape, y.shape):
            says = "Below {step}, what comes back is put back as if the axes of {value} had another order."
            if y.size > x.size:
                says = "{step} repeats {value}, and what comes back is added up over other groups."
            if not np.array_equal(other, np.abs(at)):
                backs[REGROUPED.id, key] = Back(
                    REGROUPED, says, 1.3, partial(put, added, np.sign(at) * other)
                )
    return backs


def _of_windows(scene: Scene, block: Block) -> dict[tuple, Back]:
    """Where windows of which the largest is taken overlap: each written over the one before."""
    x, y = (scene.point.values[v] for v in (block.source, block.top))
    names = {scene.point.tape.nodes[p].name for p in block.places}
    if not names & CHOICES or x.size > LARGEST or not names <= CHOICES | MOVES - {"neg"}:
        return {}
    ones = (1 + unit.reshape(x.shape) for unit in np.eye(x.size))
    inside = np.stack([made_of(scene, block, one).ravel() for one in ones], axis=1) > 1
    says = "Below {step}, every entry of a window of {value} gets what comes back, not the largest alone."
    every = lambda d: (inside.T @ d.ravel()).reshape(x.shape)  # noqa: E731
    backs: dict[tuple, Back] = {(0,): Back(UNMASKED, says, 1.0, every)}
    for k, way in enumerate(MISPLACED.ways):
        chosen = [way.of(np.flatnonzero(row), x.ravel()) for row in inside]
        says = f"Below {{step}}, what comes back goes to {way.says} of each window of {{value}}."
        if None not in chosen:
            backs[MISPLACED.id, k] = Back(MISPLACED, says, 1.0, lambda d, at=chosen: _at(d, at, x.shape))
    if inside.sum(axis=0).max(initial=0) < 2:
        return backs
    largest = where_from(scene, block).ravel() - 1
    for turn, flags in product((1, -1), (True, False)):

        def back(d: np.ndarray, turn=turn, flags=flags) -> np.ndarray:
            out = np.zeros(x.size)
            for w in range(y.size)[::turn]:
                out[inside[w]] = 0
                out[largest[w]] = 1 if flags else d.ravel()[w]
            return (out * (inside.T @ d.ravel()) if flags else out).reshape(x.shape)

        says = "Below {step}, where windows of {value} overlap, one overwrites the other."
        backs[turn, flags] = Back(OVERWRITTEN, says, 1.0, back)
    return backs


class Known(NamedTuple):
    """A block that explains some parameters, and how."""

    block: Block
    find: Callable
    key: tuple
    back: Back
    of: tuple[int, ...]


def moved(scenes: list[Scene]) -> Iterator[Finding]:
    """What comes back through steps that move entries, or add them up, is put together otherwise."""
    probe = smallest(scenes)
    if probe is None:
        return
    found: dict[str, list[Known]] = {}
    alike: dict[tuple, list[Known]] = {}
    nodes, shapes = probe.point.tape.nodes, probe.point.tape.shapes
    for block in blocks_of(probe, LINEAR | CHOICES, probe.point.tape.active):
        of = _reached(probe, block.bottom)
        for find in (_backs, _of_windows) if of else ():
            for key, back in find(probe, block).items():
                one = Known(block, find, key, back, of)
                if fits(probe, _with_backs([one], probe) or probe.reference, of):
                    found.setdefault(back.mistake.id, []).append(one)
                    break
                names = tuple(nodes[p].name for p in block.places)
                alike.setdefault((key, names, shapes[block.source].shape), []).append(one)
    for known in found.values():
        # one for each parameter: heads of k and of v are two blocks, and one mistake
        chosen = [o for n, o in enumerate(known) if not any(set(o.of) & set(e.of) for e in known[:n])]
        if holds(scenes, partial(_with_backs, chosen)):
            yield _found(probe, chosen)
            return
    for known in (many for many in alike.values() if len(many) > 1 and not found):
        if holds(scenes, partial(_with_all, known)):
            yield _found(probe, known)
            return
    for search in (_parts, _after, _early):
        yield from search([s._replace(only=tuple(probe.wrong)) for s in scenes])


def _found(probe: Scene, known: list[Known]) -> Finding:
    back, down = known[0].back, tuple(Cotangent(one.block.source) for one in known)
    parts = _parts_of(known[0].block) | {"down": down}
    return finding(back.mistake, back.says, "{down}", back.rank, True, probe, **parts)


def _with_backs(known: list[Known], scene: Scene) -> list[np.ndarray] | None:
    """The gradient with each parameter's own way back."""
    gradient = list(scene.reference)
    for one in known:
        back = one.find(scene, one.block).get(one.key)
        if back is None:
            return None
        first, *others = one.block.bottom
        top = one.block.top
        moved = {first: lambda seen, back=back, top=top: back.of(seen[top])}
        there = gradient_with(scene, moved=moved, gains=dict.fromkeys(others, 0.0))
        gradient = [there[k] if k in one.of else g for k, g in enumerate(gradient)]
    return gradient


def _with_all(known: list[Known], scene: Scene) -> list[np.ndarray] | None:
    """The gradient with several of them at once."""
    backs = [(one.block, one.find(scene, one.block).get(one.key)) for one in known]
    if None in (back for _, back in backs):
        return None
    moved = {b.bottom[0]: lambda seen, b=b, back=back: back.of(seen[b.top]) for b, back in backs}
    return gradient_with(scene, moved=moved, gains={edge: 0.0 for b, _ in backs for edge in b.bottom[1:]})


def _parts_of(block: Block) -> dict:
    value = block.source
    return {"step": Step((max(block.places),)), "value": Value((value,)), "down": Cotangent(value)}


def _reached(scene: Scene, edges: tuple[Edge, ...]) -> tuple[int, ...]:
    """The wrong parameters that edges lead to."""
    pairs = enumerate(zip(scene.reference, without(scene, edges), strict=True))
    return tuple(k for k, (r, w) in pairs if k in scene.wrong and not near(r, w))


def _to_all(scene: Scene, edges: tuple[Edge, ...]) -> bool:
    """Whether these edges lead to all that is wrong."""
    return list(_reached(scene, edges)) == scene.wrong


@first_that_holds
def _parts(probe: Scene) -> Iterator[Guess]:
    """Parts of one value that overlap, each of which overwrites what the others gave."""
    nodes = probe.point.tape.nodes
    for value, places in consumers(nodes).items():
        edges = tuple(
            (p, 0) for p in places if value in probe.point.tape.active and nodes[p].inputs[0] == value
        )
        if len(edges) < 2 or not all(
            nodes[p].name in of(Kind.PART) and len(nodes[p].outputs) == 1 for p, _ in edges
        ):
            continue
        for turn in (1, -1) if _to_all(probe, edges) else ():
            says = "The parts of {value} overlap, and what comes back to one overwrites the others."
            parts = _parts_of(Block(value, value, tuple(p for p, _ in edges), edges))
            yield guess(OVERWRITTEN, says, "{down}", 1.0, partial(_with_parts, value, edges[::turn]), **parts)


def _with_parts(value: int, edges: tuple[Edge, ...], scene: Scene):
    nodes, x = scene.point.tape.nodes, scene.point.values[value]
    blocks = [Block(value, nodes[p].outputs[0], (p,), ((p, 0),)) for p, _ in edges]
    at = [where_from(scene, block).ravel() for block in blocks]

    def back(seen: dict) -> np.ndarray:
        d = np.concatenate([seen[block.top].ravel() for block in blocks])
        return put_over(d, np.concatenate(at), x.size + 1)[1:].reshape(x.shape)

    first, *others = sorted(edges)  # the last to be handed down: by then all cotangents are had
    return gradient_with(scene, moved={first: back}, gains=dict.fromkeys(others, 0.0))


@first_that_holds
def _after(probe: Scene) -> Iterator[Guess]:
    """A factor that is multiplied in below a linear step, where it belongs above it."""
    tape, factors = probe.point.tape, probe.point.change.factors
    readers = consumers(tape.nodes)
    for block in blocks_of(probe, LINEAR, tape.active):
        shape = tape.shapes[block.source].shape
        reads = readers.get(block.top, [])
        if shape != tape.shapes[block.top].shape or not shape or len(reads) != 1:
            continue
        place, (k, *more) = reads[0], [k for k, i in tape.edges(tape.nodes[reads[0]]) if i == block.top]
        edge = place, k
        factor = np.asarray(factors.get(edge, 0))
        if more or factor.shape != shape or np.ptp(factor) == 0:
            continue
        if _to_all(probe, (edge,)):
            says = "On the way back, the factor of {beside} is multiplied in after {step}, not before it."
            parts = _parts_of(block) | {"beside": Step((place,))}
            yield guess(OUTSIDE, says, "{down}", 1.5, partial(_with_factor_after, block, edge), **parts)


def _with_factor_after(block: Block, edge: Edge, scene: Scene):
    factor = np.broadcast_to(scene.point.change.factors[edge], scene.point.values[block.source].shape)
    gains = dict.fromkeys(block.bottom, factor)
    return gradient_with(scene, factors={edge: np.ones_like(factor)}, gains=gains)


@first_that_holds
def _early(probe: Scene) -> Iterator[Guess]:
    """What comes around a block is added on the way through it."""
    tape = probe.point.tape
    shapes, readers = tape.shapes, consumers(tape.nodes)
    sums = [
        (p, k, i) for p, n in enumerate(tape.nodes) if n.name in {"add", "add_any"} for k, i in tape.edges(n)
    ]
    for place, k, value in sums:
        top, shape = tape.nodes[place].outputs[0], shapes[value].shape
        around = len(readers[value]) > 1 and shape == shapes[top].shape != ()
        inside = reached(tape.nodes[:place], [value]) if around and _to_all(probe, ((place, k),)) else ()
        within = sorted(v for v in inside if shapes[v].shape == shape)
        through = [(None, v) for v in within]
        through += [
            ((p, j), top)
            for p, n in enumerate(tape.nodes[:place])
            for j, i in tape.edges(n)
            if i in inside and n.outputs[0] in within
        ]
        for edge, at in through:
            made = tape.maker(at) if edge is None else edge[0]
            says = "What comes around from {beside} is added before {step}, not after it, to reach {value}."
            parts = _parts_of(Block(value, top, (place if made is None else made,), ()))
            predict = partial(_with_early, (place, k), edge, at, top)
            yield guess(EARLY, says, "{down}", 1.5, predict, **parts, beside=Step((place,)))


def _with_early(around: Edge, through: Edge | None, at: int, top: int, scene: Scene):
    """With what comes around added where a value is made, or on one way down from the step above it."""
    off, d = {around: 0.0}, scene.point.cotangents[top]
    if through is None:
        return gradient_with(scene, gains=off, added={at: d})
    own = gradient_with(scene, gains=off)
    both = gradient_with(scene, gains=off, taken={through: (top, False)})
    rest = gradient_with(scene, gains=off | {through: 0.0})
    return [o + b - r for o, b, r in zip(own, both, rest, strict=True)]
