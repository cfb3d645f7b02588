"""Pooling of images, forward and backward.

A_prev (N, H, W, n), H × W pixels of n channels    A (N, H_out, W_out, n)
Window (a, b) covers size × size pixels, from (a · stride, b · stride) on. Windows may overlap; pixels that
fill no window are left out (Dumoulin and Visin, "A guide to convolution arithmetic for deep learning",
arXiv:1603.07285, 2016, chapter 3).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxnn.layers.layer import Layer, ShapeError, no_params


def max_pool(size: int, stride: int | None = None) -> Layer:
    """The largest of each window. Where several are, the first takes the gradient, row by row, as in JAX.

    Which one it was is kept, a byte for each window up to 16×16, not the images. `stride` is `size` unless
    given.

    >>> import jax.numpy as jnp
    >>> layer, X = max_pool(2), jnp.array([[1.0, 3.0], [3.0, 2.0]]).reshape(1, 2, 2, 1)
    >>> A, residuals = layer.forward((), X)
    >>> A.ravel(), layer.backward((), residuals, jnp.ones_like(A))[1].ravel()
    (Array([3.], dtype=float32), Array([0., 1., 0., 0.], dtype=float32))
    """
    stride = stride or size

    def forward(params: tuple, A_prev: Float[Array, "N H W n"], key=None):
        _check("max_pool", size, A_prev)
        A, *others = views(A_prev, size, stride)
        first = jnp.zeros(A.shape, jnp.uint8 if size <= 16 else jnp.int32)
        for k, X in enumerate(others, 1):
            larger = ~(X <= A) & (A == A)  # of several that are no numbers, the first
            A, first = jnp.where(larger, X, A), jnp.where(larger, k, first)  # A = max over the window
        return A, (first, A_prev[:0])

    def backward(params: tuple, residuals, dA: Float[Array, "N H_out W_out n"]):
        first, empty = residuals
        parts = [jnp.where(first == k, dA, 0) for k in range(size * size)]  # dA to the first of the largest
        return (), put_back(parts, size, stride, empty.shape)

    return _layer("max_pool", size, stride, forward, backward)


def average_pool(size: int, stride: int | None = None) -> Layer:
    """The mean of each window. `stride` is `size` unless given."""
    stride = stride or size

    def forward(params: tuple, A_prev: Float[Array, "N H W n"], key=None):
        _check("average_pool", size, A_prev)
        return sum(views(A_prev, size, stride)) / size**2, A_prev[:0]  # A = mean over the window

    def backward(params: tuple, empty, dA: Float[Array, "N H_out W_out n"]):
        parts = [dA / size**2] * size**2  # to each pixel of the window its part
        return (), put_back(parts, size, stride, empty.shape)

    return _layer("average_pool", size, stride, forward, backward)


def views(X: Float[Array, "N H W n"], size: int, stride: int) -> list[Float[Array, "N H_out W_out n"]]:
    """The first pixel of every window, the second of every window, and so on, row by row."""
    H_out, W_out = ((side - size) // stride + 1 for side in X.shape[1:3])
    return [
        X[:, i : i + stride * (H_out - 1) + 1 : stride, j : j + stride * (W_out - 1) + 1 : stride]
        for i in range(size)
        for j in range(size)
    ]


def put_back(parts, size: int, stride: int, shape: tuple[int, ...]) -> Float[Array, "N H W n"]:
    """The sum of what the views' entries get, each at its pixel: the transpose of `views`."""
    (N, H_out, W_out, n), (_, H, W, _) = parts[0].shape, shape
    if stride == size and (H_out * size, W_out * size) == (H, W):  # each pixel is in one window
        tiles = jnp.stack(parts, 3).reshape(N, H_out, W_out, size, size, n)
        return tiles.swapaxes(2, 3).reshape(N, H, W, n)
    spread = jnp.zeros((N, H, W, n), parts[0].dtype)
    for k, part in enumerate(parts):
        i, j = divmod(k, size)
        after = (H - i - stride * (H_out - 1) - 1, W - j - stride * (W_out - 1) - 1)
        edges = ((0, 0, 0), (i, after[0], stride - 1), (j, after[1], stride - 1), (0, 0, 0))
        spread = spread + jax.lax.pad(part, jnp.zeros((), part.dtype), edges)
    return spread


def _layer(kind: str, size: int, stride: int, forward, backward) -> Layer:
    name = f"{kind}({size}×{size}{'' if stride == size else f', stride {stride}'})"
    return Layer(lambda key: (), forward, backward, name, squared_norms=no_params(backward))


def _check(name: str, size: int, A_prev) -> None:
    if A_prev.ndim != 4 or min(A_prev.shape[1:3]) < size:
        raise ShapeError(
            f"{name}: its input is {A_prev.shape}, expected (N, H, W, n) with H and W at least {size}"
        )
