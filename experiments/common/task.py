"""What the programs build alike: data, network, loss, gradient, optimizer. Imports jax."""

import argparse
import math
import textwrap
from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax
import optax
from jax.interpreters.partial_eval import dce_jaxpr

from experiments.common import own, own_data
from experiments.common.arguments import DATASETS, UserError
from experiments.common.status import doing
from jaxnn import activations, datasets, losses
from jaxnn.activations import Activation
from jaxnn.datasets import Dataset
from jaxnn.encoding import inputs, targets
from jaxnn.evaluation import predict, root_mean_square, with_statistics
from jaxnn.layers import Layer, mlp
from jaxnn.layers.norms import BatchNorm
from jaxnn.losses import Loss
from jaxnn.objective import cost, value_and_grad
from jaxnn.runs.record import LAYERS
from jaxnn.shapes import shapes

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
    gradient: Callable  # (params, X, Y, key=None) -> (J, dparams)
    optimizer: optax.GradientTransformation
    keyed: bool = False  # whether in training, with a key, the network does something else


def load(arguments: argparse.Namespace) -> Dataset:
    """The data set asked for."""
    doing(f"reading {getattr(arguments, 'data', None) or arguments.dataset}")
    if hasattr(arguments, "data"):
        own_data.check(arguments)
        if arguments.data:
            return own_data.load(arguments)
    return datasets.load(arguments.dataset, arguments.data_dir, arguments.source_dir)


def settled(arguments: argparse.Namespace, data: Dataset, least: int = 1, **defaults) -> argparse.Namespace:
    """The arguments, with defaults, or else those of the data set, for what is not given.

    A batch size that is not given is `least` at least. Raises UserError if a batch is larger than the data.
    """
    N = len(data.train.images)
    if data.origin:
        arguments, found = own_data.described(arguments, data), own_data.defaults(N, least)
    else:
        found = DEFAULTS[arguments.dataset]
        found = found | {"batch_size": max(found["batch_size"], least)}
    found = {name: value for name, value in (found | defaults).items() if getattr(arguments, name) is None}
    arguments = argparse.Namespace(**vars(arguments) | found)
    if arguments.batch_size > N:
        raise UserError(
            f"--batch-size: got {arguments.batch_size}, expected at most the {N} training {data.what}"
        )
    return arguments


def sizes(data: Dataset, hidden: Iterable[int]) -> tuple[int, ...]:
    """The sizes n[0], n[1], ..., n[L] of a network for this data."""
    n = (math.prod(data.train.images.shape[1:]), *hidden, data.outputs)
    if len(n) > LAYERS + 1:
        raise UserError(f"--hidden: got {len(n) - 2:,} layers, expected at most {LAYERS - 1}")
    return n


def chosen(arguments: argparse.Namespace) -> tuple[Activation, Loss]:
    """The activation of the hidden layers and the loss that are named."""
    g = own.piece("activation", arguments.activation, Activation, activations)
    return g, own.piece("loss", arguments.loss, Loss, losses)


def network(arguments: argparse.Namespace, data: Dataset, g: Activation) -> tuple[tuple[int, ...], Layer]:
    """The network that is asked for, and its sizes; of one's own those of its input and output."""
    if not arguments.network:
        n = sizes(data, arguments.hidden)
        return n, mlp(*n, g=g)
    X, Y = few(data, own.FEW)
    offered = {"n": X.shape[1], "classes": Y.shape[1], "shape": data.train.images.shape[1:]}
    offered |= {"hidden": tuple(arguments.hidden), "g": g}
    net = own.network(arguments, Layer, offered)
    with own.raised_by(arguments.network):
        shapes(net, X)
        params = jax.eval_shape(lambda: net.init(jax.random.key(0)))
        Z, _ = jax.eval_shape(net.forward, params, X)
    if getattr(Z, "shape", None) != Y.shape:
        got = f"gives {getattr(Z, 'shape', type(Z).__name__)} for X {X.shape}"
        raise UserError(f"--network: {arguments.network} {got}, expected {Y.shape}, a column for each class")
    if not jax.tree.leaves(params):
        raise UserError(f"--network: {arguments.network} has no parameters, expected some to train")
    return sizes(data, ()), net


def task_of(arguments: argparse.Namespace, data: Dataset) -> Task:
    """What is trained: the network, loss, gradient and optimizer that are asked for."""
    g, loss = chosen(arguments)
    n, net = network(arguments, data, g)
    by_hand, autodiff = value_and_grad(net, loss), jax.value_and_grad(cost(net, loss))
    gradient = by_hand if arguments.gradient == "manual" else autodiff
    optimizer = getattr(optax, arguments.optimizer)(arguments.learning_rate)
    keyed = bool(arguments.network) and trains_otherwise(net, few(data, own.FEW)[0])
    return Task(data, n, g, net, loss, gradient, optimizer, keyed)


def trains_otherwise(net: Layer, X) -> bool:
    """Whether a forward pass with a key, in training, is another one than without: dropout, batch norm."""
    params, key = jax.eval_shape(lambda: (net.init(jax.random.key(0)), jax.random.key(0)))

    def computed(forward) -> str:
        traced = jax.make_jaxpr(forward)(params, X, key).jaxpr
        return str(dce_jaxpr(traced, [True] * len(traced.outvars))[0])  # without keys that nobody needs

    with_it = computed(lambda params, X, key: net.forward(params, X, key)[0])
    return with_it != computed(lambda params, X, key: net.forward(params, X)[0])


def filled(task: Task, batch_size: int) -> Callable:
    """A function `(params, images, labels) -> params`: each batch norm gets the statistics of the images.

    Where there is none, params are as they were.
    """

    def fill(params, images, labels):
        leaves = jax.tree.leaves(params, is_leaf=lambda node: isinstance(node, BatchNorm))
        if not any(isinstance(leaf, BatchNorm) for leaf in leaves):
            return params
        batches = images[: len(images) // batch_size * batch_size]
        batches = batches.reshape(-1, batch_size, *images.shape[1:])

        def forward(params, images, key):
            return task.net.forward(params, inputs(images, task.data.white), key)

        return with_statistics(task.net._replace(forward=forward), params, batches, jax.random.key(0))

    return fill


def few(data: Dataset, N: int):
    """The shapes of X and Y of N training examples."""
    return jax.eval_shape(lambda *batch: encode(data, *batch), *(array[:N] for array in data.train))


def encode(data: Dataset, images, labels):
    """X and Y."""
    return inputs(images, data.white), targets(labels, data.classes)


def on_images(gradient: Callable, data: Dataset) -> Callable:
    """The gradient as a function `(params, images, labels, *key) -> (J, dparams)`."""
    return lambda params, images, labels, *key: gradient(params, *encode(data, images, labels), *key)


def tested(task: Task, params, images, labels):
    """The cost J on these images, and the class, or the number, that is predicted for each."""
    X, Y = encode(task.data, images, labels)
    J = cost(task.net, task.loss)(params, X, Y)
    return J, predict(task.net, params, X) if task.data.classes else task.net.forward(params, X)[0][:, 0]


def error(data: Dataset, predictions, labels):
    """The root mean squared error of numbers that are predicted, in their own units."""
    return root_mean_square(predictions - labels) * data.unit


def measured(data: Dataset, number: int, *found) -> dict:
    """The metrics of an epoch: its mean cost J, and the cost and the accuracy on the test images.

    In place of the accuracy stands the error, where numbers are predicted.
    """
    names = ("loss", "test_loss", "test_accuracy" if data.classes else "test_error")
    return {"epoch": number} | dict(zip(names, map(float, found), strict=True))


def is_finite(metrics: dict) -> bool:
    """Whether the losses of an epoch are, and its error."""
    return all(math.isfinite(metrics.get(name, 0.0)) for name in ("loss", "test_loss", "test_error"))


def _told(data: Dataset) -> str:
    return f"images {data.train.images.shape}, pixels 0..{data.white}, {data.classes} classes"


def _scaled(data: Dataset) -> str:
    coding = data.origin and data.origin.coding
    if coding and coding.mean:
        return ", each column standardised"
    how = " and inverted" if coding and coding.inverted else ""
    return f", a row each, divided by {coding.white if coding else data.white:g}{how}"


def print_shapes(task: Task, batch_size: int) -> None:
    """Print what the lecture writes on the board: the shape of every array of this network, for a batch."""
    data, loss = task.data, task.loss
    X, Y = few(data, batch_size)
    counts = f"{len(data.train.images)} training and {len(data.test.images)} test {data.what}"
    print(f"data      {data.name}: {counts}")
    for line in own_data.told(data) if data.origin else [_told(data)]:
        print(f"          {line}")
    coded = "one-hot" if data.classes else "standardised"
    print(f"          X {X.shape} is a batch of them{_scaled(data)}")
    said = f"Y {Y.shape} is their labels, {coded}; Ŷ = {loss.activation.name}(Z) of the last layer"
    print(textwrap.fill(said, 80, initial_indent=10 * " ", subsequent_indent=10 * " "))
    own_data.tell_sha256(data)
    _, _, table = str(shapes(task.net, X)).partition("\n\n")
    print(
        textwrap.fill(f"network   {task.net}", 80, subsequent_indent=10 * " "), table, sep="\n\n", end="\n\n"
    )
