"""Layers made of layers: added to their input, repeated, made again on the way back, or undone there."""

from functools import partial

import jax
import jax.numpy as jnp

from jaxnn.layers.layer import Layer, ShapeError, own, parts_norms


def residual(f: Layer) -> Layer:
    """A = A_prev + f(A_prev) (He et al., "Deep residual learning", CVPR 2016, eq. 1)."""

    def forward(params, A_prev, key=None):
        B, residuals = f.forward(params, A_prev, key)
        return _plus(A_prev, B, f), residuals  # A = A_prev + f(A_prev)

    def back(through, params, residuals, dA):
        found, dA_prev = through(params, residuals, dA)
        return found, dA + dA_prev  # dA_prev = dA + what comes back through f

    backward, squared_norms = partial(back, f.backward), partial(back, f.squared_norms)
    norms = parts_norms([f], squared_norms)
    return Layer(f.init, forward, backward, f"residual({f.name})", squared_norms=norms)


def repeated(f: Layer, L: int) -> Layer:
    """L layers like f, one after the other, each with parameters of its own, stacked along a first axis.

    One program of f, gone through L times forward and L times back, in place of L programs.

    >>> import jax, jax.numpy as jnp
    >>> from jaxnn.layers import dense
    >>> layer = repeated(dense(3, 3), 4)
    >>> layer.init(jax.random.key(0)).W.shape
    (4, 3, 3)
    """

    def init(key):
        return jax.vmap(f.init)(jax.random.split(key, L))

    def forward(params, A_prev, key=None):
        at = jnp.arange(L), params
        return jax.lax.scan(lambda A, at: f.forward(at[1], A, own(key, at[0])), A_prev, at)

    def back(through, params, residuals, dA):
        at = params, residuals
        dA_prev, found = jax.lax.scan(lambda dA, at: through(*at, dA)[::-1], dA, at, reverse=True)
        return found, dA_prev

    def squared_norms(params, residuals, dA):
        squared, dA_prev = back(f.squared_norms, params, residuals, dA)
        return jnp.sum(squared, axis=0), dA_prev

    norms = parts_norms([f], squared_norms)
    return Layer(init, forward, partial(back, f.backward), f"{L} × {f.name}", squared_norms=norms)


def recomputed(f: Layer) -> Layer:
    """f, of which only the input is kept: its forward pass is made again on the way back.

    Chen et al., "Training deep nets with sublinear memory cost", arXiv:1604.06174 (2016), section 4.
    """

    def forward(params, A_prev, key=None):
        A, _ = f.forward(params, A_prev, key)
        return A, (A_prev, key)

    def back(through, params, residuals, dA):
        A_prev, key = residuals
        A_prev, dA = jax.lax.optimization_barrier((A_prev, dA))  # else XLA keeps what it has computed once
        return through(params, f.forward(params, A_prev, key)[1], dA)

    backward, squared_norms = partial(back, f.backward), partial(back, f.squared_norms)
    norms = parts_norms([f], squared_norms)
    return Layer(f.init, forward, backward, f"recomputed({f.name})", squared_norms=norms)


def reversible(f: Layer, g: Layer, L: int) -> Layer:
    """L blocks that can be undone: only the output of the last one is kept, however many there are.

    A = (A₁, A₂), halves of the last axis: A₁ := A₁ + f(A₂), A₂ := A₂ + g(A₁). On the way back the inputs
    are made of the outputs, A₂ := A₂ − g(A₁), A₁ := A₁ − f(A₂), and are off by their rounding, a few units
    of 2⁻²³ for each block (Gomez et al., "The reversible residual network", NeurIPS 2017, algorithm 1).

    >>> import jax, jax.numpy as jnp
    >>> from jaxnn.activations import tanh
    >>> from jaxnn.layers import dense
    >>> layer = reversible(dense(3, 3, tanh), dense(3, 3, tanh), L=4)
    >>> params = layer.init(jax.random.key(0))
    >>> A, (kept, key) = layer.forward(params, jnp.ones((5, 6)))
    >>> kept.shape
    (5, 6)
    """

    def init(key):
        def of_block(key):
            first, second = jax.random.split(key)
            return f.init(first), g.init(second)

        return jax.vmap(of_block)(jax.random.split(key, L))

    def keys(key, l):
        return own(own(key, l), 0), own(own(key, l), 1)

    def forward(params, A_prev, key=None):
        def of_block(halves, at):
            (l, (p, q)), (A1, A2) = at, halves
            of_f, of_g = keys(key, l)
            A1 = _plus(A1, f.forward(p, A2, of_f)[0], f)  # A₁ := A₁ + f(A₂)
            A2 = _plus(A2, g.forward(q, A1, of_g)[0], g)  # A₂ := A₂ + g(A₁)
            return (A1, A2), None

        if A_prev.shape[-1] % 2:
            raise ShapeError(f"reversible: its input is {A_prev.shape}, expected two halves of the last axis")
        halves, _ = jax.lax.scan(of_block, tuple(jnp.split(A_prev, 2, -1)), (jnp.arange(L), params))
        A = jnp.concatenate(halves, axis=-1)
        return A, (A, key)

    def backward(params, residuals, dA):
        A, key = residuals

        def of_block(carry, at):
            (l, (p, q)), (A1, A2, dA1, dA2) = at, carry
            of_f, of_g = keys(key, l)
            B, r = g.forward(q, A1, of_g)
            A2 = A2 - B  # A₂ := A₂ − g(A₁)
            dq, back = g.backward(q, r, dA2)
            dA1 = dA1 + back  # dA₁ += what comes back through g
            B, r = f.forward(p, A2, of_f)
            A1 = A1 - B  # A₁ := A₁ − f(A₂)
            dp, back = f.backward(p, r, dA1)
            dA2 = dA2 + back  # dA₂ += what comes back through f
            return (A1, A2, dA1, dA2), (dp, dq)

        carry = (*jnp.split(A, 2, -1), *jnp.split(dA, 2, -1))
        (_, _, dA1, dA2), dparams = jax.lax.scan(of_block, carry, (jnp.arange(L), params), reverse=True)
        return dparams, jnp.concatenate([dA1, dA2], axis=-1)

    return Layer(init, forward, backward, f"{L} × reversible({f.name}, {g.name})")


def _plus(A, B, f: Layer):
    if A.shape != B.shape:
        raise ShapeError(f"{f.name}: gives {B.shape}, which is added to {A.shape}, expected the same shape")
    return A + B
