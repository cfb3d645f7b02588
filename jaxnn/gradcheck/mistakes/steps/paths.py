"""Mistakes on one path of the tape, in every turn of its loop.

A step of the backward pass takes what comes back from above, times a local derivative (or with an
operand), and hands it down. So on one edge a mistake leaves it out, counts it otherwise, or puts
another value of the same shape in the place of one of the two.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from jax.extend.core import Literal

from jaxnn.gradcheck.mistakes import derivatives, operands
from jaxnn.gradcheck.mistakes.averages import factor_names, number_words, of_arguments, same, tidy
from jaxnn.gradcheck.mistakes.finding import (
    Cotangent,
    Finding,
    Mistake,
    Part,
    Step,
    Value,
    finding,
    holds,
    place_of,
    ways,
)
from jaxnn.gradcheck.mistakes.steps.turns import (
    CUT,
    EVERY,
    LEFT_OUT,
    STEPS,
    TURNS_LEFT_OUT,
    WRONG_OPERAND,
    Turns,
)
from jaxnn.gradcheck.report.words import spoken
from jaxnn.gradcheck.tape.names import is_hidden
from jaxnn.gradcheck.tape.paths import (
    Path,
    near,
    paths_of,
    reaching,
    rows_like,
    rows_of,
    slopes_above,
    smallest,
    statistic,
    value_below,
)
from jaxnn.gradcheck.tape.quantities import SLOPES
from jaxnn.gradcheck.tape.scene import Scene, fits, gradient_with, without
from jaxnn.gradcheck.tape.tape import Node
from jaxnn.gradcheck.tape.trace import CUSTOM, PRODUCTS
from jaxnn.gradcheck.tolerances import COMPUTED, FITTED

PAIRED = 40  # paths up to which two at a time are tried
OWN_SLOPES = {"tanh": "tanh′", "logistic": "σ′"}
PASSING = {"add", "add_any", "sub", "neg"}
STATISTIC = Mistake(
    "statistic-left-out", "the mean, the variance or the sum by which something is normalised is no constant",
    "Ẑ = (Z − μ)/σ, μ and σ are of Z: dZ = (dẐ − mean(dẐ) − Ẑ ⊙ mean(dẐ ⊙ Ẑ))/σ",
    "dZ = dZhat / sigma  # and nothing of μ and σ", "a norm, a softmax",
)  # fmt: skip
MISCOUNTED = Mistake(
    "path-miscounted", "what comes down one path has another factor", STEPS + ", once",
    "dQ = dS @ K  # of S = Q @ K.T / np.sqrt(d)", "any path",
    (Turns("counts −1 times: its sign is wrong", EVERY, -1.0), Turns("counts 2 times", EVERY, 2.0),
     Turns("counts ½ times", EVERY, 0.5)),
    loose=True,
)  # fmt: skip
WRONG_COTANGENT = Mistake(
    "wrong-cotangent", "what comes back to another value is taken, or it is taken transposed",
    "dx is made of what comes back to that which x goes into",
    "dA = dA @ W  # in a loop, where dA = dZ @ W belongs", "any step", loose=True,
)  # fmt: skip


class Count(NamedTuple):
    """How a path may be counted: on which edges, by which factor at a scene."""

    mistake: Mistake
    says: str
    edges: list[tuple[int, int]]
    alpha: Callable[[Scene], float]
    parts: Mapping[str, Part] = {}
    rank: float = 3


class Other(NamedTuple):
    """Another value of the tape in every turn, and how it is taken: as it is, or as a function of it."""

    numbers: tuple[int, ...]
    mistake: Mistake = WRONG_OPERAND
    says: str = "{value}"
    of: Callable[[np.ndarray], Any] = lambda x: x


def _found(probe: Scene, path: Path, mistake: Mistake, says: str, rank: float, **parts: Part) -> Finding:
    told = {"step": Step(path.places), "down": Cotangent(value_below(probe, path))}
    return finding(mistake, says, "{down}", rank, True, probe, **{**told, **parts})


def scaled(scenes: list[Scene]) -> Iterator[Finding]:
    """One path of the tape is not differentiated, or with another factor."""
    probe = smallest(scenes)
    if probe is None:
        return
    for path, rest in _different(probe):
        for count in _counted(scenes, probe, path, rest):
            if holds(scenes, partial(_with_gain, count.edges, count.alpha)):
                late = 1e-3 * path.places[0] / len(probe.point.tape.nodes)
                rank = (
                    2.1 if count.mistake is LEFT_OUT else 2.2 if "sign" in count.says else count.rank
                ) + late
                yield _of_statistic(_found(probe, path, count.mistake, count.says + ".", rank, **count.parts))
                break  # nothing in every turn is nothing in some of them too


def of_statistics(scenes: list[Scene]) -> Iterator[Finding]:
    """A mean, a variance or a norm is taken for a constant: it may look like much else."""
    probe = smallest(scenes)
    if probe is None:
        return
    for path in paths_of(probe):
        kind = statistic(probe, path.places)
        if kind not in {None, "their sum"} and holds(scenes, partial(_with_gain, path.edges, lambda s: 0.0)):
            says = "the path through {step} is not differentiated."
            yield _of_statistic(_found(probe, path, LEFT_OUT, says, 0.5))
            return


def _of_statistic(one: Finding) -> Finding:
    """The same, where what is left out is the mean, the variance or the sum of a normalisation."""
    steps = [part for part in one.parts.values() if isinstance(part, Step)]
    kinds = [statistic(one.scene, step.places) for step in steps] if one.scene else [None]
    if one.mistake is not LEFT_OUT or None in kinds:
        return one
    what = " and ".join(sorted({str(kind) for kind in kinds}))
    says = f"What is normalised depends on {what} too: {one.says[0].lower()}{one.says[1:]}"
    return one._replace(mistake=STATISTIC, says=says, rank=one.rank - 0.01)


def _different(scene: Scene) -> list[tuple[Path, list[np.ndarray]]]:
    """The paths that lead to what is wrong, those of one step that leave the same but once."""
    out: list[tuple[Path, list[np.ndarray]]] = []
    for path, rest in reaching(scene):
        known = [others for other, others in out if len(path.on) == len(other.on) == 1]
        if not any(all(near(w, o) for w, o in zip(rest, others, strict=True)) for others in known):
            out.append((path, rest))
    return out


def _counted(scenes: list[Scene], probe: Scene, path: Path, rest) -> Iterator[Count]:
    """How a path may be counted."""
    edges, through = path.edges, "the path through {step} "
    if len(edges) > 1:
        every = (LEFT_OUT, MISCOUNTED, *((TURNS_LEFT_OUT,) if probe.structure.turns else ()))
        for mistake, way in ways(every):
            yield Count(mistake, through + way.says, edges[way.on], lambda s, a=way.alpha: a)
        for way in CUT if probe.structure.turns and len(edges) > 3 else ():
            yield Count(TURNS_LEFT_OUT, through + way.says, edges[way.on], lambda s: 0.0)
        return
    alpha = _gain(probe, path)
    predicted = [w + alpha * (r - w) for r, w in zip(probe.reference, rest, strict=True)]
    if abs(alpha - 1) <= COMPUTED or not fits(probe, predicted):
        return
    alphas = [_gain(s, path) for s in scenes]
    gains = lambda s: alphas[place_of(scenes, s)]  # noqa: E731
    if alpha > 0 and (number := number_words(scenes, alphas)):
        yield Count(MISCOUNTED, f"{number.says} on {through.strip()}", edges, gains, number.parts, 2.15)
    elif all(abs(a - alpha) <= FITTED * max(abs(alpha), 1) for a in alphas):
        known = {way.alpha: (mistake, way.says) for mistake, way in ways((LEFT_OUT, MISCOUNTED))}
        mistake, says = known.get(alpha, (MISCOUNTED, "counts {alpha} times"))
        says, power = through + says, probe.point.tape.nodes[path.places[0]].params.get("y")
        if isinstance(power, int) and abs(alpha * power - 1) < FITTED:
            says = f"the factor {power} in the derivative of {{step}} is left out"
        yield Count(mistake, says, edges, lambda s: alpha, {"alpha": spoken(alpha)})
        return
    slopes = [slopes_above(s, path) for s in scenes]
    told = [
        (f"the derivative of {{step}} is {says}", {"step": Step((place,))})
        for place in slopes[0]
        for power, says in ((1, "missing"), (-1, "multiplied in twice"))
        if all(x.get(place) and same(a * x[place] ** power, 1) for a, x in zip(alphas, slopes, strict=True))
    ]
    told = told or [
        (f"in the backward pass {through}{m.says}", m.parts) for m in factor_names(scenes, alphas) if m.sure
    ]
    told = told or [(f"{through}counts {w.says} times", w.parts) for w in of_arguments(scenes, alphas)[:1]]
    for says, parts in told:
        yield Count(MISCOUNTED, says, edges, gains, parts)


def both_ignored(scenes: list[Scene]) -> Iterator[Finding]:
    """Two paths of the tape that are not differentiated, as where a mean and a variance are constants."""
    probe = smallest(scenes)
    if probe is None:
        return
    ends = [path for path, _ in _different(probe)]
    for pair in itertools.combinations(ends, 2) if len(ends) <= PAIRED else ():
        edges = [e for path in pair for e in path.edges]
        if holds(scenes, partial(_with_gain, edges, lambda s: 0.0)):
            says = "Neither the path through {one} nor that through {other} is differentiated."
            one, other = (Step(path.places) for path in pair)
            down = tuple(Cotangent(value_below(probe, path)) for path in pair)
            left_out = finding(LEFT_OUT, says, "{down}", 4, scene=probe, one=one, other=other, down=down)
            yield _of_statistic(left_out)
            return


def _with_gain(edges: list, alpha: Callable[[Scene], float], scene: Scene):
    return gradient_with(scene, gains=dict.fromkeys(edges, alpha(scene)))


def _gain(scene: Scene, path: Path) -> float:
    """α of g = without + α · path."""
    rest = without(scene, path.edges)
    parts = [r - w for r, w in zip(scene.reference, rest, strict=True)]
    size = sum(np.vdot(p, p) for p in parts)
    alpha = sum(np.vdot(p, g - w) for p, g, w in zip(parts, scene.hand, rest, strict=True))
    return tidy(float(alpha / size)) if size else 1.0


def mistaken(scenes: list[Scene]) -> Iterator[Finding]:
    """On one path a local derivative or an operand is another value, or what comes back is another's."""
    probe = smallest(scenes)
    if probe is None:
        return
    rows = rows_of(probe)
    paths = [path for path, _ in reaching(probe)]
    for find in (_other_slopes, _other_operands, _other_cotangents):
        for path in paths:
            found = next(find(scenes, probe, rows, path, probe.point.tape.nodes[path.places[0]]), None)
            if found:
                yield found


def _other_slopes(scenes, probe: Scene, rows, path: Path, node: Node) -> Iterator[Finding]:
    if not node.elementwise:
        return
    olds = [_old(probe, None, e) for e in path.edges]
    if all(old.size < 2 or np.ptp(old) <= COMPUTED * np.abs(old).max() for old in olds):
        return  # a number: counted otherwise, not mistaken
    acts = bool({*OWN_SLOPES, "max", *CUSTOM} & set(node.name.split("+")))
    alone = sum(not isinstance(i, Literal) for i in node.inputs) == 1
    what = "the derivative of {step}" if alone else "the other factor in {step}"
    missing = derivatives.FORGOTTEN if acts else WRONG_OPERAND if alone else derivatives.MULTIPLIER
    twice = derivatives.TWICE if acts else WRONG_OPERAND
    ways = [
        (np.ones_like, missing, what + " is missing."),
        (np.square, twice, what + " is multiplied in twice."),
    ]
    if acts or any(np.unique(old).size > 2 for old in olds):  # no mask, which has a mistake of its own
        inverted = derivatives.INVERTED if acts else WRONG_OPERAND
        ways += [(lambda x: 1 - x, inverted, "one minus " + what + " stands in its place.")]
    for of, mistake, says in ways:
        factors = lambda s, of=of: {e: of(_old(s, None, e)) for e in path.edges}  # noqa: E731
        if holds(scenes, lambda s, f=factors: gradient_with(s, factors=f(s))):
            yield _found(probe, path, mistake, says, 2.5)
    nodes = [probe.point.tape.nodes[p] for p in path.places]
    rest = tuple(n.inputs[1 - path.k] for n in nodes) if len(node.inputs) == 2 else ()
    others = rows_like(probe, rows, olds[0].shape, len(nodes))
    for row in others + [r[k:] + r[:k] for r in others if len(set(r)) > 1 for k in (1, -1)]:
        for other in _slopes(nodes, path, row) if acts else [Other(row)]:
            if _explains(scenes, probe, path, None, other):
                says = other.says + "{turn} stands where " + what + " belongs."
                parts = {"value": Value(row), "turn": _turn(row, rest)}
                yield _found(probe, path, other.mistake, says, 2.6, **parts)


def _slopes(nodes: list[Node], path: Path, row: tuple[int, ...]) -> Iterator[Other]:
    """What may be taken for an activation's local derivative, of one row of values."""
    before = tuple(node.inputs[path.k] for node in nodes)
    after = tuple(node.outputs[0] for node in nodes)
    yield Other(row, derivatives.OUTPUT_FOR if row == after else WRONG_OPERAND)
    for says, f in derivatives.OF_OUTPUT if row == after else ():
        yield Other(row, derivatives.MISREMEMBERED, says.format("{value}"), f)
    elsewhere = derivatives.AT_OUTPUT if row == after else derivatives.ELSEWHERE
    for name, of_z, of_a in SLOPES:
        own, says = name == OWN_SLOPES.get(nodes[0].name), name.rstrip(",")
        if row == before or own:
            at = derivatives.WRONG_SLOPE if row == before else elsewhere
            yield Other(row, at, says + " of {value}", of_z)
        if of_a is not None and (own or row == after):
            at = derivatives.WRONG_SLOPE if row == after else elsewhere
            yield Other(row, at, says + ", written by {value},", of_a)


def _other_operands(scenes, probe: Scene, rows, path: Path, node: Node) -> Iterator[Finding]:
    if node.name not in PRODUCTS:
        return
    tape = probe.point.tape
    side = 1 - path.k
    own = tuple(tape.nodes[p].inputs[side] for p in path.places)
    if isinstance(own[0], Literal):
        return
    shape = tape.shapes[own[0]].shape
    others = [Other(row) for row in rows_like(probe, rows, shape, len(own))]
    if len(shape) == 2:
        turned = [row for row in rows_like(probe, rows, shape[::-1], len(own)) if row != own]
        others += [Other(row, WRONG_OPERAND, "{value} transposed", np.transpose) for row in turned]
    if len(shape) > 1 and shape[-1] == shape[-2]:
        mistake = operands.NOT_TRANSPOSED if own[0] in probe.structure.views else WRONG_OPERAND
        says = "{value} transposed where it should not be, or not where it should"
        others = [Other(own, mistake, says, lambda x: x.swapaxes(-1, -2)), *others]
    if node.name == "conv_general_dilated" and side == 1:
        says, turned = (
            "{value} turned round where it should not be, or not where it should",
            partial(operands.turned_round, node, side),
        )
        others = [Other(own, operands.NOT_TURNED, says, turned), *others]
    if len(own) > 1:
        others += [Other(own[1:] + own[:1]), Other(own[-1:] + own[:-1])]
        others += [Other(own[::-1], WRONG_OPERAND, "{value}, the turns in the opposite order,")]
    for other in others:
        if not _explains(scenes, probe, path, side, other):
            continue
        row, mistake = other.numbers, other.mistake
        ahead = len(own) > 1 and row[:-1] == own[1:]
        if ahead and value_below(probe, path) in probe.structure.views:
            mistake = operands.OWN
        says = "{down} is made with " + other.says + "{turn}"
        if ahead and is_hidden(probe, own) and is_hidden(probe, row):
            says = (
                "{down} is made with {value} after each turn (h_t) in the place of that before it (h_{{t-1}})"
            )
        elif row != own:
            says += " in the place of {was}"
        parts = {"value": Value(row), "was": Value(own), "turn": _turn(row, own)}
        yield _found(probe, path, mistake, says + ".", 2.4, **parts)


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
    taken = [(own, True)] if len(shape) > 1 and shape[-1] == shape[-2] else []
    taken += [
        (row, False)
        for row in rows_like(probe, rows, shape, len(own))
        if row != own
        and all(i in tape.active and maker.get(i, -1) > p for i, p in zip(row, path.places, strict=True))
    ]
    back = probe.point.cotangents
    for row, turned in taken:
        if not back.keys() >= {*row, *own}:
            continue
        pairs = [(back[i], back[o]) for i, o in zip(row, own, strict=True)]
        if all(np.abs(x).max(initial=0) <= COMPUTED * np.abs(y).max(initial=0) for x, y in pairs):
            continue  # nothing but rounding: the path is left out, whatever the reason
        if not turned and all(near(x, y) for x, y in pairs):
            continue
        if holds(scenes, partial(_with_cotangent, path, row, turned)):
            says = "{down} is made of what comes back to {value}, not of what comes back to {was}."
            if turned:
                says = "what comes back to {was} is taken transposed where {down} is made."
            yield _found(probe, path, WRONG_COTANGENT, says, 2.7, value=Value(row), was=Value(own))


def _instead(path: Path, side: int | None, other: Other, scene: Scene) -> dict | None:
    """The value on each edge; None where two sizes are equal at another point only."""
    edges = path.edges if side is None else [(path.places[t], side) for t in path.on]
    with np.errstate(all="ignore"):
        values = [other.of(1.0 * scene.point.values[other.numbers[t]]) for t in path.on]
    alike = all(x.shape == _old(scene, side, e).shape for e, x in zip(edges, values, strict=True))
    return dict(zip(edges, values, strict=True)) if alike else None


def _old(scene: Scene, side: int | None, e: tuple[int, int]) -> np.ndarray:
    change = scene.point.change
    return np.asarray((change.factors if side is None else change.operands)[e])


def _explains(scenes: list[Scene], probe: Scene, path: Path, side: int | None, other: Other) -> bool:
    """Whether a value that is another than what stands there already, and no multiple of it, fits."""
    new = _instead(path, side, other, probe)
    if not new or not any(x.any() for x in new.values()):
        return False  # of zeros: the path is left out, whatever the reason
    x = np.concatenate([x.ravel() for x in new.values()])
    old = np.concatenate([_old(probe, side, e).ravel() for e in new])
    if near(x, old) or derivatives.is_multiple(x, old):
        return False
    return holds(scenes, partial(_with_other, path, side, other))


def _with_other(path: Path, side: int | None, other: Other, scene: Scene):
    """The gradient with a value in the place of a local derivative, or of the operand on that side."""
    new = _instead(path, side, other, scene)
    if new is None:
        return None
    return gradient_with(scene, **{"factors" if side is None else "operands": new})


def _with_cotangent(path: Path, row: tuple[int, ...], turned: bool, scene: Scene):
    back, nodes = scene.point.cotangents, scene.point.tape.nodes
    own = [back[nodes[p].outputs[0]].shape for p in path.places]
    if any(
        (back[i].swapaxes(-1, -2) if turned else back[i]).shape != o for i, o in zip(row, own, strict=True)
    ):
        return None
    return gradient_with(scene, taken={(path.places[t], path.k): (row[t], turned) for t in path.on})


def _turn(row: tuple[int, ...], own: tuple[int, ...]) -> str:
    """Whether it is another turn's."""
    if len(row) < 2 or len(own) != len(row) or row == own:
        return ""
    if row[:-1] == own[1:]:
        return " of the next turn"
    return " of the turn before" if row[1:] == own[:-1] else ""
