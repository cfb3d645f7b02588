"""A drawing becomes an image as those that a network was trained on: scaled, moved, averaged over pixels.

Pure functions of fixed shapes: they run here, and their programs run in a page.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

FAINT = 0.05  # what is no darker is no ink


class Frame(NamedTuple):
    """How the images of a data set stand in their side × side pixels: in a box of height × width."""

    side: int
    height: int
    width: int
    kept: bool  # the ratio of height to width; else they fill the box
    by_mass: bool  # the pixel in the middle has the centre of mass; else the box is in the middle
    stretch: float = 1  # where the ratio is not kept: the width's scale is at most so many times the height's
    ink: float = 0  # the sum of the pixels is at least this: thin strokes are made darker


# digits: NIST stretched them to 32 × 20 of 32 × 32, and blocks of 4 × 4 were counted (UCI, optdigits.names).
# mnist: LeCun, Cortes and Burges, "The MNIST database". fashion_mnist: Xiao, Rasul and Vollgraf (2017),
# section 2; kmnist fills its frame alike. Measured on digits and mnist: each box and middle is these. An
# image of digits, of any class, has an ink of 19.5 (the median); its ones do not fill the box: of stretches
# from 1 to 3, drawn ones were read best with 1.25.
FRAMES = {
    "digits": Frame(8, 8, 5, kept=False, by_mass=False, stretch=1.25, ink=19.5),
    "mnist": Frame(28, 20, 20, kept=True, by_mass=True),
    "fashion_mnist": Frame(28, 28, 28, kept=True, by_mass=False),
    "kmnist": Frame(28, 28, 28, kept=True, by_mass=False),
}


def centred(G: Float[Array, "height width"], frame: Frame) -> Float[Array, "side side"]:
    """What is drawn in G, ink from 0 to 1, as the frame has it; of an empty pad, zeros.

    >>> import jax.numpy as jnp
    >>> bar = jnp.zeros((60, 60)).at[5:15, 40:42].set(1)
    >>> X = centred(bar, FRAMES["mnist"])
    >>> [int(i) for i in (jnp.argmax(X.sum(1) > 0), (X.sum(1) > 0).sum(), (X.sum(0) > 0).sum())]
    [5, 20, 4]
    """
    ink = jnp.where(G > FAINT, G, 0)
    shares = [jnp.sum(ink, axis=axis) for axis in (1, 0)]  # of each row, of each column
    spans = [_span(share) for share in shares]
    longest = jnp.maximum(spans[0][1], spans[1][1])
    overlaps = []
    for share, (first, size), box in zip(shares, spans, (frame.height, frame.width), strict=True):
        if frame.kept:
            n = jnp.maximum(jnp.floor(box * size / longest + 0.5), 1)
        else:
            n = jnp.minimum(box, frame.stretch * frame.height * size / spans[0][1])
        shift = (frame.side - n) / 2  # of the box from the edge
        if frame.by_mass:
            mass = jnp.sum(share * _middles(share)) / jnp.maximum(jnp.sum(share), FAINT)
            shift = jnp.floor(frame.side / 2 + 1 - (mass - first) * n / size)
            shift = jnp.clip(shift, 0, frame.side - n)  # nothing is cut off
        elif frame.kept:
            shift = jnp.floor(shift)
        overlaps.append(_overlaps(first, size, n, shift, frame.side, share))
    X = jnp.sign(jnp.sum(ink)) * overlaps[0] @ G @ overlaps[1].T  # of faint marks alone, 0
    if frame.ink:
        X = jnp.minimum(X * jnp.maximum(frame.ink / jnp.maximum(jnp.sum(X), FAINT), 1), 1)
    return X


def uncentred(G: Float[Array, "S S"], frame: Frame) -> Float[Array, "side side"]:
    """The whole of G, as it is, each pixel the mean of what lies in it.

    >>> import jax.numpy as jnp
    >>> print(uncentred(jnp.eye(8), FRAMES["digits"]._replace(side=2)))
    [[0.25 0.  ]
     [0.   0.25]]
    """
    side, S = frame.side, len(G)
    overlaps = _overlaps(0.0, float(S), float(side), 0.0, side, G[0])
    return overlaps @ G @ overlaps.T


def _middles(share: Float[Array, "S"]) -> Float[Array, "S"]:
    return jnp.arange(len(share), dtype=share.dtype) + 0.5


def _span(share: Float[Array, "S"]):
    """Where the ink begins, and how far it goes; 0 and 1 where there is none."""
    middles = _middles(share)
    last = jnp.max(jnp.where(share > 0, middles + 0.5, 0))
    first = jnp.minimum(jnp.min(jnp.where(share > 0, middles - 0.5, len(share))), last)
    return first, jnp.maximum(last - first, 1)


def _overlaps(first, size, n, shift, side: int, share: Float[Array, "S"]) -> Float[Array, "side S"]:
    """Each of side pixels as a mean over S: the n pixels from shift on are what lies from first over size."""
    step, middles = size / n, _middles(share)[None]
    edge = first + (jnp.arange(side, dtype=share.dtype)[:, None] - shift) * step
    low = jnp.maximum(jnp.maximum(edge, first), middles - 0.5)
    high = jnp.minimum(jnp.minimum(edge + step, first + size), middles + 0.5)
    return jnp.maximum(high - low, 0) / step
