"""Where a piece of one's own stands: `mynet.py:net`, in a file of the current folder. Imports no jax."""

import argparse
import os
import re
import sys
from pathlib import Path

from experiments.common.suggestions import files_near

WORD = r"[^\W\d]\w*"


class OrOwn(tuple):
    """Names to choose from; a place of one's own is good beside them."""

    def __contains__(self, name) -> bool:
        """Whether it is one of them, or a place."""
        return super().__contains__(name) or is_own(name)


def is_own(name) -> bool:
    """Whether it is a place.

    >>> is_own("mynet.py:net"), is_own("sigmoid")
    (True, False)
    """
    return isinstance(name, str) and ":" in name


def place(text: str) -> str:
    """The type of a place, written as `mynet.py:net` or `mynet:net`; of another name, the name itself.

    No other folder is looked into, but for that of the programs: a run that is read again runs no code from
    elsewhere.
    """
    if not is_own(text):
        return text
    found = re.fullmatch(rf"((?:experiments/)?{WORD})(?:\.py)?:({WORD}(?:\.{WORD})*)", text)
    if not found:
        meant = re.search(rf"({WORD})(?:\.py)?\s*[:#]+\s*({WORD})\s*(?:\(.*\))?\s*$", text)
        if meant and os.path.isfile(f"{meant[1]}.py"):
            raise argparse.ArgumentTypeError(f"got {text[:80]!r}; did you mean {meant[1]}.py:{meant[2]}?")
        raise argparse.ArgumentTypeError(
            f"got {text[:80]!r}, expected FILE.py:name, such as mynet.py:net, of a file in the current folder"
        )
    file = f"{found[1]}.py"
    if found[1] in sys.stdlib_module_names:
        raise argparse.ArgumentTypeError(
            f"{file} bears the name of a module of Python itself, which others import: rename the file"
        )
    if not os.path.isfile(path(file)):
        near = [str(one) for one in files_near(Path(file), ".py")]
        advice = f"; did you mean {near[0]}:{found[2]}?" if near else ", expected FILE.py:name of one that is"
        raise argparse.ArgumentTypeError(
            f"got {text[:80]!r}, but there is no {file} in the current folder{advice}"
        )
    return f"{file}:{found[2]}"


def path(file: str) -> Path:
    """Where a file lies: in the current folder, but for one of the programs."""
    return Path(__file__).parents[2] / file if file.startswith("experiments/") else Path(file)


def own_place(text: str) -> str:
    """The type of a place alone."""
    if not is_own(text):
        dotted = re.fullmatch(rf"({WORD})[./]({WORD})(?:\(.*\))?", text)
        dotted = dotted or re.fullmatch(rf"({WORD})\.py[#.]({WORD})", text)
        instead = "expected FILE.py:name, such as mynet.py:net"
        if text.endswith(".py") or os.path.isfile(f"{text}.py"):
            instead = f"write {text[:80]}:NAME, the name of what it is in that file"
        elif dotted and os.path.isfile(f"{dotted[1]}.py"):
            instead = f"did you mean {dotted[1]}.py:{dotted[2]}?"
        raise argparse.ArgumentTypeError(f"got {text[:80]!r}, {instead}")
    return place(text)
