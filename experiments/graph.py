"""Draw the compute graph of a network, forward and backward, with the numbers of one example.

Of a run, or with no RUN of the network that `experiments.train` would begin with.
"""

import argparse
from pathlib import Path

from experiments.common.arguments import (
    Parser,
    UserError,
    add_network,
    add_surroundings,
    folder,
    new_file,
    run,
    use_device,
    whole,
)

FORMS = (".svg", ".png", ".txt")


def picture(text: str) -> Path:
    """The type of a file whose name says its form."""
    path = new_file(text)
    if path.suffix not in FORMS:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a name that ends in {', '.join(FORMS)}")
    return path


def parser() -> Parser:
    """The arguments of this program."""
    p = Parser(prog="python -m experiments.graph", description=__doc__)
    p.add_argument("what", nargs="*", metavar="RUN", help="the folder that --out of a training named")
    p.add_argument(
        "--out",
        type=picture,
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
    match arguments.what:
        case [] | [_]:
            placed = of_network(arguments)
        case more:
            raise UserError(f"RUN: got {' '.join(more)[:80]}, expected one folder, or none")
    write(placed, arguments.out)
    return 0


def of_network(arguments: argparse.Namespace):
    """The graph of the lecture's network, of a run or with its first parameters."""
    use_device(arguments.device)

    import jax
    import jax.numpy as jnp

    from experiments.common.task import chosen, encode, load, sizes
    from jaxnn.layers import mlp
    from jaxnn.seeing.graphs.network import network, numbers

    if arguments.what:
        arguments, n, params = of_run(arguments)
        data = load(arguments)
        n_x, classes = sizes(data, ())
        if (n[0], n[-1]) != (n_x, classes):
            expected = f"expected {n_x} inputs and {classes} outputs for {data.name}"
            raise UserError(f"{arguments.what[0]}: got a network {[*n]}, {expected}")
    else:
        data = load(arguments)
        n = sizes(data, arguments.hidden)
        init_key, _ = jax.random.split(jax.random.key(arguments.seed))  # as a training begins
        params = mlp(*n, g=chosen(arguments)[0]).init(init_key)
    i, (images, labels) = arguments.example, data.test
    if i >= len(images):
        raise UserError(
            f"--example: got {i}, expected one of the {len(images)} test images, 0 to {len(images) - 1}"
        )
    g, loss = chosen(arguments)
    point = params, *encode(data, jnp.asarray(images[i : i + 1]), jnp.asarray(labels[i : i + 1]))
    with jax.enable_x64(True):
        point = jax.tree.map(lambda array: jnp.asarray(array, "float64"), point)
        arrays = jax.jit(lambda *point: numbers(n, g, loss, *point))(*point)
    placed = network(n, arguments.activation, arguments.loss, arrays)
    title = f"{placed.scene.title}: test image {i} of {data.name}, label {labels[i]}"
    return placed._replace(scene=placed.scene._replace(title=title))


def of_run(arguments: argparse.Namespace):
    """The arguments with which a run was made, the sizes of its network, and its parameters."""
    from jaxnn import losses
    from jaxnn.losses import Loss
    from jaxnn.runs import record

    beside = {"dataset", "hidden", "activation", "loss", "seed"} & arguments.given
    if beside:
        raise UserError(f"--{min(beside)}: a run has its own; expected no such option beside it")
    run_dir = folder(arguments.what[0])
    settings = record.load_settings(run_dir)
    if not isinstance(getattr(losses, str(settings.get("loss")), None), Loss):
        got = str(settings.get("loss"))[:40]
        raise UserError(f"{run_dir / 'settings.json'}: loss: got {got!r}, expected one of jaxnn.losses")
    params = record.load_params(run_dir / "params.safetensors", settings["n"])
    taken = {name: settings[name] for name in ("dataset", "activation", "loss")}
    return argparse.Namespace(**vars(arguments) | taken), tuple(settings["n"]), params


def write(placed, out: Path | None) -> None:
    """Write a picture in the form that its name says; print it as text, where there is no name."""
    from jaxnn.runs import seals
    from jaxnn.seeing.graphs.text import text

    match out.suffix if out else "":
        case ".svg":
            from jaxnn.seeing.graphs.svg import svg

            content = svg(placed).encode()
        case ".png":
            from jaxnn.seeing.graphs.png import png

            content = png(placed)
        case _:
            content = f"{text(placed.scene)}\n".encode(errors="replace")
    if out:
        seals.replace(out, content)
        print(f"wrote {out}")
    else:
        print(content.decode(), end="")


if __name__ == "__main__":
    run(main, parser())
