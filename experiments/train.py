"""Train the lecture's network on images of handwriting, by gradients written by hand.

With no arguments: 64-17-10, sigmoid, binary cross-entropy, plain gradient descent on `digits`; 97.5 % of
the test images are recognised (seed 0).
"""

import argparse
import contextlib
import math
import re
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from experiments.common import devices, own, own_data, scores, together
from experiments.common.arguments import (
    Parser,
    UserError,
    add_network,
    add_surroundings,
    few_digits,
    rate,
    run,
    whole,
)
from experiments.common.continuation import Diverged, Pauses, add_checkpoints, describe, progress, reopened
from experiments.common.optimizers import OPTIMIZERS, steepness
from experiments.common.own_data import add_own_data
from experiments.common.status import doing
from jaxnn.gradcheck.calls.raised import in_full
from jaxnn.shown import shown


def parser() -> Parser:
    """The arguments of this program."""
    p = Parser(prog="python -m experiments.train", description=__doc__)
    add_network(p, own=True)
    own.add_pieces(p)
    p.add_argument("--optimizer", choices=OPTIMIZERS, default="sgd", help="as in optax; default: %(default)s")
    p.add_argument(
        "--learning-rate",
        type=rate,
        metavar="α",
        help="default: " + ", ".join(f"{default} for {name}" for name, default in OPTIMIZERS.items()),
    )
    p.add_argument(
        "--batch-size", type=whole(1), metavar="B", help="default: 8 for digits, 100 for the others"
    )
    p.add_argument(
        "--epochs", type=whole(1, 1_000_000), metavar="E", help="default: 60 for digits, 30 for the others"
    )
    add_own_data(p)
    add_surroundings(p)
    devices.add_devices(p)
    devices.add_processes(p)
    p.add_argument(
        "--reproducible",
        action="store_true",
        help="the same bits on 1, 2, 4 and 8 devices, which takes longer",
    )
    add_checkpoints(p, "settings, metrics, parameters and page")
    return p


class Done(NamedTuple):
    """How far a run has come."""

    metrics: list[dict]  # of each epoch that is done
    step: int  # of the next epoch, from which it goes on
    costs: list  # of the steps before, an array from each program
    best: int  # the epoch with the best test accuracy, or the least test error, the first of them


def main(arguments: argparse.Namespace) -> int:
    """Train, and report."""
    device, mesh = devices.started(arguments)

    from experiments.common.task import load, settled, task_of
    from jaxnn.devices import in_order

    arguments, lock, checkpoint = reopened(arguments, parser(), "params.safetensors")
    data = load(arguments)
    if together.GROUP.others:
        together.GROUP.agree(together.sha256(data) | own.files(vars(arguments)))
    default = OPTIMIZERS[arguments.optimizer] / steepness(arguments.optimizer, not data.classes)
    arguments = settled(arguments, data, learning_rate=default)
    if arguments.reproducible:
        in_order.check(mesh, arguments.batch_size)
    if checkpoint and "files" not in arguments.override:
        own.unchanged(checkpoint.progress["settings"], arguments.out, "go on with --override files")
    task = task_of(arguments, data)
    return trained(task, arguments, device, mesh, lock, checkpoint)


def trained(task, arguments: argparse.Namespace, device, mesh, lock, checkpoint) -> int:
    """Train what the task says, from its beginning on or from a checkpoint, and report."""
    import jax

    from experiments.common.pages import View, of_run
    from experiments.common.programs import Rest, compiled, descended
    from experiments.common.task import filled, on_images
    from jaxnn.devices.in_order import in_order
    from jaxnn.devices.layout import stored
    from jaxnn.devices.mesh import placed
    from jaxnn.devices.split import step
    from jaxnn.runs import record
    from jaxnn.training import start

    data = task.data
    init_key, shuffle_key = jax.random.split(jax.random.key(arguments.seed))
    begin = devices.begun_on(mesh, lambda: start(task.net.init(init_key), task.optimizer))
    if task.keyed and arguments.reproducible:
        raise UserError("--reproducible: dropout and batch norm take a batch as one; leave it out")

    check_room(task, begin, arguments.batch_size, device, mesh)
    settings = describe(arguments, task.n, device) | own.pieces_of(
        arguments, checkpoint, partial(compared, task)
    )
    pause, state, best, done = resumed(task, begin, arguments, settings, lock, checkpoint)
    own_data.keep(arguments.out, data)
    print_head(task, arguments, pause.settings, mesh)
    few = (array[: record.FEW] for array in data.train)
    state, best = placed(mesh, (state, best), stored(mesh, (state, best), best))
    train, test, shuffle_key = placed(mesh, (data.train, (*data.test, *few), shuffle_key))
    gradient, B = on_images(task.gradient, data), arguments.batch_size
    descend = step(in_order(gradient, mesh) if arguments.reproducible else gradient, task.optimizer, mesh)
    devices.print_table(mesh, descend, B, task.keyed, state, shuffle_key, *train)
    in_training = (
        {"keyed": True, "fill": filled(task, B)} if task.keyed else {"whole": arguments.reproducible}
    )
    programs = compiled(descend, evaluation(task), B, mesh, state, shuffle_key, train, test, **in_training)
    draw = partial(of_run, pause.settings, data)
    folder = None if arguments.network else arguments.out  # the page is of the lecture's network
    whole = together.GROUP.whole
    view = View(folder, programs.seconds, draw, done.metrics, whole(state.params))
    first = len(done.metrics)
    with pause, view:  # signals wait from now on
        for number in epochs(done, arguments, programs, checkpoint):
            rest = Rest(programs, number, state, done.step, shuffle_key, train)
            with divergence_named(rest, task, arguments):
                state, done = descended(rest, best, done, pause)
                state = state._replace(params=programs.fill(state.params, *train))
                best, done = evaluated(programs.evaluate(state, *test), state, best, done, data)
            report(done.metrics[-1], arguments)
            share = (number - first) / (arguments.epochs - first)
            view(share, done.metrics, whole(state.params), unless=pause.interruption.unless)
        save(task, arguments, pause, view, state, best, done)
    return 0


def compared(task, pieces: str) -> str:
    """What the comparison of the task's gradient with autodiff says, at the parameters of seed 0.

    Prints that the network seems to end in what the loss applies itself. Raises UserError, which has the
    report, where it is wrong.
    """
    import jax

    from experiments.common.task import encode
    from jaxnn.gradcheck import BadCall, compare_gradients
    from jaxnn.objective import cost

    instead = "--trust-gradient trains with it as it is, --gradient autodiff by jax.grad"
    few = jax.device_put([array[: own.FEW] for array in task.data.train])
    key = (jax.random.key(0),) if task.keyed else ()
    params = task.net.init(jax.random.key(0))
    J, (X, Y) = cost(task.net, task.loss), encode(task.data, *few)

    def backward(*args):
        return task.gradient(*args)[1]

    try:
        with contextlib.redirect_stdout(sys.stderr):  # what it prints is no part of the output
            report = compare_gradients(J, backward, params, X, Y, *key)
            Z, _ = task.net.forward(params, X)
    except Exception as error:
        why = str(error) if isinstance(error, BadCall) else in_full(error)
        raise UserError(f"{pieces}: the gradient cannot be compared: {why}; {instead}") from error
    if report.correct is False:
        raise UserError(f"{pieces}: the backward written by hand is wrong; {instead}", str(report))
    applied = task.loss.activation.name
    if applied in ("sigmoid", "softmax") and ((Z > 0) & (Z < 1)).all():
        print("          the network gives numbers between 0 and 1 alone, and the loss applies")
        print(f"          {applied} to them once more: does its last layer have an activation?")
    return "right" if report.correct else f"not to be told: {report.headline.splitlines()[0]}"


def check_room(task, begin: Callable, batch_size: int, device, mesh) -> None:
    """Raise UserError, before an array is made, where the memory is not enough."""
    import jax

    from experiments.common import memory
    from jaxnn.devices.layout import stored
    from jaxnn.devices.mesh import on_each

    state, rows = jax.eval_shape(begin), max(batch_size, len(task.data.test.images))
    needed = memory.needed(on_each(mesh, state, stored(mesh, state, state.params)), task.n, rows)
    memory.check(f"--hidden: the network {'-'.join(map(str, task.n))}", needed, 0.9 * memory.free(device))


def resumed(task, begin: Callable, arguments: argparse.Namespace, settings: dict, lock, checkpoint):
    """The run's pauses; and the state, best parameters and progress that it begins with or goes on from."""
    import jax
    import numpy as np

    from jaxnn.runs import checkpoints

    steps = len(task.data.train.images) // arguments.batch_size
    done = progress(arguments, settings, checkpoint, Done([], 0, [], 0), partial(check, steps=steps))
    if arguments.epochs < len(done.metrics) + (done.step > 0):
        raise UserError(
            f"--epochs: got {arguments.epochs}, expected more than the {len(done.metrics)} that are done"
        )
    shapes = jax.eval_shape(begin)
    if checkpoint and not together.GROUP.process:
        found = checkpoints.restored(checkpoint, (shapes, shapes.params), (done.step,))
    else:
        blank = jax.tree.map(lambda like: np.zeros(like.shape, like.dtype), shapes)  # process 0 fills it
        state = blank if together.GROUP.process else begin()
        found = (state, state.params), [np.zeros(done.step)] * bool(done.step)
    (state, best), costs = together.GROUP.same(found)
    done = done._replace(costs=costs)
    return Pauses(arguments, lock, settings, checkpoint, done.metrics), state, best, done


def check(done: Done, steps: int) -> None:
    """Raise ValueError unless a run whose epochs have so many steps can have come so far."""
    from jaxnn.runs import fields

    fields.check_epochs(done.metrics)
    fields.check_whole("step", done.step, 0, steps)
    fields.check_whole("best", done.best, min(1, len(done.metrics)), len(done.metrics))


def print_head(task, arguments: argparse.Namespace, settings: dict, mesh) -> None:
    """Print where, what and how is trained."""
    from experiments.common.task import print_shapes

    print("device    " + devices.device_in_words(mesh, settings))
    print_shapes(task, arguments.batch_size)
    print(
        f"training  {arguments.loss} by {arguments.optimizer}, learning rate {arguments.learning_rate:g},\n"
        f"          batches of {arguments.batch_size}, {arguments.epochs} epochs, "
        f"seed {arguments.seed}, {arguments.gradient} gradient"
    )
    own.tell(settings)
    for name, value in settings["environment"].items():
        print(f"set       {name}={shown(value)}")


def evaluation(task) -> Callable:
    """Cost and accuracy, or error, on images, whether all of the state is finite, and the sizes of gradients.

    These are the norms of each dW[l] and db[l], on a few other images.
    """
    from jax.numpy.linalg import norm

    from experiments.common.task import error, on_images, tested
    from jaxnn.evaluation import accuracy, confusion_matrix
    from jaxnn.runs import divergence, record

    def evaluate(state, images, labels, *few):
        J, predictions = tested(task, state.params, images, labels)
        if task.data.classes:
            score = accuracy(confusion_matrix(labels, predictions, task.data.classes))
        else:
            score = error(task.data, predictions, labels)
        _, dparams = on_images(task.gradient, task.data)(state.params, *few)
        sizes = [norm(array) for array in record.names(dparams).values()]
        return J, score, divergence.finite(state), sizes

    return evaluate


def epochs(done: Done, arguments: argparse.Namespace, programs, checkpoint) -> Iterator[int]:
    """The numbers of the epochs to come."""
    print(f"compiled  in {programs.seconds:.2f} s")
    if checkpoint:
        done_so_far = f"{len(done.metrics)} epochs and {done.step} steps"
        print(f"goes on   after {done_so_far} ({shown(checkpoint.folder)})")
    yield from range(len(done.metrics) + 1, arguments.epochs + 1)


def evaluated(evaluation, state, best, done: Done, data):
    """The best parameters, and what is done with the epoch behind it. Raises Diverged."""
    from experiments.common.programs import mean_cost
    from experiments.common.task import is_finite, measured
    from jaxnn.runs.record import merit

    test_J, score, finite, sizes = evaluation
    metrics = measured(data, len(done.metrics) + 1, mean_cost(done.costs), test_J, score)
    metrics |= gradient_sizes(state.params, sizes)
    if not (finite and is_finite(metrics)):
        raise Diverged
    if not done.best or merit(metrics) > merit(done.metrics[done.best - 1]):
        best, done = state.params, done._replace(best=metrics["epoch"])
    return best, Done([*done.metrics, metrics], 0, [], done.best)


def gradient_sizes(params, sizes: list) -> dict:
    """The sizes of the gradients as metrics: of dense layers a list for dW and one for db; else by name."""
    from jaxnn.runs import record

    found = [float(size) if math.isfinite(size) else None for size in sizes]
    if record.is_lecture(params):
        return {"dW": found[0::2], "db": found[1::2]}
    return {"gradients": dict(zip(record.names(params), found, strict=True))}


@contextlib.contextmanager
def divergence_named(rest, task, arguments: argparse.Namespace) -> Iterator[None]:
    """Where the rest of an epoch raises Diverged, raise UserError, which says where that began."""
    try:
        yield
        together.GROUP.pace(going=False)  # metrics and pages are no steps
    except Diverged:
        together.GROUP.pace(going=False)
        found = first_not_finite(rest, task, arguments.batch_size)
        raise UserError(diverged(rest.number, found, arguments.learning_rate, arguments.out)) from None


def first_not_finite(rest, task, batch_size: int) -> tuple[int, str] | None:
    """The step of the rest of an epoch, and the array in it, in which a number is the first such."""
    from experiments.common.programs import pieces
    from experiments.common.task import encode
    from jaxnn.runs import divergence
    from jaxnn.training import batch, keys_of_steps

    def batch_of(k):
        key = (keys_of_steps(rest.key, k, 1)[0],) if task.keyed else ()
        return *encode(task.data, *batch(rest.key, k, batch_size, *rest.data)), *key

    show = divergence.computed(task.net, task.gradient, task.optimizer)
    return divergence.origin(rest.state, rest.first, pieces(rest), batch_of, show)


def diverged(number: int, found: tuple[int, str] | None, learning_rate: float, out: Path | None) -> str:
    """What to say of a run whose numbers are no longer finite, and to do about it."""
    place = "the test loss" if found is None else f"step {found[0] + 1}: {found[1]}"
    if found and (layer := re.search(r"\[(\d+)\]", found[1])):
        place += f", of layer {layer[1]},"
    line = f"epoch {number}, {place} is the first that is not finite; a smaller --learning-rate usually helps"
    if out:
        begin = "from the last good checkpoint on" if (out / "checkpoints").exists() else "from the start"
        line += f", {begin} with: --out {out} --learning-rate {learning_rate / 10:g} --override learning_rate"
    return line


def report(metrics: dict, arguments: argparse.Namespace) -> None:
    """Print the metrics of an epoch, and add them to the run's file."""
    from jaxnn.runs import record

    print(
        f"epoch {metrics['epoch']:3}/{arguments.epochs}   loss {few_digits(metrics['loss'])}   "
        f"test loss {few_digits(metrics['test_loss'])}   "
        f"{scores.after_epoch(metrics)}"
    )
    if arguments.out:
        record.append_metrics(arguments.out, metrics)


def save(task, arguments: argparse.Namespace, pause: Pauses, view, state, best, done: Done) -> None:
    """Report the end of a run, and write what it leaves behind."""
    from jaxnn.runs import record

    state, best = together.GROUP.whole((state, best))
    pause.save((state, best), done)
    print(f"trained   in {pause.seconds():.2f} s")
    print("\n".join(scores.at_end(task.data, abs(record.merit(done.metrics[-1])))))
    if not arguments.out:
        return
    pause.leave_at_once()
    doing("drawing the page")
    from jaxnn import drawings  # matplotlib: half a second that bad arguments need not wait for

    title = (
        f"{task.data.name}, {arguments.network or '-'.join(map(str, task.n))}, {arguments.activation}, "
        f"{arguments.loss}\n"
        f"{arguments.optimizer}, learning rate {arguments.learning_rate:g}, "
        f"batches of {arguments.batch_size}, seed {arguments.seed}"
    )
    drawings.learning_curves(done.metrics, title, arguments.out / "learning_curves.png")
    view.write("finished")
    record.save_params(arguments.out / "best.safetensors", best)
    record.write_metrics(arguments.out, done.metrics)
    pause.finish()
    record.save_params(arguments.out / "params.safetensors", state.params)
    print(f"saved     in {shown(arguments.out)}")


if __name__ == "__main__":
    run(main, parser())
