"""Compare a hand-written gradient with autodiff, from the command line.

    python -m jaxnn.gradcheck module:loss module:gradient module:arguments
    python -m jaxnn.gradcheck --timeout 60 --memory 8 theirs:loss theirs:gradient theirs:arguments
    python -m jaxnn.gradcheck --mistakes    # every mistake that it knows, with an example of each

`module` is a module or the path of a Python file; `arguments` is a tuple of what both functions
take, or a function that returns it. Exit status: 0 the formula is right, 1 it is wrong, 3 nothing
could tell, 2 the call cannot be made, 130 interrupted.
"""

import argparse
import contextlib
import difflib
import io
import math
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence

from jaxnn.gradcheck.calls.raised import in_full
from jaxnn.gradcheck.importing import Bad, called, found, numbers, reachable
from jaxnn.gradcheck.report import colours
from jaxnn.gradcheck.visible import visible

STATUS = {True: 0, False: 1, None: 3}
BAD, INTERRUPTED = 2, 130  # as a shell has it
CHILD = "import sys; from jaxnn.gradcheck.__main__ import main; raise SystemExit(main(sys.argv[1:], 'child'))"


class Limit:
    """The type of a limit: a number above 0, in this unit."""

    def __init__(self, unit: str, scales: dict[str, float]):
        """With other units by their names in small letters, and what one of them is in this one."""
        self.unit, self.scales = unit, scales

    def __call__(self, text: str) -> float:
        """The number that the text is."""
        with contextlib.suppress(ValueError):
            if 0 < (number := float(text)) < math.inf:
                return number
        found = re.fullmatch(r"(\d+(?:[.,]\d+)?)\s*([a-z]*)", text.strip().casefold()[:40])
        scale = self.scales.get(found[2]) if found else None
        meant = float(found[1].replace(",", ".")) * scale if found and scale else 0.0
        instead = f"{meant:g}" if meant > 0 else "10, for example"
        raise argparse.ArgumentTypeError(
            f"got {text[:40]!r}, expected a number above 0, of {self.unit}; write {instead}"
        )


SECONDS = Limit(
    "seconds", {"": 1, **dict.fromkeys(("s", "sec", "seconds"), 1), "m": 60, "min": 60, "h": 3600}
)
GIGABYTES = Limit(
    "GB", {"": 1, "g": 1, "gb": 1, "gib": 1.074, "m": 1e-3, "mb": 1e-3, "mib": 1.05e-3, "tb": 1e3}
)
SYNONYMS = {
    "--argnums": "arg argnum args argument params parameters wrt",
    "--verbose": "all debug details full v",
    "--html": "o out output page report save",
    "--timeout": "limit seconds time timelimit",
    "--memory": "gb mem memorylimit ram",
    "--mistakes": "catalogue list",
}  # in small letters, without what stands between words
TOLERANCES = re.compile("--?([ar]?tol(erance)?|eps(ilon)?|delta|precision|step|threshold|ulps?)")


class _Parser(argparse.ArgumentParser):
    words: Sequence[str] = ()  # that it reads

    def error(self, message: str):
        """Say it in one line, with what can be meant by an option that there is not."""
        message = message.removeprefix("argument ")
        places = self._places()
        lacking = ("module:loss", "module:gradient", "module:arguments")[len(places) :]
        whole = " ".join([self.prog, *places, *lacking])
        strange = [word for word in self.words if word.startswith("--") and word != "--"]
        strange = [word for word in strange if word.partition("=")[0] not in self._option_string_actions]
        if message.startswith("the following") and strange:
            message = f"unrecognized arguments: {strange[0]}"
        if found := re.match(r"unrecognized arguments: (-[^\s=]*)", message):
            message = f"{found[1]}: no such option; {self._instead(found[1])}"
        elif (
            found := re.match(r"unrecognized arguments: ([\d ,]+)$", message)
        ) and "--argnums" in self.words:
            first = self.words[[*self.words].index("--argnums") + 1 :][:1]
            numbers = ",".join([*first, *found[1].split()])
            message = f"--argnums: got spaces between numbers; write --argnums {numbers}"
        elif found := re.match(r"(--\S+): expected one argument", message):
            takes = {"--argnums": "0", "--html": "FILE", "--timeout": "60", "--memory": "8"}
            message = f"{found[1]}: got nothing after it; write {found[1]} {takes.get(found[1], '')}"
        elif found := re.match(r"unrecognized arguments: (.*)", message):
            message = f"got {found[1]!r:.80} after the arguments, expected nothing; write {whole}"
        if found := re.match(r"the following arguments are required: (.*)", message):
            message = f"got no {found[1].replace(',', ' and no')}; write {whole}"
        print(f"{colours.error(sys.stderr)} {visible(message)}", file=sys.stderr)
        raise SystemExit(BAD)

    def _places(self) -> list[str]:
        """The functions that the words name: with commas between them, or behind the name of their file."""
        words = [part for word in self.words for part in word.split(",") if not word.startswith("-")]
        places = [word for word in words if ":" in word]
        if not places and len(words) > 1 and re.fullmatch(r"[\w./]+", words[0]):
            places = [f"{words[0]}:{name}" for name in words[1:] if re.fullmatch(r"\w+", name)]
        return places[:3]

    def _instead(self, name: str) -> str:
        """What to write in place of an option that there is not."""
        if TOLERANCES.fullmatch(name.casefold()):
            return "each entry has a bound of its own: leave it out, or write --verbose to see the bounds"
        plain = re.sub(r"[\W_]", "", name.casefold())
        there = [option for option in self._option_string_actions if option.startswith("--")]
        near = [option for option, words in SYNONYMS.items() if plain in words.split()]
        near = near or difflib.get_close_matches(f"--{plain}", there, 1)
        return f"did you mean {near[0]}?" if near else f"expected one of {', '.join(there)}"


def _parser() -> _Parser:
    parser = _Parser(
        prog="python -m jaxnn.gradcheck",
        description="Is a hand-written gradient right? Compare it with autodiff.",
        epilog="Exit status: 0 right, 1 wrong, 3 cannot tell, 2 bad call.",
    )
    parser.add_argument("loss", metavar="module:loss", help="(*arguments) -> scalar, in jax.numpy")
    parser.add_argument("gradient", metavar="module:gradient", help="the one written by hand")
    parser.add_argument(
        "arguments", metavar="module:arguments", help="a tuple, or a function that returns one"
    )
    parser.add_argument(
        "--argnums", default="0", help="which arguments are differentiated, such as 0 or 0,2 (default: 0)"
    )
    parser.add_argument(
        "--verbose", action="store_true", help="print ULPs, bounds, points, probes and costs too"
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument("--html", metavar="FILE", help="write the report as one page")
    limits = parser.add_argument_group("limits, for code that is not yours: it runs in a process of its own")
    limits.add_argument("--timeout", type=SECONDS, metavar="S", help="end it after so many seconds")
    limits.add_argument(
        "--memory", type=GIGABYTES, metavar="GB", help="let it have so much memory (on Linux)"
    )
    parser.add_argument(
        "--mistakes", action="store_true", help="list the mistakes it knows, and nothing else"
    )
    return parser


def _print(text: str) -> None:
    try:
        print(text, flush=True)
    except BrokenPipeError:  # whoever read it has seen enough; the status still tells
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _swapped(options: argparse.Namespace, loss, gradient, arguments: tuple) -> str:
    """What to say where the second function is a loss, and the first one stands in its place."""
    import jax

    with contextlib.suppress(Exception), contextlib.redirect_stdout(sys.stderr):
        J, dparams = (jax.eval_shape(function, *arguments) for function in (gradient, loss))
        if J.shape == () and getattr(dparams, "shape", None) != ():
            order = f"{options.gradient} {options.loss} {options.arguments}"
            return f"; is {options.gradient} the loss? write python -m jaxnn.gradcheck {order}"
    return ""


def _can_be_written(path: str) -> bool:
    whole = os.path.abspath(path)
    return os.path.isdir(os.path.dirname(whole)) and (os.path.isfile(whole) or not os.path.exists(whole))


def _confined(options: argparse.Namespace) -> int:
    """The same command in a process of its own, whose status it returns; raises Bad where it has none."""
    if options.memory and sys.platform != "linux":
        raise Bad("--memory: only Linux holds a process to it")
    command = [sys.executable, "-c", CHILD, options.loss, options.gradient, options.arguments]
    command += [f"--argnums={options.argnums}", *["--json"] * options.json, *["--verbose"] * options.verbose]
    command += [f"--html={options.html}"] if options.html else []
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, start_new_session=True) as child:
        try:
            if options.memory:
                import resource

                size = math.ceil(options.memory * 1e9)  # of what is written to, not of what is reserved
                resource.prlimit(child.pid, resource.RLIMIT_DATA, (size, size))
            report, said = child.communicate(timeout=options.timeout)
        except subprocess.TimeoutExpired as error:
            raise Bad(f"--timeout: after {options.timeout:g} s it was not done, and was ended") from error
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)  # and all that it started
    if not report and child.returncode not in (BAD, INTERRUPTED):
        how = signal.Signals(-child.returncode).name if child.returncode < 0 else f"status {child.returncode}"
        limit = f", --memory {options.memory:g}" if options.memory else ""
        last = said.decode(errors="replace").strip().rpartition("\n")[2]
        raise Bad(f"it ended without a report ({how}{limit}){': ' * bool(last)}{last}")
    sys.stderr.write(said.decode(errors="replace"))
    if report:
        _print(report.decode().rstrip("\n"))
    return child.returncode


def _check(options: argparse.Namespace) -> None:
    """Raise Bad where a page cannot be written, or the loss stands in the place of its gradient."""
    html = options.html or ""  # of --html=-- an older argparse makes a list
    if options.html is not None and (html == "--" or not _can_be_written(html)):
        raise Bad(f"--html: got {html!r}, expected a file in a folder that is there")
    if options.loss == options.gradient:
        whole = f"python -m jaxnn.gradcheck {options.loss} module:gradient {options.arguments}"
        raise Bad(f"got {options.loss} twice, expected the loss and then its gradient; write {whole}")


def main(argv: Sequence[str] | None = None, whose: str = "person") -> int:
    """Run the comparison that the command line asks for; return the exit status.

    For a person the first line, before anything takes time, says what is compared; JSON has none.
    """
    argv = sys.argv[1:] if argv is None else argv
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # where a terminal has few letters, it still gets the rest
    if "--mistakes" in argv and len(argv) > 1:
        _parser().error("--mistakes: lists the mistakes, and goes alone; write it without the rest")
    if list(argv) == ["--mistakes"]:
        from jaxnn.gradcheck.listing import listing

        _print(listing())
        return 0
    parser = _parser()
    parser.words = argv
    options = parser.parse_args(argv)
    reachable(os.getcwd())
    try:
        argnums = numbers(options.argnums or "")  # of --argnums=-- Python 3.11 makes []
        _check(options)
        if whose == "person" and not options.json:
            _print(f"comparing {visible(options.gradient)} with autodiff of {visible(options.loss)}")
        if options.timeout or options.memory:
            return _confined(options)
        with contextlib.redirect_stdout(sys.stderr):  # what a module prints is no part of the report
            loss, gradient = found(options.loss), found(options.gradient)
            arguments = called(options.arguments)

        try:
            from jaxnn.gradcheck import BadCall, compare_gradients
        except (ImportError, MemoryError, OSError) as error:
            raise Bad(f"cannot import jax: {in_full(error)}") from error
        try:
            report = compare_gradients(loss, gradient, *arguments, argnums=argnums)
        except BadCall as error:
            raise Bad(f"{error}{_swapped(options, loss, gradient, arguments)}") from error
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # one of them exits, and would take its status for ours
            raise Bad(f"{options.loss} or {options.gradient} raised {in_full(error)}") from error
        _print(
            report.to_json()
            if options.json
            else colours.verdicts(report.to_text(options.verbose), sys.stdout)
        )
        if options.html:
            report.to_html(options.html)
            print(f"wrote {options.html}", file=sys.stderr)
    except (Bad, OSError) as error:
        print(colours.error(sys.stderr), visible(str(error)), file=sys.stderr)
        return BAD
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    return STATUS[report.correct]


if __name__ == "__main__":
    raise SystemExit(main())
