"""Points of one's own choosing keep what a gradient may rely on, and are where they are said to be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn.gradcheck.calls.call import checked
from jaxnn.gradcheck.verdict import points

RNG = np.random.default_rng(2)
MIXED = RNG.normal(size=(5, 3))
MIXED[1, 2] = 0.0
POSITIVE = RNG.uniform(0.1, 3, (5, 3))
SHARES = RNG.uniform(0.05, 0.95, 7)


def call_of(w, *data):
    return checked(lambda w, *data: jnp.sum(w**2), lambda w, *data: 2 * w, (w, *data), 0)


def test_a_point_near_keeps_signs_and_domains_and_leaves_no_zeros():
    for leaf in (MIXED, POSITIVE, SHARES, 1e-6 * MIXED, 1e6 * MIXED):
        there = points.near(leaf, np.random.default_rng(0))
        assert np.all(np.sign(there)[leaf != 0] == np.sign(leaf)[leaf != 0])
        assert np.all(there != 0)
        assert not np.any(there == leaf)
        assert np.all(np.abs(there - leaf)[leaf != 0] <= 0.2 * np.abs(leaf)[leaf != 0])
    assert np.all(points.near(SHARES, np.random.default_rng(0)) < 1)
    halves = points.near(np.array([0.0, 2.0, 4.0]), np.random.default_rng(0))
    assert np.all(halves > 0)  # of what has no negative entry, zeros become positive


def test_a_point_near_zeros_is_of_the_size_of_weights():
    there = points.near(np.zeros((50, 100)), np.random.default_rng(0))
    assert 0.01 < np.sqrt(np.mean(there**2)) < 0.1
    assert 0 < np.mean(there > 0) < 1


def test_fresh_weights_are_of_the_size_of_weights_and_positive_where_they_were():
    there = points.generic(MIXED, np.random.default_rng(0))
    assert 0.25 * 1.7 / np.sqrt(3) <= np.abs(there).min() <= np.abs(there).max() <= 1.7 / np.sqrt(3)
    assert {-1, 1} == set(np.sign(there).ravel())
    assert np.all(points.generic(POSITIVE, np.random.default_rng(0)) > 0)
    tenth = points.small(MIXED, np.random.default_rng(0))
    np.testing.assert_allclose(tenth, there / 10)


def test_a_symmetric_matrix_stays_so():
    leaf = MIXED[:3] + MIXED[:3].T
    for how in (points.near, points.generic, points.small):
        there = how(leaf, np.random.default_rng(0))
        np.testing.assert_array_equal(there, there.T)
        assert np.unique(there).size == 6
        other = how(np.eye(3), np.random.default_rng(0))
        assert not np.array_equal(other, other.T)


def test_only_what_is_differentiated_moves():
    call = call_of(MIXED, POSITIVE, SHARES)
    there = points.moved(call, list(call.leaves), points.generic, 1)
    assert not np.array_equal(there[0], MIXED)
    assert there[1] is call.leaves[1]
    assert there[2] is call.leaves[2]
    again = points.moved(call, list(call.leaves), points.generic, 1)
    np.testing.assert_array_equal(there[0], again[0])
    assert not np.array_equal(there[0], points.moved(call, list(call.leaves), points.generic, 2)[0])


def test_weights_of_both_signs_are_of_matrices_that_are_positive():
    call = call_of(POSITIVE, POSITIVE.T)
    there = points.of_both_signs(call, list(call.leaves), frozenset({0}), 0)
    assert {-1, 1} == set(np.sign(there[0]).ravel())
    assert there[1] is call.leaves[1]
    for w in (MIXED, POSITIVE[0], np.zeros((0, 3))):
        assert points.of_both_signs(call_of(w), [w], frozenset({0}), 0) is None
    assert points.of_both_signs(call, list(call.leaves), frozenset(), 0) is None
    within = call._replace(within=((0, 0.0, 9.0),))
    assert points.of_both_signs(within, list(call.leaves), frozenset({0}), 0) is None


def test_a_definite_matrix_stays_so():
    leaf = MIXED.T @ MIXED
    for how in (points.near, points.generic, points.small):
        assert np.linalg.eigvalsh(how(leaf, np.random.default_rng(0))).min() > 0


def test_factors_of_products_are_weights():
    def loss(p, w, b, kernel, x):
        h = jax.lax.scan(lambda h, _: (jnp.tanh(h @ w.T + b), None), x, None, length=2)[0]
        return jnp.sum(jnp.log(p) @ h) + jnp.dot(b, kernel[:3, 0])

    args = (POSITIVE[:, :5], MIXED[:3], MIXED[0], MIXED, POSITIVE[:3])
    with jax.numpy_rank_promotion("allow"):
        assert points.factors(jax.make_jaxpr(loss)(*args)) == {1, 2, 3, 4}


ROWS = POSITIVE / POSITIVE.sum(1, keepdims=True)
KEPT = {
    # values, and what of them holds at every point
    "shares of one": (ROWS, lambda x: np.allclose(x.sum(1), 1) and np.all(x > 0)),
    "probabilities": (SHARES, lambda x: np.all((x > 0) & (x < 1))),
    "one-hot": (np.eye(3), lambda x: np.allclose(x.sum(1), 1) and np.all(x >= 0)),
    "not negative": (np.maximum(MIXED, 0), lambda x: np.all(x >= 0)),
    "within the range": (MIXED, lambda x: np.all(np.abs(x) <= 1.2 * np.abs(MIXED).max())),
    "ascending": (np.sort(MIXED[0]), lambda x: np.all(np.diff(x) > 0)),
}


@pytest.mark.parametrize("name", KEPT)
@pytest.mark.parametrize("how", [points.near, points.generic, points.small], ids=["near", "generic", "small"])
def test_what_is_no_weight_stays_what_its_values_are(name, how):
    leaf, holds = KEPT[name]
    for seed in range(5):
        (there,) = points.moved(call_of(leaf), [leaf], how, seed)
        assert holds(there)
        assert not np.array_equal(there, leaf)


@pytest.mark.parametrize("ends", [(0.05, 3.1), (0.05, np.inf), (-np.inf, 3.1)])
def test_no_point_is_beyond_what_the_caller_says(ends):
    call = call_of(POSITIVE)._replace(within=((0, *ends),))
    for weights in (frozenset(), frozenset({0})):
        for how in (points.near, points.generic, points.small):
            (there,) = points.moved(call, [POSITIVE], how, 0, weights)
            assert np.all((ends[0] < there) & (there < ends[1]))
            np.testing.assert_array_equal(points.turned(call, [-POSITIVE], [there])[0], there)


def test_signs_are_turned_but_for_what_is_positive():
    call = checked(lambda w: jnp.sum(w[0]) + jnp.sum(w[1]), lambda w: w, ((MIXED, POSITIVE),), 0)
    there = points.turned(call, list(call.leaves), [2 * MIXED, 2 * POSITIVE])
    np.testing.assert_array_equal(there[0], -2 * MIXED)
    np.testing.assert_array_equal(there[1], 2 * POSITIVE)


@pytest.mark.parametrize(
    ("w", "extreme"),
    [
        (MIXED, False),
        (100 * MIXED, True),
        (MIXED / 100, True),
        (POSITIVE, True),
        (-POSITIVE, True),
        (POSITIVE[0], False),
        (0 * MIXED, False),
    ],
)
def test_weights_that_are_tiny_huge_or_of_one_sign_are_extreme(w, extreme):
    assert points.extreme(call_of(w), [w]) is extreme


def test_scalars_that_are_zero_are_switched_on():
    zero, one = np.zeros(()), np.ones(())
    call = call_of(np.zeros(()), zero, one, np.zeros(2))
    there = points.switched_on(call, list(call.leaves))
    assert [float(np.sum(x)) for x in there] == [0.0, 0.3, 1.0, 0.0]
    assert points.switched_on(call_of(zero, one), [zero, one]) is None


def test_data_of_extreme_size_is_brought_to_size_one():
    usual = RNG.normal(size=(6, 4))
    call = call_of(1e4 * usual, usual, 1e4 * usual, 1e-4 * usual, np.zeros((6, 4)), np.ones((6, 4)))
    there = points.tamed(call, list(call.leaves), 0)
    assert there[0] is call.leaves[0]
    assert there[1] is call.leaves[1]
    for x in there[2:4]:
        np.testing.assert_allclose(x, usual / np.sqrt(np.mean(usual**2)))
    assert np.unique(there[4]).size > 20
    assert set(there[5].ravel()) == {0.0, 1.0}
    for size, found in ((29, False), (31, True), (0.011, False), (0.009, True)):
        x = size * usual / np.sqrt(np.mean(usual**2))
        assert (points.tamed(call_of(MIXED, x), [MIXED, x], 0) is not None) is found
    for odd in (np.full((6, 4), np.inf), np.array(1e9), np.full((6, 4), 10**6)):
        assert points.tamed(call_of(MIXED, odd), [MIXED, odd], 0) is None


def test_a_batch_is_repeated_where_its_size_hides_something():
    w, one, labels = MIXED, RNG.normal(size=(1, 7)), np.zeros(1, int)
    there = points.repeated(call_of(w, one, labels), [w, one, labels])
    assert there[0] is w
    assert (there[1].shape, there[2].shape) == ((3, 7), (3,))
    np.testing.assert_array_equal(there[1], np.repeat(one, 3, axis=0))
    for examples, found in ((5, True), (3, True), (7, False)):  # w is 5 × 3
        x = RNG.normal(size=(examples, 8))
        assert (points.repeated(call_of(w, x), [w, x]) is not None) is found
    square = RNG.normal(size=(8, 8))
    assert points.repeated(call_of(w, square), [w, square])[1].shape == (24, 8)
    assert points.repeated(call_of(w), [w]) is None
    assert points.repeated(call_of(w, np.zeros((0, 3))), [w, np.zeros((0, 3))]) is None


def test_points_are_handed_over_as_they_were_given():
    call = call_of(jnp.ones(3, jnp.bfloat16), np.ones(2, np.float16), 2.0, np.arange(3), "word")
    back = points.as_given(call, [np.full(3, 0.1), np.full(2, 0.1), np.array(0.1), np.arange(3), "word"])
    assert [getattr(x, "dtype", type(x)) for x in back] == [
        jnp.bfloat16,
        np.float16,
        float,
        np.arange(3).dtype,
        str,
    ]
