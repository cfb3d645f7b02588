"""Gradients computed on several devices: a sum over them too few, or one too many."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAM = """
import json
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, PartitionSpec as P
from jaxnn.gradcheck import compare_gradients

draw = np.random.default_rng(0).normal
p, XY = (
    tuple(jnp.asarray(draw(size=s), jnp.float32) for s in sizes)
    for sizes in (((3, 5), (5,), (5, 2)), ((8, 3), (8, 2)))
)
mesh = Mesh(np.array(jax.devices()), ("d",))

def sharded(sums):
    body = lambda p, X, Y: jax.tree.map(sums, part(p, X, Y))
    specs = dict(in_specs=(P(), P("d"), P("d")), out_specs=P(), check_vma=False)
    return jax.jit(jax.shard_map(body, mesh=mesh, **specs))

def loss(p, X, Y):
    return jnp.mean((jnp.tanh(X @ p[0] + p[1]) @ p[2] - Y) ** 2)

def part(p, X, Y):
    A = jnp.tanh(X @ p[0] + p[1])
    dY = 2 * (A @ p[2] - Y) / 16
    dZ = dY @ p[2].T * (1 - A * A)
    return X.T @ dZ, dZ.sum(axis=0), A.T @ dY

def right(x):
    return jax.lax.psum(x, "d")

def missing(x):
    return x

def mean(x):
    return jax.lax.pmean(x, "d")

def extra(x):
    return right(right(x))

def alone(p, X, Y):
    return part(p, X[:2], Y[:2])

candidates = *map(sharded, (right, missing, mean, extra)), alone
reports = [compare_gradients(loss, f, p, *XY) for f in candidates]
print(json.dumps([(r.correct, [c.id for c in r.causes]) for r in reports]))
"""


def test_a_sum_over_the_devices_too_few_or_too_many_is_seen():
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        encoding="utf-8",
        env=os.environ | {"PYTHONPATH": str(ROOT), "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
    )
    assert done.returncode == 0, done.stderr
    right, missing, mean, extra, alone = json.loads(done.stdout)
    assert right == [True, []]
    assert missing == [False, ["missing-psum"]]
    assert mean == [False, ["missing-psum"]]
    assert extra == [False, ["extra-psum"]]
    assert alone == [False, ["examples-ignored"]]  # there are four devices, but it uses one
