"""A run on disk: the folder that a training leaves behind and that a prediction reads.

settings.json        what was asked for, and the versions it ran on
coding.json          of one's own data: how they became X and Y
metrics.jsonl        a line an epoch: its mean cost (loss), test_loss and test_accuracy or, where a number is
                     predicted, test_error, the root mean squared error in its own units; and the sizes of the
                     gradients after it, ‖dW[1]‖, ‖dW[2]‖, ... in dW and likewise in db, on the first FEW
                     training images; null: not finite
params.safetensors   W[1], b[1], W[2], ...; of other layers than dense ones their places, such as 0.gamma
timings.json         how long its last part took, and how that ended
page.html            all of it to look at
"""

import contextlib
import errno
import hashlib
import itertools
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn import activations, datasets
from jaxnn.activations import Activation
from jaxnn.layers import Dense
from jaxnn.runs import arrays, fields, files
from jaxnn.runs.checkpoints import named
from jaxnn.runs.error import RunError
from jaxnn.shown import shown

FEW = 64  # training images, the first: on them the sizes of the gradients are measured after each epoch
LAYERS, SCORES = fields.LAYERS, fields.SCORES
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
        found = {*files.names(folder)} if files.kind(folder) else set()
        above = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
        if not above.is_dir():
            raise files.refused(above, os.strerror(errno.ENOTDIR), errno.ENOTDIR)
        if not os.access(above, os.W_OK):
            raise RunError(f"--out: {folder} cannot be written (no right to, or read-only: {above})")
    except OSError as error:
        raise RunError(f"--out: {folder} cannot be used ({error.strerror}); expected a new folder") from error
    for name in sorted(found):
        if (kind := files.kind(folder / name)) not in ("a file", "a folder", ""):
            raise RunError(f"--out: {folder / name} is {kind}; expected a folder with files of its own")
    if result in found and "settings.json" in found:
        raise RunError(
            f"--out: {folder} exists and holds a finished run; expected a new folder: --out {_new(folder)}"
        )
    ours = all(name in UNFINISHED or name.endswith(".part") for name in found)
    if not ours or ("checkpoints" in found and "settings.json" not in found):
        raise RunError(
            f"--out: {folder} exists and is not empty; expected a new folder: --out {_new(folder)}"
        )


def _new(folder: Path) -> str:
    """A folder that is not there yet, beside one that is."""
    numbers = itertools.count(2)
    while os.path.lexists(
        found := folder.absolute().with_name(f"{folder.absolute().name or 'run'}-{next(numbers)}")
    ):
        pass
    return os.path.relpath(found) if not folder.is_absolute() else str(found)


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
    what = "written"
    try:
        files.make(folder)
        what = "locked"
        held = Hold(folder, files.lock(folder / "lock"))
    except BlockingIOError as error:
        raise RunError(f"--out: {folder} is in use by another run; expected one at a time") from error
    except OSError as error:
        raise RunError(f"--out: {folder} cannot be {what} ({error.strerror})") from error
    held.check()
    return held


def create(folder: Path, settings: dict, metrics: Sequence[dict] = ()) -> None:
    """Write the settings of a run, and the metrics of the epochs it has behind it.

    Makes the folder, if need be. Raises RunError if that cannot be done.
    """
    try:
        files.make(folder)
        files.replace(folder / "metrics.jsonl", "".join(map(_line, metrics)).encode())
        files.replace(folder / "settings.json", (json.dumps(settings, indent=2) + "\n").encode())
    except OSError as error:
        raise RunError(f"--out: {folder} cannot be written ({error.strerror})") from error


def write_metrics(folder: Path, metrics: Sequence[dict]) -> None:
    """Write the metrics of all epochs, in the place of what was added. Raises RunError."""
    replace(folder / "metrics.jsonl", "".join(map(_line, metrics)))


def _line(metrics: dict) -> str:
    return json.dumps(metrics, allow_nan=False) + "\n"


def replace(path: Path, text: str) -> None:
    """Write a file, whole or not at all. Raises RunError if it cannot be written."""
    try:
        files.replace(path, text.encode())
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({error.strerror})") from error


def append_metrics(folder: Path, metrics: dict) -> None:
    """Add one epoch's metrics. Raises RunError if they cannot be written."""
    path = folder / "metrics.jsonl"
    try:
        files.append(path, _line(metrics).encode())
    except FileNotFoundError as error:
        raise RunError(f"{path}: was removed while the run was in its folder; it goes on") from error
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({error.strerror})") from error


def is_lecture(params) -> bool:
    """Whether parameters are those of dense layers, one after the other."""
    return isinstance(params, list) and all(isinstance(layer, Dense) for layer in params)


def names(params) -> dict[str, Any]:
    """The arrays of parameters by their names: the lecture's of dense layers, else their places in the tree.

    >>> names([Dense(W=1, b=2)]), names([{"gamma": 3}, Dense(4, 5)])
    ({'W[1]': 1, 'b[1]': 2}, {'0.gamma': 3, '1.W': 4, '1.b': 5})
    """
    if is_lecture(params):
        return {f"{name}[{l}]": layer._asdict()[name] for l, layer in enumerate(params, 1) for name in "Wb"}
    return {name or "params": leaf for name, leaf in named(params).items()}


def save_params(path: Path, params) -> None:
    """Write the parameters, under the names of `names`. Raises RunError if they cannot be written.

    The file carries the sha256 of its arrays.
    """
    found = {name: files.do(np.asarray, array) for name, array in names(params).items()}
    try:
        files.replace(path, arrays.content(found, {"sha256": _sha256(found)}))
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({error.strerror})") from error


def _sha256(found: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name, array in sorted(found.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode() + array.tobytes())
    return digest.hexdigest()


def read(path: Path, most: int) -> bytes:
    """The content of a file of a run, of so many bytes at most. Raises RunError if it cannot be read."""
    with readable(path):
        return files.read(path, most)


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """Within it, what goes wrong with a file of a run is a RunError."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        expected = "expected the folder that --out of a finished training made"
        raise RunError(f"{path}: no such file; {expected}") from error
    except OSError as error:
        raise RunError(f"{path}: {error.strerror}") from error


def load_settings(folder: Path) -> dict:
    """The settings of a run, of which `dataset`, `n` and `activation` are known to be good.

    Raises RunError if they are missing or make no network.
    """
    path = folder / "settings.json"
    content = read(path, 1_000_000)
    try:
        settings = fields.parsed(content)
        dataset, n, activation = (settings[key] for key in ("dataset", "n", "activation"))
    except (ValueError, TypeError, KeyError) as error:
        raise RunError(
            f"{path}: not the settings of a run ({type(error).__name__}: {_one_line(error)})"
        ) from error
    own = dataset is None and isinstance(settings.get("data"), str)
    if not own and dataset not in [*datasets.NAMES]:
        raise RunError(
            f"{path}: dataset: got {str(dataset)[:40]!r}, expected one of {', '.join(datasets.NAMES)}"
        )
    if not (fields.is_sizes(n) and len(n) >= 2):
        raise RunError(f"{path}: n: got {n!r:.80}, expected the sizes of the layers")
    if len(n) > LAYERS + 1:
        raise RunError(f"{path}: n: got {len(n) - 1:,} layers, expected at most {LAYERS}")
    own = isinstance(activation, str) and ":" in activation  # whoever looks for it says what is wrong
    if not own and not isinstance(getattr(activations, str(activation), None), Activation):
        raise RunError(f"{path}: activation: got {str(activation)[:40]!r}, expected one of jaxnn.activations")
    if not fields.is_whole(settings.get("epochs", 1), 1, fields.EPOCHS):
        raise RunError(f"{path}: epochs: got {str(settings['epochs'])[:40]!r}, expected 1..{fields.EPOCHS}")
    return settings


def load_metrics(folder: Path, settings: dict | None = None) -> list[dict]:
    """The metrics of each epoch, one at least, each with its test_accuracy, or test_error.

    There are no more than the settings state. Raises RunError otherwise.
    """
    path, (epochs, layers, _) = folder / "metrics.jsonl", fields.declared(settings or {})
    found = _lines(path, epochs, 500 + 60 * min(layers, LAYERS), fields.measured)
    for number, metrics in enumerate(found, start=1):
        if metrics.keys() & {*fields.SCORES} != found[0].keys() & {*fields.SCORES}:
            raise RunError(f"{path}: line {number}: expected the score that the first line has")
    if not found:
        raise RunError(f"{path}: expected a line for each epoch, one at least, with its test_accuracy")
    return found


def _lines(path: Path, most: int, longest: int, checked: Callable) -> list:
    """What the lines of a file hold, so many and so long at most."""
    found = []
    with readable(path):
        for number, line in enumerate(files.lines(path, most * longest, longest), start=1):
            if number > most:
                raise RunError(f"{path}: got more lines than the {most:,} that its settings state")
            try:
                found.append(checked(fields.parsed(line)))
            except ValueError as error:
                raise RunError(f"{path}: line {number}: {_one_line(error)}") from error
    return found


def merit(metrics: dict) -> float:
    """What is larger the better an epoch is: its test accuracy, or minus its test error.

    >>> merit({"test_accuracy": 0.9}), merit({"test_error": 2.5})
    (0.9, -2.5)
    """
    return metrics["test_accuracy"] if "test_accuracy" in metrics else -metrics["test_error"]


def load_timings(folder: Path) -> dict:
    """How the last part of a run ended, and the seconds it took; empty where that is not known."""
    try:
        found = fields.parsed(read(folder / "timings.json", 100_000))
        state, seconds = found["state"], {name: found[name] for name in ("compiled", "trained")}
    except (ValueError, TypeError, KeyError):
        return {}
    good = isinstance(state, str) and all(isinstance(s, float) and 0 <= s < 1e12 for s in seconds.values())
    return {"state": state, **seconds} if good else {}


def load_networks(folder: Path, settings: dict | None = None) -> list[dict]:
    """What a sweep has found of each of its networks, one at least. Raises RunError otherwise."""
    path, (epochs, layers, networks) = folder / "networks.jsonl", fields.declared(settings or {})
    networks = networks if settings else 100_000
    longest = 2000 + 100 * epochs + 10 * layers
    found = _lines(path, networks, longest, lambda row: fields.network(row, epochs))
    if not found:
        raise RunError(f"{path}: expected a line for each network, one at least")
    if len({name for row in found for name in fields.SCORES if name in row["curves"]}) > 1:
        raise RunError(f"{path}: expected networks of one score, got accuracies and errors")
    return found


def load_params(path: Path, n: Sequence[int]) -> list[Dense]:
    """The parameters of the network n[0]-n[1]-...-n[L].

    Raises RunError unless the file holds exactly its W[l] (n[l], n[l-1]) and b[l] (n[l], 1), finite, in
    float32 or, where JAX works in it, float64, and just as they were saved.
    """
    dtype = jnp.result_type(float)

    def array(*shape: int) -> Any:
        return jax.ShapeDtypeStruct(shape, dtype)

    return load_like(
        path, [Dense(array(n_l, n_prev), array(n_l, 1)) for n_prev, n_l in itertools.pairwise(n)]
    )


def load_like(path: Path, template):
    """The parameters in a file, as a tree of the names, shapes and dtypes of the template.

    Raises RunError as `load_params` does.
    """
    expected = {name: array.shape for name, array in names(template).items()}
    dtypes = {name: str(array.dtype) for name, array in names(template).items()}
    if not files.kind(path):
        sweep = files.kind(path.parent / "networks.jsonl")
        best = f"this is a sweep, its best network is in best/: write {path.parent / 'best'}"
        why = best if sweep else "this training did not finish"
        raise RunError(f"{path}: no such file; {why}")

    def check(header: arrays.Header) -> None:
        got = {name: placed.shape for name, placed in header.placed.items()}
        for name in expected | got:
            if got.get(name) != expected.get(name):
                what = f"got shape {str(got.get(name))[:80]}, expected {expected.get(name)}"
                raise RunError(f"{path}: {name[:40]!r}: {what}")
        for name, placed in header.placed.items():
            if placed.dtype != dtypes[name]:
                what = f"got {placed.dtype}, expected {dtypes[name]}"
                raise RunError(f"{path}: {name}: {what}; JAX_ENABLE_X64 must be what it was in training")

    found = _loaded(path, check, 1000 * (len(expected) + 2))
    return jax.tree.unflatten(jax.tree.structure(template), [jnp.asarray(found[name]) for name in expected])


def check_params(path: Path) -> None:
    """Raise RunError unless parameters, of whatever network, are finite and just as they were saved."""
    _loaded(path, lambda header: None, arrays.HEADER)


def _loaded(path: Path, check: Callable, most: int) -> dict[str, np.ndarray]:
    try:
        with readable(path):
            found, header = arrays.load(path, check, most)
    except RunError:
        raise
    except ValueError as error:
        raise RunError(f"{path}: cannot be read ({_one_line(error)})") from error
    for name, array in found.items():
        if not np.isfinite(array).all():
            raise RunError(f"{path}: {name}: got numbers that are not finite")
    if _sha256(found) != header.texts.get("sha256"):
        raise RunError(f"{path}: damaged: its arrays have another sha256 than the one it carries")
    return found


def _one_line(error: Exception) -> str:
    return shown(" ".join(str(error).split()), 200)
