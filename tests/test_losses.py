import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

from jaxnn import losses
from jaxnn.losses import Loss, binary_cross_entropy, cross_entropy, squared_error
from tests import truth

LOSSES = {name: loss for name, loss in vars(losses).items() if isinstance(loss, Loss)}


def labels(rng, N, n):
    """One-hot rows, soft rows, and one with no label at all."""
    Y = np.eye(n)[rng.integers(n, size=N)]
    Y[1::3] = rng.dirichlet(np.ones(n), len(Y[1::3]))
    Y[2:3] = 0
    return jnp.asarray(Y)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("N", [1, 7])
def test_backward_is_the_derivative(name, N, x64):
    loss = LOSSES[name]
    rng = np.random.default_rng(2)
    Z, Y = jnp.asarray(rng.normal(size=(N, 4)) * 5), labels(rng, N, 4)
    expected = jax.grad(loss.forward)(Z, Y)
    np.testing.assert_allclose(loss.backward(Z, Y), expected, rtol=1e-12, atol=1e-16)


@pytest.mark.parametrize("name", LOSSES)
def test_the_output_activation_has_its_backward(name, x64):
    g = LOSSES[name].activation
    rng = np.random.default_rng(3)
    Z, dA = jnp.asarray(rng.normal(size=(2, 5, 4)))
    A, vjp = jax.vjp(g.forward, Z)
    np.testing.assert_allclose(g.backward(dA, Z, A), vjp(dA)[0], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", LOSSES)
def test_it_is_a_mean_over_examples(name, x64):
    loss = LOSSES[name]
    rng = np.random.default_rng(4)
    Z, Y = jnp.asarray(rng.normal(size=(5, 3))), labels(rng, 5, 3)
    each = [loss.forward(z[None], y[None]) for z, y in zip(Z, Y, strict=True)]
    np.testing.assert_allclose(loss.forward(Z, Y), np.mean(each), rtol=1e-14)
    np.testing.assert_allclose(
        loss.backward(jnp.tile(Z, (2, 1)), jnp.tile(Y, (2, 1)))[:5], loss.backward(Z, Y) / 2, rtol=1e-14
    )


def test_costs_are_those_of_the_lecture(x64):
    Yhat = jnp.array([[0.5, 0.75], [0.9, 0.2]])
    Y = jnp.array([[1.0, 0.0], [0.0, 0.3]])
    Z = jnp.log(Yhat / (1 - Yhat))
    J = -jnp.mean(jnp.sum(Y * jnp.log(Yhat) + (1 - Y) * jnp.log(1 - Yhat), axis=1))
    np.testing.assert_allclose(binary_cross_entropy.forward(Z, Y), J, rtol=1e-14)
    np.testing.assert_allclose(binary_cross_entropy.activation.forward(Z), Yhat, rtol=1e-14)

    P = jnp.array([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]])
    Y = jnp.array([[1.0, 0.0, 0.0], [0.0, 0.5, 0.5]])
    J = -(np.log(0.5) + 0.5 * np.log(0.2) + 0.5 * np.log(0.7)) / 2
    np.testing.assert_allclose(cross_entropy.forward(jnp.log(P) + 7, Y), J, rtol=1e-14)
    np.testing.assert_allclose(cross_entropy.activation.forward(jnp.log(P) + 7), P, rtol=1e-14)

    assert squared_error.forward(jnp.array([[1.0, 2.0], [3.0, 5.0]]), jnp.ones((2, 2))) == (1 + 4 + 16) / 4


@pytest.mark.parametrize("name", ["binary_cross_entropy", "cross_entropy"])
def test_a_certain_and_wrong_network_has_a_finite_cost_and_the_full_gradient(name):
    loss = LOSSES[name]
    Z, Y = jnp.array([[1000.0, -1000.0]]), jnp.array([[0.0, 1.0]])
    assert jnp.isfinite(loss.forward(Z, Y))
    np.testing.assert_array_equal(loss.backward(Z, Y), [[1.0, -1.0]])
    np.testing.assert_array_equal(loss.backward(-Z, Y), [[0.0, 0.0]])


def test_binary_cross_entropy_keeps_its_digits():
    z = truth.points()
    for y in (0.0, 1.0):
        exact = [truth.sigmoid(v) if y == 0 else -truth.sigmoid(-v) for v in map(mpmath.mpf, z.tolist())]
        Z, Y = jnp.asarray(z)[None], jnp.full((1, len(z)), y)
        stable = jax.grad(lambda Z, Y: jnp.sum(jnp.maximum(Z, 0) - Z * Y + jnp.log1p(jnp.exp(-jnp.abs(Z)))))
        for backward in (binary_cross_entropy.backward, jax.jit(binary_cross_entropy.backward)):
            by_hand = truth.ulps(backward(Z, Y), exact)
            assert by_hand.max() <= 2
            assert by_hand.max() <= truth.ulps(stable(Z, Y), exact).max()


@pytest.mark.parametrize("spread", [0.1, 2, 10, 50])
def test_cross_entropy_keeps_its_digits(spread):
    rng = np.random.default_rng(5)
    Z = rng.uniform(-spread, spread, (200, 10)).astype(np.float32)
    k = rng.integers(10, size=200)
    exact = []
    for z, true in zip(Z.tolist(), k, strict=True):
        e = [mpmath.exp(mpmath.mpf(v)) for v in z]
        exact += [
            -(sum(e) - e[j]) / sum(e) if j == true else e[j] / sum(e)  # no digits lost at this precision
            for j in range(10)
        ]
    # one row a batch: its N dZ is dZ
    Z, Y = Z[:, None], np.eye(10, dtype=np.float32)[k][:, None]
    backward = jax.vmap(cross_entropy.backward)
    by_autodiff = truth.ulps(jax.jit(jax.vmap(jax.grad(cross_entropy.forward)))(Z, Y), exact)
    for by_hand in (truth.ulps(f(jnp.asarray(Z), Y), exact) for f in (backward, jax.jit(backward))):
        assert by_hand.max() <= 4
        assert by_hand.max() <= by_autodiff.max()


@pytest.mark.parametrize(
    "z",
    [
        [40.0, -42.1],
        [-36.112278, -46.346924, 49.211708],  # the second e^(z − max z) is no normal number, the sum is
        [35.892506, -48.68351, -48.7, -48.8],
        [-23.29057, 7.7660265, 40.230213, 36.09602, -38.08396],
        # where sums of all digits at once are more than 4 ULP away
        [-0.9197612, -0.13415053, 0.23637101, -0.9235147, 0.67442065, -0.674827, -0.54482955, -0.3617962,
         -0.13566922, -0.6886612],
        [6.3363137, -6.012885, 1.4179242, -1.0740325, -1.3212646, -3.141771, -3.797316, 8.33572, -0.9668904,
         0.44865716],
    ],
)  # fmt: skip
def test_cross_entropy_where_digits_get_lost(z):
    Z, classes = jnp.array([z]), range(len(z))
    e = [mpmath.exp(mpmath.mpf(v)) for v in Z[0].tolist()]
    exact = [e[i] / sum(e) if i != j else -(sum(e) - e[j]) / sum(e) for j in classes for i in classes]
    of_each_label = jax.vmap(cross_entropy.backward, (None, 0))
    for backward in (of_each_label, jax.jit(of_each_label)):
        assert truth.ulps(backward(Z, jnp.eye(len(z))[:, None]), exact).max() <= 4


def test_cross_entropy_of_a_masked_class():
    Z, Y = jnp.array([[1.0, -jnp.inf, 2.0]]), jnp.array([[0.0, 0.0, 1.0]])
    p = 1 / (1 + np.exp(1))
    np.testing.assert_allclose(cross_entropy.backward(Z, Y), [[p, 0, -p]], rtol=1e-6)
