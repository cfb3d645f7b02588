"""The primitives of JAX, a row each: what a student calls it, of what kind it is, how NumPy computes it."""

import math
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np


class Kind(Enum):
    """What kind of step it is; its rule for error bounds is in the file of bounds/ for its kind."""

    FUNCTION = "continuous, entry by entry, and smooth but for isolated points"
    STEP = "entry by entry; what comes out jumps, so that it may be in doubt"
    CORNER = "entry by entry; an extreme, a choice, or made of what is in doubt"
    SAME = "hands on what it is given"
    VIEW = "the same entries in another shape or order"
    PART = "some of the entries"
    MOVE = "entries elsewhere, beside others or added up where they meet"
    PRODUCT = "sums of products of two arrays"
    SUM = "one number for all entries along some axes"
    RUNNING = "the same, at every entry along one axis"
    ORDER = "which entry is the largest, and all that is sorted by size"
    SYSTEM = "linear systems and factorisations"
    RANDOM = "random numbers"
    CALL = "runs a program in its place"
    CUSTOM = "runs a program whose derivative is given beside it"
    CONTROL = "runs programs in its own way: loops, branches"


class Primitive(NamedTuple):
    """A row: its words, its kind, and its output or outputs in NumPy, of the inputs or params and them."""

    words: str
    kind: Kind
    plain: Callable[..., Any] | None = None
    shaped: Callable[..., Any] | None = None


def as_integers(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Floats as integers, as XLA takes them: what is too large is the largest, what is no number 0."""
    info = np.iinfo(dtype)
    whole = np.trunc(np.nan_to_num(x.astype(np.float64), nan=0.0, posinf=np.inf, neginf=-np.inf))
    inside = (whole >= info.min) & (whole <= info.max) & (whole < 2.0**63)
    ends = np.where(whole > 0, np.array(info.max, dtype), np.array(info.min, dtype))
    return np.where(inside, np.where(inside, whole, 0).astype(dtype), ends)


def _converted(params, x):
    dtype = np.dtype(params["new_dtype"])
    return as_integers(x, dtype) if x.dtype.kind == "f" and dtype.kind in "iu" else x.astype(dtype)


def _logistic(x):
    q = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, q) / (1.0 + q)


def _integer_pow(params, x):
    n = params["y"]
    return x**n if n >= 0 else 1 / x**-n


def _special(name: str, x):
    import scipy.special  # 0.15 s that most programs need not wait for

    return getattr(scipy.special, name)(x)


def matrices(params, x, y) -> tuple[Callable, Callable, list[int]]:
    """(f, g, shape): the sums of products of a dot_general are f(x) @ g(y), in that shape."""
    (cx, cy), (bx, by) = params["dimension_numbers"]
    free_x = [a for a in range(x.ndim) if a not in (*cx, *bx)]
    free_y = [a for a in range(y.ndim) if a not in (*cy, *by)]
    batch, terms = [x.shape[a] for a in bx], math.prod(x.shape[a] for a in cx)
    rows, columns = [x.shape[a] for a in free_x], [y.shape[a] for a in free_y]
    left = lambda v: v.transpose(*bx, *free_x, *cx).reshape(*batch, math.prod(rows), terms)  # noqa: E731
    right = lambda v: v.transpose(*by, *cy, *free_y).reshape(*batch, terms, math.prod(columns))  # noqa: E731
    return left, right, [*batch, *rows, *columns]


def _dot_general(params, x, y):
    left, right, shape = matrices(params, x, y)
    return np.matmul(left(x), right(y)).reshape(shape)


def _reduced(step: np.ufunc, params, x):
    return step.reduce(x, axis=tuple(params["axes"]))


def _running(step: np.ufunc, params, x):
    axis = params["axis"]
    if params["reverse"]:
        return np.flip(step.accumulate(np.flip(x, axis), axis=axis), axis)
    return step.accumulate(x, axis=axis)


def _broadcast_in_dim(params, x, *_):
    shape = [1] * len(params["shape"])
    for k, a in enumerate(params["broadcast_dimensions"]):
        shape[a] = x.shape[k]
    return np.broadcast_to(x.reshape(shape), params["shape"])


def _reshape(params, x, *_):
    turned = x if params["dimensions"] is None else x.transpose(params["dimensions"])
    return turned.reshape(params["new_sizes"])


def _sliced(params, x):
    strides = params["strides"] or [1] * x.ndim
    ends = zip(params["start_indices"], params["limit_indices"], strides, strict=True)
    return x[tuple(slice(*e) for e in ends)]


def _iota(params):
    shape, axis = params["shape"], params["dimension"]
    column = np.arange(shape[axis]).astype(params["dtype"])
    return np.broadcast_to(column.reshape([-1 if a == axis else 1 for a in range(len(shape))]), shape)


def _pad(params, x, filling):
    """With a border, and with gaps; a negative width cuts off."""
    widths = params["padding_config"]
    sizes = [n + max(n - 1, 0) * inner for n, (_, _, inner) in zip(x.shape, widths, strict=True)]
    before, after = ([max(w[side], 0) for w in widths] for side in (0, 1))
    out = np.full([sum(n) for n in zip(before, sizes, after, strict=True)], filling, x.dtype)
    out[tuple(slice(b, b + n, w[2] + 1) for b, n, w in zip(before, sizes, widths, strict=True))] = x
    ends = [(max(-w[0], 0), n - max(-w[1], 0)) for n, w in zip(out.shape, widths, strict=True)]
    return out[tuple(slice(*e) for e in ends)]


def _window(shape, sizes, starts) -> tuple[slice, ...]:
    """The window of these sizes, moved inside where it would stick out."""
    firsts = [min(max(int(k), 0), n - s) for k, n, s in zip(starts, shape, sizes, strict=True)]
    return tuple(slice(k, k + s) for k, s in zip(firsts, sizes, strict=True))


def _dynamic_slice(params, x, *starts):
    return x[_window(x.shape, params["slice_sizes"], starts)]


def _dynamic_update_slice(params, x, part, *starts):
    out = np.array(x)
    out[_window(x.shape, part.shape, starts)] = part
    return out


def _cholesky(params, a):
    """L with A = L Lᵀ; not a number where there is none, as in JAX."""
    out = np.full(a.shape, np.nan, a.dtype)
    for k in np.ndindex(a.shape[:-2]):
        with suppress(np.linalg.LinAlgError):
            out[k] = np.linalg.cholesky(a[k])
    return out


def _triangular_solve(params, a, b):
    """X with A X = B, or X A = B."""
    from scipy.linalg import get_blas_funcs  # 0.05 s that most comparisons need not wait for

    a = np.conj(a) if params["conjugate_a"] else a
    (trsm,) = get_blas_funcs(("trsm",), (a, b))
    form = {"side": not params["left_side"], "lower": params["lower"]}
    form |= {"trans_a": params["transpose_a"], "diag": params["unit_diagonal"]}
    out = np.empty(b.shape, b.dtype)
    for k in np.ndindex(b.shape[:-2]):
        out[k] = trsm(1.0, a[k], b[k], **form)
    return out


NAMELESS = {  # a student has no other name for them, and NumPy does not do them
    Kind.FUNCTION: "polynomial nextafter",
    Kind.STEP: "eq_to lt_to le_to round rem",
    Kind.SAME: "sharding_constraint layout_constraint reshard pvary",
    Kind.MOVE: "reduce_window_min select_and_scatter_add bitcast_convert_type device_put "
    "optimization_barrier",
    Kind.ORDER: "argmin top_k",
    Kind.SYSTEM: "lu",
    Kind.RANDOM: "random_bits random_gamma random_seed random_wrap threefry2x32",
    Kind.CALL: "jit call closed_call remat2 eval_jaxpr",
    Kind.CUSTOM: "custom_jvp_call custom_vjp_call",
    Kind.CONTROL: "call_hi_primitive",
}
IN_NUMPY = {  # by the same name
    Kind.FUNCTION: "cbrt exp log log2 tanh sinh cosh asinh acosh atanh sin cos tan asin acos atan atan2",
    Kind.STEP: "sign floor ceil",
}
PRIMITIVES = {
    **{name: Primitive(name, kind) for kind, names in NAMELESS.items() for name in names.split()},
    **{
        name: Primitive(name, kind, getattr(np, name))
        for kind, names in IN_NUMPY.items()
        for name in names.split()
    },
    "add": Primitive("an addition", Kind.FUNCTION, np.add),
    "add_any": Primitive("an addition", Kind.FUNCTION, np.add),
    "sub": Primitive("a subtraction", Kind.FUNCTION, np.subtract),
    "mul": Primitive("a multiplication", Kind.FUNCTION, np.multiply),
    "div": Primitive("a division", Kind.FUNCTION, np.divide),
    "neg": Primitive("a minus", Kind.FUNCTION, np.negative),
    "abs": Primitive("an absolute value", Kind.FUNCTION, np.abs),
    "pow": Primitive("a power", Kind.FUNCTION, np.power),
    "integer_pow": Primitive("a power", Kind.FUNCTION, shaped=_integer_pow),
    "square": Primitive("a square", Kind.FUNCTION, np.square),
    "one_minus_square": Primitive("one_minus_square", Kind.FUNCTION, lambda x: (1 - x) * (1 + x)),
    "sqrt": Primitive("a square root", Kind.FUNCTION, np.sqrt),
    "rsqrt": Primitive("1/√x", Kind.FUNCTION, lambda x: 1 / np.sqrt(x)),
    "exp2": Primitive("a power of 2", Kind.FUNCTION, np.exp2),
    "expm1": Primitive("exp(x) − 1", Kind.FUNCTION, np.expm1),
    "log1p": Primitive("log(1 + x)", Kind.FUNCTION, np.log1p),
    "logistic": Primitive("a sigmoid", Kind.FUNCTION, _logistic),
    **{n: Primitive(n, Kind.FUNCTION, partial(_special, n)) for n in ("erf", "erfc", "digamma")},
    "erf_inv": Primitive("erf_inv", Kind.FUNCTION, partial(_special, "erfinv")),
    "lgamma": Primitive("lgamma", Kind.FUNCTION, partial(_special, "gammaln")),
    "bessel_i0e": Primitive("a Bessel function", Kind.FUNCTION, partial(_special, "i0e")),
    "xor": Primitive("xor", Kind.FUNCTION, np.bitwise_xor),
    "not": Primitive("not", Kind.FUNCTION, np.invert),
    "eq": Primitive("eq", Kind.STEP, np.equal),
    "ne": Primitive("ne", Kind.STEP, np.not_equal),
    "lt": Primitive("lt", Kind.STEP, np.less),
    "le": Primitive("le", Kind.STEP, np.less_equal),
    "gt": Primitive("gt", Kind.STEP, np.greater),
    "ge": Primitive("ge", Kind.STEP, np.greater_equal),
    "max": Primitive("a maximum", Kind.CORNER, np.maximum),
    "min": Primitive("a minimum", Kind.CORNER, np.minimum),
    "clamp": Primitive("a clipping", Kind.CORNER, lambda low, x, high: np.clip(x, low, high)),
    "and": Primitive("and", Kind.CORNER, np.bitwise_and),
    "or": Primitive("or", Kind.CORNER, np.bitwise_or),
    "select_n": Primitive("a where", Kind.CORNER, lambda which, x, y: np.where(which, y, x)),
    "is_finite": Primitive("is_finite", Kind.CORNER, np.isfinite),
    "convert_element_type": Primitive("a change of type", Kind.CORNER, shaped=_converted),
    **{name: Primitive(name, Kind.SAME, lambda x: x) for name in ("copy", "name", "stop_gradient")},
    "reduce_precision": Primitive("a rounding", Kind.SAME),
    "reshape": Primitive("a reshape", Kind.VIEW, shaped=_reshape),
    "transpose": Primitive("a transpose", Kind.VIEW, shaped=lambda p, x: x.transpose(p["permutation"])),
    "squeeze": Primitive("a squeeze", Kind.VIEW, shaped=lambda p, x: np.squeeze(x, tuple(p["dimensions"]))),
    "broadcast_in_dim": Primitive("a broadcast", Kind.VIEW, shaped=_broadcast_in_dim),
    "rev": Primitive("a reversal", Kind.VIEW, shaped=lambda p, x: np.flip(x, p["dimensions"])),
    "slice": Primitive("a slice", Kind.PART, shaped=_sliced),
    "dynamic_slice": Primitive("a slice", Kind.PART, shaped=_dynamic_slice),
    "gather": Primitive("an indexing", Kind.PART),
    "split": Primitive(
        "split", Kind.PART, shaped=lambda p, x: np.split(x, np.cumsum(p["sizes"])[:-1], p["axis"])
    ),
    "unstack": Primitive("an unstacking", Kind.PART, shaped=lambda p, x: [*np.moveaxis(x, p["axis"], 0)]),
    "iota": Primitive("iota", Kind.MOVE, shaped=_iota),
    "concatenate": Primitive(
        "a concatenation", Kind.MOVE, shaped=lambda p, *xs: np.concatenate(xs, p["dimension"])
    ),
    "stack": Primitive("a stack", Kind.MOVE, shaped=lambda p, *xs: np.stack(xs, p["axis"])),
    "tile": Primitive("a repetition", Kind.MOVE, shaped=lambda p, x: np.tile(x, p["reps"])),
    "pad": Primitive("a padding", Kind.MOVE, shaped=_pad),
    "dynamic_update_slice": Primitive("an assignment to a slice", Kind.MOVE, shaped=_dynamic_update_slice),
    "scatter": Primitive("an assignment to entries", Kind.MOVE),
    "scatter-add": Primitive("an addition to entries", Kind.MOVE),
    "reduce_window_max": Primitive("a pooling", Kind.MOVE),
    "reduce_window_sum": Primitive("a pooling", Kind.MOVE),
    "dot_general": Primitive("a matrix product", Kind.PRODUCT, shaped=_dot_general),
    "conv_general_dilated": Primitive("a convolution", Kind.PRODUCT),
    "reduce_sum": Primitive("a sum", Kind.SUM, shaped=partial(_reduced, np.add)),
    "reduce_prod": Primitive("a product of all", Kind.SUM, shaped=partial(_reduced, np.multiply)),
    "reduce_max": Primitive("a maximum", Kind.SUM, shaped=partial(_reduced, np.maximum)),
    "reduce_min": Primitive("a minimum", Kind.SUM, shaped=partial(_reduced, np.minimum)),
    "reduce_and": Primitive("reduce_and", Kind.SUM, shaped=partial(_reduced, np.bitwise_and)),
    "reduce_or": Primitive("reduce_or", Kind.SUM, shaped=partial(_reduced, np.bitwise_or)),
    "cumsum": Primitive("a running sum", Kind.RUNNING, shaped=partial(_running, np.add)),
    "cumprod": Primitive("a running product", Kind.RUNNING, shaped=partial(_running, np.multiply)),
    "cummax": Primitive("cummax", Kind.RUNNING, shaped=partial(_running, np.maximum)),
    "cummin": Primitive("cummin", Kind.RUNNING, shaped=partial(_running, np.minimum)),
    "argmax": Primitive("an argmax", Kind.ORDER),
    "sort": Primitive("a sort", Kind.ORDER),
    "cholesky": Primitive("a Cholesky factorisation", Kind.SYSTEM, shaped=_cholesky),
    "custom_linear_solve": Primitive("the solution of a system", Kind.CONTROL),
    "triangular_solve": Primitive(
        "the solution of a triangular system", Kind.SYSTEM, shaped=_triangular_solve
    ),
    "cond": Primitive("a branch", Kind.CONTROL),
    "scan": Primitive("a loop", Kind.CONTROL),
    "while": Primitive("a loop", Kind.CONTROL),
}
REAL_ONLY = {"div", "logistic", "rem"}  # of other numbers, NumPy computes something else


def called(name: str) -> str:
    """What to call a primitive of JAX; by its own name where that is as good.

    >>> called("reduce_sum"), called("tanh")
    ('a sum', 'tanh')
    """
    return PRIMITIVES[name].words if name in PRIMITIVES else name


@cache
def of(*kinds: Kind) -> frozenset[str]:
    """The names of the primitives of these kinds."""
    return frozenset(name for name, row in PRIMITIVES.items() if row.kind in kinds)


CALLS = of(Kind.CALL, Kind.CUSTOM)


def inner_of(equation) -> Any:
    """The jaxpr that a call runs, closed or not; None if it is no call."""
    if equation.primitive.name not in CALLS:
        return None
    return equation.params.get("jaxpr", equation.params.get("call_jaxpr"))
