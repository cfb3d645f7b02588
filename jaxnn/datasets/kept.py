"""How one's own data were coded, as text that is kept with a run; every field is checked when it is read.

It is sealed with the sha256 of its fields. What was kept before there was a seal has none, and is read.
"""

import hashlib
import json
import math
from collections.abc import Callable
from typing import Any

from jaxnn.datasets.dataset import Coding
from jaxnn.datasets.files import DatasetError, shown

SEAL = "sha256"
MOST = 100_000_000  # letters of such a text: a million columns


def text(coding: Coding) -> str:
    """The coding as JSON.

    >>> coding = Coding((2,), (0.5, 1.0), (1.0, 2.0), 1.0, (), (0, 1), 3, "", 2, (), ("a", "b"), 0.0, 1.0)
    >>> parsed("coding.json", text(coding)) == coding
    True
    """
    fields = coding._asdict()
    return json.dumps(fields | {SEAL: _sha256(fields)}, indent=1, allow_nan=False) + "\n"


def is_sealed(text: str) -> bool:
    """Whether a text that `parsed` takes has a seal."""
    return SEAL in json.loads(text)


def _sha256(fields: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fields, allow_nan=False).encode()).hexdigest()


def parsed(where: str, text: str) -> Coding:
    """The coding that a text holds. Raises DatasetError, which names the field, if it is none."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{where}: not JSON ({shown(error, 100)})") from error
    seal = found.pop(SEAL, None) if isinstance(found, dict) else None
    if seal is None and isinstance(found, dict):
        found = {"inverted": False} | found  # as it was before there were seals
    if not isinstance(found, dict) or found.keys() != FIELDS.keys():
        raise DatasetError(f"{where}: expected a table of {', '.join(FIELDS)}")
    for name, good in FIELDS.items():
        if not good(found[name]):
            raise DatasetError(f"{where}: {name}: got {shown(found[name])}, expected how data were coded")
    if seal is not None and seal != _sha256({name: found[name] for name in FIELDS}):
        raise DatasetError(f"{where}: damaged: its fields have another sha256 than the one it carries")
    fields: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in found.items()}
    coding = Coding(**fields)
    n = math.prod(coding.shape)
    table = len(coding.shape) == 1
    sizes = [len(coding.mean), len(coding.spread)] + [len(coding.columns)] * bool(coding.columns)
    sizes += [len(coding.places)] * bool(coding.places)
    if any(size != (n if table else 0) for size in sizes):
        raise DatasetError(f"{where}: got {shown(sizes)} columns in its fields, expected {n if table else 0}")
    if any(place >= coding.width for place in coding.places) or coding.label_place > coding.width:
        raise DatasetError(f"{where}: got columns beyond its width of {coding.width}")
    if len(coding.resized) == 1:
        raise DatasetError(f"{where}: resized: got one number, expected height and width")
    return coding


def _whole(low: int, high: int) -> Callable[[object], bool]:
    return lambda value: type(value) is int and low <= value <= high


def _real(positive: bool) -> Callable[[object], bool]:
    return lambda value: isinstance(value, float) and math.isfinite(value) and (value > 0 or not positive)


def _text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= 1000 and (not value or value.isprintable())


def _many(good: Callable[[object], bool], least: int, most: int) -> Callable[[object], bool]:
    return lambda value: isinstance(value, list) and least <= len(value) <= most and all(map(good, value))


COLUMNS = 1_000_000
FIELDS = {
    "shape": _many(_whole(1, COLUMNS), 1, 3),
    "mean": _many(_real(False), 0, COLUMNS),
    "spread": _many(_real(True), 0, COLUMNS),
    "white": _real(True),
    "columns": _many(_text, 0, COLUMNS),
    "places": _many(_whole(0, COLUMNS), 0, COLUMNS),
    "width": _whole(0, COLUMNS),
    "label": _text,
    "label_place": _whole(0, COLUMNS),
    "resized": _many(_whole(1, 100_000), 0, 2),
    "names": _many(_text, 0, 1000),
    "middle": _real(False),
    "unit": _real(True),
    "inverted": lambda value: isinstance(value, bool),
}
