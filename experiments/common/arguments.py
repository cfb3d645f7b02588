"""What the programs share at their border: arguments, their checks, the device, one-line errors.

Nothing here imports jax before the arguments are known to be good.
"""

import argparse
import contextlib
import errno
import io
import os
import platform
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import jaxnn
from experiments.common import interruption, missing, mistyped, together
from experiments.common.interruption import PATIENCE, leave, leave_unchanged, on_signal, unblock
from experiments.common.places import OrOwn, place
from experiments.common.starting import no_garbage
from experiments.common.status import LINE, doing
from jaxnn.devices import Refused
from jaxnn.gradcheck.report import colours
from jaxnn.runs.error import RunError
from jaxnn.shown import shown

ACTIVATIONS = ("sigmoid", "tanh", "relu", "leaky_relu", "softplus", "silu", "gelu", "identity")
LOSSES = ("binary_cross_entropy", "cross_entropy", "squared_error")
DATASETS = ("digits", "mnist", "fashion_mnist", "kmnist")


class UserError(Exception):
    """What went wrong, in one line for the person who can change it; and a report of it, if there is one."""

    def __init__(self, line: str, report: str = ""):
        """The line and the report."""
        super().__init__(line)
        self.report = report


class Interrupted(Exception):
    """The run was left between two steps: one line, and the status to end with."""

    def __init__(self, line: str, status: int):
        """What to say, and to leave with."""
        super().__init__(line)
        self.status = status


class Parser(argparse.ArgumentParser):
    """Answers a bad argument with one line, which says what to write, and exit status 2."""

    def __init__(self, prog: str, description: str | None = None):
        """A program of that name; arguments are not abbreviated."""
        super().__init__(prog, f"{prog} [options]", description, allow_abbrev=False)
        self.add_argument("--version", action="version", version=f"jaxnn {jaxnn.__version__}")
        self.product: Callable[[argparse.Namespace], Any] = lambda arguments: False
        """Whether standard output is for another program to read, and holds nothing but what it asks for."""

    def parse_args(self, args=None, namespace=None):  # pyright: ignore[reportIncompatibleMethodOverride]
        """The arguments; `given` holds the names of those that are not left at their defaults."""
        args = sys.argv[1:] if args is None else args
        arguments = super().parse_args(args, namespace)
        unset = argparse.Namespace(**dict.fromkeys(vars(arguments)))
        found = super().parse_args(args, unset)
        arguments.given = {name for name, value in vars(found).items() if value is not None}
        return arguments

    def parse_known_args(self, args=None, namespace=None):  # pyright: ignore[reportIncompatibleMethodOverride]
        """The arguments, where all of them are understood; of commands those of one, too."""
        args = sys.argv[1:] if args is None else args
        for word in args:
            if re.fullmatch("--[a-z-]+=--", word):  # Python 3.11 makes [] of it, whatever the type
                self.error(f"{word[:-3]}: got '--', expected a value")
        if wrong := mistyped.answer(self, args):
            self.error(wrong)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Print the line and leave."""
        message = message.removeprefix("argument ")
        message = "".join(c if c.isprintable() else repr(c)[1:-1] for c in message[:2000])
        if both := re.fullmatch(r"(\S+): not allowed with argument (\S+)", message):
            message = f"{both[1]}, {both[2]}: got both; write one of them"
        if chosen := re.fullmatch(r"(\S+): invalid choice: (.*) \(choose from (.*)\)", message):
            message = f"{chosen[1]}: got {chosen[2]}, expected one of {chosen[3]}".replace("', '", ", ")
        if not re.search(r"did you mean|write |expected|no such|there is", message):
            message += "; --help lists what there is"
        self.exit(2, f"{colours.error(sys.stderr)} {shown(message)}\n")


def run(main: Callable[[argparse.Namespace], int], parser: Parser) -> NoReturn:
    """Run a program: errors that its user can do something about end in one line and status 2."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # it is closed: the next file that is opened would take its place
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal without Ŷ and × still gets the rest, and a pipe gets each line at once.
            stream.reconfigure(errors="replace", line_buffering=True)
    on_signal(leave)
    arguments = parser.parse_args()
    if getattr(arguments, "out", None) and hasattr(arguments, "save_every"):
        on_signal(leave_unchanged)
    line = ""
    try:
        together.begin(arguments)
        introduce(parser, arguments)
        together.meet(arguments)
        check_environment()
        status = main(arguments)
        on_signal(signal.SIG_IGN)  # all is done
    except Interrupted as interrupted:
        unblock(PATIENCE)
        status, line = interrupted.status, shown(interrupted)
        print(line, file=sys.stderr)
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), interruption.OUT)
        status = 1
    except Exception as error:
        status, line = 2, shown(told(error) or "")
        if not line:
            together.GROUP.settle()
            if not together.GROUP.others:
                raise
            status, line = 1, shown(f"{type(error).__name__}: {error}", 200)
            sys.excepthook(type(error), error, error.__traceback__)
        else:
            print(colours.error(sys.stderr), line, file=sys.stderr)
        if report := getattr(error, "report", ""):
            print(f"\n{report}", file=sys.stderr)
    finally:
        LINE.end()
    together.GROUP.end(status, line)
    sys.exit(status)


def introduce(parser: Parser, arguments: argparse.Namespace) -> None:
    """Say what runs, before anything that takes time, and show on a terminal from now on what it does."""
    name = parser.prog.rpartition(".")[2]
    line = f"{name:9} jaxnn {jaxnn.__version__}, jax {version('jax')}, Python {platform.python_version()}"
    if not parser.product(arguments):
        print(line)
    elif sys.stderr.isatty():
        print(line, file=sys.stderr)
    if not getattr(arguments, "process", None):
        LINE.begin()


def told(error: Exception) -> str | None:
    """An error that its user can do something about, in one line; None for any other."""
    if isinstance(error, UserError | argparse.ArgumentTypeError | Refused):
        return str(error)
    if isinstance(error, ModuleNotFoundError):
        return missing.needed(error)
    datasets = sys.modules.get("jaxnn.datasets")  # it is there where one of its errors was raised
    if isinstance(error, (RunError, datasets.DatasetError) if datasets else RunError):
        return str(error)
    first = (str(error).splitlines() or [""])[0]
    match error:
        case FloatingPointError():
            return f"JAX_DEBUG_NANS: {first}"
        case OSError():
            return f"{error.filename or 'standard output'}: {error.strerror or error}"
        case MemoryError():
            return f"out of memory ({first})" if first else "out of memory"
        case RuntimeError() if re.search("RESOURCE_EXHAUSTED|[Oo]ut of memory", str(error)):
            return f"out of memory ({first}); a smaller network needs less"
    if type(error).__name__ == "InternalFloatingPointError":  # JAX's, from a program compiled ahead
        return f"JAX_DEBUG_NANS: invalid value ({error.args[1]}) in {error.args[0]}"
    return None


class Number(NamedTuple):
    """The type of a number that is good."""

    kind: Callable[[str], Any]
    good: Callable[[Any], bool]
    expected: str  # in words
    example: str

    def __call__(self, text: str) -> Any:
        """The number that the text is."""
        with contextlib.suppress(ValueError):
            if "_" not in text and self.good(value := self.kind(text)):
                return value
        raise argparse.ArgumentTypeError(f"got {text[:40]!r}, expected {self.expected}")


def whole(low: int, high: int | None = None) -> Number:
    """The type of a whole number from low to high."""
    expected = f"a whole number of at least {low}" if high is None else f"a whole number in {low}..{high}"
    example = max(low, 10) if high is None else min(max(low, 10), high)
    return Number(
        int, lambda value: low <= value <= (value if high is None else high), expected, str(example)
    )


rate = Number(float, lambda value: 1e-37 < value < 1e38, "a finite number above 0", "0.1")  # in float32, too
seconds = Number(float, lambda value: 0 <= value < 1e9, "seconds of at least 0", "10")


def few_digits(loss: float) -> str:
    """A loss as it is printed: with four digits after the point, or in all where there are many before."""
    return f"{loss:.4f}" if abs(loss) < 1e6 else f"{loss:.4g}"


def counted(n: int, what: str) -> str:
    """1 seed, 2 seeds."""
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def path(text: str) -> Path:
    """The type of a path: what a shell has to put in place of ~ and $HOME is put there."""
    if address := re.match("[a-z0-9]{2,6}(?=://)", text):
        there = shlex.quote(text[7:] if address[0] == "file" else text)[:200]
        fetched = f"; write curl -LO {there} first"
        instead = {"file": f"; write {there}", "s3": "", "gs": ""}.get(address[0], fetched)
        raise argparse.ArgumentTypeError(f"got {text[:200]!r}, an address, expected a file here{instead}")
    whole = os.path.expanduser(os.path.expandvars(text))
    if whole != text and text[0] in "~$":
        raise argparse.ArgumentTypeError(f"got {text[:200]!r}, as it stands; write {whole}")
    return Path(text)


def folder(text: str) -> Path:
    """The type of a folder: with no name it would be the current one."""
    if not text:
        raise argparse.ArgumentTypeError("got '', expected the name of a folder")
    return path(text)


def run_folder(text: str) -> Path:
    """The type of a folder that a run has left."""
    found = folder(text)
    if os.path.lexists(found / "settings.json"):
        return found
    from experiments.common.suggestions import runs_near

    near = runs_near(found)
    advice = (
        f"did you mean {' or '.join(near)}?" if near else "expected a folder that --out of a training named"
    )
    raise argparse.ArgumentTypeError(f"{repr(text)[1:-1][:200]}/settings.json: no such file; {advice}")


def given_file(text: str) -> Path:
    """The type of a file that is read."""
    from experiments.common.suggestions import files_near

    found = path(text)
    if not os.path.lexists(found):
        near = files_near(found)
        advice = f"did you mean {near[0]}?" if near else "expected a file that is there"
        raise argparse.ArgumentTypeError(f"got {text[:200]!r}: no such file; {advice}")
    if os.path.isdir(found):
        raise argparse.ArgumentTypeError(f"got {text[:200]!r}, a folder, expected a file in it")
    return found


def new_file(text: str) -> Path:
    """The type of a file that is written at the end; a device would be replaced by it."""
    found = path(text)
    if os.path.isdir(found):
        raise argparse.ArgumentTypeError(f"got {text[:200]!r}, a folder, expected the name of a file")
    if not os.path.isdir(found.absolute().parent) or (os.path.exists(found) and not os.path.isfile(found)):
        raise argparse.ArgumentTypeError(
            f"got {text[:200]!r}, expected a file in a folder that is there; write {shown(found.name)}"
        )
    return found


def new_picture(*forms: str) -> Callable[[str], Path]:
    """The type of a file that is written at the end, whose name says which of these forms it has."""

    def picture(text: str) -> Path:
        found = new_file(text)
        if found.suffix.lower() not in forms:
            instead = found.with_suffix(forms[0]) if found.name else forms[0]
            raise argparse.ArgumentTypeError(
                f"got {text[:200]!r}, expected a name that ends in {', '.join(forms)}; write {instead}"
            )
        return found

    return picture


new_page = new_picture(".html", ".htm")


def add_network(parser: Parser, own: bool = False) -> None:
    """Add --dataset, --hidden, --activation, --loss and --seed; with `own` they may be one's own."""
    parser.add_argument("--dataset", choices=DATASETS, default="digits", help="default: %(default)s")
    parser.add_argument(
        "--hidden",
        type=whole(1, 1_000_000),
        nargs="+",
        default=[17],
        metavar="n",
        help="neurons of each hidden layer; default: 17",
    )
    parser.add_argument(
        "--activation",
        type=place if own else str,
        choices=OrOwn(ACTIVATIONS) if own else ACTIVATIONS,
        default="sigmoid",
        help="of the hidden layers; default: %(default)s" + "; or FILE.py:name" * own,
    )
    parser.add_argument(
        "--loss",
        type=place if own else str,
        choices=OrOwn(LOSSES) if own else LOSSES,
        default="binary_cross_entropy",
        help="brings its output activation along; default: %(default)s" + "; or FILE.py:name" * own,
    )
    parser.add_argument(
        "--seed", type=whole(0, 2**32 - 1), default=0, help="of weights and shuffling; default: %(default)s"
    )


def add_surroundings(parser: Parser) -> None:
    """Add --device, --data-dir and --source-dir."""
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "gpu", "tpu"),
        default="auto",
        help="default: %(default)s, the best there is",
    )
    parser.add_argument(
        "--data-dir",
        type=folder,
        metavar="DIR",
        help="where prepared data sets are kept; default: ~/.cache/jaxnn",
    )
    parser.add_argument(
        "--source-dir",
        type=folder,
        metavar="DIR",
        help="prepare data sets from the original files in DIR/mnist/ and so on, without the network; "
        "default: JAXNN_SOURCE_DIR, if set",
    )


def check_environment() -> None:
    """Raise UserError where JAX and XLA do not take what the environment says to them."""
    flags = os.environ.get("XLA_FLAGS")
    if flags:  # XLA ends its process where it knows one of them not
        code = "from jaxlib import xla_client; xla_client.make_cpu_client()"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8")
        if done.returncode:
            why = re.search(r"^[EF]\d{4} [^]]*\] (.*)", done.stderr, re.M)
            why = f" ({why[1][:200]})" if why else ""
            raise UserError(f"XLA_FLAGS: got {flags[:80]!r}, expected flags of this XLA{why}")
    doing("importing jax")
    try:
        with no_garbage():
            import jax  # noqa: F401
    except ValueError as error:  # it reads its environment
        raise UserError(" ".join(str(error).split())) from error
    cache = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    if cache and os.path.exists(cache) and not os.path.isdir(cache):
        raise UserError(f"JAX_COMPILATION_CACHE_DIR: got {cache}, which is a file; expected a folder")


def use_device(name: str):
    """The jax device of that name; all that follows runs on it."""
    # Left alone, JAX takes 75 % of a GPU's memory at once, far more than these networks need.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    import jax

    doing("starting the device")
    if jax.config.jax_disable_jit:  # pyright: ignore[reportAttributeAccessIssue]
        asked = os.environ.get("JAX_DISABLE_JIT")
        raise UserError(f"JAX_DISABLE_JIT: got {asked!r}, expected nothing: whole programs are compiled here")

    try:
        there = jax.local_devices()
    except (RuntimeError, AssertionError) as error:
        asked = os.environ.get("JAX_PLATFORMS")
        raise UserError(
            f"JAX_PLATFORMS: got {asked!r}, expected platforms that are installed, or nothing"
        ) from error
    try:
        device = there[0] if name == "auto" else jax.local_devices(backend=name)[0]
    except RuntimeError as error:
        platforms = ", ".join(sorted({device.platform for device in there}))
        raise UserError(f"--device: got {name}, expected one that is there: {platforms}") from error
    jax.config.update("jax_default_device", device)
    keep_programs()
    return device


def kind_of(device) -> str:
    """A device in words."""
    return f"{device.platform} ({device.device_kind})"


def keep_programs() -> None:
    """Keep what is compiled, for the next run to start at once, unless the user has said where or not."""
    import jax

    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        cache = Path(os.path.expanduser(os.environ.get("XDG_CACHE_HOME") or "~/.cache"), "jaxnn", "programs")
        try:
            if cache.parts[0] == "~":
                raise FileNotFoundError(errno.ENOENT, "HOME is not set")
            cache.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            why = f"cannot be written ({error.strerror}); programs are not kept"
            print(colours.warning(sys.stderr), f"{shown(cache)}: {why}", file=sys.stderr)
        else:
            jax.config.update("jax_compilation_cache_dir", str(cache))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)  # else only slow ones are kept
