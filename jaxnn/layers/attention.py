"""Multi-head attention, forward and backward, without the T × T matrix of weights.

A_prev, A (N, T, n), T places    Q, O (B, G, T, d)    K, V (B, 1, T, d)    L (B, G, T, 1)
B = N times the heads of K and V, for each of which there are G heads of Q

    Q = A_prev W_Qᵀ, K = A_prev W_Kᵀ, V = A_prev W_Vᵀ, head by head, Q and K turned by their place
    S = Q Kᵀ / √d    P = softmax(S)    O = P V    A = O W_Oᵀ

(Vaswani et al., "Attention is all you need", NeurIPS 2017, section 3.2.) It goes through pairs of a block of
Q and one of K and V. A_prev, O and L = log Σ eˢ are kept, and Q, K, V and P = e^(S − L) made again on the way
back (Dao, "FlashAttention-2", arXiv:2307.08691, 2023, algorithms 1 and 2). Pairs that a causal mask leaves
out are not visited, and no bit of a place depends on what comes after it, not even where that is NaN. A head
of K and V may serve several of Q (Ainslie et al., "GQA", EMNLP 2023). Turning: Su et al., "RoFormer",
arXiv:2104.09864 (2021), eq. 34.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.lax import dynamic_slice_in_dim, dynamic_update_slice_in_dim
from jaxtyping import Array, Bool, Float

from jaxnn.layers.layer import Layer, ShapeError, apart, rows


class Attention(NamedTuple):
    """The parameters of attention; also their gradient."""

    W_Q: Float[Array, "heads_d n"]
    W_K: Float[Array, "kv_d n"]
    W_V: Float[Array, "kv_d n"]
    W_O: Float[Array, "n heads_d"]


def attention(
    n: int, heads: int, kv_heads: int = 0, causal: bool = True, rotary: bool = True, block: int = 0
) -> Layer:
    """Attention of `heads` heads of n / heads numbers each, from each place to all, or to those up to it.

    K and V have `kv_heads` heads, as many as Q unless given. `rotary` turns Q and K by their place. A `block`
    is of 128 places, or of 256 from 1,024 on, unless given.
    Raises ValueError unless heads divide n, and kv_heads them; what is turned is of even size.

    >>> import jax, jax.numpy as jnp
    >>> layer = attention(8, heads=4, kv_heads=2)
    >>> params = layer.init(jax.random.key(0))
    >>> A, residuals = layer.forward(params, jnp.ones((3, 5, 8)))
    >>> dparams, dA_prev = layer.backward(params, residuals, A)
    >>> A.shape, dparams.W_K.shape
    ((3, 5, 8), (4, 8))
    """
    kv = kv_heads or heads
    if heads < 1 or n % heads or heads % kv or (rotary and n // heads % 2):
        raise ValueError(
            f"attention: got n = {n}, {heads} heads and {kv} of K and V, expected divisors, n / heads even"
        )
    d, G = n // heads, heads // kv

    def init(key) -> Attention:
        draw = jax.nn.initializers.glorot_uniform(in_axis=1, out_axis=0)
        sizes = (n, n), (kv * d, n), (kv * d, n), (n, n)
        return Attention(*map(draw, jax.random.split(key, 4), sizes))

    def forward(params: Attention, A_prev: Float[Array, "N T n"], key=None):
        if A_prev.ndim != 3 or A_prev.shape[2] != n:
            raise ShapeError(f"attention: its input is {A_prev.shape}, expected (N, T, {n})")
        Q, K, V = projected(params, A_prev)
        size = _size(block, Q)
        C = _common(V, causal, size)
        O, L = attended(Q, K, V, C, causal, size)  # O = softmax(Q Kᵀ / √d) V, less C
        A = _places(_whole(O, C, size), len(A_prev)) @ params.W_O.T  # A = O W_Oᵀ
        return A.reshape(A_prev.shape), (A_prev, O, L, C)

    def projected(params: Attention, A_prev: Float[Array, "N T n"]):
        N, X = len(A_prev), rows(A_prev)
        Q = _heads(X @ params.W_Q.T, N, kv, G)  # Q = A_prev W_Qᵀ
        K = _heads(X @ params.W_K.T, N, kv, 1)  # K = A_prev W_Kᵀ
        V = _heads(X @ params.W_V.T, N, kv, 1)  # V = A_prev W_Vᵀ
        if rotary:
            Q, K = turned(Q), turned(K)
        finite = jnp.all(jnp.isfinite(K) & jnp.isfinite(V), axis=-1, keepdims=True)
        return Q, jnp.where(finite, K, jnp.nan), jnp.where(finite, V, 0)  # S is masked; 0 · NaN in P V is NaN

    def backward(params: Attention, residuals: tuple, dA: Float[Array, "N T n"]):
        (A_prev, O, L, C), N, size = residuals, len(dA), _size(block, residuals[1])
        dO = _heads(rows(dA) @ params.W_O, N, kv, G)  # dO = dA W_O
        A_prev, dO = apart(A_prev, dO, A_prev.size)
        Q, K, V = projected(params, A_prev)  # made again: three products in the place of three arrays
        X, dA = rows(A_prev), rows(dA)
        dW_O = dA.T @ _places(_whole(O, C, size), N)  # dW_O = dAᵀ O
        dQ, dK, dV = unattended(Q, K, V, C, O, L, dO, causal, size)
        if rotary:
            dQ, dK = turned(dQ, -1), turned(dK, -1)
        dQ, dK, dV = _places(dQ, N), _places(dK, N), _places(dV, N)
        dX = dQ @ params.W_Q + dK @ params.W_K + dV @ params.W_V  # dA_prev = dQ W_Q + dK W_K + dV W_V
        dparams = Attention(dQ.T @ X, dK.T @ X, dV.T @ X, dW_O)  # dW_Q = dQᵀ A_prev, and so on
        return dparams, dX.reshape(A_prev.shape)

    how = "".join((f", {kv} of K and V" if kv != heads else "", ", causal" if causal else ""))
    return Layer(init, forward, backward, f"attention({n}, {heads} heads{how})")


def attended(Q, K, V, C, causal: bool, block: int) -> tuple[Float[Array, "B G T d"], Float[Array, "B G T 1"]]:
    """O = softmax(Q Kᵀ / √d) (V − C) and L = log Σ exp(Q Kᵀ / √d), over pairs of blocks."""
    _, G, T, d = Q.shape
    Q, K, V = (_padded(x, block) for x in (Q, K, V))

    def of_pair(masked: bool, carry, pair):
        i, j = pair
        S = _rows(Q, i, block) / d**0.5 @ _rows(K, j, block).mT  # S = Q Kᵀ / √d
        S = jnp.where(_seen(i, j, block, G, causal, T), S, -jnp.inf) if masked else S
        O_i, m_i, total_i = (_rows(x, i, block) for x in carry)
        m_new = jnp.maximum(m_i, jnp.max(S, axis=-1, keepdims=True))
        e, old = jnp.exp(S - m_new), jnp.exp(m_i - m_new)
        O_i = O_i * old + e @ (_rows(V, j, block) - _rows(C, i, 1))
        total_i = total_i * old + jnp.sum(e, axis=-1, keepdims=True)
        return tuple(_put(X, x, i, G) for X, x in zip(carry, (O_i, m_new, total_i), strict=True)), None

    (last, others), one = _pairs(T, block, causal), jnp.zeros((*Q.shape[:-1], 1), Q.dtype)
    carry = jnp.zeros_like(Q), one - jnp.inf, one
    carry, _ = jax.lax.scan(partial(of_pair, True), carry, last)
    (O, m, total), _ = jax.lax.scan(partial(of_pair, False), carry, others)
    return (O / total)[:, :, :T], (m + jnp.log(total))[:, :, :T]


def unattended(Q, K, V, C, O, L, dO, causal: bool, block: int):
    """dQ, dK, dV. Taking C off V and O changes none of them: D below and dP change alike."""
    _, G, T, d = Q.shape
    Q, K, V, O, L, dO = (_padded(x, block) for x in (Q, K, V, O, L, dO))
    D = jnp.sum(dO * O, axis=-1, keepdims=True)  # D = Σ_s P ⊙ dP = Σ dO ⊙ O
    used = jnp.any(dO != 0, axis=-1, keepdims=True)  # where dO = 0 nothing comes back, not even NaN
    L, D = jnp.where(used, L, jnp.inf), jnp.where(used, D, 0)

    def of_row(i, whole):
        dQ, dK, dV = whole
        Q_i, L_i, dO_i, D_i = (_rows(x, i, block) for x in (Q, L, dO, D))
        Q_i = jnp.where(jnp.isfinite(Q_i) & (L_i != jnp.inf), Q_i, 0) / d**0.5  # L is NaN wherever it matters
        L_T, dO_T, D_T = L_i.mT, dO_i.mT, D_i.mT

        def of_pair(masked: bool, j, carry):
            dQ_T, dK, dV = carry
            K_j = _rows(K, j, block)
            K_j = jnp.where(jnp.isfinite(K_j), K_j, 0)
            S = K_j @ Q_i.mT  # Sᵀ = K Qᵀ / √d
            S = jnp.where(_seen(i, j, block, G, causal, T).mT, S, -jnp.inf) if masked else S
            P = jnp.exp(S - L_T)  # Pᵀ = e^(Sᵀ − Lᵀ)
            dP = (_rows(V, j, block) - _rows(C, i, 1)) @ dO_T  # dPᵀ = V dOᵀ
            dS = P * jnp.where(P == 0, 0, dP - D_T)  # dS = P ⊙ (dP − D)
            dV = _put(dV, _rows(dV, j, block) + P @ dO_i, j)  # dV = Pᵀ dO
            dK = _put(dK, _rows(dK, j, block) + dS @ Q_i, j)  # dK = dSᵀ Q / √d
            return dQ_T + K_j.mT @ dS, dK, dV  # dQᵀ = Kᵀ dSᵀ, and then / √d

        last = i if causal else Q.shape[2] // block - 1
        carry = jax.lax.fori_loop(0, last, partial(of_pair, False), (jnp.zeros_like(dO_T), dK, dV))
        dQ_T, dK, dV = of_pair(True, last, carry)
        return _put(dQ, dQ_T.mT / d**0.5, i, G), dK, dV

    whole = jax.lax.fori_loop(0, Q.shape[2] // block, of_row, tuple(map(jnp.zeros_like, (Q, K, V))))
    return tuple(x[:, :, :T] for x in whole)


def turned(X: Float[Array, "B G T d"], sign: int = 1, base: float = 10_000.0) -> Float[Array, "B G T d"]:
    """Entries i and i + d/2 as a point of a plane, turned by place · base^(−2i/d); back where sign is −1."""
    T, half = X.shape[2], X.shape[3] // 2
    angle = jnp.arange(T, dtype=X.dtype)[:, None] * base ** -(jnp.arange(half, dtype=X.dtype)[None] / half)
    cos, sin = jnp.cos(angle)[None, None], sign * jnp.sin(angle)[None, None]
    a, b = X[..., :half], X[..., half:]
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


def _common(V: Float[Array, "B 1 T d"], causal: bool, block: int) -> Float[Array, "B 1 blocks d"]:
    """C, the mean of V over the places that all of a block of Q see: P V = P (V − C) + C, to more digits."""
    B, _, T, d = V.shape
    if not causal:
        return jnp.repeat(jnp.mean(V, axis=2, keepdims=True), -(-T // block), axis=2)
    sums = jnp.sum(_padded(V, block).reshape(B, 1, -1, block, d), axis=3)
    before = jnp.cumsum(jnp.pad(sums, [(0, 0), (0, 0), (1, 0), (0, 0)])[:, :, :-1], axis=2)
    places = jnp.arange(1, T + 1, block, dtype=V.dtype)[None, None, :, None]
    return (before + V[:, :, ::block]) / places  # all before the block, and its first place


def _whole(O: Float[Array, "B G T d"], C: Float[Array, "B 1 blocks d"], block: int):
    B, G, T, d = O.shape
    O = _padded(O, block).reshape(B, G, -1, block, d) + C[:, :, :, None]
    return O.reshape(B, G, -1, d)[:, :, :T]


def _seen(i, j, block: int, G: int, causal: bool, T: int) -> Bool[Array, "1 Gt s"]:
    t, s = i * block + jnp.arange(G * block)[:, None] % block, j * block + jnp.arange(block)[None]
    return ((s < T) & ((s <= t) | (not causal)))[None]


def _pairs(T: int, block: int, causal: bool):
    """The last block of K that each one of Q sees, which a mask goes through; and all before it."""
    blocks = -(-T // block)
    ends = [i if causal else blocks - 1 for i in range(blocks)]
    last, others = [*enumerate(ends)], [(i, j) for i, end in enumerate(ends) for j in range(end)]
    return tuple(tuple(jnp.array(pairs, int).reshape(-1, 2).T) for pairs in (last, others))


def _size(block: int, Q: Float[Array, "B G T d"]) -> int:
    return min(block or (128 if Q.shape[2] < 1024 else 256), Q.shape[2])


def _padded(X: Float[Array, "B G T d"], block: int):
    return jnp.pad(X, [(0, 0), (0, 0), (0, -X.shape[2] % block), (0, 0)])


def _rows(X: Float[Array, "B G T d"], i, block: int):  # of every head of Q, one below the other
    return dynamic_slice_in_dim(X, i * block, block, 2).reshape(len(X), -1, X.shape[3])


def _put(X: Float[Array, "B G T d"], x, i, G: int = 1):
    x = x.reshape(len(X), G, -1, X.shape[3])
    return dynamic_update_slice_in_dim(X, x, i * x.shape[2], 2)


def _heads(X, N: int, kv: int, G: int):  # (N T, heads d) → (N kv, G, T, d)
    T, d = len(X) // N, X.shape[1] // (kv * G)
    return X.reshape(N, T, kv, G, d).transpose(0, 2, 3, 1, 4).reshape(N * kv, G, T, d)


def _places(X, N: int):  # (N kv, G, T, d) → (N T, heads d)
    B, G, T, d = X.shape
    return X.reshape(N, B // N, G, T, d).transpose(0, 3, 1, 2, 4).reshape(N * T, B // N * G * d)
