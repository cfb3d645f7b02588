"""NumPy arrays that a program of JAX holds, kept apart by whether it was traced in float64.

JAX (0.10 to 0.12 at least) makes its own array of a NumPy one once, and finds it again by the array alone: an
index of int64 that was traced in float64 is then int64 in a trace that is not, which fails, and the other
way round. A comparison traces in float64 what its caller traces as ever. So JAX is given a table for each of
the two, here, before the first comparison; nothing that it has compiled is lost.
"""

import functools

import jax
import numpy as np


@functools.cache
def keep_apart() -> None:
    """Have JAX keep what it makes of a NumPy array by x64 too, where it does not by itself."""
    try:
        from jax._src.dtypes import canonicalize_value, register_canonicalize_value_handler
        from jax._src.lib import weakref_lru_cache  # pyright: ignore[reportPrivateImportUsage]
        from jax._src.literals import TypedNdArray

        table = weakref_lru_cache.weak_key_weak_value_cache
    except (ImportError, AttributeError):  # private: where they are gone, so may be the fault
        return
    array = np.zeros(1, np.int64)
    kept = canonicalize_value(array)
    with jax.enable_x64(not jax.config.jax_enable_x64):  # pyright: ignore[reportAttributeAccessIssue]
        if canonicalize_value(array) is not kept:
            return

    def of(x: np.ndarray) -> TypedNdArray:
        return TypedNdArray(np.asarray(x, jax.dtypes.canonicalize_dtype(x.dtype)))

    narrow, wide = table(of), table(of)

    def canonical(x: np.ndarray) -> TypedNdArray:
        in_x64 = jax.config.jax_enable_x64  # pyright: ignore[reportAttributeAccessIssue]
        return (wide if in_x64 else narrow)(x)

    register_canonicalize_value_handler(np.ndarray, canonical)
