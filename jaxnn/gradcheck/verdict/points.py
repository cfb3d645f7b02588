"""Points of one's own choosing, for where the given one cannot tell.

Data that is not differentiated keeps its values, whatever they mean (one-hot rows, masks, indices),
so that a gradient which is right only for such data stays right.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.gradcheck.calls.call import Call, widened

USUAL = (0.05, 20)  # times the size of fresh weights: farther off, functions may be all but linear
TAME = (1e-2, 30)  # the size of data that are left as they are


def _symmetric(leaf: np.ndarray) -> bool:
    square = leaf.ndim == 2 and leaf.shape[0] == leaf.shape[1] > 1
    several = square and np.unique(leaf).size > 2  # neither constant nor an identity
    return bool(several and np.array_equal(leaf, leaf.T))


def _noise(leaf: np.ndarray, rng) -> np.ndarray:
    out = np.asarray(rng.uniform(0.25, 1.0, leaf.shape) * rng.choice([-1.0, 1.0], leaf.shape))
    return (out + out.T) / 2 if _symmetric(leaf) else out


def _width(leaf: np.ndarray) -> float:
    return 1.0 / math.sqrt(max(leaf.shape[-1], 1)) if leaf.ndim > 1 else 0.5


def near(leaf: np.ndarray, rng) -> np.ndarray:
    """Close by, signs kept, no zeros: domains such as σ > 0 and 0 < p < 1 are not left."""
    scale = np.sqrt(np.mean(leaf**2)) if leaf.size else 0.0
    one_sign = scale > 0 and bool(np.all(leaf >= 0))
    scale = scale if scale > 0 else _width(leaf)
    size = np.abs(leaf)
    room = np.minimum(size, 1 - size) if np.all(size < 1) else size
    step = 0.3 * scale * _noise(leaf, rng)
    step = np.abs(step) if one_sign else step
    return np.where(leaf == 0, step, leaf + 0.2 * room * _noise(leaf, rng))


def _positive(leaf: np.ndarray) -> bool:
    return leaf.size > 0 and bool(np.all(leaf > 0))


def generic(leaf: np.ndarray, rng) -> np.ndarray:
    """Weights as one would initialise them; those that are positive stay so."""
    out = 1.7 * _width(leaf) * _noise(leaf, rng)
    return np.asarray(np.abs(out) + 0.1 * _width(leaf) if _positive(leaf) else out)


def of_both_signs(call: Call, leaves: list, seed: int) -> list | None:
    """Fresh weights where matrices that are positive are not; None when there are none."""
    if not any(np.ndim(leaves[k]) > 1 and _positive(np.asarray(leaves[k])) for k in call.places):
        return None
    flipped = [-x if k in call.places and np.ndim(x) > 1 else x for k, x in enumerate(leaves)]
    return moved(call, flipped, generic, seed)


def turned(call: Call, leaves: list, weights: list) -> list:
    """Weights of opposite signs, but for those that are positive: a unit that was off is on there."""
    places = {k for k in call.places if not _positive(np.asarray(leaves[k]))}
    return [-x if k in places else x for k, x in enumerate(weights)]


def extreme(call: Call, leaves: list) -> bool:
    """Whether weights are so small, large or alike that the functions may be all but linear there."""
    for k in set(call.places):
        leaf = np.asarray(leaves[k])
        size = float(np.sqrt(np.mean(leaf**2))) if leaf.size else 0.0
        one_sign = leaf.ndim > 1 and leaf.size > 1 and (np.all(leaf > 0) or np.all(leaf < 0))
        if one_sign or (size and not USUAL[0] < size / _width(leaf) < USUAL[1]):
            return True
    return False


def small(leaf: np.ndarray, rng) -> np.ndarray:
    """The same, a tenth as large: sums of many positive terms stay small too."""
    return np.asarray(0.1 * generic(leaf, rng))


def moved(call: Call, leaves: list, how, seed: int) -> list:
    """All leaves, the differentiated ones moved."""
    rng = np.random.default_rng(seed)
    out = list(leaves)
    for k in sorted(set(call.places)):
        out[k] = how(np.asarray(leaves[k], np.float64), rng)
    return out


def _is_data(leaf) -> bool:
    return isinstance(leaf, np.ndarray) and jnp.issubdtype(leaf.dtype, jnp.floating)


def switched_on(call: Call, leaves: list) -> list | None:
    """Scalars that are zero, such as λ = 0, made 0.3; None when there are none."""
    out, found = list(leaves), False
    for k, leaf in enumerate(leaves):
        if k not in call.places and _is_data(leaf) and leaf.size == 1 and np.all(leaf == 0):
            out[k], found = np.full(leaf.shape, 0.3), True
    return out if found else None


def tamed(call: Call, leaves: list, seed: int) -> list | None:
    """Data of extreme size brought to size 1, data that is all alike made various; None if there is none.

    All zeros become generic numbers. All ones may be a mask, so they become zeros and ones.
    """
    rng = np.random.default_rng(seed)
    out, found = list(leaves), False
    for k, leaf in enumerate(leaves):
        if k in call.places or not _is_data(leaf) or leaf.size < 2 or not np.all(np.isfinite(leaf)):
            continue
        size = float(np.sqrt(np.mean(leaf**2)))
        if size == 0:
            out[k], found = _noise(leaf, rng), True
        elif leaf.ndim > 1 and np.all(leaf == leaf.flat[0]):
            out[k], found = leaf / size * (rng.random(leaf.shape) < 0.6), True
        elif not TAME[0] <= size <= TAME[1]:
            out[k], found = leaf / size, True
    return out if found else None


def repeated(call: Call, leaves: list) -> list | None:
    """The batch three times over: data that shares its leading axis; None when there is none.

    Only where the number of examples is 1, or is also the size of another axis.
    """
    data = [k for k, x in enumerate(leaves) if k not in call.places and np.ndim(x) > 0]
    if not data:
        return None
    examples = np.shape(leaves[data[0]])[0]
    others = {n for k in call.places for n in np.shape(leaves[k])}
    others |= {n for k in data for n in np.shape(leaves[k])[1:]}
    if examples == 0 or (examples > 1 and examples not in others):
        return None
    out = list(leaves)
    for k in data:
        x = leaves[k]
        if isinstance(x, np.ndarray) and x.shape[0] == examples:
            out[k] = np.concatenate([x, x, x])
    return out


def close_by(call: Call) -> list:
    """A point near the given one, in the caller's own kinds."""
    return as_given(call, moved(call, list(map(widened, call.leaves)), near, 1))


def as_given(call: Call, leaves: list) -> list:
    """Float64 leaves as the caller's own kinds."""
    out = []
    for x, original in zip(leaves, call.leaves, strict=True):
        if isinstance(original, jax.Array) and jnp.issubdtype(original.dtype, jnp.floating):
            out.append(jnp.asarray(np.asarray(x).astype(original.dtype)))
        elif isinstance(original, np.ndarray | np.generic) and original.dtype.kind == "f":
            out.append(np.asarray(x, original.dtype))
        else:
            out.append(float(x) if isinstance(original, float) else x)
    return out
