"""One of several processes that train together is lost, at random moments."""

import argparse
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from experiments.common.arguments import UserError
from experiments.common.damage import outcome
from experiments.common.interruption import SAVED
from experiments.common.status import through
from experiments.common.together import LOST
from experiments.common.victims import ROOT, listed
from jaxnn.devices.processes import free_port

TOGETHER = "--optimizer adam --batch-size 100 --epochs 100 --save-every 0.5 --heartbeat 15"


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


def processes(number: int, rng: random.Random, folder: Path, arguments: argparse.Namespace) -> bool:
    """One of several processes is lost: do the others end, soon, with a line, and all go on bit for bit?"""
    kinds = {"killed": signal.SIGKILL, "stopped": signal.SIGSTOP, "hung": None, "signalled": signal.SIGTERM}
    cases = [(many, kind, k) for many in (2, 4) for kind in kinds for k in range(many)]
    expected, begun, counts, slowest, wrong = {}, Counter(), Counter(), {}, []
    for many in (2, 4):
        words = [*TOGETHER.split(), "--out", str(folder / f"whole-{many}")]
        if said := [said for status, said in Several(many, words, folder).end().values() if status]:
            raise UserError(f"{many} processes: {said}")
        expected[many] = outcome(folder / f"whole-{many}")

    def to_the_end(many: int) -> None:
        out = folder / f"run-{many}-{begun[many]}"
        ends = Several(many, [*TOGETHER.split(), "--out", str(out)], folder).end()
        said = [said for status, said in ends.values() if status and "finished run" not in said]
        wrong.extend(said or [f"{out}: another end"] * (outcome(out) != expected[many]))
        begun[many] += 1

    for many, kind, k in through((cases[at % len(cases)] for at in range(number)), "process", number):
        run = Several(many, [*TOGETHER.split(), "--out", str(folder / f"run-{many}-{begun[many]}")], folder)
        if not run.reach("\nepoch "):
            wrong += [f"{said}" for _, said in run.end(patience=60).values()]
            continue
        time.sleep(2 * rng.random())
        clock = time.perf_counter()
        run.hang(k).touch() if kinds[kind] is None else run.processes[k].send_signal(kinds[kind])
        found = run.end(*[k] * (kind in ("killed", "stopped")), patience=600)
        taken = time.perf_counter() - clock
        if all(status == 0 for status, _ in found.values()):
            to_the_end(many)  # it was finished before
            continue
        counts[many, kind] += 1
        slowest[many, kind] = max(slowest.get((many, kind), 0.0), taken)
        status = SAVED if kind == "signalled" else LOST
        if any(end != (status, said) or said.count("\n") != 1 for end in found.values() for said in end[1:]):
            wrong.append(f"{kind}, process {k} of {many}: {found}")
        if counts.total() % 8 == 0:
            to_the_end(many)
    for many in (2, 4):
        to_the_end(many)
    for (many, kind), count in sorted(counts.items()):
        print(
            f"{kind:18} {count} of {many} processes; all had ended after {slowest[many, kind]:.2f} s at most"
        )
    print(f"  runs to the end  {begun.total()}, with a heartbeat of {TOGETHER.split()[-1]} s")
    return listed(wrong)
