"""What JAX sees of anybody's function: every equation, and the person's own statements that led to it."""

import contextlib
import inspect
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.extend.core import Literal

from jaxnn.gradcheck.jaxprs.equations import frames, opened, within
from jaxnn.gradcheck.jaxprs.primitives import CALLS
from jaxnn.seeing.graphs.sources import Statement, statement


class Step(NamedTuple):
    """An equation: the numbers of the values it reads and writes, and the statements that led to it."""

    equation: Any
    reads: tuple[int | str, ...]  # a constant is its own text
    writes: tuple[int, ...]
    path: tuple[Statement, ...]  # the outermost first
    spot: tuple  # in the code: the same where a loop comes round
    back: bool  # it is of a transposition: autodiff's backward


class Trace(NamedTuple):
    """A function called once on abstract arrays: every equation, those that lead to nothing included."""

    inputs: dict[int, tuple[str, str]]  # by the number of the value: kind, name
    steps: list[Step]
    outputs: list[int | str]
    shapes: list[str]  # of all values


def traced(function: Callable, arguments: tuple, argnums: tuple[int, ...] = (0,), like=None) -> Trace:
    """What JAX sees of `function(*arguments)`; raises what that raises. `like` may name the arguments, too.

    Arrays, and numbers among the arguments of argnums, are abstract; what else there is stays as it is.
    Calls of functions that a person wrote (jit, custom_vjp, ...) are opened; a loop is one step.
    """
    leaves, tree = jax.tree_util.tree_flatten_with_path(arguments)
    whole = dict(leaves)
    moved = {
        path: leaf
        for path, leaf in leaves
        if hasattr(leaf, "dtype") or (path[0].idx in argnums and isinstance(leaf, float | int | complex))
    }
    names = _names(len(arguments), function, like)
    trace = Trace({}, [], [], [])
    constants: dict[int, int] = {}

    def call(*arrays):
        filled = whole | dict(zip(moved, arrays, strict=True))
        return function(*jax.tree.unflatten(tree, filled.values()))

    def new(variable) -> int:
        trace.shapes.append(str(getattr(variable.aval, "shape", "")))
        return len(trace.shapes) - 1

    def constant(variable, value) -> int:
        if id(value) not in constants:
            constants[id(value)] = new(variable)
            trace.inputs[constants[id(value)]] = "input", _name_of(value, function)
        return constants[id(value)]

    def read(closed, given: list, caller: Step | None = None) -> list[int | str]:
        jaxpr, held = opened(closed)
        known = dict(zip(jaxpr.invars, given, strict=True))
        known |= {v: constant(v, c) for v, c in zip(jaxpr.constvars, held, strict=True)}

        def numbers(variables) -> tuple[int | str, ...]:
            return tuple(f"{v.val} {v.aval}" if isinstance(v, Literal) else known[v] for v in variables)

        for e in jaxpr.eqns:
            back = "transpose(" in str(e.source_info.name_stack) or (caller is not None and caller.back)
            spot = e.primitive.name, *frames(e)
            step = Step(e, numbers(e.invars), (), _path(e, caller), spot, back)
            inner = within(e) if e.primitive.name in CALLS else []
            if len(inner) == 1 and any(_path(i, step) != step.path for i in opened(inner[0])[0].eqns):
                known |= zip(e.outvars, read(inner[0], [*step.reads], step), strict=True)
            else:
                known |= {v: new(v) for v in e.outvars}
                trace.steps.append(step._replace(writes=numbers(e.outvars)))
        return [*numbers(jaxpr.outvars)]

    closed = jax.make_jaxpr(call)(*moved.values())
    for path, v in zip(moved, closed.jaxpr.invars, strict=True):
        kind = "parameter" if path[0].idx in argnums else "input"
        trace.inputs[new(v)] = kind, names[path[0].idx] + jax.tree_util.keystr(path[1:])
    return trace._replace(outputs=read(closed, [*trace.inputs]))


def _names(n: int, *functions) -> list[str]:
    """The names of n arguments, by the first function that names them all."""
    for function in functions:
        with contextlib.suppress(TypeError, ValueError):
            found = inspect.signature(function).parameters.values()
            names = [p.name for p in found if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
            if len(names) >= n:
                return names
    return [f"argument {k}" for k in range(n)]


def _name_of(value, function) -> str:
    """The name of a constant where the function was written."""
    try:
        places = inspect.getclosurevars(inspect.unwrap(getattr(function, "func", function)))
    except (TypeError, ValueError):
        return "constant"
    return next((k for k, v in {**places.globals, **places.nonlocals}.items() if v is value), "constant")


def _path(equation, caller: Step | None) -> tuple[Statement, ...]:
    """The statements that led to an equation; to one within a call, by way of the caller.

    For what JAX had traced before has the frames of then.
    """
    found = list(itertools.takewhile(lambda frame: frame.file_name != __file__, frames(equation)))
    if caller is not None:
        name = opened(within(caller.equation)[0])[0].debug_info.func_name
        called = [frame.function_name.rpartition(".")[2] == name for frame in found]
        found = found[: called.index(True) + 1] if any(called) else []
    path = [statement(frame.file_name, frame.start_line, frame.start_column) for frame in reversed(found)]
    return (*(caller.path if caller else ()), *path)
