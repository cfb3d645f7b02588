"""What a data set is, and the check that each one passes when it is loaded."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Integer, UInt8


class DatasetError(ValueError):
    """Data that is missing or wrong: one line that says what, where, got and expected."""


class Examples(NamedTuple):
    """N grayscale images and their labels, 0 to classes − 1."""

    images: UInt8[np.ndarray, "N height width"]
    labels: Integer[np.ndarray, "N"]


class Dataset(NamedTuple):
    """Training and test examples; pixels run from 0 to `white`."""

    name: str
    train: Examples
    test: Examples
    classes: int
    white: int


def validate(dataset: Dataset, train: int, test: int, height: int, width: int) -> Dataset:
    """The data set itself, if it has that many images of that size, and every value is in its range.

    Raises DatasetError otherwise.
    """
    for part, examples, N in (("train", dataset.train, train), ("test", dataset.test, test)):
        images, labels = examples
        where = f"{dataset.name}: {part}"
        if images.dtype != np.uint8:
            raise DatasetError(f"{where} images: got {images.dtype}, expected uint8")
        if images.shape != (N, height, width):
            raise DatasetError(f"{where} images: got shape {images.shape}, expected {(N, height, width)}")
        if dataset.white < 255 and images.max() > dataset.white:
            i = int(np.argmax(images.reshape(N, -1).max(1) > dataset.white))
            raise DatasetError(
                f"{where} image {i}: got a pixel of {images[i].max()}, expected 0..{dataset.white}"
            )
        if not np.issubdtype(labels.dtype, np.integer):
            raise DatasetError(f"{where} labels: got {labels.dtype}, expected integers")
        if labels.shape != (N,):
            raise DatasetError(f"{where} labels: got shape {labels.shape}, expected {(N,)}")
        wrong = (labels < 0) | (labels >= dataset.classes)
        if wrong.any():
            i = int(np.argmax(wrong))
            raise DatasetError(f"{where} label {i}: got {labels[i]}, expected 0..{dataset.classes - 1}")
        counts = np.bincount(labels, minlength=dataset.classes)
        if not counts.all():
            raise DatasetError(f"{where} labels: got no example of class {np.argmin(counts)}")
    return dataset
