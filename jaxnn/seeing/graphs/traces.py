"""What JAX sees of anybody's function: every equation, and the person's own statements that led to it."""

import contextlib
import inspect
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.extend.core import Literal

from jaxnn.gradcheck.jaxprs.equations import frames, opened, within
from jaxnn.seeing.graphs.sources import Statement, statement

CALLS = {"jit", "pjit", "closed_call", "custom_jvp_call", "custom_vjp_call", "checkpoint", "remat"}


class Step(NamedTuple):
    """An equation: the numbers of the values it reads and writes, and the statements that led to it."""

    equation: Any
    reads: tuple[int | str, ...]  # a constant is its own text
    writes: tuple[int, ...]
    path: tuple[Statement, ...]  # the outermost first
    back: bool  # it is of a transposition: autodiff's backward


class Trace(NamedTuple):
    """A function called once on abstract arrays: every equation, those that lead to nothing included."""

    inputs: dict[int, tuple[str, str]]  # by the number of the value: kind, name
    steps: list[Step]
    outputs: list[int | str]
    shapes: list[str]  # of all values


def traced(function: Callable, arguments: tuple, argnums: tuple[int, ...] = (0,), like=None) -> Trace:
    """What JAX sees of `function(*arguments)`; raises what that raises. `like` may name the arguments, too.

    Calls of functions that a person wrote (jit, custom_vjp, ...) are opened; a loop is one step.
    """
    leaves, tree = jax.tree_util.tree_flatten_with_path(arguments)
    moves = [_moves(leaf, path[0].idx in argnums) for path, leaf in leaves]
    written = _written(function)
    own = written.__code__.co_filename if hasattr(written, "__code__") else ""
    names = _names(len(arguments), function, like)

    def call(*arrays):
        given = iter(arrays)
        filled = [next(given) if moved else leaf for (_, leaf), moved in zip(leaves, moves, strict=True)]
        return function(*jax.tree.unflatten(tree, filled))

    moved = list(itertools.compress(leaves, moves))
    closed = jax.make_jaxpr(call)(*(leaf for _, leaf in moved))
    trace = Trace({}, [], [], [])
    constants: dict[int, int] = {}

    def new(variable) -> int:
        shape = getattr(variable.aval, "shape", None)
        trace.shapes.append("" if shape is None else f"({', '.join(map(str, shape))})")
        return len(trace.shapes) - 1

    def constant(variable, value) -> int:
        if id(value) not in constants:
            constants[id(value)] = new(variable)
            trace.inputs[constants[id(value)]] = "input", _name_of(value, written)
        return constants[id(value)]

    def read(closed, given: list, caller: Step | None) -> list[int | str]:
        jaxpr, held = opened(closed)
        known = dict(zip(jaxpr.invars, given, strict=True))
        known |= {v: constant(v, c) for v, c in zip(jaxpr.constvars, held, strict=True)}

        def number(v) -> int | str:
            return f"{v.val!r} {v.aval}" if isinstance(v, Literal) else known[v]

        for e in jaxpr.eqns:
            back = "transpose(" in str(e.source_info.name_stack) or (caller is not None and caller.back)
            step = Step(e, tuple(map(number, e.invars)), (), _path(e, own, caller), back)
            inner = within(e) if e.primitive.name in CALLS else []
            if len(inner) == 1 and any(_path(i, own, step) != step.path for i in opened(inner[0])[0].eqns):
                known |= zip(e.outvars, read(inner[0], [*step.reads], step), strict=True)
            else:
                known |= {v: new(v) for v in e.outvars}
                trace.steps.append(step._replace(writes=tuple(known[v] for v in e.outvars)))
        return [number(v) for v in jaxpr.outvars]

    for (path, _), v in zip(moved, closed.jaxpr.invars, strict=True):
        kind = "parameter" if path[0].idx in argnums else "input"
        trace.inputs[new(v)] = kind, names[path[0].idx] + jax.tree_util.keystr(path[1:])
    return trace._replace(outputs=read(closed, [*trace.inputs], None))


def _moves(leaf, differentiated: bool) -> bool:
    """Whether JAX gets to see it as an array; what else there is stays as it is."""
    return hasattr(leaf, "dtype") or (differentiated and isinstance(leaf, float | int | complex))


def _written(function):
    """The function that a person wrote, without what was put around it."""
    function = inspect.unwrap(function)
    inner = getattr(function, "func", None)  # of functools.partial
    return _written(inner) if callable(inner) else function


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
        places = inspect.getclosurevars(function)
    except (TypeError, ValueError):
        return "constant"
    return next((k for k, v in {**places.globals, **places.nonlocals}.items() if v is value), "constant")


def _path(equation, own: str, caller: Step | None) -> tuple[Statement, ...]:
    """The statements that led to an equation, from the first one in the function's own file on.

    Of a function that JAX had traced before, the calls to it are those of then: the caller's are taken.
    """
    found = list(itertools.takewhile(lambda f: f.file_name != __file__, frames(equation)))
    before = () if caller is None else caller.path
    if caller is not None:
        (called,) = within(caller.equation)
        name = caller.equation.params.get("name") or getattr(opened(called)[0].debug_info, "func_name", "")
        own_frames = [k for k, f in enumerate(found) if _last(f.function_name) == _last(name)]
        found = found[: own_frames[0] + 1] if own_frames else []
    found.reverse()
    first = 0 if before else next((k for k, f in enumerate(found) if f.file_name == own), 0)
    return (*before, *(statement(f.file_name, f.start_line, f.start_column) for f in found[first:]))


def _last(name: str) -> str:
    return str(name).rpartition(".")[2]
