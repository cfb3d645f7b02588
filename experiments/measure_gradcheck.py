"""How often jaxnn.gradcheck is right about gradients that are known to be right or wrong.

    python -m experiments.measure_gradcheck                    # 10,000 right gradients, 3,000 wrong ones
    python -m experiments.measure_gradcheck --right 500 --wrong 100

The right ones are written in five formulations, at generic points and at the hard ones (saturated,
zero, cancelling, one example, wide sums, tiny and huge scales). The wrong ones are the mistakes of
the catalogue, planted in networks of 1 to 4 layers. Rates are printed with their 95 % interval
(Clopper and Pearson).
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

from experiments.arguments import Parser, run, whole


def parser() -> Parser:
    """The arguments of this program."""
    p = Parser(prog="python -m experiments.measure_gradcheck", description=__doc__)
    p.add_argument("--right", type=whole(0), default=10_000, metavar="N", help="default: %(default)s")
    p.add_argument("--wrong", type=whole(0), default=3_000, metavar="N", help="default: %(default)s")
    p.add_argument("--seed", type=whole(0), default=0, help="default: %(default)s")
    p.add_argument("--misses", action="store_true", help="print every gradient it is wrong about")
    return p


class Case(NamedTuple):
    """A gradient at a point, and what is known of it."""

    what: str
    loss: Callable
    gradient: Callable
    args: tuple
    id: str | None  # of the mistake; None if it is right
    effect: float  # of the mistake on the gradient, relative to its largest entry
    hard: bool


def interval(k: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Clopper and Pearson's interval for a rate of which k of n were seen."""
    from scipy.stats import beta

    tail = (1 - level) / 2
    low = beta.ppf(tail, k, n - k + 1) if k else 0.0
    high = beta.ppf(1 - tail, k + 1, n - k) if k < n else 1.0
    return float(low), float(high)


def rate(words: str, k: int, n: int) -> str:
    """One line: what, how many of how many, the rate and its interval."""
    if not n:
        return f"{words:<58} none"
    low, high = interval(k, n)
    return f"{words:<58} {k:>6} of {n:<6} {k / n:9.3%}   [{low:.3%}, {high:.3%}]"


def networks():
    """(network, N) of 1 to 4 layers, pairwise different sizes but where a mistake needs equal ones."""
    from jaxnn.gradcheck.mutants import Network

    return (
        (Network((7, 3)), 5),
        (Network((4, 1), cost="bce-naive"), 13),
        (Network((6, 1), cost="squared"), 4),
        (Network((5, 4, 3), "tanh", "bce-naive", penalty=0.3), 6),
        (Network((6, 7, 3), "relu", "softmax-logits"), 32),
        (Network((4, 4, 4, 3), "sigmoid", "softmax-logits"), 7),
        (Network((5, 6, 4, 3), "softplus", "bce-logits", penalty=0.1), 256),
        (Network((6, 5, 4), "relu", "softmax-naive", penalty=0.1, masked=True), 8),
        (Network((3, 6, 6, 5, 2), "gelu", "squared"), 9),
        (Network((5, 5, 5, 5, 3), "silu", "bce-logits", masked=True), 11),
    )


DTYPES = ("float32", "bfloat16", "float64")


def hard_points(net, examples: int, rng) -> Iterator[tuple[str, tuple, bool]]:
    """(what, (params, X, Y[, masks]), whether it is hard), without end."""
    import numpy as np

    from jaxnn.gradcheck.mutants import data, init

    while True:
        seed = int(rng.integers(2**31))
        params, (X, *rest) = init(net, seed), data(net, examples, seed)
        for what in ("generic", "generic", "saturated", "zero", "cancelling", "tiny", "huge", "one example"):
            p, x, y = params, X, rest[0]
            if what == "saturated":
                p = tuple((30 * W, b) for W, b in params)
            elif what == "zero":
                p = tuple((0 * W, 0 * b) for W, b in params)
            elif what == "cancelling":
                x = np.concatenate([X[: (examples + 1) // 2]] * 2)[:examples]
                y = np.concatenate([y[: (examples + 1) // 2], 1 - y[: examples // 2]])
            elif what == "tiny":
                x = X * 1e-6
            elif what == "huge":
                x = X * 1e4
            args = (p, x, y, *rest[1:])
            if what == "one example":
                args = (p, x[:1], y[:1], *(tuple(m[:1] for m in ms) for ms in rest[1:]))
            yield what, args, what != "generic"


def right_cases(count: int, rng) -> Iterator[Case]:
    """Right gradients, each in one of five formulations."""
    from jaxnn.gradcheck.mutants import Network, formulations, loss_of

    wide = ((Network((500, 3), "tanh", "bce-logits"), 3), (Network((3, 200, 2), "sigmoid", "squared"), 4))
    every = [
        (net, loss_of(net), formulations(net), hard_points(net, n, rng)) for net, n in (*networks(), *wide)
    ]
    for k in range(count):
        net, loss, written, points = every[k % len(every)]
        what, args, hard = next(points)
        name = list(written)[k // len(every) % len(written)]
        yield Case(f"{net.sizes} {net.cost} {name}, {what}", loss, written[name], args, None, 0.0, hard)


def wrong_cases(count: int, rng) -> Iterator[Case]:
    """Planted mistakes that have an effect where they are looked at."""
    from jaxnn.gradcheck.mutants import NEEDS_SATURATION, STATEFUL, gradient_of, loss_of, mutants

    every = []
    for net, n in networks():
        loss, right, points = loss_of(net), gradient_of(net), hard_points(net, n, rng)
        every += [(net, loss, right, points, m) for m in mutants(net)]
    rng.shuffle(every)
    made = tried = 0
    while made < count and tried < 20 * count:
        net, loss, right, points, mutant = every[tried % len(every)]
        tried += 1
        what, args, hard = next(points)
        if mutant.id in NEEDS_SATURATION and what != "saturated":
            continue
        size = 1.0 if mutant.id in STATEFUL else _effect(mutant.gradient, right, args)
        if size > 1e-6:
            made += 1
            where = f"{net.sizes} {net.cost} {mutant.id} {mutant.where}, {what}"
            yield Case(where, loss, mutant.gradient, args, mutant.id, size, hard)


def _effect(wrong: Callable, right: Callable, args: tuple) -> float:
    """The largest difference, relative to the largest entry of its parameter."""
    import jax
    import numpy as np

    with jax.enable_x64(True):
        pairs = [
            (np.asarray(g), np.asarray(r))
            for g, r in zip(jax.tree.leaves(wrong(*args)), jax.tree.leaves(right(*args)), strict=True)
        ]
    if not all(np.isfinite(r).all() for _, r in pairs):
        return 0.0
    if not all(np.isfinite(g).all() for g, _ in pairs):
        return np.inf
    with np.errstate(all="ignore"):
        gaps = [np.abs(g - r).max() / max(np.abs(r).max(), np.abs(g).max()) for g, r in pairs]
    return float(np.nanmax(gaps))


def as_dtype(args: tuple, dtype: str) -> tuple:
    """The arguments with their floating arrays in another dtype."""
    import jax
    import jax.numpy as jnp

    return jax.tree.map(lambda x: jnp.asarray(x, dtype), args)


class Tally(NamedTuple):
    """What was said of one case."""

    case: Case
    correct: bool | None
    ids: list[str]
    confidence: float
    tightness: float  # the largest error over its bound; NaN where there is none
    seconds: float


def judge(case: Case, dtype: str) -> Tally:
    """What compare_gradients says of a case in a dtype."""
    import jax
    import numpy as np

    from jaxnn.gradcheck import compare_gradients

    began = time.perf_counter()
    with jax.enable_x64(dtype == "float64"):
        report = compare_gradients(case.loss, case.gradient, *as_dtype(case.args, dtype))
    seconds = time.perf_counter() - began
    ids = [c.id for c in report.causes]
    known = [leaf.ratio for leaf in report.leaves if leaf.ratio is not None and np.isfinite(leaf.ratio)]
    tightness = max(known, default=float("nan"))
    return Tally(case, report.correct, ids, report.causes[0].confidence if ids else 0.0, tightness, seconds)


def rates_of_right(tallies: list[Tally]) -> list[str]:
    """The lines about right gradients."""
    import numpy as np

    alarms = sum(t.correct is False for t in tallies)
    unsure = sum(t.correct is None for t in tallies)
    ratios = np.array([t.tightness for t in tallies if t.correct and t.tightness > 0])
    lines = [
        rate("right gradients: false alarms", alarms, len(tallies)),
        rate("right gradients: said to be indistinguishable", unsure, len(tallies)),
    ]
    if ratios.size:
        lines.append(f"largest error over its bound: {ratios.max():.3g}; the median: {np.median(ratios):.3g}")
    return lines


def rates_of_wrong(tallies: list[Tally]) -> list[str]:
    """The lines about wrong gradients."""
    easy = [t for t in tallies if not t.case.hard]
    hard = [t for t in tallies if t.case.hard]
    found = [t for t in tallies if t.correct is False]
    sure = [t for t in found if t.confidence >= 0.9]
    return [
        rate("wrong gradients: detected, generic points", sum(t.correct is False for t in easy), len(easy)),
        rate("wrong gradients: detected, hard points", sum(t.correct is False for t in hard), len(hard)),
        rate("  the rest: said to be indistinguishable", sum(t.correct is None for t in hard), len(hard)),
        rate("  taken for right", sum(t.correct is True for t in tallies), len(tallies)),
        rate("cause: the first named is right, generic points",
             sum(t.case.id in t.ids[:1] for t in found if not t.case.hard),
             sum(not t.case.hard for t in found)),
        rate("cause: the first named is right", sum(t.case.id in t.ids[:1] for t in found), len(found)),
        rate("cause: among the first three", sum(t.case.id in t.ids[:3] for t in found), len(found)),
        rate("cause: confident and wrong", sum(t.case.id != t.ids[0] for t in sure), len(found)),
    ]  # fmt: skip


def measure(cases: Iterator[Case], count: int, misses: bool) -> list[Tally]:
    """What is said of every case, with a count of how far it is on a terminal."""
    from tqdm import tqdm

    out = []
    for k, case in enumerate(tqdm(cases, total=count, disable=not sys.stderr.isatty())):
        tally = judge(case, DTYPES[k % len(DTYPES)])
        out.append(tally)
        bad = tally.correct is False if case.id is None else case.id not in tally.ids[:1]
        if misses and bad:
            print(f"{DTYPES[k % len(DTYPES)]} {case.what}: correct={tally.correct} {tally.ids}")
    return out


def main(options: argparse.Namespace) -> int:
    """Measure and print. 0 if no right gradient was condemned and no wrong one taken for right."""
    import numpy as np

    rng = np.random.default_rng(options.seed)
    print(f"jaxnn.gradcheck, seed {options.seed}; rates with their 95 % interval (Clopper-Pearson)")
    right = measure(right_cases(options.right, rng), options.right, options.misses)
    print("\n".join(rates_of_right(right)), flush=True)
    wrong = measure(wrong_cases(options.wrong, rng), options.wrong, options.misses)
    print("\n".join(rates_of_wrong(wrong)))
    ids = Counter(t.case.id for t in wrong)
    print(
        f"{len(ids)} mistakes of the catalogue, {len(wrong)} plantings; "
        f"the rarest {min(ids.values(), default=0)} times"
    )
    seconds = [t.seconds for t in right + wrong]
    if seconds:
        print(f"seconds a call: median {np.median(seconds):.2g}, largest {max(seconds):.2g}")
    condemned = any(t.correct is False for t in right)
    return 1 if condemned or any(t.correct is True for t in wrong) else 0


if __name__ == "__main__":
    run(main, parser())
