"""What the report says of each parameter: numerics at the given point, the worst entry, a picture."""

from collections.abc import Callable

import numpy as np

from jaxnn.gradcheck.calls.call import Call
from jaxnn.gradcheck.report.model import Leaf
from jaxnn.gradcheck.verdict.formula import Formula
from jaxnn.gradcheck.verdict.numerics import Numerics, in_ulps, numerics
from jaxnn.gradcheck.verdict.point import Side

ROWS, COLUMNS = 48, 96  # a picture has no more cells than these
UNDECIDED = 1e-3  # of an entry: a bound as wide at a kink leaves open which side is taken


def _halved(grid: np.ndarray, axis: int, most: int) -> np.ndarray:
    size = grid.shape[axis]
    if size <= most:
        return grid
    edges = np.linspace(0, size, most + 1).astype(int)[:-1]
    return np.maximum.reduceat(grid, edges, axis=axis)


def picture(relative: np.ndarray) -> list[list[float]]:
    """log10 of relative errors in at most 48 × 96 cells, each as bad as the worst entry in it."""
    if not relative.size:
        return []
    grid = relative.reshape(len(relative) if relative.ndim else 1, -1)
    grid = _halved(_halved(grid, 0, ROWS), 1, COLUMNS)
    return np.round(np.log10(np.clip(np.nan_to_num(grid, nan=1e9, posinf=1e9), 1e-20, 1e9)), 1).tolist()


def leaf_row(formula: Formula, n: int, known: Numerics | None) -> Leaf:
    """The row of leaf n at the point that is shown: its worst entry, and the errors there.

    known: of its numbers at the given point.
    """
    shown = formula.shown
    pair = shown.pairs[n]
    r, h, wrong = pair.reference, pair.hand, pair.wrong
    row = known if shown is formula.tried[0] else None
    error = np.where(np.isfinite(h), pair.off, np.inf)
    ratio = np.where(error == 0, 0.0, error / pair.bound)
    ratio = np.where(wrong & ~np.isfinite(h), np.inf, np.where(np.isnan(ratio) | pair.flat, 0.0, ratio))
    own = in_ulps(h - r, r, shown.call.dtype)
    relative = np.where(error == 0, 0.0, error / pair.top)
    theirs = np.full(r.shape, np.nan) if row is None else row.autodiff_ulps
    if row is not None and not wrong.any():
        own, relative = row.ulps, row.relative
    blame = np.where(np.isfinite(r), relative, -1.0)
    if wrong.any():
        blame = np.where(wrong, error, -1.0)
    elif pair.blank.any():
        blame = np.where(pair.blank, 1.0, 0.0)
    elif row is not None and row.poor.any():
        blame = np.where(row.poor, row.ulps, -1.0)
    index = tuple(map(int, np.unravel_index(np.argmax(blame), r.shape))) if r.size else ()

    def at(a: np.ndarray) -> float:
        return float(a[index]) if r.size else 0.0

    return Leaf(
        path=shown.call.paths[n],
        shape=tuple(r.shape),
        index=index,
        hand=at(h),
        autodiff=at(r),
        ulps=at(own),
        autodiff_ulps=at(theirs),
        error=at(error),
        bound=at(pair.bound),
        ratio=float(np.max(ratio, initial=0.0)),
        correct=formula.correct if wrong.any() else formula.told[n] or None,
        accurate=None if known is None or formula.tried[0].is_blank or wrong.any() else known.accurate,
        better=row is not None and row.better,
        wrong=int(wrong.sum()),
        picture=picture(relative),
    )


def second_verdict(call: Call, formula: Formula, autodiff: Callable | None) -> list[Numerics | None]:
    """The second verdict at the given point; autodiff: (*leaves) → arrays, None where it does not run."""
    if autodiff is None:
        return [None] * len(call.places)
    given, sides = formula.tried[0], formula.sides
    truth = [
        np.full(p.reference.shape, np.nan)
        if p.flat
        else np.where(np.isfinite(p.reference), p.reference, np.where(e < np.inf, p.hand, np.nan))
        for p, e in zip(given.pairs, given.hand.errors, strict=True)
    ]
    out = autodiff(*(call.leaves[k] for k in call.dynamic))
    theirs = [np.asarray(a).astype(np.float64) for a in out]

    def held(shaken: Side) -> list[Numerics]:
        corners = shaken.errors
        if any(note.kind == "kink" for side in (given.reference, given.hand) for note in side.notes):
            undecided = (p.bound > UNDECIDED * np.abs(p.reference) for p in given.pairs)
            corners = [np.where(u, np.inf, s) for u, s in zip(undecided, corners, strict=True)]
        return numerics(truth, given.reference.errors, corners, formula.calls.last, theirs, call.dtype)

    rows = held(given.reference)
    if sides.cornered and not all(r.accurate for r in rows):  # near a corner, a rounding changes much
        rows = held(sides.reference(given.leaves, shake=2 * call.eps))
    return list(rows)
