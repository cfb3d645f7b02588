"""Types narrower than float64 that code computes in, as seen in what it holds and names while it runs."""

import dis
import functools
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.gradcheck.calls.raised import HERE, LIBRARIES

NAMED = re.compile(r"[<=>|]?(float32|f4|float16|f2|bfloat16|float8_\w+)")
DEEP, MANY = 2, 1000  # lists in lists, arrays of an object in a list; so many entries are looked at


def precisions(run: Callable[[], Any], is_known: Callable[[np.ndarray], bool]) -> set[np.dtype]:
    """The narrow types of arrays that functions hold when they return, or name, as run() calls them.

    What libraries name does not count. is_known: whether an array is data that is meant to have its digits.
    """
    found: set[np.dtype] = set()

    def look(frame: FrameType, event: str, _) -> None:
        if event == "return" and not frame.f_code.co_filename.startswith(HERE):
            with suppress(Exception):  # whatever a class of the caller's raises that is looked at
                note(frame, frame.f_code)

    def note(frame: FrameType, code: CodeType) -> None:
        own = not code.co_filename.startswith((*LIBRARIES, "<frozen"))
        words = (w for w in (*code.co_names, *code.co_consts) if own and isinstance(w, str))
        found.update(np.dtype(named[1]) for named in map(NAMED.fullmatch, words) if named)
        there = [frame.f_globals[n] for n in _globals(code) if own and n in frame.f_globals]
        for kind, x in _kinds([*frame.f_locals.values(), *there], DEEP):
            if kind not in found and (own if x is None else not is_known(x)):
                found.add(kind)

    before = sys.getprofile()
    sys.setprofile(look)
    try:
        run()
    finally:
        sys.setprofile(before)
    return found


@functools.lru_cache(256)
def _globals(code: CodeType) -> set[str]:
    """The names of a module that code reads; attributes may have the same."""
    return {i.argval for i in dis.get_instructions(code) if i.opname in ("LOAD_GLOBAL", "LOAD_NAME")}


def _kinds(x, deep: int) -> Iterator[tuple[np.dtype, np.ndarray | None]]:
    """The narrow types of a value and of what is in it, each with the array that has it."""
    if isinstance(x, np.ndarray | np.generic | jax.Array):
        if is_narrow(x.dtype):
            yield x.dtype, np.asarray(x)
    elif isinstance(x, np.dtype) or (isinstance(x, type) and issubclass(x, np.generic)):
        if x is not np.floating and is_narrow(x):
            yield np.dtype(x), None
    elif isinstance(x, type | ModuleType | FunctionType):
        if isinstance(kind := getattr(x, "dtype", None), np.dtype):  # jnp.float16
            yield from _kinds(kind, deep)
    elif deep:
        inside = x if isinstance(x, dict | list | tuple | set) else getattr(x, "__dict__", {})
        for y in [*islice(inside.values() if isinstance(inside, dict) else inside, MANY)]:
            yield from _kinds(y, deep - 1)


def is_narrow(kind) -> bool:
    """Whether it is a type of floating-point numbers with fewer digits than float64."""
    return bool(jnp.issubdtype(kind, jnp.floating) and jnp.finfo(kind).eps > np.finfo(np.float64).eps)
