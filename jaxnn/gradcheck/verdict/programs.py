"""Both sides compiled: what they cost; jit against eager, vmap against a loop."""

from collections import OrderedDict
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.core import eval_jaxpr

from jaxnn.gradcheck.bounds.bounded import UNIT
from jaxnn.gradcheck.calls.call import Call
from jaxnn.gradcheck.calls.returned import Calls
from jaxnn.gradcheck.jaxprs.equations import every, opened, within
from jaxnn.gradcheck.report.model import Cost, Probe
from jaxnn.gradcheck.verdict.point import Point, Sides
from jaxnn.gradcheck.verdict.sides import evaluated, traced

KEPT = 64
_programs: OrderedDict[tuple, Any] = OrderedDict()


class Program(NamedTuple):
    """A compiled jaxpr: run(*leaves) → arrays; seen: what is known of every such program."""

    run: Any
    cost: Cost
    seen: list


def equations(jaxpr) -> int:
    """The number of equations, those of inner jaxprs counted too."""
    return sum(not within(equation) for equation in every(jaxpr))


def compiled(closed, leaves: list) -> Program:
    """The jaxpr compiled for arguments like these leaves. The last few programs are kept."""
    jaxpr, consts = opened(closed)
    key = (str(jaxpr), str(jax.devices()[0]), tuple(_kind(c) for c in consts))
    if key not in _programs:
        lowered = jax.jit(lambda held, given: eval_jaxpr(jaxpr, held, *given)).lower(consts, leaves)
        program = lowered.compile()
        _programs[key] = (program, _cost(program, equations(jaxpr)), [])
        while len(_programs) > KEPT:
            _programs.popitem(last=False)
    _programs.move_to_end(key)
    program, cost, seen = _programs[key]
    return Program(lambda *given: program(consts, list(given)), cost, seen)


def _kind(x) -> str:
    return str(jax.typeof(x))


def _cost(program, count: int) -> Cost:
    try:
        analysis = program.cost_analysis() or {}
        memory = program.memory_analysis()
    except Exception:  # some backends have no analysis: the figures are then unknown
        return Cost(None, None, None, count)
    analysis = analysis[0] if isinstance(analysis, list) else analysis
    temporary = None if memory is None else int(memory.temp_size_in_bytes)
    return Cost(analysis.get("flops"), analysis.get("bytes accessed"), temporary, count)


def compiled_sides(
    call: Call, sides: Sides, tried: list[Point], calls: Calls, eps: float
) -> tuple[Program | None, Program | None, list[Probe]]:
    """Both sides compiled in the caller's dtype; jit against eager, vmap against a loop."""
    given = [call.leaves[k] for k in call.dynamic]
    derivative = jax.grad(call.loss, call.argnums)
    try:
        of_dynamic, _ = call.traceable(derivative, call.leaves)
        ours = compiled(jax.make_jaxpr(of_dynamic)(*given), given)
    except Exception:  # what runs in float64 need not run here, as on a device without that dtype
        ours = None
    if not sides.readable:
        return ours, None, []
    try:
        of_dynamic, _ = call.traceable(call.gradient, call.leaves)
        theirs = compiled(jax.make_jaxpr(of_dynamic)(*given), given)
        jitted = [np.asarray(x).astype(np.float64) for x in theirs.run(*given)]
    except Exception as error:
        return ours, None, [Probe("jit", False, f"jax.jit of it raised {type(error).__name__}")]
    probes = []
    if calls.repeatable:
        with np.errstate(all="ignore"):
            agree = all(
                bool(np.all((np.abs(j - g) <= 4 * eps / UNIT * e + 64 * eps * np.abs(g))
                            | (np.isnan(j) & np.isnan(g)) | (j == g)))
                for j, g, e in zip(jitted, calls.last, tried[0].hand.errors, strict=True)
            )  # fmt: skip
        text = "compiled and not, it gives the same" if agree else "compiled, it gives other values"
        probes.append(Probe("jit", agree, text))
    near = next((p for p in tried if p.name == "a point near it"), None)
    if near is not None:
        probes.append(_batched(call, tried[0], near, theirs))
    return ours, theirs, probes


def _batched(call: Call, p: Point, q: Point, program: Program) -> Probe:
    """jax.vmap over two points against the two, one after the other; once for each program."""
    if program.seen:
        return program.seen[0]
    program.seen.append(_batched_anew(call, p, q))
    return program.seen[0]


def _batched_anew(call: Call, p: Point, q: Point) -> Probe:
    live = set(call.places)
    stacked = [
        np.stack([p.leaves[k], q.leaves[k]]) if k in live else p.leaves[k] for k in range(len(p.leaves))
    ]
    axes = tuple(0 if k in live else None for k in call.dynamic)

    def batched(*args):
        flat = jax.tree.leaves(args)
        of_dynamic, _ = call.traceable(call.gradient, p.leaves)
        return jax.vmap(of_dynamic, in_axes=axes)(*(flat[k] for k in call.dynamic))

    try:
        both = evaluated(call, traced(call, batched, stacked), stacked)
    except Exception as error:
        return Probe("vmap", None, f"it cannot be batched ({type(error).__name__})")
    agree = True
    for n, value in enumerate(both.values):
        for k, point in enumerate((p, q)):
            bound = both.errors[n][k] + point.hand.errors[n]
            with np.errstate(all="ignore"):
                apart = np.abs(value[k] - point.hand.values[n]) > bound
            agree = agree and not apart.any()
    text = "jax.vmap over points agrees with a loop"
    return Probe("vmap", agree, text if agree else "jax.vmap over points differs from a loop")
