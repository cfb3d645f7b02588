"""Every mistake of the catalogue, to plant: the table of steps with one step exchanged."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.planted.network import ACTIVATIONS, COSTS, RIGHT, Network, gradient_of


class Mutant(NamedTuple):
    """A gradient with a mistake in it."""

    id: str
    where: str  # which layer or parameter
    gradient: Callable


def _scaled(alpha):
    return lambda t, G: jax.tree.map(lambda g: g * alpha(t), G)


def _only(l, new, old):
    """The step `new` in layer l, `old` elsewhere."""
    return lambda t, k, *rest: (new if k == l else old)(t, k, *rest)


def _each(scale_w, scale_b):
    return lambda t, G: tuple((scale_w(t) * dW, scale_b(t) * db) for dW, db in G)


def _one(t):
    return 1.0


def _whole(net: Network) -> Iterator[tuple[str, dict]]:
    """Mistakes in no particular layer."""
    n_L = net.sizes[-1]
    yield "missing-mean", dict(error=lambda t: RIGHT.error(t) * t.N)
    if n_L > 1:
        yield "mean-over-outputs", dict(error=lambda t: RIGHT.error(t) / t.Y.shape[1])
    yield "mean-twice", dict(error=lambda t: RIGHT.error(t) / t.N)
    yield "n-minus-one", dict(error=lambda t: RIGHT.error(t) * t.N / (t.N - 1))
    yield "mean-over-features", dict(error=lambda t: RIGHT.error(t) * t.N / t.A[0].shape[1])
    yield "factor-two", dict(error=lambda t: RIGHT.error(t) * 2)
    yield "factor-two", dict(error=lambda t: RIGHT.error(t) / 2)
    yield "bias-not-averaged", dict(finish=_each(_one, lambda t: t.N))
    yield "learning-rate-folded-in", dict(finish=_scaled(lambda t: -0.05))
    yield "clipped-norm", dict(finish=_clipped)
    yield "sign", dict(error=lambda t: -RIGHT.error(t))
    yield "bias-mean", dict(db=lambda t, l, dZ: jnp.mean(dZ, axis=0)[:, None])
    yield "bias-missing", dict(db=lambda t, l, dZ: jnp.zeros((dZ.shape[1], 1)))
    if n_L > 1:
        yield "bias-summed-over-all", dict(db=lambda t, l, dZ: jnp.full((dZ.shape[1], 1), jnp.sum(dZ)))
    yield "bias-one-example", dict(db=lambda t, l, dZ: dZ[:1].T)
    yield "bias-one-example", dict(db=lambda t, l, dZ: dZ[-1:].T)
    yield "labels-shifted", dict(labels=lambda Y: jnp.roll(Y, 1, axis=0))
    if n_L > 1:
        yield "classes-shifted", dict(labels=lambda Y: jnp.roll(Y, 1, axis=1))
    else:
        yield "broadcast-labels", dict(labels=lambda Y: jnp.broadcast_to(jnp.mean(Y, axis=0), Y.shape))
    if net.cost.startswith("bce"):
        yield "negatives-ignored", dict(error=lambda t: RIGHT.error(t) * t.Y)
    yield "truncated-inputs", dict(inputs=jnp.trunc)
    yield "examples-ignored", dict(error=lambda t: RIGHT.error(t).at[-1].set(0))
    yield "examples-ignored", dict(error=lambda t: RIGHT.error(t).at[: t.N // 2].set(0))
    if not net.cost.startswith("squared"):
        yield "extra-output-derivative", dict(error=lambda t: RIGHT.error(t) * t.A[-1] * (1 - t.A[-1]))
    if net.cost != "squared-linear":
        yield (
            "missing-output-derivative",
            dict(error=lambda t: COSTS[t.net.cost].output_error(t.Z[-1], t.Y) / t.N),
        )


def _clipped(t, G):
    norm = jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(G)))
    return jax.tree.map(lambda g: g / norm, G)


def _hidden(net: Network, h: int) -> Iterator[tuple[str, dict]]:
    """Mistakes at dZ[h] of hidden layer h."""
    g = ACTIVATIONS[net.hidden]
    L = len(net.sizes) - 1

    def slope(new):
        return dict(slope=_only(h, new, RIGHT.slope))

    yield "layer-sign", dict(passed=_only(h, lambda t, l, dA: -dA, RIGHT.passed))
    yield "not-propagated", dict(passed=_only(h, lambda t, l, dA: jnp.zeros_like(dA), RIGHT.passed))
    if net.hidden != "identity":
        yield "missing-activation-derivative", slope(lambda t, l: jnp.ones_like(t.Z[l]))
        yield "output-for-derivative", slope(lambda t, l: g.forward(t.Z[l]))
        if net.hidden not in {"relu", "leaky_relu"}:
            yield (
                "derivative-at-output",
                slope(lambda t, l: g.slope(g.forward(t.Z[l]), g.forward(g.forward(t.Z[l])))),
            )
            yield "derivative-twice", slope(lambda t, l: RIGHT.slope(t, l) ** 2)
        for other in ("sigmoid", "tanh", "relu"):
            if other != net.hidden:
                yield (
                    "wrong-activation-derivative",
                    slope(lambda t, l, o=ACTIVATIONS[other]: o.slope(t.Z[l], o.forward(t.Z[l]))),
                )
        if net.hidden in {"sigmoid", "tanh"}:
            other = "sigmoid" if net.hidden == "tanh" else "tanh"
            yield (
                "wrong-activation-derivative",
                slope(lambda t, l, other=other: ACTIVATIONS[other].slope(t.Z[l], g.forward(t.Z[l]))),
            )
        for k in (h - 1, h + 1):
            if 1 <= k < L and net.sizes[k] == net.sizes[h]:
                yield "derivative-at-wrong-layer", slope(lambda t, l, k=k: g.slope(t.Z[k], g.forward(t.Z[k])))
    if net.sizes[h + 1] == net.sizes[h]:
        yield "weights-not-transposed", _matrix(h + 1, lambda t, l, G: t.params[l - 1][0].T)
    for k in (h, h + 2):
        if 1 <= k <= L and (net.sizes[k], net.sizes[k - 1]) == (net.sizes[h + 1], net.sizes[h]):
            yield "wrong-layer-weights", _matrix(h + 1, lambda t, l, G, k=k: t.params[k - 1][0])
    yield "gradient-for-weights", _matrix(h + 1, lambda t, l, G: G[l][0])
    yield "updated-weights", _matrix(h + 1, lambda t, l, G: t.params[l - 1][0] - 0.1 * G[l][0])
    if net.masked:
        yield "mask-forgotten", dict(mask=_only(h, lambda t, l: 1.0, RIGHT.mask))


def _matrix(l, new):
    return dict(matrix=_only(l, new, RIGHT.matrix))


def _operands(net: Network, l: int) -> Iterator[tuple[str, dict]]:
    """Mistakes in dW[l] and db[l]."""
    n = net.sizes

    def operand(new):
        return dict(operand=_only(l, new, RIGHT.operand))

    def dW(new):
        return dict(dW=_only(l, lambda t, k, dZ, A: new(RIGHT.dW(t, k, dZ, A)), RIGHT.dW))

    def db(new):
        return dict(db=_only(l, lambda t, k, dZ: new(RIGHT.db(t, k, dZ)), RIGHT.db))

    if n[l] == n[l - 1]:
        yield "transposed", dW(lambda g: g.T)
        yield "own-activation", operand(lambda t, k: t.A[k])
    elif min(n[l], n[l - 1]) > 1:
        yield "reshaped", dW(lambda g: g.T.reshape(g.shape))
    if l > 1:
        if net.hidden != "identity":
            yield "pre-activation", operand(lambda t, k: t.Z[k - 1])
        if l > 1 and n[0] == n[l - 1]:
            yield "input-for-activation", operand(lambda t, k: t.A[0])
    yield "entries-unwritten", dW(lambda g: g.at[-1].set(0))
    yield "entries-unwritten", dW(lambda g: g.at[..., -1].set(0))
    yield "entries-unwritten", dW(lambda g: g.at[0, 0].set(0))
    yield "bias-missing", db(lambda g: jnp.zeros_like(g))
    if n[l] > 1:
        yield "bias-summed-over-all", db(lambda g: jnp.full_like(g, jnp.sum(g)))
    yield "bias-mean", dict(db=_only(l, lambda t, k, dZ: RIGHT.db(t, k, dZ) / t.N, RIGHT.db))
    yield "bias-not-averaged", dict(db=_only(l, lambda t, k, dZ: RIGHT.db(t, k, dZ) * t.N, RIGHT.db))
    yield (
        "low-precision",
        dict(
            dW=_only(
                l,
                lambda t, k, dZ, A: (dZ.astype(jnp.bfloat16).T @ A.astype(jnp.bfloat16)).astype(dZ.dtype),
                RIGHT.dW,
            )
        ),
    )


def _penalties(net: Network) -> Iterator[tuple[str, dict]]:
    if not net.penalty:
        return

    def penalty(new):
        return dict(penalty=lambda t, l, W: new(t, RIGHT.penalty(t, l, W)))

    yield "regularisation-missing", penalty(lambda t, R: 0 * R)
    yield "regularisation-doubled", penalty(lambda t, R: 2 * R)
    yield "regularisation-unscaled", penalty(lambda t, R: t.N * R)
    yield "l1-for-l2", dict(penalty=lambda t, l, W: t.net.penalty / t.N * jnp.sign(W))
    yield "regularisation-on-bias", dict(bias_penalty=lambda t, l, b: t.net.penalty / t.N * b)


def _all_hidden(net: Network) -> Iterator[tuple[str, dict]]:
    """The same mistake in every hidden layer, as a loop makes it."""
    if len(net.sizes) < 4 or net.hidden == "identity":
        return
    g = ACTIVATIONS[net.hidden]
    yield "missing-activation-derivative", dict(slope=lambda t, l: jnp.ones_like(t.Z[l]))
    yield "output-for-derivative", dict(slope=lambda t, l: g.forward(t.Z[l]))
    yield "pre-activation", dict(operand=lambda t, l: t.Z[l - 1] if l > 1 else t.A[0])
    yield "updated-weights", dict(matrix=lambda t, l, G: t.params[l - 1][0] - 0.1 * G[l][0])
    if net.hidden not in {"relu", "leaky_relu"}:
        yield "derivative-twice", dict(slope=lambda t, l: RIGHT.slope(t, l) ** 2)


def _stateful(net: Network) -> Iterator[Mutant]:
    right = gradient_of(net)

    def accumulated():
        kept: list = []

        def gradient(*args):
            kept.append(right(*args))
            return jax.tree.map(lambda *gs: sum(gs), *kept)

        return gradient

    def stale():
        before: list = []

        def gradient(*args):
            before.append(args)
            return right(*before[max(len(before) - 2, 0)])

        return gradient

    def resampled():
        rng = np.random.default_rng(0)

        def gradient(params, X, Y, masks):
            keep = 1 / max(float(np.max(m)) for m in masks)
            new = tuple((rng.uniform(size=m.shape) < keep) / keep for m in masks)
            steps = RIGHT._replace(mask=lambda t, l: new[l - 1])
            return gradient_of(net, steps)(params, X, Y, masks)

        return gradient

    yield Mutant("accumulated", "", accumulated())
    yield Mutant("stale", "", stale())
    if net.masked and len(net.sizes) > 2:
        yield Mutant("mask-resampled", "", resampled())


def _numerical(net: Network) -> Iterator[tuple[str, dict]]:
    """Mistakes that show only where the output is saturated."""
    if not net.cost.startswith("bce"):
        return
    yield (
        "clipped-log",
        dict(error=lambda t: jnp.where((t.A[-1] > 1e-7) & (t.A[-1] < 1 - 1e-7), RIGHT.error(t), 0)),
    )
    yield (
        "saturated-nan",
        dict(error=lambda t: ((1 - t.Y) / (1 - t.A[-1]) - t.Y / t.A[-1]) * t.A[-1] * (1 - t.A[-1]) / t.N),
    )


def mutants(net: Network) -> Iterator[Mutant]:
    """Every mistake of the catalogue that a network can have, at every place where it can be made."""
    yield from _stateful(net)
    families = [("", _whole(net)), ("", _penalties(net)), ("every hidden layer", _all_hidden(net))]
    layers = range(1, len(net.sizes))
    families += [("", _numerical(net)), *((f"layer {h}", _hidden(net, h)) for h in layers[:-1])]
    families += [(f"layer {l}", _operands(net, l)) for l in layers]
    for where, family in families:
        for id, steps in family:
            yield Mutant(id, where, gradient_of(net, RIGHT._replace(**steps)))


NEEDS_SATURATION = frozenset({"clipped-log", "saturated-nan"})
STATEFUL = frozenset({"accumulated", "stale", "mask-resampled"})


def planted(net: Network, id: str, layer: int | None = None) -> Mutant:
    """The first mutant of that id (in that layer, if one is given).

    Raises ValueError, with the ids that the network can have, if it cannot have this one.

    >>> planted(Network((3, 4, 2)), "missing-activation-derivative").where
    'layer 1'
    """
    every = list(mutants(net))
    for mutant in every:
        if mutant.id == id and (layer is None or mutant.where == f"layer {layer}"):
            return mutant
    ids = ", ".join(sorted({m.id for m in every}))
    place = "" if layer is None else f" in layer {layer}"
    raise ValueError(f"no mistake {id!r}{place} can be planted in {net.sizes}; it can have: {ids}")


def exposed_steps(net: Network, params, X, Y, wrong: str, fault: Callable) -> tuple[Any, dict[str, Any]]:
    """(gradient, steps) of a backward pass by hand that shows its steps; the one named `wrong` is faulty."""

    def made(name: str, value):
        return fault(value) if name == wrong else value

    g, top = ACTIVATIONS[net.hidden], len(params)
    Z, A = [None], [X]
    for l, (W, b) in enumerate(params, 1):
        Z.append(A[-1] @ W.T + b.T)
        A.append(Z[-1] if l == top else g.forward(Z[-1]))
    steps = {f"dZ[{top}]": made(f"dZ[{top}]", COSTS[net.cost].error(Z[top], Y) / len(X))}
    gradient = []
    for l in range(top, 0, -1):
        dZ, (W, _) = steps[f"dZ[{l}]"], params[l - 1]
        dW = made(f"dW[{l}]", dZ.T @ A[l - 1] + net.penalty / len(X) * W)
        db = made(f"db[{l}]", jnp.sum(dZ, axis=0)[:, None])
        gradient.insert(0, (dW, db))
        if l > 1:
            dA = steps[f"dA[{l - 1}]"] = made(f"dA[{l - 1}]", dZ @ W)
            steps[f"dZ[{l - 1}]"] = made(f"dZ[{l - 1}]", dA * g.slope(Z[l - 1], A[l - 1]))
    return tuple(gradient), steps
