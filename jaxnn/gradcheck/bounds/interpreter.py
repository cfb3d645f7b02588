"""Running-error bounds: a jaxpr interpreted with (value, bound on the value's error) at every step.

Everything is computed in NumPy in float64, whatever precision the code asks for, so nothing is
compiled. The bound is against exact real arithmetic on the same inputs: two programs that compute
the same function give values that differ by no more than the sum of their bounds.

Source: N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.3.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache, partial
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxnn.gradcheck.bounds.bounded import (
    HALVES,
    UNIT,
    VARIES,
    Bounded,
    Note,
    error_of,
    half_rounding,
    in_single,
    is_float,
    is_number,
    is_short,
    nearest,
    rounding,
    settled,
    stretched,
)
from jaxnn.gradcheck.bounds.complexes import COMPLEX, fft
from jaxnn.gradcheck.bounds.corners import COMPARISONS, CORNERS, STEPS_AND_CORNERS
from jaxnn.gradcheck.bounds.functions import FUNCTIONS
from jaxnn.gradcheck.bounds.moves import CARRIED, MOVES, WHOLE
from jaxnn.gradcheck.bounds.sampled import SAMPLED, unknown
from jaxnn.gradcheck.bounds.sums import SUMS
from jaxnn.gradcheck.bounds.systems import SYSTEMS
from jaxnn.gradcheck.bounds.ties import Read, Tie, read_well, tied
from jaxnn.gradcheck.bounds.turns import at, chosen, either, stacked
from jaxnn.gradcheck.jaxprs.by_numpy import applied, as_numpy
from jaxnn.gradcheck.jaxprs.equations import (
    line_of,
    opened,
    plan_of,
    primitives,
    scanned,
    walked,
    written_out,
)
from jaxnn.gradcheck.jaxprs.primitives import CALLS, REAL_ONLY, Kind, inner_of, of

STEPS = 20_000  # equations, all turns of all loops together
UNKNOWN = 50  # a turn of a while loop counts for so many more: nobody knows how many are to come


class TooLong(Exception):
    """The loops of a program run for more steps than an interpreter should take."""


class Reading(NamedTuple):
    """How a program is read: what is noted, and the precision below which a pin is obeyed."""

    notes: Counter[Note]
    obeyed: float  # roundings coarser than this machine epsilon are carried out; inf: none
    grain: float  # the relative error of numbers that no format shorter than float64 holds
    half: np.dtype | None  # the caller's precision, if it is a half one
    made: dict[tuple, tuple]  # what is made once of every program and equation
    steps: list[int]
    ties: list[Tie]  # of one comparison after another
    certain: Iterator[np.ndarray]  # of the same, where it is what it comes out as

    def once(self, make: Callable, of):
        """make(of), made once; what it is made of is held, so that its id stays its own."""
        if (make, id(of)) not in self.made:
            self.made[make, id(of)] = make(of), of
        return self.made[make, id(of)][0]

    def apart(self) -> "Reading":
        """The same for what may be run or not: its ties are not counted with the others."""
        return self._replace(ties=[], certain=iter(()))


def _inlined(equation, inputs, reading) -> list[Bounded]:
    if not any(x.active for x in inputs) and reading.once(_draws, equation):
        given = [
            x.value if not is_float(x.value) else x.value.astype(v.aval.dtype)
            for x, v in zip(inputs, equation.invars, strict=True)
        ]  # random numbers are data: the very same on both sides
        return [Bounded(v, None, False) for v in applied(equation, given)]
    jaxpr = inner_of(equation)
    name = getattr(getattr(opened(jaxpr)[0], "debug_info", None), "func_name", "")
    if name == "exp_neg_sq" and (known := _bell_curve(jaxpr, inputs, reading)):
        return known
    return _run(jaxpr, inputs, reading)


def _draws(equation) -> bool:
    return bool(primitives(inner_of(equation)) & RANDOM)


def _bell_curve(jaxpr, inputs, reading) -> list[Bounded] | None:
    """e^(−x²) of a program that splits x by its bits, which no bound follows; None if it is not that."""
    (x,) = inputs
    (out,) = _run(jaxpr, [x._replace(error=None)], reading)
    right = np.exp(-np.square(x.value))
    slack = (16 + 4 * np.square(x.value)) * UNIT * right + 1e-300
    if not np.all(np.abs(out.value - right) <= slack):
        return None
    steepest = np.minimum(
        0.86, 2 * (np.abs(x.value) + error_of(x)) * np.exp(-(nearest(x.value, error_of(x)) ** 2))
    )
    error = rounding(out.value, 16) + stretched(steepest, np.asarray(error_of(x)))
    return [settled(out.value, error, x)]


def _expanded(equation, inputs, reading) -> list[Bounded]:
    """A call that JAX itself writes out in simpler primitives."""
    return _run(reading.once(written_out, equation), inputs, reading)


def _scan(equation, inputs, reading) -> list[Bounded]:
    carry, columns = scanned(equation, inputs, lambda jaxpr, given: _run(jaxpr, given, reading), at)
    return [*carry, *stacked(columns, [v.aval for v in equation.outvars[len(carry) :]])]


def _while(equation, inputs, reading) -> list[Bounded]:
    p = equation.params
    n_cond, n_body = p["cond_nconsts"], p["body_nconsts"]
    fixed_c, fixed_b = inputs[:n_cond], inputs[n_cond : n_cond + n_body]
    carry, others = list(inputs[n_cond + n_body :]), []  # others: after as many turns as may be right too
    apart = reading.apart()._replace(notes=Counter())  # how often a loop turns is no kink
    while True:
        reading.steps[0] += UNKNOWN
        (go,) = _run(p["cond_jaxpr"], [*fixed_c, *carry], apart)
        doubt = np.asarray(error_of(go)) > 0
        if doubt.any():
            others.append((doubt, carry))
        if not go.value.any():
            break
        turned = _run(p["body_jaxpr"], [*fixed_b, *carry], reading)
        carry = [chosen(go.value, x, y) for x, y in zip(turned, carry, strict=True)]
    after = carry
    while doubt.any():  # until it would surely have ended
        reading.steps[0] += UNKNOWN
        after = _run(p["body_jaxpr"], [*fixed_b, *after], reading)
        others.append((doubt, after))
        (go,) = _run(p["cond_jaxpr"], [*fixed_c, *after], apart)
        doubt = doubt & ((np.asarray(error_of(go)) > 0) | go.value)
    for doubt, other in others:
        carry = [either(x, chosen(doubt, y, x)) for x, y in zip(carry, other, strict=True)]
    return carry


def _cond(equation, inputs, reading) -> list[Bounded]:
    which, *operands = inputs
    branches = equation.params["branches"]
    index = int(np.clip(int(which.value), 0, len(branches) - 1))
    out = _run(branches[index], operands, reading)
    if which.error is None or not np.any(which.error):
        return out
    others = [_run(b, operands, reading.apart()) for k, b in enumerate(branches) if k != index]
    wide = []
    for k, x in enumerate(out):
        error = error_of(x)
        for other in others:
            error = np.maximum(error, np.abs(other[k].value - x.value) + error_of(other[k]))
        wide.append(settled(x.value, error, x, *(o[k] for o in others)))
    return wide


def _solved(equation, inputs, reading) -> list[Bounded]:
    """The solver itself; the bound of one that iterates, which stops where roundings let it, is sampled."""
    solve = equation.params["jaxprs"].solve
    counts = equation.params["const_lengths"]
    first, all_of_them = counts.matvec + counts.vecmat, sum(counts)
    given = [*inputs[first : first + counts.solve], *inputs[all_of_them:]]
    if "while" not in primitives(solve):
        return _run(solve, given, reading)
    aside = reading._replace(notes=Counter())

    def run(values: list) -> list:
        return [x.value for x in _run(solve, [Bounded(v, None, False) for v in values], aside)]

    return _unknown(equation, given, reading, run)


def _unknown(equation, inputs, reading, run: Callable | None = None) -> list[Bounded]:
    once = any(np.iscomplexobj(x.value) for x in inputs)  # of complex numbers little is derived: said once
    reading.notes[Note("unknown", equation.primitive.name, "" if once else line_of(equation))] += 1
    return unknown(run or partial(applied, equation), inputs)


CONTROL = {
    "scan": _scan,
    "while": _while,
    "cond": _cond,
    "call_hi_primitive": _expanded,
    "custom_linear_solve": _solved,
}
EVERY: dict[str, Callable] = {**FUNCTIONS, **STEPS_AND_CORNERS, **SUMS, **MOVES}
WITH_EQUATION: dict[str, Callable] = {**WHOLE, **SYSTEMS, **SAMPLED}
OF_COMPLEX = {**MOVES, **COMPLEX}, {**CARRIED, "fft": fft}
RANDOM = of(Kind.RANDOM)


def _literal(atom, grain: float, half: np.dtype | None) -> Bounded:
    value = np.asarray(atom.val)
    if value.ndim:
        return _constant(value, grain)
    return _number(value.tobytes(), value.dtype, grain, half)


@lru_cache(1024)
def _number(content: bytes, dtype, grain: float, half: np.dtype | None) -> Bounded:
    return _constant(np.frombuffer(content, dtype).reshape(()), grain, half)


def _constant(value, grain: float = UNIT, half: np.dtype | None = None) -> Bounded:
    """A number is as exact as the shortest format that holds it: 0.5 is, 0.1 is not.

    Of a half precision only what is its own, or the caller's, is one. Arrays, which both sides have, are
    exact unless the grain is coarser than float64.
    """
    half = value.dtype if getattr(value, "dtype", None) in HALVES else half
    value = as_numpy(value)
    if not is_float(value) or not np.all(np.isfinite(value)):
        return Bounded(value, None, False)
    if value.size != 1 and grain == UNIT:
        return Bounded(value, None, False)
    share = np.where(is_short(value), 0.0, np.where(in_single(value), max(2.0**-24, grain), grain))
    share = np.maximum(share, half_rounding(value, half)) if half and value.size == 1 else share
    error = share * np.abs(value)
    return Bounded(value, error if error.any() else None, False)


FULL = {np.dtype(t) for t in ("float64", "bool", "int32", "int64", "uint32", "uint8")}  # nothing is lost


def _precision(aval) -> float:
    return float(jnp.finfo(aval.dtype).eps)


def _pins(equation, out: list[Bounded], reading: Reading) -> list[Bounded]:
    """Name every loss of precision; carry it out where it is to be obeyed."""
    kept = all(v.aval.dtype in FULL for v in equation.outvars)
    if kept and equation.primitive.name != "reduce_precision":
        return out
    floats = [v.aval for v in equation.invars if jnp.issubdtype(v.aval.dtype, jnp.floating)]
    finest = min((_precision(a) for a in floats), default=0.0)
    result = []
    for x, v in zip(out, equation.outvars, strict=True):
        dtype = v.aval.dtype
        if not jnp.issubdtype(dtype, jnp.floating) or not is_float(x.value):
            result.append(x)
            continue
        eps, name = _precision(v.aval), str(dtype)
        if equation.primitive.name == "reduce_precision":
            bits = equation.params["mantissa_bits"]
            eps, name = 2.0**-bits, f"{bits} bits of mantissa"
            finest = 0.0 if eps > finest else finest
        narrow = x.value
        if eps > reading.obeyed or (floats and eps > finest):
            if equation.primitive.name == "reduce_precision":
                scale = 2.0 ** (np.frexp(x.value)[1] - equation.params["mantissa_bits"] - 1.0)
                narrow = np.where(x.value == 0, 0.0, np.rint(x.value / scale) * scale)
            else:
                narrow = x.value.astype(dtype).astype(np.float64)
            changed = not np.array_equal(narrow, x.value, equal_nan=True)
            if changed and eps > finest and x.active:
                reading.notes[Note("pinned", name, line_of(equation))] += 1
        if eps > reading.obeyed:
            x = Bounded(narrow, x.error, x.active)
        result.append(x)
    return result


def _step(equation, inputs: list[Bounded], reading: Reading) -> list[Bounded]:
    name = equation.primitive.name
    if name in CALLS:
        return _inlined(equation, inputs, reading)
    if name in CONTROL:
        return CONTROL[name](equation, inputs, reading)
    kinds = [v.aval.dtype for v in equation.outvars]
    real, unreal = (any(jnp.issubdtype(k, t) for k in kinds) for t in (jnp.floating, jnp.complexfloating))
    plain = all(isinstance(x.value, np.ndarray) for x in inputs)
    unreal = unreal or any(np.iscomplexobj(x.value) for x in inputs)
    rules, others = OF_COMPLEX if unreal else (EVERY, WITH_EQUATION)
    out = None
    if plain and name in rules and (real or unreal or name not in REAL_ONLY):
        out = rules[name](equation.params, *inputs)
    elif plain and name in others:
        out = others[name](equation, inputs)
        if name in SAMPLED:
            reading.notes[Note("sampled", name, line_of(equation))] += 1
    if out is None:
        fed = any(is_number(x.value) for x in inputs)
        if plain and fed and (real or unreal):
            out = _unknown(equation, inputs, reading)
        else:
            checked = [x for x in inputs if isinstance(x.value, np.ndarray)]
            out = [_exactly(v, checked) for v in applied(equation, [x.value for x in inputs])]
    out = [out] if isinstance(out, Bounded) else list(out)
    return [x._replace(value=np.asarray(x.value)) if isinstance(x.value, np.generic) else x for x in out]


def _exactly(value, inputs) -> Bounded:
    doubt = any(x.error is not None and np.any(x.error) for x in inputs)
    active = any(x.active for x in inputs)
    if not doubt or not isinstance(value, np.ndarray):
        return Bounded(value, None, active)
    return Bounded(value, np.full(value.shape, 1.0 if value.dtype == bool else np.inf), active)


def _prepared(closed) -> tuple:
    jaxpr, consts = opened(closed)
    return jaxpr, plan_of(jaxpr), [_constant(c) for c in consts]


def _run(closed, inputs: Sequence[Bounded], reading: Reading) -> list[Bounded]:
    jaxpr, plan, held = reading.once(_prepared, closed)
    return _walked(jaxpr, plan, [*held, *inputs], reading)


def _walked(jaxpr, plan: list, given: Sequence[Bounded], reading: Reading) -> list[Bounded]:
    reading.steps[0] += len(plan)
    if reading.steps[0] > STEPS:
        raise TooLong

    def step(equation, inputs: list[Bounded]) -> list[Bounded]:
        out = _pins(equation, _step(equation, inputs, reading), reading)
        name, where = equation.primitive.name, partial(line_of, equation)
        if name in COMPARISONS and is_number(inputs[0].value):
            out = [_compared(out[0], inputs[0], inputs[1], reading)]
        if name in CORNERS and (doubtful := sum(_doubts(x, inputs) for x in out)):
            reading.notes[Note("kink", name, where())] += doubtful
        elif name not in CALLS and any(map(_unbounded, out)) and not any(map(_unbounded, inputs)):
            reading.notes[Note("unbounded", name, where())] += 1
        return out

    return walked(jaxpr, plan, given, step, lambda v: _literal(v, reading.grain, reading.half))


def _compared(out: Bounded, a: Bounded, b: Bounded, reading: Reading) -> Bounded:
    """A comparison of numbers: its ties are kept, those that are known to be no kink are none."""
    certain = next(reading.certain, np.array(False))
    if out.error is not None:
        out = out._replace(error=np.where(certain, 0.0, out.error))
    reading.ties.append(tied(out, a, b))
    return out


def _unbounded(x: Bounded) -> bool:
    return x.error is not None and not np.isfinite(np.sum(x.error))


def _doubts(x: Bounded, inputs: list[Bounded]) -> int:
    """How many truth values, indices or steps are in doubt; rounding does not count, nor an unbounded one."""
    if x.error is None or any(map(_unbounded, inputs)):
        return 0
    return int(np.count_nonzero(x.error >= 0.5 if is_number(x.value) else x.error))


def interpret(
    jaxpr,
    consts: Sequence,
    args: Sequence,
    active: Sequence[bool],
    obeyed: float = math.inf,
    grain: float = UNIT,
    half: np.dtype | None = None,
) -> tuple[list[Bounded], dict[Note, int]]:
    """The outputs of a jaxpr with bounds on their errors, and what was noted on the way.

    args: the values of its inputs, of any shape; active: which of them are differentiated. consts
    and args may hold Bounded entries where they are not exact. Precision losses to a machine
    epsilon above `obeyed` are carried out, all others are looked past. Numbers in the code that no
    format shorter than float64 holds, such as 0.1, have the relative error `grain`; above that of
    float64, so have arrays that are not differentiated. Those that `half` holds, a half precision that the
    caller computes in, may have been rounded to it, as may numbers that are of such a type themselves.
    Raises TooLong when the loops run for too many steps. Call it with x64 enabled.
    """

    def given(value, live: bool) -> Bounded:
        if isinstance(value, Bounded):
            return value
        value = as_numpy(value)
        if is_float(value) and live:
            return Bounded(value, np.where(np.isinf(value), 0.0, VARIES), True)
        return _constant(value, grain) if grain > UNIT else Bounded(value, None, False)

    held = [c if isinstance(c, Bounded) else _constant(c, grain, half) for c in consts]
    plan = plan_of(jaxpr)

    def read(args: Sequence, certain: Iterable) -> Read:
        reading = Reading(Counter(), obeyed, grain, half, {}, [0], [], iter(certain))
        out = _walked(jaxpr, plan, [*held, *map(given, args, active)], reading)
        return Read(out, reading.notes, reading.ties)

    with np.errstate(all="ignore"):
        out, notes, _ = read_well(read, args, active)
    return out, notes
