"""The programs, as their users call them."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments import compare_gradients, page, predict, sweep, train
from experiments.common import arguments
from jaxnn import datasets, objective, training
from jaxnn.activations import sigmoid
from jaxnn.layers import mlp
from jaxnn.runs import record
from tests.programs import ROOT, ended
from tests.test_activations import ACTIVATIONS
from tests.test_losses import LOSSES

pytestmark = pytest.mark.usefixtures("compiled_plainly")
PROGRAMS = {"train": train, "predict": predict, "compare_gradients": compare_gradients, "page": page}


@pytest.fixture(scope="module")
def a_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "lecture"
    trained = ended(train, "--out", folder)
    assert trained.status == 0, trained.err
    return folder, trained.out


def test_the_default_reaches_97_percent(a_run):
    _, printed = a_run
    percent = float(re.search(r"accuracy +([\d.]+) % of 359 test images", printed)[1])
    assert percent >= 97
    assert len(re.findall(r"^epoch ", printed, re.M)) == 60
    assert max(map(len, printed.splitlines())) <= 80


def test_a_run_leaves_its_files(a_run):
    folder, _ = a_run
    assert sorted(path.name for path in folder.iterdir()) == [
        "best.safetensors",
        "checkpoints",
        "learning_curves.png",
        "lock",
        "metrics.jsonl",
        "page.html",
        "params.safetensors",
        "settings.json",
        "timings.json",
    ]
    settings = json.loads((folder / "settings.json").read_text())
    assert settings["n"] == [64, 17, 10]
    assert settings["learning_rate"] == 0.5
    assert settings["versions"]["jax"] == jax.__version__
    metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [m["epoch"] for m in metrics] == list(range(1, 61))
    assert metrics[-1]["loss"] < metrics[0]["loss"]
    assert (folder / "learning_curves.png").read_bytes().startswith(b"\x89PNG")


def test_predict_reports_what_training_reported(a_run):
    folder, printed = a_run
    predicted = ended(predict, folder)
    assert predicted.status == 0, predicted.err
    line = re.search(r"^accuracy .*", printed, re.M)[0]
    assert f"{line}\n          as training reported\n" in predicted.out
    rows = np.array([row.split()[1:] for row in predicted.out.splitlines()[-10:]], int)
    np.testing.assert_array_equal(rows.sum(1), np.bincount(datasets.load("digits").test.labels))
    np.testing.assert_allclose(np.trace(rows) / rows.sum() * 100, float(line.split()[1]), atol=0.005)


def test_the_shapes_on_the_board(capsys):
    arguments_ = train.parser().parse_args(["--hidden", "17", "12", "--epochs", "1"])
    assert train.main(arguments_) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "network 64-17-12-10: dense(64→17, sigmoid), dense(17→12, sigmoid), dense(12→10)" in printed
    assert "1,451 parameters of 5,804 bytes, and as many for their gradients" in printed
    assert "images (1438, 8, 8)" in printed
    assert "X (8, 64) is a batch of them" in printed
    assert "Y (8, 10) is their labels, one-hot; Ŷ = sigmoid(Z) of the last layer" in printed
    for l, n_prev, n in ((1, 64, 17), (2, 17, 12)):
        assert f" {l} dense({n_prev}→{n}, sigmoid)" in printed
        forward = f"W ({n}, {n_prev}) b ({n}, 1) Z (8, {n}) A (8, {n})"
        assert f" {forward} dW ({n}, {n_prev}) db ({n}, 1) dZ (8, {n}) dA (8, {n})" in printed
    assert "W (10, 12) b (10, 1) Z = A (8, 10) dW (10, 12) db (10, 1) dZ = dA (8, 10)" in printed


def test_a_loss_that_is_not_finite_ends_the_run():
    done = ended(train, "--activation", "gelu", "--hidden", "64", "32", "--learning-rate", "1e30")
    assert done.status == 2
    place = (
        r"epoch 1, step \d+: (Z|A|J|d?[Wb])[^\n]* is the first that is not finite; a smaller --learning-rate"
    )
    assert re.fullmatch(rf"error: {place} usually helps\n", done.err), done.err


def test_a_test_loss_that_is_not_finite_ends_the_run():
    """One step leaves parameters of 1e25, which are finite; the squares of what they predict are not."""
    done = ended(train, "--loss", "squared_error", "--learning-rate", "1e25", "--batch-size", "1438")
    assert done.status == 2
    place = "epoch 1, the test loss is the first that is not finite; a smaller --learning-rate usually helps"
    assert done.err == f"error: {place}\n"


def test_the_loss_of_an_epoch_is_the_mean_over_all_its_steps(tmp_path, monkeypatch):
    """Also where several programs share an epoch; without training it is the loss of the training images."""
    monkeypatch.setattr(training, "WORK", 1e6)  # 288, 288 and 143 of the 719 steps
    line = ("--hidden", "23", "--batch-size", "2", "--epochs", "1", "--learning-rate", "1e-30")
    assert ended(train, *line, "--seed", "3", "--out", tmp_path).status == 0
    init_key, _ = jax.random.split(jax.random.key(3))
    (W1, b1), (W2, b2) = mlp(64, 23, 10, g=sigmoid).init(init_key)
    data, (metrics,) = datasets.load("digits"), record.load_metrics(tmp_path)
    for (images, labels), name in ((data.train, "loss"), (data.test, "test_loss")):
        X, Y = images.reshape(len(images), 64) / 16, np.eye(10)[labels]
        A = 1 / (1 + np.exp(-X @ np.asarray(W1, float).T - np.asarray(b1).T))
        Z = A @ np.asarray(W2, float).T + np.asarray(b2).T
        assert metrics[name] == pytest.approx(np.mean(np.sum(np.logaddexp(0, Z) - Y * Z, axis=1)), rel=1e-6)
        if name == "test_loss":
            assert metrics["test_accuracy"] == pytest.approx(np.mean(Z.argmax(1) == labels))


def test_of_epochs_that_are_as_good_the_first_is_the_best(tmp_path):
    line = ("--hidden", "5", "--learning-rate", "1e-5")  # nobody is recognised after it who was not before
    for epochs in ("1", "3"):
        assert ended(train, *line, "--epochs", epochs, "--out", tmp_path / epochs).status == 0
    assert len({metrics["test_accuracy"] for metrics in record.load_metrics(tmp_path / "3")}) == 1
    best, last = ((tmp_path / "3" / f"{name}.safetensors").read_bytes() for name in ("best", "params"))
    assert best == (tmp_path / "1" / "params.safetensors").read_bytes()
    assert best != last


DAMAGE = {
    "no folder": (lambda folder: (folder / "settings.json").unlink(), "no such file"),
    "settings": (lambda folder: (folder / "settings.json").write_text("{"), "not the settings of a run"),
    "a list": (lambda folder: (folder / "settings.json").write_text("[]"), "not the settings of a run"),
    "dataset": (lambda folder: edit(folder, dataset="../../x"), "dataset: got '../../x'"),
    "sizes": (lambda folder: edit(folder, n=[64, -3, 10]), "n: got [64, -3, 10]"),
    "other sizes": (
        lambda folder: edit(folder, n=[64, 18, 10]),
        "'W[1]': got shape (17, 64), expected (18, 64)",
    ),
    "activation": (lambda folder: edit(folder, activation="Activation"), "activation: got 'Activation'"),
    "parameters": (
        lambda folder: (folder / "params.safetensors").write_bytes(b"\xff" * 100),
        "cannot be read",
    ),
    "metrics": (lambda folder: (folder / "metrics.jsonl").write_text("x\n"), "line 1"),
    "no metrics": (lambda folder: (folder / "metrics.jsonl").write_text(""), "one at least"),
    "other metrics": (lambda folder: (folder / "metrics.jsonl").write_text("{}\n"), "its test_accuracy"),
    "a number": (lambda folder: (folder / "metrics.jsonl").write_text("1\n"), "its test_accuracy"),
}


def edit(folder: Path, **changes):
    settings = json.loads((folder / "settings.json").read_text())
    (folder / "settings.json").write_text(json.dumps(settings | changes))


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_run_is_refused_in_one_line(damage, a_run, tmp_path):
    shutil.copytree(a_run[0], tmp_path, dirs_exist_ok=True)
    do, message = DAMAGE[damage]
    words = predict.parser().parse_args([str(tmp_path)])
    do(tmp_path)
    with pytest.raises(record.RunError, match=re.escape(message)) as error:
        predict.main(words)
    assert "\n" not in str(error.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("name", ["settings.json", "metrics.jsonl", "params.safetensors"])
def test_a_named_pipe_in_a_run_is_refused(name, a_run, tmp_path):
    shutil.copytree(a_run[0], tmp_path, dirs_exist_ok=True)
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    with pytest.raises(record.RunError, match="is a named pipe; expected a file"):
        predict.main(predict.parser().parse_args([str(tmp_path)]))


def test_a_run_that_did_not_finish_can_be_begun_again(tmp_path):
    stopped = ended(
        train, "--epochs", "2", "--learning-rate", "1e30", "--activation", "relu", "--out", tmp_path
    )
    assert stopped.status == 2
    advice = ["--learning-rate", "1e+29", "--override", "learning_rate"]
    assert " ".join(["from the start with:", "--out", str(tmp_path), *advice]) in stopped.err
    again = ended(train, "--out", tmp_path, "--learning-rate", "0.01", "--override", "learning_rate")
    assert again.status == 0, again.err
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2


def test_a_finished_run_is_not_begun_again(a_run):
    before = (a_run[0] / "metrics.jsonl").read_bytes()
    with pytest.raises(record.RunError, match="holds a finished run; expected a new folder"):
        train.main(train.parser().parse_args(["--out", str(a_run[0])]))
    assert (a_run[0] / "metrics.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("name", "at", "message"),
    [
        ("params", -1, "another sha256"),
        ("params", 12, "cannot be read|got"),
        ("best", -1000, "another sha256"),
    ],
)
def test_a_flipped_bit_in_saved_parameters_is_noticed(name, at, message, a_run, tmp_path):
    content = bytearray((a_run[0] / f"{name}.safetensors").read_bytes())
    content[at] ^= 1
    (tmp_path / "flipped").write_bytes(content)
    with pytest.raises(record.RunError, match=message):
        record.load_params(tmp_path / "flipped", (64, 17, 10))


def test_the_best_epoch_is_kept(a_run, capsys):
    metrics = record.load_metrics(a_run[0])
    done = predict.main(predict.parser().parse_args([str(a_run[0]), "--best"]))
    assert done == 0
    assert "as training reported" in capsys.readouterr().out
    assert max(m["test_accuracy"] for m in metrics) > metrics[-1]["test_accuracy"]


def test_a_reader_that_leaves_early_ends_the_run_quietly():
    command = [sys.executable, "-m", "experiments.train", "--epochs", "1000000"]  # it never ends by itself
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8", cwd=ROOT
    ) as program:
        try:
            assert program.stdout.readline().startswith("train     jaxnn ")
            program.stdout.close()
            assert program.wait(timeout=300) == 1
            assert program.stderr.read() == ""
        finally:
            program.kill()


def test_a_terminal_that_has_few_letters_gets_the_rest():
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict") for _ in range(2))
    assert ended(train, "--epochs", "1", "--hidden", "5", out=out, err=err).status == 0
    out.flush()
    assert re.search(
        rb"\n +Y \(8, 10\) is their labels, one-hot; \? = sigmoid", out.buffer.getvalue()
    )  # Y-hat
    assert ended(sweep, "--seeds", "2", "--seed", str(2**32 - 1), out=out, err=err).status == 2
    err.flush()
    assert err.buffer.getvalue().endswith(b"expected 0..2???1\n")  # to the power of 32, minus


def test_closed_and_full_outputs_end_without_a_traceback(tmp_path):
    program = f"{sys.executable} -m experiments.train --epochs 1 --out {tmp_path / 'run'}"
    for command, status, error in (
        (f"{program} > /dev/full", 2, "error: standard output: No space left on device\n"),
        (f"{program} <&- >&- 2>&-", 0, ""),
    ):
        done = subprocess.run(["bash", "-c", command], capture_output=True, encoding="utf-8", cwd=ROOT)
        assert (done.returncode, done.stderr) == (status, error)
    assert (tmp_path / "run" / "lock").read_bytes() == b""
    assert (tmp_path / "run" / "params.safetensors").exists()


def test_predict_of_nothing_ends_in_one_line(tmp_path):
    done = ended(predict, tmp_path)
    assert done.status == 2
    assert re.fullmatch(r"error: [^\n]*settings.json: no such file[^\n]*\n", done.err)


def test_another_accuracy_than_training_reported_is_told(a_run, tmp_path):
    shutil.copytree(a_run[0], tmp_path, dirs_exist_ok=True)
    (tmp_path / "metrics.jsonl").write_text('{"test_accuracy": 0.25}\n')
    done = ended(predict, tmp_path)
    assert done.status == 0
    assert "\n          training reported 25.00 %\n" in done.out


def test_a_network_of_other_data_is_refused(tmp_path):
    settings = {"dataset": "digits", "n": [63, 10], "activation": "sigmoid"}
    record.create(tmp_path, settings, [{"test_accuracy": 0.5}])
    record.save_params(tmp_path / "params.safetensors", mlp(63, 10, g=sigmoid).init(jax.random.key(0)))
    said = f"{tmp_path}: got a network [63, 10], expected 64 inputs and 10 outputs for digits"
    assert ended(predict, tmp_path)[::2] == (2, f"error: {said}\n")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_compare_gradients_agrees(dtype, capsys):
    args = ["--hidden", "5", "4", "--activation", "tanh", "--loss", "cross_entropy", "--dtype", dtype]
    assert compare_gradients.main(compare_gradients.parser().parse_args(args)) == 0
    printed = capsys.readouterr().out
    assert re.findall(r"^  (\w\[\d\])", printed, re.M) == ["W[1]", "b[1]", "W[2]", "b[2]", "W[3]", "b[3]"]
    assert "formula   right" in printed
    assert f"numerics  good  (in {dtype})" in printed
    assert max(map(len, printed.splitlines())) <= 80


def test_compare_gradients_finds_a_wrong_entry(capsys, monkeypatch):
    by_hand = objective.value_and_grad

    def wrong(net, loss):
        def J_and_dparams(params, X, Y):
            J, (first, second) = by_hand(net, loss)(params, X, Y)
            return J, [first, second._replace(b=second.b.at[3, 0].multiply(1.01))]

        return J_and_dparams

    monkeypatch.setattr(objective, "value_and_grad", wrong)
    assert compare_gradients.main(compare_gradients.parser().parse_args([])) == 1
    assert "\n  b[2][3, 0]: by hand" in capsys.readouterr().out


def test_compare_gradients_finds_what_it_plants(capsys, tmp_path):
    page = tmp_path / "report.html"
    args = ["--plant", "missing-mean", "--examples", "31", "--json", "--html", str(page)]
    assert compare_gradients.main(compare_gradients.parser().parse_args(args)) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["correct"] is False
    assert report["causes"][0]["id"] == "missing-mean"
    assert [leaf["path"] for leaf in report["leaves"]] == ["W[1]", "b[1]", "W[2]", "b[2]"]
    assert page.read_text(encoding="utf-8").count('<img alt="error of ') == 4


@pytest.mark.parametrize(
    ("line", "said", "id", "where"),
    [
        (("bias-mean", "--layer", "2"), "bias-mean, layer 2", "bias-mean", "b[2]"),
        (
            ("regularisation-missing",),
            "regularisation-missing, with L2 regularisation λ = 0.1",
            "regularisation-missing",
            "W[1]",
        ),
        (("mask-forgotten",), "mask-forgotten, layer 1, with dropout", "mask-forgotten", "dZ[1]"),
        (("clipped-log",), "clipped-log, at weights 200 times as large", "clipped-log", "dZ[2]"),
    ],
)
def test_compare_gradients_finds_what_it_says_it_planted(line, said, id, where, capsys):
    arguments_ = compare_gradients.parser().parse_args(["--examples", "31", "--plant", *line])
    assert compare_gradients.main(arguments_) == 1
    printed = capsys.readouterr().out
    assert f"\nplanted   {said}\n" in printed
    assert "\nat        31 images of digits, seed 0, float32\n" in printed
    opening = printed.split("\n\n")[1]
    assert f" wrong: {id} (" in opening
    assert where in opening


def test_compare_gradients_lists_what_it_can_plant(capsys):
    arguments_ = compare_gradients.parser().parse_args(["--plant", "list"])
    assert compare_gradients.main(arguments_) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 20
    assert all(re.match(r"[a-z0-9-]+ +\S", line) for line in lines)
    assert [line for line in lines if line.startswith("missing-mean ")]
    assert lines == sorted(lines)


@pytest.mark.parametrize(
    ("plant", "advice"),
    [("weights-not-transposed", "--hidden"), ("typo", "--plant list lists what there is")],
)
def test_a_mistake_that_cannot_be_planted_is_refused(plant, advice):
    with pytest.raises(arguments.UserError, match=advice):
        compare_gradients.main(compare_gradients.parser().parse_args(["--plant", plant]))


def test_the_choices_are_those_of_the_library():
    assert set(arguments.ACTIVATIONS) == set(ACTIVATIONS)
    assert set(arguments.LOSSES) == set(LOSSES)
    assert set(arguments.DATASETS) == set(datasets.NAMES)


@pytest.mark.parametrize("program", [*PROGRAMS, "sweep", "draw", "export", "graph", "lecture"])
def test_help_imports_no_jax_and_fits_the_terminal(program):
    code = f"""
import sys
from experiments.{program} import parser
sys.stdout.write(parser().format_help())
assert not {{"jax", "numpy", "matplotlib", "tensorflow_datasets"}} & set(sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        encoding="utf-8",
        cwd=ROOT,
        env=os.environ | {"COLUMNS": "80", "PYTHONIOENCODING": "utf-8"},
    )
    assert done.returncode == 0, done.stderr
    assert "--device" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_importing_jaxnn_imports_no_jax_and_touches_no_device():
    code = """
import sys, jaxnn
assert "jax" not in sys.modules
import jaxnn.activations, jaxnn.losses, jaxnn.layers, jaxnn.objective, jaxnn.training, jaxnn.datasets
from jax._src import xla_bridge
assert not xla_bridge._backends
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
