"""Mistakes in dZ[l] = dA[l] ⊙ g′(Z[l])."""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from jaxnn.gradcheck.mistakes.finding import Finding, Mistake, Swap, finding, holds
from jaxnn.gradcheck.tape.paths import near
from jaxnn.gradcheck.tape.quantities import SLOPES, a_of, layer_at, z_of
from jaxnn.gradcheck.tape.scene import Scene, activation_edge, derivative, gradient_with, slope_at
from jaxnn.gradcheck.tape.tape import Layer

DZ = "dZ[{l}] (layer {l})"


def _hidden(l: int, L: int) -> bool:
    return l < L


def _output(l: int, L: int) -> bool:
    return l == L


def _slope(says: str, f: Callable[[Scene, Layer], np.ndarray | None], rank=2.0, **where) -> Swap:
    """The local derivative of the layer's activation exchanged for f."""
    alone = says + ", in the gradient of {of} only."
    return Swap(says, DZ, partial(_with_factor, f), rank, alone=alone, **where)


def _for_slope(says: str, f: Callable, rank=2.0) -> Swap:
    return _slope(says + " stands where g′(Z[{l}]) belongs", f, rank)


def _with_factor(f: Callable, scene: Scene, layer: Layer) -> dict | None:
    where = activation_edge(scene, layer)
    if where is None:
        return None
    new, old = f(scene, layer), derivative(scene, layer)
    if new is None or np.shape(new) != old.shape or (np.all(new == 1) and f is not _ones):
        return None
    opposite = slope_at(scene, layer, -z_of(scene, layer))
    if opposite is not None and np.ptp(old) == 0 and np.array_equal(opposite, old):
        return None  # a number that Z is multiplied by, no activation function
    if f is not _ones and old.any() and is_multiple(new, old):
        return None  # a constant of the activation is forgotten: another mistake
    return {"factors": {where: new}}


def is_multiple(x: np.ndarray, y: np.ndarray) -> bool:
    """x = c y, and x takes several values."""
    return bool(np.ptp(y) > 0 and near(x, np.vdot(y, x) / np.vdot(y, y) * y))


def _ones(scene: Scene, layer: Layer) -> np.ndarray:
    return np.ones_like(z_of(scene, layer))


def _squared(scene: Scene, layer: Layer) -> np.ndarray:
    return derivative(scene, layer) ** 2


def _of_layer(offset: int, f: Callable) -> Callable:
    """f of the scene, this layer and another."""
    return lambda s, y: f(s, y, other) if (other := layer_at(s, y.number + offset)) else None


def _slope_at_other(scene: Scene, layer: Layer, other: Layer) -> np.ndarray | None:
    return slope_at(scene, layer, z_of(scene, other))


def _slope_of_other(scene: Scene, layer: Layer, other: Layer) -> np.ndarray | None:
    """g′(Z) as the other layer has it, whose g may be another."""
    return None if other.activation is None else derivative(scene, other)


AT = "dZ[l] of a hidden layer"
SLOPE = "dZ[l] = dA[l] ⊙ g′(Z[l])"
# what is taken for g′ as one writes it by A: (in words, f of A)
OF_OUTPUT: tuple[tuple[str, Callable], ...] = (
    ("1 − {0}", lambda a: 1 - a),
    ("{0}²", np.square),
    ("1 + {0}²", lambda a: 1 + a * a),
    ("{0} (1 + {0})", lambda a: a * (1 + a)),
)

FORGOTTEN = Mistake(
    "missing-activation-derivative", "g′(Z) is forgotten", SLOPE, "dZ1 = dA1", AT,
    (_slope("g′(Z[{l}]) is missing from dZ[{l}] = dA[{l}] ⊙ g′(Z[{l}])", _ones, 0.5, able=_hidden)._replace(
        alone="The gradient of {of} is made of dA[{l}], not of dZ[{l}] = dA[{l}] ⊙ g′(Z[{l}])."),),
)  # fmt: skip
AT_OUTPUT = Mistake(
    "derivative-at-output", "g′ is taken at A instead of Z", SLOPE + ": at Z[l], not at A[l]",
    "dZ1 = dA1 * dtanh(A1)  # dtanh(z) = 1 - np.tanh(z)**2", AT,
    (_slope("g′ is taken at A[{l}] instead of Z[{l}]", lambda s, y: slope_at(s, y, a_of(s, y)), 0.6),),
)  # fmt: skip
OUTPUT_FOR = Mistake(
    "output-for-derivative", "A stands where g′(Z) belongs",
    "g′(Z), not A: σ′(Z) = A ⊙ (1 − A), relu′(Z) = 1 where Z > 0", "dZ1 = dA1 * A1", AT,
    (_for_slope("A[{l}]", a_of, 0.6),),
)  # fmt: skip
TWICE = Mistake(
    "derivative-twice", "g′(Z) is multiplied in twice", SLOPE + ", once", "dZ1 = dA1 * (1 - A1**2)**2", AT,
    (_slope("g′(Z[{l}]) is multiplied in twice", _squared, 0.6, able=_hidden),),
)  # fmt: skip
ELSEWHERE = Mistake(
    "derivative-at-wrong-layer", "g′ is taken at another layer's Z", SLOPE + " at this layer's Z[l]",
    "dZ1 = dA1 * (1 - A2**2)", AT,
    (
        _slope("g′ is taken at Z[{p}] instead of Z[{l}]", _of_layer(-1, _slope_at_other), 0.7),
        _slope("g′ is taken at Z[{n}] instead of Z[{l}]", _of_layer(1, _slope_at_other), 0.7),
        _slope("the derivative of layer {p} is used in layer {l}", _of_layer(-1, _slope_of_other), 0.75),
        _slope("the derivative of layer {n} is used in layer {l}", _of_layer(1, _slope_of_other), 0.75),
    ),
)  # fmt: skip
WRONG_SLOPE = Mistake(
    "wrong-activation-derivative", "another function's derivative", SLOPE + " with the g of this layer",
    "dZ1 = dA1 * A1 * (1 - A1)  # of A1 = np.tanh(Z1)", AT,
    (
        _for_slope("A[{l}]/Z[{l}]", lambda s, y: a_of(s, y) / z_of(s, y), 0.78),
        _slope("A[{l}]/Z[{l}] is left out of g′(Z[{l}]): one factor of a product is not differentiated",
               lambda s, y: derivative(s, y) - a_of(s, y) / z_of(s, y), 0.79),
        *(_slope(name + " stands where the derivative of layer {l} belongs",
                 lambda s, y, f=f: f(z_of(s, y)), 0.8) for name, f, _ in SLOPES),
        *(_slope(name + " (written by A) stands where the derivative of layer {l} belongs",
                 lambda s, y, f=f: f(a_of(s, y)), 0.85) for name, _, f in SLOPES if f is not None),
    ),
)  # fmt: skip
MISREMEMBERED = Mistake(
    "derivative-misremembered", "g′ written by A, but not as it is", "σ′(Z) = A ⊙ (1 − A), tanh′(Z) = 1 − A²",
    "dZ1 = dA1 * (1 - A1)", AT,
    tuple(_for_slope(says.format("A[{l}]"), lambda s, y, f=f: f(a_of(s, y))) for says, f in OF_OUTPUT),
)  # fmt: skip
INVERTED = Mistake(
    "derivative-inverted", "1/g′ or 1 − g′ for g′, or g′ on the wrong side of 0", SLOPE,
    "dZ1 = dA1 * (Z1 <= 0)", AT,
    (
        _for_slope("1/g′(Z[{l}])", lambda s, y: 1 / derivative(s, y)),
        _for_slope("1 − g′(Z[{l}])", lambda s, y: 1 - derivative(s, y)),
        _for_slope("g′(−Z[{l}])", lambda s, y: slope_at(s, y, -z_of(s, y))),
        _for_slope("g(−Z[{l}]) = 1 − relu′(Z[{l}])", lambda s, y: (z_of(s, y) <= 0) * 1.0),
    ),
)  # fmt: skip
OF_DERIVATIVES = (
    FORGOTTEN, AT_OUTPUT, OUTPUT_FOR, TWICE, ELSEWHERE, WRONG_SLOPE, MISREMEMBERED,
    Mistake(
        "output-formula-at-input", "g′ as it is written by A is taken at Z",
        "σ′(Z) = A ⊙ (1 − A), tanh′(Z) = 1 − A²: of A, not of Z", "dZ1 = dA1 * (1 - Z1**2)", AT,
        (
            _for_slope("1 − Z[{l}]²", lambda s, y: 1 - z_of(s, y) ** 2),
            _for_slope("Z[{l}] (1 − Z[{l}])", lambda s, y: z_of(s, y) * (1 - z_of(s, y))),
        ),
    ),
    INVERTED,
    Mistake(
        "derivative-at-gradient", "g′ is taken at dA instead of Z", SLOPE + ": at Z[l], not at dA[l]",
        "dZ1 = dA1 * (dA1 > 0)", AT,
        (
            _for_slope("g′(dA[{l}]), by the gradient's own sign,",
                       lambda s, y: slope_at(s, y, s.point.cotangents[y.a])),
            _for_slope("g′(dA[{l}]), by the gradient's own sign before its mask,",
                       _of_layer(1, lambda s, y, next: slope_at(s, y, s.point.cotangents.get(next.before)))),
        ),
    ),
    Mistake(
        "derivative-without-bias", "g′ is taken at the product alone, without b",
        SLOPE + ", Z[l] = A[l-1] W[l]ᵀ + b[l]ᵀ",
        "dZ1 = dA1 * (1 - np.tanh(X @ W1.T)**2)", AT,
        (_for_slope("g′ of the product without the bias",
                    lambda s, y: slope_at(s, y, s.point.values[y.product])),),
    ),
)  # fmt: skip
MASK = Mistake(
    "mask-forgotten", "dropout's mask is missing on the way back", "A = M ⊙ g(Z), so dZ = dA ⊙ M ⊙ g′(Z)",
    "dZ1 = dA1 * (1 - A1**2)  # of A1 = M * np.tanh(Z1)", "a layer with dropout",
)  # fmt: skip
MULTIPLIER = Mistake(
    "multiplier-forgotten", "numbers that A is multiplied by are missing on the way back",
    "A = C ⊙ g(Z), so dZ = dA ⊙ C ⊙ g′(Z)", "dZ1 = dA1 * (1 - A1**2)  # of A1 = noise * np.tanh(Z1)",
    "anywhere that something is multiplied in",
)  # fmt: skip


OF_OUTPUT_LAYER = (  # two of dZ[L], where they are made at a step
    _slope("dJ/dŶ is used as dZ[{l}]: the derivative of the output's activation is missing",
           _ones, 0.5, able=_output),
    _slope("the output's derivative is multiplied in once more", _squared, 0.6, able=_output),
)  # fmt: skip


def masks_forgotten(scenes: list[Scene]) -> Iterator[Finding]:
    """A mask left out of, or another put into, the backward pass."""
    scene, masks = scenes[0], scenes[0].structure.masks
    for group in [(m,) for m in masks] + ([masks] if len(masks) > 1 else []):
        if any(holds(scenes, partial(_with_masks, group, keep)) for keep in (False, True)):
            node = scene.point.tape.nodes[group[-1][0]]
            below = [[y.number for y in scene.structure.layers if y.place < place] for place, _ in group]
            layers = dict.fromkeys(max(numbers, default=1) for numbers in below)
            dropped = all(np.unique(np.append(scene.point.change.factors[e], 0.0)).size <= 2 for e in group)
            yield finding(
                MASK if dropped else MULTIPLIER,
                "The {what} multiplied into {a} is missing from the backward pass.",
                "{dz}, at {line}",
                0.4,
                what="mask" if dropped else "array of numbers",
                a=tuple(f"A[{l}]" for l in layers),
                dz=tuple(f"dZ[{l}]" for l in layers),
                line=node.line or "the mask",
            )
            return


def _with_masks(group: tuple[tuple[int, int], ...], keep: bool, scene: Scene) -> list[np.ndarray]:
    """The gradient with masks of ones; keep: with the number that what they keep is multiplied by."""
    olds = {e: np.asarray(scene.point.change.factors[e]) for e in group}
    sizes = {e: np.abs(old).max(initial=0) if keep else 1.0 for e, old in olds.items()}
    return gradient_with(scene, factors={e: np.full_like(old, sizes[e]) for e, old in olds.items()})
