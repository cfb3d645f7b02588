"""Mistakes at the output: in dZ[L], and in the labels and inputs that it is made of."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp

from experiments.planted.network import COSTS, RIGHT, Network, Trace


def _always(net: Network) -> bool:
    return True


def _bce(net: Network) -> bool:
    return net.cost.startswith("bce")


def _softmax(net: Network) -> bool:
    return net.cost.startswith("softmax")


def _squared(net: Network) -> bool:
    return net.cost.startswith("squared")


def _bent(net: Network) -> bool:
    """Whether Ŷ is not Z[L]."""
    return net.cost != "squared-linear"


def _sigmoid(net: Network) -> bool:
    return _bent(net) and not _softmax(net)


def _deep(net: Network) -> bool:
    """Whether another mean than that of A[0] comes of a mean of dZ[L]."""
    return len(net.sizes) > 2


def _classes(net: Network) -> bool:
    return net.sizes[-1] > 1


def _sigmoids(net: Network) -> bool:
    return _sigmoid(net) and _classes(net)


def _labels_apart(net: Network) -> bool:
    """Whether the classes' errors do not sum to 0."""
    return _classes(net) and not _softmax(net)


class Error(NamedTuple):
    """What stands for N dZ[L] (`whole`), or for N dJ/dZ[L] without the output's σ′ where there is one."""

    id: str
    can: Callable[[Network], bool]
    of: Callable[[Trace], jax.Array]
    whole: bool = False


def _off(t: Trace) -> jax.Array:
    return t.A[-1] - t.Y


def _right(t: Trace) -> jax.Array:
    return RIGHT.error(t) * t.N


def _counted(t: Trace) -> jax.Array:
    return jnp.arange(1, t.N + 1, dtype=t.Y.dtype)[:, None]


def _wrong_class(t: Trace) -> jax.Array:
    return (jnp.argmax(t.Z[-1], axis=1) != jnp.argmax(t.Y, axis=1))[:, None]


def _largest(t: Trace) -> jax.Array:
    return t.Z[-1] == jnp.max(t.Z[-1], axis=1, keepdims=True)


def _same(row, t: Trace) -> jax.Array:
    return jnp.broadcast_to(row, t.Y.shape)


ERRORS = (
    Error("missing-mean", _always, lambda t: _right(t) * t.N, True),
    Error("mean-over-outputs", _classes, lambda t: _right(t) / t.Y.shape[1], True),
    Error("mean-twice", _always, lambda t: _right(t) / t.N, True),
    Error("n-minus-one", _always, lambda t: _right(t) * t.N / (t.N - 1), True),
    Error("mean-over-features", _always, lambda t: _right(t) * t.N / t.A[0].shape[1], True),
    Error("factor-two", _always, lambda t: _right(t) * 2, True),
    Error("factor-two", _always, lambda t: _right(t) / 2, True),
    Error("stray-factor", _always, lambda t: _right(t) * 0.3, True),
    Error("sign", _always, lambda t: -_right(t), True),
    Error("negatives-ignored", _bce, lambda t: _right(t) * t.Y, True),
    Error("positives-ignored", _bce, lambda t: _right(t) * (1 - t.Y), True),
    Error("examples-ignored", _always, lambda t: _right(t).at[-1].set(0), True),
    Error("examples-ignored", _always, lambda t: _right(t).at[: t.N // 2].set(0), True),
    Error("examples-weighted", _always, lambda t: _right(t) * _counted(t), True),
    Error("examples-weighted", _always, lambda t: _right(t) * _counted(t) / jnp.mean(_counted(t)), True),
    Error("extra-output-derivative", lambda net: not _squared(net),
          lambda t: _right(t) * t.A[-1] * (1 - t.A[-1]), True),
    Error("missing-output-derivative", _bent,
          lambda t: COSTS[t.net.cost].output_error(t.Z[-1], t.Y), True),
    Error("softmax-diagonal", _softmax, lambda t: -t.Y / t.A[-1] * t.A[-1] * (1 - t.A[-1])),
    Error("labels-added", _always, lambda t: t.A[-1] + t.Y),
    Error("labels-left-out", _always, lambda t: t.A[-1]),
    Error("prediction-left-out", _always, lambda t: -t.Y),
    Error("labels-not-averaged", _always, lambda t: t.A[-1] - t.N * t.Y),
    Error("logits-for-output", _bent, lambda t: t.Z[-1] - t.Y),
    Error("wrong-output-activation", _sigmoids, lambda t: jax.nn.softmax(t.Z[-1]) - t.Y),
    Error("wrong-output-activation", _softmax, lambda t: jax.nn.sigmoid(t.Z[-1]) - t.Y),
    Error("wrong-output-activation", _sigmoid, lambda t: jnp.tanh(t.Z[-1]) - t.Y),
    Error("output-activation-twice", _bent, lambda t: COSTS[t.net.cost].output(t.A[-1]) - t.Y),
    Error("prediction-rounded", _always, lambda t: jnp.round(t.A[-1]) - t.Y),
    Error("absolute-error", _always, lambda t: jnp.abs(_off(t))),
    Error("absolute-error", _labels_apart, lambda t: jnp.sign(_off(t))),
    Error("error-squared", _always, lambda t: _off(t) ** 2),
    Error("error-averaged", _deep, lambda t: _same(jnp.mean(_right(t), axis=0, keepdims=True), t), True),
    Error("error-averaged", _labels_apart,
          lambda t: _same(jnp.mean(_right(t), axis=1, keepdims=True), t), True),
    Error("error-averaged", _labels_apart,
          lambda t: _same(jnp.sum(_right(t), axis=1, keepdims=True), t), True),
    Error("mistaken-examples-only", _sigmoid,
          lambda t: jnp.where(jnp.round(t.A[-1]) == t.Y, 0, _right(t)), True),
    Error("mistaken-examples-only", _softmax, lambda t: jnp.where(_wrong_class(t), _right(t), 0), True),
    Error("mistaken-examples-only", _classes, lambda t: jnp.where(_largest(t), _right(t), 0), True),
    Error("examples-misaligned", _always, lambda t: jnp.roll(_right(t), 1, axis=0), True),
    Error("examples-misaligned", _always, lambda t: _right(t)[::-1], True),
    Error("not-finite", _always, lambda t: _off(t) / t.Y),
    Error("not-finite", _always, lambda t: _right(t) * t.Y / t.Y, True),
)  # fmt: skip

LABELS: tuple[tuple[str, Callable[[Network], bool], Callable], ...] = (
    ("labels-shifted", _always, lambda Y: jnp.roll(Y, 1, axis=0)),
    ("classes-shifted", _classes, lambda Y: jnp.roll(Y, 1, axis=1)),
    ("broadcast-labels", lambda net: not _classes(net),
     lambda Y: jnp.broadcast_to(jnp.mean(Y, axis=0, keepdims=True), Y.shape)),
    ("labels-inverted", _always, lambda Y: 1 - Y),
    ("labels-reordered", _always, lambda Y: Y[::-1]),
    ("labels-reordered", _always, lambda Y: jnp.broadcast_to(Y[:1], Y.shape)),
    ("labels-signed", _always, lambda Y: 2 * Y - 1),
    ("labels-smoothed", _always, lambda Y: 0.9 * Y + 0.1 / Y.shape[1]),
)  # fmt: skip

INPUTS: tuple[tuple[str, Callable], ...] = (
    ("truncated-inputs", jnp.trunc),
    ("inputs-unscaled", lambda X: X / 255),
    ("inputs-centred", lambda X: X - jnp.mean(X, axis=0, keepdims=True)),
)


def _error(row: Error) -> Callable[[Trace], jax.Array]:
    """The step `error` of Steps."""

    def error(t: Trace) -> jax.Array:
        through = row.of(t) if row.whole or t.net.cost != "squared" else row.of(t) * t.A[-1] * (1 - t.A[-1])
        return through / t.N

    return error


def at_the_output(net: Network) -> Iterator[tuple[str, dict]]:
    """The id of every mistake that the net can have there, and the step it exchanges."""
    yield from ((row.id, dict(error=_error(row))) for row in ERRORS if row.can(net))
    yield from ((id, dict(labels=of)) for id, can, of in LABELS if can(net))
    yield from ((id, dict(inputs=of)) for id, of in INPUTS)
