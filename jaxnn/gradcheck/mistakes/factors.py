"""Mistakes that leave a parameter's gradient, or that of all, a multiple of the right one."""

from collections.abc import Callable, Iterator

import numpy as np

from jaxnn.gradcheck.mistakes.finding import Finding
from jaxnn.gradcheck.mistakes.numbers import (
    OF_PARAMETERS,
    beside,
    common_value,
    factor_names,
    leaf_roles,
    number_words,
    of_arguments,
    ratio,
    same,
)
from jaxnn.gradcheck.report.words import joined, spoken
from jaxnn.gradcheck.tape.scene import Scene


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
    table = [[a for a in row if a is not None] for row in table]
    if any(len(row) < len(names) for row in table):
        return
    off = {k for row in table for k, a in enumerate(row) if not np.isnan(a) and not same(a, 1.0)}
    quiet = {k for k in range(len(names)) if all(np.isnan(row[k]) for row in table)}
    if not off:
        return
    one = [common_value([row[k] for k in off]) for row in table]
    if all(a is not None for a in one):
        alphas = [a for a in one if a is not None]
        told = [(s, a) for s, a in zip(scenes, alphas, strict=True) if not np.isnan(a)]
        yield from _one_factor([s for s, _ in told], [a for _, a in told], off, quiet)
        return
    yield from _many_factors(scenes, table, off)


def _one_factor(scenes, alphas, off: set[int], quiet: set[int]) -> Iterator[Finding]:
    names = scenes[0].structure.names
    _, biases = leaf_roles(scenes[0])
    everywhere = off | quiet == set(range(len(names)))
    where = "every parameter" if everywhere else joined([names[k] for k in sorted(off)])
    constant = all(same(a, alphas[0]) for a in alphas)
    meanings = factor_names(scenes, alphas)
    only_biases = bool(biases) and off <= biases and not everywhere
    k = _lower(scenes[0], off, quiet)
    if all(a == 0 for a in alphas):
        yield _zero(scenes, off, where, k, everywhere, only_biases)
        return
    k = None if everywhere else k
    layer = [y for y in scenes[0].structure.layers if off <= {y.weight, y.bias} and y.weight in off]
    place = f"dZ[{k}], and so {where}" if k else f"layer {layer[0].number}: {where}" if layer else where
    if constant:  # a size that no point changes may be any number
        number = f" ({spoken(alphas[0])} times, at every size)"
        meanings = [(i, words if sure else words + number, rank, sure) for i, words, rank, sure in meanings]
    other = number_words(scenes, alphas[0]) if constant else ""
    if other:  # in all of the gradient a stray number is one of the loss; elsewhere who can tell
        meanings = [
            (i, f"{words}, or {other}", rank, sure and everywhere) for i, words, rank, sure in meanings
        ]
    if only_biases:
        yield from _of_biases(meanings, where)
    elif everywhere:
        for id, words, rank, sure in meanings:
            words += " (Y − Ŷ for Ŷ − Y, or a minus too many)" if id == "sign" else ""
            yield Finding(id, f"The whole gradient {words}.", where, rank, sure)
    else:
        for id, words, rank, sure in meanings:
            if id == "sign" and (k or layer or len(off) > 1):
                what = f"gradient from layer {k} down" if k and k > 1 else f"gradient of {where}"
                yield Finding("layer-sign", f"The {what} has the opposite sign.", place, rank, sure)
            else:
                down = f"from layer {k} down" if k and k > 1 else f"of {where}"
                yield Finding(id, f"The gradient {down} {words}.", place, rank, sure)
    told = {m[0] for m in meanings}
    if everywhere and not told - {"learning-rate-folded-in"}:
        yield from _update(scenes, alphas, where, constant, other)
    elif not meanings and constant:
        told_factor = f"{spoken(alphas[0])} times what it should be" + (f": {other}" if other else "")
        yield Finding("unknown", f"The gradient of {where} is {told_factor}.", place, 2)
    elif not meanings:
        yield from _per_leaf_norm(scenes, off)
        yield _nameless(scenes, alphas, f"The gradient of {where}", where)


def _zero(scenes, off: set[int], where: str, k: int | None, everywhere: bool, only_biases: bool) -> Finding:
    """No gradient at all, in these leaves, which may be those of layers 1 … k."""
    kept = any(beside(s, off) for s in scenes)
    if kept and k is None:
        id = "not-propagated" if everywhere and scenes[0].structure.layers else "unknown"
        return Finding(id, f"The gradient of {where} is {OF_PARAMETERS}.", where, 0)
    if only_biases:
        rest = any(s.hand[k].any() for s in scenes for k in off)
        sentence = f"The gradient of {where} is zero: it is never computed."
        return Finding("bias-missing", sentence, where, 0.4 if rest else 0)
    if k is not None:
        layers = f"Layers 1 to {k} get" if k > 1 else "Layer 1 gets"
        none = "no gradient but that of the terms of parameters alone" if kept else "no gradient at all"
        return Finding(
            "not-propagated",
            f"{layers} {none}: nothing is passed down from layer {k + 1}.",
            f"dA[{k}], and so {where}",
            0,
        )
    if everywhere:
        return Finding("not-propagated", "The gradient is zero everywhere.", where, 0)
    return Finding("entries-unwritten", f"The gradient of {where} is zero: it is never written.", where, 1)


def _of_biases(meanings: list[tuple[str, str, float, bool]], where: str) -> Iterator[Finding]:
    """A factor that the biases alone have."""
    swap = {"missing-mean": "bias-not-averaged", "mean-twice": "bias-mean"}
    for id, words, rank, sure in meanings:
        better = swap.get(id, id)
        tail = {
            "bias-not-averaged": "is N times too large: the weights are averaged, the bias is not",
            "bias-mean": "is N times too small: it is a mean over the examples where a sum belongs",
        }.get(better, words)
        yield Finding(better, f"The gradient of {where} {tail}.", where, rank, sure)


LARGEST_RATE = 0.3  # of a learning rate that is taken for one with confidence


def _norm(leaves) -> float:
    return float(np.sqrt(sum(np.vdot(x, x) for x in leaves)))


def _update(scenes, alphas, where, constant, other: str) -> Iterator[Finding]:
    """−α r, or r clipped to a norm; other: what else the factor may be."""
    clipped = [s for s, a in zip(scenes, alphas, strict=True) if not same(a, 1)]
    free = [s for s, a in zip(scenes, alphas, strict=True) if same(a, 1)]
    norms = [_norm(s.hand) for s in clipped]
    limit = norms[0]
    is_norm = all(same(n, limit) for n in norms) and all(
        _norm(s.reference) <= limit * (1 + 1e-8) for s in free
    )
    round_norm = same(limit, float(f"{limit:.2g}"))
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
        rate = -alphas[0]
        ambiguous = bool(other) or rate >= LARGEST_RATE
        besides = f", or the sign is flipped and {other or 'a factor is wrong'}" if ambiguous else ""
        yield Finding(
            "learning-rate-folded-in",
            f"The candidate is {spoken(alphas[0])} times the gradient: the update −α dW with α = "
            f"{rate:.6g}{besides}.",
            where,
            0.6,
            not ambiguous,
        )
    elif constant and not (is_norm and len(clipped) > 1):
        told = f"{spoken(alphas[0])} times what it should be" + (f": {other}" if other else "")
        yield Finding("unknown", f"The whole gradient is {told}.", where, 2)
    elif not is_norm:
        yield _nameless(scenes, alphas, "The whole gradient", where)


def _nameless(scenes, alphas, what: str, where: str) -> Finding:
    """A factor that is another at every point, and none of the catalogue."""
    told = f"{spoken(alphas[0])} times what it should be here, {spoken(alphas[-1])} times elsewhere"
    known = [words for words, f in OTHER_FACTORS if _matches(scenes, alphas, f)]
    known += [f"{words} times" for words in of_arguments(scenes, alphas)]
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
        return all(same(a, f(s.sizes)) for a, s in zip(alphas, scenes, strict=True))
    except KeyError:
        return False


def _per_leaf_norm(scenes, off) -> Iterator[Finding]:
    names = scenes[0].structure.names
    limits = {round(_norm([s.hand[k]]), 9) for s in scenes for k in off}
    if len(limits) == 1 and 0 not in limits and len(scenes) * len(off) > 1:
        where = joined([names[k] for k in sorted(off)])
        yield Finding("clipped-norm", f"Each of {where} is scaled to the norm {limits.pop():.6g}.", where, 1)


def _many_factors(scenes, table, off) -> Iterator[Finding]:
    """Another factor for each parameter."""
    names = scenes[0].structure.names
    layers = scenes[0].structure.layers
    n = [s.sizes.get("N", 0) for s in scenes]
    of_layer = {leaf: y.number for y in layers for leaf in (y.weight, y.bias) if leaf is not None}
    where = joined([names[k] for k in sorted(off)])
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
        words = meanings[0][1] if meanings else f"is {spoken(alphas[0][1])} times what it should be"
        told.append(f"{names[k]} {words}")
    yield Finding("unknown", "Each parameter has its own factor: " + "; ".join(told) + ".", where, 6)


def _close(values: list[float], target: float) -> bool:
    return all(abs(v - target) < 1e-7 for v in values)
