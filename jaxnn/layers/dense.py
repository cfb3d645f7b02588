"""The dense layer, forward and backward.

W (n, n_prev)    b (n, 1)    A_prev (N, n_prev)    Z, A (N, n)

A_prev may have more axes in front, (N, T, n_prev): each of the T places of an example is then a row.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxnn.activations import Activation, identity
from jaxnn.layers.layer import Layer, ShapeError, rows


class Dense(NamedTuple):
    """The parameters of a dense layer; also their gradient, dW in the place of W and db of b."""

    W: Float[Array, "n n_prev"]
    b: Float[Array, "n 1"]


class Residuals(NamedTuple):
    """What the backward of a dense layer needs of its forward: of Z and A, those that g reads."""

    A_prev: Any
    Z: Float[Array, "*N n"] | None
    A: Float[Array, "*N n"] | None


def dense(n_prev: int, n: int, g: Activation = identity) -> Layer:
    """A fully connected layer of n neurons on n_prev inputs: A = g(A_prev Wᵀ + bᵀ).

    Of Z and A it keeps what the backward of g reads: of relu A, of gelu Z, of both only where it reads both.

    `init` draws W uniformly from ±√(6 / (n_prev + n)) (Glorot and Bengio, "Understanding the difficulty of
    training deep feedforward neural networks", AISTATS 2010, eq. 16) and sets b to 0.

    >>> import jax, jax.numpy as jnp
    >>> layer = dense(3, 2)
    >>> params = layer.init(jax.random.key(0))
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

    def forward(params: Dense, A_prev: Float[Array, "*N n_prev"], key=None):
        W, b = params
        _check(W, b, A_prev)
        Z = rows(A_prev) @ W.T + b.T  # Z[l] = A[l-1] W[l]ᵀ + b[l]ᵀ
        Z = Z.reshape(*A_prev.shape[:-1], len(W))
        A = g.forward(Z)  # A[l] = g(Z[l])
        return A, kept(g, A_prev, Z, A)

    def backward(params: Dense, residuals: Residuals, dA: Float[Array, "*N n"]):
        W, _ = params
        A_prev, Z, A = residuals
        dZ = rows(g.backward(dA, Z, A))  # dZ[l] = dA[l] ⊙ g′(Z[l])
        dW = dZ.T @ rows(A_prev)  # dW[l] = dZ[l]ᵀ A[l-1]
        db = jnp.sum(dZ.T, axis=1, keepdims=True)  # db[l] = dZ[l]ᵀ 1
        dA_prev = dZ @ W  # dA[l-1] = dZ[l] W[l]
        return Dense(dW, db), dA_prev.reshape(*dA.shape[:-1], W.shape[1])

    def squared_norms(params: Dense, residuals: Residuals, dA):
        A_prev, Z, A = residuals
        dZ = g.backward(dA, Z, A)
        # of one place each: dW_i = dZ_iᵀ A_i, so that ‖dW_i‖² + ‖db_i‖² = ‖dZ_i‖² (‖A_i‖² + 1)
        return outer_norms(dZ, A_prev, 1), (rows(dZ) @ params.W).reshape(A_prev.shape)

    shown = "" if g is identity else f", {g.name}"
    name, again = f"dense({n_prev}→{n}{shown})", made_again(g)
    return Layer(init, forward, backward, name, (n_prev,), again=again, squared_norms=squared_norms)


def kept(g: Activation, A_prev, Z, A) -> Residuals:
    """Of Z and A what g reads."""
    return Residuals(A_prev, Z if "Z" in g.reads else None, A if "A" in g.reads else None)


def made_again(g: Activation):
    """A layer's `again`, where it keeps Z or A."""
    return (lambda params, r: g.forward(r.Z) if r.A is None else r.A) if g.reads else None


def outer_norms(
    dZ: Float[Array, "N *T n"], A: Float[Array, "N *T n_prev"], one: int = 0
) -> Float[Array, "N"]:
    """‖Σ_t dZ_tᵀ A_t‖² of each example, to which `one` adds ‖Σ_t dZ_t‖².

    Over T places it is also Σ_ts (dZ_t · dZ_s)(A_t · A_s): two Gram matrices, by T² (n + n_prev)
    products, or the sum itself, by T n n_prev, whichever are fewer (Li, Tramèr, Liang and Hashimoto, "Large
    language models can be strong differentially private learners", ICLR 2022, section 4).
    """
    N, n, n_prev = len(dZ), dZ.shape[-1], A.shape[-1]
    dZ, A = dZ.reshape(N, -1, n), A.reshape(N, -1, n_prev)
    T = dZ.shape[1]
    if T == 1:
        return jnp.sum(jnp.square(dZ), axis=(1, 2)) * (jnp.sum(jnp.square(A), axis=(1, 2)) + one)
    if T * (n + n_prev) <= n * n_prev:
        G_Z, G_A = (jnp.einsum("ntk,nsk->nts", X, X) for X in (dZ, A))  # Gram matrices of the places
        return jnp.sum(G_Z * (G_A + one), axis=(1, 2))
    dW = jnp.einsum("ntj,ntk->njk", dZ, A)
    return jnp.sum(jnp.square(dW), axis=(1, 2)) + one * jnp.sum(jnp.square(jnp.sum(dZ, axis=1)), axis=1)


def _check(W, b, A_prev) -> None:
    if W.ndim != 2 or b.shape != (W.shape[0], 1):
        raise ShapeError(f"W is {W.shape}, b is {b.shape}, expected (n, n_prev) and (n, 1)")
    if not (jnp.issubdtype(W.dtype, jnp.floating) and jnp.issubdtype(b.dtype, jnp.floating)):
        raise ShapeError(f"W is {W.shape} {W.dtype}, b is {b.dtype}, expected floating point")
    if A_prev.ndim < 2 or (A_prev.ndim > 2 and A_prev.shape[-1] != W.shape[1]):
        raise ShapeError(f"W is {W.shape}, its input is {A_prev.shape}, expected (N, {W.shape[1]})")
    if not jnp.issubdtype(A_prev.dtype, jnp.floating):
        raise ShapeError(f"W is {W.shape} {W.dtype}, its input is {A_prev.dtype}, expected floating point")
    if A_prev.shape[-1] != W.shape[1]:
        raise ShapeError(f"W is {W.shape}, its input has {A_prev.shape[-1]} columns, expected {W.shape[1]}")
