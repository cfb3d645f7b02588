"""Epochs cut into compiled programs: between two of them a run can be saved, and left. Imports jax."""

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.common.continuation import Pauses
from experiments.common.status import doing, reached
from experiments.common.together import GROUP
from jaxnn.devices.mesh import ROWS, WHOLE, held
from jaxnn.devices.split import steps_on
from jaxnn.training import steps_at_once


class Programs(NamedTuple):
    """The programs of an epoch, by the number of their steps, and that of the evaluation after it."""

    steps: int  # of an epoch
    at_once: int  # steps of a program, but for the last one
    descend: dict[int, Any]  # (state, key, first step, *train) -> (state, costs)
    fill: Any  # (params, *train) -> params, with what an evaluation takes from the data
    evaluate: Any  # (state, *test)
    seconds: float  # that it took to compile them


def compiled(
    descend: Callable,
    evaluate: Callable,
    batch_size: int,
    mesh,
    state,
    key,
    train,
    test,
    spread=lambda f: f,
    keyed: bool = False,
    fill: Callable | None = None,
    whole: bool = False,
) -> Programs:
    """The programs for a state and data of these shapes on a mesh; `spread` makes them those of a family.

    If `keyed`, each step is handed a key; `fill(params, *train)` comes before each evaluation, whose rows are
    split as those of a batch, unless it is to be `whole` on each device.
    """

    def split(state, *test):
        return evaluate(state, *held(mesh, test, WHOLE if whole else ROWS))

    doing("compiling")
    clock = time.perf_counter()
    steps = len(train[0]) // batch_size
    at_once = steps_at_once(steps, batch_size, sum(p.size for p in jax.tree.leaves(state.params)))
    by_size = {
        size: jax.jit(spread(steps_on(mesh, descend, batch_size, size, keyed)))
        .lower(state, key, np.int32(0), *train)
        .compile()
        for size in {min(at_once, steps - first) for first in range(0, steps, at_once)}
    }
    evaluation = jax.jit(spread(split)).lower(state, *test).compile()
    fill = (
        jax.jit(spread(fill)).lower(state.params, *train).compile() if fill else lambda params, *train: params
    )
    return Programs(steps, at_once, by_size, fill, evaluation, time.perf_counter() - clock)


class Rest(NamedTuple):
    """What remains of an epoch: all of it, or what is left where a run was interrupted."""

    programs: Programs
    number: int
    state: Any
    first: int  # step
    shuffle_key: jax.Array
    data: tuple

    @property
    def key(self) -> jax.Array:
        """What the whole epoch is shuffled by."""
        return jax.random.fold_in(self.shuffle_key, self.number)


def pieces(rest: Rest) -> Iterator[tuple[int, Any, jax.Array]]:
    """The rest of an epoch, a program at a time: the step after it, the state, and the costs."""
    programs, state, first, key = rest.programs, rest.state, rest.first, rest.key
    while first < programs.steps:
        size = min(programs.at_once, programs.steps - first)
        state, J = programs.descend[size](state, key, np.int32(first), *rest.data)
        first += size
        yield first, state, J


def descended(rest: Rest, best, done, pause: Pauses):
    """The state after the rest of an epoch, and what is done then; after each program there is a pause."""
    state, steps = rest.state, rest.programs.steps
    doing(f"epoch {rest.number}", rest.first / steps)
    GROUP.pace()
    for k, state, J in pieces(rest):
        done = done._replace(step=k, costs=[*done.costs, J])
        jax.block_until_ready(done.costs[-2:-1])  # two programs at a time are under way
        reached(k / steps)
        pause((state, best), done, f"epoch {rest.number}, step {k}")
    return state, done


def mean_cost(costs: list):
    """The mean cost of an epoch's steps, from an array of each program: of one network, or of each."""
    return np.concatenate([np.asarray(J, float) for J in costs], axis=-1).mean(axis=-1)


def bytes_needed(programs: Programs, train, test) -> int:
    """What a device has to hold while one of the programs runs, the data that it does not read included."""
    needed = []
    for program, elsewhere in (*((p, test) for p in programs.descend.values()), (programs.evaluate, train)):
        sizes = program.memory_analysis()  # every platform of jaxlib has it
        own = sizes.argument_size_in_bytes + sizes.output_size_in_bytes + sizes.temp_size_in_bytes
        needed.append(own + sum(array.size * array.dtype.itemsize for array in elsewhere))
    return max(needed)
