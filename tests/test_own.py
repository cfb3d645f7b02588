"""Pieces of one's own: trained, read again, compared first, and refused where they do not fit."""

import hashlib
import importlib
import json
import math
import os
import re
import signal
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file

from experiments import draw, export, graph, page, predict, sweep, train
from jaxnn import datasets
from jaxnn.gradcheck.importing import Bad, found
from jaxnn.runs import record
from tests.programs import ended

pytestmark = pytest.mark.usefixtures("compiled_plainly")
MINE = """
import jax.numpy as jnp
from jaxnn.activations import Activation, identity, sigmoid, tanh
from jaxnn.layers import Dense, Layer, batch_norm, dense, dropout, serial
from jaxnn.losses import Loss

print("imported")  # no part of any output

def scale(n, wrong=1):
    def init(key):
        return {"gamma": jnp.ones((1, n)), "beta": jnp.zeros((1, n))}

    def forward(params, A_prev, key=None):
        return params["gamma"] * A_prev + params["beta"], A_prev

    def backward(params, A_prev, dA):
        dgamma, dbeta = (jnp.sum(x, 0, keepdims=True) for x in (dA * A_prev, dA))
        return {"gamma": wrong * dgamma, "beta": dbeta}, dA * params["gamma"]

    return Layer(init, forward, backward, f"scale({n})", (n,))

def net(n, classes):
    return serial(scale(n), dense(n, 5, tanh), dense(5, classes))

def twice(n, classes):
    return dense(n, classes, sigmoid)

def in_training(n, classes, wrong=1):
    def backward(params, kept, dA):  # which differs from one batch to the next
        dparams, dA = norm.backward(params, kept, dA)
        return dparams, dA if kept.mean is None else wrong * dA

    norm = batch_norm(5)
    wrongly = norm._replace(backward=backward)
    return serial(dense(n, 5, tanh), wrongly, dropout(0.5), dense(5, classes))

def wrong_in_training(n, classes):
    return in_training(n, classes, 2)

def wrong(n, classes):
    return serial(scale(n, 2), dense(n, classes))

def asked(shape, classes, hidden, g, depth=1):
    return serial(*[dense(shape[0] * shape[1], hidden[0], g)] * depth, dense(hidden[0], classes))

def raising(n):
    raise RuntimeError("not today")

def narrow(n):
    return dense(n, 3)

def wide(n, width):
    return dense(n, width)

def fixed(classes):
    return dense(65, classes)

def leaving(n):
    raise SystemExit(3)

def parameters(n):
    return Dense(1, 2)

def tall(n, classes):
    return dense(n + 1, classes)

def listed(n, classes):
    return [dense(n, 5), dense(5, classes)]

def uncalled(n, classes):
    return dense

short = Activation(jnp.sin, lambda dA, Z: dA * jnp.cos(Z))
number = Activation(5, lambda dA, Z, A: dA)
third = Loss(identity, lambda Z, Y, N: jnp.sum(Z) / N, lambda Z, Y: Z)

def none():
    return None

def still(n, classes):
    return Layer(lambda key: (), lambda p, A, key=None: (A[:, :classes], A), lambda p, A, dA: (p, A))

def alone(n, classes):
    it = dense(n, classes)
    return Layer(it.init, it.forward, lambda p, r, dA: it.backward(p, r, dA)[0])

def plain(n, classes):
    it = dense(n, classes)
    return Layer(it.init, lambda p, A, key=None: it.forward(p, A)[0], it.backward)

def keyless(n, classes):
    it = dense(n, classes)
    return serial(Layer(it.init, lambda p, A: it.forward(p, A), it.backward, "mine"))

def named(n, num_classes):
    return dense(n, num_classes)

def unscaled(n, classes):
    it = dense(n, classes)
    init = lambda key: dict(zip(("kernel", "bias"), it.init(key)))
    named = lambda dparams, dA: (dict(zip(("kernel", "bias"), dparams)), dA)
    as_dense = lambda p: Dense(p["kernel"], p["bias"])
    return Layer(
        init,
        lambda p, A, key=None: it.forward(as_dense(p), A),
        lambda p, kept, dA: named(*it.backward(as_dense(p), kept, dA)),
    )

def softmax(Z):
    return jnp.exp(Z) / jnp.exp(Z).sum(1, keepdims=True)

rowwise = Activation(softmax, lambda dA, Z, A: A * (dA - (dA * A).sum(1, keepdims=True)))
pole = Activation(lambda Z: jnp.log(jnp.abs(Z)), lambda dA, Z, A: dA / Z)  # not finite where nothing stands
whole = dense(64, 10)
sine = Activation(jnp.sin, lambda dA, Z, A: dA * jnp.cos(Z))
cosine = Activation(jnp.sin, lambda dA, Z, A: dA * jnp.sin(Z))
quartic = Loss(identity, lambda Z, Y: jnp.sum((Z - Y) ** 4) / 4 / len(Z), lambda Z, Y: (Z - Y) ** 3 / len(Z))
"""
ONE = ("--epochs", 1)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    before, path = {*sys.modules}, [*sys.path]
    yield tmp_path
    sys.path[:] = path
    for name in {*sys.modules} - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def test_dropout_and_batch_norm_are_trained_and_the_statistics_are_those_of_all_rows(folder):
    words = ("--network", "mine:in_training", "--epochs", 3, "--batch-size", 719)
    done = ended(train, *words, "--out", "run")
    assert done.status == 0, done.err
    of = load_file(folder / "run/params.safetensors")
    digits = datasets.load("digits")
    X = digits.train.images.reshape(1438, 64) / digits.white  # two batches, none left out
    A = np.tanh(X @ of["0.W"].T + of["0.b"].T)
    np.testing.assert_allclose(of["1.mean"][:, 0], A.mean(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(of["1.variance"][:, 0], A.var(0), rtol=1e-4)

    def stop():
        os.kill(os.getpid(), signal.SIGTERM)

    left = ended(train, *words, "--out", "left", on={"epoch   1/3": stop})
    assert left.status == 76, left.err
    assert ended(train, *words, "--out", "left").status == 0
    assert (folder / "left/params.safetensors").read_bytes() == (
        folder / "run/params.safetensors"
    ).read_bytes()

    found = ended(train, "--network", "mine:wrong_in_training", *ONE)
    assert found.status == 2
    assert "the backward written by hand is wrong" in found.err
    found = ended(train, *words, "--reproducible", "--batch-size", 16)
    assert (found.status, found.err.count("\n")) == (2, 1)


def test_a_network_of_one_s_own_is_compared_trained_and_read_again(folder):
    done = ended(train, "--network", "mine:net", "--epochs", 2, "--out", "run")
    assert done.status == 0, done.err
    assert "network   serial: scale(64), dense(64→5, tanh), dense(5→10)\n" in done.out
    sha256 = hashlib.sha256(MINE.encode()).hexdigest()
    assert f"own       network mine.py:net, sha256 {sha256[:12]}…\n" in done.out
    assert "once more" not in done.out
    assert "its backward, beside autodiff: right\n" in done.out
    assert "imported" not in done.out
    settings = json.loads((folder / "run/settings.json").read_text())
    assert (settings["network"], settings["files"]) == ("mine.py:net", {"network": sha256})
    names = {
        "0.beta": (1, 64),
        "0.gamma": (1, 64),
        "1.W": (5, 64),
        "1.b": (5, 1),
        "2.W": (10, 5),
        "2.b": (10, 1),
    }
    arrays = load_file(folder / "run/params.safetensors")
    assert {name: array.shape for name, array in arrays.items()} == names
    assert not np.array_equal(arrays["0.gamma"], np.ones((1, 64)))
    metrics = [json.loads(line) for line in (folder / "run/metrics.jsonl").read_text().splitlines()]
    assert [sorted(m["gradients"]) for m in metrics] == [sorted(names)] * 2
    assert all(math.isfinite(size) and size > 0 for m in metrics for size in m["gradients"].values())

    read = ended(predict, "run")
    line = re.search(r"^accuracy .*", done.out, re.M)[0]
    assert f"run       run: digits, mine.py:net\n{line}\n          as training reported\n" in read.out
    for program in (page, graph, draw):
        said = ended(program, "run")
        assert (said.status, said.result) == (2, "")
        assert re.fullmatch(
            r"error: run: its network is 'mine.py:net'; .* the lecture's alone; write [^\n]*predict run\n",
            said.err,
        )

    (folder / "mine.py").write_text("raise SystemExit('nothing of it is run')")
    changed = ended(predict, "run")
    assert changed.status == 2
    assert re.fullmatch(
        r"error: run: its network is mine.py:net, and that file is another one now \(sha256 .*, then "
        rf"{sha256[:12]}…\); bring back the one it began with, or train anew\n",
        changed.err,
    )


def test_an_activation_that_the_loss_applies_once_more_is_told(folder):
    words = ("--network", "mine:twice", *ONE)
    assert "\n          sigmoid to them once more: does its last layer " in ended(train, *words).out
    assert "once more" not in ended(train, *words, "--loss", "squared_error").out


def test_activation_and_loss_of_one_s_own(folder):
    words = ("--network", "mine.py:asked", "--activation", "mine.py:sine", "--loss", "mine:quartic")
    done = ended(train, *words, "--hidden", 7, "--learning-rate", 0.01, *ONE, "--out", "run")
    assert done.status == 0, done.err
    assert "network   serial: dense(64→7, g), dense(7→10)\n" in done.out
    assert "own       loss mine.py:quartic, sha256 " in done.out
    read = ended(predict, "run")
    assert "as training reported\n" in read.out, read.err

    words = ("--activation", "mine:sine", "--loss", "mine:quartic", "--learning-rate", 0.01)
    done = ended(train, *words, *ONE, "--out", "lecture")
    assert done.status == 0, done.err
    assert "64-17-10: dense(64→17, g), dense(17→10)" in done.out
    text = re.sub("<[^>]*>", "", (folder / "lecture/page.html").read_text())
    assert "--activation mine.py:sine --loss mine.py:quartic" in text
    assert ended(page, "lecture").status == 0
    assert ended(graph, "lecture", "--out", "graph.svg").status == 0
    assert "its activation is 'mine.py:sine'; the pad knows" in ended(draw, "lecture").err


def test_a_backward_that_is_wrong_is_refused_with_the_report(folder):
    done = ended(train, "--network", "mine:wrong", *ONE, "--out", "run")
    assert done.status == 2
    first, blank, report, *_ = done.err.removeprefix("imported\n").split("\n")
    assert first == (
        "error: mine.py:wrong: the backward written by hand is wrong; --trust-gradient trains with it as it "
        "is, --gradient autodiff by jax.grad"
    )
    assert (blank, report.partition(" wrong: ")[0]) == ("", "params[0]['gamma']")
    assert not (folder / "run").exists()
    assert "the backward written by hand is wrong" in ended(train, "--activation", "mine:cosine", *ONE).err

    trusted = ended(train, "--network", "mine:wrong", "--trust-gradient", *ONE, "--out", "run")
    assert trusted.status == 0, trusted.err
    assert json.loads((folder / "run/settings.json").read_text())["compared"] == "trusted, not compared"
    assert ended(train, "--network", "mine:wrong", "--gradient", "autodiff", *ONE).status == 0


def test_a_run_goes_on_with_the_file_it_began_with(folder):
    words = ("--network", "mine:net", "--epochs", 3, "--trust-gradient", "--out")
    assert ended(train, *words, "whole").status == 0
    stop = {"epoch   1/3": lambda: signal.raise_signal(signal.SIGINT)}
    assert ended(train, *words, "run", on=stop).status == 76
    (folder / "mine.py").write_text(MINE + "# and more\n")
    refused = ended(train, "--out", "run")
    assert refused.status == 2
    assert "bring back the one it began with, or go on with --override files\n" in refused.err
    assert ended(train, "--out", "run", "--override", "files").status == 0
    params = [(folder / name / "params.safetensors").read_bytes() for name in ("run", "whole")]
    assert params[0] == params[1]


@pytest.mark.parametrize(
    "network", [5, "net", "../mine.py:net", "os:system", "\x1b[2J:net", {}, "mine.py:net"]
)
def test_a_run_from_elsewhere_names_no_code_that_is_run(network, folder):
    (folder / "mine.py").write_text("raise SystemExit('nothing of it is run')")
    settings = {
        "dataset": "digits",
        "n": [64, 10],
        "activation": "tanh",
        "loss": "squared_error",
        "hidden": [5],
    }
    files = {"network": "\x1b[2J" if network else "0" * 64}
    record.create(folder / "run", settings | {"network": network, "files": files}, [{"test_accuracy": 0.5}])
    for program in (predict, export):
        done = ended(program, "run", *(("--to", "npz", "new.npz") if program is export else ()))
        assert done.status == 2
        assert re.fullmatch(r"error: [^\x1b\n]+\n", done.err), done.err
    assert not (folder / "new.npz").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--network mine", "got 'mine', write mine:NAME, the name of what it is in that file"),
        ("--network ../mine.py:net", "did you mean mine.py:net"),
        ("--network os:system", "os.py bears the name of a module of Python itself"),
        ("--network gone:net", "there is no gone.py in the current folder"),
        ("--network mine:nothing", "mine.py has no nothing; it has "),
        ("--network mine:sine", "mine.py:sine is Activation, expected a Layer or a function"),
        ("--network mine:none", r"NoneType, expected a jaxnn.layers.layer.Layer\(.*\); write return"),
        ("--network mine:listed", r"gives list, expected .*; write serial\(\*layers\) of them"),
        ("--network mine:uncalled", r"gives function, expected .*; call it, with its sizes: dense\(…\)"),
        ("--activation mine:short", r"backward takes \(dA, Z\), expected \(dA, Z, A\)"),
        ("--activation mine:number", r"mine.py:number: forward is int, expected a function of \(Z\)"),
        ("--loss mine:third", r"mine.py:third: forward takes \(Z, Y, N\), expected \(Z, Y\)"),
        ("--loss mine:softmax", r"got function, expected .*Loss\(activation, forward, backward\)"),
        ("--network mine:raising", r"mine.py:raising: RuntimeError: not today \(mine.py:\d+, in raising\)"),
        ("--network mine:narrow", r"gives \(8, 3\) for X \(8, 64\), expected \(8, 10\)"),
        ("--network mine:wide", "asks for width, expected n, classes, shape, hidden, g"),
        ("--network mine:tall", "layer 1: W is .*, its input has 64 columns, expected 65"),
        (
            "--network mine:fixed",
            r"has 64 columns, expected 65; write def fixed\(n, classes\): n is how many",
        ),
        ("--network mine:leaving", "mine.py:leaving: SystemExit: 3"),
        ("--network mine:parameters", r"gives Dense, expected a jaxnn.layers.layer.Layer\([^;]*\)"),
        ("--network mine:still", "has no parameters, expected some to train"),
        ("--network mine:whole --hidden 5", "--hidden: mine.py:whole is a layer already"),
        ("--network mine:net --activation tanh", "--activation: mine.py:net does not ask for it"),
        ("--network mine:alone", "layer 1: its backward returns one thing, of type Dense, expected two"),
        ("--network mine:plain", "layer 1: its forward returns one thing, an array, expected two"),
        ("--network mine:keyless", r"forward of mine takes \(p, A\), expected \(params, A_prev, key=None\)"),
        ("--network mine:named", "asks for num_classes, .*; did you mean classes by num_classes?"),
        ("--activation mine:quartic", "mine.py:quartic: got Loss, expected a jaxnn.activations.Activation"),
        ("--loss mine:sine", "mine.py:sine: got Activation, expected a jaxnn.losses.Loss"),
    ],
)
def test_what_does_not_fit_is_told_in_a_line_and_nothing_written(words, message, folder):
    done = ended(train, *words.split(), "--out", "run")
    assert done.status == 2
    line = done.err.removeprefix("imported\n")
    assert re.fullmatch(rf"error: .*{message}.*\n", line), line
    assert not (folder / "run").exists()


@pytest.mark.parametrize("name", ["html", "numbers"])
def test_no_file_takes_the_place_of_a_module_of_python_s(name, folder):
    (folder / f"{name}.py").write_text("loss = 1")
    there = sys.modules.get(name)
    for home in (f"{name}.py", str(folder / f"{name}.py")):
        assert found(f"{home}:loss") == 1
    with pytest.raises(Bad, match=f"{name} has no 'loss'|{name}"):
        found(f"{name}:loss")
    assert sys.modules.get(name) in (there, importlib.import_module(name))


def test_no_file_takes_the_place_of_a_module_that_is_loaded(folder):
    for where in (folder, folder / "below"):
        where.mkdir(exist_ok=True)
        (where / "numpy.py").write_text(f"import neighbour\nvalue = {str(where)!r}")
    (folder / "neighbour.py").write_text("")
    for _ in range(2):
        assert found("numpy.py:value") == str(folder)
        assert found("below/numpy.py:value") == str(folder / "below")
    assert sys.modules["numpy"] is np


def test_a_network_of_a_sweep_with_pieces_of_one_s_own_is_what_train_makes_of_it(folder):
    asked = ("--network", "mine:in_training", "--loss", "mine:quartic", "--epochs", 2, "--batch-size", 32)
    done = ended(sweep, *asked, "--seeds", 1, "--learning-rates", 0.01, 0.02, "--out", "sweep")
    assert done.status == 0, done.err
    assert "          of mine.py:in_training, mine.py:quartic\n" in done.out
    assert "          its backward, beside autodiff: right\n" in done.out
    rows = [json.loads(line) for line in (folder / "sweep/networks.jsonl").read_text().splitlines()]
    for row in rows:
        rate = row["learning_rate"]
        assert ended(train, *asked, "--learning-rate", rate, "--out", f"alone{rate}").status == 0
        alone = record.load_metrics(folder / f"alone{rate}")
        for name in ("loss", "test_loss", "test_accuracy"):
            np.testing.assert_allclose(row["curves"][name], [m[name] for m in alone], rtol=1e-4, err_msg=name)
    best = max(rows, key=lambda row: row["final_test_accuracy"])["learning_rate"]
    found = [load_file(folder / f"{name}/params.safetensors") for name in ("sweep/best", f"alone{best}")]
    assert found[0].keys() == found[1].keys()
    for name, array in found[0].items():
        np.testing.assert_allclose(array, found[1][name], rtol=1e-3, atol=1e-4, err_msg=name)
    assert "as training reported" in ended(predict, "sweep/best").out
    assert not (folder / "sweep/best/page.html").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--network mine:whole --widths 5", "--widths: mine.py:whole is a layer already"),
        ("--network mine:net --widths 5", "--widths: mine.py:net does not ask for it"),
        ("--network mine:asked --widths 5 9", "--widths: mine.py:asked can have one in a sweep; write "),
        ("--network mine:unscaled --scales 1 2", "--scales: no array of mine.py:unscaled is called W; leave"),
        ("--network mine:wrong", "mine.py:wrong: the backward written by hand is wrong; --trust-gradient "),
        ("--activation mine:rowwise --widths 5 9", "where others stand beside it; write a sweep for each"),
        ("--activation mine:pole --widths 5 9", "where others stand beside it; write a sweep for each"),
    ],
)
def test_what_no_sweep_can_do_is_told_and_nothing_written(words, message, folder):
    done = ended(sweep, *words.split(), "--out", "run")
    assert done.status == 2
    assert re.match(rf"(imported\n)?error: .*{message}.*\n", done.err), done.err
    assert not (folder / "run").exists()
