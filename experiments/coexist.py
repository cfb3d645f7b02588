"""Comparisons between a caller's own programs: every program must give what it gives without them.

    python -m experiments.coexist                       # 500 comparisons
    python -m experiments.coexist --comparisons 50 --seed 7

Programs of many kinds, compiled, differentiated, mapped, in loops, holding NumPy
indices, drawing random numbers, in every dtype, run between comparisons of every
kind: right, wrong and refused gradients of planted networks and losses, NumPy
gradients, rules, and the very functions that the programs call. The same
programs then run in a process of their own, in the same order, without the
comparisons. Status 1 if one gives other bits. What JAX compiles for the programs
is counted in both, and what is compiled more often is told.
"""

import argparse
import hashlib
import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from experiments.common.arguments import Parser, run, whole
from experiments.common.status import doing, through

COMPILED = "/jax/core/compile/backend_compile_duration"  # what JAX calls it to those who listen
BETWEEN = 4  # programs between two comparisons


def parser() -> Parser:
    """The arguments of this program."""
    p = Parser(prog="python -m experiments.coexist", description=__doc__)
    p.formatter_class = argparse.RawDescriptionHelpFormatter
    p.add_argument("--comparisons", type=whole(0), default=500, metavar="N", help="default: %(default)s")
    p.add_argument("--seed", type=whole(0), default=0, help="default: %(default)s")
    p.product = lambda options: options.alone
    p.add_argument("--alone", action="store_true", help="the programs without the comparisons, as JSON")
    return p


class Run(NamedTuple):
    """One run of a program: its name, a digest of what it gave, and how often JAX compiled for it."""

    name: str
    bits: str
    compiled: int


class Own(NamedTuple):
    """What the caller made once, and holds."""

    x: Any
    t: Any
    key: Any
    held: Callable
    slope: Callable
    wide: Any


def own() -> Own:
    """Functions and arrays of the caller; some are compared too."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    rng = np.random.default_rng(0)
    x, t = rng.normal(size=(6, 5)).astype(np.float32), rng.integers(0, 5, 6)
    picked = jax.jit(lambda x: jax.nn.log_softmax(x)[jnp.arange(6), t])
    held = jax.jit(lambda x: -jnp.mean(picked(x)))
    return Own(x, t, jax.random.key(3), held, jax.jit(jax.grad(held)), rng.normal(size=(150, 150)))


def programs(mine: Own) -> dict[str, Callable[[int], Any]]:
    """The caller's programs by name: number → arrays."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    x, t, key = mine.x, mine.t, mine.key
    rows = np.arange(6)
    step = jax.jit(lambda c, x: jax.lax.scan(lambda c, r: (jnp.tanh(c + r), c * r), c, x))
    drawn = jax.jit(lambda key: jax.random.normal(key, (7,)))
    given = jax.jit(lambda x: -2 * x, donate_argnums=0)

    def fresh(k: int):
        labels = np.random.default_rng(k).integers(0, 5, 6)
        return jax.value_and_grad(lambda x: jnp.sum(jax.nn.log_softmax(x)[jnp.arange(6), labels]))(x)

    def wide(k: int):
        with jax.enable_x64(True):
            return jnp.sin(jnp.asarray(mine.wide[0]) + k)

    return {
        "compiled": lambda k: mine.held(x * (k + 1)),
        "its gradient, compiled": lambda k: mine.slope(x + k),
        "a gradient of labels of its own": fresh,
        "labels that are held": lambda k: jax.grad(lambda x: jnp.sum(x[rows, t] ** 2))(x),
        "a map": lambda k: jax.vmap(lambda row: jnp.sort(row)[t[:3]])(x + k),
        "a loop": lambda k: step(jnp.float32(k), x.ravel()),
        "a key": lambda k: drawn(jax.random.fold_in(key, k)),
        "keys split": lambda k: jax.random.permutation(jax.random.split(key, k % 3 + 2)[0], 9),
        "numbers of NumPy's own state": lambda k: np.random.normal(size=3),
        "numbers of Python's own state": lambda k: np.float64(random.random()),
        "products in NumPy": lambda k: mine.wide @ mine.wide + np.float32(k),
        "systems in NumPy": lambda k: np.linalg.solve(mine.wide, mine.wide[0] + k),
        "eigenvalues": lambda k: jnp.linalg.eigvalsh(jnp.asarray(x.T @ x + k, jnp.float32)),
        "half precision": lambda k: jnp.asarray(x, jnp.bfloat16) @ jnp.asarray(x.T, jnp.bfloat16) + k,
        "in float64": wide,
        "integers": lambda k: jnp.arange(k % 5 + 3) // 2 + t[:1],
        "an argument given away": lambda k: given(jnp.asarray(x) + k),
        "text of an array": lambda k: np.frombuffer(str(np.array([k, 1 / 3])).encode(), np.uint8),
        "a rule": lambda k: jax.grad(lambda x: jnp.sum(_cube()(x)))(x + k),
        "a fourier transform": lambda k: jnp.fft.fft(jnp.asarray(x[0]) + k),
    }


_RULES: list[Callable] = []


def _cube() -> Callable:
    """A function with a rule, the same at every call."""
    import jax

    if not _RULES:
        cube = jax.custom_vjp(lambda x: x**3)
        cube.defvjp(lambda x: (x**3, x), lambda x, c: (3 * x * x * c,))
        _RULES.append(cube)
    return _RULES[0]


def comparisons(mine: Own) -> Iterator[Callable[[random.Random], Any]]:
    """The kinds of comparisons, each drawn by a generator of random numbers."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from experiments.planted.losses import LOSSES, PLANTS
    from experiments.planted.mistakes import mutants
    from experiments.planted.network import formulations, loss_of
    from experiments.planted.points import DTYPES, KINDS, as_dtype, networks, point_of
    from jaxnn.gradcheck import BadCall, compare_gradients, compare_vjp

    nets = networks()

    def compared(loss, gradient, args, draw: random.Random):
        dtype = draw.choice(DTYPES)
        with jax.enable_x64(dtype == "float64"):
            return compare_gradients(loss, gradient, *as_dtype(args, dtype)).correct

    def of_network(draw: random.Random, right: bool):
        net, n = draw.choice(nets[:7])
        args = point_of(net, n, draw.choice(KINDS), np.random.default_rng(draw.randrange(999)))
        every = formulations(net).values() if right else (m.gradient for m in mutants(net))
        return compared(loss_of(net), draw.choice(list(every)), args, draw)

    def in_numpy(x):
        s = np.exp(x - x.max(1, keepdims=True))
        s /= s.sum(1, keepdims=True)
        s[np.arange(6), mine.t] -= 1
        return s / 6

    def refused(draw: random.Random):
        bad = draw.choice([lambda x: x[:1], lambda x: 1 // 0, lambda x: np.ones(3, int), lambda x: None])
        try:
            return compare_gradients(mine.held, bad, mine.x)
        except BadCall:
            return "refused"

    def planted(draw: random.Random):
        plant = draw.choice(PLANTS)
        return compared(plant.loss, plant.gradient, plant.args(draw.randrange(99)), draw)

    def right(draw: random.Random):
        loss = draw.choice(LOSSES)
        return compared(loss.of, loss.backward(""), loss.arguments(draw.randrange(99)), draw)

    yield lambda draw: of_network(draw, True)
    yield lambda draw: of_network(draw, False)
    yield planted
    yield right
    yield refused
    yield lambda draw: compare_gradients(mine.held, mine.slope, mine.x).correct
    yield lambda draw: compare_gradients(mine.held, in_numpy, mine.x).correct
    yield lambda draw: compare_gradients(mine.held, lambda x: 2 * in_numpy(x), mine.x).correct
    yield lambda draw: compare_vjp(_cube(), jnp.asarray(mine.x)).correct
    yield (
        lambda draw: (
            compare_gradients(
                lambda w: jnp.sum(w**2) * random.random(),
                lambda w: w * np.random.rand() + draw.random(),
                mine.x,
            ).correct
        )
    )


def digest(tree) -> str:
    """All bits of a result, its dtypes and shapes."""
    import jax
    import numpy as np

    held = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        x = np.asarray(leaf)
        held.update(f"{x.dtype} {x.shape}".encode() + x.tobytes())
    return held.hexdigest()


def mixed(count: int, seed: int, alone: bool) -> tuple[list[Run], Counter[str]]:
    """The runs of all programs, and how many comparisons said what; alone: leave the comparisons out."""
    import jax
    import numpy as np

    compiled = [0]
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: compiled.__setitem__(0, compiled[0] + (event == COMPILED))
    )
    random.seed(seed)
    np.random.seed(seed)
    draw, mine = random.Random(seed), own()
    every, found = programs(mine), Counter[str]()
    kinds = [] if alone else list(comparisons(mine))
    runs = []
    order = list(every)
    steps = (count + 1) * BETWEEN
    for k in through(range(steps), "program", steps):
        name = order[k] if k < len(order) else draw.choice(order)
        before = compiled[0]
        bits = digest(every[name](k % 7))
        runs.append(Run(name, bits, compiled[0] - before))
        if k % BETWEEN == BETWEEN - 1 and k // BETWEEN < count and kinds:
            n = k // BETWEEN
            found[str(kinds[n % len(kinds)](random.Random(f"{seed} {n}")))] += 1
    return runs, found


def alone(count: int, seed: int) -> list[Run]:
    """The same programs in a process of their own, without the comparisons."""
    doing("the programs alone")
    command = [sys.executable, "-m", "experiments.coexist", "--alone"]
    command += ["--comparisons", str(count), "--seed", str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ)
    return [Run(*row) for row in json.loads(done.stdout)]


def main(options: argparse.Namespace) -> int:
    """Run all, and say what differs. 0 if no program gave other bits."""
    if not options.alone:
        print(f"{options.comparisons:,} comparisons between programs, and then the programs alone")
    runs, found = mixed(options.comparisons, options.seed, options.alone)
    if options.alone:
        print(json.dumps(runs))
        return 0
    other = alone(options.comparisons, options.seed)
    changed = Counter(a.name for a, b in zip(runs, other, strict=True) if a.bits != b.bits)
    more = Counter[str]()
    for a, b in zip(runs, other, strict=True):
        more[a.name] += max(0, a.compiled - b.compiled)
    said = ", ".join(f"{n} {what}" for what, n in found.most_common())
    print(f"{found.total()} comparisons ({said}), {len(runs)} runs of {len(programs(own()))} programs")
    print(f"other bits than without them: {sum(changed.values())} {dict(changed) or ''}")
    print(f"compiled again because of them: {more.total()} {dict(+more) or ''}")
    print(f"compiled in all: {sum(r.compiled for r in runs)}, without them {sum(r.compiled for r in other)}")
    return int(bool(changed))


if __name__ == "__main__":
    run(main, parser())
