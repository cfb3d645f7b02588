"""Where a mistake is that has no name: the first quantity of the backward pass that is wrong.

With few examples, dW[l] = dZ[l]ᵀ A[l-1] gives the candidate's own dZ[l] back. So its steps can be
recomputed one by one, each from what the candidate itself had, though it shows none of them.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jax.extend.core import Literal

from jaxnn.gradcheck.mistakes import Finding, _extent, _factor_words, _joined, _off, holds
from jaxnn.gradcheck.mistakes import _as_product, _rows, factor_names, ratio
from jaxnn.gradcheck.scenes import Scene, changed
from jaxnn.gradcheck.structure import Layer
from jaxnn.gradcheck.tape import edge

LARGE = 200  # entries of a quantity up to which all its directions are tried


class Fault(NamedTuple):
    """A quantity that does not follow from the candidate's own earlier ones."""

    quantity: str
    layer: int
    how: str


def _near(x: np.ndarray, y: np.ndarray, slack: float = 1e-8) -> bool:
    top = max(np.abs(x).max(initial=0), np.abs(y).max(initial=0))
    return bool(np.allclose(x, y, rtol=0, atol=slack * top + 1e-300))


def _recovered(scene: Scene, layer: Layer) -> np.ndarray | None:
    """The dZ[l] of dW[l] = dZ[l]ᵀ A[l-1]; None where no dZ[l] gives the candidate's dW[l]."""
    rows = _rows(scene, layer)
    g = _as_product(scene, layer, scene.hand[layer.weight])
    if rows is None or g is None:
        return None
    a, _ = rows
    d, _, rank, _ = np.linalg.lstsq(a.T, g.T, rcond=1e-10)
    return d if rank == len(a) and _near(d.T @ a, g) else None


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
    if known.size and np.allclose(known, known.flat[0], rtol=1e-7, atol=0):
        return f"{what} is {known.flat[0]:.6g} times what it should be"
    if not off.all() and off.ndim == 2:
        if not found[off].any():
            return f"{what} is zero in {_extent(off)}"
        return f"{what} is wrong in {_extent(off)} only (rows are examples)"
    if found.ndim == 2:
        for axis, kind in ((0, "neuron"), (1, "example")):
            middle = np.nanmedian(quotient, axis=axis, keepdims=True)
            if np.allclose(
                np.where(np.isfinite(quotient), quotient, middle), middle, rtol=1e-7, atol=0
            ):  # noqa: E501
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
        return f"{what} has the right signs, but is {known.min():.3g} to {known.max():.3g} times what it should be"  # noqa: E501
    return f"{what} is wrong in every entry"


def _permutation(found: np.ndarray, right: np.ndarray, axis: int) -> list[int] | None:
    f, r = (found, right) if axis == 0 else (found.T, right.T)
    order = [int(np.argmin(np.abs(r - row).max(axis=1))) for row in f]
    return order if sorted(order) == list(range(len(r))) and _near(f, r[order]) else None


def faults(scene: Scene) -> list[Fault] | None:
    """The wrong quantities of a chain of dense layers, from the top down; None where it is none."""
    layers = scene.structure.layers
    if not layers or len({y.weight for y in layers}) < len(layers):
        return None
    if any(_rows(scene, y) is None for y in layers):
        return None
    out: list[Fault] = []
    given: dict[int, np.ndarray] = {}
    for layer in reversed(layers):
        gradient, cotangents = scene.point.pull(changed(scene, given=given))
        expected = np.asarray(cotangents[layer.product])
        turned = expected.T if layer.input_side == 1 else expected
        right_w = _near(np.asarray(gradient[layer.weight]), scene.hand[layer.weight])
        right_b = layer.bias is None or _near(
            np.asarray(gradient[layer.bias]), scene.hand[layer.bias]
        )  # noqa: E501
        if right_w and right_b:
            continue
        n = layer.number
        w_name = scene.structure.names[layer.weight]
        own = _recovered(scene, layer)
        if right_w:
            b_name = scene.structure.names[layer.bias] if layer.bias is not None else ""
            how = _leaf_words(scene.hand[layer.bias], np.asarray(gradient[layer.bias]), f"db[{n}]")
            out.append(Fault(f"db[{n}] ({b_name})", n, how))
        elif right_b and (layer.bias is not None):
            how = _leaf_words(
                scene.hand[layer.weight], np.asarray(gradient[layer.weight]), f"dW[{n}]"
            )
            out.append(Fault(f"dW[{n}] ({w_name})", n, how))
        elif own is not None:
            out.append(Fault(f"dZ[{n}] (layer {n})", n, compare(own, turned, f"dZ[{n}]")))
            total = own.sum(axis=0)
            if layer.bias is not None and not _near(total, scene.hand[layer.bias].ravel()):
                b_name = scene.structure.names[layer.bias]
                how = compare(scene.hand[layer.bias].ravel(), total, f"db[{n}]")
                out.append(Fault(f"db[{n}] ({b_name})", n, how))
            if cotangents[layer.z].shape == expected.shape:
                given = {**given, layer.z: own.T if layer.input_side == 1 else own}
        else:
            how = _leaf_words(
                scene.hand[layer.weight], np.asarray(gradient[layer.weight]), f"dW[{n}]"
            )  # noqa: E501
            out.append(
                Fault(
                    f"dZ[{n}] (layer {n})" if layer.bias is not None else f"dW[{n}] ({w_name})",
                    n,
                    how,
                )
            )  # noqa: E501
    known = {k for y in layers for k in (y.weight, y.bias)}
    for k in scene.wrong:
        if k not in known:
            name = scene.structure.names[k]
            out.append(Fault(name, 0, _leaf_words(scene.hand[k], scene.reference[k], name)))
    return out


def _leaf_words(found: np.ndarray, right: np.ndarray, what: str) -> str:
    words = compare(found, right, what)
    return (
        words.replace(" (rows are examples)", "")
        .replace("example", "row")
        .replace("neuron", "column")
    )  # noqa: E501


def scaled_edges(scenes: list[Scene]) -> Iterator[Finding]:
    """One path of the graph is not differentiated, or with another factor; or one step's derivative."""
    probe = min((s for s in scenes if s.wrong), key=_weight, default=None)
    if probe is None or any(not np.isfinite(g).all() for g in probe.hand):
        return
    tape = probe.point.tape
    seen: set[tuple] = set()
    for place, node in enumerate(tape.nodes):
        for k, i in enumerate(node.inputs):
            if isinstance(i, Literal) or edge(place, k) not in probe.point.change.gains:
                continue
            without = probe.point.pull(changed(probe, gains={(place, k): 0.0}))[0]
            paths = [r - np.asarray(w) for r, w in zip(probe.reference, without, strict=True)]
            size = sum(np.vdot(p, p) for p in paths)
            if size == 0:
                continue
            alpha = float(
                sum(np.vdot(p, g - w) for p, g, w in zip(paths, probe.hand, without, strict=True))
                / size
            )  # noqa: E501
            near = float(f"{alpha:.7g}")

            def predict(scene, place=place, k=k, a=near):
                return scene.point.pull(changed(scene, gains={(place, k): a}))[0]

            told = _describe(probe, place)
            key = ("gain", tuple(np.round([np.abs(p).sum() for p in paths], 9)))
            if key not in seen and abs(near - 1) > 1e-9 and holds(scenes, predict):
                seen.add(key)
                how = "is not differentiated" if abs(near) < 1e-9 else f"counts {near:.6g} times"
                sentence = f"The path through {told} {how}."
                yield Finding(
                    "unknown",
                    sentence,
                    f"the cotangent of {_input_name(probe, i)}",
                    3 + 1e-3 * place,
                )  # noqa: E501
            if not node.elementwise or _is_linear(probe, place, k):
                continue
            for power, words in (
                (0, "The derivative of {} is missing"),
                (2, "The derivative of {} is multiplied in twice"),
            ):  # noqa: E501

                def reshaped(scene, place=place, k=k, power=power):
                    old = np.asarray(scene.point.change.factors[edge(place, k)])
                    return scene.point.pull(changed(scene, factors={(place, k): old**power}))[0]

                if holds(scenes, reshaped):
                    id = "missing-activation-derivative" if power == 0 else "derivative-twice"
                    yield Finding(
                        id,
                        words.format(told) + ".",
                        f"the cotangent of {_input_name(probe, i)}",
                        2.5,
                    )  # noqa: E501


def _is_linear(scene: Scene, place: int, k: int) -> bool:
    """Whether the step's derivative is the same number everywhere."""
    slope = np.asarray(scene.point.change.factors[edge(place, k)])
    return slope.size < 2 or bool(np.ptp(slope) <= 1e-12 * np.abs(slope).max())


def _weight(scene: Scene) -> int:
    return sum(x.size for x in scene.point.values.values())


def _describe(scene: Scene, place: int) -> str:
    node = scene.point.tape.nodes[place]
    shape = scene.point.tape.shapes[node.outputs[0]].shape
    return f"{node.name}{f' at {node.line}' if node.line else ''} (shape {'×'.join(map(str, shape)) or '()'})"  # noqa: E501


def _input_name(scene: Scene, value: int) -> str:
    for y in scene.structure.layers:
        for v, name in (
            (y.z, f"Z[{y.number}]"),
            (y.a, f"A[{y.number}]"),
            (y.product, f"Z[{y.number}]"),
        ):
            if v == value:
                return name
    if value in scene.structure.views:
        return scene.structure.names[scene.structure.views[value]]
    made = next((p for p, n in enumerate(scene.point.tape.nodes) if value in n.outputs), None)
    return _describe(scene, made) if made is not None else "an input"


def single_quantity(scene: Scene) -> str | None:
    """The quantity of fewest directions whose cotangent, changed alone, explains all that is wrong."""
    if any(not np.isfinite(g).all() for g in scene.hand):
        return None
    gap = np.concatenate(
        [(g - r).ravel() for g, r in zip(scene.hand, scene.reference, strict=True)]
    )
    top = np.abs(gap).max(initial=0)
    best: tuple[int, str] | None = None
    parameters = set(scene.structure.views)
    for value in sorted(scene.point.tape.active - parameters):
        shape = scene.point.tape.shapes[value].shape
        size = int(np.prod(shape))
        if size > LARGE or size >= gap.size or (best and size > best[0] * 4):
            continue
        columns = []
        for n in range(size):
            unit = np.zeros(size)
            unit[n] = 1.0
            g, _ = scene.point.pull(changed(scene, added={value: unit.reshape(shape)}))
            columns.append(
                np.concatenate(
                    [(np.asarray(x) - r).ravel() for x, r in zip(g, scene.reference, strict=True)]
                )
            )  # noqa: E501
        system = np.stack(columns, axis=1)
        answer, _, rank, _ = np.linalg.lstsq(system, gap, rcond=1e-10)
        if (
            rank < gap.size
            and np.abs(system @ answer - gap).max() <= 1e-7 * top
            and (best is None or rank < best[0])
        ):  # noqa: E501
            best = (int(rank), f"the cotangent of {_input_name(scene, value)}")
    return best[1] if best else None


def placed(scenes: list[Scene]) -> list[Finding]:
    """What can be said of a mistake without a name: never none, never with much confidence."""
    able = sorted((s for s in scenes if s.wrong), key=_weight)
    if not able:
        return []
    scene = able[0]
    found = faults(scene) if all(np.isfinite(g).all() for g in scene.hand) else None
    if found:
        # the topmost is the cause of what is below, unless those steps are wrong themselves
        rest = [f for f in found if f is not found[0]]
        sentence = found[0].how
        if rest:
            sentence += "; and " + "; ".join(f.how for f in rest)
        where = _joined([f.quantity for f in found])
        one = len({f.quantity.split("[")[0] for f in found}) == 1
        tail = " All other steps follow from it rightly." if not rest else ""
        kind = sentence + "." + tail
        return [Finding("unknown", kind, where, 8 if one else 9)]
    names = scene.structure.names
    quantity = single_quantity(scene) if len(scene.wrong) > 1 or len(names) == 1 else None
    leaves = scene.wrong
    told = "; ".join(
        _factor_words(scene, k) or f"{_extent(_off(scene, k))} of {names[k]}" for k in leaves[:4]
    )
    where = _joined([names[k] for k in leaves])
    right = [n for k, n in enumerate(names) if k not in leaves]
    if quantity:
        return [
            Finding(
                "unknown",
                f"A mistake in {quantity} alone would explain all that is wrong: {told}.",
                f"{quantity}, and so {where}",
                8,
            )
        ]  # noqa: E501
    only = f" The rest ({_joined(right[:4])}) is right." if right else ""
    return [Finding("unknown", f"Wrong: {told}.{only}", where, 9)]


__all__ = ["Fault", "compare", "factor_names", "faults", "placed", "ratio", "scaled_edges"]
