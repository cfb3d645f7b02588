"""The layers a tape is made of: Z[l] = A[l-1] W[l]ᵀ + b[l]ᵀ, A[l] = g(Z[l]), whatever they are called."""

from collections import Counter

import numpy as np
from jax.extend.core import Literal

from jaxnn.gradcheck.tape.tape import (
    PRODUCTS,
    VIEWS,
    Layer,
    Structure,
    Tape,
    consumers,
    cuts,
    origins,
    reached,
)


def _views(tape: Tape) -> dict[int, int]:
    views = {p: k for k, p in enumerate(tape.parameters)}
    for node in tape.nodes:
        if node.name in VIEWS and len(node.inputs) == 1 and node.reads and node.inputs[0] in views:
            size = np.prod(tape.shapes[node.inputs[0]].shape)
            if np.prod(tape.shapes[node.outputs[0]].shape) == size:
                views[node.outputs[0]] = views[node.inputs[0]]
    return views


def _data_of(tape: Tape) -> dict[int, set[int]]:
    """value → the arrays that are no parameters and that it depends on."""
    own = set(tape.parameters)
    arrays = [i for i in (*tape.inputs, *tape.constants) if i not in own]
    sources = [i for i in arrays if np.prod(tape.shapes[i].shape) > 1 or tape.shapes[i].shape]
    return origins(tape.nodes, sources)


def _bias_and_z(tape: Tape, views, readers, product: int) -> tuple[int | None, int]:
    """The leaf added to a product, and the value Z: the product with all that is added to it."""
    bias, z, seen = None, product, product
    for _ in range(6):
        places = [p for p in readers.get(seen, []) if set(tape.nodes[p].outputs) & tape.active]
        if len(places) != 1:
            break
        node = tape.nodes[places[0]]
        (out,) = node.outputs[:1]
        same = tape.shapes[out].shape == tape.shapes[z].shape
        if node.name in {"add", "add_any"} and same:
            other = [i for i in node.reads if i != seen]
            if len(other) != 1:
                break
            leaf = _leaf_behind(tape, other[0], views)
            bias, z, seen = (bias if leaf is None else leaf), out, out
        elif node.name in VIEWS and node.name != "broadcast_in_dim":
            seen, z = out, (out if bias is None else z)
        else:
            break
    return bias, z


def _leaf_behind(tape: Tape, value: int, views) -> int | None:
    while value not in views:
        maker = next((n for n in tape.nodes if value in n.outputs), None)
        if maker is None or maker.name not in VIEWS or len(maker.reads) != 1:
            return None
        (value,) = maker.reads
    return views[value]


def _spot(tape: Tape, layer: Layer) -> tuple:
    """What is the same in all turns of a loop, over time: a product there is no layer of its own."""
    node = tape.nodes[layer.place]
    return node.name, node.line, node.spot, layer.weight


def structure(tape: Tape) -> Structure:
    """The layers, penalties, masks and targets of a loss."""
    views, readers, origin = _views(tape), consumers(tape.nodes), _data_of(tape)
    found: list[Layer] = []
    for place, node in enumerate(tape.nodes):
        if node.name not in PRODUCTS or len(node.reads) != 2:
            continue
        sides = [i in views for i in node.reads]
        if sum(sides) != 1:
            continue
        k = sides.index(False)
        bias, z = _bias_and_z(tape, views, readers, node.outputs[0])
        ends = cuts(tape, z)
        a = ends[-1] if ends else z
        activation = next((p for p, n in enumerate(tape.nodes) if z in n.inputs and a in n.outputs), None)
        a, weight = z if activation is None else a, views[node.inputs[1 - k]]
        found.append(Layer(0, place, k, weight, bias, node.inputs[k], node.outputs[0], z, a, activation))
    repeated = Counter(_spot(tape, y) for y in found)
    once = [y for y in found if repeated[_spot(tape, y)] == 1]
    layers = [y._replace(number=n) for n, y in enumerate(once, 1)]
    return Structure(
        tuple(layers),
        tuple(y for y in found if repeated[_spot(tape, y)] > 1),
        views,
        _penalties(tape, origin),
        _masks(tape, found, origin),
        *_targets(tape, found, origin),
    )


def _penalties(tape: Tape, origin) -> tuple[tuple[int, int], ...]:
    """Edges on which a scalar of parameters alone joins one that depends on data."""
    return tuple(
        (place, k)
        for place, node in enumerate(tape.nodes)
        if node.name in {"add", "sub", "add_any"} and tape.shapes[node.outputs[0]].shape == ()
        for k, i in enumerate(node.inputs)
        if not isinstance(i, Literal)
        and i in tape.active
        and not origin.get(i)
        and origin.get(node.outputs[0])
    )


def _masks(tape: Tape, layers, origin) -> tuple[tuple[int, int], ...]:
    """Edges on which what is computed from a layer meets an array that is no parameter's doing."""
    touched = reached(tape.nodes, tape.parameters)
    first = min((layer.place for layer in layers), default=len(tape.nodes))
    last = max((layer.place for layer in layers), default=0)
    found = []
    for place, node in enumerate(tape.nodes):
        if not node.elementwise or node.name not in {"mul", "div", "select_n"}:
            continue
        active = [k for k, i in enumerate(node.inputs) if not isinstance(i, Literal) and i in tape.active]
        still = [i for i in node.reads if i not in touched and i in origin and origin[i]]
        if len(active) == 1 and still and first < place <= last:
            found.append((place, active[0]))
    return tuple(found)


def _targets(tape: Tape, layers, origin) -> tuple[tuple[int, ...], tuple[int, ...]]:
    own = set(tape.parameters)
    arrays = [i for i in (*tape.inputs, *tape.constants) if i not in own and tape.shapes[i].shape]
    before = set().union(*(origin.get(layer.z, set()) for layer in layers)) if layers else set()
    return (
        tuple(i for i in arrays if i not in before and i in origin.get(tape.output, set())),
        tuple(i for i in arrays if i in before),
    )
