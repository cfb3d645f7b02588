"""Several processes that train together: what they tell each other, and how none is left waiting.

Process 0 listens, each other one is connected to it alone, and process 0 decides when is saved, and how all
end. A thread in each shows that it lives. Where a process is killed, its connection ends; where it or its
machine is stopped, nothing comes any longer; where its work hangs, process 0 gets no further. JAX's own
runtime connects the devices, and is not asked.
"""

import contextlib
import json
import queue
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from jaxnn.devices import Refused

LOST = 75  # the exit status where another process is lost: EX_TEMPFAIL, try again
JOINING = 300.0  # seconds in which all processes have to come
LONG = 20  # heartbeats that a word or the first step may take
HUNG = 4  # heartbeats, or longest steps so far, that another may take: what is slow does not hang
ALIVE, TOLD, SIGNAL, FAILED, END = b"atsfe"


class Other:
    """A process that this one is connected to."""

    def __init__(self, there: socket.socket):
        """By this socket."""
        from multiprocessing.connection import Connection

        there.settimeout(None)
        there.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connection, self.lock = Connection(there.detach()), threading.Lock()
        self.told: queue.Queue[str] = queue.Queue()
        self.heard = self.shown = time.monotonic()

    def send(self, kind: int, content: str = "", block: bool = True) -> None:
        """Send a message; if not `block`, none where another one is on its way."""
        if self.lock.acquire(blocking=block):
            try:
                with contextlib.suppress(OSError):  # who watches notices
                    self.connection.send_bytes(bytes([kind]) + content.encode())
            finally:
                self.lock.release()


class Group:
    """The processes of a run, as one of them sees them. One alone is told what it tells, and sends nothing.

    `leave(status, line)` ends this process, from any thread; `signalled(number)` does what a signal does.
    """

    def __init__(self, leave: Callable[[int, str], NoReturn], signalled: Callable[[int], object]):
        """One process alone."""
        self.process, self.heartbeat, self.leave, self.signalled = 0, 30.0, leave, signalled
        self.others: dict[int, Other] = {}
        self.ending, self.failed = threading.Lock(), False
        self.since, self.longest, self.due, self.known = 0.0, 0.0, float("inf"), False  # of the steps

    def join(self, process: int, processes: int, host: str, port: int, heartbeat: float) -> None:
        """Become one of several, when all are there. Raises Refused, and OSError."""
        self.process, self.heartbeat = process, heartbeat
        threading.Thread(target=self._watch, daemon=True).start()
        self._listen(host, port, processes) if process == 0 else self._call(host, port, processes)

    def _listen(self, host: str, port: int, processes: int) -> None:
        until = time.monotonic() + JOINING
        with socket.create_server((host, port)) as server:
            while missing := {*range(1, processes)} - {*self.others}:
                server.settimeout(max(until - time.monotonic(), 0.001))
                try:
                    other = Other(server.accept()[0])
                except TimeoutError:
                    self._end(LOST, f"process {min(missing)} did not come within {JOINING:.0f} s")
                process, many = 0, 0
                with contextlib.suppress(OSError, EOFError, ValueError):  # it is none of us
                    if other.connection.poll(5):
                        process, many = map(int, other.connection.recv_bytes(20).split())
                if process and many == processes and process in missing:
                    self.others[process] = other
                elif process:
                    self.others[-1] = other  # it has to know
                    raise Refused(f"process {process} of {many} came, expected {missing} of {processes}")

    def _call(self, host: str, port: int, processes: int) -> None:
        until = time.monotonic() + JOINING
        while not self.others:
            try:
                first = Other(socket.create_connection((host, port), timeout=5))
                first.connection.send_bytes(f"{self.process} {processes}".encode())
                self.others[0] = first
            except (ConnectionError, TimeoutError):
                time.sleep(0.1)
                if time.monotonic() > until:
                    self._end(LOST, f"process 0 did not listen at {host}:{port} within {JOINING:.0f} s")

    def agree(self, facts: Mapping) -> None:
        """Return when all have said the same. Process 0, which ends all, raises Refused if not."""
        if self.process:
            self.others[0].send(TOLD, json.dumps(facts))
        else:
            said = {process: json.loads(self._heard(process)) for process in sorted(self.others)}
            if line := disagreement(json.loads(json.dumps(facts)), said):
                raise Refused(line)
        self.tell()

    def tell(self, content: str = "") -> str:
        """What process 0 tells, in each process."""
        if self.process:
            return self._heard(0)
        for other in self.others.values():
            other.send(TOLD, content)
        return content

    def _heard(self, process: int) -> str:
        try:
            return self.others[process].told.get(timeout=LONG * self.heartbeat)
        except queue.Empty:
            line = f"process {process} hangs: no word of it for {LONG * self.heartbeat:.0f} s"
            self._end(LOST, line)

    def same(self, tree):
        """The arrays of a tree as process 0 has them, bit by bit; elsewhere only their shapes count."""
        if not self.others:
            return tree
        import jax
        import numpy as np
        from jax.experimental.multihost_utils import broadcast_one_to_all

        here = jax.tree.map(np.asarray, tree)
        bits = jax.tree.map(lambda leaf: np.frombuffer(leaf.tobytes(), np.uint8), here)
        sent = broadcast_one_to_all(bits)
        return jax.tree.map(lambda leaf, b: np.asarray(b).view(leaf.dtype).reshape(leaf.shape), here, sent)

    def whole(self, tree):
        """The arrays of a tree, those that lie in parts in several processes as a whole in each."""
        from jax import tree_util
        from jax.experimental.multihost_utils import process_allgather

        def of(leaf):
            return leaf if getattr(leaf, "is_fully_replicated", True) else process_allgather(leaf, tiled=True)

        return tree_util.tree_map(of, tree) if self.others else tree

    def pace(self, going: bool = True) -> None:
        """A step ends, and the next one begins, which may take HUNG times the longest; or none begins.

        JAX computes later than it is asked to: how long one takes is known when the first result is there.
        """
        if self.process:
            return
        now = time.monotonic()
        self.longest = max(self.longest, now - self.since) if self.since else self.longest
        self.known = self.known or not going
        most = HUNG * max(self.heartbeat, self.longest) if self.known else LONG * self.heartbeat
        self.since, self.due = (now, now + most) if going else (0.0, float("inf"))

    def forward(self, number: int, frame: object = None) -> None:
        """The handler of a signal to another process than 0: process 0 gets it."""
        threading.Thread(target=self.others[0].send, args=(SIGNAL, str(number))).start()

    def settle(self) -> None:
        """Something failed: where that is because another process is lost, this one ends as all do."""
        if self.others:
            time.sleep(min(2.0, self.heartbeat))

    def end(self, status: int = 0, line: str = "") -> None:
        """This process ends, and has printed why: all end as process 0 does, or with what one of them met."""
        if self.others and self.process == 0:
            self._end(status, line, printed=True)
        if self.others:
            self.failed = bool(line)
            if line:
                self.settle()  # what befalls all, process 0 says itself
                self.others[0].send(FAILED, json.dumps([status, f"process {self.process}: {line}"]))
            threading.Event().wait()  # process 0 has the last word

    def _end(self, status: int, line: str, printed: bool = False) -> NoReturn:
        if not self.ending.acquire(blocking=False):
            threading.Event().wait()
        if self.process == 0:
            word = json.dumps([status, line])
            sending = [
                threading.Thread(target=o.send, args=(END, word), daemon=True) for o in self.others.values()
            ]
            for thread in sending:
                thread.start()
            for thread in sending:
                thread.join(0.5)
        self.leave(status, "" if printed or self.failed else line)

    def _watch(self) -> None:
        from multiprocessing.connection import wait

        beat, woke, stood = min(1.0, self.heartbeat / 5), time.monotonic(), 0.0
        rose = woke
        while True:
            connected: dict[Any, int] = {other.connection: k for k, other in [*self.others.items()]}
            ready: list[Any] = wait([*connected], beat)
            now = time.monotonic()
            still, woke = now - woke, now
            if still > 3 * beat:  # it is this one that was stopped
                stood, rose = still, now
            elif not ready or now - rose > 3 * beat:  # all that came meanwhile has been read
                stood = 0.0
            for there in ready:
                try:
                    self._take(connected[there], there.recv_bytes())
                except (OSError, EOFError):
                    line = f"process {connected[there]} is gone: killed, or its machine is down"
                    if stood:
                        line = f"this process stood still for {stood:.0f} s, and "
                        line += f"process {connected[there]} has left"
                    self._end(LOST, line)
            for process, other in [*self.others.items()]:
                other.heard = now if stood else other.heard
                if now - other.heard > self.heartbeat:
                    self._end(LOST, f"process {process} has stopped: no sign of it for {self.heartbeat:g} s")
                if now - other.shown >= beat:
                    other.shown = now
                    other.send(ALIVE, block=False)
            if now > self.due and not stood:
                self._end(LOST, f"a process hangs: the steps under way take {now - self.since:.0f} s by now")

    def _take(self, process: int, message: bytes) -> None:
        kind, content = message[0], message[1:].decode()
        self.others[process].heard = time.monotonic()
        if kind == TOLD:
            self.others[process].told.put(content)
        elif kind == SIGNAL:
            self.signalled(int(content))
        elif kind in (FAILED, END):
            self._end(*json.loads(content))


def disagreement(facts: Mapping, said: Mapping[int, Mapping]) -> str:
    """What the first process to differ from process 0 says otherwise; nothing where all say the same.

    >>> disagreement({"seed": 0, "layout": {"data": 2}}, {1: {"seed": 0, "layout": {"data": 4}}})
    'process 1 has another layout data: got 4, process 0 has 2'
    """
    for process, theirs in said.items():
        for name in sorted({*facts, *theirs}):
            got, expected = theirs.get(name), facts.get(name)
            if isinstance(got, Mapping) and isinstance(expected, Mapping) and {*got} == {*expected}:
                if inside := disagreement(expected, {process: got}):
                    return inside.replace("another ", f"another {name} ", 1)
            elif got != expected:
                return (
                    f"process {process} has another {name}: got {_said(got)}, process 0 has {_said(expected)}"
                )
    return ""


def _said(value) -> str:
    """As on a command line: data=2,model=4, or 16 8."""
    if isinstance(value, Mapping):
        return ",".join(f"{name}={one}" if one else name for name, one in value.items()) or "nothing"
    return (
        " ".join(map(str, value)) if isinstance(value, list) else "nothing" if value is None else str(value)
    )


def free_port(host: str) -> int:
    """A port of this machine that nothing listens at."""
    with socket.create_server((host, 0)) as server:
        return server.getsockname()[1]
