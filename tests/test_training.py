import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jaxtyping import TypeCheckError

from jaxnn import activations, datasets
from jaxnn.activations import sigmoid
from jaxnn.encoding import flatten, one_hot
from jaxnn.evaluation import accuracy, confusion_matrix, predict
from jaxnn.layers import mlp
from jaxnn.losses import binary_cross_entropy
from jaxnn.objective import cost, value_and_grad
from jaxnn.training import epoch, start, step

N, n_x, n_1, n_2 = 12, 7, 5, 3
NET = mlp(n_x, n_1, n_2, g=sigmoid)
GRADIENTS = {
    "manual": value_and_grad(NET, binary_cross_entropy),
    "autodiff": jax.value_and_grad(cost(NET, binary_cross_entropy)),
}


def problem(seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(N, n_x)), np.eye(n_2)[rng.integers(n_2, size=N)]


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_the_trajectory_is_that_of_the_lecture_in_numpy(gradient, x64):
    X, Y = problem()
    params = NET.init(jax.random.key(0))
    descend = jax.jit(step(GRADIENTS[gradient], optax.sgd(0.5)))
    state = start(params, optax.sgd(0.5))

    (W1, b1), (W2, b2) = jax.tree.map(np.array, params)
    for _ in range(50):
        state, J = descend(state, X, Y)
        A1 = 1 / (1 + np.exp(-(X @ W1.T + b1.T)))
        Yhat = 1 / (1 + np.exp(-(A1 @ W2.T + b2.T)))
        np.testing.assert_allclose(J, -np.sum(Y * np.log(Yhat) + (1 - Y) * np.log(1 - Yhat)) / N, rtol=1e-11)
        dZ2 = (Yhat - Y) / N
        dZ1 = dZ2 @ W2 * A1 * (1 - A1)
        W2, b2 = W2 - 0.5 * dZ2.T @ A1, b2 - 0.5 * dZ2.sum(0)[:, None]
        W1, b1 = W1 - 0.5 * dZ1.T @ X, b1 - 0.5 * dZ1.sum(0)[:, None]
    for ours, lectures in zip(jax.tree.leaves(state.params), (W1, b1, W2, b2), strict=True):
        np.testing.assert_allclose(ours, lectures, rtol=1e-10)
    assert J < 1.0


def test_manual_and_autodiff_training_give_the_same_losses():
    data = datasets.load("digits")
    X, Y = flatten(jnp.asarray(data.train.images), 16), one_hot(jnp.asarray(data.train.labels), 10)
    net = mlp(64, 17, 10, g=sigmoid)
    curves = []
    for gradient in (
        value_and_grad(net, binary_cross_entropy),
        jax.value_and_grad(cost(net, binary_cross_entropy)),
    ):
        one_epoch = jax.jit(epoch(step(gradient, optax.sgd(0.5)), 32))
        state = start(net.init(jax.random.key(1)), optax.sgd(0.5))
        losses = []
        for number in range(5):
            state, J = one_epoch(state, jax.random.key(number), X, Y)
            losses.append(J)
        curves.append(losses)
    np.testing.assert_allclose(*curves, rtol=2e-6)
    assert curves[0][-1] < 0.5 * curves[0][0]


def test_an_epoch_visits_every_example_once_in_another_order_each_time():
    seen = jax.jit(epoch(lambda state, rows: (jnp.concatenate([state[3:], rows]), 0.0), batch_size=3))
    orders = [seen(jnp.zeros(N, int), jax.random.key(k), jnp.arange(N))[0] for k in (1, 2)]
    for order in orders:
        assert sorted(order.tolist()) == list(range(N))
    assert (orders[0] != orders[1]).any()


def test_an_epoch_leaves_out_what_does_not_fill_a_batch():
    count = jax.jit(epoch(lambda state, rows: (state + len(rows), jnp.mean(rows)), batch_size=5))
    steps, J = count(0, jax.random.key(0), jnp.ones(N))
    assert steps == 10
    assert J == 1


def test_a_batch_larger_than_the_data_is_refused():
    with pytest.raises(ValueError, match="data: got 12 rows, expected at least the batch_size of 13"):
        epoch(GRADIENTS["manual"], batch_size=13)(None, jax.random.key(0), *problem())


def test_shape_annotations_are_executed():
    with pytest.raises(TypeCheckError):
        one_hot(jnp.zeros((3, 2), int), 4)


def test_gradients_of_examples_average_to_that_of_the_batch(x64):
    X, Y = problem()
    params = NET.init(jax.random.key(0))
    gradient = value_and_grad(NET, binary_cross_entropy)
    J, dparams = jax.jit(gradient)(params, X, Y)
    each_J, each = jax.jit(jax.vmap(gradient, (None, 0, 0)))(params, X[:, None], Y[:, None])
    np.testing.assert_allclose(each_J.mean(), J, rtol=1e-14)
    for one, many in zip(jax.tree.leaves(dparams), jax.tree.leaves(each), strict=True):
        assert many.shape == (N, *one.shape)
        np.testing.assert_allclose(many.mean(0), one, rtol=1e-12, atol=1e-16)


def test_a_family_trained_at_once_equals_each_alone(x64):
    data = jax.tree.map(jnp.asarray, problem())

    def train(seed, learning_rate):
        optimizer = optax.sgd(learning_rate)
        one_epoch = epoch(step(value_and_grad(NET, binary_cross_entropy), optimizer), batch_size=4)
        key = jax.random.key(seed)
        return one_epoch(start(NET.init(key), optimizer), key, *data)

    seeds, rates = jnp.array([3, 4, 5]), jnp.array([0.1, 0.5, 2.0])
    family = jax.jit(jax.vmap(train))(seeds, rates)
    assert len(set(family[1].tolist())) == 3
    for k in range(3):
        alone = jax.jit(train)(seeds[k], rates[k])
        for one, many in zip(jax.tree.leaves(alone), jax.tree.leaves(family), strict=True):
            np.testing.assert_allclose(many[k], one, rtol=1e-12)


def test_any_optimizer_and_schedule_goes_in():
    X, Y = jax.tree.map(jnp.asarray, problem())
    optimizer = optax.adam(optax.cosine_decay_schedule(0.05, 100))
    state = start(NET.init(jax.random.key(0)), optimizer)
    first = cost(NET, binary_cross_entropy)(state.params, X, Y)
    one_epoch = jax.jit(epoch(step(GRADIENTS["manual"], optimizer), 4))
    with jax.numpy_dtype_promotion("standard"):  # optax itself is not strict
        for number in range(20):
            state, J = one_epoch(state, jax.random.key(number), X, Y)
    assert first > 2 * J


def test_weights_are_drawn_as_the_docstring_says():
    (W1, b1), (W2, b2) = mlp(300, 200, 100, g=activations.tanh).init(jax.random.key(0))
    for W, b in ((W1, b1), (W2, b2)):
        n, n_prev = W.shape
        limit = np.sqrt(6 / (n_prev + n))
        assert 0.999 * limit < jnp.abs(W).max() <= limit
        np.testing.assert_allclose(W.var(), limit**2 / 3, rtol=0.02)
        assert (b == 0).all()
    assert not jnp.isin(W1[0], W2).any()  # every layer has draws of its own


def test_confusion_and_accuracy():
    net = mlp(2, 3, g=sigmoid)
    params = jax.tree.map(jnp.zeros_like, net.init(jax.random.key(0)))
    params[0] = params[0]._replace(b=jnp.array([[0.0], [2.0], [1.0]]))
    predictions = predict(net, params, jnp.ones((4, 2)))
    confusion = confusion_matrix(jnp.array([1, 1, 0, 2]), predictions, 3)
    np.testing.assert_array_equal(confusion, [[0, 1, 0], [0, 2, 0], [0, 1, 0]])
    assert accuracy(confusion) == 0.5
