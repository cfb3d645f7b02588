import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import get_opaque_trace_state

from jaxnn.activations import sigmoid
from jaxnn.gradcheck import BadCall, compare_gradients
from jaxnn.gradcheck.jaxprs.eager import op_by_op
from jaxnn.layers import mlp
from jaxnn.losses import binary_cross_entropy
from jaxnn.objective import value_and_grad

SPECIAL = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 1e-38, 1e-40, -1e-45, 3.4e38, 0.5, 2.5, 1e-30]
OF_TWO = {
    "sums": lambda x, y: x + y - 3 * x,
    "quotients": lambda x, y: x / y,
    "by a power of two": lambda x, y: x / 8 - y / 0.5,
    "by a number": lambda x, y: x / 7 - y / 0.1,
    "by a row": lambda x, y: x / y[:1],
    "by sums": lambda x, y: x / jnp.sum(y, axis=-1, keepdims=True),
    "extremes": lambda x, y: jnp.maximum(x, y) - jnp.minimum(y, 0),
    "comparisons": lambda x, y: (x < y) | ~(x >= 0) & (x == y),
    "choices": lambda x, y: jnp.where(x > y, x, jnp.where(y > 0, 0, -y)),
    "weak types": lambda x, y: jnp.where(x > y, 2.0, 3.0) * x.astype(jnp.bfloat16),
    "half precision": lambda x, y: (x.astype(jnp.float16) * y.astype(jnp.float16)).astype(x.dtype),
    "moves": lambda x, y: jnp.concatenate([x.T[::-1], y.T[:, :2]], axis=1).reshape(-1)[3:],
    "roots and powers": lambda x, y: jnp.sqrt(jnp.abs(x)) + y**2 - jnp.square(x) * y**3,
    "sigmoids": lambda x, y: jax.nn.sigmoid(x) * jnp.tanh(y) + jnp.exp(-jnp.abs(x)),
    "a compiled part": lambda x, y: jax.jit(lambda x, y: x * y + x / 7)(x, y) - y,
    "a derivative": lambda x, y: jax.grad(lambda x: jnp.sum(jnp.where(x > 0, x * x, x * y / 3)))(x),
    "a custom derivative": lambda x, y: jax.nn.relu(x) + jax.vmap(jax.nn.softplus)(y),
    "a product and a sum": jax.jit(lambda x, y: x * y + y),
    "a quotient by a number": jax.jit(lambda x, y: x / 7),
    "by a part of it": jax.jit(lambda x, y: x / x[:1]),
    "by a part of it, turned": jax.jit(lambda x, y: jnp.swapaxes(x, 0, 1) / jnp.swapaxes(x, 0, 1)[:1]),
    "a loop": lambda x, y: jax.lax.scan(lambda c, r: (c * 0.5 + r, c - r), x[0], y)[1],
    "integers": lambda x, y: jnp.arange(7)[::-1] // 2 * 3 - jnp.arange(1, 8) + x.shape[1],
    "truth values": lambda x, y: jax.nn.one_hot(jnp.argmax(x, axis=1), 3) * 2 - jnp.eye(x.shape[0], 3),
}


def points(dtype):
    rng = np.random.default_rng(0)
    for scale in (1.0, 10.0 ** rng.integers(-30, 30, (2, 5, 3))):
        yield jnp.asarray(rng.standard_normal((2, 5, 3)) * scale, dtype)
    yield jnp.asarray(rng.choice(SPECIAL, (2, 5, 3)), dtype)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        *((name, "float32") for name in OF_TWO),
        *((name, ("bfloat16", "float64")[k % 2]) for k, name in enumerate(OF_TWO)),
    ],
)
def test_the_same_to_the_last_bit_as_eager_jax(name, dtype):
    function = OF_TWO[name]
    with jax.enable_x64(dtype == "float64"):
        for x, y in points(dtype):
            expected = function(x, y)
            with op_by_op():
                got = function(x, y)
            assert (got.dtype, got.shape, got.weak_type) == (
                expected.dtype,
                expected.shape,
                expected.weak_type,
            )
            got, expected = np.asarray(got), np.asarray(expected)
            unknown = np.isnan(expected)
            np.testing.assert_array_equal(np.isnan(got), unknown)
            assert got[~unknown].tobytes() == expected[~unknown].tobytes()


def test_the_function_sees_arrays_it_may_look_into():
    def halved(x):
        while float(jnp.max(x)) > 1:
            x = x / 2
        assert not isinstance(x, jax.core.Tracer)
        return np.asarray(x) * 3

    with op_by_op():
        np.testing.assert_array_equal(halved(jnp.array([3.0, 5.0])), [1.125, 1.875])


@pytest.mark.filterwarnings("ignore:Explicitly requested dtype float64")
def test_float64_from_elsewhere_stays_what_it_is():
    with jax.enable_x64(True):
        z = jnp.array([1 / 3])
    expected = -z, z * z
    with op_by_op():
        got = -z, z * z
    assert [x.dtype for x in got] == [x.dtype for x in expected]
    np.testing.assert_array_equal(got, expected)


def test_a_function_without_outputs_and_one_that_eats_its_argument():
    with op_by_op():
        assert jax.jit(lambda x: None)(jnp.ones(3)) is None
        x = jnp.ones(3)
        jax.jit(lambda x: -x, donate_argnums=0)(x)
    assert x.is_deleted()


def test_few_programs_are_compiled(caplog):
    net = mlp(11, 7, 3, g=sigmoid)
    gradient = value_and_grad(net, binary_cross_entropy)
    params = net.init(jax.random.key(0))
    X, Y = jnp.ones((13, 11)), jnp.ones((13, 3))

    def compiled(within):
        caplog.clear()
        with within, jax.log_compiles(), caplog.at_level(logging.WARNING):
            J, dparams = gradient(params, X, Y)
        return J, dparams, sum("Finished XLA compilation" in m for m in caplog.messages)

    J, dparams, few = compiled(op_by_op())
    expected_J, expected, many = compiled(jax.disable_jit(False))
    assert few < many
    assert few < 40
    assert expected_J == J
    jax.tree.map(np.testing.assert_array_equal, dparams, expected)


def test_a_gradient_that_sets_a_mesh_is_called_as_ever():
    mesh = jax.make_mesh((1,), ("i",))

    def gradient(w):
        with jax.set_mesh(mesh):
            return 2 * w

    assert compare_gradients(lambda w: jnp.sum(w**2), gradient, jnp.array([1.5, -2.0])).correct is True


def test_what_raises_is_called_once_more_with_what_it_was_given():
    def gradient(w):
        w *= -2  # in place
        if w[0] < 0:
            raise ValueError("negative")
        return -w

    with pytest.raises(BadCall, match="negative"):
        compare_gradients(lambda w: jnp.sum(w**2), gradient, np.array([1.5, 2.0]))


def test_a_library_that_asks_for_the_outermost_trace_is_called_as_ever():
    outermost = get_opaque_trace_state(convention="flax")

    def gradient(w):
        if get_opaque_trace_state(convention="flax") != outermost and not isinstance(w, jax.core.Tracer):
            raise RuntimeError("another trace")
        return 2 * w

    assert compare_gradients(lambda w: jnp.sum(w**2), gradient, jnp.array([1.5, -2.0])).correct is True
