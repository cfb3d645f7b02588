"""Points of one's own choosing, for where the given one cannot tell.

Data that is not differentiated keeps its values, whatever they mean (one-hot rows, masks, indices),
so that a gradient which is right only for such data stays right.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.gradcheck.bounds.bounded import is_float
from jaxnn.gradcheck.calls.call import Call, is_floating, replaced, widened

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


def _size(leaf: np.ndarray) -> float:
    return float(np.sqrt(np.mean(leaf**2))) if leaf.size else 0.0


def near(leaf: np.ndarray, rng) -> np.ndarray:
    """Close by, signs kept, no zeros: domains such as σ > 0 and 0 < p < 1 are not left."""
    scale, size = _size(leaf), np.abs(leaf)
    room = np.minimum(size, 1 - size) if np.all(size < 1) else size
    step = 0.3 * (scale or _width(leaf)) * _noise(leaf, rng)
    step = np.abs(step) if scale and np.all(leaf >= 0) else step
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
    return any(_is_extreme(np.asarray(leaves[k])) for k in call.places)


def _is_extreme(leaf: np.ndarray) -> bool:
    one_sign = leaf.ndim > 1 and leaf.size > 1 and bool(np.all(leaf > 0) or np.all(leaf < 0))
    size = _size(leaf)
    return one_sign or (size > 0 and not USUAL[0] < size / _width(leaf) < USUAL[1])


def small(leaf: np.ndarray, rng) -> np.ndarray:
    """The same, a tenth as large: sums of many positive terms stay small too."""
    return np.asarray(0.1 * generic(leaf, rng))


def moved(call: Call, leaves: list, how, seed: int) -> list:
    """All leaves, the differentiated ones moved."""
    rng, places = np.random.default_rng(seed), sorted(call.places)
    return replaced(leaves, places, [how(np.asarray(leaves[k], np.float64), rng) for k in places])


def data(call: Call, leaves: list) -> list[int]:
    """The leaves in floating point that are not differentiated."""
    return [k for k, x in enumerate(leaves) if k not in call.places and is_float(x)]


def switched_on(call: Call, leaves: list) -> list | None:
    """Scalars that are zero, such as λ = 0, made 0.3; None when there are none."""
    zeros = [k for k in data(call, leaves) if leaves[k].size == 1 and np.all(leaves[k] == 0)]
    return replaced(leaves, zeros, [np.full(leaves[k].shape, 0.3) for k in zeros]) if zeros else None


def tamed(call: Call, leaves: list, seed: int) -> list | None:
    """Data of extreme size brought to size 1, data that is all alike made various; None if there is none.

    All zeros become generic numbers. All ones may be a mask, so they become zeros and ones.
    """
    rng = np.random.default_rng(seed)
    places = [k for k in data(call, leaves) if leaves[k].size > 1 and np.isfinite(leaves[k]).all()]
    out = replaced(leaves, places, [_tamed(leaves[k], rng) for k in places])
    return out if any(x is not leaf for x, leaf in zip(out, leaves, strict=True)) else None


def _tamed(leaf: np.ndarray, rng) -> np.ndarray:
    size = _size(leaf)
    if size == 0:
        return _noise(leaf, rng)
    if leaf.ndim > 1 and np.all(leaf == leaf.flat[0]):
        return leaf / size * (rng.random(leaf.shape) < 0.6)
    return leaf if TAME[0] <= size <= TAME[1] else leaf / size


def repeated(call: Call, leaves: list) -> list | None:
    """The batch three times over: data that shares its leading axis; None when there is none.

    Only where the number of examples is 1, or is also the size of another axis.
    """
    batched = [k for k, x in enumerate(leaves) if k not in call.places and np.ndim(x) > 0]
    if not batched:
        return None
    examples = np.shape(leaves[batched[0]])[0]
    others = {n for k in call.places for n in np.shape(leaves[k])}
    others |= {n for k in batched for n in np.shape(leaves[k])[1:]}
    if examples == 0 or (examples > 1 and examples not in others):
        return None
    batch = [k for k in batched if isinstance(leaves[k], np.ndarray) and len(leaves[k]) == examples]
    return replaced(leaves, batch, [np.concatenate([leaves[k]] * 3) for k in batch])


def close_by(call: Call) -> list:
    """A point near the given one, in the caller's own kinds."""
    return as_given(call, moved(call, list(map(widened, call.leaves)), near, 1))


def as_given(call: Call, leaves: list) -> list:
    """Float64 leaves as the caller's own kinds."""
    return [_as(original, x) for original, x in zip(call.leaves, leaves, strict=True)]


def _as(original, x):
    if not is_floating(original):
        return x
    if isinstance(original, float) and not isinstance(original, np.generic):
        return float(x)
    narrow = np.asarray(x).astype(original.dtype)
    return jnp.asarray(narrow) if isinstance(original, jax.Array) else narrow
