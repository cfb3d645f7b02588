"""Checkpoints: what a run has computed so far, on disk, sealed, while it goes on.

checkpoints/000012/
    arrays.safetensors   every array of the run's state
    progress.json        where the run stands, its settings, and what it has measured
    SHA256SUMS           the seal: see jaxnn.runs.seals

A checkpoint gets its name when all of it is on the disk; until then it is a folder `.part-...`. The newest
one that is whole counts.
"""

import contextlib
import itertools
import json
import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.runs import arrays, fields, files, seals
from jaxnn.runs.error import RunError
from jaxnn.shown import shown

KEPT = 3  # checkpoints, the newest
TOLD = 3  # damaged ones, each in a line; the others are counted
PART = ".part-"
ARRAYS, PROGRESS = "arrays.safetensors", "progress.json"


class Most(NamedTuple):
    """How many bytes the files of a checkpoint have at most: what is larger is not read."""

    arrays: int = 2**40
    progress: int = 2**24

    def of(self) -> dict[str, int]:
        """By their names."""
        return {ARRAYS: self.arrays, PROGRESS: self.progress}


class Checkpoint(NamedTuple):
    """A checkpoint that is whole."""

    folder: Path
    progress: dict


def named(tree) -> dict[str, Any]:
    """The arrays of a tree by their names; keys of random numbers as their bits, named by what they are for.

    >>> from jaxnn.layers import Dense
    >>> named({"params": [Dense(W=1, b=2)]})
    {'params.0.W': 1, 'params.0.b': 2}
    >>> list(named({"key": jax.random.key(0)}))
    ['key.threefry2x32']
    """
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    found = {}
    for path, leaf in leaves:
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        if is_key(leaf):
            name += f".{drawn_by(leaf)}"
            known = isinstance(leaf, jax.Array)
            leaf = jax.random.key_data(leaf) if known else jax.eval_shape(jax.random.key_data, leaf)
        found[name] = leaf
    return found


def is_key(leaf) -> bool:
    """Whether it holds keys of random numbers, whose bits are not its own dtype."""
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def drawn_by(key) -> str:
    """The generator that keys of random numbers, or the shape of some, are for."""
    found = []
    jax.eval_shape(lambda key: found.append(jax.random.key_impl(key)), key)
    return str(found[0])


def numbers(folder: Path) -> list[int]:
    """The numbers of the checkpoints in a folder, the newest first."""
    try:
        files.inside(folder, folder.parent)
        names = files.names(folder)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RunError(f"{folder}: cannot be read ({error.strerror})") from error
    found = (int(name) for name in names if re.fullmatch("[0-9]{6,12}", name))
    return sorted((number for number in found if _path(folder, number).name in names), reverse=True)


def newest(folder: Path, skipped: Callable[[str], None], most: Most = Most()) -> Checkpoint | None:  # noqa: B008
    """The newest checkpoint that is whole; None if there never was one.

    `skipped` gets a line for each newer one that is damaged, or, where they are many, for the first ones and
    one for the rest. Raises RunError if all of them are, or if an earlier version has saved the newest.
    """
    good, damaged = None, 0
    for number in (there := numbers(folder)):
        path = _path(folder, number)
        found = whole(path, most)
        if isinstance(found, Checkpoint):
            good = found
            break
        damaged += 1
        if damaged <= TOLD:
            skipped(f"{path}: damaged ({found}), skipped")
    if damaged > TOLD:
        skipped(f"{folder}: {damaged - TOLD} older ones are damaged, too, and skipped")
    if good:
        return good
    if there:
        raise RunError(f"{folder}: no checkpoint in it is whole; delete it, and the run begins again")
    return None


def whole(path: Path, most: Most = Most()) -> Checkpoint | str:  # noqa: B008
    """The checkpoint in a folder, or what is wrong with it, in a few words."""
    if files.kind(path / "arrays") == "a folder":
        raise RunError(
            f"{path}: saved by an earlier version of jaxnn, whose arrays this one does not read; go on with "
            f"that version, or delete {path.parent}, and the run begins again"
        )
    try:
        arrays.header_of(path / ARRAYS)  # else its size is anything
    except (OSError, ValueError) as error:
        wrong = seals.broken(path, dict.fromkeys(most.of(), 0)) if _is_missing(error) else None
        return wrong or f"{ARRAYS}: {_why(error)}"
    if wrong := seals.broken(path, most.of()):
        return wrong
    try:
        progress = fields.parsed(files.read(path / PROGRESS, most.progress))
    except (OSError, ValueError) as error:
        return f"{PROGRESS}: {_why(error)}"
    return Checkpoint(path, progress) if isinstance(progress, dict) else f"{PROGRESS}: not a table"


def _is_missing(error: Exception) -> bool:
    return isinstance(error, FileNotFoundError | NotADirectoryError)


def _why(error: Exception) -> str:
    return shown((isinstance(error, OSError) and error.strerror) or error, 200)


def restore(checkpoint: Checkpoint, template):
    """The tree of arrays that a checkpoint holds, of the structure, shapes and dtypes of the template.

    The template may hold `jax.ShapeDtypeStruct`s. Raises RunError, which names the array, if the checkpoint
    holds others; then none of it has been read.
    """
    expected = {name: f"{np.dtype(leaf.dtype)} {np.shape(leaf)}" for name, leaf in named(template).items()}

    def compare(header: arrays.Header) -> None:
        got = {name: str(placed) for name, placed in header.placed.items()}
        for name in expected | got:
            if got.get(name) != expected.get(name):
                raise RunError(
                    f"{checkpoint.folder}: {shown(name, 80)}: got {got.get(name, 'no such array')[:80]}, "
                    f"expected {expected.get(name, 'no such array')}"
                )

    there = content(checkpoint, compare, 10_000 + sum(200 + len(name) for name in expected))
    leaves, structure = jax.tree.flatten(template)

    def made(name: str, leaf):
        if not is_key(leaf):
            return there[name]
        return jax.random.wrap_key_data(jnp.asarray(there[name]), impl=drawn_by(leaf))

    return jax.tree.unflatten(structure, [*map(made, expected, leaves)])


def restored(checkpoint: Checkpoint, template, steps: tuple[int, ...]) -> tuple[Any, list]:
    """What a `Saver` saved: the tree, and the costs of an epoch's first steps, whose shape is `steps`."""
    costs = jax.ShapeDtypeStruct(steps, np.dtype(float)) if steps[-1] else None
    found = restore(checkpoint, saved(template, costs))
    return found["state"], [found["costs"]] if costs else []


def content(
    checkpoint: Checkpoint,
    check: Callable[[arrays.Header], object] = lambda header: None,
    most: int = arrays.HEADER,
) -> dict[str, np.ndarray]:
    """The arrays of a checkpoint by their names. Raises RunError if they cannot be read."""
    try:
        return arrays.load(checkpoint.folder / ARRAYS, check, most)[0]
    except RunError:
        raise
    except (OSError, ValueError) as error:
        raise RunError(f"{checkpoint.folder / ARRAYS}: cannot be read ({_why(error)})") from error


def times(checkpoint: Path) -> tuple[float, float]:
    """When a checkpoint's state was that of the run, and when it was on the disk, in seconds since 1970."""
    begun = arrays.header_of(checkpoint / ARRAYS).texts["begun"]
    return float(begun), (checkpoint / seals.SEAL).stat().st_mtime


def write(folder: Path, number: int, tree, progress: dict) -> Path:
    """Write a checkpoint, and return when it is on the disk. Raises RunError; nothing of it is left then."""
    part, begun = folder / f"{PART}{number:06}", repr(time.time())
    try:
        files.inside(folder, folder.parent)
        if not files.kind(folder):
            files.do(folder.mkdir)  # and none above: where the run's folder was removed, it is not made again
            files.sync(folder.parent)
        files.do(part.mkdir)
        there = {name: files.do(np.asarray, leaf) for name, leaf in named(tree).items()}
        files.write(part / ARRAYS, arrays.content(there, {"begun": begun}))
        files.write(part / PROGRESS, json.dumps(progress).encode())
        seals.seal(part)
        files.inside(folder, folder.parent)
        files.move(part, _path(folder, number))
    except Exception as error:  # whatever it is, the run ends with a line
        raise RunError(
            f"{_path(folder, number)}: cannot be written ({_why(error)}); the checkpoints before it are "
            "whole, and the same command goes on from there"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            files.inside(folder, folder.parent)
            files.remove(part)
    return _path(folder, number)


def clear(folder: Path, kept: set[int]) -> None:
    """Remove the checkpoints of other numbers, and what an interrupted one has left."""
    for number in numbers(folder):
        if number not in kept:
            with contextlib.suppress(OSError):  # first its name, so that no half of one is ever taken for it
                files.do(_path(folder, number).rename, folder / f"{PART}{number:06}-old")
    with contextlib.suppress(OSError):
        files.inside(folder, folder.parent)
        for name in files.names(folder):
            if name.startswith(PART):
                with contextlib.suppress(OSError):
                    files.remove(folder / name)


class Saver:
    """Writes checkpoints in a thread of its own, so that training goes on meanwhile.

    `save(tree, progress, costs)` starts when the one before is done; `tree` must not be donated to a program.
    The costs of the steps so far, an array from each program, become one: see `saved`. With `finite`, nothing
    is written where an inf or a nan is in the tree or the costs: `diverged` tells of it.
    """

    def __init__(self, folder: Path, every: float, continued: Checkpoint | None = None, finite: bool = True):
        """A kill is to lose `every` seconds at most; `continued` is the one that the run goes on from."""
        there = numbers(folder)
        current = int(continued.folder.name) if continued else 0
        self.folder, self.every, self.finite = folder, every, finite
        self.numbers = itertools.count(max(there, default=0) + 1)
        self.kept = sorted(number for number in there if number <= current)
        self.asked = self.clock = time.monotonic()  # when `due` was asked, and when the last one began
        self.taken = every  # what its write took: not known before the first one, which is due at once
        self.diverged = False
        self.executor = ThreadPoolExecutor(1, "checkpoints")
        self.pending: Future = self.executor.submit(self._prepare)

    def due(self) -> bool:
        """Whether the one before is done, and it is time to save.

        It is when, asked next, it would be too late for one that takes twice as long to write as the last.
        """
        now = time.monotonic()
        following, self.asked = 2 * now - self.asked, now
        return self.pending.done() and following + 2 * self.taken >= self.clock + self.every

    def begin(self) -> None:
        """Return when it can save at once; the work that could be lost begins now."""
        self.wait()
        self.clock = time.monotonic()

    def save(self, tree, progress: dict, costs: Sequence = ()) -> None:
        """Start to write a checkpoint. Raises RunError if the one before could not be written."""
        self.begin()
        self.pending = self.executor.submit(self._write, tree, progress, costs)

    def wait(self) -> None:
        """Return when the last checkpoint is on the disk. Raises RunError if it could not be written."""
        self.pending.result()

    def close(self) -> None:
        """End the thread, when the last checkpoint is written or has failed."""
        self.executor.shutdown()

    def _prepare(self) -> None:
        clear(self.folder, set(self.kept))

    def _write(self, tree, progress: dict, costs: Sequence) -> None:
        joined = np.concatenate([np.asarray(J, float) for J in costs], axis=-1) if costs else None
        content = saved(tree, joined)
        if self.finite and not all(map(is_finite, jax.tree.leaves(content))):
            self.diverged = True
            return
        number = next(self.numbers)
        clock = time.monotonic()
        write(self.folder, number, content, progress)
        self.taken = time.monotonic() - clock
        self.kept = [*self.kept, number][-KEPT:]
        clear(self.folder, set(self.kept))


def saved(tree, costs) -> dict[str, Any]:
    """What a `Saver` writes: a tree, and the costs of an epoch's first steps, float64, if there are any."""
    return {"state": tree} if costs is None else {"state": tree, "costs": costs}


def is_finite(array) -> bool:
    """Whether all of an array's entries are; keys of random numbers always are."""
    return is_key(array) or bool(np.isfinite(array).all())


def _path(folder: Path, number: int) -> Path:
    return folder / f"{number:06}"
