"""Every move of entries that has a bound: each entry keeps its own error; sums of moved ones are sums."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from jaxnn.gradcheck.bounds.bounded import UNIT, VARIES, Bounded
from jaxnn.gradcheck.bounds.interpreter import EVERY, WITH_EQUATION, interpret
from jaxnn.gradcheck.bounds.moves import MOVES, SAME, WHOLE
from jaxnn.gradcheck.jaxprs.equations import opened, primitives

RNG = np.random.default_rng(11)
BLOCK = RNG.permutation(60).reshape(3, 4, 5) / 7.0
INDEX = np.array([2, 0, 2])


def read(function, *inputs):
    """The outputs of function with bounds, given inputs that have bounds."""
    with jax.enable_x64(True):
        closed = jax.make_jaxpr(function)(*(x.value for x in inputs))
        jaxpr, consts = opened(closed)
        out, notes = interpret(jaxpr, consts, inputs, [x.active for x in inputs])
    assert not [note for note in notes if note.kind == "unknown"]
    return out


def marked(x):
    """x with errors that tell its entries apart: an eighth of each."""
    return Bounded(x, np.abs(x) / 8, True)


KEEPING = {
    # name: a function that moves entries about, filling in zeros where it must
    "broadcast_in_dim": lambda x: lax.broadcast_in_dim(x, (3, 2, 4, 5), (0, 2, 3)),
    "reshape": lambda x: lax.reshape(x, (5, 12)),
    "reshape, turned": lambda x: lax.reshape(x, (4, 15), dimensions=(1, 2, 0)),
    "squeeze": lambda x: lax.squeeze(x[:, 1:2], (1,)),
    "transpose": lambda x: lax.transpose(x, (2, 0, 1)),
    "rev": lambda x: lax.rev(x, (0, 2)),
    "slice": lambda x: lax.slice(x, (0, 1, 0), (3, 4, 5), (2, 1, 3)),
    "concatenate": lambda x: lax.concatenate([x[:, :1], x, x[:, 3:]], 1),
    "stack": lambda x: jnp.stack([x[0], x[2]], 1),
    "tile": lambda x: jnp.tile(x, (2, 1, 3)),
    "copy": lambda x: jnp.copy(x),
    "name": lambda x: checkpoint_name(x, "x"),
    "optimization_barrier": lambda x: lax.optimization_barrier((x, x[0]))[0],
    "stop_gradient": lambda x: lax.stop_gradient(x),
    "reduce_precision": lambda x: lax.reduce_precision(x, 11, 52),
    "device_put": lambda x: jax.device_put(x),
    "gather": lambda x: x[INDEX, :, 1],
    "dynamic_slice": lambda x: lax.dynamic_slice(x, (1, 3, 0), (2, 2, 3)),
    "dynamic_update_slice": lambda x: lax.dynamic_update_slice(x, x[:1, :2, :1] * 1, (2, 1, 4)),
    "pad": lambda x: lax.pad(x, 0.0, ((1, 0, 2), (0, -1, 0), (-1, 2, 1))),
    "split": lambda x: lax.split(x, (1, 3), 1)[1],
    "unstack": lambda x: jnp.unstack(x, axis=1)[2],
    "scatter": lambda x: jnp.asarray(x).at[:, INDEX[:2]].set(x[:, :2]),
}


@pytest.mark.parametrize("name", KEEPING)
def test_every_entry_keeps_its_error(name):
    (out,) = read(KEEPING[name], marked(BLOCK))
    with jax.enable_x64(True):
        np.testing.assert_array_equal(out.value, KEEPING[name](BLOCK))
    np.testing.assert_allclose(out.error, np.abs(out.value) / 8, rtol=1e-12)
    assert out.active


@pytest.mark.parametrize("name", KEEPING)
def test_what_is_exact_stays_so(name):
    x = 2 * np.rint(7 * BLOCK)
    (out,) = read(KEEPING[name], Bounded(x, None, False))
    assert (out.error, out.active) == (None, False)


ELSEWHERE = {
    # primitives of arrays on several devices
    *("layout_constraint", "pvary", "reshard", "sharding_constraint", "stop_gradient", "device_put")
}
BELOW = {
    *("reduce_window_max", "reduce_window_min", "reduce_window_sum", "scatter-add"),
    *("conv_general_dilated", "sort", "top_k", "select_and_scatter_add", "bitcast_convert_type"),
}


def test_every_rule_is_looked_at():
    bound = set()
    with jax.enable_x64(True):
        for function in KEEPING.values():
            bound |= set(primitives(jax.make_jaxpr(function)(BLOCK)))
    assert set(MOVES) | set(WHOLE) <= bound | ELSEWHERE | BELOW
    assert set(MOVES) <= set(EVERY)
    assert set(WHOLE) <= set(WITH_EQUATION)


@pytest.mark.parametrize("name", sorted(SAME))
def test_what_changes_nothing_hands_its_inputs_on(name):
    one, two = marked(BLOCK), marked(BLOCK[0])
    assert MOVES[name]({}, one) is one
    assert MOVES[name]({}, one, two) == [one, two]


@pytest.mark.parametrize(
    "function",
    [
        lambda x, k: x[k],
        lambda x, k: lax.dynamic_slice(x, (k[0], 0, 0), (1, 4, 5)),
        lambda x, k: lax.dynamic_update_slice(x, x[:1], (k[0], 0, 0)),
        lambda x, k: x.at[k].set(0.0),
        lambda x, k: x.at[k].add(x[:3]),
    ],
    ids=["gather", "slice", "update", "scatter", "add"],
)
def test_a_place_in_doubt_leaves_nothing_known(function):
    (out,) = read(function, marked(BLOCK), Bounded(INDEX, np.array([np.inf, 0.0, 0.0]), True))
    assert np.isinf(out.error).all()
    (out,) = read(function, marked(BLOCK), Bounded(INDEX, np.zeros(3), True))
    assert np.isfinite(out.error).all()


def fractions(x):
    return np.vectorize(Fraction, otypes=[object])(x)


def assert_between(out, truths, widest, rounded):
    """The bound is above every error, and no wider than so much of the largest and some roundings."""
    for place, value in np.ndenumerate(out.value):
        reach = max(abs(Fraction(float(value)) - t[place]) for t in truths)
        assert reach <= Fraction(float(out.error[place])) * (1 + Fraction(1, 10**12))
        assert out.error[place] <= widest * reach + rounded


def shifts(rng, x, e):
    """x moved by all of its error: all up, all down, and six patterns."""
    patterns = [np.ones(x.shape), -np.ones(x.shape), *rng.choice([-1, 1], (6, *x.shape))]
    return [fractions(x) + fractions(e) * fractions(s) for s in patterns]


SMALL = RNG.normal(size=(4, 6))
SMALL_ERROR = 1e-5 * RNG.random((4, 6)) + 1e-6


def windows(x, combine, start):
    """Of windows of 2 × 3, in steps of 2 and 1, with a border of one on the left."""
    padded = np.full((4, 7), start, object)
    padded[:, 1:] = x
    return np.array(
        [[combine(padded[i : i + 2, j : j + 3].ravel()) for j in range(5)] for i in (0, 2)], object
    )


@pytest.mark.parametrize(
    ("step", "start", "combine"),
    [(lax.add, 0.0, np.sum), (lax.max, -np.inf, max), (lax.min, np.inf, min)],
    ids=["sum", "max", "min"],
)
def test_windows(step, start, combine):
    def pooled(x):
        return lax.reduce_window(x, start, step, (2, 3), (2, 1), ((0, 0), (1, 0)))

    (out,) = read(pooled, Bounded(SMALL, SMALL_ERROR, True))
    border = Fraction(start) if start == 0 else Fraction(1000) * (1 if start > 0 else -1)
    truths = [windows(x, combine, border) for x in shifts(RNG, SMALL, SMALL_ERROR)]
    assert_between(out, truths, 1.0001 if start == 0 else 0, 1e-14 if start == 0 else SMALL_ERROR.max())
    (out,) = read(pooled, Bounded(SMALL, np.full(SMALL.shape, VARIES), True))
    sizes = windows(np.abs(SMALL), np.sum, 0.0).astype(float)
    assert np.all(out.error <= (6 if start == 0 else 0) * UNIT * sizes + 1e-290)


def test_what_is_added_at_places():
    place = np.array([1, 3, 1, 0])

    def added(x, u):
        return x.at[place].add(u)

    x, e, u, d = SMALL, SMALL_ERROR, SMALL[::-1], SMALL_ERROR[:, ::-1]
    (out,) = read(added, Bounded(x, e, True), Bounded(u, d, True))
    truths = []
    for total, more in zip(shifts(RNG, x, e), shifts(RNG, u, d), strict=True):
        for k, row in zip(place, more, strict=True):
            total[k] = total[k] + row
        truths.append(total)
    assert_between(out, truths, 1.0001, 1e-14)


@pytest.mark.parametrize("groups", [1, 2])
def test_a_convolution(groups):
    image, kernel = RNG.normal(size=(2, 4, 5)), RNG.normal(size=(4, 4 // groups, 2))
    e, d = 1e-6 * RNG.random(image.shape), 1e-6 * RNG.random(kernel.shape)

    def convolved(x, k):
        return lax.conv_general_dilated(x, k, (1,), "VALID", feature_group_count=groups)

    def exactly(x, k):
        out = np.full((2, 4, 4), Fraction(0), object)
        width = 4 // groups
        for n, o, t in np.ndindex(out.shape):
            first = width * (o // (4 // groups))
            out[n, o, t] = np.sum(x[n, first : first + width, t : t + 2] * k[o])
        return out

    largest = exactly(np.abs(image), d) + exactly(e, np.abs(kernel))
    for errors in ((e, d), (e, None), (None, d)):
        given = [Bounded(v, w, True) for v, w in zip((image, kernel), errors, strict=True)]
        (out,) = read(convolved, *given)
        filled = [np.zeros(v.value.shape) if w is None else w for v, w in zip(given, errors, strict=True)]
        moved = zip(shifts(RNG, image, filled[0]), shifts(RNG, kernel, filled[1]), strict=True)
        assert_between(out, [exactly(*pair) for pair in moved], 0, 1.001 * float(largest.max()) + 1e-13)
    terms, sizes = 2 * 4 // groups, exactly(np.abs(image), np.abs(kernel)).astype(float)
    (out,) = read(convolved, Bounded(image, None, False), Bounded(kernel, np.full(d.shape, VARIES), True))
    assert np.all(out.error <= (terms + 3) * UNIT * sizes)
    assert_between(
        out, [exactly(fractions(image), fractions(kernel))], 0, 40 * UNIT * float(out.value.max() + 9)
    )
    (one,) = read(
        convolved, Bounded(np.ones(image.shape), None, False), Bounded(np.ones(d.shape), 0 * d + 1, True)
    )
    assert np.all(np.abs(one.error - 8 / groups) < 1e-12)


def test_a_sorted_array_has_the_error_of_its_worst_entry_along_the_axis():
    (out,) = read(lambda x: lax.sort(x, dimension=1), Bounded(SMALL, SMALL_ERROR, True))
    np.testing.assert_array_equal(out.error, np.repeat(SMALL_ERROR.max(axis=1, keepdims=True), 6, axis=1))
    truths = [np.sort(x, axis=1) for x in shifts(RNG, SMALL, SMALL_ERROR)]
    assert_between(out, truths, 0, SMALL_ERROR.max())


@pytest.mark.parametrize("error", [0.4, 0.6])
def test_what_is_sorted_along_may_be_swapped_where_keys_are_near(error):
    keys, others = np.array([3.0, 1.0, 2.0]), np.array([10.0, 20.0, 30.0])

    def along(k, v):
        return lax.sort((k, v), num_keys=1)[1]

    (out,) = read(along, Bounded(keys, np.full(3, error), True), Bounded(others, np.full(3, 0.25), True))
    assert out.value.tolist() == [20.0, 30.0, 10.0]
    assert out.error.tolist() == ([0.25] * 3 if error < 0.5 else [np.inf] * 3)
    exact, _ = read(
        lambda k, v: lax.sort((k, v), num_keys=1), Bounded(keys, None, True), Bounded(others, None, True)
    )
    assert exact.error is None


@pytest.mark.parametrize("error", [0.4, 0.6])
def test_the_largest_entries_and_their_places(error):
    x = np.array([[3.0, 1.0, 2.0, -4.0]])

    def largest(x):
        return lax.top_k(x, 2)

    values, places = read(largest, Bounded(x, np.full(x.shape, error), True))
    assert (values.value.tolist(), places.value.tolist()) == ([[3.0, 2.0]], [[0, 2]])
    assert values.error.tolist() == [[error, error]]
    assert places.error.tolist() == [[0.0, 0.0] if error < 0.5 else [np.inf, np.inf]]
    third = np.array([[0.0, 0.0, 0.0, 5.5]])  # the fourth may be among the two
    assert np.isinf(read(largest, Bounded(x, third, True))[1].error).all()
    assert [v.error for v in read(largest, Bounded(x, None, True))] == [None, None]


def test_the_backward_pass_of_max_pooling():
    def pooled(x):
        return jnp.sum(lax.reduce_window(x, -jnp.inf, lax.max, (2, 2), (2, 2), "VALID") ** 2)

    with jax.enable_x64(True):
        slope = jax.grad(pooled)
        (sure,) = read(slope, Bounded(SMALL, np.full(SMALL.shape, VARIES), True))
        tied = SMALL.copy()
        tied[0, :2] = tied[1, :2] = 3.0
        (doubt,) = read(slope, Bounded(tied, np.full(SMALL.shape, VARIES), True))
        np.testing.assert_allclose(sure.value, slope(SMALL))
    assert np.all(sure.error <= 8 * UNIT * np.abs(sure.value) + 1e-290)
    assert np.all(doubt.error[:2, :2] >= 5.9)
    assert np.all(doubt.error[2:] <= 1e-14)
    (off,) = read(slope, Bounded(SMALL, np.full(SMALL.shape, 1e-9), True))
    np.testing.assert_allclose(off.error, np.where(off.value != 0, 2e-9, 0), rtol=1e-3)


def test_bits_of_what_may_be_another_number_are_not_known():
    def bits(x):
        return lax.bitcast_convert_type(x, jnp.int64)

    (out,) = read(bits, Bounded(np.array([1.0, 2.0]), None, True))
    assert (out.value.tolist(), out.error) == ([0x3FF0000000000000, 0x4000000000000000], None)
    (out,) = read(bits, Bounded(np.array([1.0, 2.0]), np.array([0.0, VARIES]), True))
    assert np.isinf(out.error).all()
