"""One's own data at the programs' border: their arguments, defaults for them, and what is said of them."""

import argparse
import os
import re
import shlex
from pathlib import Path

from experiments.common import synonyms
from experiments.common.arguments import DATASETS, Number, Parser, UserError
from experiments.common.arguments import path as given_path
from experiments.common.suggestions import files_near, holds, near

NAMES = ("data", "label", "without", "test_data", "test_fraction", "image_size", "data_sha256")
KEPT = "coding.json"  # the file of a run that says how its data became X and Y
MANY = 10_000  # examples, from which on batches are as large as those of MNIST
STEPS, EPOCHS = 10_000, (30, 100)  # that a training takes by itself


def place(text: str) -> str:
    """The type of a file or folder that is read, from wherever a run goes on."""
    if not text:
        raise argparse.ArgumentTypeError("got '', expected the name of a file or folder")
    return os.path.abspath(given_path(text))


def size(text: str) -> str:
    """The type of an image's size: 32x24, or 32 for 32x32."""
    if not re.fullmatch(r"[1-9]\d{0,3}(x[1-9]\d{0,3})?", text):
        numbers = re.findall(r"\d+", text)
        numbers = [number for number in numbers if 0 < int(number[:9]) < 10_000]
        instead = "x".join(numbers) if len(numbers) in (1, 2) else "32x24, for example"
        raise argparse.ArgumentTypeError(f"got {text[:40]!r}, expected WIDTHxHEIGHT; write {instead[:20]}")
    return text


def sha256(text: str) -> str:
    """The type of a sha256, as the program sha256sum prints it."""
    if not re.fullmatch("[0-9a-f]{64}", text):
        raise argparse.ArgumentTypeError(f"got {text[:40]!r}, expected 64 digits of 0..9a..f")
    return text


fraction = Number(float, lambda value: 0 < value < 1, "a number between 0 and 1", "0.2")


def add_own_data(parser: Parser) -> None:
    """Add --data, and what belongs to it."""
    parser.add_argument(
        "--data",
        type=place,
        metavar="PATH",
        help="your own, in place of --dataset: a CSV file, x and y in an .npz file, or a folder of PNG or "
        "JPEG images with a folder for each class",
    )
    parser.add_argument(
        "--label", metavar="NAME", help="the column of the labels, or its number; default: the last"
    )
    parser.add_argument(
        "--without", nargs="+", metavar="NAME", help="columns that are left out, or their numbers"
    )
    parser.add_argument(
        "--test-data",
        type=place,
        metavar="PATH",
        help="of the same kind, for testing; default: what --data holds for it, or else a part of it",
    )
    parser.add_argument(
        "--test-fraction",
        type=fraction,
        metavar="PART",
        help="of each class, drawn by --seed for testing; default: 0.2",
    )
    parser.add_argument(
        "--image-size",
        type=size,
        metavar="WxH",
        help="pixels to which images are brought; default: as they are",
    )
    parser.add_argument(
        "--data-sha256",
        type=sha256,
        nargs="+",
        metavar="SHA",
        help="refuse --data, and --test-data, of any other content; a run keeps those it began with",
    )


def asked(arguments: argparse.Namespace, before=None):
    """What of the data is asked for; `before` is how they were coded in the run that goes on."""
    from jaxnn.datasets import own

    pixels = [*map(int, (arguments.image_size or "").split("x"))] if arguments.image_size else []
    return own.Asked(
        arguments.label,
        tuple(arguments.without or ()),
        tuple(reversed(pixels * 2 if len(pixels) == 1 else pixels)),
        arguments.loss == "squared_error",
        arguments.test_fraction,
        arguments.seed,
        tuple(arguments.data_sha256 or ()),
        before,
    )


def check(arguments: argparse.Namespace) -> None:
    """Raise UserError where options contradict each other."""
    given = {name for name in NAMES if getattr(arguments, name) is not None}
    if "dataset" in arguments.given and arguments.data:
        raise UserError(
            "--dataset, --data: got both, expected one; leave out "
            f"--dataset {arguments.dataset}, or --data {shlex.quote(arguments.data)}"
        )
    if given and not arguments.data:
        raise UserError(f"--{min(given).replace('_', '-')}: expected --data PATH with it")
    if {"test_data", "test_fraction"} <= given:
        raise UserError("--test-data, --test-fraction: got both, expected one; leave out --test-fraction")


def check_there(option: str, path: str) -> None:
    """Raise UserError, with what can be meant, where there is nothing at a path."""
    if os.path.lexists(path):
        return
    from jaxnn.datasets.files import named

    name = os.path.basename(path)
    found = [f"--dataset {near(name, DATASETS, synonyms.NAMES)[0]}"] if holds(name, [*DATASETS]) else []
    found += [f"{option} {shlex.quote(named(one))}" for one in files_near(Path(path))]
    advice = (
        f"did you mean {' or '.join(found)}?"
        if found
        else f"write {option} PATH of a file or folder there is"
    )
    raise UserError(f"{option}: {named(Path(path))}: no such file; {advice}")


def load(arguments: argparse.Namespace, before=None):
    """The data in --data, whose images are divided as they were before, if they were. Raises DatasetError."""
    from jaxnn.datasets import own

    for option, path in (("--data", arguments.data), ("--test-data", arguments.test_data)):
        if path:
            check_there(option, path)
    test = Path(arguments.test_data) if arguments.test_data else None
    out = getattr(arguments, "out", None)
    if before is None and out and os.path.lexists(out / KEPT):
        before = coding(out)  # it goes on
    return own.load(Path(arguments.data), test, asked(arguments, before))


def described(arguments: argparse.Namespace, data) -> argparse.Namespace:
    """The arguments as the settings of a run keep them: with the sha256 of what was read."""
    return argparse.Namespace(**vars(arguments) | {"dataset": None, "data_sha256": [*data.origin.sha256]})


def defaults(N: int, least: int = 1) -> dict[str, int]:
    """Batch size, `least` at least, and epochs for N training examples: as for digits, or MNIST if many.

    >>> defaults(120), defaults(1438), defaults(60_000)
    ({'batch_size': 8, 'epochs': 100}, {'batch_size': 8, 'epochs': 55}, {'batch_size': 100, 'epochs': 30})
    """
    batch_size = min(max(8 if N < MANY else 100, least), N)
    least, most = EPOCHS
    return {"batch_size": batch_size, "epochs": min(max(STEPS // (N // batch_size), least), most)}


def keep(folder: Path | None, data) -> None:
    """Write down in the folder of a run, if there is one, how its data are coded. Raises OSError."""
    if folder is None or data.origin is None:
        return
    from jaxnn.datasets import kept
    from jaxnn.runs import files

    files.replace(folder / KEPT, kept.text(data.origin.coding).encode())


def is_sealed(path: Path) -> bool:
    """Whether such a file has a seal. Raises DatasetError."""
    from jaxnn.datasets import kept
    from jaxnn.datasets.files import content

    return kept.is_sealed(content(path, kept.MOST).decode(errors="replace"))


def coding(folder: Path):
    """How the data of a run were coded. Raises DatasetError."""
    from jaxnn.datasets import kept
    from jaxnn.datasets.files import content, named

    path = folder / KEPT
    return kept.parsed(named(path), content(path, kept.MOST).decode(errors="replace"))


def of_run(folder: Path, settings: dict):
    """The data of a run, read and coded as they were then. Raises UserError or DatasetError."""
    parser = Parser(prog="settings")
    add_own_data(parser)

    def refuse(message: str):
        raise UserError(f"{folder}: settings.json: {message}")

    parser.error = refuse
    words = []
    for name in NAMES:
        if (value := settings.get(name)) is not None:
            values = [*map(str, value)] if isinstance(value, list) else [str(value)]
            if any(value.startswith("-") for value in values):  # else they could be options
                refuse(f"{name}: got {', '.join(values)[:40]!r}")
            words += [f"--{name.replace('_', '-')}", *values]
    arguments = parser.parse_args(words)
    if not arguments.data_sha256:
        refuse("data_sha256: got nothing, expected that of its data")
    seed = settings.get("shuffle_seed", settings.get("seed"))
    if type(seed) is not int or not 0 <= seed < 2**32:
        refuse(f"seed: got {str(seed)[:40]!r}, expected 0..2³²−1")
    before = coding(folder)
    data = load(argparse.Namespace(**vars(arguments) | {"loss": settings.get("loss"), "seed": seed}), before)
    if data.origin is None or data.origin.coding != before:
        raise UserError(
            f"{folder / KEPT}: got another coding than that of its data; expected it as it was kept"
        )
    return data


def other(folder: Path, settings: dict, path: str):
    """Other data for a run, coded as its own were; and whether they have labels."""
    from jaxnn.datasets import own

    if settings["dataset"] is not None:
        raise UserError(
            f"--data: got one for a run on {settings['dataset']}, expected a run on --data; write it without "
            "--data to test on its own test images, or train on yours: python -m experiments.train --data "
            + shlex.quote(path)
        )
    check_there("--data", path)
    return own.again(Path(path), coding(folder))


def told(data) -> list[str]:
    """What is said of one's own data before they are learnt, in lines."""
    coding = data.origin.coding
    if coding.mean:
        first = f"{len(coding.mean)} columns" + (f": {cut(coding.columns)}" if coding.columns else "")
    else:
        height, width = coding.shape[:2]
        how = ", and inverted, since most of them is light" if coding.inverted else ""
        first = f"images of {width}×{height} pixels, divided by {coding.white:g}{how}"
    label = f" ({coding.label})" if coding.label else ""
    more = []
    if coding.names:
        second = f"{len(coding.names)} classes{label}: {cut(coding.names)}"
    else:
        second = f"a number to predict{label}: mean {coding.middle:g},"
        more = [f"standard deviation {coding.unit:g}"]
    return [first, second, *more, *data.origin.said]


def tell_sha256(data) -> None:
    """Print that of each file of one's own data, if the data are."""
    for digest in data.origin.sha256 if data.origin else ():
        print(f"sha256    {digest}")


def cut(names, most: int = 60) -> str:
    """Names in a row, as many as fit, and how many there are more."""
    text, left = "", len(names)
    for name in names:
        if text and len(text) + len(name) > most:
            return f"{text}, and {left} more"
        text, left = f"{text}, {name}" if text else name, left - 1
    return text
