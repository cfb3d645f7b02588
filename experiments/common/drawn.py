"""The drawings that the page of `experiments.draw` saves: a JSON file.

{"format": "jaxnn drawings 1", "side": S, "drawings": [{"label": 7, "centred": true, "ink": "AAAA..."}, ...]}

ink: base64 of S × S bytes, row by row, 0 where there is no ink and 255 where there is most. centred: whether
the network saw it scaled and moved as its data set is, or the whole pad as it was.
"""

import base64
import json
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.common.arguments import UserError

FORMAT = "jaxnn drawings 1"
BYTES, SIDES, COUNT = 200_000_000, range(8, 1025), range(1, 10_001)  # that there can be


class Drawing(NamedTuple):
    """Ink from 0 to 1, S × S; what it is meant to be; whether it is to be centred."""

    ink: np.ndarray
    label: int
    centred: bool


def load(path: Path, classes: int) -> list[Drawing]:
    """The drawings in a file. Raises UserError if it is not one that the page saved."""
    if not os.path.isfile(path) or os.path.getsize(path) > BYTES:
        raise UserError(f"--drawings: {path}: got no file of at most {BYTES:,} bytes")
    try:
        found = json.loads(path.read_bytes())
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            raise ValueError(f"expected the format {FORMAT!r}")
        S, drawings = found.get("side"), found.get("drawings")
        if type(S) is not int or S not in SIDES:
            raise ValueError(f"side: got {str(S)[:40]}, expected {SIDES[0]}..{SIDES[-1]}")
        if not isinstance(drawings, list) or len(drawings) not in COUNT:
            raise ValueError(f"drawings: expected a list of {COUNT[0]}..{COUNT[-1]:,}")
        return [_drawing(k, drawing, S, classes) for k, drawing in enumerate(drawings)]
    except (OSError, ValueError, RecursionError) as error:
        why = " ".join(str(error).split())[:160]
        raise UserError(
            f"--drawings: {path}: cannot be read ({why}); expected what the page of draw saved"
        ) from error


def _drawing(k: int, found, S: int, classes: int) -> Drawing:
    if not isinstance(found, dict):
        raise ValueError(f"drawing {k}: expected its label, centred and ink")
    label, centred, ink = (found.get(name) for name in ("label", "centred", "ink"))
    if type(label) is not int or label not in range(classes):
        raise ValueError(f"drawing {k}: label: got {str(label)[:40]!r}, expected 0..{classes - 1}")
    if type(centred) is not bool:
        raise ValueError(f"drawing {k}: centred: got {str(centred)[:40]!r}, expected true or false")
    if not isinstance(ink, str) or len(ink) != 4 * ((S * S + 2) // 3):
        raise ValueError(f"drawing {k}: ink: expected {S * S} bytes in base64")
    content = base64.b64decode(ink, validate=True)
    if len(content) != S * S:
        raise ValueError(f"drawing {k}: ink: got {len(content)} bytes, expected {S * S}")
    return Drawing(np.frombuffer(content, np.uint8).reshape(S, S).astype(np.float32) / 255, label, centred)
