"""Runs that go on after an interruption: what the programs that train share."""

import argparse
import itertools
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import get_origin, get_type_hints

import jaxnn
from experiments.common.arguments import Interrupted, Parser, UserError, folder, kind_of, seconds
from experiments.common.interruption import SAVED, Interruption, leave, leave_unchanged, on_signal
from experiments.common.together import GROUP
from jaxnn.gradcheck.report import colours
from jaxnn.shown import shown

NUMERICAL = (
    "JAX_ENABLE_X64",
    "JAX_DEFAULT_MATMUL_PRECISION",
    "JAX_DEFAULT_PRNG_IMPL",
    "JAX_THREEFRY_PARTITIONABLE",
    "XLA_FLAGS",
    "NVIDIA_TF32_OVERRIDE",
)  # what of the environment changes the numbers of a run


SIMULATED = "--xla_force_host_platform_device_count"
OVERRIDABLE = (
    *("learning_rate", "epochs", "data", "test_data", "device", "versions", "environment"),
    "files",
)
UNCOUNTED = (
    *("out", "data_dir", "source_dir", "save_every", "resume", "override", "given", "memory"),
    *("trust_gradient", "devices", "layout", "processes", "process", "coordinator", "heartbeat"),
)


def add_checkpoints(parser: Parser, what: str) -> None:
    """Add --out, --save-every, --resume and --override."""
    parser.add_argument(
        "--out",
        type=folder,
        metavar="DIR",
        help=f"a new folder for {what}, or that of a run that was interrupted and now goes on",
    )
    parser.add_argument(
        "--save-every",
        type=seconds,
        default=10.0,
        metavar="SECONDS",
        help="how often what --out needs to go on is saved; 0: as often as can be; default: %(default)g",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="refuse to begin: only go on with what --out holds; without it, both are done",
    )
    parser.add_argument(
        "--override",
        nargs="+",
        choices=OVERRIDABLE,
        default=[],
        metavar="NAME",
        help=f"go on, though these are not those of the run in --out: {', '.join(OVERRIDABLE)}",
    )


def as_in_the_run(
    arguments: argparse.Namespace, parser: Parser, settings: dict, where: Path
) -> argparse.Namespace:
    """The arguments, those that are not given taken from the settings of the run that goes on.

    Raises UserError, which lists them, where given ones differ and are not overridden; and where the settings
    are none that the parser takes.
    """
    named = {name for name in vars(arguments) if name not in (*UNCOUNTED, "device")}
    agree(
        arguments,
        {name: settings.get(name) for name in named & arguments.given},
        {name: getattr(arguments, name) for name in named & arguments.given},
    )

    def refuse(message: str):
        raise UserError(f"{where}: not the settings of a run of this program: {message}")

    words = []
    for name in sorted(named - arguments.given):
        if settings.get(name) is not None:
            value, option = settings[name], f"--{name.replace('_', '-')}"
            if isinstance(value, bool) and parser._option_string_actions[option].nargs == 0:
                words += [option] * value
                continue
            values = [str(value) for value in (value if isinstance(value, list) else [value])]
            if any(value.startswith("-") for value in values):  # else they could be options
                refuse(f"{name}: got {', '.join(values)[:40]!r}")
            words += [option, *values]

    parser.error = refuse
    taken = vars(parser.parse_args(words))
    return argparse.Namespace(**vars(arguments) | {name: taken[name] for name in named - arguments.given})


def agree(arguments: argparse.Namespace, run: dict, here: dict) -> None:
    """Raise UserError, which lists them, unless all that differs from the run's is overridden."""
    differing = {name: value for name, value in sorted(run.items()) if value != here[name]}
    differing = {name: value for name, value in differing.items() if name not in arguments.override}
    if not differing:
        return
    raise UserError(
        f"--out: the run in {arguments.out} has other settings: "
        + "; ".join(f"{name} {value} (got {here[name]})" for name, value in differing.items())
        + "; expected the same or a new folder"
        + (f", or --override {' '.join(differing)}" if set(differing) <= set(OVERRIDABLE) else "")
    )


def describe(settings: argparse.Namespace, n: tuple[int, ...], device) -> dict:
    """What settings.json holds."""
    return {
        **{name: value for name, value in vars(settings).items() if name not in UNCOUNTED},
        "n": list(n),
        "device": kind_of(device),
        **surroundings(),
    }


def surroundings() -> dict:
    """What of the programs and of the environment changes the numbers of a run."""
    import jax
    import jaxlib
    import numpy
    import optax

    versions = {"jaxnn": jaxnn.__version__, "python": platform.python_version()}
    versions |= {module.__name__: module.__version__ for module in (jax, jaxlib, optax, numpy)}
    return {
        "versions": versions,
        "environment": {name: value for name in NUMERICAL if (value := of_environment(name))},
    }


def of_environment(name: str) -> str:
    """The value of a variable that changes the numbers of a run, without that of the number of devices."""
    words = os.environ.get(name, "").split()
    return " ".join(word for word in words if not word.startswith(SIMULATED))


def warn(line: str) -> None:
    """Say something that the run goes on after."""
    print(colours.warning(sys.stderr), shown(line), file=sys.stderr)


def reopened(arguments: argparse.Namespace, parser: Parser, result: str):
    """The arguments, the lock and the newest checkpoint of a run that goes on in --out.

    The last two are None where a run begins; the last one where it begins again, with its own settings. A
    finished one has the file `result`. Of several processes the first alone reads it, and tells the others.
    """
    from jaxnn.runs.checkpoints import Checkpoint

    lock, checkpoint, told = None, None, ""
    if not GROUP.process:
        arguments, lock, checkpoint = _reopened(arguments, parser, result)
        counted = {name: value for name, value in vars(arguments).items() if name not in UNCOUNTED}
        told = json.dumps([counted, checkpoint and checkpoint.progress]) if GROUP.others else ""
    told = GROUP.tell(told)
    if GROUP.process:
        counted, progress = json.loads(told)
        arguments = argparse.Namespace(**vars(arguments) | counted)
        checkpoint = progress and Checkpoint(Path(), progress)
    return arguments, lock, checkpoint


def _reopened(arguments: argparse.Namespace, parser: Parser, result: str):
    from jaxnn.runs import checkpoints, record

    if not arguments.out:
        if arguments.resume:
            raise UserError("--resume: got no --out, expected the folder of an interrupted run with it")
        if "save_every" in arguments.given:
            raise UserError("--save-every: got no --out, expected --out DIR with it, where it saves")
        return arguments, None, None
    record.check_new(arguments.out, result)
    if arguments.save_every == 0:
        print("saves     after each compiled part, as --save-every 0 asks: as often as can be")
    lock, checkpoint = None, None
    if os.path.lexists(arguments.out) and any(arguments.out.iterdir()):
        lock = record.hold(arguments.out)
        record.check_new(arguments.out, result)  # who held it before may have finished
        checkpoint = checkpoints.newest(arguments.out / "checkpoints", warn, most_of(arguments.out))
    if checkpoint:
        settings, where = checkpoint.progress.get("settings"), checkpoint.folder / "progress.json"
        if not isinstance(settings, dict):
            raise UserError(f"{where}: settings: got {str(settings)[:40]!r}, expected those of the run")
        return as_in_the_run(arguments, parser, settings, where), lock, checkpoint
    if arguments.resume:
        raise UserError(
            f"--resume: got {arguments.out}, expected the folder of an interrupted run; "
            "write it without --resume to begin one"
        )
    if lock and os.path.lexists(arguments.out / "settings.json"):  # it was interrupted before the first save
        settings = record.load_settings(arguments.out)
        return as_in_the_run(arguments, parser, settings, arguments.out / "settings.json"), lock, None
    return arguments, lock, None


def most_of(out: Path):
    """How large the files of a run's checkpoints can be, by the settings in its folder."""
    from jaxnn.runs import checkpoints, fields, record

    try:
        settings = record.load_settings(out)
    except record.RunError:  # a checkpoint has its own
        return checkpoints.Most()
    epochs, layers, networks = fields.declared(settings)
    parameters = sum(n * (n_prev + 1) for n_prev, n in itertools.pairwise(settings["n"]))
    return checkpoints.Most(
        arrays=2**30 + 64 * parameters * networks,  # float64, Adam's, and room for costs
        progress=2**20 + networks * (1000 + epochs * (500 + 60 * layers)),
    )


def begun(folder: Path):
    """The lock of a new run's folder. Raises UserError if a run has begun there meanwhile."""
    from jaxnn.runs import record

    lock = record.hold(folder)
    if [path.name for path in folder.iterdir()] != ["lock"]:
        raise UserError(f"--out: another run has begun in {folder} meanwhile; expected one at a time")
    return lock


def so_far(checkpoint, kind):
    """How far the run of a checkpoint had come, as a NamedTuple of that kind; its costs are in the arrays.

    Raises UserError if the checkpoint says something else.
    """
    found = {"costs": []} | checkpoint.progress
    for name, expected in get_type_hints(kind).items():
        value = found.get(name)
        if type(value) is not (get_origin(expected) or expected):
            where = checkpoint.folder / "progress.json"
            raise UserError(f"{where}: {name}: got {str(value)[:40]!r}, expected what this version saves")
    return kind(*(found[name] for name in kind._fields))


def progress(arguments: argparse.Namespace, settings: dict, checkpoint, beginning, check: Callable):
    """How far the run has come: as the checkpoint says, or without one at its beginning.

    `check(done)` raises ValueError where it cannot have come so far. Raises UserError then, and unless the
    run's sizes, device, versions and environment are those here, or overridden.
    """
    if not checkpoint:
        return beginning
    names, before = ("n", "device", "versions", "environment"), checkpoint.progress["settings"]
    agree(arguments, {name: before.get(name) for name in names}, {name: settings[name] for name in names})
    done = so_far(checkpoint, type(beginning))
    try:
        check(done)
    except ValueError as error:
        raise UserError(f"{checkpoint.folder / 'progress.json'}: {error}") from error
    return done


class Diverged(Exception):
    """A number of the run is no longer finite."""


class Pauses:
    """The moments between two programs, in which a run is saved and can be left.

    `with Pauses(...) as pause:`, then `pause(tree, done, where)` after each program. Raises Interrupted after
    a signal, and Diverged where what is to be saved is not finite.
    """

    def __init__(
        self, arguments: argparse.Namespace, lock, settings: dict, checkpoint, metrics=(), finite: bool = True
    ):
        """Of a run with these settings, that begins, or goes on after a checkpoint and these metrics."""
        self.out, self.lock, self.settings = arguments.out, lock, settings
        self.interruption = Interruption()
        self.saver = None
        if self.out:
            from jaxnn.runs import record
            from jaxnn.runs.checkpoints import Saver

            self.lock = lock or begun(self.out)
            record.create(self.out, settings, metrics)
            self.saver = Saver(self.out / "checkpoints", arguments.save_every, checkpoint, finite)

    def __enter__(self):
        """Note signals from now on; a save can begin at once."""
        if self.saver:
            self.saver.begin()
        self.interruption.__enter__()
        self.clock = time.perf_counter()
        return self

    def __exit__(self, *error):
        """Let go of the folder."""
        GROUP.pace(going=False)
        if self.saver:
            self.saver.close()
        if self.lock:
            self.lock.close()
        self.interruption.__exit__(*error)

    def __call__(self, tree, done, where: str) -> None:
        """Save if it is time, and leave, after saving, if a signal has come."""
        if self.lock:
            self.lock.check()
        GROUP.pace()
        came = self.interruption.signal
        word = "leave" if came else "save" if self.saver and self.saver.due() else ""
        word = GROUP.tell("diverged" if self.saver and self.saver.diverged and not came else word)
        if word == "leave":
            GROUP.pace(going=False)
            self.save(tree, done)
            if GROUP.process:
                GROUP.end()
        if came and self.out:
            line = f"interrupted at {where}, and saved; the same command, or --out {self.out} alone, goes on"
            self.interruption.saved(shown(line))
            raise Interrupted(line, SAVED)
        if came:
            raise Interrupted(f"interrupted at {where}; with --out DIR a run can go on", 128 + came)
        whole = GROUP.whole(tree) if word == "save" else None
        if self.saver and word == "save":
            self.saver.save(whole, self.progress(done), done.costs)
        if word == "diverged":
            raise Diverged

    def save(self, tree, done) -> None:
        """Save now, and return when it is on the disk."""
        whole = GROUP.whole(tree)
        if self.saver:
            self.saver.save(whole, self.progress(done), done.costs)
            self.saver.wait()
        if GROUP.tell("diverged" if self.saver and self.saver.diverged else ""):
            raise Diverged

    def seconds(self) -> float:
        """How long it has been training."""
        return time.perf_counter() - self.clock

    def leave_at_once(self) -> None:
        """Leave at a signal from now on: what a run with a folder needs to go on is on the disk."""
        leaving = leave_unchanged if self.out else leave
        on_signal(leaving)
        if self.interruption.signal:
            leaving(self.interruption.signal)

    def finish(self) -> None:
        """Ignore signals from now on: with the file that is written next the run is finished."""
        self.interruption.ignore()

    def progress(self, done) -> dict:
        """What a checkpoint holds beside the arrays."""
        return {"settings": self.settings} | done._replace(costs=[])._asdict()
