"""What a page computes is what Python computes."""

import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnn import activations, losses
from jaxnn.activations import Activation
from jaxnn.layers import Dense, mlp
from jaxnn.losses import Loss
from jaxnn.objective import value_and_grad
from jaxnn.passes import passes
from jaxnn.seeing.pages.page import page
from jaxnn.seeing.program import Unprintable, program
from jaxnn.training import start, step

SIZES = {1: (7, 3), 2: (7, 5, 3), 3: (7, 5, 4, 3), 4: (7, 5, 4, 6, 3)}
EVERY = {
    kind: sorted(name for name, value in vars(module).items() if isinstance(value, kind))
    for kind, module in ((Activation, activations), (Loss, losses))
}
PAIRS = list(itertools.product(EVERY[Activation], EVERY[Loss]))
TOGETHER = {  # all pairs in one hidden layer; with more and with none each activation and each loss
    depth: PAIRS if depth == 2 else list(zip(EVERY[Activation], itertools.cycle(EVERY[Loss]), strict=False))
    for depth in SIZES
}


def close(got, expected) -> bool:
    got, expected = np.asarray(got), np.asarray(expected).ravel()
    return got.shape == expected.shape and np.abs(got - expected).max() <= 1e-12 * np.abs(expected).max()


def in_the_page(browser, tmp_path, *cases: tuple[dict, dict]) -> list[dict]:
    """What each program gives in the browser for its arguments: {name: (shape, numbers)}."""
    given = [(p, {name: [np.shape(a), np.ravel(a).tolist()] for name, a in x.items()}) for p, x in cases]
    path = tmp_path / "page.html"
    path.write_text(page("base.html", "programs", given, ("arrays.js",)))
    browser.open(path)
    found = browser.js("""
        const of = ([s, d]) => array(s, Float64Array.from(d));
        const each = (object, f) => Object.fromEntries(Object.entries(object).map(([k, x]) => [k, f(x)]));
        return JSON.stringify(JSON.parse(document.getElementById("data").textContent).map(
            ([program, given]) => each(run(program, each(given, of)), (x) => [x.shape, [...x.data]])));
    """)
    assert browser.errors() == []
    return [{name: (tuple(shape), x) for name, (shape, x) in each.items()} for each in json.loads(found)]


def descent(n, g, loss):
    """Every array of the passes, and the parameters after a step, as a function of named arrays."""
    L, gradient = len(n) - 1, value_and_grad(mlp(*n, g=g), loss)

    def arrays(named):
        params = [Dense(named[f"W[{l}]"], named[f"b[{l}]"]) for l in range(1, L + 1)]
        optimizer = optax.sgd(named["α"])
        after, _ = step(gradient, optimizer)(start(params, optimizer), named["X"], named["Y"])
        moved = {f"{x}[{l}] after": p._asdict()[x] for l, p in enumerate(after.params, 1) for x in "Wb"}
        return passes(n, g, loss)(params, named["X"], named["Y"]) | moved

    return arrays


@pytest.mark.parametrize("depth", SIZES)
def test_every_activation_and_loss_is_in_the_page_as_in_python(browser, tmp_path, x64, depth):
    n, rng = SIZES[depth], np.random.default_rng(depth)
    names = TOGETHER[depth]
    given = {"X": rng.random((2, n[0])), "Y": np.eye(n[-1])[[0, 2]], "α": np.array(0.3)}
    for l, (n_prev, n_l) in enumerate(itertools.pairwise(n), 1):
        given |= {f"W[{l}]": rng.normal(size=(n_l, n_prev)), f"b[{l}]": rng.normal(size=(n_l, 1))}
    functions = [descent(n, getattr(activations, g), getattr(losses, loss)) for g, loss in names]
    found = in_the_page(browser, tmp_path, *((program(f, given), given) for f in functions))
    for name, f, arrays in zip(names, functions, found, strict=True):
        with jax.numpy_dtype_promotion("standard"):
            expected = f({key: jnp.asarray(value) for key, value in given.items()})
        assert arrays.keys() == expected.keys()
        for key, value in expected.items():
            assert arrays[key][0] == value.shape
            assert close(arrays[key][1], value), (name, key)


FUNCTIONS = {
    "moves": lambda x: {
        "a": x["A"].T * 2,
        "b": jnp.arange(3.0)[:, None] * jnp.iinfo(jnp.int8).max + jnp.zeros((3, 4)),
        "c": x["A"].reshape(3, 2)[None].squeeze(0),
    },
    "rows": lambda x: {
        "a": jnp.argmax(x["A"], axis=1).astype(float),
        "b": jnp.argmax(x["A"], axis=0).astype(float),
        "c": jnp.min(x["A"]) + jnp.max(x["A"], axis=0),
        "d": jnp.sum(x["A"], axis=(0, 1)),
    },
    "entries": lambda x: {
        "a": jnp.round(x["z"]),
        "b": jax.scipy.special.erfc(x["z"]),
        "c": jnp.where((x["z"] > 0) & ~(x["z"] > 1) | (x["z"] < -1), jnp.floor(x["z"]), jnp.sign(x["z"])),
        "d": jnp.clip(x["z"], -1, 1) ** 3 + jnp.abs(x["z"]) ** 0.5 + jnp.sqrt(jnp.square(x["z"])),
        "e": jnp.where(jnp.isfinite(1 / x["z"]), jnp.exp(-jnp.abs(x["z"])), -jnp.inf * 0 + 7.0),
        "f": jnp.minimum(x["z"], jnp.inf) + jax.nn.sigmoid(x["z"]) + x["z"].astype(int),
    },
    "products": lambda x: {"a": x["A"] @ x["v"], "b": x["v"] @ x["v"], "c": x["A"].T @ x["A"]},
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_primitives_are_in_the_page_as_in_python(browser, tmp_path, x64, name):
    z = np.array([-30.0, -2.5, -2.0, -1.5, -0.5, -1e-9, 0.0, 1e-300, 0.5, 1.5, 1.999, 2.0, 2.5, 5.0, 25.0])
    given = {"A": np.array([[1.5, -2.0, 3.25], [4.0, 0.5, -6.0]]), "v": np.array([2.0, -1.0, 0.5]), "z": z}
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        (found,) = in_the_page(browser, tmp_path, (program(FUNCTIONS[name], given), given))
        expected = FUNCTIONS[name]({key: jnp.asarray(value) for key, value in given.items()})
    for key, value in expected.items():
        assert found[key][0] == value.shape
        np.testing.assert_allclose(np.array(found[key][1], float), np.ravel(value), rtol=1e-12, err_msg=key)


def test_what_is_computed_twice_is_printed_once_and_what_nothing_uses_not_at_all():
    def function(x):
        jnp.cos(x["x"])
        return {"y": jnp.exp(x["x"]) + jax.jit(jnp.exp)(x["x"])}

    assert [line[1] for line in program(function, {"x": np.ones(2)})["lines"]] == ["exp", "add"]


def test_a_primitive_that_no_page_knows_is_named():
    with pytest.raises(Unprintable, match="cos: no page knows this"):
        program(lambda x: {"y": jnp.cos(x["x"])}, {"x": np.ones(2)})
    with pytest.raises(Unprintable, match="div, rem"):
        program(lambda x: {"y": x["x"].astype(int) // 2 % 2}, {"x": np.ones(2)})
