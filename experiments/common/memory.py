"""What a training needs of memory, and what is free: told before an array is made. Imports jax."""

import math
import os
from pathlib import Path

import jax

from experiments.common.arguments import UserError

CGROUPS = (  # of what a container may have, and has: version 2, and 1
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def free(device) -> float:
    """Bytes that are free on a device; on a CPU what the system has, divided among its devices."""
    statistics = device.memory_stats()
    if statistics and "bytes_limit" in statistics:
        return statistics["bytes_limit"] - statistics["bytes_in_use"]
    return of_system() / len(jax.devices(device.platform))


def of_system() -> float:
    """Bytes that are free to this process, by what the machine has and what its container may have."""
    try:
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        found = 1024.0 * int(lines["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):
        found = float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for limit, used in CGROUPS:
        try:
            found = min(found, float(int(Path(limit).read_text()) - int(Path(used).read_text())))
        except (OSError, ValueError):  # there is none
            continue
    return max(found, 0.0)


def needed(state, n, rows: int) -> float:
    """Bytes that a training takes at least.

    Its state before and after a step, of the shapes of `state`; the best parameters; and the arrays of a
    forward pass of so many rows through the layers n.
    """
    each = [math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(state)]
    params = [math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(state.params)]
    return 2.0 * sum(each) + sum(params) + 4.0 * rows * sum(n)


def check(what: str, needed: float, free: float) -> None:
    """Raise UserError if more is needed than is free."""
    if needed > free:
        raise UserError(f"{what} needs at least {needed / 1e9:.3g} GB of memory, {free / 1e9:.3g} are free")
