"""Text that comes from a file, a name or a path, as it can be shown."""

LETTERS = 1000  # of a line


def shown(text: object, most: int = LETTERS) -> str:
    r"""Text in one line whose letters can be seen, and are not too many: the middle of others is left out.

    >>> shown("a\nb\x1b[31m")
    'a\\nb\\x1b[31m'
    >>> shown(1000 * "x" + "end", most=20)
    'xxxxxxxxxxxx … xxend'
    """
    line = str(text)
    if len(line) > most:
        end = (most - 3) // 3
        line = f"{line[: most - 3 - end]} … {line[-end:]}"
    return "".join(letter if letter.isprintable() else _escaped(letter) for letter in line)


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")
