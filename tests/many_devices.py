"""What tests/test_devices.py asks of eight simulated devices, in one process: printed as JSON."""

import contextlib
import hashlib
import itertools
import json
import re
import signal
import tempfile
from pathlib import Path

import jax
import numpy as np
import optax

from experiments import check_layout, train
from experiments.common import programs
from jaxnn import losses
from jaxnn.activations import gelu, sigmoid
from jaxnn.devices import mesh as meshes
from jaxnn.devices import split
from jaxnn.devices.collectives import sent
from jaxnn.devices.in_order import in_order
from jaxnn.devices.mesh import mesh_of, placed
from jaxnn.encoding import inputs, targets
from jaxnn.layers import Layer, attention, dense, layer_norm, mlp, residual, serial
from jaxnn.objective import value_and_grad
from jaxnn.training import start
from tests.programs import ended

N, SIDE, CLASSES = 1536, 12, 10


def reshaped(to, back):
    return Layer(
        lambda key: (),
        lambda params, A, key=None: (A.reshape(len(A), *to), None),
        lambda params, r, dA: ((), dA.reshape(len(dA), *back)),
    )


def transformer():
    attend = residual(serial(layer_norm(16), attention(16, heads=4, kv_heads=2, block=4)))
    think = residual(serial(layer_norm(16), dense(16, 24, gelu), dense(24, 16)))
    ends = reshaped((SIDE, SIDE), (SIDE * SIDE,)), reshaped((SIDE * 16,), (SIDE, 16))
    return serial(ends[0], dense(SIDE, 16), attend, think, ends[1], dense(SIDE * 16, CLASSES))


def compiled(net, n, batch_size, steps):
    """Steps on n devices: the program, what it starts with, and the number of parameters."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (N, SIDE, SIDE), np.uint8)
    labels = rng.integers(0, CLASSES, N).astype(np.int32)
    gradient = value_and_grad(net, losses.cross_entropy)

    def on_images(params, images, labels):
        return gradient(params, inputs(images, 255), targets(labels, CLASSES))

    optimizer, mesh = optax.adam(0.01), mesh_of(jax.devices(), data=n)
    state = start(net.init(jax.random.key(0)), optimizer)
    rest = placed(mesh, (state, jax.random.key(1), np.int32(0), images, labels))
    program = split.steps_on(mesh, split.step(on_images, optimizer, mesh), batch_size, steps)
    return jax.jit(program).lower(*rest).compile(), rest, sum(p.size for p in jax.tree.leaves(state.params))


def measured(net, batch_size, steps, devices):
    found = {}
    for n in devices:
        program, rest, P = compiled(net, n, batch_size, steps)
        text = program.as_text()
        fetched = {int(rows) for rows in re.findall(rf"u8\[(\d+)(?:,1)?,{SIDE * SIDE}\]", text)} - {N}
        _, J = jax.block_until_ready(program(*rest))
        found[n] = {
            "P": P,
            "sent": sent(text),
            "fetched": sorted(fetched),
            "temporaries": program.memory_analysis().temp_size_in_bytes,
            "J": np.asarray(J).tolist(),
        }
    return found


def summed_in_order(n):
    """The bits after some steps on n devices, each batch's gradient summed in order."""
    rng, mesh = np.random.default_rng(1), mesh_of(jax.devices(), data=n)
    X, Y = rng.normal(size=(96, 7)).astype(np.float32), np.eye(5, dtype=np.float32)[rng.integers(0, 5, 96)]
    net, optimizer = mlp(7, 6, 5, g=sigmoid), optax.adam(0.01)
    gradient = in_order(value_and_grad(net, losses.cross_entropy), mesh)
    program = jax.jit(split.steps_on(mesh, split.step(gradient, optimizer, mesh), 48, 2))
    rest = placed(mesh, (start(net.init(jax.random.key(0)), optimizer), jax.random.key(1), np.int32(0), X, Y))
    return b"".join(np.asarray(array).tobytes() for array in jax.tree.leaves(program(*rest))).hex()


def trained_in_order(*sizes):
    """The sha256 of the parameters of a run, interrupted, that goes on with another number of devices."""
    words = ("--epochs", "3", "--optimizer", "adam", "--batch-size", "48", "--reproducible")
    with tempfile.TemporaryDirectory() as folder:
        for n, stop in itertools.zip_longest(sizes, ["epoch   2/3"] * (len(sizes) - 1)):
            signals = {stop: lambda: signal.raise_signal(signal.SIGTERM)} if stop else {}
            done = ended(train, *words, "--devices", n, "--out", Path(folder) / "run", on=signals)
            assert done.status == (76 if stop else 0), done.err
        return hashlib.sha256((Path(folder) / "run" / "params.safetensors").read_bytes()).hexdigest()


def main():
    dense_net = mlp(SIDE * SIDE, 32, 24, CLASSES, g=sigmoid)
    jax.config.update("jax_disable_most_optimizations", True)  # it sends and holds the same
    found = {
        "dense": measured(dense_net, 96, 4, (1, 8)),
        "large": measured(dense_net, 1024, 1, (8,)),
        "uneven": measured(dense_net, 100, 2, (1, 8)),
        "attention": measured(transformer(), 96, 2, (1, 8)),
    }
    layouts = ("data=2,fsdp=2,model=2", "members=4,data")
    found["exact"] = [ended(check_layout, "--layout", layout)[:3] for layout in layouts]
    with contextlib.ExitStack() as undo:  # nothing is split any more
        for module in (split, meshes):
            whole = module.held
            module.held = lambda mesh, tree, specs=None: tree
            undo.callback(setattr, module, "held", whole)
        found["unsplit"] = ended(check_layout, "--layout", "data=8")[:3]
    evaluations, compiled_before = [], programs.compiled

    def compiled_and_kept(*args, **options):
        evaluations.append(compiled_before(*args, **options))
        return evaluations[-1]

    programs.compiled = compiled_and_kept
    found["layout"] = ended(train, "--epochs", "1", "--hidden", "16", "8", "--layout", "fsdp=2,model=2")[:3]
    programs.compiled = compiled_before
    text = evaluations[0].evaluate.as_text()
    found["evaluated"] = sorted({int(rows) for rows in re.findall(r"u8\[(\d+),8,8\]", text)})

    jax.config.update("jax_disable_most_optimizations", False)  # bits are those of what users run
    jax.clear_caches()
    found["in order"] = [summed_in_order(n) for n in (1, 4, 8)]
    found["elastic"] = [trained_in_order(1), trained_in_order(2, 8)]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
