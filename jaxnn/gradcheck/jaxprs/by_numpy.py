"""A jaxpr run by NumPy: nothing is compiled, so a small program that runs a few times is fast.

A primitive without a rule here is run by JAX itself.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import Literal

from jaxnn.gradcheck.jaxprs.equations import as_integers, opened


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
    return np.where(x >= 0, 1 / (1 + np.exp(-np.abs(x))), np.exp(-np.abs(x)) / (1 + np.exp(-np.abs(x))))


def _special(name: str, x):
    import scipy.special  # 0.15 s that most programs need not wait for

    return getattr(scipy.special, name)(x)


def _running(step: np.ufunc, params, x):
    axis = params["axis"]
    if params["reverse"]:
        return np.flip(step.accumulate(np.flip(x, axis), axis=axis), axis)
    return step.accumulate(x, axis=axis)


def _iota(params):
    shape, axis = params["shape"], params["dimension"]
    column = np.arange(shape[axis]).astype(params["dtype"])
    return np.broadcast_to(column.reshape([-1 if a == axis else 1 for a in range(len(shape))]), shape)


def _pad(params, x, filling):
    widths = params["padding_config"]
    sizes = [n + max(n - 1, 0) * inner for n, (_, _, inner) in zip(x.shape, widths, strict=True)]
    before, after = ([max(w[side], 0) for w in widths] for side in (0, 1))
    out = np.full([sum(n) for n in zip(before, sizes, after, strict=True)], filling, x.dtype)
    out[tuple(slice(b, b + n, w[2] + 1) for b, n, w in zip(before, sizes, widths, strict=True))] = (
        x  # a negative width cuts off
    )
    ends = [(max(-w[0], 0), n - max(-w[1], 0)) for n, w in zip(out.shape, widths, strict=True)]
    return out[tuple(slice(*e) for e in ends)]


def _window(shape, sizes, starts) -> tuple[slice, ...]:
    """The window of these sizes, moved inside where it would stick out."""
    firsts = [min(max(int(k), 0), n - s) for k, n, s in zip(starts, shape, sizes, strict=True)]
    return tuple(slice(k, k + s) for k, s in zip(firsts, sizes, strict=True))


def _dynamic_update_slice(params, x, part, *starts):
    out = np.array(x)
    out[_window(x.shape, part.shape, starts)] = part
    return out


def _cholesky(params, a):
    out = np.full(a.shape, np.nan, a.dtype)
    for k in np.ndindex(a.shape[:-2]):
        with suppress(np.linalg.LinAlgError):  # not positive definite: as in JAX, not a number
            out[k] = np.linalg.cholesky(a[k])
    return out


def _triangular_solve(params, a, b):
    """X with A X = B, or X A = B."""
    from scipy.linalg import get_blas_funcs  # 0.05 s that most comparisons need not wait for

    a = np.conj(a) if params["conjugate_a"] else a
    (trsm,) = get_blas_funcs(("trsm",), (a, b))
    out = np.empty(b.shape, b.dtype)
    for k in np.ndindex(b.shape[:-2]):
        out[k] = trsm(
            1.0,
            a[k],
            b[k],
            side=not params["left_side"],
            lower=params["lower"],
            trans_a=params["transpose_a"],
            diag=params["unit_diagonal"],
        )
    return out


PLAIN: dict[str, Callable[..., Any]] = {
    "add": np.add,
    "add_any": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "neg": np.negative,
    "max": np.maximum,
    "min": np.minimum,
    "exp": np.exp,
    "exp2": np.exp2,
    "log": np.log,
    "log1p": np.log1p,
    "log2": np.log2,
    "expm1": np.expm1,
    "tanh": np.tanh,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "atan": np.arctan,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan2": np.arctan2,
    "sqrt": np.sqrt,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "cbrt": np.cbrt,
    "square": np.square,
    "one_minus_square": lambda x: (1 - x) * (1 + x),
    "abs": np.abs,
    "sign": np.sign,
    "floor": np.floor,
    "ceil": np.ceil,
    "logistic": _logistic,
    "erf": partial(_special, "erf"),
    "erfc": partial(_special, "erfc"),
    "erf_inv": partial(_special, "erfinv"),
    "lgamma": partial(_special, "gammaln"),
    "digamma": partial(_special, "digamma"),
    "is_finite": np.isfinite,
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "stop_gradient": lambda x: x,
    "copy": lambda x: x,
    "copy_p": lambda x: x,
    "clamp": lambda low, x, high: np.clip(x, low, high),
}

BUILT: dict[str, Callable[..., Any]] = {
    # what takes several passes of JAX's own, or a kernel of its own for every shape
    "iota": _iota,
    "pad": _pad,
    "dynamic_slice": lambda p, x, *starts: x[_window(x.shape, p["slice_sizes"], starts)],
    "dynamic_update_slice": _dynamic_update_slice,
    "cholesky": _cholesky,
    "triangular_solve": _triangular_solve,
}


def _converted(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    return as_integers(x, dtype) if x.dtype.kind == "f" and dtype.kind in "iu" else x.astype(dtype)


SHAPED: dict[str, Callable[..., Any]] = {
    **BUILT,
    "div": lambda p, x, y: x / y,
    "pow": lambda p, x, y: np.power(x, y),
    "integer_pow": lambda p, x: x ** p["y"] if p["y"] >= 0 else 1 / x ** -p["y"],
    "and": lambda p, x, y: np.bitwise_and(x, y),
    "or": lambda p, x, y: np.bitwise_or(x, y),
    "xor": lambda p, x, y: np.bitwise_xor(x, y),
    "not": lambda p, x: np.invert(x),
    "select_n": lambda p, which, x, y: np.where(which, y, x),
    "convert_element_type": lambda p, x: _converted(x, np.dtype(p["new_dtype"])),
    "name": lambda p, x: x,
    "transpose": lambda p, x: x.transpose(p["permutation"]),
    "reshape": lambda p, x: x.reshape(p["new_sizes"]),
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
    "reduce_and": lambda p, x: np.bitwise_and.reduce(x, axis=tuple(p["axes"])),
    "reduce_or": lambda p, x: np.bitwise_or.reduce(x, axis=tuple(p["axes"])),
    "cumsum": lambda p, x: _running(np.add, p, x),
    "cumprod": lambda p, x: _running(np.multiply, p, x),
    "dot_general": _dot_general,
}

INNER = {
    "jit",
    "pjit",
    "closed_call",
    "core_call",
    "remat",
    "remat2",
    "checkpoint",
    "custom_jvp_call",
    "custom_vjp_call",
}


def _rule(equation) -> tuple[Callable, Any]:
    """(f, dtype): f is inputs → the output, of that dtype; or → all outputs, if dtype is None."""
    name, params = equation.primitive.name, equation.params
    inner = params.get("jaxpr", params.get("call_jaxpr", params.get("fun_jaxpr")))
    if name in INNER and inner is not None:
        return planned(*opened(inner)), None
    kinds = [v.aval.dtype for v in equation.invars]
    strange = (
        (name == "div" and not np.issubdtype(kinds[0], np.floating))
        or (name == "select_n" and (len(kinds) != 3 or kinds[0].kind != "b"))
        or (name == "reshape" and params.get("dimensions") is not None)
    )
    if strange or name not in PLAIN.keys() | SHAPED.keys():
        return partial(_by_jax, equation), None
    f = PLAIN[name] if name in PLAIN else partial(SHAPED[name], params)
    return f, equation.outvars[0].aval.dtype


def _by_jax(equation, *inputs) -> Sequence:
    primitive = equation.primitive
    out = primitive.bind(*inputs, **primitive.get_bind_params(equation.params))
    return [_plain(x) for x in (out if primitive.multiple_results else (out,))]


def _plain(x):
    try:
        return np.asarray(x)
    except TypeError:  # a typed random key stays JAX's
        return x


def by_numpy(function: Callable, *args) -> Callable:
    """The function, traced at args once and run by NumPy."""
    closed, shape = jax.make_jaxpr(function, return_shape=True)(*args)
    run = planned(*opened(closed))
    tree = jax.tree.structure(shape)
    return lambda *xs: jax.tree.unflatten(tree, run(*jax.tree.leaves(xs)))


def planned(jaxpr, consts: Sequence) -> Callable[..., list]:
    """args → the outputs of a jaxpr, as NumPy arrays; floating point errors are no news."""
    slots: dict[Any, int] = {}
    start: list[Any] = []

    def slot(atom) -> int:
        if isinstance(atom, Literal):
            start.append(np.asarray(atom.val, getattr(atom.aval, "dtype", None)))
            return len(start) - 1
        if atom not in slots:
            slots[atom] = len(start)
            start.append(None)
        return slots[atom]

    for v, c in zip(getattr(jaxpr, "constvars", ()), consts, strict=True):
        start[slot(v)] = _plain(c)
    ins = [slot(v) for v in jaxpr.invars]
    wanted = {v for v in jaxpr.outvars if not isinstance(v, Literal)}
    live = []
    for e in reversed(jaxpr.eqns):
        if wanted & set(e.outvars) or e.effects:
            live.append(e)
            wanted |= {v for v in e.invars if not isinstance(v, Literal)}
    steps = [(*_rule(e), [slot(v) for v in e.invars], [slot(v) for v in e.outvars]) for e in reversed(live)]
    outs = [slot(v) for v in jaxpr.outvars]

    def run(*args):
        env = list(start)
        for k, x in zip(ins, args, strict=True):
            env[k] = x
        with np.errstate(all="ignore"):
            for f, dtype, reads, writes in steps:
                out = f(*[env[r] for r in reads])
                if dtype is None:
                    for k, x in zip(writes, out, strict=True):
                        env[k] = x
                else:
                    out = np.asarray(out)
                    env[writes[0]] = out if out.dtype == dtype else out.astype(dtype)
        return [env[k] for k in outs]

    return run


def applied(equation, values) -> list:
    """The primitive itself, on these values; by NumPy where that is simple, so nothing is compiled."""
    if equation.primitive.name in BUILT and all(isinstance(v, np.ndarray) for v in values):
        return [as_numpy(BUILT[equation.primitive.name](equation.params, *values))]
    params = dict(equation.params)
    wide = all(isinstance(v, np.ndarray | np.generic) and v.dtype == np.float64 for v in values)
    if wide and params.get("preferred_element_type") is not None:
        params["preferred_element_type"] = np.dtype(np.float64)
    name, scatter = equation.primitive.name.replace("-", "_"), None
    if name in ("scatter", "scatter_add", "scatter_mul", "scatter_min", "scatter_max"):
        scatter = getattr(lax, name)
    if scatter is not None:
        names = ("dimension_numbers", "indices_are_sorted", "unique_indices", "mode")
        out = scatter(*values, **{n: params[n] for n in names})
    else:
        out = equation.primitive.bind(*values, **equation.primitive.get_bind_params(params))
    out = list(out) if equation.primitive.multiple_results else [out]
    return [as_numpy(o) for o in out]


def as_numpy(x):
    """As NumPy, floats as float64; keys of random numbers stay as they are."""
    if jnp.issubdtype(jnp.result_type(x), jax.dtypes.extended):
        return x
    x = np.asarray(x)
    return x.astype(np.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x
