"""Mistakes in the λ term: forgotten, doubled, unscaled, on the biases, another norm, or one too many."""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from jaxnn.gradcheck.mistakes.averages import common_value, of_arguments, same, tidy
from jaxnn.gradcheck.mistakes.finding import (
    Finding,
    Leaves,
    Mistake,
    Way,
    finding,
    holds,
    leaf_roles,
    parameter_values,
    place_of,
    ways,
    wrong_leaves,
)
from jaxnn.gradcheck.report.words import spoken
from jaxnn.gradcheck.tape.scene import Scene, gradient_with
from jaxnn.gradcheck.tolerances import COMPUTED, FITTED

TERM = "the λ term of {of}"
J = "J = … + (λ/2N) Σ W², so dW = … + (λ/N) W"
MISSING = Mistake(
    "regularisation-missing", "the λ term is forgotten", J, "dW1 = dZ1.T @ X  # + lam / N * W1", "dW[l]",
)  # fmt: skip
DOUBLED = Mistake(
    "regularisation-doubled", "the λ term is there twice", J + ", once", "dW1 = dZ1.T @ X + 2 * lam / N * W1",
    "dW[l]",
    (Way("is there twice: the ½ of its λ/2 is left out, or a 2 is too much", lambda n: 2, 0),),
)  # fmt: skip
UNSCALED = Mistake(
    "regularisation-unscaled", "the λ term without its 1/N",
    "the λ term of dW has a 1/N where that of J has one, and only there", "dW1 = dZ1.T @ X + lam * W1",
    "dW[l]",
    (
        Way("is N times too large: its 1/N is missing", lambda n: n, 0),
        Way("is divided by N, which the loss does not do", lambda n: 1 / n if n else 0, 0.5),
    ),
)  # fmt: skip
SCALED = Mistake(
    "regularisation-scaled", "the λ term with another factor, or another sign", J,
    "dW1 = dZ1.T @ X - lam / N * W1", "dW[l]",
    (
        Way("is half of what it should be", lambda n: 0.5, 1),
        Way("has the opposite sign", lambda n: -1, 1),
    ),
)  # fmt: skip
ON_BIAS = Mistake(
    "regularisation-on-bias", "the λ term is applied to b too",
    "J = … + (λ/2N) Σ W²: no b in it, so db has no λ", "db1 = dZ1.sum(axis=0) + lam / N * b1", "db[l]",
)  # fmt: skip
L1_FOR_L2 = Mistake(
    "l1-for-l2", "λ sign(W) for λ W", "d(W²/2) = W, not sign(W)", "dW1 = dZ1.T @ X + lam / N * np.sign(W1)",
    "dW[l]",
    (
        (np.sign, 0.0),
        (lambda p: 0.5 * np.sign(p), 0.5),
        (lambda p: 2 * np.sign(p), 0.6),
    ),
)  # fmt: skip
ADDED = Mistake(
    "regularisation-added", "a weight decay that the loss does not have",
    "dW = dJ/dW: no λ W where J has no λ", "dW1 = dZ1.T @ X + 1e-4 * W1", "any parameter",
    (("the parameter itself", lambda p: p), ("its sign", np.sign)),
)  # fmt: skip
COUNTED = (DOUBLED, UNSCALED, SCALED)
OF_PENALTIES = (MISSING, *COUNTED, ON_BIAS, L1_FOR_L2, ADDED)


def _penalty(scene: Scene) -> list[np.ndarray]:
    """What the terms of parameters alone give to the gradient."""
    without = gradient_with(scene, gains={e: 0.0 for e in scene.structure.penalties})
    return [r - np.asarray(w) for r, w in zip(scene.point.gradient, without, strict=True)]


def penalised(scenes: list[Scene]) -> Iterator[Finding]:
    """The λ term: forgotten, doubled, unscaled, on the biases, another norm; or one that J does not have."""
    if scenes[0].structure.penalties:
        terms = [_penalty(s) for s in scenes]
        yield from _counted(scenes, terms)
        yield from _of_another(scenes, terms)
    else:
        yield from _added(scenes)


def _counted(scenes, terms) -> Iterator[Finding]:
    """The λ term is there, but not once."""
    wrong = wrong_leaves(scenes)
    if not wrong or not all(any(t[k].any() for t in terms) for k in wrong):
        return
    known = []  # a scene where the term vanishes tells nothing
    for n, (s, t) in enumerate(zip(scenes, terms, strict=True)):
        counts = [_times(s, t[k], k) for k in wrong if t[k].any() and np.isfinite(s.hand[k]).all()]
        if counts and max(counts) - min(counts) > FITTED * max(1, *map(abs, counts)):
            return
        if counts:
            known.append((n, tidy(float(np.mean(counts)))))
    values, counted = [x for _, x in known], dict(known)

    def with_factor(scene):
        n = place_of(scenes, scene)
        b = counted.get(n, 1.0)
        return [
            r + (b - 1) * x if k in wrong else r
            for k, (r, x) in enumerate(zip(scene.reference, terms[n], strict=True))
        ]

    if not known or not holds(scenes, with_factor):
        return
    norm = all(_of_a_norm(parameter_values(scenes[n])[k], terms[n][k]) for n, _ in known for k in wrong)
    if any(values):
        yield from [_miscounted([scenes[n] for n, _ in known], values, wrong)] if norm else ()
        return
    says = (
        "The regularisation term is missing from the gradient of {of}."
        if norm
        else "What the loss adds that depends on {of} alone is missing from its gradient."
    )
    where = TERM if norm else "the gradient of {of}"
    yield finding(MISSING, says, where, 0 if norm else 1, norm, of=Leaves(wrong))


def _times(scene: Scene, term: np.ndarray, k: int) -> float:
    """How often the λ term is in a leaf, beside the rest as often as it likes."""
    columns = np.stack([(scene.reference[k] - term).ravel(), term.ravel()], axis=1)
    return float(np.linalg.lstsq(columns, scene.hand[k].ravel(), rcond=None)[0][1])


def _miscounted(scenes, values: list[float], wrong: tuple[int, ...]) -> Finding:
    """The λ term is there, so many times at every scene."""
    sizes, of = [s.sizes.get("N", 0) for s in scenes], Leaves(wrong)
    for mistake, way in ways(COUNTED):
        if all(same(v, way.of(n)) for v, n in zip(values, sizes, strict=True)):
            # a size that no point changes may be any number
            sure = mistake is not UNSCALED or len(set(sizes)) > 1
            return finding(mistake, f"The regularisation term {way.says}.", TERM, way.rank, sure, of=of)
    says, times = "The regularisation term is {times} times what it should be", spoken(values[0])
    if all(same(v, values[0]) for v in values):
        return finding(SCALED, f"{says}.", TERM, 1, of=of, times=times)
    for form in of_arguments(scenes, values)[:1]:
        says = f"The regularisation term is {form.says} times what it should be."
        return finding(SCALED, says, TERM, 2, True, of=of, **form.parts)
    return finding(SCALED, f"{says} here.", TERM, 4, False, of=of, times=times)


def _of_a_norm(p, term) -> bool:
    """Whether a term of the gradient is that of a penalty on the size of p: c p + d sign(p)."""
    columns = np.stack([p.ravel(), np.sign(p).ravel()], axis=1)
    fitted = columns @ np.linalg.lstsq(columns, term.ravel(), rcond=None)[0]
    return bool(np.abs(fitted - term.ravel()).max(initial=0) <= FITTED * np.abs(term).max(initial=0))


def _coefficient(scene: Scene, term) -> float | None:
    """c of R = c W, where the penalty is a sum of squares; 0 where there is none."""
    cs = []
    for p, t in zip(parameter_values(scene), term, strict=True):
        if t.any():
            c = float(np.vdot(p, t) / np.vdot(p, p))
            if np.abs(t - c * p).max() > COMPUTED * np.abs(t).max():
                return None
            cs.append(c)
    return common_value(cs) if cs else 0.0


def _of_another(scenes, terms) -> Iterator[Finding]:
    """λ b added to db; sign(W) for W."""
    wrong = wrong_leaves(scenes)
    factors = [_coefficient(s, t) for s, t in zip(scenes, terms, strict=True)]
    if not wrong or any(c is None for c in factors):
        return

    def instead(of: Callable, scene: Scene):
        """The term made of f(W) in the wrong leaves, whether they have one or not."""
        n = place_of(scenes, scene)
        rows = zip(scene.reference, terms[n], parameter_values(scene), strict=True)
        return [r - t + factors[n] * of(p) if k in wrong else r for k, (r, t, p) in enumerate(rows)]

    with_term = [any(t[k].any() for t in terms) for k in wrong]
    if not any(with_term) and holds(scenes, partial(instead, lambda p: p)):
        says = "The regularisation term is added to {of}, which the loss does not regularise."
        yield finding(ON_BIAS, says, "{of}", 0, of=Leaves(wrong))
    for of, rank in L1_FOR_L2.ways if all(with_term) else ():
        if holds(scenes, partial(instead, of)):
            says = "The regularisation term has sign(W) where W belongs."
            yield finding(L1_FOR_L2, says, TERM, rank, of=Leaves(wrong))


def _added(scenes) -> Iterator[Finding]:
    """A multiple of W, or of its sign, that no term of the loss accounts for."""
    wrong, (weights, biases) = wrong_leaves(scenes), leaf_roles(scenes[0])
    for words, of in ADDED.ways if {*wrong} <= weights | biases else ():
        coefficients = []
        for s in scenes:
            for k in s.wrong:
                p, d = of(parameter_values(s)[k]), s.hand[k] - s.reference[k]
                if not p.any() or not np.isfinite(d).all():
                    return
                coefficients.append(float(np.vdot(p, d) / np.vdot(p, p)))
        c = common_value(coefficients)
        if not coefficients or c is None or not holds(scenes, partial(_with_decay, of, c, wrong)):
            continue
        says = (
            "{c:.6g} times {words} is added to the gradient of {of}: a regularisation (weight decay) "
            "that the loss does not have."
        )
        yield finding(ADDED, says, "{of}", 2, of=Leaves(wrong), c=c, words=words)
        return


def _with_decay(of: Callable, c: float, wrong: tuple[int, ...], scene: Scene):
    rows = zip(scene.reference, parameter_values(scene), strict=True)
    return [r + c * of(p) if k in wrong else r for k, (r, p) in enumerate(rows)]
