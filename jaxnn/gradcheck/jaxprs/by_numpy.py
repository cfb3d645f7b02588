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

from jaxnn.gradcheck.jaxprs.equations import by_jax, opened, plan_of, walked
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
    plan, held = plan_of(jaxpr), [_plain(c) for c in consts]
    steps = {id(equation): _step(equation) for equation, _ in plan}

    def step(equation, inputs):
        f, dtype = steps[id(equation)]
        out = f(*inputs)
        if dtype is None:
            return out
        out = np.asarray(out)
        return [out if out.dtype == dtype else out.astype(dtype)]

    def run(*args):
        with np.errstate(all="ignore"):
            return walked(jaxpr, plan, [*held, *args], step, _literal)

    return run


def _literal(atom) -> np.ndarray:
    """The number that stands in a jaxpr."""
    return np.asarray(atom.val, getattr(atom.aval, "dtype", None))


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
    """As NumPy, floats as float64, complex numbers as wide; keys of random numbers stay as they are."""
    if jnp.issubdtype(jnp.result_type(x), jax.dtypes.extended):
        return x
    x = np.asarray(x)
    if x.dtype.kind == "c":
        return x.astype(np.complex128)
    return x.astype(np.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x
