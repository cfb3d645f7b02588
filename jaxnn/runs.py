"""A run on disk: the folder that a training leaves behind and that a prediction reads.

settings.json        what was asked for, and the versions it ran on
metrics.jsonl        a line an epoch
params.safetensors   W[1], b[1], W[2], ...
"""

import itertools
import json
import os
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


def check_new(folder: Path) -> None:
    """Raise RunError unless a run can begin in the folder: there is none, or what is there did not finish."""
    try:
        found = {path.name for path in folder.iterdir()} if os.path.lexists(folder) else set()
    except OSError as error:
        raise RunError(f"--out: {folder} cannot be used ({error.strerror}); expected a new folder") from error
    if found - {"settings.json", "metrics.jsonl"}:
        raise RunError(f"--out: {folder} exists and is not empty; expected a new folder")


def create(folder: Path, settings: dict) -> None:
    """Make the folder of a new run and write its settings.

    Raises RunError if the folder holds a finished run or other files, or cannot be made.
    """
    check_new(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "metrics.jsonl").unlink(missing_ok=True)
        (folder / "settings.json").write_text(json.dumps(settings, indent=2) + "\n", "utf-8")
    except OSError as error:
        raise RunError(f"--out: {folder} cannot be written ({error.strerror})") from error


def append_metrics(folder: Path, metrics: dict) -> None:
    """Add one epoch's metrics. Raises RunError if they cannot be written."""
    path = folder / "metrics.jsonl"
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(metrics) + "\n")
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({error.strerror})") from error


def save_params(folder: Path, params: list[Dense]) -> None:
    """Write the parameters, under the lecture's names. Raises RunError if they cannot be written."""
    arrays = {}
    for l, (W, b) in enumerate(params, start=1):
        arrays |= {f"W[{l}]": np.asarray(W), f"b[{l}]": np.asarray(b)}
    path = folder / "params.safetensors"
    try:
        save_file(arrays, path)
    except (OSError, SafetensorError) as error:
        raise RunError(f"{path}: cannot be written ({error})") from error


def _read(path: Path) -> str:
    if not os.path.isfile(path):
        raise RunError(f"{path}: no such file; expected the folder that --out of a finished training made")
    return path.read_text("utf-8")


def load_settings(folder: Path) -> dict:
    """The settings of a run, of which `dataset`, `n` and `activation` are known to be good.

    Raises RunError if they are missing or make no network.
    """
    path = folder / "settings.json"
    try:
        settings = json.loads(_read(path))
        dataset, n, activation = (settings[key] for key in ("dataset", "n", "activation"))
    except RunError:
        raise
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise RunError(f"{path}: not the settings of a run ({error!r})") from error
    if dataset not in datasets.NAMES:
        raise RunError(f"{path}: dataset: got {dataset!r}, expected one of {', '.join(datasets.NAMES)}")
    if not (isinstance(n, list) and len(n) >= 2 and all(type(n_l) is int and n_l >= 1 for n_l in n)):
        raise RunError(f"{path}: n: got {n!r}, expected the sizes of the layers")
    if not isinstance(getattr(activations, str(activation), None), Activation):
        raise RunError(f"{path}: activation: got {activation!r}, expected one of jaxnn.activations")
    return settings


def load_metrics(folder: Path) -> list[dict]:
    """The metrics of each epoch, one at least, each with its test_accuracy. Raises RunError otherwise."""
    path = folder / "metrics.jsonl"
    try:
        metrics = [json.loads(line) for line in _read(path).splitlines()]
    except RunError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path}: cannot be read ({error})") from error
    if not metrics or not all(
        isinstance(m, dict) and isinstance(m.get("test_accuracy"), float) for m in metrics
    ):
        raise RunError(f"{path}: expected a line for each epoch, one at least, with its test_accuracy")
    return metrics


def load_params(folder: Path, n: Sequence[int]) -> list[Dense]:
    """The parameters of the network n[0]-n[1]-...-n[L].

    Raises RunError unless the file holds exactly its W[l] (n[l], n[l-1]) and b[l] (n[l], 1), finite
    and in float32.
    """
    path = folder / "params.safetensors"
    expected = {}
    for l, (n_prev, n_l) in enumerate(itertools.pairwise(n), start=1):
        expected |= {f"W[{l}]": (n_l, n_prev), f"b[{l}]": (n_l, 1)}
    if not os.path.isfile(path):
        raise RunError(f"{path}: no such file; this training did not finish")
    try:
        arrays = load_file(path)
    except (OSError, SafetensorError) as error:
        raise RunError(f"{path}: cannot be read ({error})") from error
    got = {name: array.shape for name, array in arrays.items()}
    for name in expected | got:
        if got.get(name) != expected.get(name):
            raise RunError(f"{path}: {name}: got shape {got.get(name)}, expected {expected.get(name)}")
    for name, array in arrays.items():
        if array.dtype != np.float32 or not np.isfinite(array).all():
            raise RunError(f"{path}: {name}: got {array.dtype}, finite or not, expected finite float32")
    return [Dense(jnp.asarray(arrays[f"W[{l}]"]), jnp.asarray(arrays[f"b[{l}]"])) for l in range(1, len(n))]
