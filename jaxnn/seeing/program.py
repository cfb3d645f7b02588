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

from jaxnn.gradcheck.jaxprs.equations import opened, within

CALLS = {
    "jit",
    "pjit",
    "closed_call",
    "core_call",
    "custom_jvp_call",
    "custom_vjp_call",
    "remat",
    "checkpoint",
}
PASSED_ON = {"stop_gradient", "copy", "copy_p", "optimization_barrier", "reduce_precision"}
ELEMENTWISE = (
    *("add", "sub", "mul", "div", "neg", "abs", "sign", "square", "sqrt", "pow", "max", "min", "clamp"),
    *("exp", "expm1", "log", "log1p", "tanh", "logistic", "erfc", "floor", "is_finite", "select_n"),
    *("eq", "ne", "lt", "le", "gt", "ge", "and", "or", "not"),
)

# primitive: what is known of it beside its operands
SETTINGS: dict[str, Callable[[dict], Any]] = {
    "argmax": lambda p: p["axes"],
    "broadcast_in_dim": lambda p: (p["shape"], p["broadcast_dimensions"]),
    "dot_general": lambda p: p["dimension_numbers"],
    "integer_pow": lambda p: p["y"],
    "iota": lambda p: (p["shape"], p["dimension"]),
    "reduce_max": lambda p: p["axes"],
    "reduce_min": lambda p: p["axes"],
    "reduce_sum": lambda p: p["axes"],
    "round": lambda p: int(p["rounding_method"]),
    "transpose": lambda p: p["permutation"],
} | dict.fromkeys(ELEMENTWISE, lambda p: None)
RESHAPES = {"reshape", "squeeze", "expand_dims"}


class Unprintable(ValueError):
    """A function with a primitive that no page knows."""


def program(function: Callable, arguments: dict[str, Any]) -> dict:
    """The function of named arrays, which gives named arrays, as what JSON can hold.

    `lines`: [name, primitive, operands, settings], an operand being a name or a number; `constants`: name:
    [shape, numbers]; `outputs`: the name, or number, of each array that the function gives. What is computed
    twice is printed once, and what nothing uses not at all. Raises Unprintable.

    >>> import jax.numpy as jnp
    >>> printed = program(lambda given: {"y": 2 * jnp.exp(given["x"] + 1)}, {"x": jnp.ones(3)})
    >>> for line in printed["lines"]:
    ...     print(*line)
    t1 add ['x', 1.0] None
    t2 exp ['t1'] None
    t3 mul [2.0, 't2'] None
    >>> printed["outputs"]
    {'y': 't3'}
    """
    with jax.enable_x64(True):
        arguments = {name: np.asarray(array, np.float64) for name, array in arguments.items()}
        closed, shape = jax.make_jaxpr(function, return_shape=True)(arguments)
    names, printer = sorted(arguments), _Printer()  # as jax flattens a dictionary
    found = printer.walk(closed, names)
    outputs = dict(zip(sorted(shape), found, strict=True))
    lines = _used(printer.lines, {x for x in found if isinstance(x, str)})
    unknown = sorted({line[1].partition(" ")[0] for line in lines if " " in line[1]})
    if unknown:
        raise Unprintable(f"{', '.join(unknown)}: no page knows this, expected {', '.join(sorted(SETTINGS))}")
    read = {x for _, _, operands, _ in lines for x in operands} | set(found)
    constants = {name: value for name, value in printer.constants.items() if name in read}
    return {"constants": constants, "lines": lines, "outputs": outputs}


def _used(lines: list, needed: set[str]) -> list:
    kept = []
    for line in reversed(lines):
        if line[0] in needed:
            kept.append(line)
            needed |= {x for x in line[2] if isinstance(x, str)}
    return kept[::-1]


class _Printer:
    def __init__(self):
        self.lines, self.known, self.constants = [], {}, {}

    def walk(self, jaxpr, operands: list) -> list:
        """Print a jaxpr of these operands; what it gives, as operands."""
        jaxpr, consts = opened(jaxpr)
        env = dict(zip(jaxpr.invars, operands, strict=True))
        env |= {v: self.constant(np.asarray(c)) for v, c in zip(jaxpr.constvars, consts, strict=True)}

        def read(v):
            return self.constant(np.asarray(v.val)) if isinstance(v, Literal) else env[v]

        for equation in jaxpr.eqns:
            given = [read(v) for v in equation.invars]
            env |= zip(equation.outvars, self.printed(equation, given), strict=True)
        return [read(v) for v in jaxpr.outvars]

    def constant(self, value: np.ndarray) -> str | float:
        if value.ndim == 0 and math.isfinite(value):
            return float(value)
        name = f"c{len(self.constants) + 1}"
        self.constants[name] = [list(value.shape), [_number(x) for x in value.ravel().tolist()]]
        return name

    def printed(self, equation, given: list) -> list:
        name, params = equation.primitive.name, equation.params
        if name in CALLS:
            inner = within(equation)[0]
            return self.walk(inner, given[len(given) - len(opened(inner)[0].invars) :])
        if name in PASSED_ON:
            return given
        kind = equation.outvars[0].aval.dtype.kind
        if name == "convert_element_type":
            whole = kind in "iu" and equation.invars[0].aval.dtype.kind == "f"
            if not whole and kind != "b":
                return given
            return [self.line("trunc" if whole else "ne", given if whole else [*given, 0.0], None)]
        if name in RESHAPES:
            return [self.line("reshape", given, equation.outvars[0].aval.shape)]
        if name not in SETTINGS or (
            name == "div" and kind in "iu"
        ):  # as long as nothing uses it, all is well
            return [self.line(f"{name} of {kind}", given, k) for k, _ in enumerate(equation.outvars)]
        return [self.line(name, given, SETTINGS[name](params))]

    def line(self, name: str, operands: list, settings) -> str:
        settings = _plain(settings)
        key = (name, *operands, repr(settings))
        if key not in self.known:
            self.known[key] = f"t{len(self.known) + 1}"
            self.lines.append([self.known[key], name, operands, settings])
        return self.known[key]


def _number(x) -> float | str:
    return float(x) if math.isfinite(x) else str(float(x)).replace("inf", "Infinity")  # JSON has no others


def _plain(settings):
    return [_plain(x) for x in settings] if isinstance(settings, tuple | list) else settings
