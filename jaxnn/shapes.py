"""What a network is made of, at a glance: the shape of every array, forward and backward, and its bytes."""

import html
import math
import textwrap
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxnn.layers import Layer, ShapeError

WIDTH, INDENT = 80, 6 * " "


class Named(NamedTuple):
    """An array under its names: of one that is both Z and A, Z = A."""

    names: tuple[str, ...]
    shape: tuple[int, ...]
    bytes: int
    graded: bool  # has a gradient: it is of real numbers

    def text(self, d: str = "") -> str:
        """Names and shape; with d those of its gradient, if it has one, which has its shape.

        >>> Z = Named(("0.Z", "A"), (32, 17), 2176, True)
        >>> Z.text(), Z.text("d")
        ('0.Z = A (32, 17)', '0.dZ = dA (32, 17)')
        """
        if d and not self.graded:
            return ""
        names = (".".join([*path, d + last]) for *path, last in (name.split(".") for name in self.names))
        return f"{' = '.join(names)} {self.shape}"


class Row(NamedTuple):
    """A layer: its place, such as 2 or, within a network in a network, 2.1; and its arrays."""

    place: str
    layer: str
    params: list[Named]
    parameters: int  # how many numbers they are
    arrays: list[Named]  # that its forward pass makes; the last one is its output
    kept: int  # bytes of its residuals that no layer before it keeps, beside X and the parameters


class Shapes(NamedTuple):
    """The shapes of a network's arrays; `print` shows them in 80 columns, a notebook as a table."""

    network: str
    X: Named
    rows: list[Row]

    @property
    def parameters(self) -> int:
        """How many numbers the parameters are."""
        return sum(row.parameters for row in self.rows)

    @property
    def bytes(self) -> int:
        """What the parameters take; their gradients take as much."""
        return sum(array.bytes for row in self.rows for array in row.params)

    @property
    def kept(self) -> int:
        """The bytes that the forward pass keeps for the backward one, beside the parameters and X."""
        return sum(row.kept for row in self.rows)

    def __str__(self) -> str:
        """Each layer's arrays, forward, and their gradients under them."""
        lines = [*_wrapped(self.network), "", f"       {self.X.text()}"]
        for row in self.rows:
            counts = f"{_counted(row)}, {row.kept:,} bytes kept"
            head = _wrapped(f" {row.place:<3}  {row.layer}", WIDTH - 2 - len(counts), "      ")
            lines += ["", f"{head[0]:{WIDTH - len(counts)}}{counts}", *head[1:]]
            lines += _pairs([*row.params, *row.arrays])
        return "\n".join([*lines, "", *_wrapped(self._summary())])

    def _summary(self) -> str:
        return (
            f"{self.parameters:,} parameters of {self.bytes:,} bytes, and as many for their gradients; "
            f"forward keeps {self.kept:,} bytes for backward, beside X of {self.X.bytes:,} bytes"
        )

    def _repr_html_(self) -> str:
        """The same as a table."""
        head = ("l", "layer", "forward", "backward", "parameters", "bytes kept")
        rows = [("", "", self.X.text(), "", "", "")]
        for row in self.rows:
            arrays = [*row.params, *row.arrays]
            both = ["<br>".join(html.escape(array.text(d)) for array in arrays) for d in ("", "d")]
            rows += [(row.place, html.escape(row.layer), *both, f"{row.parameters:,}", f"{row.kept:,}")]
        lines = [_cells("th", head), *(_cells("td", row) for row in rows)]
        title, summary = html.escape(self.network), html.escape(self._summary())
        return f"<table><caption>{title}</caption>{''.join(lines)}</table><p>{summary}</p>"


def shapes(net: Layer, X) -> Shapes:
    """The shapes of all arrays of a forward and a backward pass; nothing is computed.

    `X` is the input, an array or a `jax.ShapeDtypeStruct`; or the number N of its examples, where the
    network knows the shape of one of them. Of whatever layers it is made, each one's parameters and
    residuals stand under the names that it gives them; residuals without a name, or without an entry, are
    not shown.

    Under each array stands its gradient. `bytes kept` are those of a layer's residuals, an array that several
    keep counted with the first. Raises ValueError where N is not enough, and ShapeError, which names the
    layer, where X does not fit, or where a backward gives gradients of other shapes.

    >>> from jaxnn.activations import sigmoid
    >>> from jaxnn.layers import mlp
    >>> print(shapes(mlp(784, 17, 10, g=sigmoid), 32))
    784-17-10: dense(784→17, sigmoid), dense(17→10)
    <BLANKLINE>
           X (32, 784)
    <BLANKLINE>
     1    dense(784→17, sigmoid)                 13,345 parameters, 2,176 bytes kept
             W (17, 784)   b (17, 1)   Z (32, 17)   A (32, 17)
            dW (17, 784)  db (17, 1)  dZ (32, 17)  dA (32, 17)
    <BLANKLINE>
     2    dense(17→10)                              180 parameters, 1,280 bytes kept
             W (10, 17)   b (10, 1)    Z = A (32, 10)
            dW (10, 17)  db (10, 1)  dZ = dA (32, 10)
    <BLANKLINE>
    13,525 parameters of 54,100 bytes, and as many for their gradients; forward
    keeps 3,456 bytes for backward, beside X of 100,352 bytes
    """
    A = given = _input(net, X)
    X, rows = Named(("X",), A.shape, _bytes(A), _is_real(A)), []
    for place, layer in _places(net):
        try:
            row, A = _row(place, layer, A)
        except ShapeError as error:
            raise ShapeError(f"layer {place}: {error}") from None
        rows.append(row)
    kept = _kept(net, given)
    rows = [row._replace(kept=bytes) for row, bytes in zip(rows, kept, strict=True)]
    return Shapes(str(net), X, rows)


def _input(net: Layer, X) -> jax.ShapeDtypeStruct:
    if not isinstance(X, int):
        return jax.ShapeDtypeStruct(X.shape, X.dtype)
    if X < 1:
        raise ValueError(f"N: got {X}, expected 1 or more examples")
    if net.takes is None:
        raise ValueError(
            f"N: got {X} alone, expected X, an array or jax.ShapeDtypeStruct, because this network "
            f"does not tell the shape of its input: {net}"
        )
    return jax.ShapeDtypeStruct((X, *net.takes), jnp.result_type(float))


def _places(net: Layer, place: str = "") -> Iterator[tuple[str, Layer]]:
    """The layers that are not made of others, with their places."""
    if not net.layers:
        yield place or "1", net
    for k, layer in enumerate(net.layers, start=1):
        yield from _places(layer, f"{place}.{k}" if place else f"{k}")


def _row(place: str, layer: Layer, A_prev) -> tuple[Row, Any]:
    """The row of a layer, with nothing kept, and its output."""
    params, same = _params(layer), []

    def forward(params, A_prev):
        A, residuals = _pair("forward", layer.forward(params, A_prev), "(A, residuals)")
        there = [A, A_prev, *jax.tree.leaves(params), *jax.tree.leaves(residuals)]
        same[:] = [next(k for k, other in enumerate(there) if other is array) for array in there]
        return A, residuals

    A, residuals = jax.eval_shape(forward, params, A_prev)
    gradients = jax.eval_shape(layer.backward, params, residuals, A)
    _check(params, A_prev, *_pair("backward", gradients, "(dparams, dA_prev)"))
    own, kept = _named(params, "params"), _named(residuals, "0")
    arrays = {}  # the first that is the same array: it, and its names
    for (name, array), k in zip(kept, same[2 + len(own) :], strict=True):
        has_name = not name.rpartition(".")[2].isdecimal()  # it is no number of a tuple or list
        if has_name and array.size and (k == 0 or k >= 2 + len(own)):  # neither the input nor a parameter
            arrays.setdefault(k, (array, []))[1].append(name)
    _, names = arrays.pop(0, (A, []))
    made = [*arrays.values(), (A, names if "A" in names else [*names, "A"])]
    numbers = sum(math.prod(array.shape) for _, array in own)
    params = [_array(array, [name]) for name, array in own]
    return Row(place, str(layer), params, numbers, [_array(*pair) for pair in made], 0), A


def _params(layer: Layer):
    return jax.eval_shape(lambda: layer.init(jax.random.key(0)))


def _kept(net: Layer, X) -> list[int]:
    """The bytes of the residuals of each layer that is not made of others."""
    found = []

    def forward(params, X):
        _, residuals = net.forward(params, X)
        seen = {id(array) for array in (X, *jax.tree.leaves(params))}
        for kept in _residuals(net, residuals):
            new = {id(array): array for array in jax.tree.leaves(kept) if id(array) not in seen}
            found.append(sum(map(_bytes, new.values())))
            seen |= new.keys()
        return residuals

    jax.eval_shape(forward, _params(net), X)
    return found


def _residuals(net: Layer, residuals) -> Iterator[Any]:
    """Those of each layer that is not made of others, in their order."""
    if not net.layers:
        yield residuals
    for layer, kept in zip(net.layers, residuals if net.layers else (), strict=True):
        yield from _residuals(layer, kept)


def _pair(what: str, found, expected: str) -> tuple[Any, Any]:
    """What a layer's forward or backward returned. Raises ShapeError unless it is a pair."""
    if isinstance(found, tuple | list) and len(found) == 2 and not hasattr(found, "_fields"):
        return found[0], found[1]
    several = isinstance(found, tuple | list) and not hasattr(found, "_fields")
    kind = "an array" if hasattr(found, "shape") else f"of type {type(found).__name__}"
    got = f"{len(found)} things" if several else f"one thing, {kind}"
    raise ShapeError(f"its {what} returns {got}, expected two: return {expected}")


def _check(params, A_prev, dparams, dA_prev) -> None:
    """Raise ShapeError unless gradients have the shapes of what they are the gradients of."""
    pairs = [*zip(_named(params, "params"), _named(dparams, "params"), strict=False)]
    if jax.tree.structure(params) != jax.tree.structure(dparams):
        raise ShapeError(f"its backward gives {jax.tree.structure(dparams)}, expected that of params")
    if _is_real(A_prev):
        pairs.append((("A_prev", A_prev), ("A_prev", dA_prev)))
    for (name, array), (_, gradient) in pairs:
        if getattr(gradient, "shape", None) != array.shape and _is_real(array):
            got = getattr(gradient, "shape", "no array")
            raise ShapeError(f"its backward gives a gradient of {name} of {got}, expected {array.shape}")


def _named(tree, alone: str) -> list[tuple[str, Any]]:
    """The arrays of a tree with their names; one that stands alone has none of its own."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [(jax.tree_util.keystr(path, simple=True, separator=".") or alone, leaf) for path, leaf in leaves]


def _array(array, names: list[str]) -> Named:
    few = names if len(names) <= 3 else [*names[:2], names[-1]]
    return Named(tuple(few), array.shape, _bytes(array), _is_real(array))


def _bytes(array) -> int:
    return math.prod(jnp.shape(array)) * jnp.result_type(array).itemsize


def _is_real(array) -> bool:
    return jnp.issubdtype(array.dtype, jnp.floating)


def _counted(row: Row) -> str:
    return f"{row.parameters:,} parameter" + "s" * (row.parameters != 1)


def _wrapped(text: str, width: int = WIDTH, indent: str = "") -> list[str]:
    return textwrap.wrap(text, max(width, 20), subsequent_indent=indent)


def _pairs(arrays: list[Named]) -> list[str]:
    """The arrays in rows, and under each of them its gradient."""
    lines, forward, backward = [], INDENT, INDENT
    for array in arrays:
        above, below = (_cut(array.text(d)) for d in ("", "d"))
        width = max(len(above), len(below)) + 2
        if len(forward) + width > WIDTH and forward.strip():
            lines += [forward, backward]
            forward, backward = INDENT, INDENT
        forward, backward = f"{forward}{above:>{width}}", f"{backward}{below:>{width}}"
    return [line for line in (*lines, forward, backward) if line.strip()]


def _cut(text: str, most: int = WIDTH - 10) -> str:
    return text if len(text) <= most else f"{text[: most // 2]}…{text[1 - most // 2 :]}"


def _cells(kind: str, row: tuple[str, ...]) -> str:
    return f"<tr>{''.join(f'<{kind}>{cell}</{kind}>' for cell in row)}</tr>"
