"""Families of networks: many parameters at once, stacked along a first axis, trained by one program.

`jax.vmap` of a step or an epoch over the members' states, with the batches shared, makes one large product
of the first layers of all of them. Networks of different widths fit into one family: the arrays of a
narrower one are filled up with zeros, and a learning rate of 0 keeps them there, so that it computes what
it would alone.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from jaxnn.layers import Dense


def stack(members: Sequence):
    """The family of these members: trees of one structure, whose arrays get a first axis over them.

    >>> import jax.numpy as jnp
    >>> stack([{"w": jnp.zeros(2)}, {"w": jnp.ones(2)}])
    {'w': Array([[0., 0.], [1., 1.]], dtype=float32)}
    """
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)


def member(family, k: int):
    """Member k of a family.

    >>> import jax.numpy as jnp
    >>> member({"w": jnp.array([[0.0, 0.0], [1.0, 1.0]])}, 1)
    {'w': Array([1., 1.], dtype=float32)}
    """
    return jax.tree.map(lambda leaf: leaf[k], family)


def widen(params: list[Dense], n: Sequence[int]) -> list[Dense]:
    """These parameters inside the arrays of the wider network n[0]-n[1]-...-n[L], with zeros around them.

    >>> import jax.numpy as jnp
    >>> from jaxnn.layers import Dense
    >>> narrow = [Dense(jnp.ones((1, 2)), jnp.ones((1, 1))), Dense(jnp.ones((3, 1)), jnp.ones((3, 1)))]
    >>> [W.shape for W, _ in widen(narrow, (2, 4, 3))]
    [(4, 2), (3, 4)]
    """
    return [
        Dense(
            jnp.pad(W, ((0, n_l - W.shape[0]), (0, n_prev - W.shape[1]))),
            jnp.pad(b, ((0, n_l - b.shape[0]), (0, 0))),
        )
        for (W, b), (n_prev, n_l) in zip(params, pairwise(n), strict=True)
    ]


def narrow(params: list[Dense], n: Sequence[int]) -> list[Dense]:
    """The parameters of the network n[0]-n[1]-...-n[L] inside the arrays of a wider one.

    >>> import jax.numpy as jnp
    >>> from jaxnn.layers import Dense
    >>> wide = [Dense(jnp.ones((4, 2)), jnp.ones((4, 1))), Dense(jnp.ones((3, 4)), jnp.ones((3, 1)))]
    >>> [W.shape for W, _ in narrow(wide, (2, 1, 3))]
    [(1, 2), (3, 1)]
    """
    return [
        Dense(W[:n_l, :n_prev], b[:n_l]) for (W, b), (n_prev, n_l) in zip(params, pairwise(n), strict=True)
    ]


def together(function: Callable, mesh: Mesh) -> Callable:
    """`function(member, *shared)` for a whole family, `(family, *shared)`, each device its part of it.

    The number of members must be a multiple of the size of the mesh's axis `members`; its other axes are left
    to the function.

    >>> import jax, jax.numpy as jnp
    >>> mesh = jax.make_mesh((1,), ("members",), axis_types=(jax.sharding.AxisType.Auto,))
    >>> together(lambda w, x: w * x, mesh)(jnp.arange(8.0), jnp.array(3.0))[7]
    Array(21., dtype=float32)
    """
    members = PartitionSpec("members")

    def of_family(family, *shared):
        each = jax.vmap(function, in_axes=(0, *(None for _ in shared)))
        in_specs = (members, *(PartitionSpec() for _ in shared))
        return jax.shard_map(each, mesh=mesh, in_specs=in_specs, out_specs=members, axis_names={"members"})(
            family, *shared
        )

    return of_family
