"""Mistakes in dZ[L], from which all else follows rightly."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
from jax.extend.core import Literal

from jaxnn.gradcheck.jaxprs.equations import primitives
from jaxnn.gradcheck.mistakes.finding import Finding, Leaves, Mistake, finding, holds, ways
from jaxnn.gradcheck.tape.quantities import SLOPES, as_it_was, sigmoid, softmax, target_of, upright, z_of
from jaxnn.gradcheck.tape.scene import Scene, gradient_with
from jaxnn.gradcheck.tolerances import COMPUTED

OUTPUT = "dZ[{L}] (the output layer)"
ERROR = "dZ[L] = (Ŷ − Y)/N"
AT = "dZ[L]"


class Wrong(NamedTuple):
    """dZ[L], as a function of the right one, Z[L] and Y."""

    says: str
    of: Callable
    rank: float = 1.6


def _either(says: str, of: Callable, *ranks: float) -> tuple[Wrong, ...]:
    """One that is a function of Ŷ too, which may be σ(Z) or softmax(Z)."""
    supposed = zip((sigmoid, softmax), ranks, strict=True)
    return tuple(Wrong(says, lambda d, z, y, p=p: of(d, z, y, p(z)), rank) for p, rank in supposed)


def _through_softmax(d, z):
    p = softmax(z)
    return p * (d - (d * p).sum(axis=-1, keepdims=True))


def _scale(d, y, p):
    """s of dZ = s (P − Y)."""
    gap = p - y
    return (d * gap).sum() / (gap * gap).sum()


SIGMOID_SLOPE, TANH_SLOPE = SLOPES[0][1], SLOPES[1][1]

NEGATIVES = Mistake(
    "negatives-ignored", "the (1 − Y) term is not differentiated",
    "J = −(1/N) Σ [Y log Ŷ + (1 − Y) log(1 − Ŷ)]: two terms",
    "dA2 = -Y / A2 / N", AT,
    (
        Wrong("has only the entries with Y = 1: the (1 − Y) term is not differentiated",
              lambda d, z, y: d * (y != 0), 0.3),
        Wrong("has only the Y term: the (1 − Y) term is not differentiated",
              lambda d, z, y: -_scale(d, y, sigmoid(z)) * y * sigmoid(-z), 0.5),
    ),
)  # fmt: skip
DIAGONAL = Mistake(
    "softmax-diagonal", "of softmax's derivative only the diagonal is there",
    "∂Ŷ_j/∂Z_k = Ŷ_j (δ_jk − Ŷ_k): for j ≠ k too", "dZ2 = dA2 * A2 * (1 - A2)", AT,
)  # fmt: skip
SATURATED = Mistake(
    "saturated-nan", "0 · ∞ where the output saturates",
    "dZ[L] = (Ŷ − Y)/N is finite where 1 − Ŷ = 0; dJ/dŶ is not",
    "dZ2 = ((1 - Y) / (1 - A2) - Y / A2) * A2 * (1 - A2) / N", AT,
)  # fmt: skip
NOT_FINITE = Mistake(
    "not-finite", "something is divided by 0, or overflows, where autodiff does not",
    "a gradient is finite where that of the loss is", "dX = X / norm(X)  # where X = 0",
    "anywhere", loose=True,
)  # fmt: skip
CLIPPED = Mistake(
    "clipped-log", "an ε in the logarithm", "dZ[L] = (Ŷ − Y)/N has no ε in it",
    "dA2 = -Y / (A2 + 1e-8) / N", AT,
    (
        ("ε = {e} is added inside the logarithm",
         lambda p, q, y, e, soft: _through(p, q, -y / (p + e) + (0 if soft else (1 - y) / (q + e)), soft)),
        ("Ŷ is clipped to [ε, 1 − ε], ε = {e}: the gradient is zero where it saturates",
         lambda p, q, y, e, soft: ((1 - y) * p - y * q) * ((p > e) & (p < 1 - e))),
        ("Ŷ is clipped to [ε, 1 − ε], ε = {e}", lambda p, q, y, e, soft: np.clip(p, e, 1 - e) - y),
        ("the Ŷ inside the logarithm is clipped, ε = {e}",
         lambda p, q, y, e, soft: _through(
             p, q, -y / np.clip(p, e, 1 - e) + (0 if soft else (1 - y) / np.clip(q, e, 1 - e)), soft)),
    ),
)  # fmt: skip
EXTRA = Mistake(
    "extra-output-derivative", "the output's derivative again, after Ŷ − Y",
    ERROR + ": the σ′ of the output is in it already", "dZ2 = (A2 - Y) / N * A2 * (1 - A2)", AT,
    (
        Wrong("is multiplied by σ′(Z[{L}]) once more", lambda d, z, y: d * SIGMOID_SLOPE(z), 0.6),
        Wrong("is multiplied by softmax's derivative once more",
              lambda d, z, y: _through_softmax(d, z), 0.6),
        Wrong("is multiplied by Ŷ (1 − Ŷ) of the softmax once more",
              lambda d, z, y: d * softmax(z) * (1 - softmax(z)), 0.6),
        Wrong("is multiplied by tanh′(Z[{L}]) once more", lambda d, z, y: d * TANH_SLOPE(z), 0.7),
    ),
)  # fmt: skip
MISSING = Mistake(
    "missing-output-derivative", "dJ/dŶ is used as dZ[L]", "dZ[L] = dJ/dŶ ⊙ σ′(Z[L])",
    "dZ2 = (-Y / A2 + (1 - Y) / (1 - A2)) / N", AT,
    (
        Wrong("is dJ/dŶ: σ′(Z[{L}]) is missing", lambda d, z, y: d / SIGMOID_SLOPE(z), 0.6),
        Wrong("is dJ/dŶ: tanh′(Z[{L}]) is missing", lambda d, z, y: d / TANH_SLOPE(z), 0.7),
        Wrong("is dJ/dŶ: softmax's derivative is missing",
              lambda d, z, y: -_scale(d, y, softmax(z)) * y / softmax(z), 0.6),
    ),
)  # fmt: skip
LEFT_OUT = Mistake(
    "labels-left-out", "Y is not subtracted", ERROR, "dZ2 = A2 / N", AT,
    _either("is Ŷ alone: Y is not subtracted", lambda d, z, y, p: _scale(d, y, p) * p, 1.5, 1.5),
)  # fmt: skip
OF_ERRORS: tuple[Mistake, ...] = (
    EXTRA,
    MISSING,
    NEGATIVES,
    Mistake(
        "positives-ignored", "the Y log Ŷ term is not differentiated",
        "J = −(1/N) Σ [Y log Ŷ + (1 − Y) log(1 − Ŷ)]: two terms", "dA2 = (1 - Y) / (1 - A2) / N", AT,
        (Wrong("has only the entries with Y = 0: the Y log Ŷ term is not differentiated",
               lambda d, z, y: d * (y == 0), 1.5),),
    ),
    Mistake(
        "labels-added", "Ŷ + Y for Ŷ − Y", ERROR, "dZ2 = (A2 + Y) / N", AT,
        _either("has Ŷ + Y for Ŷ − Y", lambda d, z, y, p: d + 2 * _scale(d, y, p) * y, 1.6, 1.6),
    ),
    LEFT_OUT,
    Mistake(
        "prediction-left-out", "Ŷ is not there", ERROR, "dZ2 = -Y / N", AT,
        _either("is −Y alone: Ŷ is not there", lambda d, z, y, p: -_scale(d, y, p) * y, 1.5, 1.5),
    ),
    Mistake(
        "labels-not-averaged", "Ŷ/N − Y for (Ŷ − Y)/N", ERROR, "dZ2 = A2 / N - Y", AT,
        _either("has Ŷ/N − Y: Y is not divided by N",
                lambda d, z, y, p: d - (len(z) - 1) * _scale(d, y, p) * y, 1.5, 1.6),
    ),
    Mistake(
        "logits-for-output", "Z[L] stands where Ŷ = σ(Z[L]) belongs", ERROR + " with Ŷ = σ(Z[L])",
        "dZ2 = (Z2 - Y) / N", AT,
        _either("has Z[{L}] for Ŷ", lambda d, z, y, p: _scale(d, y, p) * (z - y), 1.5, 1.6),
    ),
    Mistake(
        "wrong-output-activation", "Ŷ of another function", ERROR + " with the Ŷ of the forward pass",
        "dZ2 = (softmax(Z2) - Y) / N", AT,
        (
            Wrong("has softmax(Z[{L}]) for σ(Z[{L}])",
                  lambda d, z, y: _scale(d, y, sigmoid(z)) * (softmax(z) - y), 1.5),
            Wrong("has σ(Z[{L}]) for softmax(Z[{L}])",
                  lambda d, z, y: _scale(d, y, softmax(z)) * (sigmoid(z) - y), 1.5),
            Wrong("has tanh(Z[{L}]) for Ŷ", lambda d, z, y: _scale(d, y, sigmoid(z)) * (np.tanh(z) - y)),
        ),
    ),
    Mistake(
        "output-activation-twice", "the output's function is applied to Ŷ again",
        ERROR + " with Ŷ = σ(Z[L]), once", "dZ2 = (sigmoid(A2) - Y) / N", AT,
        (
            Wrong("has σ(Ŷ) for Ŷ: the activation is applied twice",
                  lambda d, z, y: _scale(d, y, sigmoid(z)) * (sigmoid(sigmoid(z)) - y)),
            Wrong("has softmax(Ŷ) for Ŷ: softmax is applied twice",
                  lambda d, z, y: _scale(d, y, softmax(z)) * (softmax(softmax(z)) - y)),
        ),
    ),
    Mistake(
        "prediction-rounded", "the class predicted, 0 or 1, stands where Ŷ belongs", ERROR,
        "dZ2 = (np.round(A2) - Y) / N", AT,
        (Wrong("has Ŷ rounded", lambda d, z, y: _scale(d, y, sigmoid(z)) * (np.round(sigmoid(z)) - y)),),
    ),
    Mistake(
        "absolute-error", "Ŷ − Y has lost its sign, or its size", ERROR, "dZ2 = np.abs(A2 - Y) / N", AT,
        (
            Wrong("has lost its signs: |Ŷ − Y|", lambda d, z, y: np.abs(d), 1.5),
            Wrong("is only the sign of Ŷ − Y",
                  lambda d, z, y: _scale(d, y, sigmoid(z)) * np.sign(d)),
        ),
    ),
    Mistake(
        "error-squared", "(Ŷ − Y)² for its derivative", ERROR, "dZ2 = (A2 - Y)**2 / N", AT,
        (
            *_either("is squared, (Ŷ − Y)²", lambda d, z, y, p: d**2 / _scale(d, y, p), 1.5, 1.6),
            Wrong("is squared", lambda d, z, y: d**2),
        ),
    ),
    Mistake(
        "error-averaged", "one number for many entries of Ŷ − Y", "dZ[L] has the shape of Z[L]",
        "dZ2 = np.mean(A2 - Y, axis=0) + 0 * Z2", AT,
        (
            Wrong("is the same for every example: its mean over them",
                  lambda d, z, y: np.broadcast_to(d.mean(0), d.shape), 1.5),
            Wrong("is the same for every class: its mean over them",
                  lambda d, z, y: np.broadcast_to(d.mean(-1, keepdims=True), d.shape), 1.5),
            Wrong("is the same for every class: its sum over them",
                  lambda d, z, y: np.broadcast_to(d.sum(-1, keepdims=True), d.shape), 1.5),
        ),
    ),
    Mistake(
        "mistaken-examples-only", "as a perceptron: nothing where the predicted class is right", ERROR,
        "dZ2 = (A2 - Y) / N * (np.round(A2) != Y)", AT,
        (
            Wrong("has nothing where Ŷ and Y agree in rounding",
                  lambda d, z, y: d * (np.round(sigmoid(z)) != y)),
            Wrong("has only the class with the largest Ŷ",
                  lambda d, z, y: d * (z == z.max(-1, keepdims=True))),
        ),
    ),
)  # fmt: skip


def _with_error(f: Callable, scene: Scene):
    """The gradient with dZ[L] made f of dZ[L], Z[L] and Y."""
    layer = scene.structure.layers[-1]
    d = scene.point.cotangents[layer.z]
    z = upright(scene, layer, z_of(scene, layer))
    y = target_of(scene)
    with np.errstate(all="ignore"):
        new = f(upright(scene, layer, d), z, np.zeros_like(z) if y is None else y)
    if not np.any(new):
        return None  # nothing at all: the path is left out, whatever the reason
    return gradient_with(scene, given={layer.z: as_it_was(layer, np.asarray(new), d.shape)})


def mistaken_error(scenes: list[Scene]) -> Iterator[Finding]:
    """dZ[L] is not what it should be, and all else follows from it rightly."""
    if not scenes[0].structure.layers:
        return
    L = len(scenes[0].structure.layers)
    seen = set()
    for mistake, way in ways(OF_ERRORS):
        if mistake.id in seen or not holds(scenes, partial(_with_error, way.of)):
            continue
        says = way.says
        if mistake is NEGATIVES and error_parts(scenes[0], softmax) is not None:
            mistake, says = (
                DIAGONAL,
                "has only the entries with Y = 1: softmax's derivative, of which only the diagonal",
            )
        seen.add(mistake.id)
        yield finding(mistake, f"dZ[{{L}}] {says}.", OUTPUT, way.rank, L=L)


def error_parts(scene: Scene, outer: Callable) -> tuple | None:
    """(Ŷ, 1 − Ŷ, Y, s) if dZ[L] = s (Ŷ − Y), Ŷ = outer(Z[L])."""
    layer = scene.structure.layers[-1]
    z = upright(scene, layer, z_of(scene, layer))
    d = upright(scene, layer, scene.point.cotangents[layer.z])
    y = target_of(scene)
    if y is None:
        return None
    p = outer(z)
    q = sigmoid(-z) if outer is sigmoid else 1 - p
    gap = (1 - y) * p - y * q
    s = (d * gap).sum() / (gap * gap).sum() if gap.any() else 0.0
    return (p, q, y, s) if np.all(np.abs(d - s * gap) <= COMPUTED * np.abs(d).max(initial=0)) else None


def _through(p, q, d, softmax: bool):
    """dZ of dJ/dŶ."""
    return p * (d - (d * p).sum(axis=-1, keepdims=True)) if softmax else p * q * d


# those that are met in code come first: several may do alike
EPSILONS = tuple(10.0**-k for k in (7, 8, 12, 15, 10, 9, 6, 5, 16, 14, 13, 11, 4, 3, 2, 1))


def _with_clip(f: Callable, e: float, is_softmax: bool, known: dict[int, tuple], scene: Scene):
    """The gradient with dZ[L] = s · f(Ŷ, 1 − Ŷ, Y, ε)."""
    layer = scene.structure.layers[-1]
    p, q, y, s = known[id(scene)]
    with np.errstate(all="ignore"):
        new = s * f(p, q, y, e, is_softmax)
    return gradient_with(scene, given={layer.z: as_it_was(layer, new, scene.point.cotangents[layer.z].shape)})


def clipped_log(scenes: list[Scene]) -> Iterator[Finding]:
    """log(Ŷ + ε), or Ŷ clipped to [ε, 1 − ε]."""
    if not scenes[0].structure.layers:
        return
    L = len(scenes[0].structure.layers)
    for outer in (sigmoid, softmax):
        parts = [error_parts(s, outer) for s in scenes]
        if any(p is None for p in parts):
            continue
        known = {id(s): p for s, p in zip(scenes, parts, strict=True) if p is not None}
        for e in EPSILONS:
            for says, f in CLIPPED.ways:
                if holds(scenes, partial(_with_clip, f, e, outer is softmax, known)):
                    yield finding(CLIPPED, f"In {OUTPUT}, {says}.", OUTPUT, 0.5, L=L, e=f"{e:.0e}")
                    return


SATURATES = 36  # |z| from which σ(z) is 0 or 1 to the last digit of float64, or as good as 0


def saturated(scenes: list[Scene]) -> Iterator[Finding]:
    """0 · ∞ where the Ŷ of a sigmoid or a softmax is 0 or 1 to the last digit."""
    for scene in scenes:
        broken = tuple(k for k, g in enumerate(scene.hand) if not np.isfinite(g).all())
        if not broken or not all(np.isfinite(r).all() for r in scene.reference):
            continue
        layers, rows = scene.structure.layers, ""
        full = np.zeros(0, bool)
        if layers:
            z = upright(scene, layers[-1], z_of(scene, layers[-1]))
            soft = softmax(z)
            full = ((np.abs(z) > SATURATES) | (soft == 0) | (soft == 1)).any(axis=1)
            at = np.flatnonzero(full)
            rows = f"; saturated examples: {', '.join(map(str, at[:6]))}{' …' if len(at) > 6 else ''}"
        if not _saturates(scene) or (layers and not full.any()):
            says = "The gradient of {of} is not finite, where autodiff is."
            yield finding(NOT_FINITE, says, "{of}", 1, of=Leaves(broken))
            return
        says = (
            "The gradient of {of} is not finite: 0 · ∞ where the output is saturated (Ŷ is 0 or 1 to the "
            "last digit){rows}."
        )
        sure = bool(layers)  # without one, who can tell that there is an Ŷ
        where = "dZ[{L}], and so {of}"
        yield finding(SATURATED, says, where, 0.2, sure, of=Leaves(broken), rows=rows, L=len(layers))
        return


def _saturates(scene: Scene) -> bool:
    """Whether the loss has exponentials, as a sigmoid or a softmax has, of numbers that are too large."""
    tape = scene.point.tape
    for node in tape.nodes:
        inner = {
            name
            for p in node.params.values()
            if hasattr(p, "eqns") or hasattr(p, "jaxpr")
            for name in primitives(p)
        }
        if {*node.name.split("+"), *inner} & {"exp", "exp2", "logistic"}:
            read = [
                scene.point.values[i] for i in node.inputs if not isinstance(i, Literal) and i in tape.active
            ]
            if any((np.abs(x) > SATURATES).any() for x in read):
                return True
    return False
