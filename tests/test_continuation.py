"""Programs that are interrupted, at moments that are chosen by what they print; and how they go on."""

import re
import shutil
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import count

import matplotlib.figure
import numpy as np
import pytest

from experiments import endure, sweep, train
from experiments.common.continuation import as_in_the_run
from jaxnn import training
from jaxnn.runs import checkpoints
from tests.programs import Listening, ended

pytestmark = pytest.mark.usefixtures("compiled_plainly")
SMALL = ("--hidden", "31", "--optimizer", "adam", "--epochs", "4")
FAMILY = ("--seeds", "3", "--learning-rates", "0.2", "1", "--widths", "5", "9", "--epochs", "3")
SELDOM = ("--save-every", "1e8")  # the first pause, and where it must
PATIENCE = 60  # seconds for what comes at once, unless it never does


@pytest.fixture(scope="module", autouse=True)
def _epochs_of_several_programs():
    """As of large networks: 74, 74 and 31 steps of train's epochs, and a few of sweep's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "WORK", 1.4e6)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What a training ends with that nothing happens to."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    assert ended(train, *SMALL, "--out", folder).status == 0
    return endure.outcome(folder)


@pytest.fixture(scope="module")
def rounds(tmp_path_factory):
    """The arguments of a sweep in rounds; the networks in one; what it ends with; its folder between two."""
    taken = re.search(
        r"^memory +(\S+) GB", ended(sweep, *FAMILY, "--memory", "1", on={"memory ": stop()}).out, re.M
    )
    line, folder = (*FAMILY, *SELDOM, "--memory", 0.7 * float(taken[1])), tmp_path_factory.mktemp("sweeps")

    def copy():
        shutil.copytree(folder / "whole", folder / "between")

    printed = Listening({"epoch   3/3": lambda: printed.on.update({"epoch   1/3": copy})})
    done = ended(sweep, *line, "--out", folder / "whole", out=printed)
    assert done.status == 0, done.err
    K = int(re.search(r"for (\d+) at once", done.out)[1])
    assert K <= 6
    return line, K, endure.outcome(folder / "whole"), folder / "between"


def stop(number=signal.SIGTERM):
    return lambda: signal.raise_signal(number)


def saved_at(place, folder):
    return f"interrupted at {place}, and saved; the same command, or --out {folder} alone, goes on\n"


LATE = "interrupted; the same command goes on, or begins if nothing was saved yet\n"


@pytest.mark.parametrize("switch", [True, False])
def test_a_switch_and_a_nought_of_a_run_are_taken_on(switch, tmp_path):
    settings = {"reproducible": switch, "seed": 0, "hidden": [7, 5], "learning_rate": None}
    found = as_in_the_run(train.parser().parse_args([]), train.parser(), settings, tmp_path)
    assert (found.reproducible, found.seed, found.hidden) == (switch, 0, [7, 5])


@pytest.fixture
def written(monkeypatch):
    """Waits until all that the program gave to other threads is done, and its last save is on the disk."""
    begun, submit = [], ThreadPoolExecutor.submit

    def remember(self, *task, **options):
        found = submit(self, *task, **options)
        if threading.current_thread() is threading.main_thread():
            begun.append(found)
        return found

    monkeypatch.setattr(ThreadPoolExecutor, "submit", remember)
    return lambda: wait(begun)


def test_a_training_is_left_at_every_moment_and_loses_nothing(whole, tmp_path, monkeypatch):
    out, only = tmp_path / "run", ("--out", tmp_path / "run")
    for line, text, number, said, goes_on in (
        ((*SMALL, *only), "\ndevice ", signal.SIGTERM, LATE, None),
        (only, "compiled ", signal.SIGINT, saved_at("epoch 1, step 74", out), None),
        (only, "epoch   2/4", signal.SIGTERM, saved_at("epoch 3, step 74", out), "0 epochs and 74 steps"),
        ((*SMALL, *only), "epoch   4/4", signal.SIGINT, LATE, "2 epochs and 74 steps"),
        (only, "accuracy  ", signal.SIGTERM, LATE, "4 epochs and 0 steps"),
    ):
        done = ended(train, *line, on={text.strip(): stop(number)})
        assert (done.status, done.err) == (76, said)
        assert ("goes on " in done.out) == (goes_on is not None)
        if goes_on:
            assert f"goes on   after {goes_on} ({out}/checkpoints/" in done.out
        assert not (out / "params.safetensors").exists()

    draw = matplotlib.figure.Figure.savefig
    with monkeypatch.context() as patch:
        patch.setattr(matplotlib.figure.Figure, "savefig", lambda *_, **__: signal.raise_signal(15))
        done = ended(train, *only)
    assert (done.status, done.err) == (76, LATE)
    assert matplotlib.figure.Figure.savefig is draw

    done = ended(train, *only, on={"saved     in": stop()})  # it is finished: there is nothing to leave
    assert (done.status, done.err) == (0, "")
    assert endure.outcome(out) == whole


def test_a_sweep_is_left_at_every_moment_and_loses_nothing(rounds, tmp_path, monkeypatch):
    line, K, whole, _ = rounds
    only = ("--out", tmp_path)
    for args, text, epoch, first in (
        ((*line, *only), "epoch   3/3   networks 1..", 1, None),  # in the first epoch of the second round
        (only, "epoch   1/3", 2, K + 1),
    ):
        done = ended(sweep, *args, on={text: stop()})
        step = re.match(rf"interrupted at epoch {epoch}, step (\d+), ", done.err)
        assert step, done.err
        assert 1 <= int(step[1]) < 44
        assert (done.status, done.err) == (76, saved_at(f"epoch {epoch}, step {step[1]}", tmp_path))
        if first:
            assert f"goes on   in the round from network {first} on, after {epoch - 2} epochs" in done.out
    last = f"networks {12 - (11 % K)}..12"
    done = ended(sweep, *only, on={f"epoch   3/3   {last}": stop()})
    assert done[::2] == (76, LATE)
    assert not (tmp_path / "networks.jsonl").exists()
    with monkeypatch.context() as patch:
        patch.setattr(matplotlib.figure.Figure, "savefig", lambda *_, **__: signal.raise_signal(15))
        assert ended(sweep, *only)[::2] == (76, LATE)
    assert ended(sweep, *only, on={"saved     in": stop()})[::2] == (0, "")
    assert endure.outcome(tmp_path) == whole


def test_a_sweep_that_was_killed_between_two_rounds_goes_on(rounds):
    _, K, whole, between = rounds
    done = ended(sweep, "--out", between, "--memory", "1e-9")
    said = rf"error: --memory: got 1e-09 GB on each device, expected at least \S+ for {K}, with which this "
    assert re.fullmatch(said + "sweep began\n", done.err), done.err
    done = ended(sweep, "--out", between)
    assert f"goes on   in the round from network {K + 1} on, after 0 epochs" in done.out
    assert endure.outcome(between) == whole


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_without_a_folder_a_signal_ends_it_between_two_steps(number):
    done = ended(train, *SMALL, on={"epoch   1/4": stop(number)})
    said = "interrupted at epoch 2, step 74; with --out DIR a run can go on\n"
    assert (done.status, done.err) == (128 + number, said)
    assert ended(train, *SMALL, on={"device ": stop(number)})[::2] == (128 + number, "interrupted\n")


def test_the_second_signal_ends_it_at_once(tmp_path):
    def twice():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)

    done = ended(train, *SMALL, *SELDOM, "--out", tmp_path, on={"epoch   2/4": twice})
    assert (done.status, done.err) == (130, "interrupted\n")
    assert done.out.splitlines()[-1].startswith("epoch   2/4")


def test_a_run_is_saved_while_it_trains_so_that_few_seconds_can_be_lost(tmp_path, monkeypatch, written):
    """An epoch takes 1000 seconds here, and 2500 may be lost: so every second epoch is saved."""
    passed, clock, seen = [0.0], time.monotonic, []

    def monotonic():  # who writes takes milliseconds
        return clock() + passed[0] * (threading.current_thread() is threading.main_thread())

    monkeypatch.setattr(time, "monotonic", monotonic)

    def after(epoch):
        def look():
            written()
            newest = checkpoints.newest(tmp_path / "checkpoints", print)
            seen.append((int(newest.folder.name), len(newest.progress["metrics"]), newest.progress["step"]))
            assert 1000 * (epoch - seen[-1][1]) < 2500
            passed[0] += 1000

        return look

    done = ended(
        train, *SMALL[:-1], "6", "--save-every", "2500", "--out", tmp_path,
        on={f"epoch {epoch:3}/6": after(epoch) for epoch in range(1, 7)},
    )  # fmt: skip
    assert done.status == 0, done.err
    assert seen == [(1, 0, 74), (1, 0, 74), (2, 2, 74), (2, 2, 74), (3, 4, 74), (3, 4, 74)]
    assert checkpoints.numbers(tmp_path / "checkpoints") == [4, 3, 2]


def test_what_a_kill_leaves_goes_on(whole, tmp_path, written):
    out, left = tmp_path / "run", tmp_path / "left"

    def kill():
        written()
        shutil.copytree(out, left)

    ended(train, *SMALL, *SELDOM, "--out", out, on={"epoch   3/4": kill})
    done = ended(train, "--out", left)
    assert "goes on   after 0 epochs and 74 steps" in done.out
    assert endure.outcome(left) == whole


def test_training_goes_on_while_a_checkpoint_is_written(whole, tmp_path, monkeypatch):
    save, trained, waited = checkpoints.write, threading.Event(), []

    def slowly(*args):
        waited.append(trained.wait(PATIENCE))
        trained.set()
        return save(*args)

    monkeypatch.setattr(checkpoints, "write", slowly)
    done = ended(
        train, *SMALL, "--save-every", "0", "--out", tmp_path, on={"epoch   4/4": lambda: trained.set()}
    )
    assert done.status == 0, done.err
    assert waited == [True, True]  # begun in the first epoch, and after the last
    assert endure.outcome(tmp_path) == whole


@pytest.mark.parametrize("program", [train, sweep])
def test_what_could_not_be_written_is_not_said_to_be_saved(program, tmp_path, written):
    folder = tmp_path / "checkpoints"

    def no_room():
        written()
        shutil.rmtree(folder)
        folder.write_text("in the way")
        signal.raise_signal(signal.SIGTERM)

    line = SMALL if program is train else (*FAMILY, "--memory", "1")
    done = ended(program, *line, *SELDOM, "--out", tmp_path, on={"epoch   1/": no_room})
    assert done.status == 2
    assert re.fullmatch(r"error: \S*/checkpoints/000002: cannot be written \([^\n]*\n", done.err), done.err


def test_a_folder_that_is_removed_while_a_run_is_in_it_ends_it(tmp_path):
    out = tmp_path / "run"
    done = ended(train, *SMALL, *SELDOM, "--out", out, on={"compiled ": lambda: shutil.rmtree(out)})
    assert done.status == 2
    assert done.err == (
        f"error: --out: {out} was removed or replaced while a run was in it; nothing is saved\n"
    )
    assert not out.exists()


def test_a_run_that_diverges_keeps_its_last_good_checkpoint(tmp_path):
    only = ("--out", tmp_path)
    ended(train, *SMALL, "--activation", "relu", *SELDOM, *only, on={"epoch   2/4": stop()})
    before = checkpoints.newest(tmp_path / "checkpoints", print)
    faster = ("--learning-rate", "1e30", "--override", "learning_rate")
    for every, on in (("0", {}), ("1e8", {}), ("1e8", {"compiled ": stop()})):
        done = ended(train, *only, *faster, "--save-every", every, on=on)
        assert done.status == 2  # a signal too saves nothing of it
        place = r"epoch 3, step (\d+): \S+, of layer [12], is the first that is not finite; "
        found = re.match(f"error: {place}", done.err)
        assert found, done.err
        assert 75 < int(found[1]) <= 179  # the step before 75 is behind it
        assert done.err.endswith(
            f"from the last good checkpoint on with: --out {tmp_path} "
            "--learning-rate 1e+29 --override learning_rate\n"
        )
        newest = checkpoints.newest(tmp_path / "checkpoints", print)
        assert newest.progress["step"] == before.progress["step"] == 74
        assert all(np.isfinite(array).all() for array in checkpoints.content(newest).values())
    assert ended(train, *only, "--learning-rate", "0.002", "--override", "learning_rate").status == 0
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 4


def test_the_handlers_of_signals_are_given_back(tmp_path):
    """Whoever calls main from Python has Ctrl-C again afterwards."""
    mine, calls = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)], count()
    try:
        signal.signal(signal.SIGTERM, lambda *_: next(calls))
        arguments = train.parser().parse_args(["--epochs", "1", "--hidden", "5", "--out", str(tmp_path)])
        assert train.main(arguments) == 0
        signal.raise_signal(signal.SIGTERM)
        assert next(calls) == 1
    finally:
        for number, handler in zip((signal.SIGINT, signal.SIGTERM), mine, strict=True):
            signal.signal(number, handler)


def test_a_link_that_comes_in_the_place_of_the_checkpoints_is_not_followed(tmp_path, written):
    out, elsewhere = tmp_path / "run", tmp_path / "elsewhere"

    def swap():
        written()
        (out / "checkpoints").rename(elsewhere)
        (out / "checkpoints").symlink_to(elsewhere)

    done = ended(train, *SMALL, "--save-every", "0", "--out", out, on={"epoch   1/": swap})
    assert done.status == 2
    assert re.fullmatch(r"error: [^\n]* cannot be written \(a link; expected a folder of [^\n]*\n", done.err)
    assert checkpoints.numbers(elsewhere) == [1]
    assert not [*elsewhere.glob(".part-*")]


def test_metrics_that_are_removed_while_a_run_writes_them_are_noticed(whole, tmp_path):
    remove = (tmp_path / "metrics.jsonl").unlink
    done = ended(train, *SMALL, *SELDOM, "--out", tmp_path, on={"epoch   2/": remove})
    assert done.status == 2
    assert re.fullmatch(r"error: \S*metrics.jsonl: was removed while [^\n]*\n", done.err)
    assert ended(train, "--out", tmp_path).status == 0
    assert endure.outcome(tmp_path) == whole
