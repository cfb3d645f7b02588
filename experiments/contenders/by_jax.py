"""Plain JAX: jax.grad of a loss on the logits, in a loop or a scan."""

import numpy as np

from experiments.contenders.work import Contender, Work, batches, initial, jax_device, test_data, train_data


def loop(work: Work) -> Contender:
    """A jitted step in a Python loop."""
    import jax

    params, step, accuracy = _functions(work)
    step = jax.jit(step)
    X, Y = train_data(work)

    def train(number):
        nonlocal params
        J = []
        for rows in batches(work, len(X), number):
            params, j = step(params, X[rows], Y[rows])
            J.append(j)
        return float(np.mean(jax.device_get(J)))

    return Contender(jax_device(), train, lambda: accuracy(params))


def scan(work: Work) -> Contender:
    """lax.scan over the epoch."""
    import jax
    import jax.numpy as jnp

    params, step, accuracy = _functions(work)
    X, Y = (jnp.asarray(array) for array in train_data(work))
    N, B = len(X), work.batch_size

    @jax.jit
    def one_epoch(params, key, X, Y):
        order = jax.random.permutation(key, N)[: N // B * B].reshape(-1, B)
        params, J = jax.lax.scan(lambda params, rows: step(params, X[rows], Y[rows]), params, order)
        return params, J.mean()

    def train(number):
        nonlocal params
        params, J = one_epoch(params, jax.random.key(number), X, Y)
        return float(J)

    return Contender(jax_device(), train, lambda: accuracy(params))


def _functions(work):
    """The parameters, a step on (params, x, y) and the accuracy, as a user of plain JAX writes them."""
    import jax
    import jax.numpy as jnp
    import optax

    g = getattr(jax.nn, work.activation)

    def logits(params, x):
        for W, b in params[:-1]:
            x = g(x @ W.T + b)
        W, b = params[-1]
        return x @ W.T + b

    def loss(params, x, y):
        return optax.sigmoid_binary_cross_entropy(logits(params, x), y).sum() / len(x)

    def step(params, x, y):
        J, grads = jax.value_and_grad(loss)(params, x, y)
        return jax.tree.map(lambda p, g: p - work.learning_rate * g, params, grads), J

    x_test, labels = test_data(work)
    recognise = jax.jit(lambda params, x: jnp.argmax(logits(params, x), axis=1))

    def accuracy(params):
        return float(np.mean(np.asarray(recognise(params, x_test)) == labels))

    return jax.tree.map(jnp.asarray, initial(work)), step, accuracy
