"""On how many devices a program runs, and what each has of it: the arguments, the mesh, the table."""

import argparse
import math
import re
import textwrap
from collections.abc import Callable
from typing import Any, NamedTuple

from experiments.common import together
from experiments.common.arguments import Parser, UserError, counted, use_device, whole
from experiments.common.continuation import surroundings
from experiments.common.status import doing
from experiments.common.suggestions import near

MANY = whole(1)._replace(example="2")  # devices or processes
WHAT = {  # the axes along which devices stand, and what is split along each
    "members": "the networks of a family",
    "data": "the rows of a batch",
    "fsdp": "the rows of a batch, and parameters and optimizer state",
    "model": "the neurons between two dense layers",
}


class Axes(NamedTuple):
    """The type of a layout, such as data=4,model=2; one number may be left out."""

    names: tuple[str, ...]

    @property
    def example(self) -> str:
        """One that could be written."""
        return f"{self.names[0]},{self.names[-1]}=2"

    def __call__(self, text: str) -> dict[str, int]:
        """The size of each axis that is named; 0 where that is left out."""
        sizes, said = {}, f"got {text[:60]!r}, expected"
        for word in text.split(","):
            name, equals, number = word.partition("=")
            if name not in self.names and (meant := near(name, self.names, {})):
                raise argparse.ArgumentTypeError(f"{said} {meant[0]}{equals}{number} in place of {word[:20]}")
            good = re.fullmatch("(=0*[1-9][0-9]{,5})?", equals + number)
            if name not in self.names or name in sizes or not good:
                axes = f"sizes of {', '.join(self.names)}, each once, 1 at least, such as {self.example}"
                raise argparse.ArgumentTypeError(f"{said} {axes}")
            sizes[name] = int(number or 0)
        if list(sizes.values()).count(0) > 1:
            raise argparse.ArgumentTypeError(f"{said} a number for all but one")
        return sizes


def add_devices(parser: Parser, axes: tuple[str, ...] = ("data", "fsdp", "model")) -> None:
    """Add --devices and --layout, of these axes; without it all devices stand along the first."""
    parser.add_argument("--devices", type=MANY, metavar="N", help="how many; default: all there are")
    parser.add_argument(
        "--layout",
        type=Axes(axes),
        metavar="AXIS=N,...",
        help="what the devices split: " + "; ".join(f"{name}, {WHAT[name]}" for name in axes)
        + f"; default: {axes[0]}",
    )  # fmt: skip


def address(text: str) -> tuple[str, int]:
    """The type of HOST:PORT."""
    host, _, port = text.rpartition(":")
    if not (host and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise argparse.ArgumentTypeError(f"got {text[:80]!r}, expected HOST:PORT, such as 127.0.0.1:4711")
    return host, int(port)


def add_processes(parser: Parser) -> None:
    """Add --processes, --process, --coordinator and --heartbeat."""
    parser.add_argument("--processes", type=MANY, metavar="N", help="that work together")
    parser.add_argument(
        "--process", type=whole(0)._replace(example="0"), metavar="I", help="which one this is, from 0 on"
    )
    parser.add_argument(
        "--coordinator",
        type=address,
        metavar="HOST:PORT",
        help="where process 0 listens, the same for all; a free port of its machine",
    )
    parser.add_argument(
        "--heartbeat",
        type=whole(1, 10_000),
        default=30,
        metavar="SECONDS",
        help="after so long without a sign of one process the others end; default: %(default)s",
    )


def started(arguments: argparse.Namespace, first: str = "data"):
    """The device of what one does alone, and the mesh of all that are asked for. Raises UserError."""
    together.connect(arguments, surroundings())
    device = use_device(arguments.device)
    import jax

    return device, mesh_over(jax.devices(device.platform), arguments, first)


def mesh_over(there, arguments: argparse.Namespace, first: str = "data"):
    """The mesh of those of these devices that are asked for. Raises UserError.

    Without a layout all stand along the first axis.
    """
    from jaxnn.devices.mesh import mesh_of

    sizes = arguments.layout or {first: 0}
    known = math.prod(size for size in sizes.values() if size)
    wanted = arguments.devices or (known if 0 not in sizes.values() else len(there))
    if wanted > len(there):
        option = "--devices" if arguments.devices else "--layout"
        raise UserError(
            f"{option}: got {wanted}, expected at most {counted(len(there), 'device')}: all there are"
        )
    if wanted % known or (0 not in sizes.values() and wanted != known):
        divisors = ", ".join(str(n) for n in range(1, wanted + 1) if wanted % n == 0)
        raise UserError(
            f"--layout: got {known} in all for {wanted} devices, expected sizes whose product is {wanted}, "
            f"each one of {divisors}"
        )
    return mesh_of(
        of_each_process(there, wanted), **{name: size or wanted // known for name, size in sizes.items()}
    )


def of_each_process(there: list, wanted: int) -> list:
    """So many of these devices, as many of each process. Raises UserError."""
    processes = sorted({device.process_index for device in there})
    if wanted % len(processes):
        raise UserError(f"--devices: got {wanted}, expected a multiple of the {len(processes)} processes")
    each = wanted // len(processes)
    return [d for p in processes for d in [d for d in there if d.process_index == p][:each]]


def in_lines(text: str) -> str:
    """A text of the table, in lines of 80 columns."""
    return textwrap.fill(text, 80, subsequent_indent=10 * " ")


def layout_of(mesh) -> str:
    """A mesh in words: data=4,model=2."""
    return ",".join(f"{axis}={n}" for axis, n in mesh.shape.items() if n > 1) or "one device"


def device_in_words(mesh, settings: dict) -> str:
    """How many devices, and of what kind."""
    return (f"{mesh.size} × " if mesh.size > 1 else "") + settings["device"]


def begun_on(mesh, begin: Callable) -> Callable:
    """`begin`, which makes a state, as one program; it makes each part of split parameters where it stays.

    Not so among several processes, to which process 0 sends them.
    """
    import jax

    from jaxnn.devices.layout import stored
    from jaxnn.devices.mesh import shardings

    if mesh.shape["fsdp"] == 1 or together.GROUP.others:
        return jax.jit(begin)
    state = jax.eval_shape(begin)
    return jax.jit(begin, out_shardings=shardings(mesh, stored(mesh, state, state.params), state))


def print_table(mesh, descend, batch_size: int, keyed: bool, state, key, *data) -> None:
    """Print what each of several devices holds, and what a step sends, which is compiled alone for that."""
    import jax
    import numpy as np

    from jaxnn.devices.collectives import in_words, sent
    from jaxnn.devices.layout import stored
    from jaxnn.devices.mesh import on_each
    from jaxnn.devices.split import steps_on
    from jaxnn.runs.record import names

    if mesh.size == 1:
        return
    doing("compiling a step")
    one_step = jax.jit(steps_on(mesh, descend, batch_size, 1, keyed))
    one = one_step.lower(state, key, np.int32(0), *data).compile()
    each = on_each(mesh, state, stored(mesh, state, state.params))
    parts = mesh.shape["data"] * mesh.shape["fsdp"]
    rows = -(-batch_size // parts)
    idle = (parts - -(-batch_size // rows)) * mesh.shape["model"]
    told = [f"layout    {layout_of(mesh)}: of the {batch_size} rows of a batch"]
    told += [f"          each device has {rows}{' at most' * bool(batch_size % parts)}"]
    told += [f"          idle, for want of rows: {counted(idle, 'device')}"] * bool(idle)
    if mesh.shape["fsdp"] * mesh.shape["model"] > 1:
        there, parts = names(state.params), names(each.params)
        for name, leaf in there.items():
            part = "whole" if parts[name].shape == leaf.shape else parts[name].shape
            told += [f"          {name} {leaf.shape}: {part} on each"]
    sizes: Any = one.memory_analysis()
    in_all, held = (sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree)) for tree in (state, each))
    told += [
        f"          of {in_all:,} bytes of parameters and optimizer state",
        f"          each holds {held:,}; a step needs {sizes.temp_size_in_bytes:,} more",
        in_lines(f"          a step sends {in_words(sent(one.as_text()))}"),
    ]
    print(*told, sep="\n")
