"""What statistical models minimise, and their derivatives of it."""

from collections.abc import Callable
from importlib import import_module

import numpy as np

from experiments.found.row import Case, Fault, Release, Row, weighted, weights

SCIKIT_LEARN = Release("scikit-learn", "1.9.1", "2026-09")
STATSMODELS = Release("statsmodels", "0.15.0", "2026-08")


def of_elements(function: Callable, derivative: Callable, plain: Callable, at) -> Case:
    """A function of single numbers that comes with its derivative."""
    at = np.asarray(at)

    def gradient(x):
        return weights(at.shape) * derivative(np.asarray(x))

    return Case(lambda x: weighted(function(x)), gradient, lambda x: weighted(plain(x)), at)


def frank() -> Case:
    """The generator of the Frank copula, θ = 2.3."""
    import jax.numpy as jnp

    copula = import_module("statsmodels.distributions.copula.transforms").TransfFrank()
    return of_elements(
        lambda t: copula.evaluate(t, 2.3),
        lambda t: copula.deriv(t, 2.3),
        lambda t: -jnp.log(jnp.expm1(-2.3 * t) / jnp.expm1(-2.3)),
        [0.2, 0.5, 0.8],
    )


def gumbel() -> Case:
    """The derivative of the generator of the Gumbel copula, θ = 1.7; its own derivative is deriv2."""
    import jax.numpy as jnp

    copula = import_module("statsmodels.distributions.copula.transforms").TransfGumbel()
    return of_elements(
        lambda t: copula.deriv(t, 1.7),
        lambda t: copula.deriv2(t, 1.7),
        lambda t: -1.7 * (-jnp.log(t)) ** 0.7 / t,
        [0.2, 0.5, 0.8],
    )


def counts() -> tuple[np.ndarray, np.ndarray]:
    """Twelve counts and what they depend on."""
    X = np.stack([np.ones(12), np.linspace(-1, 1, 12)], axis=1)
    return np.array([0, 1, 0, 2, 1, 0, 3, 1, 2, 0, 4, 2]), X


def truncated() -> Case:
    """The log-likelihood of counts above zero, generalised Poisson with p = 2."""
    import jax.numpy as jnp
    from jax.scipy.special import gammaln

    y, X = counts()
    y = y + 1
    kind = import_module("statsmodels.discrete.truncated_model").TruncatedLFGeneralizedPoisson
    model = kind(y, X, truncation=0, p=2)

    def log_p(y, mean, alpha):
        a = 1 + alpha * mean
        b = mean + alpha * mean * y
        return jnp.log(mean) + (y - 1) * jnp.log(b) - y * jnp.log(a) - gammaln(y + 1) - b / a

    def plain(q):
        mean, alpha = jnp.exp(X @ q[:2]), q[2]
        return jnp.sum(log_p(y, mean, alpha) - jnp.log1p(-jnp.exp(log_p(0, mean, alpha))))

    return Case(model.loglike, lambda q: model.score(np.asarray(q)), plain, np.array([0.4, 0.25, 0.3]))


def zero_inflated() -> Case:
    """⟨weights, score⟩ of a zero-inflated Poisson model, whose gradient is the Hessian times the weights."""
    import jax
    import jax.numpy as jnp
    from jax.scipy.special import gammaln

    y, X = counts()
    kind = import_module("statsmodels.discrete.count_model").ZeroInflatedPoisson
    model = kind(y, X, exog_infl=X, inflation="logit")

    def likelihood(q):
        zero, mean = jax.nn.sigmoid(X @ q[:2]), jnp.exp(X @ q[2:])
        counted = (1 - zero) * jnp.exp(y * jnp.log(mean) - mean - gammaln(y + 1))
        return jnp.sum(jnp.log(jnp.where(y == 0, zero + counted, counted)))

    return Case(
        lambda q: weighted(model.score(q)),
        lambda q: model.hessian(np.asarray(q)) @ weights((4,)),
        lambda q: weighted(jax.grad(likelihood)(q)),
        np.array([-0.4, 0.3, 0.4, 0.25]),
    )


def neighbours() -> Case:
    """What t-SNE minimises, of four points in the plane, with two degrees of freedom."""
    import jax.numpy as jnp

    divergence = import_module("sklearn.manifold._t_sne")._kl_divergence
    P = np.arange(1.0, 7.0) / 42  # of the six pairs, each counted once: they add up to ½
    first, second = np.triu_indices(4, 1)

    def both(x):
        return divergence(np.asarray(x), P, 2, 4, 2)

    def plain(x):
        Y = jnp.reshape(x, (4, 2))
        near = (1 + jnp.sum((Y[first] - Y[second]) ** 2, 1) / 2) ** -1.5
        return 2 * jnp.sum(P * (jnp.log(P) - jnp.log(near / (2 * jnp.sum(near)))))

    at = np.array([0.3, -1.2, 0.7, 0.1, 0.4, 0.9, -0.5, 0.2])
    return Case(lambda x: both(x)[0], lambda x: both(x)[1], plain, at)


ROWS = (
    Row(
        SCIKIT_LEARN,
        "TSNE._kl_divergence(degrees_of_freedom=2)",
        Fault.NUMBERS,
        "as in TSNE(n_components=3): the power of the kernel is that of one degree",
        neighbours,
    ),
    Row(STATSMODELS, "TransfFrank.deriv", Fault.NUMBERS, "the opposite sign", frank),
    Row(
        STATSMODELS,
        "TransfGumbel.deriv2",
        Fault.NAN,
        "NaN: it takes a power of log t, which is negative",
        gumbel,
    ),
    Row(
        STATSMODELS,
        "TruncatedLFGeneralizedPoisson(p=2).score",
        Fault.NUMBERS,
        "what is cut off is taken for p = 1",
        truncated,
    ),
    Row(
        STATSMODELS,
        "ZeroInflatedPoisson.hessian",
        Fault.NUMBERS,
        "the score's derivative: 0 between inflation and mean",
        zero_inflated,
    ),
)
