"""What the caller's own functions raise: whole, and at which line of theirs. Imports no jax."""

import os
import sysconfig
import traceback

from jaxnn.gradcheck.visible import visible

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep  # of gradcheck
LIBRARIES = tuple(
    sysconfig.get_path(kind) + os.sep for kind in ("stdlib", "platstdlib", "purelib", "platlib")
)


def in_full(error: BaseException) -> str:
    """What an exception is and says, in one line, and where the caller's code raised it.

    Where it is shown as a cause, its traceback begins with that code.

    >>> try:
    ...     int("seven")
    ... except ValueError as error:
    ...     print(in_full(error))
    ValueError: invalid literal for int() with base 10: 'seven' (<doctest ...>:2, in <module>)
    """
    text = visible(" ".join(said_by(error).split()))
    calls = error.__traceback__
    while calls and calls.tb_frame.f_code.co_filename.startswith(HERE):
        calls = calls.tb_next
    error.__traceback__ = calls or error.__traceback__
    return f"{type(error).__name__}{': ' * bool(text)}{text}{place(error)}"


def said_by(error: BaseException) -> str:
    """What an exception says, where it can be told."""
    try:
        return str(error)
    except Exception:  # whatever a class of the caller's raises
        return ""


def place(error: BaseException) -> str:
    """Where it was raised: the innermost line outside gradcheck, and outside libraries if there is one."""
    calls = [
        (frame.f_code.co_filename, line, frame.f_code.co_name)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if not frame.f_code.co_filename.startswith((HERE, "<frozen"))
    ]
    own = [call for call in calls if not call[0].startswith(LIBRARIES)] or calls
    return f" ({os.path.basename(own[-1][0])}:{own[-1][1]}, in {own[-1][2]})" if own else ""
