"""The LSTM over time, forward and backward, in segments.

W_X (4n, n_prev)    W_H (4n, n)    b (4n, 1)    A_prev (N, T, n_prev)    H (N, T, n), h and c (N, n) at a time

    z = x W_Xᵀ + h W_Hᵀ + bᵀ, in four parts: i, f, o = σ(z_i), σ(z_f), σ(z_o), g = tanh(z_g)
    c := f ⊙ c + i ⊙ g    h := o ⊙ tanh(c)

(Gers, Schmidhuber and Cummins, "Learning to forget", Neural Computation 12, 2000; the backward pass: Graves,
"Supervised sequence labelling with recurrent neural networks", Springer 2012, section 4.6.) h and c are kept
at the start of each segment alone; its steps are made again on the way back. dW is one product a segment.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxnn.activations import logistic
from jaxnn.layers.layer import Layer, ShapeError


class LSTM(NamedTuple):
    """The parameters of an LSTM; also their gradient. Their rows: i, f, o, g, n each."""

    W_X: Float[Array, "n4 n_prev"]
    W_H: Float[Array, "n4 n"]
    b: Float[Array, "n4 1"]


class Step(NamedTuple):
    """What the backward of one step needs."""

    i: Array
    f: Array
    o: Array
    g: Array
    h_prev: Array
    c_prev: Array
    tanh_c: Array


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
        zero = jnp.zeros((len(A_prev), n), A_prev.dtype)

        def of_segment(carry, X):
            after, H = jax.lax.scan(lambda carry, x: _step(params, carry, x)[:2], carry, _inputs(params, X))
            return after, (H, carry)

        _, (H, starts) = jax.lax.scan(of_segment, (zero, zero), _segments(A_prev, segment))
        return _together(H, A_prev.shape[1]), (A_prev, starts)

    def backward(params: LSTM, residuals, dH: Float[Array, "N T n"]):
        A_prev, starts = residuals
        zero = jnp.zeros((len(A_prev), n), A_prev.dtype)

        def of_segment(carry, at):
            d, dparams = carry
            start, X, dH = at
            _, steps = jax.lax.scan(lambda carry, x: _step(params, carry, x)[::2], start, _inputs(params, X))
            d, dZ = jax.lax.scan(lambda d, at: _step_backward(params, d, *at), d, (steps, dH), reverse=True)
            dZ_rows, X_rows, h_rows = (x.reshape(-1, x.shape[-1]) for x in (dZ, X, steps.h_prev))
            more = LSTM(
                dZ_rows.T @ X_rows,  # dW_X = Σ dzᵀ x
                dZ_rows.T @ h_rows,  # dW_H = Σ dzᵀ h_prev
                jnp.sum(dZ_rows.T, axis=1, keepdims=True),  # db = Σ dz
            )
            return (d, jax.tree.map(jnp.add, dparams, more)), dZ @ params.W_X  # dx = dz W_X

        begin = (zero, zero), jax.tree.map(jnp.zeros_like, params)
        at = starts, _segments(A_prev, segment), _segments(dH, segment)
        (_, dparams), dX = jax.lax.scan(of_segment, begin, at, reverse=True)
        return dparams, _together(dX, A_prev.shape[1])

    return Layer(init, forward, backward, f"lstm({n_prev}→{n})")


def _inputs(params: LSTM, X: Float[Array, "S N n_prev"]) -> Float[Array, "S N n4"]:
    return X @ params.W_X.T + params.b.T[None]  # x W_Xᵀ + bᵀ, of a whole segment


def _step(params: LSTM, carry, x):
    h_prev, c_prev = carry
    i, f, o, g = jnp.split(x + h_prev @ params.W_H.T, 4, axis=1)  # z = x W_Xᵀ + h W_Hᵀ + bᵀ
    i, f, o, g = logistic(i), logistic(f), logistic(o), jnp.tanh(g)
    c = f * c_prev + i * g  # c := f ⊙ c + i ⊙ g
    tanh_c = jnp.tanh(c)
    h = o * tanh_c  # h := o ⊙ tanh(c)
    return (h, c), h, Step(i, f, o, g, h_prev, c_prev, tanh_c)


def _step_backward(params: LSTM, d, step: Step, dH):
    (dh, dc), (i, f, o, g, _, c_prev, tanh_c) = d, step
    dh = dh + dH  # from the next step, and from the output
    dc = dc + dh * o * (1 - tanh_c) * (1 + tanh_c)  # dc += dh ⊙ o ⊙ tanh′(c)
    di, df, do, dg = dc * g, dc * c_prev, dh * tanh_c, dc * i
    dz = [di * i * (1 - i), df * f * (1 - f), do * o * (1 - o), dg * (1 - g) * (1 + g)]  # dz = d ⊙ g′(z)
    dz = jnp.concatenate(dz, axis=1)
    return (dz @ params.W_H, dc * f), dz  # dh_prev = dz W_H, dc_prev = dc ⊙ f


def _segments(X: Float[Array, "N T n"], segment: int) -> Float[Array, "segments S N n"]:
    """Time first, cut into segments, of which the last is filled up with zeros."""
    N, T, n = X.shape
    S = min(segment, T)
    X = jnp.pad(X, ((0, 0), (0, -T % S), (0, 0)))
    return X.swapaxes(0, 1).reshape(-1, S, N, n)


def _together(X: Float[Array, "segments S N n"], T: int) -> Float[Array, "N T n"]:
    return X.reshape(-1, *X.shape[2:])[:T].swapaxes(0, 1)
