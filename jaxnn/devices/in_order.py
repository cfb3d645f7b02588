"""A gradient summed in an order that does not depend on how many devices there are."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jax.lax import optimization_barrier as apart
from jax.sharding import Mesh, PartitionSpec

from jaxnn.devices import Refused

PARTS = 8  # of every batch, on 1, 2, 4 or 8 devices


def in_order(gradient: Callable, mesh: Mesh) -> Callable:
    """The gradient of a mean over the rows, `(params, *batch) -> (J, dparams)`, with the same bits on 1 to 8.

    Each batch is 8 parts, whose gradients are computed one by one, wherever; a device sums its share of the
    entries over all parts, always in the order ((0 + 1) + (2 + 3)) + ((4 + 5) + (6 + 7)), and sends it to
    all: as much as an all-reduce sends. Barriers keep XLA from joining what it would join differently on
    another number of devices. This was found to hold on CPU, not proved; on GPU and TPU it was not tried.

    >>> import jax, jax.numpy as jnp
    >>> from jaxnn.devices.mesh import mesh_of
    >>> mean = jax.value_and_grad(lambda w, x: jnp.mean((w - x) ** 2) / 2)
    >>> jax.jit(in_order(mean, mesh_of(jax.devices()[:1])))(jnp.array(0.0), jnp.arange(16.0))[1]
    Array(-7.5, dtype=float32)
    """
    n = mesh.shape["data"]

    def one(params, part):
        return apart(gradient(*apart((params, *part))))

    def on_one_device(params, *batch):
        parts = jax.tree.map(lambda x: x.reshape(PARTS // n, -1, *x.shape[1:]), batch)
        each = apart(jax.lax.map(lambda part: one(params, part), parts))
        flat = jnp.concatenate([x.reshape(PARTS // n, -1) for x in jax.tree.leaves(each)], axis=1)
        flat = jnp.pad(flat, ((0, 0), (0, -flat.shape[1] % PARTS))).reshape(PARTS // n, n, -1)
        share = jax.lax.all_to_all(flat, "data", split_axis=1, concat_axis=0, tiled=True)
        total = apart(in_pairs(list(apart(share.reshape(PARTS, -1)))) / PARTS)
        whole = jax.lax.all_gather(total, "data", tiled=True)
        like, back = ravel_pytree(jax.tree.map(lambda x: jnp.zeros(x.shape[1:], x.dtype), each))
        return apart(back(whole[: len(like)]))

    def J_and_dparams(params, *batch):
        rows = (PartitionSpec("data"),) * len(batch)
        return jax.shard_map(
            on_one_device,
            mesh=mesh,
            in_specs=(PartitionSpec(), *rows),
            out_specs=PartitionSpec(),
            check_vma=False,
        )(params, *batch)

    return J_and_dparams


def in_pairs(terms: list):
    """The sum of 2^k terms, as a tree.

    >>> in_pairs([1, 2, 3, 4])
    10
    """
    while len(terms) > 1:
        terms = [a + b for a, b in zip(terms[::2], terms[1::2], strict=True)]
    return terms[0]


def check(mesh: Mesh, batch_size: int) -> None:
    """Raise Refused where batches cannot be summed in order on this mesh."""
    n = mesh.shape["data"]
    if n != mesh.size or PARTS % n:
        got = ",".join(f"{axis}={size}" for axis, size in mesh.shape.items() if size > 1)
        raise Refused(f"--reproducible: got the layout {got}, expected 1, 2, 4 or 8 devices along data alone")
    if batch_size % PARTS or batch_size < 2 * PARTS:  # of one row the bits differ on jax 0.12
        near = max(2, math.ceil(batch_size / PARTS)) * PARTS
        expected = f"expected a multiple of {PARTS}, 16 at least, such as {near}, with --reproducible"
        raise Refused(f"--batch-size: got {batch_size}, {expected}")
