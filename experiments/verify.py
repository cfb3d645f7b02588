"""Check every seal and every file of a run, or of a sweep, and say of each whether it is good.

Exit status 0 if all of them are, 2 if one is not. Nothing is changed.
"""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

from experiments.common import own_data
from experiments.common.arguments import Parser, run, run_folder
from jaxnn.shown import shown


def parser() -> Parser:
    """The arguments of this program."""
    p = Parser(prog="python -m experiments.verify", description=__doc__)
    p.add_argument("run_dir", type=run_folder, metavar="RUN", help="the folder that --out named")
    return p


def main(arguments: argparse.Namespace) -> int:
    """Check, and say line by line what is good; status 2 if anything is not."""
    from jaxnn.runs import files

    where, wrong = arguments.run_dir, 0
    for path, why in checked(where):
        name = shown(path.relative_to(where))
        if not why and path.name == own_data.KEPT and not own_data.is_sealed(path):
            name += ", without a seal: it was kept before there was one"
        print(f"{'wrong' if why else 'good':9} {name}{': ' * bool(why)}{shown(why)}", flush=True)
        wrong += bool(why)
    results = ("params.safetensors", "networks.jsonl")
    finished = any(files.kind(where / name) for name in results)
    state = "finished" if finished else "not finished: the same command, or --out alone, goes on with it"
    print(f"{'wrong' if wrong else 'good':9} in all{f': {wrong} of them' if wrong else f'; {state}'}")
    return 2 if wrong else 0


def checked(where: Path) -> Iterator[tuple[Path, str]]:
    """Each file and checkpoint of a run, and what is wrong with it; nothing if it is good."""
    from jaxnn.runs import files, record

    settings = {}

    def load_settings() -> None:
        settings.update(record.load_settings(where))

    def load_params(name: str) -> None:
        if settings.get("network"):  # not the lecture's: its arrays say what they are
            record.check_params(where / name)
        else:
            record.load_params(where / name, settings["n"])

    readers = {
        "settings.json": load_settings,
        "coding.json": lambda: own_data.coding(where),
        "metrics.jsonl": lambda: record.load_metrics(where, settings),
        "networks.jsonl": lambda: record.load_networks(where, settings),
        "timings.json": lambda: record.read(where / "timings.json", 100_000),
        "params.safetensors": lambda: load_params("params.safetensors"),
        "best.safetensors": lambda: load_params("best.safetensors"),
        "learning_curves.png": lambda: opens(where / "learning_curves.png", b"\x89PNG\r\n\x1a\n"),
        "page.html": lambda: opens(where / "page.html", b"<!doctype html>"),
        "draw.html": lambda: opens(where / "draw.html", b"<!doctype html>"),
        "lock": lambda: opens(where / "lock", b""),
    }
    there = files.names(where)
    sweep = "networks.jsonl" in there or "best" in there
    for name in ["settings.json", *(name for name in there if name != "settings.json")]:
        path = where / name
        if name in readers:
            unneeded = sweep and name == "metrics.jsonl"  # a sweep's is empty
            yield path, "" if unneeded else said_by(readers[name]) if name in there else "no such file"
        elif name == "checkpoints":
            yield from checked_checkpoints(path)
        elif name == "best" and files.kind(path) == "a folder":
            yield from checked(path)
        elif not (name.startswith(".") and name.endswith(".part")):
            yield path, f"{files.kind(path)} that no run makes"


def checked_checkpoints(folder: Path) -> Iterator[tuple[Path, str]]:
    """Each checkpoint, by its seal and by what its arrays hold."""
    from jaxnn.runs import checkpoints, files
    from jaxnn.runs.error import RunError

    try:
        names = files.names(folder)
        files.inside(folder, folder.parent)
    except OSError as error:
        yield folder, str(error.strerror)
        return
    numbers = {f"{number:06}" for number in checkpoints.numbers(folder)}
    for name in names:
        path = folder / name
        if name in numbers:
            try:
                found = checkpoints.whole(path)
                if isinstance(found, checkpoints.Checkpoint):
                    checkpoints.content(found)
                    found = ""
            except RunError as error:
                found = str(error)
            yield path, found
        elif not name.startswith(checkpoints.PART):  # what a kill has left, and the next save removes
            yield path, "no checkpoint"


def said_by(read: Callable[[], object]) -> str:
    """What a reader refuses its file for; nothing if it is good."""
    from jaxnn.datasets.files import DatasetError
    from jaxnn.runs.error import RunError

    try:
        read()
    except (RunError, DatasetError, OSError, KeyError) as error:
        said = str(error.strerror or error) if isinstance(error, OSError) else str(error)
        return "its settings are wrong" if isinstance(error, KeyError) else said
    return ""


def opens(path: Path, begin: bytes) -> None:
    """Raise OSError unless a file begins so."""
    from jaxnn.runs import files

    with files.opened(path) as file:
        if files.read_into(file, len(begin)) != begin:
            raise files.refused(path, "does not begin as it should")


if __name__ == "__main__":
    run(main, parser())
