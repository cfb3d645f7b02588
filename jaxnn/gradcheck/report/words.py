"""Numbers, names and entries as one would say them."""

import math

import numpy as np


def short(value: float) -> str:
    """A number in at most nine characters or so."""
    return f"{value:.4g}"


def apart(x: float, y: float) -> tuple[str, str]:
    """Two numbers in so few digits that they can be read, and so many that they differ.

    >>> apart(2 / 3, 4 / 3), apart(1.0, 1.0000001)
    (('0.6667', '1.333'), ('1', '1.0000001'))
    """
    shown = ((f"{x:.{digits}g}", f"{y:.{digits}g}") for digits in range(4, 18))
    return next((pair for pair in shown if pair[0] != pair[1]), (f"{x:.4g}", f"{y:.4g}"))


def ulps(value: float) -> str:
    """An error in ULPs, as it should be read."""
    if not math.isfinite(value):
        return "∞" if value > 0 else "?"
    if value >= 1e5:
        return f"{value:.1e}".replace("e+0", "e").replace("e+", "e")
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def amount(value: int | float | None, unit: str = "") -> str:
    """A size with its unit: 1.2 MB."""
    if value is None:
        return "-"
    for name in ("", "k", "M", "G", "T"):
        if abs(value) < 1000:
            return f"{value:.4g} {name}{unit}".rstrip()
        value /= 1000
    return f"{value:.4g} P{unit}"


def dimensions(shape: tuple[int, ...]) -> str:
    """A shape: 3×5."""
    return "×".join(map(str, shape)) if shape else "scalar"


WHOLE = 1e-7  # a factor that is whole, or a root, but for so much of it is meant so
ONE = 1e-12  # what is no farther from 1 is 1 but for rounding


def spoken(x: float) -> str:
    """A factor as one would say it.

    >>> spoken(1 / 24), spoken(3**-0.5), spoken(0.123456789), spoken(1 - 2e-9)
    ('1/24', '1/√3', '0.123457', '1 − 2e-09')
    """
    sign, size = ("−" if x < 0 else ""), abs(x)
    for root, power in (("", 1), ("√", 2)):
        for top, value in ((True, size**power), (False, size**-power if size else 0.0)):
            whole = round(value)
            if 1 < whole <= 10_000 and abs(value - whole) < WHOLE * whole:
                return sign + (f"{root}{whole}" if top else f"1/{root}{whole}")
    if f"{x:.6g}" == "1" and abs(x - 1) > ONE:
        return f"1 {'+' if x > 1 else '−'} {abs(x - 1):.2g}"
    return f"{x:.6g}"


def listed(names: list[str], most: int) -> str:
    """The first few names.

    >>> listed(["W1", "b1"], 2), listed(["W1", "b1", "W2"], 2)
    ('W1, b1', 'W1, b1, …')
    """
    return ", ".join([*names[:most], *["…"] * (len(names) > most)])


def joined(names: list[str], most: int = 5) -> str:
    """Names in a sentence, no more of them than can be read at a glance.

    >>> joined(["W1", "b1"]), joined(["Wf", "Wi", "Wo", "Wg", "bf", "bi", "bo", "bg"])
    ('W1 and b1', 'Wf, Wi, Wo, Wg and 4 more')
    """
    if len(names) > most:
        names = [*names[: most - 1], f"{len(names) - most + 1} more"]
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def extent(mask: np.ndarray) -> str:
    """In words, which entries of a leaf a mask holds."""
    if mask.all():
        return "every entry"
    for axis, (one, many) in enumerate((("row", "rows"), ("column", "columns"))):
        if mask.ndim > axis and mask.shape[axis] > 1:
            rest = tuple(a for a in range(mask.ndim) if a != axis)
            full = mask.all(axis=rest)
            if np.array_equal(np.broadcast_to(np.expand_dims(full, rest), mask.shape), mask):
                places = np.flatnonzero(full)
                if len(places) == 1:
                    last = " (the last)" if places[0] == mask.shape[axis] - 1 else ""
                    return f"{one} {places[0]}{last}"
                if np.array_equal(places, np.arange(places[0], places[-1] + 1)):
                    return f"{many} {places[0]} to {places[-1]}"
                return f"{many} {', '.join(map(str, places[:6]))}" + (" …" if len(places) > 6 else "")
    places = np.argwhere(mask)
    first = ", ".join(str(tuple(map(int, p))) for p in places[:3])
    return f"entr{'y' if len(places) == 1 else 'ies'} {first}" + (" …" if len(places) > 3 else "")


OURS = {"a", "an", "the", "what"}


def capital(sentence: str) -> str:
    """A sentence with a capital, where it begins with a word and not with somebody's name for something.

    >>> capital("the path through w"), capital("w is zero")
    ('The path through w', 'w is zero')
    """
    return sentence[0].upper() + sentence[1:] if sentence.split()[0] in OURS else sentence
