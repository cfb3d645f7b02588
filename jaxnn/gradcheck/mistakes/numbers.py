"""What a number can stand for: a size, a number of the loss, an argument; and which gradient has which."""

from collections.abc import Callable, Iterable

import jax
import numpy as np

from jaxnn.gradcheck.jaxprs.equations import numbers
from jaxnn.gradcheck.report.words import spoken
from jaxnn.gradcheck.tape.scene import Scene, fits, gradient_with


def same(a: float | int, b: float | int) -> bool:
    """Whether two factors are one, up to rounding."""
    return bool(abs(a - b) <= 1e-8 * max(abs(a), abs(b)))


def common_value(values: list[float]) -> float | None:
    """The one value of all that are not NaN; NaN if none is; None if they differ."""
    known = [v for v in values if not np.isnan(v)]
    if not known:
        return np.nan
    return known[0] if all(same(v, known[0]) or v == known[0] for v in known) else None


def tidy(x: float) -> float:
    """The number a fit was meant to find, if it has few digits; else as it was found.

    >>> tidy(0.5 + 1e-12), tidy(1 / 6) == 1 / 6
    (0.5, True)
    """
    near = float(f"{x:.7g}") if abs(x) > 1e-9 else 0.0
    return near if abs(near - x) < 1e-9 * max(1, abs(x)) else x


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


def leaf_roles(scene: Scene) -> tuple[set[int], set[int]]:
    """The leaves that are weights of layers, and those that are biases."""
    layers = scene.structure.layers
    return {y.weight for y in layers}, {y.bias for y in layers if y.bias is not None}


OF_PARAMETERS = "that of the terms of parameters alone: the terms with data in them add nothing to it"


def beside(scene: Scene, leaves: Iterable[int]) -> bool:
    """Whether terms of parameters alone, that the scene is without, have a gradient for one of them."""
    if not scene.muted:
        return False
    whole = gradient_with(scene, gains=dict.fromkeys(scene.muted, 1.0))
    return any(np.any(whole[k] != scene.reference[k]) for k in leaves)
