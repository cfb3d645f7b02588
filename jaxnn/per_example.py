"""The gradient of each example by itself: its norm, and clipping by it, without ever forming it.

The gradient of one example's W is an outer product, dW_i = dZ_iᵀ A_i, with A_i its row of A[l-1] and
dZ_i its row of dZ[l]. Two things follow that autodiff does not see: ‖dW_i‖² = ‖dZ_i‖² ‖A_i‖², and the sum
of all of them, each with a weight of its own, is one matrix product. How each layer has its norms stands
beside its backward, as `squared_norms`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxnn.layers import Layer
from jaxnn.losses import Loss


def norms(net: Layer, loss: Loss) -> Callable:
    """The norm of each example's gradient: `norms_of(params, X, Y)`, of shape (N,).

    The gradient is that of the example alone, as in a batch of one, over all parameters together. TypeError
    is raised if a layer of `net` has no such norms: dense layers, embeddings and norms have. Of dense layers
    on rows no array is larger than in a batch's gradient, under jit (Goodfellow, "Efficient Per-Example
    Gradient Computations", arXiv:1510.01799, 2015, section 5).

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

    squared_norms = _squared_norms(net)

    def of_each(params, X, Y):
        Z, residuals = net.forward(params, X)
        dZ = jax.vmap(loss.backward)(alone(Z), alone(Y))
        squared, _ = squared_norms(
            params, residuals, dZ[:, 0]
        )  # every backward takes the rows for themselves
        return jnp.sqrt(squared)

    return of_each


def clipped_value_and_grad(net: Layer, loss: Loss, bound: float) -> Callable:
    """Cost and gradient, where no example has a gradient of a norm above `bound`.

    Returns `J_and_dparams(params, X, Y) -> (J, dparams)`, like `value_and_grad`, with which it agrees where
    all norms are within the bound: dparams = 1/N Σ c_i dparams_i, c_i = min(1, bound / ‖dparams_i‖).
    J is not clipped. The examples' clipping is that of Abadi et al., "Deep Learning with Differential
    Privacy", CCS 2016; the weighted backward pass is that of Lee and Kifer, PoPETs 2021.

    Raises ValueError unless bound > 0, and TypeError if a layer of `net` has no such norms.

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
    of_each = norms(net, loss)

    def J_and_dparams(params, X, Y):
        Z, residuals = net.forward(params, X)
        J = loss.forward(Z, Y)
        norm = of_each(params, X, Y)
        c = bound / jnp.maximum(norm, bound)  # c_i = min(1, bound / ‖dparams_i‖)
        dZ = jax.vmap(jnp.multiply)(c, loss.backward(Z, Y))
        dparams, _ = net.backward(params, residuals, dZ)
        return J, dparams

    return J_and_dparams


def alone(tree):
    """N batches of one example each, from a batch of N."""
    return jax.tree.map(lambda array: array[:, None], tree)


def _squared_norms(net: Layer) -> Callable:
    """Its squared_norms; TypeError, in one line, if it has none."""
    if isinstance(net.squared_norms, str):
        part = net.squared_norms or net.name
        raise TypeError(f"net: got {part}, which has no norms of the gradients of single examples")
    return net.squared_norms
