"""Where the nodes of any graph stand: in layers, from what is given down to what is returned.

Graphviz's `dot` decides; the wheels of pygraphviz bring it along for every system that jaxlib is for.
"""

from collections.abc import Sequence
from typing import Any

from pygraphviz import AGraph

from jaxnn.seeing.graphs.drawing import extent
from jaxnn.seeing.graphs.scene import Box, Edge, Placed, Scene

MARGIN, BESIDE = 16.0, 48.0  # around a picture, and between two
GAP, LAYERS = 24, 36  # between boxes of a layer, and between layers
INCH = 72

Size = tuple[float, float]


def placed(scene: Scene, sizes: Sequence[Size]) -> Placed:
    """Lay out a scene without cycles; a (width, height) for each node, as from `sizes_of`.

    >>> from jaxnn.seeing.graphs.scene import Node
    >>> nodes = tuple(Node(name, "forward", name, "()") for name in ("x", "exp", "sin"))
    >>> scene = Scene("two steps", nodes, (Edge("x", "exp", "forward"), Edge("exp", "sin", "forward")))
    >>> for box in placed(scene, [(60, 40), (80, 40), (60, 40)]).boxes:
    ...     print(box)
    Box(x=26.0, y=16.0, width=60, height=40)
    Box(x=16.0, y=92.0, width=80, height=40)
    Box(x=26.0, y=168.0, width=60, height=40)
    """
    graph: Any = AGraph(directed=True)
    graph.graph_attr.update(nodesep=GAP / INCH, ranksep=LAYERS / INCH, splines="polyline")
    graph.graph_attr.update(nslimit=1, nslimit1=1)  # rounds: enough, where many lines cross many layers
    graph.node_attr.update(shape="box", fixedsize="true", label="")
    graph.edge_attr.update(tailport="s", headport="n", arrowhead="none")
    for k, (w, h) in enumerate(sizes):
        graph.add_node(k, width=w / INCH, height=h / INCH)
    number = {node.id: k for k, node in enumerate(scene.nodes)}  # the only name that dot gets to see
    lines = [(number[edge.tail], number[edge.head]) for edge in scene.edges]
    graph.add_edges_from(lines)
    graph.layout("dot")
    width, height = map(float, graph.graph_attr["bb"].split(",")[2:])

    def points(part) -> list[tuple[float, float]]:
        places = (place.split(",") for place in part.attr["pos"].split())
        return [(float(x) + MARGIN, round(height - float(y) + MARGIN, 1)) for x, y in places]

    boxes = []
    for k, (w, h) in enumerate(sizes):
        ((x, y),) = points(graph.get_node(k))
        boxes.append(Box(x - w / 2, y - h / 2, w, h))
    routes = []
    for tail, head in lines:
        (x, y, w, h), (u, v, wide, _) = boxes[tail], boxes[head]
        bends = points(graph.get_edge(tail, head))[3:-1:3]  # those between say that it is straight
        routes.append(((x + w / 2, y + h), *dict.fromkeys(bends), (u + wide / 2, v)))
    return Placed(scene, tuple(boxes), tuple(routes), width + 2 * MARGIN, height + 2 * MARGIN)


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
    boxes = (box._replace(x=box.x + shift) for box in right.boxes)
    routes = (tuple((x + shift, y) for x, y in route) for route in right.routes)
    width, height = shift + right.width, max(left.height, right.height)
    return Placed(scene, (*left.boxes, *boxes), (*left.routes, *routes), width, height)
