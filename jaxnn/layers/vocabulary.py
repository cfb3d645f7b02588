"""The two ends of a network over a vocabulary of V tokens: the embedding, and the head with its loss.

E, W (V, n)    tokens, labels (*N), whole numbers from 0 to V − 1    A (*N, n)    Z (*N, V), in blocks

The logits Z = A Wᵀ go from the head to the loss as their two factors, and dZ comes back as (dA, dW). The loss
goes through them in blocks of classes: once for the logarithm of Σ eᶻ, and once more for the gradient
(Wijmans et al., "Cut your losses in large-vocabulary language models", ICLR 2025, section 4).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.lax import dynamic_slice_in_dim, dynamic_update_slice_in_dim
from jaxtyping import Array, Float, Integer

from jaxnn.activations import Activation, log_1_plus_exp
from jaxnn.layers.layer import Layer, ShapeError, rows
from jaxnn.losses import Loss


class Table(NamedTuple):
    """The parameters of an embedding, or of a head: a row for each token; also their gradient."""

    E: Float[Array, "V n"]


class Tied(NamedTuple):
    """The parameters of a network with one table at both ends."""

    E: Float[Array, "V n"]
    net: object


class Logits(NamedTuple):
    """Z = A Wᵀ, as its factors; also what dJ/dZ becomes behind them, (dA, dW)."""

    A: Float[Array, "*N n"]
    W: Float[Array, "V n"]


class Targets(NamedTuple):
    """What the loss takes in place of the labels alone: how much each token counts, 0 for none."""

    labels: Integer[Array, "*N"]
    weight: Float[Array, "*N"]


def embedding(V: int, n: int) -> Layer:
    """A row of n numbers for each token: A = E[tokens].

    What is no token, below 0 or from V on, becomes NaN. The gradient of a token that comes several times is
    the sum over them (Bengio et al., "A neural probabilistic language model", JMLR 3, 2003, section 2).

    >>> import jax, jax.numpy as jnp
    >>> layer, tokens = embedding(5, 2), jnp.array([[3, 0, 3]])
    >>> params = layer.init(jax.random.key(0))
    >>> A, residuals = layer.forward(params, tokens)
    >>> layer.backward(params, residuals, jnp.ones_like(A))[0].E[:, 0]
    Array([1., 0., 0., 2., 0.], dtype=float32)
    """

    def forward(params: Table, tokens: Integer[Array, "*N"], key=None):
        return _looked_up(params.E, tokens), tokens  # A = E[tokens]

    def backward(params: Table, tokens: Integer[Array, "*N"], dA: Float[Array, "*N n"]):
        dE = _added(jnp.zeros_like(params.E), tokens, dA)  # dE[k] = Σ dA, over the places of token k
        return Table(dE), None  # tokens have no gradient

    def squared_norms(params, tokens, dA):
        N, (V, n) = len(tokens), params.E.shape
        tokens, dA = tokens.reshape(N, -1), dA.reshape(N, -1, n)
        dA = jnp.where(((tokens >= 0) & (tokens < V))[..., None], dA, 0)
        if tokens.shape[1] ** 2 <= V:  # ‖dE_i‖² = Σ_ts [token_t = token_s] dA_t · dA_s
            same = tokens[:, :, None] == tokens[:, None]
            return jnp.sum(jnp.where(same, jnp.einsum("ntk,nsk->nts", dA, dA), 0), axis=(1, 2)), None
        dE = jax.vmap(_added, (None, 0, 0))(jnp.zeros_like(params.E), tokens, dA)
        return jnp.sum(jnp.square(dE), axis=(1, 2)), None

    return Layer(_table(V, n), forward, backward, f"embedding({V}→{n})", squared_norms=squared_norms)


def head(n: int, V: int) -> Layer:
    """The logits of V classes, as their factors: Z = A Wᵀ. Its loss is `token_cross_entropy`."""

    def forward(params: Table, A: Float[Array, "*N n"], key=None):
        return Logits(A, params.E), ()  # Z = A Wᵀ

    def backward(params: Table, residuals: tuple, dZ: Logits):
        return Table(dZ.W), dZ.A

    return Layer(_table(V, n), forward, backward, f"head({n}→{V})")


def tied(V: int, n: int, net: Layer) -> Layer:
    """A network from n to n between an embedding and a head that have one table, E.

    Press and Wolf, "Using the output embedding to improve language models", EACL 2017, section 3.
    """

    def init(key) -> Tied:
        ours, theirs = jax.random.split(key)
        return Tied(_table(V, n)(ours).E, net.init(theirs))

    def forward(params: Tied, tokens: Integer[Array, "*N"], key=None):
        A, residuals = net.forward(params.net, _looked_up(params.E, tokens), key)
        return Logits(A, params.E), (tokens, residuals)

    def backward(params: Tied, residuals, dZ: Logits):
        tokens, inner = residuals
        dnet, dA = net.backward(params.net, inner, dZ.A)
        return Tied(_added(dZ.W, tokens, dA), dnet), None  # dE: of the head, and of the embedding

    return Layer(init, forward, backward, f"tied({V}→{n}: {net.name})")


def token_cross_entropy(smoothing: float = 0.0, block: int = 0) -> Loss:
    """Cross-entropy of softmax over many classes, of `Logits` and labels, or `Targets`, in whole numbers.

    J = Σ w J_i / Σ w, J_i = −Σ_k y_k log Ŷ_k, y = (1 − s) [k = label] + s / V with the smoothing s (Szegedy
    et al., "Rethinking the inception architecture", CVPR 2016, section 7). A token of weight 0 takes no part,
    whatever its label, where its A is finite; if all have it, J = 0. Else a label that is no class gives NaN.
    Memory is that of `block` classes a token: unless given 2,048, or all where several have up to 2²¹ logits.
    Confident ones keep digits: −log Ŷ_label = log(1 + e^(log Σ_others eᶻ − z_label)), dz_label = −Σ_others/Σ.

    >>> import jax.numpy as jnp
    >>> loss, Z = token_cross_entropy(), Logits(jnp.ones((3, 2)), jnp.zeros((4, 2)))
    >>> loss.forward(Z, jnp.array([0, 3, 1]))  # log 4
    Array(1.3862944, dtype=float32)
    >>> loss.backward(Z, Targets(jnp.array([0, 3, 1]), jnp.array([0.0, 1.0, 0.0]))).W[:, 0]
    Array([ 0.25,  0.25,  0.25, -0.75], dtype=float32)
    """
    if not 0 <= smoothing < 1:
        raise ValueError(f"smoothing: got {smoothing}, expected one from 0 to below 1")

    def forward(Z: Logits, Y) -> Float[Array, ""]:
        A, W, label, w = _flat(Z, Y)
        m, total, z_label = _sum_of_others(A, W, label, block)
        J = (1 - smoothing) * log_1_plus_exp(m - z_label + jnp.log(total))  # −(1 − s) log Ŷ_label
        if smoothing:
            mean_z = A @ jnp.mean(W, axis=0)
            J = J + smoothing * (jnp.logaddexp(m + jnp.log(total), z_label) - mean_z)  # −s mean_k log Ŷ_k
        return jnp.sum(w * J)

    def backward(Z: Logits, Y) -> Logits:
        A, W, label, w = _flat(Z, Y)
        m, total, z_label = _sum_of_others(A, W, label, block)
        V, M = len(W), jnp.maximum(m, z_label)
        others, own = total * jnp.exp(m - M), jnp.exp(z_label - M)  # of Σ eᶻ, both without the factor e^M
        scale = w / (others + own)
        at_label = w * smoothing * (1 - 1 / V) - scale * others  # dz_label = w (s − s/V − Σ_others / Σ)

        def of_block(carry, classes):
            (dA, dW), (k, new) = carry, classes
            W_k = dynamic_slice_in_dim(W, k[0], len(k))
            e = jnp.exp(A @ W_k.T - M[:, None])
            dZ = scale[:, None] * e - (w * smoothing / V)[:, None]  # dz_k = w (e^z_k / Σ − s/V)
            dZ = jnp.where(k[None] == label[:, None], at_label[:, None], dZ)
            dZ = jnp.where(new[None], dZ, 0)
            dA = dA + dZ @ W_k  # dA = dZ W
            dW_k = dynamic_slice_in_dim(dW, k[0], len(k)) + dZ.T @ A  # dW = dZᵀ A
            return (dA, dynamic_update_slice_in_dim(dW, dW_k, k[0], 0)), None

        (dA, dW), _ = jax.lax.scan(of_block, (jnp.zeros_like(A), jnp.zeros_like(W)), _blocks(A, W, block))
        return Logits(dA.reshape(Z.A.shape), dW)

    softmax = Activation(lambda Z: jax.nn.softmax(Z.A @ Z.W.T), _no_backward)
    return Loss(softmax, forward, backward)


def _sum_of_others(A: Float[Array, "M n"], W: Float[Array, "V n"], label: Integer[Array, "M"], block: int):
    """m, the largest z of a class that is not the label's; Σ e^(z − m) over those; and z_label. By blocks."""

    def of_block(carry, classes):
        (m, total), (k, new) = carry, classes
        Z = A @ dynamic_slice_in_dim(W, k[0], len(k)).T
        Z = jnp.where((k[None] != label[:, None]) & new[None], Z, -jnp.inf)
        m_new = jnp.maximum(m, jnp.max(Z, axis=1))
        finite = jnp.where(m_new == -jnp.inf, 0, m_new)  # nothing but the label so far
        return (m_new, total * jnp.exp(m - finite) + jnp.sum(jnp.exp(Z - finite[:, None]), axis=1)), None

    none = jnp.full(len(A), -jnp.inf, A.dtype), jnp.zeros(len(A), A.dtype)
    (m, total), _ = jax.lax.scan(of_block, none, _blocks(A, W, block))
    return m, total, jnp.sum(A * _looked_up(W, label), axis=1)


def _blocks(A: Float[Array, "M n"], W: Float[Array, "V n"], block: int):
    """The classes of each block, and which were in none before: the last block is as long as the others."""
    V, at_once = len(W), 1 < len(A) <= (1 << 21) / len(W)  # of one token dA would be one long sum
    size = min(block or (V if at_once else 2048), V)
    start = jnp.arange(0, V, size)[:, None]
    k = jnp.minimum(start, V - size) + jnp.arange(size)[None]
    return k, k >= start


def _flat(Z: Logits, Y):
    labels, weight = Y if isinstance(Y, Targets) else (Y, jnp.ones(Y.shape, Z.A.dtype))
    if labels.shape != Z.A.shape[:-1] or weight.shape != labels.shape:
        raise ShapeError(f"labels are {labels.shape}, weights {weight.shape}, expected {Z.A.shape[:-1]}")
    total, w = jnp.sum(weight), weight.ravel()
    label = jnp.where(w == 0, 0, labels.ravel())  # which may be none of the classes where it does not count
    return rows(Z.A), Z.W, label, w / jnp.where(total == 0, 1, total)


def _no_backward(dA, Z, A):
    raise NotImplementedError("softmax of Logits: its backward is that of the loss, in one")


def _table(V: int, n: int):
    return lambda key: Table(jax.random.normal(key, (V, n)) / n**0.5)


def _looked_up(E, tokens):
    if not jnp.issubdtype(tokens.dtype, jnp.integer):
        raise ShapeError(f"tokens: got {tokens.dtype}, expected whole numbers")
    return E.at[tokens].get(mode="fill", fill_value=jnp.nan, wrap_negative_indices=False)


def _added(E, tokens, dA):
    return E.at[tokens].add(dA, mode="drop", wrap_negative_indices=False)
