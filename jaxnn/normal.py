"""The standard normal distribution, for gelu: Φ, φ and Φ(Z) + Z φ(Z), to the last digits of float32."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# erfc(x) e^x² = P(x)/Q(x) for 0.46875 ≤ x ≤ 4: W. J. Cody, "Rational Chebyshev approximations for the
# error function", Math. Comp. 23 (1969). All coefficients are positive: nothing cancels.
_P = (
    2.15311535474403846e-8,
    5.64188496988670089e-1,
    8.88314979438837594e0,
    6.61191906371416295e1,
    2.98635138197400131e2,
    8.81952221241769090e2,
    1.71204761263407058e3,
    2.05107837782607147e3,
    1.23033935479799725e3,
)
_Q = (
    1.0,
    1.57449261107098347e1,
    1.17693950891312499e2,
    5.37181101862009858e2,
    1.62138957456669019e3,
    3.29079923573345963e3,
    4.36261909014324716e3,
    3.43936767414372164e3,
    1.23033935480374942e3,
)


def cdf(Z: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The standard normal distribution function Φ(Z).

    >>> import jax.numpy as jnp
    >>> print(cdf(jnp.array([0.0, 1.0])))
    [0.5... 0.84134...]
    """
    return jax.scipy.special.erfc(-math.sqrt(0.5) * Z) / 2


def scaled_pdf(Z: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The standard normal density times 2¹²: 2¹² φ(Z), which is normal wherever Z φ(Z) is.

    The rounding of Z² alone would cost e^(−Z²/2) Z²/2 ULP. Z is split in H + (Z − H) with so few bits in
    H that H² is exact, and the constant factor stands in the exponent for the same reason.

    >>> import jax.numpy as jnp
    >>> print(scaled_pdf(jnp.array(0.0)) / 2**12)
    0.39894...
    """
    log = 12 * math.log(2) - math.log(2 * math.pi) / 2  # of 2¹² / √2π
    coarse = round(log * 1024) / 1024
    Z = jnp.clip(Z, -50, 50)  # φ is 0 from there on
    H = jnp.round(64 * Z) / 64
    return jnp.exp(coarse - H * H / 2) * (1 + jnp.expm1((log - coarse) - (Z - H) * (Z + H) / 2))


def _Z_plus_mills_ratio(Z):
    # Z + M(x), M(x) = (1 − Φ(x)) / φ(x) = √(π/2) erfc(s) e^s², s = x/√2, for x = −Z ≥ 0.67
    x = jnp.maximum(-Z, 0.67)
    P = Q = R = 0.0
    M_0 = math.sqrt(math.pi / 2) * _P[-1] / _Q[-1]
    coarse = round(M_0 * 1024) / 1024
    for k, (p, q) in enumerate(zip(_P, _Q, strict=True)):
        scale = 2 ** ((k - 8) / 2) / _Q[-1]  # powers of x in place of s, and no overflow in float16
        p, q = math.sqrt(math.pi / 2) * p * scale, q * scale
        P, Q, R = P * x + p, Q * x + q, R * x + (M_0 * q - p)
    near = (Z + coarse) + ((M_0 - coarse) - R / Q)  # M = P/Q = M(0) − R/Q: Z + M cancels near −0.75
    M = 0.0
    terms = 6 if jnp.finfo(x.dtype).bits <= 32 else 14  # from 5.6 on right to 0.01 ULP of float32
    for k in range(terms, 0, -1):  # Laplace's continued fraction
        M = k / (x + M)
    return jnp.where(x < 1.2, near, Z + jnp.where(x < 5.6, P / Q, 1 / (x + M)))


def cdf_plus_Z_pdf(Z: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Φ(Z) + Z φ(Z), the derivative of Z Φ(Z), in float32 within 4 ULP of its larger term.

    Left of −0.67 it is φ(Z) (Z + M(−Z)) with Mills' ratio M: there erfc has lost digits, and Φ is
    flushed to zero before Z φ(Z) is.

    >>> import jax.numpy as jnp
    >>> print(cdf_plus_Z_pdf(jnp.array([-13.0, 0.0, 1.0])))
    [-1.03373...e-36  5.00000...e-01  1.08331...e+00]
    """
    phi = scaled_pdf(Z)
    left = phi * _Z_plus_mills_ratio(Z)
    return jnp.where(Z < -0.67, left / 2**12, cdf(Z) + Z * phi / 2**12)
