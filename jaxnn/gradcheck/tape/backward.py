"""The backward pass of a tape at a point, all of whose parts can be exchanged.

A mistake in a backward pass is a step done with something else: another operand, another local
derivative, a factor too many, nothing at all. So here all of these are *inputs* of one backward
pass, and a mistake is an input.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

from jaxnn.gradcheck.jaxprs.by_numpy import by_numpy
from jaxnn.gradcheck.jaxprs.equations import turns, within
from jaxnn.gradcheck.tape.tape import PRODUCTS, Change, Node, Point, Programs, Tape, edge
from jaxnn.gradcheck.tape.work import STEP


def _alone(node: Node, read: Sequence, places: Sequence[int], kept: Sequence[int], *xs) -> list:
    """Some outputs of a step, as a function of some of its inputs."""
    full = list(read)
    for k, x in zip(places, xs, strict=True):
        full[k] = x
    out = node.apply(*full)
    return [out[n] for n in kept]


def point(tape: Tape, args: tuple, traced: "Programs | None" = None) -> Point:
    """All values and the right backward pass at args; `traced` is programs(tape) when it is had."""
    traced = traced or programs(tape, args)
    held = {str(n): np.asarray(c) for n, c in tape.constants.items()}
    leaves = [np.asarray(x) for x in jax.tree.leaves(args)]
    values, factors, operands = traced.prepare(leaves, held)
    right = Change(factors, operands, {}, {}, {}, {})
    gradient, cotangents = traced.pull(right)
    values = {int(v): x for v, x in values.items()}
    return Point(tape, args, values, right, gradient, cotangents, traced.pull, traced)


def programs(tape: Tape, args: tuple) -> Programs:
    """The programs of a tape for arguments of the shapes of args."""

    def forward(leaves, held):
        env = {int(n): jnp.asarray(c) for n, c in held.items()}
        env.update(zip(tape.inputs, [jnp.asarray(x) for x in leaves], strict=True))
        for node in tape.nodes:
            read = [i.val if isinstance(i, Literal) else env[i] for i in node.inputs]
            env.update(zip(node.outputs, node.apply(*read), strict=True))
        return env

    def prepare(leaves, held):
        env = forward(leaves, held)
        factors, operands = {}, {}
        for place, node in enumerate(tape.nodes):
            edges = _differentiable(tape, node)
            if not edges or not set(node.outputs) & tape.active:
                continue
            read = [i.val if isinstance(i, Literal) else env[i] for i in node.inputs]
            for k, i in edges:
                if node.elementwise:
                    alone = partial(_alone, node, read, [k], [0])
                    _, (factors[edge(place, k)],) = jax.jvp(alone, (env[i],), (jnp.ones_like(env[i]),))
            if not node.elementwise:
                for k, i in enumerate(node.inputs):
                    if not isinstance(i, Literal):
                        operands[edge(place, k)] = env[i]
        return {str(v): x for v, x in env.items()}, factors, operands

    held = {str(n): np.asarray(c) for n, c in tape.constants.items()}
    leaves = [np.asarray(x) for x in jax.tree.leaves(args)]
    steps = [_backward(tape, place, node) for place, node in enumerate(tape.nodes)]
    plan = [step for step in reversed(steps) if step is not None]
    edges = frozenset(key for step in plan for key, *_ in step.edges)
    work = sum(_work(tape, node) for node in tape.nodes if set(node.outputs) & tape.active)
    return Programs(by_numpy(prepare, leaves, held), partial(_pull, tape, plan), edges, work)


def _work(tape: Tape, node: Node) -> float:
    """About how many multiplications a step of the backward pass takes, from shapes alone."""
    read = [math.prod(tape.shapes[i].shape) for i in node.inputs if not isinstance(i, Literal)]
    made = [math.prod(tape.shapes[o].shape) for o in node.outputs]
    inner = node.params.get("length", 1) * sum(turns(jaxpr) for jaxpr in within(node))
    product = 2 * math.sqrt(math.prod([*read, *made])) if node.name in PRODUCTS else 0
    return STEP * (1 + inner) + sum(read) + sum(made) + product


class Backward(NamedTuple):
    """A step of the backward pass; an edge is (its name, the value it leads to, shape, dtype)."""

    outputs: list[int]
    edges: list[tuple[str, int, tuple[int, ...], Any]]
    reads: list[str]  # the operands, by the names of their edges
    back: Callable | None  # (operands, cotangents above) → cotangents; None for an elementwise step


def _backward(tape: Tape, place: int, node: Node) -> Backward | None:
    edges = _differentiable(tape, node)
    live = [o for o in node.outputs if o in tape.active]
    if not edges or not live:
        return None
    named = [(edge(place, k), i, tape.shapes[i].shape, tape.shapes[i].dtype) for k, i in edges]
    reads = [edge(place, k) for k, i in enumerate(node.inputs) if not isinstance(i, Literal)]
    return Backward(live, named, reads, None if node.elementwise else _back(tape, node))


def _differentiable(tape: Tape, node: Node) -> list[tuple[int, int]]:
    """(k, value) of every input of a step through which something is differentiated."""
    return [(k, i) for k, i in enumerate(node.inputs) if not isinstance(i, Literal) and i in tape.active]


def _back(tape: Tape, node: Node) -> Callable:
    places = [k for k, _ in _differentiable(tape, node)]
    kept = [n for n, o in enumerate(node.outputs) if o in tape.active]

    def back(operands, above):
        given = iter(operands)
        read = [i.val if isinstance(i, Literal) else next(given) for i in node.inputs]
        return jax.vjp(partial(_alone, node, read, places, kept), *[read[k] for k in places])[1](above)

    operands = [tape.shapes[i] for i in node.inputs if not isinstance(i, Literal)]
    return by_numpy(back, operands, [tape.shapes[node.outputs[n]] for n in kept])


def _unbroadcast(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if x.shape == shape:
        return x
    extra = x.ndim - len(shape)
    axes = tuple(a for a in range(x.ndim) if a < extra or shape[a - extra] != x.shape[a])
    return np.sum(x, axis=axes).reshape(shape) if axes else x


def _pull(tape: Tape, plan: list[Backward], change: Change) -> tuple[list, dict[int, Any]]:
    """The backward pass, with all that is exchanged: the gradient, and the cotangent of every value."""
    factors, operands, gains, given, free, taken = change
    summed: dict[int, Any] = {}
    seen: dict[int, Any] = {}
    if tape.output in tape.active:
        out = tape.shapes[tape.output]
        summed[tape.output] = np.ones(out.shape, out.dtype)

    def settle(v: int):
        total = summed.get(v)
        if total is None:
            total = np.zeros(tape.shapes[v].shape, tape.shapes[v].dtype)
        seen[v] = total
        if free and str(v) in free:
            total = free[str(v)] * total
        return total + given[str(v)] if given and str(v) in given else total

    with np.errstate(all="ignore"):
        for step in plan:
            above = [settle(o) for o in step.outputs]
            got = None if step.back is None else step.back([operands[r] for r in step.reads], above)
            for n, (key, i, shape, dtype) in enumerate(step.edges):
                if taken and key in taken:
                    value, turned = taken[key]
                    other = seen[value].T if turned else seen[value]
                    part = (
                        _unbroadcast(other * factors[key], shape)
                        if step.back is None
                        else step.back([operands[r] for r in step.reads], [other])[n]
                    )
                else:
                    part = _unbroadcast(above[0] * factors[key], shape) if got is None else got[n]
                if gains and key in gains:
                    part = part * gains[key]
                if part.dtype != dtype:
                    part = part.astype(dtype)
                summed[i] = summed[i] + part if i in summed else part
        gradient = [settle(p) for p in tape.parameters if p in tape.active]
    return gradient, seen
