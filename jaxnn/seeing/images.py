"""Arrays as images: the colour of each number, and a PNG inside a page."""

import base64
import struct
import zlib

import numpy as np

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
    height, width, _ = pixels.shape
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(b"".join(b"\0" + row.tobytes() for row in pixels), 9)
    chunks = [kind + content for kind, content in ((b"IHDR", head), (b"IDAT", rows), (b"IEND", b""))]
    parts = (struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks)
    return "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"".join(parts)).decode()
