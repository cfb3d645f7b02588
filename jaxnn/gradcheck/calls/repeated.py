"""What a gradient must be besides right: the same at every call, and a reader of its arguments only."""

import contextlib

import jax
import numpy as np

from jaxnn.gradcheck.calls.call import ROUNDINGS, BadCall, Call, own_copies
from jaxnn.gradcheck.calls.returned import Calls, called, returned
from jaxnn.gradcheck.report.model import Probe

FEW = 4096  # numbers: a gradient of so few costs little to call


def same(x: np.ndarray, y: np.ndarray, eps: float, roundings: float = ROUNDINGS) -> bool:
    """Equal, but for a few roundings of the largest entry: some machines add in no fixed order."""
    size = np.max(np.abs(x[np.isfinite(x)]), initial=0.0)
    return bool(np.isclose(x, y, 0.0, roundings * eps * size, equal_nan=True).all())


def called_repeatedly(call: Call, q_leaves: list) -> Calls:
    """Call the gradient at q, p, p, q and hold what it returned against itself.

    Where little goes in, twice more at p: a mask of few entries may be drawn alike by chance.
    Raises BadCall where the gradient raises at p.
    """

    def agree(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
        return all(same(x, y, call.eps) for x, y in zip(a, b, strict=True))

    q_args = call.rebuilt(q_leaves)
    elsewhere = None
    with contextlib.suppress(BadCall):  # the probe below says so
        elsewhere = called(call, q_args)
    copies = own_copies(call.args)
    handed = jax.tree.leaves(copies)
    first = called(call, call.args)
    last = returned(call, copies)
    few = sum(map(np.size, call.leaves)) <= FEW
    more = [called(call, call.args) for _ in range(2 if few else 0)]
    steady = all(agree(first, values) for values in (last, *more))
    text = "two calls agree" if steady else "two calls with the same arguments disagree"
    probes = [Probe("determinism", steady, text)]
    pure, text = None, "the gradient could not be called at another point"
    if elsewhere is not None:
        pure = steady and agree(elsewhere, called(call, q_args))
        text = "calls at q, p, p, q agree" if pure else "a call depends on the call before it"
    probes.append(Probe("purity", pure, text))
    if _written(call.args, copies, handed):
        probes.append(Probe("arguments", False, "the gradient writes into its arguments"))
    return Calls(first, last, elsewhere, probes, steady and pure is not False)


def left_behind(calls: Calls) -> Calls:
    """The same calls, once it is known that they use what an earlier one left, though they agree."""
    kept = Probe("purity", False, "it computes with values that an earlier call left behind")
    probes = [kept if p.name == kept.name else p for p in calls.probes]
    return calls._replace(probes=probes, repeatable=False, keeps=True)


def _written(args: tuple, copies: tuple, handed: list) -> bool:
    """Whether copies of the arguments are no longer that; handed: their leaves, as they were."""
    if jax.tree.structure(args) != jax.tree.structure(copies):
        return True
    return any(
        not np.array_equal(x, y, equal_nan=x.dtype.kind == "f") if isinstance(x, np.ndarray) else y is not own
        for x, y, own in zip(jax.tree.leaves(args), jax.tree.leaves(copies), handed, strict=True)
    )
