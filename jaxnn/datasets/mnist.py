"""MNIST and its drop-in replacements, from their original IDX files.

tensorflow-datasets knows the addresses, the sizes and the sha256 of the files. Its own preparation of them
needs TensorFlow; the files are 16 bytes of header before the pixels, and are read here.
"""

import contextlib
import gzip
import hashlib
import http.client
import io
import os
import queue
import shutil
import socket
import threading
import time
import urllib.request
import zlib
from pathlib import Path

import numpy as np

from jaxnn.datasets.dataset import Dataset, Examples, validate
from jaxnn.datasets.files import DatasetError
from jaxnn.runs import seals

NAMES = ("mnist", "fashion_mnist", "kmnist")
FILES = {
    "train_images": ("train-images-idx3-ubyte.gz", (60000, 28, 28)),
    "train_labels": ("train-labels-idx1-ubyte.gz", (60000,)),
    "test_images": ("t10k-images-idx3-ubyte.gz", (10000, 28, 28)),
    "test_labels": ("t10k-labels-idx1-ubyte.gz", (10000,)),
}
PREPARING = 3600.0  # seconds that it takes at most to write the arrays
PATIENCE = 2.0  # seconds without an answer until the network counts as missing
LONGEST = 600.0  # seconds that one file may take to download, however it comes


def load(name: str, data_dir: str | Path | None, source_dir: str | Path | None) -> Dataset:
    """The data set from the cache in `data_dir`, after preparing it there if need be."""
    data_dir = Path(data_dir) if data_dir else _cache_dir()
    folder = data_dir / name
    if os.path.exists(data_dir) and not os.path.isdir(data_dir):
        raise DatasetError(f"--data-dir: got {data_dir}, which is a file; expected a folder")
    if not os.path.exists(folder / seals.SEAL):
        source_dir = source_dir or os.environ.get("JAXNN_SOURCE_DIR")
        arrays = prepare(name, Path(source_dir) / name if source_dir else None, data_dir)
        _save(arrays, folder)
    try:
        if wrong := seals.broken(folder):
            raise DatasetError(wrong)
        arrays = {key: _load(folder / f"{key}.npy") for key in FILES}
        dataset = Dataset(
            name,
            Examples(arrays["train_images"], arrays["train_labels"]),
            Examples(arrays["test_images"], arrays["test_labels"]),
            classes=10,
            white=255,
        )
        return validate(dataset, train=60000, test=10000, height=28, width=28)
    except PermissionError as error:
        raise DatasetError(f"{folder}: cannot be read ({error.strerror})") from error
    except DatasetError as error:
        raise DatasetError(
            f"{folder}: damaged ({error}); delete this folder, and it is prepared again"
        ) from error


def prepare(name: str, source: Path | None, data_dir: Path) -> dict[str, np.ndarray]:
    """The four arrays, from the files in the folder `source`, or from the network if it is None."""
    import tensorflow_datasets as tfds

    known = {info.filename: (url, info) for url, info in (tfds.builder_cls(name).url_infos or {}).items()}
    arrays = {}
    for key, (filename, shape) in FILES.items():
        url, info = known[filename]
        if source:
            where, content = str(source / filename), _read(source / filename, info.size)
        else:
            where, content = url, _download(url, info.size, name, data_dir)
        sha256 = hashlib.sha256(content).hexdigest()
        if sha256 != info.checksum:
            raise DatasetError(f"{where}: got sha256 {sha256}, expected {info.checksum}")
        arrays[key] = parse(where, content, shape)
    return arrays


def parse(where: str, content: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """The array in a gzipped IDX file, which must be of that shape; `where` names the file.

    IDX: two zero bytes, 8 for unsigned bytes, the number of dimensions, each size as big-endian int32, and
    the values. No more is unpacked than the shape allows. Raises DatasetError.
    """
    header = bytes((0, 0, 8, len(shape))) + np.array(shape, ">i4").tobytes()
    size = int(np.prod(shape))
    try:
        with gzip.open(io.BytesIO(content)) as file:
            found = file.read(len(header))
            values = file.read(size + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DatasetError(f"{where}: not a gzip file ({error})") from error
    if found != header:
        raise DatasetError(f"{where}: got IDX header {found.hex()}, expected {header.hex()}")
    if len(values) != size:
        raise DatasetError(f"{where}: got other than the {size:,} values of its header")
    array = np.frombuffer(values, np.uint8).reshape(shape)
    return array.astype(np.int32) if array.ndim == 1 else array


def _cache_dir() -> Path:
    cache = Path(os.path.expanduser(os.environ.get("XDG_CACHE_HOME") or "~/.cache"))
    if cache.parts[0] == "~":
        raise DatasetError("HOME: got nothing, expected the folder in which .cache/jaxnn keeps data sets")
    return cache / "jaxnn"


def _read(path: Path, size: int) -> bytes:
    expected = f"expected the original one, of {size:,} bytes"
    beside = path.parent.parent / path.name
    if not os.path.lexists(path) and os.path.isfile(beside):
        raise DatasetError(f"{path}: no such file, but {beside}; --source-dir: expected the folder above it")
    if os.path.lexists(path) and not os.path.isfile(path):
        raise DatasetError(f"{path}: no such file: it is a folder, a broken link or a device; {expected}")
    if not os.path.isfile(path):
        raise DatasetError(f"{path}: no such file; {expected}")
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno()).st_size
            if found != size:
                raise DatasetError(f"{path}: got {found:,} bytes, {expected}")
            return file.read(size + 1)
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror})") from error


def _download(url: str, size: int, name: str, data_dir: Path) -> bytes:
    from tqdm import tqdm

    answer = queue.Queue()

    def ask():  # in a thread of its own: nothing else bounds the time that a name look-up takes
        try:
            answer.put(urllib.request.urlopen(url, timeout=PATIENCE))
        except Exception as error:
            answer.put(error)

    threading.Thread(target=ask, daemon=True).start()
    content, end = bytearray(), time.monotonic() + LONGEST
    try:
        response = answer.get(timeout=PATIENCE)
        if isinstance(response, Exception):
            raise response
        with response, tqdm(desc=Path(url).name, total=size, unit="B", unit_scale=True, disable=None) as bar:
            while chunk := response.read1(size + 1 - len(content)):
                if time.monotonic() > end:
                    raise TimeoutError(f"after {LONGEST:g} s {len(content):,} of {size:,} bytes had come")
                content += chunk
                bar.update(len(chunk))
    except (queue.Empty, OSError, http.client.HTTPException) as error:
        why = f"no answer in {PATIENCE:g} s" if isinstance(error, queue.Empty) else error
        raise DatasetError(
            f"{name}: cannot download {url} ({why}). Three ways out: connect to the network; put the "
            f"four files {', '.join(filename for filename, _ in FILES.values())} into DIR/{name}/ and "
            f"give --source-dir DIR (or JAXNN_SOURCE_DIR); or copy {data_dir / name} from a machine "
            "that has it"
        ) from error
    return bytes(content)


def _is_left(name: str) -> bool:
    """Whether a folder was made by a process of this machine that has ended."""
    made, _, number = name.removesuffix("-before").rpartition("-")
    if os.name == "nt" or not made.endswith(f"-{socket.gethostname()}") or not number.isdigit():
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False


def _load(path: Path) -> np.ndarray:
    if not os.path.isfile(path):
        raise DatasetError(f"no file {path.name}")
    try:
        with path.open("rb") as file:
            return np.lib.format.read_array(file, allow_pickle=False)
    except (EOFError, ValueError, MemoryError) as error:
        raise DatasetError(f"{path.name} is not the array that was saved") from error


def _save(arrays: dict[str, np.ndarray], folder: Path) -> None:
    try:
        temporary = folder.with_name(f".{folder.name}-{socket.gethostname()}-{os.getpid()}")
        before = temporary.with_name(f"{temporary.name}-before")
        temporary.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DatasetError(f"{folder}: cannot be written ({error.strerror})") from error
    for path in folder.parent.glob(f".{folder.name}-*"):  # of a process that was killed
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > PREPARING or _is_left(path.name):
                shutil.rmtree(path, ignore_errors=True)
    try:
        for key, array in arrays.items():
            np.save(temporary / f"{key}.npy", array)
        seals.seal(temporary)
        if os.path.isdir(folder) and not os.path.exists(folder / seals.SEAL):
            folder.rename(before)  # prepared when there were no seals
        temporary.rename(folder)
    except OSError as error:
        if not folder.exists():  # else another process was first
            raise DatasetError(f"{folder}: cannot be written ({error.strerror})") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(before, ignore_errors=True)
