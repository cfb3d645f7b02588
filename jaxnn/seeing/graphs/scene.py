"""A computation as data: nodes and edges, and where they stand. Its forms are elsewhere."""

from typing import NamedTuple

import numpy as np


class Node(NamedTuple):
    """A quantity or a step: `kind` is parameter, input, forward, loss, backward or gradient.

    value: for one example; mark: what is wrong here, or ""; unused: nothing uses what is computed here.
    """

    id: str
    kind: str
    title: str  # its name in the slide's letters, or the line of code
    shape: str
    equation: str = ""
    value: np.ndarray | None = None
    note: str = ""  # more to say when one points at it
    mark: str = ""
    unused: bool = False
    output: bool = False


class Edge(NamedTuple):
    """From one node's id to another's: `kind` is parameter, forward, backward, gradient or kept."""

    tail: str
    head: str
    kind: str


class Scene(NamedTuple):
    """What is to be seen; `letters`: titles are in the slide's letters, not lines of code."""

    title: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    letters: bool = False


class Box(NamedTuple):
    """Where a node stands: its upper left corner, and its size."""

    x: float
    y: float
    width: float
    height: float


class Placed(NamedTuple):
    """A scene with a box for each node, and for each edge the points that its line goes through."""

    scene: Scene
    boxes: tuple[Box, ...]
    routes: tuple[tuple[tuple[float, float], ...], ...]
    width: float
    height: float
