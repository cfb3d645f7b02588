"""Bounds of solves and factorisations against mpmath, and what they are for: Gaussian processes."""

import itertools

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from jax import lax
from jax.scipy.linalg import cho_solve

from jaxnn.gradcheck import compare_gradients
from jaxnn.gradcheck.bounds.bounded import UNIT, Bounded
from jaxnn.gradcheck.bounds.interpreter import interpret
from jaxnn.gradcheck.jaxprs.equations import opened

RNG = np.random.default_rng(3)
SQUARE = RNG.normal(size=(5, 5))
DEFINITE = SQUARE @ SQUARE.T + 0.01 * np.eye(5)
RIGHT = RNG.normal(size=(5, 2))


def triangle(a, lower: bool, unit: bool):
    t = np.tril(a) if lower else np.triu(a)
    return np.where(np.eye(len(a)), 1.0, t) if unit else t


def exactly(a, b):
    """A⁻¹ B with 50 digits, as an array of mpf."""
    return np.array((mpmath.inverse(mpmath.matrix(a.tolist())) * mpmath.matrix(b.tolist())).tolist())


def factor(a):
    return np.array(mpmath.cholesky(mpmath.matrix(a.tolist())).tolist())


def eliminated(a, order):
    """L below the diagonal and U, with the rows in this order, by elimination with 50 digits."""
    u = np.array([[mpmath.mpf(float(v)) for v in row] for row in a])[order]
    for k, i in itertools.combinations(range(len(u)), 2):
        u[i, k] = u[i, k] / u[k, k]
        u[i, k + 1 :] = u[i, k + 1 :] - u[i, k] * u[k, k + 1 :]
    return u


def bounded(function, *args, errors=None):
    """The first output of function(*args) with its bound, given errors of the arguments."""
    with jax.enable_x64(True):
        jaxpr, consts = opened(jax.make_jaxpr(function)(*args))
        errors = errors or [np.zeros(a.shape) for a in args]
        given = [Bounded(a, e, True) for a, e in zip(args, errors, strict=True)]
        out, notes = interpret(jaxpr, consts, given, [True] * len(args))
    assert {note.kind for note in notes} <= {"unbounded"}
    return out


def assert_holds(out, truth, tight):
    """The bound is above the error, and no wider than so many roundings of the largest entry."""
    for place, value in np.ndenumerate(out.value):
        assert abs(mpmath.mpf(float(value)) - truth[place]) <= out.error[place]
    assert np.all(out.error <= tight * UNIT * np.abs(out.value).max())


@pytest.mark.parametrize("form", list(itertools.product(*[[False, True]] * 4)))
def test_triangular_solve_within_its_bound(form):
    left, lower, transposed, unit = form
    b = RIGHT if left else RIGHT.T
    options = {"left_side": left, "lower": lower, "transpose_a": transposed, "unit_diagonal": unit}
    (out,) = bounded(lambda a, b: lax.linalg.triangular_solve(a, b, **options), SQUARE, b)
    with mpmath.workdps(50):
        t = triangle(SQUARE, lower, unit)
        t = t.T if transposed else t
        truth = exactly(t, RIGHT) if left else exactly(t.T, RIGHT).T
        assert_holds(out, truth, 1e5)


@pytest.mark.parametrize("unit", [False, True])
def test_an_error_of_the_triangle_and_of_the_right_side_is_carried(unit):
    e = 1e-6
    errors = [np.full(SQUARE.shape, e), np.full(RIGHT.shape, e)]

    def solved(a, b):
        return lax.linalg.triangular_solve(a, b, left_side=True, lower=True, unit_diagonal=unit)

    (out,) = bounded(solved, SQUARE, RIGHT, errors=errors)
    with mpmath.workdps(50):
        for _ in range(20):
            a = triangle(SQUARE + 0.999 * e * RNG.choice([-1, 1], SQUARE.shape), True, unit)
            truth = exactly(a, RIGHT + 0.999 * e * RNG.choice([-1, 1], RIGHT.shape))
            assert np.all(np.abs(out.value - truth) <= out.error)
    assert 1e-7 < out.error.max() < 1e-2


def test_an_error_that_is_no_small_one_is_carried_too():
    """Of a fifth, so that what is off by it is off by a quarter."""
    e = [np.full((2, 2), 0.2), np.zeros((2, 1))]
    a, b = np.array([[1.0, 0.0], [0.5, 1.0]]), np.array([[1.0], [2.0]])
    (out,) = bounded(
        lambda a, b: lax.linalg.triangular_solve(a, b, left_side=True, lower=True), a, b, errors=e
    )
    reach = np.zeros((2, 1))
    for signs in itertools.product([-1, 1], repeat=3):
        moved = a + 0.2 * np.array([[signs[0], 0], [signs[1], signs[2]]])
        reach = np.maximum(reach, np.abs(np.linalg.solve(moved, b) - out.value))
    assert np.all(reach <= out.error)
    assert np.all(out.error <= 4 * reach)


def test_factorisations_within_their_bounds():
    (l,), (both, _, order) = bounded(lax.linalg.cholesky, DEFINITE), bounded(lax.linalg.lu, SQUARE)
    with mpmath.workdps(50):
        middle = (DEFINITE + DEFINITE.T) / 2
        assert_holds(l, factor(middle), 1e6)
        assert_holds(both, eliminated(SQUARE, order.value), 1e4)
    assert np.all(np.triu(l.error, 1) == 0)


def test_factorisations_of_what_is_not_exact_within_their_bounds():
    e = 1e-7
    (l,) = bounded(lax.linalg.cholesky, DEFINITE, errors=[np.full((5, 5), e)])
    (both, _, order) = bounded(lax.linalg.lu, SQUARE, errors=[np.full((5, 5), e)])
    with mpmath.workdps(50):
        for _ in range(20):
            shift = np.tril(0.999 * e * RNG.choice([-1, 1], (5, 5)))
            a = DEFINITE + shift + np.tril(shift, -1).T
            assert np.all(np.abs(l.value - factor(a)) <= l.error)
            a = SQUARE + 0.999 * e * RNG.choice([-1, 1], (5, 5))
            assert np.all(np.abs(both.value - eliminated(a, order.value)) <= both.error)
    assert np.abs(l.error).max() < 1e-2
    assert np.abs(both.error).max() < 1e-4


def test_another_pivot_may_be_the_right_one():
    a = np.array([[1.0, 2.0, 0.3], [-1.0, 3.0, 0.1], [0.2, 0.1, 1.0]])
    (both, *_) = bounded(lax.linalg.lu, a, errors=[np.full((3, 3), 1e-15)])
    assert np.all(np.isinf(both.error))


def test_what_may_be_singular_is_unbounded():
    nearly = np.array([[1.0, 1.0], [1.0, 1.0 + 1e-12]])
    (l,) = bounded(lax.linalg.cholesky, nearly, errors=[np.full((2, 2), 1e-11)])
    assert np.isinf(l.error).any()
    (x,) = bounded(
        lambda a, b: lax.linalg.triangular_solve(a, b, left_side=True),
        np.array([[1.0, 1.0], [0.0, 1e-12]]),
        np.ones((2, 1)),
        errors=[np.full((2, 2), 1e-11), np.zeros((2, 1))],
    )
    assert np.isinf(x.error).any()


def test_a_factorisation_without_a_rule_is_named():
    with jax.enable_x64(True):
        jaxpr, consts = opened(jax.make_jaxpr(lax.linalg.lu)(SQUARE[:, :3]))
        (both, *_), notes = interpret(jaxpr, consts, [SQUARE[:, :3]], [True])
    assert [note.what for note in notes] == ["lu"]
    assert 0 < both.error.max() < 1e-10


def test_a_batch_of_systems_is_that_many_systems():
    a, b = np.stack([SQUARE, DEFINITE]), np.stack([RIGHT, RIGHT[::-1]])
    (both,) = bounded(jax.vmap(jnp.linalg.solve), a, b)
    for k in range(2):
        (alone,) = bounded(jnp.linalg.solve, a[k], b[k])
        np.testing.assert_allclose(both.error[k], alone.error, rtol=1e-3)
        with mpmath.workdps(50):
            assert np.all(np.abs(both.value[k] - exactly(a[k], b[k])) <= both.error[k])


def test_a_batch_of_factorisations_is_that_many_factorisations():
    a = np.stack([DEFINITE, DEFINITE[::-1, ::-1]])
    e = [np.full(a.shape, 1e-9)]
    for factorised in (lax.linalg.cholesky, lambda a: lax.linalg.lu(a)[0]):
        (both,) = bounded(factorised, a, errors=e)
        for k in range(2):
            (alone,) = bounded(factorised, a[k], errors=[e[0][k]])
            np.testing.assert_allclose(both.error[k], alone.error, rtol=1e-3)


def covariance(p, X):
    """K without the noise, and the squared distances over ℓ²."""
    D = jnp.sum((X[:, None] - X[None]) ** 2, axis=-1) * jnp.exp(-2 * p["length"])
    return jnp.exp(2 * p["amplitude"] - 0.5 * D), D


def evidence(p, X, y):
    """−log p(y | X) of a Gaussian process, but for a constant."""
    K = covariance(p, X)[0] + jnp.exp(2 * p["noise"]) * jnp.eye(len(X))
    L = jnp.linalg.cholesky(K)
    return 0.5 * y @ cho_solve((L, True), y) + jnp.sum(jnp.log(jnp.diag(L)))


def by_hand(inverse, double=1.0):
    def gradient(p, X, y):
        K, D = covariance(p, X)
        noise = jnp.exp(2 * p["noise"]) * jnp.eye(len(X))
        inverted = inverse(K + noise)
        a = inverted @ y
        slopes = {"amplitude": 2 * K, "length": double * K * D, "noise": 2 * noise}
        return {k: 0.5 * jnp.sum((inverted - jnp.outer(a, a)) * dK) for k, dK in slopes.items()}

    return gradient


INVERSES = {
    "solve": lambda K: jnp.linalg.solve(K, jnp.eye(len(K))),
    "inv": jnp.linalg.inv,
    "Cholesky": lambda K: cho_solve((jnp.linalg.cholesky(K), True), jnp.eye(len(K))),
}


@pytest.mark.parametrize("inverse", INVERSES)
def test_the_gradient_of_a_gaussian_process(inverse):
    X = np.sort(RNG.uniform(-2, 2, size=(20, 1)), axis=0)
    y = np.sin(2 * X[:, 0]) + 0.1 * RNG.normal(size=20)
    p = {"amplitude": 0.1, "length": -0.5, "noise": -2.0}
    args = jax.tree.map(jnp.float32, (p, X, y))
    assert compare_gradients(evidence, by_hand(INVERSES[inverse]), *args).correct is True
    assert compare_gradients(evidence, by_hand(INVERSES[inverse], 1 + 1e-5), *args).correct is False


@pytest.mark.parametrize(
    ("loss", "gradient", "A", "correct"),
    [
        (lambda A: jnp.sum(jnp.linalg.solve(A, jnp.ones(2))), lambda A: A, np.ones((2, 2)), None),
        (
            lambda A: jnp.linalg.det(A),
            lambda A: jnp.array([[A[1, 1], -A[1, 0]], [-A[0, 1], A[0, 0]]]),
            np.outer([1.0, 2.0], [3.0, 5.0]),
            True,
        ),
        (
            lambda A: jnp.sum(jax.scipy.linalg.solve_triangular(A, jnp.ones(2), lower=True)),
            lambda A: A,
            np.zeros((2, 2)),
            None,
        ),
    ],
)
def test_what_is_exactly_singular_is_no_accident(loss, gradient, A, correct):
    report = compare_gradients(loss, gradient, jnp.asarray(A))
    assert report.correct is correct or (correct is None and report.correct is False)
