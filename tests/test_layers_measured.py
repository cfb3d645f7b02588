"""What the layers' own backward is for: digits, and memory, in bytes of the compiled program."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import memory
from experiments.common.arguments import UserError
from jaxnn.activations import gelu, relu, tanh
from jaxnn.layers import (
    attention,
    batch_norm,
    convolution,
    dense,
    layer_norm,
    lstm,
    max_pool,
    mlp,
    recomputed,
    repeated,
    residual,
    reversible,
    rms_norm,
    serial,
    token_cross_entropy,
)
from jaxnn.layers.attention import attended, unattended
from jaxnn.layers.vocabulary import Logits
from jaxnn.losses import cross_entropy, squared_error
from jaxnn.objective import cost, value_and_grad
from tests.programs import ended
from tests.test_layers import KEY, plain_attention, plain_batch_norm, plain_layer_norm, pulled

EPS = 2.0**-23
RNG = np.random.default_rng(0)


def compiled(function, *args):
    """Without what takes LLVM long: the programs here run once."""
    return jax.jit(function).lower(*args).compile(compiler_options={"xla_backend_optimization_level": 0})


def off(ours, truth):
    """The largest error in units of 2⁻²³ of the largest entry."""
    return float(np.max(np.abs(np.asarray(ours, np.float64) - truth)) / np.max(np.abs(truth)) / EPS)


def in_float64(layer, plain, key, params, X, dA):
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda x: jnp.asarray(np.asarray(x), jnp.float64), (params, X, dA))
        _, pull = jax.vjp(lambda params, X: plain(params, X, key), *wide[:2])
        return jax.tree.map(np.asarray, pull(wide[2]))


PLAIN, FLAT = RNG.normal(size=(64, 96)), 1 + 1e-3 * RNG.normal(size=(64, 96))
HARD = {  # X, dA
    "plain": (PLAIN, RNG.normal(size=(64, 96))),
    "mean/std 1e4": (1e4 + PLAIN, RNG.normal(size=(64, 96))),
    "mean/std 1e6": (5e5 + PLAIN / 2, RNG.normal(size=(64, 96))),
    "dA nearly constant": (PLAIN, FLAT),
}
NORMS = {
    "layer": (layer_norm(96), plain_layer_norm, None),
    "batch": (batch_norm(96), plain_batch_norm, jax.random.key),
}


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("case", HARD)
def test_norms_keep_their_digits_far_from_0_and_under_flat_gradients(norm, case):
    layer, plain, key = NORMS[norm]
    key = key and key(0)
    X, dA = (jnp.asarray(x, jnp.float32) for x in HARD[case])
    params = layer.init(jax.random.key(0))
    dparams, dX = in_float64(layer, plain, key, params, X, dA)
    _, (found, found_dX) = jax.jit(pulled(layer, key))(params, X, dA)
    assert off(found_dX, dX) <= 3
    assert off(found.gamma, dparams.gamma) <= 3


def test_softmax_backward_does_not_see_what_all_of_dA_has_in_common():
    Z, dA = (jnp.asarray(RNG.normal(size=(32, 50)), jnp.float32) for _ in range(2))
    dA = jnp.round(dA * 64) / 64  # so that adding 1000 rounds nothing off
    g = cross_entropy.activation
    pull = jax.jit(lambda Z, dA: g.backward(dA, Z, g.forward(Z)))
    with jax.enable_x64(True):
        truth = jax.vjp(jax.nn.softmax, jnp.asarray(np.asarray(Z), float))[1](
            jnp.asarray(np.asarray(dA), float)
        )
        truth = np.asarray(truth[0])
    assert off(pull(Z, dA), truth) <= 6
    assert off(pull(Z, dA + 1000), truth) <= 6


@pytest.mark.parametrize("offset", [0, 30])
def test_attention_does_not_see_what_all_of_V_has_in_common(offset):
    T, d = 48, 16
    Q, K, V, dO = (RNG.normal(size=(2, T, d)).astype(np.float32) for _ in range(4))
    V = V + np.float32(offset)

    def plain(Q, K, V):
        S = jnp.where(np.tril(np.ones((T, T), bool))[None], Q @ K.mT / d**0.5, -jnp.inf)
        return jax.nn.softmax(S, -1) @ V

    def by_hand(Q, K, V, dO):
        Q, K, V, dO = (x[:, None] for x in (Q, K, V, dO))
        C = jnp.cumsum(V, 2)[:, :, ::16] / np.array([1, 17, 33], np.float32)[None, None, :, None]
        O, L = attended(Q, K, V, C, True, 16)
        return unattended(Q, K, V, C, O, L, dO, True, 16)

    with jax.enable_x64(True):
        truth = jax.vjp(plain, *(jnp.asarray(x, jnp.float64) for x in (Q, K, V)))[1](jnp.asarray(dO, float))
        truth = jax.tree.map(np.asarray, truth)
    dQ, dK, dV = jax.jit(by_hand)(Q, K, V, dO)
    assert max(off(found[:, 0], right) for found, right in zip((dQ, dK, dV), truth, strict=True)) <= 6


@pytest.mark.parametrize("lead", [0, 20, 60])
def test_a_confident_prediction_over_many_classes_keeps_its_digits(lead):
    """A and W are such that every z is exact: what is off is the loss's doing."""
    M, V = 16, 5000
    W = np.round(RNG.normal(size=(V, 8)) * 4) / 8
    A = np.round(RNG.normal(size=(M, 8)) * 4) / 4
    A[:, 0] = 1
    label = RNG.choice(V, M, replace=False)
    W[label, 0] += lead
    with jax.enable_x64(True):
        z = A @ W.T
        others = np.where(np.arange(V) == label[:, None], -np.inf, z)
        top = others.max(1)
        d = top + np.log(np.exp(others - top[:, None]).sum(1)) - z[np.arange(M), label]
        J, dz_label = np.logaddexp(0, d), -1 / (1 + np.exp(-d))
    loss = token_cross_entropy(block=1024)
    each = jax.jit(jax.vmap(lambda A, label: (lambda Z: (loss.forward(Z, label), loss.backward(Z, label)))(
        Logits(A[None], jnp.asarray(W, jnp.float32))), (0, 0)))  # fmt: skip
    found_J, dZ = each(jnp.asarray(A, jnp.float32), jnp.asarray(label)[:, None])
    at_label = np.asarray(dZ.W)[np.arange(M), label, 0]  # dz_label times A's first entry, 1
    assert np.max(np.abs(found_J - J) / J) <= 40 * EPS
    assert np.max(np.abs(at_label - dz_label) / np.abs(dz_label)) <= 40 * EPS


def temporaries(function, *args) -> int:
    return compiled(function, *args).memory_analysis().temp_size_in_bytes


def of_autodiff(plain):
    def both(params, X, dA):
        A, pull = jax.vjp(lambda params, X: plain(params, X, None), params, X)
        return A, pull(dA)

    return both


def shapes(layer, *shape):
    params = jax.eval_shape(layer.init, jax.random.key(0))
    X = jax.ShapeDtypeStruct(shape, jnp.float32)
    dA, _ = jax.eval_shape(layer.forward, params, X)
    return params, X, dA


def share(layer, plain, *shape) -> float:
    """Of the temporaries of autodiff."""
    args = shapes(layer, *shape)
    return temporaries(pulled(layer, None), *args) / temporaries(of_autodiff(plain), *args)


@pytest.mark.parametrize(("g", "most"), [(gelu, 0.5), (relu, 0.6)])
def test_a_deep_network_keeps_one_array_a_layer(g, most):
    net, X = mlp(*[1024] * 9, g=g), jax.ShapeDtypeStruct((2048, 1024), jnp.float32)
    params = jax.eval_shape(net.init, jax.random.key(0))
    by_hand = temporaries(value_and_grad(net, squared_error), params, X, X)
    assert by_hand <= most * temporaries(jax.value_and_grad(cost(net, squared_error)), params, X, X)


def test_attention_makes_no_matrix_of_all_places():
    assert share(attention(32, 2, rotary=False), plain_attention(2, 2, True, False), 1, 1024, 32) <= 0.15
    longer = temporaries(pulled(attention(32, 2), None), *shapes(attention(32, 2), 1, 4096, 32))
    assert longer <= 5 * temporaries(pulled(attention(32, 2), None), *shapes(attention(32, 2), 1, 1024, 32))


def test_an_lstm_keeps_the_starts_of_its_segments():
    def plain(p, X, key):
        h = jnp.zeros((len(X), p.W_H.shape[1]), X.dtype)

        def cell(carry, x):
            one = plain_lstm_step(p, *carry, x)
            return one, one[0]

        return jax.lax.scan(cell, (h, h), X.swapaxes(0, 1))[1].swapaxes(0, 1)

    def plain_lstm_step(p, h, c, x):
        i, f, o, g = jnp.split(x @ p.W_X.T + h @ p.W_H.T + p.b.T, 4, 1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        return jax.nn.sigmoid(o) * jnp.tanh(c), c

    assert share(lstm(32, 32), plain, 8, 512, 32) <= 0.08


def test_a_head_goes_through_its_classes_in_blocks():
    A, W = jax.ShapeDtypeStruct((256, 64), jnp.float32), jax.ShapeDtypeStruct((32768, 64), jnp.float32)
    label, loss = jax.ShapeDtypeStruct((256,), jnp.int32), token_cross_entropy(block=1024)

    def by_hand(A, W, label):
        return loss.forward(Logits(A, W), label), loss.backward(Logits(A, W), label)

    def plain(A, W, label):
        log_Y = jax.nn.log_softmax(A @ W.T)
        return -jnp.mean(jnp.take_along_axis(log_Y, label[:, None], axis=1))

    by_autodiff = jax.value_and_grad(plain, (0, 1))
    assert temporaries(by_hand, A, W, label) <= 0.06 * temporaries(by_autodiff, A, W, label)


def test_a_reversible_network_keeps_as_much_at_every_depth():
    f = serial(rms_norm(32), dense(32, 64, tanh), dense(64, 32))
    few, many = (
        temporaries(pulled(reversible(f, f, L), None), *shapes(reversible(f, f, L), 256, 64)) for L in (8, 32)
    )
    assert many <= 1.05 * few


def test_what_is_recomputed_is_not_kept():
    f = residual(serial(layer_norm(32), dense(32, 128, gelu), dense(128, 32)))
    kept, again = (
        temporaries(pulled(repeated(layer, 12), None), *shapes(repeated(layer, 12), 256, 32))
        for layer in (f, recomputed(f))
    )
    assert again <= 0.4 * kept


def test_max_pooling_keeps_a_byte_a_window():
    def of_loss(X):
        A, residuals = max_pool(2).forward((), X)
        return max_pool(2).backward((), residuals, jnp.sin(A))[1]

    X = jax.ShapeDtypeStruct((16, 28, 28, 32), jnp.float32)
    assert temporaries(of_loss, X) <= 16 * 14 * 14 * 32 * 5


def test_the_program_measures_draws_and_tells_what_it_does_not_know(tmp_path):
    small = ["--rows", "8", "--width", "8", "--rounds", "1", "--picture", str(tmp_path / "memory.png")]
    end = ended(memory, *small, "--layers", "mlp-relu", "--json")
    assert end.status == 0
    assert (tmp_path / "memory.png").read_bytes().startswith(b"\x89PNG")
    told = json.loads(end.out)
    assert told["sizes"]["width"] == 8
    ways = [row["way"] for row in told["rows"]]
    assert ways == ["by hand", "jax.vjp", "checkpoint", "checkpoint, dots kept"]
    assert all(row["error"] < 50 for row in told["rows"])
    assert [*memory.works(memory.Sizes(8, 8, 1, 2)), "head"] == [*memory.LAYERS]
    with pytest.raises(UserError, match="a multiple of 8; write --width 8"):
        memory.main(memory.parser().parse_args(["--width", "9"]))


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="other compilers choose for themselves")
def test_no_convolution_of_a_training_takes_the_slow_path():
    """XLA's CPU has a fast program for one order of axes; others it brings into it only outside of loops."""
    net = serial(convolution(3, 5, 3, g=relu), convolution(5, 7, 4, stride=2, padding=1))
    params = net.init(jax.random.key(0))

    def forward_and_back(params, X):
        A, residuals = net.forward(params, X)
        return params, net.backward(params, residuals, A)

    batches = jnp.ones((2, 4, 11, 13, 3))
    text = compiled(lambda *args: jax.lax.scan(forward_and_back, *args), params, batches).as_text()
    assert re.findall(r" convolution\(.*dim_labels=(\S+?),", text) == ["b01f_01io->b01f"] * 6


@pytest.mark.parametrize(
    ("heads", "kv", "rotary", "block", "scale"),
    [
        (3, 3, False, 4, 1),
        (6, 2, True, 4, 1),
        (2, 1, True, 3, 1),
        (2, 2, True, 16, 1),
        (3, 1, False, 4, 1e30),
    ],
)
def test_no_bit_of_a_place_depends_on_what_comes_after_it(heads, kv, rotary, block, scale):
    """At a scale of 1e30 what comes after makes V overflow, and neither Q nor K."""
    T, t = 11, 6
    layer = attention(12, heads, kv, rotary=rotary, block=block)
    params = layer.init(KEY)
    params = params._replace(W_V=scale * params.W_V)
    rng = np.random.default_rng(0)
    X, dA = rng.normal(size=(2, 2, T, 12)).astype(np.float32)
    dA[:, t:] = 0
    both = jax.jit(pulled(layer, None))
    A, (_, dX) = map(jax.device_get, both(params, X, dA))
    for later in (rng.normal(size=(2, T - t, 12)), 1e9, 1e38, np.inf, np.nan):
        changed = X.copy()
        changed[:, t:] = later
        A_then, (_, dX_then) = map(jax.device_get, both(params, changed, dA))
        assert A_then[:, :t].tobytes() == A[:, :t].tobytes()
        assert dX_then[:, :t].tobytes() == dX[:, :t].tobytes()
        assert not dX_then[:, t:].any()
        assert not np.array_equal(A_then[:, t:], A[:, t:])
    changed = X.copy()
    changed[0, t, 0] = np.nan
    A_then = np.asarray(both(params, changed, dA)[0])
    assert np.isnan(A_then[0, t:]).all()
    assert A_then[1].tobytes() == A[1].tobytes()
