"""What a compiled program sends between devices, read from its text."""

import math
import re
from collections import Counter
from typing import NamedTuple

OPS = "all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute|collective-broadcast"
MADE = re.compile(rf"^\s*(?:ROOT )?%?[\w.-]+ = (\(.*?\)|\S+) ({OPS})(-start)?\(", re.M)
ARRAY = re.compile(r"\b(?:pred|[a-z]+(\d+)\w*)\[([\d,]*)\]")  # f32[17,64], pred[]


class Sent(NamedTuple):
    """An operation in which devices exchange arrays."""

    op: str
    bytes: int  # of its result, on each device


def sent(text: str | None) -> list[Sent]:
    """The collective operations of a compiled program, `compiled.as_text()`; one in a loop counts once.

    >>> sent("  %r = (f32[], f32[17,64]{1,0}) all-reduce(%a, %b), channel_id=1")
    [Sent(op='all-reduce', bytes=4356)]
    """
    found = []
    for shape, op, started in MADE.findall(text or ""):
        sizes = [_bytes(bits, dims) for bits, dims in ARRAY.findall(shape)]
        if started and op != "all-reduce":  # (what goes in, what comes out)
            sizes = sizes[len(sizes) // 2 :]
        found.append(Sent(op, sum(sizes)))
    return found


def totals(found: list[Sent]) -> dict[str, int]:
    """The bytes of each operation; how many of them XLA joins in one is its own affair."""
    return {op: sum(one.bytes for one in found if one.op == op) for op, _ in found}


def in_words(found: list[Sent]) -> str:
    """What is sent, each operation once.

    >>> in_words([Sent("all-reduce", 20), Sent("all-gather", 1200), Sent("all-reduce", 4)])
    '2 all-reduce of 24 bytes, 1 all-gather of 1,200 bytes'
    """
    counts = Counter(one.op for one in found)
    return (
        ", ".join(f"{counts[op]} {op} of {size:,} bytes" for op, size in totals(found).items()) or "nothing"
    )


def _bytes(bits: str, dims: str) -> int:
    return math.prod(map(int, filter(None, dims.split(",")))) * int(bits or 8) // 8
