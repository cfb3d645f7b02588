"""A network worked out by hand: with weights in multiples of log 3, σ takes values like 3/4."""

import jax.numpy as jnp
import numpy as np

from jaxnn.activations import sigmoid
from jaxnn.layers import Dense, dense, mlp
from jaxnn.losses import binary_cross_entropy
from jaxnn.objective import value_and_grad

log3 = np.log(3)


def test_4_2_1_by_hand(x64):
    X = jnp.array([[1.0, 0, 1, 0], [0, 1, 0, 2], [0, 0, 0, 0]])
    Y = jnp.array([[1.0], [0], [1]])
    W1 = log3 * jnp.array([[1.0, -1, 0, 0], [0, 1, 0, 0]])
    b1 = jnp.zeros((2, 1))
    W2 = log3 * jnp.array([[4.0, 4]])
    b2 = log3 * jnp.array([[-5.0]])
    params = [Dense(W1, b1), Dense(W2, b2)]
    net = mlp(4, 2, 1, g=sigmoid)

    # Z[1] = log 3 · [[1, 0], [−1, 1], [0, 0]]
    # A[1] = [[3/4, 1/2], [1/4, 3/4], [1/2, 1/2]]
    # Z[2] = log 3 · [0, −1, −1]
    Z2, _ = net.forward(params, X)
    A1, _ = dense(4, 2, sigmoid).forward(params[0], X)
    np.testing.assert_allclose(A1, [[3 / 4, 1 / 2], [1 / 4, 3 / 4], [1 / 2, 1 / 2]], rtol=1e-14)
    np.testing.assert_allclose(Z2, log3 * jnp.array([[0.0], [-1], [-1]]), rtol=1e-14, atol=1e-14)

    # Ŷ = [1/2, 1/4, 1/4], J = 1/3 (log 2 + log 4/3 + log 4)
    # dZ[2] = 1/3 [−1/2, 1/4, −3/4]
    # dZ[1] = log 3 · [[−1/8, −1/6], [1/16, 1/16], [−1/4, −1/4]]
    J, (first, second) = value_and_grad(net, binary_cross_entropy)(params, X, Y)
    np.testing.assert_allclose(J, np.log(32 / 3) / 3, rtol=1e-14)
    np.testing.assert_allclose(second.W, [[-11 / 48, -7 / 48]], rtol=1e-14)
    np.testing.assert_allclose(second.b, [[-1 / 3]], rtol=1e-14)
    np.testing.assert_allclose(
        first.W,
        log3 * jnp.array([[-1 / 8, 1 / 16, -1 / 8, 1 / 8], [-1 / 6, 1 / 16, -1 / 6, 1 / 8]]),
        rtol=1e-14,
    )
    np.testing.assert_allclose(first.b, log3 * jnp.array([[-5 / 16], [-17 / 48]]), rtol=1e-14)
