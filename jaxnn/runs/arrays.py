"""Named arrays in one file of the format safetensors (github.com/huggingface/safetensors, "Format").

Eight bytes hold the length of a header, a JSON table of each array's dtype, shape and place; then come the
arrays. The whole header is checked, and compared with what is needed, before an array is read.
"""

import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors.numpy import save

from jaxnn.runs import files

DTYPES = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "U16": "uint16", "I16": "int16", "U32": "uint32",
    "I32": "int32", "U64": "uint64", "I64": "int64", "F16": "float16", "BF16": "bfloat16", "F32": "float32",
    "F64": "float64", "C64": "complex64",
}  # fmt: skip
HEADER = 1_000_000  # bytes that it has at most, where nobody knows better
AXES = 32


class Placed(NamedTuple):
    """An array, and where it lies behind the header."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    def __str__(self) -> str:
        """As in `float32 (3, 2)`."""
        return f"{self.dtype} {self.shape}"


class Header(NamedTuple):
    """What a file says of its arrays, and its texts."""

    placed: dict[str, Placed]
    texts: dict[str, str]
    size: int  # of itself, the eight bytes before it included


def content(arrays: Mapping[str, np.ndarray], texts: Mapping[str, str]) -> bytes:
    """The file of these arrays and texts."""
    whole = {name: np.require(array, requirements="C") for name, array in arrays.items()}
    return files.do(save, whole, dict(texts))


def load(
    path: Path, check: Callable[[Header], object] = lambda header: None, most: int = HEADER
) -> tuple[dict[str, np.ndarray], Header]:
    """The arrays of a file, by their names; `check` sees its header, of `most` bytes, before they are read.

    Raises OSError and ValueError, and whatever `check` raises.
    """
    with files.opened(path) as file:
        header = read_header(path, file, most)
        check(header)
        found = {}
        for name, placed in sorted(header.placed.items(), key=lambda item: item[1].begin):
            array = files.do(np.empty, placed.shape, np.dtype(placed.dtype))
            fill(file, array)
            found[name] = array
    return found, header


def header_of(path: Path, most: int = HEADER) -> Header:
    """The header of a file. Raises OSError and ValueError."""
    with files.opened(path) as file:
        return read_header(path, file, most)


def fill(file: int, array: np.ndarray) -> None:
    """Read the next bytes of a file into an array."""
    left = array.reshape(-1).view(np.uint8).data
    while left:
        piece = files.do(os.read, file, min(files.PIECE, len(left)))
        if not piece:
            raise ValueError("it ends before its last array")
        left[: len(piece)] = piece
        left = left[len(piece) :]


def read_header(path: Path, file: int, most: int) -> Header:
    """The header of an open file, checked. Raises OSError and ValueError."""
    size = files.check_size(path, file, 2**62)
    first = files.read_into(file, 8)
    length = int.from_bytes(first, "little")
    if len(first) < 8 or not 2 <= length <= min(most, size - 8):
        raise ValueError(f"got {size:,} bytes with a header of {length:,}, expected one of 2..{most:,}")
    try:
        table = json.loads(files.read_into(file, length), object_pairs_hook=once)
    except RecursionError as error:
        raise ValueError("its header is nested too deeply") from error
    if not isinstance(table, dict):
        raise ValueError("its header is no table")
    texts = table.pop("__metadata__", {})
    if not (isinstance(texts, dict) and all(isinstance(text, str) for text in texts.values())):
        raise ValueError("the texts in its header are no texts")
    placed = {name: _placed(name, entry) for name, entry in table.items()}
    end = 0
    for name, there in sorted(placed.items(), key=lambda item: (item[1].begin, item[1].end)):
        if there.begin != end:
            raise ValueError(f"{name[:40]!r}: begins at {there.begin:,}, expected {end:,}")
        end = there.end
    if end != size - 8 - length:
        raise ValueError(f"got {size - 8 - length:,} bytes of arrays, expected {end:,} as its header says")
    return Header(placed, texts, 8 + length)


def once(pairs: list[tuple]) -> dict:
    """A JSON table in which each name stands once."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice in it")
    return found


def _placed(name: str, entry) -> Placed:
    try:
        code, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        dtype = DTYPES[code]
        good = len(entry) == 3 and len(shape) <= AXES and isinstance(shape, list)
        if not (good and all(type(n) is int and 0 <= n < 2**62 for n in [*shape, begin, end])):
            raise ValueError
    except (TypeError, KeyError, ValueError):
        raise ValueError(f"{name[:40]!r}: expected a dtype that is known, a shape and two offsets") from None
    placed = Placed(dtype, tuple(shape), begin, end)
    if end - begin != math.prod(shape) * np.dtype(dtype).itemsize:
        raise ValueError(f"{name[:40]!r}: got {end - begin:,} bytes, expected those of {str(placed)[:80]}")
    return placed
