"""What stands out in one's own data: nothing that is wrong, but hardly what was meant."""

import shlex
import unicodedata
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from jaxnn.datasets.found import Found, number

FEW = 3  # of a kind that are named
SHORTEST = 10  # rows, in fewer of which a count says nothing


def remarks(found: Found, labels: Sequence[str]) -> tuple[str, ...]:
    """What a person may want to know of a data set with these labels, in lines.

    >>> from jaxnn.datasets.found import Found
    >>> rows = np.array([[1.0, 7, 2.5], [2, 7, 3.5], [3, 7, 1.5], [4, 7, 9.5]])
    >>> table = Found(rows, None, str, columns=("size", "one", "mass"), places=(0, 1, 2))
    >>> remarks(table, ["cat", "Cat", "dog"])
    ("note: classes that differ in spaces or capitals alone: 'Cat' and 'cat'; are they one?", \
'note: column 2 (one) is the same in every row; to leave it out: --without one')
    """
    return tuple(f"note: {line}" for line in (*_alike(labels), *_columns(found)))


def _alike(labels: Sequence[str]) -> list[str]:
    """Labels that differ in spaces, underscores or capitals alone."""
    groups = defaultdict(list)
    for text in labels:
        if number(text) is None:
            plain = unicodedata.normalize("NFKC", text).casefold().replace("_", " ")
            groups["".join(plain.split())].append(text)
    same = [" and ".join(map(repr, sorted(texts))) for texts in groups.values() if len(texts) > 1]
    return [f"classes that differ in spaces or capitals alone: {_few(same)}; are they one?"] * bool(same)


def _columns(found: Found) -> list[str]:
    """Columns of a table with the same name, with one value, or that count its rows."""
    if not found.places:
        return []
    rows, names, lines = found.inputs, found.columns, []
    for name in dict.fromkeys(names):
        same = [place + 1 for place, other in zip(found.places, names, strict=True) if other == name]
        if name and len(same) > 1:
            numbers = " ".join(map(str, same[1:]))
            lines.append(f"{len(same)} columns are called {name}; to keep the first: --without {numbers}")
    constant, counts = rows.min(axis=0) == rows.max(axis=0), np.array([counted(column) for column in rows.T])
    for which, what in ((constant, "the same in every row"), (counts, "a number of the row, it seems")):
        there = np.flatnonzero(which)
        words = _few([_named(found, int(k)) for k in there])
        options = " ".join(_option(found, int(k)) for k in there)
        verb, it = ("is", "it") if len(there) == 1 else ("are each", "them")
        if 0 < len(there) < rows.shape[1] and len(options) < 200:
            lines.append(f"{words} {verb} {what}; to leave {it} out: --without {options}")
        elif len(there) > 0:
            lines.append(f"{len(there)} of {rows.shape[1]} columns are each {what}")
    return lines[: 2 * FEW]


def counted(column: np.ndarray) -> bool:
    """Whether a column holds whole numbers without a gap, each once, as the rows are counted.

    >>> counted(np.arange(5.0, 17)), counted(np.arange(12.0) * 2), counted(np.arange(3.0))
    (True, False, False)
    """
    N = len(column)
    if N < SHORTEST or column.max() - column.min() != N - 1:
        return False
    return bool((np.sort(column) == column.min() + np.arange(N)).all())


def _few(words: Sequence[str]) -> str:
    more = f" and {len(words) - FEW} more" if len(words) > FEW else ""
    return ", ".join(words[:FEW]) + more


def _named(found: Found, k: int) -> str:
    name = f" ({found.columns[k]})" if found.columns and found.columns[k] else ""
    return f"column {found.places[k] + 1}{name}"


def _option(found: Found, k: int) -> str:
    """A column as the options name it."""
    name = found.columns[k] if found.columns else ""
    return shlex.quote(name) if name and found.columns.count(name) == 1 else str(found.places[k] + 1)
