"""Products of matrices whose rounding is bounded: the high parts multiply without any."""

import numpy as np

from jaxnn.gradcheck.bounds.bounded import TINY, UNIT


def split(x, size, axis: int, bits: int):
    """x = high + low exactly, high with so many bits beside the largest entry along the axis; size: |x|.

    Also the largest that an entry of low can be. Source: S. M. Rump, T. Ogita, S. Oishi, Accurate
    floating-point summation, SIAM J. Sci. Comput. 31 (2008), section 3.
    """
    top = np.max(size, axis=axis, keepdims=True, initial=0.0)
    _, exponent = np.frexp(top)
    shift = np.ldexp(1.5, exponent + (53 - bits))
    high = (x + shift) - shift
    return high, x - high, np.where(top == 0, 0.0, np.ldexp(1.0, exponent - bits))


def ordinary(*sizes) -> bool:
    """Far from overflow and underflow, so that splitting is exact."""
    tops = [np.max(x, initial=0.0) for x in sizes]
    return all(t == 0 or 1e-120 < t < 1e120 for t in tops)


def multiplied(a, b, size_a, size_b):
    """a @ b and a bound on the rounding: the high parts multiply without any. The sizes: |a|, |b|."""
    terms = a.shape[-1]
    if terms <= 1 or not ordinary(size_a, size_b):
        value = a @ b
        return value, (terms + 1) * (UNIT * (size_a @ size_b) + TINY)
    bits = (55 - (terms - 1).bit_length()) // 2
    high_a, low_a, left_a = split(a, size_a, -1, bits)
    high_b, low_b, left_b = split(b, size_b, -2, bits)
    value = high_a @ high_b + (high_a @ low_b + low_a @ b)
    remainder = size_a.sum(-1, keepdims=True) * left_b
    remainder = remainder + left_a * size_b.sum(-2, keepdims=True)
    return value, 2 * UNIT * np.abs(value) + (terms + 4) * UNIT * remainder
