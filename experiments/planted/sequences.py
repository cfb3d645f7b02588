"""Layers over sequences and vocabularies, with the mistakes that people make in their backward passes."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from experiments.planted.layer import Layer, sizes


def _heads(X, heads: int):
    return X.reshape(len(X), heads, -1).swapaxes(0, 1)  # (T, heads d) → (heads, T, d)


def _places(X):
    return X.swapaxes(0, 1).reshape(X.shape[1], -1)


def _turned(X, sign=1.0):
    """Halves of the last axis as points of a plane, turned by their place."""
    T, half = X.shape[-2], X.shape[-1] // 2
    angle = jnp.arange(T)[:, None] * 0.3 ** jnp.arange(half)[None]
    cos, sin = jnp.cos(angle)[None].astype(X.dtype), sign * jnp.sin(angle)[None].astype(X.dtype)
    a, b = X[..., :half], X[..., half:]
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


def _weights(Q, K, causal: bool, root: float):
    S = jnp.einsum("htd,hsd->hts", Q, K) / root
    if causal:
        S = jnp.where(jnp.tril(jnp.ones(S.shape[1:], bool))[None], S, -1e30)
    return jax.nn.softmax(S, axis=-1)


def _attention(heads: int, kv: int, causal: bool, rotary: bool) -> Callable:
    def forward(p, X):
        Q, K, V = _heads(X @ p["Q"], heads), _heads(X @ p["K"], kv), _heads(X @ p["V"], kv)
        if rotary:
            Q, K = _turned(Q), _turned(K)
        K, V = (jnp.repeat(x, heads // kv, axis=0) for x in (K, V))
        return _places(_weights(Q, K, causal, Q.shape[2] ** 0.5) @ V) @ p["O"]

    return forward


def _through_attention(heads: int, kv: int, causal: bool, rotary: bool) -> Callable:
    def backward(mistake: str) -> Callable:
        def shared(d):
            """Of the heads that share a K and a V, the sum."""
            each = d.reshape(kv, heads // kv, *d.shape[1:])
            if mistake == "other groups":
                return d.reshape(heads // kv, kv, *d.shape[1:]).sum(axis=0)
            how = {"first of a group": each[:, 0], "mean of a group": each.mean(axis=1)}
            return how.get(mistake, each.sum(axis=1))

        def of(p, X, dA):
            Q, K, V = _heads(X @ p["Q"], heads), _heads(X @ p["K"], kv), _heads(X @ p["V"], kv)
            if rotary:
                Q, K = _turned(Q), _turned(K)
            K, V = (jnp.repeat(x, heads // kv, axis=0) for x in (K, V))
            root = Q.shape[2] ** 0.5
            P = _weights(Q, K, causal and mistake != "no mask", root)
            O = _weights(Q, K, causal, root) @ V
            dWO = _places(O).T @ dA
            dO = _heads(dA @ p["O"].T, heads)
            dV = jnp.einsum("hts,htd->hsd", P, dO)
            if mistake == "P transposed":
                dV = P @ dO
            dP = dO @ V.swapaxes(1, 2)
            D = jnp.sum(P * dP, axis=-1, keepdims=True)
            D = {"no row sum": 0, "sum of columns": jnp.sum(P * dP, axis=1, keepdims=True)}.get(mistake, D)
            dS = dP if mistake == "no softmax" else P * (dP - D)
            dS = P * (1 - P) * dP if mistake == "diagonal" else dS
            dS = dS / {"no 1/√d": 1, "1/√d twice": root**2}.get(mistake, root)
            dQ = dS @ (Q if mistake == "Q for K" else K)
            dK = (dS if mistake == "dS not transposed" else dS.swapaxes(1, 2)) @ Q
            if mistake == "no 1/√d in dK":
                dK = dK * root
            if mistake == "dQ and dK exchanged":
                dQ, dK = dK, dQ
            dK, dV = shared(dK), shared(dV)
            if rotary:
                sign = 1.0 if mistake == "turned again" else -1.0
                dQ = _turned(dQ, sign)
                dK = dK if mistake == "dK not turned" else _turned(dK, sign)
            dQ, dK, dV = _places(dQ), _places(dK), _places(dV)
            dX = dQ @ p["Q"].T + dK @ p["K"].T + (0 if mistake == "no way through V" else dV @ p["V"].T)
            return {"Q": X.T @ dQ, "K": X.T @ dK, "V": X.T @ dV, "O": dWO}, dX

        return of

    return backward


IN_ATTENTION = {
    "no 1/√d": "path-miscounted or multiplier-forgotten",
    "1/√d twice": "path-miscounted or multiplier-forgotten",
    "no 1/√d in dK": "path-miscounted or multiplier-forgotten",
    "no mask": "step-left-out",
    "no row sum": "statistic-left-out",
    "sum of columns": "wrong-axis",
    "no softmax": "wrong-cotangent or steps-skipped",
    "diagonal": "softmax-diagonal",
    "dQ and dK exchanged": "gradients-exchanged",
    "Q for K": "wrong-operand",
    "dS not transposed": "wrong-cotangent",
    "P transposed": "wrong-operand",
    "no way through V": "path-left-out",
}
IN_GROUPS = {
    "other groups": "groups-exchanged",
    "first of a group": "entries-overwritten",
    "mean of a group": "entries-overwritten",
}
IN_ROTARY = {"turned again": "not-turned-round", "dK not turned": "wrong-cotangent or steps-skipped"}


def _gates(p, x, h):
    i, f, o, g = jnp.split(x @ p["W"] + h @ p["U"] + p["b"], 4, axis=1)
    return jax.nn.sigmoid(i), jax.nn.sigmoid(f), jax.nn.sigmoid(o), jnp.tanh(g)


def _lstm(p, X):
    h = c = jnp.zeros((X.shape[1], p["U"].shape[0]), X.dtype)
    H = []
    for x in X:
        i, f, o, g = _gates(p, x, h)
        c = f * c + i * g
        h = o * jnp.tanh(c)
        H.append(h)
    return jnp.stack(H)


def _through_lstm(mistake: str) -> Callable:
    def run(p, X, h, c):
        steps = []
        for x in X:
            i, f, o, g = _gates(p, x, h)
            before = h, c
            c = f * c + i * g
            h = o * jnp.tanh(c)
            steps.append((x, i, f, o, g, *before, h, c))
        return steps

    def of(p, X, dA):
        zero = jnp.zeros((X.shape[1], p["U"].shape[0]), X.dtype)
        steps = run(p, X, zero, zero)
        if mistake == "state of the run before":
            steps = run(p, X, *steps[-1][-2:])
        dp = {name: jnp.zeros_like(w) for name, w in p.items()}
        dX, dh, dc = [], zero, zero
        for (x, i, f, o, g, h_prev, c_prev, h, c), dH in zip(steps[::-1], dA[::-1], strict=True):
            dh = dh + (0 if mistake == "output of the last turn alone" and dX else dH)
            t = jnp.tanh(c)
            inner = dh * o * (1 if mistake == "no tanh′(c)" else 1 - t * t)
            dc = inner if mistake == "dc not carried" else dc + inner
            di, df, do, dg = dc * g, dc * (c if mistake == "c for c_prev" else c_prev), dh * t, dc * i
            slopes = [i * (1 - i), f * (1 - f), o * (1 - o), 1 - g * g]
            slopes[1] = 1.0 if mistake == "no σ′ in f" else slopes[1]
            slopes[3] = g * (1 - g) if mistake == "σ′ for tanh′" else slopes[3]
            parts = [d * s for d, s in zip((di, df, do, dg), slopes, strict=True)]
            if mistake == "i and f exchanged":
                parts[0], parts[1] = parts[1], parts[0]
            dz = jnp.concatenate(parts, axis=1)
            dp["W"] = dp["W"] + x.T @ dz
            dp["U"] = dp["U"] + (h if mistake == "h for h_prev" else h_prev).T @ dz
            dp["b"] = (0 if mistake == "db overwritten" else dp["b"]) + dz.sum(axis=0)
            dX.append(dz @ p["W"].T)
            dh = 0 * dh if mistake == "dh not carried" else dz @ p["U"].T
            dc = dc if mistake == "dc without f" else dc * f
        return dp, jnp.stack(dX if mistake == "dX not turned round" else dX[::-1])

    return of


IN_LSTM = {
    "c for c_prev": "wrong-operand",
    "dc not carried": "path-left-out",
    "dc without f": "multiplier-forgotten",
    "dh not carried": "path-left-out",
    "no tanh′(c)": "missing-activation-derivative",
    "no σ′ in f": "missing-activation-derivative",
    "σ′ for tanh′": "wrong-activation-derivative",
    "i and f exchanged": "entries-moved",
    "h for h_prev": "own-activation",
    "db overwritten": "turns-left-out",
    "state of the run before": "stale-start",
    "dX not turned round": "entries-moved",
    "output of the last turn alone": "turns-left-out",
}


def _looked_up(p, X):
    return p["E"][X]


def _through_table(mistake: str) -> Callable:
    def of(p, X, dA):
        d, t = dA.reshape(-1, dA.shape[-1]), X.ravel()
        E = jnp.zeros_like(p["E"])
        if mistake == "overwritten":  # in NumPy the last wins
            E = np.zeros(p["E"].shape)
            E[np.asarray(t)] = np.asarray(d)
            return {"E": E}, None
        t = jnp.roll(X, 1, axis=1).ravel() if mistake == "tokens off by one" else t
        if mistake == "rows in order":
            d = dA.swapaxes(0, 1).reshape(d.shape)
        E = E.at[0 * t if mistake == "all to one row" else t].add(d)
        if mistake == "mean":
            E = E / jnp.maximum(jnp.zeros(len(E), E.dtype).at[t].add(1), 1)[:, None]
        return {"E": E}, None

    return of


def _tied(p, X):
    A = jnp.tanh(p["E"][X] @ p["W"])
    return A @ p["E"].T


def _through_tied(mistake: str) -> Callable:
    def of(p, X, dZ):
        A = jnp.tanh(p["E"][X] @ p["W"])
        rows, d = A.reshape(-1, A.shape[-1]), dZ.reshape(-1, dZ.shape[-1])
        head, up = d.T @ rows, d @ p["E"] * (1 - rows**2)
        table = jnp.zeros_like(p["E"]).at[X.ravel()].add(up @ p["W"].T)
        dE = {"head alone": head, "embedding alone": table, "mean of both": (head + table) / 2}.get(
            mistake, head + table
        )
        return {"E": dE, "W": p["E"][X.ravel()].T @ up}, None

    return of


SMOOTHING = 0.2


def _headed(p, X, weight):
    log_Y = jax.nn.log_softmax(p["A"] @ p["W"].T)
    Y = (1 - SMOOTHING) * jax.nn.one_hot(X, len(p["W"]), dtype=log_Y.dtype) + SMOOTHING / len(p["W"])
    return -jnp.sum(weight * jnp.sum(Y * log_Y, axis=-1)) / jnp.sum(weight)


def _through_head(mistake: str) -> Callable:
    def of(p, X, dJ, weight):
        A, W = p["A"], p["W"]
        V, total = len(W), jnp.sum(weight)
        Z = A @ W.T
        one = jax.nn.one_hot(X, V, dtype=Z.dtype)
        s = 0.0 if mistake == "no smoothing" else SMOOTHING
        spread = s / (V - 1) * (1 - one) if mistake == "smoothing over V − 1" else s / V
        Y = (1 - s) * one + spread
        w = weight / {"mean over all": len(weight), "sum": 1}.get(mistake, total)
        w = jnp.ones_like(weight) / len(weight) if mistake == "no weight" else w
        Y = 0 if mistake == "no labels" else Y
        Y = jnp.roll(Y, 1, axis=1) if mistake == "classes off by one" else Y
        dZ = dJ * w[:, None] * (jax.nn.softmax(Z) - Y)
        dW = dZ.T @ A
        return {"A": dZ @ W, "W": dW}, None

    return of


def _tokens(V: int, *shape: int) -> Callable:
    """Whole numbers, of which some are there more than once."""
    return lambda rng: rng.permutation(np.arange(np.prod(shape)) % V).reshape(shape)


def _of_tokens(p: dict, V: int, *shape: int, rest: Callable = lambda rng: ()) -> Callable:
    drawn, tokens = sizes(p), _tokens(V, *shape)
    return lambda rng: (*drawn(rng), tokens(rng), *rest(rng))


def _of_attention(T: int, n: int, kv: int) -> Callable:
    return sizes({"Q": (n, n), "K": (n, kv), "V": (n, kv), "O": (n, n)}, (T, n))


def _of_lstm(T: int, N: int, n_prev: int, n: int) -> Callable:
    return sizes({"W": (n_prev, 4 * n), "U": (n, 4 * n), "b": (4 * n,)}, (T, N, n_prev))


def _of_head(N: int, n: int, V: int) -> Callable:
    return _of_tokens({"A": (N, n), "W": (V, n)}, V, N, rest=lambda rng: (rng.uniform(0.5, 2, size=N),))


SEQUENCES = (
    Layer("attention", _attention(2, 2, True, False), _through_attention(2, 2, True, False),
          (_of_attention(5, 6, 6), _of_attention(4, 8, 8)), IN_ATTENTION),
    Layer("attention in groups", _attention(6, 2, False, False), _through_attention(6, 2, False, False),
          (_of_attention(4, 12, 4), _of_attention(3, 18, 6)), IN_GROUPS),
    Layer("attention, turned", _attention(2, 2, True, True), _through_attention(2, 2, True, True),
          (_of_attention(4, 8, 8), _of_attention(5, 4, 4)), IN_ROTARY),
    Layer("lstm", _lstm, _through_lstm, (_of_lstm(3, 4, 2, 3), _of_lstm(4, 3, 5, 2)), IN_LSTM),
    Layer("embedding", _looked_up, _through_table,
          (_of_tokens({"E": (4, 3)}, 4, 2, 5), _of_tokens({"E": (5, 2)}, 5, 4, 3)), {
              "overwritten": "entries-overwritten", "mean": "entries-overwritten",
              "all to one row": "rows-in-one", "tokens off by one": "off-by-one",
              "rows in order": "reshaped",
          }),
    Layer("tied", _tied, _through_tied,
          (_of_tokens({"E": (4, 3), "W": (3, 3)}, 4, 2, 5), _of_tokens({"E": (5, 2), "W": (2, 2)}, 5, 4, 3)),
          {
              "head alone": "path-left-out", "embedding alone": "path-left-out",
              "mean of both": "stray-factor or factor-two",
          }),
    Layer("head", _headed, _through_head, (_of_head(6, 3, 4), _of_head(7, 2, 5)), {
        "no smoothing": "wrong-operand or step-left-out", "smoothing over V − 1": "labels-smoothed",
        "no weight": "argument-ignored or read-at-one-place or multiplier-forgotten",
        "mean over all": "mean-over-all",
        "sum": "stray-factor or step-left-out", "no labels": "labels-left-out or path-left-out",
        "classes off by one": "classes-shifted or entries-moved",
    }),
)  # fmt: skip
