"""Strange arguments, losses and gradients, drawn by a generator of random numbers."""

import collections
import dataclasses
import functools
import itertools
import random
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np


class Pair(NamedTuple):
    """A tree with names."""

    w: Any
    b: Any


class Stop(BaseException):
    """What stops everything."""


class Strange(Exception):
    """An exception that cannot be told."""

    def __str__(self):
        """Raise."""
        raise ValueError("no text")


class Model:
    """A gradient as an object and as a method; it remembers."""

    def __init__(self, function: Callable):
        """Keep the function."""
        self.function, self.calls = function, 0

    def __call__(self, *args):
        """Call it."""
        self.calls += 1
        return self.function(*args)

    def method(self, *args):
        """Call it."""
        return self(*args)


def arrays(rng: random.Random, plain: bool) -> tuple[str, Any]:
    """A leaf: its kind in words, and itself."""
    shape = rng.choice([(), (1,), (3,), (0,), (2, 3), (1, 1), (2, 0), (2, 1, 2), (4, 4)])
    values = np.random.default_rng(rng.randrange(1000)).normal(size=shape)
    values = values * rng.choice([*[1] * 9, 0, 1e-30, 1e30])
    kinds = {
        "float32": lambda: np.asarray(values, np.float32),
        "float64": lambda: values,
        "float16": lambda: np.asarray(values, np.float16),
        "bfloat16": lambda: np.asarray(values, ml_dtypes.bfloat16),
        "jax": lambda: jnp.asarray(values, jnp.float32),
        "jax bfloat16": lambda: jnp.asarray(values, jnp.bfloat16),
        "integers": lambda: np.asarray(np.clip(values, -9, 9) * 3, np.int64),
        "uint8": lambda: np.asarray(np.abs(np.clip(values, -9, 9)), np.uint8),
        "truth values": lambda: values > 0,
        "complex": lambda: np.asarray(values, np.complex64),
        "a float": lambda: rng.choice([0.5, -2.0, 3.0, 0.0, 1e300, float("nan")]),
        "an int": lambda: rng.choice([0, 3, -1, 2**40]),
        "a bool": lambda: rng.random() < 0.5,
        "a complex": lambda: 1 + 2j,
        "a scalar": lambda: np.float32(rng.random()),
        "a wide scalar": lambda: np.float64(rng.random()),
        "long double": lambda: np.asarray(values, np.longdouble),
        "objects": lambda: np.array([1.0, None], object),
        "a text": lambda: "text",
        "nan": lambda: np.where(np.arange(values.size).reshape(shape) == 0, np.nan, values),
        "masked": lambda: np.ma.MaskedArray(values, values > 0),
        "strided": lambda: np.asarray(values, np.float32)[::-1] if shape else values,
        "read-only": lambda: _locked(np.asarray(values, np.float32)),
        "a list": lambda: values.tolist(),
        "float8": lambda: np.asarray(np.clip(values, -9, 9), ml_dtypes.float8_e4m3fn),
        "a key": lambda: jax.random.key(0),
        "an object": object,
        "a module": lambda: np,
    }
    usual = ["float32", "jax", "float64", "bfloat16", "a float"]
    name = rng.choice(usual) if plain or rng.random() < 0.8 else rng.choice(list(kinds))
    return f"{name}{shape}", kinds[name]()


def _locked(array):
    array.flags.writeable = False
    return array


@functools.cache
def _registered() -> type:
    """A dataclass that JAX knows as a tree."""

    @jax.tree_util.register_dataclass
    @dataclasses.dataclass
    class Layer:
        w: Any
        b: Any

    return Layer


def trees(rng: random.Random, plain: bool) -> tuple[str, Any]:
    """An argument: its kind in words, and itself."""
    said, leaf = arrays(rng, plain)
    if rng.random() < 0.6:
        return said, leaf
    other, second = arrays(rng, plain)
    make = {
        "a dict": lambda: {"w": leaf, "b": second},
        "a dict of numbers": lambda: {0: leaf, 1: second},
        "a nest": lambda: [{"w": (leaf, [second])}, None, ()],
        "names": lambda: Pair(leaf, second),
        "a dataclass": lambda: _registered()(leaf, second),
        "nothing": lambda: None,
        "an empty dict": dict,
        "an empty tuple": tuple,
        "the same twice": lambda: [leaf, leaf],
        "a dict of mixed keys": lambda: {"w": leaf, 1: second},
        "an ordered dict": lambda: collections.OrderedDict(w=leaf, b=second),
        "an unregistered class": lambda: Model(lambda: leaf),
    }
    name = rng.choice(list(make))
    return f"{name} of {said}, {other}", make[name]()


def _sum(args, of: Callable):
    """The sum of a function over all floating leaves."""
    leaves = [x for x in jax.tree.leaves(args) if hasattr(x, "dtype") or isinstance(x, float)]
    every = [jnp.asarray(x) for x in leaves if getattr(x, "dtype", None) != "O"]
    return sum((jnp.sum(of(x)) for x in every if jnp.issubdtype(x.dtype, jnp.floating)), jnp.float32(0))


def losses(rng: random.Random, plain: bool) -> tuple[str, Callable]:
    """A loss of any arguments, in words and itself."""
    seen: list = []
    smooth = {
        "squares": lambda *a: _sum(a, lambda x: x * x),
        "a mean of tanh": lambda *a: _sum(a, lambda x: jnp.tanh(x) / max(x.size, 1)),
        "logarithms": lambda *a: _sum(a, lambda x: jnp.log(jnp.abs(x) + 1)),
        "roots at 0": lambda *a: _sum(a, lambda x: jnp.sqrt(jnp.abs(x))),
        "a norm": lambda *a: jnp.sqrt(_sum(a, lambda x: x * x)),
        "corners": lambda *a: _sum(a, lambda x: jnp.where(x > 0, x, 0.1 * x)),
        "steps": lambda *a: _sum(a, jnp.round),
        "a scan": lambda *a: _sum(
            a, lambda x: jax.lax.scan(lambda c, r: (jnp.sin(c + r), c), jnp.zeros((), x.dtype), x.ravel())[0]
        ),
        "a loop": lambda *a: _sum(a, lambda x: jax.lax.fori_loop(0, 4, lambda k, h: jnp.cos(h) * x, x)),
        "a while": lambda *a: _sum(
            a, lambda x: jax.lax.while_loop(lambda h: jnp.abs(jnp.sum(h**2) - 50) < 49, lambda h: h / 2, x)
        ),
        "a branch": lambda *a: _sum(a, lambda x: jax.lax.cond(jnp.sum(x) > 0, jnp.sin, jnp.cos, x)),
        "a sort": lambda *a: _sum(a, lambda x: jnp.sort(x.ravel()) * jnp.arange(x.size)),
        "a sum of all": lambda *a: _sum(a, lambda x: jnp.cumsum(x) ** 2),
        "special functions": lambda *a: _sum(a, lambda x: jax.scipy.special.gammaln(jnp.abs(x) + 1)),
        "a fourier transform": lambda *a: _sum(
            a, lambda x: jnp.abs(jnp.fft.fft(x.ravel())) ** 2 if x.size else x
        ),
        "a compiled one": jax.jit(lambda *a: _sum(a, jnp.square)),
        "a callback": lambda *a: _sum(
            a, lambda x: jax.pure_callback(lambda v: np.asarray(v), jax.ShapeDtypeStruct(x.shape, x.dtype), x)
        ),
    }
    wrong = {
        "nothing": lambda *a: None,
        "a number": lambda *a: 3.0,
        "a pair": lambda *a: (_sum(a, jnp.square), "aux"),
        "a dict": lambda *a: {"loss": _sum(a, jnp.square)},
        "an array": lambda *a: jnp.stack([_sum(a, jnp.square)] * 2),
        "an int": lambda *a: jnp.int32(_sum(a, jnp.square)),
        "a complex": lambda *a: _sum(a, jnp.square) + 1j,
        "a text": lambda *a: "loss",
        "numpy": lambda *a: np.sum(np.asarray(a[0])),
        "a float": lambda *a: float(_sum(a, jnp.square)),
        "an if": lambda *a: _sum(a, jnp.square) if _sum(a, jnp.square) > 0 else _sum(a, jnp.sin),
        "a generator": lambda *a: (x for x in a),
        "an assertion": lambda *a: _raise(AssertionError()),
        "printing": lambda *a: (print("loss", a), _sum(a, jnp.square))[1],
        "remembering": lambda *a: (seen.append(a), _sum(a, jnp.square) * len(seen))[1],
        "a leak": lambda *a: (seen.append(_sum(a, jnp.square)), seen[0])[1],
        "random": lambda *a: _sum(a, jnp.square) * random.random(),
        "a builtin": max,
        "a class": dict,
        "no function": 3,
        **{f"raising {type(e).__name__}": lambda *a, e=e: _raise(e) for e in _errors()},
    }
    name = rng.choice(list(smooth)) if plain or rng.random() < 0.7 else rng.choice(list(wrong))
    return name, {**smooth, **wrong}[name]


def _errors() -> list[BaseException]:
    return [
        *(ValueError("one\ntwo\nthree\nfour " + 600 * "x"), KeyError(3), RecursionError(), MemoryError()),
        *(SystemExit(2), StopIteration(1), Strange(1), UnicodeDecodeError("utf8", b"\xff", 0, 1, "no")),
        *(ExceptionGroup("several", [ValueError(1)]), OSError(2, "gone"), KeyboardInterrupt(), Stop(1)),
        *(ZeroDivisionError(), TypeError(None), NotImplementedError(), GeneratorExit()),
    ]


def _raise(error: BaseException):
    raise error


def gradients(rng: random.Random, loss: Any, argnums: Any, plain: bool) -> tuple[str, Any]:
    """A gradient for a loss: right, wrong, or none at all."""
    right = lambda *a: jax.grad(loss, argnums)(*a)  # noqa: E731
    counter = itertools.count()
    scaled = lambda f: lambda *a: jax.tree.map(f, right(*a))  # noqa: E731
    others = {
        "twice": scaled(lambda g: 2 * g),
        "in numpy": scaled(np.asarray),
        "in single": scaled(lambda g: np.asarray(g, np.float32)),
        "in half": scaled(lambda g: jnp.asarray(g, jnp.float16)),
        "lists": scaled(lambda g: np.asarray(g, float).tolist()),
        "nan": scaled(lambda g: g * np.nan),
        "infinite": scaled(lambda g: g + np.inf),
        "zeros": scaled(jnp.zeros_like),
        "transposed": scaled(jnp.transpose),
        "another shape": scaled(lambda g: jnp.ravel(g)),
        "integers": scaled(lambda g: jnp.asarray(g, jnp.int32)),
        "texts": scaled(lambda g: "gradient"),
        "a constant": lambda *a: 1.0,
        "nothing": lambda *a: None,
        "its arguments": lambda *a: a,
        "the first": lambda *a: a[0],
        "a pair": lambda *a: (loss(*a), right(*a)),
        "a generator": lambda *a: (x for x in a),
        "itself": lambda *a: right,
        "tracers": jax.jit(right),
        "a leak": functools.partial(_leak, right, []),
        "counting": scaled(lambda g: g * next(counter)),
        "random": scaled(lambda g: g * np.random.rand()),
        "printing": lambda *a: (print(a, flush=True), right(*a))[1],
        "writing": lambda *a: (_overwrite(a), right(*a))[1],
        "no function": "gradient",
        "a builtin": sum,
        "few arguments": lambda: 0,
        "many arguments": lambda a, b, c, d, e: a,
        "a shape of its own": scaled(lambda g: g[None]),
        "an array of objects": lambda *a: np.array([None, 1], object),
        "a sparse one": scaled(lambda g: jax.ShapeDtypeStruct(jnp.shape(g), jnp.result_type(g))),
        **{f"raising {type(e).__name__}": lambda *a, e=e: _raise(e) for e in _errors()},
    }
    some = list(others)[: 9 if plain else None]
    name = rng.choice(some) if rng.random() < 0.6 else "right"
    return name, {**others, "right": right}[name]


def _leak(right: Callable, seen: list, *args):
    """What the first call returned."""
    seen.append(right(*args))
    return seen[0]


def _overwrite(args) -> None:

    for x in jax.tree.leaves(args):
        if isinstance(x, np.ndarray) and x.dtype.kind == "f":
            x *= 0


def made(rng: random.Random, function: Any) -> tuple[str, Any]:
    """The function in another make."""
    if not callable(function):
        return "", function
    makes = {
        "a partial": lambda: functools.partial(function),
        "a method": lambda: Model(function).method,
        "an object": lambda: Model(function),
        "compiled": lambda: jax.jit(function),
        "wrapped": lambda: functools.wraps(function)(lambda *a: function(*a)),
        "with keywords": lambda: lambda *a, scale=1.0, **rest: function(*a),
    }
    name = rng.choice(list(makes)) if rng.random() < 0.3 else ""
    return name, makes[name]() if name else function


def rules(rng: random.Random, loss: Callable) -> Callable:
    """A function with a rule for derivatives, right or not."""
    ruled = jax.custom_vjp(loss)
    back: Any = rng.choice(
        [
            lambda a, c: jax.vjp(loss, *a)[1](c),
            lambda a, c: jax.tree.map(lambda g: 2 * g, jax.vjp(loss, *a)[1](c)),
            lambda a, c: a,
            lambda a, c: None,
            lambda a, c: (c,),
            lambda a, c: tuple(jax.tree.map(lambda x: jnp.ones_like(x) * c, a)),
            lambda a, c: _raise(KeyError("rule")),
            lambda a, c: [jnp.zeros(7)],
        ]
    )
    ruled.defvjp(lambda *a: (loss(*a), a), back)
    return ruled
