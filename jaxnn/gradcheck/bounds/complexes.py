"""Error bounds of complex numbers: the error of one bounds its distance, as that of a real number does."""

import math
from collections.abc import Callable

import numpy as np

from jaxnn.gradcheck.bounds.bounded import UNIT, Bounded, error_of, nearest, settled, stretched
from jaxnn.gradcheck.bounds.corners import STEPS_AND_CORNERS, compared
from jaxnn.gradcheck.jaxprs.by_numpy import applied
from jaxnn.gradcheck.jaxprs.primitives import matrices


def _of_one(function, ulps: int):
    """A function that moves no two numbers further apart."""
    return lambda params, x: settled(v := function(x.value), ulps * UNIT * np.abs(v) + error_of(x), x)


def _complex(params, a, b):
    return settled(a.value + 1j * b.value, np.hypot(error_of(a), error_of(b)), a, b)


def _added(sign: int):
    def rule(params, a, b):
        value = a.value + sign * b.value
        return settled(value, UNIT * np.abs(value) + error_of(a) + error_of(b), a, b)

    return rule


def _mul(params, a, b):
    value = a.value * b.value
    moved = np.abs(a.value) * error_of(b) + (np.abs(b.value) + error_of(b)) * error_of(a)
    return settled(value, 4 * UNIT * np.abs(value) + moved, a, b)


def _div(params, a, b):
    value = a.value / b.value
    least = nearest(b.value, error_of(b))
    moved = np.abs(value) * error_of(b) + error_of(a)
    share = np.where(least > 0, moved / least, np.where(moved == 0, 0.0, np.inf))
    return settled(value, 16 * UNIT * np.abs(value) + share, a, b)


def _exp(params, x):
    value = np.exp(x.value)
    size = np.abs(value)
    return settled(value, 8 * UNIT * size + stretched(size, np.expm1(np.asarray(error_of(x)))), x)


def _integer_pow(params, x):
    n = params.get("y", 2)
    value, far = x.value**n, np.abs(x.value) + error_of(x)
    least = far if n > 0 else nearest(x.value, error_of(x))
    slope = abs(n) * np.where(least > 0, least ** float(n - 1), 0.0 if n > 0 else np.inf)
    return settled(value, 4 * (1 + abs(n)) * UNIT * np.abs(value) + slope * error_of(x), x)


def _reduce_sum(params, x):
    axes = tuple(params["axes"])
    terms = math.prod(x.value.shape[a] for a in axes)
    error = np.sum(x.errors + terms * UNIT * np.abs(x.value), axes)
    return settled(np.asarray(x.value.sum(axes)), error, x)


def _dot_general(params, a, b):
    left, right, shape = matrices(params, a.value, b.value)
    first, second = left(a.value), right(b.value)
    size, other = np.abs(first), np.abs(second)
    moved = left(a.errors) @ (other + right(b.errors)) + size @ right(b.errors)
    error = 4 * (first.shape[-1] + 2) * UNIT * (size @ other) + moved
    return settled((first @ second).reshape(shape), error.reshape(shape), a, b)


def fft(equation, inputs) -> list[Bounded]:
    """A sum of all entries, each turned; that of half a spectrum counts most of them twice."""
    (x,) = inputs
    (value,) = applied(equation, [x.value])
    lengths = equation.params["fft_lengths"]
    axes, terms = tuple(range(-len(lengths), 0)), math.prod(lengths)
    inverse = "I" in equation.params["fft_type"].name
    share = 2 / terms if inverse else 1.0
    depth = 8 * (1 + math.log2(max(terms, 1)))
    error = share * np.sum(x.errors + depth * UNIT * np.abs(x.value), axes, keepdims=True)
    return [settled(value, np.broadcast_to(error, value.shape), x)]


def _convert(params, x):
    kind = np.dtype(params["new_dtype"]).kind
    if kind not in "fc":
        return None
    return Bounded(x.value.real if kind == "f" else x.value.astype(complex), x.error, x.active)


COMPLEX: dict[str, Callable] = {
    "real": _of_one(np.real, 0),
    "imag": _of_one(np.imag, 0),
    "conj": _of_one(np.conj, 0),
    "neg": _of_one(np.negative, 0),
    "abs": _of_one(np.abs, 2),
    "complex": _complex,
    "add": _added(1),
    "add_any": _added(1),
    "sub": _added(-1),
    "mul": _mul,
    "div": _div,
    "exp": _exp,
    "integer_pow": _integer_pow,
    "square": _integer_pow,
    "reduce_sum": _reduce_sum,
    "dot_general": _dot_general,
    "eq": compared(np.equal, True),
    "ne": compared(np.not_equal, True),
    "select_n": STEPS_AND_CORNERS["select_n"],
    "convert_element_type": _convert,
}
