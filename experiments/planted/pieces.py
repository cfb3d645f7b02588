"""Losses of few steps that move, repeat, choose, normalise and count, with mistakes."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from experiments.planted.loss import Loss, drawn, params


def _words(p, t, M):
    """The mean of every text's words; a mean over the texts that count."""
    A = jnp.tanh(jnp.mean(p["E"][t], axis=1))
    return jnp.sum(M * jnp.sum(A**2, axis=1)) / jnp.sum(M)


def _through_words(mistake: str) -> Callable:
    def gradient(p, t, M):
        A = jnp.tanh(jnp.mean(p["E"][t], axis=1))
        dZ = 2 * A * (1 - A * A) * M[:, None] / (len(M) if mistake == "mean of all" else jnp.sum(M))
        dW = jnp.broadcast_to(dZ[:, None] / t.shape[1], (*t.shape, dZ.shape[1]))
        if mistake == "assigned":  # in NumPy the last of each word wins
            E = np.zeros_like(np.asarray(p["E"]))
            E[np.asarray(t)] += np.asarray(dW)
            return {"E": E}
        return {"E": jnp.zeros_like(p["E"]).at[t].add(dW)}

    return gradient


def _texts(seed: int) -> tuple:
    """Words that are there more than once, and of the texts some that do not count."""
    rng = np.random.default_rng(seed)
    t = rng.integers(0, 6, size=(5, 4))
    return {"E": 0.6 * rng.normal(size=(6, 3))}, t, np.array([1.0, 0, 1, 1, 0])


def _heads(p, X):
    """Every key is that of two queries."""
    return jnp.mean(jnp.tanh(X @ jnp.repeat(p["K"], 2, axis=0).T) ** 2 * jnp.arange(1.0, 7.0)[None])


def _through_heads(mistake: str) -> Callable:
    def gradient(p, X):
        A = jnp.tanh(X @ jnp.repeat(p["K"], 2, axis=0).T)
        dK = (2 * A * (1 - A * A) * jnp.arange(1.0, 7.0)[None] / A.size).T @ X
        return {
            "K": dK.reshape(2, 3, -1).sum(axis=0) if mistake == "tiled" else dK.reshape(3, 2, -1).sum(axis=1)
        }

    return gradient


def _rotated(Z, sign=1.0):
    a, b = jnp.split(Z, 2, axis=1)
    return jnp.concatenate([-sign * b, sign * a], axis=1)


def _turned(p, X, C, S):
    """A rotation of pairs by angles of one's own, and a running sum."""
    Z = X @ p["W"]
    return jnp.mean(jnp.cumsum(jnp.tanh(Z * C + _rotated(Z) * S), axis=0) ** 2)


def _through_turned(mistake: str) -> Callable:
    def gradient(p, X, C, S):
        Z = X @ p["W"]
        A = jnp.tanh(Z * C + _rotated(Z) * S)
        B = jnp.cumsum(A, axis=0)
        dB = 2 * B / B.size
        dA = jnp.cumsum(dB, axis=0) if mistake == "forwards" else jnp.cumsum(dB[::-1], axis=0)[::-1]
        dA = dA - dB if mistake == "without its own" else dA
        d = dA * (1 - A * A)
        back = _rotated(d, -1.0) * S if mistake == "after" else _rotated(d * S, -1.0)
        return {"W": X.T @ (d * C + back)}

    return gradient


def _scale(Z, eps):
    return 1 / jnp.sqrt(jnp.mean(Z * Z, axis=1, keepdims=True) + eps)


def _prenormed(p, X, eps=1e-3):
    """A residual block of a norm and a layer."""
    Z = X @ p["W"]
    B = Z + jnp.tanh(Z * _scale(Z, eps) @ p["U"] / 2)
    return jnp.mean((B @ p["V"]) ** 2)


def _through_prenormed(mistake: str) -> Callable:
    if mistake == "no ε":
        return jax.grad(lambda p, X: _prenormed(p, X, 0.0))

    def gradient(p, X):
        Z = X @ p["W"]
        s = _scale(Z, 1e-3)
        hat = Z * s
        half = 1.0 if mistake == "no half" else 2.0
        C = jnp.tanh(hat @ p["U"] / half)
        out = (Z + C) @ p["V"]
        dY = 2 * out / out.size
        dB = dY @ p["V"].T
        dC = dB * (1 - C * C) / half
        dN, around = dC @ p["U"].T, dB
        if mistake == "before":
            dN, around = dN + dB, 0.0
        dZ = around + s * (dN - hat * jnp.mean(dN * hat, axis=1, keepdims=True))
        return {"W": X.T @ dZ, "U": hat.T @ dC, "V": (Z + C).T @ dY}

    return gradient


def _grouped(p, X):
    """A norm over groups of two channels."""
    return jnp.mean(
        jnp.tanh(_hat(X, jnp.arange(6) // 2) * p["g"][None, :, None] + p["b"][None, :, None]) ** 2
    )


def _hat(X, group):
    of = X.reshape(len(X), 3, -1)
    mean, scale = of.mean(axis=2), 1 / jnp.sqrt(of.var(axis=2) + 1e-3)
    return (X - mean[:, group, None]) * scale[:, group, None]


def _through_grouped(mistake: str) -> Callable:
    def gradient(p, X):
        hat = _hat(X, jnp.arange(6) // 2)
        A = jnp.tanh(hat * p["g"][None, :, None] + p["b"][None, :, None])
        d = 2 * A * (1 - A * A) / A.size
        hat = _hat(X, jnp.arange(6) % 3) if mistake == "of another group" else hat
        return {"g": jnp.sum(d * hat, axis=(0, 2)), "b": jnp.sum(d, axis=(0, 2))}

    return gradient


def _weighed(x, c):
    """A weighted sum, such as that of a rule with its cotangent."""
    return jnp.sum(c[:, None] * jnp.sin(x))


def _through_weighed(mistake: str) -> Callable:
    def gradient(x, c):
        c = jnp.full_like(c, c[0]) if mistake == "first weight" else c
        d = c[:, None] * jnp.cos(x)
        return jnp.zeros_like(d).at[0].set(d.sum(axis=0)) if mistake == "first row" else d

    return gradient


def _solved(p, X):
    """The solution of a system whose matrix is learned."""
    return jnp.sum(jnp.tanh(jnp.linalg.solve(p["A"] + 3 * jnp.eye(4), X @ p["b"])) ** 2)


def _through_solved(mistake: str) -> Callable:
    def gradient(p, X):
        A = p["A"] + 3 * jnp.eye(4)
        x = jnp.linalg.solve(A, X @ p["b"])
        back = jnp.linalg.solve(
            A if mistake == "A for its transpose" else A.T, 2 * jnp.tanh(x) / jnp.cosh(x) ** 2
        )
        return {"A": -jnp.outer(back, x), "b": X.T @ back}

    return gradient


def _pooled(p, X):
    """The largest of every two neighbours."""
    return jnp.mean(jnp.max(jnp.tanh(X @ p["W"]).reshape(len(X), -1, 2), axis=2) ** 2)


def _through_pooled(mistake: str) -> Callable:
    def gradient(p, X):
        A = jnp.tanh(X @ p["W"])
        top = jnp.repeat(jnp.max(A.reshape(len(X), -1, 2), axis=2), 2, axis=1)
        dA = 4 * top / top.size
        dA = dA if mistake == "repeated" else jnp.where(top == A, dA, 0)
        return {"W": X.T @ (dA * (1 - A * A))}

    return gradient


def _standardised(p, X):
    """Every feature has mean 0 and variance 1 over the examples."""
    Z = X @ p["W"]
    return jnp.mean(
        jnp.tanh(
            (Z - jnp.mean(Z, axis=0, keepdims=True))
            / jnp.sqrt(jnp.var(Z, axis=0, keepdims=True) + 1e-3)
            * p["g"]
        )
    )


def _through_standardised(mistake: str) -> Callable:
    def gradient(p, X):
        Z = X @ p["W"]
        scale = 1 / jnp.sqrt(jnp.var(Z, axis=0, keepdims=True, ddof=mistake == "N − 1") + 1e-3)
        A = (Z - jnp.mean(Z, axis=0, keepdims=True)) * scale
        d = 1 / jnp.cosh(A * p["g"]) ** 2 / Z.size
        dA = d * p["g"]
        dZ = (dA - jnp.mean(dA, axis=0, keepdims=True) - A * jnp.mean(dA * A, axis=0, keepdims=True)) * scale
        return {"W": X.T @ dZ, "g": jnp.sum(d * A, axis=0, keepdims=True)}

    return gradient


def _directed(w, X, Y):
    """The part of every example along one direction."""
    u = w / jnp.linalg.norm(w)
    return jnp.mean(jnp.tanh(X @ u - Y) ** 2)


def _through_directed(mistake: str) -> Callable:
    def gradient(w, X, Y):
        size = jnp.linalg.norm(w)
        u = w / size
        A = jnp.tanh(X @ u - Y)
        du = X.T @ (2 * A * (1 - A * A) / len(Y))
        return du if mistake == "as if of length 1" else (du - u * (u @ du)) / size

    return gradient


STEP = 0.2


def _flowing(p, X):
    """Four steps of Euler's through a field that is learned."""
    Y = X @ p["U"]
    for _ in range(4):
        Y = Y + STEP * jnp.tanh(Y @ p["W"])
    return jnp.mean(Y**2)


def _through_flowing(mistake: str) -> Callable:
    def gradient(p, X):
        states = [X @ p["U"]]
        for _ in range(4):
            states.append(states[-1] + STEP * jnp.tanh(states[-1] @ p["W"]))
        a, dW = 2 * states[-1] / states[-1].size, jnp.zeros_like(p["W"])
        for t in (3, 2, 1, 0):
            Y = states[t + 1 if mistake == "the state after" else t]
            d = STEP * a / jnp.cosh(Y @ p["W"]) ** 2
            a, dW = a + d @ p["W"].T, dW + Y.T @ d
        return {"U": X.T @ a, "W": dW}

    return gradient


def _mixed(p, X):
    """Every point is of one of several clouds."""
    return -jnp.mean(jax.nn.logsumexp(-jnp.sum((X[:, None] - p["M"][None]) ** 2, axis=2), axis=1))


def _through_mixed(mistake: str) -> Callable:
    def gradient(p, X):
        far = jnp.sum((X[:, None] - p["M"][None]) ** 2, axis=2)
        R = jax.nn.softmax(-far, axis=0 if mistake == "over the points" else 1)
        R = jax.nn.one_hot(far.argmin(axis=1), len(p["M"])) if mistake == "the nearest alone" else R
        return {"M": -2 * jnp.einsum("nk,nkd->kd", R, X[:, None] - p["M"][None]) / len(X)}

    return gradient


def _quadratic(p, A):
    return jnp.tanh(p["x"] @ A @ p["x"])


def _through_quadratic(mistake: str) -> Callable:
    def gradient(p, A):
        x = p["x"]
        Ax = 2 * A @ x if mistake == "as if symmetric" else A @ x + x @ A
        return {"x": (1 - jnp.tanh(x @ A @ x) ** 2) * Ax}

    return gradient


def _beside(p, W):
    return jnp.sum((p["A"] + jax.nn.relu(p["A"] @ W)) ** 3)


def _through_beside(mistake: str) -> Callable:
    def gradient(p, W):
        A, W = np.array(p["A"], float), np.asarray(W, float)
        Z = A @ W
        dB = 3 * (A + np.maximum(Z, 0)) ** 2
        dZ = dB if mistake == "the same array" else dB.copy()
        dZ *= Z > 0
        return {"A": dB + dZ @ W.T}

    return gradient


PIECES = (
    Loss("words", _words, _through_words, _texts,
         {"assigned": "entries-overwritten", "mean of all": "mean-over-all"}),
    Loss("heads", _heads, _through_heads, params("K", (3, 5), (7, 5)), {"tiled": "groups-exchanged"}),
    Loss("rotation", _turned, _through_turned, params("W", (3, 4), (6, 3), (6, 4), (6, 4), data=3),
         {"forwards": "not-turned-round", "after": "factor-after", "without its own": "off-by-one"}),
    Loss("block", _prenormed, _through_prenormed, params("WUV", (3, 5), (5, 5), (5, 4), (6, 3)), {
        "before": "residual-too-early", "no ε": "epsilon-left-out", "no half": "step-left-out",
    }),
    Loss("groups", _grouped, _through_grouped, params("gb", (6,), (6,), (4, 6, 5)),
         {"of another group": "statistics-exchanged"}),
    Loss("weighed", _weighed, _through_weighed, lambda seed: tuple(drawn((5, 3), (5,))(seed)),
         {"first weight": "read-at-one-place", "first row": "rows-in-one"}),
    Loss("system", _solved, _through_solved, params("Ab", (4, 4), (3,), (4, 3)),
         {"A for its transpose": "system-not-transposed"}),
    Loss("pooling", _pooled, _through_pooled, params("W", (3, 6), (5, 3)), {"repeated": "window-unmasked"}),
    Loss("variance", _standardised, _through_standardised, params("Wg", (3, 4), (1, 4), (5, 3)),
         {"N − 1": "unbiased-variance"}),
    Loss("direction", _directed, _through_directed, lambda seed: tuple(drawn((4,), (6, 4), (6,))(seed)),
         {"as if of length 1": "steps-skipped"}),
    Loss("flow", _flowing, _through_flowing, params("UW", (4, 3), (3, 3), (5, 4)),
         {"the state after": "state-of-another-turn"}),
    Loss("mixture", _mixed, _through_mixed, params("M", (3, 2), (7, 2)),
         {"the nearest alone": "shares-mistaken", "over the points": "shares-mistaken"}),
    Loss("quadratic", _quadratic, _through_quadratic, params("x", (4,), (4, 4)),
         {"as if symmetric": "matrix-transposed"}),
    Loss("beside", _beside, _through_beside, params("A", (3, 4), (4, 4)),
         {"the same array": "factor-on-both"}),
)  # fmt: skip
