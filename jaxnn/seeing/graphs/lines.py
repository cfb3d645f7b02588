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
BACK = {"backward", "gradient"}


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
        tails = [home[v] for step in group for v in step.reads if v in home]
        begins = back and not any(node.kind in BACK for node in tails)  # with the result that it is of
        tails += [home[v] for v in trace.outputs[:1] if begins and v in home]
        for tail in tails:
            edges[tail.id, node.id] = Edge(tail.id, node.id, _flow(tail.kind, kind))
        home |= dict.fromkeys(written, node)
    return Scene(title, tuple(nodes), tuple(edges.values()))


def grouped(trace: Trace) -> list[tuple[Statement | None, list[Step]]]:
    """Neighbours of one statement together.

    Those that it calls take its place where they are several in the same file, where it is a large part of
    all, or where only some of what it does is used. Each turn of a loop is by itself.
    """
    needed = _needed(trace)

    def place(step: Step, opened: set) -> tuple[Statement, ...]:
        return next((path for path in _paths(step) if path not in opened), step.path)

    def groups(opened: set) -> list[list[Step]]:
        found = itertools.groupby(trace.steps, lambda step: (place(step, opened) or id(step), step.back))
        whole = [[*group] for _, group in found]
        turns = [turn for group in whole for turn in _turns(group)]
        return turns if len(turns) <= MOST else whole

    opened, found, k = {()}, groups({()}), 0
    while k < len(found):
        deeper = opened | set.intersection(*({*_paths(step)} for step in found[k]))
        finer, used = groups(deeper), {not needed.isdisjoint(step.writes) for step in found[k]}
        own = len({place.file for step in found[k] for place in step.path}) == 1
        several = own and len(finer) > len(found) + 1
        worth = several or len(used) == 2 or len(found[k]) > LARGE * len(trace.steps)
        if worth and len(found) < len(finer) and (len(finer) <= MOST or len(found) <= FEW):
            opened, found, k = deeper, finer, 0
        else:
            k += 1
    return [(_named(place(group[0], opened), opened), group) for group in found]


def _named(path: tuple[Statement, ...], opened: set) -> Statement | None:
    """The statement at the end of a path; of one that is opened only a part is left."""
    if not path:
        return None
    return path[-1]._replace(text=f"part of {path[-1].text}") if path in opened else path[-1]


def _turns(group: list[Step]) -> list[list[Step]]:
    """The turns of a loop, each of which begins at the same spots in the code."""
    spots = [step.spot for step in group]
    length = next((k for k, spot in enumerate(spots[1:], 1) if spot == spots[0]), len(spots))
    first = spots[: min(length, 3)]
    starts = [k for k in range(len(spots)) if spots[k : k + len(first)] == first]
    if length == 1:  # one equation, which may be repeated within a line
        return [group]
    return [group[k:end] for k, end in itertools.pairwise([*starts, len(group)])]


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


def _operation(step: Step) -> str:
    """An equation that is a node, with the numbers that it takes: sub(1.0, ·)."""
    read = [v.split()[0] if isinstance(v, str) else "·" for v in step.reads]
    read += [f"{key}={value}" for key, value in step.equation.params.items() if key in ("y", "axes")]
    return f"{_name(step)}({', '.join(read)})"


def _title(place: Statement | None, group: list[Step]) -> str:
    if place and place.text:
        text = place.text
    else:
        text = _operation(group[0]) if len(group) == 1 else ", ".join(dict.fromkeys(map(_name, group)))
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
    return "parameter" if tail == "parameter" else "forward"
