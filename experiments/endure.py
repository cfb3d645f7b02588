"""Interrupt and damage runs, many times, and see that nothing is lost.

With no arguments: everything, which takes half an hour. Each option does its part alone; with 0 it is
left out.
"""

import argparse
import contextlib
import io
import json
import math
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from statistics import median

from experiments.common.arguments import Parser, UserError, add_surroundings, run, use_device, whole
from experiments.common.damage import damage, fuzzed, readers
from experiments.common.interruption import SAVED
from experiments.common.status import doing, reached, through

RUNS = {  # with an optimizer that has a state, entered in the middle of epochs too, and in several rounds
    "digits": "train --optimizer adam --epochs 200",
    "mnist": "train --dataset mnist --optimizer adam --epochs 10",
    "sweep": "sweep --seeds 3 --learning-rates 0.2 1 --widths 5 9 --epochs 60 --memory 0.00035",
}
EVERY = 0.2  # seconds between saves
SOON = 5.0  # seconds after which a run has left that is told to
BRIEF, WRITTEN = 0.015, 0.3  # seconds that a save holds training up, and takes in all
MEMORY = 64 * 2**20  # bytes that reading a file takes at most
PARTS = {  # how many there are without arguments, how many at most, of what
    "kills": (200, 100_000, "kill -9 at random moments of training digits and MNIST, and of a sweep"),
    "terminations": (50, 100_000, "SIGTERM at random moments of the same"),
    "disks": (20, 100_000, "disks that get full, or cannot be written any longer; needs the right to mount"),
    "damages": (1000, 1_000_000, "damaged checkpoints"),
    "files": (20_000, 10_000_000, "files of random content, of each kind that is read"),
    "saves": (100, 100_000, "saves, for their cost"),
}


def parser() -> Parser:
    """The arguments of this program."""
    p = Parser(prog="python -m experiments.endure", description=__doc__)
    for name, (number, most, what) in PARTS.items():
        p.add_argument(f"--{name}", type=whole(0, most), metavar="N", help=f"{what}; default: {number}")
    p.add_argument("--runs", nargs="+", choices=RUNS, default=[*RUNS], help="default: all")
    p.add_argument("--seed", type=whole(0), default=0, help="of the moments and damages; default: 0")
    add_surroundings(p)
    return p


def main(arguments: argparse.Namespace) -> int:
    """Interrupt and damage, and report; status 1 if anything was lost."""
    use_device("cpu")
    numbers = [getattr(arguments, name) for name in PARTS]
    if all(number is None for number in numbers):
        numbers = [number for number, _, _ in PARTS.values()]
    rng = random.Random(arguments.seed)
    passed = []
    for number, part in zip(numbers, (kills, terminations, disks, damages, files, saves), strict=True):
        if number:
            doing(part.__name__)
            print(f"{part.__name__:18} {number:,} to come")
            with tempfile.TemporaryDirectory(prefix="endure-") as folder:
                passed.append(part(number, rng, Path(folder), arguments))
    return 0 if all(passed) else 1


class Run:
    """A training or sweep in a process of its own."""

    def __init__(self, name: str, arguments: argparse.Namespace, out: Path):
        """Start it, or go on with it."""
        self.out, self.log = out, out.with_suffix(".log")
        program, *settings = RUNS[name].split()
        settings += ["--save-every", str(EVERY), "--out", str(out)]
        for option in ("data_dir", "source_dir"):
            if getattr(arguments, option):
                settings += [f"--{option.replace('_', '-')}", str(getattr(arguments, option))]
        command = [sys.executable, "-m", f"experiments.{program}", *settings]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        self.training_since = math.inf

    def end(self) -> tuple[int, str]:
        """Its status and all that it printed, once it has ended."""
        return self.process.wait(), self.log.read_text("utf-8", errors="replace")

    def wait_for(self, seen: Callable[[], bool]) -> bool:
        """Whether that was seen before the process ended."""
        while self.process.poll() is None:
            if self.training_since == math.inf and self.printed("compiled  "):
                self.training_since = time.time()
            if seen():
                return True
            time.sleep(0.002)
        return False

    def printed(self, text: str) -> bool:
        """Whether it has printed this."""
        return text in self.log.read_text("utf-8", errors="replace")

    def saving(self) -> bool:
        """Whether a checkpoint is being written."""
        return any((self.out / "checkpoints").glob(".part-*"))


def moment(a_run: Run, phase: str, rng: random.Random) -> bool:
    """Wait for a random moment of that phase; False if the run ended before."""
    pause = {"start": 2.5, "compile": 0.6, "training": 1.5, "saving": 0.04}[phase] * rng.random()
    line = {"start": "", "compile": "device  "}.get(phase, "compiled  ")
    if not a_run.wait_for(lambda: a_run.printed(line)):
        return False
    if phase == "saving" and not a_run.wait_for(a_run.saving):
        return False
    end = time.perf_counter() + pause
    return a_run.wait_for(lambda: time.perf_counter() >= end)


def times(checkpoint: Path) -> tuple[float, float]:
    """When a checkpoint's state was that of the run, and when it was on the disk."""
    told = json.loads((checkpoint / "arrays" / "_CHECKPOINT_METADATA").read_text())
    return told["init_timestamp_nsecs"] / 1e9, (checkpoint / "SHA256SUMS").stat().st_mtime


def outcome(out: Path) -> dict[str, bytes]:
    """All that a finished run has computed: parameters, optimizer state and the metrics of every epoch."""
    from jaxnn.runs import checkpoints

    names = ("params.safetensors", "best.safetensors", "networks.jsonl", "metrics.jsonl")
    paths = [out / folder / name for folder in (".", "best") for name in names]
    found = {str(path.relative_to(out)): path.read_bytes() for path in paths if path.is_file()}
    assert {"params.safetensors", "networks.jsonl"} & {*found}
    checkpoint = checkpoints.newest(out / "checkpoints", print)
    assert checkpoint
    arrays = checkpoints.arrays(checkpoint)
    return found | {name: array.tobytes() for name, array in arrays.items()}


def uninterrupted(arguments: argparse.Namespace, folder: Path) -> dict[str, dict[str, bytes]]:
    """What the runs end with that nothing happens to."""
    found = {}
    for name in arguments.runs:
        status, text = Run(name, arguments, folder / name).end()
        if status:
            raise UserError(f"{name}: {text.strip()}")
        found[name] = outcome(folder / name)
    return found


def wrong_at_the_end(a_run: Run, expected: dict[str, bytes]) -> str:
    """Nothing if the run, left alone from now on, ends with what is expected; else a line."""
    status, text = a_run.end()
    if status and "finished run" not in text:  # it was interrupted after its last file
        return f"status {status}: {text}"
    return "" if outcome(a_run.out) == expected else f"{a_run.out}: another end"


def listed(wrong: list[str]) -> bool:
    """Print the lines that say something; whether none does."""
    for line in filter(None, wrong):
        print(f"  wrong: {line.strip()}")
    return not any(wrong)


def kills(number: int, rng: random.Random, folder: Path, arguments: argparse.Namespace) -> bool:
    """kill -9, about six times a run, and then to its end: is it that of the run that was left alone?"""
    expected = uninterrupted(arguments, folder)
    phases, killed, lost, writes, wrong, ends = Counter(), 0, [0.0], [0.0], [], []
    while killed < number:
        reached(killed / number)
        name = arguments.runs[len(ends) % len(arguments.runs)]
        out = folder / f"{len(ends)}-{name}"
        for _ in range(min(number - killed, rng.randint(4, 8))):
            phase = rng.choice(("start", "compile", "training", "saving"))
            victim = Run(name, arguments, out)
            hit = moment(victim, phase, rng)
            victim.process.kill()
            at = time.time()
            status, text = victim.end()
            if not hit and status != -signal.SIGKILL:  # it was finished before
                wrong += [text] if status and "finished run" not in text else []
                break
            killed += 1
            phases[phase] += 1
            saved = [times(path) for path in out.glob("checkpoints/[0-9]*")]
            writes += [end - begin for begin, end in saved]
            if victim.training_since < at and "trained  " not in text:  # all saved, then
                lost.append(at - max([victim.training_since, *(begin for begin, _ in saved)]))
        ends.append(wrong_at_the_end(Run(name, arguments, out), expected[name]))
        shutil.rmtree(out)
    moments = ", ".join(f"{count} in {phase}" for phase, count in sorted(phases.items()))
    print(f"kill -9            {killed} ({moments})")
    print(f"  runs to the end  {len(ends)}, bit-identical: {ends.count('')}")
    print(f"  work lost        {max(lost):.2f} s at most, in {len(lost) - 1} that had begun to train,")
    print(f"                   with a save every {EVERY:g} s, whose write took up to {max(writes):.2f} s")
    return listed(wrong + ends) and max(lost) <= 2 * EVERY + max(writes)


def terminations(number: int, rng: random.Random, folder: Path, arguments: argparse.Namespace) -> bool:
    """SIGTERM and Ctrl-C while training: saved, status 76, soon, and no step lost?"""
    from jaxnn.runs import checkpoints

    expected = uninterrupted(arguments, folder)
    stopped, saved, times, wrong, ends = 0, 0, [], [], []
    while stopped < number:
        reached(stopped / number)
        name = arguments.runs[len(ends) % len(arguments.runs)]
        out = folder / f"{len(ends)}-{name}"
        for _ in range(min(number - stopped, 6)):
            victim = Run(name, arguments, out)
            if not moment(victim, rng.choice(("training", "saving")), rng):
                break
            clock = time.perf_counter()
            victim.process.send_signal(rng.choice((signal.SIGTERM, signal.SIGINT)))
            status, text = victim.end()
            if status == 0 and "saved     in" in text:
                break  # it was finished before
            stopped += 1
            times.append(time.perf_counter() - clock)
            said = re.search(r"interrupted at epoch (\d+), step (\d+), and saved", text)
            checkpoint = checkpoints.newest(out / "checkpoints", wrong.append)
            done = checkpoint and checkpoint.progress
            where = done and (str(done.get("epochs", len(done["metrics"])) + 1), str(done["step"]))
            drawing = "trained  " in text and "interrupted; " in text
            if status == SAVED and (drawing or (said and said.groups() == where)):
                saved += 1
            else:
                wrong.append(f"status {status}: {text}")
        ends.append(wrong_at_the_end(Run(name, arguments, out), expected[name]))
    print(f"SIGTERM, Ctrl-C    {stopped}, saved at the step it said with status {SAVED}: {saved}")
    print(f"  until it left    {median(times):.2f} s in the middle, {max(times):.2f} s at most")
    print(f"  runs to the end  {len(ends)}, bit-identical: {ends.count('')}")
    listed(wrong + ends)
    return saved == stopped and not any(ends) and max(times) <= SOON


def disks(number: int, rng: random.Random, folder: Path, arguments: argparse.Namespace) -> bool:
    """Run folders that are full or read-only: one line, whole checkpoints, and with room on to the end?"""
    from jaxnn.runs import seals

    def mount(*options: str) -> bool:
        command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(out)]
        return not subprocess.run(command, capture_output=True).returncode

    out = folder / "disk"
    out.mkdir()
    if not mount("size=1m"):
        print("disks              left out: this user cannot mount one")
        return True
    subprocess.run(["umount", str(out)], check=True)
    expected = uninterrupted(arguments, folder)
    full, wrong, ends = 0, [], []
    while len(ends) < number:
        reached(len(ends) / number)
        name = arguments.runs[len(ends) % len(arguments.runs)]
        needed = sum(math.ceil(path.stat().st_size / 4096) for path in (folder / name).rglob("*"))
        fills = rng.random() < 0.7
        mount(f"size={4096 * rng.randint(1, needed)}" if fills else "size=1g")
        try:
            victim = Run(name, arguments, out)
            if not fills:
                moment(victim, rng.choice(("training", "saving")), rng)
                victim.process.kill()
                victim.process.wait()
                mount("remount", "ro")
                victim = Run(name, arguments, out)
            status, text = victim.end()
            mount("remount", "rw", "size=1g")
            if status == 0:
                continue  # there was room for all of it
            full += fills
            why = "No space left on device" if fills else "cannot be written"
            if status != 2 or len(re.findall("^error: .*", text, re.M)) != 1 or why not in text:
                wrong.append(f"status {status}, {why}: {text}")
            broken = {path: seals.broken(path) for path in out.glob("checkpoints/[0-9]*")}
            wrong += [f"{path}: {how}" for path, how in broken.items() if how]
            ends.append(wrong_at_the_end(Run(name, arguments, out), expected[name]))
        finally:
            subprocess.run(["umount", str(out)], check=True)
    read_only = len(ends) - full
    print(f"disks              {full} that got full, {read_only} read-only: a line each, no half checkpoint")
    print(f"  runs to the end  {len(ends)}, with room again, bit-identical: {ends.count('')}")
    return listed(wrong + ends)


def damages(number: int, rng: random.Random, folder: Path, arguments: argparse.Namespace) -> bool:
    """Damage the newest checkpoints: is it noticed, and the newest good one loaded?"""
    import numpy as np

    from jaxnn.runs import checkpoints

    content = np.random.default_rng(arguments.seed)
    trees = {k: {"W": content.normal(size=(17, 64)), "step": np.int32(k)} for k in (1, 2, 3)}
    for k, tree in trees.items():
        checkpoints.write(folder / "good", k, tree, {"k": k})
    kinds, noticed, loaded, wrong = Counter(), 0, 0, []
    for _ in through(range(number), "damage", number):
        copy = folder / "copy"
        shutil.copytree(folder / "good", copy)
        many = rng.choice((1, 1, 2))
        how = [damage(copy / f"{k:06}", rng) for k in range(3, 3 - many, -1)]
        kinds.update(how[:1])
        lines = []
        found = checkpoints.newest(copy, lines.append)
        noticed += len(lines) == many
        good = 3 - many
        arrays = checkpoints.restore(found, trees[good]) if found else {}
        if found and found.progress == {"k": good} and (arrays["W"] == trees[good]["W"]).all():
            loaded += 1
        else:
            wrong.append(f"{how}: {lines}")
        shutil.rmtree(copy)
    print(f"damages            {number} ({', '.join(f'{n} {kind}' for kind, n in sorted(kinds.items()))})")
    print(f"  noticed          {noticed}; the newest good one loaded: {loaded}")
    return listed(wrong) and noticed == number


def resident() -> tuple[int, int]:
    """The bytes of memory that this process has, and the most it had since this was called before."""
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins again
        return 1024 * int(lines["VmRSS"].split()[0]), 1024 * int(lines["VmHWM"].split()[0])
    except OSError:  # not Linux: the most there ever was
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return most, most


def files(number: int, rng: random.Random, folder: Path, arguments: argparse.Namespace) -> bool:
    """Read files of random content: one line of error or a good value, and little memory?

    The memory is all that the process has, with what numpy and the readers in C++ take, and all that stays.
    Good files need less than 1 MB here. Orbax keeps some 10 kB of each checkpoint that it reads.
    """
    from experiments import train
    from jaxnn.datasets import DatasetError
    from jaxnn.runs.error import RunError

    read_by = readers(folder, train.parser(), train.Done)
    for good, read in read_by.values():
        read(good)
    outcomes, most, wrong = {kind: Counter() for kind in read_by}, Counter(), []
    first, _ = resident()
    for k in through(range(number), "file", number):
        kind = [*read_by][k % len(read_by)]
        good, read = read_by[kind]
        content = fuzzed(good, rng)
        before, _ = resident()
        try:
            with contextlib.redirect_stderr(io.StringIO()):  # warnings, and what orbax says
                read(content)
            outcomes[kind]["read"] += 1
        except (DatasetError, RunError, UserError) as error:
            outcomes[kind]["refused"] += 1
            if "\n" in str(error):
                wrong.append(f"{kind}: more than a line: {error!r}")
        except Exception as error:
            wrong.append(f"{kind}: {error!r}")
        most[kind] = max(most[kind], resident()[1] - before)
    grown = resident()[0] - first
    print(f"files              {number}, uncaught exceptions and long errors: {len(wrong)}")
    for kind, counts in outcomes.items():
        print(
            f"  {kind:24} {counts['refused']} refused, {counts['read']} read, "
            f"{most[kind] / 2**20:.1f} MB for one at most"
        )
    print(f"  memory                   {grown / 2**20:.1f} MB more after all of them")
    return listed(wrong[:20]) and max(grown, *most.values()) <= MEMORY


def saves(number: int, rng: random.Random, folder: Path, arguments: argparse.Namespace) -> bool:
    """How long a save of 101,770 parameters and Adam's state holds training up, and takes in all."""
    import jax
    import optax

    from jaxnn.activations import sigmoid
    from jaxnn.layers import mlp
    from jaxnn.runs.checkpoints import Saver
    from jaxnn.training import start

    params = mlp(784, 128, 10, g=sigmoid).init(jax.random.key(0))
    state = jax.block_until_ready(start(params, optax.adam(0.001)))
    saver = Saver(folder, every=0.0)
    saver.wait()
    blocked, taken = [], []
    for k in through(range(number), "save", number):
        clock = time.perf_counter()
        saver.save((state, params), {"step": k})
        blocked.append(time.perf_counter() - clock)
        saver.wait()
        taken.append(time.perf_counter() - clock)
    saver.close()
    print(f"saves              {number} of 101,770 parameters and Adam")
    print(f"  blocked          {1e3 * median(blocked):.2f} ms, {1e3 * max(blocked):.2f} ms at most")
    print(f"  on the disk      after {1e3 * median(taken):.0f} ms; {1e3 * max(taken):.0f} ms at most")
    print(f"  of training      {100 * median(taken) / 10:.2f} % if all of it were, with a save every 10 s")
    return median(blocked) <= BRIEF and median(taken) <= WRITTEN


if __name__ == "__main__":
    run(main, parser())
