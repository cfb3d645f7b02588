"""Layers one after the other."""

import itertools
from typing import NamedTuple

import jax

from jaxnn.activations import Activation
from jaxnn.layers.dense import dense
from jaxnn.layers.layer import Layer, ShapeError, apart, own, parts_norms


def serial(*layers: Layer) -> Layer:
    """Layers one after the other: a network, which is itself a layer. Its params are a list.

    Each layer has a key of its own: that of the network with the layer's number, from 0, folded in. What a
    layer can make again is not kept by the next one, and is made again on the way back.

    >>> import jax, jax.numpy as jnp
    >>> from jaxnn.activations import sigmoid
    >>> from jaxnn.layers import dense, serial
    >>> net = serial(dense(3, 5, sigmoid), dense(5, 2))
    >>> params = net.init(jax.random.key(0))
    >>> [layer.W.shape for layer in params]
    [(5, 3), (2, 5)]
    """

    def init(key):
        keys = jax.random.split(key, len(layers))
        return [layer.init(k) for layer, k in zip(layers, keys, strict=True)]

    def forward(params, A, key=None):
        if len(params) != len(layers):
            raise ShapeError(f"params: got those of {len(params)} layers, expected {len(layers)}")
        residuals = []
        for l, (layer, p) in enumerate(zip(layers, params, strict=True)):
            A_prev = A
            try:
                A, r = layer.forward(p, A_prev, own(key, l))
            except ShapeError as error:
                raise ShapeError(f"layer {l + 1}: {error}") from None
            residuals.append(_without(r, A_prev) if l and layers[l - 1].again else r)
        return A, residuals

    def backward(params, residuals, dA):
        return down([layer.backward for layer in layers], params, residuals, dA)

    def squared_norms(params, residuals, dA):
        found, dA_prev = down([layer.squared_norms for layer in layers], params, residuals, dA)
        return sum(found), dA_prev

    def down(backwards, params, residuals, dA):
        found = []
        for l in reversed(range(len(layers))):
            r = residuals[l]
            if layers[l].again:
                r, dA = apart(r, dA, dA.size)
            if l and (again := layers[l - 1].again):
                size = jax.eval_shape(again, params[l - 1], residuals[l - 1]).size
                kept, dA = apart(residuals[l - 1], dA, size)  # not those that its backward will read
                r = _with(r, again(params[l - 1], kept))
            x, dA = backwards[l](params[l], r, dA)
            found.append(x)
        return found[::-1], dA

    name, takes = f"serial: {_listed(layers)}", layers[0].takes if layers else None
    norms = parts_norms(layers, squared_norms)
    return Layer(init, forward, backward, name, takes, layers, squared_norms=norms)


class Again(NamedTuple):
    """Stands in the residuals of a layer for its input, which the layer before can make again."""


def _without(residuals, A_prev):
    return jax.tree.map(lambda leaf: Again() if leaf is A_prev else leaf, residuals)


def _with(residuals, A_prev):
    def is_again(node):
        return isinstance(node, Again)

    return jax.tree.map(lambda leaf: A_prev if is_again(leaf) else leaf, residuals, is_leaf=is_again)


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
