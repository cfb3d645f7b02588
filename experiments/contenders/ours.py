"""This project: one network by hand and by jax.grad, many at once, and one batch over and over."""

import numpy as np

from experiments.contenders.work import Contender, Work, images_and_labels, initial, jax_device


def manual(work: Work) -> Contender:
    """The gradient written by hand."""
    from jaxnn.objective import value_and_grad

    return _one_network(work, value_and_grad)


def autodiff(work: Work) -> Contender:
    """The same path, gradient by jax.grad."""
    import jax

    from jaxnn.objective import cost

    return _one_network(work, lambda net, loss: jax.value_and_grad(cost(net, loss)))


def _one_network(work, gradient_of):
    from jaxnn.training import epoch

    step, state = _descent(work, gradient_of)
    return _trained(work, state(0), epoch(step, work.batch_size), _accuracy(work))


def family(work: Work) -> Contender:
    """Many networks at once, each with its own initial parameters, over shared batches."""
    import jax
    import jax.numpy as jnp

    from jaxnn.objective import value_and_grad
    from jaxnn.training import epoch

    step, state = _descent(work, value_and_grad)
    states = jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(state, range(work.networks)))
    epochs = jax.vmap(epoch(step, work.batch_size), (0, None, None, None))
    one = _accuracy(work)

    def accuracies(params, *data):
        return jax.lax.map(lambda member: one(member, *data), params)

    return _trained(work, states, epochs, accuracies)


def _trained(work, state, one_epoch, accuracy):
    """The contender with the state of one network or many."""
    import jax

    data, key = _on_device(work, "train"), jax.random.key(0)
    one_epoch = jax.jit(one_epoch, donate_argnums=0).lower(state, key, *data).compile()
    accuracy, test_data = jax.jit(accuracy), _on_device(work, "test")

    def train(number):
        nonlocal state
        state, J = one_epoch(state, jax.random.fold_in(key, number), *data)
        return float(np.mean(J))

    sizes = one_epoch.memory_analysis()
    memory = sizes.temp_size_in_bytes if sizes else None
    return Contender(jax_device(), train, lambda: float(np.mean(accuracy(state.params, *test_data))), memory)


def one_batch(work: Work) -> Contender:
    """Without shuffling and data movement: one batch, ready as float32, in every step."""
    import jax
    import jax.numpy as jnp

    from jaxnn.objective import value_and_grad

    step, begin = _descent(work, value_and_grad)
    state, data = begin(0), _on_device(work, "train")
    steps, batch = len(data[0]) // work.batch_size, [array[: work.batch_size] for array in data]

    def epoch_of_one_batch(state, *batch):
        state, J = jax.lax.scan(lambda state, _: step(state, *batch), state, length=steps)
        return state, jnp.mean(J)

    one_epoch = jax.jit(epoch_of_one_batch, donate_argnums=0)

    def train(number):
        nonlocal state
        state, J = one_epoch(state, *batch)
        return float(J)

    return Contender(jax_device(), train)


def network(work: Work):
    """The network, up to Z[L]."""
    from jaxnn import activations
    from jaxnn.layers import mlp

    return mlp(*work.n, g=getattr(activations, work.activation))


def params(work: Work, seed: int = 0) -> list:
    """The same W and b as all have, in its layers."""
    import jax.numpy as jnp

    from jaxnn.layers import Dense

    return [Dense(jnp.asarray(W), jnp.asarray(b)[:, None]) for W, b in initial(work, seed)]


def _descent(work, gradient_of):
    """A step on images and labels, and the state to begin with, by its seed."""
    import optax

    from jaxnn import encoding
    from jaxnn.losses import binary_cross_entropy
    from jaxnn.training import start, step

    gradient = gradient_of(network(work), binary_cross_entropy)
    optimizer = optax.sgd(work.learning_rate)

    def gradient_on_images(params, images, labels):
        return gradient(params, encoding.flatten(images, 255), encoding.one_hot(labels, 10))

    return step(gradient_on_images, optimizer), lambda seed: start(params(work, seed), optimizer)


def _on_device(work, part):
    import jax.numpy as jnp

    images, labels = images_and_labels(work, part)
    return jnp.asarray(images), jnp.asarray(labels)


def _accuracy(work):
    import jax.numpy as jnp

    from jaxnn.encoding import flatten
    from jaxnn.evaluation import predict

    net = network(work)
    return lambda params, images, labels: jnp.mean(predict(net, params, flatten(images, 255)) == labels)
