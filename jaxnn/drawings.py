"""Pictures of a training."""

from pathlib import Path

from matplotlib.figure import Figure


def learning_curves(metrics: list[dict], title: str, path: Path) -> None:
    """Draw the loss and the test accuracy over the epochs into a PNG file."""
    epochs = [m["epoch"] for m in metrics]
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    figure.suptitle(title, fontsize=10)
    left, right = figure.subplots(1, 2)
    left.plot(epochs, [m["loss"] for m in metrics], ".-", label="training, mean over the epoch")
    left.plot(epochs, [m["test_loss"] for m in metrics], ".-", label="test")
    left.set_yscale("log")
    left.set_ylabel("cost J")
    left.legend()
    right.plot(epochs, [100 * m["test_accuracy"] for m in metrics], ".-", color="C1")
    right.set_ylabel("test accuracy (%)")
    for axes in (left, right):
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=150)
