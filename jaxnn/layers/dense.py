"""The dense layer, forward and backward.

W (n, n_prev)    b (n, 1)    A_prev (N, n_prev)    Z, A (N, n)
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxnn.activations import Activation, identity
from jaxnn.layers.layer import Layer, ShapeError


class Dense(NamedTuple):
    """The parameters of a dense layer; also their gradient, dW in the place of W and db of b."""

    W: Float[Array, "n n_prev"]
    b: Float[Array, "n 1"]


class Residuals(NamedTuple):
    """What the backward of a dense layer needs of its forward."""

    A_prev: Float[Array, "N n_prev"]
    Z: Float[Array, "N n"]
    A: Float[Array, "N n"]


def dense(n_prev: int, n: int, g: Activation = identity) -> Layer:
    """A fully connected layer of n neurons on n_prev inputs: A = g(A_prev Wᵀ + bᵀ).

    `init` draws W uniformly from ±√(6 / (n_prev + n)) (Glorot and Bengio, "Understanding the difficulty of
    training deep feedforward neural networks", AISTATS 2010, eq. 16) and sets b to 0.

    >>> import jax, jax.numpy as jnp
    >>> layer = dense(3, 2)
    >>> params = layer.init(jax.random.key(0))
    >>> params.W.shape, params.b.shape
    ((2, 3), (2, 1))
    >>> A, residuals = layer.forward(params, jnp.ones((5, 3)))
    >>> dparams, dA_prev = layer.backward(params, residuals, jnp.ones((5, 2)))
    >>> dparams.b.ravel(), dA_prev.shape
    (Array([5., 5.], dtype=float32), (5, 3))
    """

    if not isinstance(g, Activation):
        raise TypeError(f"g: got {g!r:.80}, expected an Activation, such as jaxnn.activations.sigmoid")

    def init(key) -> Dense:
        W = jax.nn.initializers.glorot_uniform(in_axis=1, out_axis=0)(key, (n, n_prev))
        return Dense(W, jnp.zeros((n, 1), W.dtype))

    def forward(params: Dense, A_prev: Float[Array, "N n_prev"]) -> tuple[Float[Array, "N n"], Residuals]:
        W, b = params
        _check(W, b, A_prev)
        Z = A_prev @ W.T + b.T  # Z[l] = A[l-1] W[l]ᵀ + b[l]ᵀ
        A = g.forward(Z)  # A[l] = g(Z[l])
        return A, Residuals(A_prev, Z, A)

    def backward(
        params: Dense, residuals: Residuals, dA: Float[Array, "N n"]
    ) -> tuple[Dense, Float[Array, "N n_prev"]]:
        W, _ = params
        A_prev, Z, A = residuals
        dZ = g.backward(dA, Z, A)  # dZ[l] = dA[l] ⊙ g′(Z[l])
        dW = dZ.T @ A_prev  # dW[l] = dZ[l]ᵀ A[l-1]
        db = jnp.sum(dZ.T, axis=1, keepdims=True)  # db[l] = dZ[l]ᵀ 1
        dA_prev = dZ @ W  # dA[l-1] = dZ[l] W[l]
        return Dense(dW, db), dA_prev

    return Layer(init, forward, backward)


def _check(W, b, A_prev) -> None:
    if W.ndim != 2 or b.shape != (W.shape[0], 1):
        raise ShapeError(f"W is {W.shape}, b is {b.shape}, expected (n, n_prev) and (n, 1)")
    if not (jnp.issubdtype(W.dtype, jnp.floating) and jnp.issubdtype(b.dtype, jnp.floating)):
        raise ShapeError(f"W is {W.shape} {W.dtype}, b is {b.dtype}, expected floating point")
    if A_prev.ndim != 2:
        raise ShapeError(f"W is {W.shape}, its input is {A_prev.shape}, expected (N, {W.shape[1]})")
    if not jnp.issubdtype(A_prev.dtype, jnp.floating):
        raise ShapeError(f"W is {W.shape} {W.dtype}, its input is {A_prev.dtype}, expected floating point")
    if A_prev.shape[1] != W.shape[1]:
        raise ShapeError(f"W is {W.shape}, its input has {A_prev.shape[1]} columns, expected {W.shape[1]}")
