"""A finished run, read again: what it is about, its data, its network. Imports jax."""

import argparse
from typing import NamedTuple

from experiments.common import own_data
from experiments.common.arguments import UserError
from experiments.common.task import sizes
from jaxnn import activations, datasets, losses
from jaxnn.datasets import Dataset
from jaxnn.layers import Dense, Layer, mlp
from jaxnn.losses import Loss
from jaxnn.runs import record


class Saved(NamedTuple):
    """Of a run: its settings, and the network with the parameters of its last or best epoch."""

    settings: dict
    data: Dataset
    net: Layer
    loss: Loss
    params: list[Dense]
    score: float  # accuracy, or error, on the test images, as training reported it
    labelled: bool  # whether the test images have labels: other data may have none


def load(arguments: argparse.Namespace) -> Saved:
    """The run in run_dir, at its best epoch if `best` is set.

    Raises RunError or UserError if it is not what a training leaves, or does not fit its data.
    """
    settings = record.load_settings(arguments.run_dir)
    name = "best.safetensors" if arguments.best else "params.safetensors"
    params = record.load_params(arguments.run_dir / name, settings["n"])
    curve = [*map(record.merit, record.load_metrics(arguments.run_dir))]
    labelled = True
    if getattr(arguments, "data", None):
        data, labelled = own_data.other(arguments.run_dir, settings, arguments.data)
        fits(arguments, settings, data)
    else:
        data = data_of(arguments, settings)
    loss = loss_of(settings)
    net = mlp(*settings["n"], g=getattr(activations, settings["activation"]))
    score = abs(max(curve) if arguments.best else curve[-1])
    return Saved(settings, data, net, loss, params, score, labelled)


def data_of(arguments: argparse.Namespace, settings: dict) -> Dataset:
    """The data set of a run. Raises UserError if its network does not fit it."""
    if settings["dataset"] is None:
        data = own_data.of_run(arguments.run_dir, settings)
    else:
        data = datasets.load(settings["dataset"], arguments.data_dir, arguments.source_dir)
    return fits(arguments, settings, data)


def fits(arguments: argparse.Namespace, settings: dict, data: Dataset) -> Dataset:
    """The data themselves. Raises UserError if the network of the run does not fit them."""
    n, (n_x, classes) = settings["n"], sizes(data, ())
    if (n[0], n[-1]) != (n_x, classes):
        expected = f"expected {n_x} inputs and {classes} outputs for {data.name}"
        raise UserError(f"{arguments.run_dir}: got a network {str(n)[:80]}, {expected}")
    return data


def loss_of(settings: dict) -> Loss:
    """The loss of a run. Raises UserError if its settings name none."""
    loss = getattr(losses, str(settings.get("loss")), None)
    if not isinstance(loss, Loss):
        raise UserError(f"loss: got {str(settings.get('loss'))[:40]!r}, expected one of jaxnn.losses")
    return loss
