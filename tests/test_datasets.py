import gzip
import hashlib
import importlib.machinery
import os
import threading

import numpy as np
import pytest
import sklearn.datasets

from jaxnn import datasets
from jaxnn.datasets import Dataset, DatasetError, Examples, digits, mnist, validate

SOURCE = os.environ.get("JAXNN_SOURCE_DIR")
needs_mnist = pytest.mark.skipif(
    not SOURCE or not os.path.isdir(os.path.join(SOURCE, "mnist")),
    reason="JAXNN_SOURCE_DIR names no folder with mnist/ in it",
)


def test_digits():
    digits = datasets.load("digits")
    assert digits.train.images.shape == (1438, 8, 8)
    assert digits.test.images.shape == (359, 8, 8)
    assert digits.train.images.dtype == digits.test.images.dtype == np.uint8
    assert digits.train.images.max() == digits.test.images.max() == digits.white == 16
    share = np.bincount(digits.test.labels) / np.bincount(
        np.concatenate([digits.train.labels, digits.test.labels])
    )
    np.testing.assert_allclose(share, 0.2, atol=0.003)
    train = {image.tobytes() for image in digits.train.images}
    assert not any(image.tobytes() in train for image in digits.test.images)
    again = datasets.load("digits")
    assert (again.test.images == digits.test.images).all()


def test_digits_are_those_that_scikit_learn_loads():
    images, labels = sklearn.datasets.load_digits(return_X_y=True)
    found = datasets.load("digits")
    for k, part in enumerate((found.train, found.test)):
        rows = [i for label in range(10) for i in np.flatnonzero(labels == label)[2::5]]
        rows = np.sort(rows) if k else np.setdiff1d(np.arange(1797), rows)
        np.testing.assert_array_equal(part.images.reshape(-1, 64), images[rows])
        np.testing.assert_array_equal(part.labels, labels[rows])


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"",
        b"0,1\n2",
        gzip.compress(b"99999999999"),
        b"\x1f\x8b\x08",
        gzip.compress(b"0,1")[:-9],
        gzip.compress(b"0,1\n2,3\n"),
        gzip.compress(b"x"),
    ],
    ids=["missing", "empty", "text", "number", "header", "cut", "small", "letter"],
)
def test_digits_that_are_damaged_are_one_line(content, tmp_path, monkeypatch):
    path = tmp_path / digits.FILE
    path.parent.mkdir(parents=True)
    if content is not None:
        path.write_bytes(content)
    found = importlib.machinery.ModuleSpec("sklearn", None, origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(digits, "find_spec", lambda name: found)
    with pytest.raises(
        DatasetError, match=r"digits\.csv\.gz: cannot be read .*; install scikit-learn again"
    ) as e:
        datasets.load("digits")
    assert "\n" not in str(e.value)


def test_digits_without_scikit_learn_are_one_line(monkeypatch):
    monkeypatch.setattr(digits, "find_spec", lambda name: None)
    with pytest.raises(DatasetError, match="got no scikit-learn"):
        datasets.load("digits")


GOOD = Dataset(
    "good",
    Examples(np.full((4, 2, 3), 7, np.uint8), np.array([0, 1, 2, 0])),
    Examples(np.zeros((3, 2, 3), np.uint8), np.array([2, 0, 1])),
    classes=3,
    white=7,
)
BRIGHT = np.array([0, 0, 1, 0], np.uint8)[:, None, None]


@pytest.mark.parametrize(
    ("part", "images", "labels", "message"),
    [
        ("train", GOOD.train.images.astype(np.int32), None, "train images: got int32, expected uint8"),
        ("test", np.zeros((3, 3, 2), np.uint8), None, r"got shape \(3, 3, 2\), expected \(3, 2, 3\)"),
        ("train", GOOD.train.images[:3], None, r"got shape \(3, 2, 3\), expected \(4, 2, 3\)"),
        ("train", GOOD.train.images + BRIGHT, None, "train image 2: got a pixel of 8, expected 0..7"),
        ("test", None, np.array([2.0, 0, 1]), "test labels: got float64, expected integers"),
        ("test", None, np.array([[2], [0], [1]]), r"test labels: got shape \(3, 1\), expected \(3,\)"),
        ("test", None, np.array([2, 0, 3]), "test label 2: got 3, expected 0..2"),
        ("train", None, np.array([0, -1, 2, 0]), "train label 1: got -1, expected 0..2"),
        ("train", None, np.array([0, 2, 2, 0]), "no example of class 1"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(part, images, labels, message):
    assert validate(GOOD, train=4, test=3, height=2, width=3) is GOOD
    examples = getattr(GOOD, part)
    bad = Examples(
        examples.images if images is None else images, examples.labels if labels is None else labels
    )
    with pytest.raises(DatasetError, match=message):
        validate(GOOD._replace(**{part: bad}), train=4, test=3, height=2, width=3)


def test_an_unknown_name_is_refused(tmp_path):
    with pytest.raises(DatasetError, match=r"got '\.\./mnist', expected one of digits, mnist"):
        datasets.load("../mnist", tmp_path)


def write_source(folder, change=lambda name, content: content):
    """IDX files of the right form, with other content than the registered one."""
    folder.mkdir(parents=True)
    for key, (name, shape) in mnist.FILES.items():
        header = bytes((0, 0, 8, len(shape))) + np.array(shape, ">i4").tobytes()
        content = gzip.compress(header + bytes(int(np.prod(shape))), 1)
        (folder / name).write_bytes(change(key, content))


def test_missing_files_are_named(tmp_path):
    with pytest.raises(DatasetError, match=r"train-images-idx3-ubyte.gz: no such file"):
        datasets.load("mnist", tmp_path / "data", tmp_path)
    assert not (tmp_path / "data").exists()


def test_a_folder_in_the_place_of_a_file_is_refused(tmp_path):
    (tmp_path / "mnist" / "train-images-idx3-ubyte.gz").mkdir(parents=True)
    with pytest.raises(DatasetError, match="no such file"):
        datasets.load("mnist", tmp_path / "data", tmp_path)


def test_other_content_is_refused(tmp_path):
    write_source(tmp_path / "kmnist")
    with pytest.raises(DatasetError, match=r"got [\d,]+ bytes, expected the original one, of") as error:
        datasets.load("kmnist", tmp_path / "data", tmp_path)
    size = int(str(error.value).split()[-2].replace(",", ""))
    (tmp_path / "kmnist" / "train-images-idx3-ubyte.gz").write_bytes(bytes(size))
    with pytest.raises(DatasetError, match=r"got sha256 .*, expected 51467d22d8"):
        datasets.load("kmnist", tmp_path / "data", tmp_path)
    assert not (tmp_path / "data").exists()


def test_the_folder_itself_in_the_place_of_the_one_above_is_named(tmp_path):
    write_source(tmp_path / "mnist")
    with pytest.raises(DatasetError, match="--source-dir: expected the folder above it"):
        datasets.load("mnist", tmp_path / "data", tmp_path / "mnist")


def test_a_file_in_the_place_of_the_data_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetError, match=r"--data-dir: got .*, which is a file; expected a folder"):
        datasets.load("mnist", tmp_path / "file", tmp_path)


def idx(shape, values, type_code=8):
    return bytes((0, 0, type_code, len(shape))) + np.array(shape, ">i4").tobytes() + values


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a gzip file|IDX header"),
        (b"hello", "not a gzip file"),
        (gzip.compress(idx((2, 3), bytes(6)))[:-9], "not a gzip file"),
        (gzip.compress(idx((2, 3), bytes(6), type_code=9)), "IDX header"),
        (gzip.compress(idx((3, 2), bytes(6))), "IDX header"),
        (gzip.compress(idx((2**31 - 1, 2**31 - 1), bytes(6))), "IDX header"),
        (gzip.compress(idx((2, 3), bytes(5))), "other than the 6 values"),
        (gzip.compress(idx((2, 3), bytes(10_000_000))), "other than the 6 values"),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else value,  # the content holds the time
)
def test_a_hostile_idx_file_is_refused(content, message):
    with pytest.raises(DatasetError, match=message):
        mnist.parse("file", content, (2, 3))


def test_an_idx_file_is_read():
    values = mnist.parse("file", gzip.compress(idx((2, 3), bytes(range(6)))), (2, 3))
    np.testing.assert_array_equal(values, [[0, 1, 2], [3, 4, 5]])


def offline(url, timeout):
    raise OSError("Network is unreachable")


def silent(url, timeout):
    threading.Event().wait(5)


@pytest.mark.parametrize("urlopen", [offline, silent])
def test_without_network_and_files_three_ways_out_are_named(urlopen, tmp_path, monkeypatch):
    monkeypatch.delenv("JAXNN_SOURCE_DIR", raising=False)
    monkeypatch.setattr(mnist, "PATIENCE", 0.1)
    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    with pytest.raises(DatasetError, match=r"(?s)connect to the network.*--source-dir.*copy") as error:
        datasets.load("fashion_mnist", tmp_path)
    assert "\n" not in str(error.value)
    assert not any(tmp_path.iterdir())


class Response:
    """A server's answer of that content."""

    def __init__(self, content):
        self.content = content

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def read1(self, size):
        chunk, self.content = self.content[: min(size, 1000)], self.content[min(size, 1000) :]
        return chunk


def test_a_download_of_other_content_is_refused(tmp_path, monkeypatch):
    monkeypatch.delenv("JAXNN_SOURCE_DIR", raising=False)
    monkeypatch.setattr("urllib.request.urlopen", lambda url, timeout: Response(b"<html>log in</html>"))
    sha256 = hashlib.sha256(b"<html>log in</html>").hexdigest()
    with pytest.raises(DatasetError, match=f"got sha256 {sha256}, expected"):
        datasets.load("mnist", tmp_path)
    assert not any(tmp_path.iterdir())


@needs_mnist
def test_mnist_is_the_original(tmp_path):
    data = datasets.load("mnist", tmp_path, SOURCE)
    assert data.train.images.shape == (60000, 28, 28)
    assert data.test.images.shape == (10000, 28, 28)
    assert round(data.train.images.mean(), 3) == 33.318
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    np.testing.assert_array_equal(np.bincount(data.train.labels), counts)
    assert [path.name for path in tmp_path.iterdir()] == ["mnist"]


@needs_mnist
def test_mnist_is_prepared_once_and_downloads_are_verified_like_files(tmp_path, monkeypatch):
    served = []

    def serve(url, timeout):
        served.append(url)
        with open(os.path.join(SOURCE, "mnist", url.rsplit("/", 1)[1]), "rb") as file:
            return Response(file.read())

    monkeypatch.delenv("JAXNN_SOURCE_DIR", raising=False)
    monkeypatch.setattr("urllib.request.urlopen", serve)
    first = datasets.load("mnist", tmp_path)
    second = datasets.load("mnist", tmp_path)
    assert len(served) == 4
    assert (first.train.images == second.train.images).all()

    path = tmp_path / "mnist" / "test_labels.npy"
    content = bytearray(path.read_bytes())
    content[-8] ^= 1  # of another class, and still one
    path.write_bytes(content)
    with pytest.raises(DatasetError, match="delete this folder"):
        datasets.load("mnist", tmp_path)


def test_what_a_killed_preparation_left_is_removed(tmp_path):
    old, new = tmp_path / ".mnist-1", tmp_path / ".mnist-2"
    for folder in (old, new):
        folder.mkdir()
    os.utime(old, (0, 0))
    mnist._save({"train_labels": np.zeros(3)}, tmp_path / "mnist")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".mnist-2", "mnist"]


@needs_mnist
def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DatasetError, match="cannot be written"):
        datasets.load("mnist", tmp_path / "file" / "data", SOURCE)
