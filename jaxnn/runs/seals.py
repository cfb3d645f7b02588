"""Folders that show whether any file in them has changed.

A sealed folder holds files alone, and SHA256SUMS with a line for each, in the format of `sha256sum`.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from jaxnn.runs import files

SEAL = "SHA256SUMS"


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
    sums = text(folder)
    for name in files.names(folder):
        if name != SEAL:
            files.sync(folder / name)
    files.remove(folder / SEAL)
    files.write(folder / SEAL, sums)
    files.sync(folder)


def broken(folder: Path, most: Mapping[str, int] | None = None) -> str | None:
    """What is wrong with a sealed folder, in a few words; None if each file is what it was.

    `most` are the names of the files that there must be, and how many bytes each has at most: what is larger
    is not read.
    """
    try:
        if (found := files.kind(folder)) != "a folder":
            return "not a folder" if found else "no such folder"
        names = [name for name in files.names(folder) if name != SEAL]
        if most is not None and names != sorted(most):
            other = sorted({*names} ^ {*most})[0]
            return f"{other}: {'no file of it' if other in names else 'no such file'}"
        for name in (SEAL, *names):
            if (found := files.kind(folder / name)) != "a file":
                return f"{name}: {'no such file' if not found else 'not a file'}"
        sealed = files.read(folder / SEAL, 100_000 + 400 * len(names))  # some may be gone
        expected = text(folder, most)
    except OSError as error:
        where = f"{Path(error.filename).name}: " if error.filename else ""
        return f"{where}{error.strerror}"
    if sealed == expected:
        return None
    changed = [line for line in expected.splitlines() if line not in sealed.splitlines()]
    if not changed:
        return "not the files that were sealed"
    return f"{changed[0][66:].decode(errors='replace')}: other content than when it was sealed"


def text(folder: Path, most: Mapping[str, int] | None = None) -> bytes:
    """The seal of a folder, for what is in it now. Raises OSError."""
    return b"".join(
        os.fsencode(f"{files.sha256(folder / name, most[name] if most else sys.maxsize)}  {name}\n")
        for name in files.names(folder)
        if name != SEAL
    )
