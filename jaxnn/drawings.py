"""Pictures of a training."""

import io
from pathlib import Path
from statistics import median

from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator

from jaxnn.runs import seals


def learning_curves(metrics: list[dict], title: str, path: Path) -> None:
    """Draw the loss and the test accuracy over the epochs into a PNG file."""
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
    right.plot(epochs, [100 * m["test_accuracy"] for m in metrics], ".-", color="C1")
    right.set_ylabel("test accuracy (%)")
    for axes in (left, right):
        axes.set_xlabel("epoch")
        axes.set_xlim(0.5, len(epochs) + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    _save(figure, path)


def sweep(rows: list[dict], title: str, path: Path) -> None:
    """Draw all learning curves, and the accuracy over the learning rate with its spread over the seeds."""
    rates = sorted({row["learning_rate"] for row in rows})
    others = sorted({(tuple(row["hidden"]), row["scale"]) for row in rows})
    figure = Figure(figsize=(9.6, 4.2), layout="constrained")
    figure.suptitle(title, fontsize=10)
    left, right = figure.subplots(1, 2)
    for row in rows:
        accuracy = [100 * value for value in row["curves"]["test_accuracy"]]
        epochs = range(1, len(accuracy) + 1)
        color = colormaps["viridis"](rates.index(row["learning_rate"]) / max(len(rates) - 1, 1))
        left.plot(epochs, accuracy, color=color, lw=0.7, alpha=0.8)
    for rate in rates:
        color = colormaps["viridis"](rates.index(rate) / max(len(rates) - 1, 1))
        left.plot([], [], color=color, label=f"α = {rate:g}")
    for hidden, scale in others:
        found = [
            [
                100 * row["final_test_accuracy"]
                for row in rows
                if (row["learning_rate"], tuple(row["hidden"]), row["scale"]) == (rate, hidden, scale)
            ]
            for rate in rates
        ]
        name = f"hidden {' '.join(map(str, hidden))}, scale {scale:g}"
        (line,) = right.plot(rates, [median(values) for values in found], ".-", label=name)
        least, most = ([choose(values) for values in found] for choose in (min, max))
        right.fill_between(rates, least, most, color=line.get_color(), alpha=0.2, lw=0)
    left.set_xlabel("epoch")
    left.xaxis.set_major_locator(MaxNLocator(integer=True))
    left.set_ylabel("test accuracy (%)")
    right.set_xscale("log")
    right.set_xticks(rates, [f"{rate:g}" for rate in rates])
    right.minorticks_off()
    right.set_xlabel("learning rate α")
    right.set_ylabel("final test accuracy (%): median and range over seeds")
    for axes in (left, right):
        axes.legend(fontsize=7)
        axes.grid(alpha=0.3)
    right.yaxis.label.set_fontsize(8)
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=150)
    seals.replace(path, png.getvalue())
