"""One's own data: tables, arrays and folders of images, right ones and hostile ones, through the programs."""

import hashlib
import io
import json
import os
import re
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from experiments import draw, page, predict, sweep, train, verify
from experiments.common import own_data
from jaxnn.datasets import DatasetError, arrays, files, folders, kept, own, tables
from tests.programs import ended

pytestmark = pytest.mark.usefixtures("compiled_plainly")
ROWS = "5.5,-1,a\n6.5,3,b\n4.25,1e1,a\n0,.5,b\n"
NUMBERS = [[5.5, -1], [6.5, 3], [4.25, 10], [0, 0.5]]
NAMED = "size,mass,kind\n" + ROWS
OPTIONS = ("--hidden", "3", "--epochs", "2", "--batch-size", "4")


def write(folder, content, name="table.csv"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(content, label=None, without=()):
    return tables.read("t", content if isinstance(content, bytes) else content.encode(), label, without)


UNDERSTOOD = {
    "commas": (ROWS, {}),
    "a header": (NAMED, {}),
    "a byte order mark": ("\ufeff" + NAMED, {}),
    "carriage returns": (NAMED.replace("\n", "\r\n"), {}),
    "old line ends": (NAMED.replace("\n", "\r"), {}),
    "no end": (ROWS[:-1], {}),
    "empty rows": (NAMED.replace("\n", "\n\n , ,\n"), {}),
    "semicolons": (NAMED.replace(",", ";"), {}),
    "tabs": (ROWS.replace(",", "\t"), {}),
    "decimal commas": (NAMED.replace(",", ";").replace(".", ","), {}),
    "tabs and decimal commas": (ROWS.replace(",", "\t").replace(".", ","), {}),
    "quotes": ("\n".join(",".join(f'"{cell}"' for cell in row.split(",")) for row in NAMED.split()), {}),
    "spaces": (NAMED.replace(",", " , "), {}),
    "UTF-16": (NAMED.encode("utf-16"), {}),
    "the label first": ("kind,size,mass\na,5.5,-1\nb,6.5,3\na,4.25,10\nb,0,.5\n", {"label": "kind"}),
    "the label by its number": ("a;5,5;-1\nb;6,5;3\na;4,25;10\nb;0;,5\n", {"label": "1"}),
    "a column left out": (
        "id,size,mass,kind\nx,5.5,-1,a\ny,6.5,3,b\nz,4.25,10,a\nu,0,.5,b\n", {"without": ["id"]},
    ),
    "the last one left out": ("5.5,-1,a,?\n6.5,3,b,?\n4.25,10,a,\n0,.5,b,x\n", {"without": ["4"]}),
    "columns named by programs": (
        "0,1,2,3\n5.5,-1,7,a\n6.5,3,7,b\n4.25,10,7,a\n0,.5,7,b\n", {"without": ["2"]},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", UNDERSTOOD)
def test_tables_are_understood(case):
    content, asked = UNDERSTOOD[case]
    found = read(content, **asked)
    np.testing.assert_array_equal(found.inputs, NUMBERS)
    assert [found.labels.texts[k] for k in found.labels.codes] == ["a", "b", "a", "b"]


FAULTS = {
    "text": ("1,2,a\n1,x,a\n", "t: row 2, column 2: got 'x', expected a number; .*--without 2$"),
    "text in the first row": ("M,2,3\nB,5,4\n", "row 1, column 1: got 'M', .* --label 1; .* --without 1$"),
    "columns of text": ("at,n,of,kind\nx,1,y,a\n", r"got 'x', .* --label at; .* --without at of$"),
    "nothing": (NAMED + "1,,a\n", r"row 6, column 2 \(mass\): got nothing, expected a number; put one there"),
    "not available": (NAMED + "NA,1,a\n", r"row 6, column 1 \(size\): got 'NA', .*--without size$"),
    "nan": (ROWS + "1,nan,a\n", "row 5, column 2: got 'nan'"),
    "infinity": (ROWS + "1,-inf,a\n", "row 5, column 2: got '-inf'"),
    "overflow": (ROWS + "1,1e999,a\n", "row 5, column 2: got '1e999', expected a number;"),
    "too large": (ROWS + "1,-1e301,a\n", r"row 5, column 2: got '-1e301', expected a number below 1e\+300"),
    "an underscore": (ROWS + "1_0,1,a\n", "row 5, column 1: got '1_0'"),
    "few columns": (ROWS + "1,a\n", "row 5: got 2 columns, expected 3 as in row 1"),
    "many columns": (ROWS + "1,2,3,a\n", "row 5: got 4 columns, expected 3"),
    "no comma": (ROWS + "1 2\n", "row 5: got 1 columns, .*; put in a comma for each that is missing"),
    "semicolons once": (ROWS + "1;2;a\n", "; write a comma in it where a semicolon stands between columns"),
    "a semicolon more": ("1;2;a\n1;2;a;\n", "what has a semicolon of its own stands in quotes"),
    "names once more": (NAMED + NAMED, "row 6: got the names of the columns once more; delete that row"),
    "a unit": (NAMED + "1,2.5 kg/m²,a\n", "got '2.5 kg/m²', expected a number, such as 2.5"),
    "an amount": ("1;1.200 km;a\n2;3;b\n", "got '1.200 km', expected a number, such as 1200"),
    "no amount": (NAMED + "1,v2,a\n", "got 'v2', expected a number; to leave the column out: "),
    "a decimal comma": ('"5,5",1,a\n"6,5",2,b\n', "got '5,5', expected a number with a decimal point"),
    "a point after commas": ("1,5;2;a\n1.5;2;b\n", "row 2, column 1: got '1.5', expected a decimal comma"),
    "a comma after points": ("1.5;2;a\n1,5;2;b\n", "row 2, column 1: got '1,5', expected a decimal point"),
    "thousands": ("1.234,5;2;a\n1;2;b\n", r"got '1\.234,5', expected a number"),
    "no label": (ROWS + "1,2,\n", "column 3: row 5: got nothing, expected a label"),
    "an odd label": (ROWS + "1,2,a\x1b[2J\n", r"row 5: got 'a\\x1b\[2J', expected a label"),
    "a long label": (ROWS + f"1,2,{'a' * 101}\n", "row 5: got 101 letters"),
    "an open quote": (ROWS + '1,"2,a\n', "row 5: got text that is no CSV"),
    "a large field": (ROWS + f"1,{'2' * 200_000},a\n", "row 5: got text that is no CSV .*field limit"),
    "not UTF-8": (ROWS.encode() + b"1,2,\xe4\n", "row 1 or soon after it: got bytes .* no UTF-8, .*iconv"),
    "one column": ("1\n2\n", "got 1 of its columns to use, expected two at least"),
    "remarks": ("# by hand\n1,2,a\n3,4,b\n", "to leave out rows of remarks: grep -v '\\^#' t > plain.csv$"),
    "spaces between": ("1 2 3\n4 5 6\n", "with a comma, a semicolon or a tab between them"),
    "nothing at all": ("", "got no rows, expected a table"),
    "empty rows": ("\n\n", "got no rows"),
    "only names": ("size,kind\n", "got the names of 2 columns in row 1 alone, expected rows"),
}  # fmt: skip


@pytest.mark.parametrize("case", FAULTS)
def test_the_first_fault_of_a_table_is_named(case):
    content, said = FAULTS[case]
    with pytest.raises(DatasetError, match=said) as raised:
        read(content)
    line = str(raised.value)
    assert line.isprintable()
    assert len(line) < 400


def test_labels_have_decimal_commas_where_the_numbers_have_no_point():
    for table, texts in (
        ("1,5;2,5\n2;3\n", ["2.5", "3"]),
        ("1.5;2,5\n2;3\n", ["2,5", "3"]),
        ("1;a,b\n", ["a,b"]),
    ):
        assert read(table).labels.texts == texts


def test_columns_that_are_not_there_are_told_from_those_that_are():
    with pytest.raises(DatasetError, match=r"--label: got 'knd', .*size, mass, kind; did you mean 'kind'"):
        read(NAMED, "knd")
    with pytest.raises(
        DatasetError, match=r"--label: got '4', expected a column of t: 1 to 3; its first row is"
    ):
        read(ROWS, "4")
    with pytest.raises(DatasetError, match=r"--without: got 'x'"):
        read(NAMED, None, ["x"])
    with pytest.raises(DatasetError, match=r"--label, --without: got 'kind' in both"):
        read(NAMED, "kind", ["3"])
    with pytest.raises(DatasetError, match=r"--without: got 2 of the 3 columns of t, expected two left"):
        read(NAMED, None, ["1", "mass"])


def test_a_row_may_not_be_endless(monkeypatch):
    monkeypatch.setattr(tables, "LONGEST", 50)
    for rows in ("1," * 40, '"a\n",' * 20):
        with pytest.raises(DatasetError, match=r"row 5: got more than 50 letters in one row"):
            read(ROWS + rows)


def many(N, seed=0):
    """A table of two kinds, of which the second column says which, and a constant one."""
    random = np.random.default_rng(seed)
    kinds = random.permutation(np.arange(N) % 3 == 0)
    x = np.stack([random.normal(1e6, 1e3, N), 5.0 + 3 * kinds + random.normal(0, 1, N), np.full(N, 7.1)], 1)
    return x, np.where(kinds, "wolf", "dog")


def csv_of(x, y, header="weight,length,legs,kind\n"):
    rows = (
        ",".join(map(repr, row)) + (f",{label}\n" if y is not None else "\n")
        for row, label in zip(x.tolist(), y if y is not None else x, strict=True)
    )
    return header + "".join(rows)  # fmt: skip


def test_columns_are_standardised_by_the_training_part_alone_and_classes_are_sorted(tmp_path):
    x, y = many(60)
    data = own.load(write(tmp_path, csv_of(x, y)))
    assert (data.name, data.names, data.classes, data.what) == ("table.csv", ("dog", "wolf"), 2, "rows")
    for part, counts in ((data.train, [32, 16]), (data.test, [8, 4])):
        assert np.bincount(part.labels).tolist() == counts
        assert part.images.dtype == np.float32
    X = np.asarray(data.train.images, float)
    np.testing.assert_allclose(X.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(X.std(0), [1, 1, 0], atol=1e-6)
    mean, spread = (np.array(values) for values in data.origin.coding[1:3])
    back = np.concatenate([data.train.images, data.test.images]) * spread + mean
    assert sorted(map(tuple, np.round(back[:, :2], 1))) == sorted(map(tuple, np.round(x[:, :2], 1)))


def test_a_split_is_the_same_for_a_seed_and_another_for_another(tmp_path):
    path = write(tmp_path, csv_of(*many(60)))
    first, again, other = (own.load(path, None, own.Asked(seed=seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.test.images, again.test.images)
    assert not np.array_equal(first.test.images, other.test.images)
    assert len(own.load(path, None, own.Asked(fraction=0.5)).test.labels) == 30


LABELS = {
    "numbers": (["10", "9.0", "9", "010"], ("9", "10"), [1, 0, 0, 1]),
    "text": (["b", "B", "a", "b"], ("B", "a", "b"), [2, 0, 1, 2]),
    "some of both": (["2", "10", "x", "2"], ("10", "2", "x"), [1, 0, 2, 1]),
}


@pytest.mark.parametrize("case", LABELS)
def test_classes_are_found_and_sorted(case):
    texts, names, codes = LABELS[case]
    from jaxnn.datasets.found import labelled

    found = own.classes(labelled("t", texts, str))
    assert (found[1], found[0].tolist()) == (names, codes)


def test_data_from_which_nothing_can_be_learnt_are_refused(tmp_path):
    for content, asked, said in (
        (
            "1,a\n2,a\n",
            {},
            "column 2: got one class, 'a', expected two at least; is another column the label",
        ),
        ('1,"1,200"\n2,"1,300"\n', {}, "squared_error, and a number in its place, such as 1200; is another"),
        ("1,a\n2,a\n3,b\n", {}, "row 3: got the only example of class 'b', expected two at least"),
        ("1,2.5\n2,3\n3,4\n", {}, "to predict a number: --loss squared_error"),
        ("1,2\n2,2\n3,2\n", {"numbers": True}, "column 2: got 2 alone, expected numbers that differ"),
        (
            "1,2\n2,3\n3,x\n",
            {"numbers": True},
            "row 3: column 2: got 'x', expected a number, as most of them",
        ),
        ("1,2\n", {"numbers": True}, "got 1 example, expected two at least"),
    ):
        with pytest.raises(DatasetError, match=said):
            own.load(write(tmp_path, content), None, own.Asked(**asked))


def test_numbers_of_any_size_are_standardised_without_overflow():
    columns = np.array([[1e299, 1e-310, 0.1, 1e308], [-1e299, 0, 0.1, 1e308], [1e299, 1e-310, 0.1, 1e308]])
    mean, spread = own.standard(columns)
    X = (columns - mean) / spread
    np.testing.assert_allclose(X[:, 0], [2**-0.5, -(2**0.5), 2**-0.5])
    np.testing.assert_array_equal(X[:, 2:], 0)
    assert np.isfinite(X).all()


# Arrays


def npz(folder, name="arrays.npz", **found):
    path = folder / name
    np.savez(path, **found)
    return path


IMAGES = np.arange(8 * 3 * 2, dtype=np.uint8).reshape(8, 3, 2)
KINDS = np.array([4, 2, 4, 2, 4, 2, 4, 2])


@pytest.mark.parametrize(
    "names",
    [
        ("x", "y"), ("X", "Y"), ("X", "y"), ("images", "labels"), ("DATA", "target"),
        ("X", "labels"), ("arr_0", "arr_1"),
        ("x_train", "y_train", "x_test", "y_test"),
        ("train_images", "train_labels", "test_images", "test_labels"),
    ],
)  # fmt: skip
def test_arrays_are_found_by_their_names(tmp_path, names):
    found = dict(zip(names, (IMAGES, KINDS, IMAGES[:3], KINDS[:3, None]), strict=False))
    data = own.load(npz(tmp_path, **found))
    assert (data.names, data.white, data.train.images.shape[1:]) == (("2", "4"), 255, (3, 2))
    if len(names) > 2:
        np.testing.assert_array_equal(data.train.images, IMAGES)
        np.testing.assert_array_equal(data.test.labels, [1, 0, 1])
        assert "given in it" in data.origin.said[-1]


def test_arrays_of_other_kinds(tmp_path):
    for images in (IMAGES.astype(">f8"), IMAGES.astype(np.int16), IMAGES[..., None] / np.float16(4)):
        data = own.load(npz(tmp_path, x=images, y=KINDS))
        assert data.train.images.shape[1:] == (3, 2)
        assert data.train.images.max() == 1
    for labels in (np.eye(3)[[0, 2] * 4], np.array(["u", "v"] * 4), np.array([b"u", b"v"] * 4), KINDS == 4):
        assert own.load(npz(tmp_path, x=IMAGES, y=labels)).train.labels.dtype == np.int32
    assert own.load(npz(tmp_path, x=np.arange(8.0), y=KINDS)).train.images.shape[1:] == (1,)


BAD_ARRAYS = {
    "many names": ({"x": IMAGES, "y": KINDS, "label": KINDS}, "got arrays named y and label, expected"),
    "names": ({"a": IMAGES, "b": KINDS}, "got arrays named a, b; expected inputs and labels named x and y"),
    "objects": ({"x": IMAGES, "y": np.array([None] * 8)}, "y: got Python objects, which are not loaded"),
    "objects in x": ({"x": np.array([[1, "a"]], object), "y": KINDS[:1]}, "x: got Python objects"),
    "lengths": (
        {"x": IMAGES, "y": KINDS[1:]},
        r"got 8 examples in x and 7 in y, .*: save the same rows of both",
    ),
    "nan": ({"x": np.array([[1, 2], [3, np.nan]]), "y": KINDS[:2]}, r"x\[1, 1\]: got nan, expected a finite"),
    "nan in y": ({"x": IMAGES, "y": KINDS * np.array([1] * 7 + [np.inf])}, r"y\[7\]: got inf"),
    "complex": ({"x": IMAGES * 1j, "y": KINDS}, "x: got complex128, expected real numbers"),
    "dates": ({"x": IMAGES.astype("M8[s]"), "y": KINDS}, "x: got datetime64"),
    "records": ({"x": IMAGES.view([("a", "u1"), ("b", "u1")]), "y": KINDS}, "x: got .* expected real"),
    "dimensions": ({"x": IMAGES.reshape(8, 1, 1, 3, 2), "y": KINDS}, r"x: got shape \(8, 1, 1, 3, 2\)"),
    "empty": ({"x": IMAGES[:0], "y": KINDS[:0]}, r"x: got shape \(0, 3, 2\)"),
    "soft labels": ({"x": IMAGES, "y": np.full((8, 2), 0.5)}, r"y: got shape \(8, 2\), .*y\[:, 0\]"),
    "each other's": ({"x": KINDS, "y": IMAGES}, r"did you mean numpy.savez\(FILE, x=y, y=x\)\?"),
    "rows for labels": ({"x": KINDS, "y": IMAGES[:, 0]}, r"did you mean numpy.savez\(FILE, x=y, y=x\)\?"),
    "text for rows": ({"X": np.array(["a"] * 8), "y": IMAGES}, r"numpy.savez\(FILE, X=y, y=X\)\?"),
    "both cases": ({"x": IMAGES, "X": IMAGES, "y": KINDS}, "got (x and X|X and x), expected one of them"),
    "an escape": ({"\x1b[2Jx": IMAGES}, r"got arrays named \\x1b\[2Jx"),
    "a label's escape": ({"x": IMAGES, "y": np.array(["a\x1b"] * 8)}, r"y\[0\]: got 'a\\x1b'"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_the_fault_in_arrays_is_named(tmp_path, case):
    found, said = BAD_ARRAYS[case]
    with pytest.raises(DatasetError, match=said) as raised:
        own.load(npz(tmp_path, **found))
    assert str(raised.value).isprintable()


def forged(folder, header: bytes, size=16, version=b"\x01\x00"):
    """An .npz whose x has this header, and as many bytes."""
    with zipfile.ZipFile(folder / "forged.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        text = header.ljust(118 - 10) + b"\n"
        archive.writestr(
            "x.npy", b"\x93NUMPY" + version + len(text).to_bytes(2, "little") + text + bytes(size)
        )
        y = io.BytesIO()
        np.save(y, KINDS)
        archive.writestr("y.npy", y.getvalue())
    return folder / "forged.npz"


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000, 2)}", "got 16 bytes, expected"),
        (b"{'descr': '<f8', 'fortran_order': False, 'shape': (-1, -2)}", "got 16 bytes, expected"),
        (b"{'descr': '|V2000000000', 'fortran_order': False, 'shape': (2,)}", "got 16 bytes, expected"),
        (b"{'descr': '<f8', 'fortran_order': False, 'shape': (" + b"(" * 50, "cannot be read as .npz"),
        (b"\xff\x00\x1b[2J", "cannot be read as .npz"),
    ],
)
def test_an_array_that_is_not_as_long_as_its_header_says_is_not_loaded(tmp_path, header, said):
    with pytest.raises(DatasetError, match=said) as raised:
        own.load(forged(tmp_path, header))
    assert str(raised.value).isprintable()


def test_no_more_is_unpacked_than_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(arrays, "MOST", 1000)
    monkeypatch.setattr(arrays, "_load", lambda *_: pytest.fail("it was loaded"))
    with pytest.raises(DatasetError, match=r"got arrays of 96,064 bytes, expected at most 1,000"):
        own.load(npz(tmp_path, x=np.zeros((8, 12_000), np.uint8), y=KINDS))
    monkeypatch.setattr(arrays, "COUNT", 1)
    with pytest.raises(DatasetError, match=r"got 2 files in it, expected at most 1"):
        own.load(npz(tmp_path, x=IMAGES, y=KINDS))


def test_what_is_no_data_is_told_by_its_content(tmp_path):
    for content, said in (
        (b"\x93NUMPY\x01\x00", "one array, expected .npz"),
        (b"\x1f\x8b\x08", "a gzip file"),
        (b"PAR1", "a Parquet file"),
        (b"version https://git-lfs", "a pointer of Git LFS, expected the file itself: git lfs pull"),
        (b"\x80\x04", "a pickle, which may run any program"),
        (b'{"x": 1}', "JSON"),
        (b"\x89PNG\r\n", "one image, expected a folder"),
        (b"PK\x03\x04 and no more", "cannot be read as .npz"),
    ):
        with pytest.raises(DatasetError, match=said):
            own.load(write(tmp_path, content))


# Folders


def picture(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path, **options)


@pytest.fixture
def zoo(tmp_path):
    for k, kind in enumerate(("cat", "dog", "10")):
        for i in range(5 + k):
            picture(tmp_path / "zoo" / kind / f"{i}.png", IMAGES[i] + 60 * k)
    (tmp_path / "zoo" / ".DS_Store").write_text("x")
    (tmp_path / "zoo" / "readme.txt").write_text("x")
    (tmp_path / "zoo" / "cat" / "notes.txt").write_text("x")
    return tmp_path / "zoo"


def test_a_folder_of_images(zoo):
    data = own.load(zoo)
    assert (data.names, data.white, data.what) == (("10", "cat", "dog"), 255, "images")
    assert data.train.images.shape == (15, 3, 2)
    assert np.bincount(data.test.labels).tolist() == [1, 1, 1]
    both = np.concatenate([data.train.images, data.test.images])
    labels = np.concatenate([data.train.labels, data.test.labels])
    assert {image.tobytes() for image in both[labels == 1]} == {IMAGES[i].tobytes() for i in range(5)}
    sums = "".join(
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(zoo).as_posix()}\n"
        for path in sorted(zoo.rglob("*.png"))
    )
    assert data.origin.sha256 == (hashlib.sha256(sums.encode()).hexdigest(),)


def test_a_folder_with_a_part_for_testing(tmp_path):
    for part, N in (("train", 4), ("test", 2)):
        for k in range(2):
            for i in range(N):
                picture(tmp_path / part / "ab"[k] / f"{i}.jpeg", np.full((3, 2, 3), 100 * k), format="JPEG")
    data = own.load(tmp_path)
    assert data.train.images.shape == (8, 3, 2, 3)
    assert data.test.images.shape == (4, 3, 2, 3)
    assert data.origin.said[0] == "in colour, as the first one is"


def test_images_are_brought_to_one_size_and_what_is_transparent_is_white(zoo):
    pixels = np.zeros((6, 4, 4), np.uint8)
    pixels[3:, :, 3] = 255  # below it is black, above it is not there
    picture(zoo / "dog" / "9.png", pixels)
    Image.fromarray(np.full((3, 2), 40_000, np.uint16)).save(zoo / "cat" / "8.png")
    data = own.load(zoo, None, own.Asked(size=(2, 2)))
    both = np.concatenate([data.train.images, data.test.images])
    assert both.shape[1:] == (2, 2)
    assert any((image[0] > 200).all() and (image[1] < 50).all() for image in both)
    assert any((image == 40_000 // 257).all() for image in both)
    with pytest.raises(
        DatasetError, match=r"9.png: got 4×6 pixels, expected 2×3 pixels .* --image-size 2x3 brings"
    ):
        own.load(zoo)


def test_faults_in_folders(zoo, tmp_path):
    flat = tmp_path / "flat"
    picture(flat / "1.png", IMAGES[0])
    with pytest.raises(DatasetError, match=r"got 0 folders and 1 images, expected a folder for each class"):
        own.load(flat)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match=r"got 0 folders and 0 images"):
        own.load(tmp_path / "empty")
    (flat / "cats").mkdir()
    with pytest.raises(DatasetError, match=r"got 1 folders and 1 images beside them"):
        own.load(flat)
    (flat / "1.png").unlink()
    with pytest.raises(DatasetError, match=r"cats: got no images"):
        own.load(flat)
    (zoo / "dog" / "more").mkdir()
    with pytest.raises(DatasetError, match=r"more: got a folder in that of a class"):
        own.load(zoo)
    (zoo / "dog" / "more").rmdir()
    (zoo / "dog" / "8.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    with pytest.raises(
        DatasetError, match=r"8.png: cannot be read .not a PNG or JPEG, or damaged.; save it anew, or take"
    ):
        own.load(zoo)
    picture(tmp_path / "one" / "cat" / "1.png", IMAGES[0])
    with pytest.raises(DatasetError, match=r"got one class, 'cat', .*; put the others beside it, a folder"):
        own.load(tmp_path / "one")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_only_regular_files_are_read_and_no_link_leads_outside(zoo, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, said in ((tmp_path / "pipe", "got a folder, a pipe or a device"), ("/dev/zero", "a device")):
        with pytest.raises(DatasetError, match=said):
            own.load(type(tmp_path)(path))
    with pytest.raises(DatasetError, match=r"no such file"):
        own.load(tmp_path / "none.csv")
    os.mkfifo(zoo / "cat" / "9.png")
    with pytest.raises(DatasetError, match=r"9.png: got a folder, a pipe or a device"):
        own.load(zoo)
    (zoo / "cat" / "9.png").unlink()
    outside = tmp_path / "outside.png"
    picture(outside, IMAGES[0])
    (zoo / "cat" / "9.png").symlink_to(outside)
    with pytest.raises(DatasetError, match=r"9.png: got a link to somewhere else"):
        own.load(zoo)
    (zoo / "cat" / "9.png").unlink()
    (zoo / "linked").symlink_to(tmp_path)
    with pytest.raises(DatasetError, match=r"linked: got a link to somewhere else"):
        own.load(zoo)


def test_an_image_is_measured_before_it_is_unpacked(zoo, monkeypatch):
    monkeypatch.setattr(folders, "PIXELS", 5)
    monkeypatch.setattr(Image.Image, "load", lambda *_: pytest.fail("it was unpacked"))
    with pytest.raises(DatasetError, match=r"0.png: cannot be read .got 2×3 pixels, expected at most 5"):
        own.load(zoo)


def test_a_file_is_measured_before_it_is_read(tmp_path):
    path = write(tmp_path, "12345")
    assert files.content(path, 5) == b"12345"
    with pytest.raises(DatasetError, match=r"got 5 bytes, expected at most 4"):
        files.content(path, 4)


# Through the programs


@pytest.fixture(scope="module")
def a_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    write(folder, csv_of(*many(60)))
    done = ended(train, "--data", folder / "table.csv", *OPTIONS, "--out", folder / "run")
    assert done.status == 0, done.err
    return folder, done.out


def forward(folder, X, name="params"):
    """What the network of a run with one hidden layer says, in float64."""
    found = {key: value.astype(float) for key, value in load_file(folder / f"{name}.safetensors").items()}
    A = 1 / (1 + np.exp(-(X @ found["W[1]"].T + found["b[1]"].T)))
    return A @ found["W[2]"].T + found["b[2]"].T


def test_a_table_is_learnt_and_told_of(a_run):
    folder, out = a_run
    for line in (
        "data      table.csv: 48 training and 12 test rows\n",
        "          3 columns: weight, length, legs\n",
        "          2 classes (kind): dog, wolf\n",
        "test examples drawn by seed 0, 0.2 of each class\n",
        " is a batch of them, each column standardised\n",
        "network   3-3-2: ",
    ):
        assert line in out
    settings = json.loads((folder / "run" / "settings.json").read_text())
    content = (folder / "table.csv").read_bytes()
    assert settings["data_sha256"] == [hashlib.sha256(content).hexdigest()]
    assert f"\nsha256    {settings['data_sha256'][0]}\n" in out
    assert (settings["dataset"], settings["data"]) == (None, str(folder / "table.csv"))


def test_predict_reads_the_data_again(a_run):
    folder, out = a_run
    done = ended(predict, folder / "run")
    assert done.status == 0, done.err
    (line,) = (line for line in out.splitlines() if line.startswith("accuracy"))
    assert f"{line}\n          as training reported\n" in done.out
    assert "\n         dog  wolf\n dog " in done.out


@pytest.mark.parametrize("labels", [True, False])
def test_other_data_are_predicted_as_the_training_coded_them(a_run, tmp_path, labels):
    folder, _ = a_run
    x, y = many(21, seed=5)
    swapped = x[:, [1, 0, 2]]  # found by their names
    header = "length,weight,legs" + ",kind" * labels + "\n"
    path = write(tmp_path, csv_of(swapped, y if labels else None, header), "new.csv")
    done = ended(predict, folder / "run", "--data", path)
    assert done.status == 0, done.err
    coding = json.loads((folder / "run" / "coding.json").read_text())
    Z = forward(folder / "run", (x - coding["mean"]) / coding["spread"])
    names = np.array(["dog", "wolf"])[Z.argmax(axis=1)]
    if labels:
        assert f"accuracy  {100 * np.mean(names == y):.2f} % of 21 rows\n" in done.out
    else:
        lines = [line.split() for line in done.out.splitlines()[-21:]]
        assert [line[1:3] for line in lines] == [[str(k), name] for k, name in enumerate(names, start=2)]
        Y_hat = 1 / (1 + np.exp(-Z.max(axis=1)))
        np.testing.assert_allclose([float(line[3]) for line in lines], Y_hat, atol=1e-4)


OTHERS = {
    "no such column": ("weight,long,legs,kind\n1e6,1,7.1,dog\n1e6,2,7.1,dog\n", "got no column 'length'"),
    "one like it": ("weight,lenght,legs\n1,1,7\n1,2,7\n", "did you mean 'length' by 'lenght'?"),
    "one like another": ("lengths,length,legs\n1,1,7\n1,2,7\n", "no column 'weight', .*, legs; expected all"),
    "columns": ("1,2\n3,4\n", "got 2 columns, expected 4 as in the training data, or without the label 3"),
    "a class": ("1e6,5,7.1,cat\n", "row 11: got the class 'cat', expected one of the training: dog, wolf"),
    "far away": ("1e18,5,7.1,dog\n", r"row 11, number 1: got 1e\+18, expected less than 1e\+06 standard dev"),
    "text": ("1e6,x,7.1,dog\n", r"row 11, column 2 \(length\): got 'x'"),
}  # fmt: skip


@pytest.mark.parametrize("case", OTHERS)
def test_other_data_that_do_not_fit_are_refused(a_run, tmp_path, case):
    folder, _ = a_run
    content, said = OTHERS[case]
    path = write(tmp_path, content if "\n" in content[:-1] else csv_of(*many(9)) + content)
    status, out, err = ended(predict, folder / "run", "--data", path)
    assert status == 2
    assert out.count("\n") <= 1
    with pytest.raises(AssertionError, match=said):
        raise AssertionError(err)
    status, _, err = ended(train, "--data", folder / "table.csv", "--test-data", path, "--epochs", "1")
    assert status == 2, err


def test_data_that_have_changed_are_refused(tmp_path):
    path, out = write(tmp_path, csv_of(*many(60))), tmp_path / "run"
    assert ended(train, "--data", path, *OPTIONS, "--out", out).status == 0
    (out / "params.safetensors").unlink()  # as if it had been interrupted just before its end
    before = (out / "metrics.jsonl").read_text()
    content = path.read_text()
    path.write_text(content.replace("dog", "fox"))
    status, _, err = ended(train, "--out", out)
    assert status == 2
    assert f"{path}: got content with sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}, expected" in err
    assert (out / "metrics.jsonl").read_text() == before
    moved = path.rename(tmp_path / "moved.csv")
    moved.write_text(content)
    status, _, err = ended(train, "--out", out, "--data", moved)
    assert status == 2
    assert "or --override data" in err
    assert ended(train, "--out", out, "--data", moved, "--override", "data").status == 0
    moved.write_text(content + "1e6,5,7.1,dog\n")
    status, _, err = ended(predict, out)
    assert status == 2
    assert "got content with sha256" in err


def test_a_number_is_predicted(tmp_path):
    random = np.random.default_rng(1)
    x = random.normal(20, 4, (50, 2))
    y = 1000 + 30 * x[:, 0] - 10 * x[:, 1]
    path, out = write(tmp_path, csv_of(x, y, "a,b,price\n")), tmp_path / "run"
    line = (
        "--data",
        path,
        "--loss",
        "squared_error",
        "--hidden",
        "4",
        "--epochs",
        "9",
        "--learning-rate",
        "0.1",
    )
    done = ended(train, *line, "--out", out)
    assert done.status == 0, done.err
    assert "a number to predict (price): mean " in done.out
    metrics = [json.loads(row) for row in (out / "metrics.jsonl").read_text().splitlines()]
    assert all("test_accuracy" not in m for m in metrics)
    data = own.load(path, None, own.Asked(numbers=True))
    middle, unit = data.origin.coding.middle, data.origin.coding.unit
    train_y = middle + unit * data.train.labels
    assert (middle, unit) == pytest.approx((train_y.mean(), train_y.std()), rel=1e-5)
    best = min(range(9), key=lambda k: metrics[k]["test_loss"])
    for name, epoch in (("params", -1), ("best", best)):
        errors = unit * (forward(out, data.test.images.astype(float), name)[:, 0] - data.test.labels)
        assert metrics[epoch]["test_error"] == pytest.approx(np.sqrt(np.mean(errors**2)), rel=1e-4)
    assert (
        f"error     {metrics[-1]['test_error']:.4f}: the root mean squared error of 10 test rows" in done.out
    )
    again = ended(predict, out)
    assert "          as training reported\n" in again.out
    new = write(tmp_path, "a,b\n20,20\n25,19\n", "new.csv")
    X = (np.array([[20, 20], [25, 19]]) - data.origin.coding.mean) / data.origin.coding.spread
    said = [float(row.split()[2]) for row in ended(predict, out, "--data", new).out.splitlines()[-2:]]
    np.testing.assert_allclose(said, middle + unit * forward(out, X)[:, 0], rtol=1e-5)
    for program, words in ((page, [out]), (page, [out, "--best"])):
        assert ended(program, *words).status == 0
    html = (out / "page.html").read_text()
    assert "the root mean squared error of 10 test rows" in html
    assert "Confusion matrix" not in html


def test_images_are_learnt_shown_and_predicted(zoo, tmp_path):
    out = tmp_path / "run"
    with warnings.catch_warnings():
        done = ended(train, "--data", zoo, *OPTIONS, "--out", out)
    assert done.status == 0, done.err
    assert "images of 2×3 pixels, divided by 255" in done.out
    loose = tmp_path / "loose"
    picture(loose / "it.png", IMAGES[1])
    said = ended(predict, out, "--data", loose).out.splitlines()[-1].split()
    Y_hat = 1 / (1 + np.exp(-forward(out, IMAGES[1].reshape(1, -1) / 255)[0]))
    assert said[:2] == ["it.png", ["10", "cat", "dog"][Y_hat.argmax()]]
    assert float(said[2]) == pytest.approx(Y_hat.max(), abs=1e-4)
    for program, words in ((predict, [out, "--image", loose / "it.png"]), (draw, [out])):
        status, _, err = ended(program, *words)
        assert status == 2
        assert "on handwriting" in err
    assert "warning" not in done.err


def test_a_sweep_takes_them_too(a_run, tmp_path):
    folder, _ = a_run
    line = ("--data", folder / "table.csv", "--seeds", "1", "--learning-rates", "0.5", "--epochs", "2")
    assert ended(sweep, *line, "--hidden", "3", "--out", tmp_path / "sweep").status == 0
    assert "as training reported" in ended(predict, tmp_path / "sweep" / "best").out


def test_the_best_network_of_a_sweep_that_predicts_a_number_has_the_least_error(a_run, tmp_path):
    folder, _ = a_run
    asked = ("--data", folder / "table.csv", "--label", "weight", "--without", "kind")
    asked = (*asked, "--loss", "squared_error", "--epochs", "2", "--seeds", "1", "--batch-size", "4")
    done = ended(sweep, *asked, "--learning-rates", "0.05", "1e30", "--widths", "3", "5", "--out", tmp_path)
    assert done.status == 0, done.err
    rows = [json.loads(line) for line in (tmp_path / "networks.jsonl").read_text().splitlines()]
    assert [row["final_test_error"] is None for row in rows] == [False, False, True, True]
    best = min(rows[:2], key=lambda row: row["final_test_error"])
    assert f"best      error {best['final_test_error']:.4f} of " in done.out
    assert f"test error: best {best['final_test_error']:.4f}, median " in done.out
    read = ended(predict, tmp_path / "best")
    assert f"error     {best['final_test_error']:.4f}: the root mean squared error of " in read.out, read.err
    assert "as training reported" in read.out
    assert ended(verify, tmp_path).status == 0
    assert ended(page, tmp_path).status == 0
    text = re.sub(r"<[^>]*>", "", (tmp_path / "page.html").read_text("utf-8"))
    assert f"The least test error is {best['final_test_error']:.4g}." in text
    assert "2 of 4 diverged" in text
    assert ended(sweep, *asked[:-4], "--epochs", "1", "--seeds", "1").out.count("4 learning rates") == 1


def test_mistakes_at_the_command_line(a_run, tmp_path):
    folder, _ = a_run
    path = folder / "table.csv"
    for words, said in (
        (
            ["--data", path, "--dataset", "digits"],
            "got both, expected one; leave out --dataset digits, or --data ",
        ),
        (["--label", "kind"], "--label: expected --data PATH with it"),
        (["--data", ""], "got '', expected the name of a file"),
        (["--data", tmp_path / "none.csv"], "none.csv: no such file"),
        (["--data", path, "--label", "knd"], "did you mean 'kind'"),
        (["--data", path, "--test-fraction", "20"], "got '20', expected a number between 0 and 1"),
        (["--data", path, "--test-data", path, "--test-fraction", "0.5"], "got both, expected one"),
        (
            ["--data", path, "--image-size", "2x2"],
            "--image-size: got one for .*, expected a folder of images",
        ),
        (["--data", path, "--image-size", "2*2"], r"got '2\*2', expected WIDTHxHEIGHT; write 2x2"),
        (
            ["--data", path, "--batch-size", "49"],
            "--batch-size: got 49, expected at most the 48 training rows",
        ),
        (["--data", path, "--data-sha256", "0" * 64], "got content with sha256 .*, expected 0000"),
        (["--data", tmp_path, "--label", "kind"], "expected none for a folder of images"),
    ):
        status, out, err = ended(train, *words, "--out", tmp_path / "out")
        assert status == 2, words
        assert out.count("\n") <= 1, words
        assert err.count("\n") == 1
        with pytest.raises(AssertionError, match=said):
            raise AssertionError(err)
        assert not (tmp_path / "out").exists()


CODING = own.Coding(
    (2,), (0.5, 1.0), (1.0, 2.0), 1.0, ("u", "v"), (0, 1), 3, "k", 2, (), ("a", "b"), 0.0, 1.0
)
FORGED = {
    "shape": [[], [0], [2.0], ["2"], [1, 1, 1, 1], [3], 2, None, [True, True]],
    "mean": [[0.5], [0.5, "1"], [0.5, None], [1, 2], {}],
    "spread": [[1.0, 0.0], [1.0, -2.0], [1.0]],
    "white": [0.0, 1, None, "1"],
    "columns": [["u"], ["u", 5], ["u", "\x1b[2J"], "uv"],
    "places": [[0], [0, -1], [0, 3], [0, 10**30]],
    "width": [-1, 2.0, 1, None],
    "label": [5, "x\n", "y" * 2000],
    "label_place": [4, -1],
    "resized": [[1], [0, 0], [1, 2, 3]],
    "names": [[5], ["a\x00"], ["a"] * 1001],
    "middle": [None, "1"],
    "unit": [0.0, -1.0],
}  # fmt: skip


@pytest.mark.parametrize("field", FORGED)
def test_every_field_of_a_coding_is_checked(field):
    good = json.loads(kept.text(CODING))
    assert kept.parsed("c", json.dumps(good)) == CODING
    for value in FORGED[field]:
        with pytest.raises(DatasetError) as raised:
            kept.parsed("c", json.dumps(good | {field: value}))
        assert str(raised.value).isprintable()
        assert len(str(raised.value)) < 200


def test_a_coding_that_is_none(tmp_path):
    for text in ("", "[" * 100_000, "[]", "{}", '{"shape": NaN}', "\x00"):
        with pytest.raises(DatasetError, match=r"^c: "):
            kept.parsed("c", text)
    forged = kept.text(CODING).replace("0.5", "NaN").replace("1.0", "Infinity")
    with pytest.raises(DatasetError, match=r"mean: got"):
        kept.parsed("c", forged)


def test_a_run_whose_coding_was_changed_is_refused(a_run, tmp_path):
    folder, _ = a_run
    for name in ("settings.json", "metrics.jsonl", "params.safetensors"):
        (tmp_path / name).write_bytes((folder / "run" / name).read_bytes())
    good = (folder / "run" / "coding.json").read_text()
    for text, said in (
        (good.replace("dog", "cat"), "damaged: its fields have another sha256 than the one it carries"),
        (kept.text(kept.parsed("c", good)._replace(middle=1.0)), "got another coding than that of its data"),
        (good.replace('"width": 4', '"width": -4'), "width: got -4"),
    ):
        (tmp_path / "coding.json").write_text(text)
        status, out, err = ended(predict, tmp_path)
        assert status == 2
        assert out.count("\n") <= 1
        assert said in err
    settings = json.loads((tmp_path / "settings.json").read_text())
    (tmp_path / "coding.json").write_text(good)
    for name, value, said in (
        ("data", "/dev/zero", "a device"),
        ("data", "x\x1b[2J", r"x\x1b[2J"),
        ("data_sha256", None, "data_sha256: got nothing"),
        ("data_sha256", ["--help"], "got '--help'"),
        ("test_fraction", "2", "expected a number between 0 and 1"),
        ("seed", True, "seed: got 'True'"),
        ("label", 99, "got '99', expected a column"),
    ):
        (tmp_path / "settings.json").write_text(json.dumps(settings | {name: value}))
        status, out, err = ended(predict, tmp_path)
        assert status == 2, name
        assert out.count("\n") <= 1, name
        assert said in err
        assert err.removesuffix("\n").isprintable()


def test_what_stands_out_is_told_and_left_as_it_is(tmp_path):
    rows = "".join(f"{k + 1},{7},{k % 5},{'aAb '[k % 4].strip() or 'B'}\n" for k in range(20))
    told = own.load(write(tmp_path, "id,one,size,kind\n" + rows)).origin.said
    assert [line for line in told if line.startswith("note: ")] == [
        "note: classes that differ in spaces or capitals alone: 'A' and 'a', 'B' and 'b'; are they one?",
        "note: column 2 (one) is the same in every row; to leave it out: --without one",
        "note: column 1 (id) is a number of the row, it seems; to leave it out: --without id",
    ]
    twice = write(tmp_path, "size,size,kind\n" + "1,2,a\n2,5,b\n" * 4)
    assert "note: 2 columns are called size; to keep the first: --without 2" in own.load(twice).origin.said
    with pytest.raises(DatasetError, match="the name of columns 1 and 2; write its number"):
        own.load(twice, asked=own.Asked(without=["size"]))
    with pytest.raises(DatasetError, match=r"got .one, size., with commas; write --without one size$"):
        own.load(write(tmp_path, "id,one,size,kind\n" + rows), asked=own.Asked(without=["one,", "size"]))
    spaced = write(tmp_path, "petal length,one,kind\n" + "1,2,a\n2,5,b\n" * 4)
    with pytest.raises(DatasetError, match=r"quoted: write --without 'petal length'$"):
        own.load(spaced, asked=own.Asked(without=["petal", "length"]))


def test_light_images_are_inverted_and_dark_ones_are_not(tmp_path):
    light = 255 - IMAGES
    data = own.load(npz(tmp_path, x_train=light, y_train=KINDS, x_test=light, y_test=KINDS))
    np.testing.assert_array_equal(data.train.images, IMAGES)
    assert data.origin.coding.inverted
    part = own.load(npz(tmp_path, x_train=light / 255, y_train=KINDS, x_test=light, y_test=KINDS))
    np.testing.assert_allclose(part.train.images, 1 - (light / 255) / part.origin.coding.white, atol=1e-6)
    before = own.load(
        npz(tmp_path, x_train=light, y_train=KINDS, x_test=light, y_test=KINDS),
        asked=own.Asked(before=data.origin.coding._replace(inverted=False, white=254.0)),
    )
    np.testing.assert_allclose(before.train.images, light)  # a run of before goes on as it began
    assert before.white == 254


def test_defaults_by_the_number_of_examples():
    assert [own_data.defaults(N)["batch_size"] for N in (1, 8, 9_999, 10_000)] == [1, 8, 8, 100]
    assert own_data.defaults(20, least=32)["batch_size"] == 20


def test_images_where_a_table_was_learnt_are_told_so():
    said = folders.unequal(Path("zoo/1.png"), (6, 5), (4,), None)
    assert said == "zoo/1.png: got 5×6 pixels, expected rows of 4 numbers as in training"
