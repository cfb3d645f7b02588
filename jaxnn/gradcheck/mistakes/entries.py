"""Mistakes in one parameter's entries: moved, merged, left out, cut."""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from jaxnn.gradcheck.mistakes.finding import (
    OF_PARAMETERS,
    Finding,
    Leaves,
    Mistake,
    Way,
    beside,
    finding,
    gradient_of,
    holds,
    leaf_roles,
    off_entries,
    ways,
    wrong_leaves,
)
from jaxnn.gradcheck.report.words import extent, joined
from jaxnn.gradcheck.tape.scene import Scene, fits
from jaxnn.gradcheck.tolerances import COMPUTED


def _in_one_row(of: Callable, row: int, r: np.ndarray) -> np.ndarray:
    """One row of these, all else zero."""
    out = np.zeros_like(r)
    out[row] = of(r)
    return out


def _centred(axis: int | None, r: np.ndarray) -> np.ndarray:
    """Its mean taken off, of all or along an axis, where that leaves anything."""
    return r - r.mean(axis, keepdims=True) if (r.size if axis is None else r.shape[axis]) > 1 else r


ANY = "the gradient of any parameter"
SHAPE = "dW[l] = dZ[l]ᵀ A[l-1], of the shape (n_l, n_{l-1}) of W[l]"
PLACE = "dW[l] has the entry of W[l][i, k] at [i, k]"
IN_ORDER = "has its entries in the wrong order: a reshape where a transpose belongs"
SUM = Way("is one number for all entries: their sum", lambda r: np.full_like(r, r.sum()), 0.2)

UNWRITTEN = Mistake(
    "entries-unwritten", "a row, a column or an entry is never written",
    "dW[l] has an entry for every entry of W[l]", "dW1[:-1] = (dZ1.T @ X)[:-1]", ANY,
)  # fmt: skip
TRANSPOSED = Mistake(
    "transposed", "dW is transposed", SHAPE, "dW1 = X.T @ dZ1", "dW[l]",
    (
        Way("is transposed", lambda r: r.T, 0),
        Way("has its first two axes exchanged", lambda r: r.swapaxes(0, 1) if r.ndim > 2 else r, 0.1),
        Way("has its last two axes exchanged", lambda r: r.swapaxes(-1, -2) if r.ndim > 2 else r, 0.1),
    ),
)  # fmt: skip
RESHAPED = Mistake(
    "reshaped", "a reshape where a transpose belongs",
    "dW[l] = dZ[l]ᵀ A[l-1]: a transpose moves entries, a reshape only renames them",
    "dW1 = (X.T @ dZ1).reshape(W1.shape)", "dW[l]",
    (
        Way(IN_ORDER, lambda r: r.reshape(len(r), -1).T.reshape(r.shape), 0.1),
        Way(IN_ORDER, lambda r: r.reshape(r.shape[::-1]).T, 0.1),
        Way(IN_ORDER, lambda r: r.swapaxes(0, 1).reshape(r.shape) if r.ndim > 2 else r, 0.2),
    ),
)  # fmt: skip
ALL_SUMMED = Mistake(
    "bias-summed-over-all", "one number for all of db", "db[l] = dZ[l]ᵀ 1: a sum for each neuron",
    "db1 = dZ1.sum()", "db[l]", (SUM,),
)  # fmt: skip
WRONG_AXIS = Mistake(
    "wrong-axis", "a sum or a mean along an axis that it should not go along",
    "the gradient of a parameter has its shape: an axis that it has is not summed over",
    "dW1 = np.mean(dZ1.T @ X, axis=0) + 0 * W1", ANY,
    (
        SUM,
        Way("is one number for all entries: their mean", lambda r: np.full_like(r, r.mean())),
        Way("is averaged along its first axis", lambda r: np.broadcast_to(r.mean(0), r.shape)),
        Way("is averaged along its last axis", lambda r: np.broadcast_to(r.mean(-1, keepdims=True), r.shape)),
        Way("is summed along its first axis", lambda r: np.broadcast_to(r.sum(0), r.shape)),
        Way("is summed along its last axis", lambda r: np.broadcast_to(r.sum(-1, keepdims=True), r.shape)),
    ),
)  # fmt: skip
MOVED = Mistake(
    "entries-moved", "the right entries in the wrong places: reversed, turned round, off by one", PLACE,
    "dW1 = np.roll(dZ1.T @ X, 1, axis=0)", ANY,
    (
        Way("has its first axis reversed", lambda r: r[::-1]),
        Way("has its last axis reversed", lambda r: r[..., ::-1]),
        Way("is flipped along its first two axes: a kernel turned round",
            lambda r: r[::-1, ::-1] if r.ndim > 2 else r),
        Way("is flipped along its last two axes: a kernel turned round",
            lambda r: r[..., ::-1, ::-1] if r.ndim > 2 else r),
        Way("has the halves of its last axis exchanged", lambda r: np.roll(r, r.shape[-1] // 2, -1)),
        *(Way(f"has its {name} shifted by one", lambda r, by=by, axis=axis: np.roll(r, by, axis))
          for name, axis in (("rows", 0), ("columns", -1)) for by in (1, -1)),
    ),
)  # fmt: skip
ONE_ROW = Mistake(
    "rows-in-one", "every row is written to one row", "dW[l] has the entry of W[l][i, k] at [i, k]",
    "for i in range(n): dX[0] += dZ[i] @ W1  # for dX[i]", ANY,
    tuple(
        Way(f"stands in its {where} row alone, the other rows are 0: {what}", partial(_in_one_row, of, row))
        for where, row, what, of in (
            ("first", 0, "all rows are added up there", lambda r: r.sum(0)),
            ("first", 0, "the last row has overwritten the others there", lambda r: r[-1]),
            ("last", -1, "all rows are added up there", lambda r: r.sum(0)),
            ("last", -1, "the first row stands there", lambda r: r[0]),
        )
    ),
)  # fmt: skip
UNSIGNED = Mistake(
    "signs-lost", "absolute values, or nothing but the sign",
    "dW[l] = dZ[l]ᵀ A[l-1], with its signs and sizes",
    "dW1 = np.sign(dZ1.T @ X)", ANY,
    (
        Way("has lost its signs: absolute values", np.abs),
        Way("is only the sign", np.sign),
    ),
)  # fmt: skip
CENTRED = Mistake(
    "gradient-centred", "its mean is taken off the gradient", "dW[l] = dZ[l]ᵀ A[l-1], and no mean taken off",
    "dW1 = dW1 - dW1.mean()", ANY,
    (
        Way("is centred: its mean is taken off", partial(_centred, None)),
        Way("is centred along its first axis", partial(_centred, 0)),
        Way("is centred along its last axis", partial(_centred, -1)),
    ),
)  # fmt: skip
EXCHANGED = Mistake(
    "gradients-exchanged", "gradients are in each other's place",
    "the gradient of W[l] stands where W[l] does",
    "dW1, dW2 = dW2, dW1", "two parameters of one shape",
)  # fmt: skip
CLIPPED = Mistake(
    "entries-clipped", "clipping of every entry is left on",
    "the gradient is dW; clipping to [−c, c] belongs to the update", "dW1 = np.clip(dW1, -1, 1)",
    "every parameter",
)  # fmt: skip
ROUNDED = Mistake(
    "entries-rounded", "rounded to a few digits, or small entries set to zero",
    "dW[l] = dZ[l]ᵀ A[l-1], to all its digits", "dW1 = np.round(dW1, 3)", ANY,
)  # fmt: skip
OF_ENTRIES = (TRANSPOSED, RESHAPED, ALL_SUMMED, WRONG_AXIS, MOVED, ONE_ROW, UNSIGNED, CENTRED)
OF_NUMBERS = (EXCHANGED, UNWRITTEN, CLIPPED, ROUNDED)
DIGITS = range(1, 9)  # after the point, to which someone may round


def rearranged(scenes: list[Scene]) -> Iterator[Finding]:
    """The right numbers of a parameter's gradient, in the wrong places, or made one."""
    wrong = wrong_leaves(scenes)
    if not wrong:
        return
    _, biases = leaf_roles(scenes[0])
    for mistake, way in ways(OF_ENTRIES):
        if mistake is ALL_SUMMED and biases and not set(wrong) <= biases:
            continue
        if holds(scenes, partial(_with_entries, way.of, wrong)):
            says = f"{gradient_of(scenes, wrong)} {way.says}."
            yield finding(mistake, says, "{of}", way.rank, of=Leaves(wrong))
            return
    for search in (_exchanged, _unwritten, _clipped, _rounded):
        yield from search(scenes, wrong)


def _with_entries(f: Callable, leaves: tuple[int, ...], scene: Scene) -> list[np.ndarray]:
    """The gradient with some parameters' made f of the right one."""
    clean = (np.where(np.abs(r) <= b, 0, r) for r, b in zip(scene.reference, scene.bound, strict=True))
    with np.errstate(all="ignore"):
        return [f(r) if k in leaves and r.ndim else r for k, r in enumerate(clean)]


def _is_that_of(scene: Scene, k: int, other: int) -> bool:
    """Whether the gradient of one parameter is the right one of another."""
    r = scene.reference[other]
    there = [r if n == k else own for n, own in enumerate(scene.reference)]
    return bool(r.any()) and r.shape == scene.hand[k].shape and fits(scene, there, [k])


def _exchanged(scenes, wrong: tuple[int, ...]) -> Iterator[Finding]:
    """Two parameters' gradients exchanged, or one's given for another."""
    others, told, parts = range(len(scenes[0].hand)), [], {}
    for k in wrong:
        sources = [o for o in others if o != k and all(_is_that_of(s, k, o) for s in scenes)]
        if not sources:
            return
        told.append(f"{{own{k}}} has that of {{other{k}}}")
        parts |= {f"own{k}": Leaves((k,)), f"other{k}": Leaves((sources[-1],))}
    one = f"The gradient of {{of}} is that of {{other{wrong[0]}}}."
    says = one if len(wrong) == 1 else f"Gradients are in each other's place: {joined(told)}."
    yield finding(EXCHANGED, says, "{of}", 0.5, of=Leaves(wrong), **parts)


def _unwritten(scenes, wrong: tuple[int, ...]) -> Iterator[Finding]:
    """Entries that are zero."""
    layers, extents = scenes[0].structure.layers, {}
    for k in wrong:
        for s in scenes:
            off, top = off_entries(s, k), np.abs(s.reference[k]).max(initial=0)
            if off.all() or (off.any() and not np.abs(s.hand[k][off]).max() <= COMPUTED * top):
                return
        extents[k] = next(extent(off) for s in scenes if (off := off_entries(s, k)).any())
    where = joined([f"{{extent{k}}} of {{of{k}}}" for k in wrong])
    parts = {f"of{k}": Leaves((k,)) for k in wrong} | {f"extent{k}": x for k, x in extents.items()}
    steady = all(_same_place(scenes, k) for k in wrong)
    for y in layers:
        if y.bias in extents and extents[y.bias] == extents.get(y.weight):
            says = f"dZ[{{l}}] is zero for some neurons: {where} get nothing."
            yield finding(UNWRITTEN, says, "dZ[{l}] (layer {l})", 0.3, steady, l=y.number, **parts)
            return
    if any(beside(s, wrong) for s in scenes):
        says = f"In {where} the gradient is {OF_PARAMETERS}."
        yield finding(UNWRITTEN, says, where, 0.3, steady and bool(layers), **parts)
        return
    why = "Never written, and so zero" if steady else "Never written, or cut off, and so zero"
    yield finding(UNWRITTEN, f"{why}: {where}.", where, 0.3, steady, **parts)


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


def _clipped(scenes, wrong: tuple[int, ...]) -> Iterator[Finding]:
    """Entries clipped to an interval."""
    sizes = np.concatenate([np.abs(s.hand[k][off_entries(s, k)]) for s in scenes for k in s.wrong])
    c = float(sizes.max())
    clipped = partial(_with_entries, partial(np.clip, a_min=-c, a_max=c), wrong)
    if c > 0 and sizes.min() >= c * (1 - COMPUTED) and holds(scenes, clipped):
        says, of = "Every entry of {of} is clipped to ±{c:.6g}.", Leaves(wrong)
        yield finding(CLIPPED, says, "{of}", 0.5, of=of, c=c)


def _rounded(scenes, wrong: tuple[int, ...]) -> Iterator[Finding]:
    """Entries rounded to a number of digits, or dropped where they are small."""
    of = Leaves(wrong)
    for digits in DIGITS:
        if holds(scenes, partial(_with_entries, partial(np.round, decimals=digits), wrong)):
            says = gradient_of(scenes, wrong) + " is rounded to {digits} digits after the point."
            yield finding(ROUNDED, says, "{of}", 1, of=of, digits=digits)
            return
    low, high = 0.0, np.inf
    for s in scenes:
        for k in wrong:
            off, size = off_entries(s, k), np.abs(s.reference[k])
            if s.hand[k][off].any():
                return
            kept = size[s.hand[k] != 0]
            low, high = max(low, size[off].max(initial=0)), min(high, kept.min(initial=np.inf))
    if 0 < low < high < np.inf:
        says = "Entries of {of} smaller than {low:.3g} to {high:.3g} are set to zero."
        yield finding(ROUNDED, says, "{of}", 0.2, of=of, low=low, high=high)
