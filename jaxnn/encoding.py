"""From images and labels to the X and Y of the lecture."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer, UInt8


def flatten(images: UInt8[Array, "N *size"], white: int) -> Float[Array, "N n_x"]:
    """X: each image as one row of pixels between 0 and 1; `white` is the largest pixel there can be.

    >>> import jax.numpy as jnp
    >>> flatten(jnp.array([[[0, 8], [16, 4]]], jnp.uint8), white=16)
    Array([[0.  , 0.5 , 1.  , 0.25]], dtype=float32)
    """
    return images.reshape(len(images), -1).astype(jnp.float32) / white


def one_hot(labels: Integer[Array, "N"], classes: int) -> Float[Array, "N {classes}"]:
    """Y: a 1 in the column of the label, 0 in the others.

    >>> import jax.numpy as jnp
    >>> one_hot(jnp.array([2, 0]), 3)
    Array([[0., 0., 1.],
           [1., 0., 0.]], dtype=float32)
    """
    return jax.nn.one_hot(labels, classes, dtype=jnp.float32)
