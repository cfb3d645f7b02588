"""Layers in NumPy, with forward and backward."""

import collections.abc
from importlib import import_module

import numpy as np

from experiments.found.row import MATRIX, Case, Fault, Release, Row, weighted, weights

NUMPY_ML = Release("numpy-ml", "0.1.2", "2020-06")


def numpy_ml(module: str):
    """A module of numpy-ml, which looks for Hashable where Python 3.10 has it no more."""
    vars(import_module("collections"))["Hashable"] = collections.abc.Hashable
    return import_module(f"numpy_ml.neural_nets.{module}.{module}")


def softmax() -> Case:
    """Softmax(dim=0): over the rows of a matrix."""
    import jax

    layers = numpy_ml("layers")

    def backward(x):
        layer = layers.Softmax(dim=0)
        return layer.backward(weights(layer.forward(np.asarray(x)).shape))

    return Case(
        lambda x: weighted(layers.Softmax(dim=0).forward(x)),
        backward,
        lambda x: weighted(jax.nn.softmax(x, axis=0)),
        MATRIX,
    )


def embedding() -> Case:
    """Embedding(pool="sum") of two sentences, one of which says a word twice."""
    layers = numpy_ml("layers")
    ids = np.array([[0, 2, 0], [1, 3, 2]])

    def pooled(W):
        layer = layers.Embedding(n_out=2, vocab_size=4, pool="sum")
        layer.parameters["W"] = np.asarray(W)
        return layer, layer.forward(ids)

    def gradient(W):
        layer, Y = pooled(W)
        layer.backward(weights(Y.shape))
        return layer.gradients["W"]

    W = np.linspace(-1, 1, 8).reshape(4, 2)
    return Case(
        lambda W: weighted(pooled(W)[1]), gradient, lambda W: weighted(W[ids].sum(1, keepdims=True)), W
    )


def critic() -> Case:
    """The loss of a Wasserstein critic, as a function of what it says of the faked."""
    loss = numpy_ml("losses").WGAN_GPLoss(lambda_=10)
    real, slopes = np.array([0.4, -0.1, 0.7]), MATRIX[[0, 1, 0]]
    penalty = 10 * np.mean((np.linalg.norm(slopes, axis=1) - 1) ** 2)
    return Case(
        lambda fake: loss.loss(fake, "C", real, slopes),
        lambda fake: loss.grad(np.asarray(fake), "C", real, slopes)[0],
        lambda fake: fake.mean() - real.mean() + penalty,
        np.array([0.3, -1.2, 0.7]),
    )


ROWS = (
    Row(
        NUMPY_ML,
        "Softmax(dim=0).backward",
        Fault.NUMBERS,
        "the softmax of one row alone, which is 1, stands for that of all",
        softmax,
    ),
    Row(NUMPY_ML, "Embedding(pool=…).backward", Fault.NUMBERS, "a word said twice counts once", embedding),
    Row(
        NUMPY_ML,
        "WGAN_GPLoss.grad",
        Fault.NUMBERS,
        "of the critic, in what it says of both: the opposite sign",
        critic,
    ),
)
