"""The LSTM over time, forward and backward, in segments.

W_X (4n, n_prev)    W_H (4n, n)    b (4n, 1)    A_prev (N, T, n_prev)    H (N, T, n), h and c (N, n) at a time

    z = x W_Xᵀ + h W_Hᵀ + bᵀ, in four parts: i, f, o = σ(z_i), σ(z_f), σ(z_o), g = tanh(z_g)
    c := f ⊙ c + i ⊙ g    h := o ⊙ tanh(c)

(Gers, Schmidhuber and Cummins, "Learning to forget", Neural Computation 12, 2000; the backward pass: Greff
et al., "LSTM: a search space odyssey", IEEE TNNLS 28, 2017, appendix A, without the peepholes; their z is g
here, their y is h.) H is kept, which is the output, and c at the start of each segment. On the way back the
z of all its steps are one product, and so is dW; only c, and then dh and dc, go step by step.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.lax import dynamic_slice_in_dim, dynamic_update_slice_in_dim
from jax.nn import sigmoid
from jaxtyping import Array, Float

from jaxnn.layers.layer import Layer, ShapeError, rows


class LSTM(NamedTuple):
    """The parameters of an LSTM; also their gradient. Their rows: i, f, o, g, n each."""

    W_X: Float[Array, "n4 n_prev"]
    W_H: Float[Array, "n4 n"]
    b: Float[Array, "n4 1"]


def lstm(n_prev: int, n: int, segment: int = 16) -> Layer:
    """An LSTM of n cells that begins with h = c = 0: every h, (N, T, n). b_f begins at 1, all other b at 0.

    >>> import jax, jax.numpy as jnp
    >>> layer = lstm(3, 5)
    >>> params = layer.init(jax.random.key(0))
    >>> H, residuals = layer.forward(params, jnp.ones((2, 7, 3)))
    >>> dparams, dA_prev = layer.backward(params, residuals, H)
    >>> H.shape, dparams.W_H.shape, dA_prev.shape
    ((2, 7, 5), (20, 5), (2, 7, 3))
    """

    def init(key) -> LSTM:
        draw = jax.nn.initializers.glorot_uniform(in_axis=1, out_axis=0)
        ours, theirs = jax.random.split(key)
        b = jnp.zeros((4 * n, 1)).at[n : 2 * n].set(1)
        return LSTM(draw(ours, (4 * n, n_prev)), draw(theirs, (4 * n, n)), b)

    def forward(params: LSTM, A_prev: Float[Array, "N T n_prev"], key=None):
        if A_prev.ndim != 3 or A_prev.shape[2] != n_prev:
            raise ShapeError(f"lstm: its input is {A_prev.shape}, expected (N, T, {n_prev})")
        X, S = _filled(A_prev, segment)
        zero = jnp.zeros((len(X), n), X.dtype)

        def of_step(carry, x):
            h_prev, c_prev = carry
            i, f, o, g = _gates(x + h_prev @ params.W_H.T)  # z = x W_Xᵀ + h W_Hᵀ + bᵀ
            c = f * c_prev + i * g  # c := f ⊙ c + i ⊙ g
            h = o * jnp.tanh(c)  # h := o ⊙ tanh(c)
            return (h, c), h

        def of_segment(carry, k):
            start, H = carry
            after, h = jax.lax.scan(of_step, start, _segment(X, k, S) @ params.W_X.T + params.b.T[None])
            return (after, _put(H, h, k)), start

        H = jnp.zeros((*X.shape[:2], n), X.dtype)
        (_, H), starts = jax.lax.scan(of_segment, ((zero, zero), H), jnp.arange(X.shape[1] // S))
        H = H[:, : A_prev.shape[1]]
        return H, (A_prev, H, starts)

    def backward(params: LSTM, residuals, dH: Float[Array, "N T n"]):
        A_prev, H, starts = residuals
        (X, S), (H, _), (dH, _) = (_filled(x, segment) for x in (A_prev, H, dH))
        zero = jnp.zeros((len(X), n), X.dtype)

        def of_segment(carry, at):
            (k, (h, c)), (d, dparams, dX) = at, carry
            x, h_prev = _segment(X, k, S), jnp.concatenate([h[None], _segment(H, k, S)[:-1]])
            z = x @ params.W_X.T + h_prev @ params.W_H.T + params.b.T[None]  # z = x W_Xᵀ + h W_Hᵀ + bᵀ
            slopes = _slopes(*_gates(z), c)
            d, dz = jax.lax.scan(of_step, d, (_segment(dH, k, S), *slopes), reverse=True)
            dz_rows, x_rows, h_rows = rows(dz), rows(x), rows(h_prev)
            more = LSTM(
                dz_rows.T @ x_rows,  # dW_X = Σ dzᵀ x
                dz_rows.T @ h_rows,  # dW_H = Σ dzᵀ h_prev
                jnp.sum(dz_rows.T, axis=1, keepdims=True),  # db = Σ dz
            )
            dX = _put(dX, dz @ params.W_X, k)  # dx = dz W_X
            return (d, jax.tree.map(jnp.add, dparams, more), dX), None

        def of_step(d, at):
            (dh, dc), (dH, f, dc_dh, slopes) = d, at
            dh = dh + dH  # dh = dH + W_Hᵀ dz, of the step after
            dc = dc + dh * dc_dh  # dc = dh ⊙ o ⊙ tanh′(c) + dc ⊙ f, of the step after
            dz = jnp.concatenate([dc, dc, dh, dc], axis=1) * slopes  # dz_i = dc ⊙ g ⊙ σ′(z_i), and so on
            return (dz @ params.W_H, dc * f), dz  # dh_prev = dz W_H, dc_prev = dc ⊙ f

        begin = (zero, zero), jax.tree.map(jnp.zeros_like, params), jnp.zeros_like(X)
        segments = jnp.arange(len(starts[0])), starts
        (_, dparams, dX), _ = jax.lax.scan(of_segment, begin, segments, reverse=True)
        return dparams, dX[:, : A_prev.shape[1]]

    return Layer(init, forward, backward, f"lstm({n_prev}→{n})")


def _gates(z):
    n = z.shape[-1] // 4
    i, f, o = jnp.split(sigmoid(z[..., : 3 * n]), 3, axis=-1)  # i, f, o = σ(z_i), σ(z_f), σ(z_o)
    return i, f, o, jnp.tanh(z[..., 3 * n :])  # g = tanh(z_g)


def _slopes(i, f, o, g, c):
    """What takes dh to dc, and both to dz, in each step of a segment that begins with c."""
    _, c_prev = jax.lax.scan(lambda c, at: (at[0] * c + at[1], c), c, (f, i * g))  # c := f ⊙ c + i ⊙ g
    tanh_c = jnp.tanh(f * c_prev + i * g)
    dc_dh = o * (1 - tanh_c) * (1 + tanh_c)  # dc = dh ⊙ o ⊙ tanh′(c)
    slopes = [
        g * i * (1 - i),  # dz_i = dc ⊙ g ⊙ σ′(z_i)
        c_prev * f * (1 - f),  # dz_f = dc ⊙ c_prev ⊙ σ′(z_f)
        tanh_c * o * (1 - o),  # dz_o = dh ⊙ tanh(c) ⊙ σ′(z_o)
        i * (1 - g) * (1 + g),  # dz_g = dc ⊙ i ⊙ tanh′(z_g)
    ]
    return f, dc_dh, jnp.concatenate(slopes, axis=2)


def _filled(X: Float[Array, "N T n"], segment: int):
    """With zeros behind, so that segments of S steps fill it; and S."""
    S = min(segment, X.shape[1])
    return jnp.pad(X, ((0, 0), (0, -X.shape[1] % S), (0, 0))), S


def _segment(X: Float[Array, "N T n"], k, S: int) -> Float[Array, "S N n"]:
    return dynamic_slice_in_dim(X, k * S, S, 1).swapaxes(0, 1)


def _put(X: Float[Array, "N T n"], x: Float[Array, "S N n"], k):
    return dynamic_update_slice_in_dim(X, x.swapaxes(0, 1), k * len(x), 1)
