"""Every array of a forward and a backward pass, under the lecture's names."""

import itertools
from collections.abc import Callable

from jaxnn.activations import Activation, identity
from jaxnn.layers import dense
from jaxnn.losses import Loss


def passes(n: tuple[int, ...], g: Activation, loss: Loss) -> Callable:
    """The passes of the network `mlp(*n, g=g)`: `arrays(params, X, Y) -> {name: array}`.

    The names, in the order of the computation: A[0], Z[1], A[1], ..., Z[L], A[L], J, dZ[L], dW[L], db[L],
    dA[L-1], dZ[L-1], ..., db[1]. The arrays are what the layers' and the loss's own functions give.

    >>> import jax, jax.numpy as jnp
    >>> from jaxnn.activations import sigmoid
    >>> from jaxnn.layers import mlp
    >>> from jaxnn.losses import binary_cross_entropy
    >>> params = mlp(3, 5, 2, g=sigmoid).init(jax.random.key(0))
    >>> arrays = passes((3, 5, 2), sigmoid, binary_cross_entropy)(params, jnp.ones((4, 3)), jnp.ones((4, 2)))
    >>> print(*arrays)
    A[0] Z[1] A[1] Z[2] A[2] J dZ[2] dW[2] db[2] dA[1] dZ[1] dW[1] db[1]
    """
    L = len(n) - 1
    activations = [g] * (L - 1) + [identity]
    layers = [dense(*sizes) for sizes in itertools.pairwise(n)]  # up to Z[l]

    def arrays(params, X, Y):
        found, A, residuals = {"A[0]": X}, X, []
        for l, (layer, g, p) in enumerate(zip(layers, activations, params, strict=True), 1):
            Z, r = layer.forward(p, A)
            A = g.forward(Z)
            residuals.append(r)
            found |= {f"Z[{l}]": Z, f"A[{l}]": A}
        found |= {f"A[{L}]": loss.activation.forward(A), "J": loss.forward(A, Y)}
        dA = loss.backward(A, Y)  # dZ[L]: the last layer is left at Z[L]
        for l in range(L, 0, -1):
            dZ = activations[l - 1].backward(dA, found[f"Z[{l}]"], found[f"A[{l}]"])
            (dW, db), dA = layers[l - 1].backward(params[l - 1], residuals[l - 1], dZ)
            found |= {f"dZ[{l}]": dZ, f"dW[{l}]": dW, f"db[{l}]": db}
            if l > 1:
                found[f"dA[{l - 1}]"] = dA
        return found

    return arrays
