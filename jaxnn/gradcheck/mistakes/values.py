"""Mistakes on one edge of the tape, in every turn of its loop: left out, counted otherwise, mistaken.

A step of the backward pass takes what comes back from above, times a local derivative (or with an
operand), and hands it down. So on one edge a mistake leaves it out, counts it otherwise, or puts
another value of the same shape in the place of one of the two.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
from jax.extend.core import Literal

from jaxnn.gradcheck.jaxprs.primitives import called
from jaxnn.gradcheck.mistakes.factors import factor_names, of_arguments
from jaxnn.gradcheck.mistakes.finding import Finding, holds, joined, plainly, spoken, tidy
from jaxnn.gradcheck.mistakes.swaps import SLOPES
from jaxnn.gradcheck.tape.scenes import Scene, changed
from jaxnn.gradcheck.tape.tape import CUSTOM, INLINED, VIEWS, Node, edge

PAIRED = 40  # paths up to which two at a time are tried
OWN_SLOPES = {"tanh": "tanh′", "logistic": "σ′"}
DROPPED = "is not differentiated"
PASSING = {"add", "add_any", "sub", "neg"}
CHOICES = {*VIEWS, "slice", "dynamic_slice", "gather"}
HIDDEN = "the hidden state"
ALONE = 4  # steps at one spot of the code up to which each is also tried alone


class Path(NamedTuple):
    """The edges through which one line of the code is differentiated, a loop's turns in their order.

    places: its step in every turn; k: which input; on: the turns in which something is differentiated.
    """

    places: tuple[int, ...]
    k: int
    on: tuple[int, ...]

    @property
    def edges(self) -> list[tuple[int, int]]:
        """Those differentiated."""
        return [(self.places[t], self.k) for t in self.on]


def near(x: np.ndarray, y: np.ndarray, least: float = 0.0) -> bool:
    """Equal but for rounding, on the scale of the largest entry."""
    top = max(np.abs(x).max(initial=0), np.abs(y).max(initial=0), least)
    return bool(np.allclose(x, y, rtol=0, atol=1e-8 * top + 1e-300))


def weight_of(scene: Scene) -> int:
    """How many numbers there are in it."""
    return sum(x.size for x in scene.point.values.values())


def _probe(scenes: list[Scene]) -> Scene | None:
    """The smallest scene that shows the mistake."""
    probe = min((s for s in scenes if s.wrong), key=weight_of, default=None)
    return probe if probe and all(np.isfinite(g).all() for g in probe.hand) else None


def _lines(scene: Scene) -> list[tuple[int, ...]]:
    """The steps of the tape by the line of code that makes them, those of a loop together."""
    tape, found = scene.point.tape, {}
    for place, node in enumerate(tape.nodes):
        leaves = tuple(scene.structure.views.get(x) for x in node.inputs if not isinstance(x, Literal))
        shape = tape.shapes[node.outputs[0]].shape
        found.setdefault((node.name, node.line, node.spot, leaves, shape), []).append(place)
    several = [places for places in found.values() if 1 < len(places) <= ALONE]
    alone = [(p,) for places in several if not scene.structure.turns for p in places]
    return [tuple(places) for places in found.values()] + alone


def _paths(scene: Scene) -> list[Path]:
    """Every path of the tape, each once: not again where the same comes through the next step."""
    nodes, out = scene.point.tape.nodes, []
    for places in _lines(scene):
        for k in range(len(nodes[places[0]].inputs)):
            on = tuple(t for t, p in enumerate(places) if edge(p, k) in scene.point.programs.edges)
            if on:
                out.append(Path(places, k, on))
    return out


def _reaching(scene: Scene) -> list[tuple[Path, list[np.ndarray]]]:
    """The paths that lead to all parameters that are wrong and to no other, with what each leaves."""
    out = []
    for path in _paths(scene):
        without = scene.point.pull(changed(scene, gains=dict.fromkeys(path.edges, 0.0)))[0]
        tops = [1e-9 * np.abs(r).max(initial=0) for r in scene.reference]
        reached = [
            k
            for k, (r, w) in enumerate(zip(scene.reference, without, strict=True))
            if np.abs(r - w).max(initial=0) > tops[k]
        ]
        if reached == scene.wrong:
            out.append((path, [np.asarray(w) for w in without]))
    return out


def scaled(scenes: list[Scene]) -> Iterator[Finding]:
    """One path of the tape is not differentiated, or with another factor; or two are not."""
    probe = _probe(scenes)
    if probe is None:
        return
    for path, without in _different(probe):
        for edges, alpha, words in _counted(scenes, probe, path, without):
            if holds(scenes, partial(_with_gain, edges, alpha)):
                yield Finding(
                    "unknown",
                    f"The path through {_described(probe, path)} {words}.",
                    cotangent_name(probe, _value(probe, path)),
                    (2.1 if words == DROPPED else 3) + 1e-3 * path.places[0] / len(probe.point.tape.nodes),
                )


def _different(scene: Scene) -> list[tuple[Path, list[np.ndarray]]]:
    """The paths that lead to what is wrong, those of one step that leave the same but once."""
    out: list[tuple[Path, list[np.ndarray]]] = []
    for path, without in _reaching(scene):
        known = [others for other, others in out if len(path.on) == len(other.on) == 1]
        if not any(all(near(w, o) for w, o in zip(without, others, strict=True)) for others in known):
            out.append((path, without))
    return out


def _counted(scenes, probe: Scene, path: Path, without) -> Iterator[tuple[list, Callable, str]]:
    """How a path may be counted: on which edges, by which factor at a scene, and in words."""
    edges = path.edges
    if len(edges) > 1:
        yield edges, lambda s: 0.0, DROPPED
        yield edges, lambda s: -1.0, "counts −1 times: its sign is wrong"
        yield edges, lambda s: 2.0, "counts 2 times"
        if probe.structure.turns:
            yield edges[:-1], lambda s: 0.0, "is differentiated in the last turn only"
            yield edges[1:], lambda s: 0.0, "is differentiated in the first turn only"
        if probe.structure.turns and len(edges) > 2:
            yield edges[-1:], lambda s: 0.0, "is not differentiated in the last turn"
            yield edges[:1], lambda s: 0.0, "is not differentiated in the first turn"
        return
    alpha = _gain(probe, path)
    if abs(alpha - 1) < 1e-9 or not near(*_predicted(probe, without, alpha)):
        return
    known = {id(s): _gain(s, path) for s in scenes}
    alphas = [known[id(s)] for s in scenes]
    if all(abs(a - alpha) <= 1e-7 * abs(alpha) for a in alphas):
        times = "−1 times: its sign is wrong" if alpha == -1 else f"{spoken(alpha)} times"
        words = DROPPED if abs(alpha) < 1e-9 else f"counts {times}"
        yield edges, lambda s: alpha, words
        return
    told = [words for _, words, _, sure in factor_names(scenes, alphas) if sure]
    told = [words.replace("is ", "is, in the backward pass, ", 1) for words in told]
    for words in told or [f"counts {words} times" for words in of_arguments(scenes, alphas)[:1]]:
        yield edges, lambda s: known[id(s)], words


def _predicted(scene: Scene, without, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    pairs = zip(scene.reference, without, strict=True)
    return (
        np.concatenate([(w + alpha * (r - w)).ravel() for r, w in pairs]),
        np.concatenate([h.ravel() for h in scene.hand]),
    )


def both_ignored(scenes: list[Scene]) -> Iterator[Finding]:
    """Two paths of the tape that are not differentiated, as where a mean and a variance are constants."""
    probe = _probe(scenes)
    ends = [path for path, _ in _different(probe)] if probe else []
    if probe is None or len(ends) > PAIRED:
        return
    for n, one in enumerate(ends):
        for other in ends[n + 1 :]:
            if holds(scenes, partial(_with_gain, [*one.edges, *other.edges], lambda s: 0.0)):
                told = [_described(probe, path) for path in (one, other)]
                where = joined(sorted({cotangent_name(probe, _value(probe, p)) for p in (one, other)}))
                sentence = f"Neither the path through {told[0]} nor that through {told[1]} is differentiated."
                yield Finding("unknown", sentence, where, 4)
                return


def _with_gain(edges: list, alpha: Callable[[Scene], float], scene: Scene):
    return scene.point.pull(changed(scene, gains=dict.fromkeys(edges, alpha(scene))))[0]


def _gain(scene: Scene, path: Path) -> float:
    """α of g = without + α · path."""
    without = scene.point.pull(changed(scene, gains=dict.fromkeys(path.edges, 0.0)))[0]
    parts = [r - np.asarray(w) for r, w in zip(scene.reference, without, strict=True)]
    size = sum(np.vdot(p, p) for p in parts)
    pairs = zip(parts, scene.hand, without, strict=True)
    alpha = sum(np.vdot(p, g - np.asarray(w)) for p, g, w in pairs)
    return tidy(float(alpha / size)) if size else 1.0


def turns_left_out(scenes: list[Scene]) -> Iterator[Finding]:
    """Some turns of a loop add nothing to a parameter's gradient, as where a sum is overwritten."""
    probe = _probe(scenes)
    if probe is None:
        return
    views, nodes = probe.structure.views, probe.point.tape.nodes
    into: dict[int, list[Path]] = {}
    for path in _paths(probe):
        leaf = views.get(_value(probe, path))
        if leaf in probe.wrong and nodes[path.places[0]].outputs[0] not in views:
            into.setdefault(leaf, []).append(path)
    paths = [found[0] for found in into.values() if len(found) == 1]
    turns = {len(path.on) for path in paths}
    if sorted(into) != probe.wrong or len(paths) < len(into) or len(turns) > 1 or turns == {1}:
        return
    (count,) = turns
    parts = [_of_turns(paths, {t}, probe) for t in range(count)]
    table = np.stack([np.concatenate([p[k].ravel() for k in probe.wrong]) for p in parts], axis=1)
    hand = np.concatenate([probe.hand[k].ravel() for k in probe.wrong])
    weights = np.linalg.lstsq(table, hand, rcond=1e-10)[0]
    there = {t for t in range(count) if abs(weights[t] - 1) < 1e-6}
    if any(abs(w) > 1e-6 for t, w in enumerate(weights) if t not in there):
        return
    if holds(scenes, partial(_of_turns, paths, there)):
        names = [probe.structure.names[k] for k in probe.wrong]
        told = joined([str(t) for t in sorted(there)]) if there else "none"
        why = ""
        if there == {0}:
            why = ": it is overwritten in every turn where it should be added to"
        elif there == {count - 1}:
            why = ": nothing is handed down from one turn to the turn before"
        yield Finding(
            "unknown",
            f"The gradient of {joined(names)} has only turn{'s' * (len(there) > 1)} {told} of the loop's "
            f"{count}, counted from 0{why}.",
            joined(names),
            2.0,
        )


def _of_turns(paths: list[Path], there: set[int], scene: Scene) -> list[np.ndarray]:
    """The gradient with the parts of some turns only, on paths that end in parameters."""
    off = [e for path in paths for t, e in enumerate(path.edges) if t not in there]
    return scene.point.pull(changed(scene, gains=dict.fromkeys(off, 0.0)))[0]


class Value(NamedTuple):
    """A value of the tape in every turn, and how it is taken: as it is, or as a function of it."""

    numbers: tuple[int, ...]
    words: str = "{}"
    of: Callable[[np.ndarray], np.ndarray] | None = None
    id: str = "unknown"


def mistaken(scenes: list[Scene]) -> Iterator[Finding]:
    """On one path a local derivative or an operand is another value, or what comes back is another's."""
    probe = _probe(scenes)
    if probe is None:
        return
    rows = _rows(probe)
    paths = [path for path, _ in _reaching(probe)]
    for find in (_other_slopes, _other_operands, _other_cotangents):
        for path in paths:
            found = next(find(scenes, probe, rows, path, probe.point.tape.nodes[path.places[0]]), None)
            if found:
                yield found


def _rows(scene: Scene) -> dict[int, list[tuple[int, ...]]]:
    """The values of the tape, a row for each line of the code, by the number of turns."""
    tape, rows = scene.point.tape, {}

    def keep(row: tuple):
        if all(not isinstance(i, Literal) and tape.shapes[i].shape for i in row):
            rows.setdefault(len(row), {})[row] = None

    for i in (*tape.inputs, *tape.constants):
        keep((i,))
    for places in _lines(scene):
        nodes = [tape.nodes[p] for p in places]
        for n in range(len(nodes[0].outputs)):
            keep(tuple(node.outputs[n] for node in nodes))
        for k in range(len(nodes[0].inputs)):
            keep(tuple(node.inputs[k] for node in nodes))
    return {turns: list(found) for turns, found in rows.items()}


def _siblings(scene: Scene, rows, path: Path, shape: tuple) -> Iterator[tuple[int, ...]]:
    """The values of a shape in as many turns."""
    shapes = scene.point.tape.shapes
    turns = len(path.places)
    once = [row * turns for row in rows.get(1, [])] if turns > 1 else []
    for row in (*rows.get(turns, []), *once):
        if all(shapes[i].shape == shape for i in row):
            yield row


def _other_slopes(scenes, probe: Scene, rows, path: Path, node: Node) -> Iterator[Finding]:
    if not node.elementwise:
        return
    factors = probe.point.change.factors
    olds = [np.asarray(factors[edge(*e)]) for e in path.edges]
    if all(old.size < 2 or np.ptp(old) <= 1e-12 * np.abs(old).max() for old in olds):
        return  # a number: counted otherwise, not mistaken
    told, where = _described(probe, path), cotangent_name(probe, _value(probe, path))
    alone = sum(not isinstance(i, Literal) for i in node.inputs) == 1
    what = f"the derivative of {told}" if alone else f"the other factor in {told}"
    for power, id, words in (
        (0, "missing-activation-derivative", "is missing"),
        (2, "derivative-twice", "is multiplied in twice"),
    ):
        if holds(scenes, partial(_with_power, path.edges, power)):
            sentence = _capital(f"{what} {words}.")
            yield Finding(id if _is_activation(node) else "unknown", sentence, where, 2.5)
    nodes = [probe.point.tape.nodes[p] for p in path.places]
    rest = tuple(node.inputs[1 - path.k] for node in nodes) if len(node.inputs) == 2 else ()
    for row in _siblings(probe, rows, path, olds[0].shape):
        for value in _slopes(nodes, path, row):
            if not _alike(probe, value, path, olds) and holds(scenes, partial(_with_factors, path, value)):
                said = _said(probe, value, rest)
                yield Finding(value.id, _capital(f"{said} stands where {what} belongs."), where, 2.6)


def _slopes(nodes: list[Node], path: Path, row: tuple[int, ...]) -> Iterator[Value]:
    """What may be taken for a step's local derivative, of one row of values."""
    before = tuple(node.inputs[path.k] for node in nodes)
    after = tuple(node.outputs[0] for node in nodes)
    acts = _is_activation(nodes[0])
    yield Value(row, id="output-for-derivative" if acts and row == after else "unknown")
    if acts and row == after:
        for said, f in (("1 − {}", lambda a: 1 - a), ("1 + {}²", lambda a: 1 + a * a), ("{}²", np.square)):
            yield Value(row, said, f)
    for name, of_z, of_a in SLOPES if acts else ():
        own, words = name == OWN_SLOPES.get(nodes[0].name), name.rstrip(",") + " of {}"
        if row == before:
            yield Value(row, words, of_z, "wrong-activation-derivative")
        elif own:
            yield Value(row, words, of_z, "derivative-at-output" if row == after else "unknown")
        if of_a is not None and (own or row == after):
            other = "wrong-activation-derivative" if row == after else "unknown"
            yield Value(row, f"{name.rstrip(',')}, written by {{}},", of_a, other)


def _other_operands(scenes, probe: Scene, rows, path: Path, node: Node) -> Iterator[Finding]:
    if node.elementwise or node.name not in {"dot_general", "conv_general_dilated"}:
        return
    tape = probe.point.tape
    other = 1 - path.k
    own = tuple(tape.nodes[p].inputs[other] for p in path.places)
    if isinstance(own[0], Literal):
        return
    shape = tape.shapes[own[0]].shape
    leaf = probe.structure.views.get(own[0])
    values = [Value(row) for row in _siblings(probe, rows, path, shape)]
    if len(shape) == 2:
        turned = [row for row in _siblings(probe, rows, path, shape[::-1]) if row != own]
        values += [Value(row, "{} transposed", np.transpose) for row in turned]
    if len(shape) == 2 and shape[0] == shape[1]:
        id = "weights-not-transposed" if leaf is not None else "unknown"
        words = "{} transposed where it should not be, or not where it should"
        values = [Value(own, words, np.transpose, id), *values]
    if len(own) > 1:
        values += [Value(own[1:] + own[:1]), Value(own[-1:] + own[:-1])]
    olds = [probe.point.values[own[t]] for t in path.on]
    for value in values:
        if _alike(probe, value, path, olds):
            continue
        if holds(scenes, partial(_with_operands, path, other, value)):
            ahead = len(own) > 1 and value.numbers[:-1] == own[1:]
            if ahead and _value(probe, path) in probe.structure.views:
                value = value._replace(id="own-activation")
            said = _said(probe, value, own)
            down = cotangent_name(probe, _value(probe, path))
            was = _named(probe, own)
            if value.numbers == own:
                sentence = f"{plainly(down)} is made with {said}"
            elif ahead and {was, _named(probe, value.numbers)} == {HIDDEN}:
                sentence = (
                    f"{plainly(down)} is made with {HIDDEN} after each turn (h_t) in the place of that "
                    "before it (h_{t-1})"
                )
            else:
                sentence = f"{plainly(down)} is made with {said} in the place of {was}"
            yield Finding(value.id, _capital(sentence) + ".", down, 2.4)


def _other_cotangents(scenes, probe: Scene, rows, path: Path, node: Node) -> Iterator[Finding]:
    """What comes back to another value is taken for what comes back to this one."""
    tape = probe.point.tape
    if len(node.outputs) != 1:
        return
    own = tuple(tape.nodes[p].outputs[0] for p in path.places)
    shape = tape.shapes[own[0]].shape
    readers = [p for p, n in enumerate(tape.nodes) if _value(probe, path) in n.inputs]
    if not shape or (node.name in PASSING and len(readers) == 1):
        return  # it hands down what comes back, to the one step below
    maker = {o: p for p, n in enumerate(tape.nodes) for o in n.outputs}
    taken = [(own, True)] if len(shape) == 2 and shape[0] == shape[1] else []
    taken += [
        (row, False)
        for row in _siblings(probe, rows, path, shape)
        if row != own
        and all(i in tape.active and maker.get(i, -1) > p for i, p in zip(row, path.places, strict=True))
    ]
    for row, turned in taken:
        back = probe.point.cotangents
        least = [1e-9 * np.abs(back[o]).max(initial=0) for o in own]
        if all(np.abs(back[i]).max(initial=0) <= s for i, s in zip(row, least, strict=True)):
            continue  # nothing but rounding: the path is left out, whatever the reason
        if not turned and all(near(back[i], back[o]) for i, o in zip(row, own, strict=True)):
            continue
        if holds(scenes, partial(_with_cotangent, path, row, turned)):
            down = cotangent_name(probe, _value(probe, path))
            name = _named(probe, own)
            if turned:
                sentence = f"What comes back to {name} is taken transposed where {plainly(down)} is made"
            else:
                sentence = (
                    f"{plainly(down)} is made of what comes back to {_named(probe, row)}, not of what comes "
                    f"back to {name}"
                )
            yield Finding("unknown", _capital(sentence) + ".", down, 2.7)


def _capital(sentence: str) -> str:
    letters = sentence[:2] in {"dA", "dZ"} or not sentence[0].isascii()
    return sentence if letters else sentence[0].upper() + sentence[1:]


def _value(scene: Scene, path: Path) -> int:
    """The value that a path leads down to."""
    return scene.point.tape.nodes[path.places[path.on[-1]]].inputs[path.k]


def _is_activation(node: Node) -> bool:
    return bool({*OWN_SLOPES, "max", *CUSTOM} & set(node.name.split("+")))


def _taken(scene: Scene, value: Value, path: Path) -> list[np.ndarray]:
    with np.errstate(all="ignore"):
        rows = [scene.point.values[value.numbers[t]] for t in path.on]
        return rows if value.of is None else [value.of(x) for x in rows]


def _alike(scene: Scene, value: Value, path: Path, olds: list) -> bool:
    """Whether a value is what stands there already."""
    new = _taken(scene, value, path)
    pairs = list(zip(new, olds, strict=True))
    if any(np.shape(x) != np.shape(o) for x, o in pairs) or not any(x.any() for x in new):
        return True  # of zeros: the path is left out, whatever the reason
    return all(near(x, o) for x, o in pairs)


def _with_power(edges: list, power: int, scene: Scene):
    old = scene.point.change.factors
    new = {e: np.asarray(old[edge(*e)]) ** power for e in edges}
    return scene.point.pull(changed(scene, factors=new))[0]


def _with_factors(path: Path, value: Value, scene: Scene):
    new = dict(zip(path.edges, _taken(scene, value, path), strict=True))
    olds = scene.point.change.factors
    if any(x.shape != np.shape(olds[edge(*e)]) for e, x in new.items()):
        return None  # two sizes that are equal at another point only
    return scene.point.pull(changed(scene, factors=new))[0]


def _with_operands(path: Path, other: int, value: Value, scene: Scene):
    places = [path.places[t] for t in path.on]
    new = {(p, other): x for p, x in zip(places, _taken(scene, value, path), strict=True)}
    olds = scene.point.change.operands
    if any(x.shape != np.shape(olds[edge(*e)]) for e, x in new.items()):
        return None
    return scene.point.pull(changed(scene, operands=new))[0]


def _with_cotangent(path: Path, row: tuple[int, ...], turned: bool, scene: Scene):
    back, nodes = scene.point.cotangents, scene.point.tape.nodes
    own = [back[nodes[p].outputs[0]].shape for p in path.places]
    if any((back[i].T if turned else back[i]).shape != o for i, o in zip(row, own, strict=True)):
        return None
    taken = {(path.places[t], path.k): (row[t], turned) for t in path.on}
    return scene.point.pull(changed(scene, taken=taken))[0]


def _described(scene: Scene, path: Path) -> str:
    each = "in every turn" if scene.structure.turns else f"in each of {len(path.places)} places"
    return describe(scene, max(path.places)) + (f", {each}," if len(path.places) > 1 else "")


def _said(scene: Scene, value: Value, own: tuple) -> str:
    """A value in words; of a loop, whether it is another turn's."""
    turn = ""
    row = value.numbers
    if len(row) > 1 and len(own) == len(row) and row != own:
        if row[:-1] == own[1:]:
            turn = " of the next turn"
        elif row[1:] == own[:-1]:
            turn = " of the turn before"
    return value.words.format(_named(scene, row)) + turn


def _named(scene: Scene, row: tuple[int, ...]) -> str:
    """A value by its layer, parameter or argument, or by the step that makes it."""
    tape, views = scene.point.tape, scene.structure.views
    value, part = row[-1], ""
    maker = {o: p for p, n in enumerate(tape.nodes) for o in n.outputs}
    own: dict[int, str] = {}
    for y in (*scene.structure.layers, *scene.structure.turns):
        of = f"[{y.number}]" if y.number else f" of {scene.structure.names[y.weight]}"
        own |= {y.product: f"Z{of}", y.z: f"Z{of}"}
        own |= {y.a: f"A{of}"} if y.activation is not None else {}
    handed_on = {(y.weight, y.before) for y in scene.structure.turns}
    recurrent = {y.weight for y in scene.structure.turns if (y.weight, y.a) in handed_on}
    if len(recurrent) == 1:
        own |= {y.a: HIDDEN for y in scene.structure.turns if y.weight in recurrent}
    while value not in views and value not in own and value in maker:
        node = tape.nodes[maker[value]]
        if node.name not in CHOICES or isinstance(node.inputs[0], Literal):
            break
        value, part = node.inputs[0], part if node.name in VIEWS else "a part of "
    if value in own or value in views:
        return part + (own[value] if value in own else scene.structure.names[views[value]])
    if value in tape.inputs:
        numbers = [n for n, arg in enumerate(scene.point.args) for _ in jax.tree.leaves(arg)]
        return f"{part}argument {numbers[tape.inputs.index(value)]}"
    return f"the result of {describe(scene, maker[row[-1]])}" if row[-1] in maker else "a constant"


def describe(scene: Scene, place: int) -> str:
    """A step by its name, its line and its shape."""
    node = scene.point.tape.nodes[place]
    shape = scene.point.tape.shapes[node.outputs[0]].shape
    own = [called(part) for part in node.name.split("+") if part not in CUSTOM | INLINED]
    at = f" at {node.line}" if node.line else ""
    size = f"of shape {'×'.join(map(str, shape))}" if shape else "that gives a number"
    return f"{' and '.join(own) or _own_name(node)}{at} ({size})"


def _own_name(node: Node) -> str:
    """What a function with a rule of its own is called by who wrote it."""
    inner = node.params.get("call_jaxpr")
    about = getattr(getattr(inner, "jaxpr", inner), "debug_info", None)
    name = getattr(about, "func_name", "").strip("_")
    return name if name.isidentifier() else "a function"


def cotangent_name(scene: Scene, value: int) -> str:
    """What comes back to a value, by its name in the lecture where it has one."""
    for y in scene.structure.layers:
        for v, name in ((y.z, "dZ"), (y.a, "dA"), (y.product, "dZ")):
            if v == value:
                return f"{name}[{y.number}]"
    for what in ("z", "product", "a"):
        loop = {scene.structure.names[y.weight] for y in scene.structure.turns if getattr(y, what) == value}
        if loop:
            return f"{'dA' if what == 'a' else 'dZ'} of {joined(sorted(loop))} (in a loop)"
    if value in scene.structure.views:
        return f"the gradient of {scene.structure.names[scene.structure.views[value]]}"
    made = next((p for p, n in enumerate(scene.point.tape.nodes) if value in n.outputs), None)
    return f"the cotangent of {describe(scene, made) if made is not None else 'an input'}"
