"""Train many networks at once: every seed with every learning rate, initial scale and width.

All of them see the same batches and are trained by one program, split over the devices there are. --out
keeps a line of JSON for each network, a page, and the best one as an ordinary run for experiments.predict.
The best is that of the highest test accuracy; where a number is predicted, of the least test error.
"""

import argparse
import contextlib
import json
import math
import shutil
import sys
import textwrap
import time
from functools import partial
from statistics import median

from experiments.common import own, own_data, scores
from experiments.common.arguments import (
    Parser,
    UserError,
    add_network,
    add_surroundings,
    counted,
    few_digits,
    rate,
    run,
    whole,
)
from experiments.common.continuation import Pauses, add_checkpoints, describe, progress, reopened
from experiments.common.devices import add_devices, device_in_words, started
from experiments.common.optimizers import OPTIMIZERS, steepness
from experiments.common.own_data import add_own_data
from experiments.common.status import doing
from jaxnn.shown import shown

SHOWN = 10  # rows of the table
RATES = (0.1, 0.2, 0.5, 1.0)


def parser() -> Parser:
    """The arguments of this program."""
    p = Parser(prog="python -m experiments.sweep", description=__doc__)
    add_network(p, own=True)
    own.add_pieces(p)
    p.add_argument(
        "--seeds", type=whole(1), default=4, metavar="S", help="how many, from --seed on; default: 4"
    )
    p.add_argument(
        "--learning-rates", type=rate, nargs="+", metavar="α",
        help="default: 0.1 0.2 0.5 1, and a tenth of each for a number, with sgd",
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
    p.add_argument("--batch-size", type=whole(1), metavar="B", help="default: 32 for digits, 100 for others")
    p.add_argument("--epochs", type=whole(1), metavar="E", help="default: 60 for digits, 30 for the others")
    p.add_argument(
        "--memory",
        type=rate,
        metavar="GB",
        help="to use on each device; default: nine tenths of what is free",
    )
    add_own_data(p)
    add_surroundings(p)
    add_devices(p, ("members", "data"))
    add_checkpoints(p, "results, page and best run")
    return p


def main(arguments: argparse.Namespace) -> int:
    """Train the family, and report."""
    device, mesh = started(arguments, "members")

    import jax

    from experiments.common import rounds
    from experiments.common.pages import View, of_sweep
    from experiments.common.programs import Rest, descended
    from experiments.train import compared
    from jaxnn.devices.mesh import MEMBERS, placed

    arguments, lock, checkpoint = reopened(arguments, parser(), "networks.jsonl")
    arguments, family, task = asked(arguments, checkpoint)
    data = task.data
    _, shuffle_key = jax.random.split(jax.random.key(arguments.seed))
    shuffle_key = placed(mesh, shuffle_key)

    settings = describe(arguments, task.n, device) | own.pieces_of(
        arguments, checkpoint, partial(compared, task)
    )
    steps = len(data.train.images) // arguments.batch_size
    ends = (len(family), arguments.epochs, steps)
    beginning = rounds.Done([[] for _ in family], 0, 0, 0, 0, [], -1)
    done = progress(arguments, settings, checkpoint, beginning, lambda done: rounds.check(done, *ends))
    with own.raised_by(arguments.network) if arguments.network else contextlib.nullcontext():
        plan = rounds.planned(task, family, mesh, shuffle_key, arguments, done.at_once)
    state, best, done = rounds.resumed(plan, done, checkpoint)
    pause, table = Pauses(arguments, lock, settings, checkpoint, finite=False), Table()
    own_data.keep(arguments.out, data)
    print_head(plan, settings, done, checkpoint, mesh)
    compiled = time.perf_counter() - plan.clock
    left = sum(arguments.epochs - len(curve) for curve in done.metrics)
    view = View(arguments.out, compiled, partial(of_sweep, pause.settings, rows), begun(family, done))
    with pause, view:  # signals wait from now on
        print(f"compiled  in {compiled:.2f} s")
        while here := rounds.following(plan, done):
            doing("moving the data")
            state = placed(mesh, state, MEMBERS)
            train, test = placed(mesh, (data.train, data.test))
            for number in range(done.epochs + 1, arguments.epochs + 1):
                rest = Rest(plan.programs, number, state, done.step, shuffle_key, train)
                state, done = descended(rest, best, done, pause)
                state = state._replace(params=plan.programs.fill(state.params, *train))
                done = rounds.evaluated(plan.programs.evaluate(state, *test), here, done, data)
                table.show(f"epoch {number:3}/{arguments.epochs}", family, done.metrics, here)
                view(table.epochs / left, begun(family, done), unless=pause.interruption.unless)
            best, done = rounds.ended(state, best, here, done)
            pause.save((state, best), done)
            state = rounds.states(plan, done)
        finish(plan, arguments, device, pause, view, table.epochs, best, done)
    return 0


def asked(arguments: argparse.Namespace, checkpoint):
    """The arguments with their defaults, the networks that they ask for, and the task of the widest."""
    from experiments.common import rounds
    from experiments.common.task import load, settled

    if arguments.widths and "hidden" in arguments.given and len(arguments.hidden) == 1:
        raise UserError("--hidden, --widths: got both; write all the widths as --widths, and no --hidden")
    if arguments.learning_rates:
        rounds.family_of(arguments)  # what is wrong with it is told before the data are read
    data = load(arguments)
    rates = [each / steepness(arguments.optimizer, not data.classes) for each in RATES]
    arguments = settled(arguments, data, least=32, learning_rates=rates)
    family = rounds.family_of(arguments)
    if checkpoint and "files" not in arguments.override:
        own.unchanged(checkpoint.progress["settings"], arguments.out, "go on with --override files")
    return arguments, family, rounds.widest(family, data, arguments)


def print_head(plan, settings: dict, done, checkpoint, mesh) -> None:
    """Print where and what is trained."""
    data, family = plan.task.data, plan.family
    names = ("seed", "learning rate", "scale", "size")
    counts = [counted(len({network[i] for network in family}), name) for i, name in enumerate(names)]
    print("device    " + device_in_words(mesh, settings))
    here = f"{len(data.train.images)} training and {len(data.test.images)} test {data.what}"
    print(
        "\n          ".join([f"data      {data.name}: {here}", *(own_data.told(data) if data.origin else ())])
    )
    own_data.tell_sha256(data)
    print(f"family    {counted(len(family), 'network')}: {' × '.join(counts)}")
    print(f"          of {settings['network'] or settings['activation']}, {settings['loss']}")
    own.tell(settings)
    print(
        f"memory    {plan.needed / 1e9:.3g} GB on each device for {plan.at_once} at once, "
        f"of {plan.available / 1e9:.3g}: {counted(plan.rounds, 'round')}"
    )
    if checkpoint and done.first < len(family):
        print(f"goes on   in the round from network {done.first + 1} on, after {done.epochs} epochs")


def finish(plan, arguments: argparse.Namespace, device, pause, view, epochs: int, best, done) -> None:
    """Report the end of a sweep, and write what it leaves behind."""
    seconds, out, data, family = pause.seconds(), arguments.out, plan.task.data, plan.family
    print(f"trained   in {seconds:.2f} s: {epochs / seconds:.1f} epochs of one network a second")
    network, curve = family[done.best], done.metrics[done.best]
    if done.best < 0:
        print("best      none: of no network is the test loss finite; smaller --learning-rates usually help")
    else:
        name = scores.name(curve[-1])
        score = ("" if data.classes else "error ") + scores.short(name, scores.merit(curve[-1]))
        best_one = f"best      {score} of {len(data.test.images)} test {data.what}: {network}"
        print(textwrap.fill(best_one, 80, subsequent_indent=10 * " ", break_long_words=False))
    if not out:
        return
    pause.leave_at_once()
    doing("drawing the page")
    from experiments.common import rounds
    from experiments.common.pages import of_run, write
    from jaxnn import drawings  # matplotlib: half a second that bad arguments need not wait for
    from jaxnn.runs import record

    view.write("finished")
    if done.best >= 0:
        of_best = argparse.Namespace(**vars(arguments) | network._asdict(), shuffle_seed=arguments.seed)
        folder, (n, params) = out / "best", rounds.alone(plan, network, best)
        pieces = {name: pause.settings[name] for name in ("files", "compared") if name in pause.settings}
        settings = describe(of_best, n, device) | pieces
        record.create(folder, settings, curve)
        own_data.keep(folder, data)
        drawings.learning_curves(curve, str(network), folder / "learning_curves.png")
        if not arguments.network:  # the page is of the lecture's network
            write(folder / "page.html", lambda: of_run(settings, data, {}, 0, curve, params))
        record.save_params(folder / "params.safetensors", params)
    pause.finish()
    lines = (json.dumps(row) + "\n" for row in rows(begun(family, done)))
    record.replace(out / "networks.jsonl", "".join(lines))
    print(
        f"saved     in {shown(out)}" + (f", the best one in {shown(out / 'best')}" if done.best >= 0 else "")
    )


def begun(family, done) -> list[tuple]:
    """The networks of which there is something to tell, each with its curve."""
    return [found for found in zip(family, done.metrics, strict=True) if found[1]]


def rows(networks: list[tuple]) -> list[dict]:
    """What the file holds of each network."""
    return [network._asdict() | final(curve) for network, curve in networks]


def final(curve: list[dict]) -> dict:
    """What the file holds of a network's curve; null where it is not a number."""

    def number(value):
        return value if math.isfinite(value) else None

    keys = [key for key in ("loss", "test_loss", "test_accuracy", "test_error") if key in curve[0]]
    curves = {key: [number(metrics[key]) for metrics in curve] for key in keys}
    return {f"final_{key}": values[-1] for key, values in curves.items()} | {"curves": curves}


class Table:
    """The best networks so far: one that is rewritten on a terminal, a line an epoch elsewhere."""

    def __init__(self):
        """Nothing is shown yet, no epochs of any network."""
        self.lines = self.epochs = 0

    def show(self, title: str, family, metrics: list[list[dict]], here: range) -> None:
        """Show where the networks of this round stand."""
        self.epochs += len(here)
        good = {k: scores.merit(metrics[k][-1]) for k in here}
        ranked = sorted(here, key=lambda k: -good[k])
        name = scores.name(metrics[here[0]][-1])
        lines = [
            f"{title}   networks {here[0] + 1}..{here[-1] + 1}   {name.replace('_', ' ')}: best "
            f"{scores.short(name, good[ranked[0]])}, median {scores.short(name, median(good.values()))}"
        ]
        if sys.stdout.isatty():
            lines += [
                f"{scores.short(name, good[k]):>10}   loss {few_digits(metrics[k][-1]['loss'])}   {family[k]}"
                for k in ranked[:SHOWN]
            ]
            wide = shutil.get_terminal_size().columns - 1  # a line that is broken would be two
            lines = [line if len(line) <= wide else f"{line[: wide - 1]}…" for line in lines]
            sys.stdout.write(f"\x1b[{self.lines}F\x1b[J" if self.lines else "")
            self.lines = len(lines)
        print("\n".join(lines), flush=True)


if __name__ == "__main__":
    run(main, parser())
