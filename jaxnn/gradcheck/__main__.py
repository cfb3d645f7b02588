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
from jaxnn.gradcheck.named import Bad, called, found, numbers, reachable
from jaxnn.gradcheck.report import colours
from jaxnn.gradcheck.visible import visible

STATUS = {True: 0, False: 1, None: 3}
BAD, INTERRUPTED = 2, 130  # as a shell has it


def limit(text: str) -> float:
    """A limit: a number above 0."""
    with contextlib.suppress(ValueError):
        if 0 < (number := float(text)) < math.inf:
            return number
    point = text.replace(",", ".")
    instead = f"; did you mean {point}?" if re.fullmatch(r"\d+\.\d+", point) and point != text else ""
    raise argparse.ArgumentTypeError(f"got {text[:40]!r}, expected a number above 0{instead}")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        """Say it in one line, with what can be meant by an option that there is not."""
        message = message.removeprefix("argument ")
        if found := re.match(r"unrecognized arguments: (-[^\s=]*)", message):
            near = difflib.get_close_matches(found[1].replace("_", "-"), self._option_string_actions, 1)
            message += f"; did you mean {near[0]}?" if near else ""
        if message.startswith("the following arguments are required"):
            message += f"; write {self.prog} mynet:loss mynet:gradient mynet:arguments"
        print(f"{colours.error(sys.stderr)} {visible(message)}; see --help", file=sys.stderr)
        raise SystemExit(BAD)


def _parser() -> argparse.ArgumentParser:
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
    limits.add_argument("--timeout", type=limit, metavar="S", help="end it after so many seconds")
    limits.add_argument("--memory", type=limit, metavar="GB", help="let it have so much memory (on Linux)")
    parser.add_argument(
        "--mistakes", action="store_true", help="list the mistakes it knows, and nothing else"
    )
    return parser


def _print(text: str) -> None:
    try:
        print(text, flush=True)
    except BrokenPipeError:  # whoever read it has seen enough; the status still tells
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _can_be_written(path: str) -> bool:
    whole = os.path.abspath(path)
    return os.path.isdir(os.path.dirname(whole)) and (os.path.isfile(whole) or not os.path.exists(whole))


def _confined(options: argparse.Namespace) -> int:
    """The same command in a process of its own, whose status it returns; raises Bad where it has none."""
    if options.memory and sys.platform != "linux":
        raise Bad("--memory: only Linux holds a process to it")
    command = [sys.executable, "-m", "jaxnn.gradcheck", options.loss, options.gradient, options.arguments]
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


def main(argv: Sequence[str] | None = None) -> int:
    """Run the comparison that the command line asks for; return the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # where a terminal has few letters, it still gets the rest
    if list(argv) == ["--mistakes"]:
        from jaxnn.gradcheck.listing import listing

        _print(listing())
        return 0
    options = _parser().parse_args(argv)
    reachable(os.getcwd())
    try:
        if options.mistakes:
            raise Bad("--mistakes lists the mistakes: it goes alone, without functions to compare")
        argnums = numbers(options.argnums or "")  # of --argnums=-- Python 3.11 makes []
        html = options.html or ""  # of --html=-- an older argparse makes a list
        if options.html is not None and (html == "--" or not _can_be_written(html)):
            raise Bad(f"--html: got {html!r}, expected a file in a folder that is there")
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
            raise Bad(str(error)) from error
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
