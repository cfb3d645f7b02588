"""Mistakes in a hidden layer: in dA[l] = dZ[l+1] W[l+1], in g′(Z[l]) and in the mask."""

from collections.abc import Callable, Iterator

import jax.numpy as jnp

from experiments.planted.network import ACTIVATIONS, RIGHT, Network

Steps = Iterator[tuple[str, dict]]

CORNERED = ("relu", "leaky_relu")
MISREMEMBERED: dict[str, tuple[Callable, ...]] = {  # of A
    "sigmoid": (lambda a: 1 - a, lambda a: a**2, lambda a: 1 + a**2, lambda a: a * (1 + a)),
    "tanh": (lambda a: 1 - a, lambda a: a**2, lambda a: 1 + a**2, lambda a: a * (1 + a)),
}
AT_INPUT: dict[str, Callable] = {"sigmoid": lambda z: z * (1 - z), "tanh": lambda z: 1 - z**2}
INVERTED: dict[str, tuple[Callable, ...]] = {  # of g′; 1 − tanh′ is A², misremembered
    "sigmoid": (lambda d: 1 - d, lambda d: 1 / d),
    "tanh": (lambda d: 1 / d,),
    "relu": (lambda d: 1 - d,),
    "leaky_relu": (lambda d: 1.01 - d, lambda d: 1 / d),
    "softplus": (lambda d: 1 - d, lambda d: 1 / d),
    "silu": (lambda d: 1 - d,),
    "gelu": (lambda d: 1 - d,),
}
DIGITS = 0.798  # of √(2/π)


def only(l: int, new: Callable, old: Callable) -> Callable:
    """The step `new` in layer l, `old` elsewhere."""
    return lambda t, k, *rest: (new if k == l else old)(t, k, *rest)


def _slope(h: int, new: Callable) -> dict:
    return dict(slope=only(h, new, RIGHT.slope))


def _matrix(h: int, new: Callable) -> dict:
    """What stands for W[h+1] on the way down to layer h."""
    return dict(matrix=only(h + 1, new, RIGHT.matrix))


def _passed(h: int, new: Callable) -> dict:
    return dict(passed=only(h, lambda t, l, dA: new(dA), RIGHT.passed))


def _rough_gelu(z):
    t = jnp.tanh(DIGITS * (z + 0.044715 * z**3))
    return 0.5 * (1 + t) + 0.5 * z * (1 - t * t) * DIGITS * (1 + 3 * 0.044715 * z**2)


def derivatives(net: Network, h: int) -> Steps:
    """What stands for g′(Z[h])."""
    if net.hidden == "identity":
        return
    g, n = ACTIVATIONS[net.hidden], net.sizes
    yield "missing-activation-derivative", _slope(h, lambda t, l: jnp.ones_like(t.Z[l]))
    yield "output-for-derivative", _slope(h, lambda t, l: g.forward(t.Z[l]))
    if net.hidden not in CORNERED:
        yield (
            "derivative-at-output",
            _slope(h, lambda t, l: g.slope(g.forward(t.Z[l]), g.forward(g.forward(t.Z[l])))),
        )
        yield "derivative-twice", _slope(h, lambda t, l: RIGHT.slope(t, l) ** 2)
    for other in ("sigmoid", "tanh", "relu"):
        if other != net.hidden:
            o = ACTIVATIONS[other]
            yield (
                "wrong-activation-derivative",
                _slope(h, lambda t, l, o=o: o.slope(t.Z[l], o.forward(t.Z[l]))),
            )
    if net.hidden in {"sigmoid", "tanh"}:
        o = ACTIVATIONS["sigmoid" if net.hidden == "tanh" else "tanh"]
        yield "wrong-activation-derivative", _slope(h, lambda t, l, o=o: o.slope(t.Z[l], g.forward(t.Z[l])))
    for k in (h - 1, h + 1):
        if 1 <= k < len(n) - 1 and n[k] == n[h]:
            yield (
                "derivative-at-wrong-layer",
                _slope(h, lambda t, l, k=k: g.slope(t.Z[k], g.forward(t.Z[k]))),
            )
    for of in MISREMEMBERED.get(net.hidden, ()):
        yield "derivative-misremembered", _slope(h, lambda t, l, of=of: of(g.forward(t.Z[l])))
    if net.hidden in AT_INPUT:
        yield "output-formula-at-input", _slope(h, lambda t, l: AT_INPUT[net.hidden](t.Z[l]))
    for of in INVERTED.get(net.hidden, ()):
        yield "derivative-inverted", _slope(h, lambda t, l, of=of: of(RIGHT.slope(t, l)))
    one = _slope(h, lambda t, l: jnp.ones_like(t.Z[l]))
    yield "derivative-at-gradient", one | _passed(h, lambda dA: dA * g.slope(dA, g.forward(dA)))

    def unbiased(t, l):
        z = t.Z[l] - t.params[l - 1][1].T
        return g.slope(z, g.forward(z))

    yield "derivative-without-bias", _slope(h, unbiased)
    if net.hidden == "relu":
        yield "not-finite", _slope(h, lambda t, l: g.forward(t.Z[l]) / jnp.abs(g.forward(t.Z[l])))
    if net.hidden == "gelu":
        yield "few-digits", _slope(h, lambda t, l: _rough_gelu(t.Z[l]))


def ways_down(net: Network, h: int) -> Steps:
    """What stands for W[h+1], for all of dA[h], and for the mask."""
    n, L = net.sizes, len(net.sizes) - 1
    yield "layer-sign", _passed(h, lambda dA: -dA)
    yield "not-propagated", _passed(h, jnp.zeros_like)
    yield "stray-factor", _passed(h, lambda dA: 0.3 * dA)
    if n[h + 1] == n[h]:
        yield "weights-not-transposed", _matrix(h, lambda t, l, G: t.params[l - 1][0].T)
    for k in (h, h + 2):
        if 1 <= k <= L and (n[k], n[k - 1]) == (n[h + 1], n[h]):
            yield "wrong-layer-weights", _matrix(h, lambda t, l, G, k=k: t.params[k - 1][0])
    yield "gradient-for-weights", _matrix(h, lambda t, l, G: G[l][0])
    yield "updated-weights", _matrix(h, lambda t, l, G: t.params[l - 1][0] - 0.1 * G[l][0])
    if net.masked:
        yield "mask-forgotten", dict(mask=only(h, lambda t, l: 1.0, RIGHT.mask))


def in_every_hidden_layer(net: Network) -> Steps:
    """The same mistake in all hidden layers, as a loop makes it."""
    if len(net.sizes) < 4 or net.hidden == "identity":
        return
    g = ACTIVATIONS[net.hidden]
    yield "missing-activation-derivative", dict(slope=lambda t, l: jnp.ones_like(t.Z[l]))
    yield "output-for-derivative", dict(slope=lambda t, l: g.forward(t.Z[l]))
    yield "pre-activation", dict(operand=lambda t, l: t.Z[l - 1] if l > 1 else t.A[0])
    yield "updated-weights", dict(matrix=lambda t, l, G: t.params[l - 1][0] - 0.1 * G[l][0])
    if net.hidden not in CORNERED:
        yield "derivative-twice", dict(slope=lambda t, l: RIGHT.slope(t, l) ** 2)
