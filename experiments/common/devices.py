"""On how many devices a program runs: the arguments, and the mesh they ask for."""

import argparse

from experiments.common import together
from experiments.common.arguments import Parser, UserError, use_device, whole
from experiments.common.continuation import surroundings


def address(text: str) -> tuple[str, int]:
    """The type of HOST:PORT."""
    host, _, port = text.rpartition(":")
    if not (host and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise argparse.ArgumentTypeError(f"got {text[:80]!r}, expected HOST:PORT, such as 127.0.0.1:4711")
    return host, int(port)


def add_devices(parser: Parser) -> None:
    """Add --devices; and --processes, --process, --coordinator and --heartbeat."""
    parser.add_argument(
        "--devices", type=whole(1), metavar="N", help="split each batch over so many; default: all there are"
    )
    parser.add_argument("--processes", type=whole(1, 10_000), metavar="N", help="that train together")
    parser.add_argument("--process", type=whole(0, 9_999), metavar="I", help="which one this is, from 0 on")
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


def started(arguments: argparse.Namespace):
    """The device of what one does alone, and the mesh of all that are asked for. Raises UserError."""
    together.join(arguments, surroundings())
    device = use_device(arguments.device)
    return device, mesh_for(arguments, device)


def mesh_for(arguments: argparse.Namespace, device):
    """The mesh of the devices that are asked for, of the kind of this one. Raises UserError."""
    import jax

    from jaxnn.devices.mesh import mesh_of

    there = jax.devices(device.platform)
    wanted = arguments.devices or len(there)
    if wanted > len(there):
        raise UserError(f"--devices: got {wanted}, expected at most the {len(there)} that are there")
    if wanted % jax.process_count():
        raise UserError(
            f"--devices: got {wanted}, expected a multiple of the {jax.process_count()} processes"
        )
    each = wanted // jax.process_count()
    first = {
        process: [d for d in there if d.process_index == process][:each]
        for process in range(jax.process_count())
    }
    return mesh_of([device for some in first.values() for device in some], data=wanted)
