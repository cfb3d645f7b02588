"""A call, checked and named; what can be wrong with it, each said in one sentence."""

import contextlib
import functools
import inspect
import io
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from threadpoolctl import ThreadpoolController

from jaxnn.gradcheck.calls.constants import keep_apart

LONGEST = 240  # characters of what an exception says
ROUNDINGS = 64  # what two calls may differ by, one of which adds in another order


class BadCall(ValueError):
    """The comparison cannot be made; the message says why, and what to do."""


class Call(NamedTuple):
    """A loss, a gradient and a point, checked.

    places: the leaves of args (all of them, in order) that are differentiated; paths: their names;
    dynamic: the leaves that a trace takes as inputs, the others keep their values.
    """

    loss: Callable
    gradient: Callable
    args: tuple
    argnums: int | tuple[int, ...]
    leaves: list
    treedef: Any
    places: tuple[int, ...]
    paths: tuple[str, ...]
    dtype: np.dtype
    dynamic: tuple[int, ...]

    @property
    def eps(self) -> float:
        """The machine epsilon of the caller's precision."""
        return float(jnp.finfo(self.dtype).eps)

    def rebuilt(self, leaves: list) -> tuple:
        """The arguments with these leaves."""
        return jax.tree.unflatten(self.treedef, leaves)

    def traceable(self, function: Callable, leaves: list) -> tuple[Callable, list]:
        """(the function of the dynamic leaves alone, those leaves)."""

        def of_dynamic(*given):
            return function(*self.rebuilt(replaced(leaves, self.dynamic, given)))

        return of_dynamic, [leaves[k] for k in self.dynamic]

    def selected(self, args: tuple) -> Any:
        """args[argnums]: what a gradient looks like."""
        if isinstance(self.argnums, int):
            return args[self.argnums]
        return tuple(args[n] for n in self.argnums)


def replaced(items: Iterable, places: Iterable[int], values: Iterable) -> list:
    """The items with other values at these places."""
    out = list(items)
    for k, x in zip(places, values, strict=True):
        out[k] = x
    return out


@contextlib.contextmanager
def quiet() -> Iterator[io.StringIO]:
    """Hold back what the functions print and warn of: they are called many times, at odd points.

    NumPy multiplies on one thread meanwhile: with two, small products wait for one another, ten times
    as long where the machine is at work on something else.
    """
    keep_apart()
    with (
        _libraries().limit(limits=1, user_api="blas"),
        contextlib.redirect_stdout(io.StringIO()) as held,
        warnings.catch_warnings(action="ignore"),
        np.errstate(all="ignore"),
    ):
        yield held


@functools.cache
def _libraries() -> ThreadpoolController:
    """The libraries that multiply for NumPy."""
    return ThreadpoolController()


def first_line(error: BaseException) -> str:
    """An exception in one line."""
    text = next(filter(None, map(str.strip, str(error).splitlines())), "")
    if len(text) > LONGEST:
        text = text[:LONGEST].rsplit(" ", 1)[0] + " …"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def function_name(function: Callable) -> str:
    """What to call it in a sentence."""
    return getattr(function, "__name__", type(function).__name__)


def titled(kind: str, function: Callable) -> str:
    """The loss, or the gradient, with its name where that says more.

    >>> def loss(x): ...
    >>> def cost(x): ...
    >>> titled("loss", loss), titled("loss", cost)
    ('the loss', 'the loss cost')
    """
    name = function_name(function)
    return f"the {kind}" if name == kind else f"the {kind} {name}"


def _is_array(leaf) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray | np.generic)


def is_floating(leaf) -> bool:
    """A real floating-point array or number."""
    kind = _kind(leaf)
    return kind is not None and jnp.issubdtype(kind, jnp.floating)


def _kind(leaf):
    """The dtype of an array or number that JAX can compute with, or None."""
    if not (_is_array(leaf) or isinstance(leaf, bool | int | float | complex)):
        return None
    try:
        return jnp.result_type(leaf)
    except TypeError:  # objects, strings, long doubles
        return None


def argument_names(function: Callable, count: int) -> list[str]:
    """The names of its positional arguments, or args[k] where they have none."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return [*names[:count], *(f"args[{k}]" for k in range(len(names), count))]


def path_names(function: Callable, args: tuple) -> list[str]:
    """A name for every leaf of the arguments: params['W1'], params[0].b, x."""
    return [
        name + jax.tree_util.keystr(path)
        for name, arg in zip(argument_names(function, len(args)), args, strict=True)
        for path, _ in jax.tree_util.tree_flatten_with_path(arg)[0]
    ]


def _check_values(name: str, leaf, differentiated: bool) -> None:
    if not is_floating(leaf):
        return
    value = np.asarray(leaf).astype(np.float64)
    bad = ~np.isfinite(value) if differentiated else np.isnan(value)
    if bad.any():
        at = np.argwhere(bad)[0].tolist() or ""
        raise BadCall(
            f"{name}{at} is {value[bad][0]}: a gradient can be compared only at a point "
            "where the arguments are finite; repair the input"
        )


def _numbers(argnums, count: int) -> tuple[int, ...]:
    """The arguments that are differentiated, from 0, each once."""
    try:
        given = (argnums,) if isinstance(argnums, int) else argnums
        numbers = tuple(range(count)[int(n)] for n in given)
        if len(set(numbers)) == len(numbers):
            return numbers
    except (IndexError, TypeError, ValueError):
        pass
    raise BadCall(f"argnums must number some of the {count} arguments from 0, each once, got {argnums!r}")


def _check_kind(name: str, leaf) -> None:
    if is_floating(leaf):
        return
    if (kind := _kind(leaf)) is None:
        what = type(leaf).__name__
        what = f"{what} of {leaf.dtype}" if hasattr(leaf, "dtype") else what
        raise BadCall(f"{name} is {what}, which JAX cannot compute with: pass floating-point arrays")
    raise BadCall(
        f"{name} is {kind}: only real floating-point parameters have a gradient; "
        "convert it with .astype(jnp.float32), or leave it out of argnums"
    )


def checked(loss, gradient, args: tuple, argnums) -> Call:
    """The call, or a BadCall that says what is wrong with it."""
    for what, function in (("loss", loss), ("gradient", gradient)):
        if not callable(function):
            raise BadCall(
                f"the {what} must be a function, got {type(function).__name__}: "
                "pass the function itself, not what it returns"
            )
    if not args:
        raise BadCall("no arguments were given: pass those of loss(*args) after the gradient")
    numbers = _numbers(argnums, len(args))
    leaves, treedef = jax.tree.flatten(args)
    owners = [n for n, arg in enumerate(args) for _ in jax.tree.leaves(arg)]
    places = tuple(k for n in numbers for k, owner in enumerate(owners) if owner == n)
    if not places:
        raise BadCall(f"argument {argnums} holds no arrays, so there is no gradient to compare")
    names = path_names(loss, args)
    for k in places:
        _check_kind(names[k], leaves[k])
    for k, leaf in enumerate(leaves):
        _check_values(names[k], leaf, k in places)
    dtype = np.dtype(jax.dtypes.canonicalize_dtype(jnp.result_type(*(leaves[k] for k in places))))
    argnums = numbers[0] if isinstance(argnums, int) else numbers
    paths = tuple(names[k] for k in places)
    arrays = tuple(k for k, x in enumerate(leaves) if k in places or _is_array(x))
    call = Call(loss, gradient, args, argnums, leaves, treedef, places, paths, dtype, arrays)
    if _untraceable(call):  # some array decides what is computed: only the parameters are traced
        call = call._replace(dynamic=tuple(sorted(set(places))))
        if error := _untraceable(call):
            raise BadCall(
                f"{titled('loss', loss)} cannot be traced by JAX, so autodiff cannot differentiate it "
                f"({first_line(error)}); write it with jax.numpy instead of NumPy, float() or if"
            ) from error
    return call


def _untraceable(call: Call) -> jax.errors.JAXTypeError | None:
    """The error, where the loss wants a number and a trace has none; raises BadCall for all else."""
    name = titled("loss", call.loss)
    of_dynamic, given = call.traceable(call.loss, call.leaves)
    try:
        out = jax.eval_shape(of_dynamic, *given)
    except jax.errors.JAXTypeError as error:
        return error
    except (Exception, SystemExit) as error:
        raise BadCall(f"{name} raised {first_line(error)}") from error
    if not hasattr(out, "shape"):
        hint = "; pass a loss without the auxiliary output" if isinstance(out, tuple) else ""
        raise BadCall(f"{name} must return one number, got {type(out).__name__}{hint}")
    if out.shape != ():
        raise BadCall(f"{name} must return a scalar, got shape {out.shape}; take jnp.mean or jnp.sum of it")
    if not jnp.issubdtype(out.dtype, jnp.floating):
        raise BadCall(f"{name} must return a real number, got dtype {out.dtype}")
    return None


def widened(leaf):
    """A floating leaf as a float64 array, a complex one as complex128; anything else as it is."""
    if isinstance(leaf, float):
        return np.asarray(leaf, np.float64)
    if hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating):
        return np.asarray(leaf).astype(np.float64)
    if hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.complexfloating):
        return np.asarray(leaf).astype(np.complex128)
    return leaf
