"""Rules for derivatives, custom_vjp and custom_jvp: what is asked of one, besides to be right."""

import contextlib
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.gradcheck.calls.call import (
    COMPLEX,
    ROUNDINGS,
    BadCall,
    Call,
    argument_names,
    checked,
    flattened,
    function_name,
    is_complex,
    is_floating,
    replaced,
    widened,
)
from jaxnn.gradcheck.calls.raised import in_full
from jaxnn.gradcheck.calls.repeated import same
from jaxnn.gradcheck.mistakes.data import NO_COTANGENT
from jaxnn.gradcheck.mistakes.finding import NONLINEAR
from jaxnn.gradcheck.report.confidence import SURE
from jaxnn.gradcheck.report.model import Cause, Probe
from jaxnn.gradcheck.verdict.programs import compiled
from jaxnn.gradcheck.verdict.sides import reader, traced


class Rule(NamedTuple):
    """What is asked besides of a rule for derivatives.

    belongs: whether a point of these leaves is one that the functions are meant for; probed: what the
    rule must be besides right, and the cause that those show which fail.
    """

    belongs: Callable[[list], bool]
    probed: Callable[[Call], tuple[list[Probe], Cause | None]]


ANY = Rule(lambda leaves: True, lambda call: ([], None))  # a gradient is asked nothing


def called_as_gradient(
    function: Callable, args: tuple, reference: Callable | None, argnums: int | tuple[int, ...] | None
) -> tuple[Call, Rule]:
    """The derivative rule of a function as a gradient of ⟨cotangent, function⟩, and what is asked of it."""
    ruled = _ruled(function)
    plain = reference or getattr(ruled, "fun", None)
    if plain is None:
        raise BadCall(
            f"{function_name(function)} is no custom_vjp or custom_jvp function, so its plain form "
            "is not known: pass it as reference=..."
        )
    flattened(args)
    if argnums is None:
        fixed = getattr(ruled, "nondiff_argnums", ())
        leaves = [[] if n in fixed else jax.tree.leaves(arg) for n, arg in enumerate(args)]
        for name, own in zip(argument_names(plain, len(args)), leaves, strict=True):
            for kind in filter(is_complex, own):
                raise BadCall(COMPLEX.format(f"the argument {name}", jnp.result_type(kind)))
        argnums = tuple(n for n, own in enumerate(leaves) if own and all(map(is_floating, own)))
        if not argnums:
            raise BadCall(f"no argument of {function_name(plain)} is in floating point")
        argnums = argnums[0] if len(argnums) == 1 else argnums
    shapes = _output(plain, args)
    cotangent = _cotangent(shapes)
    loss, gradient = _paired(plain, cotangent), _pulled(function, cotangent, argnums)
    loss.__name__ = function_name(plain)
    vars(loss)["__wrapped__"] = plain  # whose argument names the report shows
    gradient.__name__ = f"the rule of {function_name(function)}"

    def probed(call: Call) -> tuple[list[Probe], Cause | None]:
        given = [widened(x) for x in call.leaves]
        probes = [_forward(call, given, function, plain), *_linear(function, shapes, args, argnums, call)]
        return probes, _cause({p.name for p in probes if p.passed is False})

    call = checked(loss, gradient, args, argnums)
    return call, Rule(lambda leaves: _forward(call, leaves, function, plain).passed is True, probed)


def of_the_rule(function: Callable, sentence: str, cause: BaseException | None) -> str:
    """What is wrong with a call, where it is what the rule returns, which JAX tells at length."""
    said = " ".join(str(cause).split())
    opening = f"the backward rule of {function_name(function)} returned"
    tree = re.search(r"got bwd output structure PyTreeDef\((.*)\) for primal .* PyTreeDef\((.*)\)", said)
    if tree:
        return (
            f"{opening} {tree[1]}, expected {tree[2]}, where * is an array: a tuple with the gradient "
            "of every argument, each of its argument's structure"
        )
    kind = re.search(r"at output(\S+) the bwd .* of type (\S+) .* input of type (\S+\])", said)
    if kind:
        return (
            f"{opening} {kind[2]} at {kind[1]}, expected {kind[3]}: a gradient has the shape and dtype "
            "of its argument"
        )
    if "Reverse-mode differentiation does not work" in said:
        return (
            f"autodiff goes back through no while_loop, as {function_name(function)} has: pass the same "
            "function with a loop of fixed length (lax.scan, or Python's for) as reference=..."
        )
    return sentence


def _ruled(function: Callable) -> Any:
    """The custom_vjp or custom_jvp function that it is, or wraps, or None."""
    inner: Any = function
    while inner is not None and not isinstance(inner, jax.custom_vjp | jax.custom_jvp):
        inner = getattr(inner, "__wrapped__", None)
    return inner


def _output(plain: Callable, args: tuple):
    """The shapes of what the function returns; only its arrays are traced."""
    leaves, treedef = flattened(args)
    arrays = [k for k, x in enumerate(leaves) if isinstance(x, jax.Array | np.ndarray | float)]
    try:
        shapes = jax.eval_shape(
            lambda given: plain(*jax.tree.unflatten(treedef, replaced(leaves, arrays, given))),
            [leaves[k] for k in arrays],
        )
    except (Exception, SystemExit) as error:
        raise BadCall(f"the function {function_name(plain)} raised {in_full(error)}") from error
    for kind in filter(is_complex, jax.tree.leaves(shapes)):
        raise BadCall(COMPLEX.format(f"what {function_name(plain)} returns", kind.dtype))
    if not any(map(_floats, jax.tree.leaves(shapes))):
        raise BadCall(f"the function {function_name(plain)} returns nothing in floating point")
    return shapes


def _floats(y) -> bool:
    return jnp.issubdtype(y.dtype, jnp.floating)


def _cotangent(shapes, seed: int = 0):
    """Generic, and exact in every precision: odd multiples of 1/8."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda s: (2 * rng.integers(-8, 8, s.shape) + 1) / 8, shapes)


def _paired(plain: Callable, cotangent) -> Callable:
    """⟨cotangent, function⟩, a scalar whose gradient is the pulled-back cotangent."""

    def loss(*args):
        pairs = zip(jax.tree.leaves(cotangent), jax.tree.leaves(plain(*args)), strict=True)
        return sum(jnp.sum(jnp.asarray(c, y.dtype) * y) for c, y in pairs if _floats(y))

    return loss


def _pulled(function: Callable, cotangent, argnums: int | tuple[int, ...]) -> Callable:
    numbers = (argnums,) if isinstance(argnums, int) else argnums

    def gradient(*args):
        chosen = [jax.tree.map(jnp.asarray, args[n]) for n in numbers]
        out, pull = jax.vjp(lambda *xs: function(*replaced(args, numbers, xs)), *chosen)
        back = pull(jax.tree.map(_as_cotangent, cotangent, out))
        return back[0] if isinstance(argnums, int) else back

    return gradient


def _as_cotangent(c, y):
    return jnp.asarray(c, y.dtype) if _floats(y) else np.zeros(y.shape, jax.dtypes.float0)


def _forward(call: Call, leaves: list, function: Callable, plain: Callable) -> Probe:
    """What the function returns, called and differentiated, against the plain one, in float64."""

    def differentiated(*args):
        leaves, treedef = jax.tree.flatten(args)

        def of_chosen(*chosen):
            return function(*jax.tree.unflatten(treedef, replaced(leaves, call.places, chosen)))

        return jax.vjp(of_chosen, *(jnp.asarray(leaves[k]) for k in call.places))[0]

    forms = [
        lambda *args, f=f: list(filter(_floats, jax.tree.leaves(f(*args))))
        for f in (plain, function, differentiated)
    ]
    wide = all(traced(call, f, leaves).exact for f in forms)
    here = call._replace(places=())  # nothing varies: at a corner, the value is that of the corner
    sides = (traced(call, f, leaves, wide=wide) for f in forms)
    theirs, *ours = (reader(here, side, "the function")(leaves) for side in sides)
    for side in ours:
        for x, y, e, d in zip(side.values, theirs.values, side.errors, theirs.errors, strict=True):
            if x.shape != y.shape:
                return Probe("forward", False, f"it returns shape {x.shape}, the plain function {y.shape}")
            corner = ~np.isfinite(e + d)  # where a bound says nothing, two computations are near all the same
            bound = np.where(corner, ALIKE * np.maximum(1.0, np.abs(y)), e + d)
            if not np.all((np.abs(x - y) <= bound) | (x == y) | ~np.isfinite(y)):
                return Probe("forward", False, "it returns other values than the plain function")
    return Probe("forward", True, "it returns what the plain function returns")


def _linear(
    function: Callable, shapes, args: tuple, argnums: int | tuple[int, ...], call: Call
) -> list[Probe]:
    """What every vjp obeys: pull(2c) = 2 pull(c), pull(c + d) = pull(c) + pull(d), pull(0) = 0."""

    def pull(*flat) -> list:
        return jax.tree.leaves(_pulled(function, jax.tree.unflatten(tree, flat), argnums)(*args))

    c, tree = jax.tree.flatten(_cotangent(shapes))
    d = jax.tree.leaves(_cotangent(shapes, 1))
    with contextlib.suppress(jax.errors.JAXTypeError):  # a rule in NumPy can only be called
        pull = compiled(jax.make_jaxpr(pull)(*c), c).run  # compiled once, it is quick to call

    cotangents = [c, d, [2 * x for x in c], list(map(np.add, c, d)), list(map(np.zeros_like, c))]
    once, other, twice, both, nothing = ([np.asarray(x) for x in pull(*flat)] for flat in cotangents)
    given = [call.leaves[k] for k in call.places]
    kept = all(
        g.dtype == jax.dtypes.canonicalize_dtype(jnp.result_type(x)) and g.shape == np.shape(x)
        for g, x in zip(once, given, strict=True)
    )
    text = "shapes and dtypes are those of the arguments"
    types = Probe("types", kept, text if kept else "a shape or dtype differs from that of its argument")
    told = [np.isfinite(x) for x in once]  # ∞ times a number says nothing of it
    if not any(t.any() for t in told):
        return [*(Probe(name, None, "no entry is finite") for name in ("linearity", "zero")), types]

    def summed(total: list, x: list, y: list, roundings: int) -> bool:
        rows = ([part[t] for part in parts] for t, *parts in zip(told, total, x, y, strict=True))
        return all(
            same(t.astype(np.float64), x.astype(np.float64) + y, float(jnp.finfo(t.dtype).eps), roundings)
            for t, x, y in rows
        )

    scales, adds = summed(twice, once, once, ROUNDINGS), summed(both, once, other, SUMS)
    zero = not any(n[t].any() for n, t in zip(nothing, told, strict=True))
    text = "linear in the cotangent"
    if not scales:
        text = f"not {text}: twice it does not give twice the gradients"
    elif not adds:
        text = f"not {text}: a sum of two does not give the sum of their gradients"
    return [
        Probe("linearity", scales and adds, text),
        Probe("zero", zero, f"a zero cotangent gives {'zeros' if zero else 'other than zeros'}"),
        types,
    ]


ALIKE = 1e-6  # of a value, and of 1
SUMS = 1000  # roundings: the gradients of two cotangents may cancel
UNSCALED = (NO_COTANGENT, "The rule does not multiply by the cotangent it is handed.")
OTHERWISE = (
    NONLINEAR,
    "The rule is not linear in the cotangent it is handed, as where that is clipped or squared.",
)


def _cause(broken: set[str]) -> Cause | None:
    """What a rule does that is not linear, by the probes that it fails."""
    if "linearity" not in broken:
        return None
    mistake, sentence = UNSCALED if "zero" in broken else OTHERWISE
    return Cause(mistake.id, sentence, "the backward rule", SURE, mistake.equation)
