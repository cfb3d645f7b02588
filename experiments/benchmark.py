"""Measure this project beside what its users would take instead: the same work, in turns, in one run.

Every contender runs in a fresh process of its own; they take turns, so that all of them meet the same
machine. Losses and accuracies are compared, so that nobody wins by doing less; exit status 1 if they differ.
"""

import argparse
import json
import math
import os
import platform
import sys
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

import numpy as np

from experiments.common.arguments import Parser, UserError, folder, new_file, new_picture, run, whole
from experiments.common.status import doing
from experiments.contenders.products import LARGE
from experiments.contenders.race import Process, Result, race, ready
from experiments.contenders.table import CONTENDERS, EXAMPLES, FAMILY, REFERENCES
from experiments.contenders.work import Work

SMALL = Work([784, 17, 10], "sigmoid", batch_size=32, learning_rate=0.5, folder="")
LARGER = Work([784, 512, 512, 10], "relu", batch_size=128, learning_rate=0.1, folder="")
NETWORKS = {"small": (SMALL, 0.94), "large": (LARGER, 0.98)}  # and the accuracy that is the target
PATIENCE = 60  # epochs until a target counts as out of reach
FRAMEWORKS = ("equinox", "flax", "pytorch", "pytorch-compiled", "scikit-learn")
BY_HAND = ("numpy", "jax-scan")
SAME_LOSS = 0.04  # relative, of an epoch: the orders of the examples differ
SAME_ACCURACY = 0.02
SAME_NORM = 1e-4
PACKAGES = ("jax", "jaxlib", "optax", "numpy", "equinox", "flax", "torch", "scikit-learn")
MEASUREMENTS = ("epochs", "targets", "family", "examples")


def parser() -> Parser:
    """The arguments of this program."""
    p = Parser(prog="python -m experiments.benchmark", description=__doc__)
    p.add_argument(
        "--measure", nargs="+", choices=MEASUREMENTS, default=MEASUREMENTS, metavar="WHAT",
        help="epochs: one epoch; targets: the time from a cold start to an accuracy on MNIST; family: many "
        "networks at once; examples: the gradients of single examples; default: all",
    )  # fmt: skip
    p.add_argument(
        "--network", nargs="+", choices=NETWORKS, default=list(NETWORKS), metavar="SIZE",
        help="small: 784-17-10; large: 784-512-512-10; default: both",
    )  # fmt: skip
    p.add_argument("--batch-size", nargs="+", type=whole(1, 60000), default=[32, 128, 1024], metavar="B",
                   help="default: 32 128 1024")  # fmt: skip
    p.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS), metavar="NAME",
                   help=f"{' '.join(CONTENDERS)}; default: all")  # fmt: skip
    p.add_argument("--rounds", type=whole(1), default=7, metavar="R", help="default: %(default)s")
    p.add_argument("--networks", type=whole(1), default=64, metavar="K", help="in the family; default: 64")
    p.add_argument("--device", choices=("auto", "cpu"), default="auto", help="default: a GPU if there is one")
    p.add_argument("--data-dir", type=folder, metavar="DIR", help="as for experiments.train")
    p.add_argument("--source-dir", type=folder, metavar="DIR", help="as for experiments.train")
    p.add_argument("--json", type=new_file, metavar="FILE", help="write everything that was measured")
    p.add_argument(
        "--picture", type=new_picture(".png", ".svg", ".pdf"), metavar="FILE", help="draw the epochs as bars"
    )
    return p


def main(arguments: argparse.Namespace) -> int:
    """Measure, and report."""
    if arguments.picture and "epochs" not in arguments.measure:
        raise UserError("--picture: got no epochs to draw, expected --measure epochs with it")
    with tempfile.TemporaryDirectory(prefix="jaxnn-benchmark-") as folder:
        mnist = prepare(Path(folder), arguments)
        environment = surroundings(arguments)
        machine = describe_machine() | {"data": "MNIST" if mnist else "random images of that shape"}
        versions = describe_versions()
        for facts in (machine, versions):
            print(", ".join(f"{name} {value}" for name, value in facts.items()))
        networks = [
            (NETWORKS[name][0]._replace(folder=folder), NETWORKS[name][1]) for name in arguments.network
        ]
        measurements = []
        if "epochs" in arguments.measure:
            for work, _ in networks:
                for batch_size in arguments.batch_size:
                    of_batches = work._replace(batch_size=batch_size)
                    measurements.append(measure_epochs(of_batches, arguments, environment))
        if "targets" in arguments.measure and not mnist:
            print("\nno MNIST here: the time to an accuracy is not measured")
        elif "targets" in arguments.measure:
            measurements += [measure_targets(*network, arguments, environment) for network in networks]
        if "family" in arguments.measure:
            work = SMALL._replace(batch_size=128, folder=folder, networks=arguments.networks)
            measurements.append(measure_family(work, arguments, environment))
        if "examples" in arguments.measure:
            work = LARGER._replace(batch_size=1024, folder=folder)
            measurements.append(measure_examples(work, arguments, environment))
    if arguments.json:
        everything = {"machine": machine, "versions": versions, "measurements": measurements}
        arguments.json.write_text(json.dumps(everything, indent=1))
    if arguments.picture:
        draw([m for m in measurements if m["what"] == "epochs"], machine, arguments.picture)
    differences = [line for m in measurements for line in m.get("differences", ())]
    for line in differences:
        print(f"not the same work: {line}")
    return 1 if differences else 0


def prepare(folder: Path, arguments: argparse.Namespace) -> bool:
    """Write the arrays that all contenders read; whether they are those of MNIST."""
    from jaxnn import datasets

    doing("reading mnist")
    try:
        data = datasets.load("mnist", arguments.data_dir, arguments.source_dir)
    except datasets.DatasetError as error:
        print(f"random images instead of MNIST: {error}", file=sys.stderr)
        data, rng = None, np.random.default_rng(0)
        parts = [
            (rng.integers(0, 256, (N, 28, 28), np.uint8), rng.integers(0, 10, N, np.int32))
            for N in (60000, 10000)
        ]
    else:
        parts = data.train, data.test
    for name, (images, labels) in zip(("train", "test"), parts, strict=True):
        np.save(folder / f"{name}_images", images)
        np.save(folder / f"{name}_labels", labels)
    return data is not None


def surroundings(arguments: argparse.Namespace) -> dict[str, str]:
    """The environment of every contender: nothing compiled before, no device taken as a whole."""
    alike = {"JAX_ENABLE_COMPILATION_CACHE": "false", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    cpu = {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    return os.environ | alike | (cpu if arguments.device == "cpu" else {})


def describe_machine() -> dict[str, str]:
    """What the figures were measured on."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": f"{processor()} ({cores} cores)",
        "date": time.strftime("%Y-%m-%d"),
    }


def describe_versions() -> dict[str, str]:
    """The versions of what takes part."""
    versions = {"Python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "missing"
    return versions


def processor() -> str:
    """The name of the processor, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"


def measure_epochs(work: Work, arguments: argparse.Namespace, environment: dict[str, str]) -> dict:
    """One epoch, side by side."""
    names = [*arguments.contenders, *REFERENCES]
    if "jaxnn-manual" not in names:
        names.insert(0, "jaxnn-manual")
    results = race(names, work, arguments.rounds, environment)
    print(f"\nan epoch of {named(work)}: median of {arguments.rounds} rounds")
    print_results(results, "jaxnn-manual")

    seconds = medians(results)
    ours = seconds["jaxnn-manual"]
    ratios = {}
    for title, group in (("framework", FRAMEWORKS), ("by hand", BY_HAND)):
        if there := [name for name in group if name in seconds]:
            fastest = min(there, key=lambda name: seconds[name])
            ratios[f"fastest {title} ({fastest}) / jaxnn"] = seconds[fastest] / ours
    ratios["jaxnn / matrix products alone"] = ours / seconds["matrix products alone"]
    ratios["shuffling and data movement, part of the epoch"] = 1 - seconds["one ready batch"] / ours
    if "jaxnn-autodiff" in seconds:
        ratios["autodiff / manual, time"] = seconds["jaxnn-autodiff"] / ours
        by_hand, by_autodiff = results["jaxnn-manual"].memory, results["jaxnn-autodiff"].memory
        if by_hand and by_autodiff:
            ratios["autodiff / manual, temporary memory"] = by_autodiff / by_hand
    return report("epochs", work, results, ratios, differences(results, work))


def measure_targets(
    work: Work, target: float, arguments: argparse.Namespace, environment: dict[str, str]
) -> dict:
    """The time from the start of the process to an accuracy on the test images, compilation included.

    In every round the images come in other orders: how many epochs it takes is luck in part.
    """
    rounds = min(arguments.rounds, 3)
    names = list(arguments.contenders)
    results: dict[str, Result] = {}
    epochs: dict[str, list[int]] = {}
    for turn in range(rounds):
        for name in list(names):
            clock = time.perf_counter()
            doing(f"round {turn + 1} of {rounds}: {name} to {100 * target:g} %")
            process = Process(name, work._replace(first=PATIENCE * turn), environment)
            try:
                first = ready(process)
                if first is None:
                    names.remove(name)
                    continue
                number, loss, accuracy = 0, math.nan, 0.0
                while accuracy < target and number < PATIENCE:
                    number += 1
                    loss = process.ask("train")["loss"]
                    accuracy = process.ask("test")["accuracy"]
                seconds = time.perf_counter() - clock if accuracy >= target else math.inf
            finally:
                process.end()
            result = results.get(name, first)
            result.seconds.append(seconds)
            result.losses.append(loss)
            results[name] = result._replace(accuracy=accuracy)
            epochs.setdefault(name, []).append(number)
    print(f"\nfrom a cold start to {100 * target:g} % with {named(work)}: median of {rounds}")
    print_results(results, "jaxnn-manual")
    print("  epochs: " + ", ".join(f"{name} {median(numbers):g}" for name, numbers in epochs.items()))
    seconds = medians(results)
    others = [name for name in seconds if not name.startswith("jaxnn")]
    ratios = {}
    if "jaxnn-manual" in seconds and others:
        fastest = min(others, key=lambda name: seconds[name])
        ratios[f"fastest other ({fastest}) / jaxnn"] = seconds[fastest] / seconds["jaxnn-manual"]
    return report("targets", work, results, ratios, []) | {"target": target, "epochs": epochs}


def measure_family(work: Work, arguments: argparse.Namespace, environment: dict[str, str]) -> dict:
    """Many networks at once against one after the other, and against one large product."""
    results = race(list(FAMILY), work, arguments.rounds, environment)
    K = work.networks
    print(f"\nan epoch of {K} networks of {named(work)}: median of {arguments.rounds}")
    print_results(results, "all at once")
    seconds = medians(results)
    rate = K * operations(work) / seconds["all at once"]
    largest = 2 * LARGE**3 / seconds["large product"]
    ratios = {
        "one after the other / all at once": K * seconds["one network"] / seconds["all at once"],
        "GFLOP/s, one network": operations(work) / seconds["one network"] / 1e9,
        "GFLOP/s, all at once": rate / 1e9,
        f"GFLOP/s, one product of {LARGE} × {LARGE}": largest / 1e9,
        "rate, part of that of the large product": rate / largest,
    }
    members = {name: result for name, result in results.items() if name != "large product"}
    return report("family", work, results, ratios, differences(members, work))


def measure_examples(work: Work, arguments: argparse.Namespace, environment: dict[str, str]) -> dict:
    """The norm of each example's gradient and clipping by it, against vmap(grad)."""
    results = race(list(EXAMPLES), work, arguments.rounds, environment, warm_up=2)
    n = "-".join(map(str, work.n))
    print(f"\ngradients of {work.batch_size} single examples, {n}: median of {arguments.rounds}")
    print_results(results, "plain gradient")
    seconds = medians(results)
    found = {name: result.losses[-1] for name, result in results.items()}
    slow = {name: f"{name} by vmap(grad)" for name in ("norms", "clipped gradient")}
    pairs = (
        (slow["norms"], "norms"),
        ("clipped gradient", "plain gradient"),
        (slow["clipped gradient"], "clipped gradient"),
    )
    ratios = {f"{one} / {other}": seconds[one] / seconds[other] for one, other in pairs}
    differ = [
        f"{name}: {found[name]:g}, by vmap(grad) {found[other]:g}"
        for name, other in slow.items()
        if not math.isclose(found[name], found[other], rel_tol=SAME_NORM)
    ]
    return report("examples", work, results, ratios, differ)


def operations(work: Work) -> int:
    """Multiplications and additions in the matrix products of an epoch: Z, dW, and dA above layer 1."""
    products = [n_prev * n for n_prev, n in zip(work.n[:-1], work.n[1:], strict=True)]
    examples = 60000 // work.batch_size * work.batch_size
    return 2 * examples * (2 * sum(products) + sum(products[1:]))


def differences(results: dict[str, Result], work: Work) -> list[str]:
    """A line for every contender whose loss or accuracy is not that of the others."""
    done = {name: result for name, result in results.items() if not math.isnan(result.accuracy)}
    loss = median(result.losses[-1] for result in done.values())
    accuracy = median(result.accuracy for result in done.values())
    return [
        f"{name}, {named(work)}: loss {result.losses[-1]:.4f}, accuracy "
        f"{result.accuracy:.4f}; the median of all is {loss:.4f}, {accuracy:.4f}"
        for name, result in done.items()
        if not (abs(result.losses[-1] - loss) <= SAME_LOSS * loss + 0.005)
        or not (abs(result.accuracy - accuracy) <= SAME_ACCURACY)
    ]


def named(work: Work) -> str:
    """784-17-10, B = 32."""
    return f"{'-'.join(map(str, work.n))}, B = {work.batch_size}"


def medians(results: dict[str, Result]) -> dict[str, float]:
    """The median of the seconds of everyone that is there."""
    return {name: median(result.seconds) for name, result in results.items()}


def print_results(results: dict[str, Result], one: str) -> None:
    """A row each: median, spread, ratio to the contender `one`, loss and accuracy."""
    seconds = medians(results)
    print(f"  {'':30} {'ms':>9}  {'least .. most':>21}  {'ratio':>7}  {'loss':>8}  {'accuracy':>8}")
    for name, result in results.items():
        spread = f"{1e3 * min(result.seconds):.1f} .. {1e3 * max(result.seconds):.1f}"
        ratio = f"{seconds[name] / seconds[one]:.2f}" if one in seconds else ""
        loss = "" if math.isnan(result.losses[-1]) else f"{result.losses[-1]:.4f}"
        accuracy = "" if math.isnan(result.accuracy) else f"{100 * result.accuracy:.2f} %"
        print(f"  {name:30} {1e3 * seconds[name]:9.1f}  {spread:>21}  {ratio:>7}  {loss:>8}  {accuracy:>8}")
    devices = {result.device for result in results.values()}
    print(f"  on {', '.join(sorted(devices))}")


def report(
    what: str, work: Work, results: dict[str, Result], ratios: dict[str, float], differ: list[str]
) -> dict:
    """Print the ratios, a line each; what the JSON file holds of one measurement."""
    for title, ratio in ratios.items():
        print(f"  {title:62} {ratio:8.2f}")
    return {
        "what": what,
        **{key: value for key, value in work._asdict().items() if key != "folder"},
        "results": {name: result._asdict() for name, result in results.items()},
        "ratios": ratios,
        "differences": differ,
    }


def draw(measurements: list[dict], machine: dict, path: Path) -> None:
    """A panel for each measurement of epochs: a bar for each contender, as a multiple of jaxnn's time."""
    from matplotlib.figure import Figure

    columns = min(3, len(measurements))
    lines = -(-len(measurements) // columns)
    figure = Figure(figsize=(4.6 * columns, 3.4 * lines), layout="constrained")
    figure.suptitle(f"time of an epoch, jaxnn (manual) = 1; {machine['processor']}", fontsize=10)
    panels = figure.subplots(lines, columns, squeeze=False)
    for axes, measurement in zip(panels.flat, measurements, strict=False):
        there = {name: result["seconds"] for name, result in measurement["results"].items()}
        ours = median(there["jaxnn-manual"])
        names = sorted(there, key=lambda name: -median(there[name]))
        ratios = [median(there[name]) / ours for name in names]
        least = [ratio - min(there[name]) / ours for name, ratio in zip(names, ratios, strict=True)]
        most = [max(there[name]) / ours - ratio for name, ratio in zip(names, ratios, strict=True)]
        colors = [
            "C1" if name.startswith("jaxnn") else "0.75" if name in REFERENCES else "C0" for name in names
        ]
        axes.barh(names, ratios, xerr=(least, most), color=colors, error_kw={"lw": 0.8})
        axes.axvline(1, color="0.3", lw=0.8)
        axes.set_title(f"{'-'.join(map(str, measurement['n']))}, B = {measurement['batch_size']}", fontsize=9)
        axes.tick_params(labelsize=7)
    for axes in panels.flat[len(measurements) :]:
        axes.set_axis_off()
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    run(main, parser())
