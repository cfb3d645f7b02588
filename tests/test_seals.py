"""What a machine that fails finds: all of what was said to be written, and no half of anything."""

import errno
import os
import stat
from pathlib import Path

import numpy as np
import pytest

from jaxnn.datasets import mnist
from jaxnn.layers import Dense
from jaxnn.runs import checkpoints, files, record, seals


class Disk:
    """What is on the disk for sure: what a file or a folder was when it was last waited for."""

    def __init__(self, root: Path):
        """Where all that is above `root` is on it."""
        self.root, self.sizes, self.names = root, {}, {}

    def sync(self, file: int) -> None:
        """In the place of os.fsync."""
        found = os.fstat(file)
        if stat.S_ISDIR(found.st_mode):
            self.names[found.st_ino] = {entry.name: entry.inode() for entry in os.scandir(file)}
        else:
            self.sizes[found.st_ino] = found.st_size

    def holds(self, path: Path) -> bool:
        """Whether a file has its size on it, or a folder its files and folders, with all that is in them."""
        found = path.lstat()
        if not path.is_dir():
            return self.sizes.get(found.st_ino) == found.st_size
        there = {entry.name: entry.stat().st_ino for entry in path.iterdir()}
        return self.names.get(found.st_ino) == there and all(map(self.holds, path.iterdir()))

    def finds(self, path: Path) -> bool:
        """Whether it holds that, and the names that lead to it."""
        while path != self.root:
            named = self.names.get(path.parent.stat().st_ino, {})
            if named.get(path.name) != path.stat().st_ino:
                return False
            path = path.parent
        return True


@pytest.fixture
def disk(tmp_path, monkeypatch):
    """A disk on which a name, if it is not hidden, is only ever given to what it holds."""
    disk = Disk(tmp_path)
    rename, replace = os.rename, os.replace

    def whole(give):
        def give_name(source, target):
            hidden = any(name.startswith(".") for name in Path(target).relative_to(tmp_path).parts)
            assert hidden or disk.holds(Path(source)), f"{target} may be half on the disk"
            give(source, target)

        return give_name

    monkeypatch.setattr(os, "fsync", disk.sync)
    monkeypatch.setattr(os, "rename", whole(rename))
    monkeypatch.setattr(os, "replace", whole(replace))
    return disk


PARAMS = [Dense(np.ones((5, 3), np.float32), np.ones((5, 1), np.float32))]
WRITERS = {
    "a file": lambda folder: files.replace(folder / "x", b"content"),
    "a text": lambda folder: record.replace(folder / "x", "content"),
    "parameters": lambda folder: record.save_params(folder / "params.safetensors", PARAMS),
    "settings": lambda folder: record.create(folder, {"epochs": 3}, [{"loss": 0.5}]),
}


@pytest.mark.parametrize("name", WRITERS)
def test_what_was_written_is_on_the_disk(name, disk, tmp_path):
    for _ in range(2):  # a new one, and one in the place of another
        WRITERS[name](tmp_path)
        written = [*tmp_path.iterdir()]
        assert written
        for path in written:
            assert disk.holds(path)
            assert disk.finds(path)


def test_folders_that_were_made_are_on_the_disk(disk, tmp_path):
    files.make(tmp_path / "a" / "b" / "c")
    assert disk.finds(tmp_path / "a" / "b" / "c")


def test_a_folder_above_that_cannot_be_read_is_none_of_ours(tmp_path, monkeypatch):
    def refused(path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(files, "sync", refused)
    files.make(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


def test_a_checkpoint_that_was_written_is_on_the_disk(disk, tmp_path):
    written = checkpoints.write(tmp_path / "checkpoints", 7, {"W": np.ones((3, 2))}, {"step": 1})
    assert disk.holds(written)
    assert disk.finds(written)
    checkpoints.write(tmp_path / "checkpoints", 8, {"W": np.ones((3, 2))}, {"step": 2})
    assert disk.finds(tmp_path / "checkpoints" / "000008")


def test_a_data_set_gets_its_name_when_all_of_it_is_on_the_disk(disk, tmp_path):
    mnist._save({"train_labels": np.arange(3, dtype=np.int32)}, tmp_path / "mnist")
    assert disk.holds(tmp_path / "mnist")


@pytest.mark.parametrize("name", WRITERS)
def test_a_disk_that_is_full_leaves_what_was_there(name, tmp_path, monkeypatch):
    def full(file):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    WRITERS[name](tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for path in tmp_path.iterdir():
        path.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises((OSError, record.RunError), match="No space left on device"):
        WRITERS[name](tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == dict.fromkeys(before, b"old")


def test_the_file_that_could_not_be_written_is_named(tmp_path):
    with pytest.raises(OSError, match="No such file") as error:
        files.replace(tmp_path / "no" / "x", b"content")
    assert error.value.filename == str(tmp_path / "no" / "x")


@pytest.fixture
def sealed(tmp_path):
    """A sealed folder."""
    (tmp_path / "a").write_text("A")
    (tmp_path / "b").write_text("B")
    seals.seal(tmp_path)
    assert seals.broken(tmp_path) is None
    return tmp_path


CHANGES = {
    "b: other content than when it was sealed": lambda folder: (folder / "b").write_text("C"),
    "c: other content than when it was sealed": lambda folder: (folder / "c").write_text(""),
    "a: not a file": lambda folder: ((folder / "a").unlink(), (folder / "a").symlink_to(folder / "b")),
    "b: not a file": lambda folder: ((folder / "b").unlink(), (folder / "b").mkdir()),
    "not the files that were sealed": lambda folder: (folder / "a").unlink(),
    "SHA256SUMS: no such file": lambda folder: (folder / seals.SEAL).unlink(),
    "SHA256SUMS: not a file": lambda folder: (
        (folder / seals.SEAL).unlink(),
        (folder / seals.SEAL).symlink_to(folder / "a"),
    ),
}


@pytest.mark.parametrize("wrong", CHANGES)
def test_what_is_wrong_with_a_sealed_folder_is_named(wrong, sealed):
    CHANGES[wrong](sealed)
    assert seals.broken(sealed) == wrong


def test_a_file_is_no_sealed_folder(sealed):
    assert seals.broken(sealed / "a") == "not a folder"
    (sealed.parent / "link").symlink_to(sealed)
    assert seals.broken(sealed.parent / "link") == "not a folder"


def test_a_seal_is_the_input_of_sha256sum(sealed):
    assert (sealed / seals.SEAL).read_text() == (
        "559aead08264d5795d3909718cdd05abd49572e84fe55590eef31a88a08fdffd  a\n"
        "df7e70e5021544f4834bbee64a9e3789febc4be81470df629cad6ddb03320a5c  b\n"
    )
