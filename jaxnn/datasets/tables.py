"""Tables: CSV files, with a header or without, between whose columns stands a comma, a semicolon or a tab."""

import contextlib
import csv
import difflib
import io
import itertools
import shlex
from array import array
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from jaxnn.datasets.dataset import Coding
from jaxnn.datasets.files import DatasetError, quoted, shown
from jaxnn.datasets.found import Found, labelled, number, such_as

BYTE_ORDER_MARKS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}  # others: utf-8, with one or without
SEPARATORS = {"\t": "a tab", ";": "a semicolon", ",": "a comma"}
MISSING = {"", "na", "n/a", "nan", "null", "none", "?", "-", "."}
LONGEST = 10_000_000  # letters of a row: a million numbers
LARGEST = 1e300  # of a number: the difference of two is finite


class Columns(NamedTuple):
    """Which columns of a table are taken for what."""

    places: tuple[int, ...]  # of the inputs
    label: int | None  # place
    names: tuple[str, ...]  # of all columns; () without a header
    width: int

    def name(self, place: int) -> str:
        """A column in words: its number, counted from 1, and its name."""
        return f"column {place + 1}" + (f" ({shown(self.names[place])})" if self.names else "")

    def option(self, place: int) -> str:
        """A column as the options name it, for a shell."""
        name = self.names[place] if self.names else ""
        return shlex.quote(name) if name and self.names.count(name) == 1 else str(place + 1)


def read(
    where: str, content: bytes, label: str | None, without: Sequence[str], known: Coding | None = None
) -> Found:
    """The numbers and labels of a table; `label` and `without` are names of columns, or numbers from 1 on.

    `known` is the coding of the training data, whose columns are looked for: the label may be missing then.
    Raises DatasetError, which names the row and the column of the first fault; rows are counted from 1, the
    header included.
    """
    encoding = BYTE_ORDER_MARKS.get(content[:2], "utf-8-sig")
    separator = separator_of(where, content, encoding)
    two = [*itertools.islice(records(where, content, encoding, separator), 2)]
    if not two:
        raise DatasetError(f"{where}: got no rows, expected a table")
    (start, first), (_, second) = two[0], two[-1]
    if (
        len(two) == 1
        and len(first) > 1
        and all(cell.strip() and number(cell.replace(",", ".")) is None for cell in first)
    ):
        raise DatasetError(
            f"{where}: got the names of {len(first)} columns in row {start} alone, expected rows of numbers "
            "below them, one for each example"
        )
    has_header = len(two) > 1 and is_header(first, second)
    names = tuple(shown(name.strip(), 200) for name in first) if has_header else ()
    if known:
        columns = _again(where, names, len(first), known)
    else:
        columns = _chosen(where, names, len(first), label, without, _between(where, first))
    values, labels, rows, seen = array("d"), [], array("q"), {}
    decimal = Decimal(separator)
    for row, cells in itertools.islice(records(where, content, encoding, separator), has_header, None):
        if len(cells) != columns.width:
            raise DatasetError(
                f"{where}: row {row}: got {len(cells)} columns, expected {columns.width} as in row {start}"
                + _to_even(cells, columns.width, separator)
            )
        if cells == first and has_header:
            raise DatasetError(f"{where}: row {row}: got the names of the columns once more; delete that row")
        try:
            values.frombytes(decimal.numbers([cells[place] for place in columns.places]).tobytes())
        except ValueError as error:
            k, expected = error.args
            place = columns.places[k]
            wrong = _wrong(columns, place, cells, expected)
            if not (rows or expected or known):
                wrong += _to_choose(columns, cells, label is None)
            elif wrong.endswith("a number") and not known:
                wrong += f"; to leave the column out: --without {columns.option(place)}"
            raise DatasetError(f"{where}: row {row}, {columns.name(place)}: {wrong}") from None
        rows.append(row)
        if columns.label is not None:
            text = cells[columns.label].strip()
            labels.append(seen.setdefault(text, text))
    if not rows:
        raise DatasetError(f"{where}: got no row of numbers, expected one for each example")

    labels = decimal.plain(labels)

    def at(i: int) -> str:
        return f"row {rows[i]}"

    label_name = "" if columns.label is None else columns.name(columns.label)
    header = "the names of its columns in row 1" if names else "no names of its columns"
    commas = ", decimal commas" if decimal.comma else ""
    how = (f"read with {header}, {SEPARATORS[separator]} between them{commas}",)
    if label is None and columns.label is not None and not known and columns.label < columns.width - 1:
        how += (f"its label is {label_name}, the last column that is not left out",)
    return Found(
        np.frombuffer(values).reshape(len(rows), -1),
        labelled(f"{where}: {label_name}", labels, at) if labels else None,
        at,
        how,
        tuple(names[place] for place in columns.places) if names else (),
        columns.places,
        columns.width,
        (names[columns.label] if names else label_name) if columns.label is not None else "",
        columns.width if columns.label is None else columns.label,
    )


def records(where: str, content: bytes, encoding: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not empty, each with its number. Raises DatasetError where a file is no CSV."""
    text = io.TextIOWrapper(io.BytesIO(content), encoding, newline="")
    row = length = 0

    def lines() -> Iterator[str]:
        nonlocal length
        while line := text.readline(LONGEST + 1):
            length += len(line)
            if length > LONGEST:
                raise DatasetError(f"{where}: row {row + 1}: got more than {LONGEST:,} letters in one row")
            yield line

    try:
        rows = csv.reader(lines(), delimiter=separator, strict=True, skipinitialspace=True)
        for row, cells in enumerate(rows, start=1):
            length = 0
            if any(map(str.strip, cells)):
                yield row, cells
    except csv.Error as error:
        why = f"{where}: row {row + 1}: got text that is no CSV ({shown(error, 100)})"
        raise DatasetError(f"{why}; expected quotes around a whole field, or none") from error
    except UnicodeError as error:
        name = shlex.quote(where)
        raise DatasetError(
            f"{where}: row {row + 1} or soon after it: got bytes that are no UTF-8, expected UTF-8; if it is "
            f"Latin-1 or Windows-1252: iconv -f WINDOWS-1252 -t UTF-8 {name} > utf8.csv"
        ) from error


def separator_of(where: str, content: bytes, encoding: str) -> str:
    """What stands between columns: it makes as many of the first row as of the second, and two at least."""

    def widths(separator: str) -> list[int]:
        with contextlib.suppress(DatasetError):
            return [
                len(cells) for _, cells in itertools.islice(records(where, content, encoding, separator), 2)
            ]
        return []

    found = {separator: widths(separator) for separator in SEPARATORS}
    several = [separator for separator in SEPARATORS if found[separator] and found[separator][0] > 1]
    return next((s for s in several if found[s][0] == found[s][-1]), several[0] if several else ",")


def is_header(first: Sequence[str], second: Sequence[str]) -> bool:
    """Whether the first row of a table names its columns, rather than being an example.

    It does if most of what stands above numbers is text, or all that stands there; or if nothing is a number
    below, and it has no digit; or if it counts the columns, as programs do.

    >>> is_header(["height", "width", "kind"], ["1", "2", "a"])
    True
    >>> is_header(["1", "?", "a"], ["1", "2", "a"])
    False
    >>> is_header(["", "", "width", "kind"], ["1", "2", "3", "a"])
    True
    >>> is_header(["price", "area"], ["1.000,00", "5 %"])
    True
    >>> is_header(["0", "1", "2", "3"], ["5.1", "3.5", "1.4", "a"])
    True
    """
    cells = [cell.strip() for cell in first]
    if len(cells) > 3 and cells == [str(k) for k in range(len(cells))]:
        return True
    above = [a for a, b in zip(cells, second, strict=False) if number(b.replace(",", ".")) is not None]
    if not above:
        return all(cells) and not any(map(str.isdigit, "".join(cells)))
    text = [a for a in above if number(a.replace(",", ".")) is None and a.lower() not in MISSING]
    return 2 * len(text) > len(above) or (text != [] and len(text) == len([a for a in above if a]))


class Decimal:
    """Reads numbers with a point; or with a comma, where the file has no point in a number."""

    def __init__(self, separator: str):
        """Of a file with this between its columns: where it is a comma, no number has one."""
        self.maybe, self.comma, self.point = separator != ",", False, False

    def numbers(self, cells: list[str]) -> np.ndarray:
        """The numbers in cells. Raises ValueError, with the place of the first that is none, and its form."""
        joined = "\0".join(cells)
        if not ("_" in joined or (self.maybe and "," in joined) or (self.comma and "." in joined)):
            self.point |= "." in joined
            with contextlib.suppress(ValueError):
                values = np.array([*map(float, cells)])
                if (np.abs(values) < LARGEST).all():
                    return values
        return np.array([self._number(k, cell) for k, cell in enumerate(cells)])

    def plain(self, labels: list[str]) -> list[str]:
        """Labels with a decimal point, if all of them are numbers and some have a comma in its place."""
        if self.point or not self.maybe or not any("," in label for label in labels):
            return labels
        found = [label.replace(",", ".") for label in labels]
        return labels if any(number(label) is None for label in found) else found

    def _number(self, k: int, cell: str) -> float:
        comma = self.maybe and "," in cell
        value = number(cell.replace(",", ".") if comma else cell)
        if value is None:
            raise ValueError(k, "")
        if abs(value) >= LARGEST:
            raise ValueError(k, f"a number below {LARGEST:g}")
        if comma and self.point:
            raise ValueError(k, "a decimal point, as in the numbers before it")
        if self.comma and "." in cell:
            raise ValueError(k, "a decimal comma, as in the numbers before it, and no point")
        self.comma, self.point = self.comma or comma, self.point or "." in cell
        return value


def _wrong(columns: Columns, place: int, cells: Sequence[str], expected: str) -> str:
    """What to say of a cell that holds no number."""
    cell = cells[place].strip()
    line = f"got {quoted(cell) if cell else 'nothing'}, expected {expected or 'a number'}"
    if expected:
        return line
    if cell.lower().strip("+-") in MISSING | {"inf", "infinity"}:
        leave = f"--without {columns.option(place)}"
        return f"{line}; put one there, delete the row, or leave the column out: {leave}"
    if number(cell.replace(",", ".")) is not None:
        return f"{line} with a decimal point (or a semicolon between the columns)"
    return f"{line}{such_as(cell)}"


def _to_even(cells: Sequence[str], width: int, separator: str) -> str:
    """What to do with a row of another number of columns."""
    text = separator.join(cells)
    for other, name in SEPARATORS.items():
        if other != separator and text.count(other) == width - 1:
            return f"; write {SEPARATORS[separator]} in it where {name} stands between columns"
    if len(cells) < width:
        return f"; put in {SEPARATORS[separator]} for each that is missing, or delete the row"
    if separator == ",":
        return "; what has a comma of its own stands in quotes, a number with a point"
    return f"; what has {SEPARATORS[separator]} of its own stands in quotes"


def _to_choose(columns: Columns, cells: Sequence[str], label: bool) -> str:
    """What to do with columns of text: they are no inputs; one of them may be the label, if that is open."""
    text = [
        place
        for place in columns.places
        if cells[place].strip().lower() not in MISSING and number(cells[place].replace(",", ".")) is None
    ]
    if not text:
        return ""
    options = [*map(columns.option, text)]
    leave = f"; to leave out what is text: --without {shown(' '.join(options), 120)}"
    return (f"; if {columns.name(text[0])} is the label: --label {options[0]}" if label else "") + leave


def _place(where: str, option: str, text: str, names: tuple[str, ...], width: int) -> int:
    """Where the column of that name, or of that number, stands."""
    if names.count(text) > 1:
        numbers = " and ".join(str(k + 1) for k, name in enumerate(names) if name == text)
        raise DatasetError(f"{option}: got {quoted(text)}, the name of columns {numbers}; write its number")
    if text in names:
        return names.index(text)
    if _is_place(text, names, width):
        return int(text) - 1
    there = f"1 to {width}" + (f", or a name: {shown(', '.join(names), 200)}" if names else "")
    alike = difflib.get_close_matches(text, names, 1)
    meant = f"; did you mean {alike[0]!r}?" if alike else ""
    if not names:
        meant = "; its first row is taken for an example, since it holds numbers"
    raise DatasetError(f"{option}: got {quoted(text)}, expected a column of {where}: {there}{meant}")


def split(text: str) -> list[str]:
    """The names in a text with commas between them."""
    return [part.strip() for part in text.split(",") if part.strip()]


def _between(where: str, first: Sequence[str]) -> str:
    """How to put commas in the place of what else stands between the columns of a row."""
    text = first[0].strip() if len(first) == 1 else ""
    if text.startswith("#"):
        return f"; to leave out rows of remarks: grep -v '^#' {shlex.quote(where)} > plain.csv"
    for mark, ask in (("|", "tr '|' ','"), (" ", "tr -s ' ' ','"), (":", "tr ':' ','")):
        if len([part for part in text.split(mark) if part]) > 1:
            return f"; to put commas there: {ask} < {shlex.quote(where)} > commas.csv"
    return ""


def _is_place(text: str, names: tuple[str, ...], width: int) -> bool:
    """Whether a text is the name of a column, or its number."""
    return text in names or (text.isascii() and text.isdigit() and len(text) < 9 and 1 <= int(text) <= width)


def _chosen(
    where: str,
    names: tuple[str, ...],
    width: int,
    label: str | None,
    without: Sequence[str],
    between: str = "",
) -> Columns:
    """The columns as they are asked for: the label is the last of them, if it is not named."""
    parts = [part for text in without for part in ([text] if text in names else split(text))]
    if parts != [*without] and all(_is_place(part, names, width) for part in parts):
        got, many = shown(" ".join(without), 80), shown(" ".join(map(shlex.quote, parts)), 200)
        raise DatasetError(f"--without: got '{got}', with commas; write --without {many}")
    if (whole := " ".join(without)) in names and len(without) > 1:
        raise DatasetError(
            f"--without: got {whole}; the name of a column with a space is quoted: "
            f"write --without {shown(shlex.quote(whole), 200)}"
        )
    left_out = {_place(where, "--without", text, names, width) for text in without}
    rest = [place for place in range(width) if place not in left_out]
    chosen = _place(where, "--label", label, names, width) if label is not None else max(rest, default=0)
    if label is not None and chosen in left_out:
        raise DatasetError(f"--label, --without: got {quoted(label)} in both, expected it in one")
    places = tuple(place for place in rest if place != chosen)
    if not places and left_out and width > 1:
        raise DatasetError(
            f"--without: got {len(left_out)} of the {width} columns of {where}, expected two left at least: "
            "one of numbers and a label"
        )
    if not places:
        raise DatasetError(
            f"{where}: got {width - len(left_out)} of its columns to use, expected two at least: one of "
            f"numbers and a label, with a comma, a semicolon or a tab between them{between}"
        )
    return Columns(places, chosen, names, width)


def _again(where: str, names: tuple[str, ...], width: int, known: Coding) -> Columns:
    """The columns of the training data in another table: by their names, or without names by their places."""
    if all(there and len(set(there)) == len(there) for there in (names, known.columns)):
        missing = [name for name in known.columns if name not in names]
        if missing:
            others = [name for name in names if name not in (*known.columns, known.label)]
            alike = difflib.get_close_matches(missing[0], others, 1)
            meant = f"; did you mean {missing[0]!r} by {alike[0]!r}?" if alike else ""
            raise DatasetError(
                f"{where}: got no column {missing[0]!r}, which the training data have; there are "
                f"{shown(', '.join(names), 200)}{meant}; expected all of the training's"
            )
        label = names.index(known.label) if known.label in names else None
        return Columns(tuple(names.index(name) for name in known.columns), label, names, width)
    if not known.places:  # the training data were arrays
        if len(known.shape) > 1:
            raise DatasetError(f"{where}: got a table, expected images as in the training data")
        n = known.shape[0] if known.shape else 1
        known = known._replace(places=tuple(range(n)), width=n + 1)
        known = known._replace(label_place=known.width - 1)
    if width == known.width:
        return Columns(known.places, known.label_place, names, width)
    if width == len(known.places):
        return Columns(tuple(range(width)), None, names, width)
    if width == known.width - 1:
        places = tuple(place - (place > known.label_place) for place in known.places)
        return Columns(places, None, names, width)
    raise DatasetError(
        f"{where}: got {width} columns, expected {known.width} as in the training data, or without the label "
        f"{known.width - 1}"
    )
