"""A training that is counted in steps, with a look now and then at what is held out. Imports jax."""

import argparse
import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import numpy as np

from experiments.common.arguments import UserError, few_digits
from experiments.common.continuation import Diverged, Pauses, agree, progress
from experiments.common.status import doing, reached
from jaxnn.runs import checkpoints, fields, record

EVERY = 250  # steps from one look to the next


class Done(NamedTuple):
    """How far a run has come."""

    metrics: list[dict]  # of each look
    step: int
    costs: list  # of the steps since the last one


def resumed(arguments: argparse.Namespace, settings: dict, begin: Callable, lock, checkpoint):
    """The run's pauses, and the state and progress that it begins with or goes on from."""
    done = progress(arguments, settings, checkpoint, Done([], 0, []), partial(check, steps=arguments.steps))
    if checkpoint:
        agree(arguments, {"data": checkpoint.progress["settings"].get("data")}, settings)
        since = max(done.step - EVERY * len(done.metrics), 0)
        state, costs = checkpoints.restored(checkpoint, jax.eval_shape(begin), (since,))
        state, done = jax.device_put(state), done._replace(costs=costs)
    else:
        state = begin()
    return Pauses(arguments, lock, settings, checkpoint, done.metrics), state, done


def check(done: Done, steps: int) -> None:
    """Raise ValueError unless a run of so many steps can have come so far."""
    fields.check_epochs(done.metrics)
    fields.check_whole("step", done.step, 0, steps)
    looks = math.ceil(done.step / EVERY) if done.step == steps else done.step // EVERY
    fields.check_whole("metrics", len(done.metrics), looks, looks)


def descended(
    state, done: Done, step: Callable, look: Callable, arguments: argparse.Namespace, pause: Pauses
):
    """The state after the last step, and what is done then; after each step there is a pause.

    `step(state, k) -> (state, J)`, J an array of one cost, and `look(state) -> (loss, share)`: the loss on
    what is held out, and the share of it that is foretold. Raises UserError where one is not finite.
    """
    doing("step", done.step / arguments.steps)
    try:
        while done.step < arguments.steps:
            state, J = step(state, np.int32(done.step))
            done = done._replace(step=done.step + 1, costs=[*done.costs, J])
            jax.block_until_ready(done.costs[-2:-1])  # two steps at a time are under way
            reached(done.step / arguments.steps, f"step {done.step}")
            if done.step % EVERY == 0 or done.step == arguments.steps:
                done = looked(done, *map(float, look(state)))
                report(done, arguments)
            pause(state, done, f"step {done.step}")
    except Diverged:
        raise UserError(diverged(done, arguments)) from None
    return state, done


def looked(done: Done, loss: float, share: float) -> Done:
    """What is done, the look at what is held out included. Raises Diverged."""
    mean = float(np.concatenate([np.asarray(J, float) for J in done.costs]).mean())
    if not (math.isfinite(mean) and math.isfinite(loss)):
        raise Diverged
    found = {"loss": mean, "test_loss": loss, "test_accuracy": share}
    return Done([*done.metrics, {"epoch": len(done.metrics) + 1, "step": done.step} | found], done.step, [])


def report(done: Done, arguments: argparse.Namespace) -> None:
    """Print what was seen last, and add it to the run's file."""
    seen = done.metrics[-1]
    print(
        f"step {done.step:6,}/{arguments.steps:,}   loss {few_digits(seen['loss'])}   "
        f"held out {few_digits(seen['test_loss'])}, {100 * seen['test_accuracy']:.1f} % foretold"
    )
    if arguments.out:
        record.append_metrics(arguments.out, seen)


def diverged(done: Done, arguments: argparse.Namespace) -> str:
    """What to say of a run whose numbers are no longer finite, and to do about it."""
    wrong = ~np.isfinite(np.concatenate([np.asarray(J, float) for J in done.costs] or [[0.0]]))
    step = done.step - len(wrong) + int(wrong.argmax()) + 1
    where = f"step {step}: the loss" if wrong.any() else f"after step {done.step}: a number"
    line = f"{where} is the first that is not finite; a smaller --learning-rate usually helps"
    if arguments.out:
        rate = f"--learning-rate {arguments.learning_rate / 10:g} --override learning_rate"
        line += f", with: --out {arguments.out} {rate}"
    return line
