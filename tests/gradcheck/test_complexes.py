"""Bounds of complex numbers hold wherever the inputs may be, and losses through them are judged."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxnn.gradcheck import compare_gradients
from jaxnn.gradcheck.bounds.bounded import Bounded
from jaxnn.gradcheck.bounds.interpreter import OF_COMPLEX, interpret
from jaxnn.gradcheck.bounds.moves import MOVES, WHOLE
from jaxnn.gradcheck.jaxprs.equations import opened, primitives

RNG = np.random.default_rng(3)
ERROR = 1e-6
A, B = (RNG.normal(size=(3, 4)) + 1j * RNG.normal(size=(3, 4)) for _ in range(2))

FUNCTIONS = {
    "real": lambda a, b: jnp.real(a),
    "imag": lambda a, b: jnp.imag(a),
    "conj": lambda a, b: jnp.conj(a),
    "neg": lambda a, b: -a,
    "abs": lambda a, b: jnp.abs(a),
    "complex": lambda a, b: lax.complex(jnp.real(a), jnp.real(b)),
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "exp": lambda a, b: jnp.exp(a),
    "integer_pow": lambda a, b: a**3 + b**-2,
    "square": lambda a, b: jnp.square(a),
    "reduce_sum": lambda a, b: jnp.sum(a, 0),
    "dot_general": lambda a, b: a @ b.T,
    "select_n": lambda a, b: jnp.where(np.eye(3, 4, dtype=bool), a, b),
    "convert_element_type": lambda a, b: a + jnp.real(b),
    "fft": lambda a, b: jnp.fft.fft2(a) + jnp.fft.ifft(b),
    "scatter-add": lambda a, b: jnp.asarray(a).at[np.array([0, 0, 2])].add(b),
    "fft, half": lambda a, b: jnp.fft.irfft(jnp.fft.rfft(jnp.real(a))[:, :3] * b[:, :3]),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_comes_out_stays_within_its_bound(name):
    function = FUNCTIONS[name]
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        jaxpr, consts = opened(jax.make_jaxpr(function)(A, B))
        assert name.split(",")[0] in primitives(jaxpr)
        given = [Bounded(x, np.full(x.shape, ERROR), True) for x in (A, B)]
        (out,), notes = interpret(jaxpr, consts, given, [True, True])
        assert not notes
        np.testing.assert_allclose(out.value, function(A, B), rtol=1e-13)
        turns = 0.99 * np.exp(2j * np.pi * RNG.random((20, 2, *A.shape)))
        reach = np.max([np.abs(function(A + ERROR * u, B + ERROR * v) - out.value) for u, v in turns], axis=0)
    assert np.all(reach <= out.error)
    assert np.all(out.error <= 20 * ERROR * (1 + np.abs(out.value)) + 20 * np.max(reach))


def test_every_rule_is_looked_at():
    alike = {"add_any", "eq", "ne", *MOVES, *WHOLE}
    assert {name for rules in OF_COMPLEX for name in rules} <= {*alike, *FUNCTIONS}


def test_a_real_parameter_among_complex_numbers_is_judged():
    """A filter fitted by its spectrum, and complex64 data: neither is at a kink, nor read in float32."""
    poles = jnp.asarray(A[0], jnp.complex64)

    def loss(h, poles):
        return jnp.sum((jnp.abs(jnp.fft.rfft(h, 6)) ** 2 - 1) ** 2) + jnp.real(jnp.sum(h * poles)) ** 2

    def gradient(h, poles):
        turned = np.exp(-2j * np.pi * np.outer(np.arange(4), np.arange(4)) / 6)
        spectrum = turned @ h
        fitted = 4 * jnp.real(((jnp.abs(spectrum) ** 2 - 1) * jnp.conj(spectrum)) @ turned)
        return fitted + 2 * jnp.real(jnp.sum(h * poles)) * jnp.real(poles)

    h = jnp.array([0.7, -0.3, 0.2, 0.5])
    with jax.numpy_dtype_promotion("standard"):
        report = compare_gradients(loss, gradient, h, poles)
        assert report.correct is True
        assert not report.notes
        assert compare_gradients(loss, lambda *a: 1.0001 * gradient(*a), h, poles).correct is False
