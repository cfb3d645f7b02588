"""What a network says of itself."""

import jax.numpy as jnp
import pytest

from jaxnn import activations
from jaxnn.activations import Activation, relu, sigmoid
from jaxnn.layers import Layer, dense, mlp, serial

MLP = mlp(784, 17, 10, g=sigmoid)
UNNAMED = Layer(
    lambda key: (), lambda params, A, key=None: (A, ()), lambda params, residuals, dA: (params, dA)
)


@pytest.mark.parametrize(
    ("net", "said"),
    [
        (dense(3, 5), "dense(3→5)"),
        (dense(3, 5, relu), "dense(3→5, relu)"),
        (dense(3, 5, Activation(jnp.sin, lambda dA, Z, A: dA * jnp.cos(Z))), "dense(3→5, g)"),
        (MLP, "784-17-10: dense(784→17, sigmoid), dense(17→10)"),
        (serial(dense(3, 5, relu), UNNAMED), "serial: dense(3→5, relu), layer"),
        (serial(MLP, dense(10, 2)), f"serial: ({MLP}), dense(10→2)"),
        (serial(), "serial: nothing"),
    ],
    ids=str,
)
def test_a_network_is_printed_as_what_it_is(net, said):
    assert str(net) == repr(net) == f"{net}" == said


def test_a_network_knows_the_layers_it_is_made_of_and_what_it_takes():
    hidden, last = MLP.layers
    assert (MLP.takes, hidden.takes, last.takes) == ((784,), (784,), (17,))
    assert [str(layer) for layer in serial(MLP, UNNAMED).layers] == [str(MLP), "layer"]
    assert serial(UNNAMED, MLP).takes is None
    assert serial().takes is None


@pytest.mark.parametrize("name", [n for n, g in vars(activations).items() if isinstance(g, Activation)])
def test_each_activation_goes_by_the_name_it_has_in_the_module(name):
    assert getattr(activations, name).name == name
