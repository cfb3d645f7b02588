"""Layers over rows and images, with the mistakes that people make in their backward passes."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from experiments.planted.layer import Layer, sizes

LITTLE = 1e-2  # ε


def _mean(A, axis=1):
    return jnp.mean(A, axis=axis, keepdims=True)


def _normed(axis: int, centred: bool) -> Callable:
    """Layer norm and batch norm by the axis; RMS norm where nothing is centred."""

    def forward(p, X):
        D = X - _mean(X, axis) if centred else X
        h = D / jnp.sqrt(_mean(D * D, axis) + LITTLE)
        return h * p["gamma"] + p["beta"] if centred else h * p["gamma"]

    return forward


def _through_norm(axis: int, centred: bool) -> Callable:
    def backward(mistake: str) -> Callable:
        def of(p, X, dA):
            n = X.shape[axis]
            D = X - _mean(X, axis) if centred else X
            v = _mean(D * D, axis)
            if mistake == "n − 1":
                v = jnp.sum(D * D, axis=axis, keepdims=True) / (n - 1)
            r = 1 / jnp.sqrt(v + (0 if mistake == "no ε" else LITTLE))
            h = D * r
            factor = {"input for h": X, "output for h": h * p["gamma"]}.get(mistake, h)
            dp = {"gamma": jnp.sum(dA * factor, axis=0)}
            if centred:
                dp["beta"] = jnp.mean(dA, axis=0) if mistake == "mean of dβ" else jnp.sum(dA, axis=0)
            G = dA if mistake == "no γ" else dA * p["gamma"]
            mean = _mean(G, axis) if centred else 0
            if mistake in ("no mean", "statistics are constants"):
                mean = 0
            if mistake == "mean twice":
                mean = 2 * mean
            if mistake == "mean taken off":  # as layer norm does
                mean = _mean(G, axis)
            through = h * _mean(G * h, axis)
            if mistake in ("no variance", "statistics are constants"):
                through = 0
            if mistake == "sum for mean":
                through = n * through
            if mistake == "sign of variance":
                through = -through
            dX = G - mean - through
            return dp, dX if mistake == "no r" else r * r * dX if mistake == "r twice" else r * dX

        return of

    return backward


IN_NORMS = {
    "no mean": "statistic-left-out",
    "no variance": "statistic-left-out",
    "statistics are constants": "statistic-left-out",
    "no γ": "multiplier-forgotten",
    "n − 1": "unbiased-variance",
    "no ε": "epsilon-left-out",
    "input for h": "wrong-operand",
    "mean twice": "path-miscounted",
    "no r": "multiplier-forgotten",
    "mean of dβ": "bias-mean or mean-twice or path-miscounted",
    "sign of variance": "path-miscounted",
}
IN_RMS = {
    "no variance": "statistic-left-out",
    "no γ": "multiplier-forgotten",
    "no ε": "epsilon-left-out",
    "input for h": "wrong-operand",
    "sum for mean": "path-miscounted",
    "mean taken off": "gradient-centred",
    "no r": "multiplier-forgotten",
}
IN_BATCHES = {
    name: IN_NORMS[name] for name in ("no mean", "no variance", "statistics are constants", "no γ", "n − 1")
}


def _convolved(X, K, stride: int, padding: int, groups: int, **more):
    return jax.lax.conv_general_dilated(
        X, K, (stride, stride), [(padding, padding)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=groups, **more,
    )  # fmt: skip


def _convolution(stride: int, padding: int, groups: int) -> Callable:
    return lambda p, X: _convolved(X, p["W"], stride, padding, groups) + p["b"]


def _patches(X, k: int, stride: int, out):
    """(k, k) → what meets W[i, j]: (N, H_out, W_out, n)."""
    return {
        (i, j): X[:, i : i + stride * (out[0] - 1) + 1 : stride, j : j + stride * (out[1] - 1) + 1 : stride]
        for i in range(k)
        for j in range(k)
    }


def _through_convolution(stride: int, padding: int, groups: int) -> Callable:
    """By shifted images: what W[i, j] meets gets dZ W[i, j]ᵀ."""

    def backward(mistake: str) -> Callable:
        def of(p, X, dZ):
            W, k = p["W"], p["W"].shape[0]
            pads = ((0, 0), (padding, padding), (padding, padding), (0, 0))
            padded = jnp.pad(X, pads)
            met = _patches(padded, k, stride, dZ.shape[1:3])
            Xs = {at: jnp.split(x, groups, -1) for at, x in met.items()}
            dZs, Ws = jnp.split(dZ, groups, -1), jnp.split(W, groups, -1)
            if mistake == "groups of X exchanged":
                Xs = {at: x[::-1] for at, x in Xs.items()}
            if mistake == "groups of dZ exchanged":
                dZs = dZs[::-1]
            dW = jnp.stack([
                jnp.stack([
                    jnp.concatenate([jnp.einsum("nabc,nabo->co", x, d)
                                     for x, d in zip(Xs[i, j], dZs, strict=True)], -1)
                    for j in range(k)])
                for i in range(k)])  # fmt: skip
            dZs = jnp.split(dZ, groups, -1)
            if mistake == "dW turned":
                dW = dW[::-1, ::-1]
            if mistake == "dW transposed":
                dW = dW.swapaxes(0, 1)
            db = jnp.sum(dZ, axis=(0, 1, 2))
            if mistake == "db of examples alone":
                db = jnp.mean(dZ, axis=(1, 2)).sum(axis=0)
            if mistake == "db averaged":
                db = jnp.mean(dZ, axis=(0, 1, 2))
            d = jnp.zeros(padded.shape, X.dtype)
            for i in range(k):
                for j in range(k):
                    a, b = (k - 1 - i, k - 1 - j) if mistake == "not turned" else (i, j)
                    if mistake == "kernel transposed":
                        a, b = b, a
                    more = [g @ w[a, b].T for g, w in zip(dZs, Ws, strict=True)]
                    more = jnp.concatenate(more[::-1] if mistake == "groups of dX exchanged" else more, -1)
                    rows = i + stride * np.arange(dZ.shape[1])
                    columns = j + stride * np.arange(dZ.shape[2])
                    place = d.at[:, rows[:, None], columns[None]]
                    d = place.set(more) if mistake == "overwritten" else place.add(more)
            H, width = X.shape[1:3]
            first = {"cut at the start": 0, "cut at the end": 2 * padding}.get(mistake, padding)
            return {"W": dW, "b": db}, d[:, first : first + H, first : first + width]

        return of

    return backward


IN_CONVOLUTIONS = {
    "not turned": "kernel-not-turned",
    "kernel transposed": "wrong-operand",
    "dW turned": "entries-moved",
    "dW transposed": "transposed",
    "db averaged": "bias-mean",
    "db of examples alone": "stray-factor",
    "overwritten": "entries-overwritten",
    "cut at the start": "border-miscut",
    "cut at the end": "border-miscut",
}
IN_GROUPS = {
    "groups of X exchanged": "groups-exchanged",
    "groups of dZ exchanged": "groups-exchanged",
    "groups of dX exchanged": "groups-exchanged or entries-moved",
    "not turned": "kernel-not-turned",
}


def _pooled(size: int, stride: int, of: Callable) -> Callable:
    def forward(p, X):
        out = [(side - size) // stride + 1 for side in X.shape[1:3]]
        return of(jnp.stack([*_patches(X, size, stride, out).values()]), axis=0)

    return forward


def _through_pool(size: int, stride: int, largest: bool) -> Callable:
    def backward(mistake: str) -> Callable:
        def of(p, X, dA):
            at = _patches(
                jnp.arange(X[0, :, :, 0].size).reshape(1, *X.shape[1:3], 1), size, stride, dA.shape[1:3]
            )
            xs = jnp.stack([*_patches(X, size, stride, dA.shape[1:3]).values()])
            if largest:
                share = (xs == jnp.max(xs, axis=0, keepdims=True)).astype(X.dtype)
                share = jnp.ones_like(xs) if mistake == "to all" else share
                share = share / size**2 if mistake == "divided by k²" else share
                share = share.at[1:].set(0).at[0].set(1) if mistake == "to the first" else share
                if mistake == "window transposed":
                    share = share.reshape(size, size, *share.shape[1:]).swapaxes(0, 1).reshape(share.shape)
                share = share * xs if mistake == "value for mask" else share
                share = (
                    (xs == jnp.min(xs, axis=0, keepdims=True)) * 1.0 if mistake == "to the least" else share
                )
            else:
                per = {"sum": 1, "1/k": size}.get(mistake, size**2)
                share = jnp.ones_like(xs) / per
            dX = jnp.zeros((len(X), X[0, :, :, 0].size, X.shape[3]), X.dtype)
            for k, place in enumerate(at.values()):
                more = (dA * share[k]).reshape(len(X), -1, X.shape[3])
                place = dX.at[:, place.ravel()]
                dX = place.set(more) if mistake == "overwritten" else place.add(more)
            return {}, dX.reshape(X.shape)

        return of

    return backward


IN_MAX = {
    "to all": "window-unmasked",
    "divided by k²": "stray-factor",
    "to the first": "window-misplaced",
    "window transposed": "window-misplaced",
    "to the least": "window-misplaced",
    "value for mask": "wrong-operand",
}
IN_MEANS = {
    "sum": "stray-factor or step-left-out",
    "1/k": "stray-factor or factor-two",
    "overwritten": "entries-overwritten",
}


def _dropped(p, X, M):
    return X * M / 0.75


def _through_dropout(mistake: str) -> Callable:
    def of(p, X, dA, M):
        M = {"no mask": jnp.ones_like(M), "1 − mask": 1 - M}.get(mistake, M)
        keep = {"no 1/keep": 1, "twice": 0.75**2, "rate": 0.25}.get(mistake, 0.75)
        return {}, dA * M / keep

    return of


def _mask(*shape: int) -> Callable:
    return lambda rng: ((rng.random(shape) < 0.75).astype(float),)


IN_DROPOUT = {
    "no mask": "mask-forgotten or multiplier-forgotten",
    "1 − mask": "mask-inverted",
    "no 1/keep": "stray-factor or step-left-out",
    "twice": "stray-factor",
    "rate": "stray-factor",
}


def _added(p, X):
    return X + jnp.tanh(X @ p["W"]) @ p["V"]


def _through_residual(mistake: str) -> Callable:
    def of(p, X, dA):
        B = jnp.tanh(X @ p["W"])
        dZ = dA @ p["V"].T * (1 - B * B)
        inner = dA if mistake == "no layer" else dZ @ p["W"].T
        inner = 0 * inner if mistake == "no layer" else inner
        around = {"no skip": 0, "skip twice": 2, "skip subtracted": -1}.get(mistake, 1) * dA
        return {"W": X.T @ dZ, "V": (X + B if mistake == "output" else B).T @ dA}, around + inner

    return of


IN_RESIDUALS = {
    "no skip": "path-left-out",
    "skip twice": "path-miscounted",
    "skip subtracted": "path-miscounted",
    "no layer": "path-left-out",
}


def _stacked(p, X):
    for W in p["W"]:
        X = jnp.tanh(X @ W)
    return X


def _through_stack(mistake: str) -> Callable:
    def of(p, X, dA):
        A = [X]
        for W in p["W"]:
            A.append(jnp.tanh(A[-1] @ W))
        if mistake == "recomputed from the output":
            A = [A[-1]]
            for W in p["W"]:
                A.append(jnp.tanh(A[-1] @ W))
        found = []
        Ws = p["W"][::-1] if mistake == "weights not reversed" else p["W"]
        for l in reversed(range(len(Ws))):
            dZ = dA * (1 - A[l + 1] ** 2)
            found.append(A[0 if mistake == "input of the first" else l].T @ dZ)
            dA = dZ @ Ws[l].T
        dW = jnp.stack(found if mistake == "not reversed" else found[::-1])
        dW = jnp.broadcast_to(dW.sum(axis=0), dW.shape) if mistake == "summed" else dW
        return {"W": dW}, dA

    return of


IN_STACKS = {
    "not reversed": "entries-moved",
    "weights not reversed": "wrong-operand",
    "summed": "wrong-axis",
    "input of the first": "wrong-operand",
    "recomputed from the output": "stale-start",
}


def _undone(p, X):
    n = X.shape[1] // 2
    A1, A2 = X[:, :n], X[:, n:]
    A1 = A1 + jnp.tanh(A2 @ p["F"])
    A2 = A2 + jnp.tanh(A1 @ p["G"])
    return jnp.concatenate([A1, A2], axis=1)


def _through_reversible(mistake: str) -> Callable:
    """The inputs are made of the outputs."""

    def of(p, X, dA):
        n = X.shape[1] // 2
        A = _undone(p, X)
        A1, A2 = A[:, :n], A[:, n:]
        dA1, dA2 = dA[:, :n], dA[:, n:]
        B = jnp.tanh(A1 @ p["G"])
        A2 = A2 - B
        dZ = dA2 * (1 - B * B)
        dG, back = A1.T @ dZ, dZ @ p["G"].T
        old = dA1
        dA1 = back if mistake == "dA₁ overwritten" else dA1 + back
        C = jnp.tanh(A2 @ p["F"])
        dZ = (old if mistake == "dA₁ of before" else dA1) * (1 - C * C)
        dF = A2.T @ dZ
        dA2 = dA2 + dZ @ p["F"].T
        return {"F": dF, "G": dG}, jnp.concatenate(
            [dA2, dA1] if mistake == "halves exchanged" else [dA1, dA2], axis=1
        )

    return of


IN_REVERSIBLE = {
    "dA₁ overwritten": "path-left-out",
    "dA₁ of before": "path-left-out",
    "halves exchanged": "entries-moved",
}


def _of_norm(rows: int, n: int, *more: str) -> Callable:
    return sizes(dict.fromkeys(("gamma", *more), (n,)), (rows, n))


def _of_images(k: int, n_prev: int, n: int, groups: int, *X: int) -> Callable:
    return sizes({"W": (k, k, n_prev // groups, n), "b": (n,)}, (*X, n_prev))


LAYERS = (
    Layer("layer norm", _normed(1, True), _through_norm(1, True),
          (_of_norm(4, 5, "beta"), _of_norm(3, 7, "beta")), IN_NORMS),
    Layer("rms norm", _normed(1, False), _through_norm(1, False), (_of_norm(4, 5), _of_norm(3, 7)), IN_RMS),
    Layer("batch norm", _normed(0, True), _through_norm(0, True),
          (_of_norm(6, 4, "beta"), _of_norm(5, 2, "beta")), IN_BATCHES),
    Layer("convolution", _convolution(2, 1, 1), _through_convolution(2, 1, 1),
          (_of_images(3, 2, 4, 1, 2, 5, 7), _of_images(3, 2, 5, 1, 3, 7, 5)), IN_CONVOLUTIONS),
    Layer("convolution in groups", _convolution(1, 0, 2), _through_convolution(1, 0, 2),
          (_of_images(2, 4, 6, 2, 3, 4, 5), _of_images(2, 6, 4, 2, 2, 5, 4)), IN_GROUPS),
    Layer("max pool", _pooled(2, 2, jnp.max), _through_pool(2, 2, True),
          (sizes({}, (2, 4, 6, 3)), sizes({}, (3, 4, 2, 2))), IN_MAX),
    Layer("max pool, overlapping", _pooled(3, 2, jnp.max), _through_pool(3, 2, True),
          (sizes({}, (2, 5, 7, 3)), sizes({}, (3, 5, 3, 2))), {"overwritten": "entries-overwritten"}),
    Layer("average pool", _pooled(2, 1, jnp.mean), _through_pool(2, 1, False),
          (sizes({}, (2, 3, 5, 3)), sizes({}, (3, 4, 3, 2))), IN_MEANS),
    Layer("dropout", _dropped, _through_dropout,
          (sizes({}, (6, 5), rest=_mask(6, 5)), sizes({}, (5, 4), rest=_mask(5, 4))), IN_DROPOUT),
    Layer("residual", _added, _through_residual,
          (sizes({"W": (4, 5), "V": (5, 4)}, (6, 4)), sizes({"W": (2, 6), "V": (6, 2)}, (5, 2))),
          IN_RESIDUALS),
    Layer("repeated", _stacked, _through_stack,
          (sizes({"W": (3, 4, 4)}, (5, 4)), sizes({"W": (2, 5, 5)}, (4, 5))), IN_STACKS),
    Layer("reversible", _undone, _through_reversible,
          (sizes({"F": (3, 3), "G": (3, 3)}, (5, 6)), sizes({"F": (2, 2), "G": (2, 2)}, (6, 4))),
          IN_REVERSIBLE),
)  # fmt: skip
