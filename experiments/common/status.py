"""What a program does now, and for how long, on the last line of a terminal; elsewhere nothing.

`doing("compiling")` begins, `reached(0.3)` says how much of it is done. A thin thread writes the line while
the program itself is silent; all that the program writes takes the line's place first.
"""

import os
import select
import shutil
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

BETWEEN, SILENCE = 0.25, 0.6  # seconds between two looks, and of silence until there is a line
ERASE = b"\r\x1b[K"


class Doing(NamedTuple):
    """What is done, since when, and the part of it that is done, or None where nobody knows."""

    what: str
    since: float
    part: float | None = None


class Line:
    """The line itself, beneath what is written to standard output and standard error."""

    def __init__(self):
        """Nothing is done, nothing shown, and no thread there."""
        self.doing = Doing("", 0.0)
        self.lock = threading.RLock()
        self.end_of_line, self.shown = True, ""  # what stands there
        self.last = time.monotonic()  # when something was written
        self.over = threading.Event()
        self.thread: threading.Thread | None = None

    def begin(self) -> None:
        """Write from now on, if standard error is a terminal that can erase a line."""
        if os.environ.get("TERM") in (None, "", "dumb") or not sys.stderr.isatty() or self.thread:
            return
        self.streams = sys.stdout, sys.stderr
        sys.stdout, sys.stderr = (Above(s, self) if s.isatty() else s for s in self.streams)
        self.over.clear()
        self.thread = threading.Thread(target=self.go_on, daemon=True)
        self.thread.start()

    def end(self) -> None:
        """Take the line away, and leave the streams as they were."""
        if self.thread:
            self.over.set()
            self.thread.join()
            self.thread = None
            self.erase()
            sys.stdout, sys.stderr = self.streams

    def go_on(self) -> None:
        """Write the line again and again, while nothing else is written."""
        terminal = self.streams[1].fileno()
        while not self.over.wait(BETWEEN):
            doing = self.doing
            with self.lock:
                silent = self.end_of_line and (self.shown or time.monotonic() - self.last > SILENCE)
                if doing.what and silent and select.select([], [terminal], [], 0)[1]:
                    text = line(doing, time.monotonic(), shutil.get_terminal_size().columns - 1)
                    if text != self.shown:
                        os.write(terminal, ERASE + text.encode())
                        self.shown = text

    def erase(self) -> None:
        """Take the line away until the next silence."""
        with self.lock:
            if self.shown:
                os.write(self.streams[1].fileno(), ERASE)
                self.shown = ""
            self.last = time.monotonic()


class Above:
    """A stream whose text takes the place of the line."""

    def __init__(self, stream, line: Line):
        """Of this stream."""
        self._stream, self._line = stream, line

    def write(self, text: str) -> int:
        """Write it, above the line."""
        if not text:
            return 0
        with self._line.lock:
            self._line.erase()
            self._line.end_of_line = text.endswith("\n")
            return self._stream.write(text)

    def writelines(self, lines) -> None:
        """Write them."""
        self.write("".join(lines))

    def __getattr__(self, name: str) -> Any:
        """All else is the stream's own."""
        return getattr(self._stream, name)


def line(doing: Doing, now: float, columns: int) -> str:
    """The line, in so many columns.

    >>> line(Doing("compiling", 1.0), 6.2, 40)
    'compiling  5 s'
    >>> line(Doing("epoch 7/10", 1.0, 0.65), 14.0, 40)
    'epoch 7/10  65 %|██████▌   | 00:13<00:06'
    """
    seconds = now - doing.since
    if doing.part is None:
        return f"{doing.what}  {seconds:.0f} s"[:columns]
    from tqdm import tqdm

    form = "{desc}{percentage:3.0f} %|{bar}| {elapsed}<{remaining}"
    bar = tqdm.format_meter(doing.part, 1, seconds, columns, f"{doing.what} ", bar_format=form)
    return bar[:columns]


LINE = Line()


def doing(what: str, part: float | None = None) -> None:
    """Say what is done from now on."""
    LINE.doing = Doing(what, time.monotonic(), part)


def reached(part: float, what: str = "") -> None:
    """Say which part of it is done, from 0 to 1, and in which words."""
    if LINE.thread:
        import tqdm  # noqa: F401  here, and not in the thread, it can be missed
    LINE.doing = LINE.doing._replace(what=what or LINE.doing.what, part=part)


def through(things: Iterable, what: str, count: int) -> Iterator:
    """The things, so many, one after the other; the line says at which it is."""
    doing(what, 0.0)
    for k, thing in enumerate(things):
        reached(k / count, f"{what} {k + 1:,} of {count:,}")
        yield thing
