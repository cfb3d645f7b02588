"""This project: the gradients of single examples, by norms and outer products, and by vmap(grad)."""

import math
import time

from experiments.contenders import ours
from experiments.contenders.work import Contender, Work, jax_device, train_data

BOUND = 1.0  # of the norm of a clipped gradient
SHORT = 0.2  # seconds: what takes less is done several times in a row


def gradient(work: Work) -> Contender:
    """The gradient of the batch."""
    from jaxnn.objective import value_and_grad

    return _on_a_batch(work, lambda net, loss: lambda *batch: value_and_grad(net, loss)(*batch)[1])


def clipped(work: Work) -> Contender:
    """The gradient of the batch, each example's clipped, by norms and one weighted backward pass."""
    from jaxnn.per_example import clipped_value_and_grad

    return _on_a_batch(
        work, lambda net, loss: lambda *batch: clipped_value_and_grad(net, loss, BOUND)(*batch)[1]
    )


def clipped_by_autodiff(work: Work) -> Contender:
    """The same by vmap(grad): every example's gradient, clipped, and the mean of them."""
    import jax
    import jax.numpy as jnp
    import optax

    def gradient_of(net, loss):
        def gradient(params, X, Y):
            each = _each_gradient(net, loss, params, X, Y)
            c = jnp.minimum(1, BOUND / jax.vmap(optax.tree.norm)(each))
            return jax.tree.map(lambda g: jnp.tensordot(c, g, axes=1) / len(X), each)

        return gradient

    return _on_a_batch(work, gradient_of)


def norms(work: Work) -> Contender:
    """The norm of each example's gradient, by outer products."""
    from jaxnn import per_example

    return _on_a_batch(work, per_example.norms)


def norms_by_autodiff(work: Work) -> Contender:
    """The norm of each example's gradient, by vmap(grad)."""
    import jax
    import optax

    def norms_of(net, loss):
        return lambda *batch: jax.vmap(optax.tree.norm)(_each_gradient(net, loss, *batch))

    return _on_a_batch(work, norms_of)


def _on_a_batch(work, function_of):
    """A function of (net, loss), called on (params, X, Y) of a batch; its loss is the norm of the result."""
    import jax
    import jax.numpy as jnp
    import optax

    from jaxnn.losses import binary_cross_entropy

    function = jax.jit(function_of(ours.network(work), binary_cross_entropy))
    batch = [jnp.asarray(array[: work.batch_size]) for array in train_data(work)]
    params = ours.params(work)
    norm = float(optax.tree.norm(jax.block_until_ready(function(params, *batch))))
    clock = time.perf_counter()
    jax.block_until_ready(function(params, *batch))
    calls = math.ceil(SHORT / (time.perf_counter() - clock))

    def train(number):
        for _ in range(calls):
            jax.block_until_ready(function(params, *batch))
        return norm

    return Contender(jax_device(), train, calls=calls)


def _each_gradient(net, loss, params, X, Y):
    import jax

    from jaxnn.objective import cost

    return jax.vmap(jax.grad(cost(net, loss)), (None, 0, 0))(params, X[:, None], Y[:, None])
