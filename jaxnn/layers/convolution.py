"""The convolutional layer, forward and backward.

W (size, size, n_prev / groups, n)    b (n, 1)    A_prev (N, H, W, n_prev)    Z, A (N, H_out, W_out, n)

dW and dA_prev are convolutions themselves: of A_prev with dZ, and of dZ with the kernel turned round
(Dumoulin and Visin, "A guide to convolution arithmetic for deep learning", arXiv:1603.07285, 2016, relation
14; LeCun et al., "Gradient-based learning applied to document recognition", Proc. IEEE 86, 1998, section II).
"""

import jax
import jax.numpy as jnp
from jax.lax import conv_general_dilated
from jaxtyping import Array, Float

from jaxnn.activations import Activation, identity
from jaxnn.layers.dense import Dense, Residuals, kept, made_again
from jaxnn.layers.layer import Layer, ShapeError, rows

IMAGES, KERNEL = "NHWC", "HWIO"


def convolution(
    n_prev: int,
    n: int,
    size: int,
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
    g: Activation = identity,
) -> Layer:
    """n kernels of size × size pixels over images of n_prev channels: A = g(A_prev ∗ W + bᵀ).

    The images get a border of `padding` zeros, and the kernels move by `stride` pixels. Channels in `groups`
    are seen by the kernels of their own group alone. Raises ValueError if groups do not divide n_prev and n.

    >>> import jax, jax.numpy as jnp
    >>> layer = convolution(3, 8, 5, stride=2, padding=2)
    >>> params = layer.init(jax.random.key(0))
    >>> A, residuals = layer.forward(params, jnp.ones((7, 28, 28, 3)))
    >>> dparams, dA_prev = layer.backward(params, residuals, A)
    >>> A.shape, dparams.W.shape, dA_prev.shape
    ((7, 14, 14, 8), (5, 5, 3, 8), (7, 28, 28, 3))
    """
    if groups < 1 or n_prev % groups or n % groups:
        raise ValueError(
            f"convolution: got {groups} groups of {n_prev}→{n} channels, expected a divisor of both"
        )

    def init(key) -> Dense:
        W = jax.nn.initializers.glorot_uniform()(key, (size, size, n_prev // groups, n))
        return Dense(W, jnp.zeros((n, 1), W.dtype))

    def forward(params: Dense, A_prev: Float[Array, "N H W n_prev"], key=None):
        W, b = params
        if A_prev.ndim != 4 or A_prev.shape[3] != n_prev or min(A_prev.shape[1:3]) + 2 * padding < size:
            raise ShapeError(
                f"convolution: W is {W.shape}, its input is {A_prev.shape}, expected (N, H, W, {n_prev})"
            )
        Z = conv_general_dilated(  # Z[a, b] = Σ_ij A_prev[a s + i − p, b s + j − p] W[i, j] + bᵀ
            A_prev, W, (stride, stride), [(padding, padding)] * 2,
            dimension_numbers=(IMAGES, KERNEL, IMAGES), feature_group_count=groups,
        ) + b.reshape(1, 1, 1, n)  # fmt: skip
        A = g.forward(Z)  # A = g(Z)
        return A, kept(g, A_prev, Z, A)

    def backward(params: Dense, residuals: Residuals, dA: Float[Array, "N H_out W_out n"]):
        W, _ = params
        A_prev, Z, A = residuals
        dZ = g.backward(dA, Z, A)  # dZ = dA ⊙ g′(Z)
        reach = [stride * (out - 1) + 1 for out in dZ.shape[1:3]]  # from a window's first pixel to the last's
        sides = list(zip(A_prev.shape[1:3], reach, strict=True))
        dW = conv_general_dilated(  # dW[i, j] = Σ_ab A_prev[a s + i − p, b s + j − p]ᵀ dZ[a, b]
            # in this order of axes, for in a loop XLA's CPU knows a fast program for no other
            A_prev.transpose(3, 1, 2, 0), dZ.transpose(1, 2, 0, 3), (1, 1),
            [(padding, size - 1 + last - H - padding) for H, last in sides],
            rhs_dilation=(stride, stride), dimension_numbers=(IMAGES, KERNEL, IMAGES),
            batch_group_count=groups,
        ).transpose(1, 2, 0, 3)  # fmt: skip
        db = jnp.sum(rows(dZ).T, axis=1, keepdims=True)  # db = Σ dZ, over examples and pixels
        turned = jnp.flip(W, (0, 1)).reshape(size, size, n_prev // groups, groups, n // groups)
        dA_prev = conv_general_dilated(  # dA_prev[c, d] = Σ_ij dZ[(c + p − i) / s, (d + p − j) / s] W[i, j]ᵀ
            dZ, turned.swapaxes(2, 4).reshape(size, size, n // groups, n_prev), (1, 1),
            [(size - 1 - padding, H + padding - last) for H, last in sides],
            lhs_dilation=(stride, stride), dimension_numbers=(IMAGES, KERNEL, IMAGES),
            feature_group_count=groups,
        )  # fmt: skip
        return Dense(dW, db), dA_prev

    options = (("stride", stride, 1), ("padding", padding, 0), ("groups", groups, 1))
    how = "".join(f", {word} {value}" for word, value, usual in options if value != usual)
    name = f"convolution({size}×{size}, {n_prev}→{n}{how})"
    return Layer(init, forward, backward, name, again=made_again(g))
