"""What two sides with bounds say of each other at a point; where few digits end and a mistake begins."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn.gradcheck import compare_gradients
from jaxnn.gradcheck.bounds.bounded import UNIT
from jaxnn.gradcheck.calls.call import checked
from jaxnn.gradcheck.calls.repeated import called_repeatedly
from jaxnn.gradcheck.verdict.point import Kind, Side, compared
from jaxnn.gradcheck.verdict.remarks import what_it_says
from jaxnn.gradcheck.verdict.rounding import jittered, noise
from jaxnn.gradcheck.verdict.trials import nearly, told_of, unsteady

CALL = checked(lambda w: jnp.sum(w**2), lambda w: 2 * w, (jnp.ones(3),), 0)


def side(values, errors, **known):
    values = np.array(values, float)
    return Side([values], [np.broadcast_to(np.array(errors, float), values.shape)], [False], {}, **known)


def point(reference, hand):
    return compared(Kind.NEAR, CALL, [], reference, hand)


def seen_and_faint(there, seen, faint):
    (pair,) = there.pairs
    return there._replace(pairs=[pair._replace(seen=np.array(seen), faint=np.array(faint))])


def test_an_entry_is_wrong_beyond_the_bounds_of_both_sides_together():
    reference = side([1.0, 1.0, 1.0, 1.0], 2e-9)
    there = point(reference, side([1 + 4.9e-9, 1 + 5.1e-9, 1 - 4.9e-9, 1 - 5.1e-9], 3e-9))
    assert there.pairs[0].wrong.tolist() == [False, True, False, True]
    assert there.is_wrong
    assert there.pairs[0].bound.tolist() == [5e-9] * 4


@pytest.mark.parametrize(("grain", "least"), [(UNIT, 1e-6), (2.0**-24, 1e-2), (2.0**-11, 0.25)])
def test_a_point_tells_of_what_is_known_to_a_millionth_of_the_largest_entry(grain, least):
    """Of a gradient in float32 to a hundredth, in half precision to a quarter."""
    values = [1.0, 100.0, 0.0, 1.0]
    reference = side(values, [0.0, 0.0, 60 * least, 80 * least])
    there = point(reference, side(values, [90 * least, 110 * least, 30 * least, 30 * least], grain=grain))
    assert there.pairs[0].seen.tolist() == [True, False, True, False]
    assert (there.told, there.is_wrong) == ([False], False)


def test_what_is_not_finite_by_hand_is_wrong_where_autodiff_is_sure():
    inf, nan = np.inf, np.nan
    reference = side([1.0, 1.0, nan, inf, nan, 2.0], [0.0, inf, 0.0, 0.0, inf, 0.0])
    there = point(reference, side([nan, nan, nan, inf, 1.0, 2.0], 1e-9))
    assert there.pairs[0].wrong.tolist() == [True, True, False, False, False, False]
    assert there.pairs[0].blank.tolist() == [False, False, True, False, False, False]
    assert there.pairs[0].seen.tolist() == [True, False, False, False, False, True]


def test_zeros_tell_nothing_unless_they_are_always_zeros():
    zeros = side([0.0, 0.0], 0.0)
    assert point(zeros, zeros).told == [False]
    assert point(zeros._replace(fixed=[True]), zeros).told == [True]
    assert point(side([0.0, 3.0], 0.0)._replace(fixed=[True]), side([0.0, 3.0], [1.0, 0.0])).told == [False]


def test_points_tell_together():
    one, other = side([1.0, 1.0], [0.0, 1.0]), side([1.0, 1.0], [1.0, 0.0])
    first, second = (point(s, side([1.0, 1.0], 0.0)) for s in (one, other))
    assert told_of([first, first]) == [False]
    assert told_of([first, second]) == [True]


@pytest.mark.parametrize(
    ("faint", "seen", "enough"), [(2, 1, True), (1, 1, False), (3, 0, True), (0, 3, False)]
)
def test_three_points_that_are_right_but_for_few_digits_are_enough(faint, seen, enough):
    exact = point(side([1.0], 0.0), side([1.0], 0.0))
    off = seen_and_faint(exact, [False], [True])
    assert nearly([*[off] * faint, *[exact] * seen]) == [enough]


def test_what_a_point_says():
    exact = point(side([1.0, 2.0], 0.0), side([1.0, 2.0], 0.0))
    silent = point(side([0.0, 0.0], 0.0), side([0.0, 0.0], 0.0))
    off = seen_and_faint(exact, [False, True], [True, False])
    blank = point(side([np.nan, 1.0], 0.0), side([np.nan, 1.0], 0.0))
    wrong = point(side([1.0], 0.0), side([2.0], 0.0))
    assert [what_it_says(p) for p in (exact, off, wrong)] == [
        "right",
        "right to the digits of float32",
        "wrong",
    ]
    assert what_it_says(silent) == "nothing wrong, but indistinguishable here: w (zero)"
    assert "(neither side is finite)" in what_it_says(blank)


ODD = (1.1, 0.7, 0.3, 1.3, 0.9, 1.7, 0.6, 1.9, 0.37, 2.3, 0.43, 2.9)  # that no short format holds


def of_many_numbers(w):
    """Twelve numbers, each with a digit more than float32 has, are off by 12 · 2⁻²² together."""
    J = jnp.sum(w**2)
    for number in ODD:
        J = number * J
    return J


def of_one_number(w):
    return 0.1 * jnp.sum(w**2)


W = jnp.array([0.3, -0.7, 1.1], jnp.float32)
FEW_DIGITS = [
    # loss, how much too large the gradient is, what is said of it
    (of_many_numbers, 0.5 * 2.0**-21, True),
    (of_many_numbers, -0.9 * 2.0**-21, True),
    (of_many_numbers, 1.5 * 2.0**-21, False),
    (of_many_numbers, 4 * 2.0**-21, False),
    (of_many_numbers, -30 * 2.0**-21, False),
    (of_one_number, 0.8 * 2.0**-22, True),
    (of_one_number, 1.8 * 2.0**-22, False),
]


@pytest.mark.parametrize(("loss", "relative", "correct"), FEW_DIGITS)
def test_where_few_digits_end_and_a_mistake_begins(loss, relative, correct):
    """What numbers of float32's digits explain, up to half a millionth of the largest entry."""
    report = compare_gradients(loss, lambda w: (1 + relative) * jax.grad(loss)(w), W)
    assert report.correct is correct
    assert ("few digits" in " ".join(report.notes)) is correct


def test_few_digits_explain_nothing_in_float64():
    with jax.enable_x64(True):
        w = W.astype(jnp.float64)
        report = compare_gradients(of_many_numbers, lambda w: (1 + 2e-7) * jax.grad(of_many_numbers)(w), w)
    assert report.correct is False


def test_the_noise_of_what_is_only_called_is_that_of_its_noisiest_entry_too():
    """An entry that happens not to change along the line may be as far off as the others are."""
    made = []

    def noisy(leaves):
        made.append(leaves)
        return [np.array([1.0 + 1e-9 * (-1) ** len(made), 1.0, 1.0 / 3])]

    there = jittered(CALL, noisy, [np.ones(3)], None)
    assert 1e-9 <= there.errors[0][1] <= 1e-7
    assert 1e-9 <= there.errors[0][0] <= 1e-6
    exact = jittered(CALL, lambda leaves: [leaves[0] ** 2 / 3], [np.ones(3)], None)
    assert np.all(exact.errors[0] >= 8 * UNIT / 3)
    assert np.all(exact.errors[0] <= 1e-13)
    rough = noise(CALL, lambda leaves: [np.float32(leaves[0] ** 2 / 3)], [np.ones(3)], 2.0**-24)
    assert np.all(rough.bound(0, 8) >= 8 * 2.0**-24 / 3)
    assert np.all(rough.bound(0, 8) <= 1e-4)


def test_what_is_only_called_is_allowed_what_autodiff_is():
    reference = side([1.0, 1.0, 1.0], [0.0, 1e-10, np.inf])
    there = jittered(CALL, lambda leaves: [leaves[0] ** 2], [np.full(3, 1 / 3)], reference)
    assert there.errors[0][0] < 1e-13
    assert 32e-10 <= there.errors[0][1] < 33e-10
    assert there.errors[0][2] == np.inf


@pytest.mark.parametrize("off", [2, 3], ids=["first", "last"])
@pytest.mark.parametrize(("ulps", "wrong"), [(20, False), (400, True)])
def test_calls_that_disagree_are_wrong_where_they_are_off_by_more_than_roundings(ulps, wrong, off):
    made = []

    def gradient(w):
        made.append(w)
        return 2 * w * (1 + (len(made) == off) * ulps * 2.0**-23)

    call = checked(lambda w: jnp.sum(w**2), gradient, (W,), 0)
    calls = called_repeatedly(call, call.leaves)
    exact = 2 * np.asarray(W, float)
    there = unsteady(call, call.leaves, side(exact, 0.0), calls)
    assert there.is_wrong is wrong
    assert there.kind is Kind.AGAIN


def test_a_leaf_that_is_right_but_for_float32s_digits_is_not_wrong_beside_one_that_is():
    x = np.random.default_rng(5).normal(size=(4, 3)).astype(np.float32)
    decay = float(np.float32(0.1))

    def loss(p):
        return jnp.sum(jnp.tanh(x @ p["w"]) * p["c"]) + 0.05 * jnp.sum(p["w"] ** 2)

    def gradient(p):
        w, c = np.asarray(p["w"]), np.asarray(p["c"])
        a = np.tanh(x @ w)
        return {"w": c * (1 - a * a) @ x + decay * w, "c": 1.1 * np.sum(a)}

    report = compare_gradients(loss, gradient, {"w": jnp.array([0.4, -1.1, 0.3]), "c": jnp.float32(0.7)})
    assert report.correct is False
    assert [leaf.wrong for leaf in report.leaves if leaf.path == "p['w']"] == [0]
    assert report.headline.startswith("p['c'] wrong")
