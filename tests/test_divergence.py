"""Where the numbers of a training stop being finite."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnn.activations import tanh
from jaxnn.layers import mlp
from jaxnn.losses import cross_entropy
from jaxnn.objective import value_and_grad
from jaxnn.runs import divergence
from jaxnn.training import State, start, step


def counted(number) -> State:
    return State(jnp.float32(number), ())


@pytest.mark.parametrize(
    ("limit", "pieces", "expected"),
    [
        (9, [(2, 2, [1, 1]), (5, 5, [1, 1, 1])], None),
        (4, [(2, 2, [1, 1]), (3, 3, [1]), (6, jnp.inf, [1, 1, jnp.nan])], (4, "b")),
        (0, [(2, 2, [jnp.nan, 1]), (3, jnp.nan, [1])], (0, "b")),
        (9, [(3, 3, [1, 1, 1]), (6, 6, [1, jnp.inf, jnp.nan])], (4, "J")),  # only in the program itself
    ],
)
def test_the_first_array_that_is_not_finite_is_named(limit, pieces, expected):
    def show(state, X, Y):
        """State k is that before step k, in which b is not finite from `limit` on, and c never is finite."""
        k = state.params
        b = jnp.where(k >= limit, jnp.inf, X)
        return counted(k + 1), [("a", k), ("b", b), ("c", b - Y)]

    pieces = [(end, counted(after), jnp.array(J, jnp.float32)) for end, after, J in pieces]
    found = divergence.origin(counted(0), 0, pieces, lambda k: (jnp.float32(k), jnp.float32(1)), show)
    assert found == expected


def test_a_step_shows_what_it_computes_in_order():
    net, optimizer = mlp(3, 5, 2, g=tanh), optax.sgd(0.1, momentum=0.9)
    gradient = value_and_grad(net, cross_entropy)
    state = start(net.init(jax.random.key(0)), optimizer)
    X, Y = jnp.ones((4, 3)), jnp.eye(2)[jnp.array([0, 1, 1, 0])]
    after, arrays = divergence.computed(net, gradient, optimizer)(state, X, Y)
    expected, J = step(gradient, optimizer)(state, X, Y)
    Z2, (first, _) = net.forward(state.params, X)
    _, (dfirst, dsecond) = gradient(state.params, X, Y)
    named = [
        ("Z[1]", first.Z), ("Z[2]", Z2), ("J", J),
        ("dW[2]", dsecond.W), ("db[2]", dsecond.b), ("dW[1]", dfirst.W), ("db[1]", dfirst.b),
        ("W[1] in the optimizer's 0.trace", dfirst.W), ("b[1] in the optimizer's 0.trace", dfirst.b),
        ("W[2] in the optimizer's 0.trace", dsecond.W), ("b[2] in the optimizer's 0.trace", dsecond.b),
        *((f"{name}[{l}]", getattr(new, name)) for l, new in enumerate(expected.params, 1) for name in "Wb"),
    ]  # fmt: skip
    assert [name for name, _ in arrays] == [name for name, _ in named]
    for (_, found), (_, array) in zip(arrays, named, strict=True):
        np.testing.assert_allclose(found, array, rtol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, after, expected)
