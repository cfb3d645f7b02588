"""Both sides at one point, and what they say of each other there."""

from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxnn.gradcheck.bounds.bounded import SINGLE, UNIT, Note
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
    OUTSIDE = "a point where what is positive is not"
    SIZES = "the same batch three times over"


class Side(NamedTuple):
    """Values and bounds, leaf by leaf.

    fixed: which leaves are constants; notes: what was met; grain: the unit roundoff it has at best,
    where nothing better can be had; loss: its value, where that is known.
    """

    values: list[np.ndarray]
    errors: list[np.ndarray]
    fixed: list[bool]
    notes: dict[Note, int]
    grain: float = UNIT
    loss: float | None = None


class Traced(NamedTuple):
    """A jaxpr of the dynamic leaves, its constants with bounds; outputs: how many to leave out."""

    closed: Any
    consts: list
    skipped: int
    exact: bool  # traced in float64
    varies: bool  # some output depends on a differentiated argument
    grain: float  # the unit roundoff of its numbers, and of arrays that the other side has not got


class Sides(NamedTuple):
    """Both sides as functions of a point: leaves → Side."""

    reference: Callable[..., Side]
    hand: Callable[[list], Side]
    as_meant: Callable[[list], Side]  # no loss of precision carried out
    narrow: Callable[..., Iterator[Side]]  # called only, with bounds of the types it shows to compute in
    program: Traced | None  # the hand-written one; None where it can only be called
    cornered: bool  # the reference compares, sorts or rounds somewhere
    constant: bool  # the hand-written one returns constants, autodiff does not
    weights: frozenset[int]  # the places of leaves that are factors of products of matrices
    notes: list[str]
    as_written: bool  # the loss is read for the caller's precision: in float64 it is another, or none

    def saved(self, given: Side) -> bool:
        """Whether the gradient by hand was computed before; zeros may be meant at every point."""
        return self.constant and any(np.any(v) for v in given.values)


class Pair(NamedTuple):
    """Both sides of one leaf at a point, entry by entry, and what they say of each other."""

    reference: np.ndarray
    hand: np.ndarray
    bound: np.ndarray  # on |hand − reference|
    wrong: np.ndarray
    seen: np.ndarray  # the bound is small enough to tell of the entry
    faint: np.ndarray  # beyond the bound, as by numbers with few digits
    blank: np.ndarray  # by hand not finite, and autodiff says nothing either
    flat: bool = False  # the loss is made of steps in it, by hand there is a slope

    @property
    def off(self) -> np.ndarray:
        """|hand − reference|."""
        with np.errstate(all="ignore"):
            return np.abs(self.hand - self.reference)

    @property
    def top(self) -> float:
        """The size of the largest entry."""
        return np.max(np.abs(self.reference[np.isfinite(self.reference)]), initial=0.0)


class Point(NamedTuple):
    """Both sides at one point, and leaf by leaf what they say of each other."""

    kind: Kind
    call: Call
    leaves: list
    reference: Side
    hand: Side
    pairs: list[Pair]

    @property
    def is_wrong(self) -> bool:
        """Whether any entry is beyond its bound."""
        return any(pair.wrong.any() for pair in self.pairs)

    @property
    def told(self) -> list[bool]:
        """Whether the point tells of every entry of a leaf."""
        return [bool(pair.seen.all()) for pair in self.pairs]

    @property
    def is_blank(self) -> bool:
        """Whether there is an entry of which neither side is finite."""
        return any(pair.blank.any() for pair in self.pairs)


VISIBLE = {UNIT: 1e-6, SINGLE: 1e-2, 1.0: 0.25}
"""A point tells of an entry whose bound is below so much of the largest one; by the unit roundoff it has."""


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
    sides = zip(reference.values, reference.errors, reference.fixed, hand.values, hand.errors, strict=True)
    return Point(
        kind, call, leaves, reference, hand, [_pair(*leaf, visible(reference, hand)) for leaf in sides]
    )


def visible(*sides: Side) -> float:
    """Below how much of the largest entry a bound is small enough to tell of its own."""
    return for_unit(VISIBLE, max(side.grain for side in sides))


def for_unit(table: dict[float, Any], unit: float) -> Any:
    """What a table has for a unit roundoff: what it says of the next coarser one that it lists."""
    return next(value for coarser, value in table.items() if unit <= coarser)


def _pair(r, e_r, fixed: bool, h, e_h, least: float) -> Pair:
    none = np.zeros(r.shape, bool)
    pair = Pair(r, h, np.asarray(e_r + e_h), none, none, none, none)
    sound = np.isfinite(r) & np.isfinite(e_r)
    lost = (sound & ~np.isfinite(h)) | (np.isfinite(r) & np.isnan(h))
    blank = ~np.isfinite(h) & ~lost & (h != r)
    largest = np.max(np.abs(r[sound]), initial=0.0)
    visible_here = sound & (largest > 0) & (pair.bound <= least * largest)
    return pair._replace(
        wrong=(sound & np.isfinite(e_h) & ~(pair.off <= pair.bound)) | lost,
        seen=(visible_here | (fixed and not np.any(r))) & ~blank,
        blank=blank,
    )
