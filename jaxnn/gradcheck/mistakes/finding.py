"""What a finding is: a mistake whose predicted gradient is the candidate's, at every point looked at."""

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from jaxnn.gradcheck.tape.scenes import Scene, fits, telling


class Mistake(NamedTuple):
    """What a mistake is, in a few words, and the equation it breaks."""

    words: str
    equation: str


MISTAKES = {
    "missing-mean": Mistake("the 1/N of the mean is forgotten", "J = −(1/N) Σᵢ Σₖ …, so dZ[L] = (Ŷ − Y)/N"),
    "mean-over-outputs": Mistake(
        "divided by N·n_L instead of N",
        "J = −(1/N) Σᵢ Σₖ …: the mean is over the N examples, not over N·n_L entries",
    ),
    "mean-twice": Mistake(
        "1/N is applied twice", "dZ[L] = (Ŷ − Y)/N; below it dW[l] = dZ[l]ᵀ A[l-1] without another 1/N"
    ),
    "n-minus-one": Mistake("divided by N − 1", "J = −(1/N) Σᵢ …: N, not N − 1"),
    "mean-over-features": Mistake(
        "divided by the number of features instead of N", "J = −(1/N) Σᵢ …: N examples, not n_x features"
    ),
    "factor-two": Mistake("a stray 2 or ½", "dJ/dZ has the constant that J has, no other"),
    "bias-not-averaged": Mistake(
        "1/N stands at the weights only", "db[l] = dZ[l]ᵀ 1 with the same dZ[l] = (…)/N as in dW[l]"
    ),
    "learning-rate-folded-in": Mistake(
        "the update −α dW is returned, not the gradient", "the gradient is dW; the update is W := W − α dW"
    ),
    "clipped-norm": Mistake(
        "clipping to a norm is left on", "the gradient is dW; clipping dW · c/‖dW‖ belongs to the update"
    ),
    "sign": Mistake("Y − Ŷ for Ŷ − Y", "dZ[L] = (Ŷ − Y)/N"),
    "layer-sign": Mistake(
        "the sign is flipped in one layer", "dA[l-1] = dZ[l] W[l]; dZ[l] = dA[l] ⊙ g′(Z[l])"
    ),
    "missing-activation-derivative": Mistake("g′(Z) is forgotten", "dZ[l] = dA[l] ⊙ g′(Z[l])"),
    "derivative-at-output": Mistake(
        "g′ is taken at A instead of Z", "dZ[l] = dA[l] ⊙ g′(Z[l]): at Z[l], not at A[l]"
    ),
    "output-for-derivative": Mistake(
        "A stands where g′(Z) belongs", "g′(Z), not A: σ′(Z) = A ⊙ (1 − A), relu′(Z) = 1 where Z > 0"
    ),
    "wrong-activation-derivative": Mistake(
        "another function's derivative", "dZ[l] = dA[l] ⊙ g′(Z[l]) with the g of this layer"
    ),
    "derivative-at-wrong-layer": Mistake(
        "g′ is taken at another layer's Z", "dZ[l] = dA[l] ⊙ g′(Z[l]) at this layer's Z[l]"
    ),
    "derivative-twice": Mistake("g′(Z) is multiplied in twice", "dZ[l] = dA[l] ⊙ g′(Z[l]), once"),
    "extra-output-derivative": Mistake(
        "the output's derivative again, after Ŷ − Y",
        "dZ[L] = (Ŷ − Y)/N: the σ′ of the output is in it already",
    ),
    "missing-output-derivative": Mistake("dJ/dŶ is used as dZ[L]", "dZ[L] = dJ/dŶ ⊙ σ′(Z[L])"),
    "not-propagated": Mistake("lower layers get nothing", "dA[l-1] = dZ[l] W[l]"),
    "transposed": Mistake("dW is transposed", "dW[l] = dZ[l]ᵀ A[l-1], of the shape (n_l, n_{l-1}) of W[l]"),
    "reshaped": Mistake(
        "a reshape where a transpose belongs",
        "dW[l] = dZ[l]ᵀ A[l-1]: a transpose moves entries, a reshape only renames them",
    ),
    "weights-not-transposed": Mistake("dZ Wᵀ for dZ W", "dA[l-1] = dZ[l] W[l]"),
    "own-activation": Mistake(
        "dW is made with its own layer's A", "dW[l] = dZ[l]ᵀ A[l-1], the activation of the layer before"
    ),
    "pre-activation": Mistake("dW is made with Z[l-1] for A[l-1]", "dW[l] = dZ[l]ᵀ A[l-1], not Z[l-1]"),
    "input-for-activation": Mistake("dW is made with X for A[l-1]", "dW[l] = dZ[l]ᵀ A[l-1], not X"),
    "updated-weights": Mistake(
        "W is updated before it is used to go down", "dA[l-1] = dZ[l] W[l] with the W[l] of the forward pass"
    ),
    "wrong-layer-weights": Mistake(
        "another layer's W is used to go down", "dA[l-1] = dZ[l] W[l] with this layer's W[l]"
    ),
    "gradient-for-weights": Mistake("dW is used to go down, for W", "dA[l-1] = dZ[l] W[l], not dZ[l] dW[l]"),
    "bias-mean": Mistake(
        "db is a mean over the examples, not a sum",
        "db[l] = dZ[l]ᵀ 1: a sum over the examples (1/N is in dZ[l] already)",
    ),
    "bias-missing": Mistake("db is never computed", "db[l] = dZ[l]ᵀ 1"),
    "bias-summed-over-all": Mistake("one number for all of db", "db[l] = dZ[l]ᵀ 1: a sum for each neuron"),
    "bias-one-example": Mistake(
        "db is made of one example only", "db[l] = dZ[l]ᵀ 1: a sum over all N examples"
    ),
    "regularisation-missing": Mistake("the λ term is forgotten", "J = … + (λ/2N) Σ W², so dW = … + (λ/N) W"),
    "regularisation-doubled": Mistake(
        "the λ term is there twice", "J = … + (λ/2N) Σ W², so dW = … + (λ/N) W, once"
    ),
    "regularisation-unscaled": Mistake(
        "the λ term without its 1/N", "the λ term of dW has a 1/N where that of J has one, and only there"
    ),
    "regularisation-on-bias": Mistake(
        "the λ term is applied to b too", "J = … + (λ/2N) Σ W²: no b in it, so db has no λ"
    ),
    "l1-for-l2": Mistake("λ sign(W) for λ W", "d(W²/2) = W, not sign(W)"),
    "labels-shifted": Mistake(
        "the rows of Y are off by one", "dZ[L] = (Ŷ − Y)/N, row i of Ŷ with row i of Y"
    ),
    "classes-shifted": Mistake("the classes of Y are off by one", "Y is one-hot: class k in column k"),
    "broadcast-labels": Mistake(
        "(N,) is broadcast against (N, 1)", "dZ[L] = (Ŷ − Y)/N with Y of the shape (N, n_L) of Ŷ"
    ),
    "negatives-ignored": Mistake(
        "the (1 − Y) term is not differentiated", "J = −(1/N) Σ [Y log Ŷ + (1 − Y) log(1 − Ŷ)]: two terms"
    ),
    "truncated-inputs": Mistake(
        "integers where floats belong", "Z[1] = X W[1]ᵀ + b[1]ᵀ with the X that was given"
    ),
    "examples-ignored": Mistake(
        "a part of the batch is left out", "dW[l] = dZ[l]ᵀ A[l-1]: a sum over all N examples"
    ),
    "entries-unwritten": Mistake(
        "a row, a column or an entry is never written", "dW[l] has an entry for every entry of W[l]"
    ),
    "clipped-log": Mistake("an ε in the logarithm", "dZ[L] = (Ŷ − Y)/N has no ε in it"),
    "saturated-nan": Mistake(
        "0 · ∞ where the output saturates", "dZ[L] = (Ŷ − Y)/N is finite where 1 − Ŷ = 0; dJ/dŶ is not"
    ),
    "low-precision": Mistake(
        "something is rounded to a narrower type on the way",
        "every step of the backward pass in the precision of its inputs",
    ),
    "accumulated": Mistake(
        "it adds to what earlier calls left", "dW is of this call alone: nothing is kept between two calls"
    ),
    "stale": Mistake("it uses values of the call before", "dW is taken at the W and X of this call"),
    "mask-forgotten": Mistake(
        "dropout's mask is missing on the way back", "A = M ⊙ g(Z), so dZ = dA ⊙ M ⊙ g′(Z)"
    ),
    "mask-resampled": Mistake(
        "dropout's mask is drawn again on the way back",
        "A = M ⊙ g(Z), so dZ = dA ⊙ M ⊙ g′(Z) with the M of the forward pass",
    ),
    "cotangent-ignored": Mistake(
        "a rule does not multiply by its cotangent", "vjp(c) is linear in c: every term has the factor c"
    ),
    "missing-psum": Mistake(
        "a sum over the devices is missing", "dW = Σ over the devices of each one's dZᵀ A"
    ),
    "extra-psum": Mistake(
        "a sum over the devices too many", "dW = Σ over the devices of each one's dZᵀ A, once"
    ),
    "unknown": Mistake(
        "none of these",
        "dZ[l] = dA[l] ⊙ g′(Z[l]); dW[l] = dZ[l]ᵀ A[l-1]; db[l] = dZ[l]ᵀ 1; dA[l-1] = dZ[l] W[l]",
    ),
}


class Finding(NamedTuple):
    """A mistake that reproduces the candidate. `rank`: the smaller, the simpler."""

    id: str
    sentence: str
    where: str
    rank: float
    sure: bool = True  # False where it takes more than the mistake, such as a size in the code


Predict = Callable[[Scene], list[np.ndarray] | None]


class OutOfTime(Exception):
    """No further mistake is tried."""


def holds(scenes: list[Scene], predict: Predict) -> bool:
    """Whether the prediction is the candidate's gradient at all scenes, and not the right one at one.

    Raises OutOfTime.
    """
    if time.thread_time() > scenes[0].until:
        raise OutOfTime
    tells = False
    for scene in reversed(scenes):  # the caller's own is first, and the largest
        guess = predict(scene)
        if guess is None or not fits(scene, guess):
            return False
        tells = tells or telling(scene, guess)
    return tells


def same(a: float | int, b: float | int) -> bool:
    """Whether two factors are one, up to rounding."""
    return bool(abs(a - b) <= 1e-8 * max(abs(a), abs(b)))


def spoken(x: float) -> str:
    """A factor as one would say it.

    >>> spoken(1 / 24), spoken(3**-0.5), spoken(0.123456789), spoken(1 - 2e-9)
    ('1/24', '1/√3', '0.123457', '1 − 2e-09')
    """
    sign, size = ("−" if x < 0 else ""), abs(x)
    for root, power in (("", 1), ("√", 2)):
        for top, value in ((True, size**power), (False, size**-power if size else 0.0)):
            whole = round(value)
            if 1 < whole <= 10_000 and abs(value - whole) < 1e-7 * whole:
                return sign + (f"{root}{whole}" if top else f"1/{root}{whole}")
    if f"{x:.6g}" == "1" and abs(x - 1) > 1e-12:
        return f"1 {'+' if x > 1 else '−'} {abs(x - 1):.2g}"
    return f"{x:.6g}"


def plainly(where: str) -> str:
    """A cotangent, said without the word."""
    return where.replace("the cotangent of", "what comes back to")


def joined(names: list[str], most: int = 5) -> str:
    """Names in a sentence, no more of them than can be read at a glance.

    >>> joined(["W1", "b1"]), joined(["Wf", "Wi", "Wo", "Wg", "bf", "bi", "bo", "bg"])
    ('W1 and b1', 'Wf, Wi, Wo, Wg and 4 more')
    """
    if len(names) > most:
        names = [*names[: most - 1], f"{len(names) - most + 1} more"]
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def extent(mask: np.ndarray) -> str:
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


def off_entries(scene: Scene, k: int) -> np.ndarray:
    """Which entries of a leaf are wrong."""
    g, r = scene.hand[k], scene.reference[k]
    with np.errstate(all="ignore"):
        top = max(np.abs(r).max(initial=0), np.abs(g).max(initial=0))
        return ~(np.abs(g - r) <= scene.bound[k] + 1e-10 * top)


def place_of(scenes: list[Scene], scene: Scene) -> int:
    """Which of the scenes it is."""
    return next(n for n, s in enumerate(scenes) if s is scene)


def parameter_values(scene: Scene) -> list[np.ndarray]:
    """The parameters' own values."""
    return [scene.point.values[p] for p in scene.point.tape.parameters if p in scene.point.tape.active]


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
