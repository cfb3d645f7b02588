"""What the gradient returned when it was called, and how that differs from what a gradient looks like."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.gradcheck.calls.call import BadCall, Call, own_copies, titled
from jaxnn.gradcheck.calls.raised import in_full
from jaxnn.gradcheck.jaxprs.eager import op_by_op
from jaxnn.gradcheck.report.model import Probe


def _alike(x, y) -> bool:
    """Whether two trees are the same but for what is in their leaves, and is a list or a tuple."""
    return jax.tree.structure(_sequence_free(x)) == jax.tree.structure(_sequence_free(y))


def _sequence_free(tree):
    """The tree with every list and tuple as a tuple."""
    if isinstance(tree, list | tuple) and not hasattr(tree, "_fields"):
        return tuple(_sequence_free(t) for t in tree)
    if isinstance(tree, dict):
        return {k: _sequence_free(v) for k, v in tree.items()}
    return tree


def _gradient_leaves(call: Call, out, args: tuple) -> list[np.ndarray]:
    """The leaves of what the gradient returned, in float64, or a BadCall that says how it differs."""
    name = titled("gradient", call.gradient)
    expected = call.selected(args)
    wanted, got = jax.tree.leaves(expected), jax.tree.leaves(out)
    alone = len(got) == len(wanted) == 1 and not isinstance(out, dict)
    if not (alone or _alike(out, expected)):
        raise BadCall(_structure_sentence(name, call, expected, out))
    arrays = []
    for path, leaf, target in zip(call.paths, got, map(jnp.shape, wanted), strict=True):
        try:
            kind, shape, array = jnp.result_type(leaf), jnp.shape(leaf), np.asarray(leaf)
            if array.dtype.kind == "O":
                raise TypeError
        except Exception:  # whatever conversion of a class that is not ours
            what = type(leaf).__name__
            raise BadCall(f"{name} returned {what} for {path}; expected an array of shape {target}") from None
        if shape != target:
            turned = "; it looks transposed (mistake: transposed)" if shape == target[::-1] else ""
            raise BadCall(
                f"{name} returned shape {shape} for {path}, whose shape is {target}{turned}"
                "; a gradient has the shape of its parameter"
            )
        if not jnp.issubdtype(kind, jnp.floating):
            raise BadCall(f"{name} returned dtype {kind} for {path}; expected floating point")
        arrays.append(array.astype(np.float64))
    return arrays


def _structure_sentence(name: str, call: Call, expected, out) -> str:
    if isinstance(expected, dict) and isinstance(out, dict) and expected.keys() != out.keys():
        missing, extra = (
            ", ".join(sorted(map(str, x.keys() - y.keys()))) for x, y in ((expected, out), (out, expected))
        )
        parts = [f"without {missing}"] * bool(missing) + [f"with {extra} that is no parameter"] * bool(extra)
        return (
            f"{name} returned a dict {' and '.join(parts)}; "
            "return one entry for every parameter, under the same names"
        )
    pair = isinstance(out, tuple) and len(out) == 2 and jnp.ndim(jax.tree.leaves(out)[0]) == 0
    if pair and _alike(out[1], expected):
        return f"{name} returned a pair, perhaps of loss and gradient: return the second"
    several = isinstance(out, tuple) and isinstance(call.argnums, int) and 1 < len(out) <= len(call.args)
    if several and jax.tree.map(jnp.shape, (*out,)) == jax.tree.map(jnp.shape, call.args[: len(out)]):
        return (
            f"{name} returned those of {len(out)} arguments, and argnums={call.argnums} names "
            f"one; say argnums={tuple(range(len(out)))}"
        )
    try:
        parts = jax.tree.structure(expected).flatten_up_to(out)
    except ValueError:
        parts = []
    for path, part, target in zip(call.paths, parts, jax.tree.leaves(expected), strict=False):
        if not jax.tree_util.all_leaves([part]):
            return (
                f"{name} returned {_described(part)} for {path}; expected an array of "
                f"shape {jnp.shape(target)}: return jnp.asarray of it"
            )
    if out is None:
        return f"{name} returned None; return a tree like args[{call.argnums}]"
    return f"{name} returned {_described(out)}; expected {_described(expected)}, like args[{call.argnums}]"


def _described(tree) -> str:
    leaves = jax.tree.leaves(tree)
    if hasattr(tree, "shape"):
        return f"one array of shape {tuple(tree.shape)}"
    kind = type(tree).__name__
    if isinstance(tree, dict):
        return f"a dict of {', '.join(map(str, tree))}"
    if tree is None:
        return "None"
    if isinstance(tree, int | float):
        return f"one {kind}"
    arrays = "array" if len(leaves) == 1 else "arrays"
    return f"a {kind} of {len(tree) if hasattr(tree, '__len__') else '?'} with {len(leaves)} {arrays}"


def called(call: Call, args: tuple) -> list[np.ndarray]:
    """gradient(*args) in float64, args kept from harm; what it raises becomes a BadCall."""
    return returned(call, own_copies(args))


def returned(call: Call, args: tuple) -> list[np.ndarray]:
    """The same, with args themselves."""
    untouched = own_copies(args)
    try:
        out, failed = None, False
        try:
            with op_by_op():
                out = call.gradient(*args)
        except jax.errors.UnexpectedTracerError:  # it keeps what an earlier call left
            raise
        except Exception:  # its own, or that of a library which runs at JAX's outermost only
            failed = True
        if failed:
            out = call.gradient(*own_copies(untouched))
    except BadCall:
        raise
    except (Exception, SystemExit) as error:
        raise BadCall(f"{titled('gradient', call.gradient)} raised {in_full(error)}") from error
    return _gradient_leaves(call, out, untouched)


class Calls(NamedTuple):
    """What the gradient itself returned, called q, p, p, q, as float64.

    first, last: at p; elsewhere: at q, None where it could not be called there.
    """

    first: list[np.ndarray]
    last: list[np.ndarray]
    elsewhere: list[np.ndarray] | None
    probes: list[Probe]
    repeatable: bool
    keeps: bool = False  # it uses what an earlier call left, though these calls agree
