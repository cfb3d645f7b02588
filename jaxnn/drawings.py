"""Pictures of a training."""

import io
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator

from jaxnn.runs import files


def learning_curves(metrics: list[dict], title: str, path: Path) -> None:
    """Draw the loss, and the test accuracy or error, over the epochs into a PNG file."""
    epochs = [m["epoch"] for m in metrics]
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    figure.suptitle(title, fontsize=10)
    left, right = figure.subplots(1, 2)
    left.plot(epochs, [m["loss"] for m in metrics], ".-", label="training, mean over the epoch")
    left.plot(epochs, [m["test_loss"] for m in metrics], ".-", label="test")
    left.set_yscale("log")
    left.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    left.yaxis.set_major_formatter("{x:g}")
    left.yaxis.set_minor_formatter("")
    left.set_ylabel("cost J")
    left.legend()
    if "test_accuracy" in metrics[0]:
        right.plot(epochs, [100 * m["test_accuracy"] for m in metrics], ".-", color="C1")
        right.set_ylabel("test accuracy (%)")
    else:
        right.plot(epochs, [m["test_error"] for m in metrics], ".-", color="C1")
        right.set_ylabel("test error (root mean square)")
    for axes in (left, right):
        axes.set_xlabel("epoch")
        axes.set_xlim(0.5, len(epochs) + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=150)
    files.replace(path, png.getvalue())
