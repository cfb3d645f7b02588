"""The forward pass of a tape done again from values that are exchanged, and the backward pass after it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jax.extend.core import Literal

from jaxnn.gradcheck.jaxprs.by_numpy import by_numpy
from jaxnn.gradcheck.tape.scene import Scene, pulled
from jaxnn.gradcheck.tape.tape import Change, Node


def arrays(node: Node, values: Mapping[int, Any]) -> list[np.ndarray]:
    """The inputs of a step, of these values."""
    return [
        np.asarray(i.val, getattr(i.aval, "dtype", None)) if isinstance(i, Literal) else np.asarray(values[i])
        for i in node.inputs
    ]


def step(scene: Scene, place: int, given: Sequence, slope: int | None = None) -> list[np.ndarray]:
    """What a step makes of other inputs, or its local derivative by one of them."""
    node, known = scene.point.tape.nodes[place], scene.point.programs.steps
    if (place, slope) not in known:
        run: Callable = node.apply if slope is None else lambda *xs: (node.slope(xs, slope),)
        known[place, slope] = by_numpy(run, *given)
    return [np.asarray(x) for x in known[place, slope](*given)]


def replayed_values(scene: Scene, new: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
    """All values where these, whatever makes them, are those."""
    shapes = scene.point.tape.shapes
    values = scene.point.values | {v: np.asarray(x, shapes[v].dtype) for v, x in new.items()}
    other = set(new)
    share = scene.point.programs.work / len(scene.point.tape.nodes)
    with np.errstate(all="ignore"):
        for place, node in enumerate(scene.point.tape.nodes):
            if not other.isdisjoint(node.reads):
                scene.work.spend(share)
                made = zip(node.outputs, step(scene, place, arrays(node, values)), strict=True)
                values |= {o: x for o, x in made if o not in new}
                other.update(node.outputs)
    return values


def replayed(scene: Scene, new: Mapping[int, np.ndarray]) -> Change:
    """The backward pass where these values, whatever makes them, are those."""
    values, change = replayed_values(scene, new), scene.point.change
    other = {v for v, x in values.items() if x is not scene.point.values.get(v)}
    factors, operands = dict(change.factors), dict(change.operands)
    with np.errstate(all="ignore"):
        for place, node in enumerate(scene.point.tape.nodes):
            if other.isdisjoint(node.reads):
                continue
            given = arrays(node, values)
            for k, x in enumerate(given):
                if (place, k) in factors:
                    factors[place, k] = step(scene, place, given, k)[0]
                elif (place, k) in operands:
                    operands[place, k] = x
    return change._replace(factors=factors, operands=operands)


def gradient_of(scene: Scene, new: Mapping[int, np.ndarray]) -> list[np.ndarray]:
    """The gradient where these values are those, and all that is made of them."""
    return pulled(scene, replayed(scene, new)).gradient
