"""Layers one after the other."""

import itertools

import jax

from jaxnn.activations import Activation
from jaxnn.layers.dense import dense
from jaxnn.layers.layer import Layer, ShapeError


def serial(*layers: Layer) -> Layer:
    """Layers one after the other: a network, which is itself a layer. Its params are a list.

    >>> import jax, jax.numpy as jnp
    >>> from jaxnn.activations import sigmoid
    >>> from jaxnn.layers import dense, serial
    >>> net = serial(dense(3, 5, sigmoid), dense(5, 2))
    >>> params = net.init(jax.random.key(0))
    >>> [layer.W.shape for layer in params]
    [(5, 3), (2, 5)]
    >>> print(net)
    serial: dense(3→5, sigmoid), dense(5→2)
    """

    def init(key):
        keys = jax.random.split(key, len(layers))
        return [layer.init(k) for layer, k in zip(layers, keys, strict=True)]

    def forward(params, A):
        if len(params) != len(layers):
            raise ShapeError(f"params: got those of {len(params)} layers, expected {len(layers)}")
        residuals = []
        for layer, p in zip(layers, params, strict=True):
            try:
                A, r = layer.forward(p, A)
            except ShapeError as error:
                raise ShapeError(f"layer {len(residuals) + 1}: {error}") from None
            residuals.append(r)
        return A, residuals

    def backward(params, residuals, dA):
        dparams = []
        for layer, p, r in reversed(list(zip(layers, params, residuals, strict=True))):
            dp, dA = layer.backward(p, r, dA)
            dparams.append(dp)
        return dparams[::-1], dA

    takes = layers[0].takes if layers else None
    name = f"serial: {_listed(layers)}"
    return Layer(init, forward, backward, name=name, takes=takes, layers=layers)


def mlp(*n: int, g: Activation) -> Layer:
    """The lecture's fully connected network n[0]-n[1]-...-n[L], up to Z[L]: `mlp(784, 17, 10, g=sigmoid)`.

    Layers 1 to L−1 have the activation g. The last one is left at Z[L]: the output activation belongs to
    the loss. Raises ValueError unless n are two or more whole numbers of at least 1.

    >>> import jax, jax.numpy as jnp
    >>> from jaxnn.activations import sigmoid
    >>> net = mlp(784, 17, 10, g=sigmoid)
    >>> params = net.init(jax.random.key(0))
    >>> sum(p.size for p in jax.tree.leaves(params))
    13525
    >>> Z, _ = net.forward(params, jnp.zeros((6, 784)))
    >>> Z.shape
    (6, 10)
    """
    if len(n) < 2 or not all(isinstance(n_l, int) and n_l >= 1 for n_l in n):
        raise ValueError(f"mlp: got sizes {n}, expected those of the input and each layer, 1 or more")
    *hidden, last = itertools.pairwise(n)
    net = serial(*(dense(n_prev, n_l, g) for n_prev, n_l in hidden), dense(*last))
    return net._replace(name=f"{'-'.join(map(str, n))}: {_listed(net.layers)}")


def _listed(layers: tuple[Layer, ...]) -> str:
    """Their names in a row; one that is itself made of layers stands in parentheses."""
    return ", ".join(f"({layer.name})" if layer.layers else layer.name for layer in layers) or "nothing"
