"""The wrong gradients that the comparison is tried with: each is wrong, and no two mistakes are one."""

import functools

import jax
import numpy as np
import pytest

from experiments.planted import losses
from experiments.planted.mistakes import NEEDS_SATURATION, STATEFUL, mutants
from experiments.planted.network import data, gradient_of, init
from experiments.planted.points import networks
from tests.gradcheck.diagnosing import evaluated

THE_SAME = {frozenset({"bias-missing", "bias-summed-over-all"})}  # at a softmax: there the sum is 0


def flat(tree):
    return np.concatenate([np.ravel(np.asarray(leaf)) for leaf in jax.tree.leaves(tree)])


def same(a, b):
    return np.allclose(a, b, rtol=1e-7, atol=1e-12, equal_nan=True)


def everywhere(gradient, points):
    return [flat(evaluated(gradient, args)) for args in points]


def all_same(a, b):
    return all(same(*pair) for pair in zip(a, b, strict=True))


@functools.cache
def planted_in(place):
    """What the mutants of a network give at two points, and what is right."""
    net, n = networks()[place]
    points = [(init(net, seed), *data(net, n + 1, seed)) for seed in (0, 1)]  # n_0 is N − 1 at n
    found = [m for m in mutants(net) if m.id not in STATEFUL | NEEDS_SATURATION]
    return [(m.id, m.where, everywhere(m.gradient, points)) for m in found], everywhere(
        gradient_of(net), points
    )


@pytest.mark.parametrize("place", [3, 7])
def test_every_mistake_changes_the_gradient(place, x64):
    found, right = planted_in(place)
    assert [(id, where) for id, where, wrong in found if all_same(wrong, right)] == []
    assert {id for id, _, wrong in found if not np.isfinite(np.concatenate(wrong)).all()} == {"not-finite"}


@pytest.mark.parametrize("place", [3, 7])
def test_no_two_mistakes_of_a_network_are_the_same(place, x64):
    found, _ = planted_in(place)
    pairs = {
        frozenset({id, other})
        for k, (id, _, wrong) in enumerate(found)
        for other, _, it in found[:k]
        if id != other and all_same(wrong, it)
    }
    assert pairs <= THE_SAME


@pytest.mark.parametrize("loss", losses.LOSSES, ids=lambda loss: loss.name)
def test_the_right_version_of_a_loss_is_right_and_every_mistake_is_none_of_the_others(loss, x64):
    args = loss.arguments(0)
    right = jax.grad(loss.of)(*args)
    hand = evaluated(loss.backward(""), args)
    assert jax.tree.structure(hand) == jax.tree.structure(right)
    for h, r in zip(jax.tree.leaves(hand), jax.tree.leaves(right), strict=True):
        np.testing.assert_allclose(h, r, rtol=1e-12, atol=1e-14)
    wrong = {mistake: flat(evaluated(loss.backward(mistake), args)) for mistake in ("", *loss.mistakes)}
    for k, (mistake, gradient) in enumerate(wrong.items()):
        assert np.isfinite(gradient).all()
        for other in list(wrong)[:k]:
            assert not same(gradient, wrong[other]), (mistake, other)


def test_every_plant_of_a_loss_is_one_of_its_mistakes():
    assert len(losses.PLANTS) == sum(len(loss.mistakes) for loss in losses.LOSSES)
    assert len({plant.where for plant in losses.PLANTS}) == len(losses.PLANTS)
