"""A signal ends a program, whatever becomes of what it prints."""

import signal
import subprocess
import sys
import time

import pytest

from experiments.common.interruption import Interruption
from tests.programs import ROOT

WRITES = """
import sys
from experiments.common.interruption import Interruption, leave, on_signal
on_signal(leave)
with Interruption() as interruption:
    print("begun", file=sys.stderr, flush=True)
    while not interruption.signal:
        print(1000 * "x", flush=True)
print("saved", file=sys.stderr, flush=True)
"""
WAITS = """
import sys
from experiments.common.interruption import Interruption
with Interruption() as interruption:
    interruption.last = "saved"
    print("begun", file=sys.stderr, flush=True)
    import time
    while True:
        time.sleep(0.01)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize(("code", "status"), [(WRITES, 0), (WAITS, 76)])
def test_a_signal_ends_it_though_nobody_reads_its_output(code, status):
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as program:
        try:
            assert program.stderr.readline() == b"begun\n"
            time.sleep(0.3)  # until the pipe is full
            program.send_signal(signal.SIGTERM)
            assert program.wait(60) == status
            assert program.stderr.read() == b"saved\n"
        finally:
            program.kill()


def test_what_need_not_be_done_is_dropped_for_a_signal():
    done = []

    def work():
        done.append("begun")
        signal.raise_signal(signal.SIGTERM)
        time.sleep(0.01)
        done.append("ended")

    with Interruption() as interruption:
        interruption.unless(lambda: done.append("before"))
        interruption.unless(work)
        interruption.unless(lambda: done.append("after"))
        assert (interruption.signal, done) == (signal.SIGTERM, ["before", "begun"])


def test_ctrl_c_before_the_program_has_begun_ends_it_without_a_traceback():
    code = (
        "import sys; sys.argv[0] = '-m'; sys.orig_argv = ['python', '-m', 'experiments.train']; "
        "import experiments, os, signal; os.kill(os.getpid(), signal.SIGINT)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, b"")
