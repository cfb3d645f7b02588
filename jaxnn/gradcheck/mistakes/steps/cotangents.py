"""Mistakes in what comes back to one value, on all its paths at once: another's is taken, or it is moved."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import combinations, product
from typing import NamedTuple

import numpy as np

from jaxnn.gradcheck.mistakes.finding import Cotangent, Finding, Mistake, Value, finding, holds
from jaxnn.gradcheck.mistakes.steps.jacobians import flat, jacobians
from jaxnn.gradcheck.mistakes.steps.turns import LEFT_OUT, WRONG_OPERAND
from jaxnn.gradcheck.tape.forward import gradient_of
from jaxnn.gradcheck.tape.paths import near, smallest
from jaxnn.gradcheck.tape.scene import Scene, gradient_with
from jaxnn.gradcheck.tape.trace import reached

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
OF_COTANGENTS = (SKIPPED, SHIFTED)


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


def of_cotangents(scenes: list[Scene]) -> Iterator[Finding]:
    """What comes back to one value is another's, comes one place off, or is not handed down."""
    probe = smallest(scenes)
    if probe is None or probe.structure.turns:
        return
    here, back = jacobians(probe), probe.point.cotangents
    at = np.cumsum([0, *(r.size for r in probe.reference)])
    looked = np.concatenate([np.arange(at[k], at[k + 1]) for k in probe.seen])
    gap = (flat(probe.hand) - flat(probe.reference))[looked]
    for value in sorted(here):
        if not probe.point.tape.shapes[value].shape or value not in back:
            continue
        for other in _others(probe, value, here):
            new = other.of(probe)
            if near(
                (here[value][:, looked].T @ (new - back[value]).ravel()), gap, np.abs(gap).max()
            ) and holds(scenes, partial(_with, value, other)):
                above = Value((value if other.above is None else other.above,))
                told = {"value": Value((value,)), "above": above, "down": Cotangent(value)}
                yield finding(other.mistake, other.says, "{down}", other.rank, True, probe, **told)
                return


def of_reading(scenes: list[Scene]) -> Iterator[Finding]:
    """Data is read one place off on the way back, where its own values are right."""
    probe = smallest(scenes)
    tape = probe.point.tape if probe else None
    for x in (*tape.inputs, *tape.constants) if tape else ():
        shape = tape.shapes[x].shape if x not in tape.parameters else ()
        for axis, by in product((a for a, n in enumerate(shape) if n > 2), (1, -1)):
            if holds(scenes, partial(_read, x, axis, by)):
                where = "too early" if by > 0 else "too late"
                says = f"On the way back {{x}} is read one place {where} along its axis {axis}."
                yield finding(SHIFTED, says, "{x}", 3.0, True, probe, x=Value((x,)))
                return

    yield from _of_exchanged(scenes, probe) if probe else ()


def _of_exchanged(scenes: list[Scene], probe: Scene) -> Iterator[Finding]:
    """Two arrays that no parameter is in stand for each other on the way back."""
    tape, values = probe.point.tape, probe.point.values
    read = {i for n in tape.nodes if tape.edges(n) for i in n.reads if i not in tape.active and i in values}
    arrays = sorted(i for i in read if tape.shapes[i].shape)
    for a, b in combinations(arrays, 2):
        if tape.shapes[a] == tape.shapes[b] and holds(scenes, partial(_exchanged, a, b)):
            says = "{a} and {b} are exchanged on the way back."
            yield finding(WRONG_OPERAND, says, "{a}", 3.0, True, probe, a=Value((a,)), b=Value((b,)))
            return


def _exchanged(a: int, b: int, scene: Scene) -> list[np.ndarray] | None:
    values = scene.point.values
    kept = {v: values[v] for v in scene.point.tape.active if v in values}
    alike = values[a].shape == values[b].shape
    return gradient_of(scene, {a: values[b], b: values[a], **kept}) if alike else None


def _read(x: int, axis: int, by: int, scene: Scene) -> list[np.ndarray] | None:
    values, tape = scene.point.values, scene.point.tape
    if values[x].ndim <= axis:
        return None
    kept = {v: values[v] for v in tape.active if v in values}
    return gradient_of(scene, {x: np.roll(values[x], by, axis), **kept})


def _with(value: int, other: Other, scene: Scene) -> list[np.ndarray] | None:
    new = other.of(scene)
    return gradient_with(scene, given={value: new}) if new.shape == scene.point.values[value].shape else None


def _others(scene: Scene, value: int, known: dict) -> Iterator[Other]:
    """What may be taken for what comes back to a value."""
    tape, back = scene.point.tape, scene.point.cotangents
    shape = tape.shapes[value].shape
    says = "What comes back to {above} is handed on as that of {value}: the steps between them are left out."
    for above in sorted(reached(tape.nodes, [value]) & known.keys() & back.keys()):
        if above != value and back[above].shape == shape and not near(back[above], back[value]):
            yield Other(SKIPPED, says, 3.0, lambda s, v=above: s.point.cotangents[v], above)
    says = "{value} is not differentiated, as if it were a constant."
    yield Other(LEFT_OUT, says, 3.1, lambda s: np.zeros_like(s.point.cotangents[value]))
    for axis in (a for a, n in enumerate(shape) if n > 1):
        for by in (-1, 1):
            where = "one place too late" if by > 0 else "one place too early"
            says = f"What comes back to {{value}} is taken {where} along its axis {axis}."
            yield Other(SHIFTED, says, 3.0, lambda s, a=axis, b=by: shifted(s.point.cotangents[value], a, b))
