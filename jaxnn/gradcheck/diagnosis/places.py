"""Where a mistake is that has no name: the first quantity of the backward pass that is wrong.

With few examples, dW[l] = dZ[l]ᵀ A[l-1] gives the candidate's own dZ[l] back. So its steps can be
recomputed one by one, each from what the candidate itself had, though it shows none of them.
"""

import re
import time
from typing import NamedTuple

import numpy as np

from jaxnn.gradcheck.mistakes.finding import Finding, off_entries
from jaxnn.gradcheck.mistakes.numbers import ratio
from jaxnn.gradcheck.report.words import extent, joined, plainly, spoken
from jaxnn.gradcheck.tape.names import cotangent_name
from jaxnn.gradcheck.tape.paths import near, weight_of
from jaxnn.gradcheck.tape.quantities import as_product, dense_rows
from jaxnn.gradcheck.tape.scene import Scene, backward_with, gradient_with
from jaxnn.gradcheck.tape.tape import Layer

SECONDS = 1.0  # for the search of one quantity that explains all
LARGE = 200  # entries of a quantity up to which all its directions are tried


class Fault(NamedTuple):
    """A quantity that does not follow from the candidate's own earlier ones."""

    quantity: str
    layer: int
    how: str
    followed: bool = False  # what is below was made of it again, before it was called wrong


def _recovered(scene: Scene, layer: Layer) -> np.ndarray | None:
    """The dZ[l] of dW[l] = dZ[l]ᵀ A[l-1]; None where no dZ[l] gives the candidate's dW[l]."""
    rows = dense_rows(scene, layer)
    g = as_product(scene, layer, scene.hand[layer.weight])
    if rows is None or g is None:
        return None
    a, _ = rows
    d, _, rank, _ = np.linalg.lstsq(a.T, g.T, rcond=1e-10)
    return d if rank == len(a) and near(d.T @ a, g) else None


def compare(found: np.ndarray, right: np.ndarray, what: str) -> str:
    """In words, how an array differs from the one it should be; rows are examples."""
    if not np.isfinite(found).all():
        return f"{what} is not finite"
    if not found.any():
        return f"{what} is zero"
    off = ~(np.abs(found - right) <= 1e-8 * max(np.abs(right).max(initial=0), np.abs(found).max()))
    with np.errstate(all="ignore"):
        quotient = np.where(right != 0, found / right, np.nan)
    known = quotient[np.isfinite(quotient)]
    if not known.size:
        return f"{what} is wrong in {extent(off)}"
    if np.allclose(known, known.flat[0], rtol=1e-7, atol=0) and not np.allclose(known, 1):
        return f"{what} is {spoken(known.flat[0])} times what it should be"
    if not off.all() and off.ndim == 2:
        if not found[off].any():
            return f"{what} is zero in {extent(off)}"
        return f"{what} is wrong in {extent(off)} only (rows are examples)"
    if found.ndim == 2:
        for axis, kind in ((0, "neuron"), (1, "example")):
            middle = np.nanmedian(quotient, axis=axis, keepdims=True)
            if np.allclose(np.where(np.isfinite(quotient), quotient, middle), middle, rtol=1e-7, atol=0):
                return f"{what} is wrong by a factor for each {kind}"
            order = _permutation(found, right, axis)
            if order is not None:
                names = "neurons" if axis else "examples"
                return f"{what} has its {names} in another order ({', '.join(map(str, order[:8]))})"
    values = np.unique(np.round(known, 9))
    if len(values) == 2 and values[0] == 0:
        return f"{what} is multiplied by a mask of 0 and {values[1]:.6g}"
    gap = found - right
    if np.allclose(gap, gap.flat[0], rtol=1e-7, atol=0):
        return f"{gap.flat[0]:.6g} is added to {what}"
    if (known > 0).all():
        return (
            f"{what} has the right signs, but is {known.min():.3g} to {known.max():.3g} times "
            f"what it should be"
        )
    return f"{what} is wrong in every entry"


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
        turned = expected.T if layer.input_side == 1 else expected
        right_w = near(np.asarray(gradient[layer.weight]), scene.hand[layer.weight])
        terms = np.abs(expected).max(initial=0)  # what db is summed of: the sum itself may cancel
        right_b = layer.bias is None or near(
            np.asarray(gradient[layer.bias]), scene.hand[layer.bias], least=terms
        )
        if right_w and right_b:
            continue
        n = layer.number
        w_name = scene.structure.names[layer.weight]
        own = _recovered(scene, layer)
        if right_w and layer.bias is not None:
            b_name = scene.structure.names[layer.bias]
            how = _leaf_words(scene.hand[layer.bias], np.asarray(gradient[layer.bias]), f"db[{n}]")
            out.append(Fault(f"db[{n}] ({b_name})", n, how))
        elif right_b and layer.bias is not None and not near(gradient[layer.bias], np.zeros(()), least=terms):
            how = _leaf_words(scene.hand[layer.weight], np.asarray(gradient[layer.weight]), f"dW[{n}]")
            out.append(Fault(f"dW[{n}] ({w_name})", n, how))
        elif own is not None:
            followed = cotangents[layer.z].shape == expected.shape
            how = compare(own, turned, f"dZ[{n}]")
            out.append(Fault(f"dZ[{n}] (layer {n}, {w_name})", n, how, followed))
            total = own.sum(axis=0)
            size = np.abs(own).sum()
            if layer.bias is not None and not np.allclose(
                total, scene.hand[layer.bias].ravel(), rtol=0, atol=1e-8 * size
            ):
                b_name = scene.structure.names[layer.bias]
                how = compare(scene.hand[layer.bias].ravel(), total, f"db[{n}]")
                out.append(Fault(f"db[{n}] ({b_name})", n, how))
            if followed:
                given = {**given, layer.z: own.T if layer.input_side == 1 else own}
        else:
            how = _leaf_words(scene.hand[layer.weight], np.asarray(gradient[layer.weight]), f"dW[{n}]")
            quantity = f"dW[{n}] ({w_name})"
            if layer.bias is not None and not right_b:  # both are made of dZ[l]
                how, quantity = f"dZ[{n}] is wrong: {how}, and db[{n}] too", f"dZ[{n}] (layer {n}, {w_name})"
            out.append(Fault(quantity, n, how))
    known = {k for y in layers for k in (y.weight, y.bias)}
    for k in scene.wrong:
        if k not in known:
            name = scene.structure.names[k]
            out.append(Fault(name, 0, _leaf_words(scene.hand[k], scene.reference[k], name)))
    return out


def _leaf_words(found: np.ndarray, right: np.ndarray, what: str) -> str:
    words = compare(found, right, what)
    return words.replace(" (rows are examples)", "").replace("example", "row").replace("neuron", "column")


def single_quantity(scene: Scene) -> str | None:
    """The quantity of fewest directions whose cotangent, changed alone, explains all that is wrong."""
    if any(not np.isfinite(g).all() for g in scene.hand):
        return None
    gap = np.concatenate([(g - r).ravel() for g, r in zip(scene.hand, scene.reference, strict=True)])
    top = np.abs(gap).max(initial=0)
    best: tuple[int, str] | None = None
    parameters = set(scene.structure.views)
    began = time.thread_time()
    own = [{y.z for y in scene.structure.layers}, {y.a for y in scene.structure.layers}]
    for value in sorted(
        scene.point.tape.active - parameters, key=lambda v: (v not in own[0], v not in own[1], -v)
    ):
        if time.thread_time() - began > SECONDS:
            break
        shape = scene.point.tape.shapes[value].shape
        size = int(np.prod(shape))
        if size > LARGE or size >= gap.size or (best and size > best[0] * 4):
            continue
        columns = []
        for n in range(size):
            unit = np.zeros(size)
            unit[n] = 1.0
            g = gradient_with(scene, added={value: unit.reshape(shape)})
            columns.append(
                np.concatenate([(np.asarray(x) - r).ravel() for x, r in zip(g, scene.reference, strict=True)])
            )
        system = np.stack(columns, axis=1)
        answer, _, rank, _ = np.linalg.lstsq(system, gap, rcond=1e-10)
        if (
            rank < gap.size
            and np.abs(system @ answer - gap).max() <= 1e-7 * top
            and (best is None or rank < best[0])
        ):
            best = (int(rank), cotangent_name(scene, value))
    return best[1] if best else None


def _tells(scene: Scene) -> bool:
    """Whether every dZ[l] can be had from dW[l]: few examples, wide layers."""
    rows = [dense_rows(scene, y) for y in scene.structure.layers]
    return all(r is not None and np.linalg.matrix_rank(r[0]) == len(r[0]) for r in rows)


def placed(scenes: list[Scene]) -> list[Finding]:
    """What can be said of a mistake without a name: never none, never with much confidence."""
    able = sorted((s for s in scenes if s.wrong), key=lambda s: (not _tells(s), weight_of(s)))
    if not able:
        return []
    scene = able[0]
    found = faults(scene) if all(np.isfinite(g).all() for g in scene.hand) else None
    given = scenes[0]
    if scene is not given and given.wrong == scene.wrong and all(np.isfinite(g).all() for g in given.hand):
        there = faults(given) if found else None
        if [f.quantity for f in there or []] == [f.quantity for f in found or []]:
            scene, found = given, there  # the rows and entries told are then those of the given point
    names = scene.structure.names
    several = len(scene.wrong) > 1 or len(names) == 1
    quantity = single_quantity(scene) if several and (not found or len(found) > 1) else None
    if found and quantity is None:
        # the topmost is the cause of what is below, unless those steps are wrong themselves
        rest = [f for f in found if f is not found[0]]
        where = joined([f.quantity for f in found])
        one = len({f.quantity.split("[")[0] for f in found}) == 1
        if not rest:
            follows = found[0].followed and found[0].layer > 1
            told = "What follows from it is right." if follows else "All else is right."
            kind = f"{found[0].how}. {told if follows or len(scene.wrong) < len(names) else ''}".rstrip()
        elif found[0].followed or not found[0].quantity.startswith("dZ"):
            kind = "; and ".join([found[0].how, "; ".join(f.how for f in rest)]) + "."
        else:
            kind = f"{found[0].how}. What is below may be wrong for no other reason."
        return [Finding("unknown", kind + _elsewhere(scenes, scene, kind), where, 8 if one else 9)]
    leaves = scene.wrong
    right = [n for k, n in enumerate(names) if k not in leaves]
    where = joined([names[k] for k in leaves]) if right or len(leaves) < 2 else "every parameter"
    told = _extents(scene, leaves)
    seen = _elsewhere(scenes, scene, told)
    if quantity:
        return [
            Finding(
                "unknown",
                f"One mistake in {plainly(quantity)} would explain all that is wrong: {told}.{seen}",
                f"{quantity}, and so {where}",
                8,
            )
        ]
    only = f" The rest ({joined(right)}) is right." if right else ""
    return [Finding("unknown", f"A mistake that has no name here, in {told}.{only}{seen}", where, 9)]


def _elsewhere(scenes: list[Scene], scene: Scene, told: str) -> str:
    """That the rows or entries told are those of another point than the one given."""
    if scene is scenes[0] or not re.search(r"(rows?|columns?|entry|entries) [\d(]", told):
        return ""
    return f" (Seen at another point, of {scene.sizes['N']} examples.)" if "N" in scene.sizes else ""


def _extents(scene: Scene, leaves: list[int]) -> str:
    """What is wrong in which parameters; those that are so in every entry go together."""
    names = scene.structure.names
    parts, whole = [], []
    for k in leaves:
        off = off_entries(scene, k)
        if words := factor_words(scene, k):
            parts.append(words)
        elif off.all():
            whole.append(names[k])
        else:
            parts.append(f"{extent(off)} of {names[k]}")
    every = [f"every entry of {joined(whole)}"] if whole else []
    more = [f"{len(parts) - 3} parameters more"] if len(parts) > 4 else []
    return "; ".join(every + (parts[:3] + more if more else parts))


def factor_words(scene: Scene, k: int) -> str | None:
    """A leaf that is a multiple of the right one, in words."""
    alpha = ratio(scene.hand[k], scene.reference[k], scene, k)
    if alpha is None or np.isnan(alpha):
        return None
    name = scene.structure.names[k]
    return f"{name} is zero" if alpha == 0 else f"{name} is {spoken(alpha)} times what it should be"
