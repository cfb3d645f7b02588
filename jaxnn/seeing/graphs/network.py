"""The compute graph of the lecture's network, of any depth, activation and loss: fixed columns, four rows."""

import math
import re
from collections.abc import Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn import letters
from jaxnn.activations import Activation
from jaxnn.datasets import Dataset
from jaxnn.encoding import inputs, targets
from jaxnn.gradcheck.jaxprs.by_numpy import by_numpy
from jaxnn.layers import Dense
from jaxnn.losses import Loss
from jaxnn.passes import passes
from jaxnn.seeing.graphs.scene import Box, Edge, Node, Placed, Scene

# letter: (kind, its box), in layer 1
PLACES = {
    "W": ("parameter", Box(236, 12, 112, 88)),
    "b": ("parameter", Box(356, 12, 60, 88)),
    "Z": ("forward", Box(236, 138, 180, 112)),
    "A": ("forward", Box(452, 138, 180, 112)),
    "Y": ("input", Box(236, 12, 150, 88)),
    "J": ("loss", Box(236, 138, 150, 112)),
    "dA": ("backward", Box(452, 306, 180, 112)),
    "dZ": ("backward", Box(236, 306, 180, 112)),
    "dW": ("gradient", Box(236, 456, 112, 106)),
    "db": ("gradient", Box(356, 456, 60, 106)),
}
LAYER, HIGH, MIDDLE, LOW = 432, 266, 278, 290  # from a layer to the next one; dotted lines between rows


def numbers(n: tuple[int, ...], g: Activation, loss: Loss, params: list[Dense], X, Y) -> dict:
    """Every array that the graph shows, by its name in the lecture, for these examples."""
    given = {f"W[{l}]": p.W for l, p in enumerate(params, 1)} | {"Y": Y}
    given |= {f"b[{l}]": p.b for l, p in enumerate(params, 1)}
    return passes(n, g, loss)(params, X, Y) | given


def network(
    n: tuple[int, ...], activation: str, loss: str, arrays: Mapping, N: int | str = "N", marks: Mapping = {}
) -> Placed:
    """The graph of the network n[0]-n[1]-...-n[L], with the arrays from `numbers`; ids are names.

    Of Z, A, dZ and dA the first example is shown. `marks` says what is wrong with which node.

    >>> placed = network((3, 5, 2), "sigmoid", "cross_entropy", {})
    >>> print(*(node.id for node in placed.scene.nodes))
    A[0] W[1] b[1] Z[1] A[1] W[2] b[2] Z[2] A[2] Y J dZ[2] dW[2] db[2] dA[1] dZ[1] dW[1] db[1]
    >>> next(node for node in placed.scene.nodes if node.id == "dA[1]")[:5]
    ('dA[1]', 'backward', 'dA[1]', '(N, 5)', 'dZ[2] W[2]')
    """
    L, nodes, boxes = len(n) - 1, [], {}
    said, also = {"J": letters.cost(loss)}, {"A[0]": " = X", f"A[{L}]": " = Ŷ"}
    for l in range(1, L + 1):
        said |= letters.equations(l, L, activation, loss)
    names = ["A[0]", *(f"{letter}[{l}]" for l in range(1, L + 1) for letter in "WbZA"), "Y", "J"]
    names += [f"d{letter}[{l}]" for l in range(L, 0, -1) for letter in "AZWb" if (letter, l) != ("A", L)]
    for name in names:
        letter, _, number = name.rstrip("]").partition("[")
        l = int(number or L + 1)
        (kind, box), size, mark = PLACES[letter], n[min(l, L)], marks.get(name, "")
        shapes = {"W": f"({size}, {n[l - 1]})", "b": f"({size}, 1)", "J": "()"}
        value = _shown(name, n[0], np.asarray(arrays[name])) if name in arrays else None
        whole = name + also.get(name, ""), shapes.get(letter[-1], f"({N}, {size})"), said.get(name, "")
        nodes.append(Node(name, kind if l else "input", *whole, value, mark=mark))
        boxes[name] = box._replace(x=box.x + LAYER * (l - 1))
    edges = tuple(edge for node in nodes for edge in _edges(node, L))
    scene = Scene(f"{'-'.join(map(str, n))}, {activation}, {loss}", tuple(nodes), edges, True)
    routes = tuple(_route(edge, boxes[edge.tail], boxes[edge.head]) for edge in edges)
    return Placed(scene, tuple(boxes.values()), routes, 406 + LAYER * L, 574)


def of_image(
    n: tuple[int, ...], names: tuple[str, str], g: Activation, loss: Loss, params, data: Dataset, i: int
) -> Placed:
    """The graph of a network with its numbers for a test image, in float64; names: of g and of the loss."""
    image, label = (jnp.asarray(array[i : i + 1]) for array in data.test)
    X, Y = inputs(image, data.white), targets(label, data.classes)
    with jax.enable_x64(True):
        given = jax.tree.map(lambda array: np.asarray(array, float), (params, X, Y))
        placed = network(n, *names, by_numpy(partial(numbers, n, g, loss), *given)(*given))
    said = data.names[int(label[0])] if data.classes else f"{data.middle + data.unit * float(label[0]):g}"
    title = f"{placed.scene.title}: test {data.what[:-1]} {i} of {data.name}, label {said}"
    return placed._replace(scene=placed.scene._replace(title=title))


def _shown(name: str, n_x: int, a: np.ndarray) -> np.ndarray:
    """A matrix or, where its rows belong to images, a list of those; the first example's row; a number."""
    side = math.isqrt(n_x)
    square = side * side == n_x > 1
    if name in ("W[1]", "dW[1]", "A[0]") and square:
        return a.reshape(-1, side, side) if "W" in name else a[0].reshape(side, side)
    return a[:, 0] if "b" in name else a if name == "J" or "W" in name else a[0]


def _edges(head: Node, L: int) -> list[Edge]:
    """From all that its equation names, and the backward pass from J."""
    equation = f"A[{L}] Y" if head.id == "J" else head.equation.replace("Ŷ", f"A[{L}]")
    tails = ["J"] * (head.id == f"dZ[{L}]") + re.findall(r"d?[A-Zb]\[\d+\]|\bY\b", equation)
    if head.id.startswith("d"):
        kinds = {tail: head.kind if tail[0] in "dJ" else "kept" for tail in tails}
    else:
        kinds = {tail: "parameter" if tail[0] in "Wb" else "forward" for tail in tails}
    return [Edge(tail, head.id, kind) for tail, kind in kinds.items()]


def _route(edge: Edge, p: Box, q: Box) -> tuple[tuple[float, float], ...]:
    below, left, right = p.y + p.height, p.x + 24, p.x + p.width - 24
    level, to = p.y + p.height / 2, q.y + q.height / 2
    if p.y == q.y:
        return ((p.x + p.width, level), (q.x, to)) if p.x < q.x else ((p.x, level), (q.x + q.width, to))
    if edge.tail == "J":
        return (p.x + p.width / 2, below), (p.x + p.width / 2, to), (q.x + q.width, to)
    if edge.kind != "kept" or p.x == q.x:
        narrow = min(p, q, key=lambda box: box.width)
        return (narrow.x + narrow.width / 2, below), (narrow.x + narrow.width / 2, q.y)
    if p.y < PLACES["Z"][1].y:  # W[l] and dA[l-1], Y and dZ[L]
        x, end = p.x - 24, q.x + q.width - 48
        return (p.x, level), (x, level), (x, MIDDLE), (end, MIDDLE), (end, q.y)
    if edge.head.startswith("dW"):  # from A[l-1]
        x = q.x - 12
        return (right, below), (right, LOW), (x, LOW), (x, to), (q.x, to)
    end = q.x + q.width - 24  # A[l] and dZ[l]
    return (left, below), (left, HIGH), (end, HIGH), (end, q.y)
