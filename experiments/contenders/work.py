"""What every contender is given, and what it is asked for.

Every one starts from the same parameters, sees every image once in an order that it draws itself, takes
plain gradient descent in batches of the same size on the lecture's loss, and keeps the loss of each epoch.
What can be prepared once (pixels as float32, labels one-hot, data on the device) is prepared before the
clock starts. A contender imports what it needs when it is asked for, in a process of its own.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np


class Work(NamedTuple):
    """What is to be done: the network n[0]-n[1]-...-n[L], and how it is trained on which images."""

    n: list[int]
    activation: str  # of the hidden layers: sigmoid or relu
    batch_size: int
    learning_rate: float
    folder: str  # where the arrays of the data are
    networks: int = 1
    first: int = 0  # epochs are numbered from here on: each number is an order of the images


class Contender(NamedTuple):
    """Trains on `device`: `train(number)` one epoch, returns its loss; `accuracy()` on the test images.

    `memory` are the bytes that the compiled epoch takes beside its arguments and results, where known. What
    takes too short a time to be measured is done `calls` times in a row.
    """

    device: str
    train: Callable[[int], float]
    accuracy: Callable[[], float] = lambda: math.nan
    memory: int | None = None
    calls: int = 1


def images_and_labels(work: Work, part: str) -> tuple[np.ndarray, np.ndarray]:
    """The data as they are, of the part `train` or `test`."""
    return np.load(Path(work.folder) / f"{part}_images.npy"), np.load(
        Path(work.folder) / f"{part}_labels.npy"
    )


def train_data(work: Work) -> tuple[np.ndarray, np.ndarray]:
    """X, images as rows of float32 between 0 and 1, and Y, the labels one-hot."""
    images, labels = images_and_labels(work, "train")
    return _rows(images), np.eye(10, dtype=np.float32)[labels]


def test_data(work: Work) -> tuple[np.ndarray, np.ndarray]:
    """X, and the labels as they are."""
    images, labels = images_and_labels(work, "test")
    return _rows(images), labels


def _rows(images):
    return images.reshape(len(images), -1) / np.float32(255)


def initial(work: Work, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """The same W and b for all: Glorot and Bengio's uniform weights, zeros."""
    rng = np.random.default_rng(seed)
    layers = []
    for n_prev, n in zip(work.n[:-1], work.n[1:], strict=True):
        limit = math.sqrt(6 / (n_prev + n))
        layers.append((rng.uniform(-limit, limit, (n, n_prev)).astype(np.float32), np.zeros(n, np.float32)))
    return layers


def batches(work: Work, N: int, number: int) -> np.ndarray:
    """The rows of every batch of an epoch of N examples, drawn in NumPy."""
    order = np.random.default_rng(number).permutation(N)
    return order[: N // work.batch_size * work.batch_size].reshape(-1, work.batch_size)


def jax_device() -> str:
    """The device of those that JAX runs."""
    import jax

    device = jax.devices()[0]
    return f"{device.platform} ({device.device_kind})"
