"""Derivative rules against autodiff of the plain function."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn.gradcheck import BadCall, compare_gradients, compare_vjp
from jaxnn.gradcheck.report.confidence import SURE

X = jnp.asarray(np.random.default_rng(0).normal(size=(4, 5)), jnp.float32)


def probes_of(report):
    return {p.name: p.passed for p in report.probes}


LIBRARY = {
    "relu": (jax.nn.relu, lambda x: jnp.where(x > 0, x, 0.0)),
    "relu6": (jax.nn.relu6, lambda x: jnp.where(x > 0, jnp.where(x < 6, x, 6.0), 0.0)),
    "softmax": (jax.nn.softmax, lambda x: jnp.exp(x) / jnp.sum(jnp.exp(x), -1, keepdims=True)),
    "logsumexp": (jax.nn.logsumexp, lambda x: jnp.log(jnp.sum(jnp.exp(x)))),
    "silu": (jax.nn.silu, lambda x: x / (1 + jnp.exp(-x))),
    "logaddexp": (lambda x: jnp.logaddexp(x, 0.0), lambda x: jnp.log1p(jnp.exp(x))),
}


@pytest.mark.parametrize("name", LIBRARY)
def test_the_rules_of_jax_are_right(name):
    function, plain = LIBRARY[name]
    report = compare_vjp(function, X, reference=plain)
    assert (report.correct, report.accurate) == (True, True)
    assert all(probes_of(report).values())
    assert probes_of(report).keys() >= {"forward", "linearity", "zero", "types", "vmap", "jit"}


def product(backward):
    @jax.custom_vjp
    def times(x, y):
        return x * y

    times.defvjp(lambda x, y: (x * y, (x, y)), lambda r, c: backward(*r, c))
    return times


def test_a_right_rule_and_its_plain_form_found_by_itself():
    report = compare_vjp(product(lambda x, y, c: (c * y, c * x)), X, X + 1)
    assert report.correct is True
    assert [leaf.path for leaf in report.leaves] == ["x", "y"]


def test_a_wrong_rule_is_placed():
    report = compare_vjp(product(lambda x, y, c: (c * y, c * y)), X, X + 1)
    assert report.correct is False
    assert [leaf.correct for leaf in report.leaves] == [True, False]
    assert report.causes[0].sentence == "The gradient of y is that of x."
    assert str(report).splitlines()[0] == "y wrong: gradients-exchanged (sure): the gradient is that of x"
    assert probes_of(report)["linearity"] is True


def test_a_rule_that_ignores_its_cotangent_is_named():
    report = compare_vjp(product(lambda x, y, c: (y, x)), X, X + 1)
    assert report.correct is False
    assert [c.id for c in report.causes] == ["cotangent-ignored"]
    assert report.headline.endswith("The rule does not multiply by the cotangent it is handed")
    assert (probes_of(report)["linearity"], probes_of(report)["zero"]) == (False, False)


def test_a_clipped_cotangent_is_no_derivative():
    @functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
    def clipped(x, most):
        return x

    clipped.defvjp(lambda x, most: (x, None), lambda most, _, c: (jnp.clip(c, -most, most),))
    report = compare_vjp(clipped, X, 1.0)
    assert report.correct is False
    assert probes_of(report)["linearity"] is False
    assert [leaf.path for leaf in report.leaves] == ["x"]
    assert [(c.id, c.confidence) for c in report.causes] == [("cotangent-not-linear", SURE)]
    assert "not linear in the cotangent" in report.headline


def test_another_forward_is_seen():
    @jax.custom_vjp
    def shifted(x):
        return x**2

    shifted.defvjp(lambda x: (x**2 + 1e-3, x), lambda x, c: (2 * x * c,))
    report = compare_vjp(shifted, X, reference=lambda x: x**2 + 1e-3)
    assert probes_of(report)["forward"] is False
    assert report.correct is True


def test_a_rule_is_judged_where_it_is_the_plain_function():
    positive = jnp.abs(X) + 0.1
    report = compare_vjp(jax.scipy.special.rel_entr, positive, positive.T.reshape(4, 5),
                         reference=lambda p, q: p * jnp.log(p / q))  # fmt: skip
    assert report.correct is True


def test_a_rule_in_numpy_is_only_called():
    def backward(x, y, c):
        return np.asarray(c) * np.asarray(y), np.asarray(c) * np.asarray(x)

    report = compare_vjp(product(backward), X, X + 1)
    assert (report.correct, probes_of(report)["linearity"]) == (True, True)


def test_a_jvp_rule_counts_too():
    @jax.custom_jvp
    def softplus(x):
        return jnp.log1p(jnp.exp(x))

    softplus.defjvp(lambda p, t: (softplus(*p), t[0] * jax.nn.sigmoid(p[0])))
    assert compare_vjp(softplus, X).correct is True


def test_the_plain_form_must_be_known():
    with pytest.raises(BadCall, match="pass it as reference"):
        compare_vjp(jnp.sin, X)


def test_only_floating_results_have_a_rule():
    with pytest.raises(BadCall, match="nothing in floating point"):
        compare_vjp(jnp.argmax, X, reference=jnp.argmax)


@pytest.mark.parametrize(
    ("backward", "said"),
    [
        (lambda x, y, c: (c * y,), r"returned (*,), expected (*, *), where * is an array"),
        (lambda x, y, c: ({"x": c * y}, c * x), r"returned ({'x': *}, *), expected (*, *)"),
        (lambda x, y, c: (c * y, jnp.sum(c * x)), "returned float32[] at [1], expected float32[4,5]"),
    ],
    ids=["one too few", "a dict", "a sum"],
)
def test_what_a_rule_returns_is_told_in_one_whole_sentence(backward, said):
    with pytest.raises(BadCall) as raised:
        compare_vjp(product(backward), X, X + 1)
    assert f"the backward rule of times {said}" in str(raised.value)
    assert len(str(raised.value)) < 200


def test_ones_for_the_cotangent_of_a_linear_loss_name_the_argument():
    report = compare_gradients(lambda x, c: jnp.sum(c * jnp.sin(x)), lambda x, c: jnp.cos(x), X, X + 0.5)
    assert report.causes[0].id == "cotangent-ignored"
    assert "Ones stand where c belongs" in report.headline


@pytest.mark.parametrize(("x", "told"), [([0.0, 1.0, 2.0], True), ([0.0, 0.0], None)])
def test_an_infinite_entry_says_nothing_of_the_cotangent(x, told):
    @jax.custom_vjp
    def entropy(x):
        return jnp.where(x == 0, 0.0, -x * jnp.log(jnp.where(x == 0, 1.0, x)))

    entropy.defvjp(lambda x: (entropy(x), x), lambda x, c: (c * (-1 - jnp.log(x)),))
    report = compare_vjp(entropy, jnp.array(x))
    assert report.correct is None  # a case made for 0 is a kink there
    assert (probes_of(report)["linearity"], probes_of(report)["zero"]) == (told, told)
    assert "cotangent-ignored" not in [c.id for c in report.causes]


def test_a_forward_pass_of_another_value_is_said_first():
    @jax.custom_vjp
    def squared(x):
        return x**2

    squared.defvjp(lambda x: (1.01 * x**2, x), lambda x, c: (2 * x * c,))
    report = compare_vjp(squared, X)
    assert "but it returns other values than the plain function" in report.headline
