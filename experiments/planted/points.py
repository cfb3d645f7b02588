"""The networks that gradients are planted in, and the points at which they are looked at. Imports no jax."""

import numpy as np

DTYPES = ("float32", "bfloat16", "float64")


def networks():
    """(network, N) of 1 to 4 layers, pairwise different sizes but where a mistake needs equal ones."""
    from experiments.planted.network import Network

    return (
        (Network((7, 3)), 2),
        (Network((4, 1), cost="bce-naive"), 64),
        (Network((6, 1), cost="squared"), 4),
        (Network((5, 4, 3), "tanh", "bce-naive", penalty=0.3), 6),
        (Network((6, 7, 3), "relu", "softmax-logits"), 32),
        (Network((4, 4, 4, 3), "sigmoid", "softmax-logits"), 7),
        (Network((5, 6, 4, 3), "softplus", "bce-logits", penalty=0.1), 256),
        (Network((6, 5, 4), "relu", "softmax-naive", penalty=0.1, masked=True), 8),
        (Network((3, 6, 6, 5, 2), "gelu", "squared"), 9),
        (Network((5, 5, 5, 5, 3), "silu", "bce-logits", masked=True), 11),
    )


def wide_networks():
    """(network, N) with long sums in them."""
    from experiments.planted.network import Network

    return ((Network((500, 3), "tanh", "bce-logits"), 3), (Network((3, 200, 2), "sigmoid", "squared"), 4))


def large_networks():
    """(network, N) as large as a student trains."""
    from experiments.planted.network import Network

    return (
        (Network((784, 512, 512, 10), "tanh", "bce-logits"), 128),
        (Network((784, 512, 512, 512, 512, 10), "relu", "softmax-logits"), 128),
    )


KINDS = ("generic", "saturated", "generic", "zero", "generic", "cancelling", "generic", "tiny", "generic")


KINDS += ("huge", "generic", "one example")


def point_of(net, examples: int, kind: str, rng) -> tuple:
    """(params, X, Y[, masks]) of a kind."""
    from experiments.planted.network import data, init

    seed = int(rng.integers(2**31))
    params, (X, Y, *masks) = init(net, seed), data(net, examples, seed)
    if kind == "saturated":
        params = tuple((30 * W, b) for W, b in params)
    elif kind == "zero":
        params = tuple((0 * W, 0 * b) for W, b in params)
    elif kind == "cancelling":
        half = examples // 2
        X = np.concatenate([X[: examples - half], X[:half]])
        other = np.roll(Y, 1, axis=1) if net.cost.startswith("softmax") else 1 - Y
        Y = np.concatenate([Y[: examples - half], other[:half]])
    elif kind in ("tiny", "huge"):
        X = X * (1e-6 if kind == "tiny" else 1e4)
    elif kind == "one example":
        X, Y, masks = X[:1], Y[:1], [tuple(m[:1] for m in ms) for ms in masks]
    return (params, X, Y, *masks)


def as_dtype(args: tuple, dtype: str) -> tuple:
    """The arguments with their floating arrays in another dtype."""
    import jax
    import jax.numpy as jnp

    return jax.tree.map(lambda x: x if np.issubdtype(x.dtype, np.integer) else jnp.asarray(x, dtype), args)
