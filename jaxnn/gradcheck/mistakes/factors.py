"""Mistakes that leave a parameter's gradient, or that of all, a multiple of the right one."""

import itertools
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import jax
import numpy as np

from jaxnn.gradcheck.mistakes.averages import (
    EXTRA_PSUM,
    MEAN_TWICE,
    MISSING_PSUM,
    OF_ALL,
    OF_BIASES,
    OF_LAYERS,
    Meaning,
    Words,
    common_value,
    factor_names,
    number_words,
    of_arguments,
    ratio,
    same,
    size_words,
)
from jaxnn.gradcheck.mistakes.entries import UNWRITTEN
from jaxnn.gradcheck.mistakes.finding import (
    OF_PARAMETERS,
    Finding,
    Leaves,
    Mistake,
    Part,
    Value,
    beside,
    finding,
    gradient_of,
    leaf_roles,
    wrong_leaves,
)
from jaxnn.gradcheck.report.words import spoken
from jaxnn.gradcheck.tape.scene import Scene
from jaxnn.gradcheck.tolerances import FITTED

UPDATE = Mistake(
    "learning-rate-folded-in", "the update −α dW is returned, not the gradient",
    "the gradient is dW; the update is W := W − α dW", "dW1 = -alpha * dZ1.T @ X", "every parameter",
)  # fmt: skip
CLIPPED_NORM = Mistake(
    "clipped-norm", "clipping to a norm is left on",
    "the gradient is dW; clipping dW · c/‖dW‖ belongs to the update",
    "dW1 = dW1 / max(1, np.linalg.norm(dW1))", "every parameter, together or each alone",
)  # fmt: skip
NOT_PROPAGATED = Mistake(
    "not-propagated", "lower layers get nothing", "dA[l-1] = dZ[l] W[l]", "dA1 = 0 * A1",
    "dA[l], and what is below it",
)  # fmt: skip
BIAS_MISSING = Mistake(
    "bias-missing", "db is never computed", "db[l] = dZ[l]ᵀ 1", "db1 = np.zeros_like(b1)", "db[l]",
)  # fmt: skip
STRAY = Mistake(
    "stray-factor", "a number too many, or one left out: any factor that is none of the others",
    "dW is 1 times dJ/dW, for every W", "dW1 = 0.3 * dZ1.T @ X", "any parameter", loose=True,
)  # fmt: skip
OVER_ALL = Mistake(
    "mean-over-all", "a mean over all where only those kept count",
    "J = Σ M ⊙ L / Σ M, so dL = M / Σ M, not M / N",
    "dZ2 = mask * (A2 - Y) / N  # for / mask.sum()", "a loss with a mask, with weights or with padding",
)  # fmt: skip
OF_FACTORS = (
    *OF_ALL, *OF_LAYERS[:1], *OF_BIASES[2:4], MISSING_PSUM, EXTRA_PSUM, UPDATE, CLIPPED_NORM, NOT_PROPAGATED,
    BIAS_MISSING, UNWRITTEN, OVER_ALL, STRAY,
)  # fmt: skip
LARGEST_RATE = 0.3  # of a learning rate that is taken for one with confidence


class Extent(NamedTuple):
    """The gradients that are off by a factor: what they are called, and where they are."""

    says: str
    where: str
    parts: Mapping[str, Part]


def _lower(scene: Scene, leaves: set[int], quiet: set[int]) -> int | None:
    """k if `leaves` (with some of the `quiet` ones) are just the parameters of layers 1 … k."""
    layers = scene.structure.layers
    for k in range(1, len(layers)):
        mine = {p for y in layers[:k] for p in (y.weight, y.bias) if p is not None}
        if leaves <= mine <= leaves | quiet:
            return k
    return None


def scaled(scenes: list[Scene]) -> Iterator[Finding]:
    """Every parameter's gradient is the right one times a number."""
    off, every = wrong_leaves(scenes), range(len(scenes[0].hand))
    table = []
    for s in scenes:
        row = [ratio(g, r, s, k) for k, (g, r) in enumerate(zip(s.hand, s.reference, strict=True))]
        table.append([a for a in row if a is not None])
    if not off or any(len(row) < len(every) for row in table):
        return
    if any(all(np.isnan(row[k]) or same(row[k], 1) for row in table) for k in off):
        return  # off by less than a factor can be told from 1
    quiet = {k for k in every if all(np.isnan(row[k]) for row in table)}
    one = [common_value([row[k] for k in off]) for row in table]
    if any(a is None for a in one):
        yield from _many_factors(scenes, table, off)
        return
    told = [(s, a) for s, a in zip(scenes, one, strict=True) if a is not None and not np.isnan(a)]
    yield from _one_factor([s for s, _ in told], [a for _, a in told], set(off), quiet)


def _one_factor(scenes, alphas: list[float], off: set[int], quiet: set[int]) -> Iterator[Finding]:
    """The same for all that are off."""
    _, biases = leaf_roles(scenes[0])
    everywhere = off | quiet == set(range(len(scenes[0].hand)))
    only_biases = bool(biases) and off <= biases and not everywhere
    k = _lower(scenes[0], off, quiet)
    if all(a == 0 for a in alphas):
        yield _zero(scenes, off, k, everywhere, only_biases)
        return
    extent = _extent(scenes, off, k, everywhere)
    mistakes = OF_ALL if everywhere else OF_BIASES if only_biases else OF_LAYERS
    constant = all(same(a, alphas[0]) for a in alphas)
    resized = any(s.sizes != scenes[0].sizes for s in scenes)
    other = number_words(scenes, alphas)
    size = size_words(scenes, alphas) if constant and not other else None
    meanings = factor_names(scenes, alphas, mistakes)
    for m in meanings:
        # a size that no point changes may be any number
        fixed = " ({times} times, by a number in the code)" if resized else " ({times} times)"
        fixed = fixed if constant and not m.sure else ""
        # in all of the gradient a stray number is one of the loss; elsewhere who can tell
        beside = other or size if constant else None  # a number that goes with a size is that size
        says, parts = _also(f"{extent.says} {m.says}{fixed}", beside, extent.parts)
        parts = {**parts, **m.parts, "times": spoken(alphas[0])}
        sure = m.sure and not size and (everywhere or not beside)
        yield finding(m.mistake, f"{says}.", extent.where, m.rank, sure, **parts)
    if not meanings and (one := _over_all(scenes, alphas, extent)):
        yield one
    elif not meanings and everywhere:
        yield from _update(scenes, alphas, extent, constant, other)
    elif not meanings:
        yield from () if constant else _per_leaf_norm(scenes, off)
        numbers = all(scenes[0].hand[k].size == 1 for k in off)
        if constant or other or not numbers or of_arguments(scenes, alphas):
            yield _stray(scenes, alphas, extent, other)  # two numbers have a ratio, whatever is wrong


def _over_all(scenes, alphas: list[float], extent: Extent) -> Finding | None:
    """A sum divided by a size where the loss divides it by a number that it counts itself."""
    tape = scenes[0].point.tape
    counted = [
        v for node in tape.nodes for v in node.outputs if not tape.shapes[v].shape and v != tape.output
    ]
    rows = list(zip(*(jax.tree.leaves(s.point.args) for s in scenes), strict=True))
    sizes = {tuple(map(np.size, xs)) for xs in rows if all(map(np.size, xs))}
    sizes |= {tuple(map(len, xs)) for xs in rows if np.ndim(xs[0]) and all(map(np.size, xs))}
    for v, row in itertools.product(counted, sizes):
        counts = [float(s.point.values[v]) for s in scenes]
        if (
            max(row) > 1
            and len(set(counts)) > 1
            and all(same(a, c / n) for a, c, n in zip(alphas, counts, row, strict=True))
        ):
            says = "{says} is divided by {n}, the size of an array, where the loss divides by {count}."
            parts = {"n": str(row[0]), "count": Value((v,)), **extent.parts}
            return finding(
                OVER_ALL, says.replace("{says}", extent.says), extent.where, 0.5, True, scenes[0], **parts
            )
    return None


def _also(says: str, other: Words | None, parts: Mapping[str, Part], sign: str = ", or"):
    """What is said, and what else it may be; with the parts of both."""
    return (f"{says}{sign} {other.says}", {**parts, **other.parts}) if other else (says, parts)


def _extent(scenes: list[Scene], off: set[int], k: int | None, everywhere: bool) -> Extent:
    of = {"of": Leaves(tuple(sorted(off)))}
    if everywhere and scenes[0].muted:
        return Extent("The data's part of the gradient", "every parameter, without the λ term", of)
    if everywhere:
        return Extent("The whole gradient", "every parameter", of)
    says = gradient_of(scenes, off)
    if k:
        says = "The gradient from layer {k} down" if k > 1 else says
        return Extent(says, "dZ[{k}], and so {of}", {**of, "k": k})
    for y in scenes[0].structure.layers:
        if y.weight in off and off <= {y.weight, y.bias}:
            return Extent(says, "layer {k}: {of}", {**of, "k": y.number})
    return Extent(says, "{of}", of)


def _zero(scenes, off: set[int], k: int | None, everywhere: bool, only_biases: bool) -> Finding:
    """No gradient at all, in these leaves, which may be those of layers 1 … k."""
    of, layers = Leaves(tuple(sorted(off))), bool(scenes[0].structure.layers)
    where = "every parameter" if everywhere else "{of}"
    kept = any(beside(s, off) for s in scenes)
    if kept and k is None:
        mistake = NOT_PROPAGATED if everywhere and layers else UNWRITTEN
        return finding(mistake, f"The gradient of {where} is {OF_PARAMETERS}.", where, 0, layers, of=of)
    if only_biases:
        rest = any(s.hand[k].any() for s in scenes for k in off)
        says = "The gradient of {of} is zero: it is never computed."
        return finding(BIAS_MISSING, says, where, 0.4 if rest else 0, of=of)
    if k is not None:
        lower = "Layers 1 to {k} get" if k > 1 else "Layer 1 gets"
        none = "no gradient but that of the terms of parameters alone" if kept else "no gradient at all"
        says = f"{lower} {none}: nothing is passed down from layer {{above}}."
        return finding(NOT_PROPAGATED, says, f"dA[{{k}}], and so {where}", 0, of=of, k=k, above=k + 1)
    if everywhere:
        return finding(NOT_PROPAGATED, "The gradient is zero everywhere.", where, 0)
    return finding(UNWRITTEN, "The gradient of {of} is zero: it is never written.", where, 1, of=of)


def _norm(leaves) -> float:
    return float(np.sqrt(sum(np.vdot(x, x) for x in leaves)))


def _update(scenes, alphas, extent: Extent, constant: bool, other: Words | None) -> Iterator[Finding]:
    """−α r, or r clipped to a norm; other: what else the factor may be."""
    clipped = [n for n, a in enumerate(alphas) if not same(a, 1)]
    norms = [_norm(scenes[n].hand) for n in clipped]
    free = [_norm(s.reference) for s, a in zip(scenes, alphas, strict=True) if same(a, 1)]
    limit = norms[0]
    is_norm = all(same(n, limit) for n in norms) and all(n <= limit * (1 + FITTED) for n in free)
    several = len(clipped) > 1
    if is_norm and alphas[clipped[0]] > 0 and (several or same(limit, float(f"{limit:.2g}"))):
        says = f"{extent.says} is scaled to the norm {{limit:.6g}}: clipping is left on."
        yield finding(CLIPPED_NORM, says, extent.where, 0.5, limit=limit)
    if constant and alphas[0] < 0:
        rate = -alphas[0]
        ambiguous = bool(other) or rate >= LARGEST_RATE
        says = "The candidate is {times} times the gradient: the update −α dW with α = {rate:.6g}"
        besides = other or (Words("a factor is wrong", {}) if ambiguous else None)
        parts = {"times": spoken(alphas[0]), "rate": rate}
        says, parts = _also(says, besides, parts, ", or the sign is flipped and")
        yield finding(UPDATE, f"{says}.", extent.where, 0.6, not ambiguous, **parts)
    elif not is_norm or (constant and not several):
        yield _stray(scenes, alphas, extent, other)


def _stray(scenes, alphas, extent: Extent, other: Words | None = None) -> Finding:
    """A factor that has no name, and what else is known of it."""
    says = f"{extent.says} is {{times}} times what it should be"
    parts = {**extent.parts, "times": spoken(alphas[0]), "then": spoken(alphas[-1])}
    if other or all(same(a, alphas[0]) for a in alphas):
        says, parts = _also(says, other, parts, ":")
        return finding(STRAY, f"{says}.", extent.where, 2, True, **parts)
    says += " here, {then} times elsewhere"
    for form in of_arguments(scenes, alphas)[:1]:
        says, parts = f"{says} ({form.says} times)", {**parts, **form.parts}
    return finding(STRAY, f"{says}.", extent.where, 5, True, **parts)


def _per_leaf_norm(scenes, off) -> Iterator[Finding]:
    limits = [_norm([s.hand[k]]) for s in scenes for k in off]
    if len(limits) > 1 and limits[0] and all(same(n, limits[0]) for n in limits):
        says = "Each of {of} is scaled to the norm {limit:.6g}."
        of = Leaves(tuple(sorted(off)))
        yield finding(CLIPPED_NORM, says, "{of}", 1, of=of, limit=limits[0])


def _many_factors(scenes, table, off: tuple[int, ...]) -> Iterator[Finding]:
    """Another factor for each parameter."""
    layers, of = scenes[0].structure.layers, Leaves(off)
    n = [s.sizes.get("N", 0) for s in scenes]
    of_layer = {leaf: y.number for y in layers for leaf in (y.weight, y.bias) if leaf is not None}
    if all(size > 1 for size in n) and set(off) <= set(of_layer):
        for down in (0, 1):
            power = {k: float(len(layers) - l + down) for k, l in of_layer.items()}
            pairs = zip(table, n, strict=True)
            if all(abs(row[k] * size**p - 1) < FITTED for row, size in pairs for k, p in power.items()):
                says = "1/N is applied again in every layer on the way down."
                yield finding(MEAN_TWICE, says, "{of}", 0.5, of=of)
    yield from _per_leaf_norm(scenes, off)
    told, parts = [], {}
    for k in off:
        alphas = [(s, row[k]) for s, row in zip(scenes, table, strict=True) if not np.isnan(row[k])]
        stray = Meaning(STRAY, f"is {{times{k}}} times what it should be", 2, False, {})
        meant = (*factor_names([s for s, _ in alphas], [a for _, a in alphas], OF_LAYERS), stray)[0]
        if meant is stray and scenes[0].hand[k].size == 1 and common_value([a for _, a in alphas]) is None:
            return  # two numbers have a ratio, whatever is wrong
        told.append(f"{{of{k}}} {meant.says}")
        parts |= {f"of{k}": Leaves((k,)), f"times{k}": spoken(alphas[0][1]), **meant.parts}
    says = f"Each parameter has its own factor: {'; '.join(told)}."
    yield finding(STRAY, says, "{of}", 6, True, of=of, **parts)
