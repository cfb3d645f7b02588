"""A text to learn from, as numbers; and how many of the words of another one stand in it."""

import hashlib
import re
import shlex
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.common import own_data
from experiments.common.arguments import UserError
from experiments.common.status import doing
from jaxnn.shown import shown

PYTHONS = "pydoc_data.topics"  # of the Python that runs: the manual of the language
FEW = 4  # letters of a word that counts


class Text(NamedTuple):
    """A text, and the different letters of it, sorted: each is the number of its place among them."""

    name: str
    whole: str
    letters: str

    def numbers(self, text: str) -> np.ndarray:
        """A text of these letters as numbers. Raises UserError where there is another."""
        found = {letter: k for k, letter in enumerate(self.letters)}
        if strangers := set(text) - found.keys():
            raise UserError(f"--prompt: got {min(strangers)!r}, which is no letter of {shown(self.name)}")
        return np.array([found[letter] for letter in text], np.int32)

    def __str__(self) -> str:
        """Which text it is."""
        return f"{self.name}, sha256 {hashlib.sha256(self.whole.encode()).hexdigest()}"


def read(file: str | None, least: int) -> Text:
    """The text of a file, or Python's own. Raises UserError where it is none, or of fewer letters."""
    doing(f"reading {file or PYTHONS}")
    if file:
        own_data.check_there("--text", file)
    name, whole = (file, _content(file)) if file else (PYTHONS, _pythons())
    different = sorted(set(whole))
    if len(whole) < least or len(different) < 2:
        places = len(whole) // 10 - 1  # for which it is long enough
        raise UserError(
            f"--text: {shown(name)}: got {len(whole):,} characters, {len(different)} of them different; "
            f"expected {least:,} at least, ten times what is seen at once, and 2 different"
            + f"; write --places {places}"
            * (places > 0 and len(different) > 1)
        )
    return Text(name, whole, "".join(different))


def _content(file: str) -> str:
    from jaxnn.datasets import files

    found, name = files.content(Path(file)), files.named(Path(file))
    try:
        whole = found.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        why = f"byte {error.start:,} is not of UTF-8"
        convert = f"iconv -f WINDOWS-1252 -t UTF-8 {shlex.quote(name)} > utf8.txt"
        raise UserError(f"--text: {name}: {why}, expected UTF-8; if it is Latin-1: {convert}") from error
    if "\0" in whole:
        raise UserError(f"--text: {name}: character {whole.index(chr(0)):,} is 0; expected a text")
    return whole


def _pythons() -> str:
    from pydoc_data.topics import topics

    return "\n\n".join(topics[name].strip() for name in sorted(topics))


def pieces(numbers: np.ndarray, T: int, most: int) -> np.ndarray:
    """Pieces of T + 1 characters, each of which begins with the last one of the piece before it.

    Where they would be too many, they are spread over the whole.

    >>> pieces(np.arange(8), 3, 9)
    array([[0, 1, 2, 3],
           [3, 4, 5, 6]])
    """
    first = T * np.arange((len(numbers) - 1) // T)
    if len(first) > most:
        first = first[np.linspace(0, len(first) - 1, most).astype(int)]
    return numbers[first[:, None] + np.arange(T + 1)[None]]


def share(sample: str, text: str) -> str:
    """How many of the longer words of a sample stand in a text; one at its end may be cut off.

    >>> share("the trees and the threes stand, stan", "and the three trees stand")
    '66.7 % of 3 with 4 letters or more stand in the text'
    """
    known = {*re.findall(r"[^\W\d_]+", text)}
    words = [word for word in re.findall(r"[^\W\d_]+(?!\Z|[^\W\d_])", sample) if len(word) >= FEW]
    part = f"{100 * sum(word in known for word in words) / len(words):.1f} % of " if words else ""
    return f"{part}{len(words)} with {FEW} letters or more stand in the text"
