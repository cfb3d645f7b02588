"""The two verdicts, on right and wrong gradients, at points that tell and points that do not."""

import html
import json
import os
import pickle
import platform
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn.gradcheck import BadCall, GradientMismatch, assert_gradients_match, compare_gradients
from jaxnn.gradcheck.bounds import interpreter
from jaxnn.gradcheck.report.confidence import LIKELY

ROOT = str(Path(__file__).parents[2])
N, OUT, IN = 7, 3, 4
RNG = np.random.default_rng(0)
W = jnp.asarray(RNG.normal(size=(OUT, IN)), jnp.float32)
B = jnp.zeros((OUT, 1), jnp.float32)
X = jnp.asarray(RNG.normal(size=(N, IN)), jnp.float32)
Y = jnp.asarray(np.eye(OUT)[RNG.integers(0, OUT, N)], jnp.float32)
P = {"W": W, "b": B}


def loss(p, x, y):
    """The lecture's: a sigmoid output, and binary cross-entropy of it as it stands on the slide."""
    a = jax.nn.sigmoid(x @ p["W"].T + p["b"].T)
    return -jnp.mean(jnp.sum(y * jnp.log(a) + (1 - y) * jnp.log(1 - a), axis=1))


def right(p, x, y):
    z = x @ p["W"].T + p["b"].T
    dz = ((1 - y) * jax.nn.sigmoid(z) - y * jax.nn.sigmoid(-z)) / x.shape[0]
    return {"W": dz.T @ x, "b": jnp.sum(dz.T, axis=1, keepdims=True)}


def scaled(factor):
    return lambda *args: jax.tree.map(lambda g: g * factor, right(*args))


def in_numpy(p, x, y):
    p, x, y = jax.tree.map(np.asarray, (p, x, y))
    dz = (1 / (1 + np.exp(-(x @ p["W"].T + p["b"].T))) - y) / len(x)
    return {"W": dz.T @ x, "b": dz.T.sum(axis=1, keepdims=True)}


def said(report):
    return dict(report.points)


@pytest.mark.parametrize("form", [right, jax.jit(right), in_numpy], ids=["plain", "jit", "numpy"])
def test_a_right_gradient_is_right(form):
    report = compare_gradients(loss, form, P, X, Y)
    assert report.correct is True
    assert report.accurate is True
    assert report.causes == []
    assert [leaf.path for leaf in report.leaves] == ["p['W']", "p['b']"]
    assert all(leaf.correct and leaf.wrong == 0 and leaf.ratio <= 1 for leaf in report.leaves)
    assert all(p.passed for p in report.probes)


@pytest.mark.parametrize("form", [right, in_numpy], ids=["jax", "numpy"])
@pytest.mark.parametrize("effect", [1e-6, -1e-6])
def test_a_millionth_too_much_is_wrong(form, effect):
    wrong = lambda *args: jax.tree.map(lambda g: g * (1 + effect), form(*args))  # noqa: E731
    report = compare_gradients(loss, wrong, P, X, Y)
    assert report.correct is False
    assert all(leaf.correct is False for leaf in report.leaves)


def test_one_wrong_entry_is_found_and_named():
    def one_entry(*args):
        g = right(*args)
        return g | {"W": g["W"].at[2, 1].multiply(1.001)}

    report = compare_gradients(loss, one_entry, P, X, Y)
    leaf, other = report.leaves
    assert (report.correct, leaf.correct, other.correct) == (False, False, True)
    assert (leaf.index, leaf.wrong, other.wrong) == ((2, 1), 1, 0)
    truth = float(right(P, X, Y)["W"][2, 1])
    assert leaf.autodiff == pytest.approx(truth, rel=1e-5)
    assert leaf.hand == pytest.approx(1.001 * truth, rel=1e-5)
    assert leaf.error == pytest.approx(abs(leaf.hand - leaf.autodiff))
    assert 1e-3 / 2**-23 <= leaf.ulps <= 2 * 1e-3 / 2**-23
    assert report.headline.startswith("p['W'] wrong: ")
    assert (
        f"  p['W'][2, 1]: by hand {leaf.hand:.4g}, autodiff {leaf.autodiff:.4g}" in str(report).splitlines()
    )


POINTS = {
    "zero weights": (jax.tree.map(jnp.zeros_like, P), X, Y),
    "zero data": (P, 0 * X, Y),
    "saturated": (jax.tree.map(lambda p: 1e4 * p, P), X, Y),
    "huge data": (P, 1e8 * X, Y),
    "tiny": (jax.tree.map(lambda p: 1e-20 * p, P), 1e-20 * X, Y),
    "all alike": (jax.tree.map(jnp.ones_like, P), jnp.ones_like(X), Y),
}


@pytest.mark.parametrize("name", POINTS)
def test_hard_points_raise_no_false_alarm_and_hide_no_mistake(name):
    args = POINTS[name]
    assert compare_gradients(loss, right, *args).correct is True
    assert compare_gradients(loss, in_numpy, *args).correct is not False
    assert compare_gradients(loss, scaled(1 + 1e-5), *args).correct is False


def test_a_point_that_cannot_tell_says_so():
    report = compare_gradients(loss, right, P, 0 * X, Y)
    assert "indistinguishable here" in said(report)["the given point"]
    assert said(report)["a point with fresh weights and data of size 1"] == "right"


def test_a_mistake_that_its_sizes_hide_is_no_verdict():
    def no_mean(p, x, y):
        return jax.tree.map(lambda g: g * x.shape[0], right(p, x, y))

    report = compare_gradients(loss, no_mean, P, X[:1], Y[:1])
    assert report.correct is None
    assert "right at the sizes given, wrong at others: no point of these sizes can tell" in report.notes
    assert report.causes[0].id == "missing-mean"
    assert compare_gradients(loss, right, P, X[:1], Y[:1]).correct is True
    with pytest.raises(GradientMismatch, match="cannot tell"):
        assert_gradients_match(loss, no_mean, P, X[:1], Y[:1])


def test_a_scalar_that_is_zero_hides_nothing():
    def penalised(w, strength):
        return jnp.sum(w**3) + strength * jnp.sum(w**2)

    def forgotten(w, strength):
        return 3 * w**2

    report = compare_gradients(penalised, forgotten, W[0], jnp.float32(0.0))
    assert report.correct is False
    assert said(report)["the given point"] == "right"


KINKS = {
    # f, f′ by hand with another convention at 0
    "relu": (lambda x: jnp.sum(jnp.maximum(x, 0)), lambda x: jnp.where(x > 0, 1.0, 0.0)),
    "relu, other side": (lambda x: jnp.sum(jax.nn.relu(x)), lambda x: jnp.where(x >= 0, 1.0, 0.0)),
    "abs": (lambda x: jnp.sum(jnp.abs(x)), jnp.sign),
    "largest": (jnp.max, lambda x: jnp.where(np.arange(5) == jnp.argmax(x), 1.0, 0.0)),
}


@pytest.mark.parametrize("name", KINKS)
def test_a_kink_is_a_kink(name):
    f, slope = KINKS[name]
    report = compare_gradients(f, slope, jnp.array([0.0, -1.0, 2.0, 0.0, 2.0]))
    assert report.correct is True
    assert any("a kink at test_compare_gradients.py:" in note for note in report.notes)
    assert compare_gradients(f, lambda x: 1.001 * slope(x), jnp.zeros(5)).correct is False


POSITIVE = jnp.asarray(RNG.uniform(0.1, 0.9, (4, 3)), jnp.float32)
DOMAINS = {
    # f, f′ by hand, which are the same on the domain of POSITIVE only
    "roots": (lambda p: jnp.sum(p**0.5), lambda p: 0.5 * p**-0.5),
    "logarithms": (lambda p: jnp.sum(jnp.log(jnp.abs(p))), lambda p: jnp.exp(-jnp.log(p))),
    "probabilities": (lambda p: jnp.sum(p**3), lambda p: jnp.where(p < 1, 3 * p**2, jnp.nan)),
}


@pytest.mark.parametrize("name", DOMAINS)
def test_domains_are_not_left(name):
    f, slope = DOMAINS[name]
    assert compare_gradients(f, slope, POSITIVE).correct is True
    assert compare_gradients(f, lambda p: 1.001 * slope(p), POSITIVE).correct is False


SOME = jnp.array([0.7, 1.2, -0.5, 0.3], jnp.float32)
L = jnp.array([[0.8, 0, 0], [-1.3, 0.5, 0], [0.4, -0.6, 1.1]], jnp.float32)
PARTLY_POSITIVE = {
    # f, f′ by hand as it is where some entries are positive, a point
    "Cholesky factor": (
        lambda L: jnp.sum(jnp.log(jnp.diag(L))) + jnp.sum(L**2),
        lambda L: jnp.diag(jnp.exp(-jnp.log(jnp.diag(L)))) + 2 * L,
        L,
    ),
    "near the identity": (
        lambda L: jnp.sum(jnp.log(jnp.diag(L))) + jnp.sum(L**2),
        lambda L: np.diag(np.exp(-np.log(np.diag(L)))) + 2 * np.asarray(L),
        jnp.eye(3) / 1000,
    ),
    "root of some": (
        lambda v: jnp.sum(jnp.sqrt(v[:2])) + jnp.sum(v[2:] ** 3),
        lambda v: jnp.concatenate([0.5 * v[:2] ** -0.5, 3 * v[2:] ** 2]),
        SOME / 1000,
    ),
    "another formula elsewhere": (
        lambda v: jnp.sum(jnp.log(v[:2])) + jnp.sum(v[2:] ** 3),
        lambda v: jnp.concatenate([1 / jnp.sqrt(v[:2] ** 2), 3 * v[2:] ** 2]),
        SOME / 1000,
    ),
    "above one": (lambda v: jnp.sum(jnp.log(v - 1)), lambda v: jnp.exp(-jnp.log(v - 1)), SOME[1:2]),
    "absolute": (
        lambda v: jnp.sum(jnp.log(jnp.abs(v[:2]))) + jnp.sum(v[2:] ** 3),
        lambda v: jnp.concatenate([jnp.exp(-jnp.log(v[:2])), 3 * v[2:] ** 2]),
        SOME / 1000,
    ),
}


@pytest.mark.parametrize("name", PARTLY_POSITIVE)
def test_where_some_entries_must_be_positive_their_signs_are_kept(name):
    f, slope, at = PARTLY_POSITIVE[name]
    assert compare_gradients(f, slope, at).correct is True
    assert compare_gradients(f, lambda p: 1.001 * slope(p), at).correct is False


def test_weights_of_one_sign_may_hide_a_mistake():
    f = lambda w, x: jnp.sum(jax.nn.relu(x @ w) ** 2)  # noqa: E731
    x = jnp.abs(X)
    right, unmasked = (lambda w, x: 2 * x.T @ jax.nn.relu(x @ w)), (lambda w, x: 2 * x.T @ (x @ w))
    assert compare_gradients(f, right, POSITIVE, x).correct is True
    report = compare_gradients(f, unmasked, POSITIVE, x)
    assert report.correct is None
    assert "at a point where weights change sign" in report.headline


CLIPPED = jnp.asarray(RNG.uniform(0.05, 0.95, (3, 3)), jnp.float32)


def test_what_is_found_only_where_probabilities_are_negative_is_a_note():
    def loss(p):
        q = jnp.clip(p, 1e-7, 1 - 1e-7)
        return -jnp.sum(jnp.log(q) * jnp.eye(3))

    slope = lambda p: -jnp.eye(3) / p  # noqa: E731
    report = compare_gradients(loss, slope, CLIPPED)
    assert report.correct is True
    assert any("say within={...}" in note for note in report.notes)
    within = compare_gradients(loss, slope, CLIPPED, within={"p": (0, 1)})
    assert within.correct is True
    assert within.notes == []
    assert_gradients_match(loss, slope, CLIPPED, within={"p": (0, 1)})


WITHIN = {
    "q": ((0, 1), "within: 'q' is neither an argument nor a parameter; there are p['a'], x"),
    "p['a']": ((0, 0.1), "within: p['a'] is said to be in (0, 0.1), and holds 0.5"),
    "x": ((1, 0), "within: x wants (low, high), such as (0, 1), got (1, 0)"),
}


@pytest.mark.parametrize("name", WITHIN)
def test_an_interval_that_makes_no_sense_is_refused(name):
    ends, sentence = WITHIN[name]
    with pytest.raises(BadCall) as refused:
        compare_gradients(
            lambda p, x: jnp.sum(p["a"] * x), lambda p, x: {"a": x}, {"a": 0.5}, 1.0, within={name: ends}
        )
    assert str(refused.value) == sentence


@pytest.mark.parametrize("signs", [1, 6, 7])  # at 0 the weights would be positive, and stay so
def test_a_unit_that_is_off_is_seen_with_its_signs_turned(signs):
    """Whatever the random weights are: off at w, a relu is on at −w."""
    x = jnp.array([1.0 if signs >> k & 1 else -1.0 for k in range(3)])
    f = lambda w: jnp.sum(jax.nn.relu(w @ x) ** 2)  # noqa: E731
    w = (-0.4 * x * jnp.array([1.0, 0.9, 1.3]))[None]
    slope = lambda w: 2 * jnp.outer(jax.nn.relu(w @ x), x)  # noqa: E731
    assert compare_gradients(f, slope, w).correct is True
    assert compare_gradients(f, lambda w: 1.01 * slope(w), w).correct is False


def test_better_than_autodiff_is_praised():
    """Autodiff of the slide's loss is not even finite where the output is saturated."""
    report = compare_gradients(loss, right, jax.tree.map(lambda p: 30 * p, P), 3 * X, Y)
    assert (report.correct, report.accurate) == (True, True)
    assert any("more accurate than autodiff" in note for note in report.notes)


def through_the_output(p, x, y):
    """dJ/dŶ times g′(Z), as two steps: 0 · ∞ where the output is saturated."""
    a = jax.nn.sigmoid(x @ p["W"].T + p["b"].T)
    dz = ((1 - y) / (1 - a) - y / a) / x.shape[0] * a * (1 - a)
    return {"W": dz.T @ x, "b": jnp.sum(dz.T, axis=1, keepdims=True)}


def test_where_neither_side_is_finite_nothing_can_tell():
    saturated = jax.tree.map(lambda p: 30 * p, P)
    assert compare_gradients(loss, through_the_output, P, X, Y).correct is True
    report = compare_gradients(loss, through_the_output, saturated, 3 * X, Y)
    assert (report.correct, report.accurate) == (None, None)
    assert "is nan by hand and nan by autodiff" in report.headline
    assert any("they agree: right at a point with" in note for note in report.notes)

    def finite(p, x, y):
        z = x @ p["W"].T + p["b"].T
        return jnp.mean(jnp.sum(jnp.logaddexp(0.0, z) - y * z, axis=1))

    assert compare_gradients(finite, through_the_output, saturated, 3 * X, Y).correct is False


def test_the_same_infinity_on_both_sides_is_no_riddle():
    root = lambda x: jnp.sum(jnp.sqrt(x))  # noqa: E731
    x = jnp.array([0.0, 1.0, 4.0])
    assert compare_gradients(root, lambda x: 0.5 / jnp.sqrt(x), x).correct is True
    assert compare_gradients(root, lambda x: 0.5 * x / x**1.5, x).correct is None


def test_a_right_formula_may_be_computed_badly():
    stable = lambda z: jnp.sum(jnp.logaddexp(z, 0.0))  # noqa: E731
    cancelling = lambda z: 1 - 1 / (1 + jnp.exp(z))  # noqa: E731
    report = compare_gradients(stable, cancelling, jnp.array([-20.0, 1.0], jnp.float32))
    assert (report.correct, report.accurate) == (True, False)
    (leaf,) = report.leaves
    assert leaf.index == (0,)
    assert leaf.ulps > 1e6 > 2 > leaf.autodiff_ulps
    assert "the formula is right, but in float32" in report.headline


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_every_precision_has_its_own_ulps(dtype):
    with jax.enable_x64(dtype == "float64"):
        args = jax.tree.map(lambda v: v.astype(dtype), (P, X, Y))
        report = compare_gradients(loss, right, *args)
    assert (report.correct, report.accurate, report.dtype) == (True, True, dtype)


def test_numbers_are_judged_in_every_parameter_however_large():
    """A right formula that cancels, in the second parameter, whose gradient is larger than the first's."""
    f = lambda p: 1e-3 * jnp.sum(p[0]) + jnp.sum(p[1] ** 2)  # noqa: E731
    cancelling = lambda p: (1e-3 + 0 * p[0], (2 * p[1] + 1e5) - 1e5)  # noqa: E731
    p = (jnp.array([1.0, 2.0]), jnp.array([0.3, 0.7, 1.9]))
    report = compare_gradients(f, cancelling, p)
    assert [report.correct, report.accurate] == [True, False]
    assert [leaf.accurate for leaf in report.leaves] == [True, False]


def test_many_parameters_are_not_all_listed():
    p = {f"w{k}": jnp.arange(2.0) + k for k in range(12)}
    f = lambda p: sum(jnp.sum(jnp.sin(w) ** 2) for w in p.values())  # noqa: E731
    by_hand = lambda p: {k: jnp.cos(w) + (0 if k == "w0" else 0.1) for k, w in p.items()}  # noqa: E731
    (cause, *_) = compare_gradients(f, by_hand, p).causes
    assert len(cause.sentence) < 200
    assert len(cause.where) < 80


def test_one_array_is_called_by_its_name():
    report = compare_gradients(
        lambda z: jnp.sum(jnp.sin(z) ** 2), lambda z: jnp.cos(z) + 0.1, jnp.arange(3.0)
    )
    assert report.causes[0].where == "z"
    assert "of z" in report.headline
    assert report.causes[0].equation == ""


def test_a_factor_that_is_an_argument_is_told():
    f = lambda x, s: jnp.sum(jnp.tanh(x * s))  # noqa: E731
    report = compare_gradients(f, lambda x, s: 1 - jnp.tanh(x * s) ** 2, jnp.arange(3.0), 1.5)
    assert "1/(s) times" in report.headline


def test_low_precision_inside_is_named():
    def rounded(*args):
        return jax.tree.map(lambda g: g.astype(jnp.bfloat16).astype(jnp.float32), right(*args))

    report = compare_gradients(loss, rounded, P, X, Y)
    assert (report.correct, report.accurate) == (False, None)
    assert [c.id for c in report.causes] == ["low-precision"]
    assert "test_compare_gradients.py:" in report.causes[0].where


def test_the_precision_of_the_caller_is_no_fault():
    def pinned(p, x, y):
        dz = right(p, x.astype(jnp.float32), y.astype(jnp.float32))
        return jax.tree.map(lambda g: g.astype(jnp.float32), dz)

    assert compare_gradients(loss, pinned, P, X, Y).correct is True


def test_mixed_precision_on_both_sides_is_looked_past():
    def mixed(w, x):
        return jnp.sum((x.astype(jnp.bfloat16) @ w.astype(jnp.bfloat16)).astype(jnp.float32) ** 2)

    def by_hand(w, x):
        low = x.astype(jnp.bfloat16)
        z = (low @ w.astype(jnp.bfloat16)).astype(jnp.float32)
        return (low.T @ (2 * z).astype(jnp.bfloat16)).astype(jnp.float32)

    report = compare_gradients(mixed, by_hand, W[0], X)
    assert report.correct is True
    assert any("bfloat16" in note for note in report.notes)


def test_state_is_found_even_where_all_calls_agree():
    """In bfloat16 two points near each other have gradients that pass for equal."""
    before = []

    def gradient(w):
        before.append(w)
        return 2 * before[max(len(before) - 2, 0)]

    report = compare_gradients(lambda w: jnp.sum(w**2), gradient, jnp.ones(3, jnp.bfloat16))
    assert report.correct is False
    assert [c.id for c in report.causes] == ["stale"]


def test_state_between_calls_is_found():
    total = {}

    def accumulating(*args):
        for k, g in right(*args).items():
            total[k] = total.get(k, 0) + g
        return dict(total)

    kept = []

    def keeping(p, x, y):
        kept.append((p, x, y))
        return right(*kept[0])

    previous = []

    def lagging(*args):
        previous.append(args)
        return right(*previous[max(len(previous) - 2, 0)])

    def drawing(*args):
        return jax.tree.map(lambda g: jnp.where(np.random.random(g.shape) < 0.5, g, 0), right(*args))

    found = [compare_gradients(loss, g, P, X, Y) for g in (accumulating, keeping, lagging, drawing)]
    assert [r.correct for r in found] == [False] * 4
    assert [r.causes[0].id for r in found] == ["accumulated", "stale", "stale", "mask-resampled"]
    assert [r.probes[0].passed for r in found] == [False, True, False, False]


def test_saved_values_are_judged_where_they_belong():
    saved = right(P, X, Y)
    report = compare_gradients(loss, lambda *args: saved, P, X, Y)
    assert report.correct is True
    assert any("does not depend on its arguments" in note for note in report.notes)
    assert compare_gradients(loss, lambda *args: scaled(1.1)(P, X, Y), P, X, Y).correct is False


def test_a_parameter_that_plays_no_part_has_a_gradient_of_zeros():
    report = compare_gradients(lambda p: jnp.sum(p[0] ** 2), lambda p: (2 * p[0], 0 * p[1]), (W, B + 1))
    assert [leaf.correct for leaf in report.leaves] == [True, True]
    assert (report.leaves[1].error, report.leaves[1].bound, report.leaves[1].ratio) == (0, 0, 0)
    wrong = compare_gradients(lambda p: jnp.sum(p[0] ** 2), lambda p: (2 * p[0], p[1]), (W, B + 1))
    assert [leaf.correct for leaf in wrong.leaves] == [True, False]
    assert wrong.leaves[1].ratio > 1e100


def test_data_may_be_closed_over_in_other_forms():
    transposed, third = X.T, jnp.float32(1 / 3)

    def tripled(p):
        return 3 * loss(p, X, Y)

    def by_hand(p):
        return jax.tree.map(lambda g: g / third, right(p, transposed.T, Y))

    assert compare_gradients(tripled, by_hand, P).correct is True


def test_pivots_that_are_sure_leave_a_determinant_to_be_told():
    a = jnp.asarray(RNG.normal(size=(4, 4)) + 3 * np.eye(4), jnp.float32)
    by_hand = lambda a: np.linalg.det(a) * np.linalg.inv(a).T  # noqa: E731
    assert compare_gradients(jnp.linalg.det, by_hand, a).correct is True
    assert compare_gradients(jnp.linalg.det, lambda a: by_hand(a).T, a).correct is False


def test_random_draws_are_the_same_on_both_sides():
    def noisy(w, key):
        return jnp.sum((X @ w * jax.random.normal(key, (N,))) ** 2)

    def by_hand(w, key):
        return X.T @ (2 * (X @ w) * jax.random.normal(key, (N,)) ** 2)

    key = jax.random.key(3)
    assert compare_gradients(noisy, by_hand, W[0], key).correct is True
    assert compare_gradients(noisy, lambda w, key: 1.001 * by_hand(w, key), W[0], key).correct is False


def test_loops_too_long_to_read_are_only_called(monkeypatch):
    monkeypatch.setattr(interpreter, "STEPS", 50)

    def iterated(w):
        return jnp.sum(jax.lax.scan(lambda c, _: (jnp.sin(c) + w, None), w, None, length=40)[0])

    def by_hand(w):
        def step(carry, _):
            c, d = carry
            return (jnp.sin(c) + w, jnp.cos(c) * d + 1), None

        return jax.lax.scan(step, (w, jnp.ones_like(w)), None, length=40)[0][1]

    assert compare_gradients(iterated, by_hand, W[0]).correct is True
    assert compare_gradients(iterated, lambda w: 1.001 * by_hand(w), W[0]).correct is False


def test_roundings_that_go_one_way_are_allowed_for(monkeypatch):
    """Autodiff multiplies 70,000 times by a number that is not quite 1 − 1e-5."""
    monkeypatch.setattr(interpreter, "STEPS", 500)  # is it soon given up?
    decayed = lambda w: jnp.sum(jax.lax.fori_loop(0, 70_000, lambda _, c: c * 0.99999, w))  # noqa: E731
    exact = lambda w: jnp.full_like(w, 0.99999**70_000)  # noqa: E731
    assert compare_gradients(decayed, exact, W[0]).correct is True
    assert compare_gradients(decayed, lambda w: (1 + 1e-6) * exact(w), W[0]).correct is False


def test_several_arguments_and_containers():
    f = lambda a, s, b: jnp.sum(a[0] * b**2) + jnp.sum(a[1]) * s  # noqa: E731
    by_hand = lambda a, s, b: ([b**2, jnp.full(2, s)], 2 * a[0] * b)  # noqa: E731
    args = ((jnp.ones(3), jnp.ones(2)), 2.0, jnp.arange(1.0, 4.0))
    report = compare_gradients(f, by_hand, *args, argnums=(0, 2))
    assert report.correct is True
    assert [leaf.path for leaf in report.leaves] == ["a[0]", "a[1]", "b"]
    named = compare_gradients(f, by_hand, *args, argnums=(0, 2), names=("one", "two", "three"))
    assert [leaf.path for leaf in named.leaves] == ["one", "two", "three"]


def test_arguments_that_decide_what_is_computed():
    f = lambda x, square: x**2 if square else x  # noqa: E731
    assert compare_gradients(f, lambda x, square: 2 * x, 3.0, True).correct is True
    assert compare_gradients(f, lambda x, square: 2 * x, 3.0, False).correct is False


def test_the_cost_of_both_sides_is_shown():
    cost = compare_gradients(loss, right, P, X, Y).cost
    assert cost["hand"].equations > 5
    assert cost["hand"].flops >= 2 * 2 * N * OUT * IN
    assert cost["autodiff"].flops >= 2 * 2 * N * OUT * IN


def test_compiled_values_that_are_others_are_seen():
    """In the second parameter only, and only where it is compiled."""

    def gradient(p):
        traced = isinstance(p[1], jax.core.Tracer)
        return 2 * p[0], 2 * p[1] if traced else 2.001 * np.asarray(p[1])

    f = lambda p: jnp.sum(p[0] ** 2) + jnp.sum(p[1] ** 2)  # noqa: E731
    report = compare_gradients(f, gradient, (W, B + 1.5))
    assert {p.name: p.passed for p in report.probes}["jit"] is False


def test_a_slow_batch_rule_is_no_mistake_but_a_wrong_one_is_seen():
    @jax.custom_batching.custom_vmap
    def doubled(x):
        return 2 * x

    @doubled.def_vmap
    def _(size, batched, x):
        return 3 * x, True

    report = compare_gradients(lambda x: jnp.sum(x**2), lambda x: doubled(x), W[0])
    assert {p.name: p.passed for p in report.probes}["vmap"] is False
    assert report.correct is True


BAD = {
    "gradient raised ZeroDivisionError": (loss, lambda *a: 1 / 0, (P, X, Y)),
    r"p\['W'\] is int32": (loss, right, (jax.tree.map(lambda p: p.astype(int), P), X, Y)),
    r"x\[3, 2\] is nan": (loss, right, (P, X.at[3, 2].set(jnp.nan), Y)),
    r"p\['W'\]\[0, 0\] is inf": (loss, right, ({"W": W.at[0, 0].set(jnp.inf), "b": B}, X, Y)),
    r"scalar, got shape \(7, 3\)": (lambda p, x, y: x @ p["W"].T, right, (P, X, Y)),
    "one number, got tuple": (lambda *a: (loss(*a), 1), right, (P, X, Y)),
    "without b": (loss, lambda *a: {"W": right(*a)["W"]}, (P, X, Y)),
    "with c that is no parameter": (loss, lambda *a: right(*a) | {"c": 1.0}, (P, X, Y)),
    "transposed": (loss, lambda *a: right(*a) | {"W": right(*a)["W"].T}, (P, X, Y)),
    r"shape \(3,\) for p\['b'\]": (loss, lambda *a: right(*a) | {"b": jnp.ones(3)}, (P, X, Y)),
    "a list of 3 with 12 arrays": (loss, lambda *a: jax.tree.map(lambda g: g.tolist(), right(*a)), (P, X, Y)),
    "returned None": (loss, lambda *a: None, (P, X, Y)),
    "dtype int32 for": (loss, lambda *a: jax.tree.map(lambda g: g.astype(int), right(*a)), (P, X, Y)),
    "must be a function, got dict": (loss, right(P, X, Y), (P, X, Y)),
    "cannot be traced by JAX": (lambda p, x, y: float(p["W"][0, 0]), right, (P, X, Y)),
    "loss raised ValueError: no": (lambda *a: (_ for _ in ()).throw(ValueError("no")), right, (P,)),
    "no arguments": (loss, right, ()),
    r"those of 2 arguments, and argnums=0 names one; say argnums=\(0, 1\)": (
        loss,
        lambda *a: (right(*a), a[1]),
        (P, X, Y),
    ),
    "a pair, perhaps of loss and gradient": (loss, lambda *a: (loss(*a), right(*a)), (P, X, Y)),
    r"p\['W'\] is ndarray of object, which JAX": (loss, right, ({"W": np.asarray(W, object), "b": B}, X, Y)),
    "raised SystemExit: no": (loss, lambda *a: (_ for _ in ()).throw(SystemExit("no")), (P, X, Y)),
}


@pytest.mark.parametrize("sentence", BAD)
def test_a_bad_call_gets_one_clear_sentence(sentence):
    f, gradient, args = BAD[sentence]
    if "<lambda>" not in sentence:
        if callable(gradient):
            gradient.__name__ = "gradient"
        f = f if f is loss else _named(f)
    with pytest.raises(BadCall, match=sentence) as raised:
        compare_gradients(f, gradient, *args)
    assert "\n" not in str(raised.value)


LONG = "labels must sum to 1,\n  got 3" + " and so on" * 50


def refuse(w):
    raise ValueError(LONG)


def decode(w):
    return json.loads("{")


REFUSED = {
    "the loss refuse raised ValueError": (refuse, lambda w: w, refuse),
    "the gradient refuse raised ValueError": (lambda w: jnp.sum(w**2), refuse, refuse),
    "the gradient decode raised JSONDecodeError": (lambda w: jnp.sum(w**2), decode, decode),
}


@pytest.mark.parametrize("compare", [compare_gradients, assert_gradients_match])
@pytest.mark.parametrize("sentence", REFUSED)
def test_what_the_callers_own_code_raises_is_kept_whole_with_its_line(sentence, compare):
    """Its own line, though a library raised."""
    f, gradient, raising = REFUSED[sentence]
    with pytest.raises(BadCall) as raised:
        compare(f, gradient, jnp.ones(3))
    said, cause = str(raised.value), raised.value.__cause__
    line = raising.__code__.co_firstlineno + 1
    assert said.startswith(sentence)
    assert said.endswith(f"(test_compare_gradients.py:{line}, in {raising.__name__})")
    assert (" ".join(LONG.split()) in said) is (raising is refuse)
    assert "jaxnn/gradcheck" not in cause.__traceback__.tb_frame.f_code.co_filename


def test_where_a_loss_cannot_be_traced_is_said():
    def loss(w):
        return float(w[0])

    with pytest.raises(
        BadCall, match=rf"\(test_compare_gradients.py:{loss.__code__.co_firstlineno + 1}, in loss\)"
    ):
        compare_gradients(loss, lambda w: w, jnp.ones(3))


def test_the_exceptions_can_be_sent_to_another_process():
    again = pickle.loads(pickle.dumps(BadCall("no")))
    assert (type(again), str(again)) == (BadCall, "no")
    wrong = GradientMismatch(compare_gradients(lambda w: jnp.sum(w**2), lambda w: w, SOME))
    again = pickle.loads(pickle.dumps(wrong))
    assert (type(again), str(again), again.report) == (GradientMismatch, str(wrong), wrong.report)


def _named(f):
    f.__name__ = "loss"
    return f


@pytest.mark.parametrize("argnums", [7, (0, 9), (), (1, 1)])
def test_argnums_that_number_nothing(argnums):
    with pytest.raises(BadCall, match=r"argnums|no arrays"):
        compare_gradients(loss, right, P, X, Y, argnums=argnums)


def test_lists_for_tuples_and_prints_are_put_up_with(capsys):
    def printing(p):
        print("here I am")
        return [2 * p[0], 3 * p[1] ** 2]

    report = compare_gradients(lambda p: jnp.sum(p[0] ** 2) + p[1] ** 3, printing, (W, 2.0))
    assert report.correct is True
    assert any("printed" in note for note in report.notes)
    assert capsys.readouterr().out == ""


def test_arguments_are_not_written_into():
    x = np.array([1.0, 2.0], np.float32)

    def careless(v):
        v *= 2
        return v

    report = compare_gradients(lambda v: jnp.sum(v**2), careless, x)
    assert np.array_equal(x, [1.0, 2.0])
    assert {p.name: p.passed for p in report.probes}["arguments"] is False


def test_empty_arrays_have_empty_gradients():
    report = compare_gradients(lambda p: jnp.sum(p[0]) + jnp.sum(p[1] ** 2), lambda p: (p[0], 2 * p[1]),
                               (jnp.zeros((0, 3)), W))  # fmt: skip
    assert [leaf.correct for leaf in report.leaves] == [True, True]
    assert "0×3" in str(report)


def test_a_gradient_that_calls_python_is_only_called():
    def doubled(w):
        shape = jax.ShapeDtypeStruct(w.shape, jnp.float32)
        return jax.pure_callback(lambda v: np.asarray(2 * v, np.float32), shape, w)

    report = compare_gradients(lambda w: jnp.sum(w**2), doubled, W)
    assert report.correct is True
    assert any("calls Python by pure_callback" in note for note in report.notes)
    assert compare_gradients(lambda w: jnp.sum(w**2), lambda w: 1.0001 * doubled(w), W).correct is False


def test_the_assertion_is_one_line():
    assert_gradients_match(loss, right, P, X, Y)
    with pytest.raises(GradientMismatch) as raised:
        assert_gradients_match(loss, scaled(2.0), P, X, Y)
    assert str(raised.value) == str(raised.value.report)
    assert "factor" in str(raised.value).splitlines()[0] or "2" in str(raised.value).splitlines()[0]


def test_the_text_fits_a_terminal_and_says_what_to_change_in_three_lines():
    report = compare_gradients(loss, scaled(2.0), P, X, Y)
    brief, verbose = str(report).splitlines(), report.to_text(verbose=True).splitlines()
    assert max(map(len, brief + verbose)) <= 80
    assert brief[:3] == verbose[:3]
    assert brief[0].startswith("p['W'] and p['b'] wrong: factor-two (sure): ")
    assert brief[1:3] == ["  should be: a stray 2", "  right: dJ/dZ has the constant that J has, no other"]
    assert not re.search("ULP|bound|FLOP|vmap", str(report))
    assert all(re.search(word, "\n".join(verbose)) for word in ("ULPs", "err/bound", "FLOP", "jit"))


def test_long_names_and_sentences_are_wrapped():
    p = {f"a_parameter_of_a_long_name_{k}" * 4: jnp.arange(2.0) + k for k in range(3)}
    f = lambda p: sum(jnp.sum(jnp.sin(w) ** 2) for w in p.values())  # noqa: E731
    report = compare_gradients(f, lambda p: {k: jnp.cos(w) for k, w in p.items()}, p)
    assert max(map(len, report.to_text(verbose=True).splitlines())) <= 80


SUITE = """
import jax.numpy as jnp
from jaxnn.gradcheck import assert_gradients_match

def test_gradient():
    x = jnp.arange(12.0).reshape(4, 3)
    loss = lambda W1, x: jnp.mean((x @ W1) ** 2)
    assert_gradients_match(loss, lambda W1, x: 2 * x.T @ (x @ W1), jnp.ones(3), x, names=["kernel"])

def test_call():
    assert_gradients_match(jnp.sum, lambda W1: W1[:1], jnp.ones(3))
"""


def test_the_summary_of_a_test_run_begins_with_the_parameter_and_the_cause(tmp_path):
    (tmp_path / "test_net.py").write_text(SUITE)
    env = {k: v for k, v in os.environ.items() if k not in ("CI", "BUILD_NUMBER")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_net.py"],
        capture_output=True, encoding="utf-8", cwd=tmp_path, env=env | {"COLUMNS": "80", "PYTHONPATH": ROOT},
    )  # fmt: skip
    gradient, call = re.findall(r"^FAILED test_net.py::(.*)", done.stdout, re.MULTILINE)
    assert gradient.startswith("test_gradient - Mismatch: kernel wrong: missing-mean")
    assert call.startswith("test_call - BadCall: the gradient <lambda> returned sh")
    assert "jaxnn.gradcheck" not in gradient + call


def partly(w):
    return 3 * jnp.tanh(w) ** 2 * jax.vmap(jax.grad(jnp.tanh))(w)


@pytest.mark.parametrize(
    ("gradient", "note"),
    [
        (jax.grad(lambda w: jnp.sum(jnp.tanh(w) ** 3)), "is autodiff itself: comparing it tests nothing"),
        (jax.jit(jax.grad(lambda w: 1.0 * jnp.sum(jnp.tanh(w) ** 3))), "is autodiff itself"),
        (partly, "calls autodiff for a part of it"),
        (lambda w: 3 * jnp.tanh(w) ** 2 * (1 - jnp.tanh(w) ** 2), ""),
    ],
)
def test_a_gradient_that_is_autodiff_itself_is_told_so(gradient, note):
    report = compare_gradients(lambda w: jnp.sum(jnp.tanh(w) ** 3), gradient, SOME)
    assert report.correct is True
    assert [n for n in report.notes if "autodiff" in n and note and note in n] == report.notes


def test_json_holds_everything_and_is_json():
    lost = lambda *args: jax.tree.map(lambda g: g * jnp.nan, right(*args))  # noqa: E731
    report = json.loads(compare_gradients(loss, lost, P, X, Y).to_json())
    assert report["correct"] is False
    assert report["accurate"] is report["leaves"][0]["accurate"] is None
    assert report["leaves"][0]["hand"] == "nan"
    assert set(report) >= {"headline", "accurate", "causes", "probes", "cost", "points", "notes"}


def test_the_page_is_one_file_with_a_picture_for_each_parameter(tmp_path):
    page = tmp_path / "report.html"
    compare_gradients(loss, scaled(2.0), P, X, Y).to_html(page)
    text = page.read_text(encoding="utf-8")
    assert text.count('alt="error of') == 2
    assert set(re.findall(r'src="(.{14})', text)) == {"data:image/png"}
    assert not re.search("href=|@import|<script", text)
    assert "wrong" in text
    assert re.search(rf"20\d\d, .* jax {jax.__version__}.*Python {platform.python_version()}", text)
    assert "prefers-color-scheme:dark" in text


def test_a_notebook_shows_the_page():
    shown = compare_gradients(loss, scaled(2.0), P, X, Y)._repr_html_()
    inner = html.unescape(re.fullmatch(r'<iframe srcdoc="([^"]*)" style="[^"]*"></iframe>', shown)[1])
    assert inner.startswith("<!doctype html>")
    assert len(shown) < 20_000


def test_the_steps_handed_in_show_the_faulty_one():
    def squared(w, x, y):
        return jnp.sum((jnp.tanh(x @ w.T) - y) ** 2)

    def steps(w, x, y):
        a = jnp.tanh(x @ w.T)
        da = 2 * (a - y)
        return {"dA1": da, "dZ1": da * (1 - a)}  # 1 − a² was meant

    def gradient(w, x, y):
        return steps(w, x, y)["dZ1"].T @ x

    report = compare_gradients(squared, gradient, W, X, Y, steps=steps)
    assert [s.step for s in report.steps] == ["dZ1"]


@pytest.mark.parametrize("how", ["array", "table", "entry"])
def test_a_gradient_that_writes_into_its_arguments_is_said_to(how):
    def gradient(p, x):
        g = 2 * p["w"]
        if how == "array":
            x[0] = 7
        elif how == "table":
            p["w"] = p["w"] - 0.1 * g
        else:
            p["more"] = g
        return {"w": g}

    report = compare_gradients(
        lambda p, x: jnp.sum(p["w"] ** 2) + 0 * jnp.sum(x), gradient, {"w": jnp.arange(1.0, 4)}, np.ones(2)
    )
    assert "writes into its arguments" in report.headline


def test_a_bad_call_in_a_test_shows_its_sentence_only():
    with pytest.raises(BadCall, match="returned") as caught:
        assert_gradients_match(lambda w: jnp.sum(w**2), lambda w: w[:1], jnp.ones(3))
    assert len(caught.traceback) == 2


GELU = (2 / np.pi) ** 0.5


def gelu_gradient(c, called_only):
    """Of sum(gelu(x w)), with √(2/π) written as c."""

    def gradient(w, x):
        z = x @ w
        t = jnp.tanh(c * (z + 0.044715 * z**3))
        dw = x.T @ ((1 + t) / 2 + z / 2 * (1 - t**2) * c * (1 + 3 * 0.044715 * z**2))
        return np.array(dw) if called_only else dw

    return gradient


@pytest.mark.parametrize(
    ("c", "dtype", "correct", "called_only"),
    [
        (0.7978845608, "float32", True, False),
        (0.7978845608, "float32", True, True),
        (0.79788456, "bfloat16", True, False),
        (0.7978845608, "float64", False, False),
        (0.79788, "float32", False, False),
        (0.79788, "float32", False, True),
    ],
)
def test_a_number_with_few_digits_is_right_where_the_dtype_has_no_more(c, dtype, correct, called_only):
    x = np.random.default_rng(0).normal(size=(7, 3))
    loss = lambda w, x: jnp.sum(jax.nn.gelu(x @ w))  # noqa: E731
    with jax.enable_x64(dtype == "float64"):
        args = jnp.asarray([0.3, -0.7, 1.1], dtype), jnp.asarray(x, dtype)
        report = compare_gradients(loss, gelu_gradient(c, called_only), *args)
        exact = compare_gradients(loss, gelu_gradient(GELU, called_only), *args)
    assert report.correct is correct
    assert ("few digits" in str(report)) is correct
    assert exact.correct is True
    assert "few digits" not in str(exact)


def test_a_number_with_too_few_digits_is_named():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(7, 3)), jnp.float32)
    loss = lambda w, x: jnp.sum(jax.nn.gelu(x @ w))  # noqa: E731
    report = compare_gradients(loss, gelu_gradient(0.7979, False), jnp.array([0.3, -0.7, 1.1]), x)
    assert "0.7979 stands in the gradient where the loss has 0.79788456" in report.causes[0].sentence
    assert report.causes[0].confidence == LIKELY


def test_what_holds_but_for_the_rounding_of_the_data_is_right():
    """dZ = Ŷ − Y takes it that the probabilities in a row of Y sum to 1."""
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(7, 3)), rng.dirichlet(np.ones(4), size=7)
    loss = lambda W, X, Y: -jnp.sum(Y * jax.nn.log_softmax(X @ W.T))  # noqa: E731
    gradient = lambda W, X, Y: (jax.nn.softmax(X @ W.T) - Y).T @ X  # noqa: E731
    args = (jnp.asarray(array, jnp.float32) for array in (rng.normal(size=(4, 3)), X, Y))
    report = compare_gradients(loss, gradient, *args)
    assert report.correct is True
    assert "few digits explain, in the code or the data" in " ".join(str(report).split())


def test_a_term_that_is_missing_and_too_small_to_show_is_found_at_other_data():
    X = jnp.asarray(1e5 * np.random.default_rng(0).normal(size=(7, 3)), jnp.float32)
    loss = lambda w, X: jnp.mean((X @ w) ** 2) + 0.1 * jnp.sum(w**2)  # noqa: E731
    gradient = lambda w, X: 2 * X.T @ (X @ w) / 7  # noqa: E731
    report = compare_gradients(loss, gradient, jnp.array([0.3, -0.7, 1.1]), X)
    assert report.correct is False


def test_no_name_is_said_twice():
    """The gradient that jax.grad returns has the loss's name, and many call them loss and gradient."""

    def loss(x):
        return jnp.sum(x**3)

    assert (
        compare_gradients(loss, jax.grad(loss), np.array([1.0, 2.0])).headline
        == "the gradient is that of loss"
    )

    def gradient(x):
        raise ValueError("no")

    with pytest.raises(BadCall, match=r"^the gradient raised ValueError: no"):
        compare_gradients(loss, gradient, np.array([1.0, 2.0]))

    def loss(x):
        raise ValueError("no")

    with pytest.raises(BadCall, match=r"^the loss raised ValueError: no"):
        compare_gradients(loss, gradient, np.array([1.0, 2.0]))


@pytest.mark.parametrize("apart", [0.05, 0.02])
def test_labels_of_a_teacher_that_is_near_leave_the_right_gradient_right(apart):
    """All that is left of Ŷ − Y is little more than the rounding of Y."""
    rng = np.random.default_rng(1)
    W, X = rng.normal(size=(4, 3)).astype(np.float32), rng.normal(size=(9, 3)).astype(np.float32)
    Y = jax.nn.softmax(X @ W.T)
    loss = lambda W, X, Y: -jnp.sum(Y * jax.nn.log_softmax(X @ W.T))  # noqa: E731
    gradient = lambda W, X, Y: (jax.nn.softmax(X @ W.T) - Y).T @ X  # noqa: E731
    args = (1 + apart) * W, X, Y
    assert compare_gradients(loss, gradient, *args).correct is True
    off = compare_gradients(loss, lambda *args: (1 + 3e-6) * gradient(*args), *args)
    assert off.correct is False


def test_a_loss_that_insists_on_float32_is_judged_elsewhere():
    """U is symmetric where it is given, and so is what the gradient takes for it."""
    x = jnp.asarray(np.random.default_rng(2).normal(size=(6, 3)), jnp.float32)

    def loss(p):
        turn = lambda h, a: (jnp.tanh(p["W"] @ a + p["U"] @ h), None)  # noqa: E731
        return jnp.sum(jax.lax.scan(turn, jnp.zeros(4, jnp.float32), x)[0] ** 2)

    def gradient(p):
        return jax.grad(loss)(p | {"U": (p["U"] + p["U"].T) / 2})

    p = {"W": jnp.asarray(0.3 * np.random.default_rng(3).normal(size=(4, 3)), jnp.float32)}
    report = compare_gradients(loss, gradient, p | {"U": 0.3 * jnp.eye(4)})
    assert report.correct is False


def test_a_gradient_may_refuse_points_of_other_signs():
    x = np.random.default_rng(4).normal(size=(5, 3)).astype(np.float32)

    def gradient(w):
        if np.all(w > 0) and np.max(w) > 0.2:
            raise ValueError("refused")
        return 3 * x.T @ (x @ np.asarray(w)) ** 2 * (1.0 if np.all(w > 0) else 1.5)

    report = compare_gradients(lambda w: jnp.sum((x @ w) ** 3), gradient, jnp.full((3, 2), 1e-3))
    assert report.correct is not True


def test_a_loop_that_carries_a_key_is_read_under_vmap():
    def drawn(key, n):
        turn = lambda s: (jax.random.split(s[0])[0], s[1] + 1)  # noqa: E731
        return jax.lax.while_loop(lambda s: s[1] < n, turn, (key, 0))[0]

    def loss(w):
        keys = jax.vmap(drawn)(jax.random.split(jax.random.key(0), 3), jnp.array([1, 2, 3]))
        return jnp.sum(w * jax.vmap(jax.random.normal)(keys))

    assert compare_gradients(loss, jax.grad(loss), jnp.array([1.0, 2.0, 3.0])).correct is True


@pytest.mark.parametrize("called_only", [False, True])
def test_a_size_that_is_mistaken_for_another_is_seen_at_other_sizes(called_only):
    """As many examples as features."""
    rng = np.random.default_rng(5)
    W, X, Y = (rng.normal(size=s).astype(np.float32) for s in ((3, 5), (5, 5), (5, 3)))
    loss = lambda W, X, Y: jnp.mean(jnp.sum((X @ W.T - Y) ** 2, axis=1)) / 2  # noqa: E731

    def gradient(W, X, Y):
        dW = (X @ W.T - Y).T @ X / X.shape[1]
        return np.array(dW) if called_only else dW

    report = compare_gradients(loss, gradient, W, X, Y)
    assert report.correct is None
    assert "the same batch three times over" in report.headline


def test_a_batch_without_examples_ends_in_no_traceback():
    loss = lambda W, X, Y: jnp.sum(jnp.sum((X @ W.T - Y) ** 2, axis=1))  # noqa: E731
    gradient = lambda W, X, Y: 2 * (X @ W.T - Y).T @ X  # noqa: E731
    report = compare_gradients(loss, gradient, jnp.ones((3, 5)), jnp.ones((0, 5)), jnp.ones((0, 3)))
    assert report.correct is not False


def test_a_gradient_that_checks_its_data_is_asked_of_no_other():
    """As of labels that must sum to 1."""
    rng = np.random.default_rng(1)
    W, X = rng.normal(size=(4, 3)).astype(np.float32), rng.normal(size=(9, 3)).astype(np.float32)
    Y = np.asarray(jax.nn.softmax(X @ W.T))

    def gradient(W, X, Y):
        if not np.allclose(np.sum(Y, axis=1), 1, rtol=0, atol=1e-6):
            raise ValueError("labels must sum to 1")
        return np.asarray((jax.nn.softmax(X @ W.T) - Y).T @ X)

    loss = lambda W, X, Y: -jnp.sum(Y * jax.nn.log_softmax(X @ W.T))  # noqa: E731
    assert compare_gradients(loss, gradient, 1.02 * W, X, Y).correct is True
    twice = lambda *args: 2 * gradient(*args)  # noqa: E731
    assert compare_gradients(loss, twice, 1.02 * W, X, Y).correct is False
