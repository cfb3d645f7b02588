"""Mistakes in a loop: in some of its turns, or in what it starts from."""

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
from jax.extend.core import Literal

from jaxnn.gradcheck.mistakes.finding import Finding, Leaves, Mistake, Value, finding, holds
from jaxnn.gradcheck.report.words import joined
from jaxnn.gradcheck.tape.forward import gradient_of
from jaxnn.gradcheck.tape.paths import Path, ends_of, lines, paths_of, smallest, value_below
from jaxnn.gradcheck.tape.scene import Scene, without
from jaxnn.gradcheck.tolerances import COMPUTED, FITTED


class Turns(NamedTuple):
    """A path that counts α times in some turns of a loop."""

    says: str
    on: slice
    alpha: float


EVERY = slice(None)
STEPS = "what goes down is what comes back, times the local derivative, on every path from the loss"
LEFT_OUT = Mistake(
    "path-left-out", "something is not differentiated, as if it were a constant", STEPS,
    "dA = dZ @ W  # of B = A + Z, in which A is once more", "any path",
    (Turns("is not differentiated", EVERY, 0.0),), loose=True,
)  # fmt: skip
WRONG_OPERAND = Mistake(
    "wrong-operand", "another value stands where one belongs", "Q = A B, so dA = dQ Bᵀ and dB = Aᵀ dQ",
    "dQ = dS @ Q  # of S = Q @ K.T", "any step", loose=True,
)  # fmt: skip
TURNS_LEFT_OUT = Mistake(
    "turns-left-out", "some turns of a loop add nothing", "dW = Σ over the turns t of dZ_tᵀ A_{t-1}",
    "dW = dZ.T @ h  # in a loop, where dW += dZ.T @ h belongs", "what is used in every turn of a loop",
    (
        Turns("is differentiated in the last turn only", slice(-1), 0.0),
        Turns("is differentiated in the first turn only", slice(1, None), 0.0),
        Turns("is not differentiated in the last turn", slice(-1, None), 0.0),
        Turns("is not differentiated in the first turn", slice(1), 0.0),
    ),
)  # fmt: skip
STALE_START = Mistake(
    "stale-start", "a loop starts from the state that another run of it has left",
    "h_0 = 0 at the start of every run, forward and backward",
    "h, cache = run(X, h)  # where h = 0 belongs, as in the loss", "what is handed on from turn to turn",
)  # fmt: skip
OTHER_TURN = Mistake(
    "state-of-another-turn", "a turn is gone back through with the state after it, not with that before it",
    "h_t = f(h_{t-1}), so dh_{t-1} = f′(h_{t-1})ᵀ dh_t",
    "a = a + step * f_prime(W @ y[t + 1]) * a  # of y[t + 1] = y[t] + step * f(W @ y[t])",
    "what is handed on from turn to turn",
)  # fmt: skip
CUT = tuple(
    Turns(f"is cut in every {name} turn", slice(first, None, every), 0.0)
    for every, name in ((2, "second"), (3, "third"), (4, "fourth"))
    for first in range(every)
)
OF_TURNS = (TURNS_LEFT_OUT, STALE_START, OTHER_TURN)


def of_turns(scenes: list[Scene]) -> Iterator[Finding]:
    """What is wrong in a loop over time."""
    probe = smallest(scenes)
    if probe is not None:
        yield from _turns_left_out(scenes, probe)
        yield from _stale(scenes, probe)
        yield from _of_another_turn(scenes, probe)


def _states(scene: Scene) -> list[tuple[int, ...]]:
    """The arrays that each turn of a loop hands to the next, from its start to its end."""
    tape = scene.point.tape
    rows = [[tape.nodes[p] for p in places] for places in lines(scene, False) if len(places) > 1]
    made = {outs[:-1]: outs[-1] for row in rows for outs in zip(*(n.outputs for n in row), strict=True)}
    read = [inputs for row in rows for inputs in zip(*(n.inputs for n in row), strict=True)]
    read = [inputs for inputs in read if not any(isinstance(i, Literal) for i in inputs)]
    rows = {inputs: (*inputs, made[inputs[1:]]) for inputs in read if inputs[1:] in made}
    return [row for row in rows.values() if tape.shapes[row[-1]].shape]


def starts_of(scene: Scene) -> dict[int, int]:
    """What a loop starts from, with what it ends with."""
    return {row[0]: row[-1] for row in _states(scene)}


def _of_another_turn(scenes: list[Scene], probe: Scene) -> Iterator[Finding]:
    """Every turn is gone back through with the state that it ends with, or that before it began."""
    for by, which, other in ((1, "after", "before"), (-1, "before", "after")):
        if holds(scenes, partial(_with_states, by)):
            says = (
                f"Every turn is gone back through with the state {which} it in the place of that {other} it:"
            )
            says, row = says + " {state}.", tuple(Value(row[1:]) for row in _states(probe))
            yield finding(OTHER_TURN, says, "what the loop hands on", 2.0, scene=probe, state=row)
            return


def _with_states(by: int, scene: Scene) -> list[np.ndarray] | None:
    values, new = scene.point.values, {}
    for row in _states(scene):
        earlier, later = (row[:-1], row[1:]) if by > 0 else (row[1:-1], row[:-2])
        new |= {row[-1]: row[-1], **dict(zip(earlier, later, strict=True))}
    alike = all(np.shape(values[v]) == np.shape(values[w]) for v, w in new.items())
    return gradient_of(scene, {v: values[w] for v, w in new.items()}) if new and alike else None


def _stale(scenes: list[Scene], probe: Scene) -> Iterator[Finding]:
    """The right gradient of a run that starts from the state in which one such run has ended."""
    starts, tape = starts_of(probe), probe.point.tape
    over = max((tape.maker(v) or 0 for v in starts.values()), default=0)
    ends = [None, *(v for v in ends_of(probe, min(starts)) if (tape.maker(v) or 0) >= over)] if starts else []
    if any(holds(scenes, partial(_from_the_end, end)) for end in ends):
        says = "The loop starts from the state in which a run of it has ended: {last} after the last turn."
        last = tuple(Value((v,)) for v in starts.values())
        yield finding(STALE_START, says, "what the loop starts from", 2.0, scene=probe, last=last)


def _from_the_end(end: int | None, scene: Scene) -> list[np.ndarray] | None:
    """end: from where on all values are right."""
    values = scene.point.values
    new = {first: values[last] for first, last in starts_of(scene).items()}
    alike = all(np.shape(x) == scene.point.tape.shapes[v].shape for v, x in new.items())
    return gradient_of(scene, new, end) if new and alike else None


def _turns_left_out(scenes: list[Scene], probe: Scene) -> Iterator[Finding]:
    """Some turns of a loop add nothing to a parameter's gradient, as where a sum is overwritten."""
    views, nodes = probe.structure.views, probe.point.tape.nodes
    into: dict[int, list[Path]] = {}
    for path in paths_of(probe):
        leaf = views.get(value_below(probe, path))
        if leaf in probe.wrong and nodes[path.places[0]].outputs[0] not in views:
            into.setdefault(leaf, []).append(path)
    paths = [found[0] for found in into.values() if len(found) == 1]
    counts = {len(path.on) for path in paths}
    if sorted(into) != probe.wrong or len(paths) < len(into) or len(counts) > 1 or counts == {1}:
        return
    (count,) = counts
    parts = [_of_turns(paths, {t}, probe) for t in range(count)]
    table = np.stack([np.concatenate([p[k].ravel() for k in probe.wrong]) for p in parts], axis=1)
    hand = np.concatenate([probe.hand[k].ravel() for k in probe.wrong])
    weights = np.linalg.lstsq(table, hand, rcond=COMPUTED)[0]
    there = {t for t in range(count) if abs(weights[t] - 1) < FITTED}
    if not there or any(abs(w) > FITTED for t, w in enumerate(weights) if t not in there):
        return
    if holds(scenes, partial(_of_turns, paths, there)):
        says = "The gradient of {of} has only {turns} of the loop's {count}, counted from 0"
        if there == {0}:
            says += ": it is overwritten in every turn where it should be added to"
        elif there == {count - 1}:
            says += ": nothing is handed down from one turn to the turn before"
        turns = ("turns " if len(there) > 1 else "turn ") + joined([str(t) for t in sorted(there)])
        of = Leaves(tuple(probe.wrong))
        yield finding(TURNS_LEFT_OUT, says + ".", "{of}", 2.0, of=of, turns=turns, count=count)


def _of_turns(paths: list[Path], there: set[int], scene: Scene) -> list[np.ndarray]:
    """The gradient with the parts of some turns only, on paths that end in parameters."""
    off = [e for path in paths for t, e in enumerate(path.edges) if t not in there]
    return without(scene, off)
