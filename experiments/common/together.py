"""Several processes that run one program: the arguments, and the ends that they come to together."""

import argparse
import hashlib
import os
import signal
import sys
import threading

from experiments.common import interruption
from experiments.common.status import ERASE, LINE, doing
from jaxnn.devices.processes import LOST, Group, Refused
from jaxnn.gradcheck.report import colours

LOCAL = ("out", "data_dir", "source_dir", "process", "coordinator", "given")  # each process has its own


def leave(status: int, line: str) -> None:
    """End this process at once, with a line on standard error."""
    interruption.unblock(interruption.PATIENCE)
    sys.stdout.flush()
    if line:
        prefix = f"{colours.error(sys.stderr)} " if status in (1, 2, LOST) else ""
        os.write(2, (ERASE * bool(LINE.shown)) + f"{prefix}{line}\n".encode())
    os._exit(status)


def signalled(number: int) -> None:
    """Do what this signal does, which has come to another process."""
    signal.pthread_kill(threading.main_thread().ident or 0, number)


GROUP = Group(leave, signalled)


def join(arguments: argparse.Namespace, facts: dict) -> None:
    """Become one of the processes that are asked for, if any are. Raises Refused."""
    asked = [getattr(arguments, name, None) for name in ("processes", "process", "coordinator")]
    if asked == [None] * 3:
        return
    if None in asked or not asked[1] < asked[0]:
        raise Refused("--processes N, --process 0..N−1 and --coordinator HOST:PORT belong together")
    processes, process, (host, port) = asked
    doing(f"waiting for {processes} processes")
    settings = {name: value for name, value in vars(arguments).items() if name not in LOCAL}
    GROUP.join(process, processes, host, port, arguments.heartbeat, settings | facts)
    interruption.SAME, interruption.FAREWELL = 1.0, GROUP.end
    if process:
        arguments.out, interruption.FORWARD = None, GROUP.forward
    for number in interruption.SIGNALS:  # JAX has taken one
        signal.signal(number, interruption.FORWARD or signal.getsignal(number))


def sha256(data) -> dict[str, str]:
    """What the processes have to have alike of a data set."""
    digest = hashlib.sha256()
    for array in (*data.train, *data.test):
        digest.update(f"{array.dtype} {array.shape}".encode() + array.tobytes())
    return {"data, of sha256": digest.hexdigest()}
