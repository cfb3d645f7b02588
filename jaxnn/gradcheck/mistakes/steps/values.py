"""Mistakes in the values that a backward pass is made with: they are those of another forward pass."""

from collections.abc import Iterator
from functools import partial
from itertools import product
from typing import NamedTuple

import numpy as np
from jax.extend.core import Literal

from jaxnn.gradcheck.mistakes.finding import Finding, Mistake, Step, Value, finding, holds
from jaxnn.gradcheck.mistakes.steps.moves import in_another_order, repeated
from jaxnn.gradcheck.tape.forward import gradient_of, replayed
from jaxnn.gradcheck.tape.paths import Path, along, reaching, smallest
from jaxnn.gradcheck.tape.scene import Scene, fits
from jaxnn.gradcheck.tape.tape import Node

SMALL = 1e-2  # the largest number that is taken for an ε

EPSILON = Mistake(
    "epsilon-left-out", "the ε of a logarithm, a root or a quotient is left out",
    "J = −log(Ŷ + ε), so dŶ = −1/(Ŷ + ε)", "dZ2 = (A2 - Y) / N  # of J = -np.log(A2 + 1e-7)", "beside an ε",
)  # fmt: skip
STEP_LEFT_OUT = Mistake(
    "step-left-out", "it is the gradient of a loss without one of its steps",
    "the backward pass is that of the forward pass, with every step of it",
    "dZ1 = dA1 * (1 - np.tanh(Z1)**2)  # of A1 = np.tanh(Z1 / 2)", "any step",
)  # fmt: skip
OTHER_GROUPS = Mistake(
    "statistics-exchanged", "the mean or the scale of another group is taken",
    "dγ_c = Σ dA_c ⊙ (Z_c − μ_k) / σ_k, k = ⌊c/m⌋ the group of c", "k = np.arange(C) % groups  # for // m",
    "beside values that are repeated",
)  # fmt: skip
OF_VALUES = (EPSILON, STEP_LEFT_OUT, OTHER_GROUPS)


class Skipped(NamedTuple):
    """A step, and what stands in the place of what it makes: one of its inputs."""

    place: int
    output: int
    input: int


def _skippable(scene: Scene) -> list[Skipped]:
    """The steps whose output has the shape of an input; one that only converts or renames is none."""
    tape = scene.point.tape
    return [
        Skipped(place, node.outputs[0], i)
        for place, node in enumerate(tape.nodes)
        if len(node.outputs) == 1 and node.outputs[0] in tape.active
        for i in dict.fromkeys(node.reads)
        if tape.shapes[i] == tape.shapes[node.outputs[0]]
    ]


def _without(skipped: Skipped, scene: Scene) -> list[np.ndarray] | None:
    """The gradient where a step hands on what it reads, both ways."""
    place, out, value = skipped
    if scene.point.values[value].shape != scene.point.values[out].shape:
        return None
    change = replayed(scene, {out: scene.point.values[value]})
    edges = scene.point.tape.edges(scene.point.tape.nodes[place])
    gains = change.gains | {(place, k): 0.0 for k, i in edges if i != value}
    moved = {(place, k): lambda seen: seen[out] for k, i in edges if i == value}
    scene.work.spend(scene.point.programs.work)
    return scene.point.programs.pull(change._replace(gains=gains, moved=moved))[0]


def of_other_values(scenes: list[Scene]) -> Iterator[Finding]:
    """The right gradient of a loss without one of its steps, or with repeated values in another order."""
    probe = smallest(scenes)
    if probe is None:
        return
    for skipped in _skippable(probe):
        if fits(probe, _without(skipped, probe) or []) and holds(scenes, partial(_without, skipped)):
            yield _left_out(probe, skipped)
            return
    yield from _of_other_groups(scenes, probe)


def _left_out(probe: Scene, skipped: Skipped) -> Finding:
    step, node = Step((skipped.place,)), probe.point.tape.nodes[skipped.place]
    numbers = _numbers(node, probe)
    if len(numbers) == 1 and abs(numbers[0]) <= SMALL and node.name in {"add", "sub", "max", "clamp"}:
        says, parts = "The ε = {e} in {step} is left out.", {"e": f"{numbers[0]:.3g}"}
        return finding(EPSILON, says, "{step}", 1.0, True, probe, step=step, **parts)
    says = "It is the gradient of a loss without {step}: there, {value} stands in the place of its result."
    return finding(STEP_LEFT_OUT, says, "{step}", 2.2, True, probe, step=step, value=Value((skipped.input,)))


def _numbers(node: Node, scene: Scene) -> list[float]:
    """The numbers among the inputs of a step."""
    inputs = [i.val if isinstance(i, Literal) else scene.point.values[i] for i in node.inputs]
    return [float(x) for x in inputs if np.size(x) == 1 and np.shape(x) == ()]


def _of_other_groups(scenes: list[Scene], probe: Scene) -> Iterator[Finding]:
    """Repeated values in another order: everywhere, or on one path."""
    paths = [None, *(path for path, _ in reaching(probe))]
    for blocks in repeated(probe):
        for key, path in product(in_another_order(probe, blocks), paths):
            predict = partial(_of_groups, blocks, key, path)
            if fits(probe, predict(probe) or []) and holds(scenes, predict):
                says = "{value}: it is repeated in other groups than in the loss."
                value = tuple(Value((block.source,)) for block in blocks)
                where = "{value}" if path is None else "{step}"
                parts = {} if path is None else {"step": Step(path.places)}
                yield finding(OTHER_GROUPS, says, where, 1.5, True, probe, value=value, **parts)
                return


def _of_groups(blocks, key: tuple, path: Path | None, scene: Scene) -> list[np.ndarray] | None:
    new = in_another_order(scene, blocks).get(key)
    if new is None:
        return None
    if path is None:
        return gradient_of(scene, new)
    change = replayed(scene, new)
    factors, operands = (
        {e: x for e, x in changed.items() if e[0] in path.places}
        for changed in (change.factors, change.operands)
    )
    return along(path, scene, factors=factors, operands=operands)
