"""A function as a program that a page can run: its jaxpr, a line a primitive, in float64.

No formula is written a second time: what the page computes is printed from the function itself. What the
primitives do there stands in pages/arrays.js.
"""

import math
from collections.abc import Callable, Mapping

import jax
import numpy as np
from jax.extend.core import Literal

from jaxnn.gradcheck.jaxprs.equations import opened, within
from jaxnn.gradcheck.jaxprs.primitives import CALLS

PASSED_ON = {"stop_gradient", "copy", "copy_p", "optimization_barrier", "reduce_precision"}
ELEMENTWISE = (
    *("add", "sub", "mul", "div", "neg", "abs", "sign", "square", "sqrt", "pow", "max", "min", "clamp"),
    *("exp", "expm1", "log", "log1p", "tanh", "logistic", "erfc", "floor", "is_finite", "select_n"),
    *("eq", "ne", "lt", "le", "gt", "ge", "and", "or", "not", "trunc"),
)
REDUCTIONS = ("argmax", "reduce_max", "reduce_min", "reduce_sum")
# primitive: those of its parameters that tell what it does; trunc and constant are not of JAX
SETTINGS = dict.fromkeys(ELEMENTWISE, ()) | dict.fromkeys(REDUCTIONS, ("axes",))
SETTINGS |= {
    "broadcast_in_dim": ("shape", "broadcast_dimensions"),
    "constant": (),
    "dot_general": ("dimension_numbers",),
    "integer_pow": ("y",),
    "iota": ("shape", "dimension"),
    "reshape": ("new_sizes",),
    "round": ("rounding_method",),
    "squeeze": ("dimensions",),
    "transpose": ("permutation",),
}


class Unprintable(ValueError):
    """A function with a primitive that no page knows."""


def program(function: Callable, arguments: Mapping) -> dict:
    """The function of named arrays, which gives named arrays, as what JSON can hold.

    `lines`: (name, primitive, operands, settings), an operand being a name or a number; `outputs`: the name,
    or number, of each array that the function gives. What is computed twice is printed once, and what
    nothing uses not at all. Raises Unprintable.

    >>> import jax.numpy as jnp
    >>> printed = program(lambda given: {"y": 2 * jnp.exp(given["x"] + 1)}, {"x": jnp.ones(3)})
    >>> for line in printed["lines"]:
    ...     print(*line)
    t1 add ['x', 1.0] []
    t2 exp ['t1'] []
    t3 mul [2.0, 't2'] []
    >>> printed["outputs"]
    {'y': 't3'}
    """
    with jax.enable_x64(True):
        arguments = {name: np.asarray(array, np.float64) for name, array in arguments.items()}
        closed, shape = jax.make_jaxpr(function, return_shape=True)(arguments)
    lines = {}  # what each says: the line
    found = _walk(closed, sorted(arguments), lines)  # sorted, as jax flattens a dictionary
    used = _used(lines, {*found})
    if unknown := sorted({line[1] for line in used} - SETTINGS.keys()):
        raise Unprintable(f"{', '.join(unknown)}: no page knows this, expected {', '.join(sorted(SETTINGS))}")
    return {"lines": used, "outputs": dict(zip(sorted(shape), found, strict=True))}


def _walk(jaxpr, operands: list, lines: dict) -> list:
    """Print a jaxpr of these operands; what it gives, as operands."""
    jaxpr, constants = opened(jaxpr)
    known = dict(zip(jaxpr.invars, operands, strict=True))
    known |= {v: _constant(c, lines) for v, c in zip(jaxpr.constvars, constants, strict=True)}

    def read(variables) -> list:
        return [_constant(v.val, lines) if isinstance(v, Literal) else known[v] for v in variables]

    for equation in jaxpr.eqns:
        known |= zip(equation.outvars, _printed(equation, read(equation.invars), lines), strict=True)
    return read(jaxpr.outvars)


def _printed(equation, given: list, lines: dict) -> list:
    """What an equation gives; one that no page knows is printed too: all is well if nothing uses it."""
    name, params = equation.primitive.name, equation.params
    if name in CALLS:
        inner = within(equation)[0]
        return _walk(inner, given[len(given) - len(opened(inner)[0].invars) :], lines)
    if name in PASSED_ON:
        return given
    kind = equation.outvars[0].aval.dtype.kind
    if name == "convert_element_type":
        if kind == "b":
            return [_line("ne", [*given, 0.0], [], lines)]
        whole = kind in "iu" and equation.invars[0].aval.dtype.kind == "f"
        return [_line("trunc", given, [], lines)] if whole else given
    name = "integer div" if name == "div" and kind in "iu" else name
    settings = [params[key] for key in SETTINGS.get(name, ())]
    return [_line(name, given, settings, lines) for _ in equation.outvars]


def _line(name: str, operands: list, settings: list, lines: dict) -> str:
    said = repr((name, operands, settings))
    return lines.setdefault(said, (f"t{len(lines) + 1}", name, operands, settings))[0]


def _constant(value, lines: dict) -> str | float:
    """A number, or the name of an array of numbers; what JSON has no number for is a word."""
    value = np.asarray(value, float)
    if value.ndim == 0 and np.isfinite(value):
        return float(value)
    numbers = [x if math.isfinite(x) else str(x).replace("inf", "Infinity") for x in value.ravel().tolist()]
    return _line("constant", [], [value.shape, numbers], lines)


def _used(lines: dict, needed: set) -> list[tuple]:
    """The lines by which what is needed comes about."""
    kept = []
    for line in reversed(lines.values()):
        if line[0] in needed:
            kept.append(line)
            needed |= {*line[2]}
    return kept[::-1]
