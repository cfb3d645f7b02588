"""What the tests hold the code against: exact values from mpmath, and errors counted in ULP."""

import mpmath
import numpy as np

mpmath.mp.dps = 50


def sigmoid(z):
    return 1 / (1 + mpmath.exp(-z))


def sigmoid_slope(z):
    return sigmoid(z) * sigmoid(-z)


def tanh_slope(z):
    return mpmath.sech(z) ** 2


def silu_terms(z):
    return sigmoid(z), z * sigmoid_slope(z)


def gelu_terms(z):
    return mpmath.erfc(-z / mpmath.sqrt(2)) / 2, z * mpmath.npdf(z)


def ulps(values, exact, scale=None) -> np.ndarray:
    """The errors of float32 values, in ULP of `scale` (default: of the exact value).

    Where the exact value is no normal number the error does not count.
    """
    scale = exact if scale is None else scale
    tiny = mpmath.mpf(2) ** -126
    errors = []
    for value, e, s in zip(np.asarray(values).ravel().tolist(), exact, scale, strict=True):
        ulp = mpmath.mpf(2) ** (mpmath.frexp(abs(s))[1] - 24) if s else 1
        errors.append(float(abs(value - e) / ulp) if abs(e) >= tiny else 0.0)
    return np.array(errors)


def points() -> np.ndarray:
    """Values of z in float32 with |z| ≤ 50: a grid, random ones, and those where digits get lost."""
    rng = np.random.default_rng(0)
    edges = [17, 16.635, 43.67, 44.0, 44.36, 12.97, 13.33, 0.67, 0.5, 1e-3, 1e-30, 50]
    near = np.concatenate([np.linspace(0.998 * e, min(1.002 * e, 50), 25) for e in edges])
    z = np.concatenate(
        [
            np.linspace(-50, 50, 1001),
            rng.uniform(-50, 50, 500),
            3 * rng.normal(size=1000),
            near,
            -near,
            # where earlier forms were worst
            [
                0.0,
                -13.327953,
                -12.92,
                -0.75590646,
                1.8140855,
                0.9070427,
                0.516001,
                1.032001,
                -0.7866606,
                -1.1830553,
            ],
        ]
    )
    return z.astype(np.float32)
