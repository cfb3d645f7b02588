"""What is read of JSON: each field is checked by its type and range before anything uses it."""

import json
import math
from collections.abc import Callable

LAYERS = 100  # more of them make a page, a graph or a compilation that nobody waits for
EPOCHS = 1_000_000
CURVES = ("loss", "test_loss")
SCORES = ("test_accuracy", "test_error")  # of which an epoch has one


def parsed(content: bytes | str):
    """The value of a JSON text. Raises ValueError."""
    try:
        return json.loads(content)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def is_whole(value, low: int, high: int) -> bool:
    """Whether it is a whole number from low to high; true and 3.0 are none."""
    return type(value) is int and low <= value <= high


def is_number(value) -> bool:
    """Whether it is a finite number with a point, as all that is measured is written."""
    return type(value) is float and math.isfinite(value)


def is_share(value) -> bool:
    """Whether it is a number from 0 to 1."""
    return is_number(value) and 0 <= value <= 1


def is_sizes(value) -> bool:
    """Whether it is a list of the sizes of layers."""
    return isinstance(value, list) and all(is_whole(n_l, 1, 1_000_000) for n_l in value)


def is_size(value) -> bool:
    """Whether it is a number of 0 or more."""
    return is_number(value) and value >= 0


def are_norms(value) -> bool:
    """Whether it is a list of a norm for each layer; null where one is not finite."""
    return isinstance(value, list) and _few_norms(value)


def are_named_norms(value) -> bool:
    """The same of arrays by their names."""
    return isinstance(value, dict) and _few_norms(value.values())


def _few_norms(values) -> bool:
    return len(values) <= 10 * LAYERS and all(norm is None or is_size(norm) for norm in values)


MEASURED: dict[str, Callable[[object], bool]] = {
    "epoch": lambda value: is_whole(value, 1, EPOCHS),
    "loss": is_number,
    "test_loss": is_number,
    "test_accuracy": is_share,
    "test_error": is_size,
    "dW": are_norms,
    "db": are_norms,
    "gradients": are_named_norms,
}  # what is known of an epoch


def check_whole(name: str, value, low: int, high: int) -> None:
    """Raise ValueError unless the field of that name is a whole number from low to high."""
    if not is_whole(value, low, high):
        raise ValueError(f"{name}: got {str(value)[:40]}, expected a whole number in {low}..{high}")


def check_epochs(metrics, finite: bool = True) -> None:
    """Raise ValueError unless they are the whole metrics of the epochs 1, 2, and so on."""
    if not isinstance(metrics, list) or len(metrics) > EPOCHS:
        raise ValueError("metrics: expected a list of those of each epoch")
    for number, found in enumerate(metrics, start=1):
        known = measured(found, finite)
        if known.get("epoch") != number or not {*CURVES} <= {*known}:
            raise ValueError(
                f"metrics: expected those of epoch {number}, with {', '.join(CURVES)}, and a score"
            )


def measured(found, finite: bool = True) -> dict:
    """Of an epoch's metrics what is known, its score at least. Raises ValueError, naming a field.

    Without `finite` a loss or error may be none of the numbers.
    """
    scores = {*SCORES} & found.keys() if isinstance(found, dict) else {}

    def is_good(name: str) -> bool:
        any_number = not finite and name != "test_accuracy"
        return MEASURED[name](found[name]) or (any_number and type(found[name]) is float)

    if len(scores) != 1 or not all(map(is_good, scores)):
        raise ValueError("expected an epoch's metrics, with its test_accuracy in 0..1")
    for name in MEASURED:
        if name in found and not is_good(name):
            raise ValueError(f"{name}: got {str(found[name])[:40]!r}, expected what a training writes")
    return {name: found[name] for name in MEASURED if name in found}


def network(row, epochs: int = EPOCHS) -> dict:
    """What a sweep has found of a network, in so many epochs at most. Raises ValueError otherwise."""
    try:
        curves = row["curves"]
        (score,) = {*SCORES} & curves.keys()
        lengths = {len(curves[name]) for name in (*CURVES, score)}
        good = (
            is_whole(row["seed"], 0, 2**32 - 1)
            and is_number(row["learning_rate"])
            and is_number(row["scale"])
            and is_sizes(row["hidden"])
            and len(row["hidden"]) <= LAYERS
            and all(isinstance(curves[name], list) for name in (*CURVES, score))
            and len(lengths) == 1
            and 1 <= min(lengths) <= epochs
            and all(value is None or is_number(value) for name in CURVES for value in curves[name])
            and all(
                MEASURED[score](value) or (score == "test_error" and value is None) for value in curves[score]
            )
        )
    except (TypeError, KeyError, ValueError, AttributeError):
        good = False
    if not good:
        raise ValueError("expected a network's settings and curves")
    return row


def declared(settings: dict) -> tuple[int, int, int]:
    """How many epochs, layers and networks the settings of a run state; where they do not, a few."""

    def length(name: str) -> int:
        return len(settings[name]) if isinstance(settings.get(name), list) else 1

    def whole(name: str, most: int, otherwise: int) -> int:
        found = settings.get(name)
        return found if isinstance(found, int) and is_whole(found, 1, most) else otherwise

    networks = whole("seeds", 2**32, 1) * math.prod(map(length, ("learning_rates", "scales", "widths")))
    return whole("epochs", EPOCHS, 10_000), length("n"), networks
