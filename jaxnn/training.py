"""Gradient descent: one step and one epoch as pure functions.

The only place that knows optax. A gradient is any function `gradient(params, *batch) -> (J, dparams)`:
`value_and_grad(net, loss)`, written by hand, or `jax.value_and_grad(cost(net, loss))`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class State(NamedTuple):
    """What a step changes."""

    params: Any
    opt_state: optax.OptState


def start(params, optimizer: optax.GradientTransformation) -> State:
    """The state before the first step."""
    return State(params, optimizer.init(params))


def step(gradient: Callable, optimizer: optax.GradientTransformation) -> Callable:
    """One step of gradient descent: `step(state, *batch) -> (state, J)`, J before the step.

    With `optax.sgd(α)` it is the lecture's W := W − α dW, b := b − α db.

    >>> import jax, optax
    >>> descend = step(jax.value_and_grad(lambda w: w**2), optax.sgd(0.25))
    >>> descend(start(3.0, optax.sgd(0.25)))  # w := 3 − 0.25 · 6
    (State(params=Array(1.5, ...), opt_state=...), Array(9., dtype=float32...))
    """

    def descend(state: State, *batch):
        J, dparams = gradient(state.params, *batch)
        updates, opt_state = optimizer.update(dparams, state.opt_state, state.params)
        return State(optax.apply_updates(state.params, updates), opt_state), J

    return descend


def epoch(step: Callable, batch_size: int) -> Callable:
    """One pass over the data in shuffled batches: `epoch(state, key, *data) -> (state, J)`.

    `data` are arrays with N rows each, and J is the mean of the steps' costs. What the shuffle puts behind
    the last full batch, N mod batch_size examples, is left out of this epoch.

    >>> import jax, jax.numpy as jnp, optax
    >>> mean = jax.value_and_grad(lambda w, x: jnp.mean((w - x) ** 2) / 2)
    >>> pass_over = epoch(step(mean, optax.sgd(1.0)), batch_size=4)
    >>> state, J = pass_over(start(0.0, optax.sgd(1.0)), jax.random.key(0), jnp.arange(4.0))
    >>> state.params, J
    (Array(1.5, dtype=float32...), Array(1.75, dtype=float32))
    """

    def pass_over(state, key, *data):
        N = len(data[0])
        order = jax.random.permutation(key, N)[: N - N % batch_size].reshape(-1, batch_size)
        state, J = jax.lax.scan(
            lambda state, rows: step(state, *(array[rows] for array in data)), state, order
        )
        return state, jnp.mean(J)

    return pass_over
