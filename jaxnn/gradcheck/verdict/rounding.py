"""A gradient that is only called: how far its own roundings may take it, in float64 or in fewer digits."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.gradcheck.bounds.bounded import SINGLE, TINY, UNIT, Note
from jaxnn.gradcheck.calls.call import Call, replaced
from jaxnn.gradcheck.calls.precisions import precisions
from jaxnn.gradcheck.calls.returned import called
from jaxnn.gradcheck.calls.surroundings import on_host
from jaxnn.gradcheck.jaxprs.by_numpy import Loops, ended
from jaxnn.gradcheck.jaxprs.equations import opened
from jaxnn.gradcheck.verdict.point import Side, Traced, for_unit

ORDER = 6  # of differences: what is left of a smooth function is its noise
REACH = {UNIT: 4, SINGLE: 4, 1.0: 8}  # points on each side, by the unit roundoff
STEP = 2 / 3  # a power of the unit roundoff: far above it, far below what the function bends in
TIMES = {UNIT: (64, 16), SINGLE: (64, 16), 1.0: (16, 4)}  # the noise of an entry, and of the noisiest one
ROUNDED = 8  # the least number of roundings that are the same all along a line
AS_AUTODIFF = 32  # so many times the bound of autodiff, which computes it another way
IN_TYPE = 4  # the same in a type of fewer digits, beside what is seen of them
STIRS, STIRRED, AROUND = 8, 4, 1  # times data are stirred; so many times how far that takes an entry, and any
ROUNDED_OFF = (2.0**-40, 2.0**-16)  # of the largest entry: noise by which float32 shows


class Noise(NamedTuple):
    """The values of a gradient, and the noise of each, as it is moved a little."""

    values: list[np.ndarray]
    sizes: list[np.ndarray]
    unit: float

    def bound(self, n: int, roundings: float) -> np.ndarray:
        """A bound on the error of a leaf: its noise, and roundings that are the same all along a line."""
        value, size = self.values[n], self.sizes[n]
        of_entry, of_all = for_unit(TIMES, self.unit)
        fixed = roundings * self.unit * np.abs(value)
        return np.asarray(of_entry * size + of_all * np.max(size, initial=0.0) + fixed)


def noise(call: Call, function: Callable[[list], list], leaves: list, unit: float) -> Noise:
    """The noise of a function's values, which it computes with this unit roundoff.

    The differences of sixth order along a line leave the noise and nothing of the function, nor of
    errors that are the same all along it.
    Source: J. J. Moré and S. M. Wild, Estimating computational noise, SIAM J. Sci. Comput. 33
    (2011), section 3.
    """
    rng = np.random.default_rng(0)
    lengths = {k: np.where(np.isinf(leaves[k]), 0.0, np.abs(leaves[k])) for k in set(call.places)}
    lines = {k: x * rng.uniform(0.5, 1.0, np.shape(x)) for k, x in lengths.items()}

    def at(t: int) -> list[np.ndarray]:
        there = [leaves[k] + unit**STEP * t * line for k, line in lines.items()]
        return [np.asarray(v, np.float64) for v in function(replaced(leaves, lines, there))]

    reach = for_unit(REACH, unit)
    table = [at(t) for t in range(-reach, reach + 1)]
    gamma = math.factorial(ORDER) ** 2 / math.factorial(2 * ORDER)
    squares = [np.diff(column, ORDER, axis=0) ** 2 for column in zip(*table, strict=True)]
    return Noise(table[reach], [np.sqrt(gamma * np.mean(s, axis=0)) for s in squares], unit)


def jittered(
    call: Call,
    function: Callable[[list], list],
    leaves: list,
    reference: Side | None,
    roundings: int = ROUNDED,
    notes: dict[Note, int] | None = None,
) -> Side:
    """A gradient in float64 that cannot be read, only called, with the noise of its values."""
    seen = noise(call, function, leaves, UNIT)
    errors = []
    for n in range(len(seen.values)):
        error = seen.bound(n, max(ROUNDED, roundings))
        if reference is not None:
            error = error + AS_AUTODIFF * reference.errors[n]
        errors.append(np.where(np.isfinite(error), error, np.inf))
    return Side(seen.values, errors, [False] * len(errors), notes or {})


def by_hand(call: Call, wide: bool = True) -> Callable[[list], list]:
    """The gradient by hand as a function of the leaves that is only called; wide: where JAX has float64.

    Random draws are others there.
    """

    def run(at: list) -> list:
        with jax.enable_x64(wide), jax.numpy_dtype_promotion("standard"):
            return called(call, call.rebuilt(at))

    return run


def known(value: np.ndarray, pool: Sequence) -> bool:
    """Whether every number of an array is to be found in one of the others."""
    several = (x for x in pool if np.size(x) > 1 and jnp.issubdtype(jnp.result_type(x), jnp.floating))
    wide = (np.asarray(x).astype(np.float64) for x in several)
    return any(np.array_equal(x, value) or np.isin(value, x).all() for x in wide)


def narrow_kinds(
    call: Call, run: Callable, leaves: list, consts: Sequence, reference: Side
) -> list[np.dtype]:
    """The types with fewer digits that the gradient by hand computes in, as it shows; the finest first.

    consts: the arrays that autodiff has as well; their digits are those of the data.
    """
    pool = [getattr(x, "value", x) for x in (*consts, *call.leaves)]
    is_data = lambda x: np.size(x) == 1 or known(x.astype(np.float64), pool)  # noqa: E731
    found = precisions(lambda: run(leaves), is_data)
    seen = noise(call, run, leaves, SINGLE)
    for value, size, right in zip(seen.values, seen.sizes, reference.values, strict=True):
        share = np.max(size, initial=0.0) / max(np.max(np.abs(value), initial=0.0), TINY)
        if ROUNDED_OFF[0] <= share <= ROUNDED_OFF[1]:
            found.add(np.dtype(np.float32))
        if kind := _shortest(value, right):
            found.add(kind)
    return sorted(found, key=unit_of)


def unit_of(kind) -> float:
    """The unit roundoff of a type."""
    return float(jnp.finfo(kind).eps) / 2


def _shortest(value: np.ndarray, right: np.ndarray) -> np.dtype | None:
    """The shortest type that holds all these numbers, and not the right ones; None if they are whole."""
    if not np.isfinite(value).all() or np.array_equal(value, np.rint(value)):
        return None
    holds = lambda kind, x: np.array_equal(x.astype(kind).astype(np.float64), x)  # noqa: E731
    kinds = (k for k in (jnp.bfloat16, jnp.float16, jnp.float32) if holds(k, value) and not holds(k, right))
    return next(map(np.dtype, kinds), None)


def of_all_inputs(side: Traced) -> Callable[..., list]:
    """A side as a function of its constants and the dynamic leaves, compiled once."""
    jaxpr, _ = opened(side.closed)
    return jax.jit(lambda *given: ended(jaxpr, (), *given, loops=Loops())[side.skipped :])


def rounded(
    call: Call, run: Callable, side: Traced, program: Callable, leaves: list, reference: Side, kind: np.dtype
) -> Iterator[Side]:
    """The gradient by hand, only called, with what it may be off as it computes in a type of fewer digits.

    side, program: autodiff, also as `of_all_inputs`. Beside its noise: how far autodiff is taken, as the
    gradient itself may be, by data, parameters and constants of no more digits; then also the bound of
    autodiff in that type, for what cancels there. What never changes has no noise; the errors of a sum of
    n numbers in order are then taken for √n times those of one.
    """
    unit = unit_of(kind)
    seen = noise(call, run, leaves, unit)
    spread = _stirred(call, side, program, leaves, unit, run)
    still = not any(s.any() for s in seen.sizes)
    longest = max((n for x in [*side.consts, *leaves] for n in np.shape(getattr(x, "value", x))), default=1)
    sums = 2 * math.sqrt(longest) if still else 0.0
    errors, least = [], ROUNDED * float(jnp.finfo(kind).smallest_subnormal)
    for n, taken in enumerate(spread):
        error = seen.bound(n, max(ROUNDED, sums)) + max(STIRRED, sums) * taken + least
        error = error + AROUND * np.max(taken, initial=0.0)
        errors.append(np.where(np.isfinite(error), error, np.inf))
    notes = {Note("rounded", str(kind), ""): 1}
    yield Side(seen.values, errors, [False] * len(errors), notes, grain=unit)
    if side.grain > UNIT:  # the bound of autodiff is one in few digits already
        return
    more = (IN_TYPE * (unit / UNIT) * e for e in reference.errors)
    errors = [np.where(np.isfinite(m), e + m, np.inf) for e, m in zip(errors, more, strict=True)]
    yield Side(seen.values, errors, [False] * len(errors), notes, grain=unit)


def _stirred(
    call: Call, side: Traced, program: Callable, leaves: list, unit: float, run: Callable
) -> list[np.ndarray]:
    """How far autodiff's entries are taken by rounding all that goes in to this unit roundoff, as sampled.

    Where autodiff is no number: how far those of the gradient by hand are, by its arguments.
    """
    rng, (jaxpr, consts) = np.random.default_rng(0), opened(side.closed)
    kinds = [v.aval.dtype for v in (*jaxpr.constvars, *jaxpr.invars)]

    def at(far: float) -> list[np.ndarray]:
        given = zip([*consts, *(leaves[k] for k in call.dynamic)], kinds, strict=True)
        return [np.asarray(x, np.float64) for x in program(*(stirred(*x, far) for x in given))]

    def stirred(x, kind, far: float):
        if not jnp.issubdtype(kind, jnp.floating):
            return x
        return np.asarray(x * (1 + far * rng.uniform(-1, 1, np.shape(x)))).astype(kind)

    with on_host():
        there = [at(far) for far in (0.0, *[unit] * STIRS)]
    if not all(np.isfinite(x).all() for x in there[0]):
        kinds = [np.asarray(x).dtype for x in leaves]
        there = [
            run([stirred(*x, far) for x in zip(leaves, kinds, strict=True)]) for far in (0.0, *[unit] * STIRS)
        ]
    here, *moved = there
    return [np.max([np.abs(m[n] - x) for m in moved], axis=0) for n, x in enumerate(here)]
