"""What a command line names: a module's function, its arguments, numbers. It imports what a person names."""

import contextlib
import difflib
import importlib
import importlib.util
import inspect
import os
import re
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
        dotted = re.fullmatch(r"([A-Za-z_][\w.]*)[./]([A-Za-z_]\w*)", place)
        such = f"{dotted[1]}:{dotted[2]}" if dotted and dotted[2] != "py" else "mynet:loss"
        raise Bad(f"{place!r} names no object: write module:name, such as {such}")
    try:
        module = _loaded(home)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a test's module that is skipped, or a script that exits
        raise Bad(f"cannot import {home}: {in_full(error)}{_instead(home, name, error)}") from error
    try:
        return attrgetter(name)(module)
    except AttributeError:
        names = [n for n in dir(module) if not n.startswith("_")]
        near = difflib.get_close_matches(name, names, 1)
        instead = f"; did you mean {home}:{near[0]}?" if near else ""
        raise Bad(f"{home} has no {name}; it has {', '.join(names[:12]) or 'nothing'}{instead}") from None


def _instead(home: str, name: str, error: BaseException) -> str:
    """The file here that can be meant by a module or file that is not there itself."""
    absent = getattr(error, "name", None)
    missing = absent == home or (home.endswith(".py") and not os.path.exists(home))
    if not missing and isinstance(error, ModuleNotFoundError) and absent:
        return f"; install it, such as with: pip install {absent.partition('.')[0]}"
    if not missing:
        return ""
    folder, file = os.path.split(home)
    try:
        there = sorted(one for one in os.listdir(folder or ".") if one.endswith(".py") and one.isprintable())
    except OSError:
        return ""
    near = difflib.get_close_matches(file.removesuffix(".py") + ".py", there, 1)
    if near:
        return f"; did you mean {os.path.join(folder, near[0])}:{name}?"
    return f"; write a file that is there, such as {os.path.join(folder, there[0])}:{name}" if there else ""


def called(place: str) -> tuple:
    """The arguments that "module:name" names, or that it returns; raises Bad."""
    arguments = found(place)
    if callable(arguments) and (asked := _asked(arguments)):
        raise Bad(
            f"{place} asks for {', '.join(asked)} itself, expected the arguments, which stand last: a tuple, "
            "or a function of nothing that returns one"
        )
    if callable(arguments):
        try:
            arguments = arguments()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise Bad(f"{place} raised {in_full(error)}") from error
    return tuple(arguments) if isinstance(arguments, tuple | list) else (arguments,)


def _asked(function) -> list[str]:
    """The parameters that a function cannot be called without."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return []
    various = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in parameters if p.default is p.empty and p.kind not in various]


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
    if name in sys.stdlib_module_names or getattr(sys.modules.get(name), "__file__", path) != path:
        name = path  # the name is another module's, which is not replaced
    if name in sys.modules:
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
