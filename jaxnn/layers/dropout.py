"""Dropout, forward and backward."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxnn.layers.layer import Layer, no_params


def dropout(rate: float) -> Layer:
    """In training each entry is dropped with the probability `rate`, and the others divided by 1 − rate.

    In an evaluation nothing happens. The mask is kept, a byte an entry (Srivastava et al., "Dropout", JMLR
    15, 2014, section 4, but scaled in training, not in the evaluation). Raises ValueError unless
    0 ≤ rate < 1.

    >>> import jax, jax.numpy as jnp
    >>> A, kept = dropout(0.5).forward((), jnp.ones((2, 3)), jax.random.key(0))
    >>> bool((A == jnp.where(kept, 2.0, 0.0)).all())
    True
    """
    if not 0 <= rate < 1:
        raise ValueError(f"dropout: got a rate of {rate}, expected one from 0 to below 1")

    def forward(params: tuple, A_prev: Float[Array, "..."], key=None):
        if key is None:
            return A_prev, None
        kept = jax.random.bernoulli(key, 1 - rate, A_prev.shape)
        return jnp.where(kept, A_prev / (1 - rate), 0), kept  # A = kept ⊙ A_prev / (1 − rate)

    def backward(params: tuple, kept: Bool[Array, "..."] | None, dA: Float[Array, "..."]):
        if kept is None:
            return (), dA
        return (), jnp.where(kept, dA / (1 - rate), 0)  # dA_prev = kept ⊙ dA / (1 − rate)

    return Layer(lambda key: (), forward, backward, f"dropout({rate:g})", squared_norms=no_params(backward))
