"""Both sides at one point, and what they say of each other there."""

from collections.abc import Callable
from enum import Enum
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxnn.gradcheck.bounds.bounded import UNIT, Note
from jaxnn.gradcheck.calls.call import ROUNDINGS, Call


class Kind(Enum):
    """Which point it is; its value is what a report calls it."""

    GIVEN = "the given point"
    AGAIN = "the given point, called again"
    NEAREST = "a point with weights halved until autodiff is finite"
    NEAR = "a point near it"
    SWITCHED = "a point near it, zero scalars switched on"
    FRESH = "a point with fresh weights"
    SMALL = "a point with small weights"
    FRESH_TAMED = "a point with fresh weights and data of size 1"
    SMALL_TAMED = "a point with small weights and data of size 1"
    TURNED = "a point with fresh weights, signs turned"
    SIGNS = "a point where weights change sign"
    SIZES = "the same batch three times over"


class Side(NamedTuple):
    """Values and bounds, leaf by leaf.

    fixed: which leaves are constants; notes: what was met; single: computed in float32 at best,
    where nothing better can be had; loss: its value, where that is known.
    """

    values: list[np.ndarray]
    errors: list[np.ndarray]
    fixed: list[bool]
    notes: dict[Note, int]
    single: bool = False
    loss: float | None = None


class Traced(NamedTuple):
    """A jaxpr of the dynamic leaves, its constants with bounds; outputs: how many to leave out."""

    closed: Any
    consts: list
    skipped: int
    exact: bool  # traced in float64
    varies: bool  # some output depends on a differentiated argument


class Sides(NamedTuple):
    """Both sides as functions of a point: leaves → Side."""

    reference: Callable[..., Side]
    hand: Callable[[list], Side]
    as_meant: Callable[[list], Side]  # no loss of precision carried out
    program: Traced | None  # the hand-written one; None where it can only be called
    cornered: bool  # the reference compares, sorts or rounds somewhere
    precomputed: bool  # the hand-written one returns constants, autodiff does not
    notes: list[str]


class Point(NamedTuple):
    """Both sides at one point, and what they say of each other, leaf by leaf."""

    kind: Kind
    call: Call
    leaves: list
    reference: Side
    hand: Side
    wrong: list[np.ndarray]
    seen: list[np.ndarray]  # the bound is small enough to tell of the entry
    faint: list[np.ndarray]  # beyond the bound, as by numbers with few digits
    blank: list[np.ndarray]  # by hand not finite, and autodiff says nothing either

    @property
    def is_wrong(self) -> bool:
        """Whether any entry is beyond its bound."""
        return any(w.any() for w in self.wrong)

    @property
    def told(self) -> list[bool]:
        """Whether the point tells of every entry of a leaf."""
        return [bool(seen.all()) for seen in self.seen]

    def bound(self, n: int) -> np.ndarray:
        """The bound on |hand − autodiff| of leaf n."""
        return np.asarray(self.reference.errors[n] + self.hand.errors[n])


VISIBLE = 1e-6  # a point tells of an entry whose bound is below so much of the largest one

VISIBLE_SINGLE = 1e-2  # the same for a gradient that is only called, and computes in float32


def in_precision(eps: float, values: np.ndarray, errors: np.ndarray, times: int) -> np.ndarray:
    """Bounds in float64 as bounds of this machine epsilon: so many times over, and a rounding."""
    return times * eps / UNIT * errors + ROUNDINGS * eps * np.abs(values)


def is_coarse(note: Note, dtype) -> bool:
    """Whether a pinned precision is below that of the dtype."""
    if note.kind != "pinned":
        return False
    try:
        return bool(jnp.finfo(note.what).eps > jnp.finfo(dtype).eps)
    except (TypeError, ValueError):
        return True


def compared(kind: Kind, call: Call, leaves: list, reference: Side, hand: Side) -> Point:
    """One side against the other: an entry is wrong beyond its bound."""
    wrong, seen, blank = [], [], []
    visible = VISIBLE_SINGLE if hand.single else VISIBLE
    for n, (r, h) in enumerate(zip(reference.values, hand.values, strict=True)):
        e_r, e_h = reference.errors[n], hand.errors[n]
        with np.errstate(all="ignore"):
            beyond = ~(np.abs(h - r) <= e_r + e_h)
        sound = np.isfinite(r) & np.isfinite(e_r)
        lost = sound & ~np.isfinite(h)
        wrong.append((sound & np.isfinite(e_h) & beyond) | lost)
        largest = np.max(np.abs(r[sound]), initial=0.0)
        visible_here = sound & (largest > 0) & (e_r + e_h <= visible * largest)
        nothing = bool(reference.fixed[n]) and not np.any(r)
        blank.append(~np.isfinite(h) & ~lost & (h != r))
        seen.append((visible_here | nothing) & ~blank[n])
    none = [np.zeros_like(w) for w in wrong]
    return Point(kind, call, leaves, reference, hand, wrong, seen, none, blank)
