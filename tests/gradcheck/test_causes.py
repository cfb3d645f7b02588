"""What the diagnosis says of gradients that are wrong in one thing, and how sure it is."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.planted.mistakes import NEEDS_SATURATION, planted
from experiments.planted.network import RIGHT, Network, data, gradient_of, init, loss_of
from jaxnn.activations import sigmoid
from jaxnn.gradcheck import compare_gradients
from jaxnn.gradcheck.report.confidence import GUESS, SURE
from jaxnn.gradcheck.verdict.point import Kind
from jaxnn.layers import mlp
from jaxnn.losses import binary_cross_entropy
from jaxnn.objective import cost
from tests.gradcheck.diagnosing import diagnosed, evaluated


def test_what_no_point_can_tell_apart_is_listed_with_less_confidence():
    """The bias of a softmax: the sum over its classes is zero, and so is a bias never computed."""
    net = Network((3, 4), cost="softmax-logits")
    args = (init(net, 0), *data(net, 5, 0))
    causes = diagnosed(loss_of(net), planted(net, "bias-summed-over-all").gradient, args)
    assert {c.id for c in causes} == {"bias-summed-over-all", "bias-missing"}
    assert all(c.confidence != SURE for c in causes)


def test_two_batch_sizes_tell_two_from_n():
    """At N = 2 a stray 2 and a forgotten mean are the same; at N = 3 they are not."""
    net = Network((3, 4, 3))
    args = (init(net, 0), *data(net, 2, 0))
    for id in ("factor-two", "missing-mean"):
        (cause,) = diagnosed(loss_of(net), planted(net, id).gradient, args)
        assert cause.id == id
        assert cause.confidence == SURE


def test_a_saturated_output_shows_a_clipped_logarithm_and_a_nan():
    net = Network((3, 2), cost="bce-logits")
    (W, b), (X, _) = init(net, 0)[0], data(net, 4, 0)
    X[1] *= -1e3
    Z = X @ W.T + b.T
    Y = (Z < 0).astype(float)
    for id in NEEDS_SATURATION:
        causes = diagnosed(loss_of(net), planted(net, id).gradient, (((W, b),), X, Y))
        assert causes[0].id == id


UNSEEN = (
    ("dZ[1]", RIGHT._replace(slope=lambda t, l: RIGHT.slope(t, l) * jnp.cos(t.Z[l]))),
    ("dZ[2]", RIGHT._replace(error=lambda t: RIGHT.error(t) * jnp.exp(t.Z[-1]))),
    ("[1][0]", RIGHT._replace(operand=lambda t, l: t.A[l - 1] + (l == 2) * 0.3 * jnp.sin(t.A[l - 1]))),
    ("db[1]", RIGHT._replace(db=lambda t, l, dZ: (jnp.max if l == 1 else jnp.sum)(dZ, axis=0)[:, None])),
    # a wrong dA[1] is seen in dZ[1], and g′ might be what is wrong
    ("dZ[1]", RIGHT._replace(matrix=lambda t, l, G: jnp.exp(t.params[l - 1][0]))),
)


@pytest.mark.parametrize(("quantity", "steps"), UNSEEN)
def test_a_mistake_without_a_name_is_placed_and_not_given_one(quantity, steps):
    net = Network((5, 4, 3), "tanh", "bce-logits")
    args = (init(net, 1), *data(net, 6, 1))
    causes = diagnosed(loss_of(net), gradient_of(net, steps), args)
    assert [c.id for c in causes] == ["unknown"]
    assert causes[0].where.startswith(quantity)
    assert causes[0].confidence == GUESS


def test_numpy_code_and_closed_over_data_are_diagnosed_too():
    X, y = data(Network((3, 1)), 8, 0)

    def loss(w):
        return jnp.mean((X @ w - y[:, 0]) ** 2)

    def gradient(w):
        return np.asarray(X.T @ (X @ np.asarray(w) - y[:, 0])) * 2

    (cause,) = diagnosed(loss, gradient, (np.array([0.5, -1.0, 2.0]),))
    assert cause.id == "missing-mean"


def test_a_loop_over_time_is_one_place():
    rng = np.random.default_rng(0)
    p = {"W": rng.normal(size=(4, 3)), "U": rng.normal(size=(4, 4)) / 2}

    def loss(p, xs):
        h = jnp.zeros(4)
        for x in xs:
            h = jnp.tanh(p["W"] @ x + p["U"] @ h)
        return jnp.sum(h**2)

    def gradient(p, xs):
        hs = [jnp.zeros(4)]
        for x in xs:
            hs.append(jnp.tanh(p["W"] @ x + p["U"] @ hs[-1]))
        dW, dU, dh = 0.0, 0.0, 2 * hs[-1]
        for x, before, h in zip(xs[::-1], hs[-2::-1], hs[:0:-1], strict=True):
            dz = dh * (1 - h * h)
            dW, dU, dh = dW + jnp.outer(dz, x), dU + jnp.outer(dz, before), p["U"] @ dz
        return {"W": dW, "U": dU}

    causes = diagnosed(loss, gradient, (p, rng.normal(size=(3, 3))))
    assert causes[0].id == "weights-not-transposed"


def test_one_example_is_divided_by_no_n_minus_one():
    """Nothing is finite there; at other sizes it is the gradient times N / (N − 1)."""
    net = Network((6, 5, 4), "relu", "softmax-naive", penalty=0.1, masked=True)
    args = (init(net, 1), *data(net, 1, 1))
    causes = diagnosed(loss_of(net), planted(net, "n-minus-one").gradient, args)
    assert causes[0].id == "n-minus-one"


def test_where_autodiff_is_not_finite_other_points_tell():
    net = Network((5, 4, 3), "tanh", "bce-naive", penalty=0.3)
    params, (X, Y) = init(net, 0), data(net, 6, 0)
    args = (tuple((100 * W, b) for W, b in params), X, Y)
    assert not all(np.isfinite(g).all() for g in jax.tree.leaves(evaluated(jax.grad(loss_of(net)), args)))
    for id in ("regularisation-missing", "missing-output-derivative"):
        assert diagnosed(loss_of(net), planted(net, id).gradient, args)[0].id == id


def test_half_of_many_examples_left_out_is_seen_in_few_outputs():
    net = Network((5, 6, 4, 3), "softplus")
    half = RIGHT._replace(error=lambda t: RIGHT.error(t).at[: t.N // 2].set(0))
    (cause,) = diagnosed(loss_of(net), gradient_of(net, half), (init(net), *data(net, 256)))
    assert cause.id == "examples-ignored"
    assert "0 to 127" in cause.sentence


def test_its_own_activation_with_the_mask_is_its_own_activation():
    net = Network((4, 4, 3), masked=True)
    (cause,) = diagnosed(loss_of(net), planted(net, "own-activation").gradient, (init(net), *data(net, 6)))
    assert cause.id == "own-activation"


def test_a_factor_that_only_the_sizes_at_hand_explain_is_not_named_with_confidence():
    """4 is N·n_L here, but it is the 2 × 2 of the pooling; the loss takes no other sizes."""

    def loss(w, x):
        a = jnp.tanh(x.reshape(2, 8) @ w)
        return jnp.sum(jnp.mean(a.reshape(2, 2, 4), axis=2) ** 2)

    def gradient(w, x):
        return 4 * jax.grad(loss)(w, x)

    rng = np.random.default_rng(0)
    causes = diagnosed(loss, gradient, (rng.normal(size=(8, 8)) / 3, rng.normal(size=16)))
    assert causes[0].id == "stray-factor"
    assert all(c.confidence != SURE and "n_L" not in c.sentence for c in causes)


def test_a_path_left_out_is_no_operand_cut_to_zero():
    def loss(p, X):
        return jnp.mean((jnp.tanh(X @ p["W"].T) @ p["W"] - X) ** 2)

    def encoder_only(p, X):
        h = jnp.tanh(X @ p["W"].T)
        return {"W": ((2 * (h @ p["W"] - X) / X.size) @ p["W"].T * (1 - h * h)).T @ X}

    rng = np.random.default_rng(0)
    causes = diagnosed(loss, encoder_only, ({"W": rng.normal(size=(4, 5))}, rng.normal(size=(6, 5))))
    assert causes[0].id == "path-left-out"
    assert "not differentiated" in causes[0].sentence


def test_the_step_that_is_wrong_is_said_and_not_what_is_made_of_it():
    """More examples than inputs: dZ[1] cannot be had from dW[1], but db[1] is wrong too."""
    rng = np.random.default_rng(0)
    W, b, X, Y = (rng.normal(size=s) for s in ((2, 3), (1, 2), (50, 3), (50, 2)))

    def loss(p, X, Y):
        return jnp.mean((jnp.tanh(X @ p[0].T + p[1]) - Y) ** 2)

    def gradient(p, X, Y):
        A = jnp.tanh(X @ p[0].T + p[1])
        dZ = ((A - Y) / 50 * (1 - A**2)).reshape(50, 2)
        dZ = jnp.where(dZ > 0, dZ, jnp.sin(20 * dZ))
        return dZ.T @ X, dZ.sum(0, keepdims=True)

    (cause,) = compare_gradients(loss, gradient, (W, b), X, Y).causes
    assert cause.sentence == "dZ[1] is wrong: dW[1] is wrong in every entry, and db[1] too."
    assert cause.where.startswith("dZ[1]")


def test_operations_are_called_what_a_student_calls_them():
    def standardised(p, X, stop=lambda x: x):
        Z = X @ p["W"]
        centred = Z - stop(jnp.mean(Z, axis=1, keepdims=True))
        return jnp.sum(jnp.tanh(p["g"] * centred / jnp.sqrt(jnp.mean(centred**2, axis=1, keepdims=True))))

    rng = np.random.default_rng(0)
    params = {"W": rng.normal(size=(5, 4)), "g": rng.normal(size=(1, 4))}
    wrong = jax.grad(functools.partial(standardised, stop=jax.lax.stop_gradient))
    report = compare_gradients(standardised, wrong, params, rng.normal(size=(6, 5)))
    assert "its mean too: the path through a sum at test_causes.py:" in report.causes[0].sentence


@pytest.mark.parametrize("sizes", [(4, 1), (5, 4, 3)])
def test_a_clip_is_seen_where_autodiff_of_the_naive_loss_is_not_finite(sizes):
    net = Network(sizes, "tanh", "bce-naive")
    mutant = planted(net, "clipped-log")
    params = tuple((30 * W, b) for W, b in init(net, 2))
    report = compare_gradients(loss_of(net), mutant.gradient, params, *data(net, 16, 2))
    assert any("autodiff is not finite at the given point" in note for note in report.notes)
    assert report.correct is False
    assert [(c.id, c.confidence) for c in report.causes] == [("clipped-log", SURE)]


def test_a_right_gradient_is_right_where_autodiff_of_the_naive_loss_is_not_finite():
    net = Network((4, 1), cost="bce-naive")
    params = tuple((30 * W, b) for W, b in init(net, 2))
    report = compare_gradients(loss_of(net), gradient_of(net), params, *data(net, 16, 2))
    assert any("autodiff is not finite at the given point" in note for note in report.notes)
    assert report.correct is True
    assert (Kind.NEAREST.value, "right") in report.points


def test_a_bias_made_from_dA_lacks_the_derivative_in_its_own_gradient_only():
    net = Network((5, 4, 6, 3), "tanh")
    hand = gradient_of(net)

    def gradient(params, X, Y):
        (W1, b1), (W2, b2), (W3, b3) = params
        A2 = jnp.tanh(jnp.tanh(X @ W1.T + b1.T) @ W2.T + b2.T)
        dA2 = (jax.nn.sigmoid(A2 @ W3.T + b3.T) - Y) / len(X) @ W3
        first, (dW2, _), third = hand(params, X, Y)
        return first, (dW2, jnp.sum(dA2, axis=0)[:, None]), third

    (cause,) = diagnosed(loss_of(net), gradient, (init(net), *data(net, 7)))
    assert (cause.id, cause.where) == ("missing-activation-derivative", "[1][1]")


def test_a_kernel_turned_round_on_the_way_down_is_said_to_be():
    def loss(p, X, convolved=lambda x, k: jax.lax.conv(x, k, (1, 1), "VALID")):
        return jnp.mean(convolved(jnp.tanh(jax.lax.conv(X, p["K"], (1, 1), "VALID")), p["L"]) ** 2)

    @jax.custom_vjp
    def wrong(x, k):
        return jax.lax.conv(x, k, (1, 1), "VALID")

    def backward(xk, c):
        x, k = xk
        down = jax.vjp(lambda x: wrong.fun(x, k[..., ::-1, ::-1]), x)[1](c)
        return *down, *jax.vjp(lambda k: wrong.fun(x, k), k)[1](c)

    wrong.defvjp(lambda x, k: (wrong.fun(x, k), (x, k)), backward)

    def gradient(p, X):
        return jax.grad(loss)(p, X, wrong)

    rng = np.random.default_rng(0)
    p = {"K": rng.normal(size=(4, 2, 3, 3)), "L": rng.normal(size=(5, 4, 2, 3))}
    (cause,) = diagnosed(loss, gradient, (p, rng.normal(size=(3, 2, 7, 8))))
    assert (cause.id, cause.where) == ("kernel-not-turned", "dA[1] (layer 2)")
    assert "turned round" in cause.sentence


def test_noise_left_out_is_no_mask_forgotten():
    def loss(p, X, noise):
        return jnp.mean((jnp.exp(X @ p["S"].T) * noise @ p["D"].T) ** 2)

    def without(p, X, noise):
        E = jnp.exp(X @ p["S"].T)
        D = 2 * (E * noise) @ p["D"].T / (len(X) * len(p["D"]))
        return {"D": D.T @ (E * noise), "S": (D @ p["D"] * E).T @ X}

    rng = np.random.default_rng(0)
    p = {"D": rng.normal(size=(2, 4)), "S": 0.3 * rng.normal(size=(4, 3))}
    (cause,) = diagnosed(loss, without, (p, rng.normal(size=(6, 3)), rng.normal(size=(6, 4))))
    assert cause.id == "multiplier-forgotten"
    assert cause.where.startswith("dZ[1]")


def test_a_number_that_is_a_size_which_no_point_changes_is_not_named_with_confidence():
    fixed = np.random.default_rng(0).normal(size=(4, 5))

    def loss(p, X):
        return jnp.mean(jnp.tanh(X @ fixed.T + 0.25 * (X @ p["A"].T) @ p["B"].T) ** 2)

    def unscaled(p, X):
        g = jax.grad(loss)(p, X)
        return {"A": 4 * g["A"], "B": g["B"]}

    rng = np.random.default_rng(1)
    p = {"A": rng.normal(size=(2, 5)), "B": rng.normal(size=(4, 2))}
    causes = diagnosed(loss, unscaled, (p, rng.normal(size=(7, 5))))
    assert all(c.confidence != SURE for c in causes)
    assert "4" in causes[0].sentence or "n_L" in causes[0].sentence


def two_layers(inner=1.0, outer=1.0):
    """A loss with two numbers in it, of parameters W1, b1, W2, b2."""

    def loss(p, X, Y):
        A = jnp.tanh(inner * (X @ p["W1"].T + p["b1"]))
        return outer * jnp.sum((A @ p["W2"].T + p["b2"] - Y) ** 2) / X.shape[0]

    return loss


def times(factor, loss, *names):
    """The gradient, times a factor where a parameter is named, or everywhere."""

    def gradient(p, X, Y):
        slopes = jax.grad(loss)(p, X, Y)
        return {k: g * factor if k in names or not names else g for k, g in slopes.items()}

    return gradient


def at_two_layers():
    rng = np.random.default_rng(5)
    shapes = {"W1": (4, 5), "b1": (1, 4), "W2": (3, 4), "b2": (1, 3)}
    return (
        {k: rng.normal(size=s) for k, s in shapes.items()},
        rng.normal(size=(7, 5)),
        rng.normal(size=(7, 3)),
    )


NUMBERS = {
    # name: (loss, factor, parameters, id, what is said, sure)
    "a stray 2": (two_layers(), 2.0, (), "factor-two", "a stray 2", True),
    "the half of the loss": (two_layers(1, 0.5), 2.0, (), "factor-two", "or the factor 1/2 at", True),
    "a 2 on the way": (two_layers(2), 0.5, ("W1", "b1"), "factor-two", "or the factor 2 at", False),
    "a 3 on the way": (two_layers(3), 1 / 3, ("W1", "b1"), "mean-over-outputs", "the factor 3 at", False),
    "a 3 too many": (two_layers(3), 3.0, ("W1", "b1"), "missing-mean", "is there twice", False),
    "a temperature": (two_layers(1, 2.5), 0.4, (), "stray-factor", "the factor 2.5 at", False),
    "an update": (two_layers(), -0.01, (), "learning-rate-folded-in", "the update", True),
    "an update by a number": (
        two_layers(1, 0.1),
        -0.1,
        (),
        "learning-rate-folded-in",
        "or the sign is flipped",
        False,
    ),
    "a sign and a 2": (two_layers(), -2.0, (), "learning-rate-folded-in", "or the sign is flipped", False),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_a_factor_that_may_be_several_things_is_said_to_be_so(name):
    loss, factor, names, id, said, sure = NUMBERS[name]
    first, *_ = diagnosed(loss, times(factor, loss, *names), at_two_layers())
    assert first.id == id
    assert said in first.sentence
    assert (first.confidence == SURE) is sure


def test_only_what_jumps_is_called_rounding():
    """A mistake as small as a rounding, in code that converts to float32 on the way."""

    def loss_with(epsilon):
        return lambda p, X, Y: jnp.mean(jnp.log(epsilon + jnp.sum((X @ p["W1"].T - Y[:, :1]) ** 2, axis=1)))

    def off(p, X, Y):
        return jax.grad(loss_with(1e-3 * (1 + 1e-4)))(p, X * (X > -9).astype(jnp.float32).astype(X.dtype), Y)

    def rounded(p, X, Y):
        return jax.grad(loss_with(1e-3))(p, X.astype(jnp.float32).astype(X.dtype), Y)

    p, X, Y = at_two_layers()
    args = ({"W1": p["W1"]}, X, Y)
    assert diagnosed(loss_with(1e-3), off, args)[0].id == "unknown"
    assert diagnosed(loss_with(1e-3), rounded, args)[0].id == "low-precision"


def test_entries_that_are_zero_by_their_values_are_not_called_unwritten_with_confidence():
    def cut(p, X, Y):
        slopes = jax.grad(loss)(p, X, Y)
        return {**slopes, "W1": jnp.where(p["W1"] > 0, slopes["W1"], 0)}

    def short(p, X, Y):
        slopes = jax.grad(loss)(p, X, Y)
        return {**slopes, "W1": slopes["W1"].at[:, -1].set(0)}

    loss = two_layers()
    (first, *_) = diagnosed(loss, cut, at_two_layers())
    assert first.confidence != SURE
    (first,) = diagnosed(loss, short, at_two_layers())
    assert (first.id, first.confidence) == ("entries-unwritten", SURE)


def test_examples_left_out_by_a_condition_are_not_told_with_confidence():
    def conditional(p, X, Y):
        kept = (X[:, 0] > 0).astype(X.dtype)
        return jax.grad(lambda p: jnp.sum(two_layers_each(p, X, Y) * kept) / X.shape[0])(p)

    def two_layers_each(p, X, Y):
        return jnp.sum((jnp.tanh(X @ p["W1"].T + p["b1"]) @ p["W2"].T + p["b2"] - Y) ** 2, axis=1)

    (first, *_) = diagnosed(two_layers(), conditional, at_two_layers())
    assert first.id == "examples-ignored"
    assert first.confidence != SURE


def picked(p, X, y):
    """A loss that picks the log-probabilities of integer labels by the examples' numbers."""
    Z = jnp.maximum(X @ p["W1"] + p["b1"], 0) @ p["W2"] + p["b2"]
    picked_out = jax.nn.log_softmax(Z)[jnp.arange(X.shape[0]), y]
    return -jnp.sum(picked_out) / X.shape[0] + 0.05 * (jnp.sum(p["W1"] ** 2) + jnp.sum(p["W2"] ** 2))


def picked_by_hand(penalty=lambda N: 1.0, mask=lambda Z, dA: Z > 0, labels=lambda Y, N: Y / N):
    def gradient(p, X, y):
        N = X.shape[0]
        Z1 = X @ p["W1"] + p["b1"]
        A1 = jnp.maximum(Z1, 0)
        dZ2 = jax.nn.softmax(A1 @ p["W2"] + p["b2"]) / N - labels(jax.nn.one_hot(y, p["b2"].shape[1]), N)
        dA1 = dZ2 @ p["W2"].T
        dZ1 = jnp.where(mask(Z1, dA1), dA1, 0)
        return {
            "W1": X.T @ dZ1 + 0.1 * p["W1"] * penalty(N),
            "W2": A1.T @ dZ2 + 0.1 * p["W2"],
            "b1": jnp.sum(dZ1, axis=0, keepdims=True),
            "b2": jnp.sum(dZ2, axis=0, keepdims=True),
        }

    return gradient


PICKED = {
    "λ by N": (picked_by_hand(lambda N: 1 / N), "regularisation-unscaled", "divided by N"),
    "λ by 3": (picked_by_hand(lambda N: 1 / 3), "regularisation-scaled", "1/3 times"),
    "the gradient's sign": (picked_by_hand(mask=lambda Z, dA: dA > 0), "derivative-at-gradient", "own sign"),
    "Y not divided": (picked_by_hand(labels=lambda Y, N: Y), "labels-not-averaged", "Y is not divided by N"),
}


@pytest.mark.parametrize("name", PICKED)
def test_labels_that_are_numbers_let_the_batch_be_resized(name):
    gradient, id, said = PICKED[name]
    rng = np.random.default_rng(8)
    shapes = {"W1": (5, 7), "b1": (1, 7), "W2": (7, 3), "b2": (1, 3)}
    p = {k: rng.normal(size=s) for k, s in shapes.items()}
    first, *_ = diagnosed(picked, gradient, (p, rng.normal(size=(6, 5)), np.array([0, 2, 1, 1, 0, 2])))
    assert first.id == id
    assert said in first.sentence


@pytest.mark.parametrize("activation", [jax.nn.silu, lambda z: z * jnp.tanh(jax.nn.softplus(z))])
@pytest.mark.parametrize("term", ["A[1]/Z[1] stands where", "A[1]/Z[1] is left out"])
def test_a_product_of_which_one_factor_is_not_differentiated(activation, term):
    """σ is the derivative of softplus, too, but that is not what went wrong in that of silu."""

    def with_rule(g):
        return lambda p, X: jnp.mean((g(X @ p["W1"].T) @ p["W2"].T) ** 2)

    @jax.custom_vjp
    def half(z):
        return activation(z)

    def back(z, c):
        share = activation(z) / z
        return (c * (share if "stands" in term else jax.vjp(activation, z)[1](jnp.ones_like(z))[0] - share),)

    half.defvjp(lambda z: (activation(z), z), back)
    p, X, _ = at_two_layers()
    args = ({"W1": p["W1"], "W2": p["W2"]}, X)
    first, *_ = diagnosed(with_rule(activation), jax.grad(with_rule(half)), args)
    assert first.id == "wrong-activation-derivative"
    assert first.sentence.startswith(term)


def test_a_term_of_a_parameter_alone_that_is_no_penalty_is_not_called_one():
    """The log-determinant of a Cholesky factor, left out of its gradient."""

    def loss(p, x):
        z = jax.scipy.linalg.solve_triangular(p["L"], (x - p["mu"]).T, lower=True)
        return 0.5 * jnp.mean(jnp.sum(z**2, axis=0)) + jnp.sum(jnp.log(jnp.diag(p["L"])))

    def gradient(p, x):
        return jax.grad(lambda p, x: loss(p, x) - jnp.sum(jnp.log(jnp.diag(p["L"]))))(p, x)

    rng = np.random.default_rng(5)
    p = {"L": np.tril(rng.normal(size=(3, 3)), -1) + np.diag([1.1, 0.8, 1.4]), "mu": np.ones((1, 3))}
    first, *_ = diagnosed(loss, gradient, (p, rng.normal(size=(7, 3))))
    assert "depends on ['L'] alone is missing" in first.sentence
    assert first.confidence != SURE


def test_a_factor_that_is_a_parameter_has_its_name():
    def loss(p, x):
        return jnp.mean(jnp.tanh(x @ p["w"]) * jnp.exp(p["slope"]))

    def gradient(p, x):
        g = jax.grad(loss)(p, x)
        return g | {"slope": g["slope"] * p["slope"]}

    p = {"w": jnp.array([0.3, -0.7, 1.1]), "slope": jnp.array(0.4)}
    x = jnp.asarray(np.random.default_rng(6).normal(size=(5, 3)))
    (cause, *_) = compare_gradients(loss, gradient, p, x).causes
    assert "counts p['slope'] times" in cause.sentence


@pytest.mark.parametrize("key", [jax.random.key, jax.random.PRNGKey], ids=["typed", "raw"])
def test_a_loss_that_is_given_a_random_key_and_a_word_gets_its_cause(key):
    def loss(p, x, key, how):
        kept = jax.random.bernoulli(key, 0.7, x.shape)
        return jnp.mean((jnp.where(kept, x, 0) @ p) ** 2) if how == "mean" else 0.0

    def gradient(p, x, key, how):
        return len(x) * jax.grad(loss)(p, x, key, how)

    x = jnp.asarray(np.random.default_rng(7).normal(size=(6, 3)))
    report = compare_gradients(loss, gradient, jnp.array([0.4, -1.2, 0.9]), x, key(3), "mean")
    assert report.correct is False
    assert report.causes, report.notes
    assert "times" in report.causes[0].sentence


@pytest.mark.parametrize("number", [1e-200, 1j])
def test_a_number_that_is_handed_in_stops_no_diagnosis(number):
    def loss(p, x, number):
        return jnp.mean(jnp.tanh(x @ p) * jnp.sum(p**2)) + 0 * jnp.real(number)

    def gradient(p, x, number):
        return 3.25 * jax.grad(loss)(p, x, number)

    x = jnp.asarray(np.random.default_rng(8).normal(size=(6, 3)))
    report = compare_gradients(loss, gradient, jnp.array([0.4, -1.2, 0.9]), x, number)
    assert "3.25 times" in report.causes[0].sentence


def test_what_is_not_a_number_was_not_left_unwritten():
    def loss(p, x):
        return jnp.mean(jnp.tanh(x @ p["W"].T) ** 2)

    def gradient(p, x):
        g = jax.grad(loss)(p, x)
        return g | {"W": g["W"].at[1, 2].set(jnp.nan)}

    rng = np.random.default_rng(9)
    p = {"W": jnp.asarray(rng.normal(size=(2, 3)))}
    (cause, *_) = compare_gradients(loss, gradient, p, jnp.asarray(rng.normal(size=(5, 3)))).causes
    assert "not finite" in cause.sentence
    assert "zero" not in cause.sentence


def test_a_term_of_the_parameters_alone_is_not_called_zero():
    """The partition function of a CRF is one: without the observed counts the gradient is its own."""

    def loss(T, y):
        return 3 * jax.nn.logsumexp(T) - T[y[:-1], y[1:]].sum()

    def uncounted(T, y):
        return 3 * jax.nn.softmax(T, axis=None)

    T, y = np.random.default_rng(0).normal(size=(3, 4)), np.array([0, 1, 1, 2])
    cause = compare_gradients(loss, uncounted, T, y).causes[0]
    assert cause.id == "entries-unwritten"
    assert "parameters alone" in cause.sentence
    assert "zero" not in cause.sentence


def test_what_only_a_penalty_writes_is_not_called_zero():
    def loss(p, X, Y):
        return jnp.mean((X @ p["W"].T - Y) ** 2) + 0.1 * jnp.sum(p["W"] ** 2)

    def one_row(p, X, Y):
        return {"W": jax.grad(loss)(p, X, Y)["W"].at[1].set(0.2 * p["W"][1])}

    rng = np.random.default_rng(0)
    args = {"W": rng.normal(size=(3, 4))}, rng.normal(size=(7, 4)), rng.normal(size=(7, 3))
    cause = compare_gradients(loss, one_row, *args).causes[0]
    assert cause.sentence.startswith(
        "In row 1 of p['W'] the gradient is that of the terms of parameters alone"
    )


def test_a_nan_without_a_sigmoid_is_not_saturation():
    def loss(x):
        return jnp.sum(jnp.where(x == 1, 1.0, x * (1 - x)))

    def divided(x):
        return (1 - 2 * x) * (1 - x) / (1 - x)

    report = compare_gradients(loss, divided, np.array([0.3, 1.0, 50.0]))
    assert report.correct is False
    assert [c.id for c in report.causes] == ["not-finite"]
    assert "saturated" not in str(report)


def test_a_division_by_labels_that_are_zero_is_not_saturation():
    """What is divided by 0 is so at outputs of any size, though those given are saturated."""

    def loss(p, X, Y):
        Z = X @ p["W"].T
        return jnp.mean(jnp.sum(jax.nn.softplus(Z) - Y * Z, 1))

    def divided(p, X, Y):
        dZ = (jax.nn.sigmoid(X @ p["W"].T) - Y) / Y / len(X)
        return {"W": dZ.T @ X}

    rng = np.random.default_rng(0)
    args = {"W": 400 * rng.normal(size=(3, 5))}, rng.normal(size=(4, 5)), np.eye(3)[[0, 1, 2, 0]]
    report = compare_gradients(loss, divided, *args)
    assert [c.id for c in report.causes] == ["not-finite"]
    assert "saturated" not in str(report)


def test_an_axis_is_not_called_the_outputs_where_there_is_no_layer():
    """The log-determinant of σ² I has D log σ: without the D, the sizes of a mixture name no n_L."""

    def log_density(p, X):
        apart = jnp.sum((X[:, None] - p["mu"][None]) ** 2, -1) / jnp.exp(2 * p["s"])[None]
        return (p["a"] - X.shape[1] * p["s"])[None] - apart / 2

    def loss(p, X):
        return -jnp.sum(jax.nn.logsumexp(log_density(p, X), 1))

    def without_size(p, X):
        right, part = jax.grad(loss)(p, X), jax.nn.softmax(log_density(p, X))
        return {**right, "s": right["s"] - (X.shape[1] - 1) * part.sum(0)}

    rng = np.random.default_rng(0)
    p = {"mu": rng.normal(size=(3, 2)), "s": 0.3 * rng.normal(size=3), "a": rng.normal(size=3)}
    report = compare_gradients(loss, without_size, p, rng.normal(size=(9, 2)))
    assert report.correct is False
    assert "n_L" not in report.causes[0].sentence
    assert "counts 1/(the size of axis 1 of p['mu']) times" in report.causes[0].sentence


def test_a_function_with_a_rule_of_its_own_is_called_by_its_name():
    @jax.custom_jvp
    def energy(x):
        return jnp.sum(jnp.cosh(x))

    energy.defjvp(lambda p, t: (energy(*p), jnp.sum(jnp.sinh(p[0]) * t[0])))

    def loss(x):
        return energy(x) + jnp.sum(jnp.sin(x))

    cause = compare_gradients(loss, jnp.cos, np.random.default_rng(0).normal(size=(3, 4))).causes[0]
    assert cause.sentence.startswith("The path through energy at ")


@pytest.mark.parametrize(
    "id", ["derivative-at-output", "missing-activation-derivative", "wrong-activation-derivative"]
)
def test_a_derivative_is_named_in_a_network_of_jaxnn_itself(id):
    """Its sigmoid is of many steps, some of which no one reads."""
    net, same = mlp(5, 4, 3, g=sigmoid), Network((5, 4, 3), "sigmoid", "bce-logits")
    layers = net.init(jax.random.key(0))
    mutant = planted(same, id)

    def gradient(layers, X, Y):
        pairs = mutant.gradient(tuple((W, b) for W, b in layers), X, Y)
        return [type(layer)(*pair) for layer, pair in zip(layers, pairs, strict=True)]

    report = compare_gradients(cost(net, binary_cross_entropy), gradient, layers, *data(same, 7))
    assert report.causes[0].id == id


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ((4, 5, 3), "."),
        ((4, 6, 5, 3), " (and likewise in layer 1)."),
        ((3, 6, 5, 4, 2), " (and likewise in layers 1 and 2)."),
    ],
)
def test_a_mistake_made_in_every_layer_is_said_of_the_highest_and_likewise_of_the_others(sizes, said):
    net = Network(sizes, "tanh", "bce-logits")
    passed_on = RIGHT._replace(slope=lambda t, l: jnp.ones_like(t.Z[l]))
    (cause,) = diagnosed(loss_of(net), gradient_of(net, passed_on), (init(net, 3), *data(net, 7, 3)))
    assert cause.id == "missing-activation-derivative"
    assert cause.sentence.endswith(said)
    assert f"[{len(sizes) - 2}]" in cause.sentence
    assert (" (and" in cause.sentence) is (len(sizes) > 3)


def test_the_rows_told_are_those_of_the_sizes_at_hand():
    """At other sizes, where the place is found, the last row has another number."""
    loss = two_layers()

    def last_row(p, X, Y):
        slopes = jax.grad(loss)(p, X, Y)
        return {**slopes, "W1": slopes["W1"].at[-1].set(jnp.sin(20 * slopes["W1"][-1]))}

    (cause,) = diagnosed(loss, last_row, at_two_layers())
    assert cause.sentence == "dW[1] is wrong in row 3 (the last) only. All else is right."
