"""Hold the gradient written by hand against autodiff: verdicts, place, cause.

Exit status 0 if it is right, 1 if it is wrong, 3 if nothing can tell.
"""

import argparse
import difflib
import re
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from experiments.common.arguments import (
    Parser,
    UserError,
    add_network,
    add_surroundings,
    kind_of,
    new_page,
    run,
    use_device,
    whole,
)
from experiments.common.status import doing
from jaxnn.gradcheck.report import colours

STATUS = {True: 0, False: 1, None: 3}
PENALTY = 0.1  # λ, where a mistake in the regularisation is planted
SATURATION = 200.0  # times larger weights, where a mistake shows only in saturated outputs


def parser() -> Parser:
    """The arguments of this program."""
    p = Parser(prog="python -m experiments.compare_gradients", description=__doc__)
    add_network(p)
    p.add_argument("--dtype", choices=("float32", "float64"), default="float32", help="default: %(default)s")
    p.add_argument("--examples", type=whole(1), default=256, metavar="N", help="default: %(default)s")
    p.add_argument(
        "--plant",
        metavar="ID",
        help="plant this mistake of the catalogue, to see it found; 'list' lists them",
    )
    p.add_argument("--layer", type=whole(1), metavar="l", help="the layer to plant it in; default: the first")
    p.add_argument("--json", action="store_true", help="print the report as JSON, and nothing else")
    p.add_argument("--html", type=new_page, metavar="FILE", help="write the report as one page, too")
    add_surroundings(p)
    p.product = lambda arguments: arguments.json or arguments.plant == "list"
    return p


def main(arguments: argparse.Namespace) -> int:
    """Compare, and print the report."""
    if arguments.layer and arguments.plant in (None, "list"):
        raise UserError("--layer: expected --plant ID with it; --plant list lists what can be planted")
    device = use_device(arguments.device)

    import jax

    with jax.enable_x64(arguments.dtype == "float64"):
        return compare(arguments, device)


def compare(arguments: argparse.Namespace, device) -> int:
    """Compare in the precision asked for."""
    import jax
    import jax.numpy as jnp

    from experiments.common.task import chosen, encode, load, sizes
    from jaxnn.gradcheck import compare_gradients
    from jaxnn.layers import mlp
    from jaxnn.objective import cost, value_and_grad

    data = load(arguments)
    if arguments.examples > (N := len(data.train.images)):
        raise UserError(
            f"--examples: got {arguments.examples}, expected at most the {N} training {data.what}"
        )
    images, labels = (jnp.asarray(array[: arguments.examples]) for array in data.train)
    n = sizes(data, arguments.hidden)
    g, loss = chosen(arguments)
    net = mlp(*n, g=g)
    J, J_and_dparams = cost(net, loss), value_and_grad(net, loss)

    def by_hand(params, X, Y):
        return J_and_dparams(params, X, Y)[1]

    point = net.init(jax.random.key(arguments.seed)), *encode(data, images, labels)
    point = jax.tree.map(lambda array: jnp.asarray(array, arguments.dtype), point)
    lines = [
        f"device    {kind_of(device)}",
        f"network   {'-'.join(map(str, n))}, {arguments.activation}, {arguments.loss}",
        f"at        {len(images)} images of {data.name}, seed {arguments.seed}, {arguments.dtype}",
    ]
    if arguments.plant:
        planted = plant(arguments, n)
        if planted is None:
            return 0
        J, by_hand = planted.loss or J, planted.gradient
        point = planted.moved(point)
        lines.append(f"planted   {planted.said}")
    if not arguments.json:
        print("\n".join(lines), end="\n\n")
    names = [f"{letter}[{l}]" for l in range(1, len(n)) for letter in "Wb"]
    doing("comparing")
    report = compare_gradients(J, by_hand, *point, names=names)
    if arguments.json:
        print(report.to_json())
    else:
        print(colours.verdicts(str(report), sys.stdout))
    if arguments.html:
        from jaxnn.seeing.graphs.network import network, numbers
        from jaxnn.seeing.graphs.svg import svg

        arrays = numbers(n, g, loss, *point[:3])
        placed = network(
            n, arguments.activation, arguments.loss, arrays, len(images), marks(report, len(n) - 1)
        )
        title = f"{placed.scene.title}: as it should be, and the numbers of the first example"
        picture = svg(placed._replace(scene=placed.scene._replace(title=title)))
        try:
            report.to_html(arguments.html, picture)
        except OSError as error:
            raise UserError(f"--html: cannot write {arguments.html}: {error.strerror}") from error
        print(f"\nwrote {arguments.html}", file=sys.stderr)
    return STATUS[report.correct]


def marks(report, L: int) -> dict[str, str]:
    """What is wrong with which quantity of the graph: where the likeliest cause is, or the wrong gradients.

    >>> from types import SimpleNamespace as Of
    >>> wrong = [Of(path=path, correct=False) for path in ("W[1]", "b[1]")]
    >>> cause = Of(where="dZ[1], and so W[1] and b[1]", sentence="The sign is wrong.")
    >>> marks(Of(correct=False, causes=[cause], leaves=wrong), 2)
    {'dZ[1]': 'The sign is wrong.'}
    """
    if report.correct is not False:
        return {}
    where, sentence = (report.causes[0].where, report.causes[0].sentence) if report.causes else ("", "wrong")
    where = re.split(r" = |, and so ", where)[0]
    found = re.findall(r"d[ZAWb]\[\d+\]", where) or [f"d{name}" for name in re.findall(r"[Wb]\[\d+\]", where)]
    found = found or [f"d{leaf.path}" for leaf in report.leaves if leaf.correct is False]
    found = {name: int(name.split("[")[1][:-1]) for name in found if name != f"dA[{L}]"}  # and its layer
    found = sorted(found, key=lambda name: -found[name])  # as the way back goes
    return {name: "the same" if k else sentence for k, name in enumerate(found)}


def _instead(id: str, every: list[str]) -> str:
    near = difflib.get_close_matches(id, every, 1)
    return f"did you mean {near[0]}?" if near else "--plant list lists what there is"


class Planted(NamedTuple):
    """A gradient with a mistake in it; loss: another than the network's own, where the mistake needs it."""

    gradient: Callable
    loss: Callable | None
    moved: Callable[[Any], Any]  # the point, so that the mistake can show
    said: str


def plant(arguments: argparse.Namespace, n: tuple[int, ...]) -> Planted | None:
    """The mistake asked for, in this network; None after listing those that it can have."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from experiments.planted import mistakes
    from experiments.planted.network import Network, loss_of

    hidden = "gelu-exact" if arguments.activation == "gelu" else arguments.activation
    form = {
        "binary_cross_entropy": "bce-logits",
        "cross_entropy": "softmax-logits",
        "squared_error": "squared-linear",
    }[arguments.loss]
    plain = Network(n, hidden, form)
    penalised, masked = plain._replace(penalty=PENALTY), plain._replace(masked=True)
    kinds = (plain, penalised, masked)
    ids = {kind: {mutant.id for mutant in mistakes.mutants(kind)} for kind in kinds}
    every = sorted(set().union(*ids.values()))
    if arguments.plant == "list":
        from jaxnn.gradcheck.mistakes.catalogue import MISTAKES

        print("\n".join(f"{id:<30} {MISTAKES[id].words}" for id in every))
        return None
    kind = next((kind for kind in kinds if arguments.plant in ids[kind]), None)
    if kind is None:
        deep = [Network((n[-1],) * 4, hidden, form, PENALTY, masked) for masked in (False, True)]
        known = {m.id for network in deep for m in mistakes.mutants(network)} | set(every)
        advice = (
            f"needs layers of equal size: try --hidden {n[-1]} {n[-1]}"
            if arguments.plant in known
            else f"--plant: got {arguments.plant!r}, {_instead(arguments.plant, every)}"
        )
        raise UserError(f"{arguments.plant} {advice}" if arguments.plant in known else advice)
    try:
        mutant = mistakes.planted(kind, arguments.plant, arguments.layer)
    except ValueError as error:
        raise UserError(
            f"--layer: {arguments.plant} cannot be planted in layer {arguments.layer}; expected one of 1 to "
            f"{len(n) - 1}, or none"
        ) from error

    def moved(point):
        params, X, Y = point
        if arguments.plant in mistakes.NEEDS_SATURATION:
            params = jax.tree.map(lambda p: p * SATURATION, params)
        if not kind.masked:
            return params, X, Y
        rng = np.random.default_rng(arguments.seed)
        kept = tuple(jnp.asarray((rng.random((len(X), m)) < 0.75) / 0.75, X.dtype) for m in n[1:-1])
        return params, X, Y, kept

    def gradient(params, *data):
        pairs = mutant.gradient(tuple((W, b) for W, b in params), *data)
        return [type(p)(*pair) for p, pair in zip(params, pairs, strict=True)]

    said = ", ".join(part for part in (mutant.id, mutant.where) if part)
    loss = None
    if kind is not plain:
        loss = loss_of(kind)
        said += ", with dropout" if kind.masked else f", with L2 regularisation λ = {PENALTY}"
    if arguments.plant in mistakes.NEEDS_SATURATION:
        said += f", at weights {SATURATION:g} times as large"
    return Planted(gradient, loss, moved, said)


if __name__ == "__main__":
    run(main, parser())
