"""One's own data: a table, arrays or a folder of images, to a data set; and coded again as in the training.

What a file holds decides how it is read, not its name.
"""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxnn.datasets import arrays, folders, tables
from jaxnn.datasets.dataset import Coding, Dataset, Examples, Origin
from jaxnn.datasets.files import DatasetError, content, named, quoted, shown
from jaxnn.datasets.found import Found, Labels, number, plain, such_as
from jaxnn.datasets.remarks import remarks

CLASSES = 1000  # that there can be
FRACTION = 0.2  # of the examples that is for testing
LIGHT = 2 / 3  # of white: images whose mean is above are drawn on a light ground
FAR = 1e6  # standard deviations from the mean, which no number of a training is from its own
OTHERS = (
    (b"\x93NUMPY", "one array, expected .npz with inputs and labels: numpy.savez(FILE, x=x, y=y)"),
    (b"\x1f\x8b", "a gzip file, expected it unpacked: gunzip -k FILE.gz"),
    (b"BZh", "a bzip2 file, expected it unpacked: bunzip2 -k FILE.bz2"),
    (b"\xfd7zXZ", "an xz file, expected it unpacked: unxz -k FILE.xz"),
    (b"(\xb5/\xfd", "a zstd file, expected it unpacked: unzstd FILE.zst"),
    (b"7z\xbc\xaf", "a 7z archive, expected it unpacked: 7z x FILE.7z"),
    (b"Rar!", "a RAR archive, expected it unpacked: unrar x FILE.rar"),
    (b"\xd0\xcf\x11\xe0", "an old Excel or Word file, expected the table saved as CSV"),
    (b"SQLite format 3", "an SQLite database, expected a table of it saved as CSV"),
    (b"ARROW1", "an Arrow file, expected the table saved as CSV"),
    (b"<!DOCTYPE", "a web page, expected the file that it shows: download that"),
    (b"<!doctype", "a web page, expected the file that it shows: download that"),
    (b"<html", "a web page, expected the file that it shows: download that"),
    (b"version https://git-lfs", "a pointer of Git LFS, expected the file itself: git lfs pull"),
    (b"<?xml", "XML, expected a table saved as CSV"),
    (b"GIF8", "one image, expected a folder with a folder for each class, of PNG or JPEG"),
    (b"PAR1", "a Parquet file, expected the table saved as CSV"),
    (b"\x89HDF", "an HDF5 file, expected the arrays in .npz: numpy.savez(FILE, x=x, y=y)"),
    (b"\x89PNG", "one image, expected a folder with a folder for each class"),
    (b"\xff\xd8\xff", "one image, expected a folder with a folder for each class"),
    (b"\x80", "a pickle, which may run any program when it is loaded; expected CSV or .npz"),
    (b"{", "JSON, expected a table saved as CSV"),
    (b"[", "JSON, expected a table saved as CSV"),
    (b"%PDF", "a PDF, expected a table saved as CSV"),
)  # (how a file begins, what it is)


class Asked(NamedTuple):
    """What of it is to be used, and how."""

    label: str | None = None  # the column of a table, by its name, or its number from 1 on; None: the last
    without: Sequence[str] = ()  # columns that are left out
    size: tuple[int, ...] = ()  # (height, width) to which images are brought
    numbers: bool = False  # labels that are numbers are to be predicted, and are no classes
    fraction: float | None = None  # of the examples for testing, where none are given; None: FRACTION
    seed: int = 0  # by which they are drawn
    sha256: Sequence[str] = ()  # what the files must have, if it is known
    before: Coding | None = None  # of a run that goes on: how its images were coded


ALL = Asked()


def load(path: Path, test: Path | None = None, asked: Asked = ALL) -> Dataset:
    """The data in a CSV file, an .npz file or a folder of images; with those for testing in `test`.

    Without it those in the file itself are taken, or else a part of each class, drawn by the seed. Columns
    are standardised, and numbers to be predicted: minus their mean, divided by their standard deviation;
    images are divided by their white. Raises DatasetError, which names the place of the first fault.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp(), "pets.csv")
    >>> _ = file.write_text("weight,kind\\n" + "4.5,cat\\n9,dog\\n" * 5)
    >>> data = load(file)
    >>> data.train.images.shape, sorted(data.test.labels.tolist()), data.names
    ((8, 1), [0, 1], ('cat', 'dog'))
    """
    found, given, sha256 = _read(path, asked, expected=[*asked.sha256[:1]])
    digests, where = [sha256], named(path)
    if len(asked.sha256) not in (0, 1 + (test is not None)):
        raise DatasetError(
            f"--data-sha256: got {len(asked.sha256)}, expected one for each of --data and --test-data"
        )
    if found.labels is None:
        raise DatasetError(f"{where}: got no labels, expected one for each example")
    if given is not None and (test or asked.fraction):
        option = "--test-data" if test else "--test-fraction"
        raise DatasetError(f"{option}: {where} holds examples for testing, expected no others")
    if asked.numbers:
        _alike(where, found)
    chosen, how = np.zeros(len(found.inputs), bool), f"given in {named(test) if test else 'it'}"
    if given is None and test is None:
        chosen, kind = drawn(where, found, asked), "them" if _is_numbers(found, asked) else "each class"
        how = f"drawn by seed {asked.seed}, {asked.fraction or FRACTION:g} of {kind}"
    coding = _coding(where, found, ~chosen, asked)
    if test is not None:
        given, _, sha256 = _read(test, asked, coding, [*asked.sha256[1:]])
        digests.append(sha256)
        if given.labels is None:
            raise DatasetError(f"{named(test)}: got no labels, expected them for testing")
    inputs, labels = coded(where, found, coding)
    train, tests = Examples(inputs[~chosen], labels[~chosen]), Examples(inputs[chosen], labels[chosen])
    if given is not None:
        tests = Examples(*coded(named(test or path), given, coding))
    said = (*found.said, *remarks(found, coding.names), f"test examples {how}")
    return _dataset(path, train, tests, Origin(said, tuple(digests), coding))


def again(path: Path, coding: Coding) -> tuple[Dataset, bool]:
    """Other data, as test examples coded as in a training; and whether their labels are known."""
    found, _, sha256 = _read(path, Asked(), coding)
    inputs, labels = coded(named(path), found, coding)
    none = Examples(inputs[:0], labels[:0])
    data = _dataset(path, none, Examples(inputs, labels), Origin(found.said, (sha256,), coding, found.at))
    return data, found.labels is not None


def _dataset(path: Path, train: Examples, test: Examples, origin: Origin) -> Dataset:
    white = round(origin.coding.white) if test.images.dtype == np.uint8 else 1
    name = shown(Path(os.path.abspath(path)).name, 60)
    return Dataset(name, train, test, len(origin.coding.names), white, origin)


def _read(
    path: Path, asked: Asked, known: Coding | None = None, expected: Sequence[str] = ()
) -> tuple[Found, Found | None, str]:
    """What is there, what of it is for testing, and its sha256, which must be the expected one, if any is."""
    where = named(path)
    if os.path.isdir(path):
        if asked.label is not None or asked.without:
            raise DatasetError(
                f"--label, --without: got one for {where}, expected none for a folder of images"
            )
        found, given, sha256 = folders.read(path, asked.size, known)
        return found, given, same(path, sha256, expected)
    text = content(path)
    sha256 = same(path, hashlib.sha256(text).hexdigest(), expected)
    if asked.size:
        raise DatasetError(f"--image-size: got one for {where}, expected a folder of images with it")
    if text.startswith(b"PK") and path.suffix.lower() in (".xlsx", ".xlsm", ".ods", ".numbers"):
        raise DatasetError(f"{where}: got a spreadsheet, expected its table saved as CSV")
    if text.startswith(b"PK"):
        if asked.label is not None or asked.without:
            raise DatasetError(f"--label, --without: got one for {where}, expected none for .npz")
        return *arrays.read(where, text, known), sha256
    for begin, what in OTHERS:
        if text.startswith(begin):
            raise DatasetError(f"{where}: got {what}")
    return tables.read(where, text, asked.label, asked.without, known), None, sha256


def same(path: Path, sha256: str, expected: Sequence[str]) -> str:
    """The sha256 itself. Raises DatasetError unless it is the one that is expected, if any is."""
    for known in expected:
        if sha256 != known:
            raise DatasetError(f"{named(path)}: got content with sha256 {sha256}, expected {known}")
    return sha256


def _is_numbers(found: Found, asked: Asked) -> bool:
    return (
        asked.numbers
        and found.labels is not None
        and all(number(text) is not None for text in found.labels.texts)
    )


def _alike(where: str, found: Found) -> None:
    """Raise DatasetError where most labels are numbers, and one is none."""
    assert found.labels is not None
    texts = found.labels.texts
    wrong = [k for k, text in enumerate(texts) if number(text) is None]
    if 0 < len(wrong) < len(texts) / 2:
        i = int(np.argmax(found.labels.codes == wrong[0]))
        raise DatasetError(
            f"{where}: {found.at(i)}: {found.label}: got {quoted(texts[wrong[0]])}, expected a number, "
            "as most of them are"
        )


def values(labels: Labels) -> np.ndarray:
    """Labels as the numbers that they are. Raises ValueError where one is none."""
    return np.array([float(text) for text in labels.texts])[labels.codes]


def classes(labels: Labels, names: Sequence[str] = ()) -> tuple[np.ndarray, tuple[str, ...]]:
    """The class of each example, and the names, sorted: as numbers if all of them are, else as text.

    With names, those of the classes there are. Raises ValueError, with its place, where a label is no other.
    """
    numeric = all(number(text) is not None for text in names or labels.texts)
    texts = [plain(text) if numeric else text for text in labels.texts]
    if not names:
        names = sorted(set(texts), key=(lambda text: (float(text), text)) if numeric else None)
    places = {name: k for k, name in enumerate(names)}
    codes = np.array([places.get(text, -1) for text in texts], np.int32)[labels.codes]
    if (codes < 0).any():
        raise ValueError(int(np.argmax(codes < 0)))
    return codes, tuple(names)


def drawn(where: str, found: Found, asked: Asked) -> np.ndarray:
    """Which examples are for testing: as large a part of each class, one at least, drawn by the seed."""
    random = np.random.RandomState(asked.seed)  # whose numbers are the same in every version of NumPy
    N = len(found.inputs)
    if _is_numbers(found, asked):
        groups = [np.arange(N)]
        if N < 2:
            raise DatasetError(
                f"{where}: got {N} example, expected two at least, one of which is for testing"
            )
    else:
        codes, names = _classes(where, found, asked)
        groups = [np.flatnonzero(codes == k) for k in range(len(names))]
    chosen = np.zeros(N, bool)
    for rows in groups:
        few = min(max(round((asked.fraction or FRACTION) * len(rows)), 1), len(rows) - 1)
        chosen[random.permutation(rows)[:few]] = True
    return chosen


def _classes(
    where: str, found: Found, asked: Asked, alone: bool = True
) -> tuple[np.ndarray, tuple[str, ...]]:
    """The classes of training examples. Raises DatasetError where nothing can be learnt from them."""
    assert found.labels is not None
    codes, names = classes(found.labels)
    numeric = all(number(name) is not None for name in names)
    hint = "; to predict a number: --loss squared_error" if numeric else ""
    hint += "; is another column the label? --label NAME" if found.places else ""
    if found.places and asked.label is None and found.label_place < found.width - 1:
        hint += " (the last column is left out)"
    if len(names) < 2:
        hint = hint or "; put the others beside it, a folder for each" * (len(found.inputs.shape) > 2)
        raise DatasetError(
            f"{where}: {found.label}: got one class, {quoted(*names)}, expected two at least{hint}"
        )
    if len(names) > CLASSES:
        raise DatasetError(
            f"{where}: {found.label}: got {len(names):,} classes, expected at most {CLASSES:,}{hint}"
        )
    counts = np.bincount(codes, minlength=len(names))
    if alone and counts.min() < 2 and numeric and 2 * len(names) > len(codes):
        raise DatasetError(
            f"{where}: {found.label}: got {len(names)} different numbers in {len(codes)} rows, expected a "
            f"class for each row{hint}"
        )
    if alone and counts.min() < 2:
        k = int(np.argmin(counts))
        if number(names[k]) is None and (such := such_as(names[k])):
            hint = f"; to predict a number: --loss squared_error, and a number in its place{such}{hint}"
        raise DatasetError(
            f"{where}: {found.at(int(np.argmax(codes == k)))}: got the only example of class {names[k]!r}, "
            f"expected two at least of each class, one of which is for testing{hint}"
        )
    return codes, names


def _coding(where: str, found: Found, train: np.ndarray, asked: Asked) -> Coding:
    """What the training examples say of how to code all of them."""
    assert found.labels is not None
    shape, mean, spread, white, inverted = found.inputs.shape[1:], (), (), 1.0, False
    if len(shape) == 1:
        mean, spread = map(tuple, (column.tolist() for column in standard(found.inputs[train].astype(float))))
    else:
        pixels = found.inputs[train]
        white = found.white or max(abs(float(pixels.min())), abs(float(pixels.max()))) or 1.0
        inverted = bool(pixels.min() >= 0 and pixels.mean() > LIGHT * white)
        if asked.before:
            white, inverted = asked.before.white, asked.before.inverted
    middle, unit, names = 0.0, 1.0, ()
    if _is_numbers(found, asked):
        targets = values(found.labels)[train]
        (middle,), (unit,) = (column.tolist() for column in standard(targets[:, None]))
        if targets.min() == targets.max():
            raise DatasetError(f"{where}: {found.label}: got {middle:g} alone, expected numbers that differ")
    else:
        _, names = _classes(where, found, asked, alone=False)
    return Coding(
        shape, mean, spread, white, found.columns, found.places, found.width, found.label, found.label_place,
        found.resized, names, middle, unit, inverted,
    )  # fmt: skip


def standard(columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each column its mean and its standard deviation, or 1 where it is constant.

    >>> standard(np.array([[1.0, 5.0], [3.0, 5.0]]))
    (array([2., 5.]), array([1., 1.]))
    """
    constant = columns.min(axis=0) == columns.max(axis=0)
    most = np.abs(columns).max(axis=0)
    scaled = columns / np.where(most == 0, 1, most)  # no square of it is too large
    mean, spread = scaled.mean(axis=0) * most, scaled.std(axis=0) * most
    return np.where(constant, columns[0], mean), np.where(constant | (spread == 0), 1, spread)


def coded(where: str, found: Found, coding: Coding) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and labels as a network takes them. Raises DatasetError where they are not as in training."""
    if found.inputs.shape[1:] != coding.shape:
        got, expected = (" × ".join(map(str, shape)) for shape in (found.inputs.shape[1:], coding.shape))
        raise DatasetError(f"{where}: got inputs of {got} numbers, expected {expected} as in the training")
    inputs = found.inputs
    if coding.mean:
        inputs = (inputs.astype(float) - np.array(coding.mean)) / np.array(coding.spread)
    elif inputs.dtype != np.uint8 or coding.white != (255 if coding.inverted else round(coding.white)):
        inputs = inputs.astype(float) / coding.white
        inputs = 1 - inputs if coding.inverted else inputs
    elif coding.inverted:
        inputs = 255 - inputs
    if inputs.dtype != np.uint8:
        far = np.abs(inputs) > FAR
        if far.any():
            i, *place = map(int, np.unravel_index(int(np.argmax(far)), inputs.shape))
            got = found.inputs[(i, *place)]
            at = ", ".join(str(k + 1) for k in place)
            raise DatasetError(
                f"{where}: {found.at(i)}, number {at}: got {got:g}, expected less than {FAR:g} standard "
                "deviations from the mean of the training"
            )
        inputs = inputs.astype(np.float32)
    return inputs, _targets(where, found, coding)


def _targets(where: str, found: Found, coding: Coding) -> np.ndarray:
    labels, N = found.labels, len(found.inputs)
    if labels is None:
        return np.zeros(N, np.int32 if coding.names else np.float32)
    if not coding.names:
        for k, text in enumerate(labels.texts):
            if number(text) is None:
                i = int(np.argmax(labels.codes == k))
                raise DatasetError(f"{where}: {found.at(i)}: got the label {quoted(text)}, expected a number")
        return ((values(labels) - coding.middle) / coding.unit).astype(np.float32)
    try:
        return classes(labels, coding.names)[0]
    except ValueError as error:
        (i,) = error.args
        text = labels.texts[labels.codes[i]]
        there = shown(", ".join(coding.names), 100)
        raise DatasetError(
            f"{where}: {found.at(i)}: got the class {quoted(text)}, expected one of the training: {there}"
        ) from None
