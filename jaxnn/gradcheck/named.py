"""What a command line names: a module's function, its arguments, numbers. It imports what a person names."""

import contextlib
import importlib
import importlib.util
import os
import sys
from operator import attrgetter
from typing import Any

from jaxnn.gradcheck.calls.raised import in_full


class Bad(Exception):
    """What is wrong with the command line, in a sentence."""


def found(place: str) -> Any:
    """The object that "module:name" or "file.py:name" names; raises Bad."""
    home, colon, name = place.rpartition(":")
    if not colon or not home or not name:
        raise Bad(f"{place!r} names no object: write module:name, such as mynet:loss")
    try:
        module = _loaded(home)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a test's module that is skipped, or a script that exits
        raise Bad(f"cannot import {home}: {in_full(error)}") from error
    try:
        return attrgetter(name)(module)
    except AttributeError:
        names = [n for n in dir(module) if not n.startswith("_")]
        raise Bad(f"{home} has no {name}; it has {', '.join(names[:12]) or 'nothing'}") from None


def called(place: str) -> tuple:
    """The arguments that "module:name" names, or that it returns; raises Bad."""
    arguments = found(place)
    if callable(arguments):
        try:
            arguments = arguments()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise Bad(f"{place} raised {in_full(error)}") from error
    return tuple(arguments) if isinstance(arguments, tuple | list) else (arguments,)


def reachable(folder: str) -> None:
    """Let modules of a folder be imported: before all others, unless one hides a standard one."""
    sys.path[:] = [known for known in sys.path if os.path.abspath(known) != folder]
    with contextlib.suppress(OSError):
        if {os.path.splitext(name)[0] for name in os.listdir(folder)} & sys.stdlib_module_names:
            sys.path.append(folder)
            return
    sys.path.insert(0, folder)


def _loaded(home: str):
    if not home.endswith(".py"):
        return importlib.import_module(home)
    path = os.path.abspath(home)
    name = os.path.splitext(os.path.basename(path))[0]
    if name in sys.stdlib_module_names:
        name = f"{name}.py"  # not the name of the standard one, which others import
    if name in sys.modules and getattr(sys.modules[name], "__file__", None) == path:
        return sys.modules[name]
    if not os.path.exists(path):
        raise FileNotFoundError("no such file")
    reachable(os.path.dirname(path))
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def numbers(text: str) -> int | tuple[int, ...]:
    """What --argnums says: 0, or 0,2; raises Bad."""
    try:
        given = tuple(int(t) for t in text.split(",") if t.strip())
    except ValueError:
        given = ()
    if not given:
        raise Bad(f"--argnums wants numbers such as 0 or 0,2, got {text!r}")
    return given if "," in text else given[0]
