import json
import os
import pathlib
import re
import signal
import threading

import jax
import numpy as np
import pytest

from experiments import predict, sweep, train
from jaxnn import datasets
from jaxnn.activations import sigmoid
from jaxnn.layers import mlp
from jaxnn.runs import record
from tests.programs import ended, run

pytestmark = pytest.mark.usefixtures("compiled_plainly")
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
    "1",
    "0.5",
)
ENOUGH = ("--memory", "1")


@pytest.fixture(scope="module")
def a_sweep(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweeps") / "few"
    done = ended(sweep, *FEW, *ENOUGH, "--out", folder)
    assert done.status == 0, done.err
    return folder, done.out


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
    assert "family    16 networks: 2 seeds × 2 learning rates × 2 scales × 2 sizes\n" in printed
    assert "for 16 at once, of 1: 1 round\n" in printed
    assert (folder / "page.html").read_text("utf-8").startswith("<!doctype html>")


def test_the_best_one_is_an_ordinary_run(a_sweep):
    folder, printed = a_sweep
    best = max(rows_of(folder), key=lambda row: row["final_test_accuracy"])
    assert f"best      {100 * best['final_test_accuracy']:.2f} %" in printed
    assert f"saved     in {folder}, the best one in {folder / 'best'}\n" in printed
    predicted = ended(predict, folder / "best")
    assert predicted.status == 0, predicted.err
    assert f"accuracy  {100 * best['final_test_accuracy']:.2f} % of 359" in predicted.out
    assert "as training reported" in predicted.out
    settings = json.loads((folder / "best" / "settings.json").read_text("utf-8"))
    assert settings["n"] == [64, *best["hidden"], 10]
    for name in ("seed", "learning_rate", "scale", "hidden"):
        assert settings[name] == best[name]
    assert (settings["shuffle_seed"], settings["batch_size"], settings["epochs"]) == (0, 32, 3)


def test_a_network_of_a_sweep_is_what_train_makes_of_it(a_sweep, tmp_path):
    line = ("--hidden", "9", "--learning-rate", "0.2", "--batch-size", "32", "--epochs", "3")
    assert ended(train, *line, "--out", tmp_path).status == 0
    alone = record.load_metrics(tmp_path)
    (row,) = (
        row
        for row in rows_of(a_sweep[0])
        if (row["seed"], row["learning_rate"], row["scale"], row["hidden"]) == (0, 0.2, 1, [9])
    )
    for name, curve in row["curves"].items():
        np.testing.assert_allclose(curve, [metrics[name] for metrics in alone], rtol=1e-3, err_msg=name)


def test_networks_that_do_not_learn_stay_what_they_were(tmp_path):
    """Without training each is known: its initial weights, scaled. The best of them is one of the narrow."""
    done = ended(
        sweep, "--seed", "5", "--seeds", "2", "--learning-rates", "1e-30", "--scales", "0.5", "3",
        "--widths", "9", "5", "--epochs", "1", *ENOUGH, "--out", tmp_path,
    )  # fmt: skip
    assert done.status == 0, done.err
    test = datasets.load("digits").test
    X, Y = test.images.reshape(359, 64) / 16, np.eye(10)[test.labels]
    accuracies = {}
    for row in rows_of(tmp_path):
        init_key, _ = jax.random.split(jax.random.key(row["seed"]))
        first, second = mlp(64, *row["hidden"], 10, g=sigmoid).init(init_key)
        A = 1 / (1 + np.exp(-X @ (row["scale"] * np.asarray(first.W, float)).T - np.asarray(first.b).T))
        Z = A @ (row["scale"] * np.asarray(second.W, float)).T + np.asarray(second.b).T
        J = np.mean(np.sum(np.logaddexp(0, Z) - Y * Z, axis=1))
        assert row["final_test_loss"] == pytest.approx(J, rel=1e-5)
        assert row["final_loss"] == pytest.approx(J, rel=0.03)  # of the training images
        accuracies[row["seed"], row["scale"], *row["hidden"]] = np.mean(Z.argmax(1) == test.labels)
        assert row["final_test_accuracy"] == pytest.approx(
            accuracies[row["seed"], row["scale"], *row["hidden"]]
        )
    assert len(accuracies) == 8
    assert max(accuracies, key=accuracies.get) == (6, 3.0, 5)
    assert "seed 6, learning rate 1e-30, scale 3, hidden 5" in " ".join(done.out.split())
    first, _ = record.load_params(tmp_path / "best" / "params.safetensors", (64, 5, 10))
    init_key, _ = jax.random.split(jax.random.key(6))
    np.testing.assert_allclose(first.W, 3 * mlp(64, 5, 10, g=sigmoid).init(init_key)[0].W, rtol=1e-6)
    assert "as training reported" in ended(predict, tmp_path / "best").out


DIVERGING = ("--activation", "relu", "--hidden", "5", "--epochs", "2", "--seeds", "1", "--seed", "3")


def test_a_network_that_diverges_is_null_and_never_the_best(tmp_path):
    done = ended(sweep, *DIVERGING, "--learning-rates", "1e-30", "1e30", *ENOUGH, "--out", tmp_path)
    assert done.status == 0, done.err
    as_it_was, diverged = rows_of(tmp_path)
    assert diverged["final_loss"] is diverged["final_test_loss"] is None
    assert diverged["curves"]["test_loss"] == [None, None]
    assert diverged["final_test_accuracy"] > as_it_was["final_test_accuracy"]  # of all the same answer
    assert as_it_was["curves"]["loss"][1] == pytest.approx(as_it_was["curves"]["loss"][0], rel=0.03)
    best = re.search(r"^best .*\n( .*\n)?", done.out, re.M)[0]
    assert "learning rate 1e-30, scale 1, hidden 5" in " ".join(best.split())
    assert "NaN" not in (tmp_path / "networks.jsonl").read_text()
    page = (tmp_path / "page.html").read_text("utf-8")
    assert "1 of 2 diverged" in page
    assert ">diverged</td>" in page


def test_where_all_diverge_there_is_no_best(tmp_path):
    done = ended(sweep, *DIVERGING, "--learning-rates", "1e30", "1e29", *ENOUGH, "--out", tmp_path)
    assert done.status == 0, done.err
    assert "\nbest      none: of no network is the test loss finite; " in done.out
    assert done.out.endswith(f"\nsaved     in {tmp_path}\n")
    assert len(rows_of(tmp_path)) == 2
    assert "Every network diverged" in (tmp_path / "page.html").read_text("utf-8")
    assert not (tmp_path / "best").exists()


def test_rounds_change_nothing(a_sweep, tmp_path):
    folder, printed = a_sweep
    taken = float(re.search(r"^memory +(\S+) GB", printed, re.M)[1])
    done = ended(sweep, *FEW, "--memory", taken / 2, "--out", tmp_path)
    assert done.status == 0, done.err
    needed, K, available, rounds = re.search(
        r"^memory +(\S+) GB on each device for (\d+) at once, of (\S+): (\d+) rounds$", done.out, re.M
    ).groups()
    assert float(needed) <= float(available) == pytest.approx(taken / 2, rel=0.01)
    assert (int(rounds) - 1) * int(K) < 16 <= int(rounds) * int(K)
    assert_the_same(rows_of(folder), rows_of(tmp_path))
    assert [line for line in done.out.splitlines() if line.startswith("best ")] == [
        line for line in printed.splitlines() if line.startswith("best ")
    ]
    best = max(range(16), key=lambda k: rows_of(tmp_path)[k]["final_test_accuracy"])
    assert int(K) <= best < 15  # in another round than the first, and not its last
    assert "as training reported" in ended(predict, tmp_path / "best").out


def test_several_devices_change_nothing(a_sweep, tmp_path):
    folder, printed = a_sweep
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=3"
    done = run("sweep", *FEW, *ENOUGH, "--out", str(tmp_path / "again"), XLA_FLAGS=flags)
    assert done.returncode == 0, done.stderr
    assert "device    3 × cpu" in done.stdout
    assert "for 18 at once, of 1: 1 round\n" in done.stdout  # two places are left
    taken = [float(re.search(r"^memory +(\S+) GB", text, re.M)[1]) for text in (printed, done.stdout)]
    assert taken[1] < taken[0]
    assert_the_same(rows_of(folder), rows_of(tmp_path / "again"))


def assert_the_same(rows, others):
    for row, other in zip(rows, others, strict=True):
        for name in ("seed", "learning_rate", "scale", "hidden"):
            assert row[name] == other[name]
        for name in ("loss", "test_loss"):
            np.testing.assert_allclose(row["curves"][name], other["curves"][name], rtol=1e-4)


def test_a_terminal_shows_the_best_ten_and_shows_them_in_one_place(a_sweep):
    master, slave = os.openpty()
    read = []

    def reader():
        try:
            while content := os.read(master, 4096):
                read.append(content)
        except OSError:  # the other end is closed
            pass

    thread = threading.Thread(target=reader)
    thread.start()
    with open(slave, "w", encoding="utf-8") as terminal:
        assert ended(sweep, *FEW, *ENOUGH, out=terminal).status == 0
    thread.join(60)
    os.close(master)
    shown = b"".join(read).decode().replace("\r\n", "\n")
    _, first, second, last = re.split("(?=epoch   )", shown)
    assert first.endswith("\x1b[11F\x1b[J")  # eleven lines up, and what is there erased
    assert second.endswith("\x1b[11F\x1b[J")
    table = last[: last.index("trained ")].splitlines()
    assert len(table) == 11
    assert "\x1b" not in last
    best = sorted((row["final_test_accuracy"] for row in rows_of(a_sweep[0])), reverse=True)
    accuracies = [float(line.split(" %")[0]) for line in table[1:]]
    np.testing.assert_allclose(accuracies, 100 * np.array(best[:10]), atol=0.3)
    assert accuracies == sorted(accuracies, reverse=True)
    middle = 100 * np.median(best)
    assert f"best {accuracies[0]:.2f} %, median " in table[0]
    assert float(re.search(r"median (\S+) %", table[0])[1]) == pytest.approx(middle, abs=0.3)
    assert re.fullmatch(
        r" +\S+ %   loss \d+\.\d{4}   seed \d, learning rate \S+, scale \S+, hidden \d", table[1]
    )


def test_elsewhere_an_epoch_is_a_line(a_sweep):
    _, printed = a_sweep
    lines = [line for line in printed.splitlines() if line.startswith("epoch")]
    assert [line[:15] for line in lines] == ["epoch   1/3   n", "epoch   2/3   n", "epoch   3/3   n"]
    assert "networks 1..16   test accuracy: best " in lines[2]
    assert "\x1b" not in printed


def test_the_memory_is_nine_tenths_of_what_is_free(monkeypatch):
    def available():
        said = ended(sweep, *FEW, on={"memory ": lambda: signal.raise_signal(signal.SIGTERM)})
        assert said.status == 143
        return said.out.split(" at once, of ")[1].split(":")[0]

    content, read = "MemTotal: 9000000 kB\nMemAvailable:  2000000 kB\n", pathlib.Path.read_text
    monkeypatch.setattr(
        pathlib.Path,
        "read_text",
        lambda path, *args, **options: (
            content if path == pathlib.Path("/proc/meminfo") else read(path, *args, **options)
        ),
    )
    assert available() == "1.84"  # 0.9 · 2,000,000 · 1024 bytes
    content = "nothing of that kind\n"
    sysconf = {"SC_PHYS_PAGES": 1_000_000, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr(os, "sysconf", lambda name: sysconf[name])
    assert available() == "3.69"  # 0.9 · 1,000,000 · 4096 bytes
    device = type(jax.devices()[0])
    monkeypatch.setattr(device, "memory_stats", lambda _: {"bytes_limit": 3e9, "bytes_in_use": 1e9})
    assert available() == "1.8"


def test_what_no_memory_holds_ends_in_one_line(tmp_path):
    done = ended(sweep, "--memory", "1e-9", "--out", tmp_path / "new")
    said = r"error: --memory: got 1e-09 GB on each device, expected at least 0\.\d+ for one network\n"
    assert done.status == 2
    assert re.fullmatch(said, done.err), done.err
    assert not (tmp_path / "new").exists()
