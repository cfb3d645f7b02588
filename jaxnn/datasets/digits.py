"""1,797 handwritten digits of 8×8 pixels, bundled with scikit-learn."""

import gzip
import zlib
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from jaxnn.datasets.dataset import Dataset, Examples, validate
from jaxnn.datasets.files import DatasetError

FILE = "datasets/data/digits.csv.gz"  # what sklearn.datasets.load_digits reads; that import takes a second


def load() -> Dataset:
    """The digits: in each class, the third of every five images is for testing, the others for training."""
    table = _table()
    images, labels = table[:, :-1].astype(np.uint8).reshape(-1, 8, 8), table[:, -1]
    test = np.zeros(len(labels), bool)
    for label in range(10):
        test[np.flatnonzero(labels == label)[2::5]] = True
    dataset = Dataset(
        "digits",
        Examples(images[~test], labels[~test]),
        Examples(images[test], labels[test]),
        classes=10,
        white=16,
    )
    return validate(dataset, train=1438, test=359, height=8, width=8)


def _table() -> np.ndarray:
    """A row for each image: its 64 pixels, and its label."""
    package = find_spec("sklearn")
    if package is None or package.origin is None:
        raise DatasetError("digits: got no scikit-learn, which brings them; expected it to be installed")
    path = Path(package.origin).parent / FILE
    try:
        with gzip.open(path, "rt", encoding="ascii") as file:
            table = np.array([line.split(",") for line in file], np.int32)
        if table.shape != (1797, 65):
            raise ValueError(f"got a table of shape {table.shape}, expected (1797, 65)")
        return table
    except (OSError, EOFError, ValueError, OverflowError, zlib.error) as error:
        raise DatasetError(f"{path}: cannot be read ({error}); install scikit-learn again") from error
