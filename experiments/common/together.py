"""Several processes that run one program: the arguments, and the ends that they come to together."""

import argparse
import contextlib
import ctypes
import hashlib
import os
import signal
import sys
import threading
from typing import NoReturn

from experiments.common import interruption
from experiments.common.status import ERASE, LINE, doing
from jaxnn.devices import Refused
from jaxnn.devices.processes import JOINING, LOST, Group, free_port
from jaxnn.gradcheck.report import colours

AGAIN = "; with --out, the same command goes on from the last checkpoint"
LOCAL = ("out", "data_dir", "source_dir", "process", "coordinator", "given")  # each process has its own


def leave(status: int, line: str) -> NoReturn:
    """End this process at once, with a line on standard error."""
    interruption.unblock(interruption.PATIENCE)
    sys.stdout.flush()
    if line:
        line += AGAIN * (status == LOST)
        prefix = f"{colours.error(sys.stderr)} " if status in (1, 2, LOST) else ""
        os.write(interruption.ERR, (ERASE * bool(LINE.shown)) + f"{prefix}{line}\n".encode())
    os._exit(status)


def signalled(number: int) -> None:
    """Do what this signal does, which has come to another process."""
    signal.pthread_kill(threading.main_thread().ident or 0, number)


GROUP = Group(leave, signalled)


def begin(arguments: argparse.Namespace) -> None:
    """Of several processes: what Python prints is seen, of process 0 all, of others errors; or Refused."""
    if not hasattr(arguments, "coordinator"):
        return
    check(arguments)
    if arguments.processes:
        if arguments.process:
            print(waiting(arguments), flush=True)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        interruption.OUT, interruption.ERR = os.dup(nowhere if arguments.process else 1), os.dup(2)
        for number, file in ((1, interruption.OUT), (2, interruption.ERR)):
            os.dup2(nowhere, number)  # Gloo and JAX's runtime have much to say
            stream = open(file, "w", 1, sys.stdout.encoding, "replace")  # noqa: SIM115
            setattr(sys, {1: "stdout", 2: "stderr"}[number], stream)


def check(arguments: argparse.Namespace) -> None:
    """Raise Refused unless all or none say which one of how many this is, and where process 0 listens."""
    many, process = arguments.processes, arguments.process
    asked = {"--processes N": many, "--process I": process, "--coordinator HOST:PORT": arguments.coordinator}
    missing = [option for option, value in asked.items() if value is None]
    if 0 < len(missing) < len(asked):
        raise Refused(f"--processes: got no {' and no '.join(missing)}, expected all of {', '.join(asked)}")
    if missing and "heartbeat" in arguments.given:
        raise Refused("--heartbeat: got one process, expected --processes with it")
    if not missing and process >= many:
        raise Refused(
            f"--process: got {process} of {many}, expected 0 to {many - 1}: they are counted from 0"
        )


def waiting(arguments: argparse.Namespace) -> str:
    """For whom this process waits from now on, in one line."""
    (host, port), others = arguments.coordinator, arguments.processes - 1
    whom = "process 0" if arguments.process else "process 1" if others == 1 else f"processes 1 to {others}"
    return f"waiting   for {whom} at {host}:{port}, {JOINING:.0f} s at most"


def meet(arguments: argparse.Namespace) -> None:
    """Connect the processes that are asked for, if any are. Raises Refused."""
    if not getattr(arguments, "coordinator", None) or arguments.processes == 1:
        return
    process, (host, port) = arguments.process, arguments.coordinator
    interruption.SAME, interruption.FAREWELL = 1.0, GROUP.end
    doing(f"waiting for {arguments.processes} processes")
    print(waiting(arguments))
    try:
        GROUP.join(process, arguments.processes, host, port, arguments.heartbeat)
    except OSError as error:
        raise Refused(f"--coordinator: {host}:{port}: {error.strerror or error}") from error
    if process:
        arguments.out, interruption.FORWARD = None, GROUP.forward
        interruption.on_signal(GROUP.forward)


def connect(arguments: argparse.Namespace, facts: dict) -> None:
    """Connect the devices of all processes, which have these settings and facts alike. Raises Refused."""
    if not GROUP.others:
        return
    settings = {name: value for name, value in vars(arguments).items() if name not in LOCAL}
    GROUP.agree(settings | facts)
    host = arguments.coordinator[0]
    address = GROUP.tell("" if GROUP.process else f"{host}:{free_port(host)}")
    import jax

    jax.config.update("jax_enable_preemption_service", False)  # which would take SIGTERM for itself
    jax.distributed.initialize(
        *(address, arguments.processes, GROUP.process),
        cluster_detection_method="deactivate",
        coordinator_bind_address=address,
        initialization_timeout=int(JOINING),
    )
    with contextlib.suppress(TypeError, AttributeError):  # Windows has no such library
        library = ctypes.CDLL(None)  # where JAX's runtime aborts, as without process 0, that waits: sleep(6)
        library.signal(signal.SIGABRT, ctypes.cast(library.sleep, ctypes.c_void_p))


def sha256(data) -> dict[str, str]:
    """What the processes have to have alike of a data set."""
    digest = hashlib.sha256()
    for array in (*data.train, *data.test):
        digest.update(f"{array.dtype} {array.shape}".encode() + array.tobytes())
    return {"data, of sha256": digest.hexdigest()}
