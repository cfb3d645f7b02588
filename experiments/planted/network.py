"""A dense network with its backward pass written by hand, as a table of steps, and in other words.

The network is the lecture's: Z[l] = A[l-1] W[l]ᵀ + b[l]ᵀ, A[l] = g(Z[l]).
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Function(NamedTuple):
    """g: Z → A, and g′ as a function of Z and A."""

    forward: Callable
    slope: Callable


def _gelu_slope(z, a):
    c = math.sqrt(2 / math.pi)
    t = jnp.tanh(c * (z + 0.044715 * z**3))
    return 0.5 * (1 + t) + 0.5 * z * (1 - t * t) * c * (1 + 3 * 0.044715 * z**2)


ACTIVATIONS: dict[str, Function] = {
    "sigmoid": Function(jax.nn.sigmoid, lambda z, a: a * (1 - a)),
    "tanh": Function(jnp.tanh, lambda z, a: 1 - a * a),
    "relu": Function(lambda z: jnp.where(z > 0, z, 0), lambda z, a: (z > 0).astype(z.dtype)),
    "softplus": Function(jax.nn.softplus, lambda z, a: jax.nn.sigmoid(z)),
    "silu": Function(
        lambda z: z * jax.nn.sigmoid(z), lambda z, a: jax.nn.sigmoid(z) * (1 + z * jax.nn.sigmoid(-z))
    ),
    "leaky_relu": Function(
        lambda z: jnp.where(z > 0, z, 0.01 * z), lambda z, a: jnp.where(z > 0, jnp.ones_like(z), 0.01)
    ),
    "gelu": Function(jax.nn.gelu, _gelu_slope),
    "gelu-exact": Function(
        lambda z: jax.nn.gelu(z, approximate=False),
        lambda z, a: (
            (1 + jax.lax.erf(z / math.sqrt(2))) / 2 + z * jnp.exp(-z * z / 2) / math.sqrt(2 * math.pi)
        ),
    ),
    "identity": Function(lambda z: z, lambda z, a: jnp.ones_like(z)),
}


class Cost(NamedTuple):
    """J of Z[L] and Y, dJ/dŶ · N, dZ[L] · N, and Ŷ of Z[L]; the mean over N is taken outside."""

    each: Callable  # Z, Y → the cost of every example
    error: Callable  # Z, Y → N dJ/dZ
    output: Callable  # Z → Ŷ
    output_error: Callable  # Z, Y → N dJ/dŶ


def _softmax_each(z, y):
    return jnp.sum(y * (jax.nn.logsumexp(z, axis=1, keepdims=True) - z), axis=1)


COSTS: dict[str, Cost] = {
    "bce-logits": Cost(
        lambda z, y: jnp.sum(jnp.maximum(z, 0) - z * y + jnp.log1p(jnp.exp(-jnp.abs(z))), axis=1),
        lambda z, y: (1 - y) * jax.nn.sigmoid(z) - y * jax.nn.sigmoid(-z),
        jax.nn.sigmoid,
        lambda z, y: (1 - y) / jax.nn.sigmoid(-z) - y / jax.nn.sigmoid(z),
    ),
    "bce-naive": Cost(
        lambda z, y: (
            -jnp.sum(y * jnp.log(jax.nn.sigmoid(z)) + (1 - y) * jnp.log(1 - jax.nn.sigmoid(z)), axis=1)
        ),
        lambda z, y: jax.nn.sigmoid(z) - y,
        jax.nn.sigmoid,
        lambda z, y: (1 - y) / (1 - jax.nn.sigmoid(z)) - y / jax.nn.sigmoid(z),
    ),
    "softmax-logits": Cost(
        _softmax_each, lambda z, y: jax.nn.softmax(z) - y, jax.nn.softmax, lambda z, y: -y / jax.nn.softmax(z)
    ),
    "softmax-naive": Cost(
        lambda z, y: -jnp.sum(y * jnp.log(jax.nn.softmax(z)), axis=1),
        lambda z, y: jax.nn.softmax(z) - y,
        jax.nn.softmax,
        lambda z, y: -y / jax.nn.softmax(z),
    ),
    "squared": Cost(
        lambda z, y: 0.5 * jnp.sum((jax.nn.sigmoid(z) - y) ** 2, axis=1),
        lambda z, y: (jax.nn.sigmoid(z) - y) * jax.nn.sigmoid(z) * (1 - jax.nn.sigmoid(z)),
        jax.nn.sigmoid,
        lambda z, y: jax.nn.sigmoid(z) - y,
    ),
    "squared-linear": Cost(
        lambda z, y: 0.5 * jnp.sum((z - y) ** 2, axis=1), lambda z, y: z - y, lambda z: z, lambda z, y: z - y
    ),
}


class Network(NamedTuple):
    """Sizes n_0 … n_L, the hidden layers' g, the cost, λ, and whether hidden layers are masked."""

    sizes: tuple[int, ...]
    hidden: str = "tanh"
    cost: str = "bce-logits"
    penalty: float = 0.0
    masked: bool = False


class Trace(NamedTuple):
    """All that a forward pass leaves behind. Z[0] is unused, A[0] = X."""

    net: Network
    params: Any
    Z: list
    A: list
    Y: Any
    masks: Any

    @property
    def N(self) -> int:
        """The number of examples."""
        return self.A[0].shape[0]


def init(net: Network, seed: int = 0, scale: float = 1.0) -> tuple:
    """((W[1], b[1]), …), W[l] (n_l, n_{l-1}), b[l] (n_l, 1), of float64 NumPy arrays."""
    rng = np.random.default_rng(seed)
    return tuple(
        (rng.normal(size=(m, n)) * scale / np.sqrt(n), rng.normal(size=(m, 1)) * 0.3 * scale)
        for n, m in zip(net.sizes, net.sizes[1:], strict=False)
    )


def data(net: Network, examples: int, seed: int = 0) -> tuple:
    """X, Y (and the masks of the hidden layers, if net is masked), of float64 NumPy arrays."""
    rng = np.random.default_rng(seed + 1)
    X = rng.normal(size=(examples, net.sizes[0])) * 1.5
    if net.cost.startswith("softmax"):
        Y = np.eye(net.sizes[-1])[rng.integers(0, net.sizes[-1], examples)]
    else:
        Y = (rng.uniform(size=(examples, net.sizes[-1])) < 0.4).astype(np.float64)
    if not net.masked:
        return X, Y
    return X, Y, tuple((rng.uniform(size=(examples, n)) < 0.7) / 0.7 for n in net.sizes[1:-1])


def forward(net: Network, params, X, Y, masks) -> Trace:
    """The forward pass, with all that it leaves behind."""
    g = ACTIVATIONS[net.hidden].forward
    Z, A = [None], [X]
    for l, (W, b) in enumerate(params, 1):
        Z.append(A[-1] @ W.T + b.T)
        last = l == len(params)
        A.append(COSTS[net.cost].output(Z[-1]) if last else g(Z[-1]))
        if masks is not None and not last:
            A[-1] = A[-1] * masks[l - 1]
    return Trace(net, params, Z, A, Y, masks)


def loss_of(net: Network) -> Callable:
    """loss(params, X, Y[, masks]) = J."""

    def loss(params, X, Y, masks=None):
        t = forward(net, params, X, Y, masks)
        J = jnp.sum(COSTS[net.cost].each(t.Z[-1], Y)) / X.shape[0]
        if net.penalty:
            J = J + net.penalty / (2 * X.shape[0]) * sum(jnp.sum(W**2) for W, _ in params)
        return J

    return loss


class Steps(NamedTuple):
    """The steps of a backward pass; t is the Trace, l the layer, G the gradients made so far."""

    inputs: Callable = lambda X: X
    labels: Callable = lambda Y: Y
    error: Callable = lambda t: COSTS[t.net.cost].error(t.Z[-1], t.Y) / t.N
    operand: Callable = lambda t, l: t.A[l - 1]
    matrix: Callable = lambda t, l, G: t.params[l - 1][0]
    slope: Callable = lambda t, l: ACTIVATIONS[t.net.hidden].slope(
        t.Z[l], ACTIVATIONS[t.net.hidden].forward(t.Z[l])
    )
    mask: Callable = lambda t, l: 1.0 if t.masks is None else t.masks[l - 1]
    passed: Callable = lambda t, l, dA: dA
    dW: Callable = lambda t, l, dZ, A: dZ.T @ A
    db: Callable = lambda t, l, dZ: jnp.sum(dZ.T, axis=1, keepdims=True)
    penalty: Callable = lambda t, l, W: t.net.penalty / t.N * W
    bias_penalty: Callable = lambda t, l, b: 0.0 * b
    finish: Callable = lambda t, G: G


def gradient_of(net: Network, steps: Steps | None = None) -> Callable:
    """gradient(params, X, Y[, masks]) by hand, right unless `steps` are not."""
    s = steps or Steps()

    def gradient(params, X, Y, masks=None):
        t = forward(net, params, s.inputs(X), s.labels(Y), masks)
        G: dict[int, tuple] = {}
        dZ = s.error(t)
        for l in range(len(params), 0, -1):
            W, b = params[l - 1]
            G[l] = (
                s.dW(t, l, dZ, s.operand(t, l)) + s.penalty(t, l, W),
                s.db(t, l, dZ) + s.bias_penalty(t, l, b),
            )
            if l > 1:
                dA = s.passed(t, l - 1, dZ @ s.matrix(t, l, G))
                dZ = dA * s.mask(t, l - 1) * s.slope(t, l - 1)
        return s.finish(t, tuple(G[l] for l in sorted(G)))

    return gradient


RIGHT = Steps()


def formulations(net: Network) -> dict[str, Callable]:
    """Right gradients of loss_of(net), each written in another way."""
    g = ACTIVATIONS[net.hidden]

    def output_error(t):
        """Ŷ − Y, as on the slide."""
        right = t.A[-1] - t.Y
        return right / t.N if net.cost != "squared" else RIGHT.error(t)

    def columns(params, X, Y, masks=None):
        """The transposed notation: an example is a column."""
        t = forward(net, params, X, Y, masks)
        G, dZ = [], RIGHT.error(t).T
        for l in range(len(params), 0, -1):
            W, _ = params[l - 1]
            G.append((dZ @ t.A[l - 1] + RIGHT.penalty(t, l, W), dZ.sum(axis=1, keepdims=True)))
            if l > 1:
                mask = 1.0 if masks is None else masks[l - 2].T
                dZ = (W.T @ dZ) * mask * RIGHT.slope(t, l - 1).T
        return tuple(reversed(G))

    def per_example(params, X, Y, masks=None):
        """The mean of what each example alone gives."""
        rows = gradient_of(net._replace(penalty=0.0, masked=masks is not None))
        one = jax.vmap(lambda x, y, m: rows(params, x[None], y[None], m), in_axes=(0, 0, 0))(
            X, Y, None if masks is None else tuple(m[:, None] for m in masks)
        )
        mean = jax.tree.map(lambda r: jnp.sum(r, axis=0) / X.shape[0], one)
        return tuple(
            (dW + net.penalty / X.shape[0] * W, db) for (dW, db), (W, _) in zip(mean, params, strict=True)
        )

    def by_vjp(params, X, Y, masks=None):
        """g′ by differentiating g, sums by einsum."""
        steps = RIGHT._replace(
            slope=lambda t, l: jax.vjp(g.forward, t.Z[l])[1](jnp.ones_like(t.Z[l]))[0],
            dW=lambda t, l, dZ, A: jnp.einsum("ni,nj->ij", dZ, A),
            db=lambda t, l, dZ: jnp.einsum("ni->i", dZ)[:, None],
        )
        return gradient_of(net, steps)(params, X, Y, masks)

    return {
        "stable": gradient_of(net),
        "slide": gradient_of(net, RIGHT._replace(error=output_error)),
        "columns": columns,
        "per example": per_example,
        "by vjp": by_vjp,
    }
