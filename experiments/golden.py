"""What jaxnn.gradcheck says of gradients, as a file to hold a change against.

    python -m experiments.golden write before.json  # before a change, and after
    python -m experiments.golden write fast.json --clock 20  # the same, too
    python -m experiments.golden compare before.json after.json

Every mistake that can be planted in each of ten networks, those in losses that
no network is, right gradients in five formulations, and all that the tests
compare. Without costs, times, lines and names of files. It is never an
expectation to commit: versions of JAX differ in the last digits. `compare`
prints every report that differs, and ends with status 1 if one does. With
--clock, all clocks that a comparison can read run so many times as fast: what
it says must be the same.
"""

import argparse
import json
import multiprocessing
import os
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from experiments.common.arguments import Parser, UserError, counted, folder, new_file, rate, run, whole
from experiments.common.status import through
from experiments.planted.points import DTYPES, KINDS, as_dtype, networks, point_of, wide_networks

PLACE = re.compile(r"[\w./<>-]+:\d+")  # file.py:12
CLOCKS = ("thread_time", "perf_counter", "monotonic", "process_time")  # of the module time
SHOWN = 20  # differences of one report that are printed


def parser() -> Parser:
    """The arguments of this program."""
    p = Parser(prog="python -m experiments.golden", description=__doc__)
    p.formatter_class = argparse.RawDescriptionHelpFormatter
    commands = p.add_subparsers(dest="command", required=True)
    write = commands.add_parser("write", help="compare all gradients, and write what was said")
    write.add_argument("file", type=new_file, metavar="FILE")
    write.add_argument("--processes", type=whole(1), default=os.cpu_count() or 1, metavar="N")
    write.add_argument("--tests", type=folder, default=Path("tests/gradcheck"), metavar="DIR")
    write.add_argument("--clock", type=rate, default=1.0, metavar="FACTOR", help="default: %(default)g")
    compare = commands.add_parser("compare", help="say what differs between two such files")
    compare.add_argument("before", type=Path, metavar="BEFORE")
    compare.add_argument("after", type=Path, metavar="AFTER")
    return p


def said(report) -> dict:
    """All of a report that another machine, or another place in the file, would say too."""
    fields = json.loads(PLACE.sub("LINE", report.to_json()))
    del fields["cost"]
    return fields


def planted(place: int) -> Iterator[tuple[str, Callable, Callable, tuple, str]]:
    """Every mistake, and right gradients, in one of the networks."""
    import numpy as np

    from experiments.planted.mistakes import NEEDS_SATURATION, mutants
    from experiments.planted.network import formulations, loss_of

    net, examples = (*networks(), *wide_networks())[place]
    wrong = mutants(net) if place < len(networks()) else ()
    rows = list({m.id: (m.id, m.where, m.gradient) for m in wrong}.values())  # at the last place of each
    rows += [("right", name, gradient) for name, gradient in formulations(net).items()]
    for k, (id, where, gradient) in enumerate(rows):
        kind, dtype = KINDS[k % len(KINDS)], DTYPES[k // len(KINDS) % len(DTYPES)]
        kind = "saturated" if id in NEEDS_SATURATION else kind
        args = point_of(net, examples, kind, np.random.default_rng([place, k]))
        key = f"network {place} {k:03} {id} {where} {kind} {dtype}"
        yield key, loss_of(net), gradient, args, dtype


def planted_in_losses() -> Iterator[tuple[str, Callable, Callable, tuple, str]]:
    """Every mistake, and the right gradient, in losses that are no networks."""
    from experiments.planted.losses import LOSSES, PLANTS

    rows = [(plant.id, plant.where, plant.loss, plant.gradient, plant.args) for plant in PLANTS]
    rows += [("right", loss.name, loss.of, loss.backward(""), loss.arguments) for loss in LOSSES]
    for k, (id, where, loss, gradient, args) in enumerate(rows):
        dtype = DTYPES[k % len(DTYPES)]
        yield f"loss {k:03} {id} {where} {dtype}", loss, gradient, args(k), dtype


def of_network(place: int) -> dict[str, dict]:
    """What is said of the gradients of one network."""
    return _compared(planted(place))


def of_losses() -> dict[str, dict]:
    """What is said of the gradients of losses that are no networks."""
    return _compared(planted_in_losses())


def _compared(rows: Iterator[tuple[str, Callable, Callable, tuple, str]]) -> dict[str, dict]:
    import jax

    from jaxnn.gradcheck import compare_gradients

    found = {}
    for key, loss, gradient, args, dtype in rows:
        with jax.enable_x64(dtype == "float64"):
            found[key] = said(compare_gradients(loss, gradient, *as_dtype(args, dtype)))
    return found


def of_tests(where: Path) -> dict[str, dict]:
    """What is said of all that the tests compare, by the name of the test and the number of the call."""
    import numpy as np
    import pytest

    import jaxnn.gradcheck

    found, here = {}, ["", 0]

    def recorded(compare: Callable) -> Callable:
        def call(*args, **kwargs):
            report = compare(*args, **kwargs)
            here[1] += 1
            found[f"test {here[0]} {here[1]:03}"] = said(report)
            return report

        return call

    class Recorder:
        def pytest_runtest_setup(self, item):
            here[:] = [item.name, 0]
            np.random.seed(0)  # of gradients that draw at random

    for name in ("compare_gradients", "compare_vjp"):
        setattr(jaxnn.gradcheck, name, recorded(getattr(jaxnn.gradcheck, name)))
    arguments = ["-q", "-p", "no:cacheprovider", "--override-ini=addopts=", str(where)]
    if status := pytest.main(arguments, plugins=[Recorder()]):
        raise UserError(f"{where}: the tests ended with status {int(status)}, expected them to pass")
    return found


def quicken(factor: float) -> None:
    """Let the clocks of this process run faster."""
    for name in CLOCKS:
        setattr(time, name, _faster(getattr(time, name), factor))


def _faster(clock: Callable[[], float], factor: float) -> Callable[[], float]:
    return lambda: factor * clock()


def write(file: Path, processes: int, tests: Path, clock: float) -> int:
    """Compare all gradients, the networks beside one another, and write what was said."""
    if not tests.is_dir():
        raise UserError(f"--tests: got {tests}, expected the folder of the tests of gradcheck")
    print(f"compares  {len(networks()) + len(wide_networks())} networks, other losses, and all in {tests}")
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, spawn, quicken, (clock,)) as pool:
        others = [pool.submit(of_tests, tests), pool.submit(of_losses)]
        others += [pool.submit(of_network, k) for k in range(len(networks()) + len(wide_networks()))]
        found = [one.result() for one in through(as_completed(others), "part", len(others))]
    reports = {key: report for part in found for key, report in part.items()}
    file.write_text(json.dumps(reports, ensure_ascii=False, indent=0, sort_keys=True) + "\n", "utf-8")
    print(f"{counted(len(reports), 'comparison')} in {file}")
    return 0


def differences(before, after, where: str = "") -> Iterator[str]:
    """Each place where two JSON trees differ, and both values there."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted(before.keys() | after.keys()):
            yield from differences(before.get(key), after.get(key), f"{where}.{key}".lstrip("."))
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for k, pair in enumerate(zip(before, after, strict=True)):
            yield from differences(*pair, f"{where}[{k}]")
    elif before != after:
        yield f"{where}: {before!r} → {after!r}"


def compare(before: Path, after: Path) -> int:
    """Print what differs between two files; 1 if anything does."""
    try:
        old, new = (json.loads(path.read_text("utf-8")) for path in (before, after))
    except (OSError, ValueError) as error:
        raise UserError(f"{before}, {after}: expected two files of this program ({error})") from error
    changed = 0
    for key in sorted(old.keys() | new.keys()):
        if key not in old or key not in new:
            changed += 1
            print(f"{key}: only in {after if key in new else before}")
        elif lines := list(differences(old[key], new[key])):
            changed += 1
            more = [f"… and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
            print("\n  ".join([key, *lines[:SHOWN], *more]))
    print(f"{counted(len(old.keys() & new.keys()), 'comparison')} in both, {changed} differ")
    return 1 if changed else 0


def main(arguments: argparse.Namespace) -> int:
    """Write, or compare."""
    if arguments.command == "compare":
        return compare(arguments.before, arguments.after)
    return write(arguments.file, arguments.processes, arguments.tests, arguments.clock)


if __name__ == "__main__":
    run(main, parser())
