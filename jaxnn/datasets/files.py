"""The door through which one's own files come in: only regular ones, and none larger than is expected."""

import contextlib
import os
import stat
from pathlib import Path

from jaxnn import shown as texts

MOST = 1_000_000_000  # bytes of a file, and of what is unpacked from it


class DatasetError(ValueError):
    """Data that is missing or wrong: one line that says what, where, got and expected."""


def shown(text: object, most: int = 40) -> str:
    """Text from a file, or a name, as it may be printed."""
    return texts.shown(text, most)


def quoted(text: object) -> str:
    """Text as `shown`, in quotes."""
    return f"'{shown(text, 40)}'"


def named(path: Path) -> str:
    """A path as it may be printed, from the current folder on where that is shorter."""
    text = str(path)
    with contextlib.suppress(OSError, ValueError):
        text = min(text, os.path.relpath(path), key=len)
    return shown(text, 200)


def content(path: Path, most: int = MOST) -> bytes:
    """All of a regular file. Raises DatasetError if it is none, too large, or cannot be read."""
    flags = (getattr(os, name, 0) for name in ("O_BINARY", "O_NONBLOCK", "O_NOCTTY"))  # a pipe does not hang
    try:
        with open(os.open(path, os.O_RDONLY | sum(flags)), "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise DatasetError(f"{named(path)}: got a folder, a pipe or a device, expected a file")
            if found.st_size > most:
                raise DatasetError(f"{named(path)}: got {found.st_size:,} bytes, expected at most {most:,}")
            return file.read(most + 1 if found.st_size == most else found.st_size + 1)[:most]
    except FileNotFoundError as error:
        raise DatasetError(f"{named(path)}: no such file") from error
    except (OSError, ValueError) as error:
        if isinstance(error, DatasetError):
            raise
        why = getattr(error, "strerror", None) or error
        raise DatasetError(f"{named(path)}: cannot be read ({shown(why, 100)})") from error
