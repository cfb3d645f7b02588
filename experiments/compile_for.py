"""Compile a training step for devices that are not here, and say what each would hold and send.

    pip install 'jax[tpu]'; python -m experiments.compile_for v5e:16x16 --sizes 784 1024 1024 10

Nothing runs: neither the devices nor the data are needed, only the compiler of their kind.
"""

import argparse
import os
import time
from typing import Any

from experiments.common.arguments import Parser, UserError, run, whole
from experiments.common.devices import add_devices, layout_of, mesh_over
from experiments.common.optimizers import OPTIMIZERS
from experiments.common.status import doing


def parser() -> Parser:
    """The arguments of this program."""
    p = Parser(prog="python -m experiments.compile_for", description=__doc__)
    p.add_argument("topology", metavar="TOPOLOGY", help="as XLA calls it, such as v5e:16x16")
    p.add_argument(
        "--sizes", type=whole(1), nargs="+", default=[784, 1024, 1024, 10], metavar="n",
        help="of the input and of each layer; default: 784 1024 1024 10",
    )  # fmt: skip
    p.add_argument("--batch-size", type=whole(1), default=16384, metavar="B", help="default: %(default)s")
    p.add_argument("--examples", type=whole(1), default=60000, metavar="N", help="default: %(default)s")
    p.add_argument("--optimizer", choices=OPTIMIZERS, default="adam", help="default: %(default)s")
    add_devices(p)
    return p


def main(arguments: argparse.Namespace) -> int:
    """Compile, and report."""
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # else it asks the cloud which machine this is

    import jax
    import jax.numpy as jnp
    import optax
    from jax.experimental import topologies

    from jaxnn.activations import gelu
    from jaxnn.devices.collectives import in_words, sent
    from jaxnn.devices.layout import stored
    from jaxnn.devices.mesh import described, on_each
    from jaxnn.devices.split import step, steps_on
    from jaxnn.encoding import inputs, targets
    from jaxnn.layers import mlp
    from jaxnn.losses import cross_entropy
    from jaxnn.objective import value_and_grad
    from jaxnn.training import start

    doing("asking the compiler")
    jax.config.update("jax_platforms", "cpu")  # the compiler of others is asked, and not what they are
    try:
        devices = topologies.get_topology_desc(arguments.topology, "tpu").devices
    except Exception as error:
        why = (str(error).splitlines() or [type(error).__name__])[0]
        known = "expected one that libtpu knows, which jax[tpu] brings along"
        raise UserError(f"TOPOLOGY: got {arguments.topology}, {known} ({why})") from error
    mesh, (n, *rest) = mesh_over(devices, arguments), arguments.sizes
    net, optimizer = mlp(n, *rest, g=gelu), getattr(optax, arguments.optimizer)(0.001)
    gradient = value_and_grad(net, cross_entropy)

    def on_images(params, images, labels):
        return gradient(params, inputs(images, 255), targets(labels, rest[-1]))

    state = jax.eval_shape(lambda: start(net.init(jax.random.key(0)), optimizer))
    specs = stored(mesh, state, state.params)
    N = arguments.examples
    others = jax.eval_shape(
        lambda: (jax.random.key(0), jnp.int32(0), jnp.zeros((N, n), jnp.uint8), jnp.zeros(N, jnp.int32))
    )
    program = steps_on(mesh, step(on_images, optimizer, mesh), arguments.batch_size, 1)
    clock = time.perf_counter()
    doing("compiling")
    compiled = jax.jit(program).lower(described(mesh, state, specs), *described(mesh, others)).compile()
    P = sum(p.size for p in jax.tree.leaves(state.params))
    held = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(on_each(mesh, state, specs)))
    sizes: Any = compiled.memory_analysis()
    print(f"devices   {len(devices)} of {arguments.topology}, {devices[0].device_kind}: {layout_of(mesh)}")
    print(f"network   {'-'.join(map(str, arguments.sizes))}, {P:,} parameters, 4P + 4 = {4 * P + 4:,}")
    print(f"          batches of {arguments.batch_size} of {N} examples, {arguments.optimizer}")
    print(f"compiled  in {time.perf_counter() - clock:.1f} s, with jax {jax.__version__}")
    temporaries = sizes.temp_size_in_bytes
    there = sizes.argument_size_in_bytes + sizes.output_size_in_bytes - sizes.alias_size_in_bytes
    print(f"each      {held / 1e6:.1f} MB of parameters and optimizer state; in all")
    print(f"          {(there + temporaries) / 1e6:.1f} MB, {temporaries / 1e6:.1f} MB of them temporaries")
    print(f"a step    sends {in_words(sent(compiled.as_text()))}")
    return 0


if __name__ == "__main__":
    run(main, parser())
