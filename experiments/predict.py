"""Read a run that `experiments.train --out RUN_DIR` wrote, and test its network again.

On its test images; or on other data of one's own, with labels or without; or on drawings that the page of
`experiments.draw` saved; or on a picture of a digit.
"""

import argparse
from pathlib import Path

from experiments.common import scores
from experiments.common.arguments import (
    Parser,
    UserError,
    add_surroundings,
    few_digits,
    given_file,
    kind_of,
    run,
    run_folder,
    use_device,
)
from experiments.common.own_data import place
from jaxnn.shown import shown

SHADES = " ░▒▓█"
LETTERS, MOST = 16, 40  # of a class's name, and classes in a confusion matrix


def parser() -> Parser:
    """The arguments of this program."""
    p = Parser(prog="python -m experiments.predict", description=__doc__)
    p.add_argument("run_dir", type=run_folder, metavar="RUN_DIR", help="the folder that --out named")
    p.add_argument("--best", action="store_true", help="of its best epoch; default: of its last")
    instead = p.add_mutually_exclusive_group()
    instead.add_argument(
        "--data",
        type=place,
        metavar="PATH",
        help="of a run on your own data: others like it, with labels or without, in place of its test data",
    )
    instead.add_argument(
        "--drawings", type=given_file, metavar="FILE", help="drawings.json, in place of the test images"
    )
    instead.add_argument(
        "--image", type=given_file, metavar="FILE", help="a scan or photo, in place of the test images"
    )
    add_surroundings(p)
    return p


def main(arguments: argparse.Namespace) -> int:
    """Report the test accuracy and the confusion matrix, or what is asked for in their place."""
    device = use_device(arguments.device)

    from experiments.common import saved

    it = saved.load(arguments)
    if it.data.origin and (arguments.image or arguments.drawings):
        option = "--image" if arguments.image else "--drawings"
        raise UserError(f"{option}: expected a run on handwriting; for this one: --data PATH")
    lines = [
        f"device    {kind_of(device)}",
        f"run       {shown(arguments.run_dir)}: {it.data.name}, "
        + (it.settings.get("network") or "-".join(map(str, it.settings["n"]))),
    ]
    if arguments.image:
        lines += of_image(it, arguments.image)
    elif arguments.drawings:
        lines += of_drawings(it, arguments.drawings)
    elif it.labelled:
        lines += of_tests(it, other=bool(arguments.data))
    else:
        lines += of_others(it)
    print("\n".join(lines))
    return 0


def of_tests(it, other: bool) -> list[str]:
    """How the network does on the test images, or on other data."""
    import jax

    from experiments.common.task import error
    from jaxnn.datasets.files import shown
    from jaxnn.encoding import inputs
    from jaxnn.evaluation import accuracy, confusion_matrix, predict

    data = it.data

    @jax.jit
    def evaluate(params, images, labels):
        X = inputs(images, data.white)
        if not data.classes:
            return error(data, it.net.forward(params, X)[0][:, 0], labels), None
        confusion = confusion_matrix(labels, predict(it.net, params, X), data.classes)
        return accuracy(confusion), confusion

    measured, confusion = evaluate(it.params, *data.test)
    lines = scores.at_end(data, float(measured), "" if other else "test ")
    if not other:
        lines.insert(1, f"          {scores.beside(data, float(measured), it.score)}")
    if confusion is not None:
        lines += matrix(confusion, [shown(name, LETTERS) for name in data.names])
    return lines


def matrix(confusion, names: list[str]) -> list[str]:
    """The confusion matrix, if it can be overlooked."""
    if len(names) > MOST:
        return [f"\nConfusion matrix: {len(names)} classes are too many to show"]
    first = max(3, *map(len, names))
    width = max(len(str(confusion.max())), *map(len, names)) + 2
    return [
        "\nConfusion matrix: a row for each true class, a column for each predicted one\n",
        " " * (first + 2) + "".join(f"{name:>{width}}" for name in names),
        *(
            f"{name:>{first}}  " + "".join(f"{count:{width}}" for count in row)
            for name, row in zip(names, confusion, strict=True)
        ),
    ]


def of_others(it) -> list[str]:
    """What the network says to data without labels, a line for each example."""
    import jax
    import numpy as np

    from jaxnn.encoding import inputs

    @jax.jit
    def outputs(params, images):
        Z, _ = it.net.forward(params, inputs(images, it.data.white))
        return it.loss.activation.forward(Z)

    Y_hat = np.asarray(outputs(it.params, it.data.test.images))
    where = it.data.origin.at
    if not it.data.classes:
        return [f"\n{it.data.origin.coding.label or 'prediction'}, predicted for"] + [
            f"{where(i)}  {few_digits(it.data.middle + it.data.unit * float(y))}"
            for i, (y,) in enumerate(Y_hat)
        ]
    return ["\nThe class that is predicted, and its Ŷ, for"] + [
        f"{where(i)}  {it.data.names[row.argmax()]}  {row.max():.4f}" for i, row in enumerate(Y_hat)
    ]


def seen(it, ink, centre: bool):
    """What the network sees of ink, and what it says to it: X as an image, Ŷ, and the class."""
    import jax
    import numpy as np

    from jaxnn.centring import FRAMES, centred, uncentred

    image = jax.jit(centred if centre else uncentred, static_argnums=1)(ink, FRAMES[it.data.name])
    Z, _ = it.net.forward(it.params, image.reshape(1, -1).astype(jax.tree.leaves(it.params)[0].dtype))
    return np.asarray(image), np.asarray(it.loss.activation.forward(Z))[0], int(Z.argmax())


def of_image(it, path: Path) -> list[str]:
    """What the network sees in a picture, and takes it for."""
    from jaxnn.scan import ScanError, ink

    try:
        image, Y_hat, guess = seen(it, ink(path), centre=True)
    except ScanError as error:
        raise UserError(f"--image: {error}") from error
    rows = ["".join(2 * SHADES[min(4, int(5 * x))] for x in row) for row in image]
    frame = "─" * 2 * len(image)
    return [
        f"picture   {shown(path)}, of which the network sees",
        f"┌{frame}┐",
        *(f"│{row}│" for row in rows),
        f"└{frame}┘",
        f"guess     {guess}",
        *(
            f"Ŷ         {k}  {y:7.4f}  {'█' * round(40 * min(max(y, 0), 1))}".rstrip()
            for k, y in enumerate(Y_hat)
        ),
    ]


def of_drawings(it, path: Path) -> list[str]:
    """How the network does on drawings."""
    from experiments.common import drawn

    drawings = drawn.load(path, it.data.classes)
    found = [(drawing.label, *seen(it, drawing.ink, drawing.centred)[1:]) for drawing in drawings]
    right = sum(label == guess for label, _, guess in found)
    return [
        f"accuracy  {100 * right / len(found):.2f} % of {len(found)} drawings",
        "\nlabel  guess  Ŷ of " + "".join(f"{k:>6}" for k in range(it.data.classes)),
        *(
            f"{label:5}  {guess:5}{' ' if label == guess else '✗'}      "
            + "".join(f"{y:6.2f}" for y in Y_hat)
            for label, Y_hat, guess in found
        ),
    ]


if __name__ == "__main__":
    run(main, parser())
