"""A scene as PNG, on a light ground."""

import io
import re
import warnings

from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from jaxnn.seeing.colours import COLOURS
from jaxnn.seeing.graphs.drawing import NO_TEXT, Picture, Shape, Words, drawing
from jaxnn.seeing.graphs.scene import Placed

CODES = {"M": Path.MOVETO, "L": Path.LINETO, "Q": Path.CURVE3}
DASHES = {"solid": [], "dashed": [7, 4], "dotted": [1.5, 4]}


def png(placed: Placed) -> bytes:
    """The scene as the content of a file, two pixels a unit; the same scene is the same bytes."""
    marks, width, height = drawing(placed)
    figure = Figure(figsize=(width / 72, height / 72), facecolor=COLOURS["ground"][0])
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    for layer, mark in enumerate(marks):
        match mark:
            case Shape(path, line, fill, dash, weight) if line or fill:
                codes = [CODES[step] for step, points in path for _ in points]
                whole = Path([point for _, points in path for point in points], codes)
                edge, face = (COLOURS[name][0] if name else "none" for name in (line, fill))
                dashes = (0, [step / weight for step in DASHES[dash]] or None)
                axes.add_patch(PathPatch(whole, fc=face, ec=edge, lw=weight, ls=dashes, zorder=layer))
            case Picture((x, y, w, h), pixels):
                axes.imshow(pixels, extent=(x, x + w, y + h, y), interpolation="nearest", zorder=layer)
            case Words(at, text, size, colour, font, middle, letters):
                text = NO_TEXT.sub("\ufffd", text)
                if letters:
                    text = re.sub(r"(\[\d+\])", r"$^{\\mathdefault{\1}}$", text.replace("$", r"\$"))
                style = {"family": "DejaVu Sans" + " Mono" * (font == "mono"), "parse_math": letters}
                style |= {"weight": "bold" if font == "bold" else "normal", "size": size}
                style |= {"ha": "center" if middle else "left", "color": COLOURS[colour][0]}
                axes.text(*at, text, zorder=layer, **style)
    axes.set(xlim=(0, width), ylim=(height, 0), aspect="auto")
    found = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of letters that the font has not
        figure.savefig(found, format="png", dpi=144, metadata={"Software": None})
    return found.getvalue()
