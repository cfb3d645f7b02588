import json
import math
import os
import re
from typing import ClassVar

import jax
import numpy as np
import pytest

from experiments import benchmark
from experiments.benchmark import differences, operations
from experiments.common.arguments import UserError
from experiments.contenders import ours, per_example, race
from experiments.contenders.race import Result
from experiments.contenders.table import CONTENDERS
from experiments.contenders.work import Work
from tests.programs import ROOT


@pytest.fixture(autouse=True)
def _the_contenders_are_not_as_strict():
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture
def work(tmp_path):
    rng = np.random.default_rng(0)
    for name, N in (("train", 90), ("test", 40)):
        np.save(tmp_path / f"{name}_images", rng.integers(0, 256, (N, 4, 3), np.uint8))
        np.save(tmp_path / f"{name}_labels", rng.integers(0, 10, N, np.int32))
    return Work([12, 7, 7, 10], "sigmoid", 90, 0.5, str(tmp_path))


def contend(name, work):
    try:
        contender = CONTENDERS[name](work)
    except ModuleNotFoundError as error:
        pytest.skip(f"{error.name} is not installed")
    return [contender.train(number) for number in (1, 2, 3)], contender.accuracy()


@pytest.mark.parametrize("activation", ["sigmoid", "relu"])
@pytest.mark.parametrize("name", [name for name in CONTENDERS if name not in ("numpy", "pytorch-compiled")])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_all_contenders_do_the_same_work(name, activation, work):
    work = work._replace(activation=activation)  # a batch is all the data: the order does not matter
    losses, accuracy = contend(name, work)
    expected, expected_accuracy = contend("numpy", work)
    np.testing.assert_allclose(losses, expected, rtol=2e-5)
    assert accuracy == pytest.approx(expected_accuracy, abs=1e-6)
    assert losses[2] < losses[0]


def test_a_family_of_one_is_the_network(work):
    family = ours.family(work._replace(networks=1))
    losses, accuracy = contend("jaxnn-manual", work)
    np.testing.assert_allclose([family.train(number) for number in (1, 2, 3)], losses, rtol=1e-5)
    assert family.accuracy() == pytest.approx(accuracy, abs=1e-6)


@pytest.mark.parametrize(
    ("quick", "slow"),
    [
        (per_example.norms, per_example.norms_by_autodiff),
        (per_example.clipped, per_example.clipped_by_autodiff),
    ],
)
def test_single_examples_agree_with_autodiff(quick, slow, work):
    assert quick(work).train(1) == pytest.approx(slow(work).train(1), rel=1e-5)
    assert per_example.clipped(work).train(1) < 0.9 * per_example.gradient(work).train(1)


def test_the_operations_of_an_epoch_by_hand():
    work = Work([784, 17, 10], "sigmoid", 128, 0.5, "")
    # 468 steps of 128 examples: Z[1], Z[2], dW[1], dW[2] and dA[1]
    assert operations(work) == 2 * 468 * 128 * (2 * (784 * 17 + 17 * 10) + 17 * 10)


def test_whoever_does_less_is_named():
    work = Work([784, 17, 10], "sigmoid", 128, 0.5, "")
    fair = Result("cpu", None, [1.0], [0.4], 0.93)
    others = {"a": fair, "b": fair._replace(losses=[0.405], accuracy=0.925), "c": fair}
    assert differences(others, work) == []
    for lazy in (fair._replace(losses=[0.5]), fair._replace(accuracy=0.9), fair._replace(losses=[math.nan])):
        (line,) = differences(others | {"lazy": lazy}, work)
        assert line.startswith("lazy, 784-17-10, B = 128: loss ")


def test_a_contender_that_fails_is_reported(work, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    (tmp_path / "train_images.npy").unlink()
    with pytest.raises(UserError, match=r"^numpy: ended with status 1: FileNotFoundError"):
        race.race(["numpy"], work, 1, dict(os.environ))


def test_contenders_take_turns_in_processes_of_their_own(work, monkeypatch):
    monkeypatch.chdir(ROOT)
    results = race.race(["numpy", "jaxnn-manual"], work, 3, dict(os.environ))
    losses, _ = contend("numpy", work)
    for result in results.values():
        assert len(result.seconds) == 3
        np.testing.assert_allclose(result.losses[:2], losses[1:], rtol=2e-5)  # the first warmed it up
    assert results.keys() == {"numpy", "jaxnn-manual"}


class Scripted:
    """Answers as the process of a contender does, with what is written down for it below."""

    started: ClassVar[list] = []
    clock: ClassVar[list] = [0.0]
    seconds: ClassVar[dict] = {
        "jaxnn-manual": 2.0, "jaxnn-autodiff": 3.0, "numpy": 5.0, "scikit-learn": 7.0,
        "pytorch": 11.0,
        "matrix products alone": 1.25, "one ready batch": 1.7,
        "one network": 0.5, "all at once": 1.6, "large product": 0.25,
        "norms": 0.5, "norms by vmap(grad)": 6.5, "plain gradient": 2.0,
        "clipped gradient": 2.6, "clipped gradient by vmap(grad)": 9.1,
    }  # fmt: skip
    epochs: ClassVar[dict] = {}  # until an accuracy of 98 %
    losses: ClassVar[dict] = {}

    def __init__(self, name, work, environment):
        self.name, self.turns = name, 0
        self.started.append((name, work, environment))

    def answer(self):
        if self.name == "flax":
            return {"missing": "flax"}
        return {"device": "cpu (cpu)", "memory": {"jaxnn-manual": 400, "jaxnn-autodiff": 500}.get(self.name)}

    def ask(self, word):
        if word == "test":
            return {"accuracy": 0.98 if self.turns >= self.epochs.get(self.name, 1) else 0.5}
        seconds = self.seconds[self.name] * (9, 1.5, 1, 2)[min(self.turns, 3)]  # the first one warms it up
        self.turns += 1
        self.clock[0] += self.seconds[self.name]
        return {"seconds": seconds, "loss": self.losses.get(self.name, 0.4)}

    def end(self):
        pass


@pytest.fixture
def measured(tmp_path, monkeypatch, capsys):
    """The status and the report of a benchmark among scripted contenders, and what it prints."""

    def measure(*line, losses=None, epochs=None):
        monkeypatch.setattr(Scripted, "losses", losses or {})
        monkeypatch.setattr(Scripted, "epochs", epochs or {})
        monkeypatch.setattr(Scripted, "started", [])
        for module in (benchmark, race):
            monkeypatch.setattr(module, "Process", Scripted)
        monkeypatch.setattr(benchmark, "prepare", lambda folder, arguments: True)
        monkeypatch.setattr(benchmark.time, "sleep", lambda seconds: None)
        monkeypatch.setattr(benchmark.time, "perf_counter", lambda: Scripted.clock[0])
        words = ["--json", str(tmp_path / "all.json"), "--rounds", "3", *line]
        status = benchmark.main(benchmark.parser().parse_args(words))
        return (
            status,
            json.loads((tmp_path / "all.json").read_text())["measurements"],
            capsys.readouterr().out,
        )

    return measure


EPOCHS = (
    "--measure", "epochs", "--network", "small", "--batch-size", "128",
    "--contenders", "jaxnn-autodiff", "numpy", "flax", "pytorch", "scikit-learn",
)  # fmt: skip


def test_the_ratios_of_an_epoch_by_hand(measured, tmp_path):
    status, (found,), printed = measured(*EPOCHS, "--picture", str(tmp_path / "bars.png"), "--device", "cpu")
    assert status == 0
    assert found["ratios"] == pytest.approx(
        {
            "fastest framework (scikit-learn) / jaxnn": 3.5,
            "fastest by hand (numpy) / jaxnn": 2.5,
            "jaxnn / matrix products alone": 1.6,
            "shuffling and data movement, part of the epoch": 0.15,
            "autodiff / manual, time": 1.5,
            "autodiff / manual, temporary memory": 1.25,
        }
    )
    assert re.search(r"^  fastest by hand \(numpy\) / jaxnn +2.50$", printed, re.M)
    assert (found["what"], found["n"], found["batch_size"]) == ("epochs", [784, 17, 10], 128)
    assert found["results"]["numpy"]["seconds"] == [7.5, 5.0, 10.0]
    assert "flax is missing: no flax here (pip install 'jaxnn[bench]')\n" in printed
    assert "an epoch of 784-17-10, B = 128: median of 3 rounds\n" in printed
    (row,) = (line for line in printed.splitlines() if line.startswith("  numpy "))
    assert row.split() == ["numpy", "7500.0", "5000.0", "..", "10000.0", "2.50", "0.4000", "98.00", "%"]
    assert (tmp_path / "bars.png").read_bytes().startswith(b"\x89PNG")
    for name, work, environment in Scripted.started:
        assert (work.n, work.activation, work.learning_rate) == ([784, 17, 10], "sigmoid", 0.5), name
        assert environment["JAX_PLATFORMS"] == "cpu"
        assert environment["JAX_ENABLE_COMPILATION_CACHE"] == "false"


def test_whoever_does_other_work_is_printed_and_the_status_is_1(measured):
    status, (found,), printed = measured(*EPOCHS, losses={"numpy": 0.5})
    assert status == 1
    (line,) = found["differences"]
    assert f"not the same work: {line}\n" in printed
    assert line.startswith(
        "numpy, 784-17-10, B = 128: loss 0.5000, accuracy 0.9800; the median of all is 0.4000"
    )


def test_the_time_to_an_accuracy_by_hand(measured):
    status, (found,), printed = measured(
        "--measure", "targets", "--network", "small",
        "--contenders", "jaxnn-manual", "numpy", "flax", "scikit-learn",
        epochs={"jaxnn-manual": 3, "numpy": 1000, "scikit-learn": 2},
    )  # fmt: skip
    assert status == 0
    assert found["target"] == 0.94
    assert found["epochs"] == {"jaxnn-manual": [3] * 3, "numpy": [60] * 3, "scikit-learn": [2] * 3}
    assert found["results"]["jaxnn-manual"]["seconds"] == [6.0] * 3
    assert found["results"]["numpy"]["seconds"] == [math.inf] * 3
    assert found["ratios"] == pytest.approx({"fastest other (scikit-learn) / jaxnn": 14 / 6})
    assert re.search(r"^  fastest other \(scikit-learn\) / jaxnn +2.33$", printed, re.M)
    assert "from a cold start to 94 % with 784-17-10, B = 32: median of 3\n" in printed
    assert "  epochs: jaxnn-manual 3, numpy 60, scikit-learn 2\n" in printed
    orders = [work.first for name, work, _ in Scripted.started if name == "numpy"]
    assert orders == [0, 60, 120]  # others in every round


def test_a_family_and_single_examples_by_hand(measured):
    status, (family, examples), _ = measured("--measure", "family", "examples", "--networks", "8")
    assert status == 0
    one = 2 * 468 * 128 * (2 * (784 * 17 + 17 * 10) + 17 * 10)  # operations of an epoch
    assert family["ratios"] == pytest.approx(
        {
            "one after the other / all at once": 8 * 0.5 / 1.6,
            "GFLOP/s, one network": one / 0.75 / 1e9,
            "GFLOP/s, all at once": 8 * one / 2.4 / 1e9,
            "GFLOP/s, one product of 2048 × 2048": 2 * 2048**3 / 0.375 / 1e9,
            "rate, part of that of the large product": (8 * one / 2.4) / (2 * 2048**3 / 0.375),
        }
    )
    assert examples["ratios"] == pytest.approx(
        {
            "norms by vmap(grad) / norms": 13.0,
            "clipped gradient / plain gradient": 1.3,
            "clipped gradient by vmap(grad) / clipped gradient": 3.5,
        }
    )
    assert (examples["n"], examples["batch_size"]) == ([784, 512, 512, 10], 1024)


def test_single_examples_that_differ_from_autodiff_are_named(measured):
    status, (found,), _ = measured(
        "--measure", "examples", losses={"norms": 0.4001, "clipped gradient": 0.40001}
    )
    assert status == 1
    assert found["differences"] == ["norms: 0.4001, by vmap(grad) 0.4"]
