"""The points at which a candidate is watched: the caller's, and generic ones of other sizes."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

from jaxnn.gradcheck.axes import Axes, axes_of, generic
from jaxnn.gradcheck.structure import Layer, Structure, structure
from jaxnn.gradcheck.tape import Change, Point, Tape, by_numpy, edge, point, trace

SLACK = 1e-10  # of a leaf's largest entry: what two right computations may differ by at a generic point


class Scene(NamedTuple):
    """A point with the candidate's gradient there and the right one."""

    point: Point
    structure: Structure
    hand: list[np.ndarray]
    reference: list[np.ndarray]
    bound: list[np.ndarray]
    sizes: dict[str, int]  # N, n_x, n_L and the like, where they are known
    derivatives: dict[int, Callable]  # layer → g′, as a compiled function of Z
    muted: tuple[tuple[int, int], ...] = ()  # edges that do not count here

    @property
    def wrong(self) -> list[int]:
        """The leaves at which the candidate is not the reference."""
        return [
            k
            for k, (g, r) in enumerate(zip(self.hand, self.reference, strict=True))
            if not _within(g, r, self.bound[k])
        ]


def _within(g, p, bound, size=0.0) -> bool:
    with np.errstate(all="ignore"):
        scale = max(np.abs(p).max(initial=0), np.abs(g).max(initial=0), size)
        return bool(np.all((np.abs(g - p) <= bound + SLACK * scale) | (g == p)))


def fits(scene: Scene, prediction: list[np.ndarray], leaves=None) -> bool:
    """Whether a predicted gradient is the candidate's, up to rounding."""
    with np.errstate(all="ignore"):
        for k in range(len(scene.hand)) if leaves is None else leaves:
            g, p, r = scene.hand[k], np.asarray(prediction[k]), scene.reference[k]
            if p.shape != g.shape:
                return False
            top = np.abs(r).max(initial=0)
            stretch = max(1.0, np.abs(p).max(initial=0) / top) if top > 0 else 1.0
            if not _within(g, p, scene.bound[k] * (stretch if np.isfinite(stretch) else 1.0), top):
                return False
    return True


def telling(scene: Scene, prediction: list[np.ndarray]) -> bool:
    """Whether a predicted gradient is another than the right one here."""
    return any(
        not _within(np.asarray(p), r, b)
        for p, r, b in zip(prediction, scene.reference, scene.bound, strict=True)
    )


def changed(scene: Scene, factors=None, operands=None, gains=None, given=None, added=None) -> Change:
    """The right backward pass with these parts exchanged; `given` by value, the rest by edge."""
    right = scene.point.change
    new_given, free = dict(right.given), dict(right.free)
    for v, x in (given or {}).items():
        new_given[str(v)] = np.asarray(x, np.float64)
        free[str(v)] = np.zeros((), np.float64)
    for v, x in (added or {}).items():
        new_given[str(v)] = np.asarray(x, np.float64)
    return Change(
        {**right.factors, **{edge(*e): np.asarray(x) for e, x in (factors or {}).items()}},
        {**right.operands, **{edge(*e): np.asarray(x) for e, x in (operands or {}).items()}},
        {**right.gains, **{edge(*e): np.asarray(x, float) for e, x in (gains or {}).items()}},
        new_given,
        free,
    )


def without_penalty(scene: Scene) -> Scene:
    """The scene with the terms of parameters alone taken off both gradients, and not looked at."""
    edges = scene.structure.penalties
    change = changed(scene, gains={e: 0.0 for e in edges})
    gradient, cotangents = scene.point.pull(change)
    rest = [r - g for r, g in zip(scene.reference, gradient, strict=True)]
    return scene._replace(
        point=scene.point._replace(change=change, gradient=gradient, cotangents=cotangents),
        hand=[h - r for h, r in zip(scene.hand, rest, strict=True)],
        reference=gradient,
        bound=[b + SLACK * np.abs(r).max(initial=0) for b, r in zip(scene.bound, rest, strict=True)],
        muted=edges,
    )


def slope_at(scene: Scene, layer: Layer, z: np.ndarray) -> np.ndarray | None:
    """g′(z) with the g of a layer, at any z of the shape of Z[l]."""
    f = scene.derivatives.get(layer.number)
    if f is None or np.shape(z) != scene.point.values[layer.z].shape:
        return None
    return np.asarray(f(z, scene.point.values))


def derivative(scene: Scene, layer: Layer) -> np.ndarray:
    """g′(Z[l]) as autodiff has it; ones where no activation function follows."""
    where = activation_edge(scene, layer)
    if where is None:
        return np.ones_like(scene.point.values[layer.z])
    return np.asarray(scene.point.change.factors[edge(*where)])


def activation_edge(scene: Scene, layer: Layer) -> tuple[int, int] | None:
    """The edge by which Z goes into the step that is g."""
    if layer.activation is None:
        return None
    return layer.activation, scene.point.tape.nodes[layer.activation].inputs.index(layer.z)


def _derivatives(tape, shape_of) -> dict[int, Callable]:
    out = {}
    for layer in shape_of.layers:
        if layer.activation is None:
            continue
        node = tape.nodes[layer.activation]
        k = node.inputs.index(layer.z)
        rest = [i for i in node.inputs if not isinstance(i, Literal) and i != layer.z]

        def slope(z, held, node=node, k=k, rest=rest):
            known = dict(zip(rest, held, strict=True))
            read = [i.val if isinstance(i, Literal) else known.get(i) for i in node.inputs]

            def alone(x):
                return node.apply(*read[:k], x, *read[k + 1 :])[0]

            return jax.jvp(alone, (z,), (jnp.ones_like(z),))[1]

        traced = by_numpy(slope, tape.shapes[layer.z], [tape.shapes[i] for i in rest])
        out[layer.number] = lambda z, values, traced=traced, rest=rest: traced(
            np.asarray(z, np.float64), [values[i] for i in rest]
        )
    return out


def _sizes(tape, layout: Structure, axes: Axes, leaves: list) -> dict[str, int]:
    sizes = {}
    shapes = [np.shape(x) for x in leaves]
    lookup = {c: s[a] for s, cs in zip(shapes, axes.leaves, strict=True) for a, c in enumerate(cs)}
    for name, classes in (("N", axes.examples), ("n_x", axes.inputs), ("n_L", axes.outputs)):
        if classes:
            sizes[name] = lookup[min(classes)]
    if layout.layers:
        for layer, name in ((layout.layers[0], "n_x"), (layout.layers[-1], "n_L")):
            node = tape.nodes[layer.place]
            if node.name != "dot_general":
                continue
            contract, batch = node.params["dimension_numbers"]
            side = layer.input_side
            weight = tape.shapes[node.inputs[1 - side]].shape
            rows = tape.shapes[layer.before].shape
            if name == "n_x":
                sizes["n_x"] = int(np.prod([rows[a] for a in contract[side]]))
            else:
                free = [a for a in range(len(weight)) if a not in (*contract[1 - side], *batch[1 - side])]
                sizes["n_L"] = int(np.prod([weight[a] for a in free]))
            if "N" not in sizes:
                free = [a for a in range(len(rows)) if a not in (*contract[side], *batch[side])]
                sizes["N"] = int(np.prod([rows[a] for a in free[:1]]))
    return sizes


def _called(gradient: Callable, args: tuple) -> list[np.ndarray] | None:
    """The candidate at args, run by NumPy where it can be traced; None where it raises."""
    try:
        return _as_list(by_numpy(gradient, *args)(*args))
    except Exception:
        pass
    try:
        return _as_list(gradient(*args))
    except Exception:
        return None


def _as_list(tree) -> list[np.ndarray]:
    return [np.asarray(x, np.float64) for x in jax.tree.leaves(tree)]


class Watch(NamedTuple):
    """A loss and a candidate, ready to be looked at anywhere."""

    loss: Callable
    gradient: Callable
    args: tuple
    argnums: Any
    axes: Axes


def scene_at(
    watch: Watch, tape: Tape, args: tuple, hand=None, reference=None, bound=None, kin: Scene | None = None
) -> Scene | None:
    """The scene at args; None where the candidate raises or returns another structure there."""
    if hand is None and (hand := _called(watch.gradient, args)) is None:
        return None
    here = point(tape, args, kin.point.programs if kin else None)
    if reference is None:
        reference = [np.asarray(x, np.float64) for x in here.gradient]
    if [h.shape for h in hand] != [r.shape for r in reference]:
        return None
    layout = kin.structure if kin else structure(tape, args, watch.argnums)
    return Scene(
        here,
        layout,
        hand,
        reference,
        [np.zeros(())] * len(hand) if bound is None else bound,
        _sizes(tape, layout, watch.axes, jax.tree.leaves(args)),
        kin.derivatives if kin else _derivatives(tape, layout),
    )


def scenes_for(loss, gradient, args, argnums, hand, reference, bound, alike=False) -> list[Scene]:
    """The caller's scene first, then one or two at generic points, of other sizes where that works.

    With `alike`, generic points of the caller's own sizes only.
    """
    watch = Watch(loss, gradient, args, argnums, axes_of(loss, args, argnums))
    tape = trace(loss, args, argnums)
    first = scene_at(watch, tape, args, hand, reference, bound)
    if first is None:
        raise ValueError("the gradient has another structure than the parameters")
    few = 4 if first.sizes.get("N") == 3 else 3
    tiers = [{"examples": few}, {"examples": few, "squares": True}]
    tiers += [{"examples": few, "only_examples": True}] * bool(watch.axes.examples)
    for tier in ([] if alike else tiers) + [{"examples": None}]:
        one = _scene_like(watch, tape, {"seed": 11, **tier})
        if one is None:
            continue
        two = _scene_like(watch, tape, {"seed": 12, **tier}, one)
        return [first, one, *([two] if two else [])]
    return [first]


def _scene_like(watch: Watch, tape: Tape, tier: dict, kin: Scene | None = None) -> Scene | None:
    """A scene at generic arguments where loss and candidate are defined and the loss is finite."""
    for nearby in (False, True):
        there = generic(watch.loss, watch.args, watch.argnums, watch.axes, nearby=nearby, **tier)
        if there is None:
            continue
        other = kin.point.tape if kin else trace(watch.loss, there, watch.argnums)
        if [n.name for n in other.nodes] != [n.name for n in tape.nodes]:
            return None
        scene = scene_at(watch, other, there, kin=kin)
        if scene is None:
            return None
        if np.isfinite(scene.point.values[other.output]) and all(
            np.isfinite(r).all() for r in scene.reference
        ):
            return scene
    return None
