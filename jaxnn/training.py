"""Gradient descent: one step and one epoch as pure functions.

The only place that knows optax. A gradient is any function `gradient(params, *batch) -> (J, dparams)`:
`value_and_grad(net, loss)`, written by hand, or `jax.value_and_grad(cost(net, loss))`. Where a network
draws random numbers, as dropout does, the last of the batch is a key.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Integer, Shaped

from jaxnn.shuffling import shuffled


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


def scaled(optimizer: optax.GradientTransformation, factors) -> optax.GradientTransformation:
    """An optimizer made with the learning rate 1, whose updates are multiplied by the factors.

    `factors` has the structure of params: the learning rate of each array, or of each of its entries. They
    are part of the optimizer's state: in the family of the states that `start` makes, each member has its
    own, whichever factors the step's optimizer was made with.

    >>> import jax, optax
    >>> optimizer = scaled(optax.sgd(1.0), 0.25)
    >>> state, J = step(jax.value_and_grad(lambda w: w**2), optimizer)(start(3.0, optimizer))
    >>> state.params  # w := 3 − 0.25 · 6
    Array(1.5, dtype=float32...)
    """

    def update(updates, state, params=None):
        opt_state, factors = state
        updates, opt_state = optimizer.update(updates, opt_state, params)
        return jax.tree.map(jnp.multiply, updates, factors), (opt_state, factors)

    return optax.GradientTransformation(lambda params: (optimizer.init(params), factors), update)


FETCHED = 4096  # examples that are brought together at once: few enough to stay in the cache
LARGE = 1024  # a batch of so many keeps all cores busy by itself: it is fetched when it is due
WORK = 4e8  # parameters times examples that one program goes through at most: a tenth of a second on a CPU


def steps_from(
    step: Callable, batch_size: int, steps: int, keyed: bool = False, hold: Callable = lambda order: order
) -> Callable:
    """So many steps of an epoch, from any of them on: `descend(state, key, first, *data) -> (state, J)`.

    `data` are arrays with N rows each, shuffled by the key; step k takes the rows at the positions from
    k · batch_size on. J (steps,) holds each step's cost. So an epoch can be left and entered at any step.
    If `keyed`, each step is handed a key of its own behind its batch. On many devices `hold` says where the
    order of the rows is computed.

    >>> import jax, jax.numpy as jnp
    >>> last = steps_from(lambda total, x: (total + x.sum(), x.mean()), batch_size=2, steps=1)
    >>> last(jnp.array(0.0), jax.random.key(0), 1, jnp.array([8.0, 8.0, 8.0, 8.0]))
    (Array(16., dtype=float32...), Array([8.], dtype=float32))
    """
    together = steps_together(steps, batch_size)
    rest = steps % together

    def descend(state, key, first, *data):
        positions = first * batch_size + jnp.arange(steps * batch_size)
        order = hold(shuffled(key, positions, len(data[0])).reshape(steps, batch_size))
        keys = (keys_of_steps(key, first, steps),) if keyed else ()

        def fetched(order):
            return tuple(rows(array, order) for array in data)

        if batch_size >= LARGE:
            return jax.lax.scan(
                lambda state, due: step(state, *fetched(due[0]), *due[1]), state, (order, keys)
            )

        def descend_along(state, batches, keys):
            return jax.lax.scan(lambda state, due: step(state, *due[0], *due[1]), state, (batches, keys))

        def descend_and_fetch(carry, due):  # neither waits for the other: they run side by side
            (state, batches), (following, keys) = carry, due
            state, J = descend_along(state, batches, keys)
            return (state, fetched(following)), J

        blocks = order[: steps - rest].reshape(-1, together, batch_size)
        following = jnp.roll(blocks, -1, axis=0)  # nothing uses what the last one fetches
        of_blocks = tuple(k[: steps - rest].reshape(-1, together) for k in keys)
        (state, _), J = jax.lax.scan(descend_and_fetch, (state, fetched(blocks[0])), (following, of_blocks))
        if rest == 0:
            return state, J.ravel()
        of_rest = tuple(k[steps - rest :] for k in keys)
        state, J_rest = descend_along(state, fetched(order[steps - rest :]), of_rest)
        return state, jnp.concatenate([J.ravel(), J_rest])

    return descend


def keys_of_steps(key, first, steps: int):
    """The key of each of so many steps of an epoch: none is the epoch's own, which shuffles.

    >>> import jax
    >>> keys_of_steps(jax.random.key(0), 5, 3).shape
    (3,)
    """
    own = jax.random.fold_in(key, 1)
    return jax.vmap(jax.random.fold_in, (None, 0))(own, first + jnp.arange(steps))


def batch(key, k: int, batch_size: int, *data) -> tuple:
    """The batch of an epoch's step k, counted from 0, as `steps_from` takes it from the data.

    >>> import jax, jax.numpy as jnp
    >>> (x,) = batch(jax.random.key(0), 0, 4, jnp.arange(4))
    >>> sorted(x.tolist())
    [0, 1, 2, 3]
    """
    order = shuffled(key, k * batch_size + jnp.arange(batch_size), len(data[0]))
    return tuple(rows(array, order) for array in data)


def epoch(step: Callable, batch_size: int, keyed: bool = False) -> Callable:
    """One pass over the data in shuffled batches: `epoch(state, key, *data) -> (state, J)`.

    `data` are arrays with N rows each, and J is the mean of the steps' costs. What the shuffle puts behind
    the last full batch, N mod batch_size examples, is left out of this epoch. If `keyed`, each step is handed
    a key of its own behind its batch, as a network with dropout needs it.

    Raises ValueError if batch_size < 1, if N < batch_size, or if the arrays differ in N.

    >>> import jax, jax.numpy as jnp, optax
    >>> mean = jax.value_and_grad(lambda w, x: jnp.mean((w - x) ** 2) / 2)
    >>> pass_over = epoch(step(mean, optax.sgd(1.0)), batch_size=4)
    >>> state, J = pass_over(start(0.0, optax.sgd(1.0)), jax.random.key(0), jnp.arange(4.0))
    >>> state.params, J
    (Array(1.5, dtype=float32...), Array(1.75, dtype=float32))
    """

    if batch_size < 1:
        raise ValueError(f"batch_size: got {batch_size}, expected 1 or more")

    def pass_over(state, key, *data):
        N = len(data[0])
        if any(len(array) != N for array in data):
            raise ValueError(
                f"data: got {', '.join(str(len(array)) for array in data)} rows, expected as many"
            )
        steps = N // batch_size
        if steps == 0:
            raise ValueError(f"data: got {N} rows, expected at least the batch_size of {batch_size}")
        state, J = steps_from(step, batch_size, steps, keyed)(state, key, 0, *data)
        return state, jnp.mean(J)

    return pass_over


def steps_together(steps: int, batch_size: int) -> int:
    """Of how many steps the batches are brought together at once; if possible, no step is left over.

    >>> steps_together(1875, 32), steps_together(937, 64), steps_together(3, 10_000)
    (125, 64, 1)
    """
    return divisor(steps, FETCHED // batch_size)


def steps_at_once(steps: int, batch_size: int, parameters: int) -> int:
    """How many of an epoch's steps go into one program: between two of them a run can be interrupted.

    >>> steps_at_once(179, 8, 1285), steps_at_once(600, 100, 13525), steps_at_once(937, 64, 669_706)
    (179, 200, 9)
    """
    return divisor(steps, int(WORK / batch_size / parameters))


def divisor(steps: int, most: int) -> int:
    """The largest number up to `most` that divides the steps, or `most` if none down to half of it does."""
    most = min(max(most, 1), steps)
    return next((n for n in range(most, most // 2, -1) if steps % n == 0), most)


def rows(array: Shaped[Array, "N *row"], i: Integer[Array, "..."]) -> Shaped[Array, "..."]:
    """`array[i]` for indices known to be in 0..N−1; XLA fetches rows of one axis several times faster.

    >>> import jax.numpy as jnp
    >>> rows(jnp.arange(12).reshape(3, 2, 2), jnp.array([[2, 0]])).shape
    (1, 2, 2, 2)
    """
    flat = array.reshape(len(array), -1).at[i].get(mode="promise_in_bounds")
    return flat.reshape(*i.shape, *array.shape[1:])
