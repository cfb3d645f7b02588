import functools

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

from jaxnn import activations
from jaxnn.activations import Activation
from tests import truth

ACTIVATIONS = {name: g for name, g in vars(activations).items() if isinstance(g, Activation)}
Z32 = truth.points()


def slope(g: Activation, Z):
    Z = jnp.asarray(Z)
    return g.backward(jnp.ones_like(Z), Z, g.forward(Z))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_backward_is_the_derivative_times_dA(name, x64):
    g = ACTIVATIONS[name]
    rng = np.random.default_rng(1)
    Z, dA = jnp.asarray(rng.uniform(-4, 4, (2, 37, 5)))
    expected = dA * jax.vmap(jax.vmap(jax.grad(g.forward)))(Z)
    np.testing.assert_allclose(g.backward(dA, Z, g.forward(Z)), expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_at_zero_hand_and_autodiff_agree_exactly(name):
    g = ACTIVATIONS[name]
    for zero in (0.0, -0.0):
        assert slope(g, jnp.array(zero)) == jax.grad(g.forward)(zero)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32, jnp.float64])
def test_the_dtype_stays_and_everything_is_finite(name, dtype, x64):
    g = ACTIVATIONS[name]
    huge = jnp.array([-1, 1], dtype) * jnp.finfo(dtype).max
    Z = jnp.concatenate([jnp.linspace(-50, 50, 41).astype(dtype), huge])
    for values in (g.forward(Z), slope(g, Z)):
        assert values.dtype == dtype
        assert jnp.isfinite(values).all()


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_nan_comes_out_as_nan(name):
    g = ACTIVATIONS[name]
    assert jnp.isnan(g.forward(jnp.array(jnp.nan)))
    assert jnp.isnan(g.backward(jnp.array(jnp.nan), jnp.array(1.0), g.forward(jnp.array(1.0))))


EXACT = {
    "sigmoid": truth.sigmoid_slope,
    "tanh": truth.tanh_slope,
    "softplus": truth.sigmoid,
    "silu": lambda z: sum(truth.silu_terms(z)),
    "gelu": lambda z: sum(truth.gelu_terms(z)),
}
TERMS = {"silu": truth.silu_terms, "gelu": truth.gelu_terms}  # their error is counted in the larger one's ULP


@functools.cache
def exact_and_scale(name):
    z = [mpmath.mpf(float(v)) for v in Z32]
    exact = [EXACT[name](v) for v in z]
    return exact, [max(map(abs, TERMS[name](v))) for v in z] if name in TERMS else None


@pytest.mark.parametrize(
    ("name", "bound"), [("sigmoid", 2), ("tanh", 2), ("softplus", 2), ("silu", 4), ("gelu", 4)]
)
def test_the_slope_keeps_its_digits(name, bound):
    g = ACTIVATIONS[name]
    Z = jnp.asarray(Z32)
    assert truth.ulps(jax.jit(lambda Z: slope(g, Z))(Z), *exact_and_scale(name)).max() <= bound
    assert truth.ulps(slope(g, Z), *exact_and_scale(name)).max() <= bound


STABLE = {
    "sigmoid": jax.nn.sigmoid,
    "tanh": jnp.tanh,
    "softplus": jax.nn.softplus,
    "silu": jax.nn.silu,
    "gelu": lambda z: jax.nn.gelu(z, approximate=False),
}


@pytest.mark.parametrize("name", STABLE)
def test_the_slope_is_no_less_accurate_than_that_of_autodiff(name):
    by_hand = truth.ulps(slope(ACTIVATIONS[name], Z32), *exact_and_scale(name))
    by_autodiff = truth.ulps(jax.vmap(jax.grad(STABLE[name]))(Z32), *exact_and_scale(name))
    assert by_hand.max() <= by_autodiff.max()
    assert by_hand.mean() <= by_autodiff.mean()


def test_forward_is_what_it_says():
    Z = jnp.array([-3.0, -1.0, 0.0, 0.5, 4.0])
    expected = {
        "sigmoid": [1 / (1 + mpmath.exp(-z)) for z in Z.tolist()],
        "tanh": [mpmath.tanh(z) for z in Z.tolist()],
        "relu": [0, 0, 0, 0.5, 4],
        "leaky_relu": [-0.03, -0.01, 0, 0.5, 4],
        "softplus": [mpmath.log(1 + mpmath.exp(z)) for z in Z.tolist()],
        "silu": [z / (1 + mpmath.exp(-z)) for z in Z.tolist()],
        "gelu": [z * mpmath.ncdf(z) for z in Z.tolist()],
        "identity": Z.tolist(),
    }
    assert expected.keys() == ACTIVATIONS.keys()
    for name, g in ACTIVATIONS.items():
        np.testing.assert_allclose(g.forward(Z), np.array(expected[name], float), rtol=1e-6, err_msg=name)
