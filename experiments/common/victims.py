"""Runs in processes of their own, that are stopped at random moments and left to go on."""

import argparse
import math
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from experiments.common.arguments import UserError
from experiments.common.damage import outcome

RUNS = {  # with an optimizer that has a state, entered in the middle of epochs too, and in several rounds
    "digits": "train --optimizer adam --epochs 200",
    "mnist": "train --dataset mnist --optimizer adam --epochs 10",
    "sweep": "sweep --seeds 3 --learning-rates 0.2 1 --widths 5 9 --epochs 60 --memory 0.00035",
}
ROOT = Path(__file__).parents[2]
EVERY = 0.2  # seconds between saves


class Victim:
    """A training or sweep in a process of its own."""

    def __init__(self, name: str, arguments: argparse.Namespace, out: Path, pipe: int | None = None):
        """Start it, or go on with it; what it prints goes into the pipe, or else into a file."""
        self.out, self.log = out, out.with_suffix(".log")
        program, *settings = RUNS[name].split()
        settings += ["--save-every", str(EVERY), "--out", str(out)]
        for option in ("data_dir", "source_dir"):
            if getattr(arguments, option):
                settings += [f"--{option.replace('_', '-')}", str(getattr(arguments, option))]
        command = [sys.executable, "-m", f"experiments.{program}", *settings]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=pipe or log, stderr=subprocess.STDOUT)
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


def listed(wrong: list[str]) -> bool:
    """Print the lines that say something; whether none does."""
    for line in filter(None, wrong):
        print(f"  wrong: {line.strip()}")
    return not any(wrong)
