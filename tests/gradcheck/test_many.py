"""More than a thousand right gradients, none condemned; every mistake of the catalogue, none passed."""

import jax
import numpy as np
import pytest

from experiments.planted.mistakes import NEEDS_SATURATION, STATEFUL, mutants
from experiments.planted.network import formulations, loss_of
from experiments.planted.points import KINDS, networks, point_of, wide_networks
from jaxnn.gradcheck.bounds.interpreter import interpret
from jaxnn.gradcheck.jaxprs.equations import opened

NETWORKS = (*networks(), *wide_networks())
POINTS = 17  # at each, five right gradients


def read(function, args):
    """The function at args' shapes, as (args → its values with bounds)."""
    jaxpr, consts = opened(jax.make_jaxpr(function)(*args))
    live = [True] * len(jax.tree.leaves(args[0]))

    def at(args):
        leaves = jax.tree.leaves(args)
        return interpret(jaxpr, consts, leaves, live + [False] * (len(leaves) - len(live)))[0]

    return at


def beyond(ours, theirs):
    """Whether two gradients differ by more than their bounds, where these are finite."""
    with np.errstate(all="ignore"):
        return any(
            np.any(
                np.isfinite(a.value)
                & np.isfinite(a.error)
                & ~(np.abs(a.value - b.value) <= a.error + b.error)
            )
            for a, b in zip(ours, theirs, strict=True)
        )


@pytest.mark.parametrize(("net", "examples"), NETWORKS, ids=lambda x: getattr(x, "sizes", x))
def test_no_right_gradient_is_condemned(net, examples, x64):
    programs = {}
    written = formulations(net)
    assert len(NETWORKS) * POINTS * len(written) >= 1000
    for k in range(POINTS):
        kind = KINDS[k % len(KINDS)]
        args = point_of(net, examples, kind, np.random.default_rng(k))
        shape = args[1].shape
        if shape not in programs:
            programs[shape] = [read(f, args) for f in (jax.grad(loss_of(net)), *written.values())]
        reference, *hands = [program(args) for program in programs[shape]]
        condemned = [n for n, h in zip(written, hands, strict=True) if beyond(reference, h)]
        assert condemned == [], kind


def test_no_wrong_gradient_passes(x64):
    planted = 0
    for net, examples in networks():
        args = point_of(net, examples, "generic", np.random.default_rng(2))
        reference = read(jax.grad(loss_of(net)), args)(args)
        for mutant in list(mutants(net))[::9]:
            if mutant.id in STATEFUL | NEEDS_SATURATION:
                continue
            hand = read(mutant.gradient, args)(args)
            if not all(np.isfinite(h.value).all() for h in hand):
                continue  # which a bound has no part in
            pairs = [(r.value, h.value) for r, h in zip(reference, hand, strict=True)]
            if any(np.abs(r - h).max() > 1e-6 * np.abs(r).max() for r, h in pairs):
                assert beyond(reference, hand), (net, mutant.id, mutant.where)
                planted += 1
    assert planted >= 100
