"""Text of a caller's, as it can be shown."""


def visible(text: str, most: int = 2000) -> str:
    r"""Text in which all letters can be seen, in one line; of one that is too long the middle is left out.

    >>> visible("a\nb\x1b[31m")
    'a\\nb\\x1b[31m'
    """
    if len(text) > most:
        text = f"{text[: most // 2]} … {text[-most // 3 :]}"
    return "".join(x if x.isprintable() else x.encode("unicode_escape").decode() for x in text)
