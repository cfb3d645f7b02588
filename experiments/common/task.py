"""What the programs build alike: data, network, loss, gradient, optimizer. Imports jax."""

import argparse
import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax
import optax

from experiments.common.arguments import DATASETS, UserError
from jaxnn import activations, datasets, losses
from jaxnn.activations import Activation
from jaxnn.datasets import Dataset
from jaxnn.encoding import flatten, one_hot
from jaxnn.evaluation import predict
from jaxnn.layers import Layer
from jaxnn.losses import Loss
from jaxnn.objective import cost
from jaxnn.runs.record import LAYERS

DEFAULTS = {name: {"batch_size": 100, "epochs": 30} for name in DATASETS} | {
    "digits": {"batch_size": 8, "epochs": 60}
}


class Task(NamedTuple):
    """The network n[0]-n[1]-...-n[L], what it learns, and how."""

    data: Dataset
    n: tuple[int, ...]
    g: Activation  # of the hidden layers
    net: Layer
    loss: Loss
    gradient: Callable  # (params, X, Y) -> (J, dparams)
    optimizer: optax.GradientTransformation


def load(arguments: argparse.Namespace) -> Dataset:
    """The data set asked for."""
    return datasets.load(arguments.dataset, arguments.data_dir, arguments.source_dir)


def settled(arguments: argparse.Namespace, data: Dataset, **defaults) -> argparse.Namespace:
    """The arguments, with defaults, or else those of the data set, for what is not given.

    Raises UserError if a batch is larger than the data.
    """
    found = DEFAULTS[arguments.dataset] | defaults
    found = {name: value for name, value in found.items() if getattr(arguments, name) is None}
    arguments = argparse.Namespace(**vars(arguments) | found)
    if arguments.batch_size > (N := len(data.train.images)):
        raise UserError(f"--batch-size: got {arguments.batch_size}, expected at most the {N} training images")
    return arguments


def sizes(data: Dataset, hidden: Iterable[int]) -> tuple[int, ...]:
    """The sizes n[0], n[1], ..., n[L] of a network for this data."""
    n = (data.train.images[0].size, *hidden, data.classes)
    if len(n) > LAYERS + 1:
        raise UserError(f"--hidden: got {len(n) - 2:,} layers, expected at most {LAYERS - 1}")
    return n


def chosen(arguments: argparse.Namespace) -> tuple[Activation, Loss]:
    """The activation of the hidden layers and the loss that are named."""
    return getattr(activations, arguments.activation), getattr(losses, arguments.loss)


def encode(data: Dataset, images, labels):
    """X and Y."""
    return flatten(images, data.white), one_hot(labels, data.classes)


def on_images(gradient: Callable, data: Dataset) -> Callable:
    """The gradient as a function `(params, images, labels) -> (J, dparams)`."""
    return lambda params, images, labels: gradient(params, *encode(data, images, labels))


def tested(task: Task, params, images, labels):
    """The cost J on these images, and the class that is predicted for each."""
    X, Y = encode(task.data, images, labels)
    return cost(task.net, task.loss)(params, X, Y), predict(task.net, params, X)


def measured(number: int, *found) -> dict:
    """The metrics of an epoch: its mean cost J, and the cost and the accuracy on the test images."""
    names = ("loss", "test_loss", "test_accuracy")
    return {"epoch": number} | dict(zip(names, map(float, found), strict=True))


def is_finite(metrics: dict) -> bool:
    """Whether the losses of an epoch are."""
    return math.isfinite(metrics["loss"]) and math.isfinite(metrics["test_loss"])


def print_shapes(task: Task, activation: str) -> None:
    """Print what the lecture writes on the board: the shape of every array of this network."""
    data, n, _, net, loss, *_ = task
    X, Y = jax.eval_shape(lambda *train: encode(data, *train), *data.train)
    params = jax.eval_shape(net.init, jax.random.key(0))
    Z, _ = jax.eval_shape(net.forward, params, X)
    layers = [(*p, *2 * (jax.ShapeDtypeStruct((len(X), len(p.b)), X.dtype),)) for p in params]
    layers[-1] = (*params[-1], Z, jax.eval_shape(loss.activation.forward, Z))

    print(f"data      {data.name}: {len(data.train.images)} training and {len(data.test.images)} test images")
    print(f"          images {data.train.images.shape}, pixels 0..{data.white}, {data.classes} classes")
    print(f"network   {'-'.join(map(str, n))}, {sum(p.size for p in jax.tree.leaves(params)):,} parameters")
    print()
    print(f"     X    {X.shape!s:14} the images, a row each, divided by {data.white}")
    print(f"     Y    {Y.shape!s:14} the labels, one-hot")
    print("     l    W[l]          b[l]       Z[l]           A[l]")
    for l, arrays in enumerate(layers, start=1):
        W, b, Z, A = (str(array.shape) for array in arrays)
        note = activation if l < len(layers) else "Ŷ"
        print(f"     {l:<4} {W:13} {b:10} {Z:14} {A:14} {note}")
    print()
