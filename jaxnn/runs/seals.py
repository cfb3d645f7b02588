"""Files that are whole or not there, and folders that show whether anything in them has changed.

A sealed folder holds SHA256SUMS, in the format of the program sha256sum, with a line for every other file.
"""

import contextlib
import hashlib
import os
import stat
from pathlib import Path

SEAL = "SHA256SUMS"


def replace(path: Path, content: bytes) -> None:
    """Write a file so that a reader, or a machine that fails, finds the old content or all of the new.

    Raises OSError; the old content is then still there.
    """
    temporary = path.with_name(f".{path.name}.part")
    try:
        temporary.unlink(missing_ok=True)
        with temporary.open("xb") as file:  # a new file: no link is followed
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename = str(path)
        raise


def make(folder: Path) -> None:
    """Make a folder, and those above it, if need be, and wait until their names are on the disk.

    Raises OSError.
    """
    if not folder.is_dir():
        make(folder.parent)
        folder.mkdir(exist_ok=True)
        with contextlib.suppress(PermissionError):  # a folder above that can be written and not read
            sync(folder.parent)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk. Raises OSError."""
    if path.is_dir() and os.name == "nt":
        return  # Windows opens no folders, and keeps their names itself
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def seal(folder: Path) -> None:
    """Seal a folder, and wait until all of it is on the disk. Raises OSError.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "a").write_text("A")
    >>> seal(folder)
    >>> print((folder / "SHA256SUMS").read_text(), end="")
    559aead08264d5795d3909718cdd05abd49572e84fe55590eef31a88a08fdffd  a
    >>> _ = (folder / "a").write_text("B")
    >>> broken(folder)
    'a: other content than when it was sealed'
    """
    (folder / SEAL).write_bytes(text(folder))
    for parent, _, files in os.walk(folder):
        for name in (*files, ""):
            sync(Path(parent, name))


def broken(folder: Path) -> str | None:
    """What is wrong with a sealed folder, in a few words; None if each file is what it was."""
    try:
        if not stat.S_ISDIR(folder.lstat().st_mode):
            return "not a folder"
        if not stat.S_ISREG((folder / SEAL).lstat().st_mode):
            return f"{SEAL}: not a file"
        expected = text(folder)
        with (folder / SEAL).open("rb") as file:
            sealed = file.read(len(expected) + 100_000)  # some may be gone; as much memory is taken
    except FileNotFoundError:
        return f"{SEAL}: no such file"
    except OSError as error:
        return f"{error.strerror}"
    if sealed == expected:
        return None
    changed = [line for line in expected.splitlines() if line not in sealed.splitlines()]
    if not changed:
        return "not the files that were sealed"
    return f"{changed[0][66:].decode(errors='replace')}: other content than when it was sealed"


def text(folder: Path) -> bytes:
    """The seal of a folder, for what is in it now."""
    return os.fsencode("".join(_lines(folder)))


def _lines(folder: Path):
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        kind = path.lstat().st_mode
        if name == SEAL or stat.S_ISDIR(kind):
            continue
        if not stat.S_ISREG(kind):
            yield f"{'not a file':64}  {name}\n"
            continue
        with path.open("rb") as file:
            yield f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {name}\n"
