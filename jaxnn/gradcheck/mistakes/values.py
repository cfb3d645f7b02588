"""Mistakes in which another value of the same shape stands where one belongs."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
from jax.extend.core import Literal

from jaxnn.gradcheck.mistakes.finding import Finding, holds
from jaxnn.gradcheck.report.words import capital, plainly
from jaxnn.gradcheck.tape.layers import PRODUCTS
from jaxnn.gradcheck.tape.names import HIDDEN, cotangent_name, described, named
from jaxnn.gradcheck.tape.paths import Path, lines, near, reaching, smallest, value_below
from jaxnn.gradcheck.tape.quantities import SLOPES, oriented
from jaxnn.gradcheck.tape.scene import Scene, changed
from jaxnn.gradcheck.tape.tape import CUSTOM, Node, edge

OWN_SLOPES = {"tanh": "tanh′", "logistic": "σ′"}
PASSING = {"add", "add_any", "sub", "neg"}


class Value(NamedTuple):
    """A value of the tape in every turn, and how it is taken: as it is, or as a function of it."""

    numbers: tuple[int, ...]
    words: str = "{}"
    of: Callable[[np.ndarray], np.ndarray] | None = None
    id: str = "unknown"


def mistaken(scenes: list[Scene]) -> Iterator[Finding]:
    """On one path a local derivative or an operand is another value, or what comes back is another's."""
    probe = smallest(scenes)
    if probe is None:
        return
    rows = _rows(probe)
    paths = [path for path, _ in reaching(probe)]
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
    for places in lines(scene):
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
    told, where = described(probe, path.places), cotangent_name(probe, value_below(probe, path))
    alone = sum(not isinstance(i, Literal) for i in node.inputs) == 1
    what = f"the derivative of {told}" if alone else f"the other factor in {told}"
    for power, id, words in (
        (0, "missing-activation-derivative", "is missing"),
        (2, "derivative-twice", "is multiplied in twice"),
    ):
        if holds(scenes, partial(_with_power, path.edges, power)):
            sentence = capital(f"{what} {words}.")
            yield Finding(id if _is_activation(node) else "unknown", sentence, where, 2.5)
    nodes = [probe.point.tape.nodes[p] for p in path.places]
    rest = tuple(node.inputs[1 - path.k] for node in nodes) if len(node.inputs) == 2 else ()
    for row in _siblings(probe, rows, path, olds[0].shape):
        for value in _slopes(nodes, path, row):
            if not _alike(probe, value, path, olds) and holds(scenes, partial(_with_factors, path, value)):
                said = _said(probe, value, rest)
                yield Finding(value.id, capital(f"{said} stands where {what} belongs."), where, 2.6)


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
    if node.elementwise or node.name not in PRODUCTS:
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
            if ahead and value_below(probe, path) in probe.structure.views:
                value = value._replace(id="own-activation")
            said = _said(probe, value, own)
            down = cotangent_name(probe, value_below(probe, path))
            was = named(probe, own)
            if value.numbers == own:
                sentence = f"{plainly(down)} is made with {said}"
            elif ahead and {was, named(probe, value.numbers)} == {HIDDEN}:
                sentence = (
                    f"{plainly(down)} is made with {HIDDEN} after each turn (h_t) in the place of that "
                    "before it (h_{t-1})"
                )
            else:
                sentence = f"{plainly(down)} is made with {said} in the place of {was}"
            yield Finding(value.id, capital(sentence) + ".", down, 2.4)


def _other_cotangents(scenes, probe: Scene, rows, path: Path, node: Node) -> Iterator[Finding]:
    """What comes back to another value is taken for what comes back to this one."""
    tape = probe.point.tape
    if len(node.outputs) != 1:
        return
    own = tuple(tape.nodes[p].outputs[0] for p in path.places)
    shape = tape.shapes[own[0]].shape
    readers = [p for p, n in enumerate(tape.nodes) if value_below(probe, path) in n.inputs]
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
            down = cotangent_name(probe, value_below(probe, path))
            name = named(probe, own)
            if turned:
                sentence = f"What comes back to {name} is taken transposed where {plainly(down)} is made"
            else:
                sentence = (
                    f"{plainly(down)} is made of what comes back to {named(probe, row)}, not of what comes "
                    f"back to {name}"
                )
            yield Finding("unknown", capital(sentence) + ".", down, 2.7)


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


def _said(scene: Scene, value: Value, own: tuple) -> str:
    """A value in words; of a loop, whether it is another turn's."""
    turn = ""
    row = value.numbers
    if len(row) > 1 and len(own) == len(row) and row != own:
        if row[:-1] == own[1:]:
            turn = " of the next turn"
        elif row[1:] == own[:-1]:
            turn = " of the turn before"
    return value.words.format(named(scene, row)) + turn


def updated_weights(scenes: list[Scene]) -> Iterator[Finding]:
    """dA[l-1] = dZ[l] (W[l] − α dW[l]): the weights were updated before they were used."""
    layers = scenes[0].structure.layers
    if len(layers) < 2:
        return

    def with_rate(scene: Scene, alpha: float, groups) -> list:
        """From the top down, each W[l] less α times the gradient that this pass itself made of it."""
        operands: dict = {}
        gradient = scene.reference
        for y in reversed(scene.structure.layers[1:]):
            if y.number not in groups:
                continue
            old = scene.point.values[scene.point.tape.nodes[y.place].inputs[1 - y.input_side]]
            step = oriented(scene, y, gradient[y.weight], old)
            if step is None:
                return scene.reference
            operands[(y.place, 1 - y.input_side)] = old - alpha * step
            gradient, _ = scene.point.pull(changed(scene, operands=operands))
        return gradient

    first = next((s for s in scenes if s.wrong), None)
    if first is None:
        return
    for groups in [tuple(y.number for y in layers[1:]), *[(y.number,) for y in layers[1:]]]:
        top = max(groups)
        # the layer below the highest changed one is linear in α
        leaf = layers[top - 2].weight
        base, unit = first.reference[leaf], with_rate(first, 1.0, (top,))[leaf]
        direction = unit - base
        if not direction.any() or not np.isfinite(first.hand[leaf]).all():
            continue
        alpha = float(np.vdot(direction, first.hand[leaf] - base) / np.vdot(direction, direction))
        if abs(alpha) < 1e-12 or not np.isfinite(alpha):
            continue

        # α need not be given to more digits than rounding leaves of it
        for a in (float(f"{alpha:.6g}"), alpha):
            if holds(scenes, lambda s, a=a, groups=groups: with_rate(s, a, groups)):
                where = f"dA[{top - 1}] = dZ[{top}] W[{top}] (layer {top})"
                yield Finding(
                    "updated-weights",
                    f"The weights W[{top}] are updated (α = {a:.6g}) before they are used to go down.",
                    where,
                    0.7,
                )
                return


def masks_forgotten(scenes: list[Scene]) -> Iterator[Finding]:
    """A mask left out of, or another put into, the backward pass."""
    masks = scenes[0].structure.masks
    tape = scenes[0].point.tape
    groups = [(m,) for m in masks] + ([masks] if len(masks) > 1 else [])
    for group in groups:
        for keep in (False, True):

            def predict(scene, group=group, keep=keep):
                new = {}
                for place, k in group:
                    old = np.asarray(scene.point.change.factors[f"{place},{k}"])
                    size = np.abs(old).max(initial=0)
                    new[(place, k)] = np.full_like(old, size if keep else 1.0)
                return scene.point.pull(changed(scene, factors=new))[0]

            if holds(scenes, predict):
                layer = _layer_of(scenes[0], group[-1][0])
                where = f"dZ[{layer}] (layer {layer}), at {tape.nodes[group[-1][0]].line or 'the mask'}"
                dropped = all(_is_mask(scenes[0].point.change.factors[edge(*e)]) for e in group)
                id, what = ("mask-forgotten", "mask") if dropped else ("unknown", "array of numbers")
                sentence = f"The {what} that layer {layer}'s activations are multiplied by is missing"
                yield Finding(id, f"{sentence} from the backward pass.", where, 0.4)
                return


def _is_mask(factors: np.ndarray) -> bool:
    """Zeros, and at most one other number."""
    return np.unique(np.append(factors, 0.0)).size <= 2


def _layer_of(scene: Scene, place: int) -> int:
    return max((y.number for y in scene.structure.layers if y.place < place), default=1)
