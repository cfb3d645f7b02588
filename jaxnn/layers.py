"""Layers: the forward pass and its hand-written backward side by side.

Shapes, as in the lecture: N examples, layer l has n[l] neurons, A[0] = X.

    W[l] (n[l], n[l-1])    b[l] (n[l], 1)    Z[l], A[l] (N, n[l])
"""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxnn.activations import Activation, identity


class ShapeError(ValueError):
    """Arrays that do not fit: which layer, and both shapes."""


class Layer(NamedTuple):
    """A layer, or a whole network, as three pure functions.

    - `init(key) -> params`
    - `forward(params, A_prev) -> (A, residuals)`: residuals are what backward needs of the forward pass.
    - `backward(params, residuals, dA) -> (dparams, dA_prev)`: dparams has the structure of params.
    """

    init: Callable
    forward: Callable
    backward: Callable


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
    if A_prev.ndim != 2:
        raise ShapeError(f"W is {W.shape}, its input is {A_prev.shape}, expected (N, {W.shape[1]})")
    if not jnp.issubdtype(A_prev.dtype, jnp.floating):
        raise ShapeError(f"W is {W.shape} {W.dtype}, its input is {A_prev.dtype}, expected floating point")
    if A_prev.shape[1] != W.shape[1]:
        raise ShapeError(f"W is {W.shape}, its input has {A_prev.shape[1]} columns, expected {W.shape[1]}")


def serial(*layers: Layer) -> Layer:
    """Layers one after the other: a network, which is itself a layer. Its params are a list.

    >>> import jax, jax.numpy as jnp
    >>> from jaxnn.activations import sigmoid
    >>> net = serial(dense(3, 5, sigmoid), dense(5, 2))
    >>> params = net.init(jax.random.key(0))
    >>> [layer.W.shape for layer in params]
    [(5, 3), (2, 5)]
    """

    def init(key):
        keys = jax.random.split(key, len(layers))
        return [layer.init(k) for layer, k in zip(layers, keys, strict=True)]

    def forward(params, A):
        if len(params) != len(layers):
            raise ShapeError(f"params: got those of {len(params)} layers, expected {len(layers)}")
        residuals = []
        for layer, p in zip(layers, params, strict=True):
            try:
                A, r = layer.forward(p, A)
            except ShapeError as error:
                raise ShapeError(f"layer {len(residuals) + 1}: {error}") from None
            residuals.append(r)
        return A, residuals

    def backward(params, residuals, dA):
        dparams = []
        for layer, p, r in reversed(list(zip(layers, params, residuals, strict=True))):
            dp, dA = layer.backward(p, r, dA)
            dparams.append(dp)
        return dparams[::-1], dA

    return Layer(init, forward, backward)


def mlp(*n: int, g: Activation) -> Layer:
    """The lecture's fully connected network n[0]-n[1]-...-n[L], up to Z[L]: `mlp(784, 17, 10, g=sigmoid)`.

    Layers 1 to L−1 have the activation g. The last one is left at Z[L]: the output activation belongs to
    the loss. Raises ValueError unless n are two or more whole numbers of at least 1.

    >>> import jax, jax.numpy as jnp
    >>> from jaxnn.activations import sigmoid
    >>> net = mlp(784, 17, 10, g=sigmoid)
    >>> params = net.init(jax.random.key(0))
    >>> sum(p.size for p in jax.tree.leaves(params))
    13525
    >>> Z, _ = net.forward(params, jnp.zeros((6, 784)))
    >>> Z.shape
    (6, 10)
    """
    if len(n) < 2 or not all(isinstance(n_l, int) and n_l >= 1 for n_l in n):
        raise ValueError(f"mlp: got sizes {n}, expected those of the input and each layer, 1 or more")
    *hidden, last = itertools.pairwise(n)
    return serial(*(dense(n_prev, n_l, g) for n_prev, n_l in hidden), dense(*last))
