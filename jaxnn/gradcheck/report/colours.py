"""A few colours, where the terminal has them, in the order in which Python itself asks for them."""

import os
import re

RED, GREEN, YELLOW, BOLD = "31", "32", "33", "1"
VERDICTS = {"right": GREEN, "good": GREEN, "WRONG": RED, "POOR": RED, "cannot tell": YELLOW}


def wanted(stream) -> bool:
    """Whether text for a stream is coloured: NO_COLOR forbids it, FORCE_COLOR asks for it, or a terminal.

    https://no-color.org, https://force-color.org: what they hold is not looked at, if it is not empty.
    """
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return os.environ.get("TERM") not in (None, "", "dumb") and stream.isatty()


def painted(text: str, colour: str, stream) -> str:
    """Text in a colour, if the stream shows colours."""
    return f"\x1b[{colour}m{text}\x1b[0m" if wanted(stream) else text


def error(stream) -> str:
    """The word that a line of error begins with."""
    return painted("error:", RED, stream)


def warning(stream) -> str:
    """The word that a line of warning begins with."""
    return painted("warning:", YELLOW, stream)


def verdicts(text: str, stream) -> str:
    """A report whose verdicts are coloured, if the stream shows colours."""
    words = "|".join(VERDICTS)
    return re.sub(
        rf"^((?:formula|numerics) +)({words})",
        lambda found: found[1] + painted(found[2], VERDICTS[found[2]], stream),
        text,
        flags=re.M,
    )
