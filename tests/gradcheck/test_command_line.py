"""python -m jaxnn.gradcheck, from any folder."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jaxnn.gradcheck.__main__ import main

ROOT = Path(__file__).parents[2]
MODULE = """
import os
import signal

import jax.numpy as jnp

def loss(w, x):
    return jnp.mean((x @ w) ** 2)

def right(w, x):
    return 2 * x.T @ (x @ w) / x.shape[0]

def wrong(w, x):
    return 2 * x.T @ (x @ w)

def by_x(w, x):
    return 2 * (x @ w)[:, None] * w[None] / x.shape[0]

def by_both(w, x):
    return right(w, x), by_x(w, x)

def raising(w, x):
    raise RuntimeError("not today")

def interrupted(w, x):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a shell runs beside it
    os.kill(os.getpid(), signal.SIGINT)
    return w

def stopped(w, x):
    raise KeyboardInterrupt

calls = []

def leaving(w, x):
    calls.append(0)
    if len(calls) > 1:
        raise SystemExit(0)
    return loss(w, x)

def no_arguments():
    raise SystemExit(0)

def arguments():
    return jnp.ones(3), jnp.arange(15.0).reshape(5, 3)

pair = (jnp.ones(3), jnp.arange(15.0).reshape(5, 3))
one = (jnp.ones(3), jnp.arange(1.0, 4).reshape(1, 3))
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a module mine, in which one stands and of which nothing is imported yet."""
    (tmp_path / "mine.py").write_text(MODULE)
    (tmp_path / "skipped.py").write_text("import pytest\n\npytest.importorskip('no_such_thing')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    yield tmp_path
    sys.modules.pop("mine", None)


def outcome(capsys, *args):
    """(exit status, what is printed, what is printed as an error) of the command, in this process."""
    try:
        status = main(args)
    except SystemExit as exit:
        status = exit.code
    said = capsys.readouterr()
    return status, said.out, said.err


def run(folder, *args):
    return subprocess.run(
        [sys.executable, "-m", "jaxnn.gradcheck", *args],
        capture_output=True,
        encoding="utf-8",
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8", "COLUMNS": "80"},
    )


def test_right_and_wrong_have_their_exit_status(folder, capsys):
    status, out, err = outcome(capsys, "mine:loss", "mine:right", "mine:arguments")
    assert (status, err) == (0, "")
    first, second = out.splitlines()[:2]
    assert first == "comparing mine:right with autodiff of mine:loss"
    assert second == "right is the gradient of loss"
    bad = run(folder, "mine.py:loss", "mine.py:wrong", "mine.py:pair", "--json", "--html", "page.html")
    assert bad.returncode == 1
    assert json.loads(bad.stdout)["correct"] is False
    assert (folder / "page.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_more_is_printed_where_it_is_wanted(folder, capsys):
    _, out, _ = outcome(capsys, "mine:loss", "mine:right", "mine:pair", "--verbose")
    assert all(word in out for word in ("err/bound", "ULPs", "FLOP", "purity: ok"))


@pytest.mark.parametrize(
    ("place", "limits", "sentence"),
    [
        ("mine:loss", ["--timeout", "0.1"], "--timeout: after 0.1 s it was not done, and was ended"),
        ("hungry:x", ["--memory", "1"], "cannot import hungry: MemoryError (hungry.py:1, in <module>)"),
        ("leaving:x", ["--memory", "1"], "it ended without a report (status 0, --memory 1)"),
        ("killed:x", ["--timeout", "60"], "it ended without a report (SIGKILL): farewell"),
        (
            "mine:loss",
            ["--memory", "-1"],
            "--memory: got '-1', expected a number above 0, of GB; write 10, for example",
        ),
    ],
)
def test_a_process_of_its_own_is_ended_at_its_limits_in_one_line(
    folder, capsys, monkeypatch, place, limits, sentence
):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (folder / "hungry.py").write_text("x = bytearray(2 * 10**9)\n")
    (folder / "leaving.py").write_text("import os\n\nos._exit(0)\n")
    (folder / "killed.py").write_text("import os\n\nos.write(2, b'farewell')\nos.kill(os.getpid(), 9)\n")
    status, out, err = outcome(capsys, place, "mine:right", "mine:pair", *limits)
    assert (status, err) == (2, f"error: {sentence}\n")
    assert out in ("", f"comparing mine:right with autodiff of {place}\n")


def test_a_process_of_its_own_says_what_this_one_does(folder):
    alone = run(folder, "mine:loss", "mine:wrong", "mine:pair", "--timeout", "500", "--memory", "8")
    assert (alone.returncode, alone.stderr) == (1, "")
    first, _, report = alone.stdout.partition("\n")
    assert first == "comparing mine:wrong with autodiff of mine:loss"
    assert report.startswith("w wrong: missing-mean (sure)")


def test_what_nothing_can_tell_has_a_status_of_its_own(folder, capsys):
    """A mean over one example is a sum."""
    assert outcome(capsys, "mine:loss", "mine:wrong", "mine:one")[0] == 3


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (("mine:loss", "mine:right"), "gradcheck mine:loss mine:right module:arguments"),
        (("mine:loss", "mine:right", "mine:pair", "mine:one"), "mine:loss mine:right mine:pair\n"),
        (("mine:loss", "mine:right", "mine:loss"), "mine:loss asks for w, x itself, expected the arguments"),
        (("mine:by_x", "mine:loss", "mine:pair"), "gradcheck mine:loss mine:by_x mine:pair"),
        (("mine:loss", "mine:right", "mine:pair", "--tol", "1e-3"), "--tol: no such option; each entry has"),
        (("mine:loss", "mine:right", "mine:pair", "--out", "x.html"), "did you mean --html?"),
        (("mine:loss", "mine:right", "mine:pair", "--memory", "500MB"), "of GB; write 0.5"),
        (("mine:loss", "mine:right", "mine:pair", "--timeout", "1 min"), "of seconds; write 60"),
        (("mine:loss", "mine:right", "mine:pair", "--timeout", "0"), "of seconds; write 10, for example"),
        (("missing_one:loss", "mine:right", "mine:pair"), "(missing_one.py:1, in <module>); install it"),
        (("loss", "mine:right", "mine:pair"), "'loss' names no object"),
        (("nowhere:loss", "mine:right", "mine:pair"), "cannot import nowhere: ModuleNotFoundError"),
        (("nowhere.py:loss", "mine:right", "mine:pair"), "cannot import nowhere.py: FileNotFoundError"),
        (("mine:lost", "mine:right", "mine:pair"), "mine has no lost; it has arguments, "),
        (("mine:loss", "mine:raising", "mine:pair"), "raised RuntimeError: not today"),
        (("mine:leaving", "mine:right", "mine:pair"), "mine:leaving or mine:right raised SystemExit: 0"),
        (("skipped:loss", "mine:right", "mine:pair"), "cannot import skipped: Skipped: could not import"),
        (("mine:loss", "mine:right", "mine:no_arguments"), "mine:no_arguments raised SystemExit: 0"),
        (("mine:loss", "mine:right", "mine:pair", "--argnums", "w"), "--argnums wants numbers"),
        (("mine:loss", "mine:right", "mine:pair", "--argnums=--"), "--argnums wants numbers"),
        (("mine:loss", "mine:right", "mine:pair", "--html=--"), "--html"),
        (("mine:loss", "mine:right", "mine:pair", "--html", "no/such/page.html"), "folder that is there"),
        (("mine:loss", "mine:right", "mine:pair", "--html", ""), "--html: got '', expected a file"),
        (("mine:loss", "mine:right", "mine:pair", "--html", os.devnull), "folder that is there"),
    ],
)  # fmt: skip
def test_a_bad_call_is_one_line_and_status_2(folder, capsys, args, sentence):
    (folder / "missing_one.py").write_text("import no_such_one\n")
    status, _, err = outcome(capsys, *args)
    sys.modules.pop("missing_one", None)
    assert status == 2
    assert err.startswith("error: ")
    assert sentence in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("functions", [("loss", "stopped"), ("stopped", "right")])
def test_an_interruption_is_one_line_and_the_status_of_a_shell(folder, capsys, functions):
    assert outcome(capsys, *(f"mine:{name}" for name in functions), "mine:pair")[::2] == (
        130,
        "interrupted\n",
    )


def test_a_signal_ends_the_command_in_one_line(folder):
    done = run(folder, "mine:loss", "mine:interrupted", "mine:pair")
    assert (done.returncode, done.stderr) == (130, "interrupted\n")


@pytest.mark.parametrize("argnums", ["1", "0,1"])
def test_the_arguments_to_differentiate_are_counted_from_zero(folder, capsys, argnums):
    gradient = {"1": "by_x", "0,1": "by_both"}[argnums]
    assert outcome(capsys, "mine:loss", f"mine:{gradient}", "mine:pair", "--argnums", argnums)[0] == 0
    assert outcome(capsys, "mine:loss", "mine:right", "mine:pair", "--argnums", argnums)[0] == 2


def test_help_answers_at_once(folder):
    code = (
        "import sys, runpy\n"
        "sys.argv = ['gradcheck', '--help']\n"
        "try:\n    runpy.run_module('jaxnn.gradcheck', run_name='__main__')\n"
        "except SystemExit:\n    pass\n"
        "assert not {'jax', 'numpy'} & set(sys.modules), 'imported too much'\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        encoding="utf-8",
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "80"},
    )
    assert done.returncode == 0, done.stderr
    assert "Exit status: 0 right, 1 wrong, 3 cannot tell, 2 bad call." in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
