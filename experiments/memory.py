"""What each layer's backward by hand saves: memory, time and digits, beside autodiff's, in one run.

    python -m experiments.memory                                   # every layer
    python -m experiments.memory --layers attention --places 2048  # some, and their sizes
    python -m experiments.memory --picture memory.png              # all ratios and errors at a glance
    python -m experiments.memory --json                            # all numbers, for a program to read

For each layer the same forward and backward pass, compiled: by hand; by jax.vjp of a plain forward; of that
under jax.checkpoint, all of it or all but the matrix products; and for attention by JAX's own. Memory is
what the compiler sets aside besides arguments and results, in bytes: the same in every run. Times are medians
of rounds in which all take turns. Errors are the largest of any entry, in units of 2⁻²³ of the largest entry
of its array, against the plain form in float64.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from experiments.common.arguments import Parser, UserError, new_file, run, whole

LAYERS = (
    *("dense", "mlp-gelu", "mlp-relu", "layer-norm", "batch-norm", "dropout", "convolution", "max-pool"),
    *("lenet", "attention", "lstm", "blocks", "blocks-recomputed", "gpt", "head"),
)


def parser() -> Parser:
    """The arguments of this program."""
    p = Parser(prog="python -m experiments.memory", description=__doc__)
    p.formatter_class = argparse.RawDescriptionHelpFormatter
    p.add_argument("--layers", nargs="+", choices=LAYERS, metavar="NAME", help="default: all")
    p.add_argument("--rows", type=whole(1), default=1024, help="examples, or tokens; default: %(default)s")
    p.add_argument("--width", type=whole(8), default=256, help="a multiple of 8; default: %(default)s")
    p.add_argument("--places", type=whole(1), default=512, help="of a sequence; default: %(default)s")
    p.add_argument("--classes", type=whole(2), default=32768, help="of the head; default: %(default)s")
    p.add_argument("--rounds", type=whole(1), default=7, help="default: %(default)s")
    p.add_argument("--picture", type=new_file, metavar="FILE", help="draw it, a PNG file")
    p.add_argument("--json", action="store_true", help="print JSON, and nothing else")
    p.product = lambda arguments: arguments.json
    return p


class Sizes(NamedTuple):
    """The sizes that were chosen."""

    rows: int
    width: int
    places: int
    classes: int


class Work(NamedTuple):
    """A layer at work: itself, the shape of its input, the plain forward, and other ways to do the same."""

    layer: Any
    shape: tuple[int, ...]
    plain: Callable  # (params, X) → A
    key: Any = None
    others: dict[str, Callable] = {}  # noqa: RUF012  more plain forwards, by their names


class Measured(NamedTuple):
    """A way to compute a layer's gradient, and what it takes."""

    layer: str
    way: str
    bytes: int
    milliseconds: float
    error: float


def works(s: Sizes) -> dict[str, Work]:
    """Every layer, with a plain forward."""
    import jax

    from experiments.common import plain
    from experiments.gpt import gpt
    from jaxnn import layers
    from jaxnn.activations import gelu, relu

    N, n, T = s.rows, s.width, s.places
    key, images = jax.random.key(0), (max(N // 16, 1), 28, 28, 16)
    block = layers.residual(
        layers.serial(layers.layer_norm(n), layers.dense(n, 4 * n, gelu), layers.dense(4 * n, n))
    )
    lenet = layers.serial(
        *(layers.convolution(1, 6, 5, padding=2, g=relu), layers.max_pool(2)),
        *(layers.convolution(6, 16, 5, g=relu), layers.max_pool(2)),
        *(layers.convolution(16, 120, 5, g=relu), layers.dense(120, 84, relu), layers.dense(84, 10)),
    )
    return {
        "dense": Work(layers.dense(n, n, relu), (N, n), plain.dense(relu.forward)),
        "mlp-gelu": Work(layers.mlp(*[n] * 9, g=gelu), (N, n), plain.mlp(gelu.forward)),
        "mlp-relu": Work(layers.mlp(*[n] * 9, g=relu), (N, n), plain.mlp(relu.forward)),
        "layer-norm": Work(layers.layer_norm(n), (N, n), plain.norm(axis=1)),
        "batch-norm": Work(layers.batch_norm(n), (N, n), plain.norm(axis=0), key),
        "dropout": Work(layers.dropout(0.1), (N, n), plain.dropout(key, 0.1), key),
        "convolution": Work(layers.convolution(16, 32, 3, padding=1), images, plain.convolution(1)),
        "max-pool": Work(layers.max_pool(2), images, plain.max_pool),
        "lenet": Work(lenet, (N, 28, 28, 1), plain.lenet),
        "attention": Work(
            layers.attention(n, 4, rotary=False),
            (1, T, n),
            plain.attention(4, plain.weighted),
            others={"jax.nn": plain.attention(4, plain.weighted_by_jax)},
        ),
        "lstm": Work(layers.lstm(n, n), (16, T, n), plain.lstm),
        "blocks": Work(layers.repeated(block, 4), (N, n), plain.blocks),
        "blocks-recomputed": Work(layers.repeated(layers.recomputed(block), 4), (N, n), plain.blocks),
        "gpt": Work(
            gpt(2, 4, n, 4)[1],
            (4, T, n),
            plain.gpt(4),
            others={"a block's checkpoint": plain.gpt(4, jax.checkpoint)},
        ),
    }


def ways(work: Work) -> dict[str, Callable]:
    """Each way to go forward and back: (params, X, dA) → (A, (dparams, dX))."""
    import jax

    def by_hand(params, X, dA):
        A, residuals = work.layer.forward(params, X, work.key)
        return A, work.layer.backward(params, residuals, dA)

    def by_autodiff(plain):
        def both(params, X, dA):
            A, pull = jax.vjp(plain, params, X)
            return A, pull(dA)

        return both

    dots = jax.checkpoint_policies.dots_with_no_batch_dims_saveable
    plain = {
        "jax.vjp": work.plain,
        "checkpoint": jax.checkpoint(work.plain),
        "checkpoint, dots kept": jax.checkpoint(work.plain, policy=dots),
        **work.others,
    }
    return {"by hand": by_hand} | {name: by_autodiff(f) for name, f in plain.items()}


def problem(work: Work):
    """Parameters, an input and what comes back to the output."""
    import jax

    params = work.layer.init(jax.random.key(1))
    X = jax.random.normal(jax.random.key(2), work.shape)
    A = jax.eval_shape(work.plain, params, X)
    return params, X, jax.random.normal(jax.random.key(3), A.shape)


def head(s: Sizes) -> tuple[dict[str, Callable], tuple]:
    """The head over a vocabulary with its loss, which has no dA: (A, W, labels) → (J, (dA, dW))."""
    import jax
    import jax.numpy as jnp

    from jaxnn.layers.vocabulary import Logits, token_cross_entropy

    loss = token_cross_entropy()

    def by_hand(A, W, labels):
        return loss.forward(Logits(A, W), labels), tuple(loss.backward(Logits(A, W), labels))

    def plain(A, W, labels):
        log_Y = jax.nn.log_softmax(A @ W.T)
        return -jnp.mean(jnp.take_along_axis(log_Y, labels[:, None], axis=1))

    A = jax.random.normal(jax.random.key(1), (s.rows, s.width))
    W = jax.random.normal(jax.random.key(2), (s.classes, s.width)) / s.width**0.5
    labels = jax.random.randint(jax.random.key(3), (s.rows,), 0, s.classes)
    return {
        "by hand": by_hand,
        "jax.vjp": jax.value_and_grad(plain, (0, 1)),
        "checkpoint": jax.value_and_grad(jax.checkpoint(plain), (0, 1)),
    }, (A, W, labels)


def measured(layer: str, ways: dict[str, Callable], args: tuple, rounds: int) -> list[Measured]:
    """What each of the ways takes, beside the others."""
    import jax

    compiled = {way: jax.jit(f).lower(*args).compile() for way, f in ways.items()}
    found = {way: jax.block_until_ready(program(*args)) for way, program in compiled.items()}
    truth = in_float64(ways["jax.vjp"], args)
    times: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, program in compiled.items():
            begun = time.perf_counter()
            jax.block_until_ready(program(*args))
            times[way].append(1000 * (time.perf_counter() - begun))
    rows = []
    for way, program in compiled.items():
        memory: Any = program.memory_analysis()
        off = error(found[way][1], truth)
        rows.append(Measured(layer, way, memory.temp_size_in_bytes, statistics.median(times[way]), off))
    return rows


def in_float64(function: Callable, args: tuple):
    """The gradient alone, of arguments that are float32."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    args = jax.tree.map(np.asarray, args)
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda x: x.astype(float) if jnp.issubdtype(x.dtype, jnp.floating) else x, args)
        return jax.tree.map(np.asarray, jax.jit(function)(*wide)[1])


def error(found, truth) -> float:
    """The largest of any array, in units of 2⁻²³ of the array's largest entry."""
    import jax
    import numpy as np

    def of(x, y):
        return float(np.max(np.abs(np.asarray(x, float) - y)) / max(np.max(np.abs(y)), 1e-300) * 2**23)

    return max(jax.tree.leaves(jax.tree.map(of, found, truth)))


def main(arguments: argparse.Namespace) -> int:
    """Measure, and print as it comes."""
    sizes = Sizes(arguments.rows, arguments.width, arguments.places, arguments.classes)
    if sizes.width % 8:
        instead = 8 * round(sizes.width / 8)
        raise UserError(f"--width: got {sizes.width}, expected a multiple of 8; write --width {instead}")
    known = works(sizes)
    results = []
    for name in arguments.layers or LAYERS:
        todo = head(sizes) if name == "head" else (ways(known[name]), problem(known[name]))
        rows = measured(name, *todo, arguments.rounds)
        results += rows
        if not arguments.json:
            show(name, rows)
    if arguments.json:
        print(json.dumps({"sizes": sizes._asdict(), "rows": [row._asdict() for row in results]}, indent=1))
    if arguments.picture:
        draw(results, sizes, arguments.picture)
    return 0


def show(name: str, rows: list[Measured]) -> None:
    """A layer's rows, each beside jax.vjp."""
    (base,) = (row for row in rows if row.way == "jax.vjp")
    print(f"{name}\n  {'':22} {'memory':>12} {'ratio':>7} {'time':>11} {'ratio':>7} {'error':>7}")
    for row in rows:
        memory, took = row.bytes / max(base.bytes, 1), row.milliseconds / base.milliseconds
        print(
            f"  {row.way:22} {row.bytes / 2**20:8.2f} MiB {memory:7.3f} "
            f"{row.milliseconds:8.1f} ms {took:7.2f} {row.error:7.1f}"
        )


LEFT = 0.01  # where a ratio that is less is drawn


def draw(rows: list[Measured], sizes: Sizes, path: Path) -> None:
    """A line for each layer, a mark for each way: memory and time beside those of jax.vjp, and the error."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    layers, ways = ([*dict.fromkeys(names)] for names in zip(*(row[:2] for row in rows), strict=True))
    base = {row.layer: row for row in rows if row.way == "jax.vjp"}
    panels = {
        f"memory / jax.vjp's ({LEFT}: or less)": lambda row: row.bytes / max(base[row.layer].bytes, 1),
        "time / jax.vjp's": lambda row: row.milliseconds / base[row.layer].milliseconds,
        f"error, in 2⁻²³ of the largest ({LEFT}: or less)": lambda row: row.error,
    }
    figure = Figure(figsize=(11, 1.8 + 0.4 * len(layers)), layout="constrained")
    said = ", ".join(f"{name} {size:,}" for name, size in sizes._asdict().items())
    figure.suptitle(f"a layer forward and back: {said}", fontsize=10)
    beside = figure.subplots(1, 3, sharey=True)
    for axes, (label, value) in zip(beside, panels.items(), strict=True):
        for k, way in enumerate(ways):
            there = [row for row in rows if row.way == way]
            at = [layers.index(row.layer) + 0.15 * (k - (len(ways) - 1) / 2) for row in there]
            size = 45 if way == "by hand" else 20
            axes.scatter([max(value(row), LEFT) for row in there], at, size, marker="Do^sv"[k], label=way)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=7))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("")
        axes.set_xlabel(label, fontsize=9)
        axes.axvline(1, color="0.3", lw=0.8, zorder=0)
        axes.set_yticks(range(len(layers)), layers)
        axes.set_yticks([l + 0.5 for l in range(len(layers) - 1)], minor=True)
        axes.grid(axis="x", alpha=0.3)
        axes.grid(axis="y", which="minor", alpha=0.3)
        axes.tick_params(which="both", labelsize=8)
        axes.tick_params(axis="y", which="minor", length=0)
    beside[0].set_ylim(len(layers) - 0.5, -0.5)
    figure.legend(
        *beside[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(ways), fontsize=8
    )
    figure.savefig(path, format="png", dpi=150)


if __name__ == "__main__":
    run(main, parser())
