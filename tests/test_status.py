"""The last line of a terminal says what is done; elsewhere there is nothing, and nothing is left of it."""

import contextlib
import io
import os
import signal
import sys
import time

import pytest

from experiments.common import interruption, status
from jaxnn.gradcheck.report import colours


def read(terminal, text, end):
    """What was written to a terminal, with this text and this end, which may come late."""
    clock, said = time.monotonic(), ""
    while not (text in said and said.endswith(end)):
        assert time.monotonic() - clock < 20, said
        with contextlib.suppress(BlockingIOError):
            said += os.read(terminal, 100_000).decode()
    return said


@contextlib.contextmanager
def on_a_terminal(line):
    """Standard output and standard error are a terminal; yields what reads what was written to it."""
    ours, theirs = os.openpty()
    os.set_blocking(ours, False)
    with pytest.MonkeyPatch.context() as patch, open(theirs, "w", buffering=1, encoding="utf-8") as stream:
        patch.setattr(sys, "stdout", stream)
        patch.setattr(sys, "stderr", stream)
        patch.setenv("TERM", "xterm")
        patch.setattr(status, "BETWEEN", 0.005)
        patch.setattr(status, "SILENCE", 0.0)
        line.begin()
        try:
            yield lambda *what: read(ours, *what)
        finally:
            line.end()
    os.close(ours)


def until(line, shown):
    """Wait until the line is shown, or is not."""
    clock = time.monotonic()
    while bool(line.shown) is not shown:
        assert time.monotonic() - clock < 20
        time.sleep(0.002)


@pytest.fixture
def line(monkeypatch):
    fresh = status.Line()
    monkeypatch.setattr(status, "LINE", fresh)
    monkeypatch.setattr(interruption, "LINE", fresh)
    yield fresh
    fresh.end()


def test_what_is_done_is_shown_and_gives_way_to_what_is_written(line):
    with on_a_terminal(line) as written:
        status.doing("compiling")
        until(line, True)
        print("device    cpu")
        until(line, True)
        line.end()
        said = written("cpu\r\n\r\x1b[Kcompiling", "s\r\x1b[K")  # nothing is left of it
    assert said.startswith("\r\x1b[Kcompiling  0 s\r\x1b[K")
    assert "\r\x1b[Kdevice    cpu\r\n" in said


def test_no_line_is_written_behind_a_question(line):
    with on_a_terminal(line) as written:
        print("The shape of W, rows and columns: ", end="", flush=True)
        status.doing("computing")
        time.sleep(0.1)
        assert not line.shown
        assert written("", "columns: ") == "The shape of W, rows and columns: "


def test_a_bar_moves_within_its_columns():
    for part in (0.0, 0.3, 1.0):
        text = status.line(status.Doing("epoch 7", 0.0, part), 200.0, 79)
        assert len(text) <= 79
        assert f"{100 * part:.0f} %" in text
    assert status.line(status.Doing("reading " + 100 * "x", 0.0), 1.0, 79).startswith("reading xxx")
    assert len(status.line(status.Doing(100 * "x", 0.0), 1.0, 79)) == 79


def test_elsewhere_there_is_no_line(line, monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    line.begin()
    assert line.thread is None
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    line.begin()
    assert line.thread is None


def test_a_signal_leaves_nothing_of_the_line(line, monkeypatch):
    written = []
    monkeypatch.setattr(os, "write", lambda file, content: written.append(content))
    monkeypatch.setattr(os, "_exit", written.append)
    line.shown = "compiling"
    interruption.leave(signal.SIGTERM)
    assert written == [b"\r\x1b[Kinterrupted\n", 128 + signal.SIGTERM]


def test_what_goes_through_is_counted(line):
    seen = []
    for thing in status.through("ab", "letter", 2):
        seen.append((thing, line.doing.what, line.doing.part))
    assert seen == [("a", "letter 1 of 2", 0.0), ("b", "letter 2 of 2", 0.5)]


ENVIRONMENTS = [
    ({}, True, True),
    ({}, False, False),
    ({"NO_COLOR": "1"}, True, False),
    ({"NO_COLOR": ""}, True, True),
    ({"FORCE_COLOR": "1"}, False, True),
    ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, True, False),
    ({"TERM": "dumb"}, True, False),
    ({"TERM": "dumb", "FORCE_COLOR": "1"}, True, True),
]


@pytest.mark.parametrize(("environment", "terminal", "coloured"), ENVIRONMENTS)
def test_colours_are_shown_where_they_are_wanted(environment, terminal, coloured, monkeypatch):
    for name, value in ({"TERM": "xterm", "NO_COLOR": "", "FORCE_COLOR": ""} | environment).items():
        monkeypatch.setenv(name, value)
    stream = io.StringIO()
    stream.isatty = lambda: terminal
    assert colours.error(stream) == ("\x1b[31merror:\x1b[0m" if coloured else "error:")
    said = colours.verdicts("W wrong\n\nformula   WRONG\nnumerics  good\n", stream)
    expected = "formula   \x1b[31mWRONG\x1b[0m\nnumerics  \x1b[32mgood\x1b[0m"
    assert (expected in said) is coloured
