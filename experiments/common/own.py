"""Pieces of one's own: a network, an activation, a loss.

`--network mynet.py:net` names a Layer, or a function that returns one. The function is called with what it
asks for by the names of its parameters: n, the numbers of an example; classes; shape, that of an image;
hidden and g, what --hidden and --activation say.
"""

import argparse
import contextlib
import hashlib
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from experiments.common import synonyms
from experiments.common.arguments import Parser, UserError
from experiments.common.places import is_own, own_place, path, place
from experiments.common.suggestions import near
from jaxnn.gradcheck.calls.raised import in_full
from jaxnn.gradcheck.importing import Bad, found
from jaxnn.shown import shown

PIECES = ("network", "activation", "loss")
FEW = 8  # training examples, on which a gradient is compared
SHOWN = 12  # letters of a sha256
CALLED = {
    "Layer": {
        "init": ("key",),
        "forward": ("params", "A_prev", "key"),
        "backward": ("params", "residuals", "dA"),
    },
    "Activation": {"forward": ("Z",), "backward": ("dA", "Z", "A")},
    "Loss": {"forward": ("Z", "Y"), "backward": ("Z", "Y")},
}  # the functions of a piece, and what each is called with


def add_pieces(parser: Parser) -> None:
    """Add --network, --trust-gradient and --gradient."""
    parser.add_argument(
        "--network",
        type=own_place,
        metavar="FILE.py:name",
        help="a Layer of yours, or a function that returns one, in place of --hidden",
    )
    parser.add_argument(
        "--trust-gradient", action="store_true", help="do not compare the backward of a piece of yours first"
    )
    parser.add_argument(
        "--gradient",
        choices=("manual", "autodiff"),
        default="manual",
        help="written by hand, or by jax.grad; default: %(default)s",
    )


def files(settings: dict) -> dict[str, str]:
    """The sha256 of the file of each piece that is one's own. Raises UserError where there is none."""
    found = {name: _file(name, settings[name]) for name in PIECES if is_own(settings.get(name))}
    return {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in found.items()}


def unchanged(settings: dict, where: Path, instead: str = "train anew") -> None:
    """Raise UserError unless the files of a run's pieces are those that it began with."""
    now, then = files(settings), settings.get("files")
    for name, sha256 in now.items():
        before = str(then.get(name)) if isinstance(then, dict) else ""
        if before != sha256:
            before = f"{before[:SHOWN]}…" if re.fullmatch("[0-9a-f]{64}", before) else "not known"
            raise UserError(
                f"{where}: its {name} is {settings[name]}, and that file is another one now (sha256 "
                f"{sha256[:SHOWN]}…, then {before}); bring back the one it began with, or {instead}"
            )


def piece(option: str, name, kind: type, home) -> Any:
    """The activation or loss of that name: of the module `home`, or one's own. Raises UserError."""
    found = _found(option, name) if is_own(name) else getattr(home, str(name), None)
    if isinstance(found, kind):
        for function, parameters in CALLED[kind.__name__].items():
            _check_call(f"--{option}: {name}", function, getattr(found, function), parameters)
        return found
    if is_own(name):
        raise UserError(f"--{option}: {name}: got {type(found).__name__}, expected {_a(kind)}")
    raise UserError(f"{option}: got {str(name)[:40]!r}, expected one of {home.__name__}")


def network(arguments: argparse.Namespace, kind: type, offered: dict):
    """The network of one's own, a Layer, which is `kind`; of a function with what it asks for.

    Raises UserError where it gives something else, or does not ask for what was given.
    """
    name = arguments.network
    net = _found("network", name)
    if isinstance(net, kind):
        if strangers := {"hidden", "widths", "activation"} & arguments.given:
            raise UserError(f"--{min(strangers)}: {name} is a layer already, and does not ask for it")
        check_calls(name, net)
        return net
    with raised_by(name):
        net = net(**_asked(arguments, net, offered))
    if not isinstance(net, kind):
        raise UserError(f"--network: {name} gives {type(net).__name__}, expected {_a(kind)}{_instead(net)}")
    check_calls(name, net)
    return net


def check_calls(name: str, net) -> None:
    """Raise UserError where a function of a layer cannot be called as it will be."""
    for function, parameters in CALLED["Layer"].items():
        _check_call(f"--network: {name}", f"{function} of {net}", getattr(net, function), parameters)
    for layer in net.layers:
        check_calls(name, layer)


def _check_call(where: str, what: str, function, parameters: tuple[str, ...]) -> None:
    """Raise UserError where a function does not take so many."""
    expected = ", ".join(parameters).replace(", key", ", key=None")
    if not callable(function):
        got = type(function).__name__
        raise UserError(f"{where}: {what} is {got}, expected a function of ({expected})")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(*parameters)
    except TypeError:
        raise UserError(f"{where}: {what} takes {signature}, expected ({expected})") from None


def _instead(net) -> str:
    """What to write where a function gives this in place of a network."""
    if net is None:
        return "; write return before it"
    if isinstance(net, list | tuple) and not hasattr(net, "_fields"):
        return "; write serial(*layers) of them"
    if callable(net):
        return f"; call it, with its sizes: {getattr(net, '__name__', 'it')}(…)"
    return ""


@contextlib.contextmanager
def raised_by(name: str) -> Iterator[None]:
    """Within it, what one's own network raises is a UserError."""
    try:
        yield
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        from jaxnn.layers import ShapeError

        why = f"{error}{_fixed(name)}" if isinstance(error, ShapeError) else in_full(error)
        raise UserError(f"--network: {name}: {why}") from error


def _fixed(name: str) -> str:
    """What to write where a network does not ask for the numbers of an example."""
    net = _found("network", name)
    if callable(net) and "n" in inspect.signature(net).parameters:
        return ""
    return f"; write def {name.rpartition(':')[2]}(n, classes): n is how many numbers an example has"


def tell(settings: dict) -> None:
    """Print what is to say of the pieces of a run that are one's own."""
    for name, sha256 in settings.get("files", {}).items():
        print(f"own       {name} {settings[name]}, sha256 {sha256[:SHOWN]}…")
    if "compared" in settings:
        print(f"          its backward, beside autodiff: {settings['compared']}")


def lecture_only(
    settings: dict, where: Path, what: str, pieces: tuple[str, ...] = ("network",), instead: str = ""
) -> None:
    """Raise UserError where a run has such pieces of its own, which `what` does not know."""
    for name in pieces:
        if is_own(settings.get(name)):
            raise UserError(
                f"{where}: its {name} is {settings[name]!r:.80}; {what} knows the lecture's alone; write "
                + (instead or f"python -m experiments.predict {shown(where)}")
            )


def _file(option: str, name) -> Path:
    if not is_own(name):
        raise UserError(f"{option}: got {str(name)[:40]!r}, expected FILE.py:name, such as mynet.py:net")
    try:
        return path(place(name).rpartition(":")[0])
    except argparse.ArgumentTypeError as error:
        raise UserError(f"--{option}: {error}") from error


def _found(option: str, name: str):
    _file(option, name)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # what it prints is no part of the output
            return found(re.sub(r"^experiments/(\w+)\.py:", r"experiments.\1:", place(name)))
    except Bad as error:
        raise UserError(f"--{option}: {error}") from error


def _asked(arguments: argparse.Namespace, function, offered: dict) -> dict:
    """What a function asks for of what is offered."""
    name = arguments.network
    if not callable(function):
        raise UserError(f"--network: {name} is {type(function).__name__}, expected a Layer or a function")
    asked = inspect.signature(function).parameters.values()
    needed = {
        p.name for p in asked if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    }
    if unknown := sorted(needed - offered.keys()):
        meant = near(unknown[0], offered, synonyms.PARAMETERS)[:1]
        advice = (
            f"; did you mean {meant[0]} by {unknown[0]}?" if meant else f"; or write {unknown[0]}=1 in it"
        )
        raise UserError(
            f"--network: {name} asks for {', '.join(unknown)}, expected {', '.join(offered)}{advice}"
        )
    given = {name: value for name, value in offered.items() if name in {p.name for p in asked}}
    for option, word in (("hidden", "hidden"), ("widths", "hidden"), ("activation", "g")):
        if option in arguments.given and word not in given:
            raise UserError(f"--{option}: {name} does not ask for it, by a parameter called {word}")
    return given


def _a(kind: type) -> str:
    written = ", ".join(name for name in kind._fields if name not in kind._field_defaults)
    return f"a {kind.__module__}.{kind.__name__}({written})"


def activation_of(settings: dict):
    """The Activation of a run. Raises UserError if its settings name none."""
    from jaxnn import activations

    return piece("activation", settings["activation"], activations.Activation, activations)


def loss_of(settings: dict):
    """The Loss of a run. Raises UserError if its settings name none."""
    from jaxnn import losses

    return piece("loss", settings.get("loss"), losses.Loss, losses)


def pieces_of(arguments: argparse.Namespace, checkpoint, compare: Callable[[str], str]) -> dict:
    """Of pieces of one's own: their files, and what the comparison of the backward says, which is printed.

    Raises UserError, before anything is written, where it is wrong.
    """
    found = files(vars(arguments))
    if not found:
        return {}
    before = checkpoint.progress["settings"] if checkpoint else {}
    if before.get("files") == found:
        said = before.get("compared")
    elif arguments.gradient == "autodiff":
        said = "not used: the gradient is jax.grad's"
    elif arguments.trust_gradient:
        said = "trusted, not compared"
    else:
        print(f"comparing the backward with autodiff, on {FEW} training examples")
        said = compare(", ".join(getattr(arguments, name) for name in found))
    return {"files": found, "compared": said}
