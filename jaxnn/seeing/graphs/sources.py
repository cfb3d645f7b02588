"""The statements that a person wrote, found by where they stand in a file."""

import ast
import bisect
import linecache
from functools import lru_cache
from typing import NamedTuple


class Statement(NamedTuple):
    """Where a statement begins, and its text in one line; of a loop or an if, its head."""

    file: str
    line: int
    column: int
    text: str


def statement(file: str, line: int, column: int) -> Statement:
    """The innermost statement at this place; its text is "" where the source cannot be had."""
    found = _statements(file, "".join(linecache.getlines(file)))
    k = bisect.bisect_right(found, (line, column), key=lambda s: (s.line, s.column)) - 1
    return found[k] if k >= 0 else Statement(file, line, 0, "")


@lru_cache(maxsize=64)
def _statements(file: str, source: str) -> list[Statement]:
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):  # no Python: a cell with magic commands, a file that is gone
        return []
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt):
            text = ast.get_source_segment(source, node) or ""
            if "\n" in text:  # as Python has it, without comments
                text = ast.unparse(node).split("\n")[0]
            found.append(Statement(file, node.lineno, node.col_offset, text))
    return sorted(found)
