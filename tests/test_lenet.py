"""LeNet-5: the network, and the program, on the digits of scikit-learn made as large as those of MNIST."""

import re
import signal

import jax
import numpy as np
import pytest

from experiments import endure, lenet, predict, verify
from jaxnn import datasets, training
from jaxnn.datasets import Dataset, Examples
from tests.programs import ended

pytestmark = pytest.mark.usefixtures("compiled_plainly")
SHORT = ("--epochs", "3", "--learning-rate", "0.005")


@pytest.fixture(autouse=True)
def _as_large_as_mnist(monkeypatch):
    def larger(examples: Examples, few: int) -> Examples:
        images = np.kron(examples.images[:few], np.ones((1, 3, 3), np.uint8)) * 15
        return Examples(np.pad(images, ((0, 0), (2, 2), (2, 2))).astype(np.uint8), examples.labels[:few])

    digits = datasets.load("digits")
    data = Dataset("mnist", larger(digits.train, 1000), larger(digits.test, 200), 10, 255)
    monkeypatch.setattr(datasets, "load", lambda name, *_: data)
    monkeypatch.setattr(training, "WORK", 3 * 100 * 61706)  # programs of three steps, and of one


def test_its_layers_are_those_of_the_paper():
    """C1, C5 and F6 have the paper's parameters; C3 sees all maps of S2, of which the paper left some out."""
    params = jax.eval_shape(lenet.net().init, jax.random.key(0))
    sizes = [sum(p.size for p in jax.tree.leaves(layer)) for layer in params]
    assert [size for size in sizes if size] == [156, 2416, 48120, 10164, 850]


def test_it_learns_is_left_goes_on_and_is_read_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # its own file is found from anywhere
    whole, left = tmp_path / "whole", tmp_path / "left"
    done = ended(lenet, *SHORT, "--out", whole)
    assert done.status == 0, done.err
    assert max(map(len, done.out.replace(str(whole), whole.name).splitlines())) <= 80
    percent = float(re.search(r"^accuracy +([\d.]+) % of 200 test images", done.out, re.M)[1])
    assert percent > 80

    stopped = ended(lenet, *SHORT, "--out", left, on={"epoch   1/3": lambda: signal.raise_signal(15)})
    assert stopped.status == 76
    assert re.search(r"interrupted at epoch 2, step \d+, and saved", stopped.err)
    assert ended(lenet, "--out", left).status == 0
    assert endure.outcome(left) == endure.outcome(whole)

    again = ended(predict, whole)
    assert again.status == 0, again.err
    assert re.search(rf"^accuracy +{percent:.2f} %.*\n +as training reported$", again.out, re.M)
    assert ended(verify, whole).status == 0


def test_by_autodiff_it_is_the_same_network():
    by_hand, autodiff = (
        ended(lenet, "--epochs", "1", "--gradient", gradient) for gradient in ("manual", "autodiff")
    )
    first, second = (float(re.search(r"  loss ([\d.]+)", done.out)[1]) for done in (by_hand, autodiff))
    assert first == pytest.approx(second, abs=2e-4)


def test_a_batch_larger_than_the_data_is_refused(tmp_path):
    done = ended(lenet, "--batch-size", "1001", "--out", tmp_path / "new")
    assert done.status == 2
    assert done.err == "error: --batch-size: got 1001, expected at most the 1000 training images\n"
    assert not (tmp_path / "new").exists()
