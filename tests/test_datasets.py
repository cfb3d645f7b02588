import errno
import gzip
import hashlib
import importlib.machinery
import io
import os
import re
import threading
from pathlib import Path

import numpy as np
import pytest
import sklearn.datasets

from jaxnn import datasets
from jaxnn.datasets import Dataset, DatasetError, Examples, digits, mnist, validate
from jaxnn.runs import seals

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
    assert digits.train.labels.dtype == digits.test.labels.dtype == np.int32
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


@pytest.mark.parametrize("how", ["argument", "environment"])
def test_missing_files_are_named(how, tmp_path, monkeypatch):
    monkeypatch.setenv("JAXNN_SOURCE_DIR", str(tmp_path if how == "environment" else tmp_path / "elsewhere"))
    source = tmp_path if how == "argument" else None
    missing = re.escape(str(tmp_path / "mnist" / "train-images-idx3-ubyte.gz"))
    with pytest.raises(DatasetError, match=rf"^{missing}: no such file"):
        datasets.load("mnist", tmp_path / "data", source)
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


@pytest.mark.parametrize(
    "expected", [np.array([[0, 1, 2], [3, 4, 5]], np.uint8), np.array([2, 0, 255], np.int32)]
)  # images and labels
def test_an_idx_file_is_read(expected):
    content = gzip.compress(idx(expected.shape, expected.astype(np.uint8).tobytes()))
    values = mnist.parse("file", content, expected.shape)
    assert values.dtype == expected.dtype
    np.testing.assert_array_equal(values, expected)


class Response(io.BytesIO):
    """A server's answer of that content, in small pieces."""

    def read1(self, size):
        return super().read1(min(size, 100_000))


@pytest.fixture
def answer(monkeypatch):
    """Let a server give that answer, however long it takes."""

    def serve(response):
        monkeypatch.delenv("JAXNN_SOURCE_DIR", raising=False)
        monkeypatch.setattr(mnist, "PATIENCE", 600.0)
        monkeypatch.setattr("urllib.request.urlopen", lambda url, timeout: response(url))

    return serve


def offline(url):
    raise OSError("Network is unreachable")


class Broken(Response):
    """An answer that breaks off after its first piece."""

    def read1(self, size):
        if self.tell():
            raise OSError("Connection reset by peer")
        return super().read1(size)


WAYS_OUT = r"\). Three ways out: connect to the network; .* --source-dir DIR .*; or copy .*fashion_mnist"


@pytest.mark.parametrize(
    ("response", "why"),
    [(offline, "Network is unreachable"), (lambda url: Broken(bytes(200_000)), "Connection reset by peer")],
)
def test_without_network_and_files_three_ways_out_are_named(response, why, answer, tmp_path):
    answer(response)
    with pytest.raises(DatasetError, match=rf"^fashion_mnist: cannot download \S+ \({why}{WAYS_OUT}"):
        datasets.load("fashion_mnist", tmp_path)
    assert not any(tmp_path.iterdir())


def test_a_network_without_an_answer_counts_as_missing(answer, tmp_path, monkeypatch):
    end = threading.Event()
    answer(lambda url: end.wait())
    monkeypatch.setattr(mnist, "PATIENCE", 0.01)
    with pytest.raises(DatasetError, match=rf"\(no answer in 0.01 s{WAYS_OUT}"):
        datasets.load("fashion_mnist", tmp_path)
    end.set()
    assert not any(tmp_path.iterdir())


def test_a_download_of_other_content_is_refused(answer, tmp_path):
    answer(lambda url: Response(b"<html>log in</html>"))
    sha256 = hashlib.sha256(b"<html>log in</html>").hexdigest()
    with pytest.raises(DatasetError, match=f"got sha256 {sha256}, expected"):
        datasets.load("mnist", tmp_path)
    assert not any(tmp_path.iterdir())


class Endless(Response):
    """An answer that does not end."""

    def read1(self, size=-1):
        assert self.tell() < 1_000_000, "nothing bounds it"
        self.seek(100, os.SEEK_CUR)
        return bytes(min(size, 100) if size >= 0 else 100)


def test_no_more_is_downloaded_than_the_file_has(answer, tmp_path):
    answer(lambda url: Endless())
    found = mnist._download("https://nowhere/file", 5000, "mnist", tmp_path)
    assert len(found) == 5001  # the one too many tells that it is another


@needs_mnist
def test_mnist_is_the_original(tmp_path):
    data = datasets.load("mnist", tmp_path, SOURCE)
    assert data.train.images.shape == (60000, 28, 28)
    assert data.test.images.shape == (10000, 28, 28)
    assert round(data.train.images.mean(), 3) == 33.318
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    np.testing.assert_array_equal(np.bincount(data.train.labels), counts)
    assert data.train.labels.dtype == data.test.labels.dtype == np.int32
    assert [path.name for path in tmp_path.iterdir()] == ["mnist"]


@needs_mnist
def test_mnist_is_prepared_once_and_downloads_are_verified_like_files(answer, tmp_path):
    served = []

    def serve(url):
        served.append(url)
        return Response((Path(SOURCE) / "mnist" / url.rsplit("/", 1)[1]).read_bytes())

    answer(serve)
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


LABELS = {"train_labels": np.arange(3, dtype=np.int32)}


@pytest.mark.parametrize("where", ["argument", "environment", "home"])
def test_data_sets_are_kept_where_it_says(where, tmp_path, monkeypatch):
    home = tmp_path / "home"
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    kept = {"argument": tmp_path, "environment": tmp_path / "jaxnn", "home": home / ".cache" / "jaxnn"}[where]
    if where == "environment":
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    mnist._save(LABELS, kept / "mnist")
    with pytest.raises(DatasetError, match=rf"^{re.escape(str(kept))}/mnist: damaged \(no file train_images"):
        datasets.load("mnist", tmp_path if where == "argument" else None)


def test_without_a_home_the_place_is_asked_for(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    with pytest.raises(DatasetError, match="HOME: got nothing, expected the folder in which"):
        datasets.load("mnist")


def test_what_is_not_sealed_is_prepared_again(tmp_path, monkeypatch):
    def prepare(name, source, data_dir):
        raise DatasetError(f"{name} is prepared from {source}")

    monkeypatch.setattr(mnist, "prepare", prepare)
    mnist._save(LABELS, tmp_path / "mnist")
    with pytest.raises(DatasetError, match="damaged"):
        datasets.load("mnist", tmp_path, tmp_path)
    (tmp_path / "mnist" / seals.SEAL).unlink()
    with pytest.raises(DatasetError, match=f"^mnist is prepared from {tmp_path}/mnist$"):
        datasets.load("mnist", tmp_path, tmp_path)


def kept(folder):
    """The names beside the data set, and its labels, if it is sealed."""
    assert seals.broken(folder) is None
    return [path.name for path in folder.parent.iterdir()], np.load(folder / "train_labels.npy").tolist()


def test_a_folder_without_a_seal_is_replaced(tmp_path):
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / "test_images.npy").write_text("of long ago")
    mnist._save(LABELS, tmp_path / "mnist")
    assert kept(tmp_path / "mnist") == (["mnist"], [0, 1, 2])
    assert not (tmp_path / "mnist" / "test_images.npy").exists()


def test_the_process_that_was_first_wins(tmp_path):
    mnist._save(LABELS, tmp_path / "mnist")
    mnist._save({"train_labels": np.zeros(5)}, tmp_path / "mnist")
    assert kept(tmp_path / "mnist") == (["mnist"], [0, 1, 2])


def test_a_disk_that_is_full_leaves_nothing(tmp_path, monkeypatch):
    def full(folder):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(seals, "seal", full)
    with pytest.raises(DatasetError, match=r"mnist: cannot be written \(No space left on device\)"):
        mnist._save(LABELS, tmp_path / "mnist")
    assert not any(tmp_path.iterdir())


def test_what_a_killed_preparation_left_is_removed(tmp_path):
    old, new, another = tmp_path / ".mnist-1", tmp_path / ".mnist-2", tmp_path / ".kmnist-1"
    for folder in (old, new, another):
        folder.mkdir()
    for folder in (old, another):
        os.utime(folder, (0, 0))
    mnist._save(LABELS, tmp_path / "mnist")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".kmnist-1", ".mnist-2", "mnist"]


class Bomb:
    """An object that makes a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_what_is_kept_is_never_unpickled(tmp_path):
    mnist._save({"train_images": np.array([Bomb(tmp_path / "exploded")])}, tmp_path / "mnist")
    with pytest.raises(DatasetError, match=r"damaged \(train_images\.npy is not the array that was saved\)"):
        datasets.load("mnist", tmp_path)
    assert not (tmp_path / "exploded").exists()


def test_other_content_than_what_was_sealed_is_damage(tmp_path):
    mnist._save(LABELS, tmp_path / "mnist")
    (tmp_path / "mnist" / "train_labels.npy").write_bytes(b"")
    with pytest.raises(
        DatasetError, match=r"mnist: damaged \(train_labels\.npy: other content .*delete this"
    ):
        datasets.load("mnist", tmp_path)


def test_what_may_not_be_read_is_not_damaged(tmp_path, monkeypatch):
    def refused(path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    mnist._save(LABELS, tmp_path / "mnist")
    monkeypatch.setattr(mnist, "_load", refused)
    with pytest.raises(DatasetError, match=r"mnist: cannot be read \(Permission denied\)$"):
        datasets.load("mnist", tmp_path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DatasetError, match=r"data: cannot be written \(Not a directory\)"):
        mnist._save(LABELS, tmp_path / "file" / "data")
