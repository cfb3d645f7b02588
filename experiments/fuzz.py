"""Strange losses and gradients, drawn at random: nothing but a report or one sentence may come out.

    python -m experiments.fuzz                     # 2,000 of them
    python -m experiments.fuzz --calls 100 --seed 7 --only 31  # one of a hundred, with its traceback

Arguments of every shape, dtype and tree; losses and gradients that loop, raise,
print, draw, remember, or return what is no gradient; functions of every make;
all three ways to ask. Each is a report whose text, JSON and page can be made,
or one sentence of at most three lines. What a caller raises to stop everything
(KeyboardInterrupt) goes through. Status 1 if anything else happens.
"""

import argparse
import collections
import random
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from experiments.common.arguments import Parser, run, whole
from experiments.common.status import through

LINES = 3  # of a sentence
SLOW = 5.0  # seconds


def parser() -> Parser:
    """The arguments of this program."""
    p = Parser(prog="python -m experiments.fuzz", description=__doc__)
    p.formatter_class = argparse.RawDescriptionHelpFormatter
    p.add_argument("--calls", type=whole(1), default=2000, metavar="N", help="default: %(default)s")
    p.add_argument("--first", type=whole(0), default=0, metavar="K", help="default: %(default)s")
    p.add_argument("--seed", type=whole(0), default=0, help="default: %(default)s")
    p.add_argument("--only", type=whole(0), metavar="K", help="the K-th alone, with its traceback")
    return p


class Odd(NamedTuple):
    """A call: what is drawn for it, in words, and itself."""

    what: str
    call: Callable[[], Any]


def drawn(seed: int, k: int) -> Odd:
    """The k-th call."""
    from experiments.planted.odd import gradients, losses, made, rules, trees
    from jaxnn.gradcheck import assert_gradients_match, compare_gradients, compare_vjp

    rng = random.Random(f"{seed} {k}")
    plain = rng.random() < 0.5
    args = [trees(rng, plain) for _ in range(rng.choice([0, *[1] * 20, *[2] * 20, 3]))]
    values = [x for _, x in args]
    numbers: list[Any] = [0] * 20
    numbers += [1, -1, 5, (0, 1), (), (0, 0), "w", None, 0.0, [0], True]
    argnums = 0 if plain else rng.choice(numbers)
    said, loss = losses(rng, plain)
    what, gradient = gradients(rng, loss, argnums if argnums is not None else 0, plain)
    (one, loss), (two, gradient) = made(rng, loss), made(rng, gradient)
    how = rng.choice([compare_gradients, compare_gradients, assert_gradients_match, compare_vjp])
    words = f"{how.__name__}({said} {one}, {what} {two}, {[w for w, _ in args]}, argnums={argnums!r})"
    options: dict = {"argnums": argnums}
    if how is compare_gradients and rng.random() < 0.2:
        options["names"] = rng.choice([["w"], ["w", "b"], [], "w", [1]])
    if how is compare_gradients and rng.random() < 0.1:
        options["steps"] = rng.choice([{}, {"dW": 1.0}, lambda *a: {}, lambda *a: {}[1], 3])
    if how is compare_vjp:
        function = rules(rng, loss) if callable(loss) and rng.random() < 0.8 else loss
        options |= {"reference": loss} if rng.random() < 0.3 else {}
        return Odd(words, lambda: how(function, *values, **options))
    return Odd(words, lambda: how(loss, gradient, *values, **options))


def told(odd: Odd) -> str:
    """What came of a call: "right", "wrong", "cannot tell", "refused", "stopped"; or what should not have."""
    from experiments.planted.odd import Stop
    from jaxnn.gradcheck import BadCall, GradientMismatch

    try:
        report = odd.call()
    except BadCall as error:
        lines = str(error).splitlines()
        return "refused" if 0 < len(lines) <= LINES else f"{len(lines)} lines of refusal"
    except GradientMismatch as error:
        report = error.report
    except (KeyboardInterrupt, Stop, GeneratorExit):
        return "stopped"
    except BaseException as error:
        return f"{type(error).__name__} came out"
    if report is None:
        return "right"
    with tempfile.TemporaryDirectory() as folder:
        try:
            assert str(report)
            report.to_json()
            report.to_html(Path(folder) / "page.html")
        except Exception as error:
            return f"{type(error).__name__} in the report"
    return {True: "right", False: "wrong", None: "cannot tell"}[report.correct]


def main(options: argparse.Namespace) -> int:
    """Draw and call them. 0 if nothing came out but reports and sentences."""
    if options.only is not None:
        odd = drawn(options.seed, options.only)
        print(odd.what)
        try:
            print(odd.call())
        except BaseException:
            traceback.print_exc()
        return 0
    print(f"{options.calls:,} calls from {options.first} on, seed {options.seed}")
    tally: collections.Counter[str] = collections.Counter()
    usual = {"right", "wrong", "cannot tell", "refused", "stopped"}
    slow = 0
    for k in through(range(options.first, options.first + options.calls), "call", options.calls):
        odd, start = drawn(options.seed, k), time.thread_time()
        said = told(odd)
        slow += time.thread_time() - start > SLOW
        tally[said] += 1
        if said not in usual:
            print(f"{k}: {said}: {odd.what}", flush=True)
    print(", ".join(f"{count} {said}" for said, count in tally.most_common()))
    print(f"{slow} took more than {SLOW:g} s of their thread")
    return int(not usual.issuperset(tally))


if __name__ == "__main__":
    run(main, parser())
