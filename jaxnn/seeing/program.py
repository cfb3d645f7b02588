"""A function as a program that a page can run: its jaxpr, a line a primitive, in float64.

No formula is written a second time: what the page computes is printed from the function itself. What the
primitives do there stands in pages/arrays.js.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.extend.core import Literal

from jaxnn.gradcheck.jaxprs.by_numpy import INNER
from jaxnn.gradcheck.jaxprs.equations import opened, within

PASSED_ON = {"stop_gradient", "copy", "copy_p", "optimization_barrier", "reduce_precision"}
ELEMENTWISE = (
    *("add", "sub", "mul", "div", "neg", "abs", "sign", "square", "sqrt", "pow", "max", "min", "clamp"),
    *("exp", "expm1", "log", "log1p", "tanh", "logistic", "erfc", "floor", "is_finite", "select_n"),
    *("eq", "ne", "lt", "le", "gt", "ge", "and", "or", "not"),
)
# primitive: those of its parameters that tell what it does
SETTINGS: dict[str, tuple[str, ...]] = dict.fromkeys(ELEMENTWISE, ()) | {
    "argmax": ("axes",),
    "broadcast_in_dim": ("shape", "broadcast_dimensions"),
    "dot_general": ("dimension_numbers",),
    "integer_pow": ("y",),
    "iota": ("shape", "dimension"),
    "reduce_max": ("axes",),
    "reduce_min": ("axes",),
    "reduce_sum": ("axes",),
    "reshape": ("new_sizes",),
    "round": ("rounding_method",),
    "squeeze": ("dimensions",),
    "transpose": ("permutation",),
}
OWN = {"constant", "trunc"}  # what is no primitive of JAX

Lines = dict[str, tuple]  # what a line says: the line


class Unprintable(ValueError):
    """A function with a primitive that no page knows."""


def program(function: Callable, arguments: dict[str, Any]) -> dict:
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
    lines: Lines = {}
    found = _walk(closed, sorted(arguments), lines)  # sorted, as jax flattens a dictionary
    used = _used(lines, {*found})
    if unknown := {line[1] for line in used} - SETTINGS.keys() - OWN:
        said = (", ".join(sorted(names)) for names in (unknown, SETTINGS))
        raise Unprintable("{}: no page knows this, expected {}".format(*said))
    return {"lines": used, "outputs": dict(zip(sorted(shape), found, strict=True))}


def _walk(jaxpr, operands: list, lines: Lines) -> list:
    """Print a jaxpr of these operands; what it gives, as operands."""
    jaxpr, constants = opened(jaxpr)
    known = dict(zip(jaxpr.invars, operands, strict=True))
    known |= {v: _constant(c, lines) for v, c in zip(jaxpr.constvars, constants, strict=True)}

    def read(variables) -> list:
        return [_constant(v.val, lines) if isinstance(v, Literal) else known[v] for v in variables]

    for equation in jaxpr.eqns:
        known |= zip(equation.outvars, _printed(equation, read(equation.invars), lines), strict=True)
    return read(jaxpr.outvars)


def _printed(equation, given: list, lines: Lines) -> list:
    """What an equation gives; one that no page knows is printed too: all is well if nothing uses it."""
    name, params = equation.primitive.name, equation.params
    if name in INNER:
        inner = within(equation)[0]
        return _walk(inner, given[len(given) - len(opened(inner)[0].invars) :], lines)
    if name in PASSED_ON:
        return given
    before, after = (v[0].aval.dtype.kind for v in (equation.invars or equation.outvars, equation.outvars))
    if name == "convert_element_type":
        if after == "b":
            return [_line("ne", [*given, 0.0], [], lines)]
        return [_line("trunc", given, [], lines)] if before == "f" and after in "iu" else given
    name = "integer div" if name == "div" and after in "iu" else name
    settings = [params[key] for key in SETTINGS.get(name, ())]
    return [_line(name, given, settings, lines) for _ in equation.outvars]


def _line(name: str, operands: list, settings: list, lines: Lines) -> str:
    return lines.setdefault(
        repr((name, operands, settings)), (f"t{len(lines) + 1}", name, operands, settings)
    )[0]


def _constant(value, lines: Lines) -> str | float:
    value = np.asarray(value, float)
    if value.ndim == 0 and np.isfinite(value):
        return float(value)
    numbers = [x if math.isfinite(x) else str(x).replace("inf", "Infinity") for x in value.ravel().tolist()]
    return _line("constant", [], [value.shape, numbers], lines)  # JSON has no such numbers


def _used(lines: Lines, needed: set) -> list[tuple]:
    kept = []
    for line in reversed(lines.values()):
        if line[0] in needed:
            kept.append(line)
            needed |= {*line[2]}
    return kept[::-1]
