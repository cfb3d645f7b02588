"""What is read of a jaxpr, in the same way for every version of JAX."""

import os
from typing import Any

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
    except Exception:  # a private module: where it is missing, the line is unknown
        return []
    return [f for f in found if not f.file_name.startswith(_HERE)]


def line_of(equation) -> str:
    """Where the user wrote it: file:line, or "" when unknown."""
    for frame in frames(equation):
        return f"{os.path.basename(frame.file_name)}:{frame.start_line}"
    return ""


def spot_of(equation) -> tuple:
    """The very place in the code, and the calls that led there: what a loop repeats has the same."""
    return tuple((f.file_name, f.start_line, f.start_column) for f in frames(equation)[:4])


def primitives(jaxpr) -> set[str]:
    """The names of all primitives in a jaxpr and in those inside it."""
    jaxpr, _ = opened(jaxpr)
    names = set()
    for equation in jaxpr.eqns:
        names.add(equation.primitive.name)
        for inner in within(equation):
            names |= primitives(inner)
    return names


def numbers(jaxpr) -> dict[float, str]:
    """The numbers that something is multiplied by, 1/c where it is divided by c, and where that is."""
    jaxpr, consts = opened(jaxpr)
    held = {v: c for v, c in zip(jaxpr.constvars, consts, strict=True) if getattr(c, "size", 0) == 1}
    found: dict[float, str] = {}
    for equation in jaxpr.eqns:
        read = [v.val if isinstance(v, Literal) else held.get(v) for v in equation.invars]
        if all(x is not None and getattr(x, "size", 1) == 1 for x in read) and not within(equation):
            out = equation.primitive.bind(*read, **equation.params)  # √4 is a number too
            if getattr(out, "size", 0) == 1:
                held[equation.outvars[0]] = out
        if equation.primitive.name in {"mul", "div"}:
            divides = equation.primitive.name == "div"
            for k, v in enumerate(equation.invars):
                value = v.val if isinstance(v, Literal) else held.get(v)
                if value is not None and abs(value) not in (0, 1):
                    found.setdefault(float(1 / value if divides and k else value), line_of(equation))
        for inner in within(equation):
            found = {**numbers(inner), **found}
    return found


def mapped_axes(jaxpr) -> set[int]:
    """The sizes of the axes of devices that shard_map or pmap goes over, and their products."""
    jaxpr, _ = opened(jaxpr)
    sizes = set()
    for equation in jaxpr.eqns:
        if equation.primitive.name == "shard_map":
            mesh = equation.params["mesh"]
            sizes |= {*mesh.shape.values(), mesh.size}
        elif equation.primitive.name == "xla_pmap":
            sizes.add(equation.params["global_axis_size"])
        for inner in within(equation):
            sizes |= mapped_axes(inner)
    return sizes


def within(equation) -> list:
    """The jaxprs inside an equation."""
    return [
        p
        for value in equation.params.values()
        for p in (value if isinstance(value, tuple | list) else [value])
        if hasattr(opened(p)[0], "eqns")
    ]


def turns(jaxpr) -> int:
    """How many equations run, those in a loop once a turn; a while loop is taken for a long one."""
    jaxpr, _ = opened(jaxpr)
    total = 0
    for equation in jaxpr.eqns:
        times = LONG if equation.primitive.name == "while" else equation.params.get("length", 1)
        total += max(1, times * sum(turns(inner) for inner in within(equation)))
    return total


def depends(jaxpr, places: list[int], skipped: int = 0) -> bool:
    """Whether any output, the first few left out, depends on the inputs at these places."""
    jaxpr, _ = opened(jaxpr)
    reached = {jaxpr.invars[k] for k in places}
    for equation in jaxpr.eqns:
        if any(not isinstance(v, Literal) and v in reached for v in equation.invars):
            reached.update(equation.outvars)
    return any(not isinstance(v, Literal) and v in reached for v in jaxpr.outvars[skipped:])


def scan_counts(params: dict[str, Any]) -> tuple[int, int]:
    """(number of constants, number of carried values) of a scan equation."""
    if "num_consts" in params:
        return params["num_consts"], params["num_carry"]
    consts, carry, _ = params["ft_in"].unpack()
    return len(list(consts)), len(list(carry))


def as_integers(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Floats as integers, as XLA takes them: what is too large is the largest, what is no number 0."""
    info = np.iinfo(dtype)
    whole = np.trunc(np.nan_to_num(x.astype(np.float64), nan=0.0, posinf=np.inf, neginf=-np.inf))
    inside = (whole >= info.min) & (whole <= info.max) & (whole < 2.0**63)
    ends = np.where(whole > 0, np.array(info.max, dtype), np.array(info.min, dtype))
    return np.where(inside, np.where(inside, whole, 0).astype(dtype), ends)


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
