"""How an array differs from the one it should be, in words."""

from typing import NamedTuple

import numpy as np

from jaxnn.gradcheck.mistakes.finding import parameter_values
from jaxnn.gradcheck.report.words import extent, spoken
from jaxnn.gradcheck.tape.paths import near
from jaxnn.gradcheck.tape.scene import Scene
from jaxnn.gradcheck.tolerances import COMPUTED, FITTED

ALL_OFF = "is wrong in every entry"


class How(NamedTuple):
    """How an array differs from the one it should be; entries: whether it says which do."""

    says: str
    entries: bool = False
    vague: bool = False  # it may be anything


def how_off(found: np.ndarray, right: np.ndarray, row: str = "row", column: str = "column") -> How:
    """In words, how an array differs from the one it should be."""
    if not np.isfinite(found).all() or not found.any():
        return How("is zero" if np.isfinite(found).all() else "is not finite")
    top = max(np.abs(right).max(initial=0), np.abs(found).max())
    by = (~(np.abs(found - right) <= least * top) for least in (FITTED, COMPUTED, 0))
    off = next((mask for mask in by if mask.any()), np.ones_like(found, bool))
    with np.errstate(all="ignore"):
        quotient = np.where(right != 0, found / right, np.nan)
    known, gap = quotient[np.isfinite(quotient)], found - right
    if not known.size:
        return How(f"is wrong in {extent(off)}", True)
    if known.size > 1 and _alike(known) and not _alike(np.append(known, 1)):
        return How(f"is {spoken(known.flat[0])} times what it should be")
    if not off.all() and off.ndim == 2:
        of = " only (rows are examples)" if row == "example" else " only"
        return How(f"is {'wrong' if found[off].any() else 'zero'} in {extent(off)}{of}", True)
    for axis, kind, other in ((0, column, row), (1, row, column)) if found.ndim == 2 else ():
        middle = np.nanmedian(quotient, axis=axis, keepdims=True)
        if np.allclose(np.where(np.isfinite(quotient), quotient, middle), middle, rtol=FITTED, atol=0):
            some = ", ".join(spoken(x) for x in middle.ravel()[:4]) + ", …" * (middle.size > 4)
            return How(f"is wrong by a factor for each {kind} ({some})", True)
        if order := _permutation(found, right, axis):
            return How(f"has its {other}s in another order ({', '.join(map(str, order[:8]))})")
    kept = known[np.abs(known) > FITTED]
    if 0 < kept.size < known.size and _alike(kept):
        return How(f"is multiplied by a mask of 0 and {max(known, key=abs):.6g}")
    if gap.size > 1 and _alike(gap):
        return How(f"has {gap.flat[0]:.6g} added to it")
    if known.size > 1 and (known > 0).all():
        ends = f"{known.min():.3g} to {known.max():.3g}"
        return How(f"has the right signs, but is {ends} times what it should be", True, vague=True)
    return How(ALL_OFF, vague=True)


def relation(scene: Scene, k: int) -> How | None:
    """What a leaf that is wrong throughout still has of the right one."""
    g, r, x = scene.hand[k], scene.reference[k], np.asarray(parameter_values(scene)[k], float)
    gap, top = g - r, max(np.abs(g).max(initial=0), np.abs(r).max(initial=0))
    if g.size < 3:
        return None
    part = float(np.vdot(gap, x) / np.vdot(x, x)) if x.any() else 0.0
    if part and near(gap, part * x):
        return How(f"is off by {spoken(part)} times its parameter")
    if g.ndim == 2 and len(g) == len(g.T) > 1 and near((g + g.T) / 2, r, top):
        return How("is right but for what is antisymmetric in it")
    for axis, kind in ((0, "column"), (1, "row")) if g.ndim == 2 and min(g.shape) > 1 else ():
        if near(gap, np.broadcast_to(gap.mean(axis, keepdims=True), g.shape), np.abs(gap).max()):
            return How(f"has a number added to it for each {kind}")
        if near(g.sum(axis), r.sum(axis), top):
            return How(f"has the right sum in each {kind}, of wrong entries")
    if near(g.sum(), r.sum(), top):
        return How("has the right sum, of wrong entries")
    along = np.abs(g) @ np.abs(x) if g.ndim == 1 else np.sum(np.abs(g * x))
    if abs(np.vdot(r, x)) <= COMPUTED * along < abs(np.vdot(g, x)):
        return How("has a part along its parameter, on whose length the loss does not depend")
    if g.ndim == 2 and min(g.shape) > 2 and np.linalg.matrix_rank(gap, tol=FITTED * np.abs(gap).max()) == 1:
        return How("is off by an outer product of two vectors")
    return None


def _alike(values: np.ndarray) -> bool:
    return np.allclose(values, values.flat[0], rtol=FITTED, atol=0)


def _permutation(found: np.ndarray, right: np.ndarray, axis: int) -> list[int] | None:
    f, r = (found, right) if axis == 0 else (found.T, right.T)
    order = [int(np.argmin(np.abs(r - row).max(axis=1))) for row in f]
    return order if sorted(order) == list(range(len(r))) and near(f, r[order]) else None
