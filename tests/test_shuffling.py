import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chi2, chisquare

from jaxnn import shuffling
from jaxnn.shuffling import shuffled

UNLIKELY = 1e-3


def orders(N, K, positions=None):
    """The shuffled order under each of K keys: (K, N), or only those positions of it."""
    i = jnp.arange(N) if positions is None else jnp.array(positions)
    keys = jax.random.split(jax.random.key(5), K)
    return np.asarray(jax.jit(jax.vmap(lambda key: shuffled(key, i, N)))(keys))


def p_of_positions(N, K):
    """Is each example equally often at each position? The table has (N−1)² degrees of freedom."""
    counts = np.stack([np.bincount(column, minlength=N) for column in orders(N, K).T])
    statistic = np.sum((counts - K / N) ** 2) / (K / N) * (N - 1) / N
    return chi2.sf(statistic, (N - 1) ** 2)


def p_of_pairs(N, K, positions):
    """Is each ordered pair of examples equally often at these two positions?"""
    first, second = orders(N, K, positions).T
    counts = np.bincount(first * N + second, minlength=N * N).reshape(N, N)
    assert not np.trace(counts)
    return chisquare(counts[~np.eye(N, dtype=bool)]).pvalue


def p_of_orders(N, K):
    """Is each of the N! orders equally frequent?"""
    found, counts = np.unique(orders(N, K), axis=0, return_counts=True)
    return chisquare([*counts, *[0] * (math.factorial(N) - len(found))]).pvalue


def p_of_steps(N, K):
    """Is the step from one position to the next, modulo N, equally often in each of 250 ranges?"""
    steps = np.diff(orders(N, K).astype(np.int64)) % N
    return chisquare(np.bincount(np.ravel(steps * 250 // N), minlength=250)).pvalue


@pytest.mark.parametrize("N", [*range(1, 11), 16, 17, 25, 26, 99, 1442, 60000, 65537])
def test_every_example_has_one_position(N):
    for order in orders(N, 3):
        assert np.array_equal(np.sort(order), np.arange(N))


@pytest.mark.parametrize(("N", "K"), [(3, 9000), (10, 20000), (61, 20000)])
def test_positions_are_uniform(N, K):
    assert p_of_positions(N, K) > UNLIKELY


@pytest.mark.parametrize("positions", [(0, 1), (8, 9), (0, 9), (4, 0), (3, 7)])
def test_pairs_of_positions_are_uniform(positions):
    assert p_of_pairs(10, 90 * 200, positions) > UNLIKELY


@pytest.mark.parametrize("positions", [(0, 1), (0, 6), (2, 31)])
def test_pairs_of_positions_are_uniform_among_more(positions):
    assert p_of_pairs(37, 37 * 36 * 20, positions) > UNLIKELY


@pytest.mark.parametrize("N", [2, 3, 4])
def test_all_orders_are_equally_frequent(N):
    assert p_of_orders(N, 12000) > UNLIKELY


def test_steps_between_neighbours_are_uniform():
    assert p_of_steps(60000, 20) > UNLIKELY


def test_positions_are_uniform_among_many():
    place = np.arange(60000) // 1200
    counts = sum(
        np.histogram2d(place, order // 1200, bins=(50, 50), range=((0, 50), (0, 50)))[0]
        for order in orders(60000, 8)
    )
    expected = 60000 * 8 / 50**2
    p = chi2.sf(np.sum((counts - expected) ** 2) / expected, 49**2)
    assert p > UNLIKELY


def test_two_epochs_agree_as_often_as_chance_has_it():
    agreements = np.sum(np.diff(orders(1442, 400), axis=0) == 0)
    assert abs(agreements - 399) < 4 * np.sqrt(399)


@pytest.mark.parametrize(
    "p",
    [
        lambda: p_of_positions(10, 20000),
        lambda: p_of_pairs(10, 90 * 200, (0, 1)),
        lambda: p_of_pairs(37, 37 * 36 * 20, (0, 6)),
        lambda: p_of_orders(4, 12000),
        lambda: p_of_steps(60000, 20),
    ],
)
def test_too_few_rounds_are_noticed(p, monkeypatch):
    monkeypatch.setattr(shuffling, "ROUNDS", 3)
    assert p() < 1e-9


def test_an_order_can_be_entered_anywhere():
    key = jax.random.key(2)
    order = shuffled(key, jnp.arange(1442), 1442)
    i = jnp.array([[1441, 3, 700], [0, 3, 12]])
    assert np.array_equal(shuffled(key, i, 1442), order[i])


def test_the_key_alone_decides():
    keys = jax.random.split(jax.random.key(5), 3)
    together = orders(100, 3)
    for key, order in zip(keys, together, strict=True):
        assert np.array_equal(shuffled(key, jnp.arange(100), 100), order)
    assert len(np.unique(together, axis=0)) == 3
