"""A factor is said by what it is of, and by what it is: a size, a number of the loss, an argument."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.planted.network import RIGHT, Network, data, gradient_of, init, loss_of
from jaxnn.gradcheck import compare_gradients
from jaxnn.gradcheck.mistakes.averages import OF_ALL, OF_BIASES, OF_LAYERS, factor_names
from jaxnn.gradcheck.mistakes.entries import MOVED
from jaxnn.gradcheck.tape.budget import Work
from jaxnn.gradcheck.tape.scenes import scenes_for, views_of
from tests.gradcheck.diagnosing import diagnosed

NET = Network((5, 4, 3), "tanh", "bce-logits")
AT = (init(NET, 2), *data(NET, 6, 2))
RNG = np.random.default_rng(0)


def scaled_with(l, f):
    """The right gradient, with f(dW, db) in layer l."""

    def gradient(*args):
        pairs = gradient_of(NET)(*args)
        return tuple(f(*pair) if k == l else pair for k, pair in enumerate(pairs))

    return gradient


SAID = {
    # name: (gradient, id, the sentence, where)
    "all": (
        lambda *args: jax.tree.map(lambda g: 0.3 * g, gradient_of(NET)(*args)),
        "stray-factor",
        "The whole gradient is 0.3 times what it should be.",
        "every parameter",
    ),
    "one": (
        scaled_with(1, lambda dW, db: (0.3 * dW, db)),
        "stray-factor",
        "The gradient of [1][0] is 0.3 times what it should be.",
        "layer 2: [1][0]",
    ),
    "each": (
        scaled_with(0, lambda dW, db: (0.3 * dW, 2 * db)),
        "stray-factor",
        "Each parameter has its own factor: [0][0] is 0.3 times what it should be; "
        "[0][1] is twice what it should be: a stray 2.",
        "[0][0] and [0][1]",
    ),
    "a layer": (
        scaled_with(1, lambda dW, db: (-dW, -db)),
        "layer-sign",
        "The gradient of [1][0] and [1][1] has the opposite sign.",
        "layer 2: [1][0] and [1][1]",
    ),
    "biases": (
        gradient_of(NET, RIGHT._replace(db=lambda t, l, dZ: t.N * RIGHT.db(t, l, dZ))),
        "bias-not-averaged",
        "The gradient of [0][1] and [1][1] is N times too large: the weights are averaged, the bias is not.",
        "[0][1] and [1][1]",
    ),
}


@pytest.mark.parametrize("name", SAID)
def test_a_factor_is_said_with_what_has_it(name):
    gradient, *said = SAID[name]
    cause, *others = diagnosed(loss_of(NET), gradient, AT)
    assert [cause.id, cause.sentence, cause.where] == said
    # 0.3 may stand at one step of the path as well
    assert {o.id for o in others} <= ({"path-miscounted"} if cause.id == "stray-factor" else set())


def test_where_the_penalty_is_right_the_factor_is_that_of_the_rest():
    net = NET._replace(penalty=0.3)
    wrong = gradient_of(net, RIGHT._replace(error=lambda t: t.N * RIGHT.error(t)))
    (cause,) = diagnosed(loss_of(net), wrong, AT)
    assert (cause.id, cause.where) == ("missing-mean", "every parameter, without the λ term")
    assert cause.sentence.startswith("The data's part of the gradient is N times too large")


def test_a_factor_of_the_penalty_that_is_handed_in_is_called_so():
    def loss(p, X, strength):
        return jnp.mean(jnp.tanh(X @ p["W"]) ** 2) + strength * jnp.sum(p["W"] ** 2)

    def unscaled(p, X, strength):
        return {"W": jax.grad(loss)(p, X, 0.0)["W"] + 2 * p["W"]}

    args = {"W": RNG.normal(size=(4, 3))}, RNG.normal(size=(6, 4)), np.float64(0.1)
    (cause,) = diagnosed(loss, unscaled, args)
    assert cause.id == "regularisation-scaled"
    assert cause.sentence == "The regularisation term is 1/(argument 2) times what it should be."


@pytest.mark.parametrize(("power", "id"), [(1, "cotangent-ignored"), (2, "argument-ignored")])
def test_an_argument_that_is_not_there_has_its_name(power, id):
    def loss(x, c):
        return jnp.sum(jnp.sin(x) * c**power)

    (cause,) = diagnosed(loss, lambda x, c: jnp.cos(x), (RNG.normal(size=4), RNG.normal(size=4)))
    assert (cause.id, cause.where) == (id, "through argument 1")


def test_a_bias_of_half_of_the_examples_is_not_one_of_one_where_half_of_three_is_one():
    half = RIGHT._replace(db=lambda t, l, dZ: RIGHT.db(t, l, dZ[: t.N // 2]))
    (cause,) = diagnosed(loss_of(NET), gradient_of(NET, half), AT)
    assert cause.id == "examples-ignored"
    assert "the first 3" in cause.sentence


def test_what_is_one_along_an_axis_is_not_centred_along_it():
    """A bias of shape (n, 1) less its mean along the last axis is zero: it was never computed."""
    (cause,) = diagnosed(loss_of(NET), scaled_with(0, lambda dW, db: (dW, 0 * db)), AT)
    assert cause.id == "bias-missing"


@pytest.mark.parametrize("table", [OF_ALL, OF_LAYERS, OF_BIASES])
def test_every_way_to_be_off_by_a_factor_is_a_meaning_of_that_factor(table):
    with jax.enable_x64(True):
        views = views_of(loss_of(NET), AT)
        right = [np.asarray(g) for g in jax.tree.leaves(jax.grad(loss_of(NET))(*AT))]
        scenes = scenes_for(views, gradient_of(NET), right, right, [0 * r for r in right], Work())
    for mistake in table:
        for way in mistake.ways:
            meanings = factor_names(scenes, [way.of(s.sizes) for s in scenes], table)
            assert [(m.mistake.id, m.says) for m in meanings] == [(mistake.id, way.says)]


def test_a_kernel_is_turned_round_where_there_is_one_only():
    turned = [way for way in MOVED.ways if "kernel" in way.says]
    kernel, matrix = np.arange(24.0).reshape(2, 3, 2, 2), np.arange(6.0).reshape(2, 3)
    assert all((way.of(matrix) == matrix).all() and (way.of(kernel) != kernel).any() for way in turned)


def test_two_that_may_be_a_size_is_not_surely_a_stray_two():
    X = np.random.default_rng(0).normal(size=(5, 3))

    def gradient(W, X):
        out = np.zeros((3, 2))  # at no other size
        out += 2 * X.T @ (X @ W) / len(X)  # and not of the size of X @ W
        return out

    (first,) = compare_gradients(lambda W, X: jnp.mean((X @ W) ** 2), gradient, X.T[:, :2] + 1, X).causes
    assert (first.id, first.confidence) == ("factor-two", "a guess")
    assert "the size 2 of axis 1 of W" in first.sentence
