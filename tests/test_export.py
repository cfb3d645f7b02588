"""What a run is written as, read by the programs that it is meant for."""

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from experiments import export, train
from jaxnn import activations, datasets, losses
from jaxnn.layers import mlp
from jaxnn.runs import record
from tests.programs import ended

pytestmark = pytest.mark.usefixtures("compiled_plainly")
N, CLOSE = 7, 1e-6  # test images; and how near to each other
PAIRS = [("leaky_relu", "cross_entropy"), ("softplus", "squared_error"), ("gelu", "binary_cross_entropy")]
PAIRS += [(g, "binary_cross_entropy") for g in ("sigmoid", "tanh", "relu", "silu", "identity")]
BY_NUMPY = """
import sys
import numpy as np
FUNCTIONS = {
    "tanh": np.tanh,
    "sigmoid": lambda Z: 1 / (1 + np.exp(-Z)),
    "softmax": lambda Z: np.exp(Z) / np.exp(Z).sum(1, keepdims=True),
}
of, images = np.load(sys.argv[1]), np.load(sys.argv[2])
A, l = images.reshape(len(images), -1) / of["white"], 1
while f"W[{l}]" in of:
    Z = A @ of[f"W[{l}]"].T + of[f"b[{l}]"].T
    A, l = FUNCTIONS[str(of["activation"])](Z), l + 1
np.save(sys.argv[3], FUNCTIONS[str(of["output"])](Z))
assert not {"jax", "jaxnn"} & {*sys.modules}
"""
BY_JAX = """
import sys
import numpy as np
from jax import export
with open(sys.argv[1], "rb") as file:
    Y_hat = export.deserialize(bytearray(file.read())).call
images = np.load(sys.argv[2])
np.save(sys.argv[3], np.concatenate([Y_hat(images[:2]), Y_hat(images[2:])]))
assert "jaxnn" not in sys.modules
"""


def a_run(folder, g="tanh", loss="cross_entropy", n=(64, 9, 5, 10)):
    """A run of digits as a training leaves it, with parameters that are not small, and Ŷ of N test images."""
    rng, dtype = np.random.default_rng(0), jnp.zeros(0).dtype
    net, loss = mlp(*n, g=getattr(activations, g)), getattr(losses, loss_name := loss)
    params = jax.tree.map(
        lambda array: jnp.asarray(rng.normal(0, 0.4, array.shape), dtype), net.init(jax.random.key(0))
    )
    best = jax.tree.map(lambda array: array / 2, params)
    settings = {"dataset": "digits", "n": [*n], "activation": g, "loss": loss_name}
    record.create(folder, settings, [{"epoch": 1, "test_accuracy": 0.5}, {"epoch": 2, "test_accuracy": 0.25}])
    for name, saved in (("params", params), ("best", best)):
        record.save_params(folder / f"{name}.safetensors", saved)
    images = datasets.load("digits").test.images[:N]
    X = jnp.asarray(images.reshape(N, -1) / 16, dtype)
    return images, [np.asarray(loss.activation.forward(net.forward(p, X)[0])) for p in (params, best)]


def read_by(program, path, images, folder):
    np.save(folder / "images.npy", images)
    words = [sys.executable, "-c", program, str(path), str(folder / "images.npy"), str(folder / "Y_hat.npy")]
    done = subprocess.run(words, capture_output=True, encoding="utf-8", cwd=folder)
    assert done.returncode == 0, done.stderr
    return np.load(folder / "Y_hat.npy")


def test_npz_is_read_by_numpy_alone(tmp_path):
    images, (last, best) = a_run(tmp_path / "run")
    assert np.abs(last - best).max() > 0.1
    for words, Y_hat in (([], last), (["--best"], best)):
        path = tmp_path / f"run{len(words)}.npz"
        done = ended(export, tmp_path / "run", "--to", "npz", path, *words)
        assert done.status == 0, done.err
        np.testing.assert_allclose(read_by(BY_NUMPY, path, images, tmp_path), Y_hat, rtol=0, atol=CLOSE)
    said = "W[1], b[1], W[2], b[2], W[3], b[3]; and network, activation, output, white\n"
    assert done.out.partition("\n")[2] == f"wrote     {path}, {path.stat().st_size:,} bytes: {said}"
    assert str(np.load(path)["network"]) == "64-9-5-10: dense(64→9, tanh), dense(9→5, tanh), dense(5→10)"


def test_stablehlo_is_read_by_jax_without_jaxnn_for_any_number_of_images(tmp_path):
    images, (Y_hat, _) = a_run(tmp_path / "run")
    path = tmp_path / "run.stablehlo"
    done = ended(export, tmp_path / "run", "--to", "stablehlo", path)
    assert done.status == 0, done.err
    assert done.out.endswith("images uint8 (N, 8, 8) to Ŷ float32 (N, 10), for cpu, cuda, tpu\n")
    np.testing.assert_allclose(read_by(BY_JAX, path, images, tmp_path), Y_hat, rtol=0, atol=CLOSE)


@pytest.mark.parametrize(("g", "loss"), PAIRS)
def test_torch_gets_its_own_names_and_shapes(g, loss, tmp_path):
    a_run(tmp_path / "run", g, loss, n=(64, 5, 10))
    path = tmp_path / "run.safetensors"
    assert ended(export, tmp_path / "run", "--to", "torch", path).status == 0
    shapes = {name: array.shape for name, array in load_file(path).items()}
    assert shapes == {"0.weight": (5, 64), "0.bias": (5,), "2.weight": (10, 5), "2.bias": (10,)}
    with safe_open(path, "np") as file:
        told = {name: json.loads(text) for name, text in file.metadata().items()}
    assert told["sequence"][::2] == [["Linear", 64, 5], ["Linear", 5, 10]]
    assert told["white"] == 16


@pytest.mark.parametrize(("g", "loss"), PAIRS)
def test_torch_computes_the_same(g, loss, tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file

    def made(name, *words):
        return getattr(torch.nn, name)(*words)

    images, (Y_hat, _) = a_run(tmp_path / "run", g, loss)
    path = tmp_path / "run.safetensors"
    assert ended(export, tmp_path / "run", "--to", "torch", path).status == 0
    with safe_open(path, "pt") as file:
        told = {name: json.loads(text) for name, text in file.metadata().items()}
    net = torch.nn.Sequential(*(made(*module) for module in told["sequence"]))
    net.load_state_dict(load_file(path))  # strict: no name is missing or left over
    X = torch.tensor(images.reshape(N, -1) / told["white"], dtype=torch.float32)
    found = made(*told["output"])(net(X)).detach().numpy()
    np.testing.assert_allclose(found, Y_hat, rtol=0, atol=CLOSE * max(1, np.abs(Y_hat).max()))


def test_every_activation_has_its_module():
    named = {name for name, g in vars(activations).items() if isinstance(g, activations.Activation)}
    outputs = {loss.activation.name for loss in vars(losses).values() if isinstance(loss, losses.Loss)}
    assert named | outputs == export.MODULES.keys()
    assert {g for g, _ in PAIRS} == named
    assert {loss for _, loss in PAIRS} == {k for k, v in vars(losses).items() if isinstance(v, losses.Loss)}


def test_a_file_that_is_there_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "run.npz"
    path.write_text("mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/settings.json").touch()
    done = ended(export, tmp_path / "run", "--to", "npz", path)
    assert done.status == 2
    assert "run.npz' exists; expected a new file" in done.err
    done = ended(export, tmp_path / "no run", "--to", "npz", tmp_path / "new.npz")
    assert (done.status, done.err.count("\n")) == (2, 1)
    done = ended(export, tmp_path / "run", "--to", "torch", tmp_path / "new.npz")
    assert done.status == 2
    assert f"write {tmp_path / 'new.safetensors'}, or --to npz\n" in done.err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run", "run.npz"]
    assert path.read_text() == "mine"


def table(path, rng, labels):
    """120 rows far from 0, of which nothing can be told unless they are standardised."""
    rows = rng.normal(size=(120, 2)) * [3, 0.02] + [500, -7]
    lines = [f"{a!r},{b!r},{labels(a, b)}" for a, b in rows.tolist()]
    path.write_text("height,weight,what\n" + "\n".join(lines) + "\n")
    return rows, [labels(a, b) for a, b in rows.tolist()]


def exported(folder, *words):
    """What the function and the arrays of a run on a table say of rows as they stand in it."""
    assert ended(train, "--data", folder / "t.csv", "--out", folder / "run", *words).status == 0
    for form in ("npz", "stablehlo"):
        assert ended(export, folder / "run", "--to", form, folder / form).status == 0
    Y_hat = jax.export.deserialize(bytearray((folder / "stablehlo").read_bytes())).call
    with np.load(folder / "npz") as of:
        return Y_hat, dict(of)


def test_rows_of_a_table_are_standardised_in_what_is_exported(tmp_path):
    rows, labels = table(
        tmp_path / "t.csv", np.random.default_rng(0), lambda a, b: "tall" if a > 500 else "low"
    )
    Y_hat, of = exported(tmp_path, "--epochs", 20)
    found = np.asarray(Y_hat(rows.astype(np.float32))).argmax(axis=1)
    assert np.mean(of["names"][found] == labels) > 0.95
    A = (rows - of["mean"]) / of["spread"]
    for l in (1, 2):
        A = 1 / (1 + np.exp(-(A @ of[f"W[{l}]"].T + of[f"b[{l}]"].T)))
    assert np.array_equal(A.argmax(axis=1), found)
    assert of["columns"].tolist() == ["height", "weight"]


def test_light_images_are_inverted_in_what_is_exported(tmp_path):
    rng = np.random.default_rng(2)
    kinds = np.arange(40) % 2
    images = 255 - rng.integers(0, 9, (40, 4, 4)).astype(np.uint8)
    images[kinds == 1, 1] = 0
    np.savez(tmp_path / "t.npz", x=images, y=kinds)
    words = ("--epochs", 40, "--out", tmp_path / "run")
    assert ended(train, "--data", tmp_path / "t.npz", *words).status == 0
    for form in ("npz", "stablehlo"):
        assert ended(export, tmp_path / "run", "--to", form, tmp_path / form).status == 0
    Y_hat = jax.export.deserialize(bytearray((tmp_path / "stablehlo").read_bytes())).call
    found = np.asarray(Y_hat(images))
    np.testing.assert_array_equal(found.argmax(axis=1), kinds)
    with np.load(tmp_path / "npz") as of:
        assert of["inverted"]
        A = 1 - images.reshape(40, -1) / of["white"]
        for l in (1, 2):
            A = 1 / (1 + np.exp(-(A @ of[f"W[{l}]"].T + of[f"b[{l}]"].T)))
    np.testing.assert_allclose(A, found, atol=1e-5)


def test_a_number_is_exported_in_its_own_units(tmp_path):
    rows, labels = table(tmp_path / "t.csv", np.random.default_rng(1), lambda a, b: 7000 + 100 * (a - 500))
    Y_hat, of = exported(tmp_path, "--loss", "squared_error", "--epochs", 30)
    found = np.asarray(Y_hat(rows.astype(np.float32)))[:, 0]
    assert np.std(found - labels) < 0.3 * np.std(labels)
    assert abs(np.mean(found) - 7000) < 100
    assert of["unit"] == pytest.approx(np.std(labels), rel=0.2)
