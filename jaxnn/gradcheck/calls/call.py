"""A call, checked and named; what can be wrong with it, each said in one sentence."""

import inspect
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxnn.gradcheck.calls.raised import in_full, place, said_by
from jaxnn.gradcheck.visible import visible

LONGEST = 240  # characters of what an exception says
COMPLEX = "{} is {}, and only real numbers are compared: write it as functions of real and imaginary parts"
ROUNDINGS = 64  # what two calls may differ by, one of which adds in another order


class BadCall(ValueError):
    """The comparison cannot be made; the message says why, and what to do."""

    __module__ = "builtins"  # a traceback, and a test's summary, then begin with its name, without a path

    def __reduce__(self):
        """Made again by name, where that module is not looked into."""
        return _bad_call, self.args


def _bad_call(*said: str) -> BadCall:
    return BadCall(*said)


class Call(NamedTuple):
    """A loss, a gradient and a point, checked.

    places: the leaves of args (all of them, in order) that are differentiated; paths: their names;
    dynamic: the leaves that a trace takes as inputs, the others keep their values; within: (leaf, low,
    high) of those that the caller says are between two numbers.
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
    within: tuple[tuple[int, float, float], ...] = ()

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


def own_copies(args: tuple) -> tuple:
    """The arguments again, arrays copied: a gradient may write into what it is given, or donate it."""
    return jax.tree.map(_own, args)


def _own(x):
    if isinstance(x, jax.Array) and not isinstance(x, Tracer):
        return jax.device_put(x, may_alias=False)  # x.copy() would compile a program for each shape
    return x.copy() if isinstance(x, np.ndarray) else x


def replaced(items: Iterable, places: Iterable[int], values: Iterable) -> list:
    """The items with other values at these places."""
    out = list(items)
    for k, x in zip(places, values, strict=True):
        out[k] = x
    return out


def first_line(error: BaseException) -> str:
    """An exception in one line."""
    text = next(filter(None, map(str.strip, said_by(error).splitlines())), "")
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
    if name.startswith("the "):
        return name
    return f"the {kind}" if name == kind else f"the {kind} {name}"


def _is_array(leaf) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray | np.generic)


def is_floating(leaf) -> bool:
    """A real floating-point array or number."""
    kind = _kind(leaf)
    return kind is not None and jnp.issubdtype(kind, jnp.floating)


def is_complex(leaf) -> bool:
    """A complex array or number, or the shape of one."""
    kind = getattr(leaf, "dtype", None) or _kind(leaf)
    return kind is not None and jnp.issubdtype(kind, jnp.complexfloating)


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
        visible(name + jax.tree_util.keystr(path), 200)
        for name, arg in zip(argument_names(function, len(args)), args, strict=True)
        for path, _ in jax.tree_util.tree_flatten_with_path(arg)[0]
    ]


def flattened(args: tuple) -> tuple[list, Any]:
    """The leaves of the arguments and their tree, or a BadCall where JAX makes no tree of them."""
    try:
        return jax.tree.flatten(args)
    except Exception as error:  # keys that cannot be sorted, a class of the caller's that does not come apart
        raise BadCall(f"the arguments are no tree of JAX's ({first_line(error)})") from error


def _check_values(name: str, leaf, differentiated: bool, infinite: bool = False) -> None:
    """Refuse what is not a number, and infinities if `infinite`: the loss is not finite there."""
    if not is_floating(leaf):
        return
    value = np.asarray(leaf).astype(np.float64)
    bad = ~np.isfinite(value) if differentiated and infinite else np.isnan(value)
    if bad.any():
        at = np.argwhere(bad)[0].tolist() or ""
        why = ", and the loss is not finite there" if infinite else ""
        raise BadCall(
            f"{name}{at} is {value[bad][0]}{why}: a gradient can be compared only where the loss is finite; "
            "repair the input"
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
    there = ", ".join(map(str, range(count)))
    raise BadCall(f"argnums must be some of {there}, each once, got {argnums!r}; 0 is the first argument")


def _check_kind(name: str, leaf) -> None:
    if is_floating(leaf):
        return
    if (kind := _kind(leaf)) is None:
        what = type(leaf).__name__
        what = f"{what} of {leaf.dtype}" if hasattr(leaf, "dtype") else what
        raise BadCall(f"{name} is {what}, which JAX cannot compute with: pass floating-point arrays")
    if is_complex(leaf):
        raise BadCall(COMPLEX.format(name, kind))
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
    leaves, treedef = flattened(args)
    owners = [n for n, arg in enumerate(args) for _ in jax.tree.leaves(arg)]
    places = tuple(k for n in numbers for k, owner in enumerate(owners) if owner == n)
    if not places:
        raise BadCall(f"argument {argnums} holds no arrays, so there is no gradient to compare")
    names = path_names(loss, args)
    for name, leaf in zip(names, leaves, strict=True):
        if isinstance(leaf, Tracer):
            raise BadCall(f"{name} is traced, and has no value: compare outside of jax.jit, grad and vmap")
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
                f"({first_line(error)}{place(error)}); write it with jax.numpy, not NumPy, float() or if"
            ) from error
    if any(np.isinf(np.asarray(x).astype(np.float64)).any() for k in places for x in [leaves[k]]):
        infinite = not np.isfinite(float(loss(*args)))
        for k in places:
            _check_values(names[k], leaves[k], True, infinite)
    return call


def confined(call: Call, within: Mapping[str, tuple[float, float]]) -> Call:
    """The call, with the intervals that arguments or parameters of these names are in; raises BadCall."""
    names = [{name} for name in path_names(call.loss, call.args)]
    for k, path in zip(call.places, call.paths, strict=True):
        names[k].add(path)
    found = []
    for name, ends in within.items():
        places = [k for k, own in enumerate(names) if any(name in (n, re.split(r"[.\[]", n)[0]) for n in own)]
        if not places:
            known = ", ".join(dict.fromkeys(n for own in names for n in sorted(own)))
            raise BadCall(f"within: {name!r} is neither an argument nor a parameter; there are {known}")
        try:
            low, high = map(float, ends)
        except (TypeError, ValueError):
            low = high = math.nan
        if not low < high:
            raise BadCall(f"within: {name} wants (low, high), such as (0, 1), got {ends!r}")
        for k in places:
            x = np.asarray(call.leaves[k], np.float64)
            if (beyond := x[~((low <= x) & (x <= high))]).size:
                raise BadCall(f"within: {name} is said to be in ({low:g}, {high:g}), and holds {beyond[0]:g}")
            found.append((k, low, high))
    return call._replace(within=tuple(found))


def _untraceable(call: Call) -> jax.errors.JAXTypeError | None:
    """The error, where the loss wants a number and a trace has none; raises BadCall for all else."""
    name = titled("loss", call.loss)
    of_dynamic, given = call.traceable(call.loss, call.leaves)
    try:
        out = jax.eval_shape(of_dynamic, *given)
    except jax.errors.JAXTypeError as error:
        return error
    except (Exception, SystemExit) as error:
        raise BadCall(f"{name} raised {in_full(error)}") from error
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
