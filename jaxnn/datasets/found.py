"""What a reader finds in one's own files, before it is coded as X and Y."""

import contextlib
import math
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Integer, Shaped

from jaxnn.datasets.files import DatasetError, quoted

LONGEST = 100  # letters of a label


class Labels(NamedTuple):
    """Of each example which of the texts is its label: labels are few, examples are many."""

    codes: Integer[np.ndarray, "N"]
    texts: list[str]


class Found(NamedTuple):
    """N inputs: rows of numbers, or images; with their labels, if they have some."""

    inputs: Shaped[np.ndarray, "N *size"]
    labels: Labels | None
    at: Callable[[int], str]  # where an example stands, in words: the row of a file
    said: tuple[str, ...] = ()  # how it was read
    columns: tuple[str, ...] = ()  # as in Coding, as the following
    places: tuple[int, ...] = ()
    width: int = 0
    label: str = "the label"
    label_place: int = 0
    resized: tuple[int, ...] = ()
    white: float = 0.0  # the largest pixel that there can be; 0: the largest that there is


def number(text: str) -> float | None:
    """The finite number that a text is, or None.

    >>> number(" 1.5"), number("nan"), number("1_0"), number("x")
    (1.5, None, None, None)
    """
    with contextlib.suppress(ValueError):
        value = float(text)
        if math.isfinite(value) and "_" not in text:
            return value
    return None


def such_as(text: str) -> str:
    """How to write an amount, such as 1,200 km or 5 %, as a number; nothing where it is none.

    >>> such_as("1,200.5 kg"), such_as("v2")
    (', such as 1200.5', '')
    """
    amount = re.sub(r"(?<=[\d.,])\s*[^\W\d_]{1,4}[²³]?(/[^\W\d_]{1,3}[²³]?)?$", "", text.strip("%$€£ \xa0"))
    bare = re.sub(r"(?<=\d)[.,' ](?=\d{3}(\D|$))", "", amount).replace(",", ".")
    return f", such as {bare}" if number(bare) is not None else ""


def plain(text: str) -> str:
    """A label that is a number as it is usually written, so that 1, 1.0 and 01 are one class.

    >>> plain("1.0"), plain("01"), plain("2.50"), plain("setosa")
    ('1', '1', '2.5', 'setosa')
    """
    value = number(text)
    if value is None:
        return text
    return str(int(value)) if value.is_integer() else repr(value)


def labelled(where: str, texts: Sequence[str], at: Callable[[int], str]) -> Labels:
    """The labels of examples. Raises DatasetError where one is missing, too long, or cannot be printed."""
    numbers: dict[str, int] = {}
    codes = np.fromiter((numbers.setdefault(text, len(numbers)) for text in texts), np.int64, len(texts))
    for text, k in numbers.items():
        if not text or len(text) > LONGEST or not text.isprintable():
            i = int(np.argmax(codes == k))
            got = f"{len(text):,} letters" if len(text) > LONGEST else quoted(text) if text else "nothing"
            expected = f"a label of at most {LONGEST} letters that can be printed"
            raise DatasetError(f"{where}: {at(i)}: got {got}, expected {expected}")
    return Labels(codes, list(numbers))
