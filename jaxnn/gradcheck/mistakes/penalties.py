"""Mistakes in the λ term: forgotten, doubled, unscaled, on the biases, another norm."""

from collections.abc import Iterator

import numpy as np

from jaxnn.gradcheck.mistakes.finding import Finding, holds, parameter_values, place_of
from jaxnn.gradcheck.mistakes.numbers import common_value, factor_names, same, tidy
from jaxnn.gradcheck.report.words import joined, spoken
from jaxnn.gradcheck.tape.scene import Scene, gradient_with


def _penalty(scene: Scene) -> list[np.ndarray]:
    """What the terms of parameters alone give to the gradient."""
    without = gradient_with(scene, gains={e: 0.0 for e in scene.structure.penalties})
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
    betas, data = _fitted(scenes, terms)
    yield from _data_scaled(scenes, terms, data)
    leaves = [k for k in range(len(names)) if any(t[k].any() for t in terms)]
    wrong = sorted({k for s in scenes for k in s.wrong})
    if not set(wrong) <= set(leaves) or not wrong:
        return
    rows = [[None if b[k] is None else tidy(b[k]) for k in wrong] for b in betas]
    common = [
        common_value([np.nan if x is None else x for x in row]) if _almost(row) else None for row in rows
    ]
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
    values = [tidy(b) for _, b, _ in told]

    def with_factor(scene):
        place = next((n for n, (s, _, _) in enumerate(told) if s is scene), None)
        t = terms[place_of(scenes, scene)]
        b = values[place] if place is not None else 1.0
        return [
            r + (b - 1) * x if k in wrong else r
            for k, (r, x) in enumerate(zip(scene.reference, t, strict=True))
        ]

    if holds(scenes, with_factor):
        those = joined([names[k] for k in wrong])
        if all(v == 0 for v in values):
            yield _missing(told, wrong, those)
        else:
            yield _miscounted(values, [s.sizes.get("N", 0) for s, _, _ in told], f"the λ term of {those}")


def _fitted(scenes, terms) -> tuple[list, list[float]]:
    """How often each leaf has the λ term, and the data's part of the gradient, at every scene."""
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
    return betas, data


def _data_scaled(scenes, terms, data: list[float]) -> Iterator[Finding]:
    """The data's part of the gradient alone is off by a factor."""

    def scaled(scene):
        a, t = data[place_of(scenes, scene)], terms[place_of(scenes, scene)]
        return [a * (r - x) + x for r, x in zip(scene.reference, t, strict=True)]

    if holds(scenes, scaled):
        for id, words, rank, sure in factor_names(scenes, data):
            yield Finding(
                id,
                f"The data's part of the gradient {words}.",
                "every parameter, without the λ term",
                0.2 + rank,
                sure,
            )


def _missing(told, wrong: list[int], those: str) -> Finding:
    """The λ term is not there."""
    if all(_of_a_norm(parameter_values(s)[k], t[k]) for s, _, t in told for k in wrong):
        sentence = f"The regularisation term is missing from the gradient of {those}."
        return Finding("regularisation-missing", sentence, f"the λ term of {those}", 0)
    sentence = f"What the loss adds that depends on {those} alone is missing from its gradient."
    return Finding("unknown", sentence, f"the gradient of {those}", 1)


def _miscounted(values: list[float], sizes: list[int], where: str) -> Finding:
    """The λ term is there, so many times at every scene."""
    varied = len(set(sizes)) > 1  # a size that no point changes may be any number
    if all(same(v, 2) for v in values):
        return Finding(
            "regularisation-doubled",
            "The regularisation term is there twice: the ½ of its λ/2 is left out, or a 2 is too much.",
            where,
            0,
        )
    if all(same(v, n) for v, n in zip(values, sizes, strict=True)):
        sentence = "The regularisation term is N times too large: its 1/N is missing."
        return Finding("regularisation-unscaled", sentence, where, 0, varied)
    if all(n and same(v, 1 / n) for v, n in zip(values, sizes, strict=True)):
        sentence = "The regularisation term is divided by N, which the loss does not do."
        return Finding("regularisation-unscaled", sentence, where, 0.5, varied)
    if all(same(v, values[0]) for v in values):
        half, turned = same(values[0], 0.5), same(values[0], -1)
        words = "half of" if half else f"{spoken(values[0])} times"
        told = "has the opposite sign" if turned else f"is {words} what it should be"
        return Finding("factor-two" if half else "unknown", f"The regularisation term {told}.", where, 1)
    return Finding(
        "unknown", f"The regularisation term is {spoken(values[0])} times what it should be here.", where, 4
    )


def _of_a_norm(p, term) -> bool:
    """Whether a term of the gradient is that of a penalty on the size of p: c p + d sign(p)."""
    columns = np.stack([p.ravel(), np.sign(p).ravel()], axis=1)
    fitted = columns @ np.linalg.lstsq(columns, term.ravel(), rcond=None)[0]
    return bool(np.abs(fitted - term.ravel()).max(initial=0) <= 1e-6 * np.abs(term).max(initial=0))


def _almost(row) -> bool:
    known = [x for x in row if x is not None]
    return not known or max(known) - min(known) <= 1e-6 * max(1, *map(abs, known))


def _penalty_elsewhere(scenes) -> Iterator[Finding]:
    """λ b added to db; sign(W) for W."""
    names = scenes[0].structure.names

    def coefficient(scene, term) -> float | None:
        """c of R = c W, where the penalty is a sum of squares."""
        cs = []
        for p, t in zip(parameter_values(scene), term, strict=True):
            if t.any():
                c = float(np.vdot(p, t) / np.vdot(p, p))
                if not np.allclose(t, c * p, rtol=1e-8, atol=1e-12 * np.abs(t).max()):
                    return None
                cs.append(c)
        return cs[0] if cs and all(same(c, cs[0]) for c in cs) else None

    def on_bias(scene):
        term = _penalty(scene)
        c = coefficient(scene, term)
        if c is None:
            return scene.reference if not any(t.any() for t in term) else None
        return [
            r if t.any() or k not in wrong else r + c * p
            for k, (r, t, p) in enumerate(zip(scene.reference, term, parameter_values(scene), strict=True))
        ]

    def l1(half: float):
        def predict(scene):
            term = _penalty(scene)
            c = coefficient(scene, term)
            if c is None:
                return scene.reference if not any(t.any() for t in term) else None
            own = parameter_values(scene)
            return [
                r - t + half * c * np.sign(p) if t.any() and k in wrong else r
                for k, (r, t, p) in enumerate(zip(scene.reference, term, own, strict=True))
            ]

        return predict

    wrong = {k for s in scenes for k in s.wrong}
    where = joined([names[k] for k in sorted(wrong)]) if wrong else ""
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


def _penalty_uncalled(scenes) -> Iterator[Finding]:
    """A multiple of W, or of its sign, that no term of the loss accounts for."""
    names = scenes[0].structure.names
    for of, words in ((lambda p: p, "the parameter itself"), (np.sign, "its sign")):
        coefficients = []
        for s in scenes:
            for k in s.wrong:
                p, d = of(parameter_values(s)[k]), s.hand[k] - s.reference[k]
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
                for k, (r, p) in enumerate(zip(scene.reference, parameter_values(scene), strict=True))
            ]

        if holds(scenes, predict):
            where = joined([names[k] for k in sorted(wrong)])
            yield Finding(
                "unknown",
                f"{c:.6g} times {words} is added to the gradient of {where}: a "
                f"regularisation (weight decay) that the loss does not have.",
                where,
                2,
            )
            return
