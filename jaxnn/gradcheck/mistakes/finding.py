"""What a mistake is, what it is to find one, and the search for one that is made at a step of a layer."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from jaxnn.gradcheck.report.words import joined
from jaxnn.gradcheck.tape.scene import Scene, fits, gradient_with, off_by, telling
from jaxnn.gradcheck.tape.tape import Layer


class Mistake(NamedTuple):
    """A mistake that people make: what it is, the equation it breaks, a line of code that makes it.

    where: where it can be made; ways: each predicts a gradient, in the form that the search of its file
    takes; loose: it says where more than what, or does not give every entry, and so is never sure.
    """

    id: str
    words: str
    equation: str
    example: str
    where: str
    ways: tuple[Any, ...] = ()
    loose: bool = False


class Way(NamedTuple):
    """How a mistake is made: what is said, a function of what its search hands over, and how far-fetched."""

    says: str
    of: Callable
    rank: float = 1


class Leaves(NamedTuple):
    """Parameters, by their numbers."""

    numbers: tuple[int, ...]


class Argument(NamedTuple):
    """A leaf of what goes into the loss, by its number."""

    number: int


class Step(NamedTuple):
    """A step of the tape, by its places: one in every turn of a loop."""

    places: tuple[int, ...]


class Value(NamedTuple):
    """A value of the tape, by its numbers: one in every turn of a loop."""

    numbers: tuple[int, ...]


class Cotangent(NamedTuple):
    """What comes back to a value of the tape."""

    value: int


Part = Leaves | Argument | Step | Value | Cotangent | tuple["Part", ...] | str | float


class Finding(NamedTuple):
    """A mistake that reproduces the candidate, and the parts of what there is to say of it.

    says, where: with {…} where a part is named; rank: the smaller, the simpler; sure: False where it takes
    more than the mistake, such as a size in the code; scene: the one whose tape the parts speak of.
    """

    mistake: Mistake
    says: str
    where: str
    rank: float
    sure: bool
    scene: Scene | None
    parts: Mapping[str, Part]


def finding(
    mistake: Mistake, says: str, where: str, rank: float, sure=True, scene=None, **parts: Part
) -> Finding:
    """A finding of its parts.

    >>> bias = Mistake("no-bias", "db is never computed", "db[l] = dZ[l]ᵀ 1", "db1 = 0 * b1", "db[l]")
    >>> finding(bias, "The gradient of {b} is zero.", "{b}", 0.4, b=Leaves((1,))).parts
    {'b': Leaves(numbers=(1,))}
    """
    return Finding(mistake, says, where, rank, sure, scene, parts)


def holds(scenes: list[Scene], predict: Callable[[Scene], list[np.ndarray] | None]) -> bool:
    """Whether the prediction is the candidate's gradient at all scenes, and not the right one at one."""
    tells = False
    for scene in reversed(scenes):  # the caller's own is first, and the largest
        guess = predict(scene)
        if guess is None or not fits(scene, guess):
            return False
        tells = tells or telling(scene, guess)
    return tells


def ways(mistakes: tuple[Mistake, ...]) -> list[tuple[Mistake, Any]]:
    """Every way in which each can be made."""
    return [(mistake, way) for mistake in mistakes for way in mistake.ways]


def wrong_leaves(scenes: list[Scene]) -> tuple[int, ...]:
    """The parameters whose gradient is wrong at any of the scenes."""
    return tuple(sorted({k for s in scenes for k in s.wrong}))


def off_entries(scene: Scene, k: int) -> np.ndarray:
    """Which entries of a leaf are wrong."""
    return off_by(scene.hand[k], scene.reference[k], scene.bound[k] + scene.rounded[k])


def place_of(scenes: list[Scene], scene: Scene) -> int:
    """Which of the scenes it is."""
    return next(n for n, s in enumerate(scenes) if s is scene)


def parameter_values(scene: Scene) -> list[np.ndarray]:
    """The parameters' own values."""
    return [scene.point.values[p] for p in scene.point.tape.parameters if p in scene.point.tape.active]


def leaf_roles(scene: Scene) -> tuple[set[int], set[int]]:
    """The leaves that are weights of layers, and those that are biases."""
    layers = scene.structure.layers
    return {y.weight for y in layers}, {y.bias for y in layers if y.bias is not None}


OF_PARAMETERS = "that of the terms of parameters alone: the terms with data in them add nothing to it"


def beside(scene: Scene, leaves: Iterable[int]) -> bool:
    """Whether terms of parameters alone, that the scene is without, have a gradient for one of them."""
    if not scene.muted:
        return False
    whole = gradient_with(scene, gains=dict.fromkeys(scene.muted, 1.0))
    return any(np.any(whole[k] != scene.reference[k]) for k in leaves)


def gradient_of(scenes: list[Scene], leaves: Iterable[int]) -> str:
    """What a sentence speaks of that is true of {of} only as far as the scenes go."""
    part = any(beside(s, leaves) for s in scenes)
    return "The data's part of the gradient of {of}" if part else "The gradient of {of}"


class Swap(NamedTuple):
    """A step of a layer done with something else: the change there, or None where it does not apply.

    says: with {l} for the layer, {p} and {n} for those before and after it, {input} for A[l-1]; where: the
    quantity that is wrong; able: in which layers, of how many, it can be; alone: what is said where only
    the layer's own parameters, {of}, are made so, if that can be.
    """

    says: str
    where: str
    change: Callable[[Scene, Layer], dict | None]
    rank: float
    able: Callable[[int, int], bool] = lambda l, L: True
    alone: str = ""


LIKEWISE = (".", " (and likewise in layer {every}).", " (and likewise in layers {every}).")


def exchanged(swaps: Sequence[tuple[Mistake, Swap]], scenes: list[Scene]) -> Iterator[Finding]:
    """One step, in one layer, in all that share a weight or in all, done with something else."""
    layers, wrong = scenes[0].structure.layers, wrong_leaves(scenes)
    for mistake, swap in swaps:
        for group in _groups(layers, [y.number for y in layers if swap.able(y.number, len(layers))]):
            if not _reaches(layers, group, wrong):
                continue
            if holds(scenes, partial(_with_swap, swap, group)):
                if holds(scenes, partial(_with_swap, swap, group, times=0.0)):
                    continue  # what stands there does nothing: a path is left out, whatever the reason
                yield _exchange(scenes[0], mistake, swap, group)
                break
            own = {layers[group[0] - 1].weight, layers[group[0] - 1].bias}
            if not swap.alone or len(group) > 1 or not wrong or not own.issuperset(wrong):
                continue
            own_only = partial(_with_swap, swap, group, only=wrong)
            if holds(scenes, own_only) and not holds(scenes, partial(own_only, times=0.0)):
                yield _exchange(scenes[0], mistake, swap, group, wrong)
                break


def _exchange(scene: Scene, mistake: Mistake, swap: Swap, group: tuple[int, ...], only: tuple[int, ...] = ()):
    """What there is to say of it: of the layers of a group in which it changes something."""
    layers = scene.structure.layers
    with np.errstate(all="ignore"):
        *others, n = (n for n in group if swap.change(scene, layers[n - 1]))
    return finding(
        mistake,
        swap.alone if only else swap.says + LIKEWISE[min(len(others), 2)],
        "{of}" if only else swap.where,
        swap.rank + 0.01 * bool(others),
        l=n, p=n - 1, n=n + 1, input=f"A[{n - 1}]" if n > 1 else "X",
        every=joined([str(k) for k in others]) if others else "",
        of=Leaves(only or (layers[n - 1].weight,)),
    )  # fmt: skip


def _with_swap(
    swap: Swap, group: tuple[int, ...], scene: Scene, only: tuple[int, ...] | None = None, times: float = 1.0
):
    """The gradient with the step exchanged in a group of layers; None where that cannot be.

    only: the parameters whose gradient is made so, if it is not that of all; times: what is exchanged.
    """
    with np.errstate(all="ignore"):
        changes = [swap.change(scene, scene.structure.layers[n - 1]) for n in group]
    parts: dict[str, dict] = {}
    for change in changes:
        for kind, exchanges in (change or {}).items():
            exchanges = exchanges if times == 1 else {key: times * x for key, x in exchanges.items()}
            parts.setdefault(kind, {}).update(exchanges)
    if not parts:
        return None
    gradient = gradient_with(scene, **parts)
    if only is None:
        return gradient
    return [g if k in only else r for k, (g, r) in enumerate(zip(gradient, scene.reference, strict=True))]


def _groups(layers: tuple[Layer, ...], able: list[int]) -> list[tuple[int, ...]]:
    """Which layers a mistake is made in: one, all that share a weight (a loop's turns), or all."""
    shared: dict[int, list[int]] = {}
    for n in able:
        shared.setdefault(layers[n - 1].weight, []).append(n)
    groups = [tuple(g) for g in shared.values()]
    if len(able) <= 6:
        groups += [(n,) for n in able]
    groups += [tuple(able), tuple(n for n in able if n < len(layers))]
    return [g for g in dict.fromkeys(groups) if g]


def _reaches(layers: tuple[Layer, ...], group: tuple[int, ...], wrong: tuple[int, ...]) -> bool:
    """Nothing above the highest changed layer may be wrong, for a chain of layers."""
    above = {k for y in layers[max(group) :] for k in (y.weight, y.bias)}
    return not above & set(wrong) or len({y.weight for y in layers}) < len(layers)


# what no gradient alone shows: several calls do, or a rule's own probes, or nothing does
ACCUMULATED = Mistake(
    "accumulated", "it adds to what earlier calls left",
    "dW is of this call alone: nothing is kept between two calls",
    "self.dW1 += dZ1.T @ X  # and self.dW1 is never set to zero", "any parameter",
)  # fmt: skip
STALE = Mistake(
    "stale", "it uses values of the call before", "dW is taken at the W and X of this call",
    "dW1 = dZ1.T @ self.cache['X']  # cached by an earlier call", "anywhere",
)  # fmt: skip
RESAMPLED = Mistake(
    "mask-resampled", "dropout's mask is drawn again on the way back",
    "A = M ⊙ g(Z), so dZ = dA ⊙ M ⊙ g′(Z) with the M of the forward pass",
    "dA1 = dA1 * (np.random.rand(*A1.shape) < keep) / keep", "a layer with dropout",
)  # fmt: skip
NONLINEAR = Mistake(
    "cotangent-not-linear", "a rule clips its cotangent, or squares it", "vjp(c) is linear in c",
    "def backward(kept, c): return (np.clip(c, -1, 1) * kept,)", "a rule for derivatives",
)  # fmt: skip
UNKNOWN = Mistake(
    "unknown", "none of these: the place is told, no mistake of this list gives the candidate's numbers",
    "dZ[l] = dA[l] ⊙ g′(Z[l]); dW[l] = dZ[l]ᵀ A[l-1]; db[l] = dZ[l]ᵀ 1; dA[l-1] = dZ[l] W[l]", "", "anywhere",
)  # fmt: skip
UNPLACED = UNKNOWN._replace(equation="")  # in no quantity that those equations have
UNPREDICTED = (ACCUMULATED, STALE, RESAMPLED, NONLINEAR, UNKNOWN)
