"""A placed scene as plain marks, in the order in which a pen draws them. Pens know marks, and no scenes."""

import math
import re
import textwrap
from typing import NamedTuple

import numpy as np

from jaxnn.seeing.colours import LESS, MORE, NONE
from jaxnn.seeing.graphs.scene import Box, Node, Placed

Point = tuple[float, float]
Path = list[tuple[str, tuple[Point, ...]]]  # M, L and Q of an SVG, with their points


class Shape(NamedTuple):
    """A line or an area, each in a colour or not to be seen; title: what is said to one who points at it."""

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
    "forward": ("forward", "solid", 4, "solid: forward"),
    "loss": ("forward", "solid", 22, ""),
    "backward": ("backward", "dashed", 4, "dashed: backward"),
    "input": ("muted", "solid", 14, "round: given"),
    "parameter": ("parameter", "solid", 14, "round and green: parameters"),
    "gradient": ("parameter", "dashed", 14, "their gradients"),
    "kept": ("kept", "dotted", 4, "dotted: kept for the way back"),
}
MARGIN, CELLS, BARS, SIDE = 20, 200, 64, 32  # at most so many to point at, bars, rows and columns
NO_TEXT = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # in XML


def drawing(placed: Placed) -> tuple[list[Mark], float, float]:
    """The marks of a scene, under its title and above what lines and colours mean; width and height."""
    scene, width, y, marks = placed.scene, max(placed.width, 360), MARGIN, []
    for line in wrapped(scene.title, 15, width - 2 * MARGIN, "bold"):
        y += 19
        marks.append(Words((MARGIN, y - 5), line, 15, font="bold"))
    for edge, route in zip(scene.edges, placed.routes, strict=True):
        marks += _arrow([(p, q + y) for p, q in route], edge.kind)
    for node, box in zip(scene.nodes, placed.boxes, strict=True):
        marks += _card(node, box._replace(y=box.y + y), scene.letters)
    x, y = MARGIN, y + placed.height + 16
    there = {part.kind for part in (*scene.nodes, *scene.edges)}
    meant = [(KINDS[kind][:2], KINDS[kind][3]) for kind in KINDS if kind in there and KINDS[kind][3]]
    for line, said in meant + [(("text", "solid"), "thick: results")] * any(v.output for v in scene.nodes):
        if x > MARGIN and x + 32 + extent(said, 11) > width - MARGIN:
            x, y = MARGIN, y + 18
        marks.append(Shape(path([(x, y - 4), (x + 26, y - 4)]), line[0], "", line[1], 2))
        marks.append(Words((x + 32, y), said, 11, "muted"))
        x += 48 + extent(said, 11)
    for node in scene.nodes:
        for line in wrapped(f"✗ {node.title}: {node.mark}", 12, width - 2 * MARGIN) if node.mark else []:
            y += 19
            marks.append(Words((MARGIN, y), line, 12, "wrong", letters=scene.letters))
    return marks, width, y + MARGIN


def extent(text: str, size: float, font: str = "plain") -> float:
    """About the width of a text."""
    return size * {"plain": 0.58, "bold": 0.66, "mono": 0.605}[font] * sum(1 + (c > "\u2e7f") for c in text)


def wrapped(text: str, size: float, width: float, font: str = "plain") -> list[str]:
    """The lines of a text that is not to be wider."""
    return textwrap.wrap(text, max(8, int(width / extent("x", size, font))))


def needs(node: Node) -> tuple[float, float]:
    """Width and height of a frame in which a node without numbers is written at full size."""
    lines = _lines(node, False, 9999)
    return max(extent(*line) for line in lines) + 20, 1.45 * sum(size for _, size, _ in lines) + 12


def _lines(node: Node, letters: bool, width: float) -> list[tuple[str, float, str]]:
    lines = [(line, 14 if letters else 12, "bold" if letters else "mono") for line in node.title.split("\n")]
    lines += [(node.shape, 10.5, "mono")] * bool(node.shape)
    return lines + [(line, 11.5, "plain") for line in wrapped(node.equation, 11.5, width)]


def _card(node: Node, box: Box, letters: bool) -> list[Mark]:
    colour, dash, rounded, _ = KINDS[node.kind]
    (x, y, w, h), middle = box, box.x + box.width / 2
    frame = outline(box, rounded), "wrong" if node.mark else colour, "card", dash
    marks: list[Mark] = [Shape(*frame, 3.2 if node.output or node.mark else 1.5, node.note)]
    lines = _lines(node, letters, w - 12)
    tall = 1.45 * sum(size for _, size, _ in lines)
    shrink = min(1, (h - 6) / tall)
    y += 5 if node.value is not None else (h - shrink * tall) / 2
    for text, size, font in lines:
        y += shrink * 1.45 * size
        ink = "muted" if size == 10.5 else "text"
        size *= min(shrink, (w - 12) / max(extent(text, size, font), 1))
        marks.append(Words((middle, y - 0.45 * size), text, size, ink, font, True, letters))
    if node.value is not None and box.y + h - y >= 24:
        marks += _figure(node, np.asarray(node.value, float), Box(x + 10, y + 4, w - 20, box.y + h - y - 12))
    marks += [Words((middle, box.y + h + 12), "never used", 10.5, "muted", "bold", True)] * node.unused
    badge = Shape(outline(Box(x + w - 10, box.y - 10, 20, 20), 10), fill="wrong")
    sign = Words((x + w, box.y + 5), "✗", 13, "ground", "bold", True)
    return marks + [badge, sign] * bool(node.mark)


def _figure(node: Node, a: np.ndarray, box: Box) -> list[Mark]:
    """A number as it is, a vector as bars, a matrix as an image, some of a list of matrices.

    What is not finite can be pointed at, as all numbers can, and is drawn as zero.
    """
    x, y, w, h = box
    spots, shown = [], np.nan_to_num(a, nan=0, posinf=0, neginf=0)
    if a.ndim == 0:
        at, number = (x + w / 2, y + h / 2 + 6), f"{a:.4f}" if abs(a) < 1e4 else f"{a:.4g}"
        marks, spots = [Words(at, number, 16, font="bold", middle=True)], [(box, f" = {float(a)!r}")]
    elif a.ndim == 1:
        step = (w - 10 * (a.size > BARS)) / min(a.size, BARS)
        marks = _bars(shown[:BARS], step, box, KINDS[node.kind][0])
        marks += [Words((x + w, y + h - 2), "…", 12, "muted", middle=True)] * (a.size > BARS)
        spots = [(Box(x + k * step, y, step, h), f" {k}: {float(v)!r}") for k, v in enumerate(a[:BARS])]
    else:
        images, (rows, columns), marks = a[:3] if a.ndim == 3 else a[None], a.shape[-2:], []
        wide, high = [min(h, (w - 8) / 3)] * 2 if a.ndim == 3 else (min(w, h * max(1, columns / rows)), h)
        x += (w - len(images) * (wide + 4) + 4) / 2
        for k, image in enumerate(images):
            tile = Box(x + k * (wide + 4), y + (h - high) / 2, wide, high)
            t = shown.reshape(-1, rows, columns)[k, :SIDE, :SIDE] / (np.abs(shown).max() or 1)
            marks.append(Picture(tile, _pixels(t, node.kind == "input")))
            spots += _cells(image, tile, f" {k}, " if a.ndim == 3 else " ")
    return marks + [Shape(outline(spot), title=node.title + said) for spot, said in spots]


def _bars(shown: np.ndarray, step: float, box: Box, colour: str) -> list[Mark]:
    x, y, _, h = box
    most, least = max(shown.max(), 0), min(shown.min(), 0)
    scale = h / (most - least) if most > least else 0
    base = y + (most * scale if scale else h)
    points = [(x, base)]
    for k, v in enumerate(shown):
        left, right, top = x + k * step, x + (k + 0.85) * step, base - v * scale
        points += [(left, base), (left, top), (right, top), (right, base)]
    axis = path([(x, base), (x + step * len(shown), base)])
    return [Shape(path(points, 0), fill=colour), Shape(axis, "line", weight=0.8)]


def _pixels(t: np.ndarray, grey: bool) -> np.ndarray:
    """In grey from 0 to 1, or in the colours of −1, 0 and 1; few of them, for a small file."""
    black, white = np.zeros(3), np.full(3, 255)
    least, none, most = (black, black, white) if grey else (LESS, NONE, MORE)
    t = np.round(t[..., None] * 60) / 60
    return (none + (np.where(t < 0, least, most) - none) * np.abs(t)).round().astype(np.uint8)


def _cells(a: np.ndarray, box: Box, which: str) -> list[tuple[Box, str]]:
    """What is said of an image: of each cell, or of all where there are many."""
    if a.size > CELLS:
        cut = f"; the first {SIDE} rows and columns are shown" if max(a.shape) > SIDE else ""
        return [(box, f"{which}from {float(a.min())!r} to {float(a.max())!r}{cut}")]
    (x, y, _, _), w, h = box, box.width / a.shape[1], box.height / a.shape[0]
    return [
        (Box(x + j * w, y + i * h, w, h), f"{which}{i}, {j}: {float(v)!r}") for (i, j), v in np.ndenumerate(a)
    ]


def _arrow(points: list[Point], kind: str) -> list[Mark]:
    colour, dash, *_ = KINDS[kind]
    (x0, y0), (x, y) = points[-2:]
    far = math.hypot(x - x0, y - y0) or 1
    dx, dy = (x - x0) / far, (y - y0) / far
    head = [(x, y), *((x - 8 * dx + s * 3.6 * dy, y - 8 * dy - s * 3.6 * dx) for s in (-1, 1))]
    line = path([*points[:-1], (x - 5 * dx, y - 5 * dy)])
    return [Shape(line, colour, "", dash, 1.2 if kind == "kept" else 1.8), Shape(path(head), fill=colour)]


def outline(box: Box, rounded: float = 0) -> Path:
    """A rectangle."""
    x, y, w, h = box
    corners = [(x, y), (x + w, y), (x + w, y + h), (x, y + h)]
    half = (x + w / 2, y)
    return path([half, *corners[1:], corners[0], half], rounded) if rounded else path(corners, 0)


def path(points: list[Point], radius: float = 7) -> Path:
    """The line through these points, round where it turns from level to upright or back.

    >>> [step for step, _ in path([(0, 0), (0, 40), (40, 40), (60, 80)])]
    ['M', 'L', 'Q', 'L', 'L']
    """
    steps: Path = [("M", (points[0],))]
    for p, q, after in zip(points, points[1:], [*points[2:], points[-1]], strict=False):
        (dx, dy), (ex, ey) = (q[0] - p[0], q[1] - p[1]), (after[0] - q[0], after[1] - q[1])
        r = min(radius, abs(dx + dy) / 2, abs(ex + ey) / 2)
        if r and ((dx == 0 == ey) or (dy == 0 == ex)):
            start = q[0] - r * np.sign(dx), q[1] - r * np.sign(dy)
            steps += [("L", (start,)), ("Q", (q, (q[0] + r * np.sign(ex), q[1] + r * np.sign(ey))))]
        else:
            steps.append(("L", (q,)))
    return steps
