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
from jaxnn.gradcheck.jaxprs.equations import turns, within
from jaxnn.gradcheck.jaxprs.primitives import Kind, of
from jaxnn.gradcheck.tape.budget import STEP
from jaxnn.gradcheck.tape.scene import Scene
from jaxnn.gradcheck.tape.tape import Change, Edge, Node, Point, Programs, Pulled, Tape, done


def point(tape: Tape, args: tuple, traced: Programs | None = None) -> Point:
    """All values and the right backward pass at args; `traced` is programs(tape) when it is had."""
    traced = traced or programs(tape, args)
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
    held = {n: np.asarray(c) for n, c in tape.constants.items()}
    return [np.asarray(x) for x in jax.tree.leaves(args)], held


def programs(tape: Tape, args: tuple) -> Programs:
    """The programs of a tape for arguments of the shapes of args."""
    steps = [_backward(tape, place, node) for place, node in enumerate(tape.nodes)]
    plan = [step for step in reversed(steps) if step is not None]

    def prepare(leaves, held):
        values = done(tape.nodes, held | dict(zip(tape.inputs, leaves, strict=True)))
        factors, operands = {}, {}
        for step in plan:
            given = step.node.given(values)
            if step.back is None:
                factors |= {key: step.node.slope(given, key[1]) for key, *_ in step.edges}
            operands |= {key: given[key[1]] for key in step.reads}
        return values, factors, operands

    edges = frozenset(key for step in plan for key, *_ in step.edges)
    work = sum(_work(tape, node) for node in tape.nodes if set(node.outputs) & tape.active)
    backs = {step.edges[0][0][0]: (step.back, step.reads) for step in plan if step.back}

    def back(place: int, change: Change, above: list) -> list:
        through, reads = backs[place]
        return through([change.operands[r] for r in reads], above)

    run = by_numpy(prepare, *_fed(tape, args))
    return Programs(run, partial(_pull, tape, plan), edges, work, {}, back)


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
    keys: frozenset[Edge]  # of all that can be exchanged


def _backward(tape: Tape, place: int, node: Node) -> Backward | None:
    live = [o for o in node.outputs if o in tape.active]
    edges = [((place, k), i, tape.shapes[i].shape, tape.shapes[i].dtype) for k, i in tape.edges(node)]
    if not edges or not live:
        return None
    keys = frozenset(key for key, *_ in edges)
    if node.elementwise:
        return Backward(node, live, edges, [], None, _work(tape, node), keys)
    reads = [(place, k) for k, i in enumerate(node.inputs) if not isinstance(i, Literal)]
    return Backward(node, live, edges, reads, _back(tape, node), _work(tape, node), keys | {*reads})


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


def _pull(tape: Tape, plan: list[Backward], change: Change, known: Pulled | None = None) -> Pulled:
    """The backward pass with all that is exchanged; of one that is known, what is the same is taken over."""
    factors, operands, gains, given, free, taken, moved = change
    old = known.change if known else change._replace(given={}, free={})
    seen: dict[int, Any] = {}
    parts: dict[Edge, np.ndarray] = dict(known.parts) if known else {}
    into: dict[int, list[Edge]] = {}
    new: set[int] = set()  # values to which something else comes back
    work = 0.0

    altered = {*taken, *moved}
    for now, before in ((factors, old.factors), (operands, old.operands), (gains, old.gains)):
        if now is not before:
            altered |= {key for key in now.keys() | before.keys() if now.get(key) is not before.get(key)}

    def settle(v: int) -> Any:
        """What comes back to a value, once all of it is there."""
        if known and v not in new:
            total = known.cotangents.get(v)
        else:
            keys = into.get(v, [])
            total = parts[keys[0]] if keys else None
            for key in keys[1:]:
                total = total + parts[key]
        shape = tape.shapes[v]
        if total is None:
            total = (np.ones if v == tape.output else np.zeros)(shape.shape, shape.dtype)
        seen[v] = total = np.asarray(total)
        if given.get(v) is not old.given.get(v) or free.get(v) is not old.free.get(v):
            new.add(v)
        total = free[v] * total if v in free else total
        return total + given[v] if v in given else total

    with np.errstate(all="ignore"):
        for step in plan:
            above = [settle(o) for o in step.outputs]
            for key, i, *_ in step.edges:
                into.setdefault(i, []).append(key)
            if known and new.isdisjoint(step.outputs) and altered.isdisjoint(step.keys):
                continue  # all that is read is what was read
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
                part = moved[key](seen) if key in moved else part * gains.get(key, 1)
                parts[key] = part.astype(dtype, copy=False)
                new.add(i)
        gradient = [np.asarray(settle(p)) for p in tape.parameters if p in tape.active]
    return Pulled(gradient, seen, parts, change, work)
