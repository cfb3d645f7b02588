"""A placed scene as plain marks, in the order in which a pen draws them. Pens know marks, and no scenes."""

import re
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from jaxnn.seeing.colours import LESS, MORE, NONE
from jaxnn.seeing.graphs.scene import Box, Node, Placed, Scene

Point = tuple[float, float]
Path = list[tuple[str, tuple[Point, ...]]]  # M, L, Q, C and Z of an SVG, with their points


class Rectangle(NamedTuple):
    """A node's frame; `title` is what is said where one points at it."""

    box: Box
    rounded: float
    colour: str
    dash: str
    weight: float
    fill: str
    title: str


class Words(NamedTuple):
    """A line of text on its baseline; font: plain, bold or mono. Of `letters` [1] is raised."""

    at: Point
    text: str
    size: float
    colour: str = "text"
    font: str = "plain"
    middle: bool = False
    letters: bool = False


class Stroke(NamedTuple):
    """A line; dash: solid, dashed or dotted."""

    path: Path
    colour: str
    dash: str
    weight: float


class Shape(NamedTuple):
    """An area in one colour."""

    path: Path
    colour: str


class Picture(NamedTuple):
    """A cell for each of the pixels (height, width, 3)."""

    box: Box
    pixels: np.ndarray


class Spot(NamedTuple):
    """Nothing to see: what is said where one points at it."""

    box: Box
    title: str


Mark = Rectangle | Words | Stroke | Shape | Picture | Spot


class Drawing(NamedTuple):
    """What a pen needs."""

    title: str
    description: str
    width: float
    height: float
    marks: list[Mark]


# kind: (colour, dash, rounding of a node's corners, in the legend)
KINDS = {
    "forward": ("forward", "solid", 4, "solid: forward"),
    "loss": ("forward", "solid", 22, ""),
    "backward": ("backward", "dashed", 4, "dashed: backward"),
    "input": ("muted", "solid", 14, "round: given"),
    "parameter": ("parameter", "solid", 14, "round and green: parameters"),
    "gradient": ("parameter", "dashed", 14, "their gradients"),
    "kept": ("kept", "dotted", 4, "dotted: kept for the way back"),
}
MARGIN, CELLS, BARS, SIDE = 20, 200, 128, 64
NARROW, BROAD = set(" .,:;|!'`()[]{}/\\-ijltfrI1ᵀ′"), set("mwMW@%⊙−+=<>∂Σ—…")


def drawing(placed: Placed) -> Drawing:
    """The marks of a scene, under its title and above what its colours and lines mean."""
    scene, width = placed.scene, max(placed.width, 360)
    marks: list[Mark] = []
    y = MARGIN
    for line in wrapped(scene.title, 15, "bold", width - 2 * MARGIN):
        y += 19
        marks.append(Words((MARGIN, y - 5), line, 15, font="bold"))
    boxes = {n.id: b._replace(y=b.y + y) for n, b in zip(scene.nodes, placed.boxes, strict=True)}
    for edge, route in zip(scene.edges, placed.routes, strict=True):
        marks += _arrow([(p, q + y) for p, q in route], edge.kind)
    for node in scene.nodes:
        marks += _card(node, boxes[node.id], scene.letters)
    below, height = _legend(scene, width, y + placed.height)
    return Drawing(f"Compute graph: {scene.title}", description(scene), width, height, marks + below)


def description(scene: Scene) -> str:
    """The scene in words, a sentence for each node."""
    said = {n.id: n.title for n in scene.nodes}

    def sentence(node: Node) -> str:
        tails = ", ".join(said[e.tail] for e in scene.edges if e.head == node.id)
        words = [node.title + (f" = {node.equation}" if node.equation else ""), node.shape]
        words += [f"from {tails}" if tails else "", "result" if node.output else ""]
        words += ["never used" if node.unused else "", f"✗ {node.mark}" if node.mark else ""]
        return ", ".join(filter(None, words))

    return "; ".join(map(sentence, scene.nodes)) + "."


def needs(node: Node) -> tuple[float, float]:
    """Width and height of a box in which a node's text is not made smaller.

    >>> needs(Node("a", "forward", "Z = X @ W.T", "(32, 17)"))[1]
    44
    """
    widths = [extent(text, size, font) for text, size, font, _ in _text(node, letters=False)]
    return max(56, max(widths) + 20), 8 + 18 * len(widths)


def extent(text: str, size: float, font: str = "plain") -> float:
    """About the width of a text, rather too large than too small."""
    if font == "mono":
        return size * sum(0.605 if ord(c) < 0x2E80 else 1.21 for c in text)
    ems = (
        0.4 if c in NARROW else 0.95 if c in BROAD else 0.64 if c.islower() or c.isdigit() else 0.74
        for c in text
    )
    return size * (1.1 if font == "bold" else 1) * sum(ems)


def wrapped(text: str, size: float, font: str, width: float) -> list[str]:
    """The lines of a text, broken where it has spaces."""
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if lines[-1] and extent(re.sub(r"\[(\d+)\]", r"\1", longer), size, font) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _text(node: Node, letters: bool) -> list[tuple[str, float, str, str]]:
    below = " · ".join(filter(None, (node.shape, "never used" if node.unused else "")))
    title = (node.title, 14, "bold", "text") if letters else (node.title, 12, "mono", "text")
    return [title, *([(below, 10.5, "mono", "muted")] if below else [])]


def _card(node: Node, box: Box, letters: bool) -> list[Mark]:
    colour, dash, rounded, _ = KINDS[node.kind]
    if node.mark:
        colour = "wrong"
    title = node.note or (
        f"{node.title} = {float(node.value)!r}" if np.ndim(node.value) == 0 and node.value is not None else ""
    )
    marks: list[Mark] = [
        Rectangle(box, rounded, colour, dash, 3.2 if node.output or node.mark else 1.5, "card", title)
    ]
    lines, room = _text(node, letters), box.width - 12
    lines += [(line, 11.5, "plain", "text") for line in wrapped(node.equation, 11.5, "plain", room) if line]
    heights = [size * 1.45 for _, size, *_ in lines]
    shrink = min(1, (box.height - 6) / sum(heights))
    y = box.y + (5 if node.value is not None else (box.height - shrink * sum(heights)) / 2)
    for (text, size, font, ink), height in zip(lines, heights, strict=True):
        plain = re.sub(r"\[(\d+)\]", r"\1", text) if letters else text
        size = shrink * size * min(1, room / max(shrink * extent(plain, size, font), 1))
        y += shrink * height
        at = box.x + box.width / 2, y - 0.33 * shrink * height
        marks.append(Words(at, text, size, ink, font, True, letters))
    left = box.y + box.height - 8 - (y + 4)
    if node.value is not None and left >= 12:
        marks += _figure(node, np.asarray(node.value, float), Box(box.x + 10, y + 4, box.width - 20, left))
    if node.mark:
        marks.append(Words((box.x + box.width - 12, box.y + 15), "✗", 15, "wrong", "bold", True))
    return marks


def _figure(node: Node, a: np.ndarray, box: Box) -> list[Mark]:
    """A number as it is, a vector as bars, a matrix as an image, some of a list of matrices."""
    x, y, w, h = box
    if a.ndim == 0:
        number = f"{a:.4f}" if abs(a) < 1e4 else f"{a:.4g}"
        return [Words((x + w / 2, y + h / 2 + 6), number, 16, font="bold", middle=True)]
    if a.ndim == 1:
        return _bars(node, a, box)
    if a.ndim == 2:
        return _image(node, a, box, "")
    side = min(h, (w - 8) / 3, w)
    first = x + (w - min(len(a), 3) * (side + 4) + 4) / 2
    tiles = [Box(first + k * (side + 4), y + (h - side) / 2, side, side) for k in range(min(len(a), 3))]
    return [m for k, tile in enumerate(tiles) for m in _image(node, a[k], tile, f"{k}, ", np.abs(a).max())]


def _bars(node: Node, a: np.ndarray, box: Box) -> list[Mark]:
    x, y, w, h = box
    shown = np.nan_to_num(a[:BARS])
    step = (w - (10 if a.size > BARS else 0)) / len(shown)
    most, least = max(shown.max(), 0), min(shown.min(), 0)
    scale = h / ((most - least) or 1)
    base = y + (most * scale if most > least else h)
    bar = max(step - 1, 0.7 * step)
    path = [
        part
        for k, v in enumerate(shown)
        for part in _area(Box(x + k * step, base - v * scale, bar, v * scale))
    ]
    marks: list[Mark] = [
        Shape(path, KINDS[node.kind][0]),
        Stroke([("M", ((x, base),)), ("L", ((x + step * len(shown), base),))], "line", "solid", 0.8),
    ]
    if a.size > BARS:
        marks.append(Words((x + w, base - 2), "…", 12, "muted", middle=True))
    return marks + [
        Spot(Box(x + k * step, y, step, h), f"{node.title} {k}: {float(a[k])!r}") for k in range(len(shown))
    ]


def _area(box: Box) -> Path:
    x, y, w, h = box
    return [("M", ((x, y),)), *(("L", (p,)) for p in ((x + w, y), (x + w, y + h), (x, y + h))), ("Z", ())]


def _image(node: Node, a: np.ndarray, box: Box, which: str, scale: float = 0) -> list[Mark]:
    shown = np.nan_to_num(a[:SIDE, :SIDE])
    t = shown / (scale or np.abs(a).max() or 1)
    if node.kind == "input":
        pixels = np.repeat(np.clip(t, 0, 1)[..., None], 3, axis=2) * 255
    else:
        to = np.where(t[..., None] < 0, LESS, MORE)
        pixels = NONE + (to - NONE) * np.minimum(np.abs(t), 1)[..., None]
    rows, columns = shown.shape
    cell = min(box.width / columns, box.height / rows)
    w, h = (cell * columns, cell * rows) if a.shape == shown.shape else (box.width, box.height)
    if max(w / box.width, h / box.height) < 1 or w < 0.3 * box.width:
        w = min(box.width, max(w, h))
    box = Box(box.x + (box.width - w) / 2, box.y + (box.height - h) / 2, w, h)
    marks: list[Mark] = [Picture(box, pixels.round().astype(np.uint8))]
    if a.size > CELLS:
        cut = "" if a.shape == shown.shape else f" (the first {rows} by {columns} are shown)"
        said = f"{node.title} {which}least {float(a.min())!r}, greatest {float(a.max())!r}{cut}"
        return [*marks, Spot(box, said)]
    w, h = box.width / columns, box.height / rows
    return marks + [
        Spot(Box(box.x + j * w, box.y + i * h, w, h), f"{node.title} {which}{i}, {j}: {float(a[i, j])!r}")
        for i in range(rows)
        for j in range(columns)
    ]


def _arrow(points: list[Point], kind: str) -> list[Mark]:
    colour, dash, *_ = KINDS[kind]
    (x0, y0), (x, y) = points[-2:]
    dx, dy = (np.sign(x - x0), 0) if y == y0 else (0, np.sign(y - y0))  # a curve comes in upright
    tip = [(x, y), *((x - 8 * dx + s * 3.6 * dy, y - 8 * dy + s * 3.6 * dx) for s in (-1, 1))]
    head: Path = [("M", (tip[0],)), ("L", (tip[1],)), ("L", (tip[2],)), ("Z", ())]
    line = path([*points[:-1], (x - 5 * dx, y - 5 * dy)])
    return [Stroke(line, colour, dash, 1.2 if kind == "kept" else 1.8), Shape(head, colour)]


def path(points: list[Point], radius: float = 7) -> Path:
    """The line through these points: with round corners where it is level and upright, and else in curves.

    >>> [step for step, _ in path([(0, 0), (0, 40), (40, 40), (60, 80)])]
    ['M', 'L', 'Q', 'L', 'C']
    """
    steps: Path = [("M", (points[0],))]
    level = [p[0] == q[0] or p[1] == q[1] for p, q in pairwise(points)]
    for i, (p, q) in enumerate(pairwise(points)):
        if not level[i]:
            half = (p[1] + q[1]) / 2
            steps.append(("C", ((p[0], half), (q[0], half), q)))
        elif i + 1 < len(level) and level[i + 1]:
            steps += [("L", (_near(q, p, radius),)), ("Q", (q, _near(q, points[i + 2], radius)))]
        else:
            steps.append(("L", (q,)))
    return steps


def _near(corner: Point, other: Point, radius: float) -> Point:
    dx, dy = other[0] - corner[0], other[1] - corner[1]
    part = min(0.5, radius / max(abs(dx) + abs(dy), 1e-9))
    return corner[0] + part * dx, corner[1] + part * dy


def _legend(scene: Scene, width: float, y: float) -> tuple[list[Mark], float]:
    """What is below the scene, and where it ends: what lines and frames mean, and what is wrong."""
    there = {n.kind for n in scene.nodes} | {e.kind for e in scene.edges}
    entries = [(kind[:2], said) for name, kind in KINDS.items() if name in there and (said := kind[3])]
    if any(n.output for n in scene.nodes):
        entries.append((("", ""), "thick: results"))
    marks: list[Mark] = []
    x = MARGIN
    y += 14
    for (colour, dash), said in entries:
        wide = extent(said, 11) + (32 if colour else 0)
        if x > MARGIN and x + wide > width - MARGIN:
            x, y = MARGIN, y + 18
        if colour:
            marks.append(Stroke([("M", ((x, y - 4),)), ("L", ((x + 26, y - 4),))], colour, dash, 2))
        marks.append(Words((x + (32 if colour else 0), y), said, 11, "muted"))
        x += wide + 16
    for node in scene.nodes:
        for line in (
            wrapped(f"✗ {node.title}: {node.mark}", 12, "plain", width - 2 * MARGIN) if node.mark else ()
        ):
            y += 19
            marks.append(Words((MARGIN, y), line, 12, "wrong", letters=scene.letters))
    return marks, y + MARGIN
