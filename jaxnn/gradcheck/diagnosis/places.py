"""Where a mistake is that has no name: the first quantity of the backward pass that is wrong.

With few examples, dW[l] = dZ[l]ᵀ A[l-1] gives the candidate's own dZ[l] back. So its steps can be
recomputed one by one, each from what the candidate itself had, though it shows none of them.
"""

import math
from typing import NamedTuple

import numpy as np

from jaxnn.gradcheck.mistakes.finding import (
    UNKNOWN,
    UNPLACED,
    Cotangent,
    Finding,
    Leaves,
    finding,
    off_entries,
)
from jaxnn.gradcheck.mistakes.numbers import ratio
from jaxnn.gradcheck.report.words import extent, joined, spoken
from jaxnn.gradcheck.tape.names import Names
from jaxnn.gradcheck.tape.paths import near, weight_of
from jaxnn.gradcheck.tape.quantities import as_product, dense_rows
from jaxnn.gradcheck.tape.scene import Scene, backward_with, gradient_with
from jaxnn.gradcheck.tape.tape import Layer
from jaxnn.gradcheck.tape.work import Spent, Work
from jaxnn.gradcheck.tolerances import COMPUTED, FITTED

LARGE = 200  # entries of a quantity up to which all its directions are tried


class How(NamedTuple):
    """How an array differs from the one it should be; entries: whether it says which of them do."""

    says: str
    entries: bool = False


class Fault(NamedTuple):
    """A quantity that does not follow from the candidate's own earlier ones."""

    kind: str  # dZ, dW, db, or "" for a parameter of no layer
    layer: int
    leaf: int
    how: How
    followed: bool = False  # what is below was made of it again, before it was called wrong

    @property
    def quantity(self) -> str:
        """By its letter."""
        return f"{self.kind}[{self.layer}]" if self.kind else ""

    def named(self, names: Names) -> str:
        """By its letter and what it belongs to."""
        of = names.parameters[self.leaf]
        if not self.kind:
            return of
        return (
            f"{self.quantity} (layer {self.layer}, {of})" if self.kind == "dZ" else f"{self.quantity} ({of})"
        )

    def sentence(self, names: Names) -> str:
        """What is the matter with it."""
        return f"{self.quantity or names.parameters[self.leaf]} {self.how.says}"


def _recovered(scene: Scene, layer: Layer) -> np.ndarray | None:
    """The dZ[l] of dW[l] = dZ[l]ᵀ A[l-1]; None where no dZ[l] gives the candidate's dW[l]."""
    rows = dense_rows(scene, layer)
    g = as_product(scene, layer, scene.hand[layer.weight])
    if rows is None or g is None:
        return None
    a, _ = rows
    d, _, rank, _ = np.linalg.lstsq(a.T, g.T, rcond=COMPUTED)
    return d if rank == len(a) and near(d.T @ a, g) else None


def how_off(found: np.ndarray, right: np.ndarray, row: str = "row", column: str = "column") -> How:
    """In words, how an array differs from the one it should be."""
    if not np.isfinite(found).all():
        return How("is not finite")
    if not found.any():
        return How("is zero")
    off = ~(np.abs(found - right) <= FITTED * max(np.abs(right).max(initial=0), np.abs(found).max()))
    with np.errstate(all="ignore"):
        quotient = np.where(right != 0, found / right, np.nan)
    known = quotient[np.isfinite(quotient)]
    if not known.size:
        return How(f"is wrong in {extent(off)}", True)
    if _alike(known) and not np.allclose(known, 1):
        return How(f"is {spoken(known.flat[0])} times what it should be")
    if not off.all() and off.ndim == 2:
        of = " only (rows are examples)" if row == "example" else " only"
        return How(f"is {'wrong' if found[off].any() else 'zero'} in {extent(off)}{of}", True)
    if found.ndim == 2:
        for axis, kind, other in ((0, column, row), (1, row, column)):
            middle = np.nanmedian(quotient, axis=axis, keepdims=True)
            if np.allclose(np.where(np.isfinite(quotient), quotient, middle), middle, rtol=FITTED, atol=0):
                return How(f"is wrong by a factor for each {kind}")
            order = _permutation(found, right, axis)
            if order is not None:
                return How(f"has its {other}s in another order ({', '.join(map(str, order[:8]))})")
    values = np.unique(np.round(known, 9))
    if len(values) == 2 and values[0] == 0:
        return How(f"is multiplied by a mask of 0 and {values[1]:.6g}")
    gap = found - right
    if _alike(gap):
        return How(f"has {gap.flat[0]:.6g} added to it")
    if (known > 0).all():
        times = f"{known.min():.3g} to {known.max():.3g} times what it should be"
        return How(f"has the right signs, but is {times}")
    return How("is wrong in every entry")


def _alike(values: np.ndarray) -> bool:
    return np.allclose(values, values.flat[0], rtol=FITTED, atol=0)


def _permutation(found: np.ndarray, right: np.ndarray, axis: int) -> list[int] | None:
    f, r = (found, right) if axis == 0 else (found.T, right.T)
    order = [int(np.argmin(np.abs(r - row).max(axis=1))) for row in f]
    return order if sorted(order) == list(range(len(r))) and near(f, r[order]) else None


def faults(scene: Scene) -> list[Fault] | None:
    """The wrong quantities of a chain of dense layers, from the top down; None where it is none."""
    layers = scene.structure.layers
    loop = scene.structure.turns or any(n.name in {"scan", "while"} for n in scene.point.tape.nodes)
    if not layers or loop or len({y.weight for y in layers}) < len(layers):
        return None
    if any(dense_rows(scene, y) is None for y in layers):
        return None
    out: list[Fault] = []
    given: dict[int, np.ndarray] = {}
    for layer in reversed(layers):
        gradient, cotangents = backward_with(scene, given=given)
        expected = np.asarray(cotangents[layer.product])
        followed = cotangents[layer.z].shape == expected.shape
        own, found = _faults_of(scene, layer, gradient, expected.T if layer.input_side == 1 else expected)
        followed = followed and own is not None
        out += [f._replace(followed=followed and f.kind == "dZ") for f in found]
        if followed:
            given = {**given, layer.z: own.T if layer.input_side == 1 else own}
    known = {k for y in layers for k in (y.weight, y.bias)}
    rest = [k for k in scene.wrong if k not in known]
    return out + [Fault("", 0, k, how_off(scene.hand[k], scene.reference[k])) for k in rest]


def _faults_of(scene: Scene, layer: Layer, gradient, expected: np.ndarray):
    """(the candidate's own dZ[l] where it is wrong, the faults of a layer), given what is above it."""
    n, w, b, hand = layer.number, layer.weight, layer.bias, scene.hand
    terms = np.abs(expected).max(initial=0)  # what db is summed of: the sum itself may cancel
    right_w = near(np.asarray(gradient[w]), hand[w])
    right_b = b is None or near(np.asarray(gradient[b]), hand[b], least=terms)
    if right_w and right_b:
        return None, []
    if right_w and b is not None:
        return None, [Fault("db", n, b, how_off(hand[b], np.asarray(gradient[b])))]
    off = how_off(hand[w], np.asarray(gradient[w]))
    if right_b and b is not None and not near(gradient[b], np.zeros(()), least=terms):
        return None, [Fault("dW", n, w, off)]
    own = _recovered(scene, layer)
    if own is None and b is not None and not right_b:  # both are made of dZ[l]
        return None, [Fault("dZ", n, w, How(f"is wrong: dW[{n}] {off.says}, and db[{n}] too", off.entries))]
    if own is None:
        return None, [Fault("dW", n, w, off)]
    found = [Fault("dZ", n, w, how_off(own, expected, "example", "neuron"))]
    total = own.sum(axis=0)
    if b is not None and np.abs(total - hand[b].ravel()).max(initial=0) > FITTED * np.abs(own).sum():
        found.append(Fault("db", n, b, how_off(hand[b].ravel(), total)))
    return own, found


def single_quantity(scene: Scene) -> int | None:
    """The value of fewest directions whose cotangent, changed alone, explains all that is wrong."""
    if any(not np.isfinite(g).all() for g in scene.hand):
        return None
    gap = np.concatenate([(g - r).ravel() for g, r in zip(scene.hand, scene.reference, strict=True)])
    top = np.abs(gap).max(initial=0)
    best: tuple[int, int] | None = None
    own = [{y.z for y in scene.structure.layers}, {y.a for y in scene.structure.layers}]
    for value in sorted(
        scene.point.tape.active - set(scene.structure.views),
        key=lambda v: (v not in own[0], v not in own[1], -v),
    ):
        shape = scene.point.tape.shapes[value].shape
        size = int(np.prod(shape))
        if size > LARGE or size >= gap.size or (best and size > best[0] * 4):
            continue
        columns = []
        for unit in np.eye(size):
            g = gradient_with(scene, added={value: unit.reshape(shape)})
            columns.append(
                np.concatenate([(np.asarray(x) - r).ravel() for x, r in zip(g, scene.reference, strict=True)])
            )
        system = np.stack(columns, axis=1)
        answer, _, rank, _ = np.linalg.lstsq(system, gap, rcond=COMPUTED)
        explained = np.abs(system @ answer - gap).max() <= FITTED * top
        if rank < gap.size and explained and (best is None or rank < best[0]):
            best = (int(rank), value)
    return best[1] if best else None


def _tells(scene: Scene) -> bool:
    """Whether every dZ[l] can be had from dW[l]: few examples, wide layers."""
    rows = [dense_rows(scene, y) for y in scene.structure.layers]
    return all(r is not None and np.linalg.matrix_rank(r[0]) == len(r[0]) for r in rows)


def _is_finite(scene: Scene) -> bool:
    return all(np.isfinite(g).all() for g in scene.hand)


def placed(scenes: list[Scene], names: Names) -> tuple[list[Finding], Spent | None]:
    """What can be said of a mistake without a name, and why no more: never none, never with confidence."""
    able = sorted((s for s in scenes if s.wrong), key=lambda s: (not _tells(s), weight_of(s)))
    if not able:
        return [], None
    scene, given = able[0], scenes[0]
    free = Work(seconds=math.inf)  # one backward pass a layer, whatever has been spent
    found = faults(scene._replace(work=free)) if _is_finite(scene) else None
    if found and scene is not given and given.wrong == scene.wrong and _is_finite(given):
        there = faults(given._replace(work=free)) or []
        if [(f.kind, f.layer, f.leaf) for f in there] == [(f.kind, f.layer, f.leaf) for f in found]:
            scene, found = given, there  # the rows and entries told are then those of the given point
    several = len(scene.wrong) > 1 or len(scene.hand) == 1
    quantity, spent = None, None
    if several and (not found or len(found) > 1):
        try:
            quantity = single_quantity(scene)
        except Spent as why:
            spent = why
    if found and quantity is None:
        return [_of_faults(found, scene, given, names)], spent
    return [_of_leaves(scene, given, quantity, names)], spent


def _of_faults(found: list[Fault], scene: Scene, given: Scene, names: Names) -> Finding:
    """The topmost is the cause of what is below, unless those steps are wrong themselves."""
    first, *rest = found
    told = first.sentence(names)
    if rest and (first.followed or first.kind != "dZ"):
        told += f"; and {'; '.join(f.sentence(names) for f in rest)}."
    elif rest:
        told += ". What is below may be wrong for no other reason."
    elif first.followed and first.layer > 1:
        told += ". What follows from it is right."
    else:
        told += ". All else is right." if len(scene.wrong) < len(names.parameters) else "."
    seen = _elsewhere(scene, given, any(f.how.entries for f in found))
    where = joined([f.named(names) for f in found])
    one = len({f.kind for f in found}) == 1
    mistake = UNKNOWN if first.kind else UNPLACED
    return finding(
        mistake, "{told}{seen}", "{quantities}", 8 if one else 9, told=told, seen=seen, quantities=where
    )


def _of_leaves(scene: Scene, given: Scene, quantity: int | None, names: Names) -> Finding:
    leaves = tuple(scene.wrong)
    right = tuple(k for k in range(len(scene.hand)) if k not in leaves)
    where = "{of}" if right or len(leaves) < 2 else "every parameter"
    told, entries = _extents(scene, names)
    parts = {"of": Leaves(leaves), "told": told, "seen": _elsewhere(scene, given, entries)}
    if quantity is not None:
        says = "One mistake in {quantity} would explain all that is wrong: {told}.{seen}"
        own = quantity in {v for y in scene.structure.layers for v in (y.z, y.a, y.product)}
        return finding(
            UNKNOWN if own else UNPLACED,
            says, "{quantity}, and so " + where, 8, scene=scene, quantity=Cotangent(quantity), **parts,
        )  # fmt: skip
    only = " The rest ({right}) is right." if right else ""
    says = "A mistake that has no name here, in {told}." + only + "{seen}"
    return finding(UNPLACED, says, where, 9, right=Leaves(right), **parts)


def _elsewhere(scene: Scene, given: Scene, entries: bool) -> str:
    """That the rows or entries told are those of another point than the one given."""
    if scene is given or not entries or "N" not in scene.sizes:
        return ""
    return f" (Seen at another point, of {scene.sizes['N']} examples.)"


def _extents(scene: Scene, names: Names) -> tuple[str, bool]:
    """What is wrong in which parameters, and whether single entries are told."""
    parts, whole, entries = [], [], False
    for k in scene.wrong:
        name, off = names.parameters[k], off_entries(scene, k)
        alpha = ratio(scene.hand[k], scene.reference[k], scene, k)
        if alpha is not None and not np.isnan(alpha):
            parts.append(f"{name} is " + (f"{spoken(alpha)} times what it should be" if alpha else "zero"))
        elif off.all():
            whole.append(name)
        else:
            parts.append(f"{extent(off)} of {name}")
            entries = True
    every = [f"every entry of {joined(whole)}"] if whole else []
    more = [f"{len(parts) - 3} parameters more"] if len(parts) > 4 else []
    return "; ".join(every + (parts[:3] + more if more else parts)), entries
