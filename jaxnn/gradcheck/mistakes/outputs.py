"""Mistakes in dZ[L], from which all else follows rightly."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from jaxnn.gradcheck.mistakes.finding import Finding, Leaves, Mistake, Way, finding, holds, place_of
from jaxnn.gradcheck.report.words import listed
from jaxnn.gradcheck.tape.quantities import SLOPES, as_it_was, sigmoid, softmax, target_of, upright, z_of
from jaxnn.gradcheck.tape.scene import Scene, finite, gradient_with
from jaxnn.gradcheck.tolerances import COMPUTED

OUTPUT = "dZ[{L}] (the output layer)"
ERROR = "dZ[L] = (Ŷ − Y)/N"
AT = "dZ[L]"


class Form(NamedTuple):
    """How dZ[L] comes of s (Ŷ − Y): Ŷ = g(Z[L]), with its name, and what comes back through it."""

    g: str
    output: Callable
    through: Callable = lambda e, z: e


class Error(NamedTuple):
    """d, which is s (P − Y) of a form, Z[L] and Y, a row an example; NaN for the s and P of no form.

    d is dZ[L] where the form hands it down as it is, else what its `through` makes dZ[L] of.
    """

    form: Form
    d: np.ndarray
    z: np.ndarray
    y: np.ndarray
    p: np.ndarray
    s: float


def _through_softmax(d, z):
    p = softmax(z)
    return p * (d - (d * p).sum(axis=-1, keepdims=True))


SIGMOID_SLOPE, TANH_SLOPE = SLOPES[0][1], SLOPES[1][1]
ANY = Form("g", lambda z: np.full_like(z, np.nan))
AS_IT_IS = (Form("σ", sigmoid), Form("softmax", softmax), Form("id", lambda z: z))
SQUARED = (
    Form("σ", sigmoid, lambda e, z: e * SIGMOID_SLOPE(z)),
    Form("tanh", np.tanh, lambda e, z: e * TANH_SLOPE(z)),
    Form("softmax", softmax, _through_softmax),
)

NEGATIVES = Mistake(
    "negatives-ignored", "the (1 − Y) term is not differentiated",
    "J = −(1/N) Σ [Y log Ŷ + (1 − Y) log(1 − Ŷ)]: two terms",
    "dA2 = -Y / A2 / N", AT,
    (
        Way("has only the entries with Y = 1: the (1 − Y) term is not differentiated",
            lambda e: e.d * (e.y != 0), 0.3),
        Way("has only the Y term: the (1 − Y) term is not differentiated",
            lambda e: -e.s * e.y * (1 - e.p), 0.5),
    ),
)  # fmt: skip
DIAGONAL = Mistake(
    "softmax-diagonal", "of softmax's derivative only the diagonal is there",
    "∂Ŷ_j/∂Z_k = Ŷ_j (δ_jk − Ŷ_k): for j ≠ k too", "dZ2 = dA2 * A2 * (1 - A2)", AT,
)  # fmt: skip
SATURATED = Mistake(
    "saturated-nan", "0 · ∞ where the output saturates",
    "dZ[L] = (Ŷ − Y)/N is finite where 1 − Ŷ = 0; dJ/dŶ is not",
    "dZ2 = ((1 - Y) / (1 - A2) - Y / A2) * A2 * (1 - A2) / N", AT,
)  # fmt: skip
NOT_FINITE = Mistake(
    "not-finite", "something is divided by 0, or overflows, where autodiff does not",
    "a gradient is finite where that of the loss is", "dX = X / norm(X)  # where X = 0",
    "anywhere",
)  # fmt: skip
CLIPPED = Mistake(
    "clipped-log", "an ε in the logarithm", "dZ[L] = (Ŷ − Y)/N has no ε in it",
    "dA2 = -Y / (A2 + 1e-8) / N", AT,
    (
        ("ε = {e} is added inside the logarithm", lambda e, eps: _of_logarithm(e, lambda p: p + eps)),
        ("Ŷ is clipped to [ε, 1 − ε], ε = {e}: the gradient is zero where it saturates",
         lambda e, eps: e.d * ((e.p > eps) & (e.p < 1 - eps))),
        ("Ŷ is clipped to [ε, 1 − ε], ε = {e}", lambda e, eps: e.s * (np.clip(e.p, eps, 1 - eps) - e.y)),
        ("the Ŷ inside the logarithm is clipped, ε = {e}",
         lambda e, eps: _of_logarithm(e, lambda p: np.clip(p, eps, 1 - eps))),
    ),
)  # fmt: skip
EXTRA = Mistake(
    "extra-output-derivative", "the output's derivative again, after Ŷ − Y",
    ERROR + ": the σ′ of the output is in it already", "dZ2 = (A2 - Y) / N * A2 * (1 - A2)", AT,
    (
        Way("is multiplied by σ′(Z[{L}]) once more", lambda e: e.d * SIGMOID_SLOPE(e.z), 0.6),
        Way("is multiplied by softmax's derivative once more", lambda e: _through_softmax(e.d, e.z), 0.6),
        Way("is multiplied by Ŷ (1 − Ŷ) of the softmax once more",
            lambda e: e.d * softmax(e.z) * (1 - softmax(e.z)), 0.6),
        Way("is multiplied by tanh′(Z[{L}]) once more", lambda e: e.d * TANH_SLOPE(e.z), 0.7),
    ),
)  # fmt: skip
MISSING = Mistake(
    "missing-output-derivative", "dJ/dŶ is used as dZ[L]", "dZ[L] = dJ/dŶ ⊙ σ′(Z[L])",
    "dZ2 = (-Y / A2 + (1 - Y) / (1 - A2)) / N", AT,
    (
        Way("is dJ/dŶ: σ′(Z[{L}]) is missing", lambda e: e.d / SIGMOID_SLOPE(e.z), 0.6),
        Way("is dJ/dŶ: tanh′(Z[{L}]) is missing", lambda e: e.d / TANH_SLOPE(e.z), 0.7),
        Way("is dJ/dŶ: softmax's derivative is missing", lambda e: -e.s * e.y / e.p, 0.6),
    ),
)  # fmt: skip
LEFT_OUT = Mistake(
    "labels-left-out", "Y is not subtracted", ERROR, "dZ2 = A2 / N", AT,
    (Way("is Ŷ alone: Y is not subtracted", lambda e: e.s * e.p, 1.5),),
)  # fmt: skip
OF_ERRORS: tuple[Mistake, ...] = (
    EXTRA,
    MISSING,
    NEGATIVES,
    Mistake(
        "positives-ignored", "the Y log Ŷ term is not differentiated",
        "J = −(1/N) Σ [Y log Ŷ + (1 − Y) log(1 − Ŷ)]: two terms", "dA2 = (1 - Y) / (1 - A2) / N", AT,
        (Way("has only the entries with Y = 0: the Y log Ŷ term is not differentiated",
             lambda e: e.d * (e.y == 0), 1.5),),
    ),
    Mistake(
        "labels-added", "Ŷ + Y for Ŷ − Y", ERROR, "dZ2 = (A2 + Y) / N", AT,
        (Way("has Ŷ + Y for Ŷ − Y", lambda e: e.s * (e.p + e.y), 1.6),),
    ),
    LEFT_OUT,
    Mistake(
        "prediction-left-out", "Ŷ is not there", ERROR, "dZ2 = -Y / N", AT,
        (Way("is −Y alone: Ŷ is not there", lambda e: -e.s * e.y, 1.5),),
    ),
    Mistake(
        "labels-not-averaged", "Ŷ/N − Y for (Ŷ − Y)/N", ERROR, "dZ2 = A2 / N - Y", AT,
        (Way("has Ŷ/N − Y: Y is not divided by N", lambda e: e.s * (e.p - len(e.z) * e.y), 1.5),),
    ),
    Mistake(
        "logits-for-output", "Z[L] stands where Ŷ = σ(Z[L]) belongs", ERROR + " with Ŷ = σ(Z[L])",
        "dZ2 = (Z2 - Y) / N", AT,
        (Way("has Z[{L}] for Ŷ", lambda e: e.s * (e.z - e.y), 1.5),),
    ),
    Mistake(
        "wrong-output-activation", "Ŷ of another function", ERROR + " with the Ŷ of the forward pass",
        "dZ2 = (softmax(Z2) - Y) / N", AT,
        (
            Way("has softmax(Z[{L}]) for {g}(Z[{L}])", lambda e: e.s * (softmax(e.z) - e.y), 1.5),
            Way("has σ(Z[{L}]) for {g}(Z[{L}])", lambda e: e.s * (sigmoid(e.z) - e.y), 1.5),
            Way("has tanh(Z[{L}]) for {g}(Z[{L}])", lambda e: e.s * (np.tanh(e.z) - e.y), 1.6),
        ),
    ),
    Mistake(
        "output-activation-twice", "the output's function is applied to Ŷ again",
        ERROR + " with Ŷ = σ(Z[L]), once", "dZ2 = (sigmoid(A2) - Y) / N", AT,
        (Way("has {g}(Ŷ) for Ŷ: the activation is applied twice",
             lambda e: e.s * (e.form.output(e.p) - e.y), 1.6),),
    ),
    Mistake(
        "prediction-rounded", "the class predicted, 0 or 1, stands where Ŷ belongs", ERROR,
        "dZ2 = (np.round(A2) - Y) / N", AT,
        (Way("has Ŷ rounded", lambda e: e.s * (np.round(e.p) - e.y), 1.6),),
    ),
    Mistake(
        "absolute-error", "Ŷ − Y has lost its sign, or its size", ERROR, "dZ2 = np.abs(A2 - Y) / N", AT,
        (
            Way("has lost its signs: |Ŷ − Y|", lambda e: np.abs(e.d), 1.5),
            Way("is only the sign of Ŷ − Y", lambda e: e.s * np.sign(e.p - e.y), 1.6),
        ),
    ),
    Mistake(
        "error-squared", "(Ŷ − Y)² for its derivative", ERROR, "dZ2 = (A2 - Y)**2 / N", AT,
        (
            Way("is squared, (Ŷ − Y)²", lambda e: e.d**2 / e.s, 1.5),
            Way("is squared", lambda e: e.d**2, 1.6),
        ),
    ),
    Mistake(
        "error-averaged", "a mean of Ŷ − Y for many of its entries, or taken off them",
        ERROR + ", a row an example", "dZ2 = np.mean(A2 - Y, axis=0) + 0 * Z2", AT,
        (
            Way("is the same for every example: its mean over them",
                lambda e: np.broadcast_to(e.d.mean(0), e.d.shape), 0.9),
            Way("is the same for every class: its mean over them",
                lambda e: np.broadcast_to(e.d.mean(-1, keepdims=True), e.d.shape), 0.9),
            Way("is the same for every class: its sum over them",
                lambda e: np.broadcast_to(e.d.sum(-1, keepdims=True), e.d.shape), 0.9),
            Way("is centred over the examples", lambda e: e.d - e.d.mean(0), 1.6),
            Way("is centred over the classes", lambda e: e.d - e.d.mean(-1, keepdims=True), 1.6),
        ),
    ),
    Mistake(
        "mistaken-examples-only", "as a perceptron: nothing where the predicted class is right", ERROR,
        "dZ2 = (A2 - Y) / N * (np.round(A2) != Y)", AT,
        (
            Way("has nothing where Ŷ and Y agree in rounding",
                lambda e: e.d * (np.round(sigmoid(e.z)) != e.y), 1.6),
            Way("has nothing for the examples whose class is predicted rightly",
                lambda e: e.d * (e.z.argmax(-1) != e.y.argmax(-1))[..., None], 1.6),
            Way("has only the class with the largest Ŷ",
                lambda e: e.d * (e.z == e.z.max(-1, keepdims=True)), 1.6),
        ),
    ),
)  # fmt: skip
OF_EXAMPLES = (
    Way("has its examples in reverse", lambda e: e.d[::-1], 1.6),
    *(Way("has its examples shifted by one", lambda e, by=by: np.roll(e.d, by, 0), 1.6) for by in (1, -1)),
)  # fmt: skip
OF_INVERTED = (Way("has 1 − Y for Y", lambda e: e.s * (e.p - (1 - e.y)), 0.95),)
OF_SIGNED = (Way("has 2 Y − 1 for Y", lambda e: e.s * (e.p - (2 * e.y - 1)), 1.05),)
OF_CLASSES = (
    Way("has its classes in reverse", lambda e: e.d[:, ::-1], 1.6),
    *(Way("has its classes shifted by one", lambda e, by=by: np.roll(e.d, by, -1), 1.6) for by in (1, -1)),
)  # fmt: skip


def _errors(scenes: list[Scene], form: Form) -> list[Error]:
    """The error at each scene, or none where dZ[L] is not of that form at all of them."""
    errors = []
    for scene in scenes:
        layer = scene.structure.layers[-1]
        z = upright(scene, layer, z_of(scene, layer))
        d = upright(scene, layer, scene.point.cotangents[layer.z])
        y = target_of(scene)
        if form is ANY:
            errors.append(Error(form, d, z, np.zeros_like(z) if y is None else y, form.output(z), np.nan))
            continue
        if y is None:
            return []
        p = form.output(z)
        # where σ is 1 to the last digit, 1 − σ is not 0
        gap = (1 - y) * p - y * sigmoid(-z) if form.output is sigmoid else p - y
        right = form.through(gap, z)
        s = float((d * right).sum() / (right * right).sum()) if right.any() else 0.0
        if not np.all(np.abs(d - s * right) <= COMPUTED * np.abs(d).max(initial=0)):
            return []
        errors.append(Error(form, s * gap, z, y, p, s))
    return errors


def _forms(scenes: list[Scene]) -> Iterator[list[Error]]:
    """dZ[L] as an error by itself; and the error that it is made of, going through the output's function."""
    for forms in ((*AS_IT_IS, ANY), SQUARED):
        yield from [e for form in forms if (e := _errors(scenes, form))][:1]


def _made(e: Error, f: Callable) -> np.ndarray:
    """dZ[L] of f of the error."""
    with np.errstate(all="ignore"):
        return e.form.through(np.asarray(f(e)), e.z)


def _with_error(scenes: list[Scene], errors: list[Error], f: Callable, scene: Scene):
    """The gradient with f of the error."""
    layer, new = scene.structure.layers[-1], _made(errors[place_of(scenes, scene)], f)
    if np.isnan(new).all():
        return None
    return gradient_with(scene, given={layer.z: as_it_was(layer, new, scene.point.cotangents[layer.z].shape)})


def mistaken_error(table: Sequence[tuple[Mistake, Way]], scenes: list[Scene]) -> Iterator[Finding]:
    """dZ[L] is not what it should be, and all else follows from it rightly."""
    L, seen = len(scenes[0].structure.layers), set()
    for errors in _forms(scenes) if L else ():
        form = errors[0].form
        for mistake, way in table:
            if mistake.id in seen or not holds(scenes, partial(_with_error, scenes, errors, way.of)):
                continue
            if all(np.abs(_made(e, way.of)).max() <= COMPUTED * np.abs(e.d).max() for e in errors):
                continue  # nothing at all: the path is left out, whatever the reason
            says = way.says
            if mistake is NEGATIVES and form is AS_IT_IS[1]:
                mistake = DIAGONAL
                says = "has only the entries with Y = 1: softmax's derivative, of which only the diagonal"
            seen.add(mistake.id)
            yield finding(mistake, f"dZ[{{L}}] {says}.", OUTPUT, way.rank, L=L, g=form.g)


def _of_logarithm(e: Error, f: Callable) -> np.ndarray:
    """dZ[L] where f(Ŷ) stands inside of the logarithm."""
    if e.form.output is softmax:
        return e.s * _through_softmax(-e.y / f(e.p), e.z)
    q = sigmoid(-e.z)
    return e.s * e.p * q * ((1 - e.y) / f(q) - e.y / f(e.p))


# those that are met in code come first: several may do alike
EPSILONS = tuple(10.0**-k for k in (7, 8, 12, 15, 10, 9, 6, 5, 16, 14, 13, 11, 4, 3, 2, 1))


def clipped_log(scenes: list[Scene]) -> Iterator[Finding]:
    """log(Ŷ + ε), or Ŷ clipped to [ε, 1 − ε]."""
    L = len(scenes[0].structure.layers)
    for form in AS_IT_IS[:2] if L else ():
        errors = _errors(scenes, form)
        for eps, (says, f) in itertools.product(EPSILONS, CLIPPED.ways) if errors else ():
            if holds(scenes, partial(_with_error, scenes, errors, lambda e, f=f, eps=eps: f(e, eps))):
                yield finding(CLIPPED, f"In {OUTPUT}, {says}.", OUTPUT, 0.5, L=L, e=f"{eps:.0e}")
                return


SATURATES = 36  # |z| from which σ(z) is 0 or 1 to the last digit of float64, or as good as 0


def saturated(scenes: list[Scene]) -> Iterator[Finding]:
    """What is not finite: by 0 · ∞, where an Ŷ is 0 or 1 to the last digit, or otherwise."""
    broken = [scene for scene in scenes if finite(scene.reference) and not finite(scene.hand)]
    if not broken:
        return
    # where one is broken and nothing saturates, that is not why
    scene, full = min(((scene, _full(scene)) for scene in broken), key=lambda found: np.any(found[1]))
    of = Leaves(tuple(k for k, g in enumerate(scene.hand) if not np.isfinite(g).all()))
    exact = next((entries for entries in full if _breaks(scene, entries)), None)
    if exact is None:
        yield finding(NOT_FINITE, "The gradient of {of} is not finite, where autodiff is.", "{of}", 1, of=of)
    if not np.any(full):
        return
    at = np.any(full, axis=0) if exact is None else exact
    says = (
        "The gradient of {of} is not finite: 0 · ∞ where the output is saturated (Ŷ is 0 or 1 to the "
        "last digit); saturated examples: {rows}."
    )
    rows, where = listed([str(i) for i in np.flatnonzero(at.any(axis=1))], 6), "dZ[{L}], and so {of}"
    rank, L = 1.5 if exact is None else 0.2, len(scene.structure.layers)
    yield finding(SATURATED, says, where, rank, exact is not None, of=of, rows=rows, L=L)


def _full(scene: Scene) -> list[np.ndarray]:
    """Which entries of Z[L] may be called saturated, one way or another."""
    forms = (*AS_IT_IS[:2], *SQUARED) if scene.structure.layers else ()
    return [entries for form in forms if _errors([scene], form) for entries in _saturated(scene, form)]


def _saturated(scene: Scene, form: Form) -> list[np.ndarray]:
    """Which entries of Z[L] may be called so: those of a sigmoid, on either side or both; of a softmax."""
    layer = scene.structure.layers[-1]
    z = upright(scene, layer, z_of(scene, layer))
    if form.output is softmax:
        p = softmax(z)
        return [(p == 0) | (p == 1)]
    sides = z > SATURATES, z < -SATURATES, np.abs(z) > SATURATES
    return [*sides] if form.output is sigmoid else []


def _breaks(scene: Scene, entries: np.ndarray) -> bool:
    """Whether the candidate is not finite just where it would be if these entries of dZ[L] were not."""
    layer = scene.structure.layers[-1]
    d = scene.point.cotangents[layer.z]
    broken = as_it_was(layer, np.where(entries, np.nan, upright(scene, layer, d)), d.shape)
    guess = gradient_with(scene, given={layer.z: broken})
    pairs = zip(scene.hand, guess, strict=True)
    return all(np.array_equal(np.isfinite(g), np.isfinite(p)) for g, p in pairs)
