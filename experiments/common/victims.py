"""Runs in processes of their own, that are stopped at random moments and left to go on."""

import argparse
import math
import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from experiments.common.arguments import UserError
from experiments.common.damage import outcome
from jaxnn.devices.processes import free_port

RUNS = {  # with an optimizer that has a state, entered in the middle of epochs too, and in several rounds
    "digits": "train --optimizer adam --epochs 200",
    "mnist": "train --dataset mnist --optimizer adam --epochs 10",
    "sweep": "sweep --seeds 3 --learning-rates 0.2 1 --widths 5 9 --epochs 60 --memory 0.00035",
}
ROOT = Path(__file__).parents[2]
EVERY = 0.2  # seconds between saves


class Victim:
    """A training or sweep in a process of its own."""

    def __init__(self, name: str, arguments: argparse.Namespace, out: Path):
        """Start it, or go on with it."""
        self.out, self.log = out, out.with_suffix(".log")
        program, *settings = RUNS[name].split()
        settings += ["--save-every", str(EVERY), "--out", str(out)]
        for option in ("data_dir", "source_dir"):
            if getattr(arguments, option):
                settings += [f"--{option.replace('_', '-')}", str(getattr(arguments, option))]
        command = [sys.executable, "-m", f"experiments.{program}", *settings]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        self.training_since = math.inf

    def end(self) -> tuple[int, str]:
        """Its status and all that it printed, once it has ended."""
        return self.process.wait(), self.log.read_text("utf-8", errors="replace")

    def wait_for(self, seen: Callable[[], bool]) -> bool:
        """Whether that was seen before the process ended."""
        while self.process.poll() is None:
            if self.training_since == math.inf and self.printed("compiled  "):
                self.training_since = time.time()
            if seen():
                return True
            time.sleep(0.002)
        return False

    def printed(self, text: str) -> bool:
        """Whether it has printed this."""
        return text in self.log.read_text("utf-8", errors="replace")

    def saving(self) -> bool:
        """Whether a checkpoint is being written."""
        return any((self.out / "checkpoints").glob(".part-*"))


def moment(a_run: Victim, phase: str, rng: random.Random) -> bool:
    """Wait for a random moment of that phase; False if the run ended before."""
    pause = {"start": 2.5, "compile": 0.6, "training": 1.5, "saving": 0.04}[phase] * rng.random()
    line = {"start": "", "compile": "device  "}.get(phase, "compiled  ")
    if not a_run.wait_for(lambda: a_run.printed(line)):
        return False
    if phase == "saving" and not a_run.wait_for(a_run.saving):
        return False
    end = time.perf_counter() + pause
    return a_run.wait_for(lambda: time.perf_counter() >= end)


def uninterrupted(arguments: argparse.Namespace, folder: Path) -> dict[str, dict[str, bytes]]:
    """What the runs end with that nothing happens to."""
    found = {}
    for name in arguments.runs:
        status, text = Victim(name, arguments, folder / name).end()
        if status:
            raise UserError(f"{name}: {text.strip()}")
        found[name] = outcome(folder / name)
    return found


def wrong_at_the_end(a_run: Victim, expected: dict[str, bytes]) -> str:
    """Nothing if the run, left alone from now on, ends with what is expected; else a line."""
    status, text = a_run.end()
    if status and "finished run" not in text:  # it was interrupted after its last file
        return f"status {status}: {text}"
    return "" if outcome(a_run.out) == expected else f"{a_run.out}: another end"


class Several:
    """A training in several processes on this machine; each is held up where a file of its name is."""

    def __init__(self, many: int, words: Sequence[str], folder: Path, **of_one: Sequence[str]):
        """Start them; `of_one` are more words of one of them, such as of_1."""
        self.folder, self.many = folder, many
        place = [
            "--processes",
            str(many),
            "--coordinator",
            f"127.0.0.1:{free_port('127.0.0.1')}",
            "--process",
        ]
        self.processes = []
        for k in range(many):
            self.hang(k).unlink(missing_ok=True)
            line = [*words, *of_one.get(f"of_{k}", ()), *place, str(k)]
            with self.file("out", k).open("wb") as out, self.file("err", k).open("wb") as err:
                command = [sys.executable, "-c", HELD_UP, str(self.hang(k)), *line]
                self.processes.append(subprocess.Popen(command, stdout=out, stderr=err, cwd=ROOT))

    def file(self, name: str, k: int) -> Path:
        """Where process k prints its out or err."""
        return self.folder / f"{name}-{k}"

    def hang(self, k: int) -> Path:
        """The file that holds process k up."""
        return self.folder / f"hang-{k}"

    def reach(self, text: str) -> bool:
        """Whether process 0 has printed this before one has ended."""
        while text not in self.file("out", 0).read_text("utf-8", errors="replace"):
            if any([process.poll() is not None for process in self.processes]):
                return False
            time.sleep(0.01)
        return True

    def end(self, *without: int, patience: float = 600.0) -> dict[int, tuple[int | None, str]]:
        """How those end that are not left out, each with all that it said as errors; then nobody is left."""
        until = time.monotonic() + patience
        there = {k: process for k, process in enumerate(self.processes) if k not in without}
        while time.monotonic() < until and any([process.poll() is None for process in there.values()]):
            time.sleep(0.01)
        statuses = {k: process.poll() for k, process in there.items()}
        for process in self.processes:
            process.kill()
            process.wait()
        return {k: (status, self.file("err", k).read_text("utf-8")) for k, status in statuses.items()}


HELD_UP = """
import os, sys, time
from experiments import train
from experiments.common.continuation import Pauses
pause, here = Pauses.__call__, sys.argv.pop(1)
def held_up(*words):
    while os.path.exists(here):
        time.sleep(0.05)
    pause(*words)
Pauses.__call__ = held_up
train.run(train.main, train.parser())
"""
