"""Which mistake it is: the causes of a wrong gradient, by the names of the report."""

import re
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.gradcheck.calls.call import Call, first_line, path_names
from jaxnn.gradcheck.calls.returned import Calls, own_copies
from jaxnn.gradcheck.diagnosis import places
from jaxnn.gradcheck.diagnosis.precision import few_digits, low_precision
from jaxnn.gradcheck.diagnosis.states import stale_cause, unsteady_causes
from jaxnn.gradcheck.mistakes import (
    entries,
    examples,
    factors,
    inputs,
    outputs,
    paths,
    penalties,
    swaps,
    values,
)
from jaxnn.gradcheck.mistakes.catalogue import MISTAKES
from jaxnn.gradcheck.mistakes.finding import Finding, OutOfTime
from jaxnn.gradcheck.report.model import Cause
from jaxnn.gradcheck.tape.scene import Scene, without_penalty
from jaxnn.gradcheck.tape.scenes import Views, in_few_turns, scenes_for, views_of
from jaxnn.gradcheck.verdict.point import Point, Sides, compared, is_coarse

PATIENCE = 3.0  # seconds of computing after which no further mistake is tried
LONGER = 3.0  # so many more for what a loop over time can do wrong
FAMILIES: tuple[Callable, ...] = (
    outputs.saturated,
    factors.scaled,
    penalties.penalised,
    entries.rearranged,
    examples.weighted,
    swaps.exchanged,
    values.masks_forgotten,
    outputs.mistaken_error,
    inputs.elsewhere,
    inputs.mean_label_sum,
    values.updated_weights,
    outputs.clipped_log,
    paths.turns_left_out,
)
ON_PATHS: tuple[Callable, ...] = (paths.scaled, values.mistaken, paths.both_ignored)


def diagnosed(
    call: Call, sides: Sides, shown: Point, calls: Calls, eps: float
) -> tuple[list[Cause], list[str]]:
    """The causes, the likeliest first, and what kept them from being found."""
    if not calls.repeatable:
        return unsteady_causes(call, sides, shown.leaves, calls), []
    if any(is_coarse(note, call.dtype) for note in shown.hand.notes) and shown.call is call:
        meant = compared(shown.kind, call, shown.leaves, shown.reference, sides.as_meant(shown.leaves))
        if not meant.is_wrong:
            return [_low_precision(shown, call.dtype)], []
    stale = stale_cause(call, sides, shown, calls, eps)
    if stale is not None:
        return [stale], []

    args = shown.call.rebuilt(shown.leaves)
    fixed = {
        k: jax.tree.map(_maker, arg)
        for k, arg in enumerate(args)
        if not all(map(_numeric, jax.tree.leaves(arg)))
    }

    def complete(args):
        return tuple(
            jax.tree.map(lambda make: make(), fixed[k]) if k in fixed else arg for k, arg in enumerate(args)
        )

    def loss(*args):
        return call.loss(*complete(args))

    def gradient(*args):
        return call.gradient(*own_copies(complete(args)))

    n_places = range(len(call.places))
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        try:
            found = find_causes(
                loss,
                gradient,
                tuple(None if k in fixed else arg for k, arg in enumerate(args)),
                call.argnums,
                tree_of(shown.call, shown.hand.values),
                tree_of(shown.call, shown.reference.values),
                tree_of(shown.call, [shown.bound(n) for n in n_places]),
            )
        except Exception as error:  # the verdict stands without a diagnosis
            return [], [f"the diagnosis stopped with {first_line(error)}"]
    return [_renamed(call, cause) for cause in found], []


def _numeric(x) -> bool:
    """Whether other numbers could stand in its place: not a random key, nor a word or a function."""
    if isinstance(x, jax.Array):
        return not jnp.issubdtype(x.dtype, jax.dtypes.extended)
    return isinstance(x, np.ndarray | np.generic | bool | int | float | complex)


def _maker(x) -> Callable:
    """A function that returns it; a typed key is made of its numbers, which can be constants."""
    if isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        numbers, kind = np.asarray(jax.random.key_data(x)), jax.random.key_impl(x)
        return lambda: jax.random.wrap_key_data(jnp.asarray(numbers), impl=kind)
    return lambda: x


def tree_of(call: Call, flat: list[np.ndarray]):
    """Leaves as a tree like args[argnums]."""
    return jax.tree.unflatten(jax.tree.structure(call.selected(call.args)), flat)


def _renamed(call: Call, cause: Cause) -> Cause:
    """The cause with the names of the report in the place of bare paths: W1 for ['W1']."""
    paths, _ = jax.tree_util.tree_flatten_with_path(call.selected(call.args))
    every, _ = jax.tree_util.tree_flatten_with_path(call.args)
    written = path_names(call.loss, call.args, tuple(range(len(call.args))))
    bare = {
        f"argument {path[0].idx}{jax.tree_util.keystr(path[1:])}": name
        for (path, _), name in zip(every, written, strict=True)
    }
    own = {jax.tree_util.keystr(path): name for (path, _), name in zip(paths, call.paths, strict=True)}
    if isinstance(call.argnums, int):
        bare |= {f"argument {call.argnums}{path}": name for path, name in own.items()}
    bare |= own
    if (alone := bare.pop("", None)) is not None:
        bare["the parameter"] = alone
    longest_first = "|".join(map(re.escape, sorted(bare, key=len, reverse=True)))
    pattern = re.compile(rf"(?<![\w\]])(?:{longest_first})(?![\[\w]|\.\w)")

    def named(text: str) -> str:
        return re.sub(r"(\S+) \(\1\)", r"\1", pattern.sub(lambda match: bare[match[0]], text))

    return cause._replace(sentence=named(cause.sentence), where=named(str(cause.where)))


def _low_precision(shown: Point, dtype) -> Cause:
    pinned = [note for note in shown.hand.notes if is_coarse(note, dtype)]
    where = ", ".join(sorted({n.where for n in pinned if n.where})) or "inside the gradient"
    what = " and ".join(sorted({n.what for n in pinned}))
    return Cause(
        "low-precision",
        f"It is computed in {what} on the way, the loss is not; the formula itself is right.",
        where,
        1.0,
        "the conversion stands in the code: keep the precision of the parameters",
    )


def find_causes(
    loss: Callable,
    gradient: Callable,
    args: tuple,
    argnums: int | tuple[int, ...],
    hand: Any,
    reference: Any,
    bound: Any,
    strict: bool = False,
    views: Views | None = None,
) -> list[Cause]:
    """What could be wrong with a gradient that is known to be wrong, the likeliest first.

    `hand`, `reference`, `bound` are trees like args[argnums], at args. Each cause of confidence
    0.9 and above reproduces `hand` there and the candidate at other points. Never empty. A family
    of mistakes that a strange loss makes fail is passed over, unless `strict`. `views`: what is known
    of this loss at these args already (`views_of`), where many candidates are held against it.
    """
    until = time.thread_time() + PATIENCE
    with jax.enable_x64(True):
        hand, reference, bound = (
            [np.asarray(x, np.float64) for x in jax.tree.leaves(t)] for t in (hand, reference, bound)
        )
        views = views or views_of(loss, args, argnums)
        scenes = scenes_for(views, gradient, hand, reference, bound)
        scenes = [s._replace(until=until) for s in _finite(scenes)]
        findings = _findings(scenes, FAMILIES, strict)
        if not _named(findings):
            few = _finite(in_few_turns(views, gradient))
            longer = time.thread_time() + LONGER
            few = [s._replace(until=longer) for s in few]
            findings += _findings(few or scenes, ON_PATHS, strict)
        if not findings and (rounded := low_precision(loss, gradient, scenes)):
            findings = [rounded]
        if not findings and (short := few_digits(loss, gradient, scenes[0])):
            findings = [short]
        if not findings and len(scenes) > 1 and time.thread_time() < until:
            # a size written into the candidate's code: only points of the caller's own sizes tell
            alike = _finite(scenes_for(views, gradient, hand, reference, bound, alike=True))
            alike = [s._replace(until=until) for s in alike]
            findings = [f._replace(sure=False) for f in _named(_findings(alike, FAMILIES, strict))]
        if not findings:
            findings = places.placed(scenes) or [_faint(scenes[0])]
    return _ranked(findings, len(scenes))


def _finite(scenes: list[Scene]) -> list[Scene]:
    """Those where both sides are numbers, if one of them shows the mistake; else all."""
    told = [s for s in scenes if all(np.isfinite(x).all() for x in (*s.hand, *s.reference))]
    return told if any(s.wrong for s in told) else scenes


def _faint(scene: Scene) -> Finding:
    """The leaf that is most off, where all are right but for a difference near rounding."""
    names = scene.structure.names
    with np.errstate(all="ignore"):
        sizes = [
            np.nanmax(np.abs(g - r) / np.where(b > 0, b, 1), initial=0)
            for g, r, b in zip(scene.hand, scene.reference, scene.bound, strict=True)
        ]
    where = names[int(np.argmax(sizes))]
    sentence = f"The difference, the largest in {where}, is too small for its cause to be told."
    return Finding("unknown", sentence, where, 9)


def _named(findings: list[Finding]) -> list[Finding]:
    return [f for f in findings if f.id != "unknown"]


def _findings(scenes: list[Scene], families: tuple[Callable, ...], strict: bool) -> list[Finding]:
    found: list[Finding] = []
    views = [scenes]
    if scenes[0].structure.penalties:
        views.append([without_penalty(s) for s in scenes])
    for view in views:
        for family in families:
            try:
                for finding in family(view):
                    found.append(finding)
            except OutOfTime:
                return found
            except (ValueError, TypeError, IndexError, KeyError, ArithmeticError, np.linalg.LinAlgError):
                if strict:
                    raise
    return found


def _ranked(findings: list[Finding], points: int) -> list[Cause]:
    """One cause an id; those that no point told apart share the confidence."""
    best: dict[str, Finding] = {}
    for f in sorted(findings, key=lambda f: f.rank):
        best.setdefault(f.id, f)
    if len(best) > 1:
        best.pop("unknown", None)
    chosen = sorted(best.values(), key=lambda f: f.rank)
    surest = 0.98 if points > 1 else 0.8
    causes = []
    for n, f in enumerate(chosen):
        if f.id == "unknown":
            confidence = 0.6 if f.rank < 7 else 0.3
        elif len(chosen) == 1:
            confidence = surest if f.sure else 0.5
        else:
            confidence = round(0.89 / len(chosen) * (1.0 if n else 1.1), 2)
        fitting = f.id != "unknown" or re.match(
            r"d[ZWAb]\[\d", f.where
        )  # a quantity of the lecture's network
        causes.append(
            Cause(f.id, f.sentence, f.where, confidence, MISTAKES[f.id].equation if fitting else "")
        )
    return causes
