"""The page of a run: what was asked for, how it learnt, what it misreads, and its weights."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from markupsafe import Markup

from jaxnn.activations import Activation
from jaxnn.datasets import Dataset
from jaxnn.encoding import flatten, one_hot
from jaxnn.evaluation import confusion_matrix, predict
from jaxnn.layers import Dense, mlp
from jaxnn.losses import Loss
from jaxnn.passes import passes
from jaxnn.seeing.colours import LESS, MORE, NONE
from jaxnn.seeing.graphs.network import network, of_image
from jaxnn.seeing.graphs.svg import svg
from jaxnn.seeing.images import pixels, source
from jaxnn.seeing.pages.page import page

POINTS = 500  # of a curve that are drawn
MISREAD = 12  # images that are shown
AT_ONCE = 500  # test images that are computed
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
    finished: bool
    told: Told


class Heat(NamedTuple):
    """A cell of a heat map: what stands in it, how dark it is (0 to 1), what is said of it; its colour."""

    text: str
    shade: float
    say: str
    small: str = ""
    kind: str = "forward"


def run_page(run: Run, refresh: int = 0) -> str:
    """The page, as HTML; what the network makes of the test images is left for the end of the run."""
    tested = outputs(run) if run.params and run.finished else None
    layers, names = shown(len(run.n) - 1), ["loss", "test_loss", "test_accuracy"]
    names += ["dW", "db"] if any("dW" in m for m in run.metrics) else []
    drawn = charts({name: [m.get(name) for m in run.metrics] for name in names}, layers)
    return page(
        "run.html",
        f"{run.data.name}, {'-'.join(map(str, run.n))}",
        {"charts": drawn},
        ("charts.js",),
        refresh,
        run=run,
        best=drawn[0]["best"],
        told=run.told,
        shapes=shapes(run),
        graph=graph(run, tested is not None) if len(layers) == len(run.n) - 1 else None,
        layers=layers,
        confusion=tested and confusion(run, tested[0]),
        misread=tested and misread(run, *tested),
        weights=run.params and [weights(run, run.params, l, WEIGHTS // len(layers)) for l in layers],
        gradient=",".join(f"rgb{colour}" for colour in (LESS, NONE, MORE)),
    )


def shapes(run: Run) -> dict:
    """What the lecture writes on the board: the shapes of X and Y, and a row of them for each layer."""
    params = jax.eval_shape(mlp(*run.n, g=run.g).init, jax.random.key(0))
    X = jax.eval_shape(lambda images: flatten(images, run.data.white), run.data.train.images)
    Y = jax.eval_shape(lambda labels: one_hot(labels, run.data.classes), run.data.train.labels)
    found = jax.eval_shape(passes(run.n, run.g, run.loss), params, X, Y)
    rows = [(l, *p, found[f"Z[{l}]"], found[f"A[{l}]"]) for l, p in enumerate(params, 1)]
    shapes = [(l, *(array.shape for array in row)) for l, *row in rows]
    return {
        "X": X.shape,
        "Y": Y.shape,
        "rows": shapes,
        "numbers": sum(p.size for p in jax.tree.leaves(params)),
    }


def graph(run: Run, numbers: bool) -> Markup:
    """The compute graph, with its numbers for the first test image, or without."""
    known = run.n, run.names, run.g, run.loss, run.params, run.data
    return Markup(svg(of_image(*known, 0) if numbers else network(run.n, *run.names, {})))


def shown(L: int) -> list[int]:
    """The layers of which there is something to see: all, or the first and the last ones of many."""
    return [*range(1, L + 1)] if L <= 6 else [1, 2, 3, L - 2, L - 1, L]


def charts(curves: dict[str, list], layers: list[int]) -> list[dict]:
    """For charts.js: costs, accuracy, and the sizes of gradients of these layers, if they are known.

    Many epochs are thinned out; what is not a finite number is a gap.
    """
    accuracies = curves["test_accuracy"]
    E, best = len(accuracies), 1 + accuracies.index(max(accuracies))
    drawn = sorted({*range(0, E, -(-E // POINTS)), best - 1, E - 1})

    def chart(title: str, lines: dict[str, tuple[str, int]], **options) -> dict:
        series = [
            {"name": name, "y": [number(curves[key][k], l) for k in drawn]}
            for name, (key, l) in lines.items()
        ]
        return {"title": title, "x": [k + 1 for k in drawn], "best": best, "series": series, **options}

    sizes = {d: {f"{d}[{l}]": (d, l) for l in layers} for d in ("dW", "db") if d in curves}
    return [
        chart("cost J", {"training": ("loss", 0), "test": ("test_loss", 0)}, log=True),
        chart("test accuracy", {"test": ("test_accuracy", 0)}, percent=True),
        *(chart(f"sizes of {d}", lines, log=True) for d, lines in sizes.items()),
    ]


def number(found, l: int = 0) -> float | None:
    """What is recorded, of layer l if there is one, in six digits; None if that is not a finite number."""
    if l:
        found = found[l - 1] if isinstance(found, list) and len(found) >= l else None
    return float(f"{found:.6g}") if isinstance(found, float) and math.isfinite(found) else None


def outputs(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """The class that is predicted for each test image, and its Ŷ, both computed in float64."""
    net, images = mlp(*run.n, g=run.g), run.data.test.images

    @jax.jit
    def passed(params, images):
        X = flatten(images, run.data.white).astype(float)
        return predict(net, params, X), run.loss.activation.forward(net.forward(params, X)[0])

    with jax.enable_x64(True):
        params = jax.tree.map(lambda p: jnp.asarray(np.asarray(p), float), run.params)
        parts = [passed(params, images[k : k + AT_ONCE]) for k in range(0, len(images), AT_ONCE)]
    predictions, Y_hat = (np.concatenate([*map(np.asarray, found)]) for found in zip(*parts, strict=True))
    return predictions, Y_hat


def confusion(run: Run, predictions: np.ndarray) -> list[tuple[str, list[Heat]]]:
    """The rows of the confusion matrix: hits are shaded in one way, mistakes in another."""
    labels, classes = jnp.asarray(run.data.test.labels), run.data.classes
    counts = np.asarray(confusion_matrix(labels, jnp.asarray(predictions), classes))
    of, most = counts.sum(axis=1), max(int(counts[~np.eye(classes, dtype=bool)].max()), 1)

    def cell(j: int, k: int) -> Heat:
        count, hit = int(counts[j, k]), j == k
        say = f"{j}, read as {k}: {count} of {of[j]} ({100 * count / of[j]:.1f} %)"
        shade, kind = (count / of[j], "parameter") if hit else (count / most, "backward")
        return Heat(str(count) if count else "·", shade, say, kind=kind)

    return [(str(j), [cell(j, k) for k in range(classes)]) for j in range(classes)]


def misread(run: Run, predictions: np.ndarray, Y_hat: np.ndarray) -> list[tuple]:
    """The wrong predictions with the largest outputs, the largest first: number, classes, image and Ŷ."""
    images, labels = run.data.test
    (wrong,) = np.nonzero(predictions != labels)
    first = wrong[np.argsort(-Y_hat[wrong, predictions[wrong]], kind="stable")[:MISREAD]]
    most = max(np.abs(Y_hat[first]).max(initial=0), 1)
    shown = {i: source(pixels(images[i] / run.data.white, grey=True)) for i in first}
    bars = {i: [(y, 100 * abs(y) / most) for y in Y_hat[i]] for i in first}
    return [(i, labels[i], predictions[i], shown[i], bars[i]) for i in first]


def weights(run: Run, params: list[Dense], l: int, room: int) -> dict:
    """Images of the first weights of a layer: one for each neuron where they see images, else one in all."""
    W = np.asarray(params[l - 1].W, float)
    part = W[: max(room // min(W.shape[1], IN_A_ROW), 1), :IN_A_ROW]
    most = float(np.quantile(np.abs(part), 0.99))
    images = part.reshape(-1, *run.data.train.images.shape[1:]) if l == 1 else [part]
    found = [source(pixels(image / (most or 1))) for image in images]
    return {"l": l, "most": f"{most:.3g}", "shape": W.shape, "part": part.shape, "images": found}
