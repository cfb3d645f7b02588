"""How often jaxnn.gradcheck is right about gradients known to be right or wrong.

    python -m experiments.measure_gradcheck    # 10,000 right, 3,000 wrong
    python -m experiments.measure_gradcheck --right 500 --wrong 100
    python -m experiments.measure_gradcheck --results measured.jsonl --minutes 4
    python -m experiments.measure_gradcheck --right 0 --wrong 0 --times 0
    python -m experiments.measure_gradcheck --right 0 --wrong 0 --steps 0
    python -m experiments.measure_gradcheck --right 0 --wrong 0 --large 90
    python -m experiments.measure_gradcheck --right 0 --wrong 0 --layers 500

The right ones are written in five formulations, at generic points and at the
hard ones (saturated, zero, cancelling, one example, wide sums, tiny and huge
scales). The wrong ones are the mistakes of the catalogue, each about as often,
planted in networks of 1 to 4 layers and in losses that no network is. Both in
float32, bfloat16 and float64. Besides, with --large, mistakes in 784-512-512-10
and in four layers of 512, with 128 examples; with --layers, those that people
make in the backward of a layer, alone as a rule and in a network that shows its
steps; faults in single steps of a backward pass that shows its steps; and the
time of a comparison at 784-128-64-10 with 256 examples, the first and --times
more. Rates are printed with their 95 % interval (Clopper and Pearson). With
--results, what is known of a case is kept in that file, a line each, and the
next call goes on from there.
"""

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.common.arguments import Parser, UserError, new_file, run, whole
from experiments.common.intervals import rate
from experiments.common.status import doing, through
from experiments.planted.cases import Case, large_cases, layer_cases, right_cases, wrong_cases
from experiments.planted.points import DTYPES, as_dtype, networks

ENDED = "ended before all were tried"  # in a note of the report


def parser() -> Parser:
    """The arguments of this program."""
    p = Parser(prog="python -m experiments.measure_gradcheck", description=__doc__)
    p.formatter_class = argparse.RawDescriptionHelpFormatter  # the commands stand each on a line
    p.add_argument("--right", type=whole(0), default=10_000, metavar="N", help="default: %(default)s")
    p.add_argument("--wrong", type=whole(0), default=3_000, metavar="N", help="default: %(default)s")
    p.add_argument("--large", type=whole(0), default=0, metavar="N", help="default: %(default)s")
    p.add_argument("--layers", type=whole(0), default=0, metavar="N", help="default: %(default)s")
    p.add_argument("--steps", type=whole(0), default=200, metavar="N", help="default: %(default)s")
    p.add_argument("--times", type=whole(0), default=5, metavar="N", help="default: %(default)s")
    p.add_argument("--seed", type=whole(0), default=0, help="default: %(default)s")
    p.add_argument("--results", type=new_file, metavar="FILE", help="go on from what this file holds")
    p.add_argument("--minutes", type=whole(1), metavar="N", help="stop after so long")
    p.add_argument("--misses", action="store_true", help="print every gradient it is wrong about")
    return p


class Tally(NamedTuple):
    """What was said of one case: that part of it which the rates are made of."""

    key: str
    what: str
    id: str | None
    effect: float
    hard: bool
    correct: bool | None
    ids: list[str]
    confidence: str | None  # in the first of them, a word
    ended: bool  # whether the search for the mistake ended before all were tried
    tightness: float | None  # the largest error over its bound
    seconds: float
    placed: bool | None = (
        None  # whether what is told to be wrong is what is made wrongly, where that is known
    )


def judge(key: str, case: Case) -> Tally:
    """What compare_gradients says of a case."""
    import jax

    from jaxnn.gradcheck import compare_gradients

    began = time.perf_counter()
    with jax.enable_x64(case.dtype == "float64"):
        report = compare_gradients(
            case.loss, case.gradient, *as_dtype(case.args, case.dtype), argnums=case.argnums, steps=case.shown
        )
    seconds = time.perf_counter() - began
    ids = [c.id for c in report.causes]
    word = report.causes[0].confidence if ids else None
    ended = any(ENDED in note for note in report.notes)
    tightness = max((leaf.ratio for leaf in report.leaves if np.isfinite(leaf.ratio)), default=None)
    known = case.what, case.id, case.effect, case.hard, report.correct
    told = (
        {e.step for e in report.steps} if case.shown else {leaf.path for leaf in report.leaves if leaf.wrong}
    )
    placed = bool(told) and told <= case.own if case.own else None
    return Tally(key, *known, ids, word, ended, tightness, seconds, placed)


def rates_of_right(tallies: list[Tally]) -> list[str]:
    """The lines about right gradients."""
    alarms = sum(t.correct is False for t in tallies)
    unsure = sum(t.correct is None for t in tallies)
    ratios = np.array([t.tightness for t in tallies if t.correct and t.tightness])
    lines = [
        rate("right gradients: false alarms", alarms, len(tallies)),
        rate("right gradients: said to be indistinguishable", unsure, len(tallies)),
    ]
    if ratios.size:
        largest, times = f"{ratios.max():.3g}", f"{1 / np.median(ratios):.3g}"
        lines.append(f"largest error over its bound: {largest}; the median bound is {times} times the error")
    return lines


def right_of(tallies: list[Tally]) -> tuple[int, int]:
    """In how many the first cause is right, of how many."""
    return sum(map(named, tallies)), len(tallies)


def named(tally: Tally) -> bool:
    """Whether the first cause is the mistake, or one of those that say it as well ("this or that")."""
    return bool(tally.ids) and tally.ids[0] in (tally.id or "").split(" or ")


def rates_of_wrong(tallies: list[Tally]) -> list[str]:
    """The lines about wrong gradients. An id that says where more than what is right where it is planted."""
    from jaxnn.gradcheck.report.confidence import GUESS, LIKELY, SURE

    wrong = [t for t in tallies if t.effect > 1e-6]
    hard = [t for t in wrong if t.hard]
    found = [t for t in wrong if t.correct is False]
    generic = [t for t in found if not t.hard]
    sure = [t for t in found if t.confidence == SURE]
    ids = Counter(t.id for t in wrong)
    rarest = min(ids.values(), default=0)
    return [
        rate("wrong gradients: detected, generic points", len(generic), len(wrong) - len(hard)),
        rate("wrong gradients: detected, hard points", len(found) - len(generic), len(hard)),
        rate("  the rest: said to be indistinguishable", sum(t.correct is None for t in wrong), len(wrong)),
        rate("  taken for right", sum(t.correct is True for t in wrong), len(wrong)),
        rate("cause: the first named is right, generic points", *right_of(generic)),
        rate("cause: the first named is right", *right_of(found)),
        rate("cause: among the first three", sum(t.id in t.ids[:3] for t in found), len(found)),
        *(rate(f"cause: called {word}, and right", *right_of([t for t in found if t.confidence == word]))
          for word in (SURE, LIKELY, GUESS)),
        rate("cause: sure and wrong", sum(t.id != t.ids[0] for t in sure), len(found)),
        f"{len(ids)} mistakes of the catalogue, {len(wrong)} plantings, the rarest {rarest} times; "
        f"{len(tallies) - len(wrong)} more had no effect where they were looked at",
    ]  # fmt: skip


def rates_of_large(tallies: list[Tally]) -> list[str]:
    """The lines about wrong gradients of large networks."""
    wrong = [t for t in tallies if t.effect > 1e-6]
    seconds = f"{np.median([t.seconds for t in wrong]):.2g}" if wrong else "none"
    return [
        rate("large networks: the first named is right", *right_of(wrong)),
        rate("  the search ended before all were tried", sum(t.ended for t in wrong), len(wrong)),
        f"  seconds a call: median {seconds}",
    ]


def rates_of_layers(tallies: list[Tally]) -> list[str]:
    """The lines about wrong backwards of layers."""
    from jaxnn.gradcheck.report.confidence import SURE

    wrong = [t for t in tallies if t.effect > 1e-6]
    sure = [t for t in wrong if t.confidence == SURE]
    return [
        rate("layers: called wrong", sum(t.correct is False for t in wrong), len(wrong)),
        rate("  placed in that layer alone", sum(map(_placed, wrong)), len(wrong)),
        rate("  the first named is right", *right_of(wrong)),
        rate("  sure and wrong", len(sure) - right_of(sure)[0], len(wrong)),
        f"  {len({t.what.rpartition(', ')[0] for t in wrong})} kinds in {len(wrong)} places",
    ]


def _placed(tally: Tally) -> bool:
    return tally.placed is True


def rates_of_steps(count: int, seed: int) -> list[str]:
    """The lines about backward passes that show their steps, one of which is faulty."""
    import jax
    import jax.numpy as jnp

    from experiments.planted.mistakes import exposed_steps
    from experiments.planted.network import data, init, loss_of
    from jaxnn.gradcheck.diagnosis.steps import check_steps

    faults: tuple[Callable, ...] = (
        lambda x: 2 * x,
        lambda x: -x,
        jnp.zeros_like,
        jnp.abs,
        lambda x: x.at[-1].set(0),
        lambda x: x[::-1],
        lambda x: x - jnp.mean(x),
        lambda x: x * x,
    )
    nets = [(net, n) for net, n in networks() if not net.masked]
    rng = np.random.default_rng([seed, 3])
    found, others, tried = 0, [], 0
    while tried < count:
        net, n = nets[rng.integers(len(nets))]
        layers = range(1, len(net.sizes))
        names = [f"d{k}[{l}]" for k in "ZWb" for l in layers] + [f"dA[{l}]" for l in layers[:-1]]
        name, fault = names[rng.integers(len(names))], faults[rng.integers(len(faults))]
        with jax.enable_x64(True):
            args = as_dtype((init(net, tried), *data(net, n, tried)), DTYPES[tried % 2 * 2])
            right = exposed_steps(net, *args, wrong="", fault=fault)
            wrong = exposed_steps(net, *args, wrong=name, fault=fault)
            shown = {**right[1], **{f"d{k}[{l}]": x for l, p in enumerate(right[0], 1)
                                    for k, x in zip("Wb", p, strict=True)}}  # fmt: skip
            if np.allclose(fault(shown[name]), shown[name], rtol=1e-3, atol=1e-3 * np.abs(shown[name]).max()):
                continue  # no fault here, such as the order of one row
            flagged = {e.step for e in check_steps(loss_of(net), args, 0, *wrong)}
        leaf = f"[{int(name[3:-1]) - 1}][{'Wb'.find(name[1])}]"
        found += bool(flagged & {name, leaf})
        others.append(len(flagged - {name, leaf}))
        tried += 1
    return [
        rate("steps exposed: the faulty step is flagged", found, tried),
        f"other steps flagged: {sum(others)} in all, at most {max(others, default=0)} at once",
    ]


def seconds_of_calls(count: int) -> str:
    """The line about time: jaxnn's own gradient at 784-128-64-10, N = 256, for the first time and after."""
    import jax

    from jaxnn.activations import sigmoid
    from jaxnn.gradcheck import compare_gradients
    from jaxnn.layers import mlp
    from jaxnn.losses import binary_cross_entropy
    from jaxnn.objective import cost, value_and_grad

    net = mlp(784, 128, 64, 10, g=sigmoid)
    J, by_hand = cost(net, binary_cross_entropy), value_and_grad(net, binary_cross_entropy)
    rng = np.random.default_rng(0)
    X, Y = np.float32(rng.random((256, 784))), np.eye(10, dtype=np.float32)[rng.integers(0, 10, 256)]
    params = net.init(jax.random.key(0))

    def seconds(scale: float) -> float:
        clock = time.perf_counter()
        compare_gradients(J, lambda *at: jax.tree.map(lambda g: scale * g, by_hand(*at)[1]), params, X, Y)
        return time.perf_counter() - clock

    first, *after = (seconds(1.0) for _ in range(count + 1))
    wrong = [seconds(256.0) for _ in range(count)]
    return (
        f"784-128-64-10, N = 256: {first:.2g} s the first time, {np.median(after):.2g} s after; "
        f"with a diagnosis {wrong[0]:.2g} s the first time, {np.median(wrong[1:] or wrong):.2g} s after"
    )


def kept(path: Path | None) -> list[Tally]:
    """The tallies in a file of results. Raises UserError where it holds something else."""
    if path is None or not path.exists():
        return []
    try:
        return [Tally(**json.loads(line)) for line in path.read_text().splitlines()]
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} holds no results of this program ({error})") from error


def measure(
    cases: Iterator[tuple[str, Case]], count: int, until: float, options: argparse.Namespace
) -> list[Tally]:
    """What is said of every case, until the time is up."""
    out = []
    for key, case in through(cases, "gradient", count):
        tally = judge(key, case)
        out.append(tally)
        if options.results is not None:
            with options.results.open("a") as file:
                file.write(json.dumps(tally._asdict()) + "\n")
        bad = tally.correct is not True if case.id is None else not named(tally)
        if options.misses and bad and not (case.id and case.effect <= 1e-6):
            print(f"{key}: {case.what}: correct={tally.correct} {tally.ids}", flush=True)
        if time.monotonic() > until:
            break
    return out


def main(options: argparse.Namespace) -> int:
    """Measure and print. 0 if no right gradient was condemned and no wrong one taken for right."""
    until = time.monotonic() + 60 * options.minutes if options.minutes else float("inf")
    known = kept(options.results)
    done = {t.key for t in known}
    print(f"jaxnn.gradcheck, seed {options.seed}; rates with their 95 % interval (Clopper-Pearson)")
    for kind, count, cases, lines in (
        ("right", options.right, right_cases, rates_of_right),
        ("wrong", options.wrong, wrong_cases, rates_of_wrong),
        ("large", options.large, large_cases, rates_of_large),
        ("layer", options.layers, layer_cases, rates_of_layers),
    ):
        old = [t for t in known if t.key.startswith(kind)]
        if not count and not old:
            continue
        if len(old) < count and time.monotonic() < until:
            old += measure(cases(count, options.seed, done), count - len(old), until, options)
        print("\n".join(lines(old)), flush=True)
        known = [t for t in known if not t.key.startswith(kind)] + old
    doing("steps that are shown")
    if options.steps and time.monotonic() < until:
        print("\n".join(rates_of_steps(options.steps, options.seed)), flush=True)
    doing("times of calls")
    if options.times and time.monotonic() < until:
        print(seconds_of_calls(options.times), flush=True)
    if known:
        seconds = [t.seconds for t in known]
        print(f"seconds a call: median {np.median(seconds):.2g}, largest {max(seconds):.2g}")
    condemned = any(t.id is None and t.correct is False for t in known)
    passed = any(t.id is not None and t.effect > 1e-6 and t.correct is True for t in known)
    return 1 if condemned or passed else 0


if __name__ == "__main__":
    run(main, parser())
