"""Every layer's backward against jax.grad of a plain forward that is written here, by itself."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import training
from jaxnn.activations import identity, sigmoid, tanh
from jaxnn.evaluation import with_statistics
from jaxnn.gradcheck import compare_gradients, compare_vjp
from jaxnn.layers import (
    Layer,
    ShapeError,
    Targets,
    attention,
    average_pool,
    batch_norm,
    convolution,
    dense,
    dropout,
    embedding,
    head,
    layer_norm,
    lstm,
    max_pool,
    recomputed,
    repeated,
    residual,
    reversible,
    rms_norm,
    serial,
    tied,
    token_cross_entropy,
)
from jaxnn.layers.vocabulary import Logits
from jaxnn.losses import Loss, squared_error
from jaxnn.objective import cost, value_and_grad
from jaxnn.per_example import norms

pytestmark = pytest.mark.usefixtures("compiled_plainly")
KEY = jax.random.key(7)


def plain_dense(g):
    return lambda p, X, key: g(jnp.einsum("...i,oi->...o", X, p.W) + bent(p.b, X))


def bent(column, X):
    return column.reshape((1,) * (X.ndim - 1) + (-1,))


def plain_layer_norm(p, X, key):
    mean, std = X.mean(-1, keepdims=True), jnp.sqrt(X.var(-1, keepdims=True) + 1e-5)
    return (X - mean) / std * bent(p.gamma, X) + bent(p.beta, X)


def plain_rms_norm(p, X, key):
    return X / jnp.sqrt((X**2).mean(-1, keepdims=True) + 1e-5) * bent(p.gamma, X)


def plain_batch_norm(p, X, key):
    axes = tuple(range(X.ndim - 1))
    mean, var = X.mean(axes, keepdims=True), X.var(axes, keepdims=True)
    if key is None:
        mean, var = jax.lax.stop_gradient((bent(p.mean, X), bent(p.variance, X)))
    return (X - mean) / jnp.sqrt(var + 1e-5) * bent(p.gamma, X) + bent(p.beta, X)


def windows(X, size, stride):
    """(N, H_out, W_out, size, size, n), by indices."""
    at = [np.arange((side - size) // stride + 1)[:, None] * stride + np.arange(size) for side in X.shape[1:3]]
    return X[:, at[0][:, None, :, None], at[1][None, :, None, :]]


def plain_convolution(stride, padding, groups, g=lambda Z: Z):
    def forward(p, X, key):
        X = jnp.pad(X, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
        of_groups = zip(jnp.split(X, groups, -1), jnp.split(p.W, groups, -1), strict=True)
        Z = [jnp.einsum("nabijc,ijco->nabo", windows(x, len(w), stride), w) for x, w in of_groups]
        return g(jnp.concatenate(Z, -1) + bent(p.b, X))

    return forward


def plain_pool(size, stride, of):
    return lambda p, X, key: of(windows(X, size, stride), axis=(3, 4))


def plain_attention(heads, kv, causal, rotary):
    def turned(X):
        T, d = X.shape
        angle = np.arange(T)[:, None] / 10_000.0 ** (np.arange(d // 2)[None] / (d // 2))
        a, b = X[:, : d // 2], X[:, d // 2 :]
        cos, sin = np.cos(angle).astype(X.dtype), np.sin(angle).astype(X.dtype)
        return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], 1)

    def of_one(p, X):
        T, n = X.shape
        d = n // heads
        out = []
        for h in range(heads):
            own, shared = slice(h * d, (h + 1) * d), slice(h * kv // heads * d, (h * kv // heads + 1) * d)
            Q, K, V = X @ p.W_Q[own].T, X @ p.W_K[shared].T, X @ p.W_V[shared].T
            if rotary:
                Q, K = turned(Q), turned(K)
            S = Q @ K.T / np.sqrt(d).astype(X.dtype)
            if causal:
                S = jnp.where(np.tril(np.ones((T, T), bool)), S, -jnp.inf)
            out.append(jax.nn.softmax(S, -1) @ V)
        return jnp.concatenate(out, 1) @ p.W_O.T

    return lambda p, X, key: jax.vmap(of_one, (None, 0))(p, X)


def plain_lstm(p, X, key):
    h = c = jnp.zeros((len(X), p.W_H.shape[1]), X.dtype)
    H = []
    for t in range(X.shape[1]):
        i, f, o, g = jnp.split(X[:, t] @ p.W_X.T + h @ p.W_H.T + p.b.T, 4, 1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        H.append(h)
    return jnp.stack(H, 1)


def plain_block(p, X, key):
    A = plain_layer_norm(p[0], X, key)
    return X + plain_dense(lambda Z: Z)(p[2], plain_dense(jnp.tanh)(p[1], A, key), key)


def of_each(of_one, L):
    def forward(p, X, key):
        for l in range(L):
            X = of_one(jax.tree.map(lambda leaf, l=l: leaf[l], p), X, key)
        return X

    return forward


def plain_reversible(p, X, key):
    A1, A2 = jnp.split(X, 2, -1)
    A1 = A1 + plain_dense(jnp.tanh)(p[0], A2, key)
    return jnp.concatenate([A1, A2 + plain_dense(jax.nn.sigmoid)(p[1], A1, key)], -1)


def plain_dropout(p, X, key):
    return X if key is None else X * jax.random.bernoulli(key, 0.75, X.shape).astype(X.dtype) / 0.75


BLOCK = residual(serial(layer_norm(4), dense(4, 6, tanh), dense(6, 4)))


class Case(NamedTuple):
    layer: Layer
    plain: Callable
    shape: tuple[int, ...]
    key: Any = None
    low: float = -1  # no parameter is below it


CASES = {
    "dense, places": Case(dense(3, 5, tanh), plain_dense(jnp.tanh), (2, 4, 3)),
    "layer norm": Case(layer_norm(5), plain_layer_norm, (2, 3, 5)),
    "rms norm": Case(rms_norm(5), plain_rms_norm, (2, 3, 5)),
    "batch norm": Case(batch_norm(5), plain_batch_norm, (7, 5), KEY),
    "batch norm, images": Case(batch_norm(2), plain_batch_norm, (3, 4, 5, 2), KEY),
    "batch norm, evaluated": Case(batch_norm(5), plain_batch_norm, (7, 5), low=0.5),
    "convolution, stride": Case(
        convolution(2, 3, 3, stride=2, padding=1, g=tanh), plain_convolution(2, 1, 1, jnp.tanh), (2, 6, 7, 2)
    ),
    "convolution, groups": Case(
        convolution(4, 6, 2, stride=2, padding=1, groups=2), plain_convolution(2, 1, 2), (3, 5, 4, 4)
    ),
    "max pool": Case(max_pool(2), plain_pool(2, 2, jnp.max), (2, 4, 6, 3)),
    "max pool, overlapping": Case(max_pool(3, 2), plain_pool(3, 2, jnp.max), (2, 6, 7, 3)),
    "average pool, overlapping": Case(average_pool(3, 2), plain_pool(3, 2, jnp.mean), (2, 6, 7, 3)),
    "dropout": Case(dropout(0.25), plain_dropout, (4, 5), KEY),
    "attention, all": Case(
        attention(8, 2, causal=False, rotary=False, block=3), plain_attention(2, 2, False, False), (2, 5, 8)
    ),
    "attention, groups": Case(attention(12, 6, 2, block=2), plain_attention(6, 2, True, True), (2, 5, 12)),
    "lstm": Case(lstm(3, 5, segment=2), plain_lstm, (2, 5, 3)),
    "block": Case(BLOCK, plain_block, (3, 2, 4)),
    "repeated, recomputed": Case(repeated(recomputed(BLOCK), 3), of_each(plain_block, 3), (2, 3, 4)),
    "reversible": Case(
        reversible(dense(3, 3, tanh), dense(3, 3, sigmoid), 3), of_each(plain_reversible, 3), (5, 6)
    ),
}  # fmt: skip


def problem(case: Case, dtype=np.float64):
    """Parameters and an input; drawn by NumPy, which compiles nothing."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(case.layer.init, KEY)
    params = jax.tree.map(lambda p: jnp.asarray(rng.uniform(case.low, 1, p.shape), dtype), shapes)
    return params, jnp.asarray(rng.normal(size=case.shape), dtype)


def pulled(layer: Layer, key):
    def both(params, X, dA):
        A, residuals = layer.forward(params, X, key)
        return A, layer.backward(params, residuals, dA)

    return both


def assert_alike(ours, theirs, tolerance=1e-12):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        a, b = np.asarray(a), np.asarray(b)
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(1, np.abs(b).max()))


@pytest.mark.parametrize("name", CASES)
def test_each_backward_is_that_of_autodiff_compiled_and_for_many_at_once(name, x64):
    layer, plain, _, key, _ = case = CASES[name]
    params, X = problem(case)

    def expected(params, X, dA):
        A, pull = jax.vjp(lambda params, X: plain(params, X, key), params, X)
        return A, pull(dA)

    dA = np.random.default_rng(1).normal(size=jax.eval_shape(lambda: plain(params, X, key)).shape)
    many = jax.tree.map(lambda x: np.stack([x, 2 * x]), (np.asarray(X), dA))
    ours, theirs = (jax.jit(jax.vmap(f, (None, 0, 0)))(params, *many) for f in (pulled(layer, key), expected))
    assert_alike(ours, theirs)


IN_ALL = repeated(recomputed(residual(dense(3, 3, tanh))), 2)
SMALL = {
    name: CASES[name]
    for name in (
        "layer norm",
        "rms norm",
        "batch norm",
        "convolution, groups",
        "max pool, overlapping",
        "dropout",
    )
} | {
    "average pool, overlapping": Case(average_pool(2, 1), plain_pool(2, 1, jnp.mean), (2, 3, 4, 2)),
    "attention": Case(attention(4, 2), plain_attention(2, 2, True, True), (1, 2, 4)),
    "lstm": Case(lstm(2, 3), plain_lstm, (1, 2, 2)),
    "residual, recomputed, repeated": Case(
        IN_ALL, of_each(lambda p, X, key: X + plain_dense(jnp.tanh)(p, X, key), 2), (2, 3)
    ),
    "reversible": Case(
        reversible(dense(2, 2, tanh), dense(2, 2, sigmoid), 2), of_each(plain_reversible, 2), (3, 4)
    ),
}


def ruled(layer: Layer, key=None):
    """A layer as a function with a rule, as anybody would hand it to gradcheck."""
    function = jax.custom_vjp(lambda params, X: layer.forward(params, X, key)[0])

    def forward(params, X):
        A, residuals = layer.forward(params, X, key)
        return A, (params, residuals)

    function.defvjp(forward, lambda kept, dA: layer.backward(*kept, dA))
    return function


@pytest.mark.parametrize("name", SMALL)
def test_each_backward_is_held_by_gradcheck(name):
    layer, plain, _, key, _ = case = SMALL[name]
    params, X = problem(case, np.float32)
    report = compare_vjp(ruled(layer, key), params, X, reference=lambda params, X: plain(params, X, key))
    assert report.correct is True, str(report)


def test_the_two_ends_of_a_vocabulary_are_held_by_gradcheck():
    tokens, table = jnp.array([[3, 0, 3], [1, 2, 0]]), embedding(4, 2)
    report = compare_vjp(ruled(table), table.init(KEY), tokens, reference=lambda params, X: params.E[X])
    assert report.correct is True, str(report)

    def plain(Z, label, weight):
        log_Y = jax.nn.log_softmax(Z.A @ Z.W.T)
        Y = 0.8 * jax.nn.one_hot(label, 5, dtype=log_Y.dtype) + 0.2 / 5
        return -jnp.sum(weight * jnp.sum(Y * log_Y, -1)) / jnp.sum(weight)

    def backward(Z, *Y):
        return token_cross_entropy(0.2, block=3).backward(Z, Targets(*Y))

    Z = Logits(*(jnp.cos(jnp.arange(1.0, m + 1)).reshape(-1, 2) for m in (6, 10)))
    report = compare_gradients(plain, backward, Z, jnp.array([0, 4, 2]), jnp.array([1, 0.5, 2]))
    assert report.correct is True, str(report)


def test_where_several_are_largest_the_first_takes_the_gradient_as_in_jax():
    X = jnp.array([[2.0, 5.0, 5.0], [5.0, 1.0, 0.0], [0.0, 5.0, 5.0]]).reshape(1, 3, 3, 1)
    layer = max_pool(2, 1)
    A, residuals = layer.forward((), X)
    dA = jnp.array([1.0, 10.0, 100.0, 1000.0]).reshape(A.shape)

    def plain(X):
        return jax.lax.reduce_window(X, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 1, 1, 1), "VALID")

    found, expected = layer.backward((), residuals, dA)[1], jax.vjp(plain, X)[1](dA)[0]
    np.testing.assert_array_equal(found.reshape(3, 3), [[0, 11, 0], [100, 0, 0], [0, 1000, 0]])
    np.testing.assert_array_equal(found, expected)


def test_a_pixel_that_is_no_number_is_the_largest():
    X = jnp.array([1.0, jnp.nan, 3.0, jnp.nan]).reshape(1, 2, 2, 1)
    A, residuals = max_pool(2).forward((), X)
    assert jnp.isnan(A).all()
    dX = max_pool(2).backward((), residuals, jnp.ones_like(A))[1]
    np.testing.assert_array_equal(dX.ravel(), [0, 1, 0, 0])


TOKENS = jnp.array([[4, 0, 4, 2], [1, 1, 6, 3]])


def tokens_problem(net, dtype=jnp.float64):
    rng, shapes = np.random.default_rng(5), jax.eval_shape(net.init, KEY)
    params = jax.tree.map(lambda p: jnp.asarray(rng.uniform(-1, 1, p.shape), dtype), shapes)
    label = jnp.array([[0, 4, 2, 6], [1, 6, 3, 3]])
    weight = jnp.array([[1, 0, 2, 0.5], [0, 1, 1, 3]], dtype)
    return params, label, weight


@pytest.mark.parametrize(
    ("smoothing", "block", "both_ends"), [(0.0, 7, False), (0.0, 3, True), (0.2, 4, False)]
)
def test_a_network_over_a_vocabulary_matches_autodiff(smoothing, block, both_ends, x64):
    V, n, middle = 7, 5, dense(5, 5, tanh)
    net = tied(V, n, middle) if both_ends else serial(embedding(V, n), middle, head(n, V))
    params, label, weight = tokens_problem(net)

    def plain(params, tokens, label, weight):
        E, p, W = (params.E, params.net, params.E) if both_ends else (params[0].E, params[1], params[2].E)
        log_Y = jax.nn.log_softmax(jnp.tanh(E[tokens] @ p.W.T + p.b[None, :, 0][None]) @ W.T)
        Y = (1 - smoothing) * jax.nn.one_hot(label, V) + smoothing / V
        return -jnp.sum(weight * jnp.sum(Y * log_Y, -1)) / jnp.sum(weight)

    gradient = jax.jit(value_and_grad(net, token_cross_entropy(smoothing, block)))
    expected = jax.jit(jax.value_and_grad(plain))
    assert_alike(gradient(params, TOKENS, Targets(label, weight)), expected(params, TOKENS, label, weight))
    J, _ = gradient(params, TOKENS, label)
    np.testing.assert_allclose(J, expected(params, TOKENS, label, np.ones(label.shape))[0], rtol=1e-13)


def test_tokens_of_no_weight_change_nothing_even_if_all_are():
    loss, Z = token_cross_entropy(), Logits(jnp.ones((3, 2)), jnp.ones((4, 2)))
    for of in (loss.forward, loss.backward):
        found = of(Z, Targets(jnp.array([0, -100, 4]), jnp.zeros(3)))
        assert all(not x.any() for x in jax.tree.leaves(found))


def test_what_is_no_token_becomes_nan_and_gets_no_gradient():
    layer = embedding(3, 2)
    params = layer.init(jax.random.key(0))
    A, tokens = layer.forward(params, jnp.array([0, 3, -1]))
    assert jnp.isnan(A).tolist() == [[False] * 2, [True] * 2, [True] * 2]
    assert layer.backward(params, tokens, jnp.ones((3, 2)))[0].E.tolist() == [[1, 1], [0, 0], [0, 0]]
    tokens = jnp.array([[0, 9], [9, 9], [-1, -1]])
    for table in (layer, embedding(9, 2)):  # which take different formulas for two places
        squared, _ = table.squared_norms(table.init(KEY), tokens, jnp.ones((3, 2, 2)))
        assert squared.tolist() == [2, 0, 0]


def test_the_statistics_of_a_batch_norm_are_those_of_the_data(x64):
    net = serial(dense(3, 4, tanh), residual(batch_norm(4)), dropout(0.5), repeated(batch_norm(4), 2))
    params, X = net.init(jax.random.key(0)), jax.random.normal(jax.random.key(1), (5, 60, 3))
    filled = with_statistics(net, params, X, KEY)
    A = jnp.tanh(X.reshape(300, 3) @ params[0].W.T)
    np.testing.assert_allclose(filled[1].mean[:, 0], A.mean(0), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(filled[1].variance[:, 0], A.var(0), rtol=1e-12)
    assert filled[3].variance.shape == (2, 4, 1)
    np.testing.assert_allclose(filled[3].variance[1], 1, rtol=0.1)
    assert jax.tree.structure(filled) == jax.tree.structure(params)
    with pytest.raises(ValueError, match="a batch norm's residuals are not kept"):
        with_statistics(recomputed(batch_norm(3)), batch_norm(3).init(KEY), X, KEY)


def test_each_part_of_a_network_draws_by_itself_and_alike_on_the_way_back(x64):
    net = serial(dropout(0.5), repeated(recomputed(serial(dense(6, 6, tanh), dropout(0.5))), 2), dropout(0.5))
    params, X = jax.jit(net.init)(jax.random.key(0)), jnp.ones((40, 6))
    key, gradient = jax.random.key(3), jax.jit(value_and_grad(net, squared_error))
    ours = gradient(params, X, X, key)
    assert_alike(ours, jax.jit(jax.value_and_grad(cost(net, squared_error)))(params, X, X, key))
    assert ours[0] != gradient(params, X, X, jax.random.key(4))[0]
    first, _, last = jax.jit(lambda *args: net.forward(*args)[1])(params, X, key)
    assert (first != last).any()


def test_an_epoch_hands_each_step_a_key_of_its_own_if_asked():
    def record(keys, x, key):
        return jnp.roll(keys, 1).at[0].set(jax.random.bits(key)), 0.0

    X, none = jnp.zeros(14), jnp.zeros(7, jnp.uint32)
    for fetched in (training.FETCHED, 6):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(training, "FETCHED", fetched)
            keys, _ = training.epoch(record, 2, keyed=True)(none, KEY, X)
            last, _ = training.steps_from(record, 2, 3, keyed=True)(none, KEY, 4, X)
        assert len(set(keys.tolist())) == 7
        assert keys[:3].tolist() == last[:3].tolist()


def squares(Z, Y):
    return jnp.sum((Z - Y) ** 2) / 2 / len(Z)


OF_PLACES = Loss(identity, squares, lambda Z, Y: (Z - Y) / len(Z))  # of any shape

EACH = {
    "dense": serial(dense(3, 20, tanh), dense(20, 5)),
    "norms": serial(layer_norm(3), dense(3, 2, tanh), rms_norm(2), dropout(0.5)),
    "many layers": repeated(residual(serial(rms_norm(3), recomputed(dense(3, 3, tanh)))), 2),
}


@pytest.mark.parametrize(("name", "shape"), [*zip(EACH, [(4, 30, 3), (4, 2, 3), (4, 3)], strict=True)])
def test_the_norms_of_single_examples_are_those_of_autodiff(name, shape, x64):
    net = EACH[name]
    params, X = net.init(jax.random.key(0)), jax.random.normal(jax.random.key(1), shape)
    Y = jax.random.normal(jax.random.key(2), jax.eval_shape(net.forward, params, X)[0].shape)
    assert_norms(net, OF_PLACES, params, X, Y)


@pytest.mark.parametrize("V", [7, 100])
def test_the_norms_of_an_embedding_are_those_of_autodiff(V, x64):
    net = serial(embedding(V, 3), dense(3, 2, tanh))
    Y = jax.random.normal(jax.random.key(2), (*TOKENS.shape, 2))
    assert_norms(net, OF_PLACES, net.init(jax.random.key(0)), TOKENS, Y)


def assert_norms(net, loss, params, X, Y):
    alone = params, X[:, None], Y[:, None]
    each = jax.jit(jax.vmap(jax.grad(cost(net, loss)), (None, 0, 0)))(*alone)
    expected = jnp.sqrt(sum(jnp.sum(x.reshape(len(X), -1) ** 2, 1) for x in jax.tree.leaves(each)))
    np.testing.assert_allclose(jax.jit(norms(net, loss))(params, X, Y), expected, rtol=1e-11)


def test_a_layer_without_norms_of_single_examples_says_so():
    for layer in (batch_norm(3), attention(4, 2), lstm(3, 2), convolution(1, 2, 3), head(3, 9)):
        with pytest.raises(TypeError) as error:
            norms(residual(serial(dense(3, 3), repeated(layer, 2))), squared_error)
        assert (
            str(error.value)
            == f"net: got {layer.name}, which has no norms of the gradients of single examples"
        )


REFUSED = {
    "layer_norm: its input is (2, 3), expected (N, 4)": (layer_norm(4), jnp.ones((2, 3))),
    "max_pool: its input is (2, 3, 9, 1), expected (N, H, W, n) with H and W at least 4": (
        max_pool(4), jnp.ones((2, 3, 9, 1))),
    "convolution: W is (3, 3, 2, 4), its input is (2, 5, 5, 3), expected (N, H, W, 2)": (
        convolution(2, 4, 3), jnp.ones((2, 5, 5, 3))),
    "attention: its input is (2, 4), expected (N, T, 4)": (attention(4, 2), jnp.ones((2, 4))),
    "lstm: its input is (2, 3, 5), expected (N, T, 4)": (lstm(4, 2), jnp.ones((2, 3, 5))),
    "tokens: got float32, expected whole numbers": (embedding(4, 2), jnp.ones((2, 3))),
    "dense(1→3): gives (2, 3), which is added to (2, 1), expected the same shape": (
        residual(dense(1, 3)), jnp.ones((2, 1))),
    "dense(2→1): gives (4, 1), which is added to (4, 2), expected the same shape": (
        reversible(dense(2, 1), dense(2, 2), 3), jnp.ones((4, 4))),
    "reversible: its input is (4, 5), expected two halves of the last axis": (
        reversible(dense(2, 2), dense(2, 2), 3), jnp.ones((4, 5))),
}  # fmt: skip


@pytest.mark.parametrize("said", REFUSED)
def test_what_does_not_fit_a_layer_is_said_in_one_line(said, as_a_user):
    layer, X = REFUSED[said]
    with pytest.raises(ShapeError) as error:
        layer.forward(layer.init(KEY), X)
    assert str(error.value) == said
