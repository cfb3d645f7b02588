"""Checkpoints: what a run has computed so far, on disk, sealed, while it goes on.

checkpoints/000012/
    arrays/            every array of the run's state, by orbax
    progress.json      where the run stands, its settings, and what it has measured
    SHA256SUMS         the seal: see jaxnn.seals

A checkpoint gets its name when all of it is on the disk; until then it is a folder `.part-...`. The newest
one that is whole counts.
"""

import contextlib
import itertools
import json
import re
import shutil
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxnn.runs import seals
from jaxnn.runs.error import RunError

KEPT = 3  # checkpoints, the newest
PART = ".part-"


class Checkpoint(NamedTuple):
    """A checkpoint that is whole."""

    folder: Path
    progress: dict


def named(tree) -> dict[str, Any]:
    """The arrays of a tree by their names.

    >>> from jaxnn.layers import Dense
    >>> named({"params": [Dense(W=1, b=2)]})
    {'params.0.W': 1, 'params.0.b': 2}
    """
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def numbers(folder: Path) -> list[int]:
    """The numbers of the checkpoints in a folder, the newest first."""
    try:
        names = [path.name for path in folder.iterdir()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RunError(f"{folder}: cannot be read ({error.strerror})") from error
    found = (int(name) for name in names if re.fullmatch("[0-9]{6,}", name))
    return sorted((number for number in found if _path(folder, number).name in names), reverse=True)


def newest(folder: Path, skipped: Callable[[str], None]) -> Checkpoint | None:
    """The newest checkpoint that is whole; None if there never was one.

    `skipped` gets a line for each newer one that is damaged. Raises RunError if all of them are.
    """
    there = numbers(folder)
    for number in there:
        path = _path(folder, number)
        wrong = seals.broken(path)
        if wrong is None:
            try:
                progress = json.loads((path / "progress.json").read_bytes())
                if isinstance(progress, dict):
                    return Checkpoint(path, progress)
                wrong = "progress.json: not a table"
            except (OSError, ValueError, RecursionError) as error:
                wrong = f"progress.json: {error}"
        skipped(f"{path}: damaged ({wrong}), skipped")
    if there:
        raise RunError(f"{folder}: no checkpoint in it is whole; delete it, and the run begins again")
    return None


def arrays(checkpoint: Checkpoint) -> dict[str, np.ndarray]:
    """The arrays of a checkpoint by their names. Raises RunError if they cannot be read."""
    import orbax.checkpoint as ocp

    try:
        with ocp.StandardCheckpointer() as checkpointer:
            return checkpointer.restore((checkpoint.folder / "arrays").absolute())
    except Exception as error:  # orbax raises nearly anything
        why = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise RunError(f"{checkpoint.folder}: cannot be read ({why})") from error


def restore(checkpoint: Checkpoint, template):
    """The tree of arrays that a checkpoint holds, of the structure, shapes and dtypes of the template.

    Raises RunError, which names the array, if it holds others.
    """
    there = arrays(checkpoint)
    expected = {name: _description(leaf) for name, leaf in named(template).items()}
    got = {name: _description(leaf) for name, leaf in there.items()}
    for name in expected | got:
        if got.get(name) != expected.get(name):
            raise RunError(
                f"{checkpoint.folder}: {name}: got {got.get(name, 'no such array')}, "
                f"expected {expected.get(name, 'no such array')}"
            )
    return jax.tree.unflatten(jax.tree.structure(template), [there[name] for name in expected])


def write(folder: Path, number: int, tree, progress: dict) -> Path:
    """Write a checkpoint, and return when it is on the disk. Raises RunError; nothing of it is left then."""
    import orbax.checkpoint as ocp

    part = folder / f"{PART}{number:06}"
    try:
        if not folder.is_dir():
            folder.mkdir()  # and none above it: where the run's folder was removed, it is not made again
            seals.sync(folder.parent)
        part.mkdir()
        with ocp.StandardCheckpointer() as checkpointer:
            content = {name: np.asarray(leaf) for name, leaf in named(tree).items()}
            checkpointer.save((part / "arrays").absolute(), content)
            checkpointer.wait_until_finished()
        (part / "progress.json").write_text(_json(progress), "utf-8")
        seals.seal(part)
        part.rename(_path(folder, number))
        seals.sync(folder)
    except Exception as error:  # orbax raises nearly anything
        why = error.strerror if isinstance(error, OSError) else " ".join(str(error).split())[:200]
        raise RunError(
            f"{_path(folder, number)}: cannot be written ({why}); the checkpoints before it are whole, and "
            "the same command goes on from there"
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return _path(folder, number)


def clear(folder: Path, kept: set[int]) -> None:
    """Remove the checkpoints of other numbers, and what an interrupted one has left."""
    for number in numbers(folder):
        if number not in kept:
            with contextlib.suppress(OSError):  # first its name, so that no half of one is ever taken for it
                _path(folder, number).rename(folder / f"{PART}{number:06}-old")
    for path in folder.glob(f"{PART}*"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                path.unlink()


class Saver:
    """Writes checkpoints in a thread of its own, so that training goes on meanwhile.

    `save(tree, progress)` starts when the one before is done; `tree` must not be donated to a program. The
    progress may hold arrays, which become lists. With `finite`, nothing is written where an inf or a nan is
    in the tree or in the progress's `costs`: `diverged` tells of it.
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

    def save(self, tree, progress: dict) -> None:
        """Start to write a checkpoint. Raises RunError if the one before could not be written."""
        self.begin()
        self.pending = self.executor.submit(self._write, tree, progress)

    def wait(self) -> None:
        """Return when the last checkpoint is on the disk. Raises RunError if it could not be written."""
        self.pending.result()

    def close(self) -> None:
        """End the thread, when the last checkpoint is written or has failed."""
        self.executor.shutdown()

    def _prepare(self) -> None:
        import orbax.checkpoint  # noqa: F401  it takes half a second, here beside the compilation

        clear(self.folder, set(self.kept))

    def _write(self, tree, progress: dict) -> None:
        found = jax.tree.leaves((tree, progress.get("costs")))
        if self.finite and not all(np.isfinite(array).all() for array in found):
            self.diverged = True
            return
        number = next(self.numbers)
        clock = time.monotonic()
        write(self.folder, number, tree, progress)
        self.taken = time.monotonic() - clock
        self.kept = [*self.kept, number][-KEPT:]
        clear(self.folder, set(self.kept))


def _json(progress: dict) -> str:
    return json.dumps(progress, default=lambda array: np.asarray(array).tolist())


def _path(folder: Path, number: int) -> Path:
    return folder / f"{number:06}"


def _description(leaf) -> str:
    return f"{np.dtype(leaf.dtype).name} {np.shape(leaf)}"
