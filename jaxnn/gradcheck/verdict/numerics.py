"""The second verdict: how good the numbers are in the precision they are computed in."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxnn.gradcheck.bounds.bounded import UNIT

HEALTHY = 32.0  # a hand-written gradient may use so much more of its bound than autodiff does
ENTRIES = 16  # with fewer entries, how much of its bound autodiff used says nothing
LEAST = 16  # ULPs that any entry may be off, where its bound allows less
CORNER = 1e3  # so many times as unsure when shaken, an entry is beside a corner
AS_GOOD = 2  # no more than so many times autodiff's own error is good wherever it is
BETTER = 8  # so many times smaller than autodiff's is worth a word


class Numerics(NamedTuple):
    """One parameter: errors in ULPs entry by entry, of the two sides; is the hand-written one good.

    relative: error of the hand-written one relative to the largest entry; poor: the entries that
    are not good; better: autodiff's worst error is more than eight times as large.
    """

    ulps: np.ndarray
    autodiff_ulps: np.ndarray
    relative: np.ndarray
    poor: np.ndarray
    accurate: bool
    better: bool


def ulp(values: np.ndarray, dtype) -> np.ndarray:
    """The distance between neighbouring numbers of the dtype at these values."""
    info = jnp.finfo(dtype)
    size = np.maximum(np.abs(values), float(info.tiny))
    _, exponent = np.frexp(np.where(np.isfinite(size), size, 1.0))
    return np.asarray(np.ldexp(float(info.eps), exponent - 1))


def in_ulps(error, at: np.ndarray, dtype) -> np.ndarray:
    """Errors in units in the last place of `at`; not a number counts as infinitely wrong."""
    return np.where(np.isnan(error), np.inf, np.abs(error) / ulp(at, dtype))


def numerics(
    truth: list[np.ndarray],
    bounds: list[np.ndarray],
    shaken: list[np.ndarray],
    hand: list[np.ndarray],
    autodiff: list[np.ndarray],
    dtype,
) -> list[Numerics]:
    """Both gradients, as computed in dtype, against the truth.

    bounds: on the error of the truth, in float64; shaken: the same when every parameter is off by a
    rounding in dtype, so that it is large where a corner is near.
    """
    info = jnp.finfo(dtype)
    scale = float(info.eps) / 2 / UNIT
    largest = float(info.max)
    used, entries = 0.0, 0
    for t, e, a in zip(truth, bounds, autodiff, strict=True):
        sound = np.isfinite(t) & (e > 0) & np.isfinite(e) & np.isfinite(a)
        if sound.any():
            used = max(used, float(np.max(np.abs(a - t)[sound] / (scale * e[sound]))))
        entries += t.size
    share = min(1.0, HEALTHY * used) if entries >= ENTRIES else 1.0
    rows = []
    for t, e, s, h, a in zip(truth, bounds, shaken, hand, autodiff, strict=True):
        room = LEAST * ulp(t, dtype) + share * scale * e
        corner = s > CORNER * (scale * e + ulp(t, dtype))
        room = np.where(corner, room + s, room)
        known = np.isfinite(t) & (np.abs(t) < largest)
        error = np.where(np.isnan(h), np.inf, np.abs(h - t))
        other = np.where(np.isnan(a), np.inf, np.abs(a - t))
        worst_other = np.max(np.where(known, other, 0.0), initial=0.0)
        beaten = error <= AS_GOOD * other
        good = ~known | (error <= room) | (beaten & np.isfinite(error)) | (~np.isfinite(e))
        good = good & (np.isfinite(h) | ~known | ~np.isfinite(a))
        told = known & ~((np.abs(t) <= e) & (e > 0) & np.isfinite(e))  # what may be zero has no last place
        own = np.where(told, in_ulps(h - t, t, dtype), 0.0)
        theirs = np.where(told, in_ulps(a - t, t, dtype), 0.0)
        worst = np.max(np.where(known, error, 0.0), initial=0.0)
        tops = np.max(own, initial=0.0), np.max(theirs, initial=0.0)
        better = good.all() and worst_other > BETTER * worst and tops[1] > max(BETTER * tops[0], LEAST)
        top = np.max(np.abs(t[known]), initial=0.0)
        relative = np.where(known & (error > 0), error / top, 0.0)
        rows.append(Numerics(own, theirs, relative, ~good, bool(good.all()), bool(better)))
    return rows
