"""Where autodiff is no measure: no number, flat, complex; corners where it is one all the same."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn.gradcheck import BadCall, compare_gradients, compare_vjp
from jaxnn.gradcheck.verdict.differences import slope

X = jnp.array([[0.0, 1.0], [2.0, -1.0], [0.5, 3.0]])
T = jnp.array([[0.0, 2.0, 1.0], [2.0, 0.0, 3.0], [1.0, 3.0, 0.0]])


def ruled(plain, backward):
    function = jax.custom_vjp(plain)
    function.defvjp(lambda x: (plain(x), x), lambda x, c: (backward(x, c),))
    return function


def apart(x):
    """The distances of all points, of each from itself too, where autodiff is 0 · ∞."""
    d = x[:, None] - x[None]
    return d, jnp.sqrt(jnp.sum(d * d, -1))


def spread(x, t):
    return jnp.mean((apart(x)[1] - t) ** 2)


def by_hand(x, t):
    d, r = apart(x)
    return 4 * jnp.sum(((r - t) / jnp.where(r > 0, r, 1))[..., None] * d, 1) / t.size


@pytest.mark.parametrize(("times", "correct"), [(1.0, True), (100.0, False)])
def test_differences_judge_where_autodiff_is_nowhere_a_number(times, correct):
    report = compare_gradients(spread, lambda x, t: times * by_hand(x, t), X, T)
    assert report.correct is correct
    assert report.estimated
    assert report.headline.startswith("autodiff is not finite at any point, for x; differences of the loss")


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_states_out_of_reach_are_no_kink_and_hide_nothing(kind):
    """A state that none leads to, in logarithms: autodiff is ∞ − ∞, by hand it is a softmax."""
    ways, ends = np.array([[0.3, -np.inf, -np.inf], [-0.4, 0.9, -np.inf]]), np.array([0.2, -1.1, 0.7])

    def loss(x):
        return jax.nn.logsumexp(jax.nn.logsumexp(x[:, None] + ways, axis=0) + ends)

    def gradient(x, ends=ends):
        total = x + np.log(np.exp(ways + ends).sum(axis=1)).astype(kind)
        shares = np.exp(total - total.max())
        return (shares / shares.sum()).astype(kind)

    x = np.array([0.5, -0.3], np.float32)
    assert not np.isfinite(jax.grad(loss)(x)).all()
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        assert compare_gradients(loss, gradient, x).correct is True
        assert compare_gradients(loss, lambda x: gradient(x, 0 * ends), x).correct is False


def test_a_slope_by_differences_is_within_its_bound_and_of_both_sides_at_a_kink():
    for f, right in ((math.sin, 1.0), (lambda t: math.exp(3 * t), 3.0), (lambda t: 7.0, 0.0)):
        value, error = slope(f, 2.0**-7)
        assert abs(value - right) <= error <= 1e-6
    value, error = slope(lambda t: max(t, 3 * t), 2.0**-7)
    assert value - error <= 1 <= 3 <= value + error
    assert not math.isfinite(slope(lambda t: math.nan, 2.0**-7)[0])


FLAT = {
    "round": (jnp.round, lambda x, c: c),
    "sign": (jnp.sign, lambda x, c: jnp.where(jnp.abs(x) <= 1, c, 0.0)),
    "spike": (lambda x: (x > 0).astype(x.dtype), lambda x, c: c / (1 + jnp.abs(x)) ** 2),
}
AT = jnp.array([-0.9, 0.1, 0.5, 0.0])  # 0.5 and 0 are steps


@pytest.mark.parametrize("name", FLAT)
def test_a_slope_given_to_a_flat_function_is_not_judged(name):
    plain, backward = FLAT[name]
    report = compare_vjp(ruled(lambda x: plain(x), backward), AT)
    assert report.correct is None
    assert report.causes == []
    assert "is flat in x, so autodiff is 0 and cannot judge" in report.headline
    assert "reference=" in report.headline
    assert max(leaf.ulps for leaf in report.leaves) == 0


def test_a_flat_function_is_judged_by_a_reference_and_zeros_are_right():
    through = ruled(lambda x: jnp.round(x), lambda x, c: c)
    assert compare_vjp(through, AT, reference=lambda x: x).correct is True
    assert compare_vjp(ruled(lambda x: jnp.round(x), lambda x, c: 0 * c), AT).correct is True


def test_what_is_cut_off_or_plays_no_part_is_not_flat():
    cut = lambda w: jnp.sum(jax.lax.stop_gradient(w) ** 2)  # noqa: E731
    assert compare_gradients(cut, lambda w: 2 * w, AT).correct is False


Z = jnp.array([1 + 2j, -0.5 + 1j])


def test_complex_numbers_are_refused_in_one_sentence():
    size = lambda z: jnp.sum(jnp.abs(z) ** 2)  # noqa: E731
    said = (
        "is complex64, and only real numbers are compared: write it as functions of real and imaginary parts"
    )
    for refused in (
        lambda: compare_gradients(size, lambda z: 2 * jnp.conj(z), Z),
        lambda: compare_vjp(ruled(size, lambda z, c: 2 * c * jnp.conj(z)), Z),
        lambda: compare_vjp(ruled(lambda x: jnp.fft.rfft(x), lambda x, c: x), AT),
    ):
        with pytest.raises(BadCall, match=said):
            refused()


def attention(s, m):
    return jnp.sum(jax.nn.softmax(s + m, -1) * jnp.arange(9.0).reshape(3, 3) ** 2)


def of_attention(s, m):
    p, d = jax.nn.softmax(s + m, -1), jnp.arange(9.0).reshape(3, 3) ** 2
    both = p * (d - jnp.sum(p * d, -1, keepdims=True))
    return both, both


def test_minus_infinity_is_taken_where_the_function_takes_it():
    scores = jnp.asarray(np.random.default_rng(0).normal(size=(3, 3)), jnp.float32)
    mask = jnp.where(jnp.tri(3) > 0, 0.0, -jnp.inf)
    assert compare_gradients(attention, of_attention, scores, mask, argnums=(0, 1)).correct is True
    wrong = lambda s, m: (of_attention(s, m)[0], 1.01 * of_attention(s, m)[1])  # noqa: E731
    assert compare_gradients(attention, wrong, scores, mask, argnums=(0, 1)).correct is False
    with pytest.raises(BadCall, match="is -inf"):
        compare_gradients(lambda m: jnp.sum(m**2), lambda m: 2 * m, mask)


def test_the_value_of_a_rule_at_a_corner_is_the_functions():
    @jax.custom_jvp
    def norm(x):
        return jnp.sqrt(jnp.sum(x**2))

    @norm.defjvp
    def of_norm(primals, tangents):
        (x,), zero = primals, jnp.all(primals[0] == 0)
        value, slope = jax.jvp(lambda x: jnp.sqrt(jnp.sum(x**2)), (jnp.where(zero, 1.0, x),), tangents)
        return value, jnp.where(zero, 0.0, slope)

    report = compare_vjp(norm, jnp.zeros(3))
    assert {p.name: p.passed for p in report.probes}["forward"] is False
    assert report.headline.endswith("but it returns other values than the plain function")


def test_no_number_by_hand_is_wrong_where_autodiff_is_one_at_a_corner():
    def lengths(x):
        s = jnp.sum(x**2, 1)
        return jnp.where(s == 0, 0.0, jnp.sqrt(jnp.where(s == 0, 1.0, s)))

    x = jnp.array([[1.0, 2.0], [0.0, 0.0]])
    bad = ruled(lengths, lambda x, c: c[:, None] * x / jnp.sqrt(jnp.sum(x**2, 1, keepdims=True)))
    assert compare_vjp(bad, x).correct is False
