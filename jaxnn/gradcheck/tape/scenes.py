"""The points at which a candidate is watched: the caller's, and generic ones of other sizes."""

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

from jaxnn.gradcheck.jaxprs.by_numpy import by_numpy
from jaxnn.gradcheck.jaxprs.equations import mapped_axes
from jaxnn.gradcheck.tape.axes import Axes, axes_of, generic, parameter_leaves
from jaxnn.gradcheck.tape.backward import point
from jaxnn.gradcheck.tape.layers import structure
from jaxnn.gradcheck.tape.scene import Scene
from jaxnn.gradcheck.tape.tape import Point, Structure, Tape
from jaxnn.gradcheck.tape.trace import trace
from jaxnn.gradcheck.tape.work import Work

FEW_TURNS = 3  # of a loop over time, that show what one turn does wrong


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
    if layout.products:
        for layer, name in ((layout.products[0], "n_x"), (layout.products[-1], "n_L")):
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
            if name == "n_x" and (len(axes.examples) > 1 or "N" not in sizes):  # time, or examples?
                free = [a for a in range(len(rows)) if a not in (*contract[side], *batch[side])]
                sizes["N"] = int(np.prod([rows[a] for a in free[:1]]))
    return sizes


def called(gradient: Callable, args: tuple) -> list[np.ndarray] | None:
    """The leaves of a candidate at args, run by NumPy where it can be traced; None where it raises."""
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


def _devices(gradient: Callable, args: tuple) -> tuple[int, ...]:
    """The sizes of the axes of devices that a candidate maps over, and of all of them together."""
    if jax.device_count() == 1:
        return ()
    try:
        return tuple(sorted(mapped_axes(jax.make_jaxpr(gradient)(*args)) - {1}))
    except Exception:  # a candidate that cannot be traced: anything may be in it
        return (jax.device_count(),)


class View(NamedTuple):
    """A loss at a point, whoever differentiates it."""

    point: Point
    structure: Structure
    sizes: dict[str, int]
    derivatives: dict[int, Callable]


class Views(NamedTuple):
    """A loss and the points it is looked at from; seen: those there have been, by how they were made."""

    loss: Callable
    args: tuple
    argnums: Any
    axes: Axes
    tape: Tape
    seen: dict[tuple, View | None]


def views_of(loss: Callable, args: tuple, argnums: int | tuple[int, ...] = 0) -> Views:
    """What the scenes of all candidates for one gradient share."""
    return Views(loss, args, argnums, axes_of(loss, args, argnums), trace(loss, args, argnums), {})


def _view(views: Views, tape: Tape, args: tuple, kin: View | None = None) -> View:
    here = point(tape, args, kin.point.programs if kin else None)
    layout = kin.structure if kin else structure(tape)
    sizes = _sizes(tape, layout, views.axes, jax.tree.leaves(args))
    return View(here, layout, sizes, kin.derivatives if kin else _derivatives(tape, layout))


def _given(views: Views) -> View:
    if () not in views.seen:
        views.seen[()] = _view(views, views.tape, views.args)
    view = views.seen[()]
    assert view is not None
    return view


def _like(views: Views, tier: dict, kin: View | None = None) -> View | None:
    """The view from generic arguments where the loss is defined and finite, if there are such."""
    key = tuple(sorted(tier.items()))
    if key not in views.seen:
        views.seen[key] = _found(views, tier, kin)
    return views.seen[key]


def _found(views: Views, tier: dict, kin: View | None) -> View | None:
    for nearby in (False, True):
        there = generic(views.loss, views.args, views.argnums, views.axes, nearby=nearby, **tier)
        if there is None:
            continue
        tape = kin.point.tape if kin else trace(views.loss, there, views.argnums)
        if [n.name for n in tape.nodes] != [n.name for n in views.tape.nodes]:
            return None
        view = _view(views, tape, there, kin)
        if np.isfinite(view.point.values[tape.output]) and all(
            np.isfinite(r).all() for r in view.point.gradient
        ):
            return view
    return None


def _shrunk(views: Views, kin: View) -> View | None:
    """The view from parameters halved until autodiff is finite: the output saturates less."""
    key = (("shrunk", True),)
    if key not in views.seen:
        views.seen[key] = None
        own = parameter_leaves(views.args, views.argnums)
        leaves, tree = jax.tree.flatten(views.args)
        for k in range(1, 8):
            near = [np.asarray(x) / 2**k if mine else x for x, mine in zip(leaves, own, strict=True)]
            view = _view(views, kin.point.tape, jax.tree.unflatten(tree, near), kin)
            if all(np.isfinite(r).all() for r in view.point.gradient):
                views.seen[key] = view
                break
    return views.seen[key]


def _scene(view: View, loss: Callable, gradient: Callable, work: Work) -> Scene | None:
    """The candidate there; None where it raises or returns another structure."""
    hand = called(gradient, view.point.args)
    reference = [np.asarray(x, np.float64) for x in view.point.gradient]
    if hand is None or [h.shape for h in hand] != [r.shape for r in reference]:
        return None
    bound = [np.zeros(())] * len(hand)
    return Scene(view.point, view.structure, hand, reference, bound, view.sizes, view.derivatives, loss, work)


def scenes_for(views: Views, gradient, hand, reference, bound, work: Work, alike=False) -> list[Scene]:
    """The caller's scene first, then one or two at generic points, of other sizes where that works.

    hand, reference, bound: the leaves at the caller's point. With `alike`, generic points of the
    caller's own sizes only.
    """
    here = _given(views)
    if [h.shape for h in hand] != [r.shape for r in reference]:
        raise ValueError("the gradient has another structure than the parameters")
    devices = _devices(gradient, views.args)
    first = Scene(
        here.point, here.structure, hand, reference, bound, here.sizes, here.derivatives, views.loss, work
    )
    first = first._replace(devices=devices)
    few = 4 if first.sizes.get("N") == 3 else 3
    tiers = [{"examples": few}, {"examples": few, "squares": True}]
    tiers += [{"examples": few, "only_examples": True}] * bool(views.axes.examples)
    if len(views.axes.examples) > 1:  # rows picked by their number: two axes that nothing else connects
        tiers += [{**tier, "together": True} for tier in tiers]
    for tier in ([] if alike else tiers) + [{"examples": None}]:
        there = _like(views, {"seed": 11, **tier})
        one = _scene(there, views.loss, gradient, work) if there else None
        if there is None or one is None:
            continue
        other = _like(views, {"seed": 12, **tier}, there)
        two = _scene(other, views.loss, gradient, work) if other else None
        scenes = [first, *(s._replace(devices=devices) for s in (one, two) if s)]
        break
    else:
        scenes = [first]
    finite = all(np.isfinite(r).all() for r in reference)
    if not finite and not any(s.wrong for s in scenes[1:]) and (shrunk := _shrunk(views, here)):
        less = _scene(shrunk, views.loss, gradient, work)
        scenes[1:1] = [less._replace(devices=devices)] if less else []
    return scenes


def in_few_turns(views: Views, gradient: Callable, work: Work) -> list[Scene]:
    """Scenes of the same loss with data for a few turns of its loop over time; empty if there is none.

    What one turn does wrong shows there too, and a loop too long to be looked at step by step is not.
    """
    turns = _turns(_given(views))
    own = parameter_leaves(views.args, views.argnums)
    leaves, tree = jax.tree.flatten(views.args)
    long = [
        (n, axis)
        for n, (classes, mine) in enumerate(zip(views.axes.leaves, own, strict=True))
        for axis, c in enumerate(classes)
        if not mine and views.axes.sizes[c] == turns > FEW_TURNS and c in views.axes.examples
    ]
    together = [[place for place in long if place[1] == axis] for axis in sorted({a for _, a in long})]
    alone = [[place] for place in long if [place] not in together]  # N may be as large
    for places in (*together, *alone):
        few = list(leaves)
        for n, axis in places:
            few[n] = np.asarray(few[n])[(slice(None),) * axis + (slice(FEW_TURNS),)]
        args = jax.tree.unflatten(tree, few)
        hand = called(gradient, args)
        try:
            shorter = views_of(views.loss, args, views.argnums)
            here = _given(shorter)
        except Exception:  # another axis of that size, which the loss takes at no other
            continue
        reference = [np.asarray(r, np.float64) for r in here.point.gradient]
        if hand is None or _turns(here) > FEW_TURNS:
            continue
        if [h.shape for h in hand] != [r.shape for r in reference]:
            continue
        scenes = scenes_for(shorter, gradient, hand, reference, [np.zeros(())] * len(hand), work)
        return scenes if any(s.wrong for s in scenes) else []
    return []


def _turns(view: View) -> int:
    """How many turns the longest loop of a loss takes, unrolled or not."""
    nodes = view.point.tape.nodes
    spots = Counter((nodes[y.place].line, nodes[y.place].spot, y.weight) for y in view.structure.turns)
    return max([*spots.values(), *(n.params["length"] for n in nodes if n.name == "scan")], default=0)
