"""Runs in which the nth call through the door of files fails, in this process. Imports jax.

As SQLite tests itself (sqlite.org/testing.html, "Out-Of-Memory Testing" and what follows it).
"""

import contextlib
import errno
import functools
import gc
import io
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common import pages, programs, rounds
from experiments.common.arguments import told
from experiments.common.damage import outcome
from experiments.common.interruption import SIGNALS
from jaxnn import datasets, drawings, training
from jaxnn.runs import checkpoints, files
from jaxnn.shown import shown

MAKES = os.O_CREAT | os.O_TRUNC


class Killed(BaseException):
    """The process has ended here: nothing that comes after reaches the disk."""


def no_space() -> OSError:
    """What the system says of a disk that is full."""
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def broken_disk() -> OSError:
    """What it says of one that is broken."""
    return OSError(errno.EIO, os.strerror(errno.EIO))


class Fault(NamedTuple):
    """How a call fails, and what of those after it."""

    error: Callable[[], BaseException]
    lasting: Callable[..., bool] = lambda call, *arguments: False


def takes_space(call, *arguments) -> bool:
    """Whether a call needs room on the disk."""
    opens = call is os.open and bool(arguments[1] & MAKES)
    return opens or call in (os.write, os.mkdir) or getattr(call, "__name__", "") == "mkdir"


FAULTS = {
    "full for a moment": Fault(no_space),
    "full from then on": Fault(no_space, takes_space),
    "broken": Fault(broken_disk),
    "out of memory": Fault(MemoryError),
    "killed": Fault(Killed, lambda call, *arguments: True),
}


class Door:
    """In the place of `files.do`: it counts the calls, and from the nth on fails as it is told."""

    def __init__(self, nth: int = 0, fault: Fault = FAULTS["broken"]):
        """With 0 none of them fails."""
        self.calls, self.nth, self.fault = 0, nth, fault

    def __call__(self, call, *arguments, **options):
        """Let a call through, or not; half of what a failing one was to write is written."""
        self.calls += 1
        first = self.calls == self.nth
        if first or (0 < self.nth < self.calls and self.fault.lasting(call, *arguments)):
            if first and call is os.write:
                file, content = arguments
                os.write(file, content[: len(content) // 2])
            raise self.fault.error()
        return call(*arguments, **options)


MAKERS = {
    np: ("array", "asarray", "concatenate", "empty", "full", "ones", "stack", "zeros"),
    jnp: ("asarray", "concatenate", "full_like", "mean", "pad", "stack", "zeros", "zeros_like"),
    jax: ("device_put", "block_until_ready"),
    jax.random: ("fold_in", "key", "split"),
}  # what makes an array where it is called, or waits for one that is made


class Program:
    """A compiled program, each call of which makes its arrays behind the door that is there then."""

    door = Door()

    def __init__(self, program):
        """Of this one."""
        self._program = program

    def __call__(self, *arguments):
        """What it makes."""
        return Program.door(self._program, *arguments)

    def __getattr__(self, name: str) -> Any:
        """All else is its own."""
        return getattr(self._program, name)


@contextlib.contextmanager
def arrays_behind(door: Door) -> Iterator[None]:
    """Within it, each array that a module of ours makes is made behind this door."""

    def behind(make):
        @functools.wraps(make)
        def made(*arguments, **options):
            caller = sys._getframe(1).f_globals.get("__name__", "")
            ours = caller.startswith(("jaxnn.", "experiments.")) and caller != __name__
            return door(make, *arguments, **options) if ours else make(*arguments, **options)

        return made

    Program.door = door
    with contextlib.ExitStack() as patches:
        for home, names in MAKERS.items():
            for name in names:
                patches.enter_context(mock.patch.object(home, name, behind(getattr(home, name))))
        yield


class AtOnce:
    """In the place of a thread that saves: what it is given is done at once, so that n names one call."""

    def __init__(self, *arguments):
        """However many threads are asked for."""

    def submit(self, call, *arguments) -> Future:
        """What comes of the call."""
        future = Future()
        try:
            future.set_result(call(*arguments))
        except BaseException as error:
            future.set_exception(error)
        return future

    def shutdown(self) -> None:
        """There is nothing to end."""


class Life(NamedTuple):
    """How a run ended: its status, None if it was killed; its line; what it said before; its calls."""

    status: int | None
    line: str
    said: str
    printed: str
    calls: int
    begun: list[dict]  # the progress in each checkpoint whose writing began
    written: list[dict]  # and of those, in those that were written


class Run(NamedTuple):
    """A small training or sweep."""

    program: Any  # its module
    words: str
    parameters: int  # of all its networks


@contextlib.contextmanager
def quick(a_run: Run) -> Iterator[None]:
    """Within it such runs are quick: they compile once, draw nothing, and save after half an epoch."""
    kept = {}

    def compiled(*task, make=programs.compiled, **options):
        key = str(jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), task[4:8]))
        if key not in kept:
            made = make(*task, **options)
            descend = {size: Program(program) for size, program in made.descend.items()}
            kept[key] = made._replace(descend=descend, evaluate=Program(made.evaluate))
        return kept[key]

    def page(*what) -> str:
        return "page"

    def curves(metrics, title, path: Path) -> None:
        files.replace(path, b"curves")

    places = (
        (programs, "compiled", compiled),
        (rounds, "compiled", compiled),
        (training, "WORK", 32 * a_run.parameters * 22),
        (checkpoints, "ThreadPoolExecutor", AtOnce),
        (pages, "of_run", page),
        (pages, "of_sweep", page),
        (drawings, "learning_curves", curves),
        (datasets, "load", functools.cache(datasets.load)),
    )
    with contextlib.ExitStack() as patches:
        for place in places:
            patches.enter_context(mock.patch.object(*place))
        gc.collect()
        gc.freeze()  # what is there now is not looked at again
        yield
        gc.unfreeze()


def life(a_run: Run, out: Path, door: Door, arrays: Door | None = None) -> Life:
    """A run in that folder, behind that door; its arrays are made behind the other one, if there is one."""
    write, begun, written = checkpoints.write, [], []

    def noted(folder: Path, number: int, tree, progress: dict) -> Path:
        begun.append(json.loads(json.dumps(progress)))
        path = write(folder, number, tree, progress)
        written.append(begun[-1])
        return path

    status, line, handlers = None, "", [signal.getsignal(number) for number in SIGNALS]
    words = [*a_run.words.split(), "--save-every", "0", "--out", str(out)]
    with (
        mock.patch.object(files, "do", door),
        arrays_behind(arrays or Door()),
        mock.patch.object(checkpoints, "write", noted),
        contextlib.redirect_stdout(io.StringIO()) as printed,
        contextlib.redirect_stderr(io.StringIO()) as said,
    ):
        try:
            status = a_run.program.main(a_run.program.parser().parse_args(words))
        except Killed:
            pass
        except Exception as error:
            status, line = 2, shown(told(error) or f"a traceback: {error!r}")
    for number, handler in zip(SIGNALS, handlers, strict=True):
        signal.signal(number, handler)
    gc.collect()  # what the run held, such as its lock, is let go
    return Life(status, line, said.getvalue(), printed.getvalue(), door.calls, begun, written)


def wrong(a_run: Run, out: Path, door: Door, expected: dict[str, bytes], arrays: Door | None = None) -> str:
    """Nothing, if a run that meets this fault loses nothing; else what is wrong, in a line."""
    first = life(a_run, out, door, arrays)
    if first.status == 2 and (not first.line or "\n" in first.line or first.line.startswith("a traceback")):
        return f"it says: {first.line!r}"
    if any(not line.startswith("warning: ") for line in first.said.splitlines()):
        return f"it says: {first.said!r}"
    finished = any((out / name).exists() for name in ("params.safetensors", "networks.jsonl"))
    if first.written and not finished:
        newest = checkpoints.newest(out / "checkpoints", lambda line: None)
        if not newest or newest.progress not in first.begun[len(first.written) - 1 :]:
            return "more is lost than what came after the last save"
    if not finished:
        again = life(a_run, out, Door())
        if again.status != 0:
            return f"begun again, it ends with status {again.status}: {again.line}"
    return "" if outcome(out) == expected else "another end"
