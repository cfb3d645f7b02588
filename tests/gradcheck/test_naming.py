"""A finding is true at the caller's own point, and says which of several like things it means."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn.gradcheck import compare_gradients
from jaxnn.gradcheck.tape.trace import trace
from tests.gradcheck.diagnosing import diagnosed

RNG = np.random.default_rng(14)
W, X, Y, Z = (RNG.normal(size=shape) for shape in ((3, 4), (5, 3), (5, 4), (5, 4)))


def test_what_is_true_of_a_part_of_the_gradient_is_said_of_that_part():
    """The counts are transposed, what the loss adds of the matrix alone is not."""

    def loss(A, t):
        return jax.nn.logsumexp(A) - jnp.sum(A[t[:-1], t[1:]])

    def gradient(A, t):
        return jax.nn.softmax(A.ravel()).reshape(A.shape) - jnp.zeros_like(A).at[t[1:], t[:-1]].add(1)

    A, t = RNG.normal(size=(3, 3)), np.array([0, 2, 1, 1, 0])
    (cause,) = diagnosed(loss, gradient, (A, t))
    assert cause.id == "transposed"
    assert cause.sentence.startswith("The data's part of the gradient of ")
    assert not np.allclose(gradient(A, t), jax.grad(loss)(A, t).T)


def test_of_two_like_steps_in_a_line_the_piece_that_is_meant_is_quoted():
    def loss(w, x, y, z):
        a = jnp.tanh(x @ w)
        return jnp.mean(jnp.sum(jnp.sin(a - y) * (a - z) ** 2, axis=1))

    def gradient(w, x, y, z):
        a = jnp.tanh(x @ w)
        d = 2 * jnp.sin(a - y) * (a - z) / len(x)
        return x.T @ (d * (1 - a * a))

    causes = diagnosed(loss, gradient, (W, X, Y, Z))
    assert "“a - y”" in causes[0].sentence
    assert "“a - z”" not in causes[0].sentence


def test_a_factor_that_is_left_out_on_one_path_is_named_with_its_line():
    def loss(x, y):
        return jnp.sum(jnp.sin(x / jnp.sqrt(1 + jnp.mean(x * x, axis=1, keepdims=True))) * y)

    def gradient(x, y):
        s = jnp.sqrt(1 + jnp.mean(x * x, axis=1, keepdims=True))
        d = jnp.cos(x / s) * y
        return d / s - x / s**3 * jnp.sum(d * x, axis=1, keepdims=True)

    causes = diagnosed(loss, gradient, (Y, Z))
    assert causes[0].sentence.startswith("The factor 1/4 at test_naming.py:")


@pytest.mark.parametrize("shape", [(), (1,)])
def test_the_ratio_of_two_numbers_is_no_finding(shape):
    """Of one number there is always a ratio, whatever is wrong."""

    def loss(p, x, y):
        return jnp.mean(jnp.log1p(jnp.exp(-y * (x @ p["w"] + p["b"]))))

    def gradient(p, x, y):
        d = (jax.nn.sigmoid(x @ p["w"] + p["b"]) - y) / len(y)
        return {"w": x.T @ d, "b": jnp.sum(d).reshape(shape)}

    p = {"w": RNG.normal(size=3), "b": np.full(shape, 0.2)}
    causes = diagnosed(loss, gradient, (p, X, np.array([1.0, -1, -1, 1, 1])))
    assert not any("times" in cause.sentence for cause in causes)


def test_every_value_that_something_comes_back_to_is_one_of_the_tape():
    """Also where the steps of an activation function are made one."""
    tape = trace(lambda w: jnp.sum(jnp.tanh(2 * jax.nn.gelu(X @ w) + 1)), (W,))
    made = {*tape.inputs, *tape.constants, *(v for node in tape.nodes for v in node.outputs)}
    assert tape.active <= made
    assert len(tape.nodes) < 10


def test_layers_beside_each_other_are_told_by_their_parameters():
    def loss(p, x, y):
        return jnp.mean(jnp.tanh(x @ p["mean"]) * jnp.log(1 + jnp.exp(x @ p["scale"])) * y)

    def gradient(p, x, y):
        m, s = jnp.tanh(x @ p["mean"]), jnp.log(1 + jnp.exp(x @ p["scale"]))
        return {"mean": x.T @ ((1 - m * m) * s * y) / y.size, "scale": x.T @ (m * s * y) / y.size}

    cause, *_ = diagnosed(loss, gradient, ({"mean": W, "scale": W[:, ::-1]}, X, Y))
    assert "Layer 2 is the product with ['scale'] at test_naming.py:" in cause.sentence


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_what_float32_leaves_hides_no_mistake(kind):
    """The root mean square is taken for a constant, in buffers of either type."""
    s = RNG.random(4) + 0.5

    def loss(x):
        return jnp.mean((x / jnp.sqrt(jnp.mean(x * x, axis=1, keepdims=True)) * s[None] - Y) ** 2)

    def gradient(x):
        x = np.asarray(x).astype(kind)
        m = np.sqrt(np.mean(x * x, axis=1, keepdims=True))
        return kind(2) * (x / m * s.astype(kind) - Y.astype(kind)) * s.astype(kind) / m / kind(x.size)

    (cause,) = diagnosed(loss, gradient, (Z,))
    assert (cause.id, cause.confidence) == ("statistic-left-out", "sure")


def test_of_labels_and_of_λ_is_spoken_only_where_the_loss_has_such():
    """Half of a factorisation machine; and 1/ln 2 left out, which adds one number to every entry."""
    x = RNG.normal(size=5)
    machine = lambda V: jnp.sum((x @ V) ** 2 - (x**2) @ (V**2)) / 2  # noqa: E731
    bits = lambda p: jnp.sum(p * jnp.log2(p))  # noqa: E731
    found = [
        *diagnosed(machine, lambda V: jnp.outer(x, x @ V), (RNG.normal(size=(5, 3)),)),
        *diagnosed(bits, lambda p: jnp.log2(p) + 1, (RNG.random(4) + 0.1,)),
    ]
    assert {c.id for c in found if c.confidence == "sure"} == {"argument-ignored"}
    assert not any(c.id.startswith(("labels", "regularisation")) for c in found)


def test_a_sign_is_no_order_of_axes():
    def loss(w, x):
        curvature = jax.grad(jax.grad(lambda w, x: jnp.sum(jnp.sin(x * w)), 1), 1)
        return jnp.mean(jax.vmap(curvature, (None, 0))(w, x) ** 2)

    def gradient(w, x):  # of the curvature −Σ w² sin(x w), with w² held fast
        sin, cos = jnp.sin(jnp.outer(x, w)), jnp.cos(jnp.outer(x, w))
        return -(2 * x * -(sin @ w**2) / len(x)) @ cos * w**2

    assert "groups-exchanged" not in [cause.id for cause in diagnosed(loss, gradient, (W[0], X[:, 0]))]


def test_a_norm_in_a_branch_is_no_mean():
    def loss(w):
        norm = jnp.sqrt(jnp.sum(w * w))
        return jnp.sum((jax.lax.cond(norm > 0.1, lambda w: w / norm, lambda w: w, w) - Y[0]) ** 2)

    def gradient(w):
        norm = jnp.sqrt(jnp.sum(w * w))
        return 2 * (w / norm - Y[0]) / norm

    cause = diagnosed(loss, gradient, (W[0],))[0]
    assert "is not differentiated" in cause.sentence
    assert "mean" not in cause.sentence


@pytest.mark.parametrize("settings", [(True, 2), (False, 1)])
def test_what_decides_what_is_computed_stays_what_it_is(settings):
    def loss(w, x, squashed, layers):
        for _ in range(layers):
            x = jnp.tanh(x @ w) if squashed else x @ w
        return jnp.sum(x**2)

    def gradient(w, x, squashed, layers):
        return 3 * jax.grad(loss)(w, x, squashed, layers)

    w = W[:, :3].astype(np.float32)
    report = compare_gradients(loss, gradient, w, X.astype(np.float32), *settings)
    assert report.correct is False
    assert "3 times" in report.causes[0].sentence
