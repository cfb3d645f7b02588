"""The LSTM over time, forward and backward, in segments.

W_X (4n, n_prev)    W_H (4n, n)    b (4n, 1)    A_prev (N, T, n_prev)    H (N, T, n), h and c (N, n) at a time

    z = x W_Xᵀ + h W_Hᵀ + bᵀ, in four parts: i, f, o = σ(z_i), σ(z_f), σ(z_o), g = tanh(z_g)
    c := f ⊙ c + i ⊙ g    h := o ⊙ tanh(c)

(Gers, Schmidhuber and Cummins, "Learning to forget", Neural Computation 12, 2000; the backward pass: Greff
et al., "LSTM: a search space odyssey", IEEE TNNLS 28, 2017, appendix A, without the peepholes; their z is g
here, their y is h.) h and c are kept at the start of each segment alone; its steps are made again on the way
back. dW is one product a segment.
"""

from collections import namedtuple
from functools import partial
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


Step = namedtuple("Step", "i f o g h_prev c_prev tanh_c")  # what the backward of one step needs


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
            (h, c), _ = _step(params, carry, x)
            return (h, c), h

        def of_segment(carry, k):
            start, H = carry
            after, h = jax.lax.scan(of_step, start, _inputs(params, _segment(X, k, S)))
            return (after, _put(H, h, k)), start

        H = jnp.zeros((*X.shape[:2], n), X.dtype)
        (_, H), starts = jax.lax.scan(of_segment, ((zero, zero), H), jnp.arange(X.shape[1] // S))
        return H[:, : A_prev.shape[1]], (A_prev, starts)

    def backward(params: LSTM, residuals, dH: Float[Array, "N T n"]):
        A_prev, starts = residuals
        (X, S), (dH, _) = _filled(A_prev, segment), _filled(dH, segment)
        zero = jnp.zeros((len(X), n), X.dtype)

        def of_segment(carry, at):
            (k, start), (d, dparams, dX) = at, carry
            x = _segment(X, k, S)
            _, steps = jax.lax.scan(partial(_step, params), start, _inputs(params, x))
            d, dz = jax.lax.scan(
                lambda d, at: _step_backward(params, d, *at), d, (steps, _segment(dH, k, S)), reverse=True
            )
            dz_rows, x_rows, h_rows = rows(dz), rows(x), rows(steps.h_prev)
            more = LSTM(
                dz_rows.T @ x_rows,  # dW_X = Σ dzᵀ x
                dz_rows.T @ h_rows,  # dW_H = Σ dzᵀ h_prev
                jnp.sum(dz_rows.T, axis=1, keepdims=True),  # db = Σ dz
            )
            dX = _put(dX, dz @ params.W_X, k)  # dx = dz W_X
            return (d, jax.tree.map(jnp.add, dparams, more), dX), None

        begin = (zero, zero), jax.tree.map(jnp.zeros_like, params), jnp.zeros_like(X)
        at = jnp.arange(len(starts[0])), starts
        (_, dparams, dX), _ = jax.lax.scan(of_segment, begin, at, reverse=True)
        return dparams, dX[:, : A_prev.shape[1]]

    return Layer(init, forward, backward, f"lstm({n_prev}→{n})")


def _inputs(params: LSTM, X: Float[Array, "S N n_prev"]) -> Float[Array, "S N n4"]:
    return X @ params.W_X.T + params.b.T[None]  # x W_Xᵀ + bᵀ, of a whole segment


def _step(params: LSTM, carry, x):
    h_prev, c_prev = carry
    z = jnp.split(x + h_prev @ params.W_H.T, 4, axis=1)  # z = x W_Xᵀ + h W_Hᵀ + bᵀ, x being x W_Xᵀ + bᵀ
    i, f, o, g = sigmoid(z[0]), sigmoid(z[1]), sigmoid(z[2]), jnp.tanh(z[3])
    c = f * c_prev + i * g  # c := f ⊙ c + i ⊙ g
    tanh_c = jnp.tanh(c)
    h = o * tanh_c  # h := o ⊙ tanh(c)
    return (h, c), Step(i, f, o, g, h_prev, c_prev, tanh_c)


def _step_backward(params: LSTM, d, step: Step, dH):
    (dh, dc), (i, f, o, g, _, c_prev, tanh_c) = d, step
    dh = dh + dH  # dh = dH + W_Hᵀ dz, of the step after
    dc = dc + dh * o * (1 - tanh_c) * (1 + tanh_c)  # dc = dh ⊙ o ⊙ tanh′(c) + dc ⊙ f, of the step after
    dz_i = dc * g * i * (1 - i)  # dz_i = dc ⊙ g ⊙ σ′(z_i)
    dz_f = dc * c_prev * f * (1 - f)  # dz_f = dc ⊙ c_prev ⊙ σ′(z_f)
    dz_o = dh * tanh_c * o * (1 - o)  # dz_o = dh ⊙ tanh(c) ⊙ σ′(z_o)
    dz_g = dc * i * (1 - g) * (1 + g)  # dz_g = dc ⊙ i ⊙ tanh′(z_g)
    dz = jnp.concatenate([dz_i, dz_f, dz_o, dz_g], axis=1)
    return (dz @ params.W_H, dc * f), dz  # dh_prev = dz W_H, dc_prev = dc ⊙ f


def _filled(X: Float[Array, "N T n"], segment: int):
    """With zeros behind, so that segments of S steps fill it; and S."""
    S = min(segment, X.shape[1])
    return jnp.pad(X, ((0, 0), (0, -X.shape[1] % S), (0, 0))), S


def _segment(X: Float[Array, "N T n"], k, S: int) -> Float[Array, "S N n"]:
    return dynamic_slice_in_dim(X, k * S, S, 1).swapaxes(0, 1)


def _put(X: Float[Array, "N T n"], x: Float[Array, "S N n"], k):
    return dynamic_update_slice_in_dim(X, x.swapaxes(0, 1), k * len(x), 1)
