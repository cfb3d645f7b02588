"""Folders of PNG or JPEG images, with a folder for each class; perhaps in train/ and test/."""

import contextlib
import hashlib
import io
import math
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from jaxnn.datasets.dataset import Coding
from jaxnn.datasets.files import MOST, DatasetError, content, named, shown
from jaxnn.datasets.found import Found, labelled

ENDINGS = (".png", ".jpg", ".jpeg")
PARTS = (
    ("train", "test"),
    ("training", "testing"),
    ("train", "val"),
    ("train", "valid"),
    ("train", "validation"),
)
COUNT, PIXELS, LARGEST = 1_000_000, 50_000_000, 200_000_000  # of images, of one's pixels, and of its bytes


def read(folder: Path, size: tuple[int, ...], known: Coding | None = None) -> tuple[Found, Found | None, str]:
    """The images and their classes, those for testing if they are given, and the sha256 of all of them.

    They are brought to that size, (height, width), if it is not (). With `known`, of images that come after
    the training, they may lie in the folder itself. The sha256 is that of a file with a line for each image,
    as the program sha256sum writes it, in the order of their names. Raises DatasetError.
    """
    entries = {entry.name for entry in _entries(folder, folder) if entry.is_dir()}
    parts = next((parts for parts in PARTS if {*parts} <= entries), None)
    digest = hashlib.sha256()
    if parts is None:
        return _found(folder, folder, size, known, digest), None, digest.hexdigest()
    if known:
        return _found(folder, folder / parts[1], size, known, digest), None, digest.hexdigest()
    train, test = (_found(folder, folder / part, size, None, digest) for part in parts)
    return train, test, digest.hexdigest()


def _entries(folder: Path, root: Path) -> list[os.DirEntry]:
    """What is in a folder, by name, but for hidden files. Raises DatasetError for a link out of the root."""
    inside = os.path.realpath(root)
    try:
        with os.scandir(folder) as found:
            entries = sorted((e for e in found if not e.name.startswith(".")), key=lambda entry: entry.name)
    except OSError as error:
        raise DatasetError(f"{named(folder)}: cannot be read ({error.strerror})") from error
    for entry in entries:
        if entry.is_symlink() and not Path(os.path.realpath(entry.path)).is_relative_to(inside):
            raise DatasetError(
                f"{named(Path(entry.path))}: got a link to somewhere else, expected the file itself"
            )
    return entries


def _images(root: Path, folder: Path, loose: bool) -> Iterator[tuple[Path, str | None]]:
    """The files of images, each with its class; loose: images may lie in the folder itself."""
    entries = _entries(folder, root)
    folders = [entry for entry in entries if entry.is_dir()]
    images = [Path(entry.path) for entry in entries if is_image(entry)]
    if images and not folders and loose:
        yield from ((path, None) for path in images)
        return
    if not folders or images:
        beside = " beside them" if folders else ""
        raise DatasetError(
            f"{named(folder)}: got {len(folders)} folders and {len(images)} images{beside}, expected a "
            "folder for each class, named as the class is, and in it its images (PNG or JPEG)"
            + f"; did you mean --data {named(folder.parent)}?"
            * (bool(images) and not folders and _holds_folders(folder))
        )
    for entry in folders:
        within = _entries(Path(entry.path), root)
        if below := [one for one in within if one.is_dir()]:
            raise DatasetError(
                f"{named(Path(below[0].path))}: got a folder in that of a class, expected images"
            )
        found = [Path(one.path) for one in within if is_image(one)]
        if not found:
            raise DatasetError(
                f"{named(Path(entry.path))}: got no images, expected some with names in .png or .jpg"
            )
        yield from ((path, entry.name) for path in found)


def _holds_folders(folder: Path) -> bool:
    """Whether a folder of images is one of several: that of a class, and not that of all of them."""
    with contextlib.suppress(OSError), os.scandir(folder.parent) as beside:
        return sum(entry.is_dir() for entry in beside) > 1 and folder.parent != Path.cwd()
    return False


def is_image(entry: os.DirEntry) -> bool:
    """Whether a file is one, by its name."""
    return entry.name.lower().endswith(ENDINGS) and not entry.is_dir()


def _found(root: Path, folder: Path, size: tuple[int, ...], known: Coding | None, digest) -> Found:
    paths, labels = [], []
    for path, label in _images(root, folder, known is not None):
        paths.append(path)
        labels.append(label)
        if len(paths) > COUNT:
            raise DatasetError(f"{named(folder)}: got more than {COUNT:,} images, expected fewer")
    shape, size = (known.shape, known.resized) if known else (None, size)
    inputs = np.empty(0, np.uint8)
    for i, path in enumerate(paths):
        found = content(path, LARGEST)
        name = os.fsencode(path.relative_to(root).as_posix())
        digest.update(hashlib.sha256(found).hexdigest().encode() + b"  " + name + b"\n")
        image = decoded(path, found, size, None if shape is None else len(shape) > 2)
        if shape is None:
            shape = image.shape
        if image.shape != shape:
            raise DatasetError(unequal(path, image.shape, shape, paths[0] if known is None else None))
        if i == 0:
            if len(paths) * image.size > MOST:
                raise DatasetError(
                    f"{named(folder)}: got {len(paths)} images of {image.size:,} numbers, expected at most "
                    f"{MOST:,} in all; --image-size brings them to a smaller size"
                )
            inputs = np.empty((len(paths), *image.shape), np.uint8)
        inputs[i] = image

    def at(i: int) -> str:
        return shown(paths[i].relative_to(root).as_posix(), 100)

    known_labels = None if labels[0] is None else labelled(named(folder), labels, at)
    kind = "in colour" if inputs.ndim > 3 else "in grey"
    how = f", brought to {size[1]}×{size[0]} pixels" if size else ""
    return Found(inputs, known_labels, at, (f"{kind}, as the first one is{how}",), resized=size, white=255.0)


def unequal(path: Path, got: tuple[int, ...], expected: tuple[int, ...], first: Path | None) -> str:
    """What to say of an image that is not as the first one, or as those of the training."""

    def words(shape: tuple[int, ...]) -> str:
        if len(shape) < 2:
            return f"rows of {math.prod(shape)} numbers"
        return f"{shape[1]}×{shape[0]} pixels" + (" in colour" if len(shape) > 2 else "")

    as_in = f"as in {named(first)}" if first else "as in training"
    how = f"; --image-size {expected[-1]}x{expected[0]} brings all to one size" if first else ""
    return f"{named(path)}: got {words(got)}, expected {words(expected)} {as_in}{how}"


def decoded(path: Path, found: bytes, size: tuple[int, ...], colour: bool | None) -> np.ndarray:
    """The pixels of an image, (height, width) in grey or (height, width, 3); colour: which; None: as it is.

    What is transparent is white. Raises DatasetError.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its metadata
            image = Image.open(io.BytesIO(found), formats=("PNG", "JPEG"))
            if image.width * image.height > PIXELS:
                raise ValueError(f"got {image.width}×{image.height} pixels, expected at most {PIXELS:,}")
            if image.mode.startswith("I"):  # 16 bits
                image = Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8))
            if image.has_transparency_data:
                ground = Image.new("RGBA", image.size, "white")
                grey = image.mode in ("L", "LA", "1")
                image = Image.alpha_composite(ground, image.convert("RGBA")).convert("L" if grey else "RGB")
            if colour is None:
                colour = image.mode not in ("1", "L")
            image = image.convert("RGB" if colour else "L")
            if size:
                image = image.resize((size[1], size[0]), Image.Resampling.BILINEAR)
            return np.asarray(image)
    except Exception as error:  # a damaged image raises nearly anything
        why = shown(error, 100) if isinstance(error, ValueError) else "not a PNG or JPEG, or damaged"
        raise DatasetError(f"{named(path)}: cannot be read ({why}); save it anew, or take it away") from error
