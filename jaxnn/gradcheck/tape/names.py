"""Values and steps of a tape, by their names in the lecture or in the code."""

from collections.abc import Container
from typing import NamedTuple

import jax
from jax.extend.core import Literal

from jaxnn.gradcheck.jaxprs.equations import text_of
from jaxnn.gradcheck.jaxprs.primitives import CALLS, Kind, called, of
from jaxnn.gradcheck.report.words import joined
from jaxnn.gradcheck.tape.scene import Scene
from jaxnn.gradcheck.tape.tape import Layer, Node
from jaxnn.gradcheck.tape.trace import VIEWS

CHOICES = VIEWS | of(Kind.PART)

HIDDEN = "the hidden state"
LONGEST = 40  # letters of the caller's code that are quoted


class Names(NamedTuple):
    """What the caller calls the parameters, and every leaf of the arguments."""

    parameters: tuple[str, ...]
    arguments: tuple[str, ...]


def names_of(args: tuple, argnums: int | tuple[int, ...]) -> Names:
    """The paths of the leaves, where nobody says what they are called.

    >>> names_of(({"W": 1.0}, 2.0), 0)
    Names(parameters=("['W']",), arguments=("argument 0['W']", 'argument 1'))
    """
    chosen = args[argnums] if isinstance(argnums, int) else tuple(args[n] for n in argnums)
    own, every = (jax.tree_util.tree_flatten_with_path(tree)[0] for tree in (chosen, args))
    return Names(
        tuple(jax.tree_util.keystr(path) or "the parameter" for path, _ in own),
        tuple(f"argument {path[0].idx}{jax.tree_util.keystr(path[1:])}" for path, _ in every),
    )


def _letters(scene: Scene) -> dict[int, tuple[str, Layer | None]]:
    """The values that the lecture has a letter for, each with its layer."""
    own: dict[int, tuple[str, Layer | None]] = {}
    turns = scene.structure.turns
    for y in (*scene.structure.layers, *turns):
        own |= {y.product: ("Z", y), y.z: ("Z", y)}
        own |= {y.a: ("A", y)} if y.activation is not None else {}
    handed_on = {(y.weight, y.before) for y in turns}
    recurrent = {y.weight for y in turns if (y.weight, y.a) in handed_on}
    if len(recurrent) == 1:
        own |= {y.a: (HIDDEN, None) for y in turns if y.weight in recurrent}
    return own


def _source(scene: Scene, value: int, known: Container[int]) -> tuple[int, str]:
    """The value it is a view or a part of, if it is; as far as one that is known."""
    nodes, part = scene.point.tape.nodes, ""
    maker = {o: n for n in nodes for o in n.outputs}
    while value not in known and value in maker and maker[value].name in CHOICES:
        node = maker[value]
        if isinstance(node.inputs[0], Literal):
            break
        value, part = node.inputs[0], part if node.name in VIEWS else "a part of "
    return value, part


def is_hidden(scene: Scene, row: tuple[int, ...]) -> bool:
    """Whether it is what one turn of a loop hands on to the next."""
    letters = _letters(scene)
    value, part = _source(scene, row[-1], letters)
    return not part and letters.get(value) == (HIDDEN, None)


def handed_in(scene: Scene) -> set[int]:
    """The values of steps that are not the caller's: what comes back to them is handed to the caller."""
    return {i for n in scene.point.tape.nodes if not n.line for i in (*n.reads, *n.outputs)}


def named(scene: Scene, row: tuple[int, ...], names: Names) -> str:
    """A value by its layer, parameter or argument, or by the step that makes it."""
    inputs, views, letters = scene.point.tape.inputs, scene.structure.views, _letters(scene)
    value, part = _source(scene, row[-1], letters.keys() | views.keys())
    if value in letters:
        letter, y = letters[value]
        of = "" if y is None else f"[{y.number}]" if y.number else f" of {names.parameters[y.weight]}"
        return part + letter + of
    if value in views:
        return part + names.parameters[views[value]]
    if value in inputs:
        return part + names.arguments[inputs.index(value)]
    made = scene.point.tape.maker(row[-1])
    return "a constant" if made is None else f"the result of {describe(scene, made)}"


def describe(scene: Scene, place: int) -> str:
    """A step by its name, its line and its shape."""
    node = scene.point.tape.nodes[place]
    shape = scene.point.tape.shapes[node.outputs[0]].shape
    own = [called(part) for part in node.name.split("+") if part not in CALLS]
    at = _part(scene, node) + (f" at {node.line}" if node.line else "")
    size = f" (of shape {'×'.join(map(str, shape))})" if shape else " (that gives a number)"
    return f"{' and '.join(own) or _own_name(node)}{at}{size if scene.sized else ''}"


def _part(scene: Scene, node: Node) -> str:
    """The piece of its line that makes a step, where the line has several such steps."""
    alike = (n for n in scene.point.tape.nodes if (n.name, n.line) == (node.name, node.line))
    pieces = {text_of(n.spot) for n in alike}
    text = text_of(node.spot)
    text = text if len(text) <= LONGEST else text[:LONGEST].rstrip() + " …"
    return f" “{text}”" if len(pieces) > 1 and "" not in pieces else ""


def _own_name(node: Node) -> str:
    """What a function with a rule of its own is called by who wrote it."""
    inner = node.params.get("call_jaxpr")
    about = getattr(getattr(inner, "jaxpr", inner), "debug_info", None)
    name = getattr(about, "func_name", "").strip("_")
    return name if name.isidentifier() else "a function"


def cotangent_name(scene: Scene, value: int, names: Names) -> str:
    """What comes back to a value, by its name in the lecture where it has one."""
    layers, turns, views = scene.structure.layers, scene.structure.turns, scene.structure.views
    for letter, field in (("dZ", "z"), ("dA", "a"), ("dZ", "product")):
        of = [y for y in (*layers, *turns) if getattr(y, field) == value]
        if of and of[0].number:
            return f"{letter}[{of[0].number}]"
        if of:
            return f"{letter} of {joined(sorted({names.parameters[y.weight] for y in of}))} (in a loop)"
    if value in views:
        return f"the gradient of {names.parameters[views[value]]}"
    made = scene.point.tape.maker(value)
    return f"what comes back to {describe(scene, made) if made is not None else 'an input'}"


def described(scene: Scene, places: tuple[int, ...]) -> str:
    """The step at these places, and in how many there are."""
    each = "in every turn" if scene.structure.turns else f"in each of {len(places)} places"
    return describe(scene, max(places)) + (f", {each}," if len(places) > 1 else "")
