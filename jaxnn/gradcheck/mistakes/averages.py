"""What a factor can stand for: a mistake in the mean, a stray number, a number of the loss, an argument."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import numpy as np

from jaxnn.gradcheck.jaxprs.equations import numbers
from jaxnn.gradcheck.mistakes.finding import Argument, Mistake, Part, Way
from jaxnn.gradcheck.report.words import spoken
from jaxnn.gradcheck.tape.scene import Scene, fits
from jaxnn.gradcheck.tolerances import COMPUTED, ROUNDED


class Words(NamedTuple):
    """A piece of a sentence, and the parts that it speaks of."""

    says: str
    parts: Mapping[str, Part]


class Meaning(NamedTuple):
    """What a factor can mean; it is said of the gradient that has it."""

    mistake: Mistake
    says: str
    rank: float
    sure: bool
    parts: Mapping[str, Part]


SIGN = Mistake(
    "sign", "Y − Ŷ for Ŷ − Y", "dZ[L] = (Ŷ − Y)/N", "dZ2 = (Y - A2) / N", "dZ[L], and so every parameter",
    (Way("has the opposite sign (Y − Ŷ for Ŷ − Y, or a minus too many)", lambda s: -1.0, 0),),
)  # fmt: skip
LAYER_SIGN = Mistake(
    "layer-sign", "the sign is flipped in one layer", "dA[l-1] = dZ[l] W[l]; dZ[l] = dA[l] ⊙ g′(Z[l])",
    "dA1 = -dZ2 @ W2", "dZ[l] and what is below it, or the parameters of one layer",
    (Way("has the opposite sign", lambda s: -1.0, 0),),
)  # fmt: skip
FACTOR_TWO = Mistake(
    "factor-two", "a stray 2 or ½", "dJ/dZ has the constant that J has, no other",
    "dZ2 = 2 * (A2 - Y) / N", "dZ[l] and what is below it, or any parameter",
    (
        Way("is twice what it should be: a stray 2", lambda s: 2.0, 0.1),
        Way("is half of what it should be: a stray ½", lambda s: 0.5, 0.2),
    ),
)  # fmt: skip
MISSING_MEAN = Mistake(
    "missing-mean", "the 1/N of the mean is forgotten", "J = −(1/N) Σᵢ Σₖ …, so dZ[L] = (Ŷ − Y)/N",
    "dZ2 = A2 - Y", "dZ[l] and what is below it, or any parameter",
    (
        Way("is N times too large: the 1/N of the mean is missing", lambda s: s["N"], 0.3),
        Way("is N·n_L times too large: no mean is taken", lambda s: s["N"] * s["n_L"], 0.8),
        Way("is n_L times too large: no mean over the outputs", lambda s: s["n_L"], 0.9),
    ),
)  # fmt: skip
MEAN_TWICE = Mistake(
    "mean-twice", "1/N is applied twice",
    "dZ[L] = (Ŷ − Y)/N; below it dW[l] = dZ[l]ᵀ A[l-1] without another 1/N", "dW1 = dZ1.T @ X / N",
    "dZ[l] and what is below it, or any dW[l]",
    (Way("is N times too small: 1/N is applied twice", lambda s: 1 / s["N"], 0.4),),
)  # fmt: skip
N_MINUS_ONE = Mistake(
    "n-minus-one", "divided by N − 1", "J = −(1/N) Σᵢ …: N, not N − 1", "dZ2 = (A2 - Y) / (N - 1)",
    "dZ[L], and so every parameter",
    (Way("is divided by N − 1 instead of N", lambda s: s["N"] / (s["N"] - 1), 0.5),),
)  # fmt: skip
OVER_OUTPUTS = Mistake(
    "mean-over-outputs", "divided by N·n_L instead of N",
    "J = −(1/N) Σᵢ Σₖ …: the mean is over the N examples, not over N·n_L entries",
    "dZ2 = (A2 - Y) / Y.size", "dZ[L], and so every parameter",
    (Way("is divided by N·n_L instead of N: the mean goes over the outputs too",
         lambda s: 1 / s["n_L"], 0.6),),
)  # fmt: skip
OVER_FEATURES = Mistake(
    "mean-over-features", "divided by the number of features instead of N",
    "J = −(1/N) Σᵢ …: N examples, not n_x features", "dZ2 = (A2 - Y) / X.shape[1]",
    "dZ[L], and so every parameter",
    (
        Way("is divided by n_x, the number of features, instead of N", lambda s: s["N"] / s["n_x"], 0.7),
        Way("is divided by n_x once too often", lambda s: 1 / s["n_x"], 1.0),
    ),
)  # fmt: skip
BIAS_NOT_AVERAGED = Mistake(
    "bias-not-averaged", "1/N stands at the weights only",
    "db[l] = dZ[l]ᵀ 1 with the same dZ[l] = (…)/N as in dW[l]", "db1 = N * dZ1.sum(axis=0)", "db[l]",
    (Way("is N times too large: the weights are averaged, the bias is not", lambda s: s["N"], 0.3),),
)  # fmt: skip
BIAS_MEAN = Mistake(
    "bias-mean", "db is a mean over the examples, not a sum",
    "db[l] = dZ[l]ᵀ 1: a sum over the examples (1/N is in dZ[l] already)", "db1 = dZ1.mean(axis=0)", "db[l]",
    (Way("is N times too small: it is a mean over the examples where a sum belongs",
         lambda s: 1 / s["N"], 0.4),),
)  # fmt: skip
MISSING_PSUM = Mistake(
    "missing-psum", "a sum over the devices is missing", "dW = Σ over the devices of each one's dZᵀ A",
    "dW1 = dZ1.T @ X  # of the rows of this device alone", "any parameter",
)  # fmt: skip
EXTRA_PSUM = Mistake(
    "extra-psum", "a sum over the devices too many", "dW = Σ over the devices of each one's dZᵀ A, once",
    "dW1 = jax.lax.psum(jax.lax.psum(dZ1.T @ X, 'devices'), 'devices')", "any parameter",
)  # fmt: skip

MORE = (FACTOR_TWO, MISSING_MEAN, MEAN_TWICE, N_MINUS_ONE, OVER_OUTPUTS, OVER_FEATURES)
OF_ALL = (SIGN, *MORE)
OF_LAYERS = (LAYER_SIGN, *MORE)
OF_BIASES = (LAYER_SIGN, FACTOR_TWO, BIAS_NOT_AVERAGED, BIAS_MEAN, *MORE[3:])


def same(a: float | int, b: float | int) -> bool:
    """Whether two factors are one, up to rounding."""
    return bool(abs(a - b) <= ROUNDED * max(abs(a), abs(b)))


def common_value(values: list[float]) -> float | None:
    """The one value of all that are not NaN; NaN if none is; None if they differ."""
    known = [v for v in values if not np.isnan(v)]
    if not known:
        return np.nan
    return known[0] if all(same(v, known[0]) for v in known) else None


def tidy(x: float) -> float:
    """The number a fit was meant to find, if it has few digits; else as it was found.

    >>> tidy(0.5 + 1e-12), tidy(1 / 6) == 1 / 6
    (0.5, True)
    """
    for digits, least in ((3, ROUNDED), (7, COMPUTED)):
        near = float(f"{x:.{digits}g}") if abs(x) > least else 0.0
        if abs(near - x) < least * max(1, abs(x)):
            return near
    return x


def ratio(g: np.ndarray, r: np.ndarray, scene: Scene, k: int) -> float | None:
    """α of g = α r; NaN where both are zero to the bound; None where there is none."""
    if not np.isfinite(g).all() or not np.isfinite(r).all():
        return None
    if not (np.maximum(np.abs(g), np.abs(r)) > scene.bound[k]).any():
        return np.nan
    if not r.any():
        return None if g.any() else np.nan
    alpha = float(np.vdot(r, g) / np.vdot(r, r))
    alpha = alpha if abs(alpha) > ROUNDED else 0.0
    prediction = [*scene.reference]
    prediction[k] = alpha * r
    return alpha if fits(scene, prediction, [k]) else None


def number_words(scenes: list[Scene], alphas: list[float]) -> Words | None:
    """A number of the loss that would explain |α| at every scene if it were left out, or there twice."""
    if all(same(abs(a), 1) for a in alphas):
        return None
    try:
        found = [numbers(jax.make_jaxpr(s.loss)(*s.point.args)) for s in scenes]
    except Exception:  # nothing to be read in it
        return None
    for c, line in found[0].items():
        for how, power in (("left out", -1), ("there twice", 1)):
            told = zip(found, alphas, strict=True)
            if same(abs(c**power), abs(alphas[0])) and all(
                any(at == line and same(abs(x**power), abs(a)) for x, at in row.items()) for row, a in told
            ):
                at = " at {line}" if line else ""
                return Words(f"the factor {{c}}{at} is {how}", {"c": spoken(abs(c)), "line": line})
    return None


def size_words(scenes: list[Scene], alphas: list[float]) -> Words | None:
    """A size that is the same at every scene and would explain |α| as well, left out or there twice."""
    for n, leaves in enumerate(zip(*(jax.tree.leaves(s.point.args) for s in scenes), strict=True)):
        for a, sizes in enumerate(zip(*map(np.shape, leaves), strict=True)):
            if (
                len({*sizes}) == 1
                and sizes[0] > 1
                and any(same(abs(alphas[0] ** k), sizes[0]) for k in (1, -1))
            ):
                says = "the size {size} of axis {a} of {x}, which no other point could change, is left out"
                return Words(f"{says} or there twice", {"size": sizes[0], "a": a, "x": Argument(n)})
    return None


def factor_names(scenes: list[Scene], alphas: list[float], mistakes=OF_ALL) -> list[Meaning]:
    """What a factor can mean that is alphas[s] at scenes[s]."""
    network = bool(scenes[0].structure.products)  # else no axis is known to be the features or the outputs
    sizes = [{k: n for k, n in s.sizes.items() if network or k == "N"} for s in scenes]
    here = sizes[0]
    without_n = {k: n for k, n in here.items() if k != "N"}
    written: tuple[dict, ...] = ({}, here, without_n, {"N": here.get("N", 0)})  # into the candidate's code

    def far_fetched(f: Callable[[Mapping[str, int]], float]) -> float | None:
        """None, or how much so: as many sizes as must be written into the code."""
        for k, fixed in enumerate(written):
            try:
                if all(same(a, f({**own, **fixed})) for a, own in zip(alphas, sizes, strict=True)):
                    return 0.02 * k
            except (KeyError, ZeroDivisionError):
                return None
        return None

    found = []
    for mistake in mistakes:
        fitting = [(way, far) for way in mistake.ways if (far := far_fetched(way.of)) is not None]
        for way, far in fitting[:1]:
            # a size that is the same at all points may be any number
            known = mistake.id in NUMBERS or len({way.of(own) for own in sizes}) > 1
            found.append(Meaning(mistake, way.says, way.rank + far, far == 0 and known, {}))
    if any(m.sure for m in found):
        found = [m for m in found if m.sure]
    for devices in scenes[0].devices:
        shared = "and the work is shared out among {devices} devices"
        for mistake, factor, says in (
            (MISSING_PSUM, 1 / devices, f"times too small, {shared}: a psum is missing, or is a mean"),
            (EXTRA_PSUM, devices, f"times too large, {shared}: a psum too many"),
        ):
            if all(same(a, factor) for a in alphas):
                found.append(Meaning(mistake, f"is {{devices}} {says}", 0.3, True, {"devices": devices}))
    return found


NUMBERS = {SIGN.id, LAYER_SIGN.id, FACTOR_TWO.id}  # those that are the same at every size
POWERS: tuple[tuple[str, Callable[[float], float]], ...] = (
    ("{}", lambda v: v),
    ("1/({})", lambda v: 1 / v),
    ("−({})", lambda v: -v),
    ("({})²", lambda v: v * v),
    ("1/({})²", lambda v: v**-2.0),
    ("√({})", lambda v: abs(v) ** 0.5),
    ("1/√({})", lambda v: abs(v) ** -0.5),
    ("exp({})", np.exp),
    ("exp(−({}))", lambda v: np.exp(-v)),
)


def of_arguments(scenes: list[Scene], alphas: list[float]) -> list[Words]:
    """The factor as a number that is handed in, {x}, or as the size of an axis of it; the nearest first."""
    told = []
    for n, leaves in enumerate(zip(*(jax.tree.leaves(s.point.args) for s in scenes), strict=True)):
        rows = [("{x}", 0, [*leaves])] if np.size(leaves[0]) == 1 else []
        for a in range(np.ndim(leaves[0])):
            rows.append(("the size of axis {a} of {x}", a, [np.shape(x)[a] for x in leaves]))
        for words, a, row in rows:
            if not all(np.isrealobj(v) for v in row):
                continue
            values = [np.float64(np.reshape(v, ())) for v in row]
            if any(v == 0 for v in values) or len(set(values)) < 2:
                continue
            with np.errstate(all="ignore"):
                for form, f in POWERS:
                    if all(same(x, f(v)) for x, v in zip(alphas, values, strict=True)):
                        told.append(Words(form.format(words), {"x": Argument(n), "a": a}))
    return told
