import json

import numpy as np
import pytest

from experiments import sweep
from experiments.common.arguments import Interrupted
from experiments.common.continuation import Pauses
from tests.test_experiments import run

FEW = (
    "--epochs",
    "3",
    "--seeds",
    "2",
    "--learning-rates",
    "0.2",
    "1",
    "--widths",
    "5",
    "9",
    "--scales",
    "0.5",
    "1",
)


@pytest.fixture(scope="module")
def a_sweep(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweeps") / "few"
    done = run("sweep", *FEW, "--out", str(folder))
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def rows_of(folder):
    return [json.loads(line) for line in (folder / "networks.jsonl").read_text("utf-8").splitlines()]


def test_every_network_has_a_row(a_sweep):
    folder, printed = a_sweep
    rows = rows_of(folder)
    settings = {(r["seed"], r["learning_rate"], r["scale"], *r["hidden"]) for r in rows}
    assert settings == {(s, a, c, n) for s in (0, 1) for a in (0.2, 1.0) for c in (0.5, 1.0) for n in (5, 9)}
    assert len(rows) == 16
    for row in rows:
        for name in ("loss", "test_loss", "test_accuracy"):
            assert len(row["curves"][name]) == 3
            assert row["curves"][name][-1] == row[f"final_{name}"]
        assert row["curves"]["loss"][2] < row["curves"]["loss"][0]
    assert "1 round\n" in printed
    assert (folder / "sweep.png").read_bytes().startswith(b"\x89PNG")


def test_the_best_one_is_an_ordinary_run(a_sweep):
    folder, printed = a_sweep
    best = max(rows_of(folder), key=lambda row: row["final_test_accuracy"])
    assert f"best      {100 * best['final_test_accuracy']:.2f} %" in printed
    predicted = run("predict", str(folder / "best"))
    assert predicted.returncode == 0, predicted.stderr
    assert f"accuracy  {100 * best['final_test_accuracy']:.2f} % of 359" in predicted.stdout
    settings = json.loads((folder / "best" / "settings.json").read_text("utf-8"))
    assert settings["n"] == [64, *best["hidden"], 10]
    assert (settings["seed"], settings["learning_rate"]) == (best["seed"], best["learning_rate"])


@pytest.mark.parametrize("devices", [1, 4])
def test_rounds_and_devices_change_nothing(a_sweep, tmp_path, devices):
    folder, _ = a_sweep
    done = run(
        "sweep", *FEW, "--memory", "0.0006" if devices == 1 else "0.0003", "--out", str(tmp_path / "again"),
        XLA_FLAGS=f"--xla_force_host_platform_device_count={devices}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"device    {devices} × cpu" in done.stdout
    rounds = int(done.stdout.split(" rounds\n")[0].split()[-1])
    assert 2 <= rounds <= 16
    for row, again in zip(rows_of(folder), rows_of(tmp_path / "again"), strict=True):
        assert row["hidden"] == again["hidden"]
        np.testing.assert_allclose(row["curves"]["loss"], again["curves"]["loss"], rtol=1e-4)


def test_a_sweep_goes_on_where_it_was_interrupted(a_sweep, tmp_path, monkeypatch):
    arguments = sweep.parser().parse_args([*FEW, "--memory", "0.0006", "--out", str(tmp_path)])
    call, pauses = Pauses.__call__, []

    def interrupt(self, tree, done, where):
        pauses.append(where)
        if len(pauses) in (2, 5):  # in the middle of a round, and in the first step of another
            self.interruption.signal = 15
        call(self, tree, done, where)

    monkeypatch.setattr(Pauses, "__call__", interrupt)
    for _ in range(2):
        with pytest.raises(Interrupted, match=r"and saved; the same command.* goes on"):
            sweep.main(arguments)
    assert sweep.main(arguments) == 0
    for row, again in zip(rows_of(a_sweep[0]), rows_of(tmp_path), strict=True):
        np.testing.assert_allclose(row["curves"]["loss"], again["curves"]["loss"], rtol=1e-4)
    whole = sweep.parser().parse_args([*FEW, "--memory", "0.0006", "--out", str(tmp_path.parent / "whole")])
    assert sweep.main(whole) == 0
    assert rows_of(tmp_path.parent / "whole") == rows_of(tmp_path)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--memory", "1e-9"], "--memory: got 1e-09 GB on each device, expected at least"),
    ],
)
def test_what_cannot_be_trained_ends_in_one_line(args, message, tmp_path):
    done = run("sweep", *args, "--out", str(tmp_path / "new"))
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {message}")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_what_is_not_a_number_is_null():
    curve = [{"epoch": 1, "loss": float("nan"), "test_loss": float("inf"), "test_accuracy": 0.5}]
    row = sweep.final(curve)
    assert (row["final_loss"], row["final_test_loss"], row["final_test_accuracy"]) == (None, None, 0.5)
