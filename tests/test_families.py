import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnn.activations import sigmoid
from jaxnn.devices.mesh import MEMBERS, mesh_of, placed
from jaxnn.encoding import one_hot
from jaxnn.families import member, narrow, stack, together, widen
from jaxnn.layers import mlp
from jaxnn.losses import cross_entropy
from jaxnn.objective import value_and_grad
from jaxnn.training import epoch, scaled, start, step

pytestmark = pytest.mark.usefixtures("compiled_plainly")
N, BATCH = 50, 8
ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _as_optax_needs_it(x64):
    with jax.numpy_dtype_promotion("standard"):
        yield


def data():
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.normal(size=(N, 3))), one_hot(jnp.asarray(rng.integers(0, 4, N)), 4).astype(float)


def epoch_of(net, optimizer):
    return epoch(step(value_and_grad(net, cross_entropy), optimizer), BATCH)


def close(a, b):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), a, b)


def test_a_family_trains_each_as_if_alone():
    net, key = mlp(3, 7, 4, g=sigmoid), jax.random.key(9)
    optimizer, rates = optax.adamw, [0.1, 0.02]
    alone, states = [], []
    for seed, rate in enumerate(rates):
        params = net.init(jax.random.key(seed))
        one_epoch = epoch_of(net, optimizer(rate))
        alone.append(jax.jit(one_epoch)(start(params, optimizer(rate)), key, *data()))
        states.append(start(params, scaled(optimizer(1.0), jax.tree.map(lambda p, rate=rate: rate, params))))
    mesh = mesh_of(jax.devices()[:1])
    family, (key, *shared) = placed(mesh, stack(states), MEMBERS), placed(mesh, (key, *data()))
    program = jax.jit(together(epoch_of(net, scaled(optimizer(1.0), None)), mesh))
    family, J = program(family, key, *shared)
    for k, (state, cost) in enumerate(alone):
        close(member(family, k).params, state.params)
        np.testing.assert_allclose(J[k], cost, rtol=1e-9)
    assert len(np.unique(J)) == len(rates)


def test_a_narrow_network_inside_a_wide_one_trains_as_if_alone():
    g = sigmoid  # of which g(0) is not 0
    sizes, widest = [(3, 2, 1, 4), (3, 6, 5, 4)], (3, 6, 5, 4)
    key, rate = jax.random.key(9), 0.3
    states, alone = [], []
    for seed, n in enumerate(sizes):
        net = mlp(*n, g=g)
        params = net.init(jax.random.key(seed))
        alone.append(jax.jit(epoch_of(net, optax.adam(rate)))(start(params, optax.adam(rate)), key, *data()))
        factors = widen(jax.tree.map(lambda p: jnp.full_like(p, rate), params), widest)
        states.append(start(widen(params, widest), scaled(optax.adam(1.0), factors)))
    wide = epoch_of(mlp(*widest, g=g), scaled(optax.adam(1.0), None))
    family, J = jax.jit(jax.vmap(wide, (0, None, None, None)))(stack(states), key, *data())
    for k, (n, (state, cost)) in enumerate(zip(sizes, alone, strict=True)):
        found = member(family, k).params
        close(narrow(found, n), state.params)
        np.testing.assert_allclose(J[k], cost, rtol=1e-9)
        outside = sum(p.size for p in jax.tree.leaves(found)) - sum(
            p.size for p in jax.tree.leaves(state.params)
        )
        assert sum(int(np.sum(np.asarray(p) == 0)) for p in jax.tree.leaves(found)) == outside


def test_each_of_several_devices_has_its_part():
    code = """
import jax, jax.numpy as jnp, numpy as np
from jaxnn.devices.mesh import MEMBERS, mesh_of, placed
from jaxnn.families import together

mesh = mesh_of(jax.devices(), members=3)
family, X = placed(mesh, jnp.arange(6.0), MEMBERS), placed(mesh, jnp.arange(4.0))
found = jax.jit(together(lambda w, x: w * x, mesh))(family, X)
for array, shape in ((family, (2,)), (X, (4,)), (found, (2, 4))):
    assert [shard.data.shape for shard in array.addressable_shards] == 3 * [shape]
np.testing.assert_array_equal(found, np.outer(range(6), range(4)))
"""
    devices = {"XLA_FLAGS": "--xla_force_host_platform_device_count=3", "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, env=os.environ | devices)


def test_narrow_undoes_widen():
    params = mlp(3, 2, 4, g=sigmoid).init(jax.random.key(0))
    wide = widen(params, (3, 7, 4))
    assert [(W.shape, b.shape) for W, b in wide] == [((7, 3), (7, 1)), ((4, 7), (4, 1))]
    jax.tree.map(np.testing.assert_array_equal, narrow(wide, (3, 2, 4)), params)
