"""Both sides of the comparison, as functions of a point."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxnn.gradcheck.bounds.bounded import UNIT
from jaxnn.gradcheck.bounds.corners import CORNERS
from jaxnn.gradcheck.bounds.interpreter import TooLong
from jaxnn.gradcheck.calls.call import BadCall, Call, called, first_line
from jaxnn.gradcheck.jaxprs.equations import primitives, turns
from jaxnn.gradcheck.verdict.sides import Side, compiled_reference, evaluated, jittered, traced, with_doubt


class Sides(NamedTuple):
    """Both sides as functions of a point: leaves → Side."""

    reference: Callable[..., Side]
    hand: Callable[[list], Side]
    as_meant: Callable[[list], Side]  # no loss of precision carried out
    readable: bool
    cornered: bool  # the reference compares, sorts or rounds somewhere
    precomputed: bool  # the hand-written one returns constants, autodiff does not
    notes: list[str]


def sides_of(call: Call, leaves: list, readable: bool) -> Sides:
    """How to evaluate both sides at points with leaves of these shapes."""
    differentiated = jax.value_and_grad(call.loss, call.argnums)
    try:
        ours = traced(call, differentiated, leaves, skipped=1)
    except Exception as error:
        raise BadCall(f"autodiff of the loss raised {first_line(error)}") from error
    notes, theirs, as_written = [], None, None
    if readable:
        try:
            theirs = traced(call, call.gradient, leaves)
            if not (ours.exact and theirs.exact):
                as_written = traced(call, call.gradient, leaves, wide=False)
            called_back = primitives(theirs.closed) & {"pure_callback", "io_callback"}
            why = f"calls Python by {min(called_back)}" if called_back else ""
        except Exception as error:
            why = f"cannot be traced by JAX ({type(error).__name__})"
        if why:
            theirs = None
            notes.append(
                f"the gradient {why}, so it is only called; its own error is estimated, beside the "
                "bound of autodiff"
            )
    if not ours.exact or (theirs is not None and not theirs.exact):
        notes.append(
            f"the code insists on {call.dtype} or draws random numbers, so it is read as written "
            "for that precision, and its constants carry that rounding"
        )
        ours = traced(call, differentiated, leaves, skipped=1, wide=False)
        theirs = None if theirs is None else as_written
    if theirs is not None:
        ours, theirs = with_doubt(ours, theirs, leaves), with_doubt(theirs, ours, leaves)

    def reference(at: list, shake: float = 0.0, grain: float = UNIT) -> Side:
        try:
            return evaluated(call, ours, at, shake=shake, grain=grain)
        except TooLong:
            return jittered(call, compiled_reference(call, ours), at, None, turns(ours.closed))

    def only_called(at: list) -> list:
        with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
            return called(call, call.rebuilt(at))

    def hand(at: list, obeyed: float = math.inf) -> Side:
        if theirs is None:
            return jittered(call, only_called, at, reference(at))
        try:
            if theirs.varies or not ours.varies:
                return evaluated(call, theirs, at, obeyed)
        except TooLong:
            return jittered(call, compiled_reference(call, theirs), at, reference(at), turns(theirs.closed))
        return jittered(call, only_called, at, reference(at))

    eps = float(jnp.finfo(call.dtype).eps)
    cornered = bool(primitives(ours.closed) & CORNERS)
    precomputed = theirs is not None and ours.varies and not theirs.varies
    if precomputed:
        notes.append("the gradient does not depend on its arguments: only the given point is judged")
    return Sides(
        reference,
        lambda at: hand(at, eps),
        hand,
        theirs is not None,
        cornered,
        precomputed,
        notes,
    )
