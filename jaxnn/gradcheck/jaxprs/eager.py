"""JAX called op by op, without a program being compiled for every op.

Eager JAX compiles each op anew for every shape it meets, which takes thousands of times as long as
running it once. What IEEE arithmetic fixes to the last bit (a sum, a product, a quotient of numbers,
comparisons, choices, moves) is computed by NumPy here, and only there; all else runs as ever. The
function called cannot tell: it gets and gives the same arrays.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import numpy as np
from jax.core import Tracer, eval_context
from jax.dtypes import canonicalize_dtype
from jax.extend.core import Literal, set_current_trace, take_current_trace
from jax.sharding import Sharding

from jaxnn.gradcheck.jaxprs.by_numpy import planned
from jaxnn.gradcheck.jaxprs.equations import every, opened, within

ROUNDED = {*("add", "add_any", "sub", "mul", "div", "sqrt", "square", "neg", "max", "min")}  # one a program
MOVED = {
    *("select_n", "reshape", "transpose", "squeeze", "expand_dims", "broadcast_in_dim", "rev", "slice"),
    *("concatenate", "pad", "dynamic_slice", "iota", "stop_gradient", "copy", "copy_p"),
}
EXACT = MOVED | {
    *("abs", "floor", "ceil", "is_finite", "convert_element_type", "and", "or", "xor", "not"),
    *("eq", "ne", "lt", "le", "gt", "ge"),
}
DIVIDED = {"div", "broadcast_in_dim", "reshape", "convert_element_type"}  # what may stand beside a division
KINDS = {np.dtype(t) for t in ("float32", "float64", "int32", "int64", "bool")}


@contextlib.contextmanager
def op_by_op() -> Iterator[None]:
    """Within it, JAX's ops run eagerly, most of them without being compiled.

    >>> import jax.numpy as jnp
    >>> with op_by_op():
    ...     print(jnp.arange(3.0) / 3 - 1)
    [-1.         -0.6666666  -0.3333333]
    """
    device = jax.config.jax_default_device or jax.devices()[0]  # pyright: ignore[reportAttributeAccessIssue]
    on_cpu = getattr(device, "platform", device) == "cpu"
    with set_current_trace(_op_by_op()) if on_cpu else contextlib.nullcontext():
        yield


@functools.cache
def _op_by_op():
    """JAX's own way to run an op, but for the ops that NumPy runs."""
    with eval_context(), take_current_trace() as as_ever:
        pass

    class OpByOp(type(as_ever)):
        def process_primitive(self, primitive, args, params, /):
            with set_current_trace(as_ever):
                out = _by_numpy(primitive, args, params)
                return as_ever.process_primitive(primitive, args, params) if out is None else out

        def process_custom_jvp_call(self, primitive, fun, jvp, args, /, **_):
            with set_current_trace(self):
                return fun.call_wrapped(*args)

        def process_custom_vjp_call(self, primitive, fun, fwd, bwd, args, /, **_):
            return self.process_custom_jvp_call(primitive, fun, fwd, args)

    return OpByOp()


def _by_numpy(primitive, args, params):
    """What the primitive returns; None where it is not certain that NumPy gives the same."""
    if not all(map(_plain, args)):
        return None
    if primitive.name in ("jit", "pjit"):
        placed = (*params["in_shardings"], *params["out_shardings"])
        if any(params["donated_invars"]) or any(isinstance(s, Sharding) for s in placed):
            return None
        closed = params["jaxpr"]
    elif primitive.name in ROUNDED | EXACT:
        closed = _alone(primitive, tuple(map(jax.typeof, args)), tuple(params.items()))
    else:
        return None
    jaxpr, consts = opened(closed)
    if consts or (plan := _plan(jaxpr)) is None:
        return None
    given = [np.asarray(x, v.aval.dtype) for x, v in zip(args, jaxpr.invars, strict=True)]
    out = [np.asarray(y) for y in plan.run(*given)]
    if plan.computes and any(map(_delicate, (*given, *out))):
        return None
    if plan.divides and not all(_halves(x) for x in given if x.size < out[0].size):
        return None
    arrays = [jax.device_put(np.array(y)) for y in out]  # jnp.array would compile a program for each shape
    return arrays if primitive.multiple_results else arrays[0]


@functools.lru_cache(1024)
def _alone(primitive, shapes: tuple, params: tuple):
    """The program that is one primitive."""
    return jax.make_jaxpr(functools.partial(primitive.bind, **dict(params)))(*shapes)


def _plain(x) -> bool:
    """A number, or an array that lies where arrays lie if nobody says otherwise, on a CPU."""
    if isinstance(x, jax.Array):
        placed = not isinstance(x, Tracer) and not x.committed and _on_cpu(x.sharding)
        return placed and x.dtype in KINDS and canonicalize_dtype(x.dtype) == x.dtype
    return isinstance(x, np.ndarray | np.generic | bool | int | float)


@functools.lru_cache(64)
def _on_cpu(sharding) -> bool:
    return {d.platform for d in sharding.device_set} == {"cpu"}


class Plan(NamedTuple):
    """A program as NumPy runs it: run(*arrays) → arrays; computes: it does more than move entries."""

    run: Callable[..., list]
    computes: bool
    divides: bool


@functools.lru_cache(1024)
def _plan(jaxpr) -> Plan | None:
    """The jaxpr as NumPy runs it; None if a compiler might compute anything else."""
    everything = [e for e in every(jaxpr) if not within(e)]
    arithmetic = [e for e in everything if e.primitive.name in ROUNDED or _narrows(e)]
    fixed = any(isinstance(v, Literal) for e in everything for v in e.invars)
    if len(arithmetic) > 1 or (arithmetic and fixed) or not all(map(_known, everything)):
        return None
    if any(v.aval.weak_type or v.aval.dtype not in KINDS for v in jaxpr.outvars):
        return None
    names = {e.primitive.name for e in everything}
    if not jaxpr.outvars or ("div" in names and not names <= DIVIDED):
        return None
    return Plan(planned(jaxpr, ()), not names <= MOVED, "div" in names)


def _known(equation) -> bool:
    kinds = [v.aval.dtype for v in (*equation.invars, *equation.outvars)]
    if equation.effects or not KINDS.issuperset(kinds):
        return False
    if equation.primitive.name == "convert_element_type" and kinds[0].kind == "f":
        return kinds[1].kind == "f"
    return equation.primitive.name in ROUNDED | EXACT and (
        equation.primitive.name != "div" or kinds[0].kind == "f"
    )


def _narrows(equation) -> bool:
    kinds = [v.aval.dtype for v in (*equation.invars, *equation.outvars)]
    return equation.primitive.name == "convert_element_type" and kinds == [np.float64, np.float32]


def _delicate(x: np.ndarray) -> bool:
    """Numbers so small that a compiled program takes them for zero, and zeros with a minus sign."""
    if x.dtype.kind != "f":
        return False
    small = np.abs(x) < np.finfo(x.dtype).tiny
    return bool(small.any() and (np.any(x[small]) or np.signbit(x[small]).any()))


def _halves(x: np.ndarray) -> bool:
    """Powers of two: dividing by another number that is broadcast, XLA multiplies by its reciprocal."""
    return bool(np.all(np.abs(np.frexp(x)[0]) == 0.5))
