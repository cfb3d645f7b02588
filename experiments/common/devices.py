"""On how many devices a program runs: the arguments, and the mesh they ask for."""

import argparse

from experiments.common.arguments import Parser, UserError, whole


def add_devices(parser: Parser) -> None:
    """Add --devices."""
    parser.add_argument(
        "--devices", type=whole(1), metavar="N", help="split each batch over so many; default: all there are"
    )


def mesh_for(arguments: argparse.Namespace, device):
    """The mesh of the devices that are asked for, of the kind of this one. Raises UserError."""
    import jax

    from jaxnn.devices.mesh import mesh_of

    there = jax.devices(device.platform)
    wanted = arguments.devices or len(there)
    if wanted > len(there):
        raise UserError(f"--devices: got {wanted}, expected at most the {len(there)} that are there")
    return mesh_of(there, data=wanted)
