"""Losses that no network of layers is, with mistakes: loops, norms, sums of paths, attention, a convolution.

Each loss has one backward pass written by hand, which makes the mistake that it is told to make.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.planted.loss import Loss, drawn, params
from experiments.planted.network import RIGHT, Network, data, gradient_of, init, loss_of
from experiments.planted.pieces import PIECES


class Plant(NamedTuple):
    """A gradient with a mistake in it; args: a seed → the loss's arguments."""

    id: str
    where: str
    loss: Callable
    gradient: Callable
    args: Callable[[int], tuple]


def _start(p, X):
    return jnp.zeros((X.shape[1], p["U"].shape[0]), X.dtype)


def _step(p, h, x):
    return jnp.tanh(x @ p["W"] + h @ p["U"] + p["b"])


def _read(p, h, Y):
    return jnp.mean(jnp.sum((h @ p["V"] - Y) ** 2, axis=1))


def _unrolled(p, X, Y):
    h = _start(p, X)
    for x in X:
        h = _step(p, h, x)
    return _read(p, h, Y)


def _scanned(p, X, Y):
    h, _ = jax.lax.scan(lambda h, x: (_step(p, h, x), None), _start(p, X), X)
    return _read(p, h, Y)


def _through_time(mistake: str) -> Callable:
    """Backpropagation through time."""

    def gradient(p, X, Y):
        A = [_start(p, X)]
        for _ in range(2 if mistake == "started where it ended" else 1):
            A = A[-1:]
            for x in X:
                A.append(_step(p, A[-1], x))
        dY = 2 * (A[-1] @ p["V"] - Y) / len(Y)
        G = {k: jnp.zeros_like(w) for k, w in p.items()} | {"V": A[-1].T @ dY}
        dA, last = dY @ p["V"].T, len(X) - 1
        for t in reversed(range(len(X))):
            dZ = dA * (1 - A[t + 1] ** 2)
            if mistake == "overwritten":
                G = {k: g if k == "V" else 0 * g for k, g in G.items()}
            x = X[t - 1] if mistake == "input of the turn before" else X[t]
            h = A[t + 1] if mistake == "state after the turn" else A[t]
            G["W"] = G["W"] + x.T @ dZ
            G["U"] = G["U"] + h.T @ dZ
            G["b"] = G["b"] + dZ.sum(axis=0, keepdims=True)
            dA = (dA if mistake == "dA down" else dZ) @ p["U"].T
            if mistake == "last turn only" or (mistake == "last two turns only" and t < last):
                dA = 0 * dA
        return G

    return gradient


IN_TIME = {
    "last turn only": "turns-left-out",
    "last two turns only": "turns-left-out",
    "overwritten": "turns-left-out",
    "input of the turn before": "wrong-operand",
    "state after the turn": "own-activation",
    "dA down": "wrong-cotangent",
    "started where it ended": "stale-start",
}


def _weights(Z):
    """Of the columns, so that the mean over them is not 0."""
    return jnp.arange(1, Z.shape[1] + 1, dtype=Z.dtype)[None]


def _normed(p, X):
    Z = X @ p["W"]
    centred = Z - jnp.mean(Z, axis=1, keepdims=True)
    hat = centred / jnp.sqrt(jnp.mean(centred**2, axis=1, keepdims=True) + 1e-3)
    return jnp.mean(jnp.tanh(hat * p["g"] + p["b"]) ** 2 * _weights(Z))


def _through_norm(mistake: str) -> Callable:
    """Layer norm."""

    def gradient(p, X):
        Z = X @ p["W"]
        mean = lambda x: jnp.mean(x, axis=1, keepdims=True)  # noqa: E731
        total = lambda x: jnp.sum(x, axis=0, keepdims=True)  # noqa: E731
        s = 1 / jnp.sqrt(mean((Z - mean(Z)) ** 2) + 1e-3)
        hat = (Z - mean(Z)) * s
        A = jnp.tanh(hat * p["g"] + p["b"])
        dB = 2 * A * _weights(Z) / Z.size * (1 - A * A)
        d = dB * p["g"]
        times = {"mean": 0.0, "mean twice": 2.0}.get(mistake, 1.0)
        through_variance = 0 if mistake == "variance" else hat * mean(d * hat)
        dZ = s * (d - times * mean(d) - through_variance)
        factor = Z if mistake == "Z for its norm" else hat
        return {"W": X.T @ dZ, "g": total(dB * factor), "b": total(dB)}

    return gradient


def _residual(p, X):
    A = jnp.tanh(X @ p["W"])
    B = A + jnp.tanh(A @ p["U"])
    return jnp.mean((B @ p["V"]) ** 2)


def _through_residual(mistake: str) -> Callable:
    """A layer that adds to what comes in."""

    def gradient(p, X):
        A = jnp.tanh(X @ p["W"])
        C = jnp.tanh(A @ p["U"])
        out = (A + C) @ p["V"]
        dY = 2 * out / out.size
        dB = dY @ p["V"].T
        dZ = dB * (1 - C * C)
        times = {"around": 0.0, "around twice": 2.0}.get(mistake, 1.0)
        dA = times * dB + (0 if mistake == "layer" else (dB if mistake == "dB down" else dZ) @ p["U"].T)
        V = (A if mistake == "A for A + C" else A + C).T @ dY
        return {"W": X.T @ (dA * (1 - A * A)), "U": A.T @ dZ, "V": V}

    return gradient


def _attention(p, X):
    Q, K, V = X @ p["Q"], X @ p["K"], X @ p["V"]
    return jnp.mean((jax.nn.softmax(Q @ K.T / 2, axis=-1) @ V) ** 2)


def _through_attention(mistake: str) -> Callable:
    """Of one head, Q, K, V of four columns."""

    def gradient(p, X):
        Q, K, V = X @ p["Q"], X @ p["K"], X @ p["V"]
        A = jax.nn.softmax(Q @ K.T / 2, axis=-1)
        dO = 2 * A @ V / V.size
        dA = dO @ V.T
        dS = A * (dA - jnp.sum(dA * A, axis=-1, keepdims=True)) / 2
        if mistake == "sum of the softmax":
            dS = A * dA / 2
        dQ = dS @ (Q if mistake == "Q for K" else K)
        return {"Q": X.T @ dQ, "K": X.T @ dS.T @ Q, "V": X.T @ A.T @ dO}

    return gradient


def _convolved(X, K):
    return jax.lax.conv(X, K, (1, 1), "VALID")


def _images(p, X):
    return jnp.mean(_convolved(jnp.tanh(_convolved(X, p["K"])), p["L"]) ** 2)


def _through_images(mistake: str) -> Callable:
    """Two convolutions: what comes down is convolved with the kernel turned round and padded."""

    def kernel(x, d):
        """dK of x ∗ K: the sum over the examples is that over a convolution's channels."""
        return _convolved(x.transpose(1, 0, 2, 3), d.transpose(1, 0, 2, 3)).transpose(1, 0, 2, 3)

    def gradient(p, X):
        A = jnp.tanh(_convolved(X, p["K"]))
        out = _convolved(A, p["L"])
        d = 2 * out / out.size
        turned = p["L"] if mistake == "not turned" else p["L"][..., ::-1, ::-1]
        pad = [(k - 1, k - 1) for k in p["L"].shape[2:]]
        dA = jax.lax.conv_general_dilated(d, turned.transpose(1, 0, 2, 3), (1, 1), pad)
        return {"K": kernel(X, dA * (1 - A * A)), "L": kernel(A, d)}

    return gradient


def _valley(w, a):
    """Rosenbrock's, a narrow valley; a_i says how narrow."""
    return jnp.sum(a * (w[1:] - w[:-1] ** 2) ** 2) + jnp.sum((1 - w) ** 2)


def _through_valley(mistake: str) -> Callable:
    def gradient(w, a):
        a = jnp.ones_like(a) if mistake == "ones for a" else a
        d = 2 * a * (w[1:] - w[:-1] ** 2)
        return (2 * (jnp.asarray(w) - 1)).at[1:].add(d).at[:-1].add(-2 * w[:-1] * d)

    return gradient


GAINS = Network((5, 4, 6, 3), "tanh", masked=True)


def _gained(seed: int) -> tuple:
    """Numbers in the place of the masks: a gain of every hidden neuron, of every example."""
    X, Y, masks = data(GAINS, 7, seed)
    rng = np.random.default_rng(seed)
    return init(GAINS, seed), X, Y, tuple(rng.uniform(0.5, 2, size=m.shape) for m in masks)


def _through_gains(mistake: str) -> Callable:
    left_out = {"in layer 1": (1,), "in layer 2": (2,), "in both": (1, 2)}.get(mistake, ())
    return gradient_of(GAINS, RIGHT._replace(mask=lambda t, l: 1.0 if l in left_out else t.masks[l - 1]))


_series = params("WUbV", (3, 5), (5, 5), (1, 5), (5, 2), (4, 6, 3), (6, 2), data=2)

LOSSES = (
    *PIECES,
    Loss("loop", _unrolled, _through_time, _series, IN_TIME),
    Loss("scan", _scanned, _through_time, _series, IN_TIME),
    Loss("layer norm", _normed, _through_norm, params("Wgb", (3, 5), (1, 5), (1, 5), (8, 3)), {
        "mean": "statistic-left-out", "variance": "statistic-left-out", "mean twice": "path-miscounted",
        "Z for its norm": "wrong-operand",
    }),
    Loss("residual", _residual, _through_residual, params("WUV", (3, 5), (5, 5), (5, 4), (8, 3)), {
        "around": "path-left-out", "layer": "path-left-out", "around twice": "path-miscounted",
        "dB down": "wrong-cotangent",
        "A for A + C": "wrong-layer-activation",  # A, which is that of layer 1, in the gradient of layer 3
    }),
    Loss("attention", _attention, _through_attention, params("QKV", (5, 4), (5, 4), (5, 4), (6, 5)), {
        "Q for K": "wrong-operand", "sum of the softmax": "statistic-left-out",
    }),
    Loss("images", _images, _through_images,
         params("KL", (3, 2, 3, 2), (4, 3, 2, 3), (5, 2, 6, 7)), {"not turned": "kernel-not-turned"}),
    Loss("valley", _valley, _through_valley, lambda seed: tuple(drawn((5,), (4,))(seed)),
         {"ones for a": "argument-ignored"}),
    Loss("gains", loss_of(GAINS), _through_gains, _gained,
         dict.fromkeys(("in layer 1", "in layer 2", "in both"), "multiplier-forgotten")),
)  # fmt: skip


def _plants() -> Iterator[Plant]:
    for loss in LOSSES:
        for mistake, id in loss.mistakes.items():
            yield Plant(id, f"{loss.name}, {mistake}", loss.of, loss.backward(mistake), loss.arguments)


PLANTS = tuple(_plants())
