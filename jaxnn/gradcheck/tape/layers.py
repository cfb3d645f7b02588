"""The layers a tape is made of: Z[l] = A[l-1] W[l]ᵀ + b[l]ᵀ, A[l] = g(Z[l]), whatever they are called."""

from collections import Counter

import numpy as np

from jaxnn.gradcheck.jaxprs.primitives import Kind, of
from jaxnn.gradcheck.tape.tape import Edge, Layer, Structure, Tape
from jaxnn.gradcheck.tape.trace import VIEWS, consumers, cuts, fixed, origins, reached


def _behind(tape: Tape) -> dict[int, int]:
    """value → the parameter leaf that it shows, whole or repeated."""
    behind = {p: k for k, p in enumerate(tape.parameters)}
    for node in tape.nodes:
        if node.name in VIEWS and len(node.reads) == 1 and node.reads[0] in behind:
            behind[node.outputs[0]] = behind[node.reads[0]]
    return behind


def _data_of(tape: Tape) -> dict[int, set[int]]:
    """value → the arrays that are no parameters and that it depends on."""
    own = set(tape.parameters)
    arrays = [i for i in (*tape.inputs, *tape.constants) if i not in own]
    sources = [i for i in arrays if np.prod(tape.shapes[i].shape) > 1 or tape.shapes[i].shape]
    return origins(tape.nodes, sources)


def _bias_and_z(tape: Tape, behind, readers, product: int) -> tuple[int | None, int]:
    """The leaf added to a product, and the value Z: the product with all that is added to it."""
    bias, z, seen = None, product, product
    for _ in range(6):
        places = [p for p in readers.get(seen, []) if set(tape.nodes[p].outputs) & tape.active]
        if len(places) != 1:
            break
        node = tape.nodes[places[0]]
        out, other = node.outputs[0], [i for i in node.reads if i != seen]
        if node.name in {"add", "add_any"} and tape.shapes[out].shape == tape.shapes[z].shape:
            if len(other) != 1:
                break
            bias, z, seen = behind.get(other[0], bias), out, out
        elif node.name in VIEWS and node.name != "broadcast_in_dim":
            seen, z = out, (out if bias is None else z)
        else:
            break
    return bias, z


def _spot(tape: Tape, layer: Layer) -> tuple:
    """What is the same in all turns of a loop, over time: a product there is no layer of its own."""
    node = tape.nodes[layer.place]
    return node.name, node.line, node.spot, layer.weight


def structure(tape: Tape) -> Structure:
    """The layers, penalties, masks and targets of a loss."""
    behind, readers, origin, still = _behind(tape), consumers(tape.nodes), _data_of(tape), fixed(tape)
    sizes = {v: np.prod(shape.shape) for v, shape in tape.shapes.items()}
    views = {v: k for v, k in behind.items() if sizes[v] == sizes[tape.parameters[k]]}
    found: list[Layer] = []
    for place, node in enumerate(tape.nodes):
        sides = [i in views for i in node.reads]
        if node.name not in of(Kind.PRODUCT) or sorted(sides) != [False, True]:
            continue
        k = sides.index(False)
        bias, z = _bias_and_z(tape, behind, readers, node.outputs[0])
        a = (cuts(tape, z, still, readers) or [z])[-1]
        activation = tape.maker(a)
        if activation is None or z not in tape.nodes[activation].reads:
            a, activation = z, None
        weight = views[node.inputs[1 - k]]
        found.append(Layer(0, place, k, weight, bias, node.inputs[k], node.outputs[0], z, a, activation))
    repeated = Counter(_spot(tape, y) for y in found)
    once = [y for y in found if repeated[_spot(tape, y)] == 1]
    return Structure(
        tuple(y._replace(number=n) for n, y in enumerate(once, 1)),
        tuple(y for y in found if repeated[_spot(tape, y)] > 1),
        views,
        _penalties(tape, origin),
        _masks(tape, found, origin),
        *_targets(tape, found, origin),
    )


def _penalties(tape: Tape, origin) -> tuple[Edge, ...]:
    """Edges on which a scalar of parameters alone joins one that depends on data, both terms of the loss."""
    terms = {tape.output}
    for node in reversed(tape.nodes):
        if terms.issuperset(node.outputs) and node.name in {
            *VIEWS,
            "add",
            "sub",
            "add_any",
            "neg",
            "mul",
            "div",
        }:
            once = node.name not in {"mul", "div"} or len(tape.edges(node)) == 1
            terms.update(i for _, i in tape.edges(node) if once)
    return tuple(
        (place, k)
        for place, node in enumerate(tape.nodes)
        if node.name in {"add", "sub", "add_any"} and node.outputs[0] in terms
        for k, i in tape.edges(node)
        if not origin.get(i) and origin.get(node.outputs[0])
    )


def _masks(tape: Tape, layers: list[Layer], origin) -> tuple[Edge, ...]:
    """Edges on which what is computed from a layer meets an array that is no parameter's doing."""
    touched, places, found = reached(tape.nodes, tape.parameters), [y.place for y in layers], []
    for place in range(min(places, default=0) + 1, max(places, default=0) + 1):
        node = tape.nodes[place]
        if node.elementwise and node.name in {"mul", "div", "select_n"}:
            active = [k for k, _ in tape.edges(node)]
            if len(active) == 1 and any(origin.get(i) for i in node.reads if i not in touched):
                found.append((place, active[0]))
    return tuple(found)


def _targets(tape: Tape, layers: list[Layer], origin) -> tuple[tuple[int, ...], tuple[int, ...]]:
    arrays = [i for i in (*tape.inputs, *tape.constants) if tape.shapes[i].shape]
    arrays = [i for i in arrays if i not in tape.parameters]
    before = set().union(*(origin.get(y.z, set()) for y in layers))
    after = origin.get(tape.output, set()) - before
    return tuple(i for i in arrays if i in after), tuple(i for i in arrays if i in before)
