"""Mistakes in what dW[l] = dZ[l]ᵀ A[l-1] and dA[l-1] = dZ[l] W[l] are made of."""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from jaxnn.gradcheck.mistakes.finding import Finding, Mistake, Swap, finding, holds
from jaxnn.gradcheck.tape.quantities import a_of, averaged, examples_axis, layer_at, oriented, z_of
from jaxnn.gradcheck.tape.scene import Scene, gradient_with
from jaxnn.gradcheck.tape.tape import Layer, Node

DW, DA = "dW[{l}] ({of})", "dA[{p}] (layer {l})"


def _above(l: int, L: int) -> bool:
    return l > 1


def _input(says: str, f: Callable[[Scene, Layer, np.ndarray], np.ndarray | None], rank=2.0) -> Swap:
    """Another A[l-1] in dW[l]."""
    return Swap("dW[{l}] is made with " + says, DW, partial(_with_operand, True, f), rank)


def _for_input(says: str, f: Callable, rank=2.0) -> Swap:
    return _input(says + " instead of {input}", f, rank)


def _weights(says: str, f: Callable, rank: float) -> Swap:
    """Another W[l] in dA[l-1]."""
    return Swap("dA[{p}] " + says, DA, partial(_with_operand, False, f), rank, _above)


def _for_weights(says: str, f: Callable, rank=2.0) -> Swap:
    return _weights("is made with " + says + " instead of W[{l}]", f, rank)


def _with_operand(is_input: bool, f: Callable, scene: Scene, layer: Layer) -> dict | None:
    """An operand of the layer's product exchanged, in the backward pass only."""
    node = scene.point.tape.nodes[layer.place]
    side = layer.input_side if is_input else 1 - layer.input_side
    if node.name != "dot_general":
        return None
    old = scene.point.values[node.inputs[side]]
    new = f(scene, layer, old)
    if new is None or np.shape(new) != old.shape or np.array_equal(new, old):
        return None
    return {"operands": {(layer.place, side): new}}


def _other_weights(offset: int, turned: bool = False) -> Callable:
    def f(scene, layer, old):
        other = layer_at(scene, layer.number + offset)
        if other is None:
            return None
        value = scene.point.values[scene.point.tape.parameters[other.weight]]
        return oriented(scene, layer, value.T if turned else value, old)

    return f


def _of_layer(offset: int, f: Callable[[Scene, Layer], np.ndarray]) -> Callable:
    """f of another layer, as an operand."""
    return lambda s, y, old: f(s, other) if (other := layer_at(s, y.number + offset)) else None


def _before(scene: Scene, layer: Layer) -> np.ndarray:
    return scene.point.values[layer.before]


def turned_round(node: Node, side: int, kernel: np.ndarray) -> np.ndarray | None:
    """A convolution's kernel turned round along its spatial axes; None of any other operand."""
    if node.name != "conv_general_dilated" or side != 1:
        return None
    return np.flip(kernel, node.params["dimension_numbers"].rhs_spec[2:])


def _turned(scene: Scene, layer: Layer) -> dict | None:
    """The kernel turned round on the way down only."""
    node, side = scene.point.tape.nodes[layer.place], 1 - layer.input_side
    old = scene.point.values[node.inputs[side]]
    new = turned_round(node, side, old)
    return None if new is None or np.array_equal(new, old) else {"operands": {(layer.place, side): new}}


def _if_any(x: np.ndarray) -> np.ndarray | None:
    """None for an operand of zeros only: then the path is missing, whatever the reason."""
    return x if x.any() else None


AT_DW, AT_DA = "dW[l]", "dA[l-1]"
OF_INPUT, OF_WEIGHTS = "dW[l] = dZ[l]ᵀ A[l-1]", "dA[l-1] = dZ[l] W[l]"

OWN = Mistake(
    "own-activation", "dW is made with its own layer's A", OF_INPUT + ", the activation of the layer before",
    "dW2 = dZ2.T @ A2", AT_DW,
    (
        _for_input("A[{l}]", lambda s, y, old: a_of(s, y), 0.6),
        _for_input("A[{l}]", _of_layer(1, _before), 0.65),  # as the next layer reads it: with its mask
    ),
)  # fmt: skip
MISALIGNED = Mistake(
    "examples-misaligned", "dZ of one example meets A of another",
    OF_INPUT + ", row i of dZ[l] with row i of A[l-1]",
    "dW2 = dZ2.T @ np.roll(A1, 1, axis=0)", "dW[l] or dZ[L]",
    (
        *(_for_input("{input} shifted by one example",
                     lambda s, y, old, by=by: np.roll(old, by, examples_axis(y))) for by in (1, -1)),
        _for_input("{input} with its examples reversed", lambda s, y, old: np.flip(old, examples_axis(y))),
    ),
)  # fmt: skip
NOT_TRANSPOSED = Mistake(
    "weights-not-transposed", "dZ Wᵀ for dZ W", OF_WEIGHTS, "dA1 = dZ2 @ W2.T", AT_DA,
    (_weights("= dZ[{l}] W[{l}] is made with W[{l}]ᵀ", lambda s, y, old: old.T, 0.5),),
)  # fmt: skip
NOT_TURNED = Mistake(
    "kernel-not-turned", "a convolution's kernel is turned round, or is not, where it should not be",
    "Z = A ⋆ K, the correlation, so dA = dZ ∗ K, the convolution",
    "dA1 = correlate2d(dZ2, K, 'full')  # of Z2 = correlate2d(A1, K, 'valid')",
    "dA[l-1] of a convolution",
    (Swap("dA[{p}] is made with the kernel of layer {l} turned round: flipped where it should not be, or "
          "not where it should", DA, _turned, 2.0, _above),),
)  # fmt: skip
OF_OPERANDS = (
    OWN,
    Mistake(
        "pre-activation", "dW is made with Z[l-1] for A[l-1]", OF_INPUT + ", not Z[l-1]",
        "dW2 = dZ2.T @ Z1", AT_DW,
        (
            _for_input("Z[{p}]", _of_layer(-1, z_of), 0.6),
            _for_input("its own Z[{l}]", lambda s, y, old: None if y.activation is None else z_of(s, y)),
        ),
    ),
    Mistake(
        "input-for-activation", "dW is made with X for A[l-1]", OF_INPUT + ", not X",
        "dW2 = dZ2.T @ X", AT_DW,
        (_for_input("X", lambda s, y, old: _before(s, s.structure.layers[0]), 0.6),),
    ),
    Mistake(
        "wrong-layer-activation", "dW is made with an activation of another layer",
        OF_INPUT + ", the activation of the layer before", "dW3 = dZ3.T @ A1", AT_DW,
        (
            _for_input("the layer before's own input",
                       lambda s, y, old: _of_layer(-1, _before)(s, y, old) if y.number > 2 else None),
            _for_input("A[{n}]", _of_layer(1, a_of)),
            *(
                _for_input(says, _of_layer(k, _before))
                for k, says in (
                    (2, "A[{n}], as the layer above it takes it"), (3, "the activation two layers above"),
                    (-2, "the input of two layers before"),
                )
            ),
        ),
    ),
    Mistake(
        "gradient-for-activation", "dW is made with dA[l-1] for A[l-1]", OF_INPUT + ", not dA[l-1]",
        "dW2 = dZ2.T @ dA1", AT_DW,
        (_for_input("dA[{p}]", lambda s, y, old: s.point.cotangents.get(y.before), 0.6),),
    ),
    Mistake(
        "activation-averaged", "a mean over the examples for each example's A, or taken off it",
        OF_INPUT + ", a row an example", "dW2 = dZ2.T @ (A1 - A1.mean(axis=0))", AT_DW,
        (
            _for_input("the mean of {input} over the examples",
                       lambda s, y, old: averaged(old, examples_axis(y))),
            _for_input("{input} less its mean", lambda s, y, old: old - averaged(old, examples_axis(y))),
        ),
    ),
    MISALIGNED,
    NOT_TRANSPOSED,
    Mistake(
        "wrong-layer-weights", "another layer's W is used to go down", OF_WEIGHTS + " with this layer's W[l]",
        "dA1 = dZ2 @ W1", AT_DA,
        (
            _for_weights("W[{p}]", _other_weights(-1), 0.6),
            _for_weights("W[{n}]", _other_weights(1), 0.6),
            _for_weights("W[{p}]ᵀ", _other_weights(-1, True), 0.65),
            _for_weights("W[{n}]ᵀ", _other_weights(1, True), 0.65),
        ),
    ),
    Mistake(
        "gradient-for-weights", "dW is used to go down, for W", OF_WEIGHTS + ", not dZ[l] dW[l]",
        "dA1 = dZ2 @ dW2", AT_DA,
        (
            _for_weights("dW[{l}]", lambda s, y, old: oriented(s, y, s.reference[y.weight], old), 0.6),
            _for_weights("dW[{l}]", lambda s, y, old: oriented(s, y, s.hand[y.weight], old), 0.7),
        ),
    ),
    NOT_TURNED,
)  # fmt: skip
UPDATED = Mistake(
    "updated-weights", "W is updated before it is used to go down",
    OF_WEIGHTS + " with the W[l] of the forward pass", "W2 -= alpha * dW2; dA1 = dZ2 @ W2", AT_DA,
)  # fmt: skip
OF_TRUNCATED = (
    _input("the integer part of its input", lambda s, y, old: _if_any(np.trunc(old)), 0.7),
    _input("the rounded input", lambda s, y, old: _if_any(np.floor(old)), 0.8),
)


def updated_weights(scenes: list[Scene]) -> Iterator[Finding]:
    """dA[l-1] = dZ[l] (W[l] − α dW[l]): the weights were updated before they were used."""
    numbers = [y.number for y in scenes[0].structure.layers[1:]]
    first = next((s for s in scenes if s.wrong), None)
    if first is None or not numbers:
        return
    for group in dict.fromkeys([tuple(numbers), *((n,) for n in numbers)]):
        top = group[-1]
        leaf = first.structure.layers[top - 2].weight  # just below the highest that is changed: linear in α
        base = first.reference[leaf]
        direction = _with_rate(1.0, (top,), first)[leaf] - base
        if not direction.any() or not np.isfinite(first.hand[leaf]).all():
            continue
        alpha = float(np.vdot(direction, first.hand[leaf] - base) / np.vdot(direction, direction))
        # α need not be given to more digits than rounding leaves of it
        for a in (float(f"{alpha:.6g}"), alpha):
            if holds(scenes, partial(_with_rate, a, group)):
                says = "The weights W[{l}] are updated (α = {a:.6g}) before they are used to go down."
                yield finding(
                    UPDATED, says, "dA[{p}] = dZ[{l}] W[{l}] (layer {l})", 0.7, l=top, p=top - 1, a=a
                )
                return


def _with_rate(alpha: float, group: tuple[int, ...], scene: Scene) -> list[np.ndarray]:
    """From the top down, each W[l] less α times the gradient that this pass itself made of it."""
    operands: dict = {}
    gradient = scene.reference
    for n in reversed(group):
        y = scene.structure.layers[n - 1]
        side = 1 - y.input_side
        old = scene.point.values[scene.point.tape.nodes[y.place].inputs[side]]
        step = oriented(scene, y, gradient[y.weight], old)
        if step is None:
            return scene.reference
        operands[y.place, side] = old - alpha * step
        gradient = gradient_with(scene, operands=operands)
    return gradient
