"""The compute graph of the lecture's network, of any depth, activation and loss: fixed columns, four rows."""

import math
import re
from collections.abc import Mapping

import numpy as np

from jaxnn.activations import Activation
from jaxnn.layers import Dense
from jaxnn.losses import Loss
from jaxnn.seeing import letters
from jaxnn.seeing.graphs.scene import Box, Edge, Node, Placed, Scene
from jaxnn.seeing.passes import passes

WIDE, GAP, EDGE = 180, 36, 20  # of a column
TOP = {"W": 12, "Z": 138, "dZ": 306, "dW": 456}  # of the rows
TALL = {"W": 88, "Z": 112, "dZ": 112, "dW": 106}
BIAS, BETWEEN = 60, 8  # b's part of a column, and what is between W and b
LANES = (16, 28, 40)  # of dotted lines, below the forward row


def numbers(n: tuple[int, ...], g: Activation, loss: Loss, params: list[Dense], X, Y) -> dict:
    """Every array that the graph shows, by its name in the lecture, for these examples."""
    found = passes(n, g, loss)(params, X, Y) | {"Y": Y}
    for l, (W, b) in enumerate(params, 1):
        found |= {f"W[{l}]": W, f"b[{l}]": b}
    return found


def network(
    n: tuple[int, ...],
    activation: str,
    loss: str,
    arrays: Mapping[str, np.ndarray],
    N: int | str = "N",
    marks: Mapping[str, str] | None = None,
) -> Placed:
    """The graph of the network n[0]-n[1]-...-n[L], with `arrays` from `numbers`; ids are names.

    Of Z, A, dZ and dA the first example is shown. `marks` says what is wrong with which node.

    >>> placed = network((3, 5, 2), "sigmoid", "cross_entropy", {})
    >>> print(*(node.id for node in placed.scene.nodes))
    A[0] W[1] b[1] Z[1] A[1] W[2] b[2] Z[2] A[2] Y J dZ[2] dW[2] db[2] dA[1] dZ[1] dW[1] db[1]
    >>> next(node for node in placed.scene.nodes if node.id == "dA[1]")[:5]
    ('dA[1]', 'backward', 'dA[1]', '(N, 5)', 'dZ[2] W[2]')
    """
    L, marks = len(n) - 1, marks or {}
    said = {"J": letters.cost(loss)}
    for l in range(1, L + 1):
        said |= letters.equations(l, L, activation, loss)

    def node(name: str, kind: str, shape: tuple) -> Node:
        also = {"A[0]": " = X", f"A[{L}]": " = Ŷ"}.get(name, "")
        value = _shown(name, n, arrays[name]) if name in arrays else None
        shape_said = f"({', '.join(map(str, shape))})"
        return Node(name, kind, name + also, shape_said, said.get(name, ""), value, mark=marks.get(name, ""))

    nodes = [node("A[0]", "input", (N, n[0]))]
    for l in range(1, L + 1):
        nodes += [node(f"W[{l}]", "parameter", (n[l], n[l - 1])), node(f"b[{l}]", "parameter", (n[l], 1))]
        nodes += [node(f"{name}[{l}]", "forward", (N, n[l])) for name in "ZA"]
    nodes += [node("Y", "input", (N, n[L])), node("J", "loss", ())]
    for l in range(L, 0, -1):
        nodes += [node(f"dA[{l}]", "backward", (N, n[l]))] if l < L else []
        nodes += [node(f"dZ[{l}]", "backward", (N, n[l])), node(f"dW[{l}]", "gradient", (n[l], n[l - 1]))]
        nodes.append(node(f"db[{l}]", "gradient", (n[l], 1)))
    title = f"{'-'.join(map(str, n))}, {activation}, {loss.replace('_', ' ')}"
    edges = [edge for head in nodes for edge in _edges(head, L)]
    boxes = {v.id: _box(v.id, L) for v in nodes}
    routes = tuple(_route(edge, boxes) for edge in edges)
    width, height = 2 * EDGE + (2 * L + 2) * (WIDE + GAP) - GAP, TOP["dW"] + TALL["dW"] + 12
    return Placed(
        Scene(title, tuple(nodes), tuple(edges), True), tuple(boxes.values()), routes, width, height
    )


def _shown(name: str, n: tuple[int, ...], array) -> np.ndarray:
    """A matrix or, where its rows belong to images, a list of those; the first example's row; a number."""
    a, side = np.asarray(array), math.isqrt(n[0])
    square = side > 1 and side * side == n[0]
    if name in ("W[1]", "dW[1]") and square:
        return a.reshape(-1, side, side)
    if name == "A[0]" and square:
        return a[0].reshape(side, side)
    if re.match("d?b", name):
        return a[:, 0]
    return a if name == "J" or "W" in name else a[0]


def _edges(head: Node, L: int) -> list[Edge]:
    """What a node is computed from, as its equation has it."""
    equation = head.equation.replace("Ŷ", f"A[{L}]")
    tails = list(dict.fromkeys(re.findall(r"d?[A-Zb]\[\d+\]|\bY\b", equation)))
    if head.id == "J":
        return [Edge(f"A[{L}]", "J", "forward"), Edge("Y", "J", "forward")]
    back = head.id.startswith("d")
    if head.id == f"dZ[{L}]":
        tails = ["J", *tails]
    kinds = {"W": "parameter", "b": "parameter"}
    own = "gradient" if head.kind == "gradient" else "backward"
    return [
        Edge(t, head.id, (own if t[0] in "dJ" else "kept") if back else kinds.get(t[0], "forward"))
        for t in tails
    ]


def _layer(name: str, L: int) -> tuple[str, int]:
    found = re.fullmatch(r"(\w+)\[(\d+)\]", name)
    return (found[1], int(found[2])) if found else (name, L + 1)


def _box(name: str, L: int) -> Box:
    letter, l = _layer(name, L)
    column = 2 * l - (letter[-1] != "A")
    row = {"Y": "W", "b": "W", "A": "Z", "J": "Z", "dA": "dZ", "db": "dW"}.get(letter, letter)
    x, width = EDGE + column * (WIDE + GAP), WIDE
    if letter[-1] == "W":
        width = WIDE - BIAS - BETWEEN
    elif letter[-1] == "b":
        x, width = x + WIDE - BIAS, BIAS
    return Box(x, TOP[row], width, TALL[row])


def _route(edge: Edge, boxes: Mapping[str, Box]) -> tuple[tuple[float, float], ...]:
    p, q = boxes[edge.tail], boxes[edge.head]
    pm, qm = p.y + p.height / 2, q.y + q.height / 2
    if p.y == q.y:
        return ((p.x + p.width, pm), (q.x, qm)) if p.x < q.x else ((p.x, pm), (q.x + q.width, qm))
    if edge.kind != "kept":
        if q.x + q.width < p.x:  # J and dZ[L]
            x = p.x + p.width / 2
            return (x, p.y + p.height), (x, qm), (q.x + q.width, qm)
        narrow = min(p, q, key=lambda box: box.width)
        x = narrow.x + narrow.width / 2
        return (x, p.y + p.height), (x, q.y)
    high, middle, low = (TOP["Z"] + TALL["Z"] + lane for lane in LANES)
    if p.y == TOP["W"]:  # W[l] and dA[l-1], Y and dZ[L]
        x, to = p.x - 24, q.x + q.width - 48
        return (p.x, pm), (x, pm), (x, middle), (to, middle), (to, q.y)
    if q.y == TOP["dW"]:  # A[l-1] and dW[l]
        x, start = q.x - 12, p.x + p.width - 24
        return (start, p.y + p.height), (start, low), (x, low), (x, qm), (q.x, qm)
    if p.x == q.x:  # Z[l] and dZ[l]
        return (p.x + p.width / 2, p.y + p.height), (p.x + p.width / 2, q.y)
    start, to = p.x + 24, q.x + q.width - 24
    return (start, p.y + p.height), (start, high), (to, high), (to, q.y)
