"""Mistakes in the values that a backward pass is made with: they are those of another forward pass."""

from collections.abc import Iterator
from functools import partial
from itertools import product
from typing import NamedTuple

import numpy as np
from jax.extend.core import Literal

from jaxnn.gradcheck.mistakes.finding import Finding, Mistake, Step, Value, finding, holds
from jaxnn.gradcheck.mistakes.steps.blocks import in_another_order, repeated
from jaxnn.gradcheck.mistakes.steps.guesses import Guess, first_that_holds, guess
from jaxnn.gradcheck.report.words import spoken
from jaxnn.gradcheck.tape.forward import gradient_of, replayed
from jaxnn.gradcheck.tape.paths import Path, ends_of, reaching, smallest
from jaxnn.gradcheck.tape.scene import Scene, fits, gradient_with, pulled
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
UNBIASED = Mistake(
    "unbiased-variance", "a variance is divided by N − 1 where the loss divides by N",
    "σ² = (1/N) Σᵢ (Zᵢ − μ)², the same on the way there and on the way back",
    "var = Z.var(axis=0, ddof=1)  # of a loss with Z.var(axis=0)", "a norm, a variance",
)  # fmt: skip
OF_VALUES = (EPSILON, STEP_LEFT_OUT, OTHER_GROUPS, UNBIASED)


class Skipped(NamedTuple):
    """A step, and what stands in the place of what it makes: one of its inputs."""

    place: int
    output: int
    input: int


def _skippable(scene: Scene) -> list[tuple[Skipped, ...]]:
    """The steps whose output has the shape of an input, one by one; and all together that add an ε."""
    tape = scene.point.tape
    each = [
        Skipped(place, node.outputs[0], i)
        for place, node in enumerate(tape.nodes)
        if len(node.outputs) == 1 and node.outputs[0] in tape.active
        for i in dict.fromkeys(node.reads)
        if tape.shapes[i] == tape.shapes[node.outputs[0]]
    ]
    small = tuple(one for one in each if _epsilon(scene, one) is not None)
    spots: dict[tuple, list[Skipped]] = {}
    for one in each:
        node = tape.nodes[one.place]
        spots.setdefault((node.name, node.line, node.spot, node.inputs.index(one.input)), []).append(one)
    return [tuple(same) for same in spots.values()] + [small] * (len(small) > 1)


def _epsilon(scene: Scene, skipped: Skipped) -> float | None:
    """The small number that a step adds, if it does."""
    node = scene.point.tape.nodes[skipped.place]
    inputs = [i.val if isinstance(i, Literal) else scene.point.values[i] for i in node.inputs]
    numbers = [float(x) for x in inputs if np.shape(x) == () and 0 < abs(x) <= SMALL]
    return numbers[0] if numbers and node.name in {"add", "sub", "max", "clamp"} else None


def _without(
    skipped: tuple[Skipped, ...], both: bool, end: int | None, scene: Scene
) -> list[np.ndarray] | None:
    """The gradient where steps hand on what they read; both: on the way back too; end: the rest is right."""
    values, nodes = scene.point.values, scene.point.tape.nodes
    if any(values[one.input].shape != values[one.output].shape for one in skipped):
        return None
    change = replayed(scene, {one.output: values[one.input] for one in skipped}, end)
    gains, moved = dict(change.gains), {}
    for place, out, value in skipped if both else ():
        edges = scene.point.tape.edges(nodes[place])
        gains |= {(place, k): 0.0 for k, i in edges if i != value}
        moved |= {(place, k): lambda seen, out=out: seen[out] for k, i in edges if i == value}
    return pulled(scene, change._replace(gains=gains, moved=moved)).gradient


def of_other_values(scenes: list[Scene]) -> Iterator[Finding]:
    """The right gradient of a loss without one of its steps, or with repeated values in another order."""
    probe = smallest(scenes)
    if probe is None:
        return
    for skipped, both in product(_skippable(probe), (True, False)):
        if holds(scenes, partial(_without, skipped, both, None)) and not _is_a_path(probe, skipped):
            yield _left_out(probe, skipped, both)
            return
    for search in (_of_counts, _of_other_groups):
        yield from search(scenes)


def on_the_way_back(scenes: list[Scene]) -> Iterator[Finding]:
    """The same of a loss whose own values are right, from a step above on."""
    probe = smallest(scenes)
    if probe is None:
        return
    yield from _of_counts_on_the_way_back(scenes)
    tape = probe.point.tape
    for skipped in _skippable(probe):
        if any(i != one.input for one in skipped for _, i in tape.edges(tape.nodes[one.place])):
            continue  # it depends on something else too
        for end, both in product(ends_of(probe, skipped[0].output), (True, False)):
            if holds(scenes, partial(_without, skipped, both, end)) and not _is_a_path(probe, skipped):
                yield _left_out(probe, skipped, both)
                return


def _is_a_path(probe: Scene, skipped: tuple[Skipped, ...]) -> bool:
    """Whether it is no more than not to differentiate what a step is handed besides."""
    nodes = probe.point.tape.nodes
    others = {
        (p, k): 0.0 for p, _, value in skipped for k, i in probe.point.tape.edges(nodes[p]) if i != value
    }
    guess = gradient_with(probe, gains=others) if others else probe.reference
    return fits(probe, guess)


def _left_out(probe: Scene, skipped: tuple[Skipped, ...], both: bool) -> Finding:
    at, value = Step((skipped[0].place,)), Value((skipped[0].input,))
    epsilons = [e for one in skipped if (e := _epsilon(probe, one)) is not None]
    if len(epsilons) == len(skipped):
        steps = tuple(Step((one.place,)) for one in skipped)
        says, parts = "The ε = {e} in {step} is left out.", {"e": f"{epsilons[0]:.3g}"}
        return finding(EPSILON, says, "{step}", 1.0, True, probe, step=steps, **parts)
    node = probe.point.tape.nodes[skipped[0].place]
    factor = _number(probe, node) if node.name in {"mul", "div"} and len(node.reads) == 1 else None
    says = "It is the gradient of a loss without {step}: there, {value} stands in the place of its result."
    if factor:
        says = "The factor {c} in {step} is left out" + (
            ", on the way back too." if both else " on the way there."
        )
        c = spoken(factor if node.name == "mul" else 1 / factor)
        return finding(STEP_LEFT_OUT, says, "{step}", 2.2, both, probe, step=at, c=c)
    if not both:
        says = "It is made with {value} where the result of {step} belongs."
    rank = 2.2 if both else 2.3
    return finding(STEP_LEFT_OUT, says, "{step}", rank, True, probe, step=at, value=value)


def _number(scene: Scene, node: Node) -> float | None:
    """The one number that a step reads."""
    read = [i.val if isinstance(i, Literal) else scene.point.values[i] for i in node.inputs]
    numbers = [float(x.flat[0]) for x in map(np.asarray, read) if x.size and np.ptp(x) == 0]
    return numbers[0] if len(read) == 2 and len(numbers) == 1 else None


def _unbiased(place: int, both: bool, end: int | None, scene: Scene) -> list[np.ndarray] | None:
    """The gradient where a division by n is one by n − 1; both: on the way back too; end: right again."""
    node = scene.point.tape.nodes[place]
    n, out = _number(scene, node) or 0, node.outputs[0]
    if n < 2 or n % 1:
        return None
    change = replayed(scene, {out: scene.point.values[out] * n / (n - 1)}, end)
    gains = dict.fromkeys([(place, k) for k, _ in scene.point.tape.edges(node)], n / (n - 1))
    return pulled(scene, change._replace(gains=change.gains | gains) if both else change).gradient


def _counts(back: bool, probe: Scene) -> Iterator[Guess]:
    """A mean inside the loss is divided by n − 1."""
    tape = probe.point.tape
    divided = [p for p, n in enumerate(tape.nodes) if n.name == "div" and n.outputs[0] in tape.active]
    tried = [(p, e) for p in divided for e in (ends_of(probe, tape.nodes[p].outputs[0]) if back else [None])]
    for (place, end), both in product(tried, (True, False)):
        how = "" if both else ", but not where it is differentiated"
        how += " on the way back" if back else ""
        says = "{step} divides by n = {n}; the gradient is made with n − 1 (ddof=1)" + how + "."
        parts = {"step": Step((place,)), "n": spoken(_number(probe, tape.nodes[place]) or 0)}
        yield guess(UNBIASED, says, "{step}", 1.5, partial(_unbiased, place, both, end), **parts)


_of_counts, _of_counts_on_the_way_back = (
    first_that_holds(partial(_counts, False)),
    first_that_holds(partial(_counts, True)),
)


@first_that_holds
def _of_other_groups(probe: Scene) -> Iterator[Guess]:
    """Repeated values in another order: everywhere, or on one path."""
    several = repeated(probe)
    paths = [None, *(path for path, _ in reaching(probe))] if several else []
    for blocks in several:
        for key, path in product(in_another_order(probe, blocks), paths):
            says, predict = (
                "{value}: it is repeated in other groups than in the loss.",
                partial(_of_groups, blocks, key, path),
            )
            parts = {"value": tuple(Value((block.source,)) for block in blocks)}
            parts |= {} if path is None else {"step": Step(path.places)}
            yield guess(OTHER_GROUPS, says, "{value}" if path is None else "{step}", 1.5, predict, **parts)


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
    return gradient_with(scene, factors=factors, operands=operands)
