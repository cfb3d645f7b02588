"""Ties that are no kinks: those that last wherever the point is moved, and those that change nothing.

Where two functions are the same all around a point, as min(r A, clip(r) A) inside the range, it makes no
difference which of them is taken. One that meets another only at the point makes a kink there.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import repeat
from typing import NamedTuple

import numpy as np

from jaxnn.gradcheck.bounds.bounded import Bounded, Note, error_of, is_float
from jaxnn.gradcheck.bounds.corners import COMPARISONS

DISTANCE = 2.0**-10  # the point is moved by so much of the size of each array, both ways
CLOSE = 2.0**-16  # of the larger one: two numbers with errors above it may tie anywhere
NOTHING = 1e-290  # the error of a zero that is no more than one of its argument
STEP, LINES = 2.0**-34, 6  # so near, on so many lines, what does not jump is the same
JUMP = 2.0**-26  # of the largest entry: what is less is no jump
WIDER = 4  # times: a bound that ties make no wider than this is not theirs


class Tie(NamedTuple):
    """Of a comparison: where it is in doubt, and where that is since its numbers are the same."""

    open: np.ndarray
    close: np.ndarray


class Read(NamedTuple):
    """A program with bounds: what came out, what was noted, and the ties of its comparisons, in order."""

    out: list[Bounded]
    notes: Counter[Note]
    ties: list[Tie]


def tied(out: Bounded, a: Bounded, b: Bounded) -> Tie:
    """What a comparison of a with b leaves in doubt; numbers that are the same are so but for rounding."""
    if out.error is None:
        return Tie(*[np.broadcast_to(False, out.value.shape)] * 2)
    slack, size = error_of(a) + error_of(b), np.maximum(np.abs(a.value), np.abs(b.value))
    return Tie(out.error > 0, (out.error > 0) & ((slack <= CLOSE * size) | (slack <= NOTHING)))


def kinks(notes: Iterable[Note]) -> bool:
    """Whether anything of a kink was noted."""
    return any(note.kind == "kink" for note in notes)


def read_well(read: Callable[[Sequence, Iterable], Read], args: Sequence, active: Sequence[bool]) -> Read:
    """What is read at args, where ties that are no kinks leave nothing in doubt.

    read(args, certain): certain says of one comparison after another where it is what it comes out as.
    """
    found = read(args, ())
    lasting: list[np.ndarray] = []
    if any(t.close.any() for t in found.ties):
        around = [read(_moved(args, active, way), ()) for way in (DISTANCE, -DISTANCE)]
        if all(map(partial(_alike, found), around)):
            lasting = [np.logical_and.reduce([t.close for t in at]) for at in _by_tie(found, *around)]
            found = read(args, lasting)
    if not kinks(found.notes):
        return found
    certain = read(args, repeat(np.array(True)))
    idle = {note for note in found.notes if note.kind == "kink" and note.what in COMPARISONS}
    settled = found._replace(notes=Counter({n: k for n, k in found.notes.items() if n not in idle}))
    if all(np.isinf(x.errors).all() for x in certain.out):
        return settled  # no tie leaves it open: nothing is known of it
    beside = [read(_moved(args, active, way, k), lasting) for k in range(LINES) for way in (STEP, -STEP)]
    if not all(_broken(found, other) for other in beside):
        return found
    out = list(map(_without_jump, found.out, certain.out, zip(*(b.out for b in beside), strict=True)))
    if all(np.all(x.errors <= WIDER * y.errors + _least(x)) for x, y in zip(out, certain.out, strict=True)):
        return settled._replace(out=out)
    return found._replace(out=out)


def _broken(found: Read, beside: Read) -> bool:
    """Whether no tie is one beside the point too."""
    return _alike(found, beside) and not any((s.open & t.open).any() for s, t in _by_tie(found, beside))


def _least(x: Bounded) -> float:
    """A jump that is none, in a number."""
    return JUMP * np.max(np.abs(x.value[np.isfinite(x.value)]), initial=0.0)


def _without_jump(x: Bounded, certain: Bounded, beside: Iterable[Bounded]) -> Bounded:
    """x, where all beside it is no other as it is where its ties are certain."""
    if x.error is None or not is_float(x.value):
        return x
    apart = np.max([np.abs(y.value - x.value) for y in beside], axis=0)
    return x._replace(
        error=np.where(apart <= _least(x), np.minimum(x.error, certain.errors + 2 * apart), x.error)
    )


def _moved(args: Sequence, active: Sequence[bool], way: float, seed: int = 0) -> list:
    """The arguments that are differentiated, all moved a little."""
    rng = np.random.default_rng(seed)

    def moved(x):
        if isinstance(x, Bounded):
            return x._replace(value=moved(x.value))
        x = np.asarray(x)
        if not is_float(x):
            return x
        size = np.max(np.abs(x[np.isfinite(x)]), initial=0.0) or 1.0
        by = rng.uniform(0.5, 1.0, x.shape) * rng.choice([-1.0, 1.0], x.shape)
        return x + way * by * np.where(x == 0, size, np.abs(x))

    return [moved(x) if live else x for x, live in zip(args, active, strict=True)]


def _alike(a: Read, b: Read) -> bool:
    """Whether both ran through the same comparisons."""
    return [t.open.shape for t in a.ties] == [t.open.shape for t in b.ties]


def _by_tie(*reads: Read) -> Iterator[tuple[Tie, ...]]:
    return zip(*(r.ties for r in reads), strict=True)
