"""Start a program in several processes on this machine, to try it: python -m experiments.launch -n 2 train.

Each of them has the devices that it would have alone. What process 0 prints comes as it is; of the others a
line where one ends that process 0 cannot tell of. A signal goes to process 0, which ends all, as it does
where this program is killed; the status is the worst of theirs, 75 for one that a signal has ended.
"""

import argparse
import contextlib
import ctypes
import itertools
import re
import signal
import subprocess
import sys
import tempfile
import time

from experiments.common.arguments import Parser, UserError, run, whole
from experiments.common.interruption import SIGNALS
from experiments.common.status import LINE
from jaxnn.devices.processes import LOST, free_port

PROGRAMS = ("train", "check_layout")
AFTER = 10.0  # seconds in which the others end, once one has
HEARD = (*SIGNALS, *((signal.SIGHUP,) if hasattr(signal, "SIGHUP") else ()))


def parser() -> Parser:
    """The arguments of this program."""
    p = Parser(prog="python -m experiments.launch", description=__doc__)
    p.add_argument(
        "-n",
        "--processes",
        dest="n",
        type=whole(1, 256),
        default=2,
        metavar="N",
        help="how many; default: %(default)s",
    )
    p.add_argument("program", type=program, metavar="PROGRAM", help=f"what they run: {' or '.join(PROGRAMS)}")
    p.add_argument("words", nargs=argparse.REMAINDER, help="its arguments")
    p.product = lambda arguments: True
    return p


def program(text: str) -> str:
    """The type of a program that runs in several processes."""
    if text not in PROGRAMS:
        expected = f"expected {' or '.join(PROGRAMS)}: others run in one process, on all its devices"
        raise argparse.ArgumentTypeError(f"got {text[:60]!r}, {expected}")
    return text


def end_with_parent() -> None:
    """Have this process get SIGTERM where the one that started it is gone (Linux)."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def main(arguments: argparse.Namespace) -> int:
    """Start them, and wait for all to end."""
    for word, value in itertools.zip_longest(arguments.words, arguments.words[1:], fillvalue=""):
        if re.fullmatch(r"-n\d*", word):
            first = f"python -m experiments.launch -n {word[2:] or value or 2} {arguments.program}"
            raise UserError(f"-n: launch reads it before the program; write {first}")
        if (name := word.partition("=")[0]) in ("--processes", "--process", "--coordinator"):
            raise UserError(f"{name}: launch says that itself; leave it out, -n N is how many")
    LINE.end()  # the processes write their own
    command = [sys.executable, "-m", f"experiments.{arguments.program}", *arguments.words]
    command += [
        "--processes",
        str(arguments.n),
        "--coordinator",
        f"127.0.0.1:{free_port('127.0.0.1')}",
        "--process",
    ]
    with contextlib.ExitStack() as stack:
        errors = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(1, arguments.n)]
        processes, first = [], end_with_parent if sys.platform == "linux" else None
        stack.callback(lambda: [process.kill() for process in processes if process.poll() is None])
        for process, error in enumerate([None, *errors]):
            out = None if error is None else subprocess.DEVNULL
            processes += [
                subprocess.Popen(
                    [*command, str(process)],
                    stdout=out,
                    stderr=error,
                    start_new_session=True,
                    preexec_fn=first,
                )
            ]
        for number in HEARD:
            signal.signal(number, lambda number, _: processes[0].send_signal(number))
        ended = together(processes)
        for process, status in ended.items():
            if status < 0:
                print(f"process {process} was ended by {signal.Signals(-status).name}", file=sys.stderr)
        if ended.get(0, -1) < 0:
            print("\n".join(said_by(errors)), file=sys.stderr)
    return max(status if status >= 0 else LOST for status in ended.values())


def together(processes: list[subprocess.Popen]) -> dict[int, int]:
    """The statuses of those that end by themselves; where one has ended, the others have AFTER seconds."""
    until = float("inf")
    while any([process.poll() is None for process in processes]):
        if until == float("inf") and any(process.returncode is not None for process in processes):
            until = time.monotonic() + AFTER
        if time.monotonic() > until:
            break
        time.sleep(0.02)
    return {k: process.returncode for k, process in enumerate(processes) if process.returncode is not None}


def said_by(errors: list) -> list[str]:
    """The last lines of what the processes have said, each once."""
    found = {}
    for file in errors:
        file.seek(0)
        found |= dict.fromkeys(file.read().decode(errors="replace").strip().splitlines()[-1:])
    return [*found]


if __name__ == "__main__":
    run(main, parser())
