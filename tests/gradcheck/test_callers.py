"""What the caller's own programs do does not change by a comparison, nor a comparison by them."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from threadpoolctl import threadpool_info

from jaxnn.gradcheck import BadCall, compare_gradients, compare_vjp
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


class Strange(Exception):
    def __str__(self):
        raise ValueError("no text")


def raising(error):
    def function(*args):
        raise error

    return function


class Unlike:
    """No array, though it has the shape and dtype of one."""

    shape, dtype, ndim, size = (2,), np.dtype(np.float32), 1, 2


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: compare_gradients(CUBES, CUBES, {"w": W, 1: W}), "the arguments are no tree of JAX's"),
        (lambda: compare_vjp(cube, {"w": W, 1: W}), "the arguments are no tree of JAX's"),
        (lambda: compare_gradients(raising(Strange()), CUBES, W), "the loss function raised Strange"),
        (lambda: compare_gradients(CUBES, raising(Strange()), W), "the gradient function raised Strange"),
        (lambda: compare_gradients(CUBES, raising(SystemExit(2)), W), "raised SystemExit: 2"),
        (lambda: compare_gradients(CUBES, raising(MemoryError()), W), "raised MemoryError"),
        (lambda: compare_gradients(CUBES, lambda w: Unlike(), W), "returned Unlike for w; expected an array"),
        (lambda: compare_gradients(CUBES, jax.grad(CUBES), W, steps=3), "steps must be a dict"),
        (
            lambda: compare_gradients(CUBES, jax.grad(CUBES), W, steps=raising(KeyError(1))),
            "the function steps raised KeyError: 1",
        ),
    ],
)
def test_whatever_is_handed_in_is_refused_in_a_sentence(call, sentence):
    with pytest.raises(BadCall, match=sentence) as refused:
        call()
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, GeneratorExit])
def test_what_stops_everything_goes_through(error):
    with pytest.raises(error):
        compare_gradients(CUBES, raising(error()), W)


def test_a_loss_that_hands_out_what_an_earlier_call_left_is_refused():
    kept = []

    def loss(w):
        kept.append(jnp.sum(w**3))
        return kept[0]

    with pytest.raises(BadCall, match="UnexpectedTracerError"):
        compare_gradients(loss, lambda w: 3 * w**2, W)


def test_names_that_are_no_texts_are_written_out():
    assert compare_gradients(CUBES, lambda w: 3 * w**2, W, names=[1]).leaves[0].path == "1"


HEAVY = ("optax", "matplotlib", "sklearn", "tensorflow_datasets", "safetensors", "tqdm")

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


def state() -> dict:
    """What of a process a comparison could change for good, besides programs."""
    return {
        "settings of JAX": dict(jax.config.values),
        "errors of NumPy": np.geterr(),
        "printing of NumPy": np.get_printoptions(),
        "random numbers": (random.getstate(), np.random.get_state()[1].tobytes()),
        "threads of BLAS": [library["num_threads"] for library in threadpool_info()],
        "filters of warnings": (id(warnings.filters), list(warnings.filters)),
        "streams": (sys.stdout, sys.stderr),
        "signals": [signal.getsignal(s) for s in signal.valid_signals()],
        "threads": threading.enumerate(),
        "folder": (os.getcwd(), list(sys.path), dict(os.environ)),
        "limits": sys.getrecursionlimit(),
    }


def noisy(w):
    """A gradient that prints, warns, and draws of the random states of the process."""
    print("computing")
    warnings.warn("computing", stacklevel=1)
    return 3 * w**2 + 0 * random.random() + 0 * np.random.rand()


CUBES = lambda w: jnp.sum(w**3)  # noqa: E731
W = np.float32([1, 2])


def test_a_comparison_leaves_the_process_as_it_was(capsys, monkeypatch):
    shown = []
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        monkeypatch.setattr(warnings, "showwarning", lambda *all: shown.append(all))
        noisy(W)
        capsys.readouterr()
        before = state()
        assert compare_gradients(CUBES, noisy, W).correct is True
        assert not compare_gradients(CUBES, lambda w: w**2, W).correct
        assert state() == before
        assert capsys.readouterr() == ("", "")
        noisy(W)  # what was shown once is not shown again
        assert len(shown) == 1


@pytest.mark.parametrize(
    "settings",
    [
        [jax.disable_jit(), np.errstate(all="raise"), jax.default_matmul_precision("bfloat16")],
        [jax.debug_nans(True), jax.debug_key_reuse(True), warnings.catch_warnings(action="error")],
        [jax.enable_x64(True), jax.ensure_compile_time_eval(), np.printoptions(precision=1)],
    ],
)
def test_whatever_the_caller_has_set_the_answer_is_the_same(settings):
    w, key = np.float32([1, 2]), jax.random.key(0)

    def loss(w, key):  # a loop, a logarithm of less than nothing, and a key that is used again and again
        h = jax.lax.fori_loop(0, 2, lambda k, h: h * w, jax.random.normal(key, w.shape, w.dtype))
        return jnp.sum(h + jnp.where(w > 1.5, jnp.log(w - 1.5), 0))

    def gradient(w, key):
        n = jax.random.normal(key, w.shape, w.dtype)
        return 2 * n * w + jnp.where(w > 1.5, 1 / (w - 1.5), 0)

    with contextlib.ExitStack() as stack:
        for setting in settings:
            stack.enter_context(setting)
        assert compare_gradients(loss, gradient, w, key).correct is True


def test_threads_compare_side_by_side_and_print_what_they_print(capsys):
    go, said = threading.Event(), []

    def prints():
        go.wait()
        print("of another thread")

    def gradient(w):
        go.set()
        other.join()
        print("of the gradient")
        return 3 * w**2

    before, other = sys.stdout, threading.Thread(target=prints)
    both = [
        threading.Thread(target=lambda: said.append(compare_gradients(CUBES, gradient, W).correct))
        for _ in range(2)
    ]
    for thread in (other, *both):
        thread.start()
    for thread in both:
        thread.join()
    assert said == [True, True]
    assert sys.stdout is before
    assert capsys.readouterr().out == "of another thread\n"


def test_arguments_that_the_gradient_donates_stay_the_callers():
    w = jnp.array(W)
    assert compare_gradients(CUBES, jax.jit(lambda w: 3 * w**2, donate_argnums=0), w).correct is True
    assert w.tolist() == [1, 2]


def test_within_a_trace_what_has_a_value_is_compared_and_what_has_none_is_refused():
    said = []

    @jax.jit
    def program(x):
        said.append(compare_gradients(CUBES, lambda w: 3 * w**2, W).correct)
        with pytest.raises(BadCall, match="w is traced, and has no value: compare outside"):
            compare_gradients(CUBES, lambda w: 3 * w**2, x)
        return x

    program(W)
    assert said == [True]
