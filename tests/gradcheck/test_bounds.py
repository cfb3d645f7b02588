"""Bounds against other computations of the same: mpmath, XLA, and two formulas for one gradient."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from jax import lax

from jaxnn.gradcheck.bounds import interpreter
from jaxnn.gradcheck.bounds.bounded import UNIT
from jaxnn.gradcheck.bounds.interpreter import TooLong, interpret
from jaxnn.gradcheck.jaxprs.equations import opened


def bounded(function, *args, active=None, **kwargs):
    """(outputs with bounds, notes) of function(*args) in float64."""
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        closed = jax.make_jaxpr(function)(*args)
        flat = jax.tree.leaves(args)
        jaxpr, consts = opened(closed)
        return interpret(jaxpr, consts, flat, active or [True] * len(flat), **kwargs)


def error_of(x):
    return np.zeros(np.shape(x.value)) if x.error is None else x.error


RNG = np.random.default_rng(0)
ROWS, LINE = RNG.normal(size=(3, 5)), RNG.normal(size=7)
POSITIVE = np.abs(LINE) + 0.1
IMAGE, KERNEL = RNG.normal(size=(2, 6, 6, 3)), RNG.normal(size=(3, 3, 3, 4))
SQUARE = RNG.normal(size=(4, 4))
DEFINITE = SQUARE @ SQUARE.T + 4 * np.eye(4)
WEIGHTS = RNG.normal(size=(4, 5))


def convolved(image, kernel):
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(image, kernel, (2, 1), "SAME", dimension_numbers=numbers)


def pooled(image):
    return lax.reduce_window(image, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def averaged(image):
    return lax.reduce_window(image, 0.0, lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "SAME")


def attended(x, w):
    scores = jnp.where(np.tril(np.ones((3, 3), bool)), x @ w @ x.T, -jnp.inf)
    return jnp.sum(jax.nn.softmax(scores) @ x)


def normalised(x):
    centred = x - x.mean(1, keepdims=True)
    return jnp.sum((centred / jnp.sqrt(x.var(1, keepdims=True) + 1e-5)) ** 3)


def grouped(images, kernels):
    return lax.conv_general_dilated(images, kernels, (1, 2), "SAME", feature_group_count=2)


def one_by_one(images, kernels):
    """A convolution of its own for each."""
    return jax.vmap(lambda i, k: lax.conv_general_dilated(i[None], k, (1, 1), "VALID"))(images, kernels)


IMAGES, KERNELS = RNG.normal(size=(2, 4, 5, 6)), RNG.normal(size=(6, 2, 3, 3))
LABELS = np.array([0, 2, 4])
FUNCTIONS = {
    "grouped conv": (lambda i, k: jnp.sum(grouped(i, k) ** 2), (IMAGES, KERNELS)),
    "conv one by one": (
        lambda i, k: jnp.sum(one_by_one(i, k) ** 2),
        (IMAGES, RNG.normal(size=(2, 3, 4, 3, 3))),
    ),
    "dilated conv": (
        lambda i, k: jnp.sum(lax.conv_general_dilated(i, k, (1, 1), [(1, 1), (2, 0)], (2, 1), (1, 2)) ** 2),
        (IMAGES, RNG.normal(size=(3, 4, 2, 3))),
    ),
    "segments": (lambda v: jnp.sum(jax.ops.segment_sum(v, np.array([0, 1, 0, 2, 2, 1, 0]), 4) ** 2), (LINE,)),
    "running maximum": (lambda v: jnp.sum(lax.cummax(v) * np.arange(7.0)), (LINE,)),
    "associative": (lambda v: jnp.sum(lax.associative_scan(jnp.multiply, v)), (LINE,)),
    "out of bounds": (
        lambda v: jnp.sum(v.at[np.array([2, 9])].get(mode="fill", fill_value=3.0) ** 2),
        (LINE,),
    ),
    "wrapped": (lambda v: jnp.sum(jnp.take(v, np.array([2, 9, -1]), mode="wrap") ** 2), (LINE,)),
    "softmax": (lambda x: jnp.sum(jax.nn.softmax(x)[:, 0]), (ROWS,)),
    "logsumexp": (jax.nn.logsumexp, (ROWS,)),
    "gelu": (lambda x: jnp.sum(jax.nn.gelu(x, approximate=False)), (ROWS,)),
    "selu": (lambda x: jnp.sum(jax.nn.selu(x)), (ROWS,)),
    "softplus": (lambda x: jnp.sum(jax.nn.softplus(x)), (ROWS,)),
    "log_sigmoid": (lambda x: jnp.sum(jax.nn.log_sigmoid(x)), (ROWS,)),
    "conv": (lambda i, k: jnp.sum(convolved(i, k) ** 2), (IMAGE, KERNEL)),
    "max pool": (lambda i: jnp.sum(pooled(i) ** 2), (IMAGE,)),
    "average pool": (lambda i: jnp.sum(averaged(i) ** 2), (IMAGE,)),
    "sort": (lambda v: jnp.sum(jnp.sort(v) * np.arange(7.0)), (LINE,)),
    "argsort": (lambda v: jnp.sum(v[jnp.argsort(v)] * np.arange(7.0)), (LINE,)),
    "max": (lambda x: jnp.sum(jnp.max(x, axis=1)), (ROWS,)),
    "top_k": (lambda v: jnp.sum(lax.top_k(v, 3)[0] ** 2), (LINE,)),
    "top_k of columns": (lambda x: jnp.sum(lax.top_k(x, 2, axis=0)[0] ** 2), (ROWS,)),
    "gather": (lambda v: jnp.sum(v[np.array([1, 1, 4])] ** 2), (LINE,)),
    "scatter": (lambda v: jnp.sum(v.at[LABELS].add(v[:3] ** 2) ** 2), (LINE,)),
    "set": (lambda v: jnp.sum(v.at[2].set(v[0] ** 2) ** 2), (LINE,)),
    "cumsum": (lambda v: jnp.sum(jnp.cumsum(v) ** 2), (LINE,)),
    "cumprod": (lambda v: jnp.sum(jnp.cumprod(v)), (LINE,)),
    "scan": (lambda v: lax.scan(lambda c, a: (jnp.tanh(c * a + 1), c), 0.3, v)[0], (LINE,)),
    "scan back": (
        lambda v: jnp.sum(lax.scan(lambda c, a: (jnp.sin(c * a), c), 0.3, v, reverse=True)[1]),
        (LINE,),
    ),
    "fori": (lambda v: jnp.sum(lax.fori_loop(0, 5, lambda i, c: jnp.sin(c) * v, v)), (LINE,)),
    "cond": (lambda v: jnp.sum(lax.cond(v[0] > 0, jnp.sin, jnp.cos, v)), (LINE,)),
    "switch": (lambda v: jnp.sum(lax.switch(2, [jnp.sin, jnp.cos, jnp.exp], v)), (LINE,)),
    "remat": (lambda v: jnp.sum(jax.checkpoint(lambda u: jnp.sin(jnp.sin(u)))(v)), (LINE,)),
    "power": (lambda p: jnp.sum(p**p + p**2.5 + p**-3), (POSITIVE,)),
    "special": (lambda p: jnp.sum(jax.scipy.special.gammaln(p)), (POSITIVE,)),
    "norm": (jnp.linalg.norm, (LINE,)),
    "layer norm": (normalised, (ROWS,)),
    "einsum": (lambda x, w: jnp.sum(jnp.einsum("ij,kj,il->kl", x, w, x)), (ROWS, WEIGHTS)),
    "cholesky": (lambda s: jnp.sum(jnp.linalg.cholesky(s)), (DEFINITE,)),
    "solve": (lambda s: jnp.sum(jnp.linalg.solve(s, np.ones(4))), (DEFINITE,)),
    "product": (jnp.prod, (LINE,)),
    "clip": (lambda v: jnp.sum(jnp.clip(v, -0.5, 0.5) ** 2), (LINE,)),
    "where": (lambda v: jnp.sum(jnp.where(v > 0, jnp.sqrt(jnp.where(v > 0, v, 1.0)), 0.0)), (LINE,)),
    "mod": (lambda v: jnp.sum(jnp.mod(v, 0.7) ** 2), (LINE,)),
    "dropout": (lambda v: jnp.sum(v * jax.random.bernoulli(jax.random.key(0), 0.7, (7,))), (LINE,)),
    "pad": (lambda x: jnp.sum(jnp.pad(x, ((1, 0), (2, 1))) ** 2), (ROWS,)),
    "roll": (lambda x: jnp.sum(jnp.roll(x, 1, 0) * x), (ROWS,)),
    "slices": (
        lambda v: jnp.sum(lax.dynamic_update_slice(v, lax.dynamic_slice(v, (2,), (3,)), (1,)) ** 2),
        (LINE,),
    ),
    "attention": (attended, (ROWS, RNG.normal(size=(5, 5)))),
    "cross-entropy": (
        lambda x: -jnp.sum(jnp.take_along_axis(jax.nn.log_softmax(x), LABELS[:, None], 1)),
        (ROWS,),
    ),
    "interpolation": (
        lambda v: jnp.sum(jnp.interp(v, np.linspace(-3, 3, 10), np.sin(np.linspace(-3, 3, 10)))),
        (LINE,),
    ),
}


def gradient_of(function, args):
    return jax.grad(function, tuple(range(len(args))))


@pytest.fixture(scope="module")
def compiled_gradients():
    """Every gradient as XLA computes it: one program."""
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        return jax.jit(lambda: {n: gradient_of(f, a)(*a) for n, (f, a) in FUNCTIONS.items()})()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients_agree_with_xla_within_a_narrow_bound(name, compiled_gradients):
    function, args = FUNCTIONS[name]
    out, notes = bounded(gradient_of(function, args), *args)
    for ours, theirs in zip(out, compiled_gradients[name], strict=True):
        theirs, error = np.asarray(theirs), error_of(ours)
        assert np.all(np.abs(ours.value - theirs) <= 2 * error + 8 * UNIT * np.abs(theirs))
        assert np.all(error <= 1e-9 * np.max(np.abs(theirs)))
    assert not [n for n in notes if n.kind == "kink"]


def test_a_primitive_without_a_rule_is_named():
    (out,), notes = bounded(lambda v: jnp.sum(lax.lgamma(v) ** 2), LINE)
    assert "lgamma" in {n.what for n in notes if n.kind == "unknown"}
    exact = float(sum(mpmath.log(abs(mpmath.gamma(v))) ** 2 for v in LINE))
    assert abs(out.value - exact) <= out.error <= 1e-6 * exact


def test_nothing_is_known_of_nothing_where_there_is_no_rule():
    (out,), notes = bounded(lambda v: lax.lgamma(v[:, :4]), np.zeros((0, 7)))
    assert (out.value.shape, error_of(out).shape) == ((0, 4), (0, 4))
    assert "lgamma" in [n.what for n in notes if n.kind == "unknown"]


@pytest.mark.parametrize("number", [0.1, float(np.float32(0.1))])
def test_a_number_handed_in_is_what_it_is(number):
    """Only a number in the code may be meant to have more digits."""
    (out,), _ = bounded(lambda w, y: w * y, np.array(3.0), np.array(number), active=[True, False])
    assert out.error <= 2 * UNIT
    (rough,), _ = bounded(
        lambda w, y: w * y, np.array(3.0), np.array(number), active=[True, False], grain=1e-6
    )
    assert 0.9e-6 <= rough.error / rough.value <= 1.1e-6


def test_long_sums_and_products_against_exact_arithmetic():
    a, b = RNG.normal(size=(2, 700)), RNG.normal(size=(700, 3))
    (product, total), _ = bounded(lambda a, b: (a @ b, jnp.sum(a, axis=1)), a, b)
    with mpmath.workdps(60):
        exact = [
            [mpmath.fsum(mpmath.mpf(x) * mpmath.mpf(y) for x, y in zip(row, col, strict=True)) for col in b.T]
            for row in a.tolist()
        ]
        for (i, j), value in np.ndenumerate(product.value):
            assert abs(mpmath.mpf(float(value)) - exact[i][j]) <= error_of(product)[i, j]
        for i, row in enumerate(a.tolist()):
            off = abs(mpmath.mpf(float(total.value[i])) - mpmath.fsum(map(mpmath.mpf, row)))
            assert off <= error_of(total)[i]
    assert np.all(error_of(product) <= 4 * UNIT * np.abs(product.value) + 1e-20)


def test_equal_terms_do_not_escape_the_bound_of_a_wide_sum():
    x = np.full((100_001, 2), 0.1)
    (total,), _ = bounded(lambda x: jnp.sum(x, axis=0), x)
    with mpmath.workdps(40):
        exact = mpmath.mpf(0.1) * 100_001
        assert all(
            abs(mpmath.mpf(float(v)) - exact) <= e for v, e in zip(total.value, total.error, strict=True)
        )
    assert np.all(total.error < 1e-14 * 100_001)


def test_cancellation_is_seen():
    (out,), _ = bounded(lambda x: (x + 1e8) - 1e8, np.array([1e-3]))
    assert abs(out.value[0] - 1e-3) <= out.error[0]
    assert out.error[0] > 1e-9


def test_underflow_costs_something():
    (out,), _ = bounded(lambda x: (x * 1e-200) * 1e-200, np.array([1.0, 0.0]))
    assert out.value[0] == 0.0
    assert out.error[0] > 0.0
    assert out.error[1] == 0.0


@pytest.mark.parametrize("x", [0.0, 1e-17])
def test_a_tie_may_go_either_way(x):
    def slope(x):
        z = (x + 1.0) - 1.0 if x.shape else x
        return jnp.where(z > 0, 5.0, 1.0)

    (out,), notes = bounded(slope, np.array([x]))
    assert out.error[0] >= 4.0
    assert [n.what for n in notes if n.kind == "kink"] == ["gt"]


def test_data_does_not_tie():
    """The labels are what they are: 0 > 0 is false, and no kink of the loss."""
    labels = np.array([0.0, 1.0])
    out, notes = bounded(lambda w, y: jnp.where(y > 0, w, 2 * w), np.array(3.0), labels, active=[True, False])
    assert np.all(error_of(out[0]) <= 8 * UNIT)
    assert not notes


def test_both_branches_are_taken_where_it_is_not_sure_which():
    def branch(x):
        z = (x + 0.1) - 0.1 - x
        return lax.cond(z[0] > 0, lambda: 7.0, lambda: 2.0)

    (out,), _ = bounded(branch, np.array([0.3]))
    assert abs(out.value - 7.0) <= out.error
    assert abs(out.value - 2.0) <= out.error


def series(x):
    """exp, until a term is too small to matter."""

    def grown(state):
        total, term, k = state
        return total + term, term * x / (k + 1), k + 1

    return lax.while_loop(lambda s: jnp.abs(s[1]) > 1e-17 * s[0], grown, (1.0, x, 1.0))[0]


def test_a_loop_of_many_at_once_ends_for_each_by_itself():
    x = np.array([0.01, -0.7, 2.0, 9.0])
    (out,), _ = bounded(jax.vmap(series), x)
    assert np.all(np.abs(out.value - np.exp(x)) <= out.error + 4 * UNIT * np.exp(x))
    assert np.all(out.error <= 1e-13 * np.exp(x))


def test_a_loop_that_may_end_a_turn_later_is_in_doubt_where_it_may():
    turns = jax.vmap(lambda x: lax.while_loop(lambda c: c < 1.0, lambda c: c + x, 0.0))
    (out,), _ = bounded(turns, np.array([0.3, 0.1, 0.25]))
    np.testing.assert_allclose(out.error, [0, 0.1, 0.25], atol=1e-12)  # a turn more, or less


def test_what_is_certain_of_two_truth_values_is_certain():
    def chosen(x):
        z = (x + 0.1) - 0.1 - x
        return jnp.where((z > 0) & (x < 0), 7.0, jnp.where((z > 0) | (x > 0), 2.0, 1.0))

    (out,), _ = bounded(chosen, np.array([0.3]))
    assert (out.value[0], error_of(out)[0]) == (2.0, 0.0)


@pytest.mark.parametrize(("x", "kinks"), [(0.0, ["eq"]), (0.5, [])])
def test_a_case_made_for_one_number_is_a_kink_there(x, kinks):
    (out,), notes = bounded(lambda x: jnp.where(x == 0.0, 5.0, 1.0), np.array([x]))
    assert [n.what for n in notes if n.kind == "kink"] == kinks
    assert error_of(out)[0] == (4.0 if kinks else 0.0)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: jnp.round(x), [0, 2, 2, 0, 300, -7]),
        (lambda x: x.astype(jnp.uint8) * 1.0, [0, 1, 2, 0, 255, 0]),
        (lambda x: lax.reduce(x.astype(jnp.int32), -1, lax.bitwise_and, (0,)) * 1.0, 0),
        (lambda x: lax.reduce(x[4:].astype(jnp.int32), 0, lax.bitwise_or, (0,)) * 1.0, 300 | -7),
    ],
)
@pytest.mark.parametrize("active", [True, False])
def test_whole_numbers_are_those_of_xla(function, expected, active):
    x = np.array([0.5, 1.5, 2.5, -0.5, 300.2, -7.0])
    (out,), _ = bounded(function, x, active=[active])
    np.testing.assert_array_equal(out.value, expected)


def test_a_tie_in_the_first_key_leaves_the_second_in_doubt():
    keys = lambda x: lax.sort(((x + 0.1) - 0.1, jnp.array([1.0, 5.0, 3.0])), num_keys=2)[1]  # noqa: E731
    (out,), _ = bounded(keys, np.array([0.3, 0.3, 2.0]))
    assert np.all(out.error == np.inf)


def test_infinities_of_a_mask_are_exact():
    mask = np.array([True, False, True])
    (out,), _ = bounded(lambda x: jax.nn.softmax(jnp.where(mask, x, -jnp.inf)), LINE[:3])
    assert out.value[1] == 0.0
    assert np.all(out.error <= 1e-14)


def test_a_product_of_integers_that_may_be_others_is_in_doubt():
    """As the sign of a determinant is, made of its pivots' places."""
    (out,), _ = bounded(lambda x: jnp.prod(jnp.argsort(x + 0.1) + 1) * 1.0, np.array([0.3, 0.3, 0.2]))
    assert out.error == np.inf


def test_a_pole_within_reach_is_unbounded():
    (out,), _ = bounded(lambda x: 1 / (((x + 1e8) - 1e8) - x), np.array([1e-3]))
    assert out.error[0] == np.inf


def test_lost_precision_is_named_and_carried_out_only_when_asked():
    def rounded(x):
        return x.astype(jnp.bfloat16).astype(jnp.float64) * 3.0

    x = np.array([1.2345678])
    (looked_past,), notes = bounded(rounded, x)
    (carried_out,), _ = bounded(rounded, x, obeyed=float(jnp.finfo(jnp.float32).eps))
    assert [n.what for n in notes] == ["bfloat16"]
    assert looked_past.value[0] == pytest.approx(3 * 1.2345678, rel=1e-15)
    assert abs(carried_out.value[0] / looked_past.value[0] - 1) > 1e-4


def test_a_literal_is_as_exact_as_its_shortest_format():
    (out,), _ = bounded(lambda x: x * 0.5, np.array([1.0]))
    assert out.error[0] <= 2 * UNIT
    (out,), _ = bounded(lambda x: x * np.float32(0.1), np.array([1.0]))
    assert out.error[0] >= 0.1 * 2.0**-25


def test_endless_loops_are_left_to_others(monkeypatch):
    monkeypatch.setattr(interpreter, "STEPS", 100)
    with pytest.raises(TooLong):
        bounded(lambda x: lax.fori_loop(0, 100, lambda i, c: c * 0.5 + 1, x), np.array(1.0))


def net(parameters, inputs):
    signal = [inputs]
    for w, b in parameters[:-1]:
        signal.append(jnp.tanh(signal[-1] @ w.T + b.T))
    w, b = parameters[-1]
    return signal[-1] @ w.T + b.T, signal


def entropy(parameters, inputs, labels):
    z, _ = net(parameters, inputs)
    per_entry = jnp.maximum(z, 0) - z * labels + jnp.log1p(jnp.exp(-jnp.abs(z)))
    return jnp.mean(jnp.sum(per_entry, axis=1))


def entropy_by_hand(parameters, inputs, labels):
    z, signal = net(parameters, inputs)
    dz, out = (jax.nn.sigmoid(z) - labels) / inputs.shape[0], []
    for (w, _), a in zip(parameters[::-1], signal[::-1], strict=True):
        out.append((dz.T @ a, jnp.sum(dz.T, axis=1, keepdims=True)))
        dz = (dz @ w) * (1 - a**2)
    return out[::-1]


def test_two_formulas_of_one_gradient_differ_by_less_than_their_bounds():
    rng = np.random.default_rng(7)
    looseness = []
    for sizes, n in (((5, 3), 1), ((7, 4, 3), 11), ((13, 11, 5, 2), 31), ((3, 17, 2), 256)):
        with jax.enable_x64(True):
            shapes = [(rng.normal(size=(m, k)), rng.normal(size=(m, 1))) for k, m in
                      pairwise(sizes)]  # fmt: skip
            x, y = rng.normal(size=(n, sizes[0])), rng.normal(size=(n, sizes[-1]))
            one = opened(jax.make_jaxpr(jax.grad(entropy))(shapes, x, y))
            two = opened(jax.make_jaxpr(entropy_by_hand)(shapes, x, y))
            for trial in range(25):
                scale = (1.0, 1e-3, 30.0, 1e-12, 1.0)[trial % 5]
                args = [rng.normal(size=np.shape(a)) * scale for a in jax.tree.leaves(shapes)]
                args += [rng.normal(size=x.shape), (rng.random(y.shape) < 0.4) * 1.0]
                live = [True] * (len(args) - 2) + [False] * 2
                ours, _ = interpret(*one, args, live)
                theirs, _ = interpret(*two, args, live)
                for r, h in zip(ours, theirs, strict=True):
                    off, bound = np.abs(r.value - h.value), r.error + h.error
                    assert np.all(off <= bound)
                    looseness += [b / d for b, d in zip(bound.flat, off.flat, strict=True) if d > 0]
    assert np.median(looseness) < 1000


def test_a_count_of_integers_is_exact():
    indices = jnp.array([0, 1, 1, 3, 3, 3])

    def mean_over_duplicates(x):
        sums = jnp.zeros(5).at[indices].add(jnp.sin(x))
        return sums / jnp.maximum(jnp.bincount(indices, length=5), 1)

    (out,), _ = bounded(mean_over_duplicates, np.linspace(0.1, 1.1, 6))
    assert np.all(error_of(out) <= 1e-15)
