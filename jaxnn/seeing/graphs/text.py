"""A scene as text, in at most 80 columns."""

import textwrap
from itertools import zip_longest

import numpy as np

from jaxnn.seeing.graphs.scene import Node, Scene

LEFT, RIGHT = 38, 39  # columns of the network's two halves, with 3 between them


def text(scene: Scene) -> str:
    """The lecture's network in two columns, anybody's lines in order."""
    return columns(scene) if scene.letters else listing(scene)


def listing(scene: Scene) -> str:
    """A paragraph for each node: what it is, its shape, the numbers of what it is computed from.

    >>> from jaxnn.seeing.graphs.scene import Edge
    >>> nodes = Node("a", "input", "X", "(2, 3)"), Node("b", "forward", "Z = X + 1", "(2, 3)", output=True)
    >>> print(listing(Scene("two lines", nodes, (Edge("a", "b", "forward"),))))
    two lines
    <BLANKLINE>
      1  X · (2, 3)
      2  Z = X + 1 · (2, 3) · from 1 · result
    """
    number = {node.id: k for k, node in enumerate(scene.nodes, 1)}
    lines = [*textwrap.wrap(scene.title, 80), ""]
    for node in scene.nodes:
        tails = ", ".join(str(number[e.tail]) for e in scene.edges if e.head == node.id)
        parts = [_said(node), node.shape, f"from {tails}" * bool(tails), "result" * node.output]
        parts += ["never used" * node.unused, f"✗ {node.mark}" * bool(node.mark)]
        paragraph = f"{number[node.id]:>3}  " + " · ".join(filter(None, parts))
        lines += textwrap.wrap(paragraph, 80, subsequent_indent=" " * 5, drop_whitespace=True)
    return "\n".join(lines)


def columns(scene: Scene) -> str:
    """The lecture's network: forward down on the left, backward up on the right."""
    nodes = {node.id: node for node in scene.nodes}
    L = max(l for l in range(1, len(nodes)) if f"Z[{l}]" in nodes)
    rows = [(line, "") for line in _cell(nodes["A[0]"], LEFT)]
    for l in range(1, L + 1):
        for name in "WbZA":
            lines, right = _cell(nodes[f"{name}[{l}]"], LEFT - 4 * (name in "Wb")), f"d{name}[{l}]"
            lines = [f" │  {line}" if name in "Wb" else line for line in lines]
            others = _cell(nodes[right], RIGHT) if right in nodes else [" │"] * len(lines)
            rows += zip_longest(lines, others, fillvalue="")
            rows += [(" ▼", " ▲")] if name in "bZ" else []
        rows.append((" │", " ▲" if l < L else " │"))
    rows += [(f" │  {line}", " │") for line in _cell(nodes["Y"], LEFT - 4)] + [(" ▼", " │")]
    J = nodes["J"]
    number = "" if J.value is None else f" = {float(J.value):.6g}"
    rows.append((f"J{number} ".ljust(LEFT + 4, "─") + "┘", ""))
    body = [f"{a or ' │':<{LEFT + 3}}{b}".rstrip() for a, b in rows]
    last = textwrap.wrap(f"J = {J.equation}", 80) + (_words(f"✗ {J.mark}", 80) if J.mark else [])
    head = [*textwrap.wrap(scene.title, 80), "", f"{'forward, down':<{LEFT + 3}}backward, up", ""]
    return "\n".join([*head, *body, *last])


def _said(node: Node) -> str:
    return f"{node.title} = {node.equation}" if node.equation else node.title


def _words(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, initial_indent="    ", subsequent_indent="    ")


def _cell(node: Node, width: int) -> list[str]:
    """Equation and shape, in a line where they fit; then a few numbers, of a vector."""
    said = textwrap.wrap(_said(node), width, subsequent_indent="      ")
    if len(said[-1]) + 1 + len(node.shape) <= width:
        said[-1] = said[-1].ljust(width - len(node.shape)) + node.shape
    else:
        said.append(node.shape.rjust(width))
    if node.value is not None and node.value.ndim == 1:
        few = [f"{value:.3g}" for value in np.asarray(node.value[:8], float)]
        while len(" ".join(few)) > width - 6:
            few.pop()
        said.append("    " + " ".join(few) + " …" * (len(few) < node.value.size))
    return said + (_words(f"✗ {node.mark}", width) if node.mark else [])
