"""What SIGTERM and Ctrl-C do to a program."""

import os
import signal
from typing import NoReturn

from experiments.common.status import ERASE, LINE

SAVED = 76  # the exit status of a run that was interrupted, and that the same command goes on with
SIGNALS = (signal.SIGINT, signal.SIGTERM)


def leave(number: int, frame: object = None) -> NoReturn:
    """Leave at once, with the status that a shell gives to this signal."""
    _end(128 + number, "interrupted\n")


def leave_unchanged(number: int, frame: object = None) -> NoReturn:
    """Leave at once; all that the folder of the run needs is on the disk."""
    _end(SAVED, "interrupted; the same command goes on, or begins if nothing was saved yet\n")


def _end(status: int, line: str) -> NoReturn:
    os.write(2, ERASE * bool(LINE.shown) + line.encode())
    os._exit(status)  # an exception could be lost in whatever import or compilation is going on


def on_signal(handler) -> None:
    """Have SIGTERM and Ctrl-C call `handler(number, frame)`."""
    for number in SIGNALS:
        signal.signal(number, handler)


class Interruption:
    """Within `with Interruption() as interruption:`, the first signal is only noted; the second one leaves.

    `interruption.signal` is the number of the signal that has come, or None.
    """

    def __init__(self):
        """No signal has come."""
        self.signal: int | None = None

    def __enter__(self):
        """Note signals from now on."""
        self._before = [signal.getsignal(number) for number in SIGNALS]
        on_signal(self._note)
        return self

    def __exit__(self, *error):
        """Do with signals what was done before."""
        for number, handler in zip(SIGNALS, self._before, strict=True):
            signal.signal(number, handler)

    def ignore(self) -> None:
        """Ignore signals from now on, a program to its end: what is left to do takes no time."""
        on_signal(signal.SIG_IGN)
        self._before = [signal.SIG_IGN if before is leave_unchanged else before for before in self._before]

    def _note(self, number: int, frame: object) -> None:
        self.signal = number
        on_signal(leave)
