"""Several processes that train together: they agree, end together, and go on bit for bit."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from experiments import launch, train
from experiments.common import task, together
from experiments.common.damage import outcome
from jaxnn.devices import Refused, processes
from jaxnn.devices.processes import Group, disagreement, free_port
from tests.programs import ROOT, ended

pytestmark = pytest.mark.usefixtures("compiled_plainly")
HERE = "127.0.0.1"
WAIT = 100  # seconds for what takes a few


class Fake:
    """A group in a thread of this process, as one of several; where it would end, it notes how."""

    def __init__(self, process, many, port, heartbeat=30.0, facts=None):
        self.left, self.signals, self.over = None, [], threading.Event()
        self.group = Group(self.leave, self.signals.append)
        self.error, self.facts = None, facts or {}
        self.words = process, many, HERE, port, heartbeat
        self.thread = threading.Thread(target=self.join, daemon=True)
        self.thread.start()

    def join(self):
        try:
            self.group.join(*self.words)
            self.group.agree(self.facts)
        except Refused as error:
            self.error = str(error)
            self.group.end(2, self.error)

    def leave(self, status, line):
        self.left = status, line
        self.over.set()
        hang_up(self.group)
        threading.Event().wait()

    def ended(self):
        assert self.over.wait(WAIT)
        return self.left


def hang_up(group):
    for other in group.others.values():
        there = os.dup(other.connection.fileno())
        with socket.socket(fileno=there) as here, contextlib.suppress(OSError):  # the other one has
            here.shutdown(socket.SHUT_RDWR)


def never(*words):
    raise AssertionError(words)


def fakes(many=3, heartbeat=30.0, **facts):
    port = free_port(HERE)
    return [Fake(k, many, port, heartbeat, facts.get(f"of_{k}")) for k in range(many)]


def joined(*args, **facts):
    found = fakes(*args, **facts)
    for fake in found:
        fake.thread.join(WAIT)
        assert not fake.thread.is_alive()
    return [fake.group for fake in found], found


def test_one_process_alone_is_told_what_it_tells():
    group = Group(never, never)
    group.agree({"seed": 1})
    assert group.tell("word") == "word"
    tree = {"W": object()}
    assert group.same(tree) is tree
    group.pace()
    group.end(3, "line")  # nobody else has to end


def test_all_are_told_what_process_0_tells():
    groups, _ = joined(3)
    long = "x" * 3_000_000  # more than a socket takes at once
    told = [None] * 3

    def tell(k):
        told[k] = [groups[k].tell("" if k else long), groups[k].tell("" if k else "short")]

    threads = [threading.Thread(target=tell, args=(k,), daemon=True) for k in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    assert told == [[long, "short"]] * 3


def test_facts_that_differ_end_all_with_one_line():
    found = fakes(3, of_0={"seed": 0, "n": [1]}, of_1={"seed": 0, "n": [1]}, of_2={"seed": 4, "n": [1]})
    line = "process 2 has another seed: got 4, process 0 has 0"
    assert [fake.ended() for fake in found] == [(2, ""), (2, line), (2, line)]  # process 0 has printed it
    assert found[0].error == line
    assert disagreement({"a": None}, {1: {}}) == ""
    line = "process 2 has another a: got nothing, process 0 has 1 2"
    assert disagreement({"a": [1, 2]}, {1: {"a": [1, 2]}, 2: {"a": None}}) == line
    line = "process 1 has another layout: got model=2,data, process 0 has data=4"
    assert disagreement({"layout": {"data": 4}}, {1: {"layout": {"model": 2, "data": 0}}}) == line
    line = "process 1 has another versions jax: got 3, process 0 has 4"
    assert disagreement({"versions": {"jax": "4"}}, {1: {"versions": {"jax": "3"}}}) == line


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([(0, 3), (1, 3), (1, 3)], "process 1 of 3 came, expected {2} of 3"),
        ([(0, 3), (1, 2)], "process 1 of 2 came, expected {1, 2} of 3"),
    ],
)
def test_numbers_that_do_not_fit_are_refused_at_once(words, line):
    port = free_port(HERE)
    found = [Fake(*word, port) for word in words]
    assert found[0].ended() == (2, "")
    assert line in found[0].error
    assert {fake.ended()[1] for fake in found[1:]} == {found[0].error}


def test_who_is_none_of_them_is_not_let_in():
    port = free_port(HERE)
    first = Fake(0, 2, port)
    for said in (b"GET / HTTP/1.1\r\n\r\n", b"", b"\x00\x00\x00\x05hello"):
        while True:
            try:
                stranger = socket.create_connection((HERE, port), 1)
                break
            except ConnectionError:
                time.sleep(0.01)
        stranger.sendall(said)
        stranger.close()
    second = Fake(1, 2, port)
    for fake in (first, second):
        fake.thread.join(WAIT)
    assert (len(first.group.others), len(second.group.others)) == (1, 1)


def test_nobody_listens_or_comes(monkeypatch):
    monkeypatch.setattr(processes, "JOINING", 0.3)
    port = free_port(HERE)
    line = f"process 0 did not listen at {HERE}:{port} within 0 s"
    assert Fake(1, 2, port).ended() == (75, line)
    assert Fake(0, 3, port).ended() == (75, "process 1 did not come within 0 s")


@pytest.mark.parametrize("lost", [0, 2])
def test_where_one_is_gone_all_end(lost):
    groups, found = joined(3)
    groups[lost].ending.acquire()  # who is killed says nothing any longer
    hang_up(groups[lost])
    for k in {0, 1, 2} - {lost}:
        assert found[k].ended() == (75, f"process {lost} is gone: killed, or its machine is down")


def test_who_was_stopped_itself_does_not_blame_the_others(monkeypatch):
    groups, found = joined(2)
    watcher = next(t for t in threading.enumerate() if getattr(t, "_target", None) == groups[0]._watch)
    clock, asked, gone, ahead = time.monotonic, threading.Event(), threading.Event(), [0.0]

    def after_it_was_stopped():
        now = clock() + ahead[0]
        if threading.current_thread() is watcher and not ahead[0]:
            asked.set()
            gone.wait()
            ahead[0] = 500.0  # it is stopped before it asks again
        return now

    monkeypatch.setattr(processes.time, "monotonic", after_it_was_stopped)
    assert asked.wait(WAIT)
    groups[1].ending.acquire()
    groups[1].others[0].send(processes.ALIVE)  # which is read before it is seen that process 1 has left
    hang_up(groups[1])
    gone.set()
    assert re.fullmatch(r"this process stood still for 50\d s, and process 1 has left", found[0].ended()[1])


def test_who_came_is_watched_while_others_are_waited_for():
    port = free_port(HERE)
    found = [Fake(k, 3, port) for k in (0, 1)]
    while not found[0].group.others:
        time.sleep(0.01)
    found[1].group.ending.acquire()
    hang_up(found[1].group)
    assert found[0].ended() == (75, "process 1 is gone: killed, or its machine is down")


def test_where_one_is_stopped_all_end_after_a_heartbeat():
    groups, found = joined(3, 1.0)
    groups[1].others[0].lock.acquire()  # nothing comes of it any longer
    began = time.monotonic()
    line = "process 1 has stopped: no sign of it for 1 s"
    assert {found[0].ended(), found[2].ended()} == {(75, line)}
    assert time.monotonic() - began > 0.5


def test_steps_that_take_much_longer_than_before_hang():
    groups, found = joined(2, 0.5)
    groups[0].pace()
    groups[0].pace()
    assert groups[0].due - groups[0].since == 20 * 0.5  # until a result is there, it may take long
    groups[0].pace(going=False)
    groups[0].pace()
    groups[0].since -= 10
    groups[0].pace()
    assert 40 <= groups[0].due - groups[0].since <= 4 * (10 + WAIT)
    groups[0].pace(going=False)
    assert groups[0].due == float("inf")
    groups[1].pace()
    assert groups[1].due == float("inf")  # process 0 alone knows whether it saves
    groups[0].since, groups[0].longest = time.monotonic() - 60, 0.01
    groups[0].due = time.monotonic() - 0.1
    for fake in found:
        status, line = fake.ended()
        assert (status, line[:45]) == (75, "a process hangs: the steps under way take 60 ")


def test_a_signal_to_one_goes_to_process_0_and_an_error_of_one_to_all():
    groups, found = joined(3, 0.5)
    groups[2].forward(signal.SIGTERM)
    for _ in range(WAIT * 100):
        if found[0].signals:
            break
        time.sleep(0.01)
    assert found[0].signals == [15]
    threading.Thread(target=groups[1].end, args=(2, "no room"), daemon=True).start()
    line = "process 1: no room"
    assert [fake.ended() for fake in found] == [(2, line), (2, ""), (2, line)]  # it has said so itself


def test_arguments_of_processes_belong_together():
    all_of = "expected all of --processes N, --process I, --coordinator HOST:PORT"
    for words, line in (
        (("--process", "1"), f"--processes: got no --processes N and no --coordinator HOST:PORT, {all_of}"),
        (("--processes", "2", "--coordinator", "a:1"), f"--processes: got no --process I, {all_of}"),
        (
            ("--processes", "2", "--process", "2", "--coordinator", "a:1"),
            "--process: got 2 of 2, expected 0 to 1: they are counted from 0",
        ),
        (("--heartbeat", "9"), "--heartbeat: got one process, expected --processes with it"),
    ):
        done = ended(train, *words)
        assert (done.status, done.err) == (2, f"error: {line}\n")
    done = ended(train, "--processes", "2", "--process", "0", "--coordinator", "4711")
    assert done.err.startswith("error: --coordinator: got '4711', expected HOST:PORT, such as 127.0.0.1:4711")


def test_the_content_of_data_counts():
    data = task.load(train.parser().parse_args([]))
    other = data.test.labels.copy()
    other[-1] = (other[-1] + 1) % 10
    changed = data._replace(test=data.test._replace(labels=other))
    assert together.sha256(data) == together.sha256(data._replace(test=data.test))
    assert together.sha256(data) != together.sha256(changed)
    assert np.array_equal(other[:-1], data.test.labels[:-1])


PATIENT = ("--heartbeat", "300")  # the machine may be busy
SMALL = ("--hidden", "5", "--batch-size", "100", "--optimizer", "adam", "--epochs", "12", "--save-every", "0")


class Several:
    """A training in two processes; what each prints is in files."""

    def __init__(self, folder, *words, of_1=()):
        self.files = [folder / f"{name}{k}" for k in (0, 1) for name in ("out", "err")]
        self.processes, place = [], ("--coordinator", f"{HERE}:{free_port(HERE)}", "--processes", "2")
        for k in (0, 1):
            line = (*PATIENT, *words, *(of_1 if k else ()), *place, "--process", str(k))
            with self.files[2 * k].open("wb") as out, self.files[2 * k + 1].open("wb") as err:
                command = [sys.executable, "-m", "experiments.train", *line]
                self.processes.append(subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=err))

    def said(self, k, name="err"):
        return self.files[2 * k + (name == "err")].read_text()

    def reach(self, text):
        for _ in range(100 * WAIT):
            if text in self.said(0, "out"):
                return
            assert all(process.poll() is None for process in self.processes), self.said(0) + self.said(1)
            time.sleep(0.01)
        raise AssertionError(self.said(0, "out"))

    def end(self, *those):
        try:
            return [(self.processes[k].wait(WAIT), self.said(k)) for k in those or (0, 1)]
        finally:
            for process in self.processes:
                process.kill()
                process.wait()


GONE = "error: process 0 is gone: killed, or its machine is down" + together.AGAIN + "\n"


def launched(*words):
    command = [sys.executable, "-m", "experiments.launch", "-n", "2", "train", *PATIENT, *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_whatever_befalls_one_all_end_and_go_on_to_the_bits_of_one_process(tmp_path):
    """One process has two devices, and nothing happens to it: a sum of two is the same in either order."""
    command = [sys.executable, "-m", "experiments.train", *SMALL, "--out", str(tmp_path / "whole")]
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    assert not subprocess.run(command, cwd=ROOT, env=os.environ | flags, capture_output=True).returncode

    out = ("--out", str(tmp_path / "run"))
    run = Several(tmp_path, *SMALL, *out)
    run.reach("epoch   1/12")
    run.processes[1].send_signal(signal.SIGTERM)
    (status, line), other = run.end()
    assert re.fullmatch(r"interrupted at epoch \d+, step 14, and saved; the same command, or .*\n", line)
    assert other == (status, line) == (76, line)
    assert re.fullmatch("waiting   for process 0 at .*, 300 s at most\n", run.said(1, "out"))

    run = Several(tmp_path, *out)  # process 0 knows the settings
    run.reach("goes on ")
    run.processes[0].kill()
    assert run.end(1) == [(75, GONE)]

    done = launched(*out)
    assert (done.returncode, done.stderr) == (0, "")
    first, *_, last = done.stdout.splitlines()  # process 0's lines, as they are, and nobody else's
    assert first.startswith("train     jaxnn ")
    assert "goes on " in done.stdout
    assert last == f"saved     in {tmp_path / 'run'}"
    assert "Gloo" not in done.stdout
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")


def test_settings_that_differ_and_a_divergence_are_one_line(tmp_path):
    run = Several(tmp_path, "--seed", "3", of_1=("--seed", "4"))
    line = "error: process 1 has another seed: got 4, process 0 has 3\n"
    assert run.end() == [(2, line)] * 2
    run = Several(tmp_path, "--loss", "squared_error", "--learning-rate", "1e25", "--batch-size", "1438")
    (status, line), other = run.end()
    assert (status, line) == other == (2, line)
    assert line.startswith("error: epoch 1, the test loss is the first that is not finite; a smaller ")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("train", "--process", "0"), "--process: launch says that itself; leave it out, -n N is how many"),
        (("train", "--coordinator=a:1"), "--coordinator: launch says that itself; leave it out"),
        (("train", "-n", "4"), "reads it before the program; write python -m experiments.launch -n 4 train"),
        (("check_layout", "--seed", "1", "-n8"), "write python -m experiments.launch -n 8 check_layout"),
        (("sweep", "--seeds", "3"), "got 'sweep', expected train or check_layout: others run in one process"),
        (("-n", "0", "train"), "-n: got '0', expected a whole number in 1..256; write -n 2"),
    ],
)
def test_launch_refuses_what_it_says_itself_and_what_it_cannot_start(words, line):
    done = ended(launch, *words)
    assert done.status == 2
    assert line in done.err


def test_launch_ends_with_the_worst_status_and_what_process_0_says():
    done = launched("--epocs", "3")
    assert (done.returncode, done.stderr) == (2, "error: --epocs: no such option, did you mean --epochs 3?\n")
    assert done.stdout == ""
