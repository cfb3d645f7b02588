"""Arrays as images: the colour of each number, and a PNG inside a page."""

import base64
import io

import numpy as np
from PIL import Image

from jaxnn.seeing.colours import LESS, MORE, NONE


def pixels(t: np.ndarray, grey: bool = False) -> np.ndarray:
    """In the colours of −1, 0 and 1, or in grey from 0 to 1; few of them, for a small file.

    >>> pixels(np.array([[-1.0, 0.0, 1.0]])).tolist()
    [[[94, 60, 153], [247, 247, 247], [230, 97, 1]]]
    """
    black, white = np.zeros(3), np.full(3, 255)
    least, none, most = (black, black, white) if grey else (LESS, NONE, MORE)
    t = np.round(np.clip(t[..., None], -1, 1) * 60) / 60
    return (none + (np.where(t < 0, least, most) - none) * np.abs(t)).round().astype(np.uint8)


def source(pixels: np.ndarray) -> str:
    """Pixels as an image in a page: what stands in its `src`."""
    found = io.BytesIO()
    few = Image.fromarray(pixels).quantize(256, dither=Image.Dither.NONE)  # exact: there are no more colours
    few.save(found, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(found.getvalue()).decode()
