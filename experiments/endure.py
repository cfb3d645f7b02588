"""Interrupt and damage runs, many times, and see that nothing is lost.

With no arguments: everything, which takes half an hour. Each option does its part alone; with 0 it is
left out.
"""

import argparse
import contextlib
import fcntl
import io
import math
import os
import random
import re
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from functools import partial
from importlib import import_module
from pathlib import Path
from statistics import median
from unittest import mock

from experiments.common.arguments import Parser, UserError, add_surroundings, run, use_device, whole
from experiments.common.damage import damage, fuzzed, outcome, readers
from experiments.common.interruption import SAVED
from experiments.common.peers import processes
from experiments.common.status import doing, reached, through
from experiments.common.victims import EVERY, RUNS, Victim, listed, moment, uninterrupted, wrong_at_the_end

SMALL = {  # the runs whose every call fails once: arguments, and the parameters of all networks
    "train": ("--hidden 5 --batch-size 32 --epochs 2 --optimizer adam --learning-rate 0.01", 385),
    "sweep": ("--seeds 2 --learning-rates 0.2 --widths 3 5 --epochs 2 --memory 1", 4 * 385),
}
MEMORY_DISK = "/dev/shm"  # where a call that fails is the same call, and the others take no time
SOON = 5.0  # seconds after which a run has left that is told to
BRIEF, WRITTEN = 0.015, 0.3  # seconds that a save holds training up, and takes in all
MEMORY = 64 * 2**20  # bytes that reading a file takes at most
PARTS = {  # how many there are without arguments, how many at most, of what
    "kills": (200, 100_000, "kill -9 at random moments of training digits and MNIST, and of a sweep"),
    "terminations": (50, 100_000, "SIGTERM at random moments of the same"),
    "blocked": (20, 100_000, "SIGTERM to the same, whose output nobody reads any longer"),
    "faults": (2**31, 2**31, "of the calls of files, and arrays, in train and sweep, so many fail"),
    "disks": (20, 100_000, "disks that get full, or cannot be written any longer; needs the right to mount"),
    "damages": (1000, 1_000_000, "damaged checkpoints"),
    "files": (20_000, 10_000_000, "files of random content, of each kind that is read"),
    "hostile": (1000, 1000, "links, pipes, devices and forged fields in the place of files: all there are"),
    "processes": (24, 100_000, "of 2 and of 4 processes, each in turn is killed, stopped, hung, signalled"),
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
    for number, part in zip(
        numbers,
        (kills, terminations, blocked, faults, disks, damages, files, hostile, processes, saves),
        strict=True,
    ):
        if number:
            doing(part.__name__)
            print(f"{part.__name__:18} {number:,} to come")
            where = MEMORY_DISK if part is faults and os.access(MEMORY_DISK, os.W_OK) else None
            with tempfile.TemporaryDirectory(prefix="endure-", dir=where) as folder:
                passed.append(part(number, rng, Path(folder), arguments))
    return 0 if all(passed) else 1


def kills(number: int, rng: random.Random, folder: Path, arguments: argparse.Namespace) -> bool:
    """kill -9, about six times a run, and then to its end: is it that of the run that was left alone?"""
    from jaxnn.runs.checkpoints import times

    expected = uninterrupted(arguments, folder)
    phases, killed, lost, writes, wrong, ends = Counter(), 0, [0.0], [0.0], [], []
    while killed < number:
        reached(killed / number)
        name = arguments.runs[len(ends) % len(arguments.runs)]
        out = folder / f"{len(ends)}-{name}"
        for _ in range(min(number - killed, rng.randint(4, 8))):
            phase = rng.choice(("start", "compile", "training", "saving"))
            victim = Victim(name, arguments, out)
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
        ends.append(wrong_at_the_end(Victim(name, arguments, out), expected[name]))
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
            victim = Victim(name, arguments, out)
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
        ends.append(wrong_at_the_end(Victim(name, arguments, out), expected[name]))
    print(f"SIGTERM, Ctrl-C    {stopped}, saved at the step it said with status {SAVED}: {saved}")
    print(f"  until it left    {median(times):.2f} s in the middle, {max(times):.2f} s at most")
    print(f"  runs to the end  {len(ends)}, bit-identical: {ends.count('')}")
    listed(wrong + ends)
    return saved == stopped and not any(ends) and max(times) <= SOON


def blocked(number: int, rng: random.Random, folder: Path, arguments: argparse.Namespace) -> bool:
    """SIGTERM while nobody reads the pipe it prints into, which is full: saved, status 76, soon?"""
    expected = uninterrupted(arguments, folder)
    statuses, times, ends = Counter(), [], []
    for k in range(number):
        reached(k / number)
        name = arguments.runs[k % len(arguments.runs)]
        read, write = os.pipe()
        with contextlib.suppress(AttributeError):
            fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)  # bytes: soon full
        victim = Victim(name, arguments, folder / f"{k}-{name}", write)
        full = select.poll()
        full.register(write, select.POLLOUT)
        if victim.wait_for(lambda full=full: not full.poll(0)):
            time.sleep(rng.random())
            clock = time.perf_counter()
            victim.process.send_signal(signal.SIGTERM)
            victim.process.wait()
            times.append(time.perf_counter() - clock)
        statuses[victim.process.wait()] += 1
        os.close(read)
        os.close(write)
        ends.append(wrong_at_the_end(Victim(name, arguments, victim.out), expected[name]))
    print(f"blocked pipes      {number}, left with status {SAVED}: {statuses[SAVED]}")
    print(f"  until it left    {median(times):.2f} s in the middle, {max(times):.2f} s at most")
    print(f"  runs to the end  {len(ends)}, bit-identical: {ends.count('')}")
    listed([*ends, *(f"status {status}" for status in statuses if status != SAVED)])
    return statuses[SAVED] == number and not any(ends) and max(times) <= SOON


def faults(number: int, rng: random.Random, folder: Path, arguments: argparse.Namespace) -> bool:
    """Each call that a run makes of files fails, in each way: is nothing lost, and a line said?"""
    from experiments.common.faults import FAULTS, Door, Run, life, quick, wrong

    found, failed = [], Counter()
    programs = {RUNS[name].split()[0] for name in arguments.runs}
    for name, (words, parameters) in SMALL.items():
        if name not in programs:
            continue
        a_run = Run(import_module(f"experiments.{name}"), words, parameters)
        with quick(a_run):
            made = Door()
            calls, expected = life(a_run, folder / name, Door(), made).calls, outcome(folder / name)
            for nth in sorted(rng.sample(range(1, calls + 1), min(number, calls))):
                for kind, fault in FAULTS.items():
                    why = wrong(a_run, folder / "faulty", Door(nth, fault), expected)
                    found.append(f"{name}, call {nth}, {kind}: {why}" if why else "")
                    failed[name] += 1
                    shutil.rmtree(folder / "faulty", ignore_errors=True)
            arrays = sorted(rng.sample(range(1, made.calls + 1), min(number, made.calls)))
            for nth in arrays:
                full = Door(nth, FAULTS["out of memory"])
                why = wrong(a_run, folder / "faulty", Door(), expected, full)
                found.append(f"{name}, array {nth}: {why}" if why else "")
                shutil.rmtree(folder / "faulty", ignore_errors=True)
        print(f"faults             {name}: {failed[name]}, {min(number, calls)} of {calls} calls")
        print(f"                   {name}: {len(arrays)} of {made.calls} arrays, out of memory")
    print(f"  runs to the end  {len(found)}, bit-identical: {found.count('')}")
    return listed(found)


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
            victim = Victim(name, arguments, out)
            if not fills:
                moment(victim, rng.choice(("training", "saving")), rng)
                victim.process.kill()
                victim.process.wait()
                mount("remount", "ro")
                victim = Victim(name, arguments, out)
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
            ends.append(wrong_at_the_end(Victim(name, arguments, out), expected[name]))
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


def files(number: int, rng: random.Random, folder: Path, arguments: argparse.Namespace) -> bool:
    """Read files of random content: one line of error or a good value, and little memory?

    The memory is all that the process has, with what numpy and the readers in C++ take, and all that stays.
    Good files need less than 1 MB here.
    """
    from experiments import train
    from experiments.common.hostile import resident
    from jaxnn.datasets import DatasetError
    from jaxnn.runs.error import RunError

    read_by = readers(folder, train)
    for good, read in read_by.values():
        read(good)
    outcomes, most, wrong = {kind: Counter() for kind in read_by}, Counter(), []
    (first, _), longest = resident(), 0.0
    for k in through(range(number), "file", number):
        kind = [*read_by][k % len(read_by)]
        good, read = read_by[kind]
        content = fuzzed(good, rng)
        before, _ = resident()
        clock = time.perf_counter()
        try:
            with contextlib.redirect_stderr(io.StringIO()):  # warnings
                read(content)
            outcomes[kind]["read"] += 1
        except (DatasetError, RunError, UserError) as error:
            outcomes[kind]["refused"] += 1
            if "\n" in str(error):
                wrong.append(f"{kind}: more than a line: {error!r}")
        except Exception as error:
            wrong.append(f"{kind}: {error!r}")
        most[kind] = max(most[kind], resident()[1] - before)
        longest = max(longest, time.perf_counter() - clock)
    grown = resident()[0] - first
    print(f"files              {number}, uncaught exceptions and long errors: {len(wrong)}")
    for kind, counts in outcomes.items():
        print(
            f"  {kind:24} {counts['refused']} refused, {counts['read']} read, "
            f"{most[kind] / 2**20:.1f} MB for one at most"
        )
    print(f"  memory                   {grown / 2**20:.1f} MB more after all of them")
    print(f"  time                     {longest:.2f} s at most")
    return listed(wrong[:20]) and max(grown, *most.values()) <= MEMORY and longest <= SOON


def hostile(number: int, rng: random.Random, folder: Path, arguments: argparse.Namespace) -> bool:
    """Links, pipes, devices, terabytes and forged fields in the place of files: refused, soon, untouched?"""
    from experiments import predict, train, verify
    from experiments.common.faults import Door, Killed, Run, life, quick
    from experiments.common.hostile import cases, met
    from jaxnn.runs import record

    a_run, there = Run(train, *SMALL["train"]), list(cases())
    if number < len(there):
        there = rng.sample(there, number)
    found = []
    with quick(a_run):
        life(a_run, folder / "finished", Door())
        expected = outcome(folder / "finished")
        with mock.patch.object(record, "save_params", side_effect=Killed):
            life(a_run, folder / "unfinished", Door())
        for case in there:
            cost = met(case, partial(life, a_run, door=Door()), folder, expected, (predict, verify))
            found.append((cost, f"{case.name}: {cost.wrong}" if cost.wrong else ""))
    seconds, memory = (max(cost[k] for cost, _ in found) for k in (1, 2))
    print(f"hostile files      {len(found)}; {seconds:.2f} s and {memory / 2**20:.1f} MB for one at most")
    return listed([why for _, why in found]) and seconds <= SOON and memory <= MEMORY


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
