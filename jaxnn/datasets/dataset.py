"""What a data set is, and the check that each one passes when it is loaded."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Integer, UInt8

from jaxnn.datasets.files import DatasetError


class Examples(NamedTuple):
    """N grayscale images and their labels, 0 to classes − 1.

    Of one's own data they may be colour images, or rows that are the X of the lecture already, and the
    labels may be the numbers that are to be predicted.
    """

    images: UInt8[np.ndarray, "N height width *colours"] | Float32[np.ndarray, "N *size"]
    labels: Integer[np.ndarray, "N"] | Float[np.ndarray, "N"]


class Coding(NamedTuple):
    """How one's own data become X and Y, as its training part says: applied again to whatever comes later."""

    shape: tuple[int, ...]  # of one input: (n_x,) of a row of a table, else of an image
    mean: tuple[float, ...]  # of each column; () of images
    spread: tuple[float, ...]  # its standard deviation, or 1 where the column is constant; () of images
    white: float  # the largest pixel; 1 of a table
    columns: tuple[str, ...]  # the names of the columns; () where they have none
    places: tuple[int, ...]  # where these columns stand in a row; () of arrays and images
    width: int  # of such a row, its label included
    label: str  # the name of the label's column
    label_place: int  # and where it stands
    resized: tuple[int, ...]  # to how many rows and columns of pixels images are brought; () if they are not
    names: tuple[str, ...]  # of the classes, sorted; () where a number is to be predicted
    middle: float  # the mean of the numbers to be predicted, in their own units
    unit: float  # and their standard deviation
    inverted: bool = False  # of images that are light: X = 1 − pixels / white, so that most of it is small


class Origin(NamedTuple):
    """Where one's own data come from."""

    said: tuple[str, ...]  # lines for the person who trains with them
    sha256: tuple[str, ...]  # of the file, and of that of the test data if it is another
    coding: Coding
    at: Callable[[int], str] = str  # where a test example stands: the row of a file; of other data alone


class Dataset(NamedTuple):
    """Training and test examples; pixels run from 0 to `white`. With 0 classes a number is predicted."""

    name: str
    train: Examples
    test: Examples
    classes: int
    white: int
    origin: Origin | None = None  # of one's own data

    @property
    def outputs(self) -> int:
        """How many a network for it has."""
        return self.classes or 1

    @property
    def names(self) -> tuple[str, ...]:
        """Those of the classes."""
        return self.origin.coding.names if self.origin else tuple(map(str, range(self.classes)))

    @property
    def what(self) -> str:
        """What the examples are called."""
        return "images" if self.test.images.ndim > 2 else "rows"

    @property
    def middle(self) -> float:
        """The number that a 0 of the labels is, where a number is predicted, in its own units."""
        return self.origin.coding.middle if self.origin else 0.0

    @property
    def unit(self) -> float:
        """What a 1 of the labels is, where a number is predicted, in its own units."""
        return self.origin.coding.unit if self.origin else 1.0


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
