"""Layer norm, RMS norm and batch norm, forward and backward, in formulas that keep their digits.

γ, β, μ, v (n, 1)    A_prev, A, h (M, n), M rows: examples, or places in them    r: 1 / standard deviation

What is centred is centred twice: the mean of numbers far from 0 is rounded, and the second mean takes off
what the first one left. At a mean of 10⁶ standard deviations dA_prev of layer norm is then right to 2 units
of 2⁻²³ of its largest entry, where the textbook's formula is off by 25,000 of them. h and r are kept (of
RMS norm A_prev and r), not A: (A − β) / γ has few digits where γ is small. The three terms of the papers'
backward, through the numbers, the variance and the mean, are one here: with dh = dA ⊙ γᵀ, G = dh − mean(dh),
the second is −r h mean(G ⊙ h), for h has the mean 0, and the third is what is taken off dh.
Equations: Ba, Kiros and Hinton, "Layer normalization", arXiv:1607.06450 (2016), eq. 3; Zhang and Sennrich,
"Root mean square layer normalization", NeurIPS 2019, eq. 4; Ioffe and Szegedy, "Batch normalization", ICML
2015, algorithm 1, and section 3 for the backward. The variance of an evaluation is that of all rows, as a
population's; algorithm 2 there takes the mean of the batches' variances, times m / (m − 1).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxnn.layers.layer import Layer, ShapeError, rows

LITTLE = 1e-5  # ε, added to the variance


class Norm(NamedTuple):
    """The parameters of layer norm; also their gradient."""

    gamma: Float[Array, "n 1"]
    beta: Float[Array, "n 1"]


class Scale(NamedTuple):
    """The parameter of RMS norm; also its gradient."""

    gamma: Float[Array, "n 1"]


class BatchNorm(NamedTuple):
    """The parameters of batch norm. mean and variance are those of the data, and have the gradient 0."""

    gamma: Float[Array, "n 1"]
    beta: Float[Array, "n 1"]
    mean: Float[Array, "n 1"]
    variance: Float[Array, "n 1"]


class Standardised(NamedTuple):
    """What the backward of a norm needs: h, the numbers before γ and β, and r, by which they were multiplied.

    Of a batch norm in training also the mean and the variance of its batch.
    """

    h: Float[Array, "M n"]
    r: Float[Array, "..."]
    mean: Float[Array, "n 1"] | None = None
    variance: Float[Array, "n 1"] | None = None


def layer_norm(n: int, eps: float = LITTLE) -> Layer:
    """Each row of n on its own brought to mean 0 and variance 1, times γ, plus β.

    >>> import jax, jax.numpy as jnp
    >>> layer = layer_norm(2)
    >>> A, _ = layer.forward(layer.init(jax.random.key(0)), jnp.array([[1.0, 3.0], [5.0, 9.0]]))
    >>> print(A.round(3))
    [[-1.  1.]
     [-1.  1.]]
    """

    def init(key) -> Norm:
        return Norm(jnp.ones((n, 1)), jnp.zeros((n, 1)))

    def forward(params: Norm, A_prev: Float[Array, "*N n"], key=None):
        _check("layer_norm", n, A_prev)
        γ, β = params
        D = _centred(rows(A_prev), axis=1)  # D = A_prev − mean
        r = 1 / jnp.sqrt(_mean(D * D, axis=1) + eps)  # r = 1/√(mean(D²) + ε)
        h = D * r
        A = h * γ.T + β.T  # A = h ⊙ γᵀ + βᵀ
        return A.reshape(A_prev.shape), Standardised(h, r)

    def backward(params: Norm, residuals: Standardised, dA: Float[Array, "*N n"]):
        (γ, _), (h, r, *_) = params, residuals
        dγ = _summed(rows(dA) * h)  # dγ = Σ dA ⊙ h, over the rows
        dβ = _summed(rows(dA))  # dβ = Σ dA
        G = _centred(rows(dA) * γ.T, axis=1)  # G = dA ⊙ γᵀ − mean
        dA_prev = r * (G - h * _mean(G * h, axis=1))  # r (G − h mean(G ⊙ h))
        return Norm(dγ, dβ), dA_prev.reshape(dA.shape)

    def squared_norms(params, residuals, dA):
        _, dA_prev = backward(params, residuals, dA)
        h = residuals.h.reshape(dA.shape)
        return _of_each(dA * h) + _of_each(dA), dA_prev  # ‖dγ_i‖² + ‖dβ_i‖², sums over the places of i

    return Layer(init, forward, backward, f"layer_norm({n})", squared_norms=squared_norms)


def rms_norm(n: int, eps: float = LITTLE) -> Layer:
    """Each row of n on its own divided by the root of the mean of its squares, times γ."""

    def init(key) -> Scale:
        return Scale(jnp.ones((n, 1)))

    def forward(params: Scale, A_prev: Float[Array, "*N n"], key=None):
        _check("rms_norm", n, A_prev)
        (γ,), X = params, rows(A_prev)
        r = 1 / jnp.sqrt(_mean(X * X, axis=1) + eps)  # r = 1/√(mean(A_prev²) + ε)
        A = X * r * γ.T  # A = h ⊙ γᵀ, h = A_prev ⊙ r
        return A.reshape(A_prev.shape), (A_prev, r)

    def backward(params: Scale, residuals: tuple, dA: Float[Array, "*N n"]):
        (γ,), (A_prev, r) = params, residuals
        h = rows(A_prev) * r
        dγ = _summed(rows(dA) * h)  # dγ = Σ dA ⊙ h, over the rows
        G = rows(dA) * γ.T  # G = dA ⊙ γᵀ
        dA_prev = r * (G - h * _mean(G * h, axis=1))  # r (G − h mean(G ⊙ h))
        return Scale(dγ), dA_prev.reshape(dA.shape)

    def squared_norms(params, residuals, dA):
        (A_prev, r), (_, dA_prev) = residuals, backward(params, residuals, dA)
        return _of_each(dA * (rows(A_prev) * r).reshape(dA.shape)), dA_prev

    return Layer(init, forward, backward, f"rms_norm({n})", squared_norms=squared_norms)


def batch_norm(n: int, eps: float = LITTLE) -> Layer:
    """Each of n columns brought to mean 0 and variance 1 over all rows, times γ, plus β.

    In training these are the batch's. In an evaluation they are those that stand in the parameters, where
    `jaxnn.evaluation.with_statistics` puts them. No gradient is of one example alone: all share the mean.

    >>> import jax, jax.numpy as jnp
    >>> from jaxnn.evaluation import with_statistics
    >>> layer, X = batch_norm(1), jnp.array([[1.0], [3.0]])
    >>> params = layer.init(jax.random.key(0))
    >>> print(layer.forward(params, X, jax.random.key(1))[0].ravel().round(3))  # in training
    [-1.  1.]
    >>> params = with_statistics(layer, params, X[None], jax.random.key(1))
    >>> print(params.mean, params.variance)
    [[2.]] [[1.]]
    """

    def init(key) -> BatchNorm:
        one, zero = jnp.ones((n, 1)), jnp.zeros((n, 1))
        return BatchNorm(one, zero, zero, one)

    def forward(params: BatchNorm, A_prev: Float[Array, "*N n"], key=None):
        _check("batch_norm", n, A_prev)
        (γ, β, *known), X = params, rows(A_prev)
        if key is None:
            μ, v = jax.lax.stop_gradient(known)
            D, of_batch = X - μ.T, ()
        else:
            D = _centred(X, axis=0)  # D = A_prev − mean, over the rows
            v = _summed(D * D) / len(D)
            of_batch = _summed(X) / len(X), v
        r = 1 / jnp.sqrt(v.T + eps)  # r = 1/√(mean(D²) + ε)
        h = D * r
        A = h * γ.T + β.T  # A = h ⊙ γᵀ + βᵀ
        return A.reshape(A_prev.shape), Standardised(h, r, *of_batch)

    def backward(params: BatchNorm, residuals: Standardised, dA: Float[Array, "*N n"]):
        γ, (h, r, mean, _), G = params.gamma, residuals, rows(dA)
        in_training = mean is not None
        dβ = _summed(G)  # dβ = Σ dA, over the rows
        if in_training:
            G = _centred(G, axis=0)  # G = dA − mean
        dγ = _summed(G * h)  # dγ = Σ dA ⊙ h, which is Σ G ⊙ h where the sum of h is 0
        if in_training:
            G = G - h * (dγ.T / len(h))  # G − h mean(G ⊙ h), whose mean is dγᵀ / M
        dA_prev = r * γ.T * G  # r γᵀ ⊙ (G − h mean(G ⊙ h))
        return BatchNorm(dγ, dβ, jnp.zeros_like(dβ), jnp.zeros_like(dβ)), dA_prev.reshape(dA.shape)

    return Layer(init, forward, backward, f"batch_norm({n})")


def _mean(A: Float[Array, "M n"], axis: int):
    if axis == 0:
        return jnp.mean(A, axis=0, keepdims=True)
    each = jnp.full((A.shape[1], 1), 1 / A.shape[1], A.dtype)  # a product is quicker than a sum in XLA's CPU
    return jnp.matmul(A, each, precision="highest")


def _centred(A: Float[Array, "M n"], axis: int):
    D = A - _mean(A, axis)
    return D - _mean(D, axis)  # of a rounded mean, what it left


def _summed(A: Float[Array, "M n"]) -> Float[Array, "n 1"]:
    return jnp.sum(A, axis=0, keepdims=True).T


def _of_each(dA: Float[Array, "N *T n"]) -> Float[Array, "N"]:  # ‖Σ_t dA_t‖² of each example
    return jnp.sum(jnp.square(jnp.sum(dA.reshape(len(dA), -1, dA.shape[-1]), axis=1)), axis=1)


def _check(name: str, n: int, A_prev) -> None:
    if A_prev.ndim < 2 or A_prev.shape[-1] != n:
        raise ShapeError(f"{name}: its input is {A_prev.shape}, expected (N, {n})")
