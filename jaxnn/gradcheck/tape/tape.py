"""A loss as a tape: every step of it, and every value."""

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

from jaxnn.gradcheck.jaxprs.equations import by_jax, line_of, opened, plan_of, scanned, spot_of, walked
from jaxnn.gradcheck.jaxprs.primitives import Kind, inner_of, of

CUSTOM, ELEMENTWISE = of(Kind.CUSTOM), of(Kind.FUNCTION, Kind.STEP, Kind.CORNER, Kind.SAME)
VIEWS = of(Kind.VIEW, Kind.SAME) - {"stop_gradient"} | {"convert_element_type"}
PRODUCTS = of(Kind.PRODUCT)
UNROLLED = 400  # a scan of at most so many equations, all turns together, is unrolled


class Node(NamedTuple):
    """A step: outputs = apply(*inputs). An input is the number of a value, or a Literal."""

    name: str
    apply: Callable[..., Sequence]
    inputs: tuple[Any, ...]
    outputs: tuple[int, ...]
    elementwise: bool
    params: dict[str, Any]
    line: str
    spot: tuple = ()  # where in the code, with its callers

    @property
    def reads(self) -> list[int]:
        """The inputs that are values."""
        return [i for i in self.inputs if not isinstance(i, Literal)]


class Tape(NamedTuple):
    """A loss, flat: its steps in order, and the numbers of the values that go in and come out."""

    nodes: tuple[Node, ...]
    inputs: tuple[int, ...]  # the leaves of args, in order
    parameters: tuple[int, ...]  # those of args[argnums]
    constants: dict[int, Any]  # what the loss closes over
    output: int
    shapes: dict[int, jax.ShapeDtypeStruct]
    active: frozenset[int]  # depends on a parameter, and is differentiable


def _is_elementwise(equation) -> bool:
    name = equation.primitive.name
    if name in of(Kind.CALL) or name == "custom_jvp_call":  # of a custom_vjp, JAX has no derivative forwards
        return all(_is_elementwise(e) for e in opened(inner_of(equation))[0].eqns)
    return name in ELEMENTWISE


def flatten(loss: Callable, args: tuple, inlined: frozenset[str] = of(Kind.CALL)) -> tuple:
    """(nodes, inputs, constants, output, shapes) of loss(*args), with these calls written out."""
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

    def unroll(equation, inputs) -> list:
        line = line_of(equation)

        def at(x, t: int) -> int:
            aval = jax.ShapeDtypeStruct(shapes[x].shape[1:], shapes[x].dtype)
            return extra("slice", lambda x: (x[t],), [x], aval, line)

        carry, columns = scanned(equation, inputs, walk, at)
        stack = lambda *rows: (jnp.stack(rows),)  # noqa: E731
        outs = zip(columns, equation.outvars[len(carry) :], strict=True)
        return [*carry, *(extra("stack", stack, column, v.aval, line) for column, v in outs)]

    def step(e, into: list) -> list:
        name, inner = e.primitive.name, e.params.get("jaxpr")
        if name in inlined:
            return walk(inner_of(e), into)
        if name == "scan" and e.params["length"] * len(opened(inner)[0].eqns) <= UNROLLED:
            return unroll(e, into)
        out = [number(v.aval) for v in e.outvars]
        form = tuple(into), tuple(out), _is_elementwise(e) and len(out) == 1, e.params
        nodes.append(Node(name, partial(by_jax, e), *form, line_of(e), spot_of(e)))
        return out

    def walk(closed, into: list) -> list:
        jaxpr, consts = opened(closed)
        return walked(jaxpr, plan_of(jaxpr), [*map(constant, consts), *into], step)

    inputs = tuple(number(v.aval) for v in opened(closed)[0].invars)
    (output,) = walk(closed, list(inputs))
    return _leading(nodes, output, shapes), inputs, constants, output, shapes


def _leading(nodes: Sequence[Node], end: int, through: Collection[int]) -> tuple[Node, ...]:
    """The steps that lead to a value by way of these."""
    wanted, kept = {end}, []
    for node in reversed(nodes):
        if not wanted.isdisjoint(node.outputs):
            kept.append(node)
            wanted.update(i for i in node.reads if i in through)
    return tuple(reversed(kept))


def reached(nodes: Iterable[Node], start: Iterable[int]) -> set[int]:
    """The values that depend on any of these."""
    found = set(start)
    for node in nodes:
        if not found.isdisjoint(node.reads):
            found |= set(node.outputs)
    return found


def origins(nodes: Iterable[Node], sources: Iterable[int]) -> dict[int, set[int]]:
    """value → those of the sources that it depends on."""
    origin = {i: {i} for i in sources}
    for node in nodes:
        read = set().union(*(origin.get(i, set()) for i in node.reads))
        origin |= dict.fromkeys(node.outputs, read)
    return origin


def _active(nodes, parameters, shapes) -> frozenset[int]:
    floats = {i for i, shape in shapes.items() if jnp.issubdtype(shape.dtype, jnp.floating)}
    active = floats & set(parameters)
    for node in nodes:
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


def cuts(tape: Tape, start: int, still: frozenset[int] | None = None) -> list[int]:
    """The values d = g(v), g elementwise in v = start alone, through which all of v's influence goes."""
    still = fixed(tape) if still is None else still
    readers = consumers(tape.nodes)
    inside, reach, found = {start}, max(readers.get(start, [-1])), []
    for place, node in enumerate(tape.nodes):
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


def _composed(nodes: Sequence[Node], start: int, end: int) -> Node:
    """The steps from value `start` to value `end` as one step with all they read."""
    made = {o for node in nodes for o in node.outputs}
    outside = [start, *sorted({i for n in nodes for i in n.reads} - made - {start})]

    def apply(*inputs):
        env = dict(zip(outside, inputs, strict=True))
        for node in nodes:
            read = [i.val if isinstance(i, Literal) else env[i] for i in node.inputs]
            env.update(zip(node.outputs, node.apply(*read), strict=True))
        return (env[end],)

    name = "+".join(n.name for n in nodes)
    return Node(name, apply, tuple(outside), (end,), True, {}, nodes[-1].line, nodes[-1].spot)


def _merged(tape: Tape, start: int, end: int) -> Tape:
    """The tape with the elementwise steps from `start` to `end` made one."""
    inside = _leading(tape.nodes, end, reached(tape.nodes, [start]) - {start})
    if len(inside) < 2:
        return tape
    block, last, gone = _composed(inside, start, end), inside[-1], {id(n) for n in inside}
    nodes = [block if n is last else n for n in tape.nodes if n is last or id(n) not in gone]
    return tape._replace(nodes=tuple(nodes))


def trace(loss: Callable, args: tuple, argnums: int | tuple[int, ...] = 0, merge: bool = True) -> Tape:
    """The tape of loss(*args); with `merge`, an activation function of many steps is made one."""
    nodes, inputs, constants, output, shapes = flatten(loss, args)
    numbered = jax.tree.unflatten(jax.tree.structure(args), inputs)
    chosen = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    parameters = tuple(jax.tree.leaves([numbered[n] for n in chosen]))
    active = _active(nodes, parameters, shapes)
    tape = Tape(nodes, inputs, parameters, constants, output, shapes, active)
    still = fixed(tape)
    for node in tape.nodes if merge else ():
        # Z = U + b, Z = a product: where an activation function can begin
        reads = [i for i in node.reads if i in active]
        if not reads or (node.elementwise and len(reads) < 2) or node.name in VIEWS:
            continue
        for start in node.outputs:
            if start in active and (ends := cuts(tape, start, still)):
                tape = _merged(tape, start, ends[-1])
    return tape


class Change(NamedTuple):
    """What a backward pass is done with. The defaults of a Point make it the right one.

    The cotangent of value v, once summed, becomes free[v] · it + given[v]. What stands in none of
    gains, given, free and taken is as it was.
    """

    factors: dict[str, Any]  # "node,input" → local derivative of an elementwise step
    operands: dict[str, Any]  # "node,input" → operand of any other step
    gains: dict[str, Any]  # "node,input" → a scalar on that edge
    given: dict[str, Any]
    free: dict[str, Any]
    taken: dict[str, tuple[int, bool]]  # "node,input" → the value whose cotangent it gets; transposed?


class Point(NamedTuple):
    """A tape at one point: all its values, the right backward pass there, and `pull` to change it."""

    tape: Tape
    args: tuple
    values: dict[int, np.ndarray]
    change: Change
    gradient: list[np.ndarray]
    cotangents: dict[int, np.ndarray]
    pull: Callable[[Change], tuple[list[np.ndarray], dict[int, np.ndarray]]]
    programs: "Programs"


def edge(place: int, k: int) -> str:
    """The name of the k-th input of the step at `place`, as the fields of a Change are keyed."""
    return f"{place},{k}"


class Layer(NamedTuple):
    """A product with a parameter, the bias added to it, and the activation function after it."""

    number: int
    place: int  # of the product's step
    input_side: int  # which of its operands is A[l-1]; the other is W[l]
    weight: int  # which parameter leaf
    bias: int | None
    before: int  # the value that is the operand A[l-1]
    product: int  # the value of the product
    z: int
    a: int  # = z where no activation function follows
    activation: int | None  # the place of Z → A


class Structure(NamedTuple):
    """What a loss is made of, by numbers of values and places of steps."""

    layers: tuple[Layer, ...]
    turns: tuple[Layer, ...]  # what would be a layer, were it not one turn of a loop; no numbers
    views: dict[int, int]  # value → the parameter leaf of which it is a view
    penalties: tuple[tuple[int, int], ...]  # edges on which a term of parameters alone is added
    masks: tuple[tuple[int, int], ...]  # edges on which a layer's values meet an array of numbers
    targets: tuple[int, ...]  # inputs and constants that only the loss reads: Y
    data: tuple[int, ...]  # the others that are arrays: X, masks

    @property
    def products(self) -> tuple[Layer, ...]:
        """The layers, or where there are none what each turn of a loop does like one."""
        return self.layers or self.turns


class Programs(NamedTuple):
    """The two programs of a tape at some shapes: leaves → values and defaults; change → gradient."""

    prepare: Callable
    pull: Callable
    edges: frozenset[str]  # all that something is differentiated through
    work: float  # of one backward pass, in multiplications
