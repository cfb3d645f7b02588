"""What a gradient must be besides right: the same at every call, jitted or not, batched or not."""

import jax
import numpy as np

from jaxnn.gradcheck.calls.call import BadCall, Call
from jaxnn.gradcheck.calls.returned import Calls, called, own_copies, returned
from jaxnn.gradcheck.report.model import Probe

FEW = 4096  # numbers: a gradient of so few costs little to call


def _wide(leaves: list) -> list[np.ndarray]:
    return [np.asarray(x).astype(np.float64) for x in leaves]


def same(a: list[np.ndarray], b: list[np.ndarray], eps: float) -> bool:
    """Equal, but for a few roundings: some machines add in no fixed order."""
    for x, y in zip(a, b, strict=True):
        size = np.max(np.abs(x[np.isfinite(x)]), initial=0.0)
        with np.errstate(invalid="ignore"):
            near = np.abs(x - y) <= 64 * eps * size
        if not np.all(near | (x == y) | (np.isnan(x) & np.isnan(y))):
            return False
    return True


def called_repeatedly(call: Call, q_leaves: list, eps: float) -> Calls:
    """Call the gradient at q, p, p, q and hold what it returned against itself.

    Where little goes in, twice more at p: a mask of few entries may be drawn alike by chance.
    Raises BadCall where the gradient raises at p.
    """
    q_args = call.rebuilt(q_leaves)
    try:
        elsewhere = _wide(called(call, q_args))
    except BadCall:
        elsewhere = None
    copies = own_copies(call.args)
    first = _wide(called(call, call.args))
    last = _wide(returned(call, copies))
    few = sum(map(np.size, call.leaves)) <= FEW
    more = [_wide(called(call, call.args)) for _ in range(2 if few else 0)]
    steady = all(same(first, values, eps) for values in (last, *more))
    probes = [
        Probe(
            "determinism",
            steady,
            "two calls agree" if steady else "two calls with the same arguments disagree",
        )
    ]
    pure = steady
    if elsewhere is None:
        probes.append(Probe("purity", None, "the gradient could not be called at another point"))
    else:
        pure = pure and same(elsewhere, _wide(called(call, q_args)), eps)
        text = "calls at q, p, p, q agree" if pure else "a call depends on the call before it"
        probes.append(Probe("purity", pure, text))
    if _written(call.args, copies):
        probes.append(Probe("arguments", False, "the gradient writes into its arguments"))
    return Calls(first, last, elsewhere, probes, steady and pure)


def _written(args: tuple, copies: tuple) -> bool:
    """Whether copies of the arguments are no longer that."""
    if jax.tree.structure(args) != jax.tree.structure(copies):
        return True
    return any(
        not np.array_equal(x, y, equal_nan=x.dtype.kind == "f") if isinstance(x, np.ndarray) else y is not x
        for x, y in zip(jax.tree.leaves(args), jax.tree.leaves(copies), strict=True)
    )
