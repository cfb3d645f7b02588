"""Steps that are done in another form: a softmax, a maximum, a product with a matrix, a sum of two paths."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product

import numpy as np

from jaxnn.gradcheck.mistakes.finding import Cotangent, Finding, Mistake, Step, Value, finding, holds
from jaxnn.gradcheck.tape.forward import arrays, replayed, step
from jaxnn.gradcheck.tape.paths import smallest
from jaxnn.gradcheck.tape.scene import Scene, gradient_with, pulled
from jaxnn.gradcheck.tape.tape import Edge

SHARES = Mistake(
    "shares-mistaken", "a softmax or a maximum is shared out otherwise: one alone, all alike, another axis",
    "∂ log Σ e^z / ∂z = softmax(z) along the axis of the sum; ∂ max z / ∂z = 1 at the largest, else 0",
    "dZ = (np.eye(K)[Z.argmax(1)] - Y) / N  # of logsumexp(Z, axis=1)", "a softmax, a maximum",
)  # fmt: skip
TURNED = Mistake(
    "matrix-transposed", "a product is made with its matrix transposed",
    "d(xᵀ A x) = (A + Aᵀ) x: A is not symmetric of itself", "dx = 2 * A @ x  # of x @ A @ x",
    "a product with a square matrix",
)  # fmt: skip
ON_BOTH = Mistake(
    "factor-on-both", "a factor of one path is multiplied into another, as where an array changes in place",
    "B = A + F(A), so dA = dB + F′ᵀ dB: on the first path dB is as it was",
    "dZ = dB; dZ *= Z > 0; dA = dB + dZ @ W.T  # dB is dZ itself", "beside a skip connection",
)  # fmt: skip
OF_FORMS = (SHARES, TURNED, ON_BOTH)


def _softmax(z: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    e = np.exp(z - z.max(axes, keepdims=True))
    return e / e.sum(axes, keepdims=True)


def _largest(z: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    return (z == z.max(axes, keepdims=True)) * 1.0


def _alike(z: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    return np.full_like(z, z.max(axes, keepdims=True).size / z.size)


def _along(axis: int) -> Callable:
    return lambda z, axes: _softmax(z, (axis % z.ndim,))


FORMS = (
    ("the largest alone has all of it, as if it were a maximum", _largest),
    ("all have the same of it, as if it were a mean", _alike),
    ("each has as by softmax, as if it were a logsumexp", _softmax),
    *((f"it goes along axis {axis}", _along(axis)) for axis in (0, 1, 2)),
    ("it goes over all axes", lambda z, axes: _softmax(z, tuple(range(z.ndim)))),
)


def _with_shares(places: tuple[int, int], form: Callable, scene: Scene) -> list[np.ndarray] | None:
    """The gradient where a sum of exponentials, or a maximum, is shared out in another form."""
    tape, values = scene.point.tape, scene.point.values
    node, top = (tape.nodes[place] for place in places)
    axes, z, out = top.params["axes"], values[node.inputs[0]], top.outputs[0]
    if not z.size:
        return None
    if node is top:
        new = form(z, axes)
        return gradient_with(
            scene, moved={(places[0], 0): lambda seen: np.expand_dims(seen[out], axes) * new}
        )
    less = tape.maker(node.inputs[0])
    if less is not None and tape.nodes[less].name == "sub" and len(tape.edges(tape.nodes[less])) == 1:
        z = values[tape.nodes[less].inputs[0]]  # the largest is taken off before
    new = form(z, axes) * np.expand_dims(values[out], axes)
    if new.shape != values[node.outputs[0]].shape:
        return None
    change = replayed(scene, {node.outputs[0]: new, out: values[out]})
    return pulled(scene, change._replace(factors=change.factors | {(places[0], 0): new})).gradient


def _shared(probe: Scene) -> Iterator[tuple[int, int]]:
    """Every exponential with the sum of it, and every maximum, by their places."""
    tape, back = probe.point.tape, probe.point.cotangents
    for place, node in enumerate(tape.nodes):
        told = node.outputs[0] in back and back[node.outputs[0]].any()
        if node.name == "reduce_max" and told:
            yield place, place
        elif node.name == "exp" and told:
            reading = [p for p, n in enumerate(tape.nodes) if node.outputs[0] in n.reads]
            yield from ((place, p) for p in reading if tape.nodes[p].name == "reduce_sum")


def _with_matrix(place: int, side: int, back: bool, scene: Scene) -> list[np.ndarray] | None:
    """The gradient where a square matrix is transposed in a product; back: on the way back too."""
    node = scene.point.tape.nodes[place]
    given = arrays(node, scene.point.values)
    if given[side].ndim != 2 or given[side].shape != given[side].T.shape:
        return None
    given[side] = given[side].T
    change = replayed(scene, {node.outputs[0]: step(scene, place, given)[0]})
    operands = change.operands | ({(place, side): given[side]} if back else {})
    return pulled(scene, change._replace(operands=operands)).gradient


def _with_factor(edge: Edge, other: Edge, scene: Scene) -> list[np.ndarray] | None:
    """The gradient where the factor on another edge is multiplied in on this one too."""
    old, new = (np.asarray(scene.point.change.factors[e]) for e in (edge, other))
    value = scene.point.values[scene.point.tape.nodes[edge[0]].inputs[edge[1]]]
    return gradient_with(scene, factors={edge: old * new}) if new.shape == value.shape else None


def of_forms(scenes: list[Scene]) -> Iterator[Finding]:
    """A softmax shared out otherwise, a matrix transposed, a factor of one path in another too."""
    probe = smallest(scenes)
    if probe is None:
        return
    tape, factors = probe.point.tape, probe.point.change.factors
    for places, (says, form) in product(_shared(probe), FORMS):
        if holds(scenes, partial(_with_shares, places, form)):
            told = "What comes back through {step} is shared out otherwise: " + says + "."
            yield finding(SHARES, told, "{step}", 2.0, True, probe, step=Step((places[1],)))
            return
    dots = [p for p, n in enumerate(tape.nodes) if n.name == "dot_general" and n.outputs[0] in tape.active]
    for place, side, back in product(dots, (0, 1), (False, True)):
        if holds(scenes, partial(_with_matrix, place, side, back)):
            says = (
                "It is made with {a} transposed in {step}" + "." * back + ", on the way there." * (not back)
            )
            a, at = Value((tape.nodes[place].inputs[side],)), Step((place,))
            yield finding(TURNED, says, "{step}", 2.0, True, probe, a=a, step=at)
            return
    sums = [p for p, n in enumerate(tape.nodes) if n.name in {"add", "sub", "add_any"}]
    passing = [(p, k) for p in sums if len(tape.edges(tape.nodes[p])) == 2 for k in (0, 1)]
    told = [e for e, x in factors.items() if np.size(x) > 1 and np.ptp(x) > 0]
    for edge, other in product(passing, told):
        if edge in factors and holds(scenes, partial(_with_factor, edge, other)):
            says = (
                "{down} is multiplied by the derivative of {other} too, as where an array changes in place."
            )
            down = Cotangent(tape.nodes[edge[0]].inputs[edge[1]])
            yield finding(ON_BOTH, says, "{down}", 2.5, True, probe, other=Step((other[0],)), down=down)
            return
