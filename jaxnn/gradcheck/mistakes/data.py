"""Mistakes that give the right gradient of other labels or inputs."""

from collections.abc import Callable, Iterator
from functools import partial

import jax
import numpy as np

from jaxnn.gradcheck.mistakes.finding import Finding, holds
from jaxnn.gradcheck.tape.quantities import gradient_at
from jaxnn.gradcheck.tape.scene import Scene, fits

Altered = tuple[str, str, Callable[[np.ndarray], np.ndarray], float]

SHIFTED: tuple[Altered, ...] = (
    ("labels-shifted", "The labels are shifted by one example.", lambda y: np.roll(y, 1, 0), 0.4),
    ("labels-shifted", "The labels are shifted by one example.", lambda y: np.roll(y, -1, 0), 0.4),
    ("unknown", "The labels are in reverse order.", lambda y: y[::-1], 1.0),
    ("unknown", "Only the first example's label is used.", lambda y: np.broadcast_to(y[:1], y.shape), 1.0),
)

RELABELLED: tuple[Altered, ...] = (
    ("classes-shifted", "The classes of the labels are off by one.", lambda y: np.roll(y, 1, -1), 0.45),
    ("classes-shifted", "The classes of the labels are off by one.", lambda y: np.roll(y, -1, -1), 0.45),
    (
        "broadcast-labels",
        "Every example is held against the mean of all labels: (N,) was broadcast against (N, 1).",
        lambda y: np.broadcast_to(y.mean(0), y.shape),
        0.4,
    ),
    ("unknown", "1 − Y stands where Y belongs.", lambda y: 1 - y, 0.9),
    ("unknown", "Y is left out.", np.zeros_like, 1.0),
    ("unknown", "2 Y − 1 stands where Y belongs.", lambda y: 2 * y - 1, 1.0),
    ("unknown", "Every label is 1.", np.ones_like, 1.1),
    ("truncated-inputs", "The labels are cut to integers.", np.trunc, 0.6),
    ("unknown", "The labels are smoothed by 0.1.", lambda y: 0.9 * y + 0.1 / y.shape[-1], 1.2),
)

FED: tuple[Altered, ...] = (
    ("truncated-inputs", "The inputs are cut to integers.", np.trunc, 0.5),
    ("truncated-inputs", "The inputs are cut to integers.", np.floor, 0.6),
    ("unknown", "The inputs are divided by 255.", lambda x: x / 255, 1.0),
    ("unknown", "The inputs are centred.", lambda x: x - x.mean(0), 1.1),
    ("unknown", "|X| stands where X belongs.", np.abs, 1.1),
    ("unknown", "The inputs' features are in reverse.", lambda x: x[..., ::-1], 1.1),
)


def elsewhere(scenes: list[Scene]) -> Iterator[Finding]:
    """The right gradient, of other labels or inputs."""
    layout = scenes[0].structure
    if not layout.products:
        yield from _argument_ignored(scenes)
        return
    for t in layout.targets:
        kind = scenes[0].point.values[t].dtype.kind
        table = (*SHIFTED, *(RELABELLED if kind == "f" else ()))
        yield from _altered(scenes, t, table, _through_labels(scenes[0]))
        if kind in "iu":
            yield from _other_classes(scenes, t)
    for x in layout.data:
        if scenes[0].point.values[x].dtype.kind == "f":
            first = "dW[1] and the forward pass (through X)" if layout.layers else "through X"
            yield from _altered(scenes, x, FED, first)


def _through_labels(scene: Scene) -> str:
    """What Y is wrong in."""
    last = len(scene.structure.layers)
    return f"dZ[{last}] (through Y)" if last else "through Y"


def _with_input(value: int, f: Callable, scene: Scene):
    """The gradient where an input is f of itself, a row an example."""
    old = scene.point.values[value]
    columns = old.ndim == 2 and scene.structure.products[-1].input_side == 1
    new = f(old.T).T if columns else f(old) if old.ndim else old
    return gradient_at(scene, value, np.asarray(new, old.dtype))


def _altered(scenes, value: int, table: tuple[Altered, ...], where: str) -> Iterator[Finding]:
    for id, sentence, f, rank in table:
        if holds(scenes, partial(_with_input, value, f)):
            yield Finding(id, sentence, where, rank)


def _other_classes(scenes, value: int) -> Iterator[Finding]:
    """Labels that are numbers of classes, off by one; with and without going round."""
    for step in (1, -1):
        for around in (False, True):

            def predict(scene, step=step, around=around):
                new = scene.point.values[value] + step
                classes = scene.sizes.get("n_L", int(new.max(initial=0)) + 1)
                return gradient_at(scene, value, new % classes if around else new)

            if holds(scenes, predict):
                sentence = "The classes of the labels are off by one."
                yield Finding("classes-shifted", sentence, _through_labels(scenes[0]), 0.4)
                return


def _argument_ignored(scenes) -> Iterator[Finding]:
    """An argument taken for ones; a cotangent, if the loss is linear in it."""
    layout = scenes[0].structure
    for value in (*layout.targets, *layout.data):
        if scenes[0].point.values[value].dtype.kind != "f":
            continue

        def ones(scene, value=value):
            return gradient_at(scene, value, np.ones_like(scene.point.values[value]))

        if not holds(scenes, ones):
            continue
        name = _argument_name(scenes[0], value)
        twice = [gradient_at(s, value, 2 * s.point.values[value]) for s in scenes]
        linear = all(
            fits(s._replace(hand=t), [2 * r for r in s.reference]) for s, t in zip(scenes, twice, strict=True)
        )
        if linear:
            yield Finding(
                "cotangent-ignored",
                f"Ones stand where {name} belongs: the gradient is not multiplied by it.",
                f"through {name}",
                0.4,
            )
        else:
            yield Finding("unknown", f"Ones stand where {name} belongs.", f"through {name}", 1)


def _argument_name(scene: Scene, value: int) -> str:
    """An input of the loss, as the user would write it."""
    paths = jax.tree_util.tree_flatten_with_path(scene.point.args)[0]
    for number, (path, _) in zip(scene.point.tape.inputs, paths, strict=True):
        if number == value:
            return f"argument {path[0].idx}{jax.tree_util.keystr(path[1:])}"
    shape = scene.point.values[value].shape
    what = f"the {'×'.join(map(str, shape))} array" if shape else "the number"
    return f"{what} that the loss holds itself"


def mean_label_sum(scenes: list[Scene]) -> Iterator[Finding]:
    """(N, 1) − (N,) makes N × N numbers; summed, they are N times the gradient at the mean label."""
    layout = scenes[0].structure
    if not layout.products or not all("N" in s.sizes for s in scenes):
        return
    for t in layout.targets:
        if scenes[0].point.values[t].dtype.kind != "f":
            continue

        def predict(scene, t=t):
            y = scene.point.values[t]
            mean = gradient_at(scene, t, np.full(y.shape, y.mean(), y.dtype))
            return [scene.sizes["N"] * m for m in mean]

        if holds(scenes, predict):
            sentence = (
                "Every example is held against all labels, and the N × N errors are summed: "
                "(N,) was broadcast against (N, 1)."
            )
            yield Finding("broadcast-labels", sentence, _through_labels(scenes[0]), 0.5)
