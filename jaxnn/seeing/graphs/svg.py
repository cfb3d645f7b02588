"""A scene as SVG: an element of a page, or a file of its own, in the reader's colours."""

import re
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from jaxnn.seeing.colours import COLOURS
from jaxnn.seeing.graphs import drawing
from jaxnn.seeing.graphs.scene import Placed
from jaxnn.seeing.graphs.text import listing
from jaxnn.seeing.images import source


def svg(placed: Placed) -> str:
    """The scene as an SVG element, which is a whole file too; the same scene is the same bytes.

    It has no ids, and its classes begin with jg: several of them stand in one page without harm.

    >>> from jaxnn.seeing.graphs.scene import Box, Node, Scene
    >>> scene = Scene("a < b", (Node("W", "parameter", "W", "(3, 2)"),), ())
    >>> print(svg(Placed(scene, (Box(20, 10, 80, 44),), (), 120, 64)).splitlines()[1])
    <title>Compute graph: a &lt; b</title>
    """
    marks, width, height = drawing.drawing(placed)
    values = {"width": width, "height": height, "title": placed.scene.title, "words": listing(placed.scene)}
    text = TEMPLATES.get_template("scene.svg").render(values, marks=marks, COLOURS=COLOURS)
    return drawing.NO_TEXT.sub("\ufffd", text) + "\n"


def _n(value: float) -> str:
    return f"{value + 0.0:.1f}".removesuffix(".0")


def _d(path: drawing.Path) -> str:
    return "".join(step + " ".join(f"{_n(x)} {_n(y)}" for x, y in points) for step, points in path)


FOLDER = FileSystemLoader(Path(__file__).parent)
TEMPLATES = Environment(loader=FOLDER, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
TEMPLATES.filters |= {"n": _n, "d": _d, "png": source, "parts": re.compile(r"(\[\d+\])").split}
