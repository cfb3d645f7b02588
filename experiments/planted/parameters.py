"""Mistakes in dW[l] and db[l]: in how they are made, and in what is done to them."""

from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp

from experiments.planted.hidden import Steps, only
from experiments.planted.network import RIGHT, Network

SMALL = 0.03  # an entry that is taken for zero


def _operand(l: int, new: Callable) -> dict:
    """What stands for A[l-1] in dW[l]."""
    return dict(operand=only(l, new, RIGHT.operand))


def _of_operand(l: int, new: Callable) -> dict:
    return _operand(l, lambda t, k: new(RIGHT.operand(t, k)))


def _dW(l: int, new: Callable) -> dict:
    return dict(dW=only(l, lambda t, k, dZ, A: new(RIGHT.dW(t, k, dZ, A)), RIGHT.dW))


def _db(l: int, new: Callable) -> dict:
    return dict(db=only(l, lambda t, k, dZ: new(RIGHT.db(t, k, dZ)), RIGHT.db))


def _at_last(l: int, which: int, new: Callable) -> dict:
    """Done to dW[l] (which = 0) or db[l] (1) when all is made."""
    return dict(
        finish=lambda t, G: tuple(
            tuple(new(g) if (k, n) == (l, which) else g for n, g in enumerate(pair))
            for k, pair in enumerate(G, 1)
        )
    )


def _all(new: Callable) -> dict:
    return dict(finish=lambda t, G: jax.tree.map(new, G))


def _each(scale_w: Callable, scale_b: Callable) -> dict:
    return dict(finish=lambda t, G: tuple((scale_w(t) * dW, scale_b(t) * db) for dW, db in G))


def _one(t) -> float:
    return 1.0


def _clip(net: Network) -> Callable:
    """To ±c, as large as some entries and not as others."""
    c = 0.002 if net.cost == "squared" else 0.02
    return lambda g: jnp.clip(g, -c, c)


def _to_norm(t, G):
    norm = jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(G)))
    return jax.tree.map(lambda g: g / norm, G)


def _over(axis: int, mean: Callable) -> Callable:
    return lambda g: jnp.broadcast_to(mean(g, axis=axis, keepdims=True), g.shape)


def in_all_parameters(net: Network) -> Steps:
    """Mistakes in no particular layer."""
    yield "bias-not-averaged", _each(_one, lambda t: t.N)
    yield "learning-rate-folded-in", _each(lambda t: -0.05, lambda t: -0.05)
    yield "clipped-norm", dict(finish=_to_norm)
    yield "bias-mean", dict(db=lambda t, l, dZ: jnp.mean(dZ, axis=0)[:, None])
    yield "bias-missing", dict(db=lambda t, l, dZ: jnp.zeros((dZ.shape[1], 1), dZ.dtype))
    if net.sizes[-1] > 1:
        yield "bias-summed-over-all", dict(db=lambda t, l, dZ: jnp.full((dZ.shape[1], 1), jnp.sum(dZ)))
    yield "bias-one-example", dict(db=lambda t, l, dZ: dZ[:1].T)
    yield "bias-one-example", dict(db=lambda t, l, dZ: dZ[-1:].T)
    yield "entries-clipped", _all(_clip(net))
    yield "entries-rounded", _all(lambda g: jnp.round(g, 2))
    yield "entries-rounded", _all(lambda g: jnp.where(jnp.abs(g) < SMALL, 0, g))
    yield "signs-lost", _all(jnp.abs)
    yield "signs-lost", _all(jnp.sign)


def operands(net: Network, l: int) -> Steps:
    """What stands for A[l-1] in dW[l] = dZ[l]ᵀ A[l-1]."""
    n, L = net.sizes, len(net.sizes) - 1
    if n[l] == n[l - 1]:
        yield "own-activation", _operand(l, lambda t, k: t.A[k])
    if l > 1:
        if net.hidden != "identity":
            yield "pre-activation", _operand(l, lambda t, k: t.Z[k - 1])
        yield (
            "gradient-for-activation",
            dict(dW=only(l, lambda t, k, dZ, A: dZ.T @ (dZ @ t.params[k - 1][0]), RIGHT.dW)),
        )
        if n[0] == n[l - 1]:
            yield "input-for-activation", _operand(l, lambda t, k: t.A[0])
    for k in range(1, L):
        if n[k] == n[l - 1] and k not in (l - 1, l):
            yield "wrong-layer-activation", _operand(l, lambda t, _, k=k: t.A[k])
    if L > 1:  # in one layer it is the mean of dZ[1] as well
        yield (
            "activation-averaged",
            _of_operand(l, lambda A: jnp.broadcast_to(jnp.mean(A, axis=0, keepdims=True), A.shape)),
        )
    yield "activation-averaged", _of_operand(l, lambda A: A - jnp.mean(A, axis=0, keepdims=True))
    yield "examples-misaligned", _of_operand(l, lambda A: jnp.roll(A, 1, axis=0))
    yield "examples-misaligned", _of_operand(l, lambda A: A[::-1])


def entries(net: Network, l: int) -> Steps:
    """Mistakes in dW[l] and db[l]."""
    n, sum_is_0 = net.sizes, net.cost.startswith("softmax") and l == len(net.sizes) - 1
    if n[l] == n[l - 1]:
        yield "transposed", _dW(l, lambda g: g.T)
    elif min(n[l], n[l - 1]) > 1:
        yield "reshaped", _dW(l, lambda g: g.T.reshape(g.shape))
    yield "entries-unwritten", _dW(l, lambda g: g.at[-1].set(0))
    yield "entries-unwritten", _dW(l, lambda g: g.at[..., -1].set(0))
    yield "entries-unwritten", _dW(l, lambda g: g.at[0, 0].set(0))
    yield "bias-missing", _db(l, jnp.zeros_like)
    if n[l] > 1:
        yield "bias-summed-over-all", _db(l, lambda g: jnp.full_like(g, jnp.sum(g)))
    yield "bias-mean", dict(db=only(l, lambda t, k, dZ: RIGHT.db(t, k, dZ) / t.N, RIGHT.db))
    yield "bias-not-averaged", dict(db=only(l, lambda t, k, dZ: RIGHT.db(t, k, dZ) * t.N, RIGHT.db))
    yield "stray-factor", _dW(l, lambda g: 0.3 * g)
    yield "entries-moved", _dW(l, lambda g: g[:, ::-1])
    yield "entries-moved", _dW(l, lambda g: jnp.roll(g, 1, axis=1))
    if n[l] > 1:
        yield "entries-moved", _dW(l, lambda g: g[::-1])
        yield "entries-moved", _dW(l, lambda g: jnp.roll(g, 1, axis=0))
        yield "entries-moved", _db(l, lambda g: g[::-1])
        if not sum_is_0:
            yield "wrong-axis", _dW(l, _over(0, jnp.sum))
            yield "wrong-axis", _dW(l, _over(0, jnp.mean))
            yield "gradient-centred", _at_last(l, 0, lambda g: g - jnp.mean(g, axis=0, keepdims=True))
            yield "gradient-centred", _at_last(l, 1, lambda g: g - jnp.mean(g))
    yield "wrong-axis", _dW(l, _over(1, jnp.sum))
    yield "wrong-axis", _dW(l, _over(1, jnp.mean))
    yield "gradient-centred", _at_last(l, 0, lambda g: g - jnp.mean(g, axis=1, keepdims=True))
    yield "signs-lost", _at_last(l, 0, jnp.abs)
    yield "signs-lost", _at_last(l, 0, jnp.sign)
    yield "entries-clipped", _at_last(l, 0, _clip(net))
    yield "entries-rounded", _at_last(l, 0, lambda g: jnp.round(g, 2))
    yield (
        "low-precision",
        dict(
            dW=only(
                l,
                lambda t, k, dZ, A: (dZ.astype(jnp.bfloat16).T @ A.astype(jnp.bfloat16)).astype(dZ.dtype),
                RIGHT.dW,
            )
        ),
    )


def exchanged(net: Network) -> Steps:
    """The gradients of two parameters of one shape, each in the other's place."""
    n = net.sizes
    for l in range(1, len(n)):
        for k in range(l + 1, len(n)):
            for which, shape in enumerate(((n[l], n[l - 1]), (n[l],))):
                if shape == ((n[k], n[k - 1]), (n[k],))[which]:
                    yield "gradients-exchanged", dict(finish=_exchange(l - 1, k - 1, which))


def _exchange(l: int, k: int, which: int) -> Callable:
    def finish(t, G):
        G = [list(pair) for pair in G]
        G[l][which], G[k][which] = G[k][which], G[l][which]
        return tuple(map(tuple, G))

    return finish


def penalties(net: Network) -> Iterator[tuple[str, dict]]:
    """What stands for (λ/N) W."""
    if not net.penalty:
        yield "regularisation-added", dict(penalty=lambda t, l, W: 0.01 * W)
        return

    def penalty(new):
        return dict(penalty=lambda t, l, W: new(t, RIGHT.penalty(t, l, W)))

    yield "regularisation-missing", penalty(lambda t, R: 0 * R)
    yield "regularisation-doubled", penalty(lambda t, R: 2 * R)
    yield "regularisation-scaled", penalty(lambda t, R: 0.5 * R)
    yield "regularisation-scaled", penalty(lambda t, R: -R)
    yield "regularisation-scaled", penalty(lambda t, R: 3 * R)
    yield "regularisation-unscaled", penalty(lambda t, R: t.N * R)
    yield "l1-for-l2", dict(penalty=lambda t, l, W: t.net.penalty / t.N * jnp.sign(W))
    yield "regularisation-on-bias", dict(bias_penalty=lambda t, l, b: t.net.penalty / t.N * b)
