"""A finished run, read again: what it is about, its data, its network. Imports jax."""

import argparse
from typing import Any, NamedTuple

import jax

from experiments.common import own, own_data
from experiments.common.arguments import UserError
from experiments.common.status import doing
from experiments.common.task import network, sizes
from jaxnn import datasets
from jaxnn.datasets import Dataset
from jaxnn.layers import Layer, mlp
from jaxnn.losses import Loss
from jaxnn.runs import record


class Saved(NamedTuple):
    """Of a run: its settings, and the network with the parameters of its last or best epoch."""

    settings: dict
    data: Dataset
    net: Layer
    loss: Loss
    params: Any  # of the lecture's network a list of Dense
    score: float  # accuracy, or error, on the test images, as training reported it
    labelled: bool  # whether the test images have labels: other data may have none


def load(arguments: argparse.Namespace) -> Saved:
    """The run in run_dir, at its best epoch if `best` is set.

    Raises RunError or UserError if it is not what a training leaves, or does not fit its data.
    """
    doing(f"reading {arguments.run_dir}")
    settings = record.load_settings(arguments.run_dir)
    if "characters" in settings:
        write = f"python -m experiments.gpt --sample {arguments.run_dir}"
        raise UserError(f"{arguments.run_dir}: this network writes, and reads no images: {write}")
    own.unchanged(settings, arguments.run_dir)
    name = "best.safetensors" if arguments.best else "params.safetensors"
    lecture = not settings.get("network")
    params = record.load_params(arguments.run_dir / name, settings["n"]) if lecture else None
    curve = [*map(record.merit, record.load_metrics(arguments.run_dir, settings))]
    labelled = True
    if getattr(arguments, "data", None):
        data, labelled = own_data.other(arguments.run_dir, settings, arguments.data)
        fits(arguments, settings, data)
    else:
        data = data_of(arguments, settings)
    loss, net = own.loss_of(settings), network_of(settings, data)
    if not lecture:
        template = jax.eval_shape(lambda: net.init(jax.random.key(0)))
        params = record.load_like(arguments.run_dir / name, template)
    doing("computing")
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


def network_of(settings: dict, data: Dataset) -> Layer:
    """The network of a run. Raises UserError if its file gives another one."""
    g = own.activation_of(settings)
    if not settings.get("network"):
        return mlp(*settings["n"], g=g)
    hidden = settings.get("hidden")
    if not (isinstance(hidden, list) and all(type(n_l) is int for n_l in hidden)):
        raise UserError(f"hidden: got {str(hidden)[:40]!r}, expected the sizes of layers")
    asked = {"network": settings["network"], "hidden": hidden, "given": set()}
    return network(argparse.Namespace(**asked), data, g)[1]
