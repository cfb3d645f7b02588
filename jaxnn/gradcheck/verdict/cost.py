"""What a gradient costs, read from the compiled programs of both sides."""

from collections import OrderedDict
from typing import Any, NamedTuple

import jax
from jax.core import eval_jaxpr

from jaxnn.gradcheck.jaxprs.equations import opened, within

KEPT = 64
_programs: OrderedDict[tuple, Any] = OrderedDict()


class Cost(NamedTuple):
    """FLOPs and bytes moved, temporary memory in bytes, equations of the jaxpr; None: not known."""

    flops: float | None
    bytes: float | None
    temporary: int | None
    equations: int


class Program(NamedTuple):
    """A compiled jaxpr: run(*leaves) → arrays; seen: what is known of every such program."""

    run: Any
    cost: Cost
    seen: list


def equations(jaxpr) -> int:
    """The number of equations, those of inner jaxprs counted too."""
    jaxpr, _ = opened(jaxpr)
    total = 0
    for equation in jaxpr.eqns:
        inner = within(equation)
        total += sum(equations(p) for p in inner) if inner else 1
    return total


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
