import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnn import training
from jaxnn.activations import tanh
from jaxnn.encoding import flatten, one_hot
from jaxnn.layers import mlp
from jaxnn.losses import cross_entropy
from jaxnn.objective import value_and_grad
from jaxnn.shuffling import shuffled

pytestmark = pytest.mark.usefixtures("compiled_plainly")
N = 101
SIZES = [(1, 4096), (7, 4096), (7, 21), (7, 35), (50, 4096), (50, 50), (50, 10), (101, 7), (7, "when due")]


@pytest.fixture
def fetched(request, monkeypatch):
    """How many examples are brought together, or each batch when it is due, as one of 1024 and more is."""
    monkeypatch.setattr(
        *((training, "LARGE", 1) if request.param == "when due" else (training, "FETCHED", request.param))
    )


def record(state, images, labels):
    """A step that only writes down which examples it was given."""
    seen, k = state
    return (seen.at[k].set(labels), k + 1), jnp.float32(k)


@pytest.mark.parametrize(("batch_size", "fetched"), SIZES, indirect=["fetched"])
def test_every_example_comes_once_in_the_shuffled_order(batch_size, fetched):
    steps, key = N // batch_size, jax.random.key(1)
    start = (jnp.full((steps, batch_size), -1), 0)
    (seen, k), J = training.epoch(record, batch_size)(start, key, jnp.zeros((N, 2, 3)), jnp.arange(N))
    assert k == steps
    np.testing.assert_allclose(J, (steps - 1) / 2)
    assert np.array_equal(seen.ravel(), shuffled(key, jnp.arange(steps * batch_size), N))


@pytest.mark.parametrize(("batch_size", "fetched"), SIZES[::3] + SIZES[-2:], indirect=["fetched"])
def test_an_epoch_is_its_steps_one_after_the_other(batch_size, fetched):
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.integers(0, 256, (N, 3, 4), np.uint8))
    labels = jnp.asarray(rng.integers(0, 5, N, np.int32))
    net = mlp(12, 7, 5, g=tanh)
    optimizer = optax.sgd(0.1)

    def gradient(params, images, labels):
        assert images.dtype == jnp.uint8
        return value_and_grad(net, cross_entropy)(params, flatten(images, 255), one_hot(labels, 5))

    step = jax.jit(training.step(gradient, optimizer))
    start = training.start(net.init(jax.random.key(0)), optimizer)
    key = jax.random.key(1)
    state, J = jax.jit(training.epoch(step, batch_size))(start, key, images, labels)

    order = np.asarray(shuffled(key, jnp.arange(N), N))
    alone, costs = start, []
    for first in range(0, N - batch_size + 1, batch_size):
        batch = order[first : first + batch_size]
        alone, cost = step(alone, images[batch], labels[batch])
        costs.append(cost)
    np.testing.assert_allclose(J, np.mean(costs), rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), state, alone)


@pytest.mark.parametrize(("batch_size", "steps"), [(1, 13), (7, 5), (7, 14), (50, 1)])
def test_an_epoch_can_be_left_and_entered_anywhere(batch_size, steps):
    data = jnp.zeros((N, 2, 3)), jnp.arange(N)
    whole, key = N // batch_size, jax.random.key(1)
    state = (jnp.full((whole, batch_size), -1), 0)
    expected, _ = training.epoch(record, batch_size)(state, key, *data)
    chunk = jax.jit(training.steps_from(record, batch_size, steps))
    costs = []
    for first in range(0, whole - whole % steps, steps):
        state, J = chunk(state, key, first, *data)
        costs.extend(J)
    if whole % steps:
        rest = training.steps_from(record, batch_size, whole % steps)
        state, J = rest(state, key, whole - whole % steps, *data)
        costs.extend(J)
    assert np.array_equal(state[0], expected[0])
    assert costs == list(range(whole))


def test_the_rows_are_those_of_indexing():
    array = jnp.arange(5 * 2 * 3, dtype=jnp.uint8).reshape(5, 2, 3)
    i = jnp.array([[4, 0], [2, 2], [1, 3]])
    found = training.rows(array, i)
    assert found.dtype == jnp.uint8
    assert np.array_equal(found, np.asarray(array)[np.asarray(i)])


def test_a_batch_larger_than_the_data_is_refused():
    with pytest.raises(ValueError, match=r"got 3 rows, expected at least the batch_size of 4"):
        training.epoch(record, 4)((jnp.zeros(1), 0), jax.random.key(0), jnp.zeros((3, 1)), jnp.arange(3))


@pytest.mark.parametrize("batch_size", [1, 2, 7, 8, 32, 64, 100, 128, 1024, 5000, 60000])
def test_few_steps_are_left_over(batch_size):
    steps = 60000 // batch_size
    together = training.steps_together(steps, batch_size)
    assert 1 <= together <= steps
    assert together == 1 or together * batch_size <= training.FETCHED
    assert steps // together <= 2 * np.ceil(steps * batch_size / training.FETCHED) + 1
