"""The paths of a tape: the edges through which one line of the code is differentiated."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jax.extend.core import Literal

from jaxnn.gradcheck.jaxprs.primitives import Kind, of
from jaxnn.gradcheck.tape.scene import Scene, finite, without
from jaxnn.gradcheck.tape.tape import Edge
from jaxnn.gradcheck.tape.trace import consumers, origins, reached
from jaxnn.gradcheck.tolerances import COMPUTED

ROOTS = {"sqrt", "rsqrt", "pow", "integer_pow"}
ALONE = 4  # steps at one spot of the code up to which each is also tried alone


class Path(NamedTuple):
    """The edges through which one line of the code is differentiated, a loop's turns in their order.

    places: its step in every turn; k: which input; on: the turns in which something is differentiated.
    """

    places: tuple[int, ...]
    k: int
    on: tuple[int, ...]

    @property
    def edges(self) -> list[Edge]:
        """Those differentiated."""
        return [(self.places[t], self.k) for t in self.on]


def near(x: np.ndarray, y: np.ndarray, least: float = 0.0) -> bool:
    """Equal but for rounding, on the scale of the largest entry."""
    top = max(np.abs(x).max(initial=0), np.abs(y).max(initial=0), least)
    with np.errstate(all="ignore"):
        return bool(np.all(np.abs(x - y) <= COMPUTED * top))


def ends_of(scene: Scene, start: int) -> list[int]:
    """The values through which all goes that is made of one."""
    nodes, ends = scene.point.tape.nodes, []
    inside, last = reached(nodes, [start]), {i: p for p, n in enumerate(nodes) for i in n.reads}
    open_until = last.get(start, -1)
    for place, node in enumerate(nodes):
        for out in inside.intersection(node.outputs) - {start}:
            ends += [out] if place >= open_until else []
            open_until = max(open_until, last.get(out, -1))
    return ends


def weight_of(scene: Scene) -> int:
    """How many numbers there are in it."""
    return sum(x.size for x in scene.point.values.values())


def smallest(scenes: list[Scene]) -> Scene | None:
    """The smallest scene that shows the mistake."""
    probe = min((s for s in scenes if s.wrong), key=weight_of, default=None)
    return probe if probe and finite(probe.hand) else None


def lines(scene: Scene, by_leaf: bool = True) -> list[tuple[int, ...]]:
    """The steps of the tape by the line of code that makes them, those of a loop together.

    by_leaf: those that read a parameter apart from those that read another, or none.
    """
    tape, found = scene.point.tape, {}
    for place, node in enumerate(tape.nodes):
        reads = node.inputs if by_leaf else ()
        leaves = tuple(scene.structure.views.get(x) for x in reads if not isinstance(x, Literal))
        shape = tape.shapes[node.outputs[0]].shape
        alike = node.name, node.line, node.spot, len(node.inputs), leaves, shape
        found.setdefault(alike, []).append(place)
    several = [places for places in found.values() if 1 < len(places) <= ALONE]
    alone = [(p,) for places in several if not scene.structure.turns for p in places]
    return [tuple(places) for places in found.values()] + alone


def paths_of(scene: Scene) -> list[Path]:
    """Every path of the tape, each once: not again where the same comes through the next step."""
    nodes, out = scene.point.tape.nodes, []
    for places in lines(scene):
        for k in range(len(nodes[places[0]].inputs)):
            on = tuple(t for t, p in enumerate(places) if (p, k) in scene.point.programs.edges)
            if on:
                out.append(Path(places, k, on))
    return out


def reaching(scene: Scene) -> list[tuple[Path, list[np.ndarray]]]:
    """The paths that lead to all parameters that are wrong and to no other, with what each leaves.

    Where only some leaves are looked at, those that lead to others too.
    """
    key, known = ("reaching", scene.only, tuple(scene.wrong)), scene.point.found
    if key not in known:
        known[key] = list(_reaching(scene))
    return known[key]


def _reaching(scene: Scene) -> Iterator[tuple[Path, list[np.ndarray]]]:
    wrong, tape = set(scene.wrong), scene.point.tape
    active = [p for p in tape.parameters if p in tape.active]
    behind = origins(tape.nodes, active)
    needed = {active[k] for k in wrong}
    quiet = {k for k in wrong if (np.abs(scene.reference[k]) <= scene.bound[k]).all()}  # 0 by an invariance
    for path in paths_of(scene):
        if not needed <= set().union(
            *(behind.get(tape.nodes[p].inputs[path.k], set()) for p, _ in path.edges)
        ):
            continue
        rest = without(scene, path.edges)
        sides = zip(scene.reference, rest, scene.bound, strict=True)
        gone = {k for k, (r, w, b) in enumerate(sides) if _apart(r, w) and (np.abs(r - w) > b).any()}
        if gone and (gone | quiet > wrong if scene.only else gone | quiet == wrong):
            yield path, rest


def _apart(r: np.ndarray, w: np.ndarray) -> bool:
    return bool(np.abs(r - w).max(initial=0) > COMPUTED * np.abs(r).max(initial=0))


def value_below(scene: Scene, path: Path) -> int:
    """The value that a path leads down to."""
    return scene.point.tape.nodes[path.places[path.on[-1]]].inputs[path.k]


def slopes_above(scene: Scene, path: Path) -> dict[int, float]:
    """The derivatives of functions of a number through which alone a path comes, by their places."""
    tape, readers, slopes = scene.point.tape, consumers(scene.point.tape.nodes), {}
    place, k = path.edges[0]
    while len((node := tape.nodes[place]).outputs) == 1 and tape.shapes[node.outputs[0]].size == 1:
        slope = np.ravel(scene.point.change.factors.get((place, k), ()))
        if slope.size == 1 and len(node.reads) == 1:
            slopes[place] = float(slope[0])
        above = readers.get(node.outputs[0], [])
        if len(above) != 1 or len(tape.edges(tape.nodes[above[0]])) != 1:
            break
        (place,), ((k, _),) = above, tape.edges(tape.nodes[above[0]])
    return slopes


def rows_of(scene: Scene) -> dict[int, list[tuple[int, ...]]]:
    """The arrays of the tape, a row of values for each line of the code, by the number of its turns."""
    tape, rows = scene.point.tape, {}
    found = [(i,) for i in (*tape.inputs, *tape.constants)]
    for places in lines(scene):
        turns = [tape.nodes[p] for p in places]
        found += [
            *zip(*(n.outputs for n in turns), strict=True),
            *zip(*(n.inputs for n in turns), strict=True),
        ]
    for row in found:
        if all(not isinstance(i, Literal) and tape.shapes[i].shape for i in row):
            rows.setdefault(len(row), {})[row] = None
    return {turns: list(kept) for turns, kept in rows.items()}


def rows_like(scene: Scene, rows: dict, shape: tuple[int, ...], turns: int) -> list[tuple[int, ...]]:
    """Those of a shape in so many turns; what is made once is the same in each."""
    once = [row * turns for row in rows.get(1, [])] if turns > 1 else []
    shapes = scene.point.tape.shapes
    return [row for row in (*rows.get(turns, []), *once) if all(shapes[i].shape == shape for i in row)]


def statistic(scene: Scene, places: tuple[int, ...]) -> str | None:
    """Whether a step is of the mean, the variance or the sum by which a value is normalised."""
    tape, readers = scene.point.tape, consumers(scene.point.tape.nodes)
    todo: list[tuple[int, frozenset[str], int]] = [(max(places), frozenset(), 0)]
    while todo:
        place, names, summed = todo.pop()
        node = tape.nodes[place]
        out, own = node.outputs[0], frozenset(node.name.split("+"))
        size = math.prod(tape.shapes[out].shape)
        if 0 < summed < size and own & {"sub", "mul", "div"} and len(node.reads) == 2:
            with_size = "its variance or norm" if names & ROOTS else "their sum"
            return "its mean" if "sub" in own and "log" not in names else with_size
        if summed and names & ROOTS and "div" in own and len(node.reads) == 2:
            return "its variance or norm"
        summed = size if "reduce_sum" in own else summed
        above = [p for p in readers.get(out, []) if set(tape.nodes[p].outputs) & tape.active]
        if (summed or len(above) == 1) and not own & of(Kind.PRODUCT, Kind.CONTROL):
            todo += [(p, names | own, summed) for p in above]
    return None
