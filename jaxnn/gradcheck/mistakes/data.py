"""Mistakes that give the right gradient of other examples, labels or inputs."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np

from jaxnn.gradcheck.mistakes.averages import MISSING_PSUM, same
from jaxnn.gradcheck.mistakes.finding import (
    Argument,
    Finding,
    Leaves,
    Mistake,
    Part,
    finding,
    gradient_of,
    holds,
    ways,
    wrong_leaves,
)
from jaxnn.gradcheck.mistakes.outputs import LEFT_OUT
from jaxnn.gradcheck.report.formats import dimensions
from jaxnn.gradcheck.tape.backward import gradient_at
from jaxnn.gradcheck.tape.names import handed_in
from jaxnn.gradcheck.tape.paths import near
from jaxnn.gradcheck.tape.quantities import as_product, dense_rows
from jaxnn.gradcheck.tape.scene import Scene, fits, gradient_with
from jaxnn.gradcheck.tape.tape import Layer
from jaxnn.gradcheck.tolerances import COMPUTED, FITTED


class Altered(NamedTuple):
    """Labels or inputs, a row an example, as a function of the right ones; summed: N times the gradient."""

    says: str
    of: Callable[[np.ndarray], np.ndarray]
    rank: float
    summed: bool = False


ENDS = (("first", 0), ("last", -1))
ROWS = "dZ[L] = (Ŷ − Y)/N, row i of Ŷ with row i of Y"
ALL = "dW[l] = dZ[l]ᵀ A[l-1]: a sum over all N examples"
ERROR = "dZ[L] = (Ŷ − Y)/N with the Y that was given"
X_GIVEN = "Z[1] = X W[1]ᵀ + b[1]ᵀ with the X that was given"
Y_AT = "dZ[L], through Y"
X_AT = "dW[1] and the forward pass, through X"

IGNORED = Mistake(
    "examples-ignored", "a part of the batch is left out", ALL, "dZ2[-1] = 0", "dZ[L], rows of examples",
)  # fmt: skip
WEIGHTED = Mistake(
    "examples-weighted", "examples do not count alike", ALL + ", each once", "dZ2[0] = 2 * dZ2[0]",
    "dZ[L], rows of examples", loose=True,
)  # fmt: skip
ONE_EXAMPLE = Mistake(
    "bias-one-example", "db is made of one example only", "db[l] = dZ[l]ᵀ 1: a sum over all N examples",
    "db1 = dZ1[0]", "db[l]",
)  # fmt: skip
SHIFTED = Mistake(
    "labels-shifted", "the rows of Y are off by one", ROWS, "Y = np.roll(Y, 1, axis=0)", Y_AT,
    (
        *(Altered("The labels are shifted by one example.", lambda y, by=by: np.roll(y, by, 0), 0.4)
          for by in (1, -1)),
    ),
)  # fmt: skip
REORDERED = Mistake(
    "labels-reordered", "the rows of Y are in another order, or one stands for all", ROWS, "Y = Y[::-1]",
    Y_AT,
    (
        Altered("The labels are in reverse order.", lambda y: y[::-1], 1.0),
        Altered("Only the first example's label is used.", lambda y: np.broadcast_to(y[:1], y.shape), 1.0),
    ),
)  # fmt: skip
OTHER_CLASSES = Mistake(
    "classes-shifted", "the classes of Y, or of Ŷ − Y, are off by one or reversed",
    "Y is one-hot: class k in column k", "Y = np.eye(n_L)[y - 1]", Y_AT,
    (
        *(Altered("The classes of the labels are off by one.", lambda y, by=by: np.roll(y, by, -1), 0.45)
          for by in (1, -1)),
    ),
)  # fmt: skip
BROADCAST = Mistake(
    "broadcast-labels", "(N,) is broadcast against (N, 1)",
    "dZ[L] = (Ŷ − Y)/N with Y of the shape (N, n_L) of Ŷ", "dZ2 = np.mean(A2 - y, axis=1, keepdims=True) / N",
    Y_AT,
    (
        Altered("Every example is held against the mean of all labels: (N,) was broadcast against (N, 1).",
                lambda y: np.broadcast_to(y.mean(0), y.shape), 0.4),
        # N × N numbers, and their sum
        Altered("Every example is held against all labels, and the N × N errors are summed: (N,) was "
                "broadcast against (N, 1).", lambda y: np.broadcast_to(y.mean(0), y.shape), 0.5, True),
    ),
)  # fmt: skip
INVERTED = Mistake(
    "labels-inverted", "1 − Y for Y", ERROR, "Y = 1 - Y", Y_AT,
    (Altered("1 − Y stands where Y belongs.", lambda y: 1 - y, 0.9),),
)  # fmt: skip
SIGNED = Mistake(
    "labels-signed", "labels of −1 and 1 where those of 0 and 1 belong", ERROR, "Y = 2 * Y - 1", Y_AT,
    (Altered("2 Y − 1 stands where Y belongs.", lambda y: 2 * y - 1, 1.0),),
)  # fmt: skip
SMOOTHED = Mistake(
    "labels-smoothed", "label smoothing that the loss does not have", ERROR, "Y = 0.9 * Y + 0.1 / n_L", Y_AT,
    (Altered("The labels are smoothed by 0.1.", lambda y: 0.9 * y + 0.1 / y.shape[-1], 1.2),),
)  # fmt: skip
TRUNCATED = Mistake(
    "truncated-inputs", "integers where floats belong", X_GIVEN, "X = X.astype(int)", X_AT,
    (
        Altered("The inputs are cut to integers.", np.trunc, 0.5),
        Altered("The inputs are cut to integers.", np.floor, 0.6),
    ),
)  # fmt: skip
UNSCALED = Mistake(
    "inputs-unscaled", "X is divided by 255, and that of the loss is not", X_GIVEN, "dW1 = dZ1.T @ (X / 255)",
    X_AT, (Altered("The inputs are divided by 255.", lambda x: x / 255, 1.0),),
)  # fmt: skip
CENTRED = Mistake(
    "inputs-centred", "the mean is taken off X, and off that of the loss it is not", X_GIVEN,
    "X = X - X.mean(axis=0)", X_AT, (Altered("The inputs are centred.", lambda x: x - x.mean(0), 1.1),),
)  # fmt: skip
NO_COTANGENT = Mistake(
    "cotangent-ignored", "a rule does not multiply by its cotangent",
    "vjp(c) is linear in c: every term has the factor c",
    "def backward(x, c): return (2 * x,)  # for (c * 2 * x,)", "a rule for derivatives",
)  # fmt: skip
NO_ARGUMENT = Mistake(
    "argument-ignored", "ones stand where an argument belongs",
    "the gradient is taken at the arguments that were given",
    "dZ2 = (A2 - Y) / N  # for weights * (A2 - Y) / N",
    "through any argument",
)  # fmt: skip
ONE_PLACE = Mistake(
    "read-at-one-place", "one entry of a cotangent, or of another argument, stands for all of it",
    "vjp(c) has c_i in the term of output i", "def backward(x, c): return (2 * x * c[0],)",
    "through any argument, a rule for derivatives",
    (
        *((f"The {where} entry of {{c}} stands for all of it", lambda c, k=k: np.full_like(c, c.flat[k]))
          for where, k in ENDS),
        *((f"The {where} row of {{c}} stands for all of it", lambda c, k=k: np.broadcast_to(c[k], c.shape))
          for where, k in ENDS),
        *((f"The {where} column of {{c}} stands for all of it",
           lambda c, k=k: np.broadcast_to(c[..., k, None], c.shape)) for where, k in ENDS),
        ("The mean of {c} stands for each of its entries", lambda c: np.full_like(c, c.mean())),
        ("The sum of {c} stands for each of its entries", lambda c: np.full_like(c, c.sum())),
    ),
)  # fmt: skip
OF_EXAMPLES = (IGNORED, WEIGHTED, ONE_EXAMPLE, MISSING_PSUM)
OF_ORDER = (SHIFTED, REORDERED)
OF_LABELS = (OTHER_CLASSES, BROADCAST, INVERTED, SIGNED, SMOOTHED)
OF_INPUTS = (TRUNCATED, UNSCALED, CENTRED)
OF_DATA = (*OF_ORDER, *OF_LABELS, LEFT_OUT, *OF_INPUTS, NO_COTANGENT, NO_ARGUMENT, ONE_PLACE)
ALTERED_LABELS = [
    *ways(OF_LABELS),
    (LEFT_OUT, Altered("Y is left out.", np.zeros_like, 1.0)),
    (TRUNCATED, Altered("The labels are cut to integers.", np.trunc, 0.6)),
]


def elsewhere(scenes: list[Scene]) -> Iterator[Finding]:
    """The right gradient, of other labels or inputs."""
    layout, values = scenes[0].structure, scenes[0].point.values
    cotangents = handed_in(scenes[0]) & scenes[0].point.tape.constants.keys()
    yield from _argument_ignored(scenes, cotangents if layout.products else (*layout.targets, *layout.data))
    last = len(layout.layers)
    through = f"dZ[{last}] (through Y)" if last else "through Y"
    for t in layout.targets if layout.products else ():
        if t in cotangents:
            continue
        kind = values[t].dtype.kind
        yield from _altered(scenes, t, [*ways(OF_ORDER), *(ALTERED_LABELS if kind == "f" else ())], through)
        if kind in "iu":
            yield from _other_classes(scenes, t, through)
    first = "dW[1] and the forward pass (through X)" if last else "through X"
    for x in layout.data if layout.products else ():
        if values[x].dtype.kind == "f":
            yield from _altered(scenes, x, ways(OF_INPUTS), first)


def _with_input(value: int, way: Altered, scene: Scene):
    """The gradient where an input is another function of itself, a row an example."""
    old = scene.point.values[value]
    columns = old.ndim == 2 and scene.structure.products[-1].input_side == 1
    new = way.of(old.T).T if columns else way.of(old) if old.ndim else old
    times = scene.sizes.get("N", np.nan) if way.summed else 1
    return [times * g for g in gradient_at(scene, value, np.asarray(new, old.dtype))]


def _altered(scenes, value: int, table, where: str) -> Iterator[Finding]:
    for mistake, way in table:
        if holds(scenes, partial(_with_input, value, way)):
            yield finding(mistake, way.says, where, way.rank)


def _other_classes(scenes, value: int, where: str) -> Iterator[Finding]:
    """Labels that are numbers of classes, off by one; with and without going round."""
    ways = [(step, around) for step in (1, -1) for around in (False, True)]
    if any(holds(scenes, partial(_with_classes, value, *way)) for way in ways):
        yield finding(OTHER_CLASSES, OTHER_CLASSES.ways[0].says, where, 0.4)


def _with_classes(value: int, step: int, around: bool, scene: Scene):
    new = scene.point.values[value] + step
    classes = scene.sizes.get("n_L", int(new.max(initial=0)) + 1)
    return gradient_at(scene, value, new % classes if around else new)


def _argument_ignored(scenes, arguments: Iterable[int]) -> Iterator[Finding]:
    """An argument taken for ones, or one entry of it for all; a cotangent, if the loss is linear in it."""
    for value in arguments:
        if scenes[0].point.values[value].dtype.kind != "f":
            continue
        c, where = _argument(scenes[0], value), "through {c}"
        several = scenes[0].point.values[value].size > 1
        for says, of in ONE_PLACE.ways if several else ():
            if holds(scenes, partial(_with_argument, value, of)):
                yield finding(ONE_PLACE, f"{says}.", where, 0.6, c=c)
                break
        if not holds(scenes, partial(_with_argument, value, np.ones_like)):
            continue
        twice = [gradient_at(s, value, 2 * s.point.values[value]) for s in scenes]
        linear = not scenes[0].muted and all(
            fits(s._replace(hand=t), [2 * r for r in s.reference]) for s, t in zip(scenes, twice, strict=True)
        )
        says = "Ones stand where {c} belongs"
        if linear:
            says += ": the gradient is not multiplied by it"
        mistake, rank = (NO_COTANGENT, 0.4) if linear else (NO_ARGUMENT, 1)
        yield finding(mistake, f"{says}.", where, rank, c=c)


def _with_argument(value: int, of: Callable, scene: Scene):
    return gradient_at(scene, value, of(scene.point.values[value]))


def _argument(scene: Scene, value: int) -> Part:
    """An input of the loss, the cotangent of a rule, or what it is where the loss holds it itself."""
    tape = scene.point.tape
    if value in tape.inputs:
        return Argument(tape.inputs.index(value))
    if value in handed_in(scene):
        return "the cotangent"
    shape = scene.point.values[value].shape
    return f"the {f'{dimensions(shape)} array' if shape else 'number'} that the loss holds itself"


def _shares(scene: Scene, layer: Layer) -> tuple[np.ndarray, np.ndarray] | None:
    """What each example gives to dW[l] and db[l] along random directions, and what the candidate has."""
    rows = dense_rows(scene, layer)
    g = as_product(scene, layer, scene.hand[layer.weight])
    if rows is None or g is None or not np.isfinite(g).all():
        return None
    a, d = rows
    if layer.bias is not None and scene.hand[layer.bias].size == d.shape[1]:
        a = np.concatenate([a, np.ones((len(a), 1))], axis=1)
        g = np.concatenate([g, scene.hand[layer.bias].reshape(-1, 1)], axis=1)
    rng = np.random.default_rng(0)
    count = min(g.size, len(a) + 24)
    u, v = rng.normal(size=(g.shape[0], count)), rng.normal(size=(g.shape[1], count))
    return (d @ u) * (a @ v), ((g.T @ u) * v).sum(axis=0)


def _weights(each: np.ndarray, total: np.ndarray) -> Iterator[np.ndarray]:
    """What the examples count: solved for; or the first or the last alone, once or as a mean of them."""
    n, count = each.shape
    w, _, rank, _ = np.linalg.lstsq(each.T, total, rcond=COMPUTED)
    if rank == n < count:
        yield w
        return
    top = np.abs(each).max(initial=0)
    for rows, part in _ends(each):
        for weight in (1.0, n / len(rows)):
            if np.allclose(weight * part, total, rtol=FITTED, atol=COMPUTED * top):
                w = np.zeros(n)
                w[rows] = weight
                yield w


def _ends(x: np.ndarray) -> Iterator[tuple[range, np.ndarray]]:
    """The first or the last few rows, and their sum; the most rows first."""
    n, running = len(x), np.cumsum(x, axis=0)
    for m in range(n - 1, 0, -1):
        yield range(m), running[m - 1]
        yield range(n - m, n), running[-1] - running[n - m - 1]


def _weighed(w: np.ndarray, scene: Scene):
    """The gradient where each example counts so much."""
    layer = scene.structure.layers[-1]
    d = scene.point.cotangents[layer.z]
    return gradient_with(scene, given={layer.z: d * (w if layer.input_side == 1 else w[:, None])})


def _counts(scene: Scene) -> tuple[np.ndarray | None, bool]:
    """How much each example counts in the candidate; or None, and whether that could be any number."""
    layer = scene.structure.layers[-1]
    d, product = scene.point.cotangents[layer.z], scene.point.cotangents[layer.product]
    if dense_rows(scene, layer) is None or d.shape != product.shape:
        return None, False
    share = _shares(scene, layer)
    for w in _weights(*share) if share else ():
        whole = np.where(np.abs(w - np.round(w)) < FITTED, np.round(w), w)
        if fits(scene, _weighed(whole, scene)):
            return whole, False
    return None, share is not None and np.linalg.matrix_rank(share[0], rtol=COMPUTED) < len(d)


def _which(w: np.ndarray) -> str:
    gone, n = np.flatnonzero(w == 0), len(w)
    if len(gone) == 1:
        last = ", the last" if gone[0] == n - 1 else ", the first" if gone[0] == 0 else ""
        return f"Example {gone[0]}{last}, is"
    if np.array_equal(gone, np.arange(gone[0], n)):
        return f"Examples {gone[0]} to {n - 1} (the last {len(gone)} of {n}) are"
    if np.array_equal(gone, np.arange(0, gone[-1] + 1)):
        return f"Examples 0 to {gone[-1]} (the first {len(gone)} of {n}) are"
    return f"Examples {', '.join(map(str, gone[:8]))}{' …' if len(gone) > 8 else ''} are"


def weighted(scenes: list[Scene]) -> Iterator[Finding]:
    """Some examples count nothing, or too much."""
    layers = scenes[0].structure.layers
    if not layers:
        return
    yield from _one_example_bias(scenes)
    counts = [_counts(scene) for scene in scenes if scene.wrong]
    known = [w for w, _ in counts if w is not None]
    if not known or any(w is None and not free for w, free in counts):
        return
    w, manners, told = known[0], {_manner(w) for w in known}, counts[0][0] is not None
    where = f"dZ[{len(layers)}], rows of examples"
    yield from _of_a_device(scenes[0].devices, w, where)
    often = {manner.often for manner in manners}
    if None not in often and not w.all():
        # scattered ones are seldom left out; those of a saturated output may be clipped
        steady = len(often) == 1  # else one example that is left may count so for another reason
        scattered = len(manners) > 1 or np.count_nonzero(np.diff(w != 0)) > 1
        why = ", perhaps by a condition of their own" if scattered else ""
        once, mean = "once" in often, " (the mean is over those left)" if "as a mean" in often else ""
        rest = "" if once else f", the others count {{times:.6g}} times{mean}"
        says = f"{{which}} left out of the gradient{rest}{why}."
        rank = 0.4 if steady and not scattered else 1.8
        parts = {"which": _which(w) if told else "Some examples are", "times": float(w.max())}
        yield finding(IGNORED, says, where, rank if once else rank + 0.1, told and not scattered, **parts)
    elif np.ptp(w) > FITTED:
        odd = np.flatnonzero(np.abs(w - np.median(w)) > FITTED)
        often = ", ".join(f"{i}: {w[i]:.4g}" for i in odd[:6]) + (" …" if len(odd) > 6 else "")
        of = "" if told else f" (of {len(w)} examples)"
        yield finding(WEIGHTED, "Examples do not count alike: {often}{of}.", where, 1, often=often, of=of)


class Manner(NamedTuple):
    """Which examples are left out, and how often the others count: once, as a mean of them, or so often."""

    first: bool
    last: bool
    often: str | float | None


def _manner(w: np.ndarray) -> Manner:
    kept = w[w != 0]
    if not kept.size or not np.allclose(kept, kept[0]):
        return Manner(bool(w[0] == 0), bool(w[-1] == 0), None)
    known = (("once", 1.0), ("as a mean", len(w) / len(kept)))
    often = next((name for name, times in known if same(kept[0], times)), float(f"{kept[0]:.6g}"))
    return Manner(bool(w[0] == 0), bool(w[-1] == 0), often)


def _of_a_device(sizes: tuple[int, ...], w: np.ndarray, where: str) -> Iterator[Finding]:
    """Only the examples of one device count."""
    for devices in sizes:
        counts = w.reshape(devices, -1) if len(w) % devices == 0 else np.ones((devices, 1))
        own = counts.any(axis=1)
        if own.sum() == 1 and counts[own].all() and np.allclose(counts[own], counts[own][0, 0]):
            says = (
                "Only the {rows} examples of device {device} of {devices} count: a psum over the devices "
                "is missing."
            )
            parts = {"rows": counts.shape[1], "device": int(np.argmax(own)), "devices": devices}
            yield finding(MISSING_PSUM, says, where, 0.35, True, **parts)


def _one_example_bias(scenes) -> Iterator[Finding]:
    """db[l] made of one example, or of the first or last few."""
    biases = {y.bias: y for y in scenes[0].structure.layers if y.bias is not None}
    wrong = wrong_leaves(scenes)
    if not wrong or not set(wrong) <= set(biases):
        return
    made = []
    for scene in scenes:
        for k in scene.wrong:
            rows, g = dense_rows(scene, biases[k]), scene.hand[k].ravel()
            if rows is None or rows[1].shape[1] != g.size:
                return
            made.append((_summed(rows[1], g), len(rows[1])))
    if not made or any(summed is None for summed, _ in made):
        return
    ends = [_end(summed, n) for summed, n in made]
    one, few = all(len(summed) == 1 for summed, _ in made), len(made[0][0])
    mistake, what, which = (
        (ONE_EXAMPLE, "one example", ends[0]) if one else (IGNORED, "some examples", f"{ends[0]} {few}")
    )
    says = gradient_of(scenes, wrong) + " is made of {what} only ({which})."
    steady = len(set(ends)) == 1
    yield finding(mistake, says, "{of}", 0.4, steady, of=Leaves(wrong), what=what, which=which)


def _summed(d: np.ndarray, g: np.ndarray) -> range | None:
    """The rows of dZ[l] that db[l] is the sum of: one, the first few or the last few."""
    n, top = len(d), np.abs(d).max(initial=0)
    for i in range(n):
        if near(d[i], g, top) or near(n * d[i], g, top):
            return range(i, i + 1)
    return next((rows for rows, part in _ends(d) if near(part, g, top)), None)


def _end(rows: range, n: int) -> str:
    return "the first" if rows.start == 0 else "the last" if rows.stop == n else f"number {rows.start}"
