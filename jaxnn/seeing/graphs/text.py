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
    """A paragraph for each node: what it is, its shape, the numbers of what it is computed from."""
    number = {node.id: k for k, node in enumerate(scene.nodes, 1)}
    lines = [*textwrap.wrap(scene.title, 80), ""]
    for k, node in enumerate(scene.nodes, 1):
        tails = ", ".join(str(number[e.tail]) for e in scene.edges if e.head == node.id)
        parts = [_said(node), node.shape, f"from {tails}" * bool(tails), "result" * node.output]
        parts += ["never used" * node.unused, f"✗ {node.mark}" * bool(node.mark)]
        lines += textwrap.wrap(f"{k:>3}  {' · '.join(filter(None, parts))}", 80, subsequent_indent=" " * 5)
    return "\n".join(lines)


def columns(scene: Scene) -> str:
    """The lecture's network: forward down on the left, backward up on the right."""
    nodes = {node.id: node for node in scene.nodes}
    rows, l = [("forward, down", "backward, up"), (" ", "")], 1
    rows += [(line, "") for line in _cell(nodes["A[0]"], LEFT)]
    while f"Z[{l}]" in nodes:
        for name in "WbZA":
            aside, right = " │  " * (name in "Wb"), nodes.get(f"d{name}[{l}]")
            lines = [aside + line for line in _cell(nodes[f"{name}[{l}]"], LEFT - len(aside))]
            rows += zip_longest(lines, _cell(right, RIGHT) if right else [" │"] * len(lines), fillvalue="")
            rows += [(" ▼", " ▲")] if name in "bZ" else []
        rows.append((" │", " ▲" if f"dA[{l}]" in nodes else " │"))
        l += 1
    rows += [(f" │  {line}", " │") for line in _cell(nodes["Y"], LEFT - 4)] + [(" ▼", " │")]
    J = nodes["J"]
    value = "" if J.value is None else f" = {float(J.value):.6g}"
    rows.append((f"J{value} ".ljust(LEFT + 4, "─") + "┘", ""))
    body = [f"{a or ' │':<{LEFT + 3}}{b}".rstrip() for a, b in rows]
    last = textwrap.wrap(_said(J), 80) + textwrap.wrap(f"✗ {J.mark}" * bool(J.mark), 80)
    return "\n".join([*textwrap.wrap(scene.title, 80), "", *body, *last])


def _said(node: Node) -> str:
    return f"{node.title} = {node.equation}" if node.equation else node.title


def _cell(node: Node, width: int) -> list[str]:
    """Equation and shape, in a line where they fit; then a few numbers, of a vector."""
    said = textwrap.wrap(_said(node), width, subsequent_indent="      ")
    if len(said[-1]) + len(node.shape) < width:
        said[-1] = said[-1].ljust(width - len(node.shape)) + node.shape
    else:
        said.append(node.shape.rjust(width))
    if node.value is not None and node.value.ndim == 1:
        numbers = " ".join(f"{value:.3g}" for value in np.asarray(node.value, float))
        said.append("    " + textwrap.shorten(numbers, width - 4, placeholder=" …"))
    wrong = f"✗ {node.mark}" * bool(node.mark)
    return said + textwrap.wrap(wrong, width, initial_indent="    ", subsequent_indent="    ")
