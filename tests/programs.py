"""Programs as their users call them: in a process of their own, and, which is quicker, in this one."""

import contextlib
import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import pytest

from experiments.common import interruption

ROOT = Path(__file__).parent.parent
SIGNALS = (signal.SIGINT, signal.SIGTERM)


def run(program: str, *args: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", f"experiments.{program}", *args],
        capture_output=True,
        encoding="utf-8",
        cwd=ROOT,
        env=os.environ | {"PYTHONIOENCODING": "utf-8"} | environment,
        timeout=300,
    )


class Ended(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def result(self) -> str:
        """What it prints behind the line that says what runs."""
        first, end, rest = self.out.partition("\n")
        return rest if " jaxnn " in first else first + end + rest


class Left(BaseException):
    """The process has ended at once."""


class Listening(io.StringIO):
    """What a program prints; the first line that holds one of the texts calls what belongs to it."""

    def __init__(self, on: dict[str, Callable[[], object]]):
        super().__init__()
        self.on = dict(on)

    def write(self, text: str) -> int:
        written = super().write(text)
        for said in [said for said in self.on if said in text]:
            self.on.pop(said)()
        return written


@contextlib.contextmanager
def as_a_process(out, err):
    """What a program does to its process is undone, and ending at once raises Left."""

    def leave(status: int):
        raise Left(status)

    def write(file: int, content: bytes) -> int:
        return err.write(content.decode()) if file == 2 else to_file(file, content)

    to_file, before = os.write, [(number, signal.getsignal(number)) for number in SIGNALS]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        patch.setattr(sys, "unraisablehook", sys.unraisablehook)
        patch.setattr(os, "_exit", leave)
        patch.setattr(interruption, "LATEST", 1e6)  # it would leave from a thread
        patch.setattr(os, "write", write)
        try:
            with (
                jax.numpy_rank_promotion("allow"),
                jax.numpy_dtype_promotion("standard"),
            ):  # as optax needs it
                yield
        finally:
            for number, handler in before:
                signal.signal(number, handler)


def ended(program, *words: object, on=None, out=None, err=None, main=None) -> Ended:
    """`python -m program words`, in this process; on: what happens as soon as it prints such a line."""
    out, err = out or Listening(on or {}), err or io.StringIO()
    with as_a_process(out, err), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [program.__name__, *map(str, words)])
        try:
            program.run(main or program.main, program.parser())
        except SystemExit as end:
            status = end.code
        except Left as left:
            (status,) = left.args
    return Ended(
        status, *(stream.getvalue() if isinstance(stream, io.StringIO) else "" for stream in (out, err))
    )
