"""Arrays in an .npz file, by the names that they usually have there. Nothing in it is unpickled."""

import io
import math
import zipfile
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxnn.datasets.dataset import Coding
from jaxnn.datasets.files import MOST, DatasetError, shown
from jaxnn.datasets.found import Found, Labels, labelled, plain

INPUTS = ("x", "images", "image", "data", "features", "inputs", "input", "arr_0")
LABELS = ("y", "labels", "label", "target", "targets", "classes", "class", "arr_1")
# in whatever case; with parts x_train and y_train, or train_x and train_y, and so on
COUNT = 100  # arrays that there can be
LEVELS = 32  # uint8 images with fewer have a white of their own, such as the 16 of digits; others 255


class Member(NamedTuple):
    """An array in the file that is not loaded yet."""

    key: str
    file: str
    shape: tuple[int, ...]
    dtype: np.dtype


def read(where: str, content: bytes, known: Coding | None = None) -> tuple[Found, Found | None]:
    """What is in the file, and what it holds for testing if that is given.

    With `known`, of data that come after the training, labels may be missing. Raises DatasetError.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = _members(where, archive)
            names = _names(where, members, known is not None)
            loaded = [member for name, member in members.items() if name in names]
            total = sum(math.prod(member.shape) * member.dtype.itemsize for member in loaded)
            if total > MOST:
                raise DatasetError(f"{where}: got arrays of {total:,} bytes, expected at most {MOST:,}")
            found = [
                _found(where, archive, members[str(x)], members[y] if y else None)
                for x, y in zip(names[::2], names[1::2], strict=True)
            ]
            unused = [member.key for member in members.values() if member not in loaded]
    except (DatasetError, MemoryError):
        raise
    except Exception as error:  # zipfile and numpy raise nearly anything
        why = f"{type(error).__name__}: {shown(error, 100)}"
        raise DatasetError(f"{where}: cannot be read as .npz ({why})") from error
    if unused:
        found[0] = found[0]._replace(said=(f"not used: {shown(', '.join(unused), 60)}",))
    return found[0], found[1] if len(found) > 1 else None


def _members(where: str, archive: zipfile.ZipFile) -> dict[str, Member]:
    """The arrays by their names in small letters; only what stands before their numbers is read."""
    found, infos = {}, archive.infolist()
    if len(infos) > COUNT:
        raise DatasetError(f"{where}: got {len(infos):,} files in it, expected at most {COUNT}")
    for info in infos:
        key = info.filename.removesuffix(".npy")
        if key == info.filename:
            continue
        with archive.open(info) as file:
            version = np.lib.format.read_magic(file)
            if version != (1, 0):  # others are for records, and have headers of any length
                raise ValueError(f"{key}: got format {version}, expected 1.0")
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            left = info.file_size - file.tell()
        name = key.lower()
        if name in found:
            raise DatasetError(
                f"{where}: got {shown(found[name].key)} and {shown(key)}, expected one of them"
            )
        if dtype.hasobject:
            left = 0  # it is not loaded; nor is its size known
        elif any(size < 0 for size in shape) or math.prod(shape) * dtype.itemsize != left:
            raise DatasetError(
                f"{where}: {shown(key)}: got {left:,} bytes, expected {shown(shape)} of {shown(dtype)}"
            )
        found[name] = Member(key, info.filename, shape, dtype)
    if not found:
        sheet = any(name.startswith("xl/") for name in archive.namelist())
        names = shown(", ".join(archive.namelist()), 60)
        what = (
            "a spreadsheet, expected it saved as CSV"
            if sheet
            else f"a zip file without arrays, of {names}, expected that unpacked: unzip {where}"
        )
        raise DatasetError(f"{where}: got {what}")
    return found


def _names(where: str, there: dict[str, Member], alone: bool) -> tuple[str | None, ...]:
    """The names of inputs and labels, and of those for testing; alone: labels may be missing."""

    def pair(part: str) -> tuple[str | None, str | None]:
        return _one(where, there, INPUTS, part), _one(where, there, LABELS, part)

    train, test, whole = pair("train"), pair("test"), pair("")
    if alone and (test[0] or whole[0]):
        return test if test[0] else whole
    if all(train):
        return *train, *(test if all(test) else ())
    if all(whole):
        return whole
    got = shown(", ".join(member.key for member in there.values()), 100)
    raise DatasetError(
        f"{where}: got arrays named {got}; expected inputs and labels named "
        "x and y, images and labels, or x_train, y_train, x_test and y_test: numpy.savez(FILE, x=x, y=y)"
    )


def _one(where: str, there: dict[str, Member], names: Sequence[str], part: str) -> str | None:
    """The one of these names that is there, of that part of the data."""
    forms = ("{name}_{part}", "{part}_{name}") if part else ("{name}",)
    possible = (form.format(name=name, part=part) for name in names for form in forms)
    found = [name for name in possible if name in there]
    if len(found) > 1:
        keys = " and ".join(shown(there[name].key) for name in found)
        raise DatasetError(f"{where}: got arrays named {keys}, expected one of them")
    return found[0] if found else None


def _found(where: str, archive: zipfile.ZipFile, x: Member, y: Member | None) -> Found:
    for member in filter(None, (x, y)):
        if member.dtype.hasobject:
            raise DatasetError(
                f"{where}: {shown(member.key)}: got Python objects, which are not loaded, since that may "
                f"run any program; expected numbers or text: numpy.array({shown(member.key)}.tolist())"
            )
    swapped = _swapped(x, y)
    if x.dtype.kind not in "biuf":
        raise DatasetError(f"{where}: {shown(x.key)}: got {shown(x.dtype)}, expected real numbers{swapped}")
    if len(x.shape) not in (1, 2, 3, 4) or 0 in x.shape:
        raise DatasetError(
            f"{where}: {shown(x.key)}: got shape {shown(x.shape)}, expected (N, columns), "
            "(N, height, width) or (N, height, width, colours)"
        )

    def at(i: int) -> str:
        return f"{shown(x.key)}[{i}]"

    labels = None
    if y:
        if y.dtype.kind not in "biufUS" or len(y.shape) not in (1, 2):
            raise DatasetError(
                f"{where}: {shown(y.key)}: got {shown(y.dtype)} {shown(y.shape)}, expected a label each"
                + swapped
            )
        if y.shape[0] != x.shape[0]:
            raise DatasetError(
                f"{where}: got {x.shape[0]} examples in {shown(x.key)} and {y.shape[0]} in {shown(y.key)}, "
                "expected as many: save the same rows of both"
            )
        labels = _labels(where, y.key, _load(archive, y), swapped or f"; of several write one: {y.key}[:, 0]")
    inputs = _load(archive, x)
    inputs = inputs.reshape(len(inputs), -1) if inputs.ndim < 2 or inputs.shape[1:] == (1, 1) else inputs
    if inputs.ndim == 4 and inputs.shape[-1] == 1:
        inputs = inputs[..., 0]
    if inputs.dtype.kind == "f" and not np.isfinite(inputs).all():
        place = np.unravel_index(np.argmin(np.isfinite(inputs)), inputs.shape)
        where_in = ", ".join(map(str, place))
        raise DatasetError(
            f"{where}: {shown(x.key)}[{where_in}]: got {inputs[place]}, expected a finite number"
        )
    bytes_of_images = inputs.dtype == np.uint8 and inputs.ndim > 2 and inputs.max() >= LEVELS
    return Found(inputs, labels, at, white=255.0 if bytes_of_images else 0.0)


def _swapped(x: Member, y: Member | None) -> str:
    """What to say of inputs and labels that seem to bear each other's names."""
    if not y or math.prod(x.shape[1:]) != 1 or len(y.shape) < 2 or y.shape[1] < 2:
        return ""
    return f"; did you mean numpy.savez(FILE, {x.key}={y.key}, {y.key}={x.key})?"


def _labels(where: str, key: str, y: np.ndarray, several: str) -> Labels:
    """Labels as texts; rows of zeros with a one are one-hot; several: what to say of rows of others."""

    def at(i: int) -> str:
        return f"{shown(key)}[{i}]"

    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim == 2:
        one_hot = y.dtype.kind in "biuf" and bool(((y == 0) | (y == 1)).all() and (y.sum(axis=1) == 1).all())
        if not one_hot:
            raise DatasetError(
                f"{where}: {shown(key)}: got shape {y.shape}, expected (N,), or one-hot rows{several}"
            )
        there, codes = np.unique(y.argmax(axis=1), return_inverse=True)
        return Labels(codes, [str(k) for k in there])
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        i = int(np.argmin(np.isfinite(y)))
        raise DatasetError(f"{where}: {at(i)}: got {y[i]}, expected a finite number")
    y = y.astype(int) if y.dtype.kind == "b" else y
    values, codes = np.unique(y, return_inverse=True)
    if y.dtype.kind == "S":
        texts = [value.decode("utf-8", "backslashreplace").strip() for value in values.tolist()]
    elif y.dtype.kind == "U":
        texts = [value.strip() for value in values.tolist()]
    else:
        texts = [plain(repr(value)) for value in values.tolist()]
    first = np.unique(codes, return_index=True)[1]
    labelled(where, texts, lambda k: at(int(first[k])))
    return Labels(codes, texts)


def _load(archive: zipfile.ZipFile, member: Member) -> np.ndarray:
    with archive.open(member.file) as file:
        return np.lib.format.read_array(file, allow_pickle=False)
