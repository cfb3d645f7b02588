"""Points of one's own choosing, for where the given one cannot tell.

Data that is not differentiated keeps its values, whatever they mean (one-hot rows, masks, indices),
so that a gradient which is right only for such data stays right.
"""

import math

import jax
import numpy as np
from jax.extend.core import Literal

from jaxnn.gradcheck.bounds.bounded import is_float
from jaxnn.gradcheck.calls.call import Call, is_floating, replaced, widened
from jaxnn.gradcheck.jaxprs.equations import opened, within
from jaxnn.gradcheck.jaxprs.primitives import Kind, of

USUAL = (0.05, 20)  # times the size of fresh weights: farther off, functions may be all but linear
TAME = (1e-2, 30)  # the size of data that are left as they are
PRODUCTS = of(Kind.PRODUCT)
MOVED = of(Kind.SAME, Kind.VIEW, Kind.PART, Kind.MOVE) | {"convert_element_type"}


def factors(closed) -> set[int]:
    """The inputs of a jaxpr that are factors of products of matrices as they are: weights, of any sign."""
    jaxpr, _ = opened(closed)
    origin, found = {v: {k} for k, v in enumerate(jaxpr.invars)}, set()
    for equation in jaxpr.eqns:
        read = [set() if isinstance(v, Literal) else origin.get(v, set()) for v in equation.invars]
        if equation.primitive.name in PRODUCTS:
            found.update(*read)
        if equation.primitive.name in MOVED:
            origin |= dict.fromkeys(equation.outvars, set().union(*read))
        for inner in within(equation):
            last = read[max(0, len(read) - len(opened(inner)[0].invars)) :]
            found.update(*(last[k] for k in factors(inner)))
    return found


def _symmetric(leaf: np.ndarray) -> bool:
    square = leaf.ndim == 2 and leaf.shape[0] == leaf.shape[1] > 1
    several = square and np.unique(leaf).size > 2  # neither constant nor an identity
    return bool(several and np.array_equal(leaf, leaf.T))


def _noise(leaf: np.ndarray, rng) -> np.ndarray:
    return np.asarray(rng.uniform(0.25, 1.0, leaf.shape) * rng.choice([-1.0, 1.0], leaf.shape))


def _shares(leaf: np.ndarray) -> bool:
    """Whether every row is of shares of one."""
    rows = leaf.ndim > 0 and leaf.shape[-1] > 1 and np.all(leaf >= 0)
    return bool(rows and np.allclose(np.sum(leaf, -1), 1, 0, 1e-5))


def _ascends(leaf: np.ndarray) -> bool:
    return leaf.ndim == 1 and leaf.size > 1 and bool(np.all(np.diff(leaf) > 0))


def mixed(leaf: np.ndarray, rng) -> np.ndarray:
    """The leaf's own rows, each a mixture of two of them; of a symmetric matrix the columns too.

    So whatever all rows are stays so, if it is kept by mixtures: shares of one, an interval, definite.
    """
    rows = leaf if leaf.ndim and len(leaf) > 1 else leaf.T  # of a single row, the columns
    first = rng.permutation(len(rows))
    second, t = np.roll(first, 1), rng.uniform(0.6, 0.9)
    if _symmetric(leaf):
        return t * leaf[np.ix_(first, first)] + (1 - t) * leaf[np.ix_(second, second)]
    out = t * rows[first] + (1 - t) * rows[second]
    return out if rows is leaf else out.T


def _width(leaf: np.ndarray) -> float:
    return 1.0 / math.sqrt(max(leaf.shape[-1], 1)) if leaf.ndim > 1 else 0.5


def _size(leaf: np.ndarray) -> float:
    return float(np.sqrt(np.mean(leaf**2))) if leaf.size else 0.0


def near(leaf: np.ndarray, rng) -> np.ndarray:
    """Close by, signs kept, no zeros: domains such as σ > 0 and 0 < p < 1 are not left."""
    if _symmetric(leaf):
        return 0.7 * leaf + 0.3 * mixed(leaf, rng)
    scale, size = _size(leaf), np.abs(leaf)
    room = np.minimum(size, 1 - size) if np.all(size < 1) else size
    step = 0.3 * (scale or _width(leaf)) * _noise(leaf, rng)
    step = np.abs(step) if scale and np.all(leaf >= 0) else step
    return np.where(leaf == 0, step, leaf + 0.2 * room * _noise(leaf, rng))


def _positive(leaf: np.ndarray) -> bool:
    return leaf.size > 0 and bool(np.all(leaf > 0))


def generic(leaf: np.ndarray, rng) -> np.ndarray:
    """Weights as one would initialise them; those that are positive or symmetric stay so."""
    if _symmetric(leaf):
        return mixed(leaf, rng)
    out = 1.7 * _width(leaf) * _noise(leaf, rng)
    return np.asarray(np.abs(out) + 0.1 * _width(leaf) if _positive(leaf) else out)


def of_both_signs(call: Call, leaves: list, places: frozenset[int], seed: int) -> list | None:
    """Fresh weights where matrices at these places that are positive are not; None when there are none."""
    places = places - {k for k, *_ in call.within}
    if not any(np.ndim(leaves[k]) > 1 and _positive(np.asarray(leaves[k])) for k in places):
        return None
    flipped = [-x if k in places and np.ndim(x) > 1 else x for k, x in enumerate(leaves)]
    return moved(call, flipped, generic, seed, frozenset(call.places))


def turned(call: Call, leaves: list, weights: list) -> list:
    """Weights of opposite signs, but for those that are positive: a unit that was off is on there."""
    kept = {k for k, *_ in call.within}
    places = {k for k in call.places if k not in kept and not _positive(np.asarray(leaves[k]))}
    return [np.where(np.isinf(x), x, -x) if k in places else x for k, x in enumerate(weights)]


def extreme(call: Call, leaves: list) -> bool:
    """Whether weights are so small, large or alike that the functions may be all but linear there."""
    return any(_is_extreme(np.asarray(leaves[k])) for k in call.places)


def _is_extreme(leaf: np.ndarray) -> bool:
    one_sign = leaf.ndim > 1 and leaf.size > 1 and bool(np.all(leaf > 0) or np.all(leaf < 0))
    return one_sign or bool(np.any(leaf) and not _is_usual(leaf))


def _is_usual(leaf: np.ndarray) -> bool:
    return USUAL[0] < _size(leaf) / _width(leaf) < USUAL[1]


def small(leaf: np.ndarray, rng) -> np.ndarray:
    """The same, a tenth as large: sums of many positive terms stay small too."""
    return np.asarray(0.1 * generic(leaf, rng))


def moved(call: Call, leaves: list, how, seed: int, weights: frozenset[int] = frozenset()) -> list:
    """All leaves, the differentiated ones moved: weights in any way, others as their values are.

    What is no weight is mixed of its own rows, where they are of usual size and not all alike. What lies
    within (0, 1), is not negative, ascends or is made of shares of one stays so; all stay within what the
    caller says.
    """
    rng, ends = np.random.default_rng(seed), {k: (low, high) for k, low, high in call.within}

    def at(k: int) -> np.ndarray:
        given = np.asarray(leaves[k], np.float64)
        leaf = np.where(np.isinf(given), 0.0, given)
        own = k not in weights and leaf.size > 1
        mixes = own and how is not near and _is_usual(leaf) and np.ptp(leaf) > 0
        out = (0.1 if how is small else 1.0) * mixed(leaf, rng) if mixes else how(leaf, rng)
        positive = own and np.all(leaf >= 0) and np.any(leaf)
        seen = (0.0, 1.0 if np.max(leaf) <= 1 else math.inf) if positive else (-math.inf, math.inf)
        out = _inside(out, *ends.get(k, seen), rng)
        out = out / np.sum(out, -1, keepdims=True) if own and _shares(leaf) else out
        out = np.sort(out) if own and _ascends(leaf) else out
        return np.where(np.isinf(given), given, out)

    places = sorted(call.places)
    return replaced(leaves, places, [at(k) for k in places])


def _inside(x: np.ndarray, low: float, high: float, rng) -> np.ndarray:
    """What is at an end or beyond it, near that end."""
    span = high - low if math.isfinite(high - low) else 1.0
    step = span * rng.uniform(0.05, 0.25, x.shape)
    return np.where(x <= low, low + step, np.where(x >= high, high - step, x))


def data(call: Call, leaves: list) -> list[int]:
    """The leaves in floating point that are not differentiated, and may be anything."""
    kept = {*call.places, *(k for k, *_ in call.within)}
    return [k for k, x in enumerate(leaves) if k not in kept and is_float(x)]


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
    return jax.device_put(narrow) if isinstance(original, jax.Array) else narrow
