"""Mistakes in a step of the backward pass: another operand, another local derivative."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np

from jaxnn.gradcheck.mistakes.finding import Finding, holds
from jaxnn.gradcheck.report.words import joined
from jaxnn.gradcheck.tape.quantities import SLOPES, a_of, layer_at, oriented, z_of
from jaxnn.gradcheck.tape.scene import Scene, activation_edge, derivative, gradient_with, slope_at
from jaxnn.gradcheck.tape.tape import Layer


class Swap(NamedTuple):
    """A step done with something else: the change for one layer, or None where it does not apply."""

    id: str
    sentence: str  # with {l} for the layer, {p} for the one before
    change: Callable[[Scene, Layer], dict | None]
    rank: float
    lowest: int = 1  # first layer at which it makes sense
    output: bool = True  # whether it can be at the output layer
    hidden: bool = True


def _factor(f: Callable[[Scene, Layer], np.ndarray | None], ones: bool = False) -> Callable:
    """The local derivative of the layer's activation exchanged for f."""

    def change(scene, layer):
        where = activation_edge(scene, layer)
        if where is None:
            return None
        new = f(scene, layer)
        old = derivative(scene, layer)
        if new is None or np.shape(new) != old.shape or (np.all(new == 1) and not ones):
            return None
        opposite = slope_at(scene, layer, -z_of(scene, layer))
        if opposite is not None and np.ptp(old) == 0 and np.array_equal(opposite, old):
            return None  # a number that Z is multiplied by, no activation function
        if not ones and old.any() and _is_multiple(new, old):
            return None  # a constant of the activation is forgotten: another mistake
        return {"factors": {where: new}}

    return change


def _is_multiple(x: np.ndarray, y: np.ndarray) -> bool:
    """x = c y, and x takes several values."""
    alpha = np.vdot(y, x) / np.vdot(y, y)
    return bool(np.ptp(y) > 0 and np.allclose(x, alpha * y, rtol=1e-9, atol=0))


def _slope_at(offset: int) -> Callable:
    def f(scene, layer):
        other = layer_at(scene, layer.number + offset)
        return None if other is None else slope_at(scene, layer, z_of(scene, other))

    return f


def _slope_of(offset: int) -> Callable:
    """g′(Z) as the other layer has it, whose g may be another."""

    def f(scene, layer):
        other = layer_at(scene, layer.number + offset)
        return None if other is None or other.activation is None else derivative(scene, other)

    return f


def _operand(side_of: Callable[[Layer], int], f: Callable[[Scene, Layer, np.ndarray], np.ndarray | None]):
    """An operand of the layer's product exchanged, in the backward pass only."""

    def change(scene, layer):
        node = scene.point.tape.nodes[layer.place]
        side = side_of(layer)
        if node.name != "dot_general":
            return None
        old = scene.point.values[node.inputs[side]]
        new = f(scene, layer, old)
        if new is None or np.shape(new) != old.shape or np.array_equal(new, old):
            return None
        return {"operands": {(layer.place, side): new}}

    return change


def _before(f):
    return _operand(lambda y: y.input_side, f)


def _weights(f):
    return _operand(lambda y: 1 - y.input_side, f)


def _turned(scene: Scene, layer: Layer) -> dict | None:
    """A convolution's kernel turned round along its spatial axes, on the way down only."""
    node = scene.point.tape.nodes[layer.place]
    side = 1 - layer.input_side
    if node.name != "conv_general_dilated" or side != 1:
        return None
    old = scene.point.values[node.inputs[side]]
    new = np.flip(old, node.params["dimension_numbers"].rhs_spec[2:])
    return None if np.array_equal(new, old) else {"operands": {(layer.place, side): new}}


def _if_any(x: np.ndarray) -> np.ndarray | None:
    """None for an operand of zeros only: then the path is missing, whatever the reason."""
    return x if x.any() else None


def _other_weights(offset: int, turned: bool = False):
    def f(scene, layer, old):
        other = layer_at(scene, layer.number + offset)
        if other is None:
            return None
        value = scene.point.values[scene.point.tape.parameters[other.weight]]
        return oriented(scene, layer, value.T if turned else value, old)

    return _weights(f)


def _weight_gradient(of: Callable[[Scene], list]) -> Callable:
    return _weights(lambda s, y, old: oriented(s, y, of(s)[y.weight], old))


OTHER_SLOPES: tuple[tuple[str, Callable], ...] = (
    ("1 − A[{l}]", lambda s, y: 1 - a_of(s, y)),
    ("A[{l}]²", lambda s, y: a_of(s, y) ** 2),
    ("1 + A[{l}]²", lambda s, y: 1 + a_of(s, y) ** 2),
    ("A[{l}] (1 + A[{l}])", lambda s, y: a_of(s, y) * (1 + a_of(s, y))),
    ("1 − Z[{l}]²", lambda s, y: 1 - z_of(s, y) ** 2),
    ("Z[{l}] (1 − Z[{l}])", lambda s, y: z_of(s, y) * (1 - z_of(s, y))),
    ("Z[{l}]", z_of),
    ("1/g′(Z[{l}])", lambda s, y: 1 / derivative(s, y)),
    ("1 − g′(Z[{l}])", lambda s, y: 1 - derivative(s, y)),
    ("g′(Z[{l}])³", lambda s, y: derivative(s, y) ** 3),
    ("√g′(Z[{l}])", lambda s, y: np.sqrt(derivative(s, y))),
    ("g′(−Z[{l}])", lambda s, y: slope_at(s, y, -z_of(s, y))),
    ("g′(dA[{l}]), by the gradient's own sign,", lambda s, y: slope_at(s, y, s.point.cotangents[y.a])),
    ("g(−Z[{l}]) = 1 − relu′(Z[{l}])", lambda s, y: (z_of(s, y) <= 0) * 1.0),
    ("A[{l}] g′(Z[{l}])", lambda s, y: a_of(s, y) * derivative(s, y)),
    ("Z[{l}] g′(Z[{l}])", lambda s, y: z_of(s, y) * derivative(s, y)),
    (
        "the mean of g′ over the examples",
        lambda s, y: np.broadcast_to(derivative(s, y).mean(0), z_of(s, y).shape),
    ),
    (
        "the mean of g′ over the neurons",
        lambda s, y: np.broadcast_to(derivative(s, y).mean(-1, keepdims=True), z_of(s, y).shape),
    ),
    ("the first example's g′", lambda s, y: np.broadcast_to(derivative(s, y)[:1], z_of(s, y).shape)),
    ("g′ of the product without the bias", lambda s, y: slope_at(s, y, s.point.values[y.product])),
)

OTHER_INPUTS: tuple[tuple[str, Callable], ...] = (
    ("its own Z[{l}]", lambda s, y, old: z_of(s, y)),
    ("A[{p}]²", lambda s, y, old: old**2),
    (
        "g′(Z[{p}])",
        lambda s, y, old: (
            derivative(s, p) if (p := layer_at(s, y.number - 1)) and p.activation is not None else None
        ),
    ),
    ("the mean of A[{p}] over the examples", lambda s, y, old: np.broadcast_to(old.mean(0), old.shape)),
    ("A[{p}] less its mean", lambda s, y, old: old - old.mean(0)),
    ("A[{p}] shifted by one example", lambda s, y, old: np.roll(old, 1, 0)),
    ("A[{p}] shifted by one example", lambda s, y, old: np.roll(old, -1, 0)),
    ("A[{p}] with its examples reversed", lambda s, y, old: old[::-1]),
    ("1 − A[{p}]", lambda s, y, old: 1 - old),
    ("|A[{p}]|", lambda s, y, old: np.abs(old)),
    ("sign A[{p}]", lambda s, y, old: np.sign(old)),
    (
        "the layer before's own input",
        lambda s, y, old: s.point.values[p.before] if (p := layer_at(s, y.number - 1)) else None,
    ),
    ("A[{n}]", lambda s, y, old: a_of(s, n) if (n := layer_at(s, y.number + 1)) else None),
)

OTHER_WEIGHTS: tuple[tuple[str, Callable], ...] = (
    ("ones", lambda s, y, old: np.ones_like(old)),
    ("|W[{l}]|", lambda s, y, old: np.abs(old)),
    ("sign W[{l}]", lambda s, y, old: np.sign(old)),
    ("W[{l}]²", lambda s, y, old: old**2),
    ("the rows of W[{l}] reversed", lambda s, y, old: old[::-1]),
    ("the columns of W[{l}] reversed", lambda s, y, old: old[:, ::-1]),
    ("the rows of W[{l}] shifted by one", lambda s, y, old: np.roll(old, 1, 0)),
    ("the columns of W[{l}] shifted by one", lambda s, y, old: np.roll(old, 1, 1)),
    ("the rows of W[{l}] shifted by one", lambda s, y, old: np.roll(old, -1, 0)),
    ("the columns of W[{l}] shifted by one", lambda s, y, old: np.roll(old, -1, 1)),
    ("W[{l}] reshaped", lambda s, y, old: old.T.reshape(old.shape)),
    ("W[{l}] reshaped", lambda s, y, old: old.reshape(old.shape[::-1]).T),
)

SWAPS: tuple[Swap, ...] = (
    Swap("missing-activation-derivative", "g′(Z[{l}]) is missing from dZ[{l}] = dA[{l}] ⊙ g′(Z[{l}])",
         _factor(lambda s, y: np.ones_like(z_of(s, y)), True), 0.5, output=False),
    Swap("missing-output-derivative",
         "dJ/dŶ is used as dZ[{l}]: the derivative of the output's activation is missing",
         _factor(lambda s, y: np.ones_like(z_of(s, y)), True), 0.5, hidden=False),
    Swap("derivative-at-output", "g′ is taken at A[{l}] instead of Z[{l}]",
         _factor(lambda s, y: slope_at(s, y, a_of(s, y))), 0.6),
    Swap("output-for-derivative", "A[{l}] stands where g′(Z[{l}]) belongs", _factor(a_of), 0.6),
    Swap("derivative-twice", "g′(Z[{l}]) is multiplied in twice",
         _factor(lambda s, y: derivative(s, y) ** 2), 0.6, output=False),
    Swap("extra-output-derivative", "the output's derivative is multiplied in once more",
         _factor(lambda s, y: derivative(s, y) ** 2), 0.6, hidden=False),
    Swap("derivative-at-wrong-layer", "g′ is taken at Z[{p}] instead of Z[{l}]", _factor(_slope_at(-1)),
         0.7, lowest=2),
    Swap("derivative-at-wrong-layer", "g′ is taken at Z[{n}] instead of Z[{l}]", _factor(_slope_at(1)), 0.7),
    Swap("derivative-at-wrong-layer", "the derivative of layer {p} is used in layer {l}",
         _factor(_slope_of(-1)), 0.75, lowest=2),
    Swap("derivative-at-wrong-layer", "the derivative of layer {n} is used in layer {l}",
         _factor(_slope_of(1)), 0.75),
    Swap("wrong-activation-derivative",
         "A[{l}]/Z[{l}] stands where g′(Z[{l}]) belongs: one factor of a product is not differentiated",
         _factor(lambda s, y: a_of(s, y) / z_of(s, y)), 0.78),
    Swap("wrong-activation-derivative",
         "A[{l}]/Z[{l}] is left out of g′(Z[{l}]): one factor of a product is not differentiated",
         _factor(lambda s, y: derivative(s, y) - a_of(s, y) / z_of(s, y)), 0.79),
    *(
        Swap("wrong-activation-derivative", name + " stands where the derivative of layer {l} belongs",
             _factor(lambda s, y, f=f: f(z_of(s, y))), 0.8)
        for name, f, _ in SLOPES
    ),
    *(
        Swap("wrong-activation-derivative",
             name + " (written by A) stands where the derivative of layer {l} belongs",
             _factor(lambda s, y, f=f: f(a_of(s, y))), 0.85)
        for name, _, f in SLOPES if f is not None
    ),
    *(
        Swap("unknown", words + " stands where g′(Z[{l}]) belongs", _factor(f), 2.0)
        for words, f in OTHER_SLOPES
    ),
    Swap("own-activation", "dW[{l}] is made with A[{l}] instead of A[{p}]",
         _before(lambda s, y, old: a_of(s, y)), 0.6),
    Swap("own-activation", "dW[{l}] is made with A[{l}] instead of A[{p}]",
         _before(lambda s, y, old: s.point.values[n.before] if (n := layer_at(s, y.number + 1)) else None),
         0.65),  # as the next layer reads it: with its mask
    Swap("pre-activation", "dW[{l}] is made with Z[{p}] instead of A[{p}]",
         _before(lambda s, y, old: z_of(s, p) if (p := layer_at(s, y.number - 1)) else None), 0.6, lowest=2),
    Swap("input-for-activation", "dW[{l}] is made with X instead of A[{p}]",
         _before(lambda s, y, old: s.point.values[s.structure.layers[0].before]), 0.6, lowest=2),
    Swap("truncated-inputs", "dW[{l}] is made with the integer part of its input",
         _before(lambda s, y, old: _if_any(np.trunc(old))), 0.7),
    Swap("truncated-inputs", "dW[{l}] is made with the rounded input",
         _before(lambda s, y, old: _if_any(np.floor(old))), 0.8),
    *(
        Swap("unknown", "dW[{l}] is made with " + words + " instead of A[{p}]", _before(f), 2.0)
        for words, f in OTHER_INPUTS
    ),
    Swap("weights-not-transposed", "dA[{p}] = dZ[{l}] W[{l}] is made with W[{l}]ᵀ",
         _weights(lambda s, y, old: old.T), 0.5, lowest=2),
    Swap("wrong-layer-weights", "dA[{p}] is made with W[{p}] instead of W[{l}]", _other_weights(-1), 0.6,
         lowest=2),
    Swap("wrong-layer-weights", "dA[{p}] is made with W[{n}] instead of W[{l}]", _other_weights(1), 0.6,
         lowest=2),
    Swap("wrong-layer-weights", "dA[{p}] is made with W[{p}]ᵀ instead of W[{l}]", _other_weights(-1, True),
         0.65, lowest=2),
    Swap("wrong-layer-weights", "dA[{p}] is made with W[{n}]ᵀ instead of W[{l}]", _other_weights(1, True),
         0.65, lowest=2),
    Swap("gradient-for-weights", "dA[{p}] is made with dW[{l}] instead of W[{l}]",
         _weight_gradient(lambda s: s.reference), 0.6, lowest=2),
    Swap("gradient-for-weights", "dA[{p}] is made with dW[{l}] instead of W[{l}]",
         _weight_gradient(lambda s: s.hand), 0.7, lowest=2),
    *(
        Swap("unknown", "dA[{p}] is made with " + words + " instead of W[{l}]", _weights(f), 2.0, lowest=2)
        for words, f in OTHER_WEIGHTS
    ),
    Swap("unknown",
         "dA[{p}] is made with the kernel of layer {l} turned round: flipped where it should not be, or not "
         "where it should",
         _turned, 2.0, lowest=2),
)  # fmt: skip


def _merge(changes: list[dict]) -> dict:
    out: dict = {}
    for change in changes:
        for field, parts in change.items():
            out.setdefault(field, {}).update(parts)
    return out


def exchanged(scenes: list[Scene]) -> Iterator[Finding]:
    """One step, in one layer or in all, done with something else."""
    layers = scenes[0].structure.layers
    wrong = {k for s in scenes for k in s.wrong}
    for swap in SWAPS:
        last = len(layers)
        able = [
            y.number
            for y in layers
            if y.number >= swap.lowest
            and (swap.output or y.number < last)
            and (swap.hidden or y.number == last)
        ]
        for group in _groups(layers, able, swap):
            if not _reaches(scenes[0], group, wrong):
                continue

            if holds(scenes, partial(_with_swap, swap, group)):
                yield _told(scenes[0], swap, group)
                break
            if _within(layers, group, wrong, swap) and holds(
                scenes, partial(_with_swap, swap, group, only=wrong)
            ):
                told = _told(scenes[0], swap, group)
                where = joined([scenes[0].structure.names[k] for k in sorted(wrong)])
                sentence = f"{told.sentence[:-1]}, in the gradient of {where} only."
                if swap.id == "missing-activation-derivative":
                    n = group[0]
                    sentence = (
                        f"The gradient of {where} is made of dA[{n}], not of dZ[{n}] = dA[{n}] ⊙ g′(Z[{n}])."
                    )
                yield told._replace(sentence=sentence, where=where)
                break


def _within(layers: tuple[Layer, ...], group: tuple[int, ...], wrong: set[int], swap: Swap) -> bool:
    """Whether one layer's own parameters are all that is wrong, of a step that others depend on."""
    if len(group) != 1 or swap.sentence.startswith(("dW", "dA")):
        return False
    layer = layers[group[0] - 1]
    return bool(wrong) and wrong <= {layer.weight, layer.bias}


def _with_swap(swap: Swap, group: tuple[int, ...], scene: Scene, only: set[int] | None = None):
    """The gradient with the step exchanged in a group of layers; None where that cannot be.

    `only`: the parameters whose gradient is made so, if it is not that of all.
    """
    with np.errstate(all="ignore"):
        parts = [swap.change(scene, scene.structure.layers[n - 1]) for n in group]
    if all(p is None for p in parts):
        return None
    gradient = gradient_with(scene, **_merge([p for p in parts if p]))
    if only is None:
        return gradient
    return [g if k in only else r for k, (g, r) in enumerate(zip(gradient, scene.reference, strict=True))]


def _groups(layers: tuple[Layer, ...], able: list[int], swap: Swap) -> list[tuple[int, ...]]:
    """Which layers a mistake is made in: one, all that share a weight (a loop's turns), or all."""
    shared: dict[int, list[int]] = {}
    for n in able:
        shared.setdefault(layers[n - 1].weight, []).append(n)
    groups = [tuple(g) for g in shared.values()]
    if len(able) <= 6:
        groups += [(n,) for n in able]
    groups.append(tuple(able))
    if swap.output:
        groups.append(tuple(n for n in able if n < len(layers)))
    return [g for g in dict.fromkeys(groups) if g]


def _reaches(scene: Scene, group: tuple[int, ...], wrong: set[int]) -> bool:
    """Nothing above the highest changed layer may be wrong, for a chain of layers."""
    layers = scene.structure.layers
    above = {k for y in layers[max(group, default=0) :] for k in (y.weight, y.bias)}
    return (bool(group) and not (above & wrong)) or len({y.weight for y in layers}) < len(layers)


def _told(scene: Scene, swap: Swap, group: tuple[int, ...]) -> Finding:
    n = group[-1]
    words = {"l": n, "p": n - 1, "n": n + 1}
    sentence = swap.sentence.format(**words).replace("A[0]", "X")
    layers = "layer" if len(group) == 2 else "layers"
    every = f" (and likewise in {layers} {joined([str(g) for g in group[:-1]])})" if len(group) > 1 else ""
    layer = scene.structure.layers[n - 1]
    quantity = (
        f"dW[{n}]"
        if swap.sentence.startswith("dW")
        else f"dA[{n - 1}]"
        if swap.sentence.startswith("dA")
        else f"dZ[{n}]"
    )
    names = scene.structure.names
    of = names[layer.weight] if quantity.startswith("dW") else f"layer {n}"
    return Finding(swap.id, f"{sentence}{every}.", f"{quantity} ({of})", swap.rank + 0.01 * (len(group) > 1))
