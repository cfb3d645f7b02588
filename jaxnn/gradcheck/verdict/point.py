"""Both sides at one point, and what they say of each other there."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxnn.gradcheck.bounds.bounded import Note
from jaxnn.gradcheck.calls.call import Call


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


class Sides(NamedTuple):
    """Both sides as functions of a point: leaves → Side."""

    reference: Callable[..., Side]
    hand: Callable[[list], Side]
    as_meant: Callable[[list], Side]  # no loss of precision carried out
    readable: bool
    cornered: bool  # the reference compares, sorts or rounds somewhere
    precomputed: bool  # the hand-written one returns constants, autodiff does not
    notes: list[str]


class Point(NamedTuple):
    """Both sides at one point, and what they say of each other, leaf by leaf."""

    name: str
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


def is_coarse(note: Note, dtype) -> bool:
    """Whether a pinned precision is below that of the dtype."""
    if note.kind != "pinned":
        return False
    try:
        return bool(jnp.finfo(note.what).eps > jnp.finfo(dtype).eps)
    except (TypeError, ValueError):
        return True


def compared(name: str, call: Call, leaves: list, reference: Side, hand: Side) -> Point:
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
    return Point(name, call, leaves, reference, hand, wrong, seen, none, blank)
