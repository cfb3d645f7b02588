"""What the turns of a loop are given, and what they leave behind."""

import jax.numpy as jnp
import numpy as np

from jaxnn.gradcheck.bounds.bounded import Bounded, error_of, is_float, settled


def stacked(columns: list[list[Bounded]], shapes) -> list[Bounded]:
    """What every turn gives, as one array each; zeros of these shapes where there was no turn."""
    out = []
    for column, aval in zip(columns, shapes, strict=True):
        if not column:
            wide = np.float64 if jnp.issubdtype(aval.dtype, jnp.floating) else aval.dtype
            out.append(Bounded(np.zeros(aval.shape, wide), None, False))
            continue
        error = None
        if any(x.error is not None for x in column):
            error = np.stack([x.errors for x in column])
        stack = jnp.stack if not isinstance(column[0].value, np.ndarray) else np.stack
        out.append(Bounded(stack([x.value for x in column]), error, any(x.active for x in column)))
    return out


def at(x: Bounded, t: int) -> Bounded:
    """What turn t is given of x."""
    error = None if x.error is None else x.errors[t]
    value = x.value[t]
    return Bounded(np.asarray(value) if isinstance(x.value, np.ndarray) else value, error, x.active)


def either(x: Bounded, y: Bounded) -> Bounded:
    """x, where y may be the right one."""
    if not is_float(x.value):
        return x
    error = np.maximum(error_of(x), np.abs(y.value - x.value) + error_of(y))
    return settled(x.value, error, x, y)


def chosen(which: np.ndarray, x: Bounded, y: Bounded) -> Bounded:
    """x where that is true, y elsewhere; under vmap a loop ends for every example by itself."""
    if which.all() or not which.any():
        return x if which.all() else y
    which = which.reshape(which.shape + (1,) * (np.ndim(x.value) - which.ndim))
    exact = x.error is None and y.error is None
    error = None if exact else np.where(which, error_of(x), error_of(y))
    where = np.where if isinstance(x.value, np.ndarray) else jnp.where  # the keys of random numbers
    return Bounded(where(which, x.value, y.value), error, x.active or y.active)
