"""Layers as plain forward passes, as anybody would write them for autodiff: (params, X) → A."""

import jax
import jax.numpy as jnp
from jax import lax

from jaxnn.activations import gelu


def dense(g):
    """A dense layer."""
    return lambda p, X: g(X @ p.W.T + p.b.T)


def mlp(g):
    """Dense layers, of which the last has no activation."""

    def forward(p, X):
        for layer in p[:-1]:
            X = dense(g)(layer, X)
        return dense(lambda Z: Z)(p[-1], X)

    return forward


def norm(axis: int):
    """Layer norm, over the columns, or batch norm, over the rows."""

    def forward(p, X):
        D = X - jnp.mean(X, axis, keepdims=True)
        return D * lax.rsqrt(jnp.var(X, axis, keepdims=True) + 1e-5) * p.gamma.T + p.beta.T

    return forward


def dropout(key, rate: float):
    """Dropout; the same entries in every precision of X."""
    kept = jnp.float32(1 - rate)
    return lambda p, X: jnp.where(jax.random.bernoulli(key, kept, X.shape), X / (1 - rate), 0)


def convolution(padding: int):
    """A convolution."""

    def forward(p, X):
        names = ("NHWC", "HWIO", "NHWC")
        Z = lax.conv_general_dilated(X, p.W, (1, 1), [(padding, padding)] * 2, dimension_numbers=names)
        return Z + p.b.reshape(1, 1, 1, -1)

    return forward


def max_pool(p, X):
    """The largest of each 2 × 2 pixels."""
    return lax.reduce_window(X, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def lenet(p, X):
    """LeNet-5, up to Z[L] of each image, (N, 1, 1, 10)."""
    C1, _, C3, _, C5, *top = p
    X = max_pool((), jax.nn.relu(convolution(2)(C1, X)))
    X = max_pool((), jax.nn.relu(convolution(0)(C3, X)))
    return mlp(jax.nn.relu)(top, jax.nn.relu(convolution(0)(C5, X)))


def attention(heads: int, weighted):
    """Causal attention: (N, T, n) to (N, T, heads, n / heads) and back."""

    def forward(p, X):
        Q, K, V = ((X @ W.T).reshape(*X.shape[:2], heads, -1) for W in (p.W_Q, p.W_K, p.W_V))
        return weighted(Q, K, V).reshape(X.shape) @ p.W_O.T

    return forward


def weighted(Q, K, V):
    """softmax(Q Kᵀ / √d) V, with the whole matrix."""
    T, d = Q.shape[1], Q.shape[3]
    S = jnp.einsum("nthd,nshd->nhts", Q, K) / d**0.5
    P = jax.nn.softmax(jnp.where(jnp.tril(jnp.ones((T, T), bool)), S, -jnp.inf), -1)
    return jnp.einsum("nhts,nshd->nthd", P, V)


def turned(X):
    """Rotary positions: halves of each head's numbers as points of a plane, turned by their place."""
    T, half = X.shape[1], X.shape[3] // 2
    angle = jnp.arange(T, dtype=X.dtype)[:, None] * 10_000.0 ** -(jnp.arange(half, dtype=X.dtype) / half)
    cos, sin = (f(angle)[None, :, None] for f in (jnp.cos, jnp.sin))
    a, b = jnp.split(X, 2, -1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], -1)


def weighted_by_jax(Q, K, V):
    """The same by JAX's own function."""
    return jax.nn.dot_product_attention(Q, K, V, is_causal=True)


def lstm(p, X):
    """An LSTM over time."""

    def step(carry, x):
        h, c = carry
        i, f, o, g = jnp.split(x @ p.W_X.T + h @ p.W_H.T + p.b.T, 4, 1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    zero = jnp.zeros((len(X), p.W_H.shape[1]), X.dtype)
    return lax.scan(step, (zero, zero), X.swapaxes(0, 1))[1].swapaxes(0, 1)


def blocks(p, X):
    """Layers of a norm and two dense layers with gelu between, each added to its input."""

    def block(A, p):
        of_norm, first, second = p
        hidden = dense(gelu.forward)(first, norm(1)(of_norm, A))
        return A + dense(lambda Z: Z)(second, hidden), None

    return lax.scan(block, X, p)[0]


def gpt(heads: int, of_block=lambda block: block):
    """What a GPT is between its two ends: blocks of attention and two dense layers, and a norm."""

    def block(A, p):
        (of_norm, of_attention), (norm_too, first, second) = p
        looks = attention(heads, lambda Q, K, V: weighted(turned(Q), turned(K), V))
        A = A + looks(of_attention, norm(-1)(of_norm, A))
        hidden = dense(gelu.forward)(first, norm(-1)(norm_too, A))
        return A + dense(lambda Z: Z)(second, hidden), None

    return lambda p, X: norm(-1)(p[1], lax.scan(of_block(block), X, p[0])[0])
