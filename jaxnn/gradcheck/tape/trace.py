"""A loss taken apart into a tape: every step of it, and every value."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.gradcheck.jaxprs.equations import by_jax, line_of, opened, plan_of, scanned, spot_of, walked
from jaxnn.gradcheck.jaxprs.primitives import Kind, inner_of, of
from jaxnn.gradcheck.tape.tape import Node, Tape, done

CUSTOM, ELEMENTWISE = of(Kind.CUSTOM), of(Kind.FUNCTION, Kind.STEP, Kind.CORNER, Kind.SAME)
VIEWS = of(Kind.VIEW, Kind.SAME) - {"stop_gradient"} | {"convert_element_type"}
PRODUCTS = of(Kind.PRODUCT)
UNROLLED = 400  # a scan of at most so many equations, all turns together, is unrolled


def _is_elementwise(equation) -> bool:
    name = equation.primitive.name
    if name in of(Kind.CALL) or name == "custom_jvp_call":  # of a custom_vjp, JAX has no derivative forwards
        return all(_is_elementwise(e) for e in opened(inner_of(equation))[0].eqns)
    return name in ELEMENTWISE


def flatten(loss: Callable, args: tuple, inlined: frozenset[str] = of(Kind.CALL)) -> Tape:
    """The tape of loss(*args), with these calls written out, and none of its inputs a parameter yet."""
    closed = jax.make_jaxpr(loss)(*args)
    nodes: list[Node] = []
    shapes: dict[int, jax.ShapeDtypeStruct] = {}
    constants: dict[int, Any] = {}

    def number(aval) -> int:
        shapes[len(shapes)] = jax.ShapeDtypeStruct(aval.shape, aval.dtype)
        return len(shapes) - 1

    def constant(value) -> int:
        n = number(jax.ShapeDtypeStruct(np.shape(value), jax.dtypes.result_type(value)))
        constants[n] = value
        return n

    def extra(name, apply, inputs, aval, line) -> int:
        nodes.append(Node(name, apply, tuple(inputs), (number(aval),), False, {}, line))
        return nodes[-1].outputs[0]

    def unroll(equation, inputs, line: str, spot: tuple) -> list:
        within = partial(walk, line=line, spot=spot)

        def at(x, t: int) -> int:
            aval = jax.ShapeDtypeStruct(shapes[x].shape[1:], shapes[x].dtype)
            return extra("slice", lambda x: (x[t],), [x], aval, line)

        carry, columns = scanned(equation, inputs, within, at)
        stack = lambda *rows: (jnp.stack(rows),)  # noqa: E731
        outs = zip(columns, equation.outvars[len(carry) :], strict=True)
        return [*carry, *(extra("stack", stack, column, v.aval, line) for column, v in outs)]

    def step(line: str, spot: tuple, e, into: list) -> list:
        name, inner = e.primitive.name, e.params.get("jaxpr")
        line, spot = line_of(e) or line, spot_of(e) or spot
        if name in inlined:
            return walk(inner_of(e), into, line, spot)
        if name == "scan" and e.params["length"] * len(opened(inner)[0].eqns) <= UNROLLED:
            return unroll(e, into, line, spot)
        out = [number(v.aval) for v in e.outvars]
        if name == "mul" and into[0] == into[1]:  # one path, not two
            nodes.append(
                Node("square", lambda x: (x * x,), tuple(into[:1]), tuple(out), True, {}, line, spot)
            )
            return out
        form = tuple(into), tuple(out), _is_elementwise(e) and len(out) == 1, e.params
        nodes.append(Node(name, partial(by_jax, e), *form, line, spot))
        return out

    def walk(closed, into: list, line: str = "", spot: tuple = ()) -> list:
        """The steps of a program; line, spot: of what calls it, for steps of JAX's own that have none."""
        jaxpr, consts = opened(closed)
        return walked(jaxpr, plan_of(jaxpr), [*map(constant, consts), *into], partial(step, line, spot))

    inputs = tuple(number(v.aval) for v in opened(closed)[0].invars)
    (output,) = walk(closed, list(inputs))
    kept = _leading(nodes, output, shapes)
    return Tape(kept, inputs, (), constants, output, shapes, frozenset())


def _leading(nodes: Sequence[Node], end: int, through: Collection[int]) -> tuple[Node, ...]:
    """The steps that lead to a value by way of these."""
    wanted, kept = {end}, []
    for node in reversed(nodes):
        if not wanted.isdisjoint(node.outputs):
            kept.append(node)
            wanted.update(i for i in node.reads if i in through)
    return tuple(reversed(kept))


def origins(nodes: Iterable[Node], sources: Iterable[int]) -> dict[int, set[int]]:
    """value → those of the sources that it depends on."""
    origin = {i: {i} for i in sources}
    for node in nodes:
        read = set().union(*(origin.get(i, set()) for i in node.reads))
        origin |= {o: read | origin.get(o, set()) for o in node.outputs}
    return origin


def reached(nodes: Iterable[Node], start: Iterable[int]) -> set[int]:
    """The values that depend on any of these."""
    return {value for value, found in origins(nodes, start).items() if found}


def _active(tape: Tape, parameters: tuple[int, ...]) -> frozenset[int]:
    floats = {i for i, shape in tape.shapes.items() if jnp.issubdtype(shape.dtype, jnp.floating)}
    active = floats & set(parameters)
    for node in tape.nodes:
        if node.name != "stop_gradient" and not active.isdisjoint(node.reads):
            active |= floats & set(node.outputs)
    return frozenset(active)


def consumers(nodes) -> dict[int, list[int]]:
    """value → the places of the steps that read it."""
    out: dict[int, list[int]] = {}
    for place, node in enumerate(nodes):
        for i in node.reads:
            out.setdefault(i, []).append(place)
    return out


def fixed(tape: Tape) -> frozenset[int]:
    """The values that depend on no array that goes in: numbers, and what is made of them."""
    moving = {i for i in (*tape.inputs, *tape.constants) if np.prod(tape.shapes[i].shape) > 1}
    return frozenset(tape.shapes) - reached(tape.nodes, moving | set(tape.parameters))


def cuts(tape: Tape, start: int, still: frozenset[int], readers: Mapping[int, list[int]]) -> list[int]:
    """The values d = g(v), g elementwise in v = start alone, through which all of v's influence goes."""
    inside, reading, found = {start}, readers.get(start, [len(tape.nodes)]), []
    reach = max(reading)
    for place in range(min(reading), len(tape.nodes)):
        node = tape.nodes[place]
        if inside.isdisjoint(node.reads):
            continue
        rest = [i for i in node.reads if i not in inside]
        if (
            not node.elementwise
            or not set(rest) <= still
            or (node.name in {"add", "sub", "mul", "div"} and any(tape.shapes[i].shape for i in rest))
            or tape.shapes[node.outputs[0]].shape != tape.shapes[start].shape
        ):
            break  # from here on, something escapes
        (out,) = node.outputs
        if place >= reach and out in tape.active:
            found.append(out)
        inside.add(out)
        reach = max(reach, *readers.get(out, [len(tape.nodes)]))
    return found


def _merged(tape: Tape, start: int, end: int) -> Tape:
    """The tape with the elementwise steps from `start` to `end` made one, with all they read."""
    nodes = tape.nodes[: (tape.maker(end) or 0) + 1]
    inside = _leading(nodes, end, reached(nodes, [start]) - {start})
    if len(inside) < 2:
        return tape
    made, last = {o for node in inside for o in node.outputs}, inside[-1]
    outside = (start, *sorted({i for n in inside for i in n.reads} - made - {start}))

    def apply(*inputs):
        return (done(inside, dict(zip(outside, inputs, strict=True)))[end],)

    name = "+".join(n.name for n in inside)
    block = Node(name, apply, outside, (end,), True, {}, last.line, last.spot)
    nodes = [block if n is last else n for n in tape.nodes if n is last or made.isdisjoint(n.outputs)]
    return tape._replace(nodes=tuple(nodes))


def trace(loss: Callable, args: tuple, argnums: int | tuple[int, ...] = 0, merge: bool = True) -> Tape:
    """The tape of loss(*args); with `merge`, an activation function of many steps is made one."""
    tape = flatten(loss, args)
    numbered = jax.tree.unflatten(jax.tree.structure(args), tape.inputs)
    chosen = (argnums,) if isinstance(argnums, int) else argnums
    parameters = tuple(jax.tree.leaves([numbered[n] for n in chosen]))
    active = _active(tape, parameters)
    tape = tape._replace(parameters=parameters, active=active)
    still, readers = fixed(tape), consumers(tape.nodes)
    for node in tape.nodes if merge else ():
        # Z = U + b, Z = a product: where an activation function can begin
        reads = [i for i in node.reads if i in active]
        if not reads or (node.elementwise and len(reads) < 2) or node.name in VIEWS:
            continue
        for start in node.outputs:
            if start in active and (ends := cuts(tape, start, still, readers)):
                tape, before = _merged(tape, start, ends[-1]), tape
                readers = readers if tape is before else consumers(tape.nodes)
    made = {*tape.inputs, *tape.constants, *(v for node in tape.nodes for v in node.outputs)}
    return tape._replace(active=active & made)  # what is within a merged step is no value any more
