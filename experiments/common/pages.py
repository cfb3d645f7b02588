"""The page in the folder of a run, which is kept current while a long one goes on."""

import json
import math
import re
import shlex
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from experiments.common.arguments import Interrupted, UserError
from experiments.common.continuation import NUMERICAL, warn
from jaxnn.shown import shown

LONG, SOON = 60.0, 5.0  # seconds that a run takes of which the page is kept current; and when that is known
APART, SHARE = 2.0, 0.02  # seconds between two writes, and the part of the time that they may take
LETTERS, NAMES = 200, 100  # of a setting, and settings, that are shown
OPTIONS = {
    "train": "dataset data label without test_data test_fraction image_size data_sha256 network hidden "
    "activation loss seed optimizer learning_rate batch_size epochs gradient reproducible",
    "sweep": "dataset data label without test_data test_fraction image_size data_sha256 network hidden "
    "activation loss gradient seed seeds learning_rates scales widths optimizer "
    "batch_size epochs",
}  # what of its settings a program takes


def due(elapsed: float, share: float, since: float, taken: float, spent: float) -> bool:
    """Whether it is time to write the page of a run that goes on.

    In `elapsed` seconds it has done a share of its epochs; the last write was `since` seconds ago and took
    `taken`, and all of them `spent`.

    >>> due(elapsed=6.0, share=0.01, since=6.0, taken=0.0, spent=0.0)
    True
    >>> due(elapsed=6.0, share=0.2, since=6.0, taken=0.0, spent=0.0)  # half a minute
    False
    >>> due(elapsed=90.0, share=0.3, since=9.9, taken=0.2, spent=0.2)
    False
    >>> due(elapsed=90.0, share=0.98, since=9.9, taken=0.0, spent=0.0)  # soon it ends
    False
    """
    whole = elapsed / share  # as it seems; the last page follows the end at once
    long = elapsed >= SOON and whole > LONG and whole - elapsed > 2 * APART
    return long and since >= max(APART, taken / SHARE) and elapsed >= (spent + taken) / SHARE


class View:
    """The page in --out: `view(share, *what, unless)` after an epoch, `view.write("finished")` at the end.

    Within `with view:`; left by Interrupted or UserError, it writes the page once more, which says so.
    """

    def __init__(self, out: Path | None, compiled: float, draw: Callable, *what):
        """`draw(timings, refresh, *what)` makes the page of what there is so far, which may be nothing."""
        self.out, self.compiled, self.draw, self.what = out, compiled, draw, what
        self.trained = self.written = self.taken = self.spent = 0.0

    def __enter__(self):
        """The training begins now."""
        self.clock = time.perf_counter()
        return self

    def __exit__(self, kind, error, traceback) -> None:
        """Say on the page how it ended."""
        if isinstance(error, Interrupted | UserError):
            self.write(str(error))

    def __call__(self, share: float, *what, unless: Callable = lambda write: write()) -> None:
        """Show this of a run that has done this share of what is to be done; write it, if it is time.

        `unless(write)` writes, unless something comes in between.
        """
        self.what, self.trained = what, time.perf_counter() - self.clock
        if due(self.trained, share, self.trained - self.written, self.taken, self.spent):
            unless(partial(self.write, "running", refresh=5))

    def write(self, state: str, refresh: int = 0) -> None:
        """Write the page, as far as there is something to show."""
        if not (self.out and self.what[0]):
            return
        from jaxnn.runs import record

        out, clock = self.out, time.perf_counter()
        timings = {"state": state, "compiled": self.compiled, "trained": self.trained}

        def draw() -> str:
            record.replace(out / "timings.json", json.dumps(timings) + "\n")
            return self.draw(timings, refresh, *self.what)

        done = write(out / "page.html", draw)
        self.written = time.perf_counter() - self.clock
        self.taken = time.perf_counter() - clock if done else math.inf  # else it is tried at the end alone
        self.spent += self.taken


def write(path: Path, draw: Callable[[], str]) -> bool:
    """Whether the page that is drawn is written; if not it is warned of, and whatever trains goes on."""
    from jaxnn.runs import record

    try:
        record.replace(path, draw())
    except Exception as error:  # no page is worth a training
        why = " ".join(str(error).split())[:200]
        warn(f"{path}: no page is written ({type(error).__name__}: {why})")
        return False
    return True


def command(settings: dict) -> str:
    """The command that repeats a run, for a shell.

    >>> command({"dataset": "digits", "hidden": [17, 5], "loss": "$(rm)", "n": [64, 17, 5, 10]})
    "python -m experiments.train --dataset digits --hidden 17 5 --loss '$(rm)'"
    """
    program = "sweep" if "learning_rates" in settings else "train"
    settings = settings | {"seed": settings.get("shuffle_seed", settings.get("seed"))}  # of a sweep's best
    environment = settings.get("environment")
    words = [
        f"{name}={shlex.quote(str(value))}"
        for name, value in (environment.items() if isinstance(environment, dict) else ())
        if name in NUMERICAL
    ]
    words += ["python", "-m", f"experiments.{program}"]
    for name in OPTIONS[program].split():
        value = settings.get(name)
        if value is not None and value is not False:
            values = value if isinstance(value, list | tuple) else [] if value is True else [value]
            words += [f"--{name.replace('_', '-')}", *(shlex.quote(str(value)) for value in values)]
    if device := re.match(r"(?:\d+ × )?(cpu|gpu|tpu) \(", str(settings.get("device"))):
        words += ["--device", device[1]]
    return " ".join(words)


def facts(settings: dict) -> list[tuple[str, str]]:
    """The settings as pairs of a name and text, those in a table as a pair each."""
    found = []
    for key, value in settings.items():
        for name, one in value.items() if isinstance(value, dict) else [(key, value)]:
            text = " ".join(map(str, one[:LETTERS])) if isinstance(one, list | tuple) else str(one)
            found += [(shown(name.replace("_", " "), LETTERS), shown(text, LETTERS))] * (
                one is not None and key != "n"
            )
    return found[:NAMES]


def told(settings: dict, timings: dict, state: str):
    """What is said of a run in words; `state` is how it ended where the timings do not tell."""
    from jaxnn.seeing.pages.run import Told

    ending = shown(timings.get("state", state), LETTERS)
    if timings:
        ending += "; compiled in {compiled:.2f} s, trained for {trained:.2f} s since it last began".format(
            **timings
        )
    return Told(shown(command(settings), 20 * LETTERS), facts(settings), ending)


def of_run(
    settings: dict, data, timings: dict, refresh: int, metrics: list[dict], params, best: bool = False
) -> str:
    """The page of a training; the parameters are of the last epoch, or of the best, the first of them.

    Raises UserError where the settings name no loss.
    """
    from experiments.common.own import activation_of, loss_of
    from jaxnn.runs.record import merit
    from jaxnn.seeing.pages.run import Run, run_page

    g, loss = activation_of(settings), loss_of(settings)
    names = tuple(settings[name].rpartition(":")[2] for name in ("activation", "loss"))
    words = told(settings, timings, "finished" if params else "not finished")
    finished = timings.get("state", "finished") == "finished"
    n, merits = tuple(settings["n"]), [*map(merit, metrics)]
    epoch = 1 + merits.index(max(merits)) if best else len(metrics)
    return run_page(Run(n, names, g, loss, data, metrics, params, epoch, finished, words), refresh)


def of_sweep(settings: dict, rows: Callable, timings: dict, refresh: int, networks) -> str:
    """The page of a sweep; `rows(networks)` are the lines that it leaves of them."""
    from jaxnn.seeing.pages.sweep import sweep_page

    words = told(settings, timings, "finished")
    name = settings["dataset"] or shown(Path(settings["data"]).name, 60)
    return sweep_page(name, rows(networks), words, refresh)
