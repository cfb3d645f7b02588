"""Mistakes that leave every parameter's gradient a multiple of the right one."""

from collections.abc import Callable, Iterable, Iterator

import jax
import numpy as np

from jaxnn.gradcheck.jaxprs.equations import numbers
from jaxnn.gradcheck.mistakes.finding import Finding, common_value, same
from jaxnn.gradcheck.report.words import joined, spoken
from jaxnn.gradcheck.tape.scene import Scene, changed, fits


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


def factor_words(scene: Scene, k: int) -> str | None:
    """A leaf that is a multiple of the right one, in words."""
    alpha = ratio(scene.hand[k], scene.reference[k], scene, k)
    if alpha is None or np.isnan(alpha):
        return None
    name = scene.structure.names[k]
    return f"{name} is zero" if alpha == 0 else f"{name} is {spoken(alpha)} times what it should be"


def number_words(scenes: list[Scene], alpha: float) -> str:
    """A number of the loss that would explain |α| at every size if it were left out, or there twice."""
    try:
        found = numbers(jax.make_jaxpr(scenes[-1].loss)(*scenes[-1].point.args))
    except Exception:  # nothing to be read in it
        return ""
    for c, line in found.items():
        for how, factor in (("left out", 1 / c), ("there twice", c)):
            if same(abs(factor), abs(alpha)) and not same(abs(alpha), 1.0):
                return f"the factor {spoken(abs(c))}" + (f" at {line}" if line else "") + f" is {how}"
    return ""


def factor_names(scenes: list[Scene], alphas: list[float]) -> list[tuple[str, str, float, bool]]:
    """What a factor can mean that is alphas[s] at scenes[s]: (id, in words, rank, sure)."""
    network = bool(scenes[0].structure.products)  # else no axis is known to be the features or the outputs
    sizes = [{k: n for k, n in s.sizes.items() if network or k == "N"} for s in scenes]
    here = sizes[0]

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
                if all(same(a, f({**own, **fixed})) for a, own in zip(alphas, sizes, strict=True)):
                    return 0.02 * k
            except (KeyError, ZeroDivisionError):
                return None
        return None

    table: list[tuple[str, str, Callable[[dict], float]]] = [
        ("sign", "has the opposite sign", lambda s: -1.0),
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
            # a size that is the same at all points may be any number
            known = id in {"sign", "factor-two"} or len({f(own) for own in sizes}) > 1
            found.append((id, words, 0.1 * rank + fetched, fetched == 0 and known))
    if any(sure for *_, sure in found):
        found = [f for f in found if f[3]]
    for devices in scenes[0].devices:
        shared = f"and the work is shared out among {devices} devices"
        if all(same(a, 1 / devices) for a in alphas):
            words = f"is {devices} times too small, {shared}: a psum is missing, or is a mean"
            found.append(("missing-psum", words, 0.3, True))
        if all(same(a, devices) for a in alphas):
            words = f"is {devices} times too large, {shared}: a psum too many"
            found.append(("extra-psum", words, 0.3, True))
    return found


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
    _, biases = _leaf_roles(scenes[0])
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
        return Finding(id, f"The gradient of {where} is {ALONE}.", where, 0)
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


ALONE = "that of the terms of parameters alone: the terms with data in them add nothing to it"


def beside(scene: Scene, leaves: Iterable[int]) -> bool:
    """Whether terms of parameters alone, that the scene is without, have a gradient for one of them."""
    if not scene.muted:
        return False
    whole = scene.point.pull(changed(scene, gains=dict.fromkeys(scene.muted, 1.0)))[0]
    return any(np.any(whole[k] != scene.reference[k]) for k in leaves)


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


POWERS: tuple[tuple[str, Callable[[float], float]], ...] = (
    ("{}", lambda v: v),
    ("1/{}", lambda v: 1 / v),
    ("−{}", lambda v: -v),
    ("{}²", lambda v: v * v),
    ("1/{}²", lambda v: v**-2.0),
    ("√{}", lambda v: abs(v) ** 0.5),
    ("1/√{}", lambda v: abs(v) ** -0.5),
    ("exp({})", lambda v: np.exp(v)),
    ("exp(−{})", lambda v: np.exp(-v)),
)


def of_arguments(scenes, alphas) -> list[str]:
    """The factor as a number that is handed in, or as the size of an axis; the nearest first."""
    told = []
    paths = [jax.tree_util.tree_flatten_with_path(s.point.args)[0] for s in scenes]
    for leaves in zip(*paths, strict=True):
        path, first = leaves[0]
        name = f"argument {path[0].idx}{jax.tree_util.keystr(path[1:])}"
        values = {name: [np.asarray(x) for _, x in leaves]} if np.size(first) == 1 else {}
        for axis in range(np.ndim(first)):
            values[f"the size of axis {axis} of {name}"] = [np.shape(x)[axis] for _, x in leaves]
        for words, row in values.items():
            if not all(np.isrealobj(v) for v in row):
                continue
            numbers_there = [np.float64(np.reshape(v, ())) for v in row]
            if any(v == 0 for v in numbers_there) or len(set(numbers_there)) < 2:
                continue
            with np.errstate(all="ignore"):
                fitting = [
                    form
                    for form, f in POWERS
                    if all(same(a, f(v)) for a, v in zip(alphas, numbers_there, strict=True))
                ]
            told += [form.format(words if form == "{}" else f"({words})") for form in fitting]
    return told


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
