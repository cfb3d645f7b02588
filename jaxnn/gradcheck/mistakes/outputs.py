"""Mistakes in dZ[L], from which all else follows rightly."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
from jax.extend.core import Literal

from jaxnn.gradcheck.jaxprs.equations import primitives
from jaxnn.gradcheck.mistakes.finding import Finding, holds
from jaxnn.gradcheck.report.words import joined
from jaxnn.gradcheck.tape.quantities import SLOPES, as_it_was, sigmoid, softmax, target_of, upright, z_of
from jaxnn.gradcheck.tape.scene import Scene, changed


def _through_softmax(d, z):
    p = softmax(z)
    return p * (d - (d * p).sum(axis=-1, keepdims=True))


def _scale(d, y, p):
    """s of dZ = s (P − Y)."""
    gap = p - y
    return (d * gap).sum() / (gap * gap).sum()


class Error(NamedTuple):
    """A wrong dZ[L], in words, and as a function of the right one, Z[L] and Y."""

    words: str
    of: Callable
    rank: float = 1.6
    id: str = "unknown"


def _of_either(words: str, of: Callable, *ranks: float) -> list[Error]:
    """One that is a function of Ŷ too, which may be σ(Z) or softmax(Z)."""
    supposed = zip((sigmoid, softmax), ranks, strict=True)
    return [Error(words, lambda d, z, y, p=p: of(d, z, y, p(z)), rank) for p, rank in supposed]


EXTRA, MISSING, NEGATIVES = "extra-output-derivative", "missing-output-derivative", "negatives-ignored"
SIGMOID_SLOPE, TANH_SLOPE = SLOPES[0][1], SLOPES[1][1]
ERRORS: tuple[Error, ...] = (
    Error("is multiplied by σ′(Z[{l}]) once more", lambda d, z, y: d * SIGMOID_SLOPE(z), 0.6, EXTRA),
    Error(
        "is multiplied by softmax's derivative once more", lambda d, z, y: _through_softmax(d, z), 0.6, EXTRA
    ),
    Error(
        "is multiplied by Ŷ (1 − Ŷ) of the softmax once more",
        lambda d, z, y: d * softmax(z) * (1 - softmax(z)), 0.6, EXTRA,
    ),
    Error("is multiplied by tanh′(Z[{l}]) once more", lambda d, z, y: d * TANH_SLOPE(z), 0.7, EXTRA),
    Error("is dJ/dŶ: σ′(Z[{l}]) is missing", lambda d, z, y: d / SIGMOID_SLOPE(z), 0.6, MISSING),
    Error("is dJ/dŶ: tanh′(Z[{l}]) is missing", lambda d, z, y: d / TANH_SLOPE(z), 0.7, MISSING),
    Error(
        "is dJ/dŶ: softmax's derivative is missing",
        lambda d, z, y: -_scale(d, y, softmax(z)) * y / softmax(z), 0.6, MISSING,
    ),
    Error(
        "has only the entries with Y = 1: the (1 − Y) term is not differentiated",
        lambda d, z, y: d * (y != 0), 0.3, NEGATIVES,
    ),
    Error(
        "has only the Y term: the (1 − Y) term is not differentiated",
        lambda d, z, y: -_scale(d, y, sigmoid(z)) * y * sigmoid(-z), 0.5, NEGATIVES,
    ),
    Error(
        "has only the entries with Y = 0: the Y log Ŷ term is not differentiated",
        lambda d, z, y: d * (y == 0), 1.5,
    ),
    *_of_either("has Ŷ + Y for Ŷ − Y", lambda d, z, y, p: d + 2 * _scale(d, y, p) * y, 1.6, 1.6),
    *_of_either("is Ŷ alone: Y is not subtracted", lambda d, z, y, p: _scale(d, y, p) * p, 1.5, 1.5),
    *_of_either("is −Y alone: Ŷ is not there", lambda d, z, y, p: -_scale(d, y, p) * y, 1.5, 1.5),
    *_of_either(
        "has Ŷ/N − Y: Y is not divided by N",
        lambda d, z, y, p: d - (len(z) - 1) * _scale(d, y, p) * y, 1.5, 1.6,
    ),
    *_of_either("has Z[{l}] for Ŷ", lambda d, z, y, p: _scale(d, y, p) * (z - y), 1.5, 1.6),
    Error(
        "has softmax(Z[{l}]) for σ(Z[{l}])", lambda d, z, y: _scale(d, y, sigmoid(z)) * (softmax(z) - y), 1.5
    ),
    Error(
        "has σ(Z[{l}]) for softmax(Z[{l}])", lambda d, z, y: _scale(d, y, softmax(z)) * (sigmoid(z) - y), 1.5
    ),
    Error("has tanh(Z[{l}]) for Ŷ", lambda d, z, y: _scale(d, y, sigmoid(z)) * (np.tanh(z) - y)),
    Error(
        "has σ(Ŷ) for Ŷ: the activation is applied twice",
        lambda d, z, y: _scale(d, y, sigmoid(z)) * (sigmoid(sigmoid(z)) - y),
    ),
    Error(
        "has softmax(Ŷ) for Ŷ: softmax is applied twice",
        lambda d, z, y: _scale(d, y, softmax(z)) * (softmax(softmax(z)) - y),
    ),
    Error("has Ŷ rounded", lambda d, z, y: _scale(d, y, sigmoid(z)) * (np.round(sigmoid(z)) - y)),
    Error("has lost its signs: |Ŷ − Y|", lambda d, z, y: np.abs(d), 1.5),
    Error("is only the sign of Ŷ − Y", lambda d, z, y: _scale(d, y, sigmoid(z)) * np.sign(d)),
    *_of_either("is squared, (Ŷ − Y)²", lambda d, z, y, p: d**2 / _scale(d, y, p), 1.5, 1.6),
    Error("is squared", lambda d, z, y: d**2),
    Error(
        "is the same for every example: its mean over them",
        lambda d, z, y: np.broadcast_to(d.mean(0), d.shape), 1.5,
    ),
    Error(
        "is the same for every class: its mean over them",
        lambda d, z, y: np.broadcast_to(d.mean(-1, keepdims=True), d.shape), 1.5,
    ),
    Error(
        "is the same for every class: its sum over them",
        lambda d, z, y: np.broadcast_to(d.sum(-1, keepdims=True), d.shape), 1.5,
    ),
    Error("is centred over the examples", lambda d, z, y: d - d.mean(0)),
    Error("is centred over the classes", lambda d, z, y: d - d.mean(-1, keepdims=True)),
    Error("has its examples in reverse", lambda d, z, y: d[::-1]),
    Error("has its classes in reverse", lambda d, z, y: d[:, ::-1]),
    Error("has its examples shifted by one", lambda d, z, y: np.roll(d, 1, 0)),
    Error("has its examples shifted by one", lambda d, z, y: np.roll(d, -1, 0)),
    Error("has its classes shifted by one", lambda d, z, y: np.roll(d, 1, -1)),
    Error("has its classes shifted by one", lambda d, z, y: np.roll(d, -1, -1)),
    Error("has nothing where Ŷ and Y agree in rounding", lambda d, z, y: d * (np.round(sigmoid(z)) != y)),
    Error("has only the class with the largest Ŷ", lambda d, z, y: d * (z == z.max(-1, keepdims=True))),
    Error("has Y inverted, 1 − Y", lambda d, z, y: _scale(d, y, sigmoid(z)) * (sigmoid(z) - (1 - y))),
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
    given = {layer.z: as_it_was(layer, np.asarray(new), d.shape)}
    return scene.point.pull(changed(scene, given=given))[0]


def mistaken_error(scenes: list[Scene]) -> Iterator[Finding]:
    """dZ[L] is not what it should be, and all else follows from it rightly."""
    if not scenes[0].structure.layers:
        return
    last = scenes[0].structure.layers[-1]
    seen = set()
    for words, f, rank, id in ERRORS:
        if id in seen and id != "unknown":
            continue

        if holds(scenes, partial(_with_error, f)):
            if id == "negatives-ignored" and error_parts(scenes[0], softmax) is not None:
                id, words = (
                    "unknown",
                    "has only the entries with Y = 1: softmax's derivative, of which only the diagonal",
                )
            seen.add(id)
            yield Finding(
                id,
                f"dZ[{last.number}] {words.format(l=last.number)}.",
                f"dZ[{last.number}] (the output layer)",
                rank,
            )


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
    return (p, q, y, s) if np.allclose(d, s * gap, rtol=0, atol=1e-8 * np.abs(d).max(initial=0)) else None


def _through(p, q, d, softmax: bool):
    """dZ of dJ/dŶ."""
    return p * (d - (d * p).sum(axis=-1, keepdims=True)) if softmax else p * q * d


def _clipped_inside(p, q, y, e, softmax):
    c, r = np.clip(p, e, 1 - e), np.clip(q, e, 1 - e)
    return _through(p, q, -y / c + (0 if softmax else (1 - y) / r), softmax)


CLIPPED: tuple[tuple[str, Callable], ...] = (
    (
        "ε = {e} is added inside the logarithm",
        lambda p, q, y, e, softmax: _through(
            p, q, -y / (p + e) + (0 if softmax else (1 - y) / (q + e)), softmax
        ),
    ),
    (
        "Ŷ is clipped to [ε, 1 − ε], ε = {e}: the gradient is zero where it saturates",
        lambda p, q, y, e, softmax: ((1 - y) * p - y * q) * ((p > e) & (p < 1 - e)),
    ),
    ("Ŷ is clipped to [ε, 1 − ε], ε = {e}", lambda p, q, y, e, softmax: np.clip(p, e, 1 - e) - y),
    ("the Ŷ inside the logarithm is clipped, ε = {e}", _clipped_inside),
)

# those that are met in code come first: several may do alike
EPSILONS = tuple(10.0**-k for k in (7, 8, 12, 15, 10, 9, 6, 5, 16, 14, 13, 11, 4, 3, 2, 1))


def _with_clip(f: Callable, e: float, is_softmax: bool, known: dict[int, tuple], scene: Scene):
    """The gradient with dZ[L] = s · f(Ŷ, 1 − Ŷ, Y, ε)."""
    layer = scene.structure.layers[-1]
    p, q, y, s = known[id(scene)]
    with np.errstate(all="ignore"):
        new = s * f(p, q, y, e, is_softmax)
    given = {layer.z: as_it_was(layer, new, scene.point.cotangents[layer.z].shape)}
    return scene.point.pull(changed(scene, given=given))[0]


def clipped_log(scenes: list[Scene]) -> Iterator[Finding]:
    """log(Ŷ + ε), or Ŷ clipped to [ε, 1 − ε]."""
    if not scenes[0].structure.layers:
        return
    last = scenes[0].structure.layers[-1]
    where = f"dZ[{last.number}] (the output layer)"
    for outer in (sigmoid, softmax):
        parts = [error_parts(s, outer) for s in scenes]
        if any(p is None for p in parts):
            continue
        known = {id(s): p for s, p in zip(scenes, parts, strict=True) if p is not None}
        for e in EPSILONS:
            for words, f in CLIPPED:
                if holds(scenes, partial(_with_clip, f, e, outer is softmax, known)):
                    yield Finding("clipped-log", f"In {where}, {words.format(e=f'{e:.0e}')}.", where, 0.5)
                    return


SATURATED = 36  # |z| from which σ(z) is 0 or 1 to the last digit of float64, or as good as 0


def saturated(scenes: list[Scene]) -> Iterator[Finding]:
    """0 · ∞ where the Ŷ of a sigmoid or a softmax is 0 or 1 to the last digit."""
    names = scenes[0].structure.names
    for scene in scenes:
        broken = [k for k, g in enumerate(scene.hand) if not np.isfinite(g).all()]
        if not broken or not all(np.isfinite(r).all() for r in scene.reference):
            continue
        where = joined([names[k] for k in broken])
        rows = ""
        if not _saturates(scene):
            yield Finding("unknown", f"The gradient of {where} is not finite, where autodiff is.", where, 1)
            return
        if scene.structure.layers:
            layer = scene.structure.layers[-1]
            z = upright(scene, layer, z_of(scene, layer))
            soft = softmax(z)
            full = ((np.abs(z) > SATURATED) | (soft == 0) | (soft == 1)).any(axis=1)
            if not full.any():
                yield Finding(
                    "unknown", f"The gradient of {where} is not finite, where autodiff is.", where, 1
                )
                return
            at = np.flatnonzero(full)
            rows = f"; saturated examples: {', '.join(map(str, at[:6]))}{' …' if len(at) > 6 else ''}"
        yield Finding(
            "saturated-nan",
            f"The gradient of {where} is not finite: 0 · ∞ where the output is saturated (Ŷ "
            f"is 0 or 1 to the last digit){rows}.",
            f"dZ[{len(scene.structure.layers)}], and so {where}",
            0.2,
            bool(scene.structure.layers),  # without one, who can tell that there is an Ŷ
        )
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
            if any((np.abs(x) > SATURATED).any() for x in read):
                return True
    return False
