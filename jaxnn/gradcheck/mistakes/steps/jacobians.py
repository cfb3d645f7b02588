"""How every value of a tape depends on the parameters: by linear algebra, all at once.

A wrong cotangent δ of value v makes the gradient wrong by J_vᵀ δ, J_v = ∂v/∂(all parameters). So what a
mistake at v could do, and whether it explains a gradient, is known without another backward pass.
"""

import math

import numpy as np

from jaxnn.gradcheck.tape.scene import Scene
from jaxnn.gradcheck.tape.tape import Edge

LARGEST = 300  # entries of a value, or of all parameters, up to which it is asked


def flat(arrays) -> np.ndarray:
    """The entries of all leaves, one after the other."""
    return np.concatenate([np.ravel(x) for x in arrays])


def jacobians(scene: Scene) -> dict[int, np.ndarray]:
    """Of every active value that is not too large: its entries by those of all parameters."""
    tape, made = scene.point.tape, {}
    sizes = [math.prod(tape.shapes[p].shape) for p in tape.parameters if p in tape.active]
    if sum(sizes) > LARGEST:
        return {}
    whole, at = np.eye(sum(sizes)), 0
    for p, size in zip((p for p in tape.parameters if p in tape.active), sizes, strict=True):
        made[p], at = whole[at : at + size], at + size
    for place, node in enumerate(tape.nodes):
        edges = [((place, k), i) for k, i in tape.edges(node)]
        outs = [o for o in node.outputs if o in tape.active]
        if not edges or not outs or any(i not in made for _, i in edges):
            continue
        wide = sum(math.prod(tape.shapes[o].shape) for o in outs)
        if wide <= LARGEST:
            scene.work.spend(wide * (len(whole) * wide + 1e4))
            made |= _through(scene, edges, outs, made, len(whole))
    return made


def _through(scene: Scene, edges: list[tuple[Edge, int]], outs: list[int], made: dict, n: int) -> dict:
    """The Jacobians of what a step makes, from those of what it reads."""
    tape, found = scene.point.tape, {}
    if edges[0][0] in scene.point.change.factors:
        (out,) = outs
        shape = tape.shapes[out].shape
        rows = np.zeros((*shape, n))
        for key, i in edges:
            own = tape.shapes[i].shape
            below = made[i].reshape(*(1,) * (len(shape) - len(own)), *own, n)
            factor = np.asarray(scene.point.change.factors[key])
            gain = np.asarray(scene.point.change.gains.get(key, 1.0))
            rows = rows + (factor * gain)[..., None] * below
        return {out: np.broadcast_to(rows, (*shape, n)).reshape(-1, n)}
    above = [np.zeros(tape.shapes[o].shape) for o in outs]
    for m, out in enumerate(outs):
        rows = []
        for unit in np.eye(above[m].size):
            parts = scene.point.programs.back(edges[0][0][0], scene.point.change, [
                unit.reshape(a.shape) if j == m else a for j, a in enumerate(above)
            ])  # fmt: skip
            rows.append(sum(np.ravel(part) @ made[i] for part, (_, i) in zip(parts, edges, strict=True)))
        found[out] = np.stack(rows) if rows else np.zeros((0, n))
    return found
