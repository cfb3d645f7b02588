"""The statements that a person wrote, found by where they stand in a file."""

import ast
import bisect
import io
import linecache
import re
import tokenize
from functools import lru_cache
from typing import NamedTuple


class Statement(NamedTuple):
    """Where a statement begins, and its text in one line, without comments; of a loop or an if, its head."""

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
            found.append(Statement(file, node.lineno, node.col_offset, in_a_line(_head(node, source))))
    return sorted(found)


def _head(node: ast.stmt, source: str) -> str:
    inner = next((n for n in ast.walk(node) if isinstance(n, ast.stmt) and n is not node), None)
    if inner is None:
        return ast.get_source_segment(source, node) or ""
    return "\n".join(source.splitlines()[node.lineno - 1 : max(node.lineno, inner.lineno - 1)])


def in_a_line(code: str) -> str:
    """Code in one line, without comments.

    >>> in_a_line("Z = (  # a row an example\\n    X @ W.T\\n    + b.T\\n)")
    'Z = (X @ W.T + b.T)'
    """
    lines = code.splitlines()
    try:
        for token in tokenize.generate_tokens(io.StringIO(code).readline):
            if token.type == tokenize.COMMENT:
                lines[token.start[0] - 1] = lines[token.start[0] - 1][: token.start[1]]
    except (tokenize.TokenError, SyntaxError):
        pass  # the head of a loop has no body: all its comments have been seen
    joined = " ".join(filter(None, (line.rstrip("\\").strip() for line in lines)))
    return joined if len(lines) == 1 else re.sub(r"(?<=[(\[{]) |,? (?=[)\]}])", "", joined)
