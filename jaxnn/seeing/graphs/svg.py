"""A scene as SVG: an element of a page, or a file of its own, in the reader's colours."""

import base64
import re
import struct
import zlib
from functools import cache
from html import escape

import numpy as np

from jaxnn.seeing.colours import COLOURS
from jaxnn.seeing.graphs.drawing import Mark, Path, Picture, Rectangle, Shape, Spot, Stroke, Words, drawing
from jaxnn.seeing.graphs.scene import Placed

FONTS = """.jg-plain,.jg-bold{font-family:"DejaVu Sans",system-ui,sans-serif}.jg-bold{font-weight:600}
.jg-mono{font-family:"DejaVu Sans Mono",ui-monospace,monospace;white-space:pre}
.jg text{pointer-events:none}.jg-middle{text-anchor:middle}
.jg-line{fill:none}.jg-dashed{stroke-dasharray:7 4}.jg-dotted{stroke-dasharray:1.5 4}
.jg-picture{image-rendering:pixelated}.jg-spot{fill:transparent}"""


def svg(placed: Placed) -> str:
    """The scene as an SVG element, which is a whole file too.

    It has no ids, and its classes begin with jg-: several of them stand in one page without harm.

    >>> from jaxnn.seeing.graphs.scene import Box, Node, Scene
    >>> scene = Scene("a < b", (Node("W", "parameter", "W", "(3, 2)"),), ())
    >>> print(svg(Placed(scene, (Box(20, 10, 80, 44),), (), 120, 64)).splitlines()[1])
    <title>Compute graph: a &lt; b</title><desc>W, (3, 2).</desc>
    """
    d = drawing(placed)
    size = f'viewBox="0 0 {_n(d.width)} {_n(d.height)}" width="{_n(d.width)}" height="{_n(d.height)}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="jg" role="img" {size}>',
        f"<title>{_safe(d.title)}</title><desc>{_safe(d.description)}</desc>",
        f"<style>{_style()}</style>",
        '<rect class="jg-ground" width="100%" height="100%"/>',
        *map(_element, d.marks),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


@cache
def _style() -> str:
    light, dark = (
        "".join(f".jg-{name}{{fill:{c[k]}}}.jg-{name}-line{{stroke:{c[k]}}}" for name, c in COLOURS.items())
        for k in (0, 1)
    )
    return f"{light}\n@media(prefers-color-scheme:dark){{{dark}}}\n{FONTS}"


def _element(mark: Mark) -> str:
    match mark:
        case Rectangle((x, y, w, h), rounded, colour, dash, weight, fill, title):
            classes = f"jg-{fill} jg-{colour}-line jg-{dash}"
            box = f'x="{_n(x)}" y="{_n(y)}" width="{_n(w)}" height="{_n(h)}" rx="{_n(rounded)}"'
            return f'<rect class="{classes}" stroke-width="{weight}" {box}>{_title(title)}</rect>'
        case Words((x, y), text, size, colour, font, middle, letters):
            classes = f"jg-{colour} jg-{font}" + (" jg-middle" if middle else "")
            inner = _raised(text, size) if letters else _safe(text)
            return f'<text class="{classes}" font-size="{_n(size)}" x="{_n(x)}" y="{_n(y)}">{inner}</text>'
        case Stroke(path, colour, dash, weight):
            classes = f"jg-line jg-{colour}-line jg-{dash}"
            return f'<path class="{classes}" stroke-width="{weight}" d="{_path(path)}"/>'
        case Shape(path, colour):
            return f'<path class="jg-{colour}" d="{_path(path)}"/>'
        case Picture((x, y, w, h), pixels):
            box = f'x="{_n(x)}" y="{_n(y)}" width="{_n(w)}" height="{_n(h)}" preserveAspectRatio="none"'
            return f'<image class="jg-picture" {box} href="{_png(pixels)}"/>'
        case Spot((x, y, w, h), title):
            return (
                f'<path class="jg-spot" d="M{_n(x)} {_n(y)}h{_n(w)}v{_n(h)}h{_n(-w)}z">{_title(title)}</path>'
            )


def _n(value: float) -> str:
    return f"{value + 0.0:.2f}".rstrip("0").rstrip(".")


def _safe(text: str) -> str:
    return escape(
        re.sub(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", text)
    )  # as XML has it


def _title(text: str) -> str:
    return f"<title>{_safe(text)}</title>" if text else ""


def _raised(text: str, size: float) -> str:
    """[1] above the line, as the slide has it."""
    up, found, raised = _n(0.36 * size), [], False
    for part in filter(None, re.split(r"(\[\d+\])", text)):
        if re.fullmatch(r"\[\d+\]", part):
            found.append(f'<tspan dy="-{up}" font-size="{_n(0.72 * size)}">{part}</tspan>')
            raised = True
        else:
            found.append(f'<tspan dy="{up}">{_safe(part)}</tspan>' if raised else _safe(part))
            raised = False
    return "".join(found)


def _path(path: Path) -> str:
    return "".join(step + " ".join(f"{_n(x)} {_n(y)}" for x, y in points) for step, points in path)


def _png(pixels: np.ndarray) -> str:
    """The pixels as the address of a PNG that is in the address itself."""
    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    parts = (struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks)
    return "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"".join(parts)).decode()
