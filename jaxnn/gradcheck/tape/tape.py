"""A loss as a tape: every step of it, and every value."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

from jaxnn.gradcheck.jaxprs.equations import line_of, opened, scan_counts, spot_of

INLINED = {"jit", "pjit", "closed_call", "core_call", "remat", "remat2", "checkpoint"}
CUSTOM = {"custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr"}
PRODUCTS = {"dot_general", "conv_general_dilated"}
UNROLLED = 400  # a scan of at most so many equations, all turns together, is unrolled

VIEWS = {"transpose", "reshape", "broadcast_in_dim", "convert_element_type", "squeeze"}
VIEWS |= {"expand_dims", "copy", "copy_p", "rev", "name", "reduce_precision"}

ELEMENTWISE = {
    *("abs", "acos", "acosh", "add", "add_any", "asin", "asinh", "atan", "atan2", "atanh", "cbrt"),
    *("ceil", "clamp", "convert_element_type", "copy", "copy_p", "cos", "cosh", "digamma", "div"),
    *("erf", "erf_inv", "erfc", "exp", "exp2", "expm1", "floor", "integer_pow", "is_finite"),
    *("lgamma", "log", "log1p", "log2", "logistic", "max", "min", "mul", "name", "neg", "nextafter"),
    *("one_minus_square", "polynomial"),
    *("pow", "reduce_precision", "rem", "round", "rsqrt", "select_n", "sign", "sin", "sinh"),
    *("sqrt", "square", "sub", "tan", "tanh", "eq", "ne", "lt", "le", "gt", "ge", "and", "or"),
    *("not", "xor", "stop_gradient"),
}


class Node(NamedTuple):
    """A step: outputs = apply(*inputs). An input is the number of a value, or a Literal."""

    name: str
    apply: Callable[..., tuple]
    inputs: tuple[Any, ...]
    outputs: tuple[int, ...]
    elementwise: bool
    params: dict[str, Any]
    line: str
    spot: tuple = ()  # where in the code, with its callers


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
    if name in INLINED or name == "custom_jvp_call":
        inner = equation.params.get("jaxpr", equation.params.get("call_jaxpr"))
        return all(_is_elementwise(e) for e in opened(inner)[0].eqns)
    return name in ELEMENTWISE


def _applied(equation, *inputs) -> tuple:
    primitive = equation.primitive
    out = primitive.bind(*inputs, **primitive.get_bind_params(equation.params))
    return tuple(out) if primitive.multiple_results else (out,)


def _step(equation, inputs: list, outputs: list[int]) -> Node:
    return Node(
        equation.primitive.name,
        partial(_applied, equation),
        tuple(inputs),
        tuple(outputs),
        _is_elementwise(equation) and len(outputs) == 1,
        equation.params,
        line_of(equation),
        spot_of(equation),
    )


def flatten(loss: Callable, args: tuple, through: frozenset[str] = frozenset()) -> tuple:
    """(nodes, inputs, constants, output, shapes) of loss(*args); also inlines the calls `through`."""
    closed = jax.make_jaxpr(loss)(*args)
    jaxpr, consts = opened(closed)
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

    def extra(name, apply, inputs, avals, line) -> list[int]:
        out = [number(a) for a in avals]
        nodes.append(Node(name, apply, tuple(inputs), tuple(out), False, {}, line))
        return out

    def unroll(equation, inputs) -> list:
        p, line = equation.params, line_of(equation)
        inner, inner_consts = opened(p["jaxpr"])
        turns = p["length"]
        n_const, n_carry = scan_counts(p)
        fixed, carry, xs = (
            inputs[:n_const],
            inputs[n_const : n_const + n_carry],
            inputs[n_const + n_carry :],
        )
        held = [constant(c) for c in inner_consts]
        columns: list[list] = [[None] * turns for _ in inner.outvars[n_carry:]]
        for t in reversed(range(turns)) if p["reverse"] else range(turns):
            avals = [v.aval for v in inner.invars[n_const + n_carry :]]
            slices = [
                extra("slice", lambda x, t=t: (x[t],), [x], [a], line)[0]
                for x, a in zip(xs, avals, strict=True)
            ]
            out = walk(inner, held, [*fixed, *carry, *slices])
            carry = out[:n_carry]
            for column, value in zip(columns, out[n_carry:], strict=True):
                column[t] = value
        stacks = [
            extra("stack", lambda *rows: (jnp.stack(rows),), column, [v.aval], line)[0]
            for column, v in zip(columns, equation.outvars[n_carry:], strict=True)
        ]
        return [*carry, *stacks]

    def walk(jaxpr, held, inputs) -> list:
        env = dict(zip(getattr(jaxpr, "constvars", ()), held, strict=True))
        env.update(zip(jaxpr.invars, inputs, strict=True))

        def read(atom):
            return atom if isinstance(atom, Literal) else env[atom]

        for e in jaxpr.eqns:
            name, into = e.primitive.name, [read(v) for v in e.invars]
            inner = e.params.get("jaxpr", e.params.get("call_jaxpr"))
            if (name in INLINED or name in through) and inner is not None:
                inner, inner_consts = opened(inner)
                out = walk(inner, [constant(c) for c in inner_consts], into)
            elif name == "scan" and e.params["length"] * len(opened(inner)[0].eqns) <= UNROLLED:
                out = unroll(e, into)
            else:
                out = [number(v.aval) for v in e.outvars]
                nodes.append(_step(e, into, out))
            env.update(zip(e.outvars, out, strict=True))
        return [read(v) for v in jaxpr.outvars]

    inputs = tuple(number(v.aval) for v in jaxpr.invars)
    (output,) = walk(jaxpr, [constant(c) for c in consts], list(inputs))
    return _needed(nodes, output), inputs, constants, output, shapes


def _needed(nodes: list[Node], output: int) -> tuple[Node, ...]:
    """The steps that lead to the output."""
    wanted, kept = {output}, []
    for node in reversed(nodes):
        if wanted & set(node.outputs):
            kept.append(node)
            wanted |= {i for i in node.inputs if not isinstance(i, Literal)}
    return tuple(reversed(kept))


def _active(nodes, parameters, shapes) -> frozenset[int]:
    active = {p for p in parameters if jnp.issubdtype(shapes[p].dtype, jnp.floating)}
    for node in nodes:
        if node.name != "stop_gradient" and any(
            not isinstance(i, Literal) and i in active for i in node.inputs
        ):
            active |= {o for o in node.outputs if jnp.issubdtype(shapes[o].dtype, jnp.floating)}
    return frozenset(active)


def consumers(nodes) -> dict[int, list[int]]:
    """value → the places of the steps that read it."""
    out: dict[int, list[int]] = {}
    for place, node in enumerate(nodes):
        for i in node.inputs:
            if not isinstance(i, Literal):
                out.setdefault(i, []).append(place)
    return out


def fixed(tape: Tape) -> frozenset[int]:
    """The values that depend on no array that goes in: numbers, and what is made of them."""
    moving = {i for i in (*tape.inputs, *tape.constants) if np.prod(tape.shapes[i].shape) > 1}
    moving |= set(tape.parameters)
    for node in tape.nodes:
        if any(not isinstance(i, Literal) and i in moving for i in node.inputs):
            moving |= set(node.outputs)
    return frozenset(tape.shapes) - moving


def cuts(tape: Tape, start: int, still: frozenset[int] | None = None) -> list[int]:
    """The values d = g(v), g elementwise in v = start alone, through which all of v's influence goes."""
    still = fixed(tape) if still is None else still
    readers = consumers(tape.nodes)
    inside, reach, found = {start}, max(readers.get(start, [-1])), []
    for place, node in enumerate(tape.nodes):
        read = [i for i in node.inputs if not isinstance(i, Literal)]
        if not inside & set(read):
            continue
        rest = [i for i in read if i not in inside]
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
    outside = [
        start,
        *sorted(
            {i for n in nodes for i in n.inputs if not isinstance(i, Literal) and i not in made} - {start}
        ),
    ]

    def apply(*inputs):
        env = dict(zip(outside, inputs, strict=True))
        for node in nodes:
            read = [i.val if isinstance(i, Literal) else env[i] for i in node.inputs]
            env.update(zip(node.outputs, node.apply(*read), strict=True))
        return (env[end],)

    name = "+".join(n.name for n in nodes)
    return Node(name, apply, tuple(outside), (end,), True, {}, nodes[-1].line, nodes[-1].spot)


def _since(tape: Tape, start: int, value: int) -> bool:
    """Whether `value` is computed from `start`."""
    known = {start}
    for node in tape.nodes:
        if any(not isinstance(i, Literal) and i in known for i in node.inputs):
            known |= set(node.outputs)
    return value in known


def _merged(tape: Tape, start: int, end: int) -> Tape:
    """The tape with the elementwise steps from `start` to `end` made one."""
    wanted, inside = {end}, []
    for node in reversed(tape.nodes):
        if wanted & set(node.outputs):
            inside.append(node)
            wanted |= {
                i for i in node.inputs if not isinstance(i, Literal) and i != start and _since(tape, start, i)
            }
    if len(inside) < 2:
        return tape
    block = _composed(inside[::-1], start, end)
    last = inside[0]
    gone = {id(n) for n in inside}
    nodes = [block if n is last else n for n in tape.nodes if n is last or id(n) not in gone]
    return tape._replace(nodes=tuple(nodes))


def trace(loss: Callable, args: tuple, argnums: int | tuple[int, ...] = 0, merge: bool = True) -> Tape:
    """The tape of loss(*args); with `merge`, an activation function of many steps is made one."""
    nodes, inputs, constants, output, shapes = flatten(loss, args)
    sizes = [len(jax.tree.leaves(a)) for a in args]
    starts = np.cumsum([0, *sizes])
    chosen = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    parameters = tuple(i for n in chosen for i in inputs[starts[n] : starts[n] + sizes[n]])
    active = _active(nodes, parameters, shapes)
    tape = Tape(nodes, inputs, parameters, constants, output, shapes, active)
    still = fixed(tape)
    for node in tape.nodes if merge else ():
        # Z = U + b, Z = a product: where an activation function can begin
        reads = [i for i in node.inputs if not isinstance(i, Literal) and i in active]
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
