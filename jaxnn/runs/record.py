"""A run on disk: the folder that a training leaves behind and that a prediction reads.

settings.json        what was asked for, and the versions it ran on
coding.json          of one's own data: how they became X and Y
metrics.jsonl        a line an epoch: its mean cost (loss), test_loss and test_accuracy or, where a number is
                     predicted, test_error, the root mean squared error in its own units; and the sizes of the
                     gradients after it, ‖dW[1]‖, ‖dW[2]‖, ... in dW and likewise in db, on the first FEW
                     training images; null: not finite
params.safetensors   W[1], b[1], W[2], ...
timings.json         how long its last part took, and how that ended
page.html            all of it to look at
"""

import hashlib
import itertools
import json
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from jaxnn import activations, datasets
from jaxnn.activations import Activation
from jaxnn.layers import Dense
from jaxnn.runs import seals
from jaxnn.runs.error import RunError

FEW = 64  # training images, the first: on them the sizes of the gradients are measured after each epoch
SCORES = ("test_accuracy", "test_error")  # of which an epoch has one
LAYERS = 100  # more of them make a page, a graph or a compilation that nobody waits for
UNFINISHED = {
    "settings.json",
    "coding.json",
    "metrics.jsonl",
    "checkpoints",
    "lock",
    "learning_curves.png",
    "best.safetensors",
    "best",
    "page.html",
    "timings.json",
}  # what a run that did not finish may leave


def check_new(folder: Path, result: str = "params.safetensors") -> None:
    """Raise RunError unless a run can begin or go on in the folder: nothing is in it, or an unfinished run.

    A finished one has the file `result`.
    """
    try:
        found = {path.name for path in folder.iterdir()} if _exists(folder) else set()
        above = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
        if not os.access(above, os.W_OK):
            raise RunError(f"--out: {folder} cannot be written (no right to, or read-only: {above})")
    except OSError as error:
        raise RunError(f"--out: {folder} cannot be used ({error.strerror}); expected a new folder") from error
    for name in found:
        if (folder / name).is_symlink():
            raise RunError(f"--out: {folder / name} is a link; expected a folder with files of its own")
    if result in found and "settings.json" in found:
        raise RunError(f"--out: {folder} exists and holds a finished run; expected a new folder")
    ours = all(name in UNFINISHED or name.endswith(".part") for name in found)
    if not ours or ("checkpoints" in found and "settings.json" not in found):
        raise RunError(f"--out: {folder} exists and is not empty; expected a new folder")


def _exists(path: Path) -> bool:
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    return True


class Hold:
    """A folder that is held, until it is closed, forgotten, or its process ends."""

    def __init__(self, folder: Path, file: int):
        """By this open file, the lock in the folder."""
        self.folder, self.file = folder, file

    def check(self) -> None:
        """Raise RunError if the folder is gone, or another one is in its place."""
        try:
            if os.path.samestat(os.fstat(self.file), os.stat(self.folder / "lock")):
                return
        except OSError:
            pass
        raise RunError(
            f"--out: {self.folder} was removed or replaced while a run was in it; nothing is saved"
        )

    def close(self) -> None:
        """Let go."""
        if self.file >= 0:
            os.close(self.file)
            self.file = -1

    __del__ = close


def hold(folder: Path) -> Hold:
    """Make the folder of a run, if need be, and hold it until what is returned is closed.

    Raises RunError if another process holds it, or it cannot be made. A process that ends, in whatever way,
    lets go.
    """
    try:
        seals.make(folder)
        held = Hold(folder, os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644))
    except OSError as error:
        raise RunError(f"--out: {folder} cannot be written ({error.strerror})") from error
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(held.file, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(held.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        held.close()
        if not isinstance(error, BlockingIOError | PermissionError):
            raise RunError(f"--out: {folder} cannot be locked ({error.strerror})") from error
        raise RunError(f"--out: {folder} is in use by another run; expected one at a time") from error
    held.check()
    return held


def create(folder: Path, settings: dict, metrics: Sequence[dict] = ()) -> None:
    """Write the settings of a run, and the metrics of the epochs it has behind it.

    Makes the folder, if need be. Raises RunError if that cannot be done.
    """
    try:
        seals.make(folder)
        seals.replace(folder / "metrics.jsonl", "".join(map(_line, metrics)).encode())
        seals.replace(folder / "settings.json", (json.dumps(settings, indent=2) + "\n").encode())
    except OSError as error:
        raise RunError(f"--out: {folder} cannot be written ({error.strerror})") from error


def _line(metrics: dict) -> str:
    return json.dumps(metrics, allow_nan=False) + "\n"


def replace(path: Path, text: str) -> None:
    """Write a file, whole or not at all. Raises RunError if it cannot be written."""
    try:
        seals.replace(path, text.encode())
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({error.strerror})") from error


def append_metrics(folder: Path, metrics: dict) -> None:
    """Add one epoch's metrics. Raises RunError if they cannot be written."""
    path = folder / "metrics.jsonl"
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(_line(metrics))
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({error.strerror})") from error


def save_params(path: Path, params: list[Dense]) -> None:
    """Write the parameters, under the lecture's names. Raises RunError if they cannot be written.

    The file carries the sha256 of its arrays.
    """
    arrays = {}
    for l, (W, b) in enumerate(params, start=1):
        arrays |= {f"W[{l}]": np.ascontiguousarray(W), f"b[{l}]": np.ascontiguousarray(b)}
    try:
        seals.replace(path, save(arrays, {"sha256": _sha256(arrays)}))
    except (OSError, SafetensorError) as error:
        raise RunError(f"{path}: cannot be written ({error})") from error


def _sha256(arrays: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode() + array.tobytes())
    return digest.hexdigest()


def _read(path: Path, most: int) -> str:
    if not os.path.isfile(path):
        raise RunError(f"{path}: no such file; expected the folder that --out of a finished training made")
    return _bytes(path, most).decode()


def _bytes(path: Path, most: int) -> bytes:
    with path.open("rb") as file:
        content = file.read(min(most, os.fstat(file.fileno()).st_size) + 1)  # as much memory is taken
    if len(content) > most:
        raise RunError(f"{path}: got more than {most:,} bytes, which is more than it can need")
    return content


def load_settings(folder: Path) -> dict:
    """The settings of a run, of which `dataset`, `n` and `activation` are known to be good.

    Raises RunError if they are missing or make no network.
    """
    path = folder / "settings.json"
    try:
        settings = json.loads(_read(path, 1_000_000))
        dataset, n, activation = (settings[key] for key in ("dataset", "n", "activation"))
    except RunError:
        raise
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise RunError(
            f"{path}: not the settings of a run ({type(error).__name__}: {_one_line(error)})"
        ) from error
    own = dataset is None and isinstance(settings.get("data"), str)
    if not own and dataset not in [*datasets.NAMES]:
        raise RunError(
            f"{path}: dataset: got {str(dataset)[:40]!r}, expected one of {', '.join(datasets.NAMES)}"
        )
    if not (
        isinstance(n, list) and len(n) >= 2 and all(type(n_l) is int and 1 <= n_l <= 1_000_000 for n_l in n)
    ):
        raise RunError(f"{path}: n: got {n!r:.80}, expected the sizes of the layers")
    if len(n) > LAYERS + 1:
        raise RunError(f"{path}: n: got {len(n) - 1:,} layers, expected at most {LAYERS}")
    if not isinstance(getattr(activations, str(activation), None), Activation):
        raise RunError(f"{path}: activation: got {str(activation)[:40]!r}, expected one of jaxnn.activations")
    return settings


def load_metrics(folder: Path) -> list[dict]:
    """The metrics of each epoch, one at least, each with its test_accuracy, or test_error.

    Raises RunError otherwise.
    """
    path = folder / "metrics.jsonl"
    try:
        metrics = [json.loads(line) for line in _read(path, 200_000_000).splitlines()]
    except RunError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path}: cannot be read ({_one_line(error)})") from error
    for number, m in enumerate(metrics, start=1):
        if not _is_scored(m) or (m.keys() ^ metrics[0].keys()) & {*SCORES}:
            raise RunError(
                f"{path}: line {number}: expected an epoch's metrics, with its test_accuracy in 0..1"
            )
    if not metrics:
        raise RunError(f"{path}: expected a line for each epoch, one at least, with its test_accuracy")
    return metrics


def _is_scored(metrics) -> bool:
    """Whether the metrics of an epoch hold one of SCORES, in its range."""
    found = [metrics[name] for name in SCORES if name in metrics] if isinstance(metrics, dict) else []
    most = 1 if isinstance(metrics, dict) and SCORES[0] in metrics else math.inf
    return len(found) == 1 and isinstance(found[0], float) and 0 <= found[0] <= most and found[0] < math.inf


def merit(metrics: dict) -> float:
    """What is larger the better an epoch is: its test accuracy, or minus its test error.

    >>> merit({"test_accuracy": 0.9}), merit({"test_error": 2.5})
    (0.9, -2.5)
    """
    return metrics["test_accuracy"] if "test_accuracy" in metrics else -metrics["test_error"]


def load_timings(folder: Path) -> dict:
    """How the last part of a run ended, and the seconds it took; empty where that is not known."""
    try:
        found = json.loads(_read(folder / "timings.json", 100_000))
        state, seconds = found["state"], {name: found[name] for name in ("compiled", "trained")}
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return {}
    good = isinstance(state, str) and all(isinstance(s, float) and 0 <= s < 1e12 for s in seconds.values())
    return {"state": state, **seconds} if good else {}


def load_networks(folder: Path) -> list[dict]:
    """What a sweep has found of each of its networks, one at least. Raises RunError otherwise."""
    path = folder / "networks.jsonl"
    try:
        rows = [json.loads(line) for line in _read(path, 200_000_000).splitlines()]
    except RunError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path}: cannot be read ({_one_line(error)})") from error
    for number, row in enumerate(rows, start=1):
        if not _is_network(row):
            raise RunError(f"{path}: line {number}: expected a network's settings and curves")
    if not rows:
        raise RunError(f"{path}: expected a line for each network, one at least")
    return rows


def _is_network(row) -> bool:
    def known(value) -> bool:
        return isinstance(value, float) and math.isfinite(value)

    try:
        curves = [row["curves"][key] for key in ("loss", "test_loss", "test_accuracy")]
        hidden, lengths = row["hidden"], {len(curve) for curve in curves}
        return (
            type(row["seed"]) is int
            and known(row["learning_rate"])
            and known(row["scale"])
            and isinstance(hidden, list)
            and all(type(n_l) is int and n_l > 0 for n_l in hidden)
            and all(isinstance(curve, list) for curve in curves)
            and len(lengths) == 1
            and min(lengths) > 0
            and all(value is None or known(value) for curve in curves[:2] for value in curve)
            and all(known(value) and 0 <= value <= 1 for value in curves[2])
        )
    except (TypeError, KeyError):
        return False


def load_params(path: Path, n: Sequence[int]) -> list[Dense]:
    """The parameters of the network n[0]-n[1]-...-n[L].

    Raises RunError unless the file holds exactly its W[l] (n[l], n[l-1]) and b[l] (n[l], 1), finite, in
    float32 or, where JAX works in it, float64, and just as they were saved.
    """
    expected = {}
    for l, (n_prev, n_l) in enumerate(itertools.pairwise(n), start=1):
        expected |= {f"W[{l}]": (n_l, n_prev), f"b[{l}]": (n_l, 1)}
    if not os.path.isfile(path):
        sweep = os.path.isfile(path.parent / "networks.jsonl")
        why = "this is a sweep, its best network is in best/" if sweep else "this training did not finish"
        raise RunError(f"{path}: no such file; {why}")
    most = 8 * sum(map(math.prod, expected.values())) + 1000 * (len(n) + 1)
    try:
        content = _bytes(path, most)
        arrays = load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        sha256 = header["__metadata__"]["sha256"]
    except RunError:
        raise
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise RunError(f"{path}: cannot be read ({type(error).__name__}: {_one_line(error)})") from error
    got = {name: array.shape for name, array in arrays.items()}
    for name in expected | got:
        if got.get(name) != expected.get(name):
            raise RunError(f"{path}: {name[:40]!r}: got shape {got.get(name)}, expected {expected.get(name)}")
    for name, array in arrays.items():
        if array.dtype != jnp.zeros(0, float).dtype:
            raise RunError(
                f"{path}: {name}: got {array.dtype}, expected {jnp.zeros(0, float).dtype}; "
                "JAX_ENABLE_X64 must be what it was in training"
            )
        if not np.isfinite(array).all():
            raise RunError(f"{path}: {name}: got numbers that are not finite")
    if _sha256(arrays) != sha256:
        raise RunError(f"{path}: damaged: its arrays have another sha256 than the one it carries")
    return [Dense(jnp.asarray(arrays[f"W[{l}]"]), jnp.asarray(arrays[f"b[{l}]"])) for l in range(1, len(n))]


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())[:200]
    return "".join(c if c.isprintable() else "\ufffd" for c in text)
