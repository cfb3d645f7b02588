"""Matrix products alone: the floor of an epoch, and the most that a device does."""

import math

from experiments.contenders.work import Contender, Work, initial, jax_device, train_data

LARGE = 2048  # rows and columns of the large product


def of_an_epoch(work: Work) -> Contender:
    """Those of the steps, on operands in the cache."""
    import jax
    import jax.numpy as jnp

    images, _ = train_data(work)
    X, weights = jnp.asarray(images[: work.batch_size]), [jnp.asarray(W) for W, _ in initial(work)]

    @jax.jit
    def one_epoch(weights, X):
        def step(weights, _):
            A = [X]
            for W in weights:
                A.append(A[-1] @ W.T)
            dZ, products = A.pop(), []
            for W, A_prev in zip(weights[::-1], A[::-1], strict=True):
                products.append(dZ.T @ A_prev)
                dZ = dZ @ W  # for l = 1 nothing uses it, and XLA leaves it out
            return products[::-1], None  # each step waits for the one before

        return jax.lax.scan(step, weights, length=len(images) // work.batch_size)[0]

    return _timed(lambda: one_epoch(weights, X))


def large(work: Work) -> Contender:
    """One of two LARGE × LARGE matrices."""
    import jax

    A = jax.random.normal(jax.random.key(0), (LARGE, LARGE))
    product = jax.jit(lambda A: A @ A)
    return _timed(lambda: product(A))


def _timed(function):
    import jax

    def train(number):
        jax.block_until_ready(function())
        return math.nan

    return Contender(jax_device(), train)
