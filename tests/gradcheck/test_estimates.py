"""A bound that was sampled, not derived from the computation, is called an estimate wherever it counts."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxnn.gradcheck import compare_gradients, gradients
from jaxnn.gradcheck.bounds import interpreter
from jaxnn.gradcheck.diagnosis.search import Diagnosis

X = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 4)), jnp.float32)


def pooled(w):
    windows = ((1, 2, 2), (1, 2, 2), "VALID")
    return jnp.sum(lax.reduce_window(jnp.tanh(w), -jnp.inf, lax.max, *windows) ** 2)


def singular(w):
    return jnp.sum(jnp.linalg.svd(w[0], compute_uv=False))


def iterated(w):
    start = jnp.sum(w**2)
    return lax.scan(lambda x, _: (jnp.cos(x * start), None), start, None, length=50)[0]


SAMPLED = [
    (pooled, r"the bound of select_and_scatter_add at test_estimates.py:\d+ is an estimate: it was sampled"),
    (singular, "the bound of svd is an estimate: there is no rule for it, so it was sampled"),
    (iterated, "the bound of autodiff is an estimate: its loops are too long to be read, .* sampled"),
    (iterated, "the bound of the gradient by hand is an estimate: its loops are too long .* sampled"),
]


@pytest.mark.parametrize(("loss", "note"), SAMPLED)
def test_a_bound_that_was_sampled_is_called_an_estimate(loss, note, tmp_path, monkeypatch):
    monkeypatch.setattr(interpreter, "STEPS", 90)
    report = compare_gradients(loss, jax.grad(loss), 0.1 * X)
    assert any(re.fullmatch(note, said) for said in report.notes), report.notes
    assert report.estimated
    assert "bound partly an estimate" in report.to_text(verbose=True)
    report.to_html(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert ("within the bound, partly an estimate" in page) is (report.correct is True)
    assert "derived from the computation" not in page


def test_a_gradient_that_is_only_called_has_an_estimate():
    report = compare_gradients(lambda w: jnp.sum(w**2), lambda w: 2 * np.asarray(w), X)
    assert (report.correct, report.estimated) == (True, True)
    assert any("its own error is estimated" in note for note in report.notes)


def test_a_bound_that_was_derived_is_called_so(tmp_path):
    report = compare_gradients(lambda w: jnp.sum(jnp.tanh(w)), lambda w: 1 - jnp.tanh(w) ** 2, X)
    assert report.estimated is False
    assert "estimate" not in report.to_text(verbose=True)
    assert "bound derived from the computation" in report.to_text(verbose=True)
    report.to_html(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "every entry within the bound derived from the computation" in page


def test_what_has_no_bound_is_estimated():
    """The logarithm of zero as −1e30, as in the forward pass of CTC: differences there have no bound."""

    def loss(x):
        nowhere = jnp.logaddexp(x[0] - 1e30, x[1] - 1e30)
        return jnp.logaddexp(nowhere, x[2]) + x[0] * x[1]

    def gradient(x):
        return jnp.stack([x[1], x[0], jnp.ones(())])

    x = jnp.array([0.3, -0.7, 1.1])
    report = compare_gradients(loss, gradient, x)
    assert report.correct is True
    assert [note for note in report.notes if "exp" in note and note.endswith("an estimate: it was sampled")]
    assert compare_gradients(loss, lambda x: 1.0001 * gradient(x), x).correct is False


def test_iterations_written_out_have_an_estimate_where_no_bound_is_left(monkeypatch):
    a, b = np.array([0.2, 0.3, 0.5]), np.array([0.4, 0.6])

    def loss(C):
        g = jnp.zeros(2)
        for _ in range(30):
            f = jnp.log(a) - jax.nn.logsumexp(g[None] - C, axis=1)
            g = jnp.log(b) - jax.nn.logsumexp(f[:, None] - C, axis=0)
        return f @ a + g @ b

    def gradient(C, times=1):
        K, u = np.exp(-C), np.ones(3)
        for _ in range(60):
            v = b / (K.T @ u)
            u = a / (K @ v)
        return times * u[:, None] * K * v

    C = np.array([[0.3, 1.2], [0.8, 0.1], [0.5, 0.6]])
    report = compare_gradients(loss, gradient, C)
    assert report.correct is True
    assert report.estimated
    monkeypatch.setattr(
        gradients, "diagnosed", lambda *_: Diagnosis([], [])
    )  # it takes long, and tells nothing
    assert compare_gradients(loss, lambda C: gradient(C, 1.01), C).correct is False
