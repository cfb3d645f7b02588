"""Every seal and file of a run is checked, and said to be good or not."""

import json
import os

import jax.numpy as jnp
import numpy as np
import pytest

from experiments import verify
from jaxnn.datasets import kept
from jaxnn.datasets.dataset import Coding
from jaxnn.layers import Dense
from jaxnn.runs import checkpoints, record
from tests.programs import ended

SETTINGS = {"dataset": "digits", "n": [3, 2], "activation": "tanh", "epochs": 2}
MEASURED = [{"epoch": k, "loss": 0.5, "test_loss": 0.5, "test_accuracy": 0.5} for k in (1, 2)]


@pytest.fixture
def a_run(tmp_path):
    folder = tmp_path / "run"
    record.create(folder, SETTINGS, MEASURED)
    for name in ("params", "best"):
        record.save_params(folder / f"{name}.safetensors", [Dense(jnp.ones((2, 3)), jnp.ones((2, 1)))])
    for number in (1, 2):
        checkpoints.write(folder / "checkpoints", number, {"W": np.ones(3)}, {})
    record.hold(folder).close()
    return folder


def flipped(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def another(folder, line):
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(line)


DAMAGE = {
    "params.safetensors": (lambda folder: flipped(folder / "params.safetensors"), "another sha256"),
    "best.safetensors": (lambda folder: (folder / "best.safetensors").write_bytes(b""), "cannot be read"),
    "checkpoints/000002": (
        lambda folder: flipped(folder / "checkpoints" / "000002" / "arrays.safetensors"),
        "arrays.safetensors: other content than when it was sealed",
    ),
    "checkpoints/x": (lambda folder: (folder / "checkpoints" / "x").touch(), "no checkpoint"),
    "metrics.jsonl": (lambda folder: another(folder, json.dumps(MEASURED[0])), "got more lines than the 2"),
    "page.html": (lambda folder: os.mkfifo(folder / "page.html"), "is a named pipe; expected a file"),
    "timings.json": (lambda folder: (folder / "timings.json").symlink_to("/dev/zero"), "is a link; expected"),
    r"a\x1b\n": (lambda folder: (folder / "a\x1b\n").touch(), "a file that no run makes"),
}


def test_a_run_is_said_to_be_good(a_run):
    done = ended(verify, a_run)
    assert (done.status, done.err) == (0, "")
    _, *lines = done.out.splitlines()
    assert all(line.startswith("good      ") for line in lines)
    assert [line.split()[1] for line in lines[:-1]] == [
        "settings.json", "best.safetensors", "checkpoints/000001", "checkpoints/000002", "lock",
        "metrics.jsonl", "params.safetensors",
    ]  # fmt: skip
    assert lines[-1] == "good      in all; finished"


@pytest.mark.parametrize("name", DAMAGE)
def test_what_is_not_good_is_named(name, a_run):
    damage, why = DAMAGE[name]
    damage(a_run)
    done = ended(verify, a_run)
    assert (done.status, done.err) == (2, "")
    wrong = [line for line in done.out.splitlines()[1:] if not line.startswith("good ")]
    assert len(wrong) == 2
    assert wrong[0].startswith(f"wrong     {name}: ")
    assert why in wrong[0]
    assert wrong[1] == "wrong     in all: 1 of them"


def test_how_own_data_were_coded_is_sealed(a_run):
    coding = Coding((1,), (0.5,), (1.0,), 1.0, (), (0,), 2, "", 1, (), ("a", "b"), 0.0, 1.0)
    path, text = a_run / "coding.json", kept.text(coding)
    path.write_text(text)
    assert "\ngood      coding.json\n" in ended(verify, a_run).out
    path.write_text(text.replace("0.5", "0.75"))
    done = ended(verify, a_run)
    assert done.status == 2
    assert "wrong     coding.json: " in done.out
    assert "damaged: its fields have another sha256" in done.out
    before = {name: value for name, value in json.loads(text).items() if name not in ("sha256", "inverted")}
    path.write_text(json.dumps(before))  # of before there was a seal
    assert kept.parsed("c", path.read_text()) == coding
    done = ended(verify, a_run)
    assert done.status == 0
    assert "coding.json, without a seal: it was kept before there was one\n" in done.out


def test_what_is_no_run_is_refused(tmp_path):
    (tmp_path / "alone").mkdir()
    assert ended(verify, tmp_path / "alone")[::2] == (
        2,
        f"error: RUN: {tmp_path}/alone/settings.json: no such file; "
        "expected a folder that --out of a training named\n",
    )
