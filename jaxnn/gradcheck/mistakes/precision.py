"""Mistakes in which digits are lost on the way, and the formula is right."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.gradcheck.jaxprs.equations import every, line_of, numbers
from jaxnn.gradcheck.mistakes.finding import Finding, Leaves, Mistake, finding, wrong_leaves
from jaxnn.gradcheck.tape.backward import point
from jaxnn.gradcheck.tape.scene import Scene
from jaxnn.gradcheck.tape.scenes import called

LOW = Mistake(
    "low-precision", "something is rounded to a narrower type on the way",
    "every step of the backward pass in the precision of its inputs", "dZ1 = dZ1.astype(np.float16)",
    "anywhere", loose=True,
)  # fmt: skip
FEW_DIGITS = Mistake(
    "few-digits", "a number of the loss with fewer digits",
    "dJ/dZ has the constants that J has, to all digits",
    "dZ1 = dA1 * 1.41  # for np.sqrt(2)", "anywhere", loose=True,
)  # fmt: skip
ROUNDINGS = 40  # of the narrow type, that a right gradient may be off by
LEAST_FAR = 1e-3  # two numbers that are nearer, of their size, may be meant to be one


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
            if top > 0 and not off <= ROUNDINGS * eps * top:
                return None
    if not _jumps(gradient, scene, eps):
        return None
    says = "The gradient is right up to the rounding of {type}, to which something inside is converted."
    where = "{of} (the conversion to {type}" + (" at {line})" if line else ")")
    parts = {"of": Leaves(wrong_leaves(scenes)), "type": jnp.dtype(narrow).name, "line": line}
    return finding(LOW, says, where, 0.5, **parts)


def few_digits(loss: Callable, gradient: Callable, scenes: list[Scene]) -> Finding | None:
    """A number of the loss stands in the candidate with fewer digits, and that may be all."""
    scene = scenes[0]
    try:
        own, exact = (numbers(jax.make_jaxpr(f)(*scene.point.args)) for f in (gradient, loss))
    except Exception:  # a gradient that JAX cannot trace
        return None
    pairs = zip(scene.hand, scene.reference, strict=True)
    off = max(np.abs(g - r).max(initial=0) / max(np.abs(r).max(initial=0), 1e-300) for g, r in pairs)
    for short, line in own.items():
        for full in exact:
            gap = abs(short / full - 1)
            if 0 < gap < LEAST_FAR and off < 30 * gap and short not in exact:
                says = "{short:.12g} stands in the gradient where the loss has {full:.12g}."
                where = "{of} (the number" + (" at {line})" if line else " there)")
                parts = {"of": Leaves(wrong_leaves(scenes)), "line": line}
                return finding(FEW_DIGITS, says, where, 6, short=short, full=full, **parts)
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
    found = []
    for e in every(closed):
        kinds = [v.aval.dtype for v in e.outvars if hasattr(v.aval, "dtype")]
        if e.primitive.name == "reduce_precision":
            kinds.append({7: jnp.bfloat16, 10: jnp.float16, 23: jnp.float32}.get(e.params["mantissa_bits"]))
        found += [
            (k, e) for k in kinds if k is not None and jnp.issubdtype(k, jnp.floating) and k != np.float64
        ]
    if not found:
        return None, ""
    kind, equation = max(found, key=lambda f: jnp.finfo(f[0]).eps)
    return jnp.dtype(kind), line_of(equation)


def _representable(leaves: list[np.ndarray]) -> Any:
    """The narrowest type in which all entries stand exactly, if narrower than float64."""
    for kind in (jnp.bfloat16, jnp.float16, jnp.float32):
        with np.errstate(all="ignore"):
            if all(np.array_equal(x, x.astype(kind).astype(np.float64)) for x in leaves) and any(
                x.any() for x in leaves
            ):
                return jnp.dtype(kind)
    return None
