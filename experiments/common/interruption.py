"""What SIGTERM and Ctrl-C do to a program."""

import contextlib
import os
import select
import signal
import threading
import time
from collections.abc import Callable
from typing import NoReturn

from experiments.common.status import ERASE, LINE

SAVED = 76  # the exit status of a run that was interrupted, and that the same command goes on with
OUT, ERR = 1, 2  # what it prints to
SIGNALS = (signal.SIGINT, signal.SIGTERM)
PATIENCE = 0.5  # seconds that whoever reads the output has to take it, after a signal
SAME = 0.0  # seconds after a signal in which others are the same one, sent to several processes
LATEST = 1.5  # seconds after a signal in which a run that is saved may still make its page

FORWARD: Callable | None = None  # where signals to this process go, if they are none of its business
FAREWELL: Callable = lambda status, line: None  # what is done with the last line and status  # noqa: E731


def leave(number: int, frame: object = None) -> NoReturn:
    """Leave at once, with the status that a shell gives to this signal."""
    _end(128 + number, "interrupted\n")


def leave_unchanged(number: int, frame: object = None) -> NoReturn:
    """Leave at once; all that the folder of the run needs is on the disk."""
    _end(SAVED, "interrupted; the same command goes on, or begins if nothing was saved yet\n")


def unblock(patience: float = 0.0) -> None:
    """Give up an output that nobody reads: else who writes to it never ends.

    A write that waits is repeated after a signal, and then goes nowhere.
    """
    for file in (OUT, ERR):
        with contextlib.suppress(
            OSError, ValueError, AttributeError
        ):  # it is closed; or Windows, without poll
            wait = select.poll()
            wait.register(file, select.POLLOUT)
            if not wait.poll(1000 * patience):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, file)
                os.close(nowhere)


def _end(status: int, line: str) -> NoReturn:
    unblock(PATIENCE)
    os.write(ERR, ERASE * bool(LINE.shown) + line.encode())
    FAREWELL(status, line.strip())
    os._exit(status)  # an exception could be lost in whatever import or compilation is going on


def on_signal(handler) -> None:
    """Have SIGTERM and Ctrl-C call `handler(number, frame)`."""
    for number in SIGNALS:
        signal.signal(number, FORWARD or handler)


class Dropped(BaseException):
    """A signal has come in the midst of what need not be done."""


class Interruption:
    """Within `with Interruption() as interruption:`, the first signal is only noted; the second one leaves.

    `interruption.signal` is the number of the signal that has come, or None.
    """

    def __init__(self):
        """No signal has come."""
        self.signal: int | None = None
        self.last, self.droppable = "", False
        self._deadline = threading.Timer(LATEST, self._end_if_saved)  # a compilation hears no signal
        self._deadline.daemon = True

    def __enter__(self):
        """Note signals from now on."""
        self._before = [signal.getsignal(number) for number in SIGNALS]
        on_signal(self._note)
        return self

    def __exit__(self, *error):
        """Do with signals what was done before."""
        if self.signal:
            self._unblock_every(0)
            self._deadline.cancel()
        for number, handler in zip(SIGNALS, self._before, strict=True):
            signal.signal(number, handler)

    def ignore(self) -> None:
        """Ignore signals from now on, a program to its end: what is left to do takes no time."""
        on_signal(signal.SIG_IGN)
        self._before = [signal.SIG_IGN if before is leave_unchanged else before for before in self._before]

    def unless(self, work: Callable[[], object]) -> None:
        """Do this, which may take long: not after a signal, and until one comes."""
        try:
            self.droppable = True
            if not self.signal:
                work()
            self.droppable = False
        except Dropped:
            self.droppable = False

    def saved(self, last: str) -> None:
        """All is saved, and this is to be said at the end: what takes too long from now on is left out."""
        self.last = last
        if self._deadline.finished.is_set():
            self._end_if_saved()

    def _note(self, number: int, frame: object) -> None:
        self.signal, came = number, time.monotonic()
        on_signal(lambda number, _: leave(number) if time.monotonic() - came >= SAME else None)
        unblock(PATIENCE)
        self._deadline.start()
        self._unblock_every(PATIENCE / 2)
        if self.droppable:
            raise Dropped

    def _unblock_every(self, seconds: float) -> None:
        if hasattr(signal, "setitimer"):
            signal.signal(signal.SIGALRM, (lambda number, frame: unblock()) if seconds else signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, seconds, seconds)

    def _end_if_saved(self) -> None:
        if self.last:
            _end(SAVED, self.last + "\n")
