import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import activations, losses
from jaxnn.activations import Activation, relu, sigmoid, tanh
from jaxnn.layers import Dense, Layer, dense, mlp, serial
from jaxnn.losses import Loss, binary_cross_entropy, cross_entropy, squared_error
from jaxnn.objective import cost, value_and_grad
from jaxnn.per_example import clipped_value_and_grad, norms

pytestmark = pytest.mark.usefixtures("compiled_plainly")
SIZES = [(3, 5), (3, 7, 5), (3, 7, 4, 5), (3, 7, 4, 6, 5)]
ACTIVATIONS = [name for name, value in vars(activations).items() if isinstance(value, Activation)]
LOSSES = [name for name, value in vars(losses).items() if isinstance(value, Loss)]


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def problem(net, N, n_x=3, n_y=5):
    """Parameters with a b that is not 0, inputs of which one is 0, and soft targets.

    Drawn by NumPy, which compiles nothing.
    """
    rng = np.random.default_rng(N)
    shapes = jax.eval_shape(net.init, jax.random.key(0))
    params = jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape) / 2), shapes)
    X, Y = rng.normal(size=(N, n_x)), rng.dirichlet(np.ones(n_y), N)
    X[0] = 0
    return params, X, Y


def gradients(net, loss, params, X, Y):
    """The gradient of each example as one row, by autodiff."""
    each = jax.jit(jax.vmap(jax.grad(cost(net, loss)), in_axes=(None, 0, 0)))(params, X[:, None], Y[:, None])
    return np.concatenate([g.reshape(len(X), -1) for g in jax.tree.leaves(each)], axis=1)


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


CASES = [
    *((n, "tanh", "cross_entropy") for n in SIZES),
    *((SIZES[1], g, "binary_cross_entropy") for g in ACTIVATIONS),
    *((SIZES[2], "sigmoid", loss) for loss in LOSSES),
]


@pytest.mark.parametrize(("n", "g", "loss"), CASES, ids=str)
def test_norms_are_those_of_autodiff(n, g, loss):
    net, loss = mlp(*n, g=getattr(activations, g)), getattr(losses, loss)
    params, X, Y = problem(net, 8)
    expected = np.linalg.norm(gradients(net, loss, params, X, Y), axis=1)
    found = jax.jit(norms(net, loss))(params, X, Y)
    assert found.shape == (8,)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("N", [1, 2, 9])
def test_the_number_of_examples_does_not_matter(N):
    net = mlp(3, 7, 4, 5, g=tanh)
    params, X, Y = problem(net, N)
    expected = np.linalg.norm(gradients(net, cross_entropy, params, X, Y), axis=1)
    np.testing.assert_allclose(jax.jit(norms(net, cross_entropy))(params, X, Y), expected, rtol=1e-12)


def test_one_neuron_by_hand():
    net = dense(2, 1)
    params = Dense(jnp.array([[3.0, -1.0]]), jnp.array([[0.5]]))
    X, Y = jnp.array([[2.0, 1.0], [0.0, 4.0]]), jnp.array([[1.5], [-3.5]])
    # Z = (5.5, −3.5): dZ = (4, 0), and ‖(dw, db)‖ = 4 √(2² + 1² + 1)
    np.testing.assert_allclose(norms(net, squared_error)(params, X, Y), [4 * np.sqrt(6), 0], rtol=1e-15)


def test_a_network_inside_a_network():
    net = serial(dense(3, 7, tanh), serial(serial(dense(7, 4, sigmoid)), dense(4, 5)))
    params, X, Y = problem(net, 6)
    expected = np.linalg.norm(gradients(net, cross_entropy, params, X, Y), axis=1)
    np.testing.assert_allclose(jax.jit(norms(net, cross_entropy))(params, X, Y), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("N", "n", "loss"),
    [
        (1, SIZES[1], "binary_cross_entropy"),
        (2, SIZES[3], "cross_entropy"),
        (9, SIZES[0], "squared_error"),
        (9, SIZES[2], "binary_cross_entropy"),
    ],
)
def test_the_clipped_gradient_is_the_mean_of_the_clipped_gradients(N, n, loss):
    net, loss = mlp(*n, g=tanh), getattr(losses, loss)
    params, X, Y = problem(net, N)
    rows = gradients(net, loss, params, X, Y)
    size = np.linalg.norm(rows, axis=1)
    bound = float(np.median(size)) * 0.99
    assert np.any(size > bound)
    expected = np.mean(rows * np.minimum(1, bound / size)[:, None], axis=0)
    J, found = jax.jit(clipped_value_and_grad(net, loss, bound))(params, X, Y)
    np.testing.assert_allclose(J, jax.jit(cost(net, loss))(params, X, Y), rtol=1e-14)
    np.testing.assert_allclose(flat(found), expected, rtol=1e-10, atol=1e-14)
    assert np.linalg.norm(flat(found)) <= bound * (1 + 1e-12)


def test_clipping_far_above_every_norm_changes_nothing():
    net = mlp(3, 7, 5, g=tanh)
    params, X, Y = problem(net, 6)
    J, plain = jax.jit(value_and_grad(net, binary_cross_entropy))(params, X, Y)
    clipped_J, clipped = jax.jit(clipped_value_and_grad(net, binary_cross_entropy, 1e6))(params, X, Y)
    np.testing.assert_allclose(clipped_J, J, rtol=1e-15)
    assert jax.tree.structure(plain) == jax.tree.structure(clipped)
    np.testing.assert_allclose(flat(clipped), flat(plain), rtol=1e-14)


def test_a_gradient_of_zero_stays_zero():
    net = mlp(3, 7, 5, g=relu)
    params = jax.tree.map(jnp.zeros_like, net.init(jax.random.key(0)))
    X, Y = jnp.ones((4, 3)), jnp.zeros((4, 5))
    assert not np.any(jax.jit(norms(net, squared_error))(params, X, Y))
    assert not np.any(flat(jax.jit(clipped_value_and_grad(net, squared_error, 0.1))(params, X, Y)))


def test_no_example_s_gradient_is_formed():
    net = mlp(80, 70, 20, g=tanh)
    params, X, Y = problem(net, 500, 80, 20)
    each = 500 * sum(p.nbytes for p in jax.tree.leaves(params))
    for function in (norms(net, cross_entropy), clipped_value_and_grad(net, cross_entropy, 0.1)):
        memory = jax.jit(function).lower(params, X, Y).compile().memory_analysis()
        assert memory.temp_size_in_bytes < each / 10


@pytest.mark.parametrize("bound", [0.0, -1.0, float("nan")])
def test_a_bound_must_be_above_zero(bound):
    with pytest.raises(ValueError, match=f"bound: got {bound}, expected a norm above 0"):
        clipped_value_and_grad(mlp(3, 5, g=tanh), squared_error, bound)


def test_other_layers_are_refused():
    scale = Layer(
        init=lambda key: jnp.ones((1, 5)),
        forward=lambda s, A, key=None: (A * s, A),
        backward=lambda s, A, dA: (jnp.sum(dA * A, axis=0, keepdims=True), dA * s),
        name="scale",
    )
    net = serial(dense(3, 5), scale)
    params, X, Y = problem(net, 2)
    with pytest.raises(TypeError, match=r"^net: got scale, which has no norms of the gradients of single"):
        norms(net, squared_error)(params, X, Y)
