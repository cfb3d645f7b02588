"""A jaxpr run by NumPy: nothing is compiled, so a small program that runs once is fast.

A primitive without a rule here is run by JAX itself.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import scipy.special
from jax.extend.core import Literal

from jaxnn.gradcheck.jaxprs import opened


def _dot_general(params, x, y):
    (cx, cy), (bx, by) = params["dimension_numbers"]
    free_x = [a for a in range(x.ndim) if a not in (*cx, *bx)]
    free_y = [a for a in range(y.ndim) if a not in (*cy, *by)]
    out = [x.shape[a] for a in (*bx, *free_x)] + [y.shape[a] for a in free_y]
    batch = [x.shape[a] for a in bx]
    k = int(np.prod([x.shape[a] for a in cx]))
    rows = int(np.prod([x.shape[a] for a in free_x]))
    columns = int(np.prod([y.shape[a] for a in free_y]))
    left = x.transpose(*bx, *free_x, *cx).reshape(*batch, rows, k)
    right = y.transpose(*by, *cy, *free_y).reshape(*batch, k, columns)
    return np.matmul(left, right).reshape(out)


def _broadcast_in_dim(params, x, *_):
    shape = [1] * len(params["shape"])
    for k, a in enumerate(params["broadcast_dimensions"]):
        shape[a] = x.shape[k]
    return np.broadcast_to(x.reshape(shape), params["shape"])


def _logistic(x):
    return np.where(
        x >= 0, 1 / (1 + np.exp(-np.abs(x))), np.exp(-np.abs(x)) / (1 + np.exp(-np.abs(x)))
    )


def _select(which, *cases):
    return np.where(which, cases[1], cases[0]) if len(cases) == 2 and which.dtype == bool else None


def _running(step: np.ufunc, params, x):
    axis = params["axis"]
    if params["reverse"]:
        return np.flip(step.accumulate(np.flip(x, axis), axis=axis), axis)
    return step.accumulate(x, axis=axis)


PLAIN: dict[str, Callable[..., Any]] = {
    "add": np.add, "add_any": np.add, "sub": np.subtract, "mul": np.multiply, "neg": np.negative,
    "max": np.maximum, "min": np.minimum, "exp": np.exp, "exp2": np.exp2, "log": np.log,
    "log1p": np.log1p, "expm1": np.expm1, "tanh": np.tanh, "sinh": np.sinh, "cosh": np.cosh,
    "sin": np.sin, "cos": np.cos, "tan": np.tan, "atan": np.arctan, "asin": np.arcsin,
    "acos": np.arccos, "atan2": np.arctan2, "sqrt": np.sqrt, "rsqrt": lambda x: 1 / np.sqrt(x),
    "cbrt": np.cbrt, "square": np.square, "abs": np.abs, "sign": np.sign, "floor": np.floor,
    "ceil": np.ceil, "logistic": _logistic, "erf": scipy.special.erf, "erfc": scipy.special.erfc,
    "erf_inv": scipy.special.erfinv, "lgamma": scipy.special.gammaln,
    "digamma": scipy.special.digamma, "is_finite": np.isfinite, "eq": np.equal,
    "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater,
    "ge": np.greater_equal, "stop_gradient": lambda x: x, "copy": lambda x: x,
    "copy_p": lambda x: x, "clamp": lambda low, x, high: np.clip(x, low, high),
}  # fmt: skip

SHAPED: dict[str, Callable[..., Any]] = {
    "div": lambda p, x, y: x / y if np.issubdtype(x.dtype, np.floating) else None,
    "pow": lambda p, x, y: np.power(x, y),
    "integer_pow": lambda p, x: x ** p["y"] if p["y"] >= 0 else 1 / x ** -p["y"],
    "and": lambda p, x, y: np.bitwise_and(x, y),
    "or": lambda p, x, y: np.bitwise_or(x, y),
    "xor": lambda p, x, y: np.bitwise_xor(x, y),
    "not": lambda p, x: np.invert(x),
    "select_n": lambda p, *xs: _select(*xs),
    "convert_element_type": lambda p, x: x.astype(p["new_dtype"]),
    "name": lambda p, x: x,
    "transpose": lambda p, x: x.transpose(p["permutation"]),
    "reshape": lambda p, x: x.reshape(p["new_sizes"]) if p.get("dimensions") is None else None,
    "squeeze": lambda p, x: np.squeeze(x, tuple(p["dimensions"])),
    "expand_dims": lambda p, x: np.expand_dims(x, tuple(p["dimensions"])),
    "broadcast_in_dim": _broadcast_in_dim,
    "rev": lambda p, x: np.flip(x, p["dimensions"]),
    "concatenate": lambda p, *xs: np.concatenate(xs, axis=p["dimension"]),
    "slice": lambda p, x: x[
        tuple(
            slice(a, b, s)
            for a, b, s in zip(
                p["start_indices"], p["limit_indices"], p["strides"] or [1] * x.ndim, strict=True
            )
        )
    ],
    "reduce_sum": lambda p, x: np.sum(x, axis=tuple(p["axes"]), dtype=x.dtype),
    "reduce_prod": lambda p, x: np.prod(x, axis=tuple(p["axes"]), dtype=x.dtype),
    "reduce_max": lambda p, x: np.max(x, axis=tuple(p["axes"])),
    "reduce_min": lambda p, x: np.min(x, axis=tuple(p["axes"])),
    "reduce_and": lambda p, x: np.all(x, axis=tuple(p["axes"])),
    "reduce_or": lambda p, x: np.any(x, axis=tuple(p["axes"])),
    "cumsum": lambda p, x: _running(np.add, p, x),
    "cumprod": lambda p, x: _running(np.multiply, p, x),
    "dot_general": _dot_general,
}


def _inner(equation):
    if equation.primitive.name in {"jit", "pjit", "closed_call", "core_call", "remat", "remat2",
                                   "checkpoint", "custom_jvp_call", "custom_vjp_call"}:  # fmt: skip
        inner = equation.params.get("jaxpr", equation.params.get("call_jaxpr"))
        return inner if inner is not None else equation.params.get("fun_jaxpr")
    return None


def _applied(equation, inputs: list) -> Sequence:
    name, params = equation.primitive.name, equation.params
    inner = _inner(equation)
    if inner is not None:
        jaxpr, consts = opened(inner)
        return run(jaxpr, consts, inputs)
    out = None
    if name in PLAIN:
        out = PLAIN[name](*inputs)
    elif name in SHAPED:
        out = SHAPED[name](params, *inputs)
    if out is not None:
        aval = equation.outvars[0].aval
        out = np.asarray(out)
        return (out if out.dtype == aval.dtype else out.astype(aval.dtype),)
    out = equation.primitive.bind(*inputs, **equation.primitive.get_bind_params(params))
    return [_plain(x) for x in (out if equation.primitive.multiple_results else (out,))]


def _plain(x):
    try:
        return np.asarray(x)
    except TypeError:  # a typed random key stays JAX's
        return x


def run(jaxpr, consts: Sequence, args: Sequence) -> list:
    """The outputs of a jaxpr at args, as NumPy arrays; floating point errors are no news."""
    env = dict(zip(getattr(jaxpr, "constvars", ()), map(_plain, consts), strict=True))
    env.update(zip(jaxpr.invars, args, strict=True))

    def read(atom):
        return np.asarray(atom.val, atom.aval.dtype) if isinstance(atom, Literal) else env[atom]

    with np.errstate(all="ignore"):
        for e in jaxpr.eqns:
            env.update(zip(e.outvars, _applied(e, [read(v) for v in e.invars]), strict=True))
    return [read(v) for v in jaxpr.outvars]
