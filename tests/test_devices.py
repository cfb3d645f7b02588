"""One process, many devices: the same training on each of them, and nothing sent that need not be."""

import hashlib

from experiments import train
from experiments.common import continuation
from tests.programs import ended

SIMULATED = "--xla_force_host_platform_device_count="
FEW = ("--epochs", "2", "--optimizer", "adam")


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_number_of_simulated_devices_is_no_setting(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", f" --xla_cpu_use_thunk_runtime=true  {SIMULATED}4 ")
    assert continuation.of_environment("XLA_FLAGS") == "--xla_cpu_use_thunk_runtime=true"
    monkeypatch.setenv("XLA_FLAGS", f"{SIMULATED}4")
    assert not continuation.of_environment("XLA_FLAGS")


def test_more_devices_than_there_are_is_one_line():
    done = ended(train, "--devices", "1000")
    assert done.status == 2
    assert done.err == "error: --devices: got 1000, expected at most the 1 that are there\n"
