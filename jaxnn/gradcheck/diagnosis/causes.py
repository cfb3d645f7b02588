"""What is wrong with a gradient: its causes, by the names of the report."""

import re
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.gradcheck.calls.call import Call, first_line, own_copies, path_names
from jaxnn.gradcheck.calls.probes import Calls
from jaxnn.gradcheck.diagnosis.search import find_causes
from jaxnn.gradcheck.diagnosis.states import stale_cause, unsteady_causes
from jaxnn.gradcheck.report.model import Cause
from jaxnn.gradcheck.verdict.sides import Sides
from jaxnn.gradcheck.verdict.trials import Point, compared, is_coarse


def diagnosed(
    call: Call, sides: Sides, shown: Point, tried: list[Point], calls: Calls, eps: float
) -> tuple[list[Cause], list[str]]:
    """The causes, the likeliest first, and what kept them from being found."""
    if not calls.repeatable:
        return unsteady_causes(call, sides, shown.leaves, calls), []
    if any(is_coarse(note, call.dtype) for note in shown.hand.notes) and shown.call is call:
        meant = compared("", call, shown.leaves, shown.reference, sides.as_meant(shown.leaves))
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
