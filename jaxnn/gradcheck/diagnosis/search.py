"""Which mistake is it? From nothing but the loss and the gradient."""

import re
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.gradcheck.diagnosis import places
from jaxnn.gradcheck.jaxprs.equations import line_of, numbers
from jaxnn.gradcheck.mistakes import entries, examples, factors, inputs, outputs, penalties, swaps, values
from jaxnn.gradcheck.mistakes.finding import MISTAKES, Finding, OutOfTime
from jaxnn.gradcheck.tape.scenes import (
    Scene,
    Views,
    called,
    in_few_turns,
    scenes_for,
    views_of,
    without_penalty,
)
from jaxnn.gradcheck.tape.tape import point

PATIENCE = 3.0  # seconds of computing after which no further mistake is tried
LONGER = 3.0  # so many more for what a loop over time can do wrong


class Cause(NamedTuple):
    """A mistake that would explain the candidate."""

    id: str
    sentence: str
    where: str
    confidence: float
    equation: str


FAMILIES: tuple[Callable, ...] = (
    outputs.saturated,
    factors.scaled,
    penalties.penalised,
    entries.rearranged,
    examples.weighted,
    swaps.exchanged,
    swaps.masks_forgotten,
    outputs.mistaken_error,
    inputs.elsewhere,
    inputs.mean_label_sum,
    swaps.updated_weights,
    outputs.clipped_log,
    values.turns_left_out,
)
ON_EDGES: tuple[Callable, ...] = (values.scaled, values.mistaken, values.both_ignored)


def find_causes(
    loss: Callable,
    gradient: Callable,
    args: tuple,
    argnums: int | tuple[int, ...],
    hand: Any,
    reference: Any,
    bound: Any,
    strict: bool = False,
    views: Views | None = None,
) -> list[Cause]:
    """What could be wrong with a gradient that is known to be wrong, the likeliest first.

    `hand`, `reference`, `bound` are trees like args[argnums], at args. Each cause of confidence
    0.9 and above reproduces `hand` there and the candidate at other points. Never empty. A family
    of mistakes that a strange loss makes fail is passed over, unless `strict`. `views`: what is known
    of this loss at these args already (`views_of`), where many candidates are held against it.
    """
    until = time.thread_time() + PATIENCE
    with jax.enable_x64(True):
        hand, reference, bound = (
            [np.asarray(x, np.float64) for x in jax.tree.leaves(t)] for t in (hand, reference, bound)
        )
        views = views or views_of(loss, args, argnums)
        scenes = scenes_for(views, gradient, hand, reference, bound)
        scenes = [s._replace(until=until) for s in _finite(scenes)]
        findings = _findings(scenes, FAMILIES, strict)
        if not _named(findings):
            few = _finite(in_few_turns(views, gradient))
            longer = time.thread_time() + LONGER
            few = [s._replace(until=longer) for s in few]
            findings += _findings(few or scenes, ON_EDGES, strict)
        if not findings and (rounded := low_precision(loss, gradient, scenes)):
            findings = [rounded]
        if not findings and (short := few_digits(loss, gradient, scenes[0])):
            findings = [short]
        if not findings and len(scenes) > 1 and time.thread_time() < until:
            # a size written into the candidate's code: only points of the caller's own sizes tell
            alike = _finite(scenes_for(views, gradient, hand, reference, bound, alike=True))
            alike = [s._replace(until=until) for s in alike]
            findings = [f._replace(sure=False) for f in _named(_findings(alike, FAMILIES, strict))]
        if not findings:
            findings = places.placed(scenes) or [_faint(scenes[0])]
    return _ranked(findings, len(scenes))


def _finite(scenes: list[Scene]) -> list[Scene]:
    """Those where both sides are numbers, if one of them shows the mistake; else all."""
    told = [s for s in scenes if all(np.isfinite(x).all() for x in (*s.hand, *s.reference))]
    return told if any(s.wrong for s in told) else scenes


def _faint(scene: Scene) -> Finding:
    """The leaf that is most off, where all are right but for a difference near rounding."""
    names = scene.structure.names
    with np.errstate(all="ignore"):
        sizes = [
            np.nanmax(np.abs(g - r) / np.where(b > 0, b, 1), initial=0)
            for g, r, b in zip(scene.hand, scene.reference, scene.bound, strict=True)
        ]
    where = names[int(np.argmax(sizes))]
    sentence = f"The difference, the largest in {where}, is too small for its cause to be told."
    return Finding("unknown", sentence, where, 9)


def _named(findings: list[Finding]) -> list[Finding]:
    return [f for f in findings if f.id != "unknown"]


def _findings(scenes: list[Scene], families: tuple[Callable, ...], strict: bool) -> list[Finding]:
    found: list[Finding] = []
    views = [scenes]
    if scenes[0].structure.penalties:
        views.append([without_penalty(s) for s in scenes])
    for view in views:
        for family in families:
            try:
                for finding in family(view):
                    found.append(finding)
            except OutOfTime:
                return found
            except (ValueError, TypeError, IndexError, KeyError, ArithmeticError, np.linalg.LinAlgError):
                if strict:
                    raise
    return found


def _ranked(findings: list[Finding], points: int) -> list[Cause]:
    """One cause an id; those that no point told apart share the confidence."""
    best: dict[str, Finding] = {}
    for f in sorted(findings, key=lambda f: f.rank):
        best.setdefault(f.id, f)
    if len(best) > 1:
        best.pop("unknown", None)
    chosen = sorted(best.values(), key=lambda f: f.rank)
    surest = 0.98 if points > 1 else 0.8
    causes = []
    for n, f in enumerate(chosen):
        if f.id == "unknown":
            confidence = 0.6 if f.rank < 7 else 0.3
        elif len(chosen) == 1:
            confidence = surest if f.sure else 0.5
        else:
            confidence = round(0.89 / len(chosen) * (1.0 if n else 1.1), 2)
        fitting = f.id != "unknown" or re.match(
            r"d[ZWAb]\[\d", f.where
        )  # a quantity of the lecture's network
        causes.append(
            Cause(f.id, f.sentence, f.where, confidence, MISTAKES[f.id].equation if fitting else "")
        )
    return causes


def low_precision(loss: Callable, gradient: Callable, scenes: list[Scene]) -> Finding | None:
    """The candidate rounds to a narrower type somewhere inside, and that is all."""
    scene = scenes[0]
    narrow, line = _narrowest(gradient, scene.point.args)
    own, _ = _narrowest(loss, scene.point.args)
    if narrow is None or (own is not None and jnp.finfo(own).eps >= jnp.finfo(narrow).eps):
        narrow, line = _representable(scene.hand), ""
    if narrow is None:
        return None
    eps = float(jnp.finfo(narrow).eps)
    for s in scenes:
        for g, r in zip(s.hand, s.reference, strict=True):
            top = np.abs(r).max(initial=0)
            off = np.abs(g - r).max(initial=0)
            if top > 0 and not off <= 40 * eps * top:
                return None
    name = jnp.dtype(narrow).name
    if not _jumps(gradient, scene, eps):
        return None
    names = scene.structure.names
    wrong = sorted({k for s in scenes for k in s.wrong})
    where = (
        ", ".join(names[k] for k in wrong) + f" (the conversion to {name}" + (f" at {line})" if line else ")")
    )
    return Finding(
        "low-precision",
        f"The gradient is right up to the rounding of {name}, to which something inside is converted.",
        where,
        0.5,
    )


def few_digits(loss: Callable, gradient: Callable, scene: Scene) -> Finding | None:
    """A number of the loss stands in the candidate with fewer digits, and that may be all."""
    try:
        own, exact = (numbers(jax.make_jaxpr(f)(*scene.point.args)) for f in (gradient, loss))
    except Exception:  # a gradient that JAX cannot trace
        return None
    pairs = zip(scene.hand, scene.reference, strict=True)
    off = max(np.abs(g - r).max(initial=0) / max(np.abs(r).max(initial=0), 1e-300) for g, r in pairs)
    for short, line in own.items():
        for full in exact:
            gap = abs(short / full - 1)
            if 0 < gap < 1e-3 and off < 30 * gap and short not in exact and full not in own:
                sentence = f"{short:.12g} stands in the gradient where the loss has {full:.12g}."
                return Finding("unknown", sentence, f"the number at {line}" if line else "a number", 6)
    return None


def _jumps(gradient: Callable, scene: Scene, eps: float) -> bool:
    """Whether the error is another one a few roundings further on: that of a formula is the same."""
    rng = np.random.default_rng(0)

    def moved(x):
        x = np.asarray(x)
        return x * (1 + 4 * eps * rng.uniform(-1, 1, x.shape)) if x.dtype.kind == "f" else x

    there = point(scene.point.tape, jax.tree.map(moved, scene.point.args), scene.point.programs)
    hand = called(gradient, there.args)
    if hand is None:
        return False
    gap = change = 0.0
    for g, r, h, s in zip(scene.hand, scene.reference, hand, there.gradient, strict=True):
        gap += float(np.sum((g - r) ** 2))
        change += float(np.sum(((h - s) - (g - r)) ** 2))
    return change > gap / 16


def _narrowest(function: Callable, args: tuple) -> tuple[Any, str]:
    """The narrowest floating type a function's jaxpr converts to, and where."""
    try:
        closed = jax.make_jaxpr(function)(*args)
    except Exception:
        return None, ""
    found: list[tuple[float, Any, str]] = []

    def walk(jaxpr):
        for e in getattr(jaxpr, "jaxpr", jaxpr).eqns:
            for v in e.outvars:
                dtype = getattr(v.aval, "dtype", None)
                if dtype is not None and jnp.issubdtype(dtype, jnp.floating) and dtype != np.float64:
                    found.append((float(jnp.finfo(dtype).eps), dtype, line_of(e)))
            if e.primitive.name == "reduce_precision":
                kinds = {7: jnp.bfloat16, 10: jnp.float16, 23: jnp.float32}
                if (kind := kinds.get(e.params["mantissa_bits"])) is not None:
                    found.append((float(jnp.finfo(kind).eps), jnp.dtype(kind), line_of(e)))
            for p in e.params.values():
                for inner in p if isinstance(p, (tuple, list)) else (p,):
                    if hasattr(getattr(inner, "jaxpr", inner), "eqns"):
                        walk(inner)

    walk(closed)
    return max(found, key=lambda f: f[0])[1:] if found else (None, "")


def _representable(leaves: list[np.ndarray]) -> Any:
    """The narrowest type in which all entries stand exactly, if narrower than float64."""
    for kind in (jnp.bfloat16, jnp.float16, jnp.float32):
        with np.errstate(all="ignore"):
            if all(np.array_equal(x, x.astype(kind).astype(np.float64)) for x in leaves) and any(
                x.any() for x in leaves
            ):
                return jnp.dtype(kind)
    return None
