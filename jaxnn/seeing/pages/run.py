"""The page of a run: what was asked for, how it learnt, what it misreads, and its weights."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from markupsafe import Markup

from jaxnn.activations import Activation
from jaxnn.datasets import Dataset
from jaxnn.encoding import inputs, targets
from jaxnn.evaluation import confusion_matrix, predict
from jaxnn.gradcheck.jaxprs.by_numpy import by_numpy
from jaxnn.layers import Dense, mlp
from jaxnn.losses import Loss
from jaxnn.runs.record import FEW, SCORES, merit
from jaxnn.seeing.colours import LESS, MORE, NONE
from jaxnn.seeing.graphs.network import network, numbers, of_image
from jaxnn.seeing.graphs.svg import svg
from jaxnn.seeing.images import pixels, source
from jaxnn.seeing.pages.page import page

POINTS = 500  # of a curve that are drawn
LETTERS = 16  # of a class's name
MISREAD, CLASSES = 12, 60  # images that are shown, and classes at most in a confusion matrix
WEIGHTS, IN_A_ROW = 80_000, 1024  # in all images together, and in a row of one


class Told(NamedTuple):
    """What is said of a run in words; the facts are pairs of a name and text."""

    command: str
    facts: list[tuple[str, str]]
    ending: str


class Run(NamedTuple):
    """What a page shows of a training."""

    n: tuple[int, ...]
    names: tuple[str, str]  # of g and of the loss
    g: Activation
    loss: Loss
    data: Dataset
    metrics: list[dict]
    params: list[Dense] | None  # None: not known
    epoch: int  # of the parameters, which they are after
    finished: bool
    told: Told


def run_page(run: Run, refresh: int = 0) -> str:
    """The page, as HTML; what the network makes of the test images is left for the end of the run."""
    L, arrays = len(run.n) - 1, shapes(run)
    tested = outputs(run) if run.params and run.finished and run.data.classes else None
    layers, names = shown(L), ("loss", "test_loss", *SCORES, "dW", "db")
    return page(
        "run.html",
        f"{run.data.name}, {'-'.join(map(str, run.n))}",
        {"charts": charts({name: [m.get(name) for m in run.metrics] for name in names}, layers)},
        ("charts.js",),
        refresh,
        run=run,
        shapes=arrays,
        parameters=sum(array.size for name, array in arrays.items() if name[0] in "Wb"),
        graph=graph(run, bool(run.params and run.finished)) if len(layers) == L else None,
        layers=layers,
        few=len(run.data.train.images[:FEW]),
        confusion=tested and run.data.classes <= CLASSES and [*enumerate(tested[2].tolist())],
        misread=tested and misread(run, *tested[:2]),
        weights=run.params and [weights(run, run.params, l, WEIGHTS // len(layers)) for l in layers],
        scale=(LESS, NONE, MORE),
        tested=tested is not None,
        numbers=bool(run.params and run.finished),
        names=[name if len(name) <= LETTERS else f"{name[:LETTERS]}…" for name in run.data.names],
        scaled=scaled(run.data),
    )


def scaled(data: Dataset) -> str:
    """How examples become the rows of X, in words."""
    if data.origin and data.origin.coding.mean:
        return "each column less its mean, divided by its standard deviation"
    how = " and inverted" if data.origin and data.origin.coding.inverted else ""
    return f"a row each, divided by {data.origin.coding.white if data.origin else data.white:g}{how}"


def shapes(run: Run) -> dict:
    """Every array of a pass of all training images, without its numbers, by its name in the lecture."""

    def arrays(images, labels):
        params, data = mlp(*run.n, g=run.g).init(jax.random.key(0)), run.data
        X, Y = inputs(images, data.white), targets(labels, data.classes)
        return numbers(run.n, run.g, run.loss, params, X, Y)

    return jax.eval_shape(arrays, *run.data.train)


def graph(run: Run, known: bool) -> Markup:
    """The compute graph, with its numbers for the first test image if they are known."""
    given = run.n, run.names, run.g, run.loss, run.params, run.data
    return Markup(svg(of_image(*given, 0) if known else network(run.n, *run.names, {})))


def shown(L: int) -> list[int]:
    """The layers of which there is something to see: all, or the first and the last ones of many."""
    return [*range(1, L + 1)] if L <= 6 else [1, 2, 3, L - 2, L - 1, L]


def charts(curves: dict[str, list], layers: list[int]) -> list[dict]:
    """For charts.js: costs, accuracy or error, and the sizes of gradients of these layers, if they are known.

    Many epochs are thinned out; what no axis can show is a gap.
    """
    score = next(name for name in SCORES if any(found is not None for found in curves.get(name, ())))
    merits = [merit({score: found}) for found in curves[score]]
    E, best = len(merits), 1 + merits.index(max(merits))
    drawn = sorted({*range(0, E, -(-E // POINTS)), best - 1, E - 1})

    def chart(title: str, *lines: tuple, **options) -> dict:
        series = [{"name": name, "y": [number(curves[key][k], *l) for k in drawn]} for name, key, *l in lines]
        return {"title": title, "x": [k + 1 for k in drawn], "best": best, "series": series, **options}

    return [
        chart("cost J", ("training", "loss"), ("test", "test_loss"), log=True),
        chart(score.replace("_", " "), ("test", score), percent=score == SCORES[0]),
        *(
            chart(f"sizes of {d}", *((f"{d}[{l}]", d, l) for l in layers), log=True)
            for d in ("dW", "db")
            if any(curves.get(d, []))
        ),
    ]


def number(found, l: int = 0) -> float | None:
    """What is recorded, of layer l if there is one, in six digits; None if no axis can show that number."""
    if l:
        found = found[l - 1] if isinstance(found, list) and len(found) >= l else None
    return float(f"{found:.6g}") if type(found) is float and (not found or 1e-300 < found < 1e300) else None


def outputs(run: Run) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the test images: the classes that are predicted, Ŷ, and the confusion matrix; in float64."""
    net, data = mlp(*run.n, g=run.g), run.data
    X = inputs(jnp.asarray(data.test.images), data.white)

    def tested(params, X, labels):
        predictions, Y_hat = predict(net, params, X), run.loss.activation.forward(net.forward(params, X)[0])
        return predictions, Y_hat, confusion_matrix(labels, predictions, data.classes)

    with jax.enable_x64(True):
        given = *jax.tree.map(lambda array: np.asarray(array, float), (run.params, X)), data.test.labels
        return by_numpy(tested, *given)(*given)


def misread(run: Run, predictions: np.ndarray, Y_hat: np.ndarray) -> list[tuple]:
    """The wrong predictions with the largest outputs, the largest first: number, classes, image and Ŷ."""
    images, labels = run.data.test
    (wrong,) = np.nonzero(predictions != labels)
    first = wrong[np.argsort(-Y_hat[wrong, predictions[wrong]], kind="stable")[:MISREAD]]
    widths = 100 * np.abs(Y_hat) / max(np.abs(Y_hat[first]).max(initial=0), 1)
    shown = {i: picture(images[i], run.data.white) for i in first}
    return [(i, labels[i], predictions[i], shown[i], zip(Y_hat[i], widths[i], strict=True)) for i in first]


def picture(image: np.ndarray, white: int) -> str | None:
    """An image, in grey or in colour; None of the row of a table."""
    if image.ndim < 2:
        return None
    grey = image.ndim == 2
    return source(pixels(image / white, grey=True) if grey else (image / white * 255).astype(np.uint8))


def weights(run: Run, params: list[Dense], l: int, room: int) -> dict:
    """Images of the first weights of a layer: one for each neuron where they see images, else one in all."""
    W = np.asarray(params[l - 1].W, float)
    part = W[: max(room // min(W.shape[1], IN_A_ROW), 1), :IN_A_ROW]
    most = float(np.quantile(np.abs(part), 0.99))
    size = run.data.train.images.shape[1:]
    neurons = l == 1 and len(size) == 2 and part.shape[1] == W.shape[1]
    images = part.reshape(-1, *size) if neurons else [part]
    found = [source(pixels(image / (most or 1))) for image in images]
    return {"l": l, "most": most, "shape": W.shape, "part": part.shape, "images": found, "neurons": neurons}
