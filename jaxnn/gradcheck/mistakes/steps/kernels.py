"""Mistakes on the way back through a convolution, in what it hands down to the images."""

from collections.abc import Callable, Iterator
from functools import partial

import jax
import numpy as np

from jaxnn.gradcheck.mistakes.finding import Cotangent, Mistake, Step
from jaxnn.gradcheck.mistakes.steps.blocks import OVERWRITTEN, REGROUPED
from jaxnn.gradcheck.mistakes.steps.guesses import Guess, first_that_holds, guess
from jaxnn.gradcheck.mistakes.steps.turns import WRONG_OPERAND
from jaxnn.gradcheck.tape.forward import arrays
from jaxnn.gradcheck.tape.scene import Scene, gradient_with
from jaxnn.gradcheck.tape.tape import Node

CUT = Mistake(
    "border-miscut", "the border of zeros is cut off at the wrong side",
    "Z = pad(A, p) ⋆ K, so dA[i] is what comes back to entry i + p with the border",
    "dA1 = dA1_padded[:H, :W]  # for [p:p + H, p:p + W]", "a convolution with a border",
)  # fmt: skip


def _whole(node: Node, X: np.ndarray, K: np.ndarray, d: np.ndarray) -> np.ndarray:
    """What comes back to the images with their border."""
    wide = dict(zip(node.params["dimension_numbers"].lhs_spec[2:], node.params["padding"], strict=True))
    padded = np.pad(X, [wide.get(axis, (0, 0)) for axis in range(X.ndim)])
    bare = node.params | {"padding": ((0, 0),) * len(wide)}
    back = jax.vjp(lambda x: jax.lax.conv_general_dilated_p.bind(x, K, **bare), padded)[1]
    return np.asarray(back(d)[0])


def _cut(node: Node, X: np.ndarray, of: Callable, whole: np.ndarray) -> np.ndarray:
    """A part of the size of the images; of: (low, high) → where it begins, if the border is so wide."""
    wide = dict(zip(node.params["dimension_numbers"].lhs_spec[2:], node.params["padding"], strict=True))
    first = [of(*wide.get(axis, (0, 0))) for axis in range(X.ndim)]
    return whole[tuple(slice(at, at + n) for at, n in zip(first, X.shape, strict=True))]


def _overwritten(turn: int, node: Node, X: np.ndarray, K: np.ndarray, d: np.ndarray) -> np.ndarray:
    """Entry by entry of the kernel, each over what the others gave."""
    axes = node.params["dimension_numbers"].rhs_spec[2:]
    out = np.zeros([])
    for at in [*np.ndindex(*(K.shape[axis] for axis in axes))][::turn]:
        one = np.zeros_like(K)
        one[tuple(dict(zip(axes, at, strict=True)).get(axis, slice(None)) for axis in range(K.ndim))] = 1
        met = _whole(node, X, one, np.ones_like(d)) != 0
        out = np.where(met, _whole(node, X, K * one, d), out)
    return _cut(node, X, lambda low, high: low, out)


SAYS: dict[tuple[Mistake, str], Callable] = {
    (CUT, "the border is left on at the start, and twice as much cut off at the end"): (
        lambda node, X, *rest: _cut(node, X, lambda low, high: 0, _whole(node, X, *rest))
    ),
    (CUT, "twice the border is cut off at the start, and it is left on at the end"): (
        lambda node, X, *rest: _cut(node, X, lambda low, high: low + high, _whole(node, X, *rest))
    ),
    (OVERWRITTEN, "where the windows overlap, the last overwrites the others"): partial(_overwritten, 1),
    (OVERWRITTEN, "where the windows overlap, the first stands for all"): partial(_overwritten, -1),
}


@first_that_holds
def of_kernels(probe: Scene) -> Iterator[Guess]:
    """What comes back to the images is put together otherwise, or made with a kernel that is transposed."""
    for place, node in enumerate(probe.point.tape.nodes):
        if node.name != "conv_general_dilated" or (place, 0) not in probe.point.programs.edges:
            continue
        tried = [(mistake, what, partial(_with_back, place, back)) for (mistake, what), back in SAYS.items()]
        for what in _with_groups_exchanged(probe, place):
            tried += [(REGROUPED, f"the groups of {what} are exchanged", partial(_with_groups, place, what))]
        turned = "the kernel has its rows and columns exchanged"
        tried += [(WRONG_OPERAND, turned, partial(_with_transposed, place))]
        told = {"step": Step((place,)), "down": Cotangent(node.inputs[0])}
        for mistake, what, predict in tried:
            yield guess(mistake, f"On the way back through {{step}}, {what}.", "{down}", 1.5, predict, **told)


def _with_groups(place: int, what: str, scene: Scene) -> list[np.ndarray] | None:
    found = _with_groups_exchanged(scene, place).get(what)
    return found and found()


def _with_back(place: int, back: Callable, scene: Scene) -> list[np.ndarray] | None:
    node = scene.point.tape.nodes[place]
    X, K = arrays(node, scene.point.values)
    if min(min(pair) for pair in node.params["padding"]) < 0:
        return None
    new = back(node, X, K, scene.point.cotangents[node.outputs[0]])
    return gradient_with(scene, moved={(place, 0): lambda seen: new}) if new.shape == X.shape else None


def _with_groups_exchanged(scene: Scene, place: int) -> dict[str, Callable]:
    """The gradient with the next group of channels of one of the four in the place of each."""
    node = scene.point.tape.nodes[place]
    (X, K), d = arrays(node, scene.point.values), scene.point.cotangents[node.outputs[0]]
    groups, (lhs, rhs, out) = node.params["feature_group_count"], node.params["dimension_numbers"]

    def back(X, K, d):
        run = partial(jax.lax.conv_general_dilated_p.bind, **node.params)
        return [np.asarray(x) for x in jax.vjp(run, X, K)[1](d)]

    def of(k: int, turn: Callable):
        def gradient():
            new = turn()
            return gradient_with(scene, moved={(place, k): lambda seen: new})

        return gradient

    def rolled(x, axis):
        return np.roll(x, x.shape[axis] // groups, axis)

    return (
        {
            "the images": of(1, lambda: back(rolled(X, lhs[1]), K, d)[1]),
            "what comes back": of(1, lambda: back(X, K, rolled(d, out[1]))[1]),
            "the kernel, on the way down,": of(0, lambda: back(X, rolled(K, rhs[0]), d)[0]),
            "what goes down": of(0, lambda: rolled(back(X, K, d)[0], lhs[1])),
        }
        if groups > 1
        else {}
    )


def _with_transposed(place: int, scene: Scene) -> list[np.ndarray] | None:
    node = scene.point.tape.nodes[place]
    _, K = arrays(node, scene.point.values)
    turned = K.swapaxes(*node.params["dimension_numbers"].rhs_spec[2:4])
    return gradient_with(scene, operands={(place, 1): turned}) if turned.shape == K.shape else None
