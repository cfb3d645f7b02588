"""Both sides of the comparison: a gradient at a point in float64, with a bound on its error."""

import math
from collections.abc import Callable, Iterator
from threading import Lock

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.dtypes import canonicalize_dtype

from jaxnn.gradcheck.bounds.bounded import (
    HALVES,
    SHORT,
    SHORT_HALF,
    SINGLE,
    UNIT,
    Bounded,
    Note,
    half_rounding,
    in_single,
    is_float,
    is_short,
    is_wide,
)
from jaxnn.gradcheck.bounds.corners import CORNERS
from jaxnn.gradcheck.bounds.interpreter import RANDOM, STEPS, TooLong, interpret
from jaxnn.gradcheck.bounds.ties import kinks
from jaxnn.gradcheck.calls.call import BadCall, Call
from jaxnn.gradcheck.calls.precisions import is_narrow
from jaxnn.gradcheck.calls.raised import in_full
from jaxnn.gradcheck.calls.surroundings import on_host
from jaxnn.gradcheck.jaxprs.by_numpy import Loops, as_numpy, ended, iterates, planned
from jaxnn.gradcheck.jaxprs.equations import depends, opened, primitives, scalars, turns
from jaxnn.gradcheck.verdict.point import Side, Sides, Traced
from jaxnn.gradcheck.verdict.points import factors
from jaxnn.gradcheck.verdict.rounding import (
    by_hand,
    jittered,
    known,
    narrow_kinds,
    of_all_inputs,
    rounded,
    unit_of,
)

CONVERGED = 1e-3  # of the largest entry: more turns of what has converged change no more
COARSE = 2.0**-30  # of the largest entry: noise that may not show where there is no bound


def traced(call: Call, function: Callable, leaves: list, skipped: int = 0, wide: bool = True) -> Traced:
    """The jaxpr of function(*args) at these leaves, in float64 if the function can be so traced.

    Random draws differ with the precision they are asked for in, so a function that draws is traced
    as the caller would run it, as is one that insists on a dtype; so are all where wide is False.
    Raises what the function raises when it cannot be traced at all.
    """

    def at(leaves: list, exact: bool) -> Traced:
        of_dynamic, given = call.traceable(function, leaves)
        closed = jax.make_jaxpr(of_dynamic)(*given)
        if any(isinstance(c, Tracer) for c in opened(closed)[1]):
            raise jax.errors.UnexpectedTracerError("it computes with what an earlier call left behind")
        live = [n for n, k in enumerate(call.dynamic) if k in call.places]
        grain = max([UNIT, *(_grain(x, call.dtype) for x in scalars(closed))])
        return Traced(closed, list(opened(closed)[1]), skipped, exact, depends(closed, live, skipped), grain)

    trouble: Exception | None = None
    if wide:
        try:
            with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
                found = at(leaves, True)
            if call.dtype == np.float64 or not (primitives(found.closed) & RANDOM):
                return found
        except Exception as error:
            trouble = error
    narrow = lambda x, like: jnp.asarray(x, canonicalize_dtype(getattr(like, "dtype", call.dtype)))  # noqa: E731
    cast = [narrow(x, y) if is_wide(x) else x for x, y in zip(leaves, call.leaves, strict=True)]
    try:
        return at(cast, False)
    except Exception as error:
        raise trouble or error from None


def _grain(number, kind: np.dtype) -> float:
    """The roundoff of the type that a number of the code may be rounded to: the caller's, or its own."""
    value = np.asarray(number)
    kind = value.dtype if value.dtype in HALVES else kind
    value = as_numpy(value)
    if not (is_float(value) and np.isfinite(value).all()):
        return UNIT
    if kind in HALVES and half_rounding(value, kind).any():
        return HALVES[kind]
    return SINGLE if np.any(in_single(value) & ~is_short(value)) else UNIT


def with_doubt(side: Traced, other: Traced, leaves: list) -> Traced:
    """Arrays closed over in low precision that the other side has not got carry their rounding."""
    pool = [*other.consts, *leaves]

    def doubted(c):
        kind = getattr(c, "dtype", None)
        if kind is None or not is_narrow(kind) or np.size(c) == 1 or any(c is d for d in pool):
            return c
        value = np.asarray(c).astype(np.float64)
        if is_short(value, SHORT_HALF if kind in HALVES else SHORT).all() or known(value, pool):
            return c
        return Bounded(value, unit_of(kind) * np.abs(value), False)

    consts = list(map(doubted, side.consts))
    kinds = [c.dtype for c, d in zip(side.consts, consts, strict=True) if c is not d]
    return side._replace(consts=consts, grain=max([side.grain, *map(unit_of, kinds)]))


def evaluated(
    call: Call,
    side: Traced,
    leaves: list,
    obeyed: float = math.inf,
    shake: float = 0.0,
    grain: float = UNIT,
    as_returned: bool = False,
) -> Side:
    """The traced gradient at these leaves. Raises TooLong when its loops are too long to read.

    shake: a relative error that every floating argument is said to have; grain: that of numbers in the
    code and of arrays that are not differentiated, see interpret; as_returned: a tie of the arguments
    themselves is decided as the code decides it: at a corner too, what it returns is what it is.
    """
    live = set(call.places)
    with on_host():
        out, notes = interpret(
            opened(side.closed)[0],
            side.consts,
            [
                Bounded(x, np.where(np.isinf(x), 0.0, shake * np.abs(x)), k in live)
                if (shake or (as_returned and k in live)) and is_wide(x)
                else x
                for k, x in ((k, leaves[k]) for k in call.dynamic)
            ],
            [k in live for k in call.dynamic],
            obeyed,
            grain,
            call.dtype if call.dtype in HALVES else None,
        )
    loss = float(out[0].value) if side.skipped else None
    out = out[side.skipped :]
    values = [np.asarray(x.value, np.float64) for x in out]
    fixed = [x.error is None and not x.active for x in out]
    notes |= {Note("rounded", str(kind), ""): 1 for kind, unit in HALVES.items() if unit == side.grain}
    found = Side(values, [x.errors for x in out], fixed, notes, side.grain, loss)
    return found if shake or grain > UNIT else _estimated(call, side, leaves, found)


def _estimated(call: Call, side: Traced, leaves: list, found: Side) -> Side:
    """The same, where what has no bound, though it is finite, has the noise that is seen around it."""
    open_ = [np.isinf(e) & np.isfinite(v) for v, e in zip(found.values, found.errors, strict=True)]
    if not any(map(np.any, open_)) or kinks(found.notes):
        return found
    run = planned(*opened(side.closed))

    def program(at: list) -> list:
        with on_host():
            return run(*(as_numpy(at[k]) for k in call.dynamic))[side.skipped :]

    noise = jittered(call, program, leaves, None, turns(side.closed)).errors
    least = (COARSE * np.max(np.abs(v[o]), initial=0.0) for v, o in zip(found.values, open_, strict=True))
    errors = [np.where(*x) for x in zip(open_, map(np.add, noise, least), found.errors, strict=True)]
    first = next((n for n in found.notes if n.kind == "unbounded"), Note("", "the gradient", ""))
    notes = {n: k for n, k in found.notes.items() if n.kind != "unbounded"} | {
        first._replace(kind="sampled"): 1
    }
    return found._replace(errors=errors, notes=notes)


def compiled_reference(call: Call, side: Traced, times: int = 1) -> Callable:
    """A side as a plain function of the leaves, compiled once; times: see Loops."""
    jaxpr, consts = opened(side.closed)
    loops = Loops(times=times)
    program = jax.jit(lambda *given: ended(jaxpr, consts, *given, loops=loops)[side.skipped :])

    def run(leaves: list) -> list[np.ndarray]:
        with on_host():
            return [np.asarray(x, np.float64) for x in program(*(leaves[k] for k in call.dynamic))]

    return run


def reader(call: Call, side: Traced, what: str) -> Callable[..., Side]:
    """The side at any leaves: read, or once that is found too long, compiled, called, and called nearby.

    what: its name, for the notes; beside: the other side at the leaves, where that is known.
    """
    program, further = compiled_reference(call, side), compiled_reference(call, side, 2)
    passed, converging = turns(side.closed), iterates(side.closed)
    given_up = ["long"] if turns(side.closed, 1) > STEPS else []

    def at(leaves: list, beside: Callable[[list], Side] | None = None, **how) -> Side:
        if not given_up:
            try:
                return evaluated(call, side, leaves, **how)
            except TooLong:
                given_up.append("long")
            except Exception:  # what JAX runs as a whole, but not in pieces or at another precision
                given_up.append("whole")
        return jittered(
            call, program, leaves, beside and beside(leaves), passed, {Note(given_up[0], what, ""): 1}
        )

    def converged(leaves: list, *args, **how) -> Side:
        try:
            found = at(leaves, *args, **how)
            return _unconverged(found, program(leaves), further(leaves), what) if converging else found
        except BadCall:
            raise
        except Exception as error:
            raise BadCall(f"{what} does not run in float64 here: {in_full(error)}") from error

    return converged


def remembered(side: Callable[..., Side]) -> Callable[..., Side]:
    """The side, that is not read again at the leaves where it was read last."""
    last, one_by_one = [], Lock()

    def at(leaves: list, **how) -> Side:
        with one_by_one:
            if not last or last[1] != how or any(x is not y for x, y in zip(last[0], leaves, strict=True)):
                last[:] = [[*leaves], how, side(leaves, **how)]
            return last[2]

    return at


def _unconverged(found: Side, here: list, further: list, what: str) -> Side:
    """The side, where an iteration that ends when it has converged is no closer than more turns take it."""
    drifts = [np.abs(x - y) for x, y in zip(here, further, strict=True)]
    sizes = [np.max(np.abs(x), initial=0.0) for x in here]
    pairs = list(zip(drifts, sizes, found.errors, strict=True))
    if not all(np.all(d <= CONVERGED * size) for d, size, _ in pairs) or all(
        np.all(d <= e) for d, _, e in pairs
    ):
        return found  # it is another kind of loop, or the bound says as much
    errors = [e + 2 * np.max(d, initial=0.0) for d, _, e in pairs]
    return found._replace(errors=errors, notes={**found.notes, Note("iterated", what, ""): 1}, grain=SINGLE)


def _read(call: Call, leaves: list, exact: bool) -> tuple[Traced | None, Traced | None, list[str]]:
    """The hand-written side in float64, and as written where one side is not exact; or why neither."""
    as_written = None
    try:
        theirs = traced(call, call.gradient, leaves)
        if not (exact and theirs.exact):
            as_written = traced(call, call.gradient, leaves, wide=False)
        elif turns(theirs.closed, 1) <= STEPS:  # what NumPy is told in words may mean another thing to JAX
            with on_host(), jax.enable_x64(True):
                planned(*opened(theirs.closed))(*(as_numpy(leaves[k]) for k in call.dynamic))
        called_back = primitives(theirs.closed) & {"pure_callback", "io_callback"}
        why = f"calls Python by {min(called_back)}" if called_back else ""
    except Exception as error:
        theirs, why = None, f"cannot be traced by JAX ({type(error).__name__})"
    if not why:
        return theirs, as_written, []
    only_called = "so it is only called; its own error is estimated, beside the bound of autodiff"
    return None, as_written, [f"the gradient {why}, {only_called}"]


def sides_of(call: Call, leaves: list, readable: bool) -> Sides:
    """How to evaluate both sides at points with leaves of these shapes."""
    differentiated = jax.value_and_grad(call.loss, call.argnums)
    try:
        ours = traced(call, differentiated, leaves, skipped=1)
    except Exception as error:
        raise BadCall(f"autodiff of the loss raised {in_full(error)}") from error
    theirs, as_written, notes = _read(call, leaves, ours.exact) if readable else (None, None, [])
    if not ours.exact or (theirs is not None and not theirs.exact):
        notes.append(
            f"the code insists on {call.dtype} or draws random numbers, so it is read as written "
            "for that precision, and its constants carry that rounding"
        )
        ours = traced(call, differentiated, leaves, skipped=1, wide=False)
        theirs = None if theirs is None else as_written
    if theirs is not None:
        ours, theirs = with_doubt(ours, theirs, leaves), with_doubt(theirs, ours, leaves)

    as_called = by_hand(call, wide=not primitives(ours.closed) & RANDOM or call.dtype == np.float64)
    reference = remembered(reader(call, ours, "autodiff"))
    read = None if theirs is None else reader(call, theirs, "the gradient by hand")

    def hand(at: list, obeyed: float = math.inf) -> Side:
        if read is not None and theirs is not None and (theirs.varies or not ours.varies):
            return read(at, reference, obeyed=obeyed, as_returned=True)
        return jittered(call, as_called, at, reference(at))

    program = of_all_inputs(ours)

    def narrow(at: list, there: Side | None = None) -> Iterator[Side]:
        there = there or reference(at)
        for kind in narrow_kinds(call, as_called, at, ours.consts, there):
            if constant and unit_of(kind) > SINGLE:
                continue  # numbers that are written down may be short, and are not rounded for it
            yield from rounded(call, as_called, ours, program, at, there, kind)

    cornered = bool(primitives(ours.closed) & CORNERS)
    constant = theirs is not None and ours.varies and not theirs.varies
    weights = frozenset(call.dynamic[k] for k in factors(ours.closed)) & {*call.places}
    as_returned, as_written = lambda at: hand(at, call.eps), not ours.exact
    return Sides(reference, as_returned, hand, narrow, theirs, cornered, constant, weights, notes, as_written)
