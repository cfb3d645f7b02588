"""Both sides compiled: what they cost; jit against eager, vmap against a loop."""

import hashlib
from collections import OrderedDict
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import eval_jaxpr

from jaxnn.gradcheck.bounds.bounded import is_wide
from jaxnn.gradcheck.calls.call import Call, first_line
from jaxnn.gradcheck.jaxprs.by_numpy import planned
from jaxnn.gradcheck.jaxprs.equations import every, opened, primitives, within
from jaxnn.gradcheck.report.model import Cost, Probe
from jaxnn.gradcheck.verdict.formula import Formula
from jaxnn.gradcheck.verdict.point import Kind, Point, Traced, in_precision

KEPT = 64  # programs
ANOTHER_ORDER = 4  # a program that adds in another order may be off by so many times its bound
PYTHON = {"pure_callback", "io_callback", "debug_callback", "call_hi_primitive"}  # no text tells what they do
_programs: OrderedDict[tuple, tuple[Any, Cost]] = OrderedDict()


class Program(NamedTuple):
    """A compiled jaxpr: run(*leaves) → arrays."""

    run: Any
    cost: Cost


class Programs(NamedTuple):
    """Both sides compiled in the caller's precision, where that can be; what they show; why one is not."""

    autodiff: Program | None
    hand: Program | None
    probes: list[Probe]
    notes: list[str]


def equations(jaxpr) -> int:
    """The number of equations, those of inner jaxprs counted too."""
    return sum(not within(equation) for equation in every(jaxpr))


def compiled(closed, leaves: list) -> Program:
    """The jaxpr compiled for arguments like these leaves. The last few are kept, and nothing else."""
    jaxpr, consts = opened(closed)
    key = _key(jaxpr, [*consts, *leaves])
    if key in _programs and not primitives(jaxpr) & PYTHON:
        _programs.move_to_end(key)
    else:
        program = jax.jit(lambda held, given: eval_jaxpr(jaxpr, held, *given)).lower(consts, leaves).compile()
        _programs[key] = program, _cost(program, equations(jaxpr))
    if len(_programs) > KEPT:
        _programs.popitem(last=False)
    program, cost = _programs[key]
    return Program(lambda *given: program(consts, list(given)), cost)


def _key(jaxpr, inputs: list) -> tuple:
    """What tells programs apart: the text, what it is compiled for, and the arrays the text leaves out."""
    held = hashlib.sha256()
    for array in _inner_arrays(jaxpr):
        is_key = jnp.issubdtype(jnp.result_type(array), jax.dtypes.prng_key)
        x = np.asarray(jax.random.key_data(array) if is_key else array)
        held.update(f"{x.dtype} {x.shape}".encode() + x.tobytes())
    kinds = tuple((str(jax.typeof(x)), str(getattr(x, "sharding", ""))) for x in inputs)
    return str(jaxpr), str(jax.devices()[0]), kinds, held.hexdigest()


def _inner_arrays(jaxpr):
    """The constants of the jaxprs inside one, as of jitted functions that close over an array."""
    for inner in (p for e in jaxpr.eqns for p in within(e)):
        yield from opened(inner)[1]
        yield from _inner_arrays(opened(inner)[0])


def _cost(program, count: int) -> Cost:
    try:
        analysis = program.cost_analysis() or {}
        memory = program.memory_analysis()
    except Exception:  # some backends have no analysis: the report then shows no figures
        return Cost(None, None, None, count)
    analysis = analysis[0] if isinstance(analysis, list) else analysis
    temporary = None if memory is None else int(memory.temp_size_in_bytes)
    return Cost(analysis.get("flops"), analysis.get("bytes accessed"), temporary, count)


def compiled_sides(call: Call, formula: Formula) -> Programs:
    """Both sides compiled in the caller's dtype; jit against eager, vmap against a loop."""
    tried, by_hand = formula.tried, formula.sides.program
    given = [call.leaves[k] for k in call.dynamic]

    def of(function) -> Program:
        of_dynamic, _ = call.traceable(function, call.leaves)
        return compiled(jax.make_jaxpr(of_dynamic)(*given), given)

    ours, theirs, probes, notes = None, None, [], []
    try:
        ours = of(jax.grad(call.loss, call.argnums))
    except Exception as error:  # what runs in float64 need not run here, as on a device without that dtype
        notes = [
            f"autodiff does not run in {call.dtype} here, so the numbers are not judged: {first_line(error)}"
        ]
    if by_hand is None:
        return Programs(ours, None, [], notes)
    try:
        theirs = of(call.gradient)
        jitted = [np.asarray(x).astype(np.float64) for x in theirs.run(*given)]
    except Exception as error:
        failed = Probe("jit", False, f"jax.jit of it raised {type(error).__name__}")
        return Programs(ours, None, [failed], notes)
    if formula.calls.repeatable:
        agree = _agree(call, jitted, formula.calls.last, tried[0].hand.errors)
        text = "compiled and not, it gives the same" if agree else "compiled, it gives other values"
        probes.append(Probe("jit", agree, text))
    probes += [_batched(call, by_hand, tried[0], p) for p in tried if p.kind is Kind.NEAR]
    return Programs(ours, theirs, probes, notes)


def _agree(call: Call, found: list[np.ndarray], values: list[np.ndarray], errors: list[np.ndarray]) -> bool:
    """Whether both are the same but for roundings of the caller's precision."""
    for x, v, e in zip(found, values, errors, strict=True):
        near = np.abs(x - v) <= in_precision(call.eps, v, e, ANOTHER_ORDER)
        if not np.all(near | (x == v) | (np.isnan(x) & np.isnan(v))):
            return False
    return True


def _batched(call: Call, hand: Traced, p: Point, q: Point) -> Probe:
    """jax.vmap over two points against the two, one after the other, all by NumPy: nothing is compiled."""
    jaxpr, consts = opened(hand.closed)
    live = [k in call.places for k in call.dynamic]
    given = [
        np.stack([p.leaves[k], q.leaves[k]]) if moves else p.leaves[k]
        for k, moves in zip(call.dynamic, live, strict=True)
    ]
    given = [x.astype(v.aval.dtype) if is_wide(x) else x for x, v in zip(given, jaxpr.invars, strict=True)]
    mapped = jax.vmap(lambda *x: eval_jaxpr(jaxpr, consts, *x), [0 if moves else None for moves in live])
    wide = hand.exact or call.dtype == np.float64
    try:
        with jax.enable_x64(wide), jax.numpy_dtype_promotion("standard"):
            both = planned(*opened(jax.make_jaxpr(mapped)(*given)))(*given)
    except Exception as error:
        return Probe("vmap", None, f"it cannot be batched ({type(error).__name__})")
    agree = all(
        _agree(call, [np.asarray(x[n], np.float64) for x in both], point.hand.values, point.hand.errors)
        for n, point in enumerate((p, q))
    )
    how = "agrees with" if agree else "differs from"
    return Probe("vmap", agree, f"jax.vmap over points {how} a loop")
