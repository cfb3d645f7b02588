"""Where the numbers of a training stop being finite."""

import re
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool

from jaxnn.layers import Layer, Residuals
from jaxnn.runs.checkpoints import named
from jaxnn.runs.record import is_lecture
from jaxnn.training import State


def finite(tree) -> Bool[Array, ""]:
    """Whether every entry of every array in a tree is finite.

    >>> import jax.numpy as jnp
    >>> finite({"W": jnp.array([1.0, jnp.inf]), "b": jnp.array(0.0)})
    Array(False, dtype=bool)
    """
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]).all()


def computed(net: Layer, gradient: Callable, optimizer: optax.GradientTransformation) -> Callable:
    """A step that shows all of its arrays: `show(state, X, Y, *key) -> (state, arrays)`.

    `arrays` are pairs of a name and an array, in the order of the computation: Z[1], ..., Z[L], J (A[l] where
    that is kept in place of Z[l]), dW[L], db[L], ..., dW[1], db[1], the optimizer's state, and the new W[1],
    b[1], ... The `net` is made of dense layers, or else its arrays go by their places; `gradient` and
    `optimizer` are those of the training.
    """

    def show(state: State, X, Y, *key):
        Z, residuals = net.forward(state.params, X, *key)
        J, dparams = gradient(state.params, X, Y, *key)
        updates, opt_state = optimizer.update(dparams, state.opt_state, state.params)
        params: Any = optax.apply_updates(state.params, updates)
        if not is_lecture(state.params) or any(not isinstance(r, Residuals) for r in residuals):
            trees = {"residual": residuals, "J": J, "d": dparams, "optimizer": opt_state, "new": params}
            arrays = [pair for name, tree in trees.items() for pair in named({name: tree}).items()]
            return State(params, opt_state), arrays
        kept = ((f"{name}[{l}]", r._asdict()[name]) for l, r in enumerate(residuals[:-1], 1) for name in "ZA")
        arrays = [(name, array) for name, array in kept if array is not None]
        arrays += [(f"Z[{len(residuals)}]", Z), ("J", J)]  # A[L] = Ŷ is the loss's
        for l, layer in reversed(list(enumerate(dparams, 1))):
            arrays += [(f"dW[{l}]", layer.W), (f"db[{l}]", layer.b)]
        for path, array in named(opt_state).items():
            arrays += [(re.sub(r"(.*)\.(\d+)\.([Wb])$", _of_layer, path), array)]
        for l, layer in enumerate(params, 1):
            arrays += [(f"W[{l}]", layer.W), (f"b[{l}]", layer.b)]
        return State(params, opt_state), arrays

    return show


def _of_layer(path: re.Match) -> str:
    return f"{path[3]}[{int(path[2]) + 1}] in the optimizer's {path[1]}"


def origin(
    state: State, first: int, pieces: Iterable[tuple[int, State, Array]], batch: Callable, show: Callable
) -> tuple[int, str] | None:
    """The step, counted from 0, and the first array in it that is not finite; None if all of them are.

    A training went from `state` at step `first` through `pieces`: (the next step, the state, the costs).
    `batch(k) -> (X, Y, *key)`, and `show` is what `computed` gives.
    """
    for end, after, J in pieces:
        if finite((after, J)):
            state, first = after, end
            continue
        names = []

        @jax.jit
        def look(state, *batch, names=names):
            state, arrays = show(state, *batch)
            names[:] = [name for name, _ in arrays]
            return state, jnp.stack([jnp.isfinite(array).all() for _, array in arrays])

        for k in range(first, end):
            state, flags = look(state, *batch(k))
            if not flags.all():
                return k, names[int(jnp.argmin(flags))]
        return first + int(jnp.argmin(jnp.isfinite(J))), "J"
    return None
