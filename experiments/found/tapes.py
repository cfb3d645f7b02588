"""Libraries that differentiate NumPy by a tape."""

from collections.abc import Callable
from importlib import import_module

import numpy as np

from experiments.found.row import MATRIX, SQUARE, Case, Fault, Release, Row, weighted

AUTOGRAD = Release("autograd", "1.9.1", "2026-07")
MYGRAD = Release("mygrad", "2.5.0", "2026-10")


def by_autograd(function: Callable, plain: Callable, at) -> Case:
    """A function of autograd, differentiated by autograd."""
    grad = import_module("autograd").grad
    at = np.asarray(at)

    def loss(x):
        return weighted(function(x))

    return Case(loss, lambda x: grad(loss)(np.asarray(x)), lambda x: weighted(plain(x)), at)


def of_autograd(name: str, *args, at, **options) -> Case:
    """A function that autograd.numpy and jax.numpy have alike."""
    import jax.numpy as jnp

    function = getattr(import_module("autograd.numpy"), name)
    return by_autograd(
        lambda x: function(x, *args, **options), lambda x: getattr(jnp, name)(x, *args, **options), at
    )


def power_spectrum() -> Case:
    """|rfft(x, n=4)|² of six numbers: two are cut off."""
    import jax.numpy as jnp

    anp = import_module("autograd.numpy")
    return by_autograd(
        lambda x: anp.abs(anp.fft.rfft(x, n=4)) ** 2,
        lambda x: jnp.abs(jnp.fft.rfft(x, n=4)) ** 2,
        [0.3, -1.2, 0.7, 2.1, 0.4, 0.9],
    )


def triangular() -> Case:
    """A⁻¹b with ones for the diagonal of A, whatever stands there."""
    import jax.numpy as jnp

    solve = import_module("autograd.scipy.linalg").solve_triangular
    b = np.array([1.0, -0.5, 2.0])

    def plain(A):
        return jnp.linalg.solve(jnp.tril(A, -1) + jnp.eye(3), b)

    return by_autograd(lambda A: solve(A, b, lower=True, unit_diagonal=True), plain, SQUARE)


def bessel() -> Case:
    """I_ν(1.3) as a function of its order ν; the plain form adds up its power series."""
    import jax.numpy as jnp
    from jax.scipy.special import gammaln

    iv, k = import_module("autograd.scipy.special").iv, np.arange(30.0)

    def plain(v):
        v = v[:, None]
        return jnp.sum(jnp.exp((2 * k + v) * np.log(1.3 / 2) - gammaln(k + 1) - gammaln(k + v + 1)), 1)

    return by_autograd(lambda v: iv(v, np.array([1.3, 1.3])), plain, [0.5, 1.7])


def chi_squared() -> Case:
    """log p(x) with 2.5 degrees of freedom."""
    from jax.scipy.stats import chi2

    logpdf = import_module("autograd.scipy.stats.chi2").logpdf
    return by_autograd(lambda x: logpdf(x, 2.5), lambda x: chi2.logpdf(x, 2.5), [0.3, 1.2, 4.0])


def largest() -> Case:
    """The largest |x|."""
    import jax.numpy as jnp

    norm = import_module("autograd.numpy").linalg.norm
    return by_autograd(lambda x: norm(x, ord=np.inf), lambda x: jnp.max(jnp.abs(x)), [0.3, -1.2, 0.7])


def mygrad_norm() -> Case:
    """The norm of every row, one of which is zero: ‖x‖ has the subgradient 0 there, as it is asked for."""
    import jax.numpy as jnp

    mg = import_module("mygrad")

    def loss(x):
        return weighted(mg.linalg.norm(x, axis=1, nan_to_num=True))

    def gradient(x):
        x = mg.tensor(np.asarray(x))
        loss(x).backward()
        return x.grad

    def plain(x):
        squares = jnp.sum(x**2, axis=1)
        return weighted(jnp.where(squares > 0, jnp.sqrt(jnp.where(squares > 0, squares, 1.0)), 0.0))

    return Case(lambda x: loss(x).item(), gradient, plain, MATRIX * [[0], [1]])


ROWS = (
    Row(
        AUTOGRAD,
        "numpy.prod",
        Fault.NAN,
        "NaN if a factor is 0: the product is divided by it",
        lambda: of_autograd("prod", at=[0.0, 1.5, 2.0]),
    ),
    Row(
        AUTOGRAD,
        "numpy.repeat(axis=-1)",
        Fault.NUMBERS,
        "the copies are laid out as those of another axis",
        lambda: of_autograd("repeat", 2, axis=-1, at=MATRIX),
    ),
    Row(AUTOGRAD, "numpy.linalg.norm(ord=inf)", Fault.NAN, "NaN: the formula of a finite order", largest),
    Row(AUTOGRAD, "numpy.sinc", Fault.NAN, "NaN at 0", lambda: of_autograd("sinc", at=[0.0, 0.3])),
    Row(
        AUTOGRAD,
        "numpy.tile(x, 2)",
        Fault.NUMBERS,
        "of a matrix: the copies of the wrong axis are summed",
        lambda: of_autograd("tile", 2, at=MATRIX[:, :2]),
    ),
    Row(
        AUTOGRAD,
        "numpy.diag",
        Fault.SHAPE,
        "of a matrix that is not square: a square gradient",
        lambda: of_autograd("diag", at=MATRIX),
    ),
    Row(
        AUTOGRAD,
        "numpy.fft.rfft(x, n=4)",
        Fault.NUMBERS,
        "n, given by its name, is not heeded",
        power_spectrum,
    ),
    Row(
        AUTOGRAD,
        "scipy.linalg.solve_triangular(unit_diagonal=True)",
        Fault.NUMBERS,
        "the option is not heeded",
        triangular,
    ),
    Row(AUTOGRAD, "scipy.special.iv", Fault.NUMBERS, "0 in the order", bessel),
    Row(
        AUTOGRAD,
        "scipy.stats.chi2.logpdf",
        Fault.NUMBERS,
        "0 unless the degrees of freedom are whole",
        chi_squared,
    ),
    Row(MYGRAD, "linalg.norm(nan_to_num=True)", Fault.NAN, "NaN for a row of zeros", mygrad_norm),
)
