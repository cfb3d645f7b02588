"""Damaged files: how they are damaged, and what reads each kind of them."""

import gzip
import random
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

KINDS = (
    "flipped bit",
    "truncated",
    "zeroed block",
    "deleted file",
    "empty file",
    "empty folder",
    "more bytes",
)
STRANGE = (b"[" * 5000, b"9" * 5000, b"\xff" * 8, b"\x00" * 8, b"NaN", b'"', b"{", b"-")


def outcome(out: Path) -> dict[str, bytes]:
    """All that a finished run has computed: parameters, optimizer state and the metrics of every epoch."""
    from jaxnn.runs import checkpoints

    names = ("params.safetensors", "best.safetensors", "networks.jsonl", "metrics.jsonl")
    paths = [out / folder / name for folder in (".", "best") for name in names]
    found = {str(path.relative_to(out)): path.read_bytes() for path in paths if path.is_file()}
    assert {"params.safetensors", "networks.jsonl"} & {*found}
    checkpoint = checkpoints.newest(out / "checkpoints", print)
    assert checkpoint
    return found | {name: array.tobytes() for name, array in checkpoints.content(checkpoint).items()}


def damage(folder: Path, rng: random.Random) -> str:
    """Damage a checkpoint in a random way, and say how."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    path = rng.choice(paths)
    content = bytearray(path.read_bytes())
    before = bytes(content)
    kind = rng.choice(KINDS)
    i = rng.randrange(len(content))
    if kind == "flipped bit":
        content[i] ^= 1 << rng.randrange(8)
    elif kind == "truncated":
        del content[i:]
    elif kind == "zeroed block":
        size = rng.choice((1, 512, 4096))
        content[i : i + size] = bytes(len(content[i : i + size]))
    elif kind == "more bytes":
        content += rng.randbytes(rng.randint(1, 100))
    elif kind == "empty file":
        content.clear()
    path.write_bytes(content)
    if kind == "deleted file":
        path.unlink()
    elif kind == "empty folder":
        shutil.rmtree(folder)
        folder.mkdir()
    elif content == before:  # zeros on zeros
        return damage(folder, rng)
    return kind


def fuzzed(content: bytes, rng: random.Random) -> bytes:
    """The content with a few random changes."""
    found = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        i = rng.randrange(len(found) + 1)
        kind = rng.randrange(6)
        if kind == 0 and i < len(found):
            found[i] ^= 1 << rng.randrange(8)
        elif kind == 1:
            found[i : i + 1] = rng.randbytes(1)
        elif kind == 2:
            found[i:i] = rng.choice(STRANGE)
        elif kind == 3:
            del found[i : i + rng.choice((1, 4, 100))]
        elif kind == 4:
            size = rng.choice((2**63 - 1, 2**32, 2**27, 0))
            found[i : i + 8] = size.to_bytes(8, rng.choice(("big", "little")))
        else:
            found[i:i] = found[: rng.choice((4, 64))]
    return bytes(found)


def readers(folder: Path, program) -> dict[str, tuple[bytes, Callable[[bytes], object]]]:
    """For each kind of file, a good one and what reads its like; the runs are those of that program."""
    import jax.numpy as jnp
    import numpy as np

    from experiments.common.continuation import progress, reopened
    from jaxnn.datasets import mnist
    from jaxnn.layers import Dense
    from jaxnn.runs import checkpoints, record, seals

    parser, check = program.parser(), partial(program.check, steps=100)
    a_run, shape = folder / "run", (50, 28, 28)
    layer = Dense(jnp.ones((17, 64)), jnp.zeros((17, 1)))
    settings = {"dataset": "digits", "n": [64, 17], "activation": "sigmoid", "hidden": [17], "seed": 1}
    record.create(a_run, settings, [{"epoch": 1, "test_accuracy": 0.5}] * 3)
    params = a_run / "params.safetensors"
    record.save_params(params, [layer])
    checkpoint = checkpoints.write(folder / "checkpoints", 1, layer, {"step": 3})
    again = parser.parse_args(["--out", str(folder / "begun")])
    record.create(again.out, settings)
    here = {"n": [64, 17], "device": "cpu", "versions": {}, "environment": {}}
    losses = {"loss": 0.5, "test_loss": 0.5, "test_accuracy": 0.5}
    so_far = {"settings": settings | here, "metrics": [{"epoch": 1} | losses], "step": 3, "best": 1}
    begun = checkpoints.write(again.out / "checkpoints", 1, layer, so_far)
    idx = bytes((0, 0, 8, 3)) + np.array(shape, ">i4").tobytes() + random.Random(0).randbytes(50 * 784)

    def from_file(path: Path, read: Callable[[], object]) -> tuple[bytes, Callable[[bytes], object]]:
        def write_and_read(content: bytes):
            path.write_bytes(content)
            try:
                return read()
            finally:
                path.write_bytes(good)

        good = path.read_bytes()
        return good, write_and_read

    def from_checkpoint(path: Path, sealed: bool = False):
        def read():
            if sealed:
                (checkpoint / seals.SEAL).write_bytes(seals.text(checkpoint))
            found = checkpoints.newest(checkpoint.parent, lambda line: None)
            return found and checkpoints.restore(found, layer)

        return from_file(path, read)

    def goes_on():
        (begun / seals.SEAL).write_bytes(seals.text(begun))
        arguments, lock, found = reopened(again, parser, "params.safetensors")
        del lock  # let go
        return progress(arguments, here, found, program.Done([], 0, [], 0), check)

    return {
        "IDX": (idx, lambda content: mnist.parse("file", gzip.compress(content, 1), shape)),
        "gzip": (gzip.compress(idx), lambda content: mnist.parse("file", content, shape)),
        "settings.json": from_file(a_run / "settings.json", lambda: record.load_settings(a_run)),
        "metrics.jsonl": from_file(a_run / "metrics.jsonl", lambda: record.load_metrics(a_run)),
        "safetensors": from_file(params, lambda: record.load_params(params, (64, 17))),
        "checkpoint": from_checkpoint(checkpoint / checkpoints.ARRAYS),
        "checkpoint's seal": from_checkpoint(checkpoint / seals.SEAL),
        "sealed: arrays": from_checkpoint(checkpoint / checkpoints.ARRAYS, sealed=True),
        "sealed: progress.json": from_file(begun / "progress.json", goes_on),
    }
