"""Losses, each with its hand-written backward right below it.

A loss works on Z[L], the input of the output activation, which it names: Ŷ = activation(Z[L]). Cost and
gradient then keep their digits where Ŷ is 0 or 1 in floating point. The mean over the N examples stands
here, once: J = 1/N Σ ..., dZ[L] = dJ/dZ[L]. Every other backward is an exact vector-Jacobian product.

In float32, for |Z| ≤ 50 and labels of 0 and 1, N dZ of binary cross-entropy is within 2 ULP of the truth.
That of softmax with cross-entropy over 10 classes is within 4. Measured on CPU, wherever the exact value
is a normal number.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxnn.activations import Activation, both_logistic, identity, log_1_plus_exp, sigmoid


class Loss(NamedTuple):
    """A loss on Z[L]: `forward(Z, Y) -> J` and `backward(Z, Y) -> dZ`, Z and Y of shape (N, n_L).

    `activation` is the output activation that belongs to it: Ŷ = activation.forward(Z). Y may be one-hot
    or soft targets.

    >>> import jax.numpy as jnp
    >>> Z, Y = jnp.array([[0.0, 0.0]]), jnp.array([[0.0, 1.0]])
    >>> binary_cross_entropy.forward(Z, Y)  # 2 log 2
    Array(1.3862944, dtype=float32)
    >>> binary_cross_entropy.backward(Z, Y)  # Ŷ − Y
    Array([[ 0.5, -0.5]], dtype=float32)
    """

    activation: Activation
    forward: Callable
    backward: Callable


def _binary_cross_entropy(Z: Float[Array, "N n"], Y: Float[Array, "N n"]) -> Float[Array, ""]:
    # J = −1/N Σ [Y log Ŷ + (1 − Y) log(1 − Ŷ)], where −log Ŷ = log(1 + e⁻ᶻ), −log(1 − Ŷ) = log(1 + eᶻ)
    return jnp.sum(Y * log_1_plus_exp(-Z) + (1 - Y) * log_1_plus_exp(Z)) / len(Z)


def _binary_cross_entropy_backward(Z, Y):
    # dZ = 1/N (Ŷ − Y), written as (1 − Y) σ(Z) − Y σ(−Z): Ŷ − Y cancels where Ŷ ≈ Y
    Y_hat, rest = both_logistic(Z)
    return ((1 - Y) * Y_hat - Y * rest) / len(Z)


def _softmax(Z):
    return jax.nn.softmax(Z)  # A = eᶻ / Σ eᶻ


def _softmax_backward(dA, Z, A):
    # dZ = A ⊙ (d − Σ A ⊙ d), d = dA − dA at the largest A, so that what all dA have in common cancels first
    d = dA - jnp.take_along_axis(dA, jnp.argmax(A, axis=-1, keepdims=True), axis=-1)
    return A * (d - jnp.sum(A * d, axis=-1, keepdims=True))


def _cross_entropy(Z: Float[Array, "N n"], Y: Float[Array, "N n"]) -> Float[Array, ""]:
    # J = −1/N Σ Y log Ŷ
    return -jnp.sum(Y * jax.nn.log_softmax(Z)) / len(Z)


def exponentials(
    Z: Float[Array, "N n"],
) -> tuple[Float[Array, "N n"], Float[Array, "N n"], Float[Array, "N 1"]]:
    """e = e^(Z − m), the sum of the others Σe − e, and Σe, to the last digits, all times one factor a row.

    m is the row's largest Z. The rounding of Z − m is made good, and sums are taken of coarse parts, which
    are exact, and of fine ones. Far below the largest, all are taken times e^shift: their sum may be a normal
    number where they are not.

    >>> import jax.numpy as jnp
    >>> e, others, e_sum = exponentials(jnp.array([[0.0, 0.0, -jnp.inf]]))
    >>> print(e / e_sum, others / e_sum)
    [[0.5 0.5 0. ]] [[0.5 0.5 1. ]]
    """
    m = jnp.max(Z, axis=-1, keepdims=True)
    d = Z - m
    r = (jnp.round(Z) - jnp.round(m) - d) + ((Z - jnp.round(Z)) - (m - jnp.round(m)))  # what d was rounded by
    r = jnp.where(jnp.isfinite(r), r, 0)
    top = jnp.argmax(Z, axis=-1, keepdims=True) == jnp.arange(Z.shape[-1])[None]
    shift = math.log(float(jnp.finfo(Z.dtype).max)) // 2
    far = jnp.max(jnp.where(top, -jnp.inf, d), axis=-1, keepdims=True) < -shift
    largest, e = jnp.where(far, math.exp(shift), 1), jnp.exp(d + jnp.where(far, shift, 0))
    e = jnp.where(e > math.exp(-shift), e + e * r, e * (1 + r))  # the first rounds less, but may underflow
    e = jnp.where(top, 0, e)
    coarse = jnp.round(e * 2**12) / 2**12
    fine = e - coarse
    coarse_sum, fine_sum = (jnp.sum(part, axis=-1, keepdims=True) for part in (coarse, fine))
    others = (jnp.where(top, 0, largest) + (coarse_sum - coarse)) + (fine_sum - fine)
    return jnp.where(top, largest, e), others, (largest + coarse_sum) + fine_sum


def _cross_entropy_backward(Z, Y):
    # dZ = 1/N (Ŷ ΣY − Y), written as Ŷ ⊙ (ΣY − Y) − Y ⊙ (Σe − e)/Σe, Ŷ = e/Σe: with one-hot Y nothing cancels
    e, others, e_sum = exponentials(Z)
    Y_others = jnp.sum(Y, axis=-1, keepdims=True) - Y
    return (e * Y_others - Y * others) / e_sum / len(Z)


def _squared_error(Z: Float[Array, "N n"], Y: Float[Array, "N n"]) -> Float[Array, ""]:
    return jnp.sum(jnp.square(Z - Y)) / 2 / len(Z)  # J = 1/N Σ ½ (Ŷ − Y)²


def _squared_error_backward(Z, Y):
    return (Z - Y) / len(Z)  # dZ = 1/N (Ŷ − Y)


binary_cross_entropy = Loss(sigmoid, _binary_cross_entropy, _binary_cross_entropy_backward)
cross_entropy = Loss(
    Activation(_softmax, _softmax_backward, name="softmax"), _cross_entropy, _cross_entropy_backward
)
squared_error = Loss(identity, _squared_error, _squared_error_backward)
