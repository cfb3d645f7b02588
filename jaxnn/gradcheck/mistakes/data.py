"""Mistakes that give the right gradient of other examples, labels or inputs."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import permutations
from typing import NamedTuple

import numpy as np

from jaxnn.gradcheck.jaxprs.equations import kind_of
from jaxnn.gradcheck.mistakes.finding import Argument, Finding, Mistake, Part, finding, holds, ways
from jaxnn.gradcheck.mistakes.outputs import LEFT_OUT
from jaxnn.gradcheck.mistakes.steps.turns import WRONG_OPERAND
from jaxnn.gradcheck.report.words import dimensions
from jaxnn.gradcheck.tape.backward import gradient_at
from jaxnn.gradcheck.tape.forward import gradient_of
from jaxnn.gradcheck.tape.names import handed_in
from jaxnn.gradcheck.tape.quantities import as_target
from jaxnn.gradcheck.tape.scene import Scene, fits


class Altered(NamedTuple):
    """Labels or inputs, a row an example, as a function of the right ones; summed: N times the gradient."""

    says: str
    of: Callable[[np.ndarray], np.ndarray]
    rank: float
    summed: bool = False


ENDS = (("first", 0), ("last", -1))
ROWS = "dZ[L] = (Ŷ − Y)/N, row i of Ŷ with row i of Y"
ERROR = "dZ[L] = (Ŷ − Y)/N with the Y that was given"
X_GIVEN = "Z[1] = X W[1]ᵀ + b[1]ᵀ with the X that was given"
Y_AT = "dZ[L], through Y"
X_AT = "dW[1] and the forward pass, through X"

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
    (Altered("1 − {y} stands where {y} belongs.", lambda y: 1 - y, 0.9),),
)  # fmt: skip
SIGNED = Mistake(
    "labels-signed", "labels of −1 and 1 where those of 0 and 1 belong", ERROR, "Y = 2 * Y - 1", Y_AT,
    (Altered("2 {y} − 1 stands where {y} belongs.", lambda y: 2 * y - 1, 1.0),),
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
    "argument-ignored", "ones, or zeros, stand where an argument belongs",
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
OF_ORDER = (SHIFTED, REORDERED)
OF_LABELS = (OTHER_CLASSES, BROADCAST, INVERTED, SIGNED, SMOOTHED)
OF_INPUTS = (TRUNCATED, UNSCALED, CENTRED)
OF_DATA = (*OF_ORDER, *OF_LABELS, LEFT_OUT, *OF_INPUTS, NO_COTANGENT, NO_ARGUMENT, ONE_PLACE)
ALTERED_LABELS = [
    *ways(OF_LABELS),
    (LEFT_OUT, Altered("{y} is left out.", np.zeros_like, 1.0)),
    (TRUNCATED, Altered("The labels are cut to integers.", np.trunc, 0.6)),
]


def elsewhere(scenes: list[Scene]) -> Iterator[Finding]:
    """The right gradient, of other labels or inputs."""
    scene, layout, values = scenes[0], scenes[0].structure, scenes[0].point.values
    cotangents = handed_in(scene) & scene.point.tape.constants.keys()
    labels = [t for t in layout.targets if layout.products and t not in cotangents]
    labels = [t for t in labels if not layout.layers or as_target(scene, t) is not None]
    data = () if layout.products else layout.data
    yield from _argument_ignored(scenes, [*cotangents, *layout.targets, *data], labels)
    yield from _argument_for_another(scenes, [*layout.targets, *layout.data])
    last = len(layout.layers)
    through = f"dZ[{last}] (through {{y}})" if last else "through {y}"
    for t in labels:
        kind = kind_of(values[t])
        yield from _altered(scenes, t, [*ways(OF_ORDER), *(ALTERED_LABELS if kind == "f" else ())], through)
        if kind in {"i", "u"}:
            yield from _other_classes(scenes, t, through)
    first = "dW[1] and the forward pass (through X)" if last else "through X"
    for x in layout.data if layout.products else ():
        if kind_of(values[x]) == "f":
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
        ones = np.all(way.of(scenes[0].point.values[value]) == 1)  # an argument that is ignored
        if not ones and holds(scenes, partial(_with_input, value, way)):
            yield finding(mistake, way.says, where, way.rank, y=_argument(scenes[0], value))


def _other_classes(scenes, value: int, where: str) -> Iterator[Finding]:
    """Labels that are numbers of classes, off by one; with and without going round."""
    ways = [(step, around) for step in (1, -1) for around in (False, True)]
    if any(holds(scenes, partial(_with_classes, value, *way)) for way in ways):
        yield finding(OTHER_CLASSES, OTHER_CLASSES.ways[0].says, where, 0.4, y=_argument(scenes[0], value))


def _with_classes(value: int, step: int, around: bool, scene: Scene):
    new = scene.point.values[value] + step
    classes = scene.sizes.get("n_L", int(new.max(initial=0)) + 1)
    return gradient_at(scene, value, new % classes if around else new)


def _argument_ignored(scenes, arguments: Iterable[int], labels: Iterable[int]) -> Iterator[Finding]:
    """An argument taken for ones, or one entry of it for all; a cotangent, if the loss is linear in it."""
    for value in dict.fromkeys(arguments):
        old = scenes[0].point.values[value]
        if kind_of(old) not in {"f", "b"}:
            continue
        c, where = _argument(scenes[0], value), "through {c}"
        if holds(scenes, partial(_with_argument, value, np.ones_like)):
            linear = kind_of(old) == "f" and not scenes[0].muted and _is_linear(scenes, value)
            says = "Ones stand where {c} belongs" + ": the gradient is not multiplied by it" * linear
            mistake, rank = (NO_COTANGENT, 0.4) if linear else (NO_ARGUMENT, 1)
            yield finding(mistake, f"{says}.", where, rank, c=c)
        elif value not in labels and holds(scenes, partial(_with_argument, value, np.zeros_like)):
            yield finding(NO_ARGUMENT, "Zeros stand where {c} belongs.", where, 1.5, c=c)
        elif value not in labels and old.size > 1:
            for says, of in ONE_PLACE.ways:
                if holds(scenes, partial(_with_argument, value, of)):
                    yield finding(ONE_PLACE, f"{says}.", where, 0.6, c=c)
                    break


def _argument_for_another(scenes: list[Scene], arguments: Iterable[int]) -> Iterator[Finding]:
    """An argument stands where another of its shape belongs."""
    shapes = scenes[0].point.tape.shapes
    for value, other in permutations(dict.fromkeys(arguments), 2):
        if shapes[value] == shapes[other] and holds(scenes, partial(_with_another, value, other, 1.0)):
            neither = holds(scenes, partial(_with_another, value, other, 0.0))
            says = "{d} stands where {c} belongs" + ", or neither is taken into account" * neither
            c, d = (_argument(scenes[0], v) for v in (value, other))
            yield finding(WRONG_OPERAND, f"{says}.", "through {c}", 0.9, c=c, d=d)
            return


def _with_another(value: int, other: int, times: float, scene: Scene):
    old, new = scene.point.values[value], times * scene.point.values[other]
    return gradient_of(scene, {value: new, other: new}) if new.shape == old.shape else None


def _is_linear(scenes: list[Scene], value: int) -> bool:
    """Whether the gradient is twice what it is where an argument is."""
    twice = [gradient_at(s, value, 2 * s.point.values[value]) for s in scenes]
    made = zip(scenes, twice, strict=True)
    return all(fits(s._replace(hand=t), [2 * r for r in s.reference]) for s, t in made)


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
    what = f"array of shape {dimensions(shape)}" if shape else "number"
    line = next((n.line for n in tape.nodes if value in n.reads and n.line), "")
    return f"the {what} that the loss holds itself" + f" and reads at {line}" * bool(line)
