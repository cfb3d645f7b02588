"""1,797 handwritten digits of 8×8 pixels, bundled with scikit-learn."""

import numpy as np

from jaxnn.datasets.dataset import Dataset, Examples, validate


def load() -> Dataset:
    """The digits: in each class, the third of every five images is for testing, the others for training."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    images = np.asarray(images, np.uint8).reshape(-1, 8, 8)
    labels = np.asarray(labels, np.int32)
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
