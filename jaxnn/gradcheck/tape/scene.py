"""A point at which a candidate is watched, and its backward pass with parts exchanged."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from jaxnn.gradcheck.tape.budget import Work
from jaxnn.gradcheck.tape.tape import Change, Edge, Layer, Point, Pulled, Structure
from jaxnn.gradcheck.tolerances import COMPUTED, FITTED, ROUNDED

KEPT = 10_000  # numbers of a gradient that is kept for when it is asked for again


class Scene(NamedTuple):
    """A point with the candidate's gradient there and the right one."""

    point: Point
    structure: Structure
    hand: list[np.ndarray]
    reference: list[np.ndarray]
    bound: list[np.ndarray]
    sizes: dict[str, int]  # N, n_x, n_L and the like, where they are known
    derivatives: dict[int, Callable]  # layer → g′, as a compiled function of Z
    loss: Callable
    work: Work  # what may still be computed, of this scene and the others
    muted: tuple[Edge, ...] = ()  # edges that do not count here
    devices: tuple[int, ...] = ()  # among how many the candidate shares its work out itself
    sized: bool = True  # whether its sizes are those that the caller knows
    only: tuple[int, ...] = ()  # the leaves looked at, where the others are made rightly; all if none

    @property
    def wrong(self) -> list[int]:
        """The leaves at which the candidate is not the reference."""
        every = zip(self.hand, self.reference, self.bound, self.rounded, strict=True)
        return [k for k, (g, r, b, least) in enumerate(every) if off_by(g, r, b + least).any()]

    @property
    def rounded(self) -> list[float]:
        """What float32 inside of a side may leave of a leaf of the candidate, where another is far off."""
        return _rounded(self, self.hand)

    @property
    def seen(self) -> tuple[int, ...]:
        """The leaves that are looked at."""
        return self.only or tuple(range(len(self.hand)))


def finite(arrays: Iterable) -> bool:
    """Whether all of them are numbers."""
    return all(np.isfinite(x).all() for x in arrays)


def off_by(g: np.ndarray, p: np.ndarray, bound: np.ndarray, size: float = 0.0) -> np.ndarray:
    """Where two arrays differ by more than a bound and rounding; size: of the leaf, where it is larger."""
    with np.errstate(all="ignore"):
        scale = max(np.abs(p).max(initial=0), np.abs(g).max(initial=0), size)
        return ~((np.abs(g - p) <= bound + COMPUTED * scale) | (g == p))


def _rounded(scene: Scene, gradient: list[np.ndarray]) -> list[float]:
    """What float32 inside of either side may leave of a gradient's difference from the right one.

    It goes with what is off, for a mistake as small as that is none of rounding.
    """
    with np.errstate(all="ignore"):
        sides = list(zip(gradient, scene.reference, strict=True))
        tops = [max(np.abs(g).max(initial=0), np.abs(r).max(initial=0)) for g, r in sides]
        shares = [np.abs(g - r).max(initial=0) / t for (g, r), t in zip(sides, tops, strict=True) if t > 0]
        share = min(max((x for x in shares if np.isfinite(x)), default=0.0), 1.0)
        return [ROUNDED * share * t if np.isfinite(t) else 0.0 for t in tops]


def fits(scene: Scene, prediction: list[np.ndarray], leaves=None) -> bool:
    """Whether a predicted gradient is the candidate's, up to rounding."""
    if any(np.shape(p) != g.shape for p, g in zip(prediction, scene.hand, strict=True)):
        return False
    with np.errstate(all="ignore"):
        rounded = None
        for k in scene.seen if leaves is None else leaves:
            g, p, r = scene.hand[k], np.asarray(prediction[k]), scene.reference[k]
            top, size = np.abs(r).max(initial=0), np.abs(p).max(initial=0)
            stretch = max(1.0, size / top) if top > 0 and np.isfinite(size) else 1.0
            # what cancels is far larger than what is left of it, and no measure of a bound
            bound = np.minimum(scene.bound[k] * stretch, np.maximum(scene.bound[k], FITTED * size))
            if off_by(g, p, bound, top).any():
                if not np.abs(g - p).max() <= np.max(bound) + 2 * ROUNDED * max(top, size):
                    return False
                rounded = rounded or _rounded(scene, prediction)
                if off_by(g, p, bound + rounded[k], top).any():
                    return False
    return True


def telling(scene: Scene, prediction: list[np.ndarray]) -> bool:
    """Whether a predicted gradient is another than the right one here."""
    sides = ((np.asarray(prediction[k]), scene.reference[k], scene.bound[k]) for k in scene.seen)
    return any(off_by(*one).any() for one in sides)


def changed(
    scene: Scene, factors=None, operands=None, gains=None, given=None, added=None, taken=None, moved=None
) -> Change:
    """The right backward pass with these parts exchanged; `given` and `added` by value, the rest by edge."""
    right, given, added = scene.point.change, given or {}, added or {}
    return Change(
        right.factors | factors if factors else right.factors,
        right.operands | operands if operands else right.operands,
        right.gains | gains if gains else right.gains,
        right.given | given | added,
        right.free | dict.fromkeys(given, 0.0),
        taken or {},
        moved or {},
    )


def pulled(scene: Scene, change: Change) -> Pulled:
    """The backward pass with a change, done again only from where it makes a difference."""
    scene.work.spend(0)
    found = scene.point.programs.pull(change, scene.point.pulled)
    scene.work.spend(found.work)
    return found


def backward_with(scene: Scene, **parts) -> tuple[list[np.ndarray], dict[int, np.ndarray]]:
    """The gradient and every value's cotangent, by the backward pass with these parts exchanged."""
    found = pulled(scene, changed(scene, **parts))
    return found.gradient, found.cotangents


def gradient_with(scene: Scene, **parts) -> list[np.ndarray]:
    """The gradient by the backward pass with these parts exchanged, as `changed` takes them."""
    return backward_with(scene, **parts)[0]


def without(scene: Scene, edges: Iterable[Edge]) -> list[np.ndarray]:
    """The gradient without what comes down these edges; that of few numbers is kept."""
    key, known = ("without", frozenset(edges)), scene.point.found
    if key in known:
        return known[key]
    gradient = gradient_with(scene, gains=dict.fromkeys(key[1], 0.0))
    if sum(g.size for g in gradient) <= KEPT:
        known[key] = gradient
    return gradient


def without_penalty(scene: Scene) -> Scene:
    """The scene with the terms of parameters alone taken off both gradients, and not looked at."""
    edges = scene.structure.penalties
    change = changed(scene, gains=dict.fromkeys(edges, 0.0))
    without = pulled(scene, change)
    gradient = without.gradient
    rest = [r - g for r, g in zip(scene.reference, gradient, strict=True)]
    return scene._replace(
        point=scene.point._replace(pulled=without, found={}),
        hand=[h - r for h, r in zip(scene.hand, rest, strict=True)],
        reference=gradient,
        bound=[b + COMPUTED * np.abs(r).max(initial=0) for b, r in zip(scene.bound, rest, strict=True)],
        muted=edges,
    )


def slope_at(scene: Scene, layer: Layer, z: np.ndarray | None) -> np.ndarray | None:
    """g′(z) with the g of a layer, at any z of the shape of Z[l]."""
    f = scene.derivatives.get(layer.number)
    if f is None or z is None or np.shape(z) != scene.point.values[layer.z].shape:
        return None
    return np.asarray(f(z, scene.point.values))


def derivative(scene: Scene, layer: Layer) -> np.ndarray:
    """g′(Z[l]) as autodiff has it; ones where no activation function follows."""
    where = activation_edge(scene, layer)
    if where is None:
        return np.ones_like(scene.point.values[layer.z])
    return np.asarray(scene.point.change.factors[where])


def activation_edge(scene: Scene, layer: Layer) -> Edge | None:
    """The edge by which Z goes into the step that is g."""
    if layer.activation is None:
        return None
    return layer.activation, scene.point.tape.nodes[layer.activation].inputs.index(layer.z)
