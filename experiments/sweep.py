"""Train many networks at once: every seed with every learning rate, initial scale and width.

All of them see the same batches and are trained by one program, split over the devices there are. --out
keeps a line of JSON for each network, a picture, and the best one as an ordinary run for experiments.predict.
"""

import argparse
import json
import math
import os
import sys
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

from experiments.common.arguments import (
    Parser,
    UserError,
    add_network,
    add_surroundings,
    counted,
    few_digits,
    rate,
    run,
    use_device,
    whole,
)
from experiments.common.continuation import (
    Pauses,
    add_checkpoints,
    agree_on_surroundings,
    begun,
    reopened,
    so_far,
)
from experiments.train import DEFAULTS, OPTIMIZERS, describe

SHOWN = 10  # rows of the table


class Settings(NamedTuple):
    """What distinguishes a network from the others."""

    seed: int
    learning_rate: float
    scale: float
    hidden: tuple[int, ...]


def parser() -> Parser:
    """The arguments of this program."""
    p = Parser(prog="python -m experiments.sweep", description=__doc__)
    add_network(p)
    p.add_argument(
        "--seeds", type=whole(1), default=4, metavar="S", help="how many, from --seed on; default: 4"
    )
    p.add_argument(
        "--learning-rates", type=rate, nargs="+", default=[0.1, 0.2, 0.5, 1.0], metavar="α",
        help="default: 0.1 0.2 0.5 1",
    )  # fmt: skip
    p.add_argument(
        "--scales", type=rate, nargs="+", default=[1.0], metavar="s",
        help="multiples of the usual initial weights; default: 1",
    )  # fmt: skip
    p.add_argument(
        "--widths", type=whole(1), nargs="+", metavar="n",
        help="neurons in every hidden layer, one network for each; default: as --hidden says",
    )  # fmt: skip
    p.add_argument("--optimizer", choices=OPTIMIZERS, default="sgd", help="as in optax; default: %(default)s")
    p.add_argument("--batch-size", type=whole(1), metavar="B", help="default: 32 for digits, 128 for others")
    p.add_argument("--epochs", type=whole(1), metavar="E", help="default: 60 for digits, 30 for the others")
    p.add_argument(
        "--memory",
        type=rate,
        metavar="GB",
        help="to use on each device; default: nine tenths of what is free",
    )
    add_surroundings(p)
    add_checkpoints(p, "results, picture and best run")
    return p


class Done(NamedTuple):
    """How far a sweep has come."""

    metrics: list[list[dict]]  # of each network, of each epoch that is done
    at_once: int  # networks in a round
    first: int  # of this round
    epochs: int  # of this round that are done
    step: int  # of the next one, from which it goes on
    costs: list  # of the steps before, an array from each program
    best: int  # of the networks of the rounds before; -1 if there is none


def main(arguments: argparse.Namespace) -> int:
    """Train the family, and report."""
    device = use_device(arguments.device)

    import jax
    import numpy as np
    import optax

    from jaxnn import activations, checkpoints, datasets, losses, runs
    from jaxnn.encoding import flatten, one_hot
    from jaxnn.evaluation import predict
    from jaxnn.families import member, narrow, put, split_over, stack, together, widen
    from jaxnn.layers import mlp
    from jaxnn.objective import cost, value_and_grad
    from jaxnn.training import State, scaled, start, step, steps_at_once, steps_from

    arguments, lock, checkpoint = reopened(arguments, parser(), "networks.jsonl")
    if "epochs" in arguments.override or "learning_rate" in arguments.override:
        raise UserError(
            "--override: got what distinguishes the networks, expected device, versions, environment"
        )
    data = datasets.load(arguments.dataset, arguments.data_dir, arguments.source_dir)
    N, height, width = data.train.images.shape
    batch_size, epochs = DEFAULTS[arguments.dataset]
    epochs = arguments.epochs or epochs
    batch_size = arguments.batch_size or max(batch_size, 32)
    if batch_size > N:
        raise UserError(f"--batch-size: got {batch_size}, expected at most the {N} training images")
    if arguments.seed + arguments.seeds > 2**32:
        raise UserError(f"--seeds: got seeds up to {arguments.seed + arguments.seeds - 1}, expected 0..2³²−1")
    depth = len(arguments.hidden)
    hidden = [(n,) * depth for n in arguments.widths] if arguments.widths else [tuple(arguments.hidden)]
    seeds = range(arguments.seed, arguments.seed + arguments.seeds)
    family = [
        Settings(seed, learning_rate, scale, n)
        for seed in seeds
        for learning_rate in arguments.learning_rates
        for scale in arguments.scales
        for n in hidden
    ]
    if len(set(family)) < len(family):
        raise UserError("--learning-rates, --scales, --widths: got a value twice, expected each once")

    n = (height * width, *map(max, *hidden, (0,) * depth), data.classes)  # of the arrays; the widest
    g, loss = getattr(activations, arguments.activation), getattr(losses, arguments.loss)
    net = mlp(*n, g=g)
    optimizer = getattr(optax, arguments.optimizer)(1.0)

    def sizes(settings):
        return (height * width, *settings.hidden, data.classes)

    def state_of(settings) -> State:
        init_key, _ = jax.random.split(jax.random.key(settings.seed))
        params = mlp(*sizes(settings), g=g).init(init_key)
        params = [layer._replace(W=settings.scale * layer.W) for layer in params]
        if len(hidden) == 1:
            factors = jax.tree.map(lambda p: np.asarray(settings.learning_rate, p.dtype), params)
        else:
            factors = jax.tree.map(lambda p: jax.numpy.full_like(p, settings.learning_rate), params)
        return start(widen(params, n), scaled(optimizer, factors if len(hidden) == 1 else widen(factors, n)))

    def gradient_on_images(params, images, labels):
        X, Y = flatten(images, data.white), one_hot(labels, data.classes)
        return value_and_grad(net, loss)(params, X, Y)

    descend = step(gradient_on_images, scaled(optimizer, None))

    def test(state, images, labels):
        X, Y = flatten(images, data.white), one_hot(labels, data.classes)
        return cost(net, loss)(state.params, X, Y), jax.numpy.mean(predict(net, state.params, X) == labels)

    devices = jax.devices(device.platform)
    mesh = split_over(devices)
    _, shuffle_key = jax.random.split(jax.random.key(arguments.seed))
    steps = N // batch_size
    settings = describe(vars(arguments) | {"batch_size": batch_size, "epochs": epochs}, n, device)
    settings["device"] = f"{len(devices)} × {settings['device']}"
    if checkpoint:
        agree_on_surroundings(arguments, checkpoint.progress["settings"], settings)
    before = so_far(checkpoint, Done) if checkpoint else None

    def compiled(K):
        """For K networks: their state's shapes, the programs of so many steps, the test, and the bytes."""
        state = jax.eval_shape(lambda: stack([state_of(family[0])] * K))
        parameters = sum(math.prod(p.shape) for p in jax.tree.leaves(state.params))
        at_once = steps_at_once(steps, batch_size, parameters)
        programs = {
            size: jax.jit(together(steps_from(descend, batch_size, size), mesh))
            .lower(state, shuffle_key, np.int32(0), *data.train)
            .compile()
            for size in {min(at_once, steps - first) for first in range(0, steps, at_once)}
        }
        tested = jax.jit(together(test, mesh)).lower(state, *data.test).compile()
        taken = []
        for program, elsewhere in (*((p, data.test) for p in programs.values()), (tested, data.train)):
            sizes = program.memory_analysis()
            assert sizes  # every platform of jaxlib has it
            needed = sizes.argument_size_in_bytes + sizes.output_size_in_bytes + sizes.temp_size_in_bytes
            taken.append(needed + sum(array.nbytes for array in elsewhere))
        return state, at_once, programs, tested, max(taken)

    clock = time.perf_counter()
    available = arguments.memory * 1e9 if arguments.memory else free_memory(device) * 0.9
    rounds = 1
    while True:
        K = -(-len(family) // rounds)
        K += -K % len(devices)
        if before:
            K = before.at_once
            rounds = -(-len(family) // K)
        shapes, at_once, programs, tested, taken = compiled(K)
        if taken <= available:
            break
        if len(devices) == K or checkpoint:
            raise UserError(
                f"--memory: got {available / 1e9:.3g} GB on each device, expected at least {taken / 1e9:.3g} "
                f"for {'one network' if len(devices) == K else f'{K}, with which this sweep began'}"
            )
        rounds = min(max(math.ceil(rounds * taken / available), rounds + 1), len(family))
    if arguments.out:
        lock = lock or begun(arguments.out)
        runs.create(arguments.out, settings)
    print(f"device    {len(devices)} × {device.platform} ({device.device_kind})")
    print(f"data      {data.name}: {N} training and {len(data.test.images)} test images")
    print(
        f"family    {counted(len(family), 'network')}: {counted(len(seeds), 'seed')} × "
        f"{counted(len(arguments.learning_rates), 'learning rate')} × "
        f"{counted(len(arguments.scales), 'scale')} × {counted(len(hidden), 'size')}\n"
        f"          of {arguments.activation}, {arguments.loss}"
    )
    print(
        f"memory    {taken / 1e9:.3g} GB on each device for {K} at once, of {available / 1e9:.3g}: "
        f"{counted(rounds, 'round')}"
    )

    def round_from(first):
        return range(first, min(first + K, len(family)))

    def states_of(here):
        filled = [*here, *[here[-1]] * (K - len(here))]  # the last one once more, where places are left
        return stack([state_of(family[k]) for k in filled])

    done = before or Done([[] for _ in family], K, 0, 0, 0, [], -1)
    saved, best = None, jax.tree.map(lambda p: np.zeros(p.shape[1:], p.dtype), shapes.params)
    if checkpoint:
        saved, best = checkpoints.restore(checkpoint, (shapes, best))
        if round_from(done.first):
            print(f"goes on   in the round from network {done.first + 1} on, after {done.epochs} epochs")
    pause = Pauses(arguments, lock, settings, checkpoint, finite=False)
    table = Table()
    trained = 0
    with pause:  # signals wait from now on
        here = round_from(done.first)
        state = states_of(here) if here and not (done.epochs or done.step) else saved
        del saved
        print(f"compiled  in {time.perf_counter() - clock:.2f} s")
        clock = time.perf_counter()
        while here:
            state, train, test_data = put(mesh, state, data.train, data.test)
            for number in range(done.epochs + 1, epochs + 1):
                _, key = put(mesh, (), jax.random.fold_in(shuffle_key, number))
                for first in range(done.step, steps, at_once):
                    size = min(at_once, steps - first)
                    _, here_first = put(mesh, (), np.int32(first))
                    state, J = programs[size](state, key, here_first, *train)
                    done = done._replace(step=first + size, costs=[*done.costs, J])
                    jax.block_until_ready(done.costs[-2:-1])  # two programs at a time are under way
                    pause((state, best), done, f"epoch {number}, step {first + size}")
                costs = np.concatenate([np.asarray(J, float) for J in done.costs], axis=1)
                metrics = [list(curve) for curve in done.metrics]
                for k, J, test_J, accuracy in zip(
                    here, costs.mean(axis=1), *map(np.asarray, tested(state, *test_data)), strict=False
                ):
                    metrics[k].append(
                        {
                            "epoch": number,
                            "loss": float(J),
                            "test_loss": float(test_J),
                            "test_accuracy": float(accuracy),
                        }
                    )
                done = done._replace(metrics=metrics, epochs=number, step=0, costs=[])
                trained += len(here)
                table.show(f"epoch {number:3}/{epochs}", family, metrics, here)
            finite = [k for k in here if all(map(is_finite, done.metrics[k]))]
            candidates = finite + [done.best] * (done.best >= 0)
            if candidates:
                k = max(candidates, key=lambda k: done.metrics[k][-1]["test_accuracy"])
                if k in here:
                    best = jax.tree.map(np.asarray, member(state.params, k - done.first))
                    done = done._replace(best=k)
            done = done._replace(first=done.first + K, epochs=0)
            pause.save((state, best), done)
            here = round_from(done.first)
            if here:
                state = states_of(here)
        seconds = time.perf_counter() - clock
        print(f"trained   in {seconds:.2f} s: {trained / seconds:.1f} epochs of one network a second")
        accuracies = [curve[-1]["test_accuracy"] for curve in done.metrics]
        if done.best < 0:
            print(
                "best      none: of no network is the test loss finite; smaller --learning-rates usually help"
            )
        else:
            percent = 100 * accuracies[done.best]
            print(
                f"best      {percent:.2f} % of {len(data.test.images)} test images: "
                + name_of(family[done.best])
            )

        if arguments.out:
            pause.leave_at_once()
            rows = [
                settings._asdict() | final(curve)
                for settings, curve in zip(family, done.metrics, strict=True)
            ]
            title = f"{data.name}, {arguments.loss}, {arguments.optimizer}, {len(family)} networks"
            from jaxnn import drawings  # matplotlib: half a second that bad arguments need not wait for

            drawings.sweep(rows, title, arguments.out / "sweep.png")
            if done.best >= 0:
                chosen, curve = family[done.best], done.metrics[done.best]
                found = vars(arguments) | chosen._asdict() | {"batch_size": batch_size, "epochs": epochs}
                found = describe(found | {"shuffle_seed": arguments.seed}, sizes(chosen), device)
                runs.create(arguments.out / "best", found, curve)
                drawings.learning_curves(
                    curve, name_of(chosen), arguments.out / "best" / "learning_curves.png"
                )
                runs.save_params(arguments.out / "best" / "params.safetensors", narrow(best, sizes(chosen)))
            pause.finish()
            runs.replace(arguments.out / "networks.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
            best_one = f", the best one in {arguments.out / 'best'}" if done.best >= 0 else ""
            print(f"saved     in {arguments.out}{best_one}")
    return 0


def free_memory(device) -> float:
    """Bytes that are free on a device; on a CPU what the system has, divided among its devices."""
    import jax

    statistics = device.memory_stats()
    if statistics and "bytes_limit" in statistics:
        return statistics["bytes_limit"] - statistics["bytes_in_use"]
    try:
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        free = 1024.0 * int(lines["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):
        free = float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return free / len(jax.devices(device.platform))


def final(curve: list[dict]) -> dict:
    """What the file holds of a network's curve; null where it is not a number."""

    def number(value):
        return value if math.isfinite(value) else None

    keys = ("loss", "test_loss", "test_accuracy")
    curves = {key: [number(metrics[key]) for metrics in curve] for key in keys}
    return {f"final_{key}": values[-1] for key, values in curves.items()} | {"curves": curves}


def is_finite(metrics: dict) -> bool:
    """Whether the losses of an epoch are."""
    return math.isfinite(metrics["loss"]) and math.isfinite(metrics["test_loss"])


def name_of(settings: Settings) -> str:
    """A network in one line."""
    return (
        f"seed {settings.seed}, learning rate {settings.learning_rate:g}, scale {settings.scale:g}, "
        f"hidden {' '.join(map(str, settings.hidden))}"
    )


class Table:
    """The best networks so far: one that is rewritten on a terminal, a line an epoch elsewhere."""

    def __init__(self):
        """Nothing is shown yet."""
        self.lines = 0

    def show(self, title: str, family: list[Settings], metrics: list[list[dict]], here: range) -> None:
        """Show where the networks of this round stand."""
        ranked = sorted(here, key=lambda k: -metrics[k][-1]["test_accuracy"])
        accuracies = [metrics[k][-1]["test_accuracy"] for k in here]
        lines = [
            f"{title}   networks {here[0] + 1}..{here[-1] + 1}   test accuracy: best "
            f"{100 * max(accuracies):.2f} %, median {100 * median(accuracies):.2f} %"
        ]
        if sys.stdout.isatty():
            lines += [
                f"  {100 * metrics[k][-1]['test_accuracy']:6.2f} %   "
                f"loss {few_digits(metrics[k][-1]['loss'])}   {name_of(family[k])}"
                for k in ranked[:SHOWN]
            ]
            sys.stdout.write(f"\x1b[{self.lines}F\x1b[J" if self.lines else "")
            self.lines = len(lines)
        print("\n".join(lines), flush=True)


if __name__ == "__main__":
    run(main, parser())
