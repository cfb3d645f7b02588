"""Draw the compute graph of a network, with the numbers of one example, or of any function.

Of a run; with no RUN of the network that `experiments.train` would begin with; or of a function of yours, in
its own lines, as `mynet:loss mynet:arguments`: arguments are a tuple, or a function that returns one.
"""

import argparse
import contextlib
import functools
import re
import sys
from pathlib import Path

from experiments.common.arguments import (
    Parser,
    UserError,
    add_network,
    add_surroundings,
    new_picture,
    run,
    run_folder,
    use_device,
    whole,
)
from experiments.common.status import doing
from jaxnn.shown import shown

FORMS = (".svg", ".png", ".txt")
MOST = 500  # nodes of a function: more of them can nobody follow, and take minutes to be laid out


def argnums(text: str) -> str:
    """The type of the numbers of arguments."""
    if not re.fullmatch(r"-?\d+(,-?\d+)*,?", text):
        raise argparse.ArgumentTypeError(f"got {text[:40]!r}, expected numbers from 0 on; write 0 or 0,2")
    return text


def parser() -> Parser:
    """The arguments of this program."""
    p = Parser(prog="python -m experiments.graph", description=__doc__)
    p.add_argument(
        "what",
        nargs="*",
        metavar="RUN | module:function module:arguments",
        help="the folder that --out of a training named, or a function (of module, or FILE.py)",
    )
    p.add_argument(
        "--gradient", metavar="module:gradient", help="draw this gradient, written by hand, beside it"
    )
    p.add_argument(
        "--level", choices=("lines", "equations"), default="lines", help="nodes; default: lines of code"
    )
    p.add_argument(
        "--argnums",
        type=argnums,
        default="0",
        metavar="0,2",
        help="the arguments that are parameters; default: %(default)s",
    )
    p.add_argument(
        "--out",
        type=new_picture(*FORMS),
        metavar="FILE",
        help="FILE.svg, FILE.png or FILE.txt; default: text on the screen",
    )
    p.add_argument(
        "--example", type=whole(0), default=0, metavar="I", help="which test image; default: %(default)s"
    )
    add_network(p)
    add_surroundings(p)
    return p


def main(arguments: argparse.Namespace) -> int:
    """Draw it, and write it or print it."""
    strangers, p = {"gradient", "level", "argnums"}, parser().prog
    match arguments.what:
        case [_, file] if Path(file).suffix in FORMS and ":" not in file:
            raise UserError(f"got {file[:80]!r} after RUN, expected nothing; did you mean --out {file[:80]}?")
        case [first, *_] if len(arguments.what) > 1 and ":" not in first and Path(first).is_dir():
            raise UserError(
                f"RUN: got {' '.join(arguments.what)[:80]}, expected one folder; write {p} {first[:80]}"
            )
        case [_, _]:
            strangers = {"dataset", "hidden", "activation", "loss", "seed", "example"}
        case [_, _, *_]:
            more = " ".join(arguments.what)[:80]
            instead = " ".join(arguments.what[:: len(arguments.what) - 1])
            if len(arguments.what) == 3 and all(":" in one for one in arguments.what):
                instead += f" --gradient {arguments.what[1]}"
            expected = "expected one folder, or a function and its arguments"
            raise UserError(f"RUN: got {more}, {expected}; write {p} {instead[:200]}")
        case [name] if ":" in name and not Path(name).exists():
            raise UserError(f"{name}: expected its arguments after it; write {p} {name} module:arguments")
    if strangers & arguments.given:
        what = "a network" if "level" in strangers else "a function"
        raise UserError(f"--{min(strangers & arguments.given)}: expected no such option for {what}")
    write(of_function(arguments) if len(arguments.what) == 2 else [of_network(arguments)], arguments.out)
    return 0


def of_function(arguments: argparse.Namespace) -> list:
    """Pictures of a function, of a scalar one with its gradient by autodiff; and of one written by hand."""
    use_device(arguments.device)
    doing("tracing")

    from jaxnn.gradcheck.calls.raised import in_full
    from jaxnn.gradcheck.importing import Bad, called, found, numbers
    from jaxnn.seeing.graphs.layered import placed, sizes_of
    from jaxnn.seeing.graphs.lines import lines
    from jaxnn.seeing.graphs.traces import traced

    place, level = arguments.what[0], arguments.level
    name = place.rpartition(":")[2]
    try:
        with contextlib.redirect_stdout(sys.stderr):  # what a module prints is no part of the graph
            function, point = found(place), called(arguments.what[1])
            by_hand = found(arguments.gradient) if arguments.gradient else None
            argnums = numbers(arguments.argnums)
            argnums = argnums if isinstance(argnums, tuple) else (argnums,)
            if not all(-len(point) <= k < len(point) for k in argnums):
                numbers_there = ",".join(map(str, range(len(point))))
                raise Bad(
                    f"--argnums: got {arguments.argnums}, expected some of {numbers_there}; write --argnums 0"
                )
            argnums = tuple(k % len(point) for k in argnums)
            try:
                loss = traced(function, point, argnums)
                scenes = of_loss(name, function, loss, point, argnums, level)
                if by_hand is not None:
                    place = arguments.gradient
                    trace = traced(by_hand, point, argnums, function)
                    derived = any(step.back for step in trace.steps)
                    how = "derived by JAX, not line by line by hand" if derived else "by hand"
                    name = place.rpartition(":")[2]
                    scenes.append(lines(f"{name}, {how}", trace, level, loss))
            except BaseException as error:  # a function may exit, too
                raise Bad(f"{place} raised {in_full(error)}") from error
    except Bad as error:
        raise UserError(str(error)) from error
    if (most := max(len(scene.nodes) for scene in scenes)) > MOST:
        raise UserError(f"{place}: got {most} nodes, expected at most {MOST}; --level lines has fewer")
    return [placed(scene, sizes_of(scene)) for scene in scenes]


def of_loss(name: str, function, loss, point: tuple, argnums: tuple[int, ...], level: str) -> list:
    """The scene of a function with its gradient, if it has one; by itself, too, if that leaves lines out."""
    import jax

    from jaxnn.seeing.graphs.lines import lines
    from jaxnn.seeing.graphs.traces import traced

    forward = lines(name, loss, level)
    if [loss.shapes[v] for v in loss.outputs if isinstance(v, int)] != ["()"]:
        return [forward._replace(title=f"{name}: no single number, so without a gradient")]
    try:
        whole = traced(jax.value_and_grad(function, argnums), point, argnums)
    except TypeError as error:
        if "real" not in str(error):
            raise
        return [forward._replace(title=f"{name}: not of real numbers, so without a gradient")]
    both = lines(f"{name}, and its gradient by JAX", whole, level)
    left_out = {node.title for node in forward.nodes if node.unused} - {node.title for node in both.nodes}
    return [forward] * bool(left_out) + [both]


def of_network(arguments: argparse.Namespace):
    """The graph of the lecture's network, of a run or with its first parameters."""
    use_device(arguments.device)

    import jax

    from experiments.common import own, saved
    from experiments.common.own import activation_of
    from experiments.common.task import chosen, load, sizes
    from jaxnn.layers import mlp
    from jaxnn.seeing.graphs.network import of_image

    if arguments.what:
        beside = {"dataset", "hidden", "activation", "loss", "seed"} & arguments.given
        if beside:
            raise UserError(f"--{min(beside)}: a run has its own; expected no such option beside it")
        where = {"run_dir": run_folder(arguments.what[0]), "best": False}
        it = saved.load(argparse.Namespace(**vars(arguments) | where))
        own.lecture_only(it.settings, where["run_dir"], "the graph of a run")
        names = tuple(it.settings[name].rpartition(":")[2] for name in ("activation", "loss"))
        n, data, params, g, loss = it.settings["n"], it.data, it.params, activation_of(it.settings), it.loss
    else:
        names, data = (arguments.activation, arguments.loss), load(arguments)
        n, (g, loss) = sizes(data, arguments.hidden), chosen(arguments)
        init_key, _ = jax.random.split(jax.random.key(arguments.seed))  # as a training begins
        params = mlp(*n, g=g).init(init_key)
    i, N = arguments.example, len(data.test.images)
    if i >= N:
        raise UserError(f"--example: got {i}, expected one of the {N} test images, 0 to {N - 1}")
    return of_image(tuple(n), names, g, loss, params, data, i)


def write(pictures: list, out: Path | None) -> None:
    """Write pictures side by side, in the form that the name says; print them as text where there is none."""
    from jaxnn.runs import files
    from jaxnn.seeing.graphs.layered import beside
    from jaxnn.seeing.graphs.text import text

    doing("drawing")
    whole = functools.reduce(beside, pictures)
    match out.suffix if out else "":
        case ".svg":
            from jaxnn.seeing.graphs.svg import svg

            content = svg(whole).encode()
        case ".png":
            from jaxnn.seeing.graphs.png import png

            content = png(whole)
        case _:
            content = "\n".join(f"{text(picture.scene)}\n" for picture in pictures).encode(errors="replace")
    if out:
        files.replace(out, content)
        print(f"wrote {shown(out)}")
    else:
        print(content.decode(), end="")


if __name__ == "__main__":
    run(main, parser())
