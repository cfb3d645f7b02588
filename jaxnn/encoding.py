"""From images and labels to the X and Y of the lecture."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Integer, Num, UInt8


def flatten(images: UInt8[Array, "N *size"], white: int) -> Float[Array, "N n_x"]:
    """X: each image as one row of pixels between 0 and 1; `white` is the largest pixel there can be.

    >>> import jax.numpy as jnp
    >>> flatten(jnp.array([[[0, 8], [16, 4]]], jnp.uint8), white=16)
    Array([[0.  , 0.5 , 1.  , 0.25]], dtype=float32)
    """
    check_array("images", images)
    if images.dtype != jnp.uint8:
        raise TypeError(f"images: got {images.dtype}, expected uint8, from 0 to white")
    if not white > 0:
        raise ValueError(f"white: got {white}, expected the largest pixel there can be, above 0")
    if images.size == 0:
        raise ValueError(f"images: got shape {images.shape}, expected one image at least, with pixels")
    return images.reshape(images.shape[0], -1).astype(jnp.float32) / white


def inputs(images: Num[Array, "N *size"], white: int) -> Float[Array, "N n_x"]:
    """X: images as `flatten` makes rows of them; what is no uint8 is X already, but for its shape.

    >>> import jax.numpy as jnp
    >>> inputs(jnp.array([[0.5, -1.5]]), white=1)
    Array([[ 0.5, -1.5]], dtype=float32)
    """
    return flatten(images, white) if images.dtype == jnp.uint8 else images.reshape(images.shape[0], -1)


def targets(labels: Num[Array, "N"], classes: int) -> Float[Array, "N n_y"]:
    """Y: labels one-hot; with 0 classes they are numbers to be predicted, and Y is a column of them.

    >>> import jax.numpy as jnp
    >>> targets(jnp.array([0.5, -1.5]), 0).shape, targets(jnp.array([0, 2]), 3).shape
    ((2, 1), (2, 3))
    """
    return one_hot(labels, classes) if classes else labels[:, None]


def one_hot(labels: Integer[Array, "N"], classes: int) -> Float[Array, "N {classes}"]:
    """Y: a 1 in the column of the label, 0 in the others.

    Raises as `check_labels` does.

    >>> import jax.numpy as jnp
    >>> one_hot(jnp.array([2, 0]), 3)
    Array([[0., 0., 1.],
           [1., 0., 0.]], dtype=float32)
    """
    check_labels(labels, classes)
    return jax.nn.one_hot(labels, classes, dtype=jnp.float32)


def check_array(name: str, array) -> None:
    """Raise TypeError unless it is an array, all of whose entries count.

    >>> check_array("labels", [1, 2])
    Traceback (most recent call last):
    TypeError: labels: got list, expected an array
    """
    if isinstance(array, np.ma.MaskedArray):
        raise TypeError(f"{name}: got a masked array, whose mask would be lost; expected a plain one")
    if not hasattr(array, "dtype"):
        raise TypeError(f"{name}: got {type(array).__name__}, expected an array")


def check_labels(labels, classes: int) -> None:
    """Raise TypeError unless labels are integers, and ValueError unless they are a row of 0 to classes − 1.

    What is not known before a compiled program runs, the values, is not looked at within one.

    >>> import jax.numpy as jnp
    >>> check_labels(jnp.array([2, 3, 0]), 3)
    Traceback (most recent call last):
    ValueError: label 1: got 3, expected 0..2
    """
    check_array("labels", labels)
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(f"labels: got {labels.dtype}, expected integers")
    if labels.ndim != 1:
        raise ValueError(f"labels: got shape {labels.shape}, expected (N,)")
    if not isinstance(labels, Tracer):
        values = np.asarray(labels)
        wrong = (values < 0) | (values >= classes)
        if wrong.any():
            i = int(np.argmax(wrong))
            raise ValueError(f"label {i}: got {values[i]}, expected 0..{classes - 1}")
