"""The devices of a run as a mesh, and the arrays on it.

    members × data × fsdp × model

Along `members` stand the networks of a family. Along `data` and `fsdp` each device has its part of a batch's
rows; along `fsdp` its part of the parameters and of the optimizer's state, too; along `model` its part of the
neurons. One device is a mesh of 1 × 1 × 1 × 1.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

AXES = ("members", "data", "fsdp", "model")
ROWS = PartitionSpec(("data", "fsdp"))  # of a batch
MEMBERS = PartitionSpec("members")  # of a family
WHOLE = PartitionSpec()  # on every device


def mesh_of(devices: Sequence, **sizes: int) -> Mesh:
    """The mesh of these devices, which may belong to several processes; sizes not named are 1.

    >>> import jax
    >>> dict(mesh_of(jax.devices()[:1], data=1).shape)
    {'members': 1, 'data': 1, 'fsdp': 1, 'model': 1}
    """
    shape = [sizes.get(axis, 1) for axis in AXES]
    return Mesh(np.array(devices[: math.prod(shape)]).reshape(shape), AXES, axis_types=(AxisType.Auto,) * 4)


def shardings(mesh: Mesh, specs, tree):
    """Where each array of a tree is; `specs` is one PartitionSpec for all, or a tree of them."""
    if isinstance(specs, PartitionSpec):
        return jax.tree.map(lambda _: NamedSharding(mesh, specs), tree)
    return jax.tree.map(lambda _, spec: NamedSharding(mesh, spec), tree, specs)


def placed(mesh: Mesh, tree, specs=WHOLE):
    """The arrays of a tree on the mesh: the only place where such are made.

    Every process has all of each array, the same in all of them, and nothing is sent.

    >>> import jax, numpy as np
    >>> placed(mesh_of(jax.devices()[:1]), {"W": np.ones(2)})["W"].is_fully_replicated
    True
    """

    def put(leaf, sharding):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            bits = put(jax.random.key_data(leaf), sharding)
            return jax.random.wrap_key_data(bits, impl=jax.random.key_impl(leaf))
        here = np.asarray(leaf)
        return jax.make_array_from_callback(here.shape, sharding, lambda index: here[index])

    return jax.tree.map(put, tree, shardings(mesh, specs, tree))


def held(mesh: Mesh, tree, specs=WHOLE):
    """The same arrays, inside a compiled program: there they are where it says."""
    inside: Any = jax.sharding.get_abstract_mesh()  # of a shard_map, along some of the axes
    return jax.lax.with_sharding_constraint(tree, shardings(mesh if inside.empty else inside, specs, tree))


def described(mesh: Mesh, tree, specs=WHOLE):
    """The shapes of the arrays of a tree, and where they are, for a program to be compiled for them."""

    def shape(leaf, sharding):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    return jax.tree.map(shape, tree, shardings(mesh, specs, tree))


def on_each(mesh: Mesh, tree, specs=WHOLE):
    """The shapes of what each device has of these arrays."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.sharding.shard_shape(leaf.shape), leaf.dtype),
        described(mesh, tree, specs),
    )
