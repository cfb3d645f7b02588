"""A jaxpr run by NumPy: nothing is compiled, so a small program that runs a few times is fast.

A primitive without a rule here is run by JAX itself, and so that its loops end, whatever they are given.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.dtypes import canonicalize_dtype
from jax.extend.core import Literal

from jaxnn.gradcheck.jaxprs.equations import (
    LONG,
    at_line,
    by_jax,
    converges,
    every,
    is_key,
    opened,
    parts_of_scan,
    plan_of,
    primitives,
    walked,
    within,
    written_out,
)
from jaxnn.gradcheck.jaxprs.primitives import PRIMITIVES, REAL_ONLY, inner_of

OPENED = {"cond", "scan", "custom_linear_solve"}  # what is typed inside as it was traced
SHARED_OUT = {"shard_map"}  # what JAX runs step by step on every device, unless it is compiled


def _rule(equation) -> Callable | None:
    """inputs → the outputs, as NumPy computes them; None where it does not, or does something else."""
    name, kinds = equation.primitive.name, [v.aval.dtype for v in equation.invars]
    if name in REAL_ONLY and not np.issubdtype(kinds[0], np.floating):
        return None
    if name not in PRIMITIVES or (name == "select_n" and (len(kinds) != 3 or kinds[0].kind != "b")):
        return None
    row = PRIMITIVES[name]
    rule = row.plain or (row.shaped and partial(row.shaped, equation.params))
    return rule and (rule if equation.primitive.multiple_results else lambda *inputs: [rule(*inputs)])


def _step(equation) -> Callable[..., list]:
    """inputs → the outputs of an equation, as NumPy arrays."""
    if inner := inner_of(equation):
        return planned(*opened(inner))
    if rule := _rule(equation):
        kinds = [v.aval.dtype for v in equation.outvars]
        return lambda *inputs: list(map(_of_kind, rule(*inputs), kinds))
    ends = may_go_on(equation) or equation.primitive.name in SHARED_OUT
    return partial(_plainly, ending(equation) if ends else partial(by_jax, equation))


def _of_kind(x, dtype):
    x = x if type(x) is np.ndarray else _plain(x)
    return x if x.dtype == dtype else x.astype(dtype)


def _plainly(run: Callable, *inputs) -> list:
    return [_plain(x) for x in run(*inputs)]


def _plain(x):
    return x if is_key(x) else np.asarray(x)


def by_numpy(function: Callable, *args) -> Callable:
    """The function, run by NumPy: traced at args once, unless it is an equation of JAX's already."""
    if isinstance(function, partial) and function.func is by_jax:
        return np.errstate(all="ignore")(_step(*function.args))
    closed, shape = jax.make_jaxpr(function, return_shape=True)(*args)
    run = planned(*opened(closed))
    tree = jax.tree.structure(shape)
    return lambda *xs: jax.tree.unflatten(tree, run(*jax.tree.leaves(xs)))


def planned(jaxpr, consts: Sequence) -> Callable[..., list]:
    """args → the outputs of a jaxpr, as NumPy arrays; floating point errors are no news."""
    numbers: dict[Any, np.ndarray] = {}

    def key(atom):
        if not isinstance(atom, Literal):
            return atom
        numbers[id(atom)] = _literal(atom)
        return id(atom)

    steps = [(_step(e), [*map(key, e.invars)], e.outvars, last) for e, last in plan_of(jaxpr)]
    given, held = (*jaxpr.constvars, *jaxpr.invars), [_plain(c) for c in consts]
    out = [*map(key, jaxpr.outvars)]

    @np.errstate(all="ignore")
    def run(*args):
        known = numbers | dict(zip(given, [*held, *args], strict=True))
        for step, read, made, last in steps:
            known.update(zip(made, step(*[known[v] for v in read]), strict=True))
            for v in last:
                del known[v]
        return [known[v] for v in out]

    return run


def _literal(atom) -> np.ndarray:
    """The number that stands in a jaxpr."""
    return np.asarray(atom.val, getattr(atom.aval, "dtype", None))


def applied(equation, values) -> list:
    """The primitive itself, on these values; by NumPy where that is simple, so nothing is compiled."""
    if all(isinstance(v, np.ndarray) for v in values) and (rule := _rule(equation)):
        return [*map(as_numpy, rule(*values))]
    run = ending(equation) if equation.primitive.name in SHARED_OUT else partial(_retyped, equation)
    return [as_numpy(x) for x in run(*values)]


def _retyped(equation, *values) -> list:
    """The primitive on values that may have more digits than it was traced for."""
    params = dict(equation.params)
    if params.get("preferred_element_type") is not None and all(v.dtype == np.float64 for v in values):
        params["preferred_element_type"] = np.dtype(np.float64)
    name = equation.primitive.name.replace("-", "_")
    if name.startswith("scatter"):
        names = ("dimension_numbers", "indices_are_sorted", "unique_indices", "mode")
        return [getattr(lax, name)(*values, **{n: params[n] for n in names})]
    return by_jax(equation.replace(params=params), *values)


def in_float64(function: Callable, kind) -> Callable:
    """The function, traced for numbers of this kind, and run in float64: its random draws stay the same."""

    def run(*args):
        given, tree = jax.tree.flatten(args)
        floats = [jnp.issubdtype(jnp.result_type(x), jnp.floating) for x in given]
        kinds = [kind if real else jnp.result_type(x) for x, real in zip(given, floats, strict=True)]
        with jax.enable_x64(False):
            like = map(jax.ShapeDtypeStruct, map(np.shape, given), map(canonicalize_dtype, kinds))
            closed, shape = jax.make_jaxpr(
                lambda *xs: function(*jax.tree.unflatten(tree, xs)), return_shape=True
            )(*like)
        out = ended(*opened(closed), *given, loops=Loops(wide=True))
        return jax.tree.unflatten(jax.tree.structure(shape), out)

    return run


def _in_wide(x):
    """A float as float64; anything else as it is."""
    return jnp.asarray(x, np.float64) if jnp.issubdtype(jnp.result_type(x), jnp.floating) else x


def as_numpy(x):
    """As NumPy, floats as float64, complex numbers as wide; keys of random numbers stay as they are."""
    if jnp.issubdtype(jnp.result_type(x), jax.dtypes.extended):
        return x
    x = np.asarray(x)
    if x.dtype.kind == "c":
        return x.astype(np.complex128)
    return x.astype(np.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x


class Loops(NamedTuple):
    """How while loops end: after `most` turns, with no number; what converges turns `times` as often.

    wide: what depends on float64 is float64, whatever it was traced for; of random draws nothing does.
    """

    most: int = LONG
    times: int = 1
    wide: bool = False


def ended(jaxpr, consts: Sequence, *given, loops: Loops) -> list:
    """The outputs of a jaxpr, within a trace or not."""
    return walked(jaxpr, plan_of(jaxpr), [*consts, *given], partial(_jax_step, loops), _typed_literal)


def iterates(closed) -> bool:
    """Whether there is a while loop in it that ends by what it computes."""
    return any(map(converges, every(closed)))


def _typed_literal(atom: Any):
    return _typed(atom.val, atom.aval.dtype)


def _typed(x, dtype):
    return x if jnp.issubdtype(dtype, jax.dtypes.extended) else jnp.asarray(x, dtype)


def may_go_on(equation) -> bool:
    """Whether it holds a while loop, which nothing but what it is given ends."""
    return equation.primitive.name == "while" or any("while" in primitives(p) for p in within(equation))


@lru_cache(32)
def ending(equation) -> Callable[..., list]:
    """The equation compiled: inputs → its outputs."""
    return jax.jit(lambda *inputs: _jax_step(Loops(), equation, list(inputs)))


def _ran(closed, loops: Loops) -> Callable[..., list]:
    return partial(ended, *opened(closed), loops=loops)


def _jax_step(loops: Loops, equation, inputs: list) -> list:
    """What one equation gives."""
    p, name = equation.params, equation.primitive.name
    wide = loops.wide and any(jnp.result_type(x) == np.float64 for x in inputs)
    if wide and name == "convert_element_type" and jnp.issubdtype(p["new_dtype"], jnp.floating):
        return inputs
    inputs = list(map(_in_wide, inputs)) if wide else inputs
    if name == "while":
        return _while(loops, equation, inputs)
    if not (may_go_on(equation) or (loops.wide and (name in OPENED or inner_of(equation)))):
        with at_line(equation):
            return _retyped(equation, *inputs) if wide else by_jax(equation, *inputs)
    if name == "call_hi_primitive":
        return _ran(written_out(equation), loops)(*inputs)
    if inner := inner_of(equation):
        return _ran(inner, loops)(*inputs)
    if name == "cond":
        branches = [_ran(b, loops) for b in p["branches"]]
        alike = [lambda *x, run=run: list(map(_in_wide, run(*x))) for run in branches]
        branches = alike if loops.wide else branches
        return list(lax.switch(jnp.asarray(inputs[0], "int32"), branches, *inputs[1:]))
    if name == "scan":
        return _scan(loops, equation, inputs)
    if name == "custom_linear_solve":
        counts = p["const_lengths"]
        first, after = counts.matvec + counts.vecmat, sum(counts)
        return _ran(p["jaxprs"].solve, loops)(*inputs[first : first + counts.solve], *inputs[after:])
    return by_jax(equation, *inputs)


def _scan(loops: Loops, equation, inputs: list) -> list:
    fixed, carry, xs = parts_of_scan(equation, inputs)
    start, run = _started(loops, equation, len(fixed), carry), _ran(equation.params["jaxpr"], loops)

    def turn(carry, x):
        out = run(*fixed, *carry, *x)
        return [_typed(y, s.dtype) for y, s in zip(out, start, strict=False)], out[len(carry) :]

    how = {name: equation.params[name] for name in ("length", "reverse")}
    with at_line(equation):
        carry, columns = lax.scan(turn, start, xs, **how)
    return [*carry, *columns]


def _started(loops: Loops, equation, first: int, carry: list) -> list:
    """What a loop begins with, in the dtypes it carries."""
    typed = [_typed(x, v.aval.dtype) for x, v in zip(carry, equation.invars[first:], strict=False)]
    return list(map(_in_wide, carry)) if loops.wide else typed


def _while(loops: Loops, equation, inputs: list) -> list:
    p = equation.params
    n_cond, n_both = p["cond_nconsts"], p["cond_nconsts"] + p["body_nconsts"]
    asked, turned = _ran(p["cond_jaxpr"], loops), _ran(p["body_jaxpr"], loops)
    several = opened(p["cond_jaxpr"])[0].outvars[0].aval.shape  # under vmap each example ends by itself

    def goes(carry: list):
        return asked(*inputs[:n_cond], *carry)[0]

    def on(carry: list) -> list:
        return turned(*inputs[n_cond:n_both], *carry)

    def turn(state):
        count, carry = state
        if not several:
            return count + 1, on(carry)
        going = goes(carry)
        wide = [going.reshape(going.shape + (1,) * (x.ndim - going.ndim)) for x in carry]
        return count + 1, list(map(jnp.where, wide, on(carry), carry))

    start = _started(loops, equation, n_both, inputs[n_both:])
    count, carry = lax.while_loop(
        lambda state: (state[0] < loops.most) & jnp.any(goes(state[1])), turn, (jnp.int32(0), start)
    )
    if loops.times > 1 and converges(equation):
        carry = lax.fori_loop(0, (loops.times - 1) * count + 1, lambda _, carry: on(carry), carry)
    lost = lambda x: jnp.where(count < loops.most, x, jnp.nan)  # noqa: E731
    return [lost(x) if jnp.issubdtype(x.dtype, jnp.floating) else x for x in carry]
