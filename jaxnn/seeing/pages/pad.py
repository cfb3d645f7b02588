"""The page on which a digit is drawn, and read by a network that can go on learning there."""

import base64
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxnn import activations, losses
from jaxnn.centring import FRAMES, centred, uncentred
from jaxnn.datasets import Examples
from jaxnn.encoding import flatten
from jaxnn.evaluation import predict
from jaxnn.layers import Dense, mlp
from jaxnn.letters import cost, equations
from jaxnn.objective import value_and_grad
from jaxnn.passes import passes
from jaxnn.seeing.colours import LESS, MORE, NONE
from jaxnn.seeing.pages.page import page
from jaxnn.seeing.program import program
from jaxnn.training import start, step

S = 112  # the pad's height and width
ON_PAD = FRAMES["mnist"]._replace(side=S, height=88, width=88)  # of a picture that is put there


def pad(run: dict, params: list[Dense], examples: Examples, white: int, said: str, first=None) -> str:
    """The page of a run with that dataset, n, activation and loss; first: ink to begin with, S × S."""
    n, frame, g, loss = run["n"], FRAMES[run["dataset"]], run["activation"], run["loss"]
    layers, empty = range(1, len(n)), np.zeros((S, S))
    given = {f"{x}[{l}]": p._asdict()[x] for l, p in zip(layers, params, strict=True) for x in "Wb"}
    written = [(l, *pair) for l in layers for pair in equations(l, len(n) - 1, g, loss).items()]
    written.sort(key=lambda row: 2 * len(n) - row[0] if row[1][0] == "d" else row[0])  # as they are computed
    written.insert(2 * len(layers), (len(n) - 1, "J", cost(loss)))
    data = {"n": n, "S": S, "side": frame.side, "said": said, "dataset": run["dataset"]}
    double = any(np.asarray(array).dtype == np.float64 for array in given.values())
    floats = "<f8" if double else "<f4"
    data |= {
        "double": double,
        "params": {name: [array.shape, _base64(array, floats)] for name, array in given.items()},
        "images": _base64(examples.images, "u1"),
        "shades": flatten(jnp.arange(white + 1, dtype=jnp.uint8)[:, None], white).ravel().tolist(),
        "labels": examples.labels.tolist(),
        "first": "" if first is None else _base64(np.round(255 * np.asarray(first)), "u1"),
        "colours": (LESS, NONE, MORE),
        "equations": written,
        "centred": program(lambda pad: {"X": centred(pad["G"], frame).reshape(1, -1)}, {"G": empty}),
        "uncentred": program(lambda pad: {"X": uncentred(pad["G"], frame).reshape(1, -1)}, {"G": empty}),
    }
    arrays = partial(_arrays, tuple(n), getattr(activations, g), getattr(losses, loss))
    for name, N in (("many", len(examples.labels)), ("one", 1)):
        given |= {"X": np.zeros((N, n[0])), "Y": np.zeros((N, n[-1])), "α": 0.0}
        data[name] = program(arrays, given)
    shapes = jax.eval_shape(arrays, {name: np.asarray(array, np.float32) for name, array in given.items()})
    title = f"Draw a digit: {'-'.join(map(str, n))}"
    return page("pad.html", title, data, ("arrays.js", "pad.js"), shapes=shapes)


def _base64(array, dtype: str) -> str:
    return base64.b64encode(np.asarray(array).astype(dtype).tobytes()).decode()


def _arrays(n, g, loss, given):
    """The arrays of a pass, the guess, what W multiplies (if N = 1), and the parameters after a step."""
    net, X, Y = mlp(*n, g=g), given["X"], given["Y"]
    params = [Dense(given[f"W[{l}]"], given[f"b[{l}]"]) for l in range(1, len(n))]
    found = passes(n, g, loss)(params, X, Y) | {"guess": predict(net, params, X)}
    optimizer = optax.sgd(given["α"])
    (after, _), _ = step(value_and_grad(net, loss), optimizer)(start(params, optimizer), X, Y)
    for l, (W, b) in enumerate(after, 1):
        found |= {f"new W[{l}]": W, f"new b[{l}]": b}
        if len(X) == 1:
            found[f"A[{l - 1}] ⊙ W[{l}]"] = found[f"A[{l - 1}]"] * params[l - 1].W
    return found
