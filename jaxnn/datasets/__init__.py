"""Images of handwriting as numpy arrays: `load(name)`; and one's own data: `own.load(path)`.

`digits` comes with scikit-learn. `mnist`, `fashion_mnist` and `kmnist` are downloaded once, or prepared once
from files that are at hand, verified against the checksums that tensorflow-datasets registers, and
kept in a folder of their own.
"""

from pathlib import Path

from jaxnn.datasets import digits, mnist
from jaxnn.datasets.dataset import Dataset, Examples, validate
from jaxnn.datasets.files import DatasetError

__all__ = ["NAMES", "Dataset", "DatasetError", "Examples", "load", "validate"]

NAMES = ("digits", *mnist.NAMES)


def load(name: str, data_dir: str | Path | None = None, source_dir: str | Path | None = None) -> Dataset:
    """The data set `name`, one of NAMES: training and test images (uint8) with their labels (int32).

    `data_dir` is where prepared data sets are kept (default: `jaxnn` in the user's cache folder).
    `source_dir` holds original files, in `source_dir/mnist/` and so on; with it, or with the environment
    variable JAXNN_SOURCE_DIR, nothing is downloaded.

    Raises DatasetError, in one line, when there is no such data set, no way to get it, or when it is damaged.

    >>> load("digits").train.images.shape
    (1438, 8, 8)
    """
    if name not in NAMES:
        raise DatasetError(f"dataset: got {name!r}, expected one of {', '.join(NAMES)}")
    if name == "digits":
        return digits.load()
    return mnist.load(name, data_dir, source_dir)
