"""A mistake in dZ[L] alone, from which all else follows, is said in words."""

import functools

import jax
import jax.numpy as jnp
import pytest

from experiments.planted.network import RIGHT, Network, data, gradient_of, init, loss_of
from jaxnn.gradcheck.tape.scenes import views_of
from tests.gradcheck.diagnosing import diagnosed

SIGMOID, SOFTMAX = (Network((5, 4, 3), "tanh", cost) for cost in ("bce-logits", "softmax-logits"))


@functools.cache
def scene_of(net):
    loss, args = loss_of(net), (init(net, 4), *data(net, 6, 4))
    with jax.enable_x64(True):
        return loss, args, views_of(loss, args)


def spread(row, t):
    return jnp.broadcast_to(row, t.Y.shape)


def off(t):
    return t.A[-1] - t.Y


OF_BOTH = {
    # what is said: N times what stands for dZ[2]
    "has Ŷ + Y for Ŷ − Y": lambda t: t.A[-1] + t.Y,
    "is −Y alone: Ŷ is not there": lambda t: -t.Y,
    "has Ŷ/N − Y: Y is not divided by N": lambda t: t.A[-1] - t.N * t.Y,
    "has Z[2] for Ŷ": lambda t: t.Z[-1] - t.Y,
    "has lost its signs: |Ŷ − Y|": lambda t: jnp.abs(off(t)),
    "is squared, (Ŷ − Y)²": lambda t: off(t) ** 2,
    "is the same for every example: its mean": lambda t: spread(jnp.mean(off(t), axis=0), t),
    "is centred over the examples": lambda t: off(t) - jnp.mean(off(t), axis=0, keepdims=True),
    "has its examples in reverse": lambda t: off(t)[::-1],
    "has its classes in reverse": lambda t: off(t)[:, ::-1],
    "has its examples shifted by one": lambda t: jnp.roll(off(t), 1, axis=0),
    "has its examples shifted by one ": lambda t: jnp.roll(off(t), -1, axis=0),
    "has its classes shifted by one": lambda t: jnp.roll(off(t), 1, axis=1),
    "has its classes shifted by one ": lambda t: jnp.roll(off(t), -1, axis=1),
    "has only the class with the largest Ŷ": lambda t: jnp.where(
        t.Z[-1] == jnp.max(t.Z[-1], axis=1, keepdims=True), off(t), 0
    ),
}
OF_SIGMOIDS = {
    "is the same for every class: its mean": lambda t: spread(jnp.mean(off(t), axis=1, keepdims=True), t),
    "is the same for every class: its sum": lambda t: spread(jnp.sum(off(t), axis=1, keepdims=True), t),
    "is centred over the classes": lambda t: off(t) - jnp.mean(off(t), axis=1, keepdims=True),
    "has softmax(Z[2]) for σ(Z[2])": lambda t: jax.nn.softmax(t.Z[-1]) - t.Y,
    "has tanh(Z[2]) for σ(Z[2])": lambda t: jnp.tanh(t.Z[-1]) - t.Y,
    "has σ(Ŷ) for Ŷ: the activation is applied twice": lambda t: jax.nn.sigmoid(t.A[-1]) - t.Y,
    "has Ŷ rounded": lambda t: jnp.round(t.A[-1]) - t.Y,
    "is only the sign of Ŷ − Y": lambda t: jnp.sign(off(t)),
}
OF_SOFTMAX = {
    "is Ŷ alone: Y is not subtracted": lambda t: t.A[-1],
    "has σ(Z[2]) for softmax(Z[2])": lambda t: jax.nn.sigmoid(t.Z[-1]) - t.Y,
    "has softmax(Ŷ) for Ŷ: the activation is applied twice": lambda t: jax.nn.softmax(t.A[-1]) - t.Y,
    "is dJ/dŶ: softmax's derivative is missing": lambda t: -t.Y / t.A[-1],
}
CASES = [
    *((SIGMOID, words, f) for words, f in (OF_BOTH | OF_SIGMOIDS).items()),
    *((SOFTMAX, words, f) for words, f in (OF_BOTH | OF_SOFTMAX).items()),
]


@pytest.mark.parametrize(("net", "words", "error"), CASES, ids=lambda x: getattr(x, "cost", None))
def test_what_stands_for_the_error_of_the_output_is_said(net, words, error):
    loss, args, views = scene_of(net)
    mistaken = RIGHT._replace(error=lambda t: error(t) / t.N)
    first, *_ = diagnosed(loss, gradient_of(net, mistaken), args, views=views)
    assert first.sentence.startswith(f"dZ[2] {words.strip()}")
    assert first.where == "dZ[2] (the output layer)"
    assert first.id != "unknown"


@pytest.mark.parametrize(
    ("sentence", "error"),
    [
        ("{Y} is left out.", lambda t: t.A[-1]),
        ("1 − {Y} stands where {Y} belongs.", lambda t: t.A[-1] - (1 - t.Y)),
    ],
)
def test_what_is_done_to_the_labels_is_said_of_them(sentence, error):
    loss, args, views = scene_of(SIGMOID)
    mistaken = RIGHT._replace(error=lambda t: error(t) / t.N)
    first, *_ = diagnosed(loss, gradient_of(SIGMOID, mistaken), args, views=views)
    named = sentence.format(Y="argument 2")
    assert (first.sentence, first.where) == (named, "dZ[2] (through argument 2)")
