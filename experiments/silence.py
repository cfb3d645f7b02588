"""How soon each program says something on a terminal, and how long it is silent: all of them, one by one.

Each runs on a terminal of its own, with nothing compiled before, until it ends or its time is up. Exit
status 1 if a first line or a silence takes longer than it may.
"""

import argparse
import contextlib
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from experiments.common.arguments import Parser, UserError, add_surroundings, rate, run
from experiments.common.status import doing

FIRST, SILENT = 0.5, 2.0  # seconds that a first line and a silence may take
LINES = {  # in this order: the later ones read what the first ones write
    "train": "--dataset mnist --hidden 512 512 --epochs 3 --out {folder}/run",
    "train, small": "--out {folder}/small",
    "train, by mistake": "--lr 0.1",
    "sweep": "--seeds 2 --widths 5 9 --out {folder}/sweep",
    "predict": "{folder}/small",
    "page": "{folder}/small",
    "lenet": "--epochs 1",
    "gpt": "--steps 20 --letters 100",
    "draw": "{folder}/small",
    "graph": "{folder}/small --out {folder}/graph.png",
    "lecture": "--yes",
    "compare_gradients": "--dataset mnist --hidden 128 64",
    "compare_gradients, planted": "--dataset mnist --plant bias-mean --html {folder}/report.html",
    "benchmark": "--rounds 1 --network small --contenders jaxnn-manual numpy scikit-learn",
    "measure_gradcheck": "--right 20 --wrong 20 --steps 2 --times 1",
    "fuzz": "--calls 60",
    "coexist": "--comparisons 20",
    "golden": "write {folder}/golden.json --tests tests/gradcheck --processes 1",
    "endure": "--kills 4 --damages 50 --files 200 --saves 20 --runs digits",
    "wild": "",
}


def parser() -> Parser:
    """The arguments of this program."""
    p = Parser(prog="python -m experiments.silence", description=__doc__)
    programs = sorted({name.partition(",")[0] for name in LINES})
    p.add_argument(
        "--only", nargs="+", choices=programs, default=programs, metavar="NAME", help="default: all"
    )
    p.add_argument(
        "--seconds", type=rate, default=60.0, metavar="S", help="of each at most; default: %(default)g"
    )
    add_surroundings(p)
    return p


class Heard(NamedTuple):
    """What was heard of a program: seconds until its first line, of the longest silence, and of all of it."""

    first: float
    silence: float
    before: str  # what stood there when the silence began
    whole: float
    status: int | None  # None: its time was up


def heard(command: list[str], seconds: float, environment: dict[str, str]) -> Heard:
    """Run a command on a terminal of its own, and listen."""
    ours, theirs = os.openpty()
    began = last = time.monotonic()
    first, silence, before, tail = None, 0.0, "", ""
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True
    )
    os.close(theirs)
    try:
        while (now := time.monotonic()) - began < seconds:
            content = b""
            if select.select([ours], [], [], 0.05)[0]:
                with contextlib.suppress(OSError):  # the terminal is closed: nobody writes any longer
                    content = os.read(ours, 65536)
                now = time.monotonic()
                if now - last > silence:
                    silence, before = now - last, tail
                if not content:
                    break
                last, tail = now, (tail + content.decode(errors="replace"))[-200:]
                if first is None and "\n" in tail:
                    first = now - began
        status = process.wait(5) if time.monotonic() - began < seconds else None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(ours)
    whole = time.monotonic() - began
    if time.monotonic() - last > silence:
        silence, before = time.monotonic() - last, tail
    words = before.replace("\x1b[K", "").replace("\r", "\n").strip().splitlines() or [""]
    return Heard(whole if first is None else first, silence, words[-1], whole, status)


def main(arguments: argparse.Namespace) -> int:
    """Run them, and print what was heard; 1 if one took too long, 2 if one did not run."""
    slow, failed = [], []
    with tempfile.TemporaryDirectory(prefix="silence-") as folder:
        environment = os.environ | {
            "TERM": "xterm",
            "COLUMNS": "80",
            "JAX_COMPILATION_CACHE_DIR": f"{folder}/cache",
        }
        Path(folder, "cache").mkdir()
        print(f"{'':28} {'first line':>10} {'silence':>8} {'in all':>8}   seconds")
        for name, line in LINES.items():
            program = name.partition(",")[0]
            if program not in arguments.only:
                continue
            words = line.format(folder=folder).split()
            command = [sys.executable, "-m", f"experiments.{program}", *words]
            doing(name)
            found = heard(command, arguments.seconds, environment)
            late = found.first > FIRST or found.silence > SILENT
            slow += [name] * late
            failed += [name] * (found.status == 2 and "mistake" not in name)
            after = f"   silent after {found.before[:60]!r}" if late else ""
            print(f"{name:28} {found.first:10.2f} {found.silence:8.2f} {found.whole:8.1f}{after}")
    if failed:
        raise UserError(f"{', '.join(failed)}: ended with an error; expected what it needs to be here")
    return 1 if slow else 0


if __name__ == "__main__":
    run(main, parser())
