"""Anybody's function as a scene: its own source lines, or the equations that JAX makes of them."""

import hashlib
import itertools
import os
import re
import textwrap
from collections import Counter

from jaxnn.seeing.graphs.scene import Edge, Node, Scene
from jaxnn.seeing.graphs.sources import Statement
from jaxnn.seeing.graphs.traces import Step, Trace

FEW, MOST, MANY = 3, 40, 100  # nodes: below which, and up to which, one looks into what is called
CROWDED = 20  # equations of a node
WIDTH, HEIGHT = 44, 3  # characters and lines of a title
GIVEN, BACK = {"parameter", "input"}, {"backward", "gradient"}

Group = tuple[Statement | None, list[Step]]


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
    last = {v: k for k, (_, group) in enumerate(groups) for step in group for v in step.reads}
    ahead = {v: k for k, (_, g) in enumerate(groups) if not g[0].back for step in g for v in step.reads}
    home: dict[int | str, Node] = {}
    nodes, edges = [], {}
    for v, (kind, name) in trace.inputs.items():
        home[v] = Node(f"n{v}", kind, name, trace.shapes[v], unused=v not in needed, output=v in outputs)
        nodes.append(home[v])
    for k, (place, group) in enumerate(groups):
        written = [v for step in group for v in step.writes]
        given = [v for v in written if last.get(v, k) > k or v in outputs] or written
        onward = [v for v in given if ahead.get(v, k) > k]  # not only kept for the way back
        returned = [trace.shapes[v] for v in given if v in outputs]
        if group[0].back or (known is not None and not known.issuperset(own[v] for v in onward or given)):
            kind = "gradient" if returned else "backward"
        else:
            kind = "loss" if returned == ["()"] else "forward"
        node = Node(
            f"s{k}",
            kind,
            _title(place, group),
            ", ".join(dict.fromkeys(returned or [trace.shapes[v] for v in onward or given])),
            note=_note(place, group),
            unused=needed.isdisjoint(written),
            output=bool(returned),
        )
        nodes.append(node)
        for tail in (home[v] for step in group for v in step.reads if v in home):
            edges[tail.id, node.id] = Edge(tail.id, node.id, _flow(tail.kind, kind))
        home |= dict.fromkeys(written, node)
    return Scene(title, tuple(nodes), tuple(edges.values()))


def grouped(trace: Trace) -> list[Group]:
    """Neighbours of one statement together.

    A statement gives way to those it calls where they crowd it, or some of them are in vain, while there are
    not too many.
    """
    needed = _needed(trace)

    def at(depth: int, group: list[Step]) -> list[tuple[int, list[Step]]]:
        found = itertools.groupby(group, lambda s: (s.path[:depth], s.back) if s.path else id(s))
        return [(depth, [*neighbours]) for _, neighbours in found]

    def place(depth: int, group: list[Step]) -> Statement | None:
        return group[0].path[:depth][-1] if group[0].path else None

    def split(depth: int, group: list[Step]) -> list[tuple[int, list[Step]]]:
        while any(len(step.path) > depth for step in group):
            parts = at(depth + 1, group)
            torn = sum(len(part[0].path) <= depth for _, part in parts)  # what it does between its calls
            if len(parts) > 1:
                return parts if few or torn <= 1 else [(depth, group)]
            depth += 1
        return [(depth, group)]

    def partly_in_vain(group: list[Step]) -> bool:
        return len({needed.isdisjoint(step.writes) for step in group}) == 2

    best = at(1, trace.steps)
    whole: set[Statement | None] = {None}
    while True:
        few = len(best) < FEW
        full = ((len(g), place(d, g)) for d, g in best if few or len(g) > CROWDED or partly_in_vain(g))
        _, chosen = max((pair for pair in full if pair[1] not in whole), default=(0, None))
        if chosen is None:
            return [(place(d, g), g) for d, g in best]
        parts = [split(d, g) if place(d, g) == chosen else [(d, g)] for d, g in best]
        deeper = list(itertools.chain(*parts))
        if len(best) < len(deeper) <= (MANY if few else MOST):
            best = deeper
        else:
            whole.add(chosen)


def _needed(trace: Trace) -> set[int | str]:
    """The values that lead to an output, or to an effect."""
    needed = {*trace.outputs}
    for step in reversed(trace.steps):
        if step.equation.effects or not needed.isdisjoint(step.writes):
            needed.update(step.reads)
    return needed


def _quantities(trace: Trace) -> dict[int | str, str]:
    """A name for each value that is the same wherever the same is done to the same inputs."""
    found: dict[int | str, str] = {v: f"input {name}" for v, (_, name) in trace.inputs.items()}
    for step in trace.steps:
        done = re.sub(r" at 0x\w+", "", f"{step.equation.primitive.name} {step.equation.params}")
        read = [found.get(v, v) for v in step.reads]
        name = hashlib.sha256(f"{done} {read}".encode()).hexdigest()
        found |= {v: f"{name} {k}" for k, v in enumerate(step.writes)}
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
    at = f"{os.path.basename(place.file)}:{place.line}\n{place.text}\n" if place else ""
    return at + said


def _flow(tail: str, head: str) -> str:
    """The kind of an edge, by the kinds of its ends."""
    if head in BACK:
        return head if tail in BACK else "kept"
    return "parameter" if tail in GIVEN else "forward"
