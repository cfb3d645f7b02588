"""The forward pass of a tape done again from values that are exchanged, and the backward pass after it."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jax.extend.core import Literal

from jaxnn.gradcheck.jaxprs.by_numpy import by_numpy
from jaxnn.gradcheck.tape.scene import Scene
from jaxnn.gradcheck.tape.tape import Change


def step(scene: Scene, place: int, given: Sequence, slope: int | None = None) -> list[np.ndarray]:
    """What a step makes of other inputs, or its local derivative by one of them."""
    node, known = scene.point.tape.nodes[place], scene.point.programs.steps
    if (place, slope) not in known:
        run: Callable = node.apply if slope is None else lambda *xs: (node.slope(xs, slope),)
        known[place, slope] = by_numpy(run, *given)
    return [np.asarray(x) for x in known[place, slope](*given)]


def replayed(scene: Scene, new: Mapping[int, np.ndarray]) -> Change:
    """The backward pass where these values, whatever makes them, are those."""
    tape, change = scene.point.tape, scene.point.change
    scene.work.spend(scene.point.programs.work)
    values, other = scene.point.values | dict(new), set(new)
    factors, operands = dict(change.factors), dict(change.operands)
    with np.errstate(all="ignore"):
        for place, node in enumerate(tape.nodes):
            if other.isdisjoint(node.reads):
                continue
            given = [
                np.asarray(i.val, i.aval.dtype) if isinstance(i, Literal) else values[i] for i in node.inputs
            ]
            made = zip(node.outputs, step(scene, place, given), strict=True)
            values |= {o: x for o, x in made if o not in new}
            other.update(node.outputs)
            for k, i in enumerate(node.inputs):
                if (place, k) in factors:
                    factors[place, k] = step(scene, place, given, k)[0]
                elif (place, k) in operands and not isinstance(i, Literal):
                    operands[place, k] = given[k]
    return change._replace(factors=factors, operands=operands)


def gradient_of(scene: Scene, new: Mapping[int, np.ndarray]) -> list[np.ndarray]:
    """The gradient where these values are those, and all that is made of them."""
    change = replayed(scene, new)
    scene.work.spend(scene.point.programs.work)
    return scene.point.programs.pull(change)[0]
