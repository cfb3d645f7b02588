"""Families of networks that are trained in rounds, each as large as the memory allows. Imports jax."""

import argparse
import math
import time
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from experiments.common import memory, own
from experiments.common.arguments import UserError
from experiments.common.programs import Programs, bytes_needed, compiled, mean_cost
from experiments.common.task import (
    Task,
    error,
    filled,
    is_finite,
    measured,
    on_images,
    sizes,
    task_of,
    tested,
)
from jaxnn.datasets import Dataset
from jaxnn.devices.mesh import MEMBERS, described
from jaxnn.devices.split import step
from jaxnn.families import member, narrow, stack, together, widen
from jaxnn.layers import mlp
from jaxnn.runs import checkpoints, fields
from jaxnn.runs.record import merit, names
from jaxnn.training import State, scaled, start

MOST = 65_536  # devices: a last round is filled up to a multiple of them


class Settings(NamedTuple):
    """What distinguishes a network from the others."""

    seed: int
    learning_rate: float
    scale: float
    hidden: tuple[int, ...]

    def __str__(self) -> str:
        """A network in one line."""
        return (
            f"seed {self.seed}, learning rate {self.learning_rate:g}, scale {self.scale:g}, "
            f"hidden {' '.join(map(str, self.hidden))}"
        )


def family_of(arguments: argparse.Namespace) -> list[Settings]:
    """Every seed with every learning rate, scale and width. Raises UserError if two of them are the same."""
    if {"epochs", "learning_rate"} & {*arguments.override}:
        raise UserError(
            "--override: got what distinguishes the networks, expected device, versions, environment"
        )
    if arguments.seed + arguments.seeds > 2**32:
        raise UserError(f"--seeds: got seeds up to {arguments.seed + arguments.seeds - 1}, expected 0..2³²−1")
    check_number(arguments)
    family = [
        Settings(seed, learning_rate, scale, hidden)
        for seed in range(arguments.seed, arguments.seed + arguments.seeds)
        for learning_rate in arguments.learning_rates
        for scale in arguments.scales
        for hidden in [(n,) * len(arguments.hidden) for n in arguments.widths or ()] or [(*arguments.hidden,)]
    ]
    if len(set(family)) < len(family):
        raise UserError("--learning-rates, --scales, --widths: got a value twice, expected each once")
    return family


def check_number(arguments: argparse.Namespace) -> None:
    """Raise UserError where the memory is not enough for what is measured of so many networks."""
    lists = (arguments.learning_rates, arguments.scales, arguments.widths or [0])
    networks = arguments.seeds * math.prod(map(len, lists))
    what = f"--seeds, --learning-rates, --scales, --widths: a family of {networks:,} networks"
    memory.check(what, networks * (500.0 + 300.0 * (arguments.epochs or 1)), memory.of_system())


def widest(family: list[Settings], data: Dataset, arguments: argparse.Namespace) -> Task:
    """The task of the network that has room for each of the family; the optimizer has the learning rate 1.

    Raises UserError where networks of different sizes, or scales, cannot be told of pieces of one's own.
    """
    hidden = [max(widths) for widths in zip(*(settings.hidden for settings in family), strict=True)]
    task = task_of(argparse.Namespace(**vars(arguments) | {"hidden": hidden, "learning_rate": 1.0}), data)
    alike, name = are_alike(family), arguments.network
    if name and not alike:
        raise UserError(f"--widths: {name} can have one in a sweep; write a sweep for each, with --out DIR")
    if {settings.scale for settings in family} != {1.0}:
        params = jax.eval_shape(lambda: task.net.init(jax.random.key(0)))
        if not any(is_weight(place) for place in names(params)):
            raise UserError(f"--scales: no array of {name} is called W; leave --scales out")
    if own.is_own(arguments.activation) and not alike:
        check_widened(task, min(family, key=lambda settings: settings.hidden), arguments.activation)
    return task


def check_widened(task: Task, settings: Settings, activation: str) -> None:
    """Raise UserError unless the network inside the arrays of the widest one computes what it does alone."""
    n = sizes(task.data, settings.hidden)
    X = jax.random.normal(jax.random.key(0), (own.FEW, n[0]))
    params, narrow_net = mlp(*n, g=task.g).init(jax.random.key(0)), mlp(*n, g=task.g)

    def computed(net, params):
        Z, residuals = net.forward(params, X)
        dparams, dX = net.backward(params, residuals, jnp.ones_like(Z))
        return Z, dX, narrow(dparams, n)

    alone, inside = computed(narrow_net, params), computed(task.net, widen(params, task.n))
    pairs = zip(*map(jax.tree.leaves, (alone, inside)), strict=True)
    if not all(np.allclose(one, other, rtol=1e-3, atol=1e-5) for one, other in pairs):
        raise UserError(
            f"--widths: with {activation} a neuron gives something else where others stand beside it; "
            "write a sweep for each width"
        )


def is_weight(place: str) -> bool:
    """Whether an array of that name is one of those that --scales multiplies.

    >>> is_weight("W[1]"), is_weight("0.W"), is_weight("3.W_Q"), is_weight("0.b"), is_weight("W.gamma")
    (True, True, True, False, False)
    """
    return place.rpartition(".")[2].startswith("W")


def state_of(task: Task, settings: Settings, alike: bool) -> State:
    """A network before its first step, in arrays of the widest; a rate for each array if all are alike."""
    init_key, _ = jax.random.split(jax.random.key(settings.seed))
    net = task.net if alike else mlp(*sizes(task.data, settings.hidden), g=task.g)
    leaves, tree = jax.tree.flatten(net.init(init_key))
    places = names(tree.unflatten(leaves))
    leaves = [settings.scale * p if is_weight(place) else p for place, p in zip(places, leaves, strict=True)]
    params = tree.unflatten(leaves)
    if alike:
        rates = jax.tree.map(lambda p: np.asarray(settings.learning_rate, p.dtype), params)
        return start(params, scaled(task.optimizer, rates))
    rates = widen(jax.tree.map(lambda p: jnp.full_like(p, settings.learning_rate), params), task.n)
    return start(widen(params, task.n), scaled(task.optimizer, rates))


def are_alike(family: list[Settings]) -> bool:
    """Whether all of them have the same sizes."""
    return len({settings.hidden for settings in family}) == 1


class Plan(NamedTuple):
    """In what rounds a family is trained, and by which programs."""

    task: Task
    family: list[Settings]
    at_once: int  # networks in a round
    rounds: int
    state: State  # its shapes
    programs: Programs
    needed: int  # bytes, on each device
    available: float
    clock: float  # when compiling began


def planned(task: Task, family: list[Settings], mesh: Mesh, key, arguments, at_once: int) -> Plan:
    """As few rounds as the memory allows; or those of `at_once` networks, if it is not 0.

    Raises UserError if the memory is not enough for one network on each device, or for so many.
    """
    clock, alike = time.perf_counter(), are_alike(family)
    available = arguments.memory * 1e9 if arguments.memory else memory.free(mesh.local_devices[0]) * 0.9
    rates = scaled(task.optimizer, None)  # which are in states
    descend = step(on_images(task.gradient, task.data), rates, mesh)

    def evaluate(state, images, labels):
        J, predictions = tested(task, state.params, images, labels)
        if task.data.classes:
            return J, jnp.mean(predictions == labels)
        return J, error(task.data, predictions, labels)

    data, spread = described(mesh, (task.data.train, task.data.test)), partial(together, mesh=mesh)
    in_training = {"keyed": True, "fill": filled(task, arguments.batch_size)} if task.keyed else {}
    members = mesh.shape["members"]
    if at_once % members:
        raise UserError(
            f"--layout: got members={members}, expected a divisor of {at_once}, the networks at once with "
            "which this sweep began"
        )
    rounds = -(-len(family) // at_once) if at_once else 1
    one = jax.eval_shape(partial(state_of, task, family[0], alike))
    while True:
        K = at_once or -(-len(family) // (rounds * members)) * members
        state = jax.tree.map(lambda leaf, K=K: jax.ShapeDtypeStruct((K, *leaf.shape), leaf.dtype), one)
        state = described(mesh, state, MEMBERS)
        programs = compiled(
            descend, evaluate, arguments.batch_size, mesh, state, key, *data, spread=spread, **in_training
        )
        needed = bytes_needed(programs, *data)
        if needed <= available:
            return Plan(task, family, K, -(-len(family) // K), state, programs, needed, available, clock)
        if members == K or at_once:
            whom = "one network" if members == K else f"{K}, with which this sweep began"
            least = f"expected at least {needed / 1e9:.3g} for {whom}"
            raise UserError(f"--memory: got {available / 1e9:.3g} GB on each device, {least}")
        rounds = min(max(math.ceil(rounds * needed / available), rounds + 1), len(family))


class Done(NamedTuple):
    """How far a sweep has come."""

    metrics: list[list[dict]]  # of each network, of each epoch that is done
    at_once: int  # networks in a round; 0 where that is still open
    first: int  # of this round
    epochs: int  # of this round that are done
    step: int  # of the next one, from which it goes on
    costs: list  # of the steps before, an array from each program
    best: int  # of the networks of the rounds before; -1 if there is none


def resumed(plan: Plan, done: Done, checkpoint):
    """The state, the best one's parameters and the progress that the sweep begins with or goes on from."""
    done = done._replace(at_once=plan.at_once)
    if not checkpoint:
        best = jax.tree.map(lambda p: np.zeros(p.shape[1:], p.dtype), plan.state.params)
        return states(plan, done), best, done
    best = jax.tree.map(lambda p: jax.ShapeDtypeStruct(p.shape[1:], p.dtype), plan.state.params)
    template = (plan.state, best)
    (state, best), costs = checkpoints.restored(checkpoint, template, (plan.at_once, done.step))
    return state if done.epochs or done.step else states(plan, done), best, done._replace(costs=costs)


def check(done: Done, networks: int, epochs: int, steps: int) -> None:
    """Raise ValueError unless a sweep of so many networks, epochs and steps can have come so far."""
    fields.check_whole("at_once", done.at_once, 1, networks + MOST)
    fields.check_whole("first", done.first, 0, networks + done.at_once)
    fields.check_whole("epochs", done.epochs, 0, epochs)
    fields.check_whole("step", done.step, 0, steps)
    fields.check_whole("best", done.best, -1, min(done.first, networks) - 1)
    fields.check_whole("metrics", len(done.metrics), networks, networks)
    for k, curve in enumerate(done.metrics):
        fields.check_epochs(curve, finite=False)
        here = epochs if k < done.first else done.epochs if k < done.first + done.at_once else 0
        fields.check_whole(f"metrics of network {k + 1}", len(curve), here, here)


def following(plan: Plan, done: Done) -> range:
    """The networks of the round that is next: none after the last one."""
    return range(done.first, min(done.first + plan.at_once, len(plan.family)))


def states(plan: Plan, done: Done) -> State | None:
    """The next round's networks before their first step; the last one once more where places are left."""
    here, alike = [*following(plan, done)], are_alike(plan.family)
    filled = here + here[-1:] * (plan.at_once - len(here))
    return stack([state_of(plan.task, plan.family[k], alike) for k in filled]) if here else None


def evaluated(evaluation, here: range, done: Done, data: Dataset) -> Done:
    """What is done with another epoch of this round behind it."""
    metrics = [list(curve) for curve in done.metrics]
    for k, *found in zip(here, mean_cost(done.costs), *map(np.asarray, evaluation), strict=False):
        metrics[k].append(measured(data, done.epochs + 1, *found))
    return done._replace(metrics=metrics, epochs=done.epochs + 1, step=0, costs=[])


def ended(state: State, best, here: range, done: Done):
    """The best one's parameters, and what is done with this round behind it."""
    finite = [k for k in here if all(map(is_finite, done.metrics[k]))]
    candidates = finite + [done.best] * (done.best >= 0)
    k = max(candidates, key=lambda k: merit(done.metrics[k][-1]), default=-1)
    if k in here:
        best = jax.tree.map(np.asarray, member(state.params, k - done.first))
    return best, done._replace(best=k, first=done.first + done.at_once, epochs=0)


def alone(plan: Plan, settings: Settings, params):
    """The sizes of a network of the family, and its parameters, which are inside the arrays of the widest."""
    if are_alike(plan.family):
        return plan.task.n, params
    n = sizes(plan.task.data, settings.hidden)
    return n, narrow(params, n)
