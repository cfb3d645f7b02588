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

rng = np.random.default_rng(0)
W, X = (jnp.asarray(rng.normal(size=s), jnp.float32) for s in ((3, 2), (8, 3)))
mesh = Mesh(np.array(jax.devices()), ("d",))

def sharded(body):
    return jax.jit(jax.shard_map(body, mesh=mesh, in_specs=(P(), P("d")), out_specs=P(), check_vma=False))

def loss(W, X):
    return jnp.mean((X @ W) ** 2)

def part(W, X):
    return X.T @ (X @ W) / 8

def missing(W, X):
    return part(W, X)

def right(W, X):
    return jax.lax.psum(part(W, X), "d")

def extra(W, X):
    return jax.lax.psum(right(W, X), "d")

def mean(W, X):
    return jax.lax.pmean(part(W, X), "d")

def alone(W, X):
    return part(W, X[:2])

candidates = *map(sharded, (right, missing, mean, extra)), alone
reports = [compare_gradients(loss, f, W, X) for f in candidates]
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
