"""Mistakes that leave some examples out, or count them too much."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from jaxnn.gradcheck.mistakes.finding import Finding
from jaxnn.gradcheck.mistakes.numbers import same
from jaxnn.gradcheck.report.words import joined
from jaxnn.gradcheck.tape.quantities import as_product, dense_rows
from jaxnn.gradcheck.tape.scene import Scene, fits, gradient_with
from jaxnn.gradcheck.tape.tape import Layer


class Share(NamedTuple):
    """What each example gives to dW[l] and db[l], along random directions; and what the candidate has."""

    each: np.ndarray  # (N, directions)
    total: np.ndarray


def _shares(scene: Scene, layer: Layer) -> Share | None:
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
    return Share((d @ u) * (a @ v), ((g.T @ u) * v).sum(axis=0))


def _weights(share: Share) -> Iterator[np.ndarray]:
    """What the examples count: solved for; or the first or the last alone, once or as a mean of them."""
    n, count = share.each.shape
    w, _, rank, _ = np.linalg.lstsq(share.each.T, share.total, rcond=1e-12)
    if rank == n < count:
        yield w
        return
    running = np.cumsum(share.each, axis=0)
    for m in range(n - 1, 0, -1):
        for kept, part in (
            (slice(0, m), running[m - 1]),
            (slice(n - m, n), running[-1] - running[n - m - 1]),
        ):
            for weight in (1.0, n / m):
                if np.allclose(weight * part, share.total, rtol=1e-6, atol=1e-9 * np.abs(share.each).max()):
                    w = np.zeros(n)
                    w[kept] = weight
                    yield w


def _rounded(w: np.ndarray) -> np.ndarray:
    return np.where(np.abs(w - np.round(w)) < 1e-6, np.round(w), w)


def _which(w: np.ndarray) -> str:
    gone = np.flatnonzero(np.abs(w) < 1e-6)
    n = len(w)
    if len(gone) == 1:
        last = ", the last" if gone[0] == n - 1 else ", the first" if gone[0] == 0 else ""
        return f"example {gone[0]}{last}, is"
    if np.array_equal(gone, np.arange(gone[0], n)):
        return f"examples {gone[0]} to {n - 1} (the last {len(gone)} of {n}) are"
    if np.array_equal(gone, np.arange(0, gone[-1] + 1)):
        return f"examples 0 to {gone[-1]} (the first {len(gone)} of {n}) are"
    return f"examples {', '.join(map(str, gone[:8]))}{' …' if len(gone) > 8 else ''} are"


def weighted(scenes: list[Scene]) -> Iterator[Finding]:
    """Some examples count nothing, or too much."""
    layout = scenes[0].structure
    if not layout.layers:
        return
    yield from _one_example_bias(scenes)

    def predicted(scene, w):
        layer = scene.structure.layers[-1]
        d = scene.point.cotangents[layer.z]
        new = d * (w if layer.input_side == 1 else w[:, None])
        return gradient_with(scene, given={layer.z: new})

    w = None
    for scene in reversed(scenes):
        layer = scene.structure.layers[-1]
        d, product = scene.point.cotangents[layer.z], scene.point.cotangents[layer.product]
        if not scene.wrong:
            continue
        if dense_rows(scene, layer) is None or d.shape != product.shape:
            return
        share = _shares(scene, layer)
        guesses = () if share is None else map(_rounded, _weights(share))
        w = next((w for w in guesses if fits(scene, predicted(scene, w))), None)
        if w is None:
            return
    if w is None:
        return
    kept = w[np.abs(w) > 1e-6]
    gone = len(kept) < len(w)
    where = f"dZ[{len(layout.layers)}], rows of examples"
    for devices in scenes[0].devices:
        block = np.abs(w.reshape(devices, -1)) > 1e-6 if len(w) % devices == 0 else np.zeros((0, 0), bool)
        alone = block.all(axis=1)
        if alone.sum() == 1 and block.sum() == block.shape[1] and np.allclose(kept, kept[0]):
            rows = block.shape[1]
            yield Finding(
                "missing-psum",
                f"Only the {rows} examples of device {np.argmax(alone)} of {devices} count: "
                "a psum over the devices is missing.",
                where,
                0.35,
            )
    # scattered ones are seldom left out; those of a saturated output may be clipped
    scattered = np.count_nonzero(np.diff(np.abs(w) > 1e-6)) > 1
    rank = 0.7 if scattered else 0.4
    why = ", perhaps by a condition of their own" if scattered else ""
    if gone and np.allclose(kept, 1):
        sentence = f"{_which(w).capitalize()} left out of the gradient{why}."
        yield Finding("examples-ignored", sentence, where, rank, not scattered)
    elif gone and len(kept) and np.allclose(kept, kept[0]):
        share = " (the mean is over those left)" if same(kept[0] * len(kept), len(w)) else ""
        yield Finding(
            "examples-ignored",
            f"{_which(w).capitalize()} left out of the gradient, the others count "
            f"{kept[0]:.6g} times{share}{why}.",
            where,
            rank + 0.1,
            not scattered,
        )
    elif not np.allclose(w, w[0]):
        odd = np.flatnonzero(np.abs(w - np.median(w)) > 1e-6)
        told = ", ".join(f"{i}: {w[i]:.4g}" for i in odd[:6])
        yield Finding(
            "unknown", f"Examples do not count alike: {told}{' …' if len(odd) > 6 else ''}.", where, 1
        )


def _one_example_bias(scenes) -> Iterator[Finding]:
    layers = scenes[0].structure.layers
    biases = {y.bias: y for y in layers if y.bias is not None}
    wrong = {k for s in scenes for k in s.wrong}
    if not wrong or not wrong <= set(biases):
        return
    told, kind = set(), []
    for scene in scenes:
        for k in scene.wrong:
            rows = dense_rows(scene, biases[k])
            if rows is None:
                return
            d, g = rows[1], scene.hand[k].ravel()
            n, top = len(d), max(np.abs(g).max(initial=0), np.abs(rows[1]).max(initial=0))
            near = lambda x, g=g, top=top: x.size == g.size and np.allclose(x, g, rtol=0, atol=1e-9 * top)  # noqa: E731
            ones = [i for i in range(n) for c in (1.0, n) if near(c * d[i])]
            running = np.cumsum(d, axis=0)
            heads = [m for m in range(1, n) if near(running[m - 1])]
            tails = [m for m in range(1, n) if near(running[-1] - running[m - 1])]
            if ones:
                kind.append("bias-one-example")
                told.add(
                    "the first" if ones[0] == 0 else "the last" if ones[0] == n - 1 else f"number {ones[0]}"
                )
            elif heads or tails:
                kind.append("examples-ignored")
                told.add(f"the first {heads[0]}" if heads else f"the last {n - tails[0]}")
            else:
                return
    if not kind:
        return
    where = joined([scenes[0].structure.names[k] for k in sorted(wrong)])
    id = "bias-one-example" if "bias-one-example" in kind else "examples-ignored"
    what = "one example" if id == "bias-one-example" else "some examples"
    yield Finding(id, f"The gradient of {where} is made of {what} only ({joined(sorted(told))}).", where, 0.4)
