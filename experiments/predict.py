"""Read a run that `experiments.train --out RUN_DIR` wrote, and test its network again.

On its test images; or on drawings that the page of `experiments.draw` saved; or on a picture of a digit.
"""

import argparse
from pathlib import Path

from experiments.common.arguments import Parser, UserError, add_surroundings, folder, kind_of, run, use_device
from jaxnn.shown import shown

SHADES = " ░▒▓█"


def parser() -> Parser:
    """The arguments of this program."""
    p = Parser(prog="python -m experiments.predict", description=__doc__)
    p.add_argument("run_dir", type=folder, metavar="RUN_DIR", help="the folder that --out named")
    p.add_argument("--best", action="store_true", help="of its best epoch; default: of its last")
    instead = p.add_mutually_exclusive_group()
    instead.add_argument(
        "--drawings", type=Path, metavar="FILE", help="drawings.json, in place of the test images"
    )
    instead.add_argument(
        "--image", type=Path, metavar="FILE", help="a scan or photo, in place of the test images"
    )
    add_surroundings(p)
    return p


def main(arguments: argparse.Namespace) -> int:
    """Report the test accuracy and the confusion matrix, or what is asked for in their place."""
    device = use_device(arguments.device)

    from experiments.common import saved

    it = saved.load(arguments)
    lines = [
        f"device    {kind_of(device)}",
        f"run       {shown(arguments.run_dir)}: {it.data.name}, {'-'.join(map(str, it.settings['n']))}",
    ]
    if arguments.image:
        lines += of_image(it, arguments.image)
    elif arguments.drawings:
        lines += of_drawings(it, arguments.drawings)
    else:
        lines += of_tests(it)
    print("\n".join(lines))
    return 0


def of_tests(it) -> list[str]:
    """How the network does on the test images."""
    import jax

    from jaxnn.encoding import flatten
    from jaxnn.evaluation import accuracy, confusion_matrix, predict

    @jax.jit
    def evaluate(params, images, labels):
        X = flatten(images, it.data.white)
        confusion = confusion_matrix(labels, predict(it.net, params, X), it.data.classes)
        return accuracy(confusion), confusion

    measured, confusion = evaluate(it.params, *it.data.test)
    N = len(it.data.test.images)
    same = round(float(measured) * N) == round(it.accuracy * N)  # a mean may differ in its last bit
    reported = "as training reported" if same else f"training reported {100 * it.accuracy:.2f} %"
    width = len(str(confusion.max())) + 2
    return [
        f"accuracy  {100 * measured:.2f} % of {N} test images",
        f"          {reported}",
        "\nConfusion matrix: a row for each true class, a column for each predicted one\n",
        "     " + "".join(f"{k:{width}}" for k in range(it.data.classes)),
        *(f"{k:3}  " + "".join(f"{count:{width}}" for count in row) for k, row in enumerate(confusion)),
    ]


def seen(it, ink, centre: bool):
    """What the network sees of ink, and what it says to it: X as an image, Ŷ, and the class."""
    import jax
    import numpy as np

    from jaxnn.centring import FRAMES, centred, uncentred

    image = jax.jit(centred if centre else uncentred, static_argnums=1)(ink, FRAMES[it.data.name])
    Z, _ = it.net.forward(it.params, image.reshape(1, -1).astype(it.params[0].W.dtype))
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
