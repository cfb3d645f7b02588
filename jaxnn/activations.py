"""Activation functions g, each with its hand-written backward right below it.

Forward: `A = g(Z)`. Backward: `dZ = dA ⊙ g′(Z)`. All are elementwise, of any shape.

The slopes are written so that they keep their digits where the slide's form loses them. For example the
slide's σ′ = A(1 − A) is 0 in float32 from Z = 17 on, where the truth is 4e-8. In float32, for
|Z| ≤ 50 and wherever the exact value is a normal number, g′ of sigmoid, tanh and softplus is within
2 ULP of the truth, and g′ of silu and gelu is within 4 ULP of the larger of its two terms. That was
measured on CPU, compiled and op by op.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxnn import normal


class Activation(NamedTuple):
    """An activation function g: `forward(Z) -> A` and `backward(dA, Z, A) -> dZ`.

    >>> import jax.numpy as jnp
    >>> Z = jnp.array([[-1.0, 0.0, 2.0]])
    >>> relu.forward(Z)
    Array([[0., 0., 2.]], dtype=float32)
    >>> relu.backward(jnp.ones((1, 3)), Z, relu.forward(Z))
    Array([[0., 0., 1.]], dtype=float32)
    """

    forward: Callable
    backward: Callable
    reads: str = (
        "ZA"  # which of Z and A its backward reads: a layer keeps no other, and hands None in its place
    )
    name: str = "g"  # for the reader alone: nothing branches on it


def logistic(Z: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The logistic function σ(Z) = 1 / (1 + e⁻ᶻ), within 2 ULP on both sides.

    >>> import jax.numpy as jnp
    >>> print(logistic(jnp.array([-50.0, 0.0])))
    [1.92874...e-22 5.0000000e-01]
    """
    return both_logistic(Z)[0]


def both_logistic(Z: Float[Array, "*shape"]) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """σ(Z) and σ(−Z) = 1 − σ(Z), by one exponential.

    The smaller one, e/(1 + e), is written as e − e·e/(1 + e): the small correction rounds less.
    """
    e = jnp.exp(jnp.where(Z < 0, Z, -Z))  # e^−|Z|, never overflows
    smaller, larger = e - e * (e / (1 + e)), 1 / (1 + e)
    return jnp.where(Z < 0, smaller, larger), jnp.where(Z < 0, larger, smaller)


def log_1_plus_exp(Z: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """log(1 + eᶻ) = max(Z, 0) + log(1 + e^−|Z|), which never overflows.

    Both terms bend at 0, and autodiff sees the slope of the same side in both.

    >>> import jax.numpy as jnp
    >>> print(log_1_plus_exp(jnp.array([-50.0, 0.0, 200.0])))
    [1.92874...e-22 6.93147...e-01 2.00000...e+02]
    """
    return jnp.where(Z < 0, 0, Z) + jnp.log1p(jnp.exp(jnp.where(Z < 0, Z, -Z)))


def sech_squared(Z: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """sech²(Z) = 1/cosh²(Z) = 4e / (1 + e)², e = e^−2|Z|, within 2 ULP.

    Near zero it is 1 − tanh²; further out it is 4e less a small correction. Far out 4e is computed
    as 4e⁻⁵·e^(5−2|Z|), because there e itself would be flushed to zero one step before 4e is.

    >>> import jax.numpy as jnp
    >>> print(sech_squared(jnp.array([0.0, -44.0])))
    [1.00000...e+00 2.42184...e-38]
    """
    far = jnp.abs(Z) > 40
    e4 = jnp.where(far, 4 * math.exp(-5), 4.0) * jnp.exp(jnp.where(far, 5.0, 0.0) - 2 * jnp.abs(Z))
    e = e4 / 4
    tanh = (1 - e) / (1 + e)
    q = jnp.maximum(2 * e + e * e, jnp.finfo(e.dtype).eps ** 2)  # (1 + e)² − 1
    return jnp.where(jnp.abs(Z) < 0.5, 1 - tanh * tanh, e4 - e4 / (1 + 1 / q))  # 1/(1 + 1/q) rounds least


def _sigmoid_backward(dA, Z, A):
    return dA * (sech_squared(Z / 2) / 4)  # dZ = dA ⊙ σ′(Z), σ′ = A(1 − A) = ¼ sech²(Z/2)


def _tanh_backward(dA, Z, A):
    return dA * sech_squared(Z)  # dZ = dA ⊙ tanh′(Z), tanh′ = 1 − A² = sech²(Z)


def _relu(Z):
    return jnp.where(Z <= 0, 0, Z)  # A = max(0, Z); a NaN stays a NaN


def _relu_backward(dA, Z, A):
    return jnp.where(A <= 0, 0, dA)  # dZ = dA where A > 0, which is where Z > 0; 0 at the kink


LEAK = 0.01


def _leaky_relu(Z):
    return jnp.where(Z <= 0, LEAK * Z, Z)  # A = Z where Z > 0, else 0.01 Z


def _leaky_relu_backward(dA, Z, A):
    return jnp.where(A <= 0, LEAK * dA, dA)  # dZ = dA where A > 0, which is where Z > 0; else 0.01 dA


def _softplus(Z):
    return log_1_plus_exp(Z)  # A = log(1 + eᶻ)


def _softplus_backward(dA, Z, A):
    return dA * logistic(Z)  # dZ = dA ⊙ σ(Z)


def _silu(Z):
    return Z * logistic(Z)  # A = Z σ(Z)


def _silu_backward(dA, Z, A):
    return dA * (logistic(Z) + Z * sech_squared(Z / 2) / 4)  # dZ = dA ⊙ (σ(Z) + Z σ′(Z))


def _gelu(Z):
    return Z * normal.cdf(Z)  # A = Z Φ(Z)


def _gelu_backward(dA, Z, A):
    return dA * normal.cdf_plus_Z_pdf(Z)  # dZ = dA ⊙ (Φ(Z) + Z φ(Z))


def _identity(Z):
    return Z  # A = Z


def _identity_backward(dA, Z, A):
    return dA  # dZ = dA


sigmoid = Activation(logistic, _sigmoid_backward, reads="Z", name="sigmoid")
tanh = Activation(jnp.tanh, _tanh_backward, reads="Z", name="tanh")
relu = Activation(_relu, _relu_backward, reads="A", name="relu")
leaky_relu = Activation(_leaky_relu, _leaky_relu_backward, reads="A", name="leaky_relu")
softplus = Activation(_softplus, _softplus_backward, reads="Z", name="softplus")
silu = Activation(_silu, _silu_backward, reads="Z", name="silu")
gelu = Activation(_gelu, _gelu_backward, reads="Z", name="gelu")
identity = Activation(_identity, _identity_backward, reads="Z", name="identity")
