"""Which device holds which part of the parameters, and of what is shaped as they are.

Two dense layers in a row are split along `model` by rows and by columns (Shoeybi et al., "Megatron-LM",
arXiv:1909.08053, section 3): each device has some of the neurons between them, and of

    A[1] = g(X W[1]ᵀ + b[1]ᵀ), split by the rows of W[1] and b[1]    Z[2] = Σ A[1] W[2]ᵀ + b[2]ᵀ, by columns

only the sum Z[2] is sent. Along `fsdp` every array is split that has an axis for it: it is gathered where it
is used, and its gradient is scattered (Rajbhandari et al., "ZeRO", SC 2020).
"""

from typing import Any

import jax
from jax.sharding import Mesh, PartitionSpec
from jax.tree_util import tree_flatten_with_path, tree_map_with_path

from jaxnn.devices import Refused
from jaxnn.devices.mesh import WHOLE
from jaxnn.layers import Dense


def used(mesh: Mesh, params):
    """The PartitionSpec of each parameter where it is used: split along `model`, if it can be.

    Raises Refused where `model` does not divide the neurons, or there are none to split.

    >>> import jax
    >>> from jaxnn.devices.mesh import mesh_of
    >>> from jaxnn.layers import Dense
    >>> params = [Dense(jax.numpy.ones((4, 3)), jax.numpy.ones((4, 1)))]
    >>> used(mesh_of(jax.devices()[:1]), params)[0].W == WHOLE
    True
    """
    model = mesh.shape["model"]
    nodes, structure = jax.tree.flatten(params, is_leaf=lambda node: isinstance(node, Dense))
    specs = [_specs(WHOLE, WHOLE) if isinstance(node, Dense) else WHOLE for node in nodes]
    pairs, k = 0, 0
    while model > 1 and k < len(nodes) - 1:
        first, second = nodes[k : k + 2]
        if not (isinstance(first, Dense) and isinstance(second, Dense)) or not _meet(first, second):
            k += 1
            continue
        n = first.W.shape[0]
        if n % model:
            raise Refused(
                f"--layout: model={model}: got {n} neurons to split, expected {_divisors(model, n)}; "
                f"or a multiple of {model} neurons, such as {n + -n % model}"
            )
        specs[k] = _specs(PartitionSpec("model"), PartitionSpec("model"))
        specs[k + 1] = _specs(PartitionSpec(None, "model"), WHOLE)
        pairs, k = pairs + 1, k + 2
    if model > 1 and not pairs:
        raise Refused(
            f"--layout: model={model}: got no two dense layers in a row, expected such; others stay whole"
        )
    return jax.tree.unflatten(structure, specs)


def _specs(W: Any, b: Any) -> Dense:  # in the place of the arrays
    return Dense(W, b)


def _meet(first: Dense, second: Dense) -> bool:
    return first.W.ndim == second.W.ndim == 2 and second.W.shape[1] == first.W.shape[0]


def stored(mesh: Mesh, tree, params):
    """The PartitionSpec of each array of a tree, such as a state: split along `model` and `fsdp`.

    What stands in the tree as params do, and has their shapes, is where they are; the rest is whole.
    Raises Refused where a size does not divide.
    """
    fsdp, specs = mesh.shape["fsdp"], used(mesh, params)
    leaves, _ = tree_flatten_with_path(params)
    where = jax.tree.leaves(specs, is_leaf=lambda node: isinstance(node, PartitionSpec))
    known = {
        path: (leaf.shape, _split(leaf.shape, spec, fsdp))
        for (path, leaf), spec in zip(leaves, where, strict=True)
    }
    if fsdp > 1 and all("fsdp" not in spec for _, spec in known.values()):
        sizes = sorted({n for shape, _ in known.values() for n in shape})
        got = ", ".join(map(str, sizes))
        raise Refused(
            f"--layout: fsdp={fsdp}: got axes of {got} to split, expected {_divisors(fsdp, *sizes)}"
        )

    def spec(path, leaf):
        ends = (known.get(path[k:], ((), WHOLE)) for k in range(len(path) + 1))
        return next((spec for shape, spec in ends if shape == leaf.shape), WHOLE)

    return tree_map_with_path(spec, tree)


def _split(shape: tuple[int, ...], spec: PartitionSpec, fsdp: int) -> PartitionSpec:
    """The largest axis that is free and divides is split along `fsdp`."""
    axes = [*spec, *(None,) * (len(shape) - len(spec))]
    free = [k for k, axis in enumerate(axes) if axis is None and shape[k] % fsdp == 0]
    if fsdp > 1 and free:
        axes[max(free, key=lambda k: shape[k])] = "fsdp"
    return PartitionSpec(*axes)


def _divisors(below: int, *sizes: int) -> str:
    """Those of fewer devices: so many there are."""
    return " or ".join(str(k) for k in range(1, below) if any(n % k == 0 for n in sizes))
