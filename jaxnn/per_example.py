"""The gradient of each example by itself: its norm, and clipping by it, without ever forming it.

The gradient of one example's W is an outer product, dW_i = dZ_iᵀ A_i, with A_i its row of A[l-1] and
dZ_i its row of dZ[l]. Two things follow that autodiff does not see: ‖dW_i‖² = ‖dZ_i‖² ‖A_i‖², and the sum
of all of them, each with a weight of its own, is one matrix product.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxnn.layers import Dense, Layer, Residuals
from jaxnn.losses import Loss


def norms(net: Layer, loss: Loss) -> Callable:
    """The norm of each example's gradient: `norms_of(params, X, Y)`, of shape (N,).

    The gradient is that of the example alone, as in a batch of one, over all parameters together. `net` is
    made of dense layers; TypeError is raised if it is not. Under jit no array is larger than in a batch's
    gradient (Goodfellow, "Efficient Per-Example Gradient Computations", arXiv:1510.01799, 2015, section 5).

    >>> import jax, jax.numpy as jnp
    >>> from jaxnn.layers import mlp
    >>> from jaxnn.activations import identity
    >>> from jaxnn.losses import squared_error
    >>> net = mlp(2, 1, g=identity)
    >>> params = jax.tree.map(jnp.zeros_like, net.init(jax.random.key(0)))
    >>> X, Y = jnp.array([[2.0, 2.0], [0.0, 0.0]]), jnp.array([[5.0], [7.0]])
    >>> norms(net, squared_error)(params, X, Y)  # dW = −5 (2, 2) and db = −5; dW = 0 and db = −7
    Array([15.,  7.], dtype=float32)
    """

    def norms_of(params, X, Y):
        Z, residuals = net.forward(params, X)
        dZ = jax.vmap(loss.backward)(alone(Z), alone(Y))
        dparams, _ = jax.vmap(net.backward, in_axes=(None, 0, 0))(params, alone(residuals), dZ)
        return jnp.sqrt(sum(map(squared_norms, layers(dparams, Dense), layers(residuals, Residuals))))

    return norms_of


def squared_norms(dparams: Dense, residuals: Residuals):
    """‖dW_i‖² + ‖db_i‖² for each example i, of a dense layer. Its dW are not read: jit leaves them out."""
    dZ = dparams.b[..., 0]  # db_i = dZ_i
    A_prev = residuals.A_prev
    # ‖dW_i‖² + ‖db_i‖² = ‖dZ_i‖² (‖A_i‖² + 1)
    return jnp.sum(jnp.square(dZ), axis=1) * (jnp.sum(jnp.square(A_prev), axis=1) + 1)


def clipped_value_and_grad(net: Layer, loss: Loss, bound: float) -> Callable:
    """Cost and gradient, where no example has a gradient of a norm above `bound`.

    Returns `J_and_dparams(params, X, Y) -> (J, dparams)`, like `value_and_grad`, with which it agrees where
    all norms are within the bound: dparams = 1/N Σ c_i dparams_i, c_i = min(1, bound / ‖dparams_i‖).
    J is not clipped. The examples' clipping is that of Abadi et al., "Deep Learning with Differential
    Privacy", CCS 2016; the weighted backward pass is that of Lee and Kifer, PoPETs 2021.

    Raises ValueError unless bound > 0, and TypeError if `net` has layers that are not dense.

    >>> import jax, jax.numpy as jnp
    >>> from jaxnn.layers import mlp
    >>> from jaxnn.activations import identity
    >>> from jaxnn.losses import squared_error
    >>> net = mlp(2, 1, g=identity)
    >>> params = jax.tree.map(jnp.zeros_like, net.init(jax.random.key(0)))
    >>> X, Y = jnp.array([[2.0, 2.0], [0.0, 0.0]]), jnp.array([[5.0], [7.0]])
    >>> J, dparams = clipped_value_and_grad(net, squared_error, 7.5)(params, X, Y)
    >>> dparams[0].W, dparams[0].b  # the first is halved: 1/2 (−5) (2, 2) /2, and 1/2 (−5/2 − 7)
    (Array([[-2.5, -2.5]], dtype=float32), Array([[-4.75]], dtype=float32))
    """
    if not bound > 0:
        raise ValueError(f"bound: got {bound}, expected a norm above 0")
    norms_of = norms(net, loss)

    def J_and_dparams(params, X, Y):
        Z, residuals = net.forward(params, X)
        J = loss.forward(Z, Y)
        norm = norms_of(params, X, Y)
        c = bound / jnp.maximum(norm, bound)  # c_i = min(1, bound / ‖dparams_i‖)
        dZ = c[:, None] * loss.backward(Z, Y)
        dparams, _ = net.backward(params, residuals, dZ)
        return J, dparams

    return J_and_dparams


def alone(tree):
    """N batches of one example each, from a batch of N."""
    return jax.tree.map(lambda array: array[:, None], tree)


def layers(tree, kind: type) -> list:
    """The dense layers' nodes of a network's tree, in order; TypeError if there is anything else."""
    nodes = jax.tree.leaves(tree, is_leaf=lambda node: isinstance(node, kind))
    for node in nodes:
        if not isinstance(node, kind):
            raise TypeError(f"net: got a layer of {type(node).__name__}, expected dense layers")
    return nodes
