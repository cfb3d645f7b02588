"""How well a network does: its predictions, accuracy and confusion matrix, and what it needs for them."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Integer, Shaped

from jaxnn.encoding import check_labels
from jaxnn.layers import Layer
from jaxnn.layers.norms import BatchNorm, Standardised


def predict(net: Layer, params, X: Float[Array, "N n_x"]) -> Int[Array, "N"]:
    """The class with the largest Z[L], which is the one with the largest Ŷ."""
    Z, _ = net.forward(params, X)
    return jnp.argmax(Z, axis=1)


def confusion_matrix(
    labels: Integer[Array, "N"], predictions: Integer[Array, "N"], classes: int
) -> Int[Array, "{classes} {classes}"]:
    """How often each class (row) was taken for each class (column).

    >>> import jax.numpy as jnp
    >>> confusion_matrix(jnp.array([0, 1, 1]), jnp.array([0, 0, 1]), 2)
    Array([[1, 0],
           [1, 1]], dtype=int32)
    """
    check_labels(labels, classes)
    check_labels(predictions, classes)
    if len(labels) != len(predictions) or len(labels) == 0:
        raise ValueError(f"got {len(labels)} labels, {len(predictions)} predictions, expected as many, not 0")
    return jnp.zeros((classes, classes), int).at[labels, predictions].add(1)


def root_mean_square(errors: Float[Array, "N"]) -> Float[Array, ""]:
    """The root of the mean of their squares.

    >>> import jax.numpy as jnp
    >>> root_mean_square(jnp.array([3.0, 4.0, 0.0, 0.0]))
    Array(2.5, dtype=float32)
    """
    return jnp.sqrt(jnp.mean(jnp.square(errors)))


def accuracy(confusion: Int[Array, "n n"]) -> Float[Array, ""]:
    """The part of the examples that was recognised.

    >>> import jax.numpy as jnp
    >>> accuracy(jnp.array([[1, 0], [1, 1]]))
    Array(0.6666667, dtype=float32)
    """
    return jnp.trace(confusion) / jnp.sum(confusion)


def with_statistics(net: Layer, params, batches: Shaped[Array, "B N ..."], key):
    """The parameters of a network with each batch norm's mean and variance over these batches of data.

    They are those of the forward pass in training, layer by layer: what `net` is evaluated with, before each
    evaluation anew. Weight decay does no harm to them, nor does training read them.
    Raises ValueError where the residuals of a batch norm are not kept, as in `recomputed` and `reversible`.
    """

    def of_batch(x):
        l, batch = x
        _, residuals = net.forward(params, batch, jax.random.fold_in(key, l))
        kept = jax.tree.leaves(residuals, is_leaf=lambda node: isinstance(node, Standardised))
        return [r[2:] for r in kept if isinstance(r, Standardised) and r.mean is not None]

    found = jax.lax.map(of_batch, (jnp.arange(len(batches)), batches))
    leaves, structure = jax.tree.flatten(params, is_leaf=lambda node: isinstance(node, BatchNorm))
    at = [k for k, leaf in enumerate(leaves) if isinstance(leaf, BatchNorm)]
    if len(found) != len(at):
        raise ValueError("net: a batch norm's residuals are not kept; none may be in what is made again")
    for k, (m, v) in zip(at, found, strict=True):
        mean = jnp.mean(m, axis=0)
        variance = jnp.mean(v, axis=0) + jnp.mean(jnp.square(m - mean[None]), axis=0)
        leaves[k] = leaves[k]._replace(mean=mean, variance=variance)
    return jax.tree.unflatten(structure, leaves)
