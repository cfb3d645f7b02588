"""Train the lecture's network on images of handwriting, by gradients written by hand.

With no arguments: 64-17-10, sigmoid, binary cross-entropy, plain gradient descent on `digits`; 97.5 % of
the test images are recognised (seed 0).
"""

import argparse
import math
import platform
import re
import time
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import jaxnn
from experiments.common.arguments import (
    DATASETS,
    Parser,
    UserError,
    add_network,
    add_surroundings,
    few_digits,
    rate,
    run,
    use_device,
    whole,
)
from experiments.common.continuation import (
    UNCOUNTED,
    Diverged,
    Pauses,
    add_checkpoints,
    agree_on_surroundings,
    begun,
    environment,
    reopened,
    so_far,
)

OPTIMIZERS = {"sgd": 0.5, "adam": 0.001, "adamw": 0.001, "rmsprop": 0.001}  # and their default rates
DEFAULTS = dict.fromkeys(DATASETS, (100, 30)) | {"digits": (8, 60)}  # batch size, epochs


def parser() -> Parser:
    """The arguments of this program."""
    p = Parser(prog="python -m experiments.train", description=__doc__)
    add_network(p)
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
    p.add_argument(
        "--gradient",
        choices=("manual", "autodiff"),
        default="manual",
        help="written by hand, or by jax.grad; default: %(default)s",
    )
    add_surroundings(p)
    add_checkpoints(p, "settings, metrics and parameters")
    return p


class Done(NamedTuple):
    """How far a run has come."""

    metrics: list[dict]  # of each epoch that is done
    step: int  # of the next epoch, from which it goes on
    costs: list  # of the steps before, an array from each program
    best: int  # the epoch with the best test accuracy, the first of them


def main(arguments: argparse.Namespace) -> int:
    """Train, and report."""
    device = use_device(arguments.device)

    import jax
    import numpy as np
    import optax
    from tqdm import tqdm

    from jaxnn import activations, checkpoints, datasets, divergence, losses, runs, seals
    from jaxnn.encoding import flatten, one_hot
    from jaxnn.evaluation import accuracy, confusion_matrix, predict
    from jaxnn.layers import mlp
    from jaxnn.objective import cost, value_and_grad
    from jaxnn.training import batch, start, step, steps_at_once, steps_from

    arguments, lock, checkpoint = reopened(arguments, parser(), "params.safetensors")
    data = datasets.load(arguments.dataset, arguments.data_dir, arguments.source_dir)
    N, height, width = data.train.images.shape
    n = (height * width, *arguments.hidden, data.classes)
    default_batch_size, default_epochs = DEFAULTS[arguments.dataset]
    learning_rate = arguments.learning_rate or OPTIMIZERS[arguments.optimizer]
    batch_size, epochs = arguments.batch_size or default_batch_size, arguments.epochs or default_epochs
    if batch_size > N:
        raise UserError(f"--batch-size: got {batch_size}, expected at most the {N} training images")
    settings = vars(arguments) | {"learning_rate": learning_rate, "batch_size": batch_size, "epochs": epochs}
    settings = describe(settings, n, device)

    loss = getattr(losses, arguments.loss)
    net = mlp(*n, g=getattr(activations, arguments.activation))
    if arguments.gradient == "manual":
        gradient = value_and_grad(net, loss)
    else:
        gradient = jax.value_and_grad(cost(net, loss))
    optimizer = getattr(optax, arguments.optimizer)(learning_rate)

    def encode(images, labels):
        return flatten(images, data.white), one_hot(labels, data.classes)

    def gradient_on_images(params, images, labels):
        return gradient(params, *encode(images, labels))

    def evaluate(state, images, labels):
        X, Y = encode(images, labels)
        confusion = confusion_matrix(labels, predict(net, state.params, X), data.classes)
        return cost(net, loss)(state.params, X, Y), accuracy(confusion), divergence.finite(state)

    init_key, shuffle_key = jax.random.split(jax.random.key(arguments.seed))
    state = start(net.init(init_key), optimizer)
    best, done = state.params, Done([], 0, [], 0)
    if checkpoint:
        agree_on_surroundings(arguments, checkpoint.progress["settings"], settings)
        done = so_far(checkpoint, Done)
        state, best = jax.device_put(checkpoints.restore(checkpoint, (state, best)))
        if epochs < len(done.metrics) + (done.step > 0):
            raise UserError(
                f"--epochs: got {epochs}, expected more than the {len(done.metrics)} that are done"
            )
    train, test = jax.device_put((data.train, data.test))
    if arguments.out:
        lock = lock or begun(arguments.out)
        runs.create(arguments.out, settings, done.metrics)

    print(f"jaxnn {jaxnn.__version__}, jax {jax.__version__}, Python {platform.python_version()}")
    print(f"device    {device.platform} ({device.device_kind})")
    X, Y = jax.eval_shape(encode, *train)
    print_shapes(data, net, loss, state.params, X, Y, arguments.activation)
    print(
        f"training  {arguments.loss} by {arguments.optimizer}, learning rate {learning_rate:g},\n"
        f"          batches of {batch_size}, {epochs} epochs, "
        f"seed {arguments.seed}, {arguments.gradient} gradient"
    )
    for name, value in settings["environment"].items():
        print(f"set       {name}={value}")
    pause = Pauses(arguments, lock, settings, checkpoint)

    clock = time.perf_counter()
    steps = N // batch_size
    at_once = steps_at_once(steps, batch_size, sum(p.size for p in jax.tree.leaves(state.params)))
    descend = step(gradient_on_images, optimizer)
    programs = {
        size: jax.jit(steps_from(descend, batch_size, size))
        .lower(state, shuffle_key, np.int32(0), *train)
        .compile()
        for size in {min(at_once, steps - first) for first in range(0, steps, at_once)}
    }
    evaluate = jax.jit(evaluate).lower(state, *test).compile()
    compiled = time.perf_counter() - clock

    def pieces(state, key, first):
        """The rest of an epoch, a program at a time: the step after it, the state, and the costs."""
        while first < steps:
            size = min(at_once, steps - first)
            state, J = programs[size](state, key, np.int32(first), *train)
            first += size
            yield first, state, J

    with pause:  # signals wait from now on
        print(f"compiled  in {compiled:.2f} s")
        if checkpoint:
            print(f"goes on   after {len(done.metrics)} epochs and {done.step} steps ({checkpoint.folder})")
        clock = time.perf_counter()
        for number in tqdm(range(len(done.metrics) + 1, epochs + 1), unit="epoch", leave=False, disable=None):
            key = jax.random.fold_in(shuffle_key, number)
            begin, first = state, done.step
            try:
                for k, state, J in pieces(begin, key, first):
                    done = done._replace(step=k, costs=[*done.costs, J])
                    jax.block_until_ready(done.costs[-2:-1])  # two programs at a time are under way
                    pause((state, best), done, f"epoch {number}, step {k}")
                test_J, test_accuracy, finite = evaluate(state, *test)
                J = float(np.mean(np.concatenate([np.asarray(J, float) for J in done.costs])))
                if not (finite and math.isfinite(J) and math.isfinite(test_J)):
                    raise Diverged
            except Diverged:
                found = divergence.origin(
                    begin,
                    first,
                    pieces(begin, key, first),
                    lambda k, key=key: encode(*batch(key, k, batch_size, *train)),
                    divergence.computed(net, gradient, optimizer),
                )
                raise UserError(diverged(number, found, learning_rate, arguments.out)) from None
            metrics = {
                "epoch": number,
                "loss": J,
                "test_loss": float(test_J),
                "test_accuracy": float(test_accuracy),
            }
            if not done.best or test_accuracy > done.metrics[done.best - 1]["test_accuracy"]:
                best, done = state.params, done._replace(best=number)
            done = Done([*done.metrics, metrics], 0, [], done.best)
            tqdm.write(
                f"epoch {number:3}/{epochs}   loss {few_digits(J)}   "
                f"test loss {few_digits(float(test_J))}   test accuracy {100 * test_accuracy:.2f} %"
            )
            if arguments.out:
                runs.append_metrics(arguments.out, metrics)
        pause.save((state, best), done)
        print(f"trained   in {time.perf_counter() - clock:.2f} s")
        print(f"accuracy  {100 * done.metrics[-1]['test_accuracy']:.2f} % of {len(test.images)} test images")

        if arguments.out:
            pause.leave_at_once()
            title = (
                f"{data.name}, {'-'.join(map(str, n))}, {arguments.activation}, {arguments.loss}\n"
                f"{arguments.optimizer}, learning rate {learning_rate:g}, "
                f"batches of {batch_size}, seed {arguments.seed}"
            )
            from jaxnn import drawings  # matplotlib: half a second that bad arguments need not wait for

            drawings.learning_curves(done.metrics, title, arguments.out / "learning_curves.png")
            runs.save_params(arguments.out / "best.safetensors", best)
            seals.sync(arguments.out / "metrics.jsonl")
            pause.finish()
            runs.save_params(arguments.out / "params.safetensors", state.params)
            print(f"saved     in {arguments.out}")
    return 0


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


def print_shapes(data, net, loss, params, X, Y, g: str) -> None:
    """Print what the lecture writes on the board: the shape of every array of this network."""
    import jax

    Z, residuals = jax.eval_shape(net.forward, params, X)
    layers = [(*p, r.Z, r.A) for p, r in zip(params, residuals, strict=True)]
    layers[-1] = (*params[-1], Z, jax.eval_shape(loss.activation.forward, Z))
    n = (X.shape[1], *(W.shape[0] for W, _ in params))

    print(f"data      {data.name}: {len(data.train.images)} training and {len(data.test.images)} test images")
    print(f"          images {data.train.images.shape}, pixels 0..{data.white}, {data.classes} classes")
    print(f"network   {'-'.join(map(str, n))}, {sum(p.size for p in jax.tree.leaves(params)):,} parameters")
    print()
    print(f"     X    {X.shape!s:14} the images, a row each, divided by {data.white}")
    print(f"     Y    {Y.shape!s:14} the labels, one-hot")
    print("     l    W[l]          b[l]       Z[l]           A[l]")
    for l, arrays in enumerate(layers, start=1):
        W, b, Z, A = (str(array.shape) for array in arrays)
        note = g if l < len(layers) else "Ŷ"
        print(f"     {l:<4} {W:13} {b:10} {Z:14} {A:14} {note}")
    print()


def describe(settings: dict, n: tuple[int, ...], device) -> dict:
    """What settings.json holds."""
    packages = ("jax", "jaxlib", "optax", "numpy")
    return {
        **{name: value for name, value in settings.items() if name not in UNCOUNTED},
        "n": list(n),
        "device": f"{device.platform} ({device.device_kind})",
        "versions": {"jaxnn": jaxnn.__version__, "python": platform.python_version()}
        | {name: version(name) for name in packages},
        "environment": environment(),
    }


if __name__ == "__main__":
    run(main, parser())
