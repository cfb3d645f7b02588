"""Which mistake it is: the causes of a wrong gradient, by the names of the report."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.gradcheck.calls.call import Call, first_line, own_copies, path_names
from jaxnn.gradcheck.calls.returned import Calls
from jaxnn.gradcheck.diagnosis import places
from jaxnn.gradcheck.diagnosis.causes import ranked
from jaxnn.gradcheck.diagnosis.states import stale_cause, unsteady_causes
from jaxnn.gradcheck.jaxprs.by_numpy import in_float64
from jaxnn.gradcheck.jaxprs.equations import is_key
from jaxnn.gradcheck.mistakes import precision
from jaxnn.gradcheck.mistakes.catalogue import FAMILIES, LAST, ON_PATHS, Family
from jaxnn.gradcheck.mistakes.finding import UNPLACED, Finding, Leaves, finding
from jaxnn.gradcheck.mistakes.steps.turns import LEFT_OUT
from jaxnn.gradcheck.report.confidence import SURE
from jaxnn.gradcheck.report.model import Cause
from jaxnn.gradcheck.tape.budget import Spent, Work
from jaxnn.gradcheck.tape.names import Names, names_of
from jaxnn.gradcheck.tape.scene import Scene, finite, without_penalty
from jaxnn.gradcheck.tape.scenes import Views, in_few_turns, scenes_for, step_by_step, views_of
from jaxnn.gradcheck.tolerances import FITTED
from jaxnn.gradcheck.verdict.point import Point, Sides, compared, is_coarse


class Diagnosis(NamedTuple):
    """The causes, the likeliest first, and what kept others from being found."""

    causes: list[Cause]
    notes: list[str]


def diagnosed(call: Call, sides: Sides, shown: Point, calls: Calls, eps: float) -> Diagnosis:
    """What is wrong with a gradient that is known to be wrong at the point shown."""
    if not calls.repeatable:
        return Diagnosis(unsteady_causes(call, sides, shown.leaves, calls), [])
    if any(is_coarse(note, call.dtype) for note in shown.hand.notes) and shown.call is call:
        meant = compared(shown.kind, call, shown.leaves, shown.reference, sides.as_meant(shown.leaves))
        if not meant.is_wrong:
            return Diagnosis([_low_precision(shown, call.dtype)], [])
    stale = stale_cause(call, sides, shown, calls, eps)
    if stale is not None:
        return Diagnosis([stale], [])

    args = shown.call.rebuilt(shown.leaves)
    made = {k: jax.tree.map(_maker, args[k]) for k in _kept(call)}
    bound = [pair.bound for pair in shown.pairs]

    def complete(args):
        again = lambda k: jax.tree.map(lambda make: make(), made[k])  # noqa: E731
        return tuple(again(k) if k in made else arg for k, arg in enumerate(args))

    def loss(*args):
        return call.loss(*complete(args))

    def gradient(*args):
        return call.gradient(*own_copies(complete(args)))

    def as_called(*args):
        with jax.enable_x64(False):
            return gradient(*args)

    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        try:
            wide = (lambda f: in_float64(f, call.dtype)) if sides.as_written else lambda f: f
            return find_causes(
                wide(loss),
                as_called if sides.as_written and not sides.program else wide(gradient),
                tuple(None if k in made else arg for k, arg in enumerate(args)),
                call.argnums,
                *(tree_of(shown.call, x) for x in (shown.hand.values, shown.reference.values, bound)),
                names=_names(call, made),
            )
        except Exception as error:  # it is told; the verdict stands without a diagnosis
            return Diagnosis([], [f"the diagnosis stopped with {first_line(error)}"])


def _kept(call: Call) -> set[int]:
    """The arguments that stay what they are: no numbers, or numbers that decide what is computed."""
    owners = [n for n, arg in enumerate(call.args) for _ in jax.tree.leaves(arg)]
    kept = {n for n, arg in enumerate(call.args) if not _numeric(arg)}
    open_ = tuple(k for k, n in enumerate(owners) if n not in kept)
    loss, given = call._replace(dynamic=open_).traceable(call.loss, call.leaves)
    try:
        jax.eval_shape(loss, *given)
    except Exception:  # such as `if training:`, or range(heads)
        kept |= {*owners} - {owners[k] for k in call.dynamic}
    return kept


def _numeric(arg) -> bool:
    """Whether other numbers could stand in its place: not a random key, nor a word or a function."""
    leaves = jax.tree.leaves(arg)
    kinds = jax.Array | np.ndarray | np.generic | int | float | complex
    return all(isinstance(x, kinds) and not is_key(x) for x in leaves)


def _maker(x) -> Callable:
    """A function that returns it; a typed key is made of its numbers, which can be constants."""
    if is_key(x):
        numbers, kind = np.asarray(jax.random.key_data(x)), jax.random.key_impl(x)
        return lambda: jax.random.wrap_key_data(jnp.asarray(numbers), impl=kind)
    return lambda: x


def tree_of(call: Call, flat: list[np.ndarray]):
    """Leaves as a tree like args[argnums]."""
    return jax.tree.unflatten(jax.tree.structure(call.selected(call.args)), flat)


def _names(call: Call, fixed) -> Names:
    """What the report calls the parameters, and the leaves of all arguments that are numbers."""
    every = dict(enumerate(path_names(call.loss, call.args)))
    every |= dict(zip(call.places, call.paths, strict=True))
    owner = [n for n, arg in enumerate(call.args) for _ in jax.tree.leaves(arg)]
    return Names(call.paths, tuple(every[k] for k, n in enumerate(owner) if n not in fixed))


def _low_precision(shown: Point, dtype) -> Cause:
    pinned = [note for note in shown.hand.notes if is_coarse(note, dtype)]
    where = ", ".join(sorted({n.where for n in pinned if n.where})) or "inside the gradient"
    what = " and ".join(sorted({n.what for n in pinned}))
    return Cause(
        precision.LOW.id,
        f"It is computed in {what} on the way, the loss is not; the formula itself is right.",
        where,
        SURE,
        precision.LOW.equation,
    )


def find_causes(
    loss: Callable,
    gradient: Callable,
    args: tuple,
    argnums: int | tuple[int, ...],
    hand: Any,
    reference: Any,
    bound: Any,
    views: Views | None = None,
    names: Names | None = None,
    work: Work | None = None,
) -> Diagnosis:
    """What could be wrong with a gradient that is known to be wrong, the likeliest first.

    `hand`, `reference`, `bound` are trees like args[argnums], at args. Each cause that is sure reproduces
    `hand` there and the candidate at other points. `views`: what is known of this loss at these args
    already (`views_of`), where many candidates are held against it; `work`: how much may be done.
    """
    names, work = names or names_of(args, argnums), work or Work()
    notes: list[str] = []
    with jax.enable_x64(True):
        hand, reference, bound = (
            [np.asarray(x, np.float64) for x in jax.tree.leaves(t)] for t in (hand, reference, bound)
        )
        sides = hand, reference, bound
        views = views or views_of(loss, args, argnums)
        given, *others = scenes_for(views, gradient, hand, reference, bound, work)
        scenes = _clear([given, *others])
        found, homes = [], [views.given]
        try:
            for one in _found(views, gradient, scenes, sides, homes, notes):
                found.append(one)
        except Spent as spent:
            notes.append(_ended(spent))
        if not found:
            alone = [s._replace(work=Work()) for s in scenes] if notes else scenes
            found, spent = places.placed(given, alone, names, places.decided(reference, bound))
            notes += [_ended(spent)] if spent and not notes else []
    whole = len(scenes) > 1 and not notes
    return Diagnosis(ranked(found or [_faint(scenes[0])], names, homes, whole), notes)


def _ended(spent: Spent) -> str:
    return f"the search for the mistake ended before all was tried, {spent}: nothing of it is sure"


def _found(
    views: Views, gradient: Callable, scenes: list[Scene], sides: tuple, homes: list[Scene], notes: list[str]
) -> Iterator[Finding]:
    """What predicts the candidate: a mistake of the catalogue; if none does, one that is only placed.

    homes: the caller's scene, as every tape has it that is looked at.
    """
    found = yield from _of_families(scenes, FAMILIES, notes)
    if any(not f.mistake.loose for f in found):
        return
    tapes = [views, *filter(None, [step_by_step(views)])]
    homes += [seen.given for seen in tapes[1:]]
    few: list[Scene] = []
    for seen in tapes:
        there = scenes if seen is views else scenes_for(seen, gradient, *sides, work=scenes[0].work)
        few = _clear(in_few_turns(seen, gradient, scenes[0].work)) or _clear(there)
        if (yield from _of_families(few, ON_PATHS, notes)):
            return
    if (yield from _of_families(few, LAST[:1] if found else LAST, notes)) or found:
        return
    for find in (precision.low_precision, precision.few_digits):
        if rounded := find(views.loss, gradient, scenes):
            yield rounded
            return
    for seen in tapes if len(scenes) > 1 else ():
        # a size written into the candidate's code: only points of the caller's own sizes tell
        alike = _clear(scenes_for(seen, gradient, *sides, work=scenes[0].work, alike=True))
        for one in _of_families(alike, (*FAMILIES, *ON_PATHS) if seen is views else ON_PATHS, notes):
            if not one.mistake.loose or one.mistake is LEFT_OUT:
                found.append(one)
                yield one._replace(sure=False)
        if found:
            return


def _of_families(scenes: list[Scene], families: tuple[Family, ...], notes: list[str]):
    """What the families find, one by one, and all of it at the end; one that fails is noted."""
    found: list[Finding] = []
    views = [scenes]
    if scenes[0].structure.penalties:
        views.append([without_penalty(s) for s in scenes])
    for view in views:
        for family in families:
            try:
                for one in family.search(view):
                    found.append(one)
                    yield one
            except Spent:
                raise
            except Exception as error:  # it is told; the other families may still find it
                told = f"mistakes in {family.quantity} could not be tried ({first_line(error)})"
                notes.append(f"{told}: nothing is sure")
    return found


def _clear(scenes: list[Scene]) -> list[Scene]:
    """Those where both sides are numbers, and at no kink, if one of them shows the mistake; else all."""
    for kept in (lambda s: _is_finite(s) and _is_smooth(s), _is_finite):
        told = [*filter(kept, scenes)]
        if any(s.wrong for s in told):
            return told
    return scenes


def _is_finite(scene: Scene) -> bool:
    return finite((*scene.hand, *scene.reference))


def _is_smooth(scene: Scene) -> bool:
    """Whether each step has one value: at a kink autodiff's bound reaches to all that it can be."""
    sides = zip(scene.reference, scene.bound, strict=True)
    return finite(scene.point.cotangents.values()) and all(
        (b <= FITTED * np.abs(r).max(initial=0)).all() for r, b in sides if r.any()
    )


def _faint(scene: Scene) -> Finding:
    """The leaf that is most off, where all are right but for a difference near rounding."""
    with np.errstate(all="ignore"):
        sizes = [
            np.nanmax(np.abs(g - r) / np.where(b > 0, b, 1), initial=0)
            for g, r, b in zip(scene.hand, scene.reference, scene.bound, strict=True)
        ]
    says = "The difference, the largest in {of}, is too small for its cause to be told."
    return finding(UNPLACED, says, "{of}", 9, of=Leaves((int(np.argmax(sizes)),)))
