"""The backward pass of a tape at a point, all of whose parts can be exchanged.

A mistake in a backward pass is a step done with something else: another operand, another local
derivative, a factor too many, nothing at all. So here all of these are *inputs* of one backward
pass, and a mistake is an input.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import Literal

from jaxnn.gradcheck.jaxprs.by_numpy import by_numpy
from jaxnn.gradcheck.jaxprs.equations import is_key, turns, within
from jaxnn.gradcheck.jaxprs.primitives import Kind, of
from jaxnn.gradcheck.tape.budget import STEP
from jaxnn.gradcheck.tape.scene import Scene
from jaxnn.gradcheck.tape.tape import Change, Edge, Node, Point, Programs, Pulled, Tape

MOVING = of(Kind.VIEW) | {"slice", "concatenate", "stack", "split", "rev"}
SMALL = 1000  # entries of a step up to which it is cheaper to move them one by one


def point(tape: Tape, args: tuple, traced: Programs | None = None) -> Point:
    """All values and the right backward pass at args; `traced` is programs(tape) when it is had."""
    traced = traced or programs(tape)
    values, factors, operands = traced.prepare(*_fed(tape, args))
    return Point(tape, args, values, traced.pull(Change(factors, operands, {}, {}, {}, {}, {})), traced, {})


def gradient_at(scene: Scene, value: int, new: np.ndarray) -> list[np.ndarray]:
    """The right gradient where input or constant `value` is `new`."""
    tape = scene.point.tape
    scene.work.spend(2 * scene.point.programs.work)
    if value in tape.constants:
        other = tape._replace(constants={**tape.constants, value: new})
        args = scene.point.args
    else:
        flat, tree = jax.tree.flatten(scene.point.args)
        flat = [new if i == value else x for i, x in zip(tape.inputs, flat, strict=True)]
        other, args = tape, jax.tree.unflatten(tree, flat)
    there = point(other, args, scene.point.programs)
    silent = there.change._replace(gains=dict.fromkeys(scene.muted, 0.0))
    return there.programs.pull(silent).gradient if scene.muted else there.gradient


def _fed(tape: Tape, args: tuple) -> tuple[list, dict]:
    """What goes into a tape: the leaves, and what it holds."""
    held = {n: c if is_key(c) else np.asarray(c) for n, c in tape.constants.items()}
    return [np.asarray(x) for x in jax.tree.leaves(args)], held


def programs(tape: Tape) -> Programs:
    """The programs of a tape; what steps that are alike have in common is traced once."""
    traced: dict[tuple, Callable] = {}
    kinds = [_kind(tape, node) for node in tape.nodes]
    steps = [_backward(tape, place, kind, traced) for place, kind in enumerate(kinds)]
    plan = [step for step in reversed(steps) if step is not None]

    def step(place: int, given: list, slope: int | None = None) -> list:
        node, key = tape.nodes[place], (kinds[place], slope)
        if key not in traced:
            run: Callable = node.apply if slope is None else lambda *xs: (node.slope(xs, slope),)
            traced[key] = by_numpy(run, *given)
        return traced[key](*given)

    def prepare(leaves, held):
        values, factors, operands = held | dict(zip(tape.inputs, leaves, strict=True)), {}, {}
        for place, (node, back) in enumerate(zip(tape.nodes, steps, strict=True)):
            given = node.given(values)
            values |= dict(zip(node.outputs, step(place, given), strict=True))
            if back and back.back is None:
                factors |= {key: step(place, given, key[1])[0] for key, *_ in back.edges}
            operands |= {key: given[key[1]] for key in back.reads} if back else {}
        return values, factors, operands

    edges = frozenset(key for step in plan for key, *_ in step.edges)
    work = sum(_work(tape, node) for node in tape.nodes if set(node.outputs) & tape.active)
    backs = {step.edges[0][0][0]: (step.back, step.reads) for step in plan if step.back}

    def back(place: int, change: Change, above: list) -> list:
        through, reads = backs[place]
        return through([change.operands[r] for r in reads], above)

    return Programs(prepare, partial(_pull, tape, plan, _ways_in(plan)), edges, work, step, back)


def _work(tape: Tape, node: Node) -> float:
    """About how many multiplications a step of the backward pass takes, from shapes alone."""
    read = [math.prod(tape.shapes[i].shape) for i in node.reads]
    made = [math.prod(tape.shapes[o].shape) for o in node.outputs]
    inner = node.params.get("length", 1) * sum(turns(jaxpr) for jaxpr in within(node))
    product = 2 * math.sqrt(math.prod([*read, *made])) if node.name in of(Kind.PRODUCT) else 0
    return STEP * (1 + inner) + sum(read) + sum(made) + product


class Backward(NamedTuple):
    """A step of the backward pass; an edge is (itself, the value it leads to, shape, dtype)."""

    node: Node
    outputs: list[int]
    edges: list[tuple[Edge, int, tuple[int, ...], Any]]
    reads: list[Edge]  # of the operands; none of an elementwise step
    back: Callable | None  # (operands, cotangents above) → cotangents; None for an elementwise step
    work: float


def _backward(tape: Tape, place: int, kind: tuple, traced: dict[tuple, Callable]) -> Backward | None:
    """traced: the ways back there are, which steps of one kind share."""
    node = tape.nodes[place]
    live = [o for o in node.outputs if o in tape.active]
    edges = [((place, k), i, tape.shapes[i].shape, tape.shapes[i].dtype) for k, i in tape.edges(node)]
    if not edges or not live:
        return None
    if node.elementwise:
        return Backward(node, live, edges, [], None, _work(tape, node))
    reads = [(place, k) for k, i in enumerate(node.inputs) if not isinstance(i, Literal)]
    if kind not in traced:
        traced[kind] = (_moved_back if _only_moves(tape, node) else _back)(tape, node)
    return Backward(node, live, edges, reads, traced[kind], _work(tape, node))


def _kind(tape: Tape, node: Node) -> tuple:
    """What the way back through a step is made of: the same in every turn of a loop that is written out."""
    (equation,) = getattr(node.apply, "args", (node.apply,))
    own = id(equation) if within(node) or equation is node.apply else str(node.params)
    inputs = [i.val if isinstance(i, Literal) else (tape.shapes[i], i in tape.active) for i in node.inputs]
    return node.name, own, str(inputs), tuple(o in tape.active for o in node.outputs)


def _only_moves(tape: Tape, node: Node) -> bool:
    shapes = [tape.shapes[i] for i in (*node.reads, *node.outputs)]
    return (
        node.name in MOVING
        and len(tape.edges(node)) == len(node.inputs)
        and all(s.dtype == np.float64 and math.prod(s.shape) <= SMALL for s in shapes)
    )


def _moved_back(tape: Tape, node: Node) -> Callable:
    """The way back through a step that only moves entries: each is added where it was taken from."""
    shapes = [tape.shapes[i] for i in node.inputs]
    ends = np.cumsum([0, *(math.prod(s.shape) for s in shapes)])
    numbers = np.split(np.arange(ends[-1], dtype=np.float64), ends[1:-1])
    numbered = [x.reshape(s.shape) for x, s in zip(numbers, shapes, strict=True)]
    moved = by_numpy(node.apply, *shapes)(*numbered)
    at = [np.ravel(x).astype(int) for o, x in zip(node.outputs, moved, strict=True) if o in tape.active]
    parts = [(slice(*ends[n : n + 2]), x.shape) for n, x in enumerate(numbered)]

    def back(operands, above):
        total = np.bincount(at[0], above[0].ravel(), ends[-1])
        for t, d in zip(at[1:], above[1:], strict=True):
            total += np.bincount(t, d.ravel(), ends[-1])
        return [total[part].reshape(shape) for part, shape in parts]

    return back


def _back(tape: Tape, node: Node) -> Callable:
    places = [k for k, _ in tape.edges(node)]
    kept = [n for n, o in enumerate(node.outputs) if o in tape.active]

    def back(operands, above):
        rest = iter(operands)
        given = [i.val if isinstance(i, Literal) else next(rest) for i in node.inputs]

        def alone(*xs):
            known = dict(zip(places, xs, strict=True))
            out = node.apply(*(known.get(k, x) for k, x in enumerate(given)))
            return [out[n] for n in kept]

        return jax.vjp(alone, *(given[k] for k in places))[1](above)

    operands = [tape.shapes[i] for i in node.reads]
    return by_numpy(back, operands, [tape.shapes[node.outputs[n]] for n in kept])


def _unbroadcast(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if x.shape == shape:
        return x
    extra = x.ndim - len(shape)
    axes = tuple(a for a in range(x.ndim) if a < extra or shape[a - extra] != x.shape[a])
    return np.sum(x, axis=axes).reshape(shape) if axes else x


def _ways_in(plan: list[Backward]) -> tuple[dict[int, list[Edge]], dict[int, int], dict[int, int]]:
    """value → the edges that lead down to it; value, and place of a step → where in the plan it is made."""
    into: dict[int, list[Edge]] = {}
    for step in plan:
        for key, i, *_ in step.edges:
            into.setdefault(i, []).append(key)
    makes = {o: n for n, step in enumerate(plan) for o in step.outputs}
    return into, makes, {step.edges[0][0][0]: n for n, step in enumerate(plan)}


def _pull(tape: Tape, plan: list[Backward], ways, change: Change, known: Pulled | None = None) -> Pulled:
    """The backward pass with all that is exchanged; of one that is known, only what is not the same."""
    factors, operands, gains, given, free, taken, moved = change
    (into, makes, at), work = ways, 0.0
    seen: dict[int, Any] = dict(known.cotangents) if known else {}
    parts: dict[Edge, np.ndarray] = dict(known.parts) if known else {}
    new: set[int] = set()  # values to which something else comes back
    todo = [known is None] * len(plan)

    def comes(v: int) -> None:
        new.add(v)
        if v in makes:
            todo[makes[v]] = True

    if known:
        for place in at.keys() & {place for place, _ in _exchanged(change, known.change)}:
            todo[at[place]] = True
        for now, before in ((given, known.change.given), (free, known.change.free)):
            for v in (v for v, x in now.items() if x is not before.get(v)):
                comes(v)

    def settle(v: int) -> Any:
        """What comes back to a value, once all of it is there."""
        if not known or v in new:
            total, shape = None, tape.shapes[v]
            for key in into.get(v, ()):
                total = parts[key] if total is None else total + parts[key]
            if total is None:
                total = (np.ones if v == tape.output else np.zeros)(shape.shape, shape.dtype)
            seen[v] = np.asarray(total)
        total = free[v] * seen[v] if v in free else seen[v]
        return total + given[v] if v in given else total

    with np.errstate(all="ignore"):
        for step in (step for n, step in enumerate(plan) if todo[n]):
            above = [settle(o) for o in step.outputs]
            work += step.work
            read = [operands[r] for r in step.reads]
            got = None if step.back is None else step.back(read, above)
            for n, (key, i, shape, dtype) in enumerate(step.edges):
                other, own = above[0], got
                if key in taken:
                    value, turned = taken[key]
                    other = seen[value].swapaxes(-1, -2) if turned else seen[value]
                    own = step.back and step.back(read, [other])
                part = _unbroadcast(other * factors[key], shape) if own is None else own[n]
                part = moved[key](seen) if key in moved else part * gains[key] if key in gains else part
                parts[key] = part.astype(dtype, copy=False)
                comes(i)
        gradient = [np.asarray(settle(p)) for p in tape.parameters if p in tape.active]
    return Pulled(gradient, seen, parts, change, work)


def _exchanged(change: Change, old: Change) -> set[Edge]:
    """The edges at which a backward pass is another."""
    found = {*change.taken, *change.moved}
    for now, before in zip(change[:3], old[:3], strict=True):
        if now is not before:
            found |= {key for key in now.keys() | before.keys() if now.get(key) is not before.get(key)}
    return found
