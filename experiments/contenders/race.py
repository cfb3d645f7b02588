"""Contenders in processes of their own, taking turns."""

import json
import math
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

from experiments.common.arguments import UserError
from experiments.common.status import doing
from experiments.contenders.work import Work


class Result(NamedTuple):
    """What one contender did: seconds and loss of each round, after the first ones that warm it up."""

    device: str
    memory: int | None
    seconds: list[float]
    losses: list[float]
    accuracy: float


class Process:
    """A contender in a process of its own: it takes a word and answers with a line of JSON."""

    def __init__(self, name: str, work: Work, environment: dict[str, str]):
        """Start it; its first answer comes when it is ready."""
        self.name = name
        self.messages = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, "-m", "experiments.contenders", name, json.dumps(work._asdict())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.messages,
            text=True,
            env=environment,
        )

    def answer(self) -> dict:
        """Its next answer."""
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            self.messages.seek(0)
            last = (self.messages.read().strip().splitlines() or ["no message"])[-1]
            raise UserError(f"{self.name}: ended with status {self.process.returncode}: {last}")
        return json.loads(line)

    def ask(self, word: str) -> dict:
        """Its answer to a word."""
        assert self.process.stdin
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        return self.answer()

    def end(self) -> None:
        """Stop it."""
        self.process.kill()
        self.process.communicate()
        self.messages.close()


def race(
    names: list[str], work: Work, rounds: int, environment: dict[str, str], warm_up: int = 1
) -> dict[str, Result]:
    """Let contenders train in turns; the result of each that is installed."""
    processes: dict[str, Process] = {}
    results: dict[str, Result] = {}
    try:
        for name in names:
            doing(f"starting {name}")
            processes[name] = Process(name, work, environment)
            if first := ready(processes[name]):
                results[name] = first
            else:
                processes.pop(name).end()
        for process in processes.values():
            doing(f"warming up {process.name}")
            for _ in range(warm_up):
                process.ask("train")
        for number in range(rounds):
            for name, process in processes.items():
                doing(f"round {number + 1} of {rounds}: {name}")
                time.sleep(0.05)  # until the threads of the one before sleep
                answer = process.ask("train")
                results[name].seconds.append(answer["seconds"])
                results[name].losses.append(answer["loss"])
        for name, process in processes.items():
            results[name] = results[name]._replace(accuracy=process.ask("test")["accuracy"])
    finally:
        for process in processes.values():
            process.end()
    return results


def ready(process: Process) -> Result | None:
    """The contender before its first round, or None, and a line, if it is not installed."""
    first = process.answer()
    if "missing" in first:
        print(f"{process.name} is missing: no {first['missing']} here (pip install 'jaxnn[bench]')")
        return None
    return Result(first["device"], first["memory"], [], [], math.nan)
