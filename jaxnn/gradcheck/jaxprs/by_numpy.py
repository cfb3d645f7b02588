"""A jaxpr run by NumPy: nothing is compiled, so a small program that runs a few times is fast.

A primitive without a rule here is run by JAX itself.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import Literal

from jaxnn.gradcheck.jaxprs.equations import by_jax, opened, plan_of
from jaxnn.gradcheck.jaxprs.primitives import PRIMITIVES, REAL_ONLY, inner_of


def _rule(equation) -> Callable | None:
    """inputs → the output, as NumPy computes it; None where it does not, or does something else."""
    name, kinds = equation.primitive.name, [v.aval.dtype for v in equation.invars]
    if name in REAL_ONLY and not np.issubdtype(kinds[0], np.floating):
        return None
    if name not in PRIMITIVES or (name == "select_n" and (len(kinds) != 3 or kinds[0].kind != "b")):
        return None
    row = PRIMITIVES[name]
    return row.plain or (row.shaped and partial(row.shaped, equation.params))


def _step(equation) -> tuple[Callable, Any]:
    """(f, dtype): f is inputs → the output, of that dtype; or → all outputs, if dtype is None."""
    if inner := inner_of(equation):
        return planned(*opened(inner)), None
    if rule := _rule(equation):
        return rule, equation.outvars[0].aval.dtype
    return partial(_by_jax, equation), None


def _by_jax(equation, *inputs) -> list:
    return [_plain(x) for x in by_jax(equation, *inputs)]


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

    for v, c in zip(jaxpr.constvars, consts, strict=True):
        start[slot(v)] = _plain(c)
    ins = [slot(v) for v in jaxpr.invars]
    steps = [
        (*_step(e), [slot(v) for v in e.invars], [slot(v) for v in e.outvars]) for e, _ in plan_of(jaxpr)
    ]
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
    if all(isinstance(v, np.ndarray) for v in values) and (rule := _rule(equation)):
        return [as_numpy(rule(*values))]
    params = dict(equation.params)
    wide = all(isinstance(v, np.ndarray | np.generic) and v.dtype == np.float64 for v in values)
    if wide and params.get("preferred_element_type") is not None:
        params["preferred_element_type"] = np.dtype(np.float64)
    name = equation.primitive.name.replace("-", "_")
    if name.startswith("scatter"):
        names = ("dimension_numbers", "indices_are_sorted", "unique_indices", "mode")
        out = [getattr(lax, name)(*values, **{n: params[n] for n in names})]
    else:
        out = by_jax(equation.replace(params=params), *values)
    return [as_numpy(x) for x in out]


def as_numpy(x):
    """As NumPy, floats as float64; keys of random numbers stay as they are."""
    if jnp.issubdtype(jnp.result_type(x), jax.dtypes.extended):
        return x
    x = np.asarray(x)
    return x.astype(np.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x
