"""Error bounds where entries move: slices, gathers, sorts, windows."""

from collections.abc import Callable

import numpy as np

from jaxnn.gradcheck.bounds.bounded import UNIT, Bounded, error_of, is_float, is_number, settled
from jaxnn.gradcheck.jaxprs.by_numpy import applied, as_numpy
from jaxnn.gradcheck.jaxprs.primitives import PRIMITIVES, Kind, of


def _moved(function):
    """The same entries elsewhere: their errors go with them."""

    def rule(params, *inputs):
        value = function(params, *(x.value for x in inputs))
        out = settled(value, None, *inputs)
        if all(x.error is None for x in inputs):
            return out
        return out._replace(error=function(params, *(x.errors for x in inputs)))

    return rule


def _same(params, *inputs):
    return inputs[0] if len(inputs) == 1 else list(inputs)


def _carried(equation, inputs) -> list[Bounded]:
    """gather, pad, dynamic_slice and their kin: moves entries; integers say where."""
    values = applied(equation, [x.value for x in inputs])
    exact = [settled(v, None, *inputs) for v in values]
    if all(x.error is None for x in inputs):
        return exact
    if any(np.any(x.errors) for x in inputs if not is_number(x.value)):
        return [x._replace(error=np.full(x.value.shape, np.inf)) for x in exact]
    shifted = [np.array(x.errors) if is_number(x.value) else x.value for x in inputs]
    errors = [np.where(np.isnan(e), np.inf, e) for e in applied(equation, shifted)]
    return [settled(v, e if is_number(v) else None, *inputs) for v, e in zip(values, errors, strict=True)]


def _least(equation, inputs) -> list[Bounded]:
    """reduce_window_min: the largest error in a window is the least of their opposites."""
    (x,) = inputs
    if x.error is None or not is_float(x.value):
        return _carried(equation, inputs)
    (value,) = applied(equation, [x.value])
    (opposite,) = applied(equation, [-np.array(x.errors)])
    return [settled(value, np.where(np.isnan(opposite), np.inf, -opposite), x)]


def _accumulated(equation, inputs) -> list[Bounded]:
    """scatter_add, reduce_window_sum: sums of moved entries."""
    (moved,) = _carried(equation, inputs)
    if not is_number(moved.value):
        return [moved]
    ones = [np.ones(x.value.shape) if is_number(x.value) else x.value for x in inputs]
    sizes = [np.abs(x.value) if is_number(x.value) else x.value for x in inputs]
    (count,), (size,) = applied(equation, ones), applied(equation, sizes)
    error = error_of(moved) + UNIT * count * size
    return [settled(moved.value, error, *inputs)]


def _conv(equation, inputs) -> list[Bounded]:
    a, b = inputs
    (value,) = applied(equation, [a.value, b.value])
    out_features = equation.params["dimension_numbers"].rhs_spec[0]
    terms = b.value.size // max(b.value.shape[out_features], 1)
    terms *= equation.params["batch_group_count"]
    size_a, size_b = np.abs(a.value), np.abs(b.value)
    gamma = (terms + 2) * UNIT
    (error,) = applied(equation, [error_of(a) + gamma * (size_a + error_of(a)), size_b + error_of(b)])
    if b.error is not None:
        error = error + applied(equation, [size_a, np.array(b.error)])[0]
    return [settled(value, error, a, b)]


def _sorted(equation, inputs) -> list[Bounded]:
    """Sorting moves no entry further than the largest error; what goes along may be swapped."""
    values = applied(equation, [x.value for x in inputs])
    exact = [settled(v, None, *inputs) for v in values]
    if all(x.error is None for x in inputs):
        return exact
    axis = equation.params["dimension"]
    gap = np.abs(np.diff(values[0], axis=axis))
    worst = [np.max(x.errors, axis=axis, keepdims=True, initial=0) for x in inputs]
    tied = np.any(gap <= 2 * worst[0], axis=axis, keepdims=True)
    errors = [worst[0], *(np.where(tied, np.inf, w) for w in worst[1:])]
    return [x._replace(error=np.broadcast_to(e, x.value.shape)) for x, e in zip(exact, errors, strict=True)]


def _top_k(equation, inputs) -> list[Bounded]:
    (x,) = inputs
    axis = equation.params.get("axis", -1)
    values, index = applied(equation, [x.value])
    if x.error is None:
        return [settled(values, None, x), settled(index, None, x)]
    worst = np.max(x.error, axis=axis, keepdims=True)
    ordered = -np.sort(-x.value, axis=axis).take(
        range(min(values.shape[axis] + 1, x.value.shape[axis])), axis
    )
    tied = np.any(np.abs(np.diff(ordered, axis=axis)) <= 2 * worst, axis=axis, keepdims=True)
    worst = np.broadcast_to(worst, values.shape)
    error = np.where(tied, np.inf, np.zeros(index.shape))
    return [Bounded(values, worst, x.active), Bounded(index, error, x.active)]


def _bitcast(equation, inputs) -> list[Bounded]:
    (x,) = inputs
    width = np.dtype(equation.invars[0].aval.dtype)
    given = x.value.astype(width) if is_float(x.value) else x.value
    values = [as_numpy(v) for v in applied(equation, [given])]
    doubt = x.error is not None and np.any(x.error)
    return [Bounded(v, np.full(v.shape, np.inf) if doubt else None, x.active) for v in values]


SAME = of(Kind.SAME) | {"device_put", "optimization_barrier"}
MOVED = of(Kind.VIEW) | {"slice", "concatenate", "stack", "tile"}
MOVES: dict[str, Callable] = {
    **{name: _moved(PRIMITIVES[name].shaped) for name in MOVED},
    **dict.fromkeys(SAME, _same),
}
CARRIED: dict[str, Callable] = {
    # rules that need the primitive itself, of real and complex numbers
    **dict.fromkeys(of(Kind.PART) - MOVED, _carried),
    **dict.fromkeys(("dynamic_update_slice", "pad", "scatter"), _carried),
    "scatter-add": _accumulated,
}
WHOLE: dict[str, Callable] = {
    **CARRIED,
    "reduce_window_max": _carried,
    "reduce_window_min": _least,
    "reduce_window_sum": _accumulated,
    "conv_general_dilated": _conv,
    "sort": _sorted,
    "top_k": _top_k,
    "bitcast_convert_type": _bitcast,
}
