"""What is read of a jaxpr, in the same way for every version of JAX."""

import contextlib
import linecache
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend.core import Literal

LONG = 100_000  # turns of a while loop, whose number is not known
_HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep  # of gradcheck


def opened(jaxpr) -> tuple[Any, tuple]:
    """(jaxpr, constants) of a jaxpr, closed or not."""
    return getattr(jaxpr, "jaxpr", jaxpr), tuple(getattr(jaxpr, "consts", ()))


def frames(equation) -> list:
    """The user’s own frames of the calls that led to an equation, the innermost first."""
    try:
        from jax._src import source_info_util

        found = list(source_info_util.user_frames(equation.source_info.traceback))
    except (ImportError, AttributeError):  # a private module: where it is another, the line is unknown
        return []
    return [f for f in found if not f.file_name.startswith(_HERE)]


def at_line(equation):
    """A context in which what is traced stands where the equation was written."""
    try:
        from jax._src import source_info_util

        return source_info_util.user_context(equation.source_info.traceback)
    except (ImportError, AttributeError):  # a private module, as above
        return contextlib.nullcontext()


def line_of(equation) -> str:
    """Where the user wrote it: file:line, or "" when unknown."""
    return next((f"{os.path.basename(f.file_name)}:{f.start_line}" for f in frames(equation)), "")


def spot_of(equation) -> tuple:
    """The very place in the code, and the calls that led there: what a loop repeats has the same."""
    return tuple(
        (f.file_name, f.start_line, f.start_column, f.end_column if f.end_line == f.start_line else 0)
        for f in frames(equation)[:4]
    )


def text_of(spot: tuple) -> str:
    """The part of its line that a place in the code is, or "" when unknown."""
    file, line, start, end = spot[0] if spot else ("", 0, 0, 0)
    return linecache.getline(file, line).encode()[start:end].decode(errors="ignore")


def written_out(equation):
    """The jaxpr of a call that JAX itself writes out in simpler primitives."""
    call = equation.params["_prim"]

    def flat(*leaves):
        return jax.tree.leaves(call.expand(*jax.tree.unflatten(call.in_tree, leaves)))

    return jax.make_jaxpr(flat)(*(v.aval for v in equation.invars))


def within(equation) -> list:
    """The jaxprs inside an equation."""
    if "_prim" in equation.params and hasattr(equation, "invars"):
        return [written_out(equation)]
    return [
        p
        for value in equation.params.values()
        for p in (value if isinstance(value, tuple | list) else [value])
        if hasattr(opened(p)[0], "eqns")
    ]


def every(jaxpr) -> Iterator:
    """The equations of a jaxpr, each followed by those of the jaxprs inside it."""
    for equation in opened(jaxpr)[0].eqns:
        yield equation
        for inner in within(equation):
            yield from every(inner)


def primitives(jaxpr) -> set[str]:
    """The names of all primitives in a jaxpr and in those inside it."""
    return {equation.primitive.name for equation in every(jaxpr)}


def pulled_back(jaxpr) -> Counter[str]:
    """The primitives of the equations that autodiff makes on its way back, each with how many there are."""
    return Counter(e.primitive.name for e in every(jaxpr) if "transpose(" in str(e.source_info.name_stack))


def numbers(jaxpr) -> dict[float, str]:
    """The numbers that something is multiplied by, 1/c where it is divided by c, and all lines of it."""
    lines: dict[float, dict[str, None]] = {}
    for number, line in _multiplied(jaxpr):
        lines.setdefault(number, {})[line] = None
    return {number: " or ".join(filter(None, several)) for number, several in lines.items()}


def _multiplied(jaxpr) -> Iterator[tuple[float, str]]:
    jaxpr, consts = opened(jaxpr)
    held = {v: c for v, c in zip(jaxpr.constvars, consts, strict=True) if getattr(c, "size", 0) == 1}
    for equation in jaxpr.eqns:
        read = [v.val if isinstance(v, Literal) else held.get(v) for v in equation.invars]
        if all(x is not None and getattr(x, "size", 1) == 1 for x in read) and not within(equation):
            made = zip(equation.outvars, by_jax(equation, *read), strict=True)  # √4 is a number too
            held |= {v: x for v, x in made if getattr(x, "size", 0) == 1}
        if equation.primitive.name in {"mul", "div"}:
            divides = equation.primitive.name == "div"
            for k, v in enumerate(equation.invars):
                value = v.val if isinstance(v, Literal) else held.get(v)
                if value is not None and abs(value) not in (0, 1):
                    yield float(1 / value if divides and k else value), line_of(equation)
        for inner in within(equation):
            yield from _multiplied(inner)


def is_key(x) -> bool:
    """Whether it is a typed key of random numbers, which NumPy cannot hold."""
    return isinstance(x, jax.Array) and jax.numpy.issubdtype(x.dtype, jax.dtypes.extended)


def kind_of(x) -> str:
    """The letter that NumPy has for the type of an array; "" for keys."""
    return getattr(x.dtype, "kind", "")


def scalars(jaxpr) -> Iterator:
    """The numbers that stand in a jaxpr and in those inside it, as literals or constants."""
    inner, consts = opened(jaxpr)
    yield from (c for c in consts if np.size(c) == 1 and not is_key(c))
    for equation in inner.eqns:
        yield from (v.val for v in equation.invars if isinstance(v, Literal) and np.ndim(v.val) == 0)
        for below in within(equation):
            yield from scalars(below)


def mapped_axes(jaxpr) -> set[int]:
    """The sizes of the axes of devices that shard_map goes over, and their products."""
    meshes = [e.params["mesh"] for e in every(jaxpr) if e.primitive.name == "shard_map"]
    return {size for mesh in meshes for size in (*mesh.shape.values(), mesh.size)}


def turns(jaxpr, unknown: int = LONG) -> int:
    """How many equations run, those in a loop once a turn; unknown: how many turns a while loop takes.

    What converges counts once: a rounding is made good by the turns that follow.
    """
    jaxpr, _ = opened(jaxpr)
    total = 0
    for equation in jaxpr.eqns:
        times = equation.params.get("length", 1)
        if equation.primitive.name == "while" and not converges(equation):
            times = unknown
        total += max(1, times * sum(turns(inner, unknown) for inner in within(equation)))
    return total


def converges(equation) -> bool:
    """Whether it is a while loop that ends by what it computes, not by counting."""
    if equation.primitive.name != "while":
        return False
    closed, fixed = equation.params["cond_jaxpr"], equation.params["cond_nconsts"]
    carried = opened(closed)[0].invars[fixed:]
    real = [fixed + k for k, v in enumerate(carried) if getattr(v.aval.dtype, "kind", "") in "fcV"]
    return bool(real) and depends(closed, real)


def depends(jaxpr, places: list[int], skipped: int = 0) -> bool:
    """Whether any output, the first few left out, depends on the inputs at these places."""
    jaxpr, _ = opened(jaxpr)
    reached = {jaxpr.invars[k] for k in places}
    for equation in jaxpr.eqns:
        if any(not isinstance(v, Literal) and v in reached for v in equation.invars):
            reached.update(equation.outvars)
    return any(not isinstance(v, Literal) and v in reached for v in jaxpr.outvars[skipped:])


def by_jax(equation, *inputs) -> list:
    """What the primitive itself computes of these inputs."""
    primitive = equation.primitive
    out = primitive.bind(*inputs, **primitive.get_bind_params(equation.params))
    return list(out) if primitive.multiple_results else [out]


def parts_of_scan(equation, inputs: Sequence) -> tuple[list, list, list]:
    """The inputs of a scan: what stays, what is carried, what is read turn by turn."""
    p = equation.params
    if "num_consts" in p:
        first, carried = p["num_consts"], p["num_carry"]
    else:
        first, carried, _ = (len(list(part)) for part in p["ft_in"].unpack())
    after = first + carried
    return list(inputs[:first]), list(inputs[first:after]), list(inputs[after:])


def scanned(equation, inputs: Sequence, run: Callable, at: Callable) -> tuple[list, list[list]]:
    """(what a scan carries at last, what it gives turn by turn, a list for each output).

    run(jaxpr, inputs) → outputs is one turn, at(x, t) the entries that turn t reads.
    """
    p = equation.params
    fixed, carry, xs = parts_of_scan(equation, inputs)
    carried = len(carry)
    given: list[list] = [[None] * p["length"] for _ in equation.outvars[carried:]]
    turns = range(p["length"])
    for t in reversed(turns) if p["reverse"] else turns:
        out = run(p["jaxpr"], [*fixed, *carry, *(at(x, t) for x in xs)])
        carry = out[:carried]
        for column, y in zip(given, out[carried:], strict=True):
            column[t] = y
    return list(carry), given


def plan_of(jaxpr) -> list[tuple[Any, list]]:
    """The equations that matter, each with the variables that are not needed after it."""
    needed = {v for v in jaxpr.outvars if not isinstance(v, Literal)}
    plan = []
    for equation in reversed(jaxpr.eqns):
        if not equation.effects and not any(v in needed for v in equation.outvars):
            continue
        fresh = {v for v in equation.invars if not isinstance(v, Literal)} - needed
        needed |= fresh
        plan.append((equation, list(fresh)))
    return plan[::-1]


def walked(jaxpr, plan: list, given: Sequence, step: Callable, literal: Callable = lambda v: v) -> list:
    """The outputs, where step(equation, inputs) → outputs; given: the constants, then the inputs."""
    known = dict(zip((*jaxpr.constvars, *jaxpr.invars), given, strict=True))
    read = lambda v: literal(v) if isinstance(v, Literal) else known[v]  # noqa: E731
    for equation, last in plan:
        known.update(zip(equation.outvars, step(equation, [read(v) for v in equation.invars]), strict=True))
        for v in last:
            known.pop(v, None)
    return [read(v) for v in jaxpr.outvars]
