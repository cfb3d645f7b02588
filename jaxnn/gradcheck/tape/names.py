"""Values and steps of a tape, by their names in the lecture or in the code."""

import jax
from jax.extend.core import Literal

from jaxnn.gradcheck.jaxprs.primitives import CALLS, Kind, called, of
from jaxnn.gradcheck.report.words import joined
from jaxnn.gradcheck.tape.scene import Scene
from jaxnn.gradcheck.tape.tape import VIEWS, Node

CHOICES = VIEWS | of(Kind.PART)

HIDDEN = "the hidden state"


def named(scene: Scene, row: tuple[int, ...]) -> str:
    """A value by its layer, parameter or argument, or by the step that makes it."""
    tape, views = scene.point.tape, scene.structure.views
    value, part = row[-1], ""
    maker = {o: p for p, n in enumerate(tape.nodes) for o in n.outputs}
    own: dict[int, str] = {}
    for y in (*scene.structure.layers, *scene.structure.turns):
        of = f"[{y.number}]" if y.number else f" of {scene.structure.names[y.weight]}"
        own |= {y.product: f"Z{of}", y.z: f"Z{of}"}
        own |= {y.a: f"A{of}"} if y.activation is not None else {}
    handed_on = {(y.weight, y.before) for y in scene.structure.turns}
    recurrent = {y.weight for y in scene.structure.turns if (y.weight, y.a) in handed_on}
    if len(recurrent) == 1:
        own |= {y.a: HIDDEN for y in scene.structure.turns if y.weight in recurrent}
    while value not in views and value not in own and value in maker:
        node = tape.nodes[maker[value]]
        if node.name not in CHOICES or isinstance(node.inputs[0], Literal):
            break
        value, part = node.inputs[0], part if node.name in VIEWS else "a part of "
    if value in own or value in views:
        return part + (own[value] if value in own else scene.structure.names[views[value]])
    if value in tape.inputs:
        numbers = [n for n, arg in enumerate(scene.point.args) for _ in jax.tree.leaves(arg)]
        return f"{part}argument {numbers[tape.inputs.index(value)]}"
    return f"the result of {describe(scene, maker[row[-1]])}" if row[-1] in maker else "a constant"


def describe(scene: Scene, place: int) -> str:
    """A step by its name, its line and its shape."""
    node = scene.point.tape.nodes[place]
    shape = scene.point.tape.shapes[node.outputs[0]].shape
    own = [called(part) for part in node.name.split("+") if part not in CALLS]
    at = f" at {node.line}" if node.line else ""
    size = f"of shape {'×'.join(map(str, shape))}" if shape else "that gives a number"
    return f"{' and '.join(own) or _own_name(node)}{at} ({size})"


def _own_name(node: Node) -> str:
    """What a function with a rule of its own is called by who wrote it."""
    inner = node.params.get("call_jaxpr")
    about = getattr(getattr(inner, "jaxpr", inner), "debug_info", None)
    name = getattr(about, "func_name", "").strip("_")
    return name if name.isidentifier() else "a function"


def cotangent_name(scene: Scene, value: int) -> str:
    """What comes back to a value, by its name in the lecture where it has one."""
    for y in scene.structure.layers:
        for v, name in ((y.z, "dZ"), (y.a, "dA"), (y.product, "dZ")):
            if v == value:
                return f"{name}[{y.number}]"
    for what in ("z", "product", "a"):
        loop = {scene.structure.names[y.weight] for y in scene.structure.turns if getattr(y, what) == value}
        if loop:
            return f"{'dA' if what == 'a' else 'dZ'} of {joined(sorted(loop))} (in a loop)"
    if value in scene.structure.views:
        return f"the gradient of {scene.structure.names[scene.structure.views[value]]}"
    made = next((p for p, n in enumerate(scene.point.tape.nodes) if value in n.outputs), None)
    return f"the cotangent of {describe(scene, made) if made is not None else 'an input'}"


def described(scene: Scene, places: tuple[int, ...]) -> str:
    """The step at these places, and in how many there are."""
    each = "in every turn" if scene.structure.turns else f"in each of {len(places)} places"
    return describe(scene, max(places)) + (f", {each}," if len(places) > 1 else "")
