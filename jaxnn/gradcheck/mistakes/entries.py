"""Mistakes in one parameter's entries: moved, merged, left out, cut."""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from jaxnn.gradcheck.mistakes.finding import Finding, holds, off_entries
from jaxnn.gradcheck.mistakes.numbers import OF_PARAMETERS, beside, leaf_roles
from jaxnn.gradcheck.report.words import extent, joined
from jaxnn.gradcheck.tape.scene import Scene, fits

Rearrangement = tuple[str, str, Callable[[np.ndarray], np.ndarray], float]

REARRANGEMENTS: tuple[Rearrangement, ...] = (
    ("transposed", "is transposed", lambda r: r.T, 0),
    (
        "reshaped",
        "has its entries in the wrong order: a reshape where a transpose belongs",
        lambda r: r.T.reshape(r.shape),
        0.1,
    ),
    (
        "reshaped",
        "has its entries in the wrong order: a reshape where a transpose belongs",
        lambda r: r.reshape(r.shape[::-1]).T,
        0.1,
    ),
    (
        "bias-summed-over-all",
        "is one number for all entries: their sum",
        lambda r: np.full_like(r, r.sum()),
        0.2,
    ),
    ("unknown", "is one number for all entries: their mean", lambda r: np.full_like(r, r.mean()), 1),
    ("unknown", "has its first axis reversed", lambda r: r[::-1], 1),
    ("unknown", "has its last axis reversed", lambda r: r[..., ::-1], 1),
    (
        "unknown",
        "is flipped along its first two axes: a kernel turned round",
        lambda r: r[::-1, ::-1] if r.ndim > 2 else r,
        1,
    ),
    (
        "unknown",
        "is flipped along its last two axes: a kernel turned round",
        lambda r: r[..., ::-1, ::-1] if r.ndim > 2 else r,
        1,
    ),
    ("transposed", "has its first two axes exchanged", lambda r: r.swapaxes(0, 1) if r.ndim > 2 else r, 0.1),
    ("transposed", "has its last two axes exchanged", lambda r: r.swapaxes(-1, -2) if r.ndim > 2 else r, 0.1),
    ("unknown", "has its rows shifted by one", lambda r: np.roll(r, 1, 0), 1),
    ("unknown", "has its rows shifted by one", lambda r: np.roll(r, -1, 0), 1),
    ("unknown", "has its columns shifted by one", lambda r: np.roll(r, 1, -1), 1),
    ("unknown", "has its columns shifted by one", lambda r: np.roll(r, -1, -1), 1),
    ("unknown", "has lost its signs: absolute values", np.abs, 1),
    ("unknown", "is squared", np.square, 1),
    ("unknown", "is only the sign", np.sign, 1),
    ("unknown", "is cut to positive entries", lambda r: np.maximum(r, 0), 1),
    ("unknown", "is centred: its mean is taken off", lambda r: r - r.mean(), 1),
    ("unknown", "is centred along its first axis", lambda r: r - r.mean(axis=0), 1),
    ("unknown", "is centred along its last axis", lambda r: r - r.mean(axis=-1, keepdims=True), 1),
    ("unknown", "is averaged along its first axis", lambda r: np.broadcast_to(r.mean(0), r.shape), 1),
    (
        "unknown",
        "is averaged along its last axis",
        lambda r: np.broadcast_to(r.mean(-1, keepdims=True), r.shape),
        1,
    ),
    ("unknown", "is summed along its first axis", lambda r: np.broadcast_to(r.sum(0), r.shape), 1),
    (
        "unknown",
        "is summed along its last axis",
        lambda r: np.broadcast_to(r.sum(-1, keepdims=True), r.shape),
        1,
    ),
)


def rearranged(scenes: list[Scene]) -> Iterator[Finding]:
    """The right numbers of a parameter's gradient, in the wrong places, or made one."""
    wrong = sorted({k for s in scenes for k in s.wrong})
    names = scenes[0].structure.names
    if not wrong:
        return
    where = joined([names[k] for k in wrong])
    _, biases = leaf_roles(scenes[0])
    for id, words, f, rank in REARRANGEMENTS:
        if id.startswith("bias") and biases and not set(wrong) <= biases:
            id = "unknown"

        if holds(scenes, partial(_with_entries, f, wrong)):
            yield Finding(id, f"The gradient of {where} {words}.", where, rank)
            return
    yield from _swapped(scenes, wrong)
    yield from _unwritten(scenes, wrong)
    yield from _cut(scenes, wrong)
    yield from _coarse(scenes, wrong)


def _with_entries(f: Callable, leaves: list[int], scene: Scene) -> list[np.ndarray]:
    """The gradient with some parameters' made f of the right one."""
    with np.errstate(all="ignore"):
        return [f(r) if k in leaves and r.ndim else r for k, r in enumerate(scene.reference)]


def _swapped(scenes, wrong) -> Iterator[Finding]:
    """Two parameters' gradients exchanged, or one's given for another."""
    names = scenes[0].structure.names
    sources = {}
    for k in wrong:
        for other in range(len(names)):
            if other != k and all(
                s.reference[other].shape == s.hand[k].shape
                and s.reference[other].any()
                and fits(s, [s.reference[other] if n == k else x for n, x in enumerate(s.hand)], [k])
                for s in scenes
            ):
                sources[k] = other
    if len(sources) == len(wrong):
        told = joined([f"{names[k]} has that of {names[o]}" for k, o in sources.items()])
        one = f"The gradient of {names[wrong[0]]} is that of {names[sources[wrong[0]]]}."
        yield Finding(
            "unknown",
            one if len(wrong) == 1 else f"Gradients are in each other's place: {told}.",
            joined([names[k] for k in wrong]),
            0.5,
        )


def _unwritten(scenes, wrong) -> Iterator[Finding]:
    names, layers = scenes[0].structure.names, scenes[0].structure.layers
    told, extents = [], {}
    for k in wrong:
        for s in scenes:
            off = off_entries(s, k)
            top = np.abs(s.reference[k]).max(initial=0)
            if off.all() or (off.any() and not np.abs(s.hand[k][off]).max() <= 1e-10 * top):
                return
        s = next(s for s in scenes if off_entries(s, k).any())
        extents[k] = extent(off_entries(s, k))
        told.append(f"{extents[k]} of {names[k]}")
    for y in layers:
        if y.bias in extents and extents[y.bias] == extents.get(y.weight):
            neurons = extents[y.bias].replace("row", "neuron")
            sentence = f"dZ[{y.number}] is zero for {neurons}: {joined(told)} get nothing."
            yield Finding("unknown", sentence, f"dZ[{y.number}] (layer {y.number})", 0.3)
            return
    where = joined(told)
    steady = all(_same_place(scenes, k) for k in wrong)
    if any(beside(s, wrong) for s in scenes):
        id = "entries-unwritten" if layers else "unknown"
        yield Finding(id, f"In {where} the gradient is {OF_PARAMETERS}.", where, 0.3, steady)
        return
    why = "Never written, and so zero" if steady else "Never written, or cut off, and so zero"
    yield Finding("entries-unwritten", f"{why}: {where}.", where, 0.3, steady)


def _same_place(scenes, k) -> bool:
    """Whether the entries that are off in a leaf are a block that starts or ends where the leaf does.

    Those that depend on the numbers, or on the data, are elsewhere at another point.
    """
    kinds = set()
    for s in scenes:
        off = off_entries(s, k)
        if not off.any():
            continue
        block = tuple(slice(x.min(), x.max() + 1) for x in np.nonzero(off))
        ends = tuple((b.start == 0, b.stop == n) for b, n in zip(block, off.shape, strict=True))
        kinds.add((bool(off[block].all()), ends))
    return len(kinds) == 1 and all(solid and any(any(e) for e in ends) for solid, ends in kinds)


def _cut(scenes, wrong) -> Iterator[Finding]:
    """Entries clipped to an interval."""
    names = scenes[0].structure.names
    limits = set()
    for s in scenes:
        for k in s.wrong:
            off = off_entries(s, k)
            limits |= {float(f"{x:.9g}") for x in np.abs(s.hand[k][off])}
    if len(limits) == 1 and 0 not in limits:
        c = limits.pop()

        where = joined([names[k] for k in wrong])
        if holds(scenes, lambda s: [np.clip(r, -c, c) for r in s.reference]):
            yield Finding("unknown", f"Every entry is clipped to ±{c:.6g}.", where, 0.5)


def _coarse(scenes, wrong) -> Iterator[Finding]:
    """Entries rounded to a number of digits, or dropped where they are small."""
    where = joined([scenes[0].structure.names[k] for k in wrong])
    for digits in range(1, 9):
        if holds(scenes, partial(_with_entries, partial(np.round, decimals=digits), wrong)):
            sentence = f"The gradient of {where} is rounded to {digits} digits after the point."
            yield Finding("unknown", sentence, where, 1)
            return
    low, high = 0.0, np.inf
    for s in scenes:
        for k in wrong:
            off, size = off_entries(s, k), np.abs(s.reference[k])
            if s.hand[k][off].any():
                return
            low, high = max(low, size[off].max(initial=0)), min(high, size[~off].min(initial=np.inf))
    if 0 < low < high:
        sentence = f"Entries of {where} smaller than {low:.3g} to {high:.3g} are set to zero."
        yield Finding("unknown", sentence, where, 0.2)
