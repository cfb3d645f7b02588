"""The table of a network's shapes, of layers that it has never heard of."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import pytest

from jaxnn.activations import relu, sigmoid
from jaxnn.layers import Dense, Layer, ShapeError, average_pool, dense, max_pool, mlp, serial
from jaxnn.shapes import WIDTH, shapes


def stretch(n: int) -> Layer:
    """A layer with parameters in a dict and residuals of its own: A = γ ⊙ A_prev where A_prev > 0."""

    def forward(params, A_prev, key=None):
        seen, half = A_prev > 0, A_prev / 2
        A = jnp.where(seen, params["gamma"] * A_prev, 0)
        return A, {"seen": seen, "half": half, "A_prev": A_prev}

    def backward(params, kept, dA):
        dA = jnp.where(kept["seen"], dA, 0)
        return {"gamma": jnp.sum(dA * kept["A_prev"], 0, keepdims=True)}, dA * params["gamma"]

    return Layer(lambda key: {"gamma": jnp.ones((1, n))}, forward, backward, f"stretch({n})")


class Kept(NamedTuple):
    A_prev: Any
    Z: Any
    A: Any


def line(n_prev: int, n: int, g: str = "") -> Layer:
    """A dense layer, whose g is relu or nothing, that keeps all there is."""

    def forward(params, A_prev, key=None):
        Z = A_prev @ params.W.T + params.b.T
        A = jnp.maximum(Z, 0) if g else Z
        return A, Kept(A_prev, Z, A)

    def backward(params, kept, dA):
        dZ = jnp.where(kept.Z > 0, dA, 0) if g else dA
        return Dense(dZ.T @ kept.A_prev, jnp.sum(dZ.T, 1, keepdims=True)), dZ @ params.W

    return Layer(dense(n_prev, n).init, forward, backward, f"line({n_prev}→{n}{g})", (n_prev,))


HANDED_ON = Layer(
    lambda key: (), lambda params, A, key=None: (A, ()), lambda params, kept, dA: (params, dA), "pass"
)
BARE = Layer(
    lambda key: jnp.ones((1, 2)),
    lambda p, A, key=None: (A * p, A),
    lambda p, A, dA: (jnp.sum(A * dA, 0, keepdims=True), dA * p),
)
NET = serial(serial(line(3, 5, ", relu"), stretch(5)), HANDED_ON, line(5, 2), BARE)


def test_each_layer_s_arrays_stand_over_their_gradients():
    assert str(shapes(NET, 7)).splitlines() == [
        "serial: (serial: line(3→5, relu), stretch(5)), pass, line(5→2), layer",
        "",
        "       X (7, 3)",
        "",
        " 1.1  line(3→5, relu)                              20 parameters, 280 bytes kept",
        "         W (5, 3)   b (5, 1)   Z (7, 5)   A (7, 5)",
        "        dW (5, 3)  db (5, 1)  dZ (7, 5)  dA (7, 5)",
        "",
        " 1.2  stretch(5)                                    5 parameters, 175 bytes kept",
        "         gamma (1, 5)   half (7, 5)  seen (7, 5)   A (7, 5)",
        "        dgamma (1, 5)  dhalf (7, 5)               dA (7, 5)",
        "",
        " 2    pass                                            0 parameters, 0 bytes kept",
        "         A (7, 5)",
        "        dA (7, 5)",
        "",
        " 3    line(5→2)                                    12 parameters, 196 bytes kept",
        "         W (2, 5)   b (2, 1)    Z = A (7, 2)",
        "        dW (2, 5)  db (2, 1)  dZ = dA (7, 2)",
        "",
        " 4    layer                                           2 parameters, 0 bytes kept",
        "         params (1, 2)   A (7, 2)",
        "        dparams (1, 2)  dA (7, 2)",
        "",
        "39 parameters of 156 bytes, and as many for their gradients; forward keeps 651",
        "bytes for backward, beside X of 84 bytes",
    ]


@pytest.mark.parametrize("net", [NET, mlp(3, 11, 7, 2, g=sigmoid), dense(3, 2)], ids=str)
def test_the_counts_are_those_of_arrays_that_are_there(net):
    X = jnp.linspace(-1, 1, 21).reshape(7, 3)
    params = net.init(jax.random.key(0))
    _, residuals = net.forward(params, X)
    kept = {id(leaf): leaf.nbytes for leaf in jax.tree.leaves(residuals) if leaf is not X}
    found = shapes(net, X)
    assert found.parameters == sum(leaf.size for leaf in jax.tree.leaves(params))
    assert found.bytes == sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    assert found.kept == sum(kept.values())
    assert found == shapes(net, 7)


def test_a_notebook_shows_the_same_with_nothing_taken_for_a_tag():
    shown = shapes(dense(3, 2)._replace(name="<script>"), 7)._repr_html_()
    assert "<script>" not in shown
    assert "<td>&lt;script&gt;</td><td>W (2, 3)<br>b (2, 1)<br>Z = A (7, 2)</td><td>dW (2, 3)<br>" in shown


def test_no_line_is_wider_than_a_terminal():
    deep = {f"a{k}": {"long name of a parameter " * 3: 1.0} for k in range(9)}
    wide = dense(3, 2)._replace(
        init=lambda key: jax.tree.map(jnp.asarray, deep),
        forward=lambda params, A, key=None: (A, {"x" * k: A * 2 for k in range(1, 120)}),
        backward=lambda params, kept, dA: (params, dA),
    )
    lines = str(shapes(serial(wide, *[mlp(3, 3, g=relu)] * 40), 7)).splitlines()
    assert max(map(len, lines)) <= WIDTH


def transposed(params, kept, dA):
    dparams, dA_prev = dense(3, 2).backward(params, kept, dA)
    return dparams._replace(W=dparams.W.T), dA_prev


def test_a_backward_that_gives_other_shapes_is_told():
    net = serial(dense(5, 3), dense(3, 2)._replace(backward=transposed))
    with pytest.raises(ShapeError, match=r"layer 2: .* gradient of W of \(3, 2\), expected \(2, 3\)"):
        shapes(net, 7)
    net = serial(dense(5, 3), dense(3, 2)._replace(backward=lambda params, kept, dA: (params, dA)))
    with pytest.raises(ShapeError, match=r"layer 2: .* gradient of A_prev of \(7, 2\), expected \(7, 3\)"):
        shapes(net, 7)


def test_an_input_that_does_not_fit_is_told():
    with pytest.raises(ShapeError, match=r"layer 2\.1: W is \(5, 3\), its input has 4 columns, expected 3"):
        shapes(serial(HANDED_ON, mlp(3, 5, 2, g=relu)), jax.ShapeDtypeStruct((7, 4), jnp.float32))
    with pytest.raises(ValueError, match=r"N: got 7 alone, expected X, .*: serial: stretch\(5\)"):
        shapes(serial(stretch(5)), 7)
    with pytest.raises(ValueError, match="N: got 0, expected 1 or more"):
        shapes(NET, 0)


def test_residuals_without_a_name_or_an_entry_are_counted_and_not_shown():
    lines = str(
        shapes(serial(max_pool(2), average_pool(1)), jax.ShapeDtypeStruct((3, 4, 6, 2), jnp.float32))
    ).splitlines()
    assert lines[4:8] == [
        " 1    max_pool(2×2)                                  0 parameters, 36 bytes kept",
        "         A (3, 2, 3, 2)",
        "        dA (3, 2, 3, 2)",
        "",
    ]
    assert lines[9] == "         A (3, 2, 3, 2)"
