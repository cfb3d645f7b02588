import math

import jax
import numpy as np
import pytest

from experiments import benchmark, contenders
from experiments.benchmark import Result, differences, operations
from experiments.contenders import CONTENDERS, Work
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
@pytest.mark.parametrize("name", [name for name in CONTENDERS if name not in ("NumPy", "PyTorch, compiled")])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_all_contenders_do_the_same_work(name, activation, work):
    work = work._replace(activation=activation)  # a batch is all the data: the order does not matter
    losses, accuracy = contend(name, work)
    expected, expected_accuracy = contend("NumPy", work)
    np.testing.assert_allclose(losses, expected, rtol=2e-5)
    assert accuracy == pytest.approx(expected_accuracy, abs=1e-6)
    assert losses[2] < losses[0]


def test_a_family_of_one_is_the_network(work):
    family = contenders.family(work._replace(networks=1))
    losses, accuracy = contend("jaxnn, manual", work)
    np.testing.assert_allclose([family.train(number) for number in (1, 2, 3)], losses, rtol=1e-5)
    assert family.accuracy() == pytest.approx(accuracy, abs=1e-6)


@pytest.mark.parametrize(
    ("quick", "slow"),
    [
        (contenders.norms, contenders.norms_by_autodiff),
        (contenders.clipped_gradient, contenders.clipped_gradient_by_autodiff),
    ],
)
def test_single_examples_agree_with_autodiff(quick, slow, work):
    assert quick(work).train(1) == pytest.approx(slow(work).train(1), rel=1e-5)
    assert contenders.clipped_gradient(work).train(1) < 0.9 * contenders.plain_gradient(work).train(1)


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
    with pytest.raises(benchmark.UserError, match=r"^NumPy: ended with status 1: FileNotFoundError"):
        benchmark.race(["NumPy"], work, 1, dict(benchmark.os.environ))


def test_contenders_take_turns_in_processes_of_their_own(work, monkeypatch):
    monkeypatch.chdir(ROOT)
    results = benchmark.race(["NumPy", "jaxnn, manual"], work, 3, dict(benchmark.os.environ))
    losses, _ = contend("NumPy", work)
    for result in results.values():
        assert len(result.seconds) == 3
        np.testing.assert_allclose(result.losses[:2], losses[1:], rtol=2e-5)  # the first warmed it up
    assert results.keys() == {"NumPy", "jaxnn, manual"}
