"""The door through which every file of a run is opened, made, moved and removed.

What is opened is a regular file: no link, pipe, device or folder. What is read is bounded. What is replaced
is, for a reader or after a power cut, the old content or all of the new. All of it raises OSError, whose
`strerror` says why; `do` is the one place where this room asks the system for anything.
"""

import contextlib
import errno
import hashlib
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

PIECE = 1 << 20  # bytes that are read at once
NAMES = 10_000  # in a folder, which is no folder of ours if it has more
NEVER = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"))
KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFLNK: "a link",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def do(call, *arguments, **options):
    """What `call(*arguments, **options)` returns: every call passes here, so that a test can count them."""
    return call(*arguments, **options)


def refused(path: Path, why: str, number: int = errno.EINVAL) -> OSError:
    """The error that says why a file is not used."""
    return OSError(number, why, str(path))


def kind(path: Path) -> str:
    """What is there: "a file", "a folder", "a link" and so on; "" where there is nothing."""
    try:
        mode = do(os.lstat, path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return ""
    return "a file" if stat.S_ISREG(mode) else KINDS.get(stat.S_IFMT(mode), "something else")


def inside(path: Path, root: Path) -> None:
    """Raise OSError unless all that leads from a folder to this one in it are folders, and no links."""
    for part in [path, *path.parents]:
        if part == root:
            return
        if (found := kind(part)) not in ("", "a folder"):
            raise refused(part, f"{found}; expected a folder of the run's own", errno.ENOTDIR)


@contextlib.contextmanager
def opened(path: Path, flags: int = os.O_RDONLY) -> Iterator[int]:
    """The descriptor of a regular file, until the end of the block."""
    try:
        file = do(os.open, path, flags | NEVER, 0o644)
    except OSError as error:
        found = kind(path) if error.errno != errno.ENOENT else ""
        if found not in ("", "a file"):
            raise refused(path, f"is {found}; expected a file") from None
        raise
    try:
        mode = do(os.fstat, file).st_mode
        if not stat.S_ISREG(mode):
            raise refused(path, f"is {KINDS.get(stat.S_IFMT(mode), 'something else')}; expected a file")
        yield file
    finally:
        os.close(file)


def read_into(file: int, most: int) -> bytes:
    """The next bytes of a file, so many if there are."""
    found = bytearray()
    while len(found) < most and (piece := do(os.read, file, min(PIECE, most - len(found)))):
        found += piece
    return bytes(found)


def check_size(path: Path, file: int, most: int) -> int:
    """The size of an open file. Raises OSError if it is more than there can be."""
    size = do(os.fstat, file).st_size
    if size > most:
        raise refused(path, f"got more than {most:,} bytes, which is more than it can need", errno.EFBIG)
    return size


def read(path: Path, most: int) -> bytes:
    """The content of a file that has so many bytes at most."""
    with opened(path) as file:
        return read_into(file, check_size(path, file, most))


def lines(path: Path, most: int, longest: int) -> Iterator[bytes]:
    """The lines of a file, one after the other: so many bytes at most in all, and in each."""
    with opened(path) as file:
        check_size(path, file, most)
        rest = b""
        while piece := do(os.read, file, PIECE):
            *whole, rest = (rest + piece).split(b"\n")
            if max(map(len, [*whole, rest])) > longest:
                raise refused(path, f"got a line of more than {longest:,} bytes", errno.EFBIG)
            yield from whole
        if rest:
            yield rest


def sha256(path: Path, most: int = sys.maxsize) -> str:
    """The sha256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with opened(path) as file:
        check_size(path, file, most)
        while piece := do(os.read, file, PIECE):
            digest.update(piece)
    return digest.hexdigest()


def names(folder: Path) -> list[str]:
    """The names in a folder, in order. Raises OSError if there are more than a run makes."""
    found = []
    with do(os.scandir, folder) as entries:
        for entry in entries:
            found.append(entry.name)
            if len(found) > NAMES:
                raise refused(folder, f"holds more than {NAMES:,} files, which is no folder of a run")
    return sorted(found)


def write_all(file: int, content: bytes | memoryview) -> None:
    """Write all of it, however little of it goes at once."""
    left = memoryview(content)
    while left:
        left = left[do(os.write, file, left) :]


def write(path: Path, content: bytes) -> None:
    """Write a new file, and wait until its content is on the disk."""
    with opened(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as file:
        write_all(file, content)
        do(os.fsync, file)


def replace(path: Path, content: bytes) -> None:
    """Write a file so that a reader, or a machine that fails, finds the old content or all of the new.

    Raises OSError; the old content is then still there.
    """
    temporary = path.with_name(f".{path.name}.part")
    try:
        remove(temporary)
        write(temporary, content)
        do(os.replace, temporary, path)
        sync(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            remove(temporary)
        if isinstance(error, OSError):
            error.filename = str(path)
        raise


def append(path: Path, content: bytes) -> None:
    """Add to the end of a file that is there."""
    with opened(path, os.O_WRONLY | os.O_APPEND) as file:
        write_all(file, content)


def make(folder: Path) -> None:
    """Make a folder, and those above it, if need be, and wait until their names are on the disk."""
    if not folder.is_dir():
        make(folder.parent)
        with contextlib.suppress(FileExistsError):
            do(os.mkdir, folder)
        with contextlib.suppress(PermissionError):  # a folder above that can be written and not read
            sync(folder.parent)
    if not folder.is_dir():
        raise refused(folder, os.strerror(errno.ENOTDIR), errno.ENOTDIR)


def move(source: Path, target: Path) -> None:
    """Give a file or folder another name, and wait until that is on the disk."""
    do(os.rename, source, target)
    sync(target.parent)


def remove(path: Path) -> None:
    """Remove a file, a link, or a folder with all that is in it; nothing if it is not there."""
    if (found := kind(path)) == "a folder":
        with do(os.scandir, path) as entries:
            inner = [entry.name for entry in entries]
        for name in inner:
            remove(path / name)
        do(os.rmdir, path)
    elif found:
        do(os.unlink, path)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    if path.is_dir() and os.name == "nt":
        return  # Windows opens no folders, and keeps their names itself
    file = do(os.open, path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    try:
        do(os.fsync, file)
    finally:
        os.close(file)


def lock(path: Path) -> int:
    """The descriptor of a file that nobody else holds, until it is closed or the process ends.

    Raises BlockingIOError if somebody does.
    """
    with opened(path, os.O_RDWR | os.O_CREAT) as file:
        held = os.dup(file)
    try:
        if sys.platform == "win32":
            import msvcrt

            do(msvcrt.locking, held, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            do(fcntl.flock, held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException as error:
        os.close(held)
        if isinstance(error, PermissionError):  # as Windows says it
            raise BlockingIOError(error.errno, error.strerror, str(path)) from error
        raise
    return held
