"""The catalogue: what each mistake would do to the gradient, on any loss.

Every family of mistakes is a function scenes → findings. A finding is a mistake whose predicted
gradient *is* the candidate's, at every point looked at; one that merely resembles it is none.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import numpy as np

from jaxnn.gradcheck.scenes import (
    Scene,
    activation_side,
    changed,
    derivative,
    fits,
    slope_at,
    telling,
)
from jaxnn.gradcheck.structure import Layer
from jaxnn.gradcheck.tape import edge, point

EQUATIONS = {
    "missing-mean": "J = −(1/N) Σᵢ Σₖ …, so dZ[L] = (Ŷ − Y)/N",
    "mean-over-outputs": "J = −(1/N) Σᵢ Σₖ …: the mean is over the N examples, not over N·n_L entries",
    "mean-twice": "dZ[L] = (Ŷ − Y)/N; below it dW[l] = dZ[l]ᵀ A[l-1] without another 1/N",
    "n-minus-one": "J = −(1/N) Σᵢ …: N, not N − 1",
    "mean-over-features": "J = −(1/N) Σᵢ …: N examples, not n_x features",
    "factor-two": "dJ/dZ has the constant that J has, no other",
    "bias-not-averaged": "db[l] = dZ[l]ᵀ 1 with the same dZ[l] = (…)/N as in dW[l]",
    "learning-rate-folded-in": "the gradient is dW; the update is W := W − α dW",
    "clipped-norm": "the gradient is dW; clipping dW · c/‖dW‖ belongs to the update",
    "sign": "dZ[L] = (Ŷ − Y)/N",
    "layer-sign": "dA[l-1] = dZ[l] W[l]; dZ[l] = dA[l] ⊙ g′(Z[l])",
    "missing-activation-derivative": "dZ[l] = dA[l] ⊙ g′(Z[l])",
    "derivative-at-output": "dZ[l] = dA[l] ⊙ g′(Z[l]): at Z[l], not at A[l]",
    "output-for-derivative": "σ′(Z) = A ⊙ (1 − A), not A",
    "wrong-activation-derivative": "dZ[l] = dA[l] ⊙ g′(Z[l]) with the g of this layer",
    "derivative-at-wrong-layer": "dZ[l] = dA[l] ⊙ g′(Z[l]) at this layer's Z[l]",
    "derivative-twice": "dZ[l] = dA[l] ⊙ g′(Z[l]), once",
    "extra-output-derivative": "dZ[L] = (Ŷ − Y)/N: the σ′ of the output is in it already",
    "missing-output-derivative": "dZ[L] = dJ/dŶ ⊙ σ′(Z[L])",
    "not-propagated": "dA[l-1] = dZ[l] W[l]",
    "transposed": "dW[l] = dZ[l]ᵀ A[l-1], of the shape (n_l, n_{l-1}) of W[l]",
    "reshaped": "dW[l] = dZ[l]ᵀ A[l-1]: a transpose moves entries, a reshape only renames them",
    "weights-not-transposed": "dA[l-1] = dZ[l] W[l]",
    "own-activation": "dW[l] = dZ[l]ᵀ A[l-1], the activation of the layer before",
    "pre-activation": "dW[l] = dZ[l]ᵀ A[l-1], not Z[l-1]",
    "input-for-activation": "dW[l] = dZ[l]ᵀ A[l-1], not X",
    "updated-weights": "dA[l-1] = dZ[l] W[l] with the W[l] of the forward pass",
    "wrong-layer-weights": "dA[l-1] = dZ[l] W[l] with this layer's W[l]",
    "gradient-for-weights": "dA[l-1] = dZ[l] W[l], not dZ[l] dW[l]",
    "bias-mean": "db[l] = dZ[l]ᵀ 1: a sum over the examples (1/N is in dZ[l] already)",
    "bias-missing": "db[l] = dZ[l]ᵀ 1",
    "bias-summed-over-all": "db[l] = dZ[l]ᵀ 1: a sum for each neuron",
    "bias-one-example": "db[l] = dZ[l]ᵀ 1: a sum over all N examples",
    "regularisation-missing": "J = … + (λ/2N) Σ W², so dW = … + (λ/N) W",
    "regularisation-doubled": "J = … + (λ/2N) Σ W², so dW = … + (λ/N) W, once",
    "regularisation-unscaled": "J = … + (λ/2N) Σ W², so dW = … + (λ/N) W with the 1/N",
    "regularisation-on-bias": "J = … + (λ/2N) Σ W²: no b in it, so db has no λ",
    "l1-for-l2": "d(W²/2) = W, not sign(W)",
    "labels-shifted": "dZ[L] = (Ŷ − Y)/N, row i of Ŷ with row i of Y",
    "classes-shifted": "Y is one-hot: class k in column k",
    "broadcast-labels": "dZ[L] = (Ŷ − Y)/N with Y of the shape (N, n_L) of Ŷ",
    "negatives-ignored": "J = −(1/N) Σ [Y log Ŷ + (1 − Y) log(1 − Ŷ)]: two terms",
    "truncated-inputs": "Z[1] = X W[1]ᵀ + b[1]ᵀ with the X that was given",
    "examples-ignored": "dW[l] = dZ[l]ᵀ A[l-1]: a sum over all N examples",
    "entries-unwritten": "dW[l] has an entry for every entry of W[l]",
    "clipped-log": "dZ[L] = (Ŷ − Y)/N has no ε in it",
    "saturated-nan": "dZ[L] = (Ŷ − Y)/N is finite where 1 − Ŷ = 0; dJ/dŶ is not",
    "low-precision": "every step of the backward pass in the precision of its inputs",
    "accumulated": "dW is of this call alone: nothing is kept between two calls",
    "stale": "dW is taken at the W and X of this call",
    "mask-forgotten": "A = M ⊙ g(Z), so dZ = dA ⊙ M ⊙ g′(Z)",
    "mask-resampled": "A = M ⊙ g(Z), so dZ = dA ⊙ M ⊙ g′(Z) with the M of the forward pass",
    "cotangent-ignored": "vjp(c) is linear in c: every term has the factor c",
    "missing-psum": "dW = Σ over the devices of each one's dZᵀ A",
    "extra-psum": "dW = Σ over the devices of each one's dZᵀ A, once",
    "unknown": "dZ[l] = dA[l] ⊙ g′(Z[l]); dW[l] = dZ[l]ᵀ A[l-1]; db[l] = dZ[l]ᵀ 1; dA[l-1] = dZ[l] W[l]",
}


class Finding(NamedTuple):
    """A mistake that reproduces the candidate. `rank`: the smaller, the simpler."""

    id: str
    sentence: str
    where: str
    rank: float
    sure: bool = True  # False where it takes more than the mistake, such as a size in the code


Predict = Callable[[Scene], list[np.ndarray] | None]


def holds(scenes: list[Scene], predict: Predict) -> bool:
    """Whether the prediction is the candidate's gradient at all scenes, and not the right one at one."""
    tells = False
    for scene in reversed(scenes):  # the caller's own is first, and the largest
        guess = predict(scene)
        if guess is None or not fits(scene, guess):
            return False
        tells = tells or telling(scene, guess)
    return tells


# ---- factors: a parameter, or a layer and all below it, off by one number ----------------------


def ratio(g: np.ndarray, r: np.ndarray, scene: Scene, k: int) -> float | None:
    """α of g = α r; NaN where both are zero; None where there is none."""
    if not np.isfinite(g).all() or not np.isfinite(r).all():
        return None
    if not r.any():
        return None if g.any() else np.nan
    alpha = float(np.vdot(r, g) / np.vdot(r, r))
    alpha = alpha if abs(alpha) > 1e-10 else 0.0
    prediction = [*scene.reference]
    prediction[k] = alpha * r
    return alpha if fits(scene, prediction, [k]) else None


def _factor_words(scene: Scene, k: int) -> str | None:
    """A leaf that is a multiple of the right one, in words."""
    alpha = ratio(scene.hand[k], scene.reference[k], scene, k)
    if alpha is None or np.isnan(alpha):
        return None
    name = scene.structure.names[k]
    return f"{name} is zero" if alpha == 0 else f"{name} is {alpha:.6g} times what it should be"


def _same(a: float | int, b: float | int) -> bool:
    return bool(abs(a - b) <= 1e-8 * max(abs(a), abs(b)))


def factor_names(scenes: list[Scene], alphas: list[float]) -> list[tuple[str, str, float, bool]]:
    """What a factor can mean that is alphas[s] at scenes[s]: (id, in words, rank, sure)."""
    devices = jax.device_count()
    here = scenes[0].sizes

    def everywhere(f: Callable[[dict], float]) -> float | int | None:
        """None, or how far-fetched it is: sizes may be written into the candidate's code."""
        kept: tuple[dict, ...] = (
            {},
            here,
            {k: n for k, n in here.items() if k != "N"},
            {"N": here.get("N", 0)},
        )
        for k, fixed in enumerate(kept):
            try:
                if all(_same(a, f({**s.sizes, **fixed})) for a, s in zip(alphas, scenes, strict=True)):
                    return 0.02 * k
            except (KeyError, ZeroDivisionError):
                return None
        return None

    table: list[tuple[str, str, Callable[[dict], float]]] = [
        ("sign", "has the opposite sign (Y − Ŷ for Ŷ − Y?)", lambda s: -1.0),
        ("factor-two", "is twice what it should be: a stray 2", lambda s: 2.0),
        ("factor-two", "is half of what it should be: a stray ½", lambda s: 0.5),
        ("missing-mean", "is N times too large: the 1/N of the mean is missing", lambda s: s["N"]),
        ("mean-twice", "is N times too small: 1/N is applied twice", lambda s: 1 / s["N"]),
        ("n-minus-one", "is divided by N − 1 instead of N", lambda s: s["N"] / (s["N"] - 1)),
        (
            "mean-over-outputs",
            "is divided by N·n_L instead of N: the mean goes over the outputs too",
            lambda s: 1 / s["n_L"],
        ),
        (
            "mean-over-features",
            "is divided by n_x, the number of features, instead of N",
            lambda s: s["N"] / s["n_x"],
        ),
        ("missing-mean", "is N·n_L times too large: no mean is taken", lambda s: s["N"] * s["n_L"]),
        ("missing-mean", "is n_L times too large: no mean over the outputs", lambda s: s["n_L"]),
        ("mean-over-features", "is divided by n_x once too often", lambda s: 1 / s["n_x"]),
    ]
    found, seen = [], set()
    for rank, (id, words, f) in enumerate(table):
        if id not in seen and (fetched := everywhere(f)) is not None:
            seen.add(id)
            found.append((id, words, 0.1 * rank + fetched, fetched == 0))
    if any(sure for *_, sure in found):
        found = [f for f in found if f[3]]
    if devices > 1:
        if all(_same(a, 1 / devices) for a in alphas):
            found.append(
                (
                    "missing-psum",
                    f"is {devices} times too small, and there are {devices} devices: a psum is missing",
                    0.3,
                    True,
                )
            )
        if all(_same(a, devices) for a in alphas):
            found.append(
                (
                    "extra-psum",
                    f"is {devices} times too large, and there are {devices} devices: a psum too many",
                    0.3,
                    True,
                )
            )
    return found


def _joined(names: list[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def _leaf_roles(scene: Scene) -> tuple[set[int], set[int]]:
    layers = scene.structure.layers
    return {y.weight for y in layers}, {y.bias for y in layers if y.bias is not None}


def _lower(scene: Scene, leaves: set[int], quiet: set[int]) -> int | None:
    """k if `leaves` (with some of the `quiet` ones) are just the parameters of layers 1 … k."""
    layers = scene.structure.layers
    every = {y.weight for y in layers} | {y.bias for y in layers if y.bias is not None}
    if not leaves <= every:
        return None
    for k in range(1, len(layers)):
        mine = {y.weight for y in layers[:k]} | {y.bias for y in layers[:k] if y.bias is not None}
        if leaves <= mine and mine <= leaves | quiet:
            return k
    return None


def scaled(scenes: list[Scene]) -> Iterator[Finding]:
    """Every parameter's gradient is the right one times a number."""
    names = scenes[0].structure.names
    table = [
        [ratio(g, r, s, k) for k, (g, r) in enumerate(zip(s.hand, s.reference, strict=True))] for s in scenes
    ]
    if any(a is None for row in table for a in row):
        return
    off = {k for row in table for k, a in enumerate(row) if not np.isnan(a) and not _same(a, 1.0)}
    quiet = {k for k in range(len(names)) if all(np.isnan(row[k]) for row in table)}
    if not off:
        return
    one = [_common([row[k] for k in off]) for row in table]
    if all(a is not None for a in one):
        alphas = [a for a in one if a is not None]
        told = [(s, a) for s, a in zip(scenes, alphas, strict=True) if not np.isnan(a)]
        yield from _one_factor([s for s, _ in told], [a for _, a in told], off, quiet)
        return
    yield from _many_factors(scenes, table, off)


def _common(values: list[float]) -> float | None:
    known = [v for v in values if not np.isnan(v)]
    if not known:
        return np.nan
    return known[0] if all(_same(v, known[0]) or v == known[0] for v in known) else None


def _one_factor(scenes, alphas, off: set[int], quiet: set[int]) -> Iterator[Finding]:
    names = scenes[0].structure.names
    _, biases = _leaf_roles(scenes[0])
    everywhere = off | quiet == set(range(len(names)))
    where = "every parameter" if everywhere else _joined([names[k] for k in sorted(off)])
    zero = all(a == 0 for a in alphas)
    constant = all(_same(a, alphas[0]) for a in alphas)
    meanings = factor_names(scenes, alphas)
    only_biases = bool(biases) and off <= biases and not everywhere
    if zero:
        k = _lower(scenes[0], off, quiet)
        if only_biases:
            rest = any(s.hand[k].any() for s in scenes for k in off)
            yield Finding(
                "bias-missing",
                f"The gradient of {where} is zero: it is never computed.",
                where,
                0.4 if rest else 0,
            )
        elif k is not None:
            yield Finding(
                "not-propagated",
                f"Layers 1 to {k} get no gradient at all: nothing is passed down from layer {k + 1}.",
                f"dA[{k}], and so {where}",
                0,
            )
        elif everywhere:
            yield Finding("not-propagated", "The gradient is zero everywhere.", where, 0)
        else:
            yield Finding(
                "entries-unwritten",
                f"The gradient of {where} is zero: it is never written.",
                where,
                1,
            )
        return
    if only_biases:
        for id, words, rank, sure in meanings:
            swap = {"missing-mean": "bias-not-averaged", "mean-twice": "bias-mean"}
            better = swap.get(id, id)
            tail = {
                "bias-not-averaged": "is N times too large: the weights are averaged, the bias is not",
                "bias-mean": "is N times too small: it is a mean over the examples where a sum belongs",
            }.get(better, words)
            yield Finding(better, f"The gradient of {where} {tail}.", where, rank, sure)
    elif everywhere:
        for id, words, rank, sure in meanings:
            yield Finding(id, f"The whole gradient {words}.", where, rank, sure)
    else:
        k = _lower(scenes[0], off, quiet)
        layer = [y for y in scenes[0].structure.layers if off <= {y.weight, y.bias} and y.weight in off]
        place = f"dZ[{k}], and so {where}" if k else f"layer {layer[0].number}: {where}" if layer else where
        for id, words, rank, sure in meanings:
            if id == "sign" and (k or layer or len(off) > 1):
                down = f"from layer {k} down" if k else f"of {where}"
                yield Finding("layer-sign", f"The sign is flipped {down}.", place, rank, sure)
            else:
                down = f"from layer {k} down" if k and k > 1 else f"of {where}"
                yield Finding(id, f"The gradient {down} {words}.", place, rank, sure)
    told = {m[0] for m in meanings}
    if everywhere and not told - {"learning-rate-folded-in"}:
        yield from _update(scenes, alphas, where, constant)
    elif not meanings and constant:
        yield Finding(
            "unknown", f"The gradient of {where} is {alphas[0]:.6g} times what it should be.", where, 5
        )
    elif not meanings:
        yield from _per_leaf_norm(scenes, off)
        yield _nameless(scenes, alphas, f"The gradient of {where}", where)


def _norm(leaves) -> float:
    return float(np.sqrt(sum(np.vdot(x, x) for x in leaves)))


def _update(scenes, alphas, where, constant) -> Iterator[Finding]:
    """−α r, or r clipped to a norm."""
    clipped = [s for s, a in zip(scenes, alphas, strict=True) if not _same(a, 1)]
    free = [s for s, a in zip(scenes, alphas, strict=True) if _same(a, 1)]
    norms = [_norm(s.hand) for s in clipped]
    limit = norms[0]
    is_norm = all(_same(n, limit) for n in norms) and all(
        _norm(s.reference) <= limit * (1 + 1e-8) for s in free
    )
    round_norm = _same(limit, float(f"{limit:.2g}"))
    if (
        is_norm
        and alphas[next(n for n, s in enumerate(scenes) if s is clipped[0])] > 0
        and (len(clipped) > 1 or round_norm)
    ):
        yield Finding(
            "clipped-norm",
            f"The whole gradient is scaled to the norm {limit:.6g}: clipping is left on.",
            where,
            0.5,
        )
    if constant and alphas[0] < 0:
        yield Finding(
            "learning-rate-folded-in",
            f"The candidate is {alphas[0]:.6g} times the gradient: the update −α dW with α = "
            f"{-alphas[0]:.6g}.",
            where,
            0.6,
        )
    elif constant and not (is_norm and len(clipped) > 1):
        yield Finding("unknown", f"The whole gradient is {alphas[0]:.6g} times what it should be.", where, 5)
    elif not is_norm:
        yield _nameless(scenes, alphas, "The whole gradient", where)


def _nameless(scenes, alphas, what: str, where: str) -> Finding:
    """A factor that is another at every point, and none of the catalogue."""
    told = f"{alphas[0]:.6g} times what it should be here, {alphas[-1]:.6g} times elsewhere"
    known = [words for words, f in OTHER_FACTORS if _matches(scenes, alphas, f)]
    told += f" ({known[0]})" if known else ""
    return Finding("unknown", f"{what} is {told}.", where, 5)


OTHER_FACTORS: tuple[tuple[str, Callable[[dict], float]], ...] = (
    ("√N: divided by √N instead of N", lambda s: s["N"] ** 0.5),
    ("N + 1 instead of N", lambda s: s["N"] / (s["N"] + 1)),
    ("1/√N once too often", lambda s: s["N"] ** -0.5),
    ("divided by N² once too often", lambda s: s["N"] ** -2.0),
    ("N²", lambda s: s["N"] ** 2.0),
    ("−N: the sign, and the mean", lambda s: -s["N"]),
    ("−1/N: the sign, and the mean twice", lambda s: -1 / s["N"]),
    ("2N: a stray 2, and the mean", lambda s: 2.0 * s["N"]),
    ("N/2: a stray ½, and the mean", lambda s: s["N"] / 2),
    ("n_x times", lambda s: s["n_x"]),
)


def _matches(scenes, alphas, f) -> bool:
    try:
        return all(_same(a, f(s.sizes)) for a, s in zip(alphas, scenes, strict=True))
    except KeyError:
        return False


def _per_leaf_norm(scenes, off) -> Iterator[Finding]:
    names = scenes[0].structure.names
    limits = {round(_norm([s.hand[k]]), 9) for s in scenes for k in off}
    if len(limits) == 1 and 0 not in limits and len(scenes) * len(off) > 1:
        where = _joined([names[k] for k in sorted(off)])
        yield Finding("clipped-norm", f"Each of {where} is scaled to the norm {limits.pop():.6g}.", where, 1)


def _many_factors(scenes, table, off) -> Iterator[Finding]:
    """Another factor for each parameter."""
    names = scenes[0].structure.names
    layers = scenes[0].structure.layers
    n = [s.sizes.get("N", 0) for s in scenes]
    of_layer = {leaf: y.number for y in layers for leaf in (y.weight, y.bias) if leaf is not None}
    where = _joined([names[k] for k in sorted(off)])
    if all(size > 1 for size in n) and off <= set(of_layer):
        power = {
            k: [
                np.log(row[k]) / np.log(size) if row[k] > 0 else np.nan
                for row, size in zip(table, n, strict=True)
            ]
            for k in of_layer
        }
        top = len(layers)
        if all(_close(power[k], -(top - of_layer[k])) for k in of_layer) or all(
            _close(power[k], -(top - of_layer[k] + 1)) for k in of_layer
        ):
            yield Finding("mean-twice", "1/N is applied again in every layer on the way down.", where, 0.5)
    yield from _per_leaf_norm(scenes, off)
    told = []
    for k in sorted(off):
        alphas = [(s, row[k]) for s, row in zip(scenes, table, strict=True) if not np.isnan(row[k])]
        meanings = factor_names([s for s, _ in alphas], [a for _, a in alphas])
        words = meanings[0][1] if meanings else f"is {alphas[0][1]:.6g} times what it should be"
        told.append(f"{names[k]} {words}")
    yield Finding("unknown", "Each parameter has its own factor: " + "; ".join(told) + ".", where, 6)


def _close(values: list[float], target: float) -> bool:
    return all(abs(v - target) < 1e-7 for v in values)


# ---- the terms of the loss: data and penalty ---------------------------------------------------


def _place(scenes: list[Scene], scene: Scene) -> int:
    return next(n for n, s in enumerate(scenes) if s is scene)


def _penalty(scene: Scene) -> list[np.ndarray]:
    """What the terms of parameters alone give to the gradient."""
    without, _ = scene.point.pull(changed(scene, gains={e: 0.0 for e in scene.structure.penalties}))
    return [r - np.asarray(w) for r, w in zip(scene.point.gradient, without, strict=True)]


def penalised(scenes: list[Scene]) -> Iterator[Finding]:
    """The λ term: forgotten, doubled, unscaled, on the biases, another norm."""
    if scenes[0].structure.penalties:
        yield from _penalty_factors(scenes)
        yield from _penalty_elsewhere(scenes)
    else:
        yield from _penalty_uncalled(scenes)


def _penalty_factors(scenes) -> Iterator[Finding]:
    names = scenes[0].structure.names
    terms = [_penalty(s) for s in scenes]
    betas, data = [], []
    for scene, term in zip(scenes, terms, strict=True):
        both = [
            np.linalg.lstsq(np.stack([(r - t).ravel(), t.ravel()], axis=1), g.ravel(), rcond=None)[0]
            if t.any() and np.isfinite(g).all()
            else None
            for g, r, t in zip(scene.hand, scene.reference, term, strict=True)
        ]
        betas.append([None if b is None else float(b[1]) for b in both])
        data.append(
            float(
                sum(np.vdot(r - t, g - t) for g, r, t in zip(scene.hand, scene.reference, term, strict=True))
                / max(sum(np.vdot(r - t, r - t) for r, t in zip(scene.reference, term, strict=True)), 1e-300)
            )
        )

    # the data term alone is off by a factor
    def data_scaled(scene):
        a, t = data[_place(scenes, scene)], terms[_place(scenes, scene)]
        return [a * (r - x) + x for r, x in zip(scene.reference, t, strict=True)]

    if holds(scenes, data_scaled):
        for id, words, rank, sure in factor_names(scenes, data):
            yield Finding(
                id,
                f"The data's part of the gradient {words}.",
                "every parameter, without the λ term",
                0.2 + rank,
                sure,
            )
    leaves = [k for k in range(len(names)) if any(t[k].any() for t in terms)]
    wrong = sorted({k for s in scenes for k in s.wrong})
    if not set(wrong) <= set(leaves) or not wrong:
        return
    where = f"the λ term of {_joined([names[k] for k in wrong])}"
    rows = [[None if b[k] is None else _rounded(b[k]) for k in wrong] for b in betas]
    common = [_common([np.nan if x is None else x for x in row]) if _almost(row) else None for row in rows]
    if any(c is None for c in common):
        return
    # a scene where the term vanishes tells nothing
    told = [
        (s, float(np.mean([x for x in row if x is not None])), t)
        for s, row, t in zip(scenes, rows, terms, strict=True)
        if any(x is not None for x in row)
    ]
    if not told:
        return
    values = [_rounded(b) for _, b, _ in told]
    some = [s for s, _, _ in told]

    def with_factor(scene):
        place = next((n for n, (s, _, _) in enumerate(told) if s is scene), None)
        t = terms[_place(scenes, scene)]
        b = values[place] if place is not None else 1.0
        return [
            r + (b - 1) * x if k in wrong else r
            for k, (r, x) in enumerate(zip(scene.reference, t, strict=True))
        ]

    if not holds(scenes, with_factor):
        return
    sizes = [s.sizes.get("N", 0) for s in some]
    if all(v == 0 for v in values):
        yield Finding(
            "regularisation-missing",
            f"The regularisation term is missing from the gradient of {_joined([names[k] for k in wrong])}.",
            where,
            0,
        )
    elif all(_same(v, 2) for v in values):
        yield Finding(
            "regularisation-doubled",
            "The regularisation term is there twice (λ W for (λ/2)·2W, or a stray 2).",
            where,
            0,
        )
    elif all(_same(v, n) for v, n in zip(values, sizes, strict=True)):
        yield Finding(
            "regularisation-unscaled",
            "The regularisation term is N times too large: its 1/N is missing.",
            where,
            0,
        )
    elif all(n and _same(v, 1 / n) for v, n in zip(values, sizes, strict=True)):
        yield Finding(
            "regularisation-unscaled",
            "The regularisation term is divided by N, which the loss does not do.",
            where,
            0.5,
        )
    elif all(_same(v, values[0]) for v in values):
        words = "half as large as" if _same(values[0], 0.5) else f"{values[0]:.6g} times"
        id = "factor-two" if _same(values[0], 0.5) else "unknown"
        yield Finding(id, f"The regularisation term is {words} it should be.", where, 1)
    else:
        yield Finding("unknown", f"The regularisation term is scaled, by {values[0]:.6g} here.", where, 4)


def _rounded(x: float) -> float:
    near = float(f"{x:.7g}") if abs(x) > 1e-9 else 0.0
    return near if abs(near - x) < 1e-7 * max(1, abs(x)) else x


def _almost(row) -> bool:
    known = [x for x in row if x is not None]
    return not known or max(known) - min(known) <= 1e-6 * max(1, *map(abs, known))


def _penalty_elsewhere(scenes) -> Iterator[Finding]:
    """λ b added to db; sign(W) for W."""
    names = scenes[0].structure.names

    def coefficient(scene, term) -> float | None:
        """c of R = c W, where the penalty is a sum of squares."""
        cs = []
        for p, t in zip(_parameters(scene), term, strict=True):
            if t.any():
                c = float(np.vdot(p, t) / np.vdot(p, p))
                if not np.allclose(t, c * p, rtol=1e-8, atol=1e-12 * np.abs(t).max()):
                    return None
                cs.append(c)
        return cs[0] if cs and all(_same(c, cs[0]) for c in cs) else None

    def on_bias(scene):
        term = _penalty(scene)
        c = coefficient(scene, term)
        if c is None:
            return scene.reference if not any(t.any() for t in term) else None
        return [
            r if t.any() or k not in wrong else r + c * p
            for k, (r, t, p) in enumerate(zip(scene.reference, term, _parameters(scene), strict=True))
        ]

    def l1(half: float):
        def predict(scene):
            term = _penalty(scene)
            c = coefficient(scene, term)
            if c is None:
                return scene.reference if not any(t.any() for t in term) else None
            return [
                r - t + half * c * np.sign(p) if t.any() and k in wrong else r
                for k, (r, t, p) in enumerate(zip(scene.reference, term, _parameters(scene), strict=True))
            ]

        return predict

    wrong = {k for s in scenes for k in s.wrong}
    where = _joined([names[k] for k in sorted(wrong)]) if wrong else ""
    if holds(scenes, on_bias):
        yield Finding(
            "regularisation-on-bias",
            f"The regularisation term is added to {where}, which the loss does not regularise.",
            where,
            0,
        )
    for half, rank in ((1.0, 0.0), (0.5, 0.5), (2.0, 0.6)):
        if holds(scenes, l1(half)):
            yield Finding(
                "l1-for-l2",
                "The regularisation term has sign(W) where W belongs.",
                f"the λ term of {where}",
                rank,
            )


def _parameters(scene: Scene) -> list[np.ndarray]:
    return [scene.point.values[p] for p in scene.point.tape.parameters if p in scene.point.tape.active]


def _penalty_uncalled(scenes) -> Iterator[Finding]:
    """A multiple of W, or of its sign, that no term of the loss accounts for."""
    names = scenes[0].structure.names
    for of, words in ((lambda p: p, "of the parameter itself"), (np.sign, "of its sign")):
        coefficients = []
        for s in scenes:
            for k in s.wrong:
                p, d = of(_parameters(s)[k]), s.hand[k] - s.reference[k]
                if not p.any() or not np.isfinite(d).all():
                    return
                coefficients.append(float(np.vdot(p, d) / np.vdot(p, p)))
        if not coefficients or not all(
            abs(c - coefficients[0]) < 1e-6 * abs(coefficients[0]) for c in coefficients
        ):
            continue
        c = coefficients[0]
        wrong = {k for s in scenes for k in s.wrong}

        def predict(scene, of=of, c=c, wrong=wrong):
            return [
                r + c * of(p) if k in wrong else r
                for k, (r, p) in enumerate(zip(scene.reference, _parameters(scene), strict=True))
            ]

        if holds(scenes, predict):
            where = _joined([names[k] for k in sorted(wrong)])
            yield Finding(
                "unknown",
                f"{c:.6g} times a multiple {words} is added to the gradient of {where}: a "
                f"regularisation (weight decay) that the loss does not have.",
                where,
                2,
            )
            return


# ---- one parameter's entries: moved, merged, left out ------------------------------------------

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
    (
        "unknown",
        "is one number for all entries: their mean",
        lambda r: np.full_like(r, r.mean()),
        1,
    ),
    ("unknown", "has its first axis reversed", lambda r: r[::-1], 1),
    ("unknown", "has its last axis reversed", lambda r: r[..., ::-1], 1),
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
    (
        "unknown",
        "is averaged along its first axis",
        lambda r: np.broadcast_to(r.mean(0), r.shape),
        1,
    ),
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
    where = _joined([names[k] for k in wrong])
    _, biases = _leaf_roles(scenes[0])
    for id, words, f, rank in REARRANGEMENTS:
        if id.startswith("bias") and biases and not set(wrong) <= biases:
            id = "unknown"

        def predict(scene, f=f):
            with np.errstate(all="ignore"):
                return [f(r) if k in wrong and r.ndim else r for k, r in enumerate(scene.reference)]

        if holds(scenes, predict):
            yield Finding(id, f"The gradient of {where} {words}.", where, rank)
            return
    yield from _swapped(scenes, wrong)
    yield from _unwritten(scenes, wrong)
    yield from _cut(scenes, wrong)
    yield from _coarse(scenes, wrong)


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
        told = _joined([f"{names[k]} has that of {names[o]}" for k, o in sources.items()])
        yield Finding(
            "unknown",
            f"Gradients are in each other's place: {told}.",
            _joined([names[k] for k in wrong]),
            0.5,
        )


def _extent(mask: np.ndarray) -> str:
    """In words, which entries of a leaf a mask holds."""
    if mask.all():
        return "every entry"
    for axis, (one, many) in enumerate((("row", "rows"), ("column", "columns"))):
        if mask.ndim > axis and mask.shape[axis] > 1:
            rest = tuple(a for a in range(mask.ndim) if a != axis)
            full = mask.all(axis=rest)
            if np.array_equal(np.broadcast_to(np.expand_dims(full, rest), mask.shape), mask):
                places = np.flatnonzero(full)
                if len(places) == 1:
                    last = " (the last)" if places[0] == mask.shape[axis] - 1 else ""
                    return f"{one} {places[0]}{last}"
                if np.array_equal(places, np.arange(places[0], places[-1] + 1)):
                    return f"{many} {places[0]} to {places[-1]}"
                return f"{many} {', '.join(map(str, places[:6]))}" + (" …" if len(places) > 6 else "")
    places = np.argwhere(mask)
    first = ", ".join(str(tuple(map(int, p))) for p in places[:3])
    return f"entr{'y' if len(places) == 1 else 'ies'} {first}" + (" …" if len(places) > 3 else "")


def _off(scene: Scene, k: int) -> np.ndarray:
    g, r = scene.hand[k], scene.reference[k]
    with np.errstate(all="ignore"):
        top = max(np.abs(r).max(initial=0), np.abs(g).max(initial=0))
        return ~(np.abs(g - r) <= scene.bound[k] + 1e-10 * top)


def _unwritten(scenes, wrong) -> Iterator[Finding]:
    names, layers = scenes[0].structure.names, scenes[0].structure.layers
    told, extents = [], {}
    for k in wrong:
        for s in scenes:
            off = _off(s, k)
            top = np.abs(s.reference[k]).max(initial=0)
            if off.all() or (off.any() and np.abs(s.hand[k][off]).max() > 1e-10 * top):
                return
        s = next(s for s in scenes if _off(s, k).any())
        extents[k] = _extent(_off(s, k))
        told.append(f"{extents[k]} of {names[k]}")
    for y in layers:
        if y.bias in extents and extents[y.bias] == extents.get(y.weight):
            neurons = extents[y.bias].replace("row", "neuron")
            sentence = f"dZ[{y.number}] is zero for {neurons}: {_joined(told)} get nothing."
            yield Finding("unknown", sentence, f"dZ[{y.number}] (layer {y.number})", 0.3)
            return
    where = _joined(told)
    yield Finding("entries-unwritten", f"Never written, and so zero: {where}.", where, 0.3)


def _cut(scenes, wrong) -> Iterator[Finding]:
    """Entries clipped to an interval."""
    names = scenes[0].structure.names
    limits = set()
    for s in scenes:
        for k in s.wrong:
            off = _off(s, k)
            limits |= {float(f"{x:.9g}") for x in np.abs(s.hand[k][off])}
    if len(limits) == 1 and 0 not in limits:
        c = limits.pop()

        def predict(scene):
            return [np.clip(r, -c, c) for r in scene.reference]

        where = _joined([names[k] for k in wrong])
        if holds(scenes, predict):
            yield Finding("unknown", f"Every entry is clipped to ±{c:.6g}.", where, 0.5)


def _coarse(scenes, wrong) -> Iterator[Finding]:
    """Entries rounded to a number of digits, or dropped where they are small."""
    where = _joined([scenes[0].structure.names[k] for k in wrong])
    for digits in range(1, 9):

        def rounded(scene, digits=digits):
            return [np.round(r, digits) if k in wrong else r for k, r in enumerate(scene.reference)]

        if holds(scenes, rounded):
            sentence = f"The gradient of {where} is rounded to {digits} digits after the point."
            yield Finding("unknown", sentence, where, 1)
            return
    low, high = 0.0, np.inf
    for s in scenes:
        for k in wrong:
            off, size = _off(s, k), np.abs(s.reference[k])
            if s.hand[k][off].any():
                return
            low, high = max(low, size[off].max(initial=0)), min(high, size[~off].min(initial=np.inf))
    if 0 < low < high:
        sentence = f"Entries of {where} smaller than {low:.3g} to {high:.3g} are set to zero."
        yield Finding("unknown", sentence, where, 0.2)


# ---- steps of the backward pass done with something else ---------------------------------------


class Swap(NamedTuple):
    """A step done with something else: the change for one layer, or None where it does not apply."""

    id: str
    sentence: str  # with {l} for the layer, {p} for the one before
    change: Callable[[Scene, Layer], dict | None]
    rank: float
    lowest: int = 1  # first layer at which it makes sense
    output: bool = True  # whether it can be at the output layer
    hidden: bool = True


def _sigmoid(z):
    return 0.5 * (1 + np.tanh(0.5 * z))


def _z(scene, y):
    return scene.point.values[y.z]


def _a(scene, y):
    return scene.point.values[y.a]


SLOPES: tuple[tuple[str, Callable, Callable], ...] = (
    ("σ′", lambda z: _sigmoid(z) * _sigmoid(-z), lambda a: a * (1 - a)),
    ("tanh′", lambda z: 1 - np.tanh(z) ** 2, lambda a: 1 - a * a),
    ("relu′", lambda z: (z > 0) * 1.0, lambda a: (a > 0) * 1.0),
    (
        "leaky relu′ (0.01)",
        lambda z: np.where(z > 0, 1.0, 0.01),
        lambda a: np.where(a > 0, 1.0, 0.01),
    ),
    ("leaky relu′ (0.1)", lambda z: np.where(z > 0, 1.0, 0.1), lambda a: np.where(a > 0, 1.0, 0.1)),
    ("leaky relu′ (0.2)", lambda z: np.where(z > 0, 1.0, 0.2), lambda a: np.where(a > 0, 1.0, 0.2)),
    ("softplus′", _sigmoid, lambda a: 1 - np.exp(-a)),
    (
        "silu′",
        lambda z: _sigmoid(z) * (1 + z * _sigmoid(-z)),
        lambda a: _sigmoid(a) * (1 + a * _sigmoid(-a)),
    ),
    (
        "elu′",
        lambda z: np.where(z > 0, 1.0, np.exp(np.minimum(z, 0))),
        lambda a: np.where(a > 0, 1.0, a + 1),
    ),
    ("sin′", np.cos, np.cos),
    ("softsign′", lambda z: 1 / (1 + np.abs(z)) ** 2, lambda a: (1 - np.abs(a)) ** 2),
)


def _factor(f: Callable[[Scene, Layer], np.ndarray | None], ones: bool = False) -> Callable:
    """The local derivative of the layer's activation exchanged for f."""

    def change(scene, layer):
        if layer.activation is None:
            return None
        new = f(scene, layer)
        old = derivative(scene, layer)
        if new is None or np.shape(new) != old.shape or (np.all(new == 1) and not ones):
            return None
        return {"factors": {(layer.activation, activation_side(scene, layer)): new}}

    return change


def _slope_at(offset: int) -> Callable:
    def f(scene, layer):
        other = _layer(scene, layer.number + offset)
        return None if other is None else slope_at(scene, layer, _z(scene, other))

    return f


def _slope_of(offset: int) -> Callable:
    """g′(Z) as the other layer has it, whose g may be another."""

    def f(scene, layer):
        other = _layer(scene, layer.number + offset)
        return None if other is None or other.activation is None else derivative(scene, other)

    return f


def _layer(scene: Scene, number: int) -> Layer | None:
    layers = scene.structure.layers
    return layers[number - 1] if 1 <= number <= len(layers) else None


def _operand(side_of: Callable[[Layer], int], f: Callable[[Scene, Layer, np.ndarray], np.ndarray | None]):
    """An operand of the layer's product exchanged, in the backward pass only."""

    def change(scene, layer):
        node = scene.point.tape.nodes[layer.place]
        side = side_of(layer)
        if node.name != "dot_general":
            return None
        old = scene.point.values[node.inputs[side]]
        new = f(scene, layer, old)
        if new is None or np.shape(new) != old.shape or np.array_equal(new, old):
            return None
        return {"operands": {(layer.place, side): new}}

    return change


def _before(f):
    return _operand(lambda y: y.input_side, f)


def _weights(f):
    return _operand(lambda y: 1 - y.input_side, f)


def _oriented(scene: Scene, layer: Layer, leaf_value: np.ndarray, old: np.ndarray):
    """A value of the leaf's shape as the product's operand would have it."""
    leaf = scene.point.values[scene.point.tape.parameters[layer.weight]]
    if leaf_value.shape != leaf.shape:
        return None
    if leaf.shape == old.shape and np.array_equal(leaf, old):
        return leaf_value
    return leaf_value.T if leaf.T.shape == old.shape and np.array_equal(leaf.T, old) else None


def _other_weights(offset: int, turned: bool = False):
    def f(scene, layer, old):
        other = _layer(scene, layer.number + offset)
        if other is None:
            return None
        value = scene.point.values[scene.point.tape.parameters[other.weight]]
        return _oriented(scene, layer, value.T if turned else value, old)

    return _weights(f)


def _weight_gradient(of: Callable[[Scene], list]) -> Callable:
    return _weights(lambda s, y, old: _oriented(s, y, of(s)[y.weight], old))


OTHER_SLOPES: tuple[tuple[str, Callable], ...] = (
    ("1 − A[{l}]", lambda s, y: 1 - _a(s, y)),
    ("A[{l}]²", lambda s, y: _a(s, y) ** 2),
    ("1 + A[{l}]²", lambda s, y: 1 + _a(s, y) ** 2),
    ("A[{l}] (1 + A[{l}])", lambda s, y: _a(s, y) * (1 + _a(s, y))),
    ("1 − Z[{l}]²", lambda s, y: 1 - _z(s, y) ** 2),
    ("Z[{l}] (1 − Z[{l}])", lambda s, y: _z(s, y) * (1 - _z(s, y))),
    ("Z[{l}]", _z),
    ("1/g′(Z[{l}])", lambda s, y: 1 / derivative(s, y)),
    ("1 − g′(Z[{l}])", lambda s, y: 1 - derivative(s, y)),
    ("g′(Z[{l}])³", lambda s, y: derivative(s, y) ** 3),
    ("√g′(Z[{l}])", lambda s, y: np.sqrt(derivative(s, y))),
    ("g′(−Z[{l}])", lambda s, y: slope_at(s, y, -_z(s, y))),
    ("g(−Z[{l}]) = 1 − relu′(Z[{l}])", lambda s, y: (_z(s, y) <= 0) * 1.0),
    ("A[{l}] g′(Z[{l}])", lambda s, y: _a(s, y) * derivative(s, y)),
    ("Z[{l}] g′(Z[{l}])", lambda s, y: _z(s, y) * derivative(s, y)),
    (
        "the mean of g′ over the examples",
        lambda s, y: np.broadcast_to(derivative(s, y).mean(0), _z(s, y).shape),
    ),
    (
        "the mean of g′ over the neurons",
        lambda s, y: np.broadcast_to(derivative(s, y).mean(-1, keepdims=True), _z(s, y).shape),
    ),
    ("the first example's g′", lambda s, y: np.broadcast_to(derivative(s, y)[:1], _z(s, y).shape)),
    ("g′ of the product without the bias", lambda s, y: slope_at(s, y, s.point.values[y.product])),
)

OTHER_INPUTS: tuple[tuple[str, Callable], ...] = (
    ("its own Z[{l}]", lambda s, y, old: _z(s, y)),
    ("A[{p}]²", lambda s, y, old: old**2),
    (
        "g′(Z[{p}])",
        lambda s, y, old: (
            derivative(s, p) if (p := _layer(s, y.number - 1)) and p.activation is not None else None
        ),
    ),
    ("the mean of A[{p}] over the examples", lambda s, y, old: np.broadcast_to(old.mean(0), old.shape)),
    ("A[{p}] less its mean", lambda s, y, old: old - old.mean(0)),
    ("A[{p}] shifted by one example", lambda s, y, old: np.roll(old, 1, 0)),
    ("A[{p}] shifted by one example", lambda s, y, old: np.roll(old, -1, 0)),
    ("A[{p}] with its examples reversed", lambda s, y, old: old[::-1]),
    ("1 − A[{p}]", lambda s, y, old: 1 - old),
    ("|A[{p}]|", lambda s, y, old: np.abs(old)),
    ("sign A[{p}]", lambda s, y, old: np.sign(old)),
    (
        "the layer before's own input",
        lambda s, y, old: s.point.values[p.before] if (p := _layer(s, y.number - 1)) else None,
    ),
    ("A[{n}]", lambda s, y, old: _a(s, n) if (n := _layer(s, y.number + 1)) else None),
)

OTHER_WEIGHTS: tuple[tuple[str, Callable], ...] = (
    ("ones", lambda s, y, old: np.ones_like(old)),
    ("|W[{l}]|", lambda s, y, old: np.abs(old)),
    ("sign W[{l}]", lambda s, y, old: np.sign(old)),
    ("W[{l}]²", lambda s, y, old: old**2),
    ("the rows of W[{l}] reversed", lambda s, y, old: old[::-1]),
    ("the columns of W[{l}] reversed", lambda s, y, old: old[:, ::-1]),
    ("the rows of W[{l}] shifted by one", lambda s, y, old: np.roll(old, 1, 0)),
    ("the columns of W[{l}] shifted by one", lambda s, y, old: np.roll(old, 1, 1)),
    ("the rows of W[{l}] shifted by one", lambda s, y, old: np.roll(old, -1, 0)),
    ("the columns of W[{l}] shifted by one", lambda s, y, old: np.roll(old, -1, 1)),
    ("W[{l}] reshaped", lambda s, y, old: old.T.reshape(old.shape)),
    ("W[{l}] reshaped", lambda s, y, old: old.reshape(old.shape[::-1]).T),
)

SWAPS: tuple[Swap, ...] = (
    Swap(
        "missing-activation-derivative",
        "g′(Z[{l}]) is missing from dZ[{l}] = dA[{l}] ⊙ g′(Z[{l}])",
        _factor(lambda s, y: np.ones_like(_z(s, y)), True),
        0.5,
        1,
        False,
    ),
    Swap(
        "missing-output-derivative",
        "dJ/dŶ is used as dZ[{l}]: the derivative of the output's activation is missing",
        _factor(lambda s, y: np.ones_like(_z(s, y)), True),
        0.5,
        1,
        True,
        False,
    ),
    Swap(
        "derivative-at-output",
        "g′ is taken at A[{l}] instead of Z[{l}]",
        _factor(lambda s, y: slope_at(s, y, _a(s, y))),
        0.6,
    ),
    Swap("output-for-derivative", "A[{l}] stands where g′(Z[{l}]) belongs", _factor(_a), 0.6),
    Swap(
        "derivative-twice",
        "g′(Z[{l}]) is multiplied in twice",
        _factor(lambda s, y: derivative(s, y) ** 2),
        0.6,
        1,
        False,
    ),
    Swap(
        "extra-output-derivative",
        "the output's derivative is multiplied in once more",
        _factor(lambda s, y: derivative(s, y) ** 2),
        0.6,
        1,
        True,
        False,
    ),
    Swap(
        "derivative-at-wrong-layer", "g′ is taken at Z[{p}] instead of Z[{l}]", _factor(_slope_at(-1)), 0.7, 2
    ),
    Swap("derivative-at-wrong-layer", "g′ is taken at Z[{n}] instead of Z[{l}]", _factor(_slope_at(1)), 0.7),
    Swap(
        "derivative-at-wrong-layer",
        "the derivative of layer {p} is used in layer {l}",
        _factor(_slope_of(-1)),
        0.75,
        2,
    ),
    Swap(
        "derivative-at-wrong-layer",
        "the derivative of layer {n} is used in layer {l}",
        _factor(_slope_of(1)),
        0.75,
    ),
    *(
        Swap(
            "wrong-activation-derivative",
            name + " stands where the derivative of layer {l} belongs",
            _factor(lambda s, y, f=f: f(_z(s, y))),
            0.8,
        )
        for name, f, _ in SLOPES
    ),
    *(
        Swap(
            "wrong-activation-derivative",
            name + " (written by A) stands where the derivative of layer {l} belongs",
            _factor(lambda s, y, f=f: f(_a(s, y))),
            0.85,
        )
        for name, _, f in SLOPES
    ),
    *(
        Swap("unknown", words + " stands where g′(Z[{l}]) belongs", _factor(f), 2.0)
        for words, f in OTHER_SLOPES
    ),
    Swap(
        "own-activation",
        "dW[{l}] is made with A[{l}] instead of A[{p}]",
        _before(lambda s, y, old: _a(s, y)),
        0.6,
    ),
    Swap(
        "pre-activation",
        "dW[{l}] is made with Z[{p}] instead of A[{p}]",
        _before(lambda s, y, old: _z(s, p) if (p := _layer(s, y.number - 1)) else None),
        0.6,
        2,
    ),
    Swap(
        "input-for-activation",
        "dW[{l}] is made with X instead of A[{p}]",
        _before(lambda s, y, old: s.point.values[s.structure.layers[0].before]),
        0.6,
        2,
    ),
    Swap(
        "truncated-inputs",
        "dW[{l}] is made with the integer part of its input",
        _before(lambda s, y, old: np.trunc(old)),
        0.7,
    ),
    Swap(
        "truncated-inputs",
        "dW[{l}] is made with the rounded input",
        _before(lambda s, y, old: np.floor(old)),
        0.8,
    ),
    *(
        Swap("unknown", "dW[{l}] is made with " + words + " instead of A[{p}]", _before(f), 2.0)
        for words, f in OTHER_INPUTS
    ),
    Swap(
        "weights-not-transposed",
        "dA[{p}] = dZ[{l}] W[{l}] is made with W[{l}]ᵀ",
        _weights(lambda s, y, old: old.T),
        0.5,
        2,
    ),
    Swap("wrong-layer-weights", "dA[{p}] is made with W[{p}] instead of W[{l}]", _other_weights(-1), 0.6, 2),
    Swap("wrong-layer-weights", "dA[{p}] is made with W[{n}] instead of W[{l}]", _other_weights(1), 0.6, 2),
    Swap(
        "wrong-layer-weights",
        "dA[{p}] is made with W[{p}]ᵀ instead of W[{l}]",
        _other_weights(-1, True),
        0.65,
        2,
    ),
    Swap(
        "wrong-layer-weights",
        "dA[{p}] is made with W[{n}]ᵀ instead of W[{l}]",
        _other_weights(1, True),
        0.65,
        2,
    ),
    Swap(
        "gradient-for-weights",
        "dA[{p}] is made with dW[{l}] instead of W[{l}]",
        _weight_gradient(lambda s: s.reference),
        0.6,
        2,
    ),
    Swap(
        "gradient-for-weights",
        "dA[{p}] is made with dW[{l}] instead of W[{l}]",
        _weight_gradient(lambda s: s.hand),
        0.7,
        2,
    ),
    *(
        Swap("unknown", "dA[{p}] is made with " + words + " instead of W[{l}]", _weights(f), 2.0, 2)
        for words, f in OTHER_WEIGHTS
    ),
)


def _merge(changes: list[dict]) -> dict:
    out: dict = {}
    for change in changes:
        for field, parts in change.items():
            out.setdefault(field, {}).update(parts)
    return out


def swapped(scenes: list[Scene]) -> Iterator[Finding]:
    """One step, in one layer or in all, done with something else."""
    layers = scenes[0].structure.layers
    wrong = {k for s in scenes for k in s.wrong}
    for swap in SWAPS:
        last = len(layers)
        able = [
            y.number
            for y in layers
            if y.number >= swap.lowest
            and (swap.output or y.number < last)
            and (swap.hidden or y.number == last)
        ]
        for group in _groups(layers, able, swap):
            if not _reaches(scenes[0], group, wrong, swap):
                continue

            def predict(scene, group=group, swap=swap):
                with np.errstate(all="ignore"):
                    parts = [swap.change(scene, scene.structure.layers[n - 1]) for n in group]
                if all(p is None for p in parts):
                    return None
                return scene.point.pull(changed(scene, **_merge([p for p in parts if p])))[0]

            if holds(scenes, predict):
                yield _told(scenes[0], swap, group)
                break


def _groups(layers: tuple[Layer, ...], able: list[int], swap: Swap) -> list[tuple[int, ...]]:
    """Which layers a mistake is made in: one, all that share a weight (a loop's turns), or all."""
    shared: dict[int, list[int]] = {}
    for n in able:
        shared.setdefault(layers[n - 1].weight, []).append(n)
    groups = [tuple(g) for g in shared.values()]
    if len(able) <= 6:
        groups += [(n,) for n in able]
    groups.append(tuple(able))
    if swap.output:
        groups.append(tuple(n for n in able if n < len(layers)))
    return [g for g in dict.fromkeys(groups) if g]


def _reaches(scene: Scene, group: tuple[int, ...], wrong: set[int], swap: Swap) -> bool:
    """Nothing above the highest changed layer may be wrong, for a chain of layers."""
    layers = scene.structure.layers
    above = {k for y in layers[max(group, default=0) :] for k in (y.weight, y.bias)}
    return (bool(group) and not (above & wrong)) or len({y.weight for y in layers}) < len(layers)


def _told(scene: Scene, swap: Swap, group: tuple[int, ...]) -> Finding:
    n = group[-1]
    words = {"l": n, "p": n - 1, "n": n + 1}
    sentence = swap.sentence.format(**words).replace("A[0]", "X")
    every = f" (and likewise in layers {', '.join(map(str, group[:-1]))})" if len(group) > 1 else ""
    layer = scene.structure.layers[n - 1]
    quantity = (
        f"dW[{n}]"
        if swap.sentence.startswith("dW")
        else f"dA[{n - 1}]"
        if swap.sentence.startswith("dA")
        else f"dZ[{n}]"
    )
    names = scene.structure.names
    of = names[layer.weight] if quantity.startswith("dW") else f"layer {n}"
    return Finding(swap.id, f"{sentence}{every}.", f"{quantity} ({of})", swap.rank + 0.01 * (len(group) > 1))


def updated(scenes: list[Scene]) -> Iterator[Finding]:
    """dA[l-1] = dZ[l] (W[l] − α dW[l]): the weights were updated before they were used."""
    layers = scenes[0].structure.layers
    if len(layers) < 2:
        return

    def with_rate(scene: Scene, alpha: float, groups) -> list:
        """From the top down, each W[l] less α times the gradient that this pass itself made of it."""
        operands: dict = {}
        gradient = scene.reference
        for y in reversed(scene.structure.layers[1:]):
            if y.number not in groups:
                continue
            old = scene.point.values[scene.point.tape.nodes[y.place].inputs[1 - y.input_side]]
            step = _oriented(scene, y, gradient[y.weight], old)
            if step is None:
                return scene.reference
            operands[(y.place, 1 - y.input_side)] = old - alpha * step
            gradient, _ = scene.point.pull(changed(scene, operands=operands))
        return gradient

    first = next((s for s in scenes if s.wrong), None)
    if first is None:
        return
    for groups in [tuple(y.number for y in layers[1:]), *[(y.number,) for y in layers[1:]]]:
        top = max(groups)
        # the layer below the highest changed one is linear in α
        leaf = layers[top - 2].weight
        base, unit = first.reference[leaf], with_rate(first, 1.0, (top,))[leaf]
        direction = unit - base
        if not direction.any() or not np.isfinite(first.hand[leaf]).all():
            continue
        alpha = float(np.vdot(direction, first.hand[leaf] - base) / np.vdot(direction, direction))
        if abs(alpha) < 1e-12 or not np.isfinite(alpha):
            continue

        # α need not be given to more digits than rounding leaves of it
        for a in (float(f"{alpha:.6g}"), alpha):
            if holds(scenes, lambda s, a=a, groups=groups: with_rate(s, a, groups)):
                where = f"dA[{top - 1}] = dZ[{top}] W[{top}] (layer {top})"
                yield Finding(
                    "updated-weights",
                    f"The weights W[{top}] are updated (α = {a:.6g}) before they are used to go down.",
                    where,
                    0.7,
                )
                return


def bilinear(scenes: list[Scene]) -> Iterator[Finding]:
    """A mask left out of, or another put into, the backward pass."""
    masks = scenes[0].structure.masks
    tape = scenes[0].point.tape
    groups = [(m,) for m in masks] + ([masks] if len(masks) > 1 else [])
    for group in groups:
        for keep in (False, True):

            def predict(scene, group=group, keep=keep):
                new = {}
                for place, k in group:
                    old = np.asarray(scene.point.change.factors[f"{place},{k}"])
                    size = np.abs(old).max(initial=0)
                    new[(place, k)] = np.full_like(old, size if keep else 1.0)
                return scene.point.pull(changed(scene, factors=new))[0]

            if holds(scenes, predict):
                layer = _layer_of(scenes[0], group[-1][0])
                where = f"dZ[{layer}] (layer {layer}), at {tape.nodes[group[-1][0]].line or 'the mask'}"
                yield Finding(
                    "mask-forgotten",
                    f"The mask that layer {layer}'s activations are multiplied by is missing "
                    f"from the backward pass.",
                    where,
                    0.4,
                )
                return


def _layer_of(scene: Scene, place: int) -> int:
    return max((y.number for y in scene.structure.layers if y.place < place), default=1)


# ---- the output's error dZ[L] ------------------------------------------------------------------


def _softmax(z):
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def _upright(scene: Scene, layer: Layer, x: np.ndarray) -> np.ndarray:
    """A quantity of the shape of Z[l] with a row an example and a column a neuron."""
    if x.ndim == 2:
        return x.T if layer.input_side == 1 else x
    if x.ndim == 1:
        return x[:, None] if scene.point.values[layer.before].ndim == 2 else x[None, :]
    return x.reshape(-1, x.shape[-1]) if x.ndim else x.reshape(1, 1)


def _as_it_was(layer: Layer, x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The opposite of _upright."""
    return (x.T if len(shape) == 2 and layer.input_side == 1 else x).reshape(shape)


def _target(scene: Scene) -> np.ndarray | None:
    """Y with a row an example, a column a class."""
    layer = scene.structure.layers[-1]
    z = _upright(scene, layer, _z(scene, layer))
    for t in scene.structure.targets:
        y = scene.point.values[t]
        if y.dtype.kind == "f" and y.ndim == 2 and layer.input_side == 1 and y.T.shape == z.shape:
            return y.T
        if y.dtype.kind == "f" and y.size == z.size:
            return y.reshape(z.shape)
        if y.dtype.kind in "iu" and y.size == len(z) and z.shape[1] > 1:
            return np.eye(z.shape[1])[np.clip(y.ravel(), 0, z.shape[1] - 1)]
        if y.dtype.kind in "iub" and y.size == z.size:
            return y.reshape(z.shape).astype(np.float64)
    return None


def _error_swaps() -> list[tuple[str, str, Callable, float]]:
    """(id, in words, (dZ, Z, Y) → the wrong dZ, rank)."""

    def through_softmax(d, z):
        p = _softmax(z)
        return p * (d - (d * p).sum(axis=-1, keepdims=True))

    def scale(d, z, y, p):
        """s of dZ = s (P − Y)."""
        gap = p - y
        return (d * gap).sum() / (gap * gap).sum()

    def undone(f):
        return lambda d, z, y: d / f(z)

    return [
        (
            "extra-output-derivative",
            "is multiplied by σ′(Z[{l}]) once more",
            lambda d, z, y: d * SLOPES[0][1](z),
            0.6,
        ),
        (
            "extra-output-derivative",
            "is multiplied by softmax's derivative once more",
            lambda d, z, y: through_softmax(d, z),
            0.6,
        ),
        (
            "extra-output-derivative",
            "is multiplied by Ŷ (1 − Ŷ) of the softmax once more",
            lambda d, z, y: d * _softmax(z) * (1 - _softmax(z)),
            0.6,
        ),
        (
            "extra-output-derivative",
            "is multiplied by tanh′(Z[{l}]) once more",
            lambda d, z, y: d * SLOPES[1][1](z),
            0.7,
        ),
        ("missing-output-derivative", "is dJ/dŶ: σ′(Z[{l}]) is missing", undone(SLOPES[0][1]), 0.6),
        ("missing-output-derivative", "is dJ/dŶ: tanh′(Z[{l}]) is missing", undone(SLOPES[1][1]), 0.7),
        (
            "missing-output-derivative",
            "is dJ/dŶ: softmax's derivative is missing",
            lambda d, z, y: -scale(d, z, y, _softmax(z)) * y / _softmax(z),
            0.6,
        ),
        (
            "negatives-ignored",
            "has only the entries with Y = 1: the (1 − Y) term is not differentiated",
            lambda d, z, y: d * (y != 0),
            0.3,
        ),
        (
            "negatives-ignored",
            "has only the Y term: the (1 − Y) term is not differentiated",
            lambda d, z, y: -scale(d, z, y, _sigmoid(z)) * y * _sigmoid(-z),
            0.5,
        ),
        (
            "unknown",
            "has only the entries with Y = 0: the Y log Ŷ term is not differentiated",
            lambda d, z, y: d * (y == 0),
            1.5,
        ),
        ("unknown", "has Ŷ + Y for Ŷ − Y", lambda d, z, y: d + 2 * scale(d, z, y, _sigmoid(z)) * y, 1.6),
        ("unknown", "has Ŷ + Y for Ŷ − Y", lambda d, z, y: d + 2 * scale(d, z, y, _softmax(z)) * y, 1.6),
        (
            "unknown",
            "is Ŷ alone: Y is not subtracted",
            lambda d, z, y: scale(d, z, y, _sigmoid(z)) * _sigmoid(z),
            1.5,
        ),
        (
            "unknown",
            "is Ŷ alone: Y is not subtracted",
            lambda d, z, y: scale(d, z, y, _softmax(z)) * _softmax(z),
            1.5,
        ),
        ("unknown", "is −Y alone: Ŷ is not there", lambda d, z, y: -scale(d, z, y, _sigmoid(z)) * y, 1.5),
        ("unknown", "is −Y alone: Ŷ is not there", lambda d, z, y: -scale(d, z, y, _softmax(z)) * y, 1.5),
        ("unknown", "has Z[{l}] for Ŷ", lambda d, z, y: scale(d, z, y, _sigmoid(z)) * (z - y), 1.5),
        ("unknown", "has Z[{l}] for Ŷ", lambda d, z, y: scale(d, z, y, _softmax(z)) * (z - y), 1.6),
        (
            "unknown",
            "has softmax(Z[{l}]) for σ(Z[{l}])",
            lambda d, z, y: scale(d, z, y, _sigmoid(z)) * (_softmax(z) - y),
            1.5,
        ),
        (
            "unknown",
            "has σ(Z[{l}]) for softmax(Z[{l}])",
            lambda d, z, y: scale(d, z, y, _softmax(z)) * (_sigmoid(z) - y),
            1.5,
        ),
        (
            "unknown",
            "has tanh(Z[{l}]) for Ŷ",
            lambda d, z, y: scale(d, z, y, _sigmoid(z)) * (np.tanh(z) - y),
            1.6,
        ),
        (
            "unknown",
            "has σ(Ŷ) for Ŷ: the activation is applied twice",
            lambda d, z, y: scale(d, z, y, _sigmoid(z)) * (_sigmoid(_sigmoid(z)) - y),
            1.6,
        ),
        (
            "unknown",
            "has softmax(Ŷ) for Ŷ: softmax is applied twice",
            lambda d, z, y: scale(d, z, y, _softmax(z)) * (_softmax(_softmax(z)) - y),
            1.6,
        ),
        (
            "unknown",
            "has Ŷ rounded",
            lambda d, z, y: scale(d, z, y, _sigmoid(z)) * (np.round(_sigmoid(z)) - y),
            1.6,
        ),
        ("unknown", "has lost its signs: |Ŷ − Y|", lambda d, z, y: np.abs(d), 1.5),
        (
            "unknown",
            "is only the sign of Ŷ − Y",
            lambda d, z, y: scale(d, z, y, _sigmoid(z)) * np.sign(d),
            1.6,
        ),
        (
            "unknown",
            "is squared, (Ŷ − Y)²",
            lambda d, z, y: (lambda c: d**2 / c)(scale(d, z, y, _sigmoid(z))),
            1.5,
        ),
        (
            "unknown",
            "is squared, (Ŷ − Y)²",
            lambda d, z, y: (lambda c: d**2 / c)(scale(d, z, y, _softmax(z))),
            1.6,
        ),
        ("unknown", "is squared", lambda d, z, y: d**2, 1.6),
        (
            "unknown",
            "is the same for every example: its mean over them",
            lambda d, z, y: np.broadcast_to(d.mean(0), d.shape),
            1.5,
        ),
        (
            "unknown",
            "is the same for every class: its mean over them",
            lambda d, z, y: np.broadcast_to(d.mean(-1, keepdims=True), d.shape),
            1.5,
        ),
        (
            "unknown",
            "is the same for every class: its sum over them",
            lambda d, z, y: np.broadcast_to(d.sum(-1, keepdims=True), d.shape),
            1.5,
        ),
        ("unknown", "is centred over the examples", lambda d, z, y: d - d.mean(0), 1.6),
        ("unknown", "is centred over the classes", lambda d, z, y: d - d.mean(-1, keepdims=True), 1.6),
        ("unknown", "has its examples in reverse", lambda d, z, y: d[::-1], 1.6),
        ("unknown", "has its classes in reverse", lambda d, z, y: d[:, ::-1], 1.6),
        ("unknown", "has its examples shifted by one", lambda d, z, y: np.roll(d, 1, 0), 1.6),
        ("unknown", "has its examples shifted by one", lambda d, z, y: np.roll(d, -1, 0), 1.6),
        ("unknown", "has its classes shifted by one", lambda d, z, y: np.roll(d, 1, -1), 1.6),
        ("unknown", "has its classes shifted by one", lambda d, z, y: np.roll(d, -1, -1), 1.6),
        (
            "unknown",
            "has nothing where Ŷ and Y agree in rounding",
            lambda d, z, y: d * (np.round(_sigmoid(z)) != y),
            1.6,
        ),
        (
            "unknown",
            "has only the class with the largest Ŷ",
            lambda d, z, y: d * (z == z.max(-1, keepdims=True)),
            1.6,
        ),
        (
            "unknown",
            "has Y inverted, 1 − Y",
            lambda d, z, y: scale(d, z, y, _sigmoid(z)) * (_sigmoid(z) - (1 - y)),
            1.6,
        ),
    ]


ERRORS = tuple(_error_swaps())


def mistaken_error(scenes: list[Scene]) -> Iterator[Finding]:
    """dZ[L] is not what it should be, and all else follows from it rightly."""
    if not scenes[0].structure.layers:
        return
    last = scenes[0].structure.layers[-1]
    seen = set()
    for id, words, f, rank in ERRORS:
        if id in seen and id != "unknown":
            continue

        def predict(scene, f=f):
            layer = scene.structure.layers[-1]
            d = scene.point.cotangents[layer.z]
            z = _upright(scene, layer, _z(scene, layer))
            y = _target(scene)
            with np.errstate(all="ignore"):
                new = f(_upright(scene, layer, d), z, np.zeros_like(z) if y is None else y)
            given = {layer.z: _as_it_was(layer, np.asarray(new), d.shape)}
            return scene.point.pull(changed(scene, given=given))[0]

        if holds(scenes, predict):
            if id == "negatives-ignored" and _error_parts(scenes[0], _softmax) is not None:
                id, words = (
                    "unknown",
                    "has only the entries with Y = 1: softmax's derivative, of which only the diagonal",
                )
            seen.add(id)
            yield Finding(
                id,
                f"dZ[{last.number}] {words.format(l=last.number)}.",
                f"dZ[{last.number}] (the output layer)",
                rank,
            )


# ---- the gradient at other data ----------------------------------------------------------------


def _at(scene: Scene, value: int, new: np.ndarray) -> list[np.ndarray] | None:
    """The right gradient where input or constant `value` is `new`."""
    tape = scene.point.tape
    if value in tape.constants:
        other = tape._replace(constants={**tape.constants, value: new})
        args = scene.point.args
    else:
        flat, tree = jax.tree.flatten(scene.point.args)
        flat = [new if i == value else x for i, x in zip(tape.inputs, flat, strict=True)]
        other, args = tape, jax.tree.unflatten(tree, flat)
    programs = scene.point.programs
    there = point(other, args, programs)
    silent = {**there.change.gains, **{edge(*e): np.zeros(()) for e in scene.muted}}
    return there.pull(there.change._replace(gains=silent))[0] if scene.muted else there.gradient


Altered = tuple[str, str, Callable[[np.ndarray], np.ndarray], float]

SHIFTED: tuple[Altered, ...] = (
    ("labels-shifted", "The labels are shifted by one example.", lambda y: np.roll(y, 1, 0), 0.4),
    ("labels-shifted", "The labels are shifted by one example.", lambda y: np.roll(y, -1, 0), 0.4),
    ("unknown", "The labels are in reverse order.", lambda y: y[::-1], 1.0),
    ("unknown", "Only the first example's label is used.", lambda y: np.broadcast_to(y[:1], y.shape), 1.0),
)

RELABELLED: tuple[Altered, ...] = (
    ("classes-shifted", "The classes of the labels are off by one.", lambda y: np.roll(y, 1, -1), 0.45),
    ("classes-shifted", "The classes of the labels are off by one.", lambda y: np.roll(y, -1, -1), 0.45),
    (
        "broadcast-labels",
        "Every example is held against the mean of all labels: (N,) was broadcast against (N, 1).",
        lambda y: np.broadcast_to(y.mean(0), y.shape),
        0.4,
    ),
    ("unknown", "1 − Y stands where Y belongs.", lambda y: 1 - y, 0.9),
    ("unknown", "Y is left out.", np.zeros_like, 1.0),
    ("unknown", "2 Y − 1 stands where Y belongs.", lambda y: 2 * y - 1, 1.0),
    ("unknown", "Every label is 1.", np.ones_like, 1.1),
    ("truncated-inputs", "The labels are cut to integers.", np.trunc, 0.6),
    ("unknown", "The labels are smoothed by 0.1.", lambda y: 0.9 * y + 0.1 / y.shape[-1], 1.2),
)

FED: tuple[Altered, ...] = (
    ("truncated-inputs", "The inputs are cut to integers.", np.trunc, 0.5),
    ("truncated-inputs", "The inputs are cut to integers.", np.floor, 0.6),
    ("unknown", "The inputs are divided by 255.", lambda x: x / 255, 1.0),
    ("unknown", "The inputs are centred.", lambda x: x - x.mean(0), 1.1),
    ("unknown", "|X| stands where X belongs.", np.abs, 1.1),
    ("unknown", "The inputs' features are in reverse.", lambda x: x[..., ::-1], 1.1),
)


def elsewhere(scenes: list[Scene]) -> Iterator[Finding]:
    """The right gradient, of other labels or inputs."""
    layout = scenes[0].structure
    if not layout.layers:
        yield from _argument_ignored(scenes)
        return
    last = len(layout.layers)
    for t in layout.targets:
        kind = scenes[0].point.values[t].dtype.kind
        table = (*SHIFTED, *(RELABELLED if kind == "f" else ()))
        yield from _altered(scenes, t, table, f"dZ[{last}] (through Y)")
        if kind in "iu":
            yield from _other_classes(scenes, t)
    for x in layout.data:
        if scenes[0].point.values[x].dtype.kind == "f":
            yield from _altered(scenes, x, FED, "dW[1] and the forward pass (through X)")


def _altered(scenes, value: int, table: tuple[Altered, ...], where: str) -> Iterator[Finding]:
    for id, sentence, f, rank in table:

        def predict(scene, f=f):
            old = scene.point.values[value]
            columns = old.ndim == 2 and scene.structure.layers[-1].input_side == 1
            new = f(old.T).T if columns else f(old) if old.ndim else old
            return _at(scene, value, np.asarray(new, old.dtype))

        if holds(scenes, predict):
            yield Finding(id, sentence, where, rank)


def _other_classes(scenes, value: int) -> Iterator[Finding]:
    """Labels that are numbers of classes, off by one; with and without going round."""
    for step in (1, -1):
        for around in (False, True):

            def predict(scene, step=step, around=around):
                new = scene.point.values[value] + step
                classes = scene.sizes.get("n_L", int(new.max(initial=0)) + 1)
                return _at(scene, value, new % classes if around else new)

            if holds(scenes, predict):
                sentence = "The classes of the labels are off by one."
                yield Finding(
                    "classes-shifted", sentence, f"dZ[{len(scenes[0].structure.layers)}] (through Y)", 0.4
                )
                return


def _argument_ignored(scenes) -> Iterator[Finding]:
    """An argument taken for ones; a cotangent, if the loss is linear in it."""
    layout = scenes[0].structure
    for value in (*layout.targets, *layout.data):
        if scenes[0].point.values[value].dtype.kind != "f":
            continue

        def ones(scene, value=value):
            return _at(scene, value, np.ones_like(scene.point.values[value]))

        if not holds(scenes, ones):
            continue
        name = _argument_name(scenes[0], value)
        twice = [_at(s, value, 2 * s.point.values[value]) for s in scenes]
        linear = all(
            fits(s._replace(hand=t), [2 * r for r in s.reference]) for s, t in zip(scenes, twice, strict=True)
        )
        if linear:
            yield Finding(
                "cotangent-ignored",
                f"The gradient is that of {name} = 1: it is not multiplied by {name}.",
                f"through {name}",
                0.4,
            )
        else:
            yield Finding("unknown", f"{name} is left out, as if it were 1.", f"through {name}", 1)


def _argument_name(scene: Scene, value: int) -> str:
    """An input of the loss, as the user would write it."""
    paths = jax.tree_util.tree_flatten_with_path(scene.point.args)[0]
    for number, (path, _) in zip(scene.point.tape.inputs, paths, strict=True):
        if number == value:
            return f"argument {path[0].idx}{jax.tree_util.keystr(path[1:])}"
    return "an array that the loss closes over"


def mean_label_sum(scenes: list[Scene]) -> Iterator[Finding]:
    """(N, 1) − (N,) makes N × N numbers; summed, they are N times the gradient at the mean label."""
    layout = scenes[0].structure
    if not layout.layers or not all("N" in s.sizes for s in scenes):
        return
    for t in layout.targets:
        if scenes[0].point.values[t].dtype.kind != "f":
            continue

        def predict(scene, t=t):
            y = scene.point.values[t]
            mean = _at(scene, t, np.full(y.shape, y.mean(), y.dtype))
            return [scene.sizes["N"] * m for m in mean]

        if holds(scenes, predict):
            sentence = (
                "Every example is held against all labels, and the N × N errors are summed: "
                "(N,) was broadcast against (N, 1)."
            )
            yield Finding("broadcast-labels", sentence, f"dZ[{len(layout.layers)}] (through Y)", 0.5)


# ---- examples: left out, or weighted -----------------------------------------------------------


def _rows(scene: Scene, layer: Layer) -> tuple[np.ndarray, np.ndarray] | None:
    """(A[l-1], dZ[l]) with a row an example, for a plain dense layer."""
    node = scene.point.tape.nodes[layer.place]
    if node.name != "dot_general" or any(node.params["dimension_numbers"][1]):
        return None
    contract = node.params["dimension_numbers"][0][layer.input_side]
    a, d = scene.point.values[layer.before], scene.point.cotangents[layer.product]
    if a.ndim != 2 or d.ndim != 2 or len(contract) != 1:
        return None
    if contract[0] == 0:
        a = a.T
    if layer.input_side == 1:
        d = d.T
    return (a, d) if a.shape[0] == d.shape[0] else None


def _solved_weights(scene: Scene, layer: Layer) -> np.ndarray | None:
    """The w of dW[l] = Σᵢ wᵢ dzᵢ aᵢᵀ and db[l] = Σᵢ wᵢ dzᵢ, if the candidate determines it."""
    rows = _rows(scene, layer)
    g = _as_product(scene, layer, scene.hand[layer.weight])
    if rows is None or g is None or not np.isfinite(g).all():
        return None
    a, d = rows
    if layer.bias is not None and scene.hand[layer.bias].size == d.shape[1]:
        a = np.concatenate([a, np.ones((len(a), 1))], axis=1)
        g = np.concatenate([g, scene.hand[layer.bias].reshape(-1, 1)], axis=1)
    n = len(a)
    rng = np.random.default_rng(0)
    count = min(g.size, n + 24)
    u, v = rng.normal(size=(g.shape[0], count)), rng.normal(size=(g.shape[1], count))
    w, _, rank, _ = np.linalg.lstsq(((d @ u) * (a @ v)).T, ((g.T @ u) * v).sum(axis=0), rcond=1e-12)
    return w if rank == n < count else None


def _simple_weights(n: int) -> Iterator[np.ndarray]:
    """The first or the last m examples alone, counted once, or so that the mean is over them."""
    for m in range(n - 1, 0, -1):
        for kept in (slice(0, m), slice(n - m, n)):
            for weight in (1.0, n / m):
                w = np.zeros(n)
                w[kept] = weight
                yield w


def _as_product(scene: Scene, layer: Layer, leaf: np.ndarray) -> np.ndarray | None:
    """A leaf-shaped gradient as (n_l, n_{l-1})."""
    rows = _rows(scene, layer)
    if rows is None:
        return None
    a, d = rows
    node = scene.point.tape.nodes[layer.place]
    operand = scene.point.values[node.inputs[1 - layer.input_side]]
    value = _oriented(scene, layer, leaf, operand)
    if value is None or value.ndim != 2:
        return None
    contract = node.params["dimension_numbers"][0][1 - layer.input_side]
    value = value if contract[0] == 1 else value.T
    return value if value.shape == (d.shape[1], a.shape[1]) else None


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
        return scene.point.pull(changed(scene, given={layer.z: new}))[0]

    w = None
    for scene in reversed(scenes):
        layer = scene.structure.layers[-1]
        d, product = scene.point.cotangents[layer.z], scene.point.cotangents[layer.product]
        if not scene.wrong:
            continue
        if _rows(scene, layer) is None or d.shape != product.shape:
            return
        w = _solved_weights(scene, layer)
        n = d.shape[1 if layer.input_side == 1 else 0]
        if w is None:
            guesses = _simple_weights(n) if n <= 64 else iter(())
            w = next((w for w in guesses if fits(scene, predicted(scene, w))), None)
        if w is None:
            return
        w = np.where(np.abs(w - np.round(w)) < 1e-6, np.round(w), w)
        if not fits(scene, predicted(scene, w)):
            return
    if w is None:
        return
    kept = w[np.abs(w) > 1e-6]
    gone = len(kept) < len(w)
    where = f"dZ[{len(layout.layers)}], rows of examples"
    if gone and np.allclose(kept, 1):
        yield Finding("examples-ignored", f"{_which(w).capitalize()} left out of the gradient.", where, 0.4)
    elif gone and len(kept) and np.allclose(kept, kept[0]):
        share = " (the mean is over those left)" if _same(kept[0] * len(kept), len(w)) else ""
        yield Finding(
            "examples-ignored",
            f"{_which(w).capitalize()} left out of the gradient, the others count "
            f"{kept[0]:.6g} times{share}.",
            where,
            0.5,
        )
    elif not np.allclose(w, w[0]):
        odd = np.flatnonzero(np.abs(w - np.median(w)) > 1e-6)
        told = ", ".join(f"{i}: {w[i]:.4g}" for i in odd[:6])
        yield Finding(
            "unknown",
            f"Examples do not count alike: {told}{' …' if len(odd) > 6 else ''}.",
            where,
            1,
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
            rows = _rows(scene, biases[k])
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
    where = _joined([scenes[0].structure.names[k] for k in sorted(wrong)])
    id = "bias-one-example" if "bias-one-example" in kind else "examples-ignored"
    what = "one example" if id == "bias-one-example" else "some examples"
    yield Finding(
        id, f"The gradient of {where} is made of {what} only ({_joined(sorted(told))}).", where, 0.4
    )


# ---- numbers that overflow, round or are held off ----------------------------------------------


def clipped_log(scenes: list[Scene]) -> Iterator[Finding]:
    """log(Ŷ + ε), or Ŷ clipped to [ε, 1 − ε]."""
    if not scenes[0].structure.layers:
        return
    last = scenes[0].structure.layers[-1]
    where = f"dZ[{last.number}] (the output layer)"
    for outer in (_sigmoid, _softmax):
        parts = [_error_parts(s, outer) for s in scenes]
        if any(p is None for p in parts):
            continue
        for e in [10.0**-k for k in range(1, 17)]:
            for words, f in CLIPPED:

                def predict(scene, f=f, e=e, outer=outer, parts=parts):
                    layer = scene.structure.layers[-1]
                    p, q, y, s = parts[_place(scenes, scene)]
                    with np.errstate(all="ignore"):
                        new = s * f(p, q, y, e, outer is _softmax)
                    shape = scene.point.cotangents[layer.z].shape
                    given = {layer.z: _as_it_was(layer, new, shape)}
                    return scene.point.pull(changed(scene, given=given))[0]

                if holds(scenes, predict):
                    yield Finding("clipped-log", f"In {where}, {words.format(e=f'{e:.0e}')}.", where, 0.5)
                    return


def _error_parts(scene: Scene, outer: Callable) -> tuple | None:
    """(Ŷ, 1 − Ŷ, Y, s) if dZ[L] = s (Ŷ − Y), Ŷ = outer(Z[L])."""
    layer = scene.structure.layers[-1]
    z = _upright(scene, layer, _z(scene, layer))
    d = _upright(scene, layer, scene.point.cotangents[layer.z])
    y = _target(scene)
    if y is None:
        return None
    p = outer(z)
    q = _sigmoid(-z) if outer is _sigmoid else 1 - p
    gap = (1 - y) * p - y * q
    s = (d * gap).sum() / (gap * gap).sum() if gap.any() else 0.0
    return (p, q, y, s) if np.allclose(d, s * gap, rtol=0, atol=1e-8 * np.abs(d).max(initial=0)) else None


def _through(p, q, d, softmax: bool):
    """dZ of dJ/dŶ."""
    return p * (d - (d * p).sum(axis=-1, keepdims=True)) if softmax else p * q * d


def _clipped_inside(p, q, y, e, softmax):
    c, r = np.clip(p, e, 1 - e), np.clip(q, e, 1 - e)
    return _through(p, q, -y / c + (0 if softmax else (1 - y) / r), softmax)


CLIPPED: tuple[tuple[str, Callable], ...] = (
    (
        "ε = {e} is added inside the logarithm",
        lambda p, q, y, e, softmax: _through(
            p, q, -y / (p + e) + (0 if softmax else (1 - y) / (q + e)), softmax
        ),
    ),
    (
        "Ŷ is clipped to [ε, 1 − ε], ε = {e}: the gradient is zero where it saturates",
        lambda p, q, y, e, softmax: ((1 - y) * p - y * q) * ((p > e) & (p < 1 - e)),
    ),
    (
        "Ŷ is clipped to [ε, 1 − ε], ε = {e}",
        lambda p, q, y, e, softmax: np.clip(p, e, 1 - e) - y,
    ),
    ("the Ŷ inside the logarithm is clipped, ε = {e}", _clipped_inside),
)


def saturated(scenes: list[Scene]) -> Iterator[Finding]:
    """0 · ∞ where Ŷ is 0 or 1 to the last digit."""
    names = scenes[0].structure.names
    for scene in scenes:
        broken = [k for k, g in enumerate(scene.hand) if not np.isfinite(g).all()]
        if not broken or not all(np.isfinite(r).all() for r in scene.reference):
            continue
        where = _joined([names[k] for k in broken])
        rows = ""
        if scene.structure.layers:
            z = _z(scene, scene.structure.layers[-1])
            full = (np.abs(z) > 36).reshape(z.shape[0], -1).any(axis=1) if z.ndim else np.array([])
            soft = _softmax(z) if z.ndim == 2 else z
            full = full | ((soft == 0) | (soft == 1)).reshape(len(full), -1).any(axis=1)
            if not full.any():
                yield Finding("unknown", f"The gradient of {where} is not finite.", where, 1)
                return
            at = np.flatnonzero(full)
            rows = f"; saturated examples: {', '.join(map(str, at[:6]))}{' …' if len(at) > 6 else ''}"
        yield Finding(
            "saturated-nan",
            f"The gradient of {where} is not finite: 0 · ∞ where the output is saturated (Ŷ "
            f"is 0 or 1 to the last digit){rows}.",
            f"dZ[{len(scene.structure.layers)}], and so {where}",
            0.2,
        )
        return
