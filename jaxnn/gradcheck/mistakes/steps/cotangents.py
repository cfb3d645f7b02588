"""Mistakes in what comes back to one value, on all its paths at once: another's is taken, or it is moved."""

import math
from collections.abc import Callable, Iterator
from functools import partial
from itertools import combinations, product
from typing import NamedTuple

import numpy as np

from jaxnn.gradcheck.jaxprs.equations import kind_of
from jaxnn.gradcheck.mistakes import entries
from jaxnn.gradcheck.mistakes.averages import BIAS_MEAN, LAYER_SIGN
from jaxnn.gradcheck.mistakes.derivatives import MULTIPLIER
from jaxnn.gradcheck.mistakes.finding import Cotangent, Finding, Mistake, Step, Value, ways
from jaxnn.gradcheck.mistakes.outputs import DIAGONAL
from jaxnn.gradcheck.mistakes.steps.guesses import Guess, first_that_holds, guess
from jaxnn.gradcheck.mistakes.steps.jacobians import flat, jacobians
from jaxnn.gradcheck.mistakes.steps.turns import LEFT_OUT, WRONG_OPERAND
from jaxnn.gradcheck.tape.forward import gradient_of
from jaxnn.gradcheck.tape.paths import near
from jaxnn.gradcheck.tape.scene import Scene, gradient_with, without
from jaxnn.gradcheck.tape.tape import Edge
from jaxnn.gradcheck.tape.trace import VIEWS, consumers, reached
from jaxnn.gradcheck.tolerances import ROUNDED

SKIPPED = Mistake(
    "steps-skipped", "what comes back is handed on as it is, past steps that it should go through",
    "u = b/‖b‖, so db = (du − u (u·du))/‖b‖, not du", "db = du  # of u = b / np.linalg.norm(b)", "any steps",
    loose=True,
)  # fmt: skip
SHIFTED = Mistake(
    "off-by-one", "what comes back is taken one place too early or too late along an axis",
    "B_t is made of Z_t: dZ_t is made of dB_t, not of dB_{t+1}",
    "dZ[:-1] = dB[1:]  # of B = np.tanh(Z)", "time, a running sum, a grid", loose=True,
)  # fmt: skip
INVERTED = Mistake(
    "mask-inverted", "what was dropped is kept on the way back, and what was kept is dropped",
    "A = M ⊙ g(Z), so dZ = dA ⊙ M ⊙ g′(Z), not dA ⊙ (1 − M) ⊙ g′(Z)", "dA1 = dA1 * (1 - M)",
    "a layer with dropout",
)  # fmt: skip
MOVES = (entries.TRANSPOSED, entries.RESHAPED, entries.MOVED, entries.WRONG_AXIS, entries.CENTRED)
OF_COTANGENTS = (INVERTED, SKIPPED, SHIFTED)


def shifted(x: np.ndarray, axis: int, by: int) -> np.ndarray:
    """Moved by one along an axis, with 0 where nothing comes from."""
    out, end = np.roll(x, by, axis), [slice(None)] * x.ndim
    end[axis] = slice(0, 1) if by > 0 else slice(-1, None)
    out[tuple(end)] = 0
    return out


class Other(NamedTuple):
    """What is taken for what comes back to a value: a function of all that comes back at a scene."""

    mistake: Mistake
    says: str
    rank: float
    of: Callable[[Scene], np.ndarray]
    above: int | None = None


@first_that_holds
def of_cotangents(probe: Scene) -> Iterator[Guess]:
    """What comes back to one value is another's, comes one place off, or is not handed down."""
    here, back = jacobians(probe) if not probe.structure.turns else {}, probe.point.cotangents
    at = np.cumsum([0, *(r.size for r in probe.reference)])
    looked = np.concatenate([np.arange(at[k], at[k + 1]) for k in probe.seen])
    gap = (flat(probe.hand) - flat(probe.reference))[looked]
    for value in (v for v in sorted(here) if probe.point.tape.shapes[v].shape and v in back):
        for other in _others(probe, value, here):
            new = other.of(probe)
            if new.shape != back[value].shape or not np.isfinite(new).all() or near(new, back[value]):
                continue
            off = here[value][:, looked].T @ (new - back[value]).ravel()
            if np.max(np.abs(off - gap), initial=0) <= ROUNDED * np.max(np.abs(gap), initial=0):
                above = Value((value if other.above is None else other.above,))
                told = {"value": Value((value,)), "above": above, "down": Cotangent(value)}
                yield guess(
                    other.mistake, other.says, "{down}", other.rank, partial(_with, value, other), **told
                )


@first_that_holds
def of_exchanged(probe: Scene) -> Iterator[Guess]:
    """What comes back to two values of one shape, neither of which is made of the other, is exchanged."""
    tape, back = probe.point.tape, probe.point.cotangents
    known = [v for v in sorted(jacobians(probe)) if v in back and tape.shapes[v].shape]
    for v, w in combinations(known, 2) if not probe.structure.turns else ():
        if tape.shapes[v].shape != tape.shapes[w].shape or near(back[v], back[w]):
            continue
        if w not in reached(tape.nodes, [v]):
            says, mistake = "are in each other's place", entries.EXCHANGED
            if near(back[v], -back[w]):
                says, mistake = "have the opposite signs", LAYER_SIGN
            says = f"What comes back to {{one}} and what comes back to {{other}} {says}."
            told = {"one": Value((v,)), "other": Value((w,)), "down": (Cotangent(v), Cotangent(w))}
            yield guess(mistake, says, "{down}", 3.0, partial(_with_exchanged, v, w), **told)


def _with_exchanged(v: int, w: int, scene: Scene) -> list[np.ndarray] | None:
    back = scene.point.cotangents
    return gradient_with(scene, given={v: back[w], w: back[v]}) if back[v].shape == back[w].shape else None


@first_that_holds
def of_sums(probe: Scene) -> Iterator[Guess]:
    """What comes back to a sum that is divided by is summed along another axis, or not at all."""
    tape, readers = probe.point.tape, consumers(probe.point.tape.nodes)
    for place, node in enumerate(tape.nodes):
        above, out = [place], node.outputs[0]
        while (
            node.name == "reduce_sum"
            and len(above) == 1
            and tape.nodes[above[0]].name in {"reduce_sum", *VIEWS}
        ):
            out = tape.nodes[above[0]].outputs[0]
            above = readers.get(out, [])
        if len(above) != 1 or tape.nodes[above[0]].name != "div" or tape.nodes[above[0]].inputs[1] != out:
            continue
        for axis in (None, *range(len(tape.shapes[node.inputs[0]].shape))):
            how = f"summed along axis {axis}, where the loss sums along another"
            how = "not summed: only the diagonal of its derivative is there" if axis is None else how
            predict, down = partial(_with_sum, place, above[0], axis), Cotangent(node.inputs[0])
            mistake, says = (
                DIAGONAL if axis is None else entries.WRONG_AXIS,
                "What comes back through {step} is ",
            )
            yield guess(mistake, says + how + ".", "{down}", 2.0, predict, step=Step((place,)), down=down)


def _with_sum(place: int, above: int, axis: int | None, scene: Scene) -> list[np.ndarray] | None:
    nodes, point = scene.point.tape.nodes, scene.point
    if (above, 1) not in point.change.factors:
        return None
    total = np.asarray(point.values[nodes[above].inputs[1]])
    each = point.cotangents[nodes[above].outputs[0]] * point.change.factors[above, 1] * total
    shape = point.values[nodes[place].inputs[0]].shape
    if each.shape != shape:
        return None
    new = (each if axis is None else np.broadcast_to(each.sum(axis, keepdims=True), shape)) / total
    return gradient_with(scene, moved={(place, 0): lambda seen: new})


@first_that_holds
def of_early(probe: Scene) -> Iterator[Guess]:
    """What comes back to a value goes down one way before all of it has come back."""
    nodes, readers = probe.point.tape.nodes, consumers(probe.point.tape.nodes)
    into = {place: probe.point.tape.edges(node) for place, node in enumerate(nodes)}
    for place, node in enumerate(nodes):
        below, out = [(place, k) for k, _ in into[place]], node.outputs[0]
        above = [(p, k) for p in readers.get(out, []) for k, i in into[p] if i == out]
        for one, other in product(below, above) if min(len(below), len(above)) > 1 else ():
            says = "{value} is made before what comes back through {step} has been added."
            down = Cotangent(node.inputs[one[1]])
            told = {"value": down, "step": Step((other[0],)), "down": down}
            yield guess(LEFT_OUT, says, "{down}", 3.0, partial(_without_both, one, other), **told)


def _without_both(one: Edge, other: Edge, scene: Scene) -> list[np.ndarray]:
    """The gradient without what comes down through one edge and then another."""
    a, b, neither = (without(scene, edges) for edges in ((one,), (other,), (one, other)))
    return [x + y - z for x, y, z in zip(a, b, neither, strict=True)]


def of_reading(scenes: list[Scene]) -> Iterator[Finding]:
    """Data is read otherwise on the way back, where the values of the loss are right; or two arrays are."""
    found = [*_of_reading(scenes)]
    yield from found or _of_data_exchanged(scenes)


@first_that_holds
def _of_reading(probe: Scene) -> Iterator[Guess]:
    tape = probe.point.tape
    for x in (*tape.inputs, *tape.constants):
        shape = tape.shapes[x].shape if x not in tape.parameters else ()
        ways: list[tuple[Mistake, str, Callable]] = []
        for axis, by in product((a for a, n in enumerate(shape) if n > 2), (1, -1)):
            how = f"is read one place too {'early' if by > 0 else 'late'} along its axis {axis}"
            ways.append((SHIFTED, how, partial(np.roll, shift=by, axis=axis)))
        if shape and kind_of(tape.shapes[x]) == "f":
            ways += [(MULTIPLIER, "is left out: ones stand in its place", np.ones_like)]
            ways += [(INVERTED, "is taken from 1", lambda x: 1 - x)]
        for mistake, how, of in ways:
            predict = partial(_read, x, len(shape), of)
            yield guess(mistake, f"On the way back {{x}} {how}.", "{x}", 3.0, predict, x=Value((x,)))


@first_that_holds
def _of_data_exchanged(probe: Scene) -> Iterator[Guess]:
    """Two arrays that no parameter is in stand for each other on the way back."""
    tape, values = probe.point.tape, probe.point.values
    read = {i for n in tape.nodes if tape.edges(n) for i in n.reads if i not in tape.active and i in values}
    for a, b in combinations(sorted(i for i in read if tape.shapes[i].shape), 2):
        if tape.shapes[a] == tape.shapes[b]:
            says, told = "{a} and {b} are exchanged on the way back.", {"a": Value((a,)), "b": Value((b,))}
            yield guess(WRONG_OPERAND, says, "{a}", 3.0, partial(_exchanged, a, b), **told)


def _exchanged(a: int, b: int, scene: Scene) -> list[np.ndarray] | None:
    values = scene.point.values
    return _with_data(scene, {a: values[b], b: values[a]}) if values[a].shape == values[b].shape else None


def _read(x: int, axes: int, of: Callable, scene: Scene) -> list[np.ndarray] | None:
    value = scene.point.values[x]
    return _with_data(scene, {x: of(value)}) if value.ndim == axes else None


def _with_data(scene: Scene, new: dict[int, np.ndarray]) -> list[np.ndarray]:
    """The gradient with other data on the way back, at the right values."""
    values = scene.point.values
    return gradient_of(scene, new | {v: values[v] for v in scene.point.tape.active if v in values})


def _with(value: int, other: Other, scene: Scene) -> list[np.ndarray] | None:
    new = other.of(scene)
    return gradient_with(scene, given={value: new}) if new.shape == scene.point.values[value].shape else None


def _times(value: int, other: int, power: int, scene: Scene) -> np.ndarray:
    d, x = scene.point.cotangents[value], scene.point.values[other]
    with np.errstate(all="ignore"):
        return d * x ** float(power) if _along(x.shape, d.shape) else x


def _along(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether it is a number for whole rows, columns and so on of the other."""
    return (
        one != other and len(one) == len(other) and all(n in (1, m) for n, m in zip(one, other, strict=True))
    )


def _others(scene: Scene, value: int, known: dict) -> Iterator[Other]:
    """What may be taken for what comes back to a value."""
    tape, back = scene.point.tape, scene.point.cotangents
    shape = tape.shapes[value].shape
    says = "What comes back to {above} is handed on as that of {value}: the steps between them are left out."
    for above in sorted(reached(tape.nodes, [value]) & known.keys() & back.keys()):
        if above != value and back[above].shape == shape and not near(back[above], back[value]):
            yield Other(SKIPPED, says, 3.0, lambda s, v=above: s.point.cotangents[v], above)
    given = (*tape.inputs, *tape.constants)
    for v in sorted(scene.point.values.keys() & reached(tape.nodes, given)):  # no number of the code alone
        if _along(np.shape(scene.point.values[v]), shape):
            for power, lacks, or_else in ((1, "divided", "multiplied"), (-1, "multiplied", "divided")):
                says = (
                    f"What comes back to {{value}} is not {lacks} by {{above}}, or {or_else} once too often."
                )
                yield Other(MULTIPLIER, says, 3.0, partial(_times, value, v, power), v)
    for node in (tape.nodes[p] for p in consumers(tape.nodes).get(value, ())):
        top = node.outputs[0]
        if (node.elementwise or node.name in VIEWS) and math.prod(tape.shapes[top].shape) > math.prod(shape):
            says = "What comes back to {value} is a mean over all that it is added to, where a sum belongs."
            share = lambda s, t=top: s.point.values[value].size / s.point.values[t].size  # noqa: E731
            yield Other(BIAS_MEAN, says, 3.0, lambda s, f=share: f(s) * s.point.cotangents[value])
    for mistake, way in ways(MOVES):
        what = f"What comes back to {{value}} {way.says}."
        yield Other(mistake, what, 3.2, lambda s, way=way: way.of(s.point.cotangents[value]))
    says = "{value} is not differentiated, as if it were a constant."
    yield Other(LEFT_OUT, says, 3.1, lambda s: np.zeros_like(s.point.cotangents[value]))
    for axis in (a for a, n in enumerate(shape) if n > 1):
        for by in (-1, 1):
            where = "one place too late" if by > 0 else "one place too early"
            says = f"What comes back to {{value}} is taken {where} along its axis {axis}."
            yield Other(SHIFTED, says, 3.0, lambda s, a=axis, b=by: shifted(s.point.cotangents[value], a, b))
