"""Where the nodes of any graph stand: in layers, from what is given down to what is returned.

Graphviz's `dot` decides, through pygraphviz, whose wheels bring it along for every system that jaxlib is
for: it keeps the sizes, and lays the same graph out the same each time.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from pygraphviz import AGraph

from jaxnn.seeing.graphs.drawing import extent
from jaxnn.seeing.graphs.scene import Box, Edge, Placed, Scene

MARGIN, BESIDE = 16.0, 48.0  # around a picture, and between two
GAP, LAYERS = 24, 36  # between boxes of a layer, and between layers
LINE = (6.0, 1.0)  # what a line takes up in a layer that it crosses
INCH = 72

STRAIGHT = 1, 2, 8  # how much a line wants to be: from a box to a box, a bend, from bend to bend

Size = tuple[float, float]
Point = tuple[float, float]


def placed(scene: Scene, sizes: Sequence[Size]) -> Placed:
    """Lay out a scene without cycles; a (width, height) for each node, as from `sizes_of`.

    Lines go straight down through the layers they cross, between the boxes, and bend only between layers.

    >>> from jaxnn.seeing.graphs.scene import Node
    >>> nodes = tuple(Node(name, "forward", name, "()") for name in ("x", "exp", "sin"))
    >>> scene = Scene("two steps", nodes, (Edge("x", "exp", "forward"), Edge("exp", "sin", "forward")))
    >>> for box in placed(scene, [(60, 40), (80, 40), (60, 40)]).boxes:
    ...     print(box)
    Box(x=26.0, y=16.0, width=60, height=40)
    Box(x=16.0, y=92.0, width=80, height=40)
    Box(x=26.0, y=168.0, width=60, height=40)
    """
    number = {node.id: k for k, node in enumerate(scene.nodes)}  # the only name that dot gets to see
    lines = [(number[edge.tail], number[edge.head]) for edge in scene.edges]
    ys = [y for _, y in _dot(sizes, lines, len(sizes))]
    layers = [sorted({*ys}).index(y) for y in ys]
    taken, chains = list(sizes), []
    for tail, head in lines:
        bends = range(len(taken), len(taken) + layers[head] - layers[tail] - 1)
        chains.append((tail, *bends, head))
        taken += [LINE] * len(bends)
    # With a bend in each layer that is crossed no line can be shorter: the layers are the same again.
    spots = _dot(taken, [pair for chain in chains for pair in pairwise(chain)], len(sizes))
    left = min((x - w / 2 for (x, _), (w, _) in zip(spots, taken, strict=True)), default=0) - MARGIN
    top = min((y - h / 2 for (_, y), (_, h) in zip(spots, taken, strict=True)), default=0) - MARGIN
    spots = [(round(x - left, 1), round(y - top, 1)) for x, y in spots]
    boxes = tuple(Box(x - w / 2, y - h / 2, w, h) for (x, y), (w, h) in zip(spots, sizes, strict=False))
    half: dict[float, float] = {}  # the height of a layer, by where its middle is
    for (_, y), (_, h) in zip(spots, taken, strict=True):
        half[y] = max(h / 2, half.get(y, 0))
    routes = []
    for tail, *bends, head in chains:
        (x, y), (u, v) = spots[tail], spots[head]
        points = [(x, boxes[tail].y + boxes[tail].height), (x, y + half[y])]
        for k in bends:
            points += [(spots[k][0], spots[k][1] + side * half[spots[k][1]]) for side in (-1, 1)]
        points += [(u, v - half[v]), (u, boxes[head].y)]
        routes.append(tuple(dict.fromkeys((x, round(y, 1)) for x, y in points)))
    right = max((*(b.x + b.width for b in boxes), *(x for route in routes for x, _ in route)), default=0)
    low = max((box.y + box.height for box in boxes), default=0)
    return Placed(scene, boxes, tuple(routes), right + MARGIN, low + MARGIN)


def _dot(sizes: Sequence[Size], lines: list[tuple[int, int]], bends: int) -> list[Point]:
    """The middle of each node, y from above; those from number `bends` on are bends of lines."""
    graph: Any = AGraph(directed=True)
    graph.graph_attr.update(nodesep=GAP / INCH, ranksep=LAYERS / INCH, splines="false")
    graph.node_attr.update(shape="box", fixedsize="true", label="")
    for k, (width, height) in enumerate(sizes):
        graph.add_node(k, width=width / INCH, height=height / INCH)
    for pair in lines:
        graph.add_edge(*pair, weight=STRAIGHT[sum(k >= bends for k in pair)])
    graph.layout("dot")
    places = (graph.get_node(k).attr["pos"].split(",") for k in range(len(sizes)))
    return [(float(x), -float(y)) for x, y in places]


def sizes_of(scene: Scene) -> list[Size]:
    """What the cards of a scene take up, as they are drawn."""
    found = []
    for node in scene.nodes:
        lines = node.title.split("\n")
        wide = max(extent(node.shape, 10.5, "mono"), *(extent(line, 12, "mono") for line in lines), 32)
        found.append((round(wide + 24), round(1.45 * (12 * len(lines) + 10.5) + 12)))
    return found


def beside(left: Placed, right: Placed) -> Placed:
    """Two pictures as one, side by side."""
    shift = left.width + BESIDE
    nodes = (node._replace(id=f"{node.id}′") for node in right.scene.nodes)
    edges = (Edge(f"{edge.tail}′", f"{edge.head}′", edge.kind) for edge in right.scene.edges)
    title = f"{left.scene.title}; {right.scene.title}"
    scene = Scene(title, (*left.scene.nodes, *nodes), (*left.scene.edges, *edges))
    boxes = (box._replace(x=round(box.x + shift, 1)) for box in right.boxes)
    routes = (tuple((round(x + shift, 1), y) for x, y in route) for route in right.routes)
    width, height = shift + right.width, max(left.height, right.height)
    return Placed(scene, (*left.boxes, *boxes), (*left.routes, *routes), width, height)
