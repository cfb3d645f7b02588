"""Equinox and optax."""

import numpy as np

from experiments.contenders.work import Contender, Work, batches, initial, jax_device, test_data, train_data


def loop(work: Work) -> Contender:
    """A filter_jit step in a Python loop."""
    import equinox as eqx  # pyright: ignore[reportMissingImports]
    import jax
    import jax.numpy as jnp
    import optax

    g = getattr(jax.nn, work.activation)
    model = eqx.nn.MLP(work.n[0], work.n[-1], work.n[1], len(work.n) - 2, g, key=jax.random.key(0))
    for l, (W, b) in enumerate(initial(work)):
        new = jnp.asarray(W), jnp.asarray(b)
        model = eqx.tree_at(lambda m, l=l: (m.layers[l].weight, m.layers[l].bias), model, new)
    optimizer = optax.sgd(work.learning_rate)
    opt_state = optimizer.init(eqx.filter(model, eqx.is_array))

    def loss(model, x, y):
        return optax.sigmoid_binary_cross_entropy(jax.vmap(model)(x), y).sum() / len(x)

    @eqx.filter_jit(donate="all-except-first")
    def step(batch, model, opt_state):
        J, grads = eqx.filter_value_and_grad(loss)(model, *batch)
        updates, opt_state = optimizer.update(grads, opt_state)
        return eqx.apply_updates(model, updates), opt_state, J

    X, Y = train_data(work)
    x_test, labels = test_data(work)
    recognise = eqx.filter_jit(lambda model, x: jnp.argmax(jax.vmap(model)(x), axis=1))

    def train(number):
        nonlocal model, opt_state
        J = []
        for rows in batches(work, len(X), number):
            model, opt_state, j = step((X[rows], Y[rows]), model, opt_state)
            J.append(j)
        return float(np.mean(jax.device_get(J)))

    def accuracy():
        return float(np.mean(np.asarray(recognise(model, x_test)) == labels))

    return Contender(jax_device(), train, accuracy)
