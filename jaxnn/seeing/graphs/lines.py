"""Anybody's function as a scene: its own source lines, or the equations that JAX makes of them."""

import itertools
import os
import re
import textwrap
from collections import Counter

from jaxnn.seeing.graphs.scene import Edge, Node, Scene
from jaxnn.seeing.graphs.sources import Statement
from jaxnn.seeing.graphs.traces import Step, Trace

FEW, MOST = 2, 40  # nodes: what is called is looked into up to so many, from a few on as far as it goes
LARGE = 1 / 3  # of all equations, in one node
WIDTH, HEIGHT = 44, 3  # characters and lines of a title
GIVEN, BACK = {"parameter", "input"}, {"backward", "gradient"}


def lines(title: str, trace: Trace, level: str = "lines", loss: Trace | None = None) -> Scene:
    """The scene of a trace: a node is a statement, with all neighbouring equations that it gave rise to.

    With `level="equations"` each equation is a node. No cycle can arise: what is read was computed before.

    What autodiff's transposition adds is backward, "∂ line". In a gradient written by hand, whose `loss` is
    given, backward is what the loss does not compute on its own way: no equation of its does the same to the
    same quantities. What leads to no output is kept, as `unused`.

    >>> import jax.numpy as jnp
    >>> from jaxnn.seeing.graphs.traces import traced
    >>> def double(x):
    ...     return 2 * x
    >>> [node.title for node in lines("double", traced(double, (jnp.ones(3),))).nodes]
    ['x', 'return 2 * x']
    """
    groups = [(None, [step]) for step in trace.steps] if level == "equations" else grouped(trace)
    own, known = _quantities(trace), {*_quantities(loss).values()} if loss else None
    needed, outputs = _needed(trace), {*trace.outputs}
    last = {(v, group[0].back): k for k, (_, group) in enumerate(groups) for s in group for v in s.reads}
    home: dict[int | str, Node] = {}
    nodes, edges = [], {}
    for v, (kind, name) in trace.inputs.items():
        home[v] = Node(f"n{v}", kind, name, trace.shapes[v], unused=v not in needed, output=v in outputs)
        nodes.append(home[v])
    for k, (place, group) in enumerate(groups):
        written, back = [v for step in group for v in step.writes], group[0].back
        given = [v for v in written if v in outputs or last.get((v, back), k) > k] or written[-1:]
        returned = [v for v in given if v in outputs]
        shapes = dict.fromkeys(trace.shapes[v] for v in returned or given)
        if back or (known is not None and not known.issuperset(own[v] for v in given)):
            kind = "gradient" if returned else "backward"
        else:
            kind = "loss" if returned and [*shapes] == ["()"] else "forward"
        text, note, unused = _title(place, group), _note(place, group), needed.isdisjoint(written)
        node = Node(f"s{k}", kind, text, ", ".join(shapes), note=note, unused=unused, output=bool(returned))
        nodes.append(node)
        for tail in (home[v] for step in group for v in step.reads if v in home):
            edges[tail.id, node.id] = Edge(tail.id, node.id, _flow(tail.kind, kind))
        home |= dict.fromkeys(written, node)
    return Scene(title, tuple(nodes), tuple(edges.values()))


def grouped(trace: Trace) -> list[tuple[Statement | None, list[Step]]]:
    """Neighbours of one statement together.

    Those that it calls take its place where it is a large part of all, or only some of what it does is used.
    """
    needed = _needed(trace)

    def place(step: Step, opened: set) -> tuple[Statement, ...]:
        return next((path for path in _paths(step) if path not in opened), step.path)

    def groups(opened: set) -> list[list[Step]]:
        found = itertools.groupby(trace.steps, lambda step: (place(step, opened) or id(step), step.back))
        return [[*group] for _, group in found]

    opened, found, k = {()}, groups({()}), 0
    while k < len(found):
        deeper = opened | set.intersection(*({*_paths(step)} for step in found[k]))
        used = {not needed.isdisjoint(step.writes) for step in found[k]}
        finer = groups(deeper) if len(found[k]) > LARGE * len(trace.steps) or len(used) == 2 else []
        if len(found) < len(finer) and (len(finer) <= MOST or len(found) <= FEW):
            opened, found, k = deeper, finer, 0
        else:
            k += 1
    places = (place(group[0], opened) for group in found)
    return [(path[-1] if path else None, group) for path, group in zip(places, found, strict=True)]


def _paths(step: Step) -> list[tuple[Statement, ...]]:
    return [step.path[:depth] for depth in range(len(step.path) + 1)]


def _needed(trace: Trace) -> set[int | str]:
    """The values that lead to an output, or to an effect."""
    needed = {*trace.outputs}
    for step in reversed(trace.steps):
        if step.equation.effects or not needed.isdisjoint(step.writes):
            needed.update(step.reads)
    return needed


def _quantities(trace: Trace) -> dict[int | str, int]:
    """A number for each value, the same wherever the same is done to the same inputs."""
    found: dict[int | str, int] = {v: hash(name) for v, (_, name) in trace.inputs.items()}
    for step in trace.steps:
        done = re.sub(r" at 0x\w+", "", f"{step.equation.primitive.name} {step.equation.params}")
        read = tuple(found.get(v, v) for v in step.reads)
        found |= {v: hash((done, read, k)) for k, v in enumerate(step.writes)}
    return found


def _name(step: Step) -> str:
    name = step.equation.params.get("name")
    return name if isinstance(name, str) else step.equation.primitive.name


def _title(place: Statement | None, group: list[Step]) -> str:
    text = place.text if place and place.text else ", ".join(dict.fromkeys(map(_name, group)))
    text = "∂ " * group[0].back + text
    return "\n".join(textwrap.wrap(text, WIDTH, max_lines=HEIGHT, placeholder=" …", break_on_hyphens=False))


def _note(place: Statement | None, group: list[Step]) -> str:
    """Where it stands, all of it, and the equations it consists of."""
    counted = Counter(map(_name, group))
    said = ", ".join(name if n == 1 else f"{n} {name}" for name, n in counted.items())
    return f"{os.path.basename(place.file)}:{place.line}\n{place.text}\n{said}" if place else said


def _flow(tail: str, head: str) -> str:
    """The kind of an edge, by the kinds of its ends."""
    if head in BACK:
        return head if tail in BACK else "kept"
    return "parameter" if tail in GIVEN else "forward"
