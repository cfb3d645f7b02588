"""Shuffling without a permutation in memory: where each position of the shuffled order comes from."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Integer

ROUNDS = 16  # with 12 the tests of uniformity pass down to N = 4; 8 are too few below N = 25


def shuffled(key, i: Integer[Array, "*shape"], N: int) -> Integer[Array, "*shape"]:
    """The index, in 0..N−1, of the example that stands at position i of the shuffled order.

    i are positions in 0..N−1, in any number and of any shape. Over all of them the result is a permutation:
    a pure function of the key and the position, so an order can be entered anywhere, and nothing is stored.

    It is a Feistel network (Luby and Rackoff, SIAM J. Comput. 17, 1988) on the pairs (L, R) with
    i = La + R and 0 ≤ L, R < a, the smallest square a² ≥ N. An image outside 0..N−1 is mapped again
    until it falls inside: cycle walking (Black and Rogaway, CT-RSA 2002), here less than 2/√N of the time.
    Shuffling by such a bijection: Mitchell et al., "Bandwidth-optimal random shuffling for GPUs",
    ACM TOPC 9, 2022.

    >>> import jax, jax.numpy as jnp
    >>> order = shuffled(jax.random.key(0), jnp.arange(10), N=10)
    >>> sorted(order.tolist())
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    >>> shuffled(jax.random.key(0), jnp.array(7), N=10) == order[7]
    Array(True, dtype=bool)
    """
    a = math.isqrt(N - 1) + 1
    keys = jax.random.bits(key, (ROUNDS,), jnp.uint32)

    def turn(k, i):
        L, R = i // a, i % a
        return R * a + (L + mixed(R ^ keys[k]) % a) % a  # (L, R) := (R, L + F(R))

    def image(i):
        return jax.lax.fori_loop(0, ROUNDS, turn, i)

    inside = jax.lax.while_loop(
        lambda j: jnp.any(j >= N), lambda j: jnp.where(j >= N, image(j), j), image(i.astype(jnp.uint32))
    )
    return inside.astype(i.dtype)


def mixed(x: Integer[Array, "*shape"]) -> Integer[Array, "*shape"]:
    """A number that looks random, from a uint32: the last step of Appleby's MurmurHash3.

    >>> import jax.numpy as jnp
    >>> mixed(jnp.uint32(1))
    Array(1364076727, dtype=uint32)
    """
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)
