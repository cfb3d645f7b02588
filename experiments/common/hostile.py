"""What can lie in the place of a file of a run, by name; and what reading it costs. Imports jax."""

import contextlib
import io
import json
import os
import resource
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from experiments.common.arguments import told
from experiments.common.damage import outcome
from jaxnn.runs import checkpoints, record, seals
from jaxnn.shown import shown

SECRET = "never to be read"
ESCAPES = "\x1b[31m\nerror: forged\r\x9b2J\u202e"
UNFINISHED = (
    "settings.json", "metrics.jsonl", "timings.json", "lock", "page.html", "learning_curves.png", "best",
    "checkpoints", "{newest}", "{newest}/progress.json", "{newest}/arrays.safetensors", "{newest}/SHA256SUMS",
)  # fmt: skip
FINISHED = (
    "settings.json",
    "metrics.jsonl",
    "params.safetensors",
    "best.safetensors",
    "timings.json",
    "lock",
)


def a_socket(path: Path) -> None:
    """Where other programs listen."""
    with socket.socket(socket.AF_UNIX) as listening, contextlib.chdir(path.parent):
        listening.bind(path.name)


def sparse(path: Path) -> None:
    """A terabyte of nothing, which takes no room."""
    with path.open("wb") as file:
        file.truncate(2**40)


def links(path: Path) -> None:
    """A link to a link, and back."""
    path.symlink_to(f"{path.name}-")
    path.with_name(f"{path.name}-").symlink_to(path.name)


KINDS: dict[str, Callable[[Path], object]] = {
    "nothing": lambda path: None,
    "a named pipe": os.mkfifo,
    "a socket": a_socket,
    "a link to a device": lambda path: path.symlink_to("/dev/zero"),
    "a link outside": lambda path: path.symlink_to(outside(path) / "secret"),
    "a link to a folder outside": lambda path: path.symlink_to(outside(path)),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "links in a circle": links,
    "a folder": os.mkdir,
    "an empty file": Path.touch,
    "a terabyte": sparse,
    "zeros": lambda path: path.write_bytes(bytes(2**20)),
    "brackets": lambda path: path.write_bytes(b"[" * 2**20),
    "many lists": lambda path: path.write_bytes(b"[" + b"[]," * 2**22 + b"[]]"),
    "no text": lambda path: path.write_bytes(b"\xff\xfe" * 1000),
    "escapes": lambda path: path.write_text(json.dumps({ESCAPES: ESCAPES}) + ESCAPES),
    "a table of escapes": lambda path: path.write_text(json.dumps({ESCAPES: ESCAPES}, ensure_ascii=False)),
    "a huge number": lambda path: path.write_text("9" * 10**6),
}
VALUES = (None, True, -7, 10**30, 1e9, float("nan"), [5], [[[]]], {}, ESCAPES, 100_000 * "x", [ESCAPES])
FIELDS = ("settings", "metrics", "step", "best")
SETTINGS = ("dataset", "hidden", "activation", "loss", "seed", "n", "epochs", "batch_size", "device")


def outside(path: Path) -> Path:
    """The folder that nothing of a run may touch."""
    return next(parent for parent in path.parents if (parent / "outside").is_dir()) / "outside"


def put(kind: str, path: Path) -> None:
    """Put something of that kind in the place of a file, or a folder."""
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    KINDS[kind](path)


def forge(checkpoint: Path, name: str, value) -> None:
    """Give a field of a checkpoint's progress, or "settings.x" of its settings, this value, and seal it."""
    progress = json.loads((checkpoint / checkpoints.PROGRESS).read_text())
    table = progress["settings"] if "." in name else progress
    table[name.rpartition(".")[2]] = value
    (checkpoint / checkpoints.PROGRESS).write_text(json.dumps(progress))
    (checkpoint / seals.SEAL).write_bytes(seals.text(checkpoint))


class Case(NamedTuple):
    """Something hostile: its name, whether in a finished run, and how it gets there."""

    name: str
    finished: bool
    put: Callable[[Path], None]  # in the folder of the run


def cases() -> Iterator[Case]:
    """All there are, by name."""

    def newest(run: Path) -> Path:
        return max((run / "checkpoints").iterdir())

    def at(run: Path, place: str) -> Path:
        return Path(str(run / place).replace(str(run / "{newest}"), str(newest(run))))

    for kind in KINDS:
        for place in UNFINISHED:
            yield Case(
                f"{place}: {kind}", False, lambda run, kind=kind, place=place: put(kind, at(run, place))
            )
        for place in FINISHED:
            yield Case(
                f"finished, {place}: {kind}", True, lambda run, kind=kind, place=place: put(kind, run / place)
            )
    for name in (*FIELDS, *(f"settings.{name}" for name in SETTINGS)):
        for value in VALUES:
            yield Case(
                f"{name} is {value!r:.30}",
                False,
                lambda run, name=name, value=value: forge(newest(run), name, value),
            )


class Cost(NamedTuple):
    """What it took to read."""

    wrong: str
    seconds: float
    memory: int  # bytes, at most, above what there was before


def resident() -> tuple[int, int]:
    """The bytes of memory that this process has, and the most it had since this was called before."""
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins again
        return 1024 * int(lines["VmRSS"].split()[0]), 1024 * int(lines["VmHWM"].split()[0])
    except OSError:  # not Linux: the most there ever was
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return most, most


def met(case: Case, go_on: Callable, runs: Path, expected: dict[str, bytes], readers) -> Cost:
    """What happens where a run in a copy of `runs`, unfinished or finished, meets something hostile.

    `go_on(folder)` goes on with the run in it, and `readers` are programs that read a finished one.
    """
    copy = runs / "copy"
    shutil.copytree(runs / ("finished" if case.finished else "unfinished"), copy)
    (runs / "outside").mkdir(exist_ok=True)
    (runs / "outside" / "secret").write_text(SECRET)
    case.put(copy)
    before, _ = resident()
    clock = time.perf_counter()
    try:
        why = read(copy, readers) if case.finished else went_on(go_on, copy, expected)
    finally:
        seconds, memory = time.perf_counter() - clock, resident()[1] - before
        shutil.rmtree(copy)
    untouched = [path.name for path in (runs / "outside").iterdir()] == ["secret"]
    if not untouched or (runs / "outside" / "secret").read_text() != SECRET:
        why = "what is outside was written to"
    shutil.rmtree(runs / "outside")
    return Cost(why, seconds, memory)


def went_on(go_on: Callable, copy: Path, expected: dict[str, bytes]) -> str:
    """What is wrong with how a run goes on; nothing if it is refused in a line, or ends as expected."""
    found = go_on(copy)
    if found.status == 0:
        return judged(found.said + found.printed) or (
            "" if outcome(copy) == expected else "it ends otherwise"
        )
    return judged(found.said + found.printed + found.line) or ("" if found.line else "it says nothing")


def read(copy: Path, readers) -> str:
    """What is wrong with how a finished run is read; nothing if it is refused in a line, or read."""
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
        for program in readers:
            try:
                program.main(program.parser().parse_args([str(copy)]))
            except SystemExit:  # refused with its arguments
                continue
            except Exception as error:
                print(shown(told(error) or f"a traceback: {error!r}"))
        with contextlib.suppress(record.RunError):
            record.load_timings(copy)
    return judged(out.getvalue())


def judged(said: str) -> str:
    """What is wrong with what was said; nothing if all of it can be seen, and is ours."""
    if SECRET in said:
        return f"it was read: {said!r:.300}"
    hidden = [letter for letter in said.replace("\n", "") if not letter.isprintable()]
    if hidden or "a traceback" in said or any(len(line) > 1100 for line in said.splitlines()):
        return f"it says {said!r:.300}"
    return ""
