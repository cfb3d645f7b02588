"""A placed scene as plain marks, in the order in which a pen draws them. Pens know marks, and no scenes."""

import math
import re
import textwrap
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxnn.seeing.graphs.scene import Box, Node, Placed
from jaxnn.seeing.images import pixels

Point = tuple[float, float]
Path = list[tuple[str, tuple[Point, ...]]]  # M, L and Q of an SVG, with their points


class Shape(NamedTuple):
    """A line or an area, each in a colour or not to be seen; title: what is said where one points at it."""

    path: Path
    line: str = ""
    fill: str = ""
    dash: str = "solid"  # or dashed, or dotted
    weight: float = 1.5
    title: str = ""


class Words(NamedTuple):
    """A line of text on its baseline; font: plain, bold or mono. Of `letters` [1] is raised."""

    at: Point
    text: str
    size: float
    colour: str = "text"
    font: str = "plain"
    middle: bool = False
    letters: bool = False


class Picture(NamedTuple):
    """A cell for each of the pixels (height, width, 3)."""

    box: Box
    pixels: np.ndarray


Mark = Shape | Words | Picture

# kind: (colour, dash, rounding of a node's corners, what it is)
KINDS = {
    "forward": ("forward", "solid", 4, "solid, blue: forward"),
    "loss": ("forward", "solid", 22, ""),
    "backward": ("backward", "dashed", 4, "dashed, orange: backward"),
    "input": ("muted", "solid", 14, "round: given"),
    "parameter": ("parameter", "solid", 14, "round and green: parameters"),
    "gradient": ("parameter", "dashed", 14, "dashed: their gradients"),
    "kept": ("kept", "dotted", 4, "dotted: kept for the way back"),
}
MARGIN, CELLS, BARS, SIDE = 20, 200, 64, 32  # at most so many to point at, bars, rows and columns
NO_TEXT = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # in XML


def drawing(placed: Placed) -> tuple[list[Mark], float, float]:
    """The marks of a scene, under its title and above what lines and colours mean; width and height."""
    scene, width, marks = placed.scene, max(placed.width, 360), []

    def paragraph(text: str, y: float, size: float, colour: str, font: str = "plain") -> float:
        for line in wrapped(text, size, width - 2 * MARGIN, font):
            y += 19
            marks.append(Words((MARGIN, y), line, size, colour, font))
        return y

    top = paragraph(scene.title, MARGIN - 5, 15, "text", "bold") + 5
    for edge, route in zip(scene.edges, placed.routes, strict=True):
        marks.extend(_arrow([(x, y + top) for x, y in route], edge.kind))
    for node, box in zip(scene.nodes, placed.boxes, strict=True):
        marks.extend(_card(node, box._replace(y=box.y + top), scene.letters))
    kinds = {part.kind for part in (*scene.nodes, *scene.edges)}
    meant = [said for kind, (*_, said) in KINDS.items() if kind in kinds and said]
    meant += ["thick: results"] * any(node.output for node in scene.nodes)
    y = paragraph(" · ".join(meant), top + placed.height, 11, "muted")
    for node in scene.nodes:
        if node.mark:
            y = paragraph(f"✗ {node.title}: {node.mark}", y, 12, "wrong")
    return marks, width, y + MARGIN


def wrapped(text: str, size: float, width: float, font: str = "plain") -> list[str]:
    """The lines of a text that is not to be wider."""
    return textwrap.wrap(text, max(8, int(width / extent("x", size, font))))


def extent(text: str, size: float, font: str = "plain") -> float:
    """About the width of a text."""
    return size * {"plain": 0.58, "bold": 0.66, "mono": 0.605}[font] * sum(1 + (c > "\u2e7f") for c in text)


def _card(node: Node, box: Box, letters: bool) -> list[Mark]:
    (x, y, w, h), (colour, dash, rounded, _) = box, KINDS[node.kind]
    weight = 3.2 if node.output or node.mark else 1.5
    frame = Shape(outline(box, rounded), "wrong" if node.mark else colour, "card", dash, weight, node.note)
    marks: list[Mark] = [frame]
    size, font = (14, "bold") if letters else (12, "mono")
    lines = [(line, size, font, "text") for line in node.title.split("\n")]
    lines += [(node.shape, 10.5, "mono", "muted")] if node.shape else []
    lines += [(line, 11.5, "plain", "text") for line in wrapped(node.equation, 11.5, w - 12)]
    tall = 1.45 * sum(size for _, size, *_ in lines)
    shrink = min(1, (h - 6) / tall)
    y += 5 if node.value is not None else (h - shrink * tall) / 2
    for text, size, font, ink in lines:
        y += shrink * 1.45 * size
        size *= min(shrink, (w - 12) / max(extent(text, size, font), 1))
        marks.append(Words((x + w / 2, y - 0.45 * size), text, size, ink, font, True, letters))
    if node.value is not None and box.y + h - y >= 24:
        marks += _figure(node, np.asarray(node.value, float), Box(x + 10, y + 4, w - 20, box.y + h - y - 12))
    if node.unused:
        marks.append(Words((x + w / 2, box.y + h + 12), "never used", 10.5, "muted", "bold", True))
    if node.mark:
        marks.append(Shape(outline(Box(x + w - 10, box.y - 10, 20, 20), 10), fill="wrong"))
        marks.append(Words((x + w, box.y + 5), "✗", 13, "ground", "bold", True))
    return marks


def _figure(node: Node, a: np.ndarray, box: Box) -> list[Mark]:
    """A number as it is, a vector as bars, a matrix as an image, some of a list of matrices.

    What is not finite can be pointed at, as all numbers can, and is drawn as zero.
    """
    (x, y, w, h), shown = box, np.nan_to_num(a, nan=0, posinf=0, neginf=0)
    if a.ndim == 0:
        at, number = (x + w / 2, y + h / 2 + 6), f"{a:.4f}" if abs(a) < 1e4 else f"{a:.4g}"
        whole = Shape(outline(box), title=f"{node.title} = {float(a)!r}")
        return [Words(at, number, 16, font="bold", middle=True), whole]
    if a.ndim == 1:
        more = [Words((x + w, y + h - 2), "…", 12, "muted", middle=True)] * (a.size > BARS)
        box = box._replace(width=w - 10 * len(more))
        return [*_bars(shown[:BARS], box, KINDS[node.kind][0]), *more, *_spots(node.title, a[:BARS], box)]
    rows, columns = a.shape[-2:]
    images, shown = a.reshape(-1, rows, columns)[:3], shown.reshape(-1, rows, columns)[:3]
    names = [f"{node.title} {k}," if a.ndim == 3 else node.title for k in range(len(images))]
    wide, high = [min(h, (w - 8) / 3)] * 2 if a.ndim == 3 else (min(w, h * max(1, columns / rows)), h)
    x += (w - len(images) * (wide + 4) + 4) / 2
    marks = []
    for name, image, t in zip(names, images, shown / (np.abs(shown).max() or 1), strict=True):
        tile = Box(x, y + (h - high) / 2, wide, high)
        marks += [Picture(tile, pixels(t[:SIDE, :SIDE], node.kind == "input")), *_spots(name, image, tile)]
        x += wide + 4
    return marks


def _bars(shown: np.ndarray, box: Box, colour: str) -> list[Mark]:
    (x, y, w, h), step = box, box.width / len(shown)
    most, least = max(shown.max(), 0), min(shown.min(), 0)
    scale = h / ((most - least) or np.inf)
    base = y + (most * scale if scale else h)
    points = [(x, base)]
    for k, v in enumerate(shown):
        left, right, top = x + k * step, x + (k + 0.85) * step, base - v * scale
        points += [(left, base), (left, top), (right, top), (right, base)]
    axis = path([(x, base), (x + w, base)])
    return [Shape(path(points, 0), fill=colour), Shape(axis, "line", weight=0.8)]


def _spots(name: str, a: np.ndarray, box: Box) -> list[Mark]:
    """What is said of each number, or of all where there are many."""
    if a.size > CELLS:
        cut = f"; the first {SIDE} rows and columns are shown" if max(a.shape) > SIDE else ""
        return [Shape(outline(box), title=f"{name} from {float(a.min())!r} to {float(a.max())!r}{cut}")]
    rows, columns = np.atleast_2d(a).shape
    w, h = box.width / columns, box.height / rows
    marks = []
    for at, number in np.ndenumerate(a):
        i, j = (0, *at)[-2:]
        spot = outline(Box(box.x + j * w, box.y + i * h, w, h))
        marks.append(Shape(spot, title=f"{name} {', '.join(map(str, at))}: {float(number)!r}"))
    return marks


def _arrow(points: list[Point], kind: str) -> list[Mark]:
    colour, dash, *_ = KINDS[kind]
    (x0, y0), (x, y) = points[-2:]
    far = math.dist(*points[-2:]) or 1
    dx, dy = (x - x0) / far, (y - y0) / far
    head = [(x, y), *((x - 8 * dx + s * 3.6 * dy, y - 8 * dy - s * 3.6 * dx) for s in (-1, 1))]
    line = path([*points[:-1], (x - 5 * dx, y - 5 * dy)])
    return [Shape(line, colour, "", dash, 1.2 if kind == "kept" else 1.8), Shape(path(head, 0), fill=colour)]


def outline(box: Box, rounded: float = 0) -> Path:
    """A rectangle."""
    x, y, w, h = box
    corners, top = [(x, y), (x + w, y), (x + w, y + h), (x, y + h)], (x + w / 2, y)
    return path([top, *corners[1:], corners[0], top], rounded) if rounded else path(corners, 0)


def path(points: Sequence[Point], radius: float = 7) -> Path:
    """The line through these points, round at its corners.

    >>> path([(0, 0), (0, 40), (40, 40)])
    [('M', ((0, 0),)), ('L', ((0.0, 33.0),)), ('Q', ((0, 40), (7.0, 40.0))), ('L', ((40, 40),))]
    """
    if not radius:
        return [("M", (points[0],)), ("L", tuple(points[1:]))]
    steps: Path = [("M", (points[0],))]
    for p, q, after in zip(points, points[1:], points[2:], strict=False):
        steps += [("L", (_near(q, p, radius),)), ("Q", (q, _near(q, after, radius)))]
    return [*steps, ("L", (points[-1],))]


def _near(p: Point, q: Point, far: float) -> Point:
    part = min(far / (math.dist(p, q) or 1), 0.5)
    return p[0] + part * (q[0] - p[0]), p[1] + part * (q[1] - p[1])
