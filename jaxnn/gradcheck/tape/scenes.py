"""The points at which a candidate is watched: the caller's, and generic ones of other sizes."""

import math
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxnn.gradcheck.jaxprs.by_numpy import by_numpy
from jaxnn.gradcheck.jaxprs.eager import op_by_op
from jaxnn.gradcheck.jaxprs.equations import mapped_axes
from jaxnn.gradcheck.tape.axes import Axes, axes_of, generic, parameter_leaves
from jaxnn.gradcheck.tape.backward import point
from jaxnn.gradcheck.tape.budget import Work
from jaxnn.gradcheck.tape.layers import structure
from jaxnn.gradcheck.tape.scene import Scene, finite
from jaxnn.gradcheck.tape.tape import Layer, Structure, Tape
from jaxnn.gradcheck.tape.trace import trace
from jaxnn.gradcheck.tolerances import ROUNDED

NOISE = 1e-14  # of the largest entry of all: what is left of a gradient that is 0 by an invariance
SEEDS = (11, 12, 13, 14)  # of generic points: two, and more where nothing is wrong at those
FEW_TURNS = 3  # of a loop over time, that show what one turn does wrong


def _derivative(tape: Tape, layer: Layer) -> Callable:
    """g′, of Z and of all values of the tape."""
    node = tape.nodes[layer.activation or 0]
    k, rest = node.inputs.index(layer.z), [i for i in node.reads if i != layer.z]

    def slope(z, *held):
        return node.slope(node.given(dict(zip((layer.z, *rest), (z, *held), strict=True))), k)

    run = by_numpy(slope, *(tape.shapes[i] for i in (layer.z, *rest)))
    return lambda z, values: run(np.asarray(z, np.float64), *(values[i] for i in rest))


def _inner_and_free(tape: Tape, layer: Layer, side: int) -> tuple[list[int], list[int]]:
    """The sizes of an operand's axes: those that are summed over, and the others."""
    node = tape.nodes[layer.place]
    inner, batch = (axes[side] for axes in node.params["dimension_numbers"])
    shape = tape.shapes[node.inputs[side]].shape
    return [shape[a] for a in inner], [n for a, n in enumerate(shape) if a not in (*inner, *batch)]


def _sizes(tape: Tape, layout: Structure, axes: Axes, args: tuple) -> dict[str, int]:
    """N, n_x and n_L, as far as they can be told."""
    lookup = {
        c: n
        for x, classes in zip(jax.tree.leaves(args), axes.leaves, strict=True)
        for c, n in zip(classes, np.shape(x), strict=True)
    }
    named = {"N": axes.examples, "n_x": axes.inputs, "n_L": axes.outputs}
    sizes = {name: lookup[min(classes)] for name, classes in named.items() if classes}
    first, last = (
        [y for y in some if tape.nodes[y.place].name == "dot_general"]
        for some in (layout.products[:1], layout.products[-1:])
    )
    for y in first:
        inner, free = _inner_and_free(tape, y, y.input_side)
        sizes["n_x"] = math.prod(inner)
        if len(axes.examples) > 1 or "N" not in sizes:  # time, or examples?
            sizes["N"] = math.prod(free[:1])
    for y in last:
        sizes["n_L"] = math.prod(_inner_and_free(tape, y, 1 - y.input_side)[1])
    return sizes


def called(gradient: Callable, args: tuple) -> list[np.ndarray] | None:
    """The leaves of a candidate at args, run by NumPy where it can be traced; None where it raises."""
    for run in (lambda: by_numpy(gradient, *args)(*args), lambda: gradient(*args)):
        try:
            with op_by_op():
                return _as_list(run())
        except Exception:  # whatever code that is not ours raises at arguments of our making
            continue
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


class Views(NamedTuple):
    """A loss and the points it is looked at from, each as a scene of a candidate that is right.

    seen: those there have been, by how they were made; None where there is no such point; merged: whether
    an activation function of many steps is one of its tape.
    """

    loss: Callable
    args: tuple
    argnums: Any
    axes: Axes
    given: Scene
    seen: dict[tuple, Scene | None]
    merged: bool = True


def views_of(loss: Callable, args: tuple, argnums: int | tuple[int, ...] = 0, merged: bool = True) -> Views:
    """What the scenes of all candidates for one gradient share."""
    axes = axes_of(loss, args, argnums)
    tape = trace(loss, args, argnums, merged)
    return Views(loss, args, argnums, axes, _view(loss, axes, tape, args), {}, merged)


def step_by_step(views: Views) -> Views | None:
    """The same with every step of an activation function for itself; None where it is so already."""
    many = views.merged and any("+" in node.name for node in views.given.point.tape.nodes)
    return views_of(views.loss, views.args, views.argnums, merged=False) if many else None


def _view(loss: Callable, axes: Axes, tape: Tape, args: tuple, kin: Scene | None = None) -> Scene:
    """The scene at args; kin: one of the same tape."""
    here = point(tape, args, kin and kin.point.programs)
    layout = kin.structure if kin else structure(tape)
    active = [y for y in layout.layers if y.activation is not None]
    derivatives = kin.derivatives if kin else {y.number: _derivative(tape, y) for y in active}
    right, sizes = _as_list(here.gradient), _sizes(tape, layout, axes, args)
    top = max((np.abs(r).max(initial=0) for r in right if np.isfinite(r).all()), default=0.0)
    bound = [np.full((), NOISE * top)] * len(right)
    return Scene(here, layout, right, right, bound, sizes, derivatives, loss, Work())


def _generic(views: Views, tier: dict, kin: Scene | None = None) -> Scene | None:
    """The view from generic arguments where the loss is defined and finite, if there are such."""
    for nearby in (False, True):
        there = generic(views.loss, views.args, views.argnums, views.axes, nearby=nearby, **tier)
        if there is None:
            continue
        tape = kin.point.tape if kin else trace(views.loss, there, views.argnums, views.merged)
        here, own = ([(n.name, n.reads, n.outputs) for n in t.nodes] for t in (tape, views.given.point.tape))
        if here != own:
            return None  # values would be spoken of by numbers that mean others there
        view = _view(views.loss, views.axes, tape, there, kin)
        if finite((view.point.values[tape.output], *view.reference)):
            return view
    return None


def _shrunk(views: Views) -> Scene | None:
    """The view from parameters halved until autodiff is finite: the output saturates less."""
    own = parameter_leaves(views.args, views.argnums)
    leaves, tree = jax.tree.flatten(views.args)
    for k in range(1, 8):
        near = [np.asarray(x) / 2**k if mine else x for x, mine in zip(leaves, own, strict=True)]
        args = jax.tree.unflatten(tree, near)
        view = _view(views.loss, views.axes, views.given.point.tape, args, views.given)
        if finite(view.reference):
            return view
    return None


def _alike(hand: list[np.ndarray] | None, view: Scene) -> bool:
    """Whether a candidate returned what has the shapes of the parameters."""
    return hand is not None and [h.shape for h in hand] == [r.shape for r in view.reference]


def scenes_for(views: Views, gradient, hand, reference, bound, work: Work, alike=False) -> list[Scene]:
    """The caller's scene first, then one or two at generic points, of other sizes where that works.

    hand, reference, bound: the leaves at the caller's point. With `alike`, generic points of the
    caller's own sizes only.
    """
    if not _alike(hand, views.given):
        raise ValueError("the gradient has another structure than the parameters")
    devices = _devices(gradient, views.args)
    known = {"work": work, "devices": devices}

    def at(how: dict, find: Callable[[], Scene | None]) -> list[Scene]:
        """The scene of the candidate there, if it can be called there."""
        key = tuple(sorted(how.items()))
        if key not in views.seen:
            views.seen[key] = find()
        view = views.seen[key]
        own = view and called(gradient, view.point.args)
        return [view._replace(hand=own, **known)] if view and own and _alike(own, view) else []

    own = views.given.reference
    with np.errstate(invalid="ignore"):
        off = [np.abs(o - r) for o, r in zip(own, reference, strict=True)]
    if all((x <= ROUNDED * np.abs(r).max(initial=0)).all() for x, r in zip(off, reference, strict=True)):
        # what the loss does in float32 itself, such as to draw numbers, the tape may round otherwise
        reference, bound = own, [b + x for b, x in zip(bound, off, strict=True)]
    first = views.given._replace(hand=hand, reference=reference, bound=bound, **known)
    few = 4 if first.sizes.get("N") == 3 else 3
    tiers = [{"examples": few}, {"examples": few, "squares": True}]
    tiers += [{"examples": few, "only_examples": True}] * bool(views.axes.examples)
    if len(views.axes.examples) > 1:  # rows picked by their number: two axes that nothing else connects
        tiers += [{**tier, "together": True} for tier in tiers]
    others: list[Scene] = []
    for tier in ([] if alike else tiers) + [{"examples": None}]:
        one, *more = ({"seed": seed, **tier} for seed in SEEDS)
        others = at(one, partial(_generic, views, one))
        for two in more if others else ():
            if len(others) < 2 or not any(s.wrong for s in others):  # indices there may be special by chance
                others += at(two, partial(_generic, views, two, others[0]))
        if others:
            break
    if not finite(reference) and not any(s.wrong for s in others):
        others = at({"shrunk": True}, partial(_shrunk, views)) + others
    return [first, *others]


def in_few_turns(views: Views, gradient: Callable, work: Work) -> list[Scene]:
    """Scenes of the same loss with data for a few turns of its loop over time; empty if there is none.

    What one turn does wrong shows there too, and a loop too long to be looked at step by step is not.
    """
    turns, leaves, tree = _turns(views.given), *jax.tree.flatten(views.args)
    own = parameter_leaves(views.args, views.argnums)
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
        try:
            shorter = views_of(views.loss, args, views.argnums, views.merged)
        except Exception:  # another axis of that size, which the loss takes at no other
            continue
        here, hand = shorter.given, called(gradient, args)
        if _alike(hand, here) and _turns(here) <= FEW_TURNS:
            scenes = scenes_for(shorter, gradient, hand, here.reference, here.bound, work)
            return scenes if any(s.wrong for s in scenes) else []
    return []


def _turns(view: Scene) -> int:
    """How many turns the longest loop of a loss takes, unrolled or not."""
    nodes = view.point.tape.nodes
    spots = Counter((nodes[y.place].line, nodes[y.place].spot, y.weight) for y in view.structure.turns)
    return max([*spots.values(), *(n.params["length"] for n in nodes if n.name == "scan")], default=0)
