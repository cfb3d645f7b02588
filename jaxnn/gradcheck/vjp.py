"""Rules for derivatives, custom_vjp and custom_jvp, against autodiff of the plain function."""

import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.gradcheck.calls.call import (
    BadCall,
    Call,
    checked,
    first_line,
    function_name,
    is_floating,
    quiet,
    widened,
)
from jaxnn.gradcheck.gradients import reported
from jaxnn.gradcheck.mistakes.catalogue import NONLINEAR, UNKNOWN
from jaxnn.gradcheck.mistakes.data import IGNORED
from jaxnn.gradcheck.report.headline import blaming
from jaxnn.gradcheck.report.model import SURE, Cause, Probe
from jaxnn.gradcheck.report.report import Report
from jaxnn.gradcheck.verdict.programs import compiled
from jaxnn.gradcheck.verdict.sides import evaluated, traced


def compare_vjp(
    function: Callable, *args, reference: Callable | None = None, argnums: int | tuple[int, ...] | None = None
) -> Report:
    """Compare the derivative rule of a function with autodiff of its plain form.

    function: (*args) → arrays, with a custom_vjp or custom_jvp rule; reference: the same function
    without the rule, or None for the one the rule was put on; argnums: None for all arguments that
    are floating point. Both are pulled back along one generic cotangent.
    Raises BadCall, in one sentence, when the comparison cannot be made.

    >>> import jax, jax.numpy as jnp
    >>> @jax.custom_vjp
    ... def cube(x):
    ...     return x**3
    >>> cube.defvjp(lambda x: (x**3, x), lambda x, cotangent: (3 * x * cotangent,))
    >>> compare_vjp(cube, jnp.array([0.5, 2.0])).correct
    False
    """
    ruled = _ruled(function)
    plain = reference or getattr(ruled, "fun", None)
    if plain is None:
        raise BadCall(
            f"{function_name(function)} is no custom_vjp or custom_jvp function, so its plain form "
            "is not known: pass it as reference=..."
        )
    if argnums is None:
        fixed = getattr(ruled, "nondiff_argnums", ())
        argnums = tuple(
            n
            for n, a in enumerate(args)
            if n not in fixed and jax.tree.leaves(a) and all(map(is_floating, jax.tree.leaves(a)))
        )
        argnums = argnums[0] if len(argnums) == 1 else argnums
    with quiet() as printed:
        shapes = _output(plain, args)
        cotangent = _cotangent(shapes)
        loss, gradient = _paired(plain, cotangent), _pulled(function, cotangent, argnums)
        loss.__name__ = function_name(plain)
        vars(loss)["__wrapped__"] = plain  # whose argument names the report shows
        gradient.__name__ = f"the rule of {function_name(function)}"
        call = checked(loss, gradient, args, argnums)
        meant = lambda leaves: _forward(call, leaves, function, plain).passed is True  # noqa: E731
        try:
            report = reported(call, None, printed, meant)
        except BadCall as error:
            raise BadCall(_of_the_rule(function, str(error), error.__cause__)) from error
        given = [widened(x) for x in call.leaves]
        probes = [_forward(call, given, function, plain), *_linear(function, shapes, args, argnums, call)]
    return _with(report, probes)


def _of_the_rule(function: Callable, sentence: str, cause: BaseException | None) -> str:
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
    return sentence


def _ruled(function: Callable) -> Any:
    """The custom_vjp or custom_jvp function that it is, or wraps, or None."""
    inner: Any = function
    while inner is not None and not isinstance(inner, jax.custom_vjp | jax.custom_jvp):
        inner = getattr(inner, "__wrapped__", None)
    return inner


def _output(plain: Callable, args: tuple):
    """The shapes of what the function returns; only its arrays are traced."""
    leaves, treedef = jax.tree.flatten(args)
    arrays = [k for k, x in enumerate(leaves) if isinstance(x, jax.Array | np.ndarray | float)]

    def of_arrays(given):
        full = list(leaves)
        for k, x in zip(arrays, given, strict=True):
            full[k] = x
        return plain(*jax.tree.unflatten(treedef, full))

    try:
        shapes = jax.eval_shape(of_arrays, [leaves[k] for k in arrays])
    except Exception as error:
        raise BadCall(f"the function {function_name(plain)} raised {first_line(error)}") from error
    if not any(jnp.issubdtype(s.dtype, jnp.floating) for s in jax.tree.leaves(shapes)):
        raise BadCall(f"the function {function_name(plain)} returns nothing in floating point")
    return shapes


def _cotangent(shapes, seed: int = 0):
    """Generic, and exact in every precision: odd multiples of 1/8."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda s: (2 * rng.integers(-8, 8, s.shape) + 1) / 8, shapes)


def _paired(plain: Callable, cotangent) -> Callable:
    """⟨cotangent, function⟩, a scalar whose gradient is the pulled-back cotangent."""

    def loss(*args):
        out = jax.tree.leaves(plain(*args))
        weights = jax.tree.leaves(cotangent)
        return sum(
            jnp.sum(jnp.asarray(c, y.dtype) * y)
            for c, y in zip(weights, out, strict=True)
            if jnp.issubdtype(y.dtype, jnp.floating)
        )

    return loss


def _pulled(function: Callable, cotangent, argnums: int | tuple[int, ...]) -> Callable:
    numbers = (argnums,) if isinstance(argnums, int) else argnums

    def gradient(*args):
        def of_chosen(*chosen):
            full = list(args)
            for n, x in zip(numbers, chosen, strict=True):
                full[n] = x
            return function(*full)

        chosen = [jax.tree.map(jnp.asarray, args[n]) for n in numbers]
        out, pull = jax.vjp(of_chosen, *chosen)
        back = pull(jax.tree.map(_as_cotangent, cotangent, out))
        return back[0] if isinstance(argnums, int) else back

    return gradient


def _as_cotangent(c, y):
    if not jnp.issubdtype(y.dtype, jnp.floating):
        return np.zeros(y.shape, jax.dtypes.float0)
    return jnp.asarray(c, y.dtype)


def _forward(call: Call, leaves: list, function: Callable, plain: Callable) -> Probe:
    """What the function returns, called and differentiated, against the plain one, in float64."""

    def of(values: Callable):
        def floating(*args):
            leaves = jax.tree.leaves(values(*args))
            return [y for y in leaves if jnp.issubdtype(y.dtype, jnp.floating)]

        return floating

    def differentiated(*args):
        leaves, treedef = jax.tree.flatten(args)

        def of_chosen(*chosen):
            full = list(leaves)
            for k, x in zip(call.places, chosen, strict=True):
                full[k] = x
            return function(*jax.tree.unflatten(treedef, full))

        return jax.vjp(of_chosen, *(jnp.asarray(leaves[k]) for k in call.places))[0]

    wide = True
    forms = (plain, function, differentiated)
    if not all(traced(call, of(f), leaves).exact for f in forms):
        wide = False
    theirs, *ours = (evaluated(call, traced(call, of(f), leaves, wide=wide), leaves) for f in forms)
    for side in ours:
        for x, y, e, d in zip(side.values, theirs.values, side.errors, theirs.errors, strict=True):
            if x.shape != y.shape:
                return Probe("forward", False, f"it returns shape {x.shape}, the plain function {y.shape}")
            with np.errstate(invalid="ignore"):
                same = (np.abs(x - y) <= e + d) | (x == y) | ~np.isfinite(y)
            if not same.all():
                return Probe("forward", False, "it returns other values than the plain function")
    return Probe("forward", True, "it returns what the plain function returns")


def _near(x: np.ndarray, y: np.ndarray, roundings: int | float) -> bool:
    if not jnp.issubdtype(x.dtype, jnp.floating):
        return np.array_equal(x, y)
    eps = float(jnp.finfo(x.dtype).eps)
    x, y = x.astype(np.float64), y.astype(np.float64)
    finite = np.isfinite(x) & np.isfinite(y)
    size = np.max(np.abs(y[finite]), initial=0.0)
    with np.errstate(invalid="ignore"):
        close = np.abs(x - y) <= roundings * eps * size
    return bool(np.all(close | (x == y) | (np.isnan(x) & np.isnan(y))))


def _linear(function: Callable, shapes, args: tuple, argnums: int | tuple[int, ...], call) -> list[Probe]:
    """What every vjp obeys: pull(2c) = 2 pull(c), pull(c + d) = pull(c) + pull(d), pull(0) = 0."""

    def pull(c) -> list:
        return jax.tree.leaves(_pulled(function, c, argnums)(*args))

    flat, tree = jax.tree.flatten(_cotangent(shapes))
    try:  # compiled once, it is quick however often it is called
        closed = jax.make_jaxpr(lambda *given: pull(jax.tree.unflatten(tree, given)))(*flat)
        program = compiled(closed, flat)
        pull = lambda c: program.run(*jax.tree.leaves(c))  # noqa: E731
    except jax.errors.JAXTypeError:  # a rule in NumPy can only be called
        pass

    def pulled(c) -> list[np.ndarray]:
        return [np.asarray(x) for x in pull(c)]

    c, d = _cotangent(shapes, 0), _cotangent(shapes, 1)
    once, other = pulled(c), pulled(d)
    twice = pulled(jax.tree.map(lambda x: 2 * x, c))
    both = pulled(jax.tree.map(np.add, c, d))
    nothing = pulled(jax.tree.map(np.zeros_like, c))
    kept = all(
        g.dtype == jax.dtypes.canonicalize_dtype(jnp.result_type(call.leaves[k]))
        and g.shape == np.shape(call.leaves[k])
        for g, k in zip(once, call.places, strict=True)
    )
    types = Probe(
        "types",
        kept,
        "shapes and dtypes are those of the arguments"
        if kept
        else "a shape or dtype differs from that of its argument",
    )
    told = [np.isfinite(np.asarray(o, np.float64)) for o in once]  # ∞ times a number says nothing of it
    if not any(t.any() for t in told):
        return [*(Probe(name, None, "no entry is finite") for name in ("linearity", "zero")), types]
    once, other, twice, both, nothing = (
        [x[t] for x, t in zip(back, told, strict=True)] for back in (once, other, twice, both, nothing)
    )
    scales = all(_near(t, 2 * o, 64) for t, o in zip(twice, once, strict=True))
    adds = all(_near(b, o + p, 1e3) for b, o, p in zip(both, once, other, strict=True))
    zero = all(not np.any(np.asarray(n, np.float64)) for n in nothing)
    return [
        Probe(
            "linearity",
            scales and adds,
            "linear in the cotangent"
            if scales and adds
            else f"not linear in the cotangent: {'twice it' if not scales else 'a sum of two'} does not "
            f"give {'twice the' if not scales else 'the sum of their'} gradients",
        ),
        Probe("zero", zero, f"a zero cotangent gives {'zeros' if zero else 'other than zeros'}"),
        types,
    ]


def _with(report: Report, probes: list[Probe]) -> Report:
    """The report with the probes of a rule, and the cause that they show before those that fit."""
    report = report._replace(probes=[*report.probes, *probes])
    broken = {p.name for p in probes if p.passed is False}
    if report.correct and "forward" in broken:
        return report._replace(
            headline=f"{report.headline}, but it returns other values than the plain function"
        )
    if report.correct is not False or "linearity" not in broken:
        return report
    mistake, sentence = UNSCALED if "zero" in broken else OTHERWISE
    cause = Cause(mistake.id, sentence, "the backward rule", SURE, mistake.equation)
    others = [c for c in report.causes if c.id not in (mistake.id, UNKNOWN.id)]
    report = report._replace(causes=[cause, *others])
    return report._replace(headline=blaming(report.headline, report.causes))


UNSCALED = (IGNORED, "The rule does not multiply by the cotangent it is handed.")
OTHERWISE = (
    NONLINEAR,
    "The rule is not linear in the cotangent it is handed, as where that is clipped or squared.",
)
