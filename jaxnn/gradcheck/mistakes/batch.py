"""Mistakes in how much an example counts: left out, counted twice, those of one device, one for all."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from jaxnn.gradcheck.mistakes.averages import MISSING_PSUM, same
from jaxnn.gradcheck.mistakes.finding import Finding, Leaves, Mistake, finding, gradient_of, wrong_leaves
from jaxnn.gradcheck.tape.paths import near
from jaxnn.gradcheck.tape.quantities import as_product, dense_rows
from jaxnn.gradcheck.tape.scene import Scene, fits, gradient_with
from jaxnn.gradcheck.tape.tape import Layer
from jaxnn.gradcheck.tolerances import COMPUTED, FITTED

ALL = "dW[l] = dZ[l]ᵀ A[l-1]: a sum over all N examples"

IGNORED = Mistake(
    "examples-ignored", "a part of the batch is left out", ALL, "dZ2[-1] = 0", "dZ[l], rows of examples",
)  # fmt: skip
WEIGHTED = Mistake(
    "examples-weighted", "examples do not count alike", ALL + ", each once", "dZ2[0] = 2 * dZ2[0]",
    "dZ[l], rows of examples", loose=True,
)  # fmt: skip
ONE_EXAMPLE = Mistake(
    "bias-one-example", "db is made of one example only", "db[l] = dZ[l]ᵀ 1: a sum over all N examples",
    "db1 = dZ1[0]", "db[l]",
)  # fmt: skip
OF_EXAMPLES = (IGNORED, WEIGHTED, ONE_EXAMPLE, MISSING_PSUM)


def _shares(scene: Scene, layer: Layer) -> tuple[np.ndarray, np.ndarray] | None:
    """What each example gives to dW[l] and db[l] along random directions, and what the candidate has."""
    rows = dense_rows(scene, layer)
    g = as_product(scene, layer, scene.hand[layer.weight])
    if rows is None or g is None or not np.isfinite(g).all():
        return None
    a, d = rows
    if layer.bias is not None and scene.hand[layer.bias].size == d.shape[1]:
        a = np.concatenate([a, np.ones((len(a), 1))], axis=1)
        g = np.concatenate([g, scene.hand[layer.bias].reshape(-1, 1)], axis=1)
    rng = np.random.default_rng(0)
    count = min(g.size, len(a) + 24)
    u, v = rng.normal(size=(g.shape[0], count)), rng.normal(size=(g.shape[1], count))
    return (d @ u) * (a @ v), ((g.T @ u) * v).sum(axis=0)


def _weights(each: np.ndarray, total: np.ndarray) -> Iterator[np.ndarray]:
    """What the examples count: solved for; or the first or the last alone, once or as a mean of them."""
    n, count = each.shape
    w, _, rank, _ = np.linalg.lstsq(each.T, total, rcond=COMPUTED)
    if rank == n < count:
        yield w
        return
    top = np.abs(each).max(initial=0)
    for rows, part in _ends(each):
        for weight in (1.0, n / len(rows)):
            if np.allclose(weight * part, total, rtol=FITTED, atol=COMPUTED * top):
                w = np.zeros(n)
                w[rows] = weight
                yield w


def _ends(x: np.ndarray) -> Iterator[tuple[range, np.ndarray]]:
    """The first or the last few rows, and their sum; the most rows first."""
    n, running = len(x), np.cumsum(x, axis=0)
    for m in range(n - 1, 0, -1):
        yield range(m), running[m - 1]
        yield range(n - m, n), running[-1] - running[n - m - 1]


def _weighed(w: np.ndarray, layer: Layer, scene: Scene):
    """The gradient where each example counts so much, from a layer down."""
    d = scene.point.cotangents[layer.z]
    return gradient_with(scene, given={layer.z: d * (w if layer.input_side == 1 else w[:, None])})


def _counts(scene: Scene, l: int) -> tuple[np.ndarray | None, bool]:
    """How much each example counts from layer l down; or None, and whether that could be any number."""
    layer = scene.structure.layers[l - 1]
    d, product = scene.point.cotangents[layer.z], scene.point.cotangents[layer.product]
    if dense_rows(scene, layer) is None or d.shape != product.shape:
        return None, False
    share = _shares(scene, layer)
    for w in _weights(*share) if share else ():
        whole = np.where(np.abs(w - np.round(w)) < FITTED, np.round(w), w)
        if fits(scene, _weighed(whole, layer, scene)):
            return whole, False
    return None, share is not None and np.linalg.matrix_rank(share[0], rtol=COMPUTED) < len(d)


def _which(w: np.ndarray) -> str:
    gone, n = np.flatnonzero(w == 0), len(w)
    if len(gone) == 1:
        last = ", the last" if gone[0] == n - 1 else ", the first" if gone[0] == 0 else ""
        return f"Example {gone[0]}{last}, is"
    if np.array_equal(gone, np.arange(gone[0], n)):
        return f"Examples {gone[0]} to {n - 1} (the last {len(gone)} of {n}) are"
    if np.array_equal(gone, np.arange(0, gone[-1] + 1)):
        return f"Examples 0 to {gone[-1]} (the first {len(gone)} of {n}) are"
    return f"Examples {', '.join(map(str, gone[:8]))}{' …' if len(gone) > 8 else ''} are"


def weighted(scenes: list[Scene]) -> Iterator[Finding]:
    """Some examples count nothing, or too much."""
    yield from _one_example_bias(scenes)
    off = wrong_leaves(scenes)
    above = [y.number for y in scenes[0].structure.layers if y.weight in off]
    if not above:
        return
    l = above[-1]
    counts = [_counts(scene, l) for scene in scenes if scene.wrong]
    known = [w for w, _ in counts if w is not None]
    if not known or any(w is None and not free for w, free in counts):
        return
    w, manners, told = known[0], {_manner(w) for w in known}, counts[0][0] is not None
    where = f"dZ[{l}], rows of examples"
    if shared := list(_of_a_device(scenes[0].devices, w, where)):
        yield from shared
        return
    often = {manner.often for manner in manners}
    if None not in often and not w.all():
        # scattered ones are seldom left out; those of a saturated output may be clipped
        steady = len(often) == 1  # else one example that is left may count so for another reason
        scattered = len(manners) > 1 or np.count_nonzero(np.diff(w != 0)) > 1
        why = ", perhaps by a condition of their own" if scattered else ""
        once, mean = "once" in often, " (the mean is over those left)" if "as a mean" in often else ""
        rest = "" if once else f", the others count {{times:.6g}} times{mean}"
        says = f"{{which}} left out of the gradient{rest}{why}."
        rank = 0.4 if steady and not scattered else 1.8
        parts = {"which": _which(w) if told else "Some examples are", "times": float(w.max())}
        yield finding(IGNORED, says, where, rank if once else rank + 0.1, told and not scattered, **parts)
    elif l == len(scenes[0].structure.layers) and np.ptp(w) > FITTED:
        odd = np.flatnonzero(np.abs(w - np.median(w)) > FITTED)
        often = ", ".join(f"{i}: {w[i]:.4g}" for i in odd[:6]) + (" …" if len(odd) > 6 else "")
        of = "" if told else f" (of {len(w)} examples)"
        yield finding(WEIGHTED, "Examples do not count alike: {often}{of}.", where, 1, often=often, of=of)


class Manner(NamedTuple):
    """Which examples are left out, and how often the others count: once, as a mean of them, or so often."""

    first: bool
    last: bool
    often: str | float | None


def _manner(w: np.ndarray) -> Manner:
    kept = w[w != 0]
    if not kept.size or not np.allclose(kept, kept[0]):
        return Manner(bool(w[0] == 0), bool(w[-1] == 0), None)
    known = (("once", 1.0), ("as a mean", len(w) / len(kept)))
    often = next((name for name, times in known if same(kept[0], times)), float(f"{kept[0]:.6g}"))
    return Manner(bool(w[0] == 0), bool(w[-1] == 0), often)


def _of_a_device(sizes: tuple[int, ...], w: np.ndarray, where: str) -> Iterator[Finding]:
    """Only the examples of one device count."""
    for devices in sizes:
        counts = w.reshape(devices, -1) if len(w) % devices == 0 else np.ones((devices, 1))
        own = counts.any(axis=1)
        if own.sum() == 1 and counts[own].all() and np.allclose(counts[own], counts[own][0, 0]):
            says = (
                "Only the {rows} examples of device {device} of {devices} count: a psum over the devices "
                "is missing."
            )
            parts = {"rows": counts.shape[1], "device": int(np.argmax(own)), "devices": devices}
            yield finding(MISSING_PSUM, says, where, 0.35, True, **parts)


def _one_example_bias(scenes) -> Iterator[Finding]:
    """db[l] made of one example, or of the first or last few."""
    biases = {y.bias: y for y in scenes[0].structure.layers if y.bias is not None}
    wrong = wrong_leaves(scenes)
    if not wrong or not set(wrong) <= set(biases):
        return
    made = []
    for scene in scenes:
        for k in scene.wrong:
            rows, g = dense_rows(scene, biases[k]), scene.hand[k].ravel()
            if rows is None or rows[1].shape[1] != g.size:
                return
            made.append((_summed(rows[1], g), len(rows[1])))
    if not made or any(summed is None for summed, _ in made):
        return
    ends = [_end(summed, n) for summed, n in made]
    one, few = all(len(summed) == 1 for summed, _ in made), len(made[0][0])
    mistake, what, which = (
        (ONE_EXAMPLE, "one example", ends[0]) if one else (IGNORED, "some examples", f"{ends[0]} {few}")
    )
    says = gradient_of(scenes, wrong) + " is made of {what} only ({which})."
    steady = len(set(ends)) == 1
    yield finding(mistake, says, "{of}", 0.4, steady, of=Leaves(wrong), what=what, which=which)


def _summed(d: np.ndarray, g: np.ndarray) -> range | None:
    """The rows of dZ[l] that db[l] is the sum of: one, the first few or the last few."""
    n, top = len(d), np.abs(d).max(initial=0)
    for i in range(n):
        if near(d[i], g, top) or near(n * d[i], g, top):
            return range(i, i + 1)
    return next((rows for rows, part in _ends(d) if near(part, g, top)), None)


def _end(rows: range, n: int) -> str:
    return "the first" if rows.start == 0 else "the last" if rows.stop == n else f"number {rows.start}"
