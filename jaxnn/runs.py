"""A run on disk: the folder that a training leaves behind and that a prediction reads.

settings.json        what was asked for, and the versions it ran on
metrics.jsonl        a line an epoch
params.safetensors   W[1], b[1], W[2], ...
"""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from jaxnn import activations, datasets
from jaxnn.activations import Activation
from jaxnn.layers import Dense


class RunError(ValueError):
    """A run that cannot be written or read: one line that says what, where, got and expected."""


def create(folder: Path, settings: dict) -> None:
    """Make the folder of a new run and write its settings.

    Raises RunError if the folder exists and is not empty, or cannot be made.
    """
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise RunError(f"--out: {folder} exists and is not empty; expected a new folder")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "settings.json").write_text(json.dumps(settings, indent=2) + "\n", "utf-8")
    except OSError as error:
        raise RunError(f"--out: {folder} cannot be written ({error.strerror})") from error


def append_metrics(folder: Path, metrics: dict) -> None:
    """Add one epoch's metrics."""
    with (folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(metrics) + "\n")


def save_params(folder: Path, params: list[Dense]) -> None:
    """Write the parameters, under the lecture's names."""
    arrays = {}
    for l, (W, b) in enumerate(params, start=1):
        arrays |= {f"W[{l}]": np.asarray(W), f"b[{l}]": np.asarray(b)}
    save_file(arrays, folder / "params.safetensors")


def load_settings(folder: Path) -> dict:
    """The settings of a run, of which `dataset`, `n` and `activation` are known to be good.

    Raises RunError if they are missing or make no network.
    """
    path = folder / "settings.json"
    try:
        settings = json.loads(path.read_text("utf-8"))
        dataset, n, activation = (settings[key] for key in ("dataset", "n", "activation"))
    except FileNotFoundError as error:
        raise RunError(f"{path}: no such file; expected the folder that --out of a training made") from error
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RunError(f"{path}: not the settings of a run ({error!r})") from error
    if dataset not in datasets.NAMES:
        raise RunError(f"{path}: dataset: got {dataset!r}, expected one of {', '.join(datasets.NAMES)}")
    if not (isinstance(n, list) and len(n) >= 2 and all(type(n_l) is int and n_l >= 1 for n_l in n)):
        raise RunError(f"{path}: n: got {n!r}, expected the sizes of the layers")
    if not isinstance(getattr(activations, str(activation), None), Activation):
        raise RunError(f"{path}: activation: got {activation!r}, expected one of jaxnn.activations")
    return settings


def load_metrics(folder: Path) -> list[dict]:
    """The metrics of each epoch, one at least."""
    path = folder / "metrics.jsonl"
    try:
        metrics = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: cannot be read ({error})") from error
    if not metrics:
        raise RunError(f"{path}: got no epoch, expected one at least")
    return metrics


def load_params(folder: Path, n: Sequence[int]) -> list[Dense]:
    """The parameters of the network n[0]-n[1]-...-n[L].

    Raises RunError unless the file holds exactly its W[l] (n[l], n[l-1]) and b[l] (n[l], 1).
    """
    path = folder / "params.safetensors"
    expected = {}
    for l, (n_prev, n_l) in enumerate(itertools.pairwise(n), start=1):
        expected |= {f"W[{l}]": (n_l, n_prev), f"b[{l}]": (n_l, 1)}
    try:
        arrays = load_file(path)
    except (OSError, SafetensorError) as error:
        raise RunError(f"{path}: cannot be read ({error})") from error
    got = {name: array.shape for name, array in arrays.items()}
    if got != expected:
        raise RunError(f"{path}: got {got}, expected {expected}")
    return [Dense(jnp.asarray(arrays[f"W[{l}]"]), jnp.asarray(arrays[f"b[{l}]"])) for l in range(1, len(n))]
