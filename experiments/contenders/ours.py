"""This project: one network by hand and by jax.grad, many at once, and one batch over and over."""

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
    import jax

    from jaxnn.training import epoch, start

    step, optimizer = _descent(work, gradient_of)
    state, data, key = start(params(work), optimizer), _on_device(work, "train"), jax.random.key(0)
    one_epoch = jax.jit(epoch(step, work.batch_size), donate_argnums=0).lower(state, key, *data).compile()

    def train(number):
        nonlocal state
        state, J = one_epoch(state, jax.random.fold_in(key, number), *data)
        return float(J)

    accuracy = _accuracy(work)
    sizes = one_epoch.memory_analysis()
    memory = sizes.temp_size_in_bytes if sizes else None
    return Contender(jax_device(), train, lambda: accuracy(state.params), memory)


def family(work: Work) -> Contender:
    """Many networks at once, each with its own initial parameters, over shared batches."""
    import jax
    import jax.numpy as jnp

    from jaxnn.objective import value_and_grad
    from jaxnn.training import epoch, start

    step, optimizer = _descent(work, value_and_grad)
    members = [start(params(work, seed), optimizer) for seed in range(work.networks)]
    states = jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)
    data, key = _on_device(work, "train"), jax.random.key(0)
    epochs = jax.jit(jax.vmap(epoch(step, work.batch_size), (0, None, None, None)), donate_argnums=0)

    def train(number):
        nonlocal states
        states, J = epochs(states, jax.random.fold_in(key, number), *data)
        return float(jnp.mean(J))

    accuracy = _accuracy(work)

    def mean_accuracy():
        members = [jax.tree.map(lambda leaf, k=k: leaf[k], states.params) for k in range(work.networks)]
        return sum(accuracy(member) for member in members) / work.networks

    return Contender(jax_device(), train, mean_accuracy)


def one_batch(work: Work) -> Contender:
    """Without shuffling and data movement: one batch, ready as float32, in every step."""
    import jax
    import jax.numpy as jnp

    from jaxnn.objective import value_and_grad
    from jaxnn.training import start

    step, optimizer = _descent(work, value_and_grad)
    state, (images, labels) = start(params(work), optimizer), _on_device(work, "train")
    steps, images, labels = (
        len(labels) // work.batch_size,
        images[: work.batch_size],
        labels[: work.batch_size],
    )

    def epoch_of_one_batch(state, images, labels):
        state, J = jax.lax.scan(lambda state, _: step(state, images, labels), state, length=steps)
        return state, jnp.mean(J)

    one_epoch = jax.jit(epoch_of_one_batch, donate_argnums=0)

    def train(number):
        nonlocal state
        state, J = one_epoch(state, images, labels)
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
    import optax

    from jaxnn import encoding
    from jaxnn.losses import binary_cross_entropy
    from jaxnn.training import step

    gradient = gradient_of(network(work), binary_cross_entropy)
    optimizer = optax.sgd(work.learning_rate)

    def gradient_on_images(params, images, labels):
        return gradient(params, encoding.flatten(images, 255), encoding.one_hot(labels, 10))

    return step(gradient_on_images, optimizer), optimizer


def _on_device(work, part):
    import jax.numpy as jnp

    images, labels = images_and_labels(work, part)
    return jnp.asarray(images), jnp.asarray(labels)


def _accuracy(work):
    import jax
    import jax.numpy as jnp

    from jaxnn.encoding import flatten
    from jaxnn.evaluation import predict

    images, labels = _on_device(work, "test")

    @jax.jit
    def accuracy(params, images, labels):
        return jnp.mean(predict(network(work), params, flatten(images, 255)) == labels)

    return lambda params: float(accuracy(params, images, labels))
