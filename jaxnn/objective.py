"""The cost J of a network, and its gradient written by hand."""

from collections.abc import Callable

from jaxnn.layers import Layer, ShapeError
from jaxnn.losses import Loss


def cost(net: Layer, loss: Loss) -> Callable:
    """The cost as a function: `J(params, X, Y, key=None)`, a scalar, the mean over the N rows of X.

    With a key it is that of a training, in which dropout drops and the like; without, of an evaluation.

    >>> import jax, jax.numpy as jnp
    >>> from jaxnn.activations import sigmoid
    >>> from jaxnn.layers import mlp
    >>> from jaxnn.losses import binary_cross_entropy
    >>> net = mlp(3, 5, 2, g=sigmoid)
    >>> params = jax.tree.map(jnp.zeros_like, net.init(jax.random.key(0)))
    >>> cost(net, binary_cross_entropy)(params, jnp.ones((4, 3)), jnp.ones((4, 2)))  # 2 log 2
    Array(1.3862944, dtype=float32)
    """

    def J(params, X, Y, key=None):
        Z, _ = net.forward(params, X, key)  # the forward pass, up to Z[L]
        _check(Z, Y)
        return loss.forward(Z, Y)

    return J


def value_and_grad(net: Layer, loss: Loss) -> Callable:
    """Cost and gradient, written by hand: stands in for `jax.value_and_grad(cost(net, loss))`.

    Returns `J_and_dparams(params, X, Y, key=None) -> (J, dparams)`; dparams has the structure of params. A
    key means training, as in `cost`. For the gradient of each example alone, map it over examples as
    batches of one:
    `jax.vmap(value_and_grad(net, loss), (None, 0, 0))(params, X[:, None], Y[:, None])`.

    >>> import jax, jax.numpy as jnp
    >>> from jaxnn.activations import sigmoid
    >>> from jaxnn.layers import mlp
    >>> from jaxnn.losses import binary_cross_entropy
    >>> net = mlp(3, 5, 2, g=sigmoid)
    >>> params = net.init(jax.random.key(0))
    >>> X, Y = jnp.ones((4, 3)), jnp.ones((4, 2))
    >>> J, dparams = value_and_grad(net, binary_cross_entropy)(params, X, Y)
    >>> dparams[0].W.shape, dparams[1].b.shape
    ((5, 3), (2, 1))
    """

    def J_and_dparams(params, X, Y, key=None):
        Z, residuals = net.forward(params, X, key)  # the forward pass, up to Z[L]
        _check(Z, Y)
        J = loss.forward(Z, Y)
        dZ = loss.backward(Z, Y)  # dZ[L] = 1/N (Ŷ − Y)
        dparams, _ = net.backward(params, residuals, dZ)  # and down to layer 1
        return J, dparams

    return J_and_dparams


def _check(Z, Y) -> None:
    if hasattr(Z, "shape") and Y.shape != Z.shape:  # logits as factors are checked by their loss
        raise ShapeError(f"Y is {Y.shape}, Z[L] is {Z.shape}, expected the same")
    if len(Z) == 0:
        raise ShapeError(f"Z[L] is {Z.shape}, expected one row at least: there is no mean over none")
