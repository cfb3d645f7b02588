"""The diagnosis alone, of a gradient that is known to be wrong."""

import jax
import numpy as np

from jaxnn.gradcheck.diagnosis.search import find_causes
from jaxnn.gradcheck.jaxprs.by_numpy import by_numpy


def evaluated(gradient, args):
    """What it returns; by NumPy, without a program being compiled, where it can be traced."""
    try:
        return by_numpy(gradient, *args)(*args)
    except jax.errors.TracerArrayConversionError:
        return gradient(*args)


def searched(loss, gradient, args, argnums=0, **known):
    """The causes, and the notes."""
    with jax.enable_x64(True):
        reference = evaluated(jax.grad(loss, argnums), args)
        bound = jax.tree.map(lambda r: np.full(r.shape, 1e-12 * np.abs(r).max()), reference)
        hand = evaluated(gradient, args)
        return find_causes(loss, gradient, args, argnums, hand, reference, bound, **known)


def diagnosed(loss, gradient, args, argnums=0, views=None):
    """The causes, of a search in which nothing failed and nothing was left out."""
    found = searched(loss, gradient, args, argnums, views=views)
    assert not found.notes, found.notes
    return found.causes
