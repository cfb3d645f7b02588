"""How well a network does: its predictions, accuracy and confusion matrix."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Integer

from jaxnn.encoding import check_labels
from jaxnn.layers import Layer


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
