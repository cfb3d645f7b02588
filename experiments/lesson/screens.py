"""The lecture as screens: what is said, which shapes are asked for, the graph as far as it is known."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from experiments.lesson import byhand
from jaxnn.seeing.graphs.network import network
from jaxnn.seeing.graphs.scene import Placed
from jaxnn.seeing.graphs.svg import svg
from jaxnn.seeing.pages.page import page

TEXT = Path(__file__).parent / "lecture.txt"
TWO = "A shape is two whole numbers, that of the rows and that of the columns: for example 3,5. No letters."
NEURON = "neuron of the layer"


class Question(NamedTuple):
    """The shape of an array; `rules`: what an answer misses is said by the first pattern that it fits."""

    name: str
    shape: tuple[int, int]
    rules: tuple[tuple[tuple[int | None, ...], str], ...]


class Part(NamedTuple):
    """Of a screen, one of: a paragraph, lines that stay as they are, a question, the graph so far."""

    text: str = ""
    lines: str = ""
    question: Question | None = None
    graph: Placed | None = None


class Screen(NamedTuple):
    """What is said before one goes on."""

    title: str
    parts: tuple[Part, ...]


def missed(question: Question, answer: str) -> str:
    """The rule that an answer misses, or "" if it is right.

    >>> W = asked("W[1]", {"X": (9, 4), "W[1]": (3, 4), "W[2]": (2, 3)}, (9, 2, 2))
    >>> missed(W, "(3, 4)"), missed(W, "3x4")
    ('', '')
    >>> missed(W, "4,3")
    'Transposed. The rows come first: W[1] has a row for each neuron of the layer.'
    """
    answer = re.sub(r"\b(\d{1,3}),(\d{3})\b(?=\D+\d)", r"\1\2", answer)  # 60,000, 784
    found = re.fullmatch(r"[0-9\s,;x×()\[\]]{1,40}", answer) and re.findall("[0-9]+", answer)
    sizes = tuple(map(int, found or ()))

    def fits(pattern):
        return len(pattern) == len(sizes) and all(p in (None, s) for p, s in zip(pattern, sizes, strict=True))

    return next((words for pattern, words in ((question.shape, ""), *question.rules) if fits(pattern)), TWO)


def asked(name: str, shapes: Mapping[str, tuple], images: tuple[int, int, int]) -> Question:
    """The question for the shape of an array; its rules are made of the sizes of all."""
    (r, c), (N, height, width), letter = shapes[name], images, name[0]
    row = NEURON if letter in "Wb" else "image"
    column = {"X": "pixel of an image", "Y": "class", "W": "number that goes into it"}.get(letter, NEURON)
    rows = f"{name} has a row for each {row}"
    columns = "one column" if letter == "b" else f"a column for each {column}"
    flat = f"Flatten each image: its {height} rows of {width} pixels become one row, one after the other."
    one_hot = "One-hot: a label is not one number, but a row with a 1 in the column of its class."
    upright = f"{name} is a column, with two sizes: a row for each {row}, and one column."
    first = {
        "X": [(shape, flat) for shape in (images, images[1:], (N, width), (None, None, None))],
        "Y": [((N,), one_hot), ((N, 1), one_hot)],
        "b": [((r,), upright), ((1, r), upright)],
    }
    rules = [*first.get(letter, []), ((c, r), f"Transposed. The rows come first: {rows}.")]
    for other, shape in shapes.items():
        if shape != (r, c) and any({letter, other[0]} <= kin for kin in ({*"XY"}, {*"ZA"}, {letter})):
            whose = f"those of layer {other[2]}" if "[" in other else f"those of {other}"
            rules += [(wrong, f"These sizes are {whose}. {rows}.") for wrong in (shape, shape[::-1])]
    if letter in "Wb":
        alone = f"N is no size of {name}, which is the same for every image: {rows}."
        rules += [((N, None), alone), ((None, N), alone)]
    else:
        fewer = {size for shape in shapes.values() for size in shape} - {N}
        rules += [((None, N), f"N says how many rows there are: {rows}.")]
        rules += [((size, None), f"N is missing: {rows}, all N of them.") for size in sorted(fewer)]
    rules += [((r, None), f"The number of rows is right. {name} has {columns}.")]
    rules += [
        ((None, c), f"The number of columns is right. {rows}."),
        ((None, None), f"{rows}, and {columns}."),
    ]
    return Question(name, (r, c), tuple(rules))


def part_of(placed: Placed, names: Sequence[str]) -> Placed:
    """Of a graph the nodes of these names, where they stand, and the edges between them."""
    scene, boxes, routes, *_ = placed
    nodes = {v: box for v, box in zip(scene.nodes, boxes, strict=True) if v.id in names}
    edges = {e: way for e, way in zip(scene.edges, routes, strict=True) if {e.tail, e.head} <= {*names}}
    scene = scene._replace(nodes=tuple(nodes), edges=tuple(edges))
    right, low = (max(ends) for ends in zip(*((x + w, y + h) for x, y, w, h in nodes.values()), strict=True))
    return Placed(scene, tuple(nodes.values()), tuple(edges.values()), right + 20, low + 12)


def screens(facts: Mapping[str, Any]) -> Iterator[Screen]:
    """The lecture with these facts, which its text names: each screen is made when one comes to it."""
    world = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    world.filters["row"] = lambda values, form="%8.4f": "".join(form % value for value in values)
    graph = network(facts["n"], "sigmoid", "binary_cross_entropy", {}, facts["N"])
    known: tuple[str, ...] = ()
    for section in re.split("^# ", TEXT.read_text(encoding="utf-8"), flags=re.M)[1:]:
        title, *blocks = re.split(r"\n{2,}", world.from_string(section).render(facts).strip())
        parts = []
        for block in blocks:
            if block.startswith("    "):
                parts.append(Part(lines=re.sub("^    |[ ]+$", "", block, flags=re.M)))
            elif block.startswith("? "):
                parts.append(Part(question=asked(block[2:], facts["shape"], facts["images"])))
            elif block.startswith("+"):
                known += tuple(block[1:].split())
                parts.append(Part(graph=part_of(graph, known)))
            else:
                parts.append(Part(" ".join(block.split())))
        yield Screen(title, tuple(parts))


def html(title: str, shown: Sequence[Screen]) -> str:
    """The lecture as one page, and after it the tiny network that is worked by hand."""
    questions = [part.question for screen in shown for part in screen.parts if part.question]
    steps, a = byhand.steps(), byhand.known()
    told = {
        s.name: (s.right.tolist(), s.entry, [(x, wrong.tolist()) for x, wrong in s.mistakes]) for s in steps
    }
    data = {"shapes": {name: rest for name, *rest in questions}, "how": TWO}
    data |= {"steps": told, "within": byhand.WITHIN}
    drawn = [[part.graph and Markup(svg(part.graph)) for part in screen.parts] for screen in shown]
    parts = {"screens": shown, "drawn": drawn, "steps": steps, "byhand": byhand}
    given = {name: np.asarray(a[name]) for name in byhand.GIVEN}
    return page("lecture.html", title, data, ("lecture.js",), given=given, **parts)
