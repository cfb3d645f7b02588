"""The quantities of a dense layer at a scene: Z[l], A[l], dZ[l] with a row an example."""

from collections.abc import Callable
from functools import partial

import numpy as np

from jaxnn.gradcheck.jaxprs.equations import kind_of
from jaxnn.gradcheck.tape.scene import Scene
from jaxnn.gradcheck.tape.tape import Layer


def sigmoid(z):
    """σ(z)."""
    return 0.5 * (1 + np.tanh(0.5 * z))


def softmax(z):
    """Softmax along the last axis."""
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def z_of(scene, y):
    """Z[l]."""
    return scene.point.values[y.z]


def a_of(scene, y):
    """A[l]."""
    return scene.point.values[y.a]


def layer_at(scene: Scene, number: int) -> Layer | None:
    """The layer of that number, if there is one."""
    layers = scene.structure.layers
    return layers[number - 1] if 1 <= number <= len(layers) else None


def examples_axis(layer: Layer) -> int:
    """The axis of A[l-1] and Z[l] that is the examples."""
    return -1 if layer.input_side == 1 else 0


def averaged(x: np.ndarray, axis: int) -> np.ndarray:
    """The mean along an axis, in the place of each entry."""
    return np.broadcast_to(x.mean(axis, keepdims=True), x.shape) if x.ndim else x


def oriented(scene: Scene, layer: Layer, leaf_value: np.ndarray, old: np.ndarray):
    """A value of the leaf's shape as the product's operand would have it."""
    leaf = scene.point.values[scene.point.tape.parameters[layer.weight]]
    if leaf_value.shape != leaf.shape:
        return None
    if leaf.shape == old.shape and np.array_equal(leaf, old):
        return leaf_value
    return leaf_value.T if leaf.T.shape == old.shape and np.array_equal(leaf.T, old) else None


def upright(scene: Scene, layer: Layer, x: np.ndarray) -> np.ndarray:
    """A quantity of the shape of Z[l] with a row an example and a column a neuron."""
    if x.ndim == 2:
        return x.T if layer.input_side == 1 else x
    if x.ndim == 1:
        return x[:, None] if scene.point.values[layer.before].ndim == 2 else x[None, :]
    return x.reshape(-1, x.shape[-1]) if x.ndim else x.reshape(1, 1)


def as_it_was(layer: Layer, x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The opposite of upright."""
    return (x.T if len(shape) == 2 and layer.input_side == 1 else x).reshape(shape)


def target_of(scene: Scene) -> np.ndarray | None:
    """Y with a row an example, a column a class."""
    every = (as_target(scene, t) for t in scene.structure.targets)
    return next((y for y in every if y is not None), None)


def as_target(scene: Scene, value: int) -> np.ndarray | None:
    """An array as Y, with a row an example and a column a class; None if it cannot be."""
    layer, y = scene.structure.layers[-1], scene.point.values[value]
    z = upright(scene, layer, z_of(scene, layer))
    if kind_of(y) == "f" and y.ndim == 2 and layer.input_side == 1 and y.T.shape == z.shape:
        return y.T
    if kind_of(y) == "f" and y.size == z.size:
        return y.reshape(z.shape)
    if kind_of(y) in {*"iu"} and y.size == len(z) and z.shape[1] > 1:
        return np.eye(z.shape[1])[np.clip(y.ravel(), 0, z.shape[1] - 1)]
    if kind_of(y) in {*"iub"} and y.size == z.size:
        return y.reshape(z.shape).astype(np.float64)
    return None


def dense_rows(scene: Scene, layer: Layer) -> tuple[np.ndarray, np.ndarray] | None:
    """(A[l-1], dZ[l]) with a row an example, for a plain dense layer."""
    node = scene.point.tape.nodes[layer.place]
    if node.name != "dot_general" or any(node.params["dimension_numbers"][1]):
        return None
    contract = node.params["dimension_numbers"][0][layer.input_side]
    held = scene.point.values[layer.before], scene.point.cotangents[layer.product]
    a, d = (np.asarray(x, np.float64) for x in held)  # NumPy solves nothing in half precision
    if a.ndim != 2 or d.ndim != 2 or len(contract) != 1:
        return None
    if contract[0] == 0:
        a = a.T
    if layer.input_side == 1:
        d = d.T
    return (a, d) if a.shape[0] == d.shape[0] else None


def as_product(scene: Scene, layer: Layer, leaf: np.ndarray) -> np.ndarray | None:
    """A leaf-shaped gradient as (n_l, n_{l-1})."""
    rows = dense_rows(scene, layer)
    if rows is None:
        return None
    a, d = rows
    node = scene.point.tape.nodes[layer.place]
    operand = scene.point.values[node.inputs[1 - layer.input_side]]
    value = oriented(scene, layer, leaf, operand)
    if value is None or value.ndim != 2:
        return None
    contract = node.params["dimension_numbers"][0][1 - layer.input_side]
    value = value if contract[0] == 1 else value.T
    return value if value.shape == (d.shape[1], a.shape[1]) else None


def _leaky(slope: float, z: np.ndarray) -> np.ndarray:
    """leaky relu′."""
    return np.where(z > 0, 1.0, slope)


# (name, g′ of Z, g′ as one writes it by A)
SLOPES: tuple[tuple[str, Callable, Callable | None], ...] = (
    ("σ′", lambda z: sigmoid(z) * sigmoid(-z), lambda a: a * (1 - a)),
    ("tanh′", lambda z: 1 - np.tanh(z) ** 2, lambda a: 1 - a * a),
    ("relu′", lambda z: (z > 0) * 1.0, lambda a: (a > 0) * 1.0),
    ("leaky relu′ (0.01)", partial(_leaky, 0.01), partial(_leaky, 0.01)),
    ("leaky relu′ (0.1)", partial(_leaky, 0.1), partial(_leaky, 0.1)),
    ("leaky relu′ (0.2)", partial(_leaky, 0.2), partial(_leaky, 0.2)),
    ("σ, which is softplus′,", sigmoid, lambda a: 1 - np.exp(-a)),
    ("silu′", lambda z: sigmoid(z) * (1 + z * sigmoid(-z)), None),
    ("elu′", lambda z: np.where(z > 0, 1.0, np.exp(np.minimum(z, 0))), lambda a: np.where(a > 0, 1.0, a + 1)),
    ("cos, which is sin′,", np.cos, None),
    ("softsign′", lambda z: 1 / (1 + np.abs(z)) ** 2, lambda a: (1 - np.abs(a)) ** 2),
)
