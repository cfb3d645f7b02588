"""Flax NNX and optax."""

import numpy as np

from experiments.contenders.work import Contender, Work, batches, initial, jax_device, test_data, train_data


def loop(work: Work) -> Contender:
    """A cached nnx.jit step in a Python loop."""
    import jax
    import jax.numpy as jnp
    import optax
    from flax import nnx  # pyright: ignore[reportMissingImports]

    rngs = nnx.Rngs(0)
    linear = [nnx.Linear(*sizes, rngs=rngs) for sizes in zip(work.n[:-1], work.n[1:], strict=True)]
    for layer, (W, b) in zip(linear, initial(work), strict=True):
        layer.kernel[...] = jnp.asarray(W.T)
        layer.bias[...] = jnp.asarray(b)
    g = getattr(nnx, work.activation)
    model = nnx.Sequential(*[part for layer in linear[:-1] for part in (layer, g)], linear[-1])
    optimizer = nnx.Optimizer(model, optax.sgd(work.learning_rate), wrt=nnx.Param)

    def loss(model, x, y):
        return optax.sigmoid_binary_cross_entropy(model(x), y).sum() / len(x)

    @nnx.jit
    def step(model, optimizer, x, y):
        J, grads = nnx.value_and_grad(loss)(model, x, y)
        optimizer.update(model, grads)
        return J

    @nnx.jit
    def recognise(model, x):
        return jnp.argmax(model(x), axis=1)

    cached_step = nnx.cached_partial(step, model, optimizer)
    X, Y = train_data(work)
    x_test, labels = test_data(work)

    def train(number):
        J = [cached_step(X[rows], Y[rows]) for rows in batches(work, len(X), number)]
        return float(np.mean(jax.device_get(J)))

    def accuracy():
        return float(np.mean(np.asarray(recognise(model, x_test)) == labels))

    return Contender(jax_device(), train, accuracy)
