"""What the caller's own programs do does not change by a comparison, nor a comparison by them."""

import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn.gradcheck import compare_gradients, compare_vjp
from jaxnn.gradcheck.calls import constants

HOUSE = Path(__file__).parents[2]


def cross_entropy(t):
    """A loss that holds labels of int64, and its gradient in NumPy."""
    rows = np.arange(len(t))

    def loss(x):
        return -jnp.mean(jax.nn.log_softmax(x)[jnp.arange(len(t)), t])

    def gradient(x):
        s = np.exp(x - x.max(1, keepdims=True))
        s /= s.sum(1, keepdims=True)
        s[rows, t] -= 1
        return s / len(t)

    return loss, gradient


def programs(seed: int):
    """Programs of a caller, each with arguments: some hold NumPy arrays of 64 bits, some are compiled."""
    rng = np.random.default_rng(seed)
    x, t, v = rng.normal(size=(4, 5)).astype(np.float32), rng.integers(0, 5, 4), rng.normal(size=5)
    inner = jax.jit(lambda x: x[jnp.arange(4), t])
    loss, gradient = cross_entropy(t)
    return [
        (jax.grad(loss), x),
        (gradient, x),
        (jax.jit(jax.grad(lambda x: jnp.sum(inner(x) ** 2))), x),
        (jax.jit(lambda x: x @ v), x),
        (lambda x: jnp.take(x, t, axis=1).sum(0), x),
        (jax.vmap(lambda row: jnp.sort(row)[t[:3]]), x),
    ]


@jax.custom_vjp
def cube(x):
    return x**3


cube.defvjp(lambda x: (x**3, x), lambda x, c: (3 * x * x * c,))


def mixed(count: int) -> int:
    """Compare gradients so often between programs of one's own, and count the bits that changed."""
    changed = 0
    kept = [(f, x, np.asarray(f(x))) for f, x in programs(0)]
    for k in range(count):
        rng = np.random.default_rng([1, k])
        x, t = rng.normal(size=(4, 5)).astype(np.float32), rng.integers(0, 5, 4)
        loss, gradient = cross_entropy(t)
        assert compare_gradients(loss, gradient, x).correct
        assert not compare_gradients(loss, lambda x, g=gradient: 2 * g(x), x).correct
        if k % 3 == 0:
            assert compare_vjp(cube, jnp.asarray(x)).correct
        alone = programs(k + 1)
        for f, x, before in (*kept, *((f, x, None) for f, x in alone)):
            after = np.asarray(f(x))
            assert after.dtype == np.float32 or before is None
            changed += before is not None and after.tobytes() != before.tobytes()
        kept[1:3] = [(f, x, np.asarray(f(x))) for f, x in alone[1:3]]
    return changed


def test_every_program_gives_the_same_bits_and_none_is_compiled_again():
    held, x = jax.jit(lambda x: x[np.array([2, 0])]), np.float32([3, 5, 7])
    before = held(x)
    assert mixed(2) == 0
    assert held._cache_size() == 1
    assert np.array_equal(held(x), before)


@pytest.mark.parametrize("first", [False, True])
def test_labels_of_64_bits_stay_what_they_are_to_the_caller(first):
    """The same array in a trace of float64 and in one that is not; jax alone mistakes one for the other."""
    t = np.array([0, 3, 1, 4])
    loss, gradient = cross_entropy(t)
    x = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
    before = jax.jit(jax.grad(loss)) if first else None
    bits = None if before is None else before(x).tobytes()
    assert [compare_gradients(loss, gradient, x).correct for _ in range(2)] == [True, True]
    assert np.allclose(jax.grad(loss)(x), gradient(x), atol=1e-6)
    assert jax.grad(lambda x: 2 * loss(x))(x).dtype == np.float32
    assert before is None or before(x).tobytes() == bits


def test_where_jax_has_other_names_for_it_comparisons_go_on(monkeypatch):
    from jax._src.lib import weakref_lru_cache

    monkeypatch.delattr(weakref_lru_cache, "weak_key_weak_value_cache")
    constants.keep_apart.__wrapped__()
    assert compare_gradients(lambda w: jnp.sum(w**3), lambda w: 3 * w**2, jnp.array([1.0, 2.0])).correct


HEAVY = ("optax", "orbax", "matplotlib", "sklearn", "tensorflow_datasets", "safetensors", "tqdm")

ALONE = f"""
import sys
sys.modules |= dict.fromkeys({HEAVY!r})
import jax.numpy as jnp
from jaxnn.gradcheck import assert_gradients_match, compare_gradients, compare_vjp
assert_gradients_match(lambda w: jnp.sum(w**3), lambda w: 3 * w**2, jnp.array([1.0, 2.0]))
print(compare_gradients(lambda w: jnp.sum(w**3), lambda w: w**2, jnp.array([1.0, 2.0])))
"""


def test_it_needs_little_beside_jax():
    done = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, cwd=HOUSE)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("w wrong: ")
