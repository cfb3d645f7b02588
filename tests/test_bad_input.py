"""What comes from outside and is wrong is named in one line, with status 2, and nothing is written."""

import os
import platform
import re
import sys

import jax
import jax.numpy as jnp
import numpy
import optax
import pytest

import jaxnn
from experiments import benchmark, compare_gradients, endure, golden, measure_gradcheck, predict, sweep, train
from experiments.common import arguments
from jaxnn import encoding, evaluation, objective, training
from jaxnn.activations import sigmoid
from jaxnn.layers import Dense, ShapeError, mlp
from jaxnn.losses import binary_cross_entropy
from jaxnn.runs import checkpoints, record
from tests.programs import ended, run

NUMBER, RATE = "expected a whole number", "expected a finite number above 0"
BAD = [
    (train, "--out=", "got '', expected the name of a folder"),
    (train, "--hidden 0", NUMBER),
    (train, "--hidden -1", NUMBER),
    (train, "--hidden 17.5", NUMBER),
    (train, "--hidden", "got nothing after it, expected a whole number"),
    (train, "--hidden " + "9" * 5000, "expected a whole number in 1..1000000"),
    (train, "--hidden 1e3", NUMBER),
    (train, "--hidden 1000001", NUMBER),
    (train, "--hidden 17,17", NUMBER),
    (train, "--hidden" + 100 * " 3", "got 100 layers, expected at most 99"),
    (train, "--epochs 0", NUMBER),
    (train, "--epochs -3", NUMBER),
    (train, "--epochs 1000001", NUMBER),
    (train, "--batch-size 2.5", NUMBER),
    (train, "--batch-size -8", NUMBER),
    (train, "--batch-size 0", NUMBER),
    (train, "--batch-size 1439", "--batch-size: got 1439, expected at most the 1438 training images"),
    (train, "--epochs zwölf", "--epochs: got 'zwölf'"),
    (train, "--seed 0x10", NUMBER),
    (train, "--seed -1", NUMBER),
    (train, "--seed 4294967296", "got '4294967296', expected a whole number in 0..4294967295"),
    (train, "--learning-rate -1", RATE),
    (train, "--learning-rate nan", RATE),
    (train, "--learning-rate inf", RATE),
    (train, "--learning-rate 0", RATE),
    (train, "--learning-rate 1e-50", RATE),
    (train, "--learning-rate 1e39", RATE),
    (train, "--learning-rate half", RATE),
    (train, "--optimizer SGD", "did you mean sgd?"),
    (train, "--loss mse", "did you mean squared_error?"),
    (train, "--dataset cifar10", "got 'cifar10', expected one of digits"),
    (train, "--dataset /etc/passwd", "got '/etc/passwd', expected one of"),
    (train, "--dataset ../x", "got '../x', expected one of"),
    (train, "--activation rleu", "did you mean relu"),
    (train, "--gradient numeric", "got 'numeric', expected one of manual, autodiff"),
    (train, "--device tpu", "--device: got tpu, expected one that is there: cpu"),
    (train, "--device cuda", "did you mean gpu?"),
    (train, "--save-every -1", "expected seconds of at least 0"),
    (train, "--save-every often", "expected seconds of at least 0"),
    (train, "--save-every nan", "expected seconds of at least 0"),
    (train, "--override seed", "got 'seed', expected one of learning_rate"),
    (train, "--override", "got nothing after it, expected one of learning_rate"),
    (train, "--out", "got nothing after it, expected DIR"),
    (train, "--resume now", "takes no value; write --resume"),
    (train, "digits", "did you mean --dataset digits?"),
    (train, "--unknown", "--unknown: no such option; expected one of --help"),
    (train, "--epo 1", "did you mean --epochs 1?"),
    (train, "--out {file}", "cannot be used (Not a directory); expected a new folder"),
    (train, "--out {file}/x", "cannot be used (Not a directory)"),
    (train, "--out {pipe}", "cannot be used (Not a directory); expected a new folder"),
    (train, "--out {nothing}", "cannot be used (No such file or directory)"),  # a link to it
    (train, "--out {things}", "exists and is not empty; expected a new folder"),
    (train, "--out {long}", "File name too long"),
    (train, "--out /proc/1/new", "cannot be written"),  # where nothing can be
    (train, "--out /proc/x", "cannot be written"),
    (train, "--data-dir=", "got '', expected the name of a folder"),
    (train, "--out {linked}", "is a link; expected a folder with files of its own"),
    (train, "--out {finished}", "holds a finished run; expected a new folder"),
    (train, "--out {new} --resume", "expected the folder of an interrupted run"),
    (train, "--resume", "--resume: got no --out, expected the folder of an interrupted run"),
    (
        train,
        "--dataset mnist --data-dir {new} --source-dir {things}",
        "train-images-idx3-ubyte.gz: no such file",
    ),
    (train, "--dataset mnist --data-dir {new} --source-dir {file}", "no such file"),
    (train, "--dataset mnist --data-dir {file} --source-dir {things}", "which is a file; expected a folder"),
    (train, "--dataset mnist --data-dir {cache} --source-dir {things}", "SHA256SUMS: not a file"),
    (sweep, "--seeds 0", NUMBER),
    (sweep, "--seeds 2 --seed 4294967295", "--seeds: got seeds up to 4294967296, expected 0..2³²−1"),
    (sweep, "--learning-rates 0.1 0.1", "got a value twice, expected each once"),
    (sweep, "--batch-size 1439", "--batch-size: got 1439, expected at most the 1438 training images"),
    (sweep, "--override epochs", "--override: got what distinguishes the networks"),
    (sweep, "--widths 5 0", NUMBER),
    (sweep, "--hidden 9 --widths 17", "got both; write all the widths as --widths, and no --hidden"),
    (train, "--out s3://bucket/run", "got 's3://bucket/run', an address, expected a file here"),
    (sweep, "--scales 0", RATE),
    (sweep, "--out {finished}", "exists and"),
    (sweep, "--learning-rates 0.1 -1", RATE),
    (sweep, "--memory 0", RATE),
    (sweep, "--scales inf", RATE),
    (predict, "", "got no RUN_DIR"),
    (predict, "{file}", "settings.json: no such file"),
    (predict, "{new}", "settings.json: no such file"),
    (predict, "{things}", "settings.json: no such file"),
    (predict, "{finished} --best", "best.safetensors: no such file"),
    (predict, "{finished}", "cannot be read"),
    (predict, "a b", "got 'b' beside RUN_DIR, expected nothing"),
    (compare_gradients, "--dtype float16", "got 'float16', did you mean float"),
    (compare_gradients, "--examples 0", NUMBER),
    (compare_gradients, "--layer 0", NUMBER),
    (compare_gradients, "--plant biasmean", "did you mean bias-mean?"),
    (compare_gradients, "--plant zzz", "--plant list lists what there is"),
    (compare_gradients, "--plant missing-mean --layer 7", "missing-mean cannot be planted in layer 7"),
    (compare_gradients, "--html {new}/x.html", "expected a file in a folder that is there"),
    (compare_gradients, "--html {things}", "a folder, expected the name of a file"),
    (benchmark, "--json {new}/x.json", "expected a file in a folder that is there"),
    (benchmark, "--picture {things}", "a folder, expected the name of a file"),
    (benchmark, "--measure speed", "got 'speed', expected one of epochs"),
    (benchmark, "--batch-size 60001", NUMBER),
    (benchmark, "--rounds 0", NUMBER),
    (measure_gradcheck, "--right -1", NUMBER),
    (measure_gradcheck, "--minutes 0", NUMBER),
    (measure_gradcheck, "--large -1", NUMBER),
    (golden, "write said.json --clock 0", RATE),
    (measure_gradcheck, "--results {file}/x", "expected a file in a folder that is there"),
    (measure_gradcheck, "--results {file}", "holds no results of this program"),
    (endure, "--kills -1", NUMBER),
    (train, "--save-every 5", "--save-every: got no --out, expected --out DIR with it"),
    (train, "--data digits", "no such file; did you mean --dataset digits?"),
    (train, "--data thongs", "thongs: no such file; did you mean --data things?"),
    (compare_gradients, "--layer 2", "--layer: expected --plant ID with it"),
    (compare_gradients, "--examples 1439", "got 1439, expected at most the 1438 training images"),
    (benchmark, "--measure family --picture x.png", "expected --measure epochs with it"),
    (benchmark, "--picture x.bmp", "expected a name that ends in .png, .svg, .pdf; write x.png"),
    (endure, "--runs cifar", "got 'cifar', expected one of digits"),
]


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Folders, files and links by their names, as they stand in the lines above."""
    folder = tmp_path_factory.mktemp("places")
    things = folder / "things"
    things.mkdir()
    (things / "file").write_text("x")
    os.mkfifo(folder / "pipe")
    (folder / "nothing").symlink_to(folder / "nowhere")
    (folder / "linked").mkdir()
    (folder / "linked" / "metrics.jsonl").symlink_to(things / "file")
    (folder / "cache" / "mnist" / "SHA256SUMS").mkdir(parents=True)
    settings = {"dataset": "digits", "n": [64, 10], "activation": "sigmoid"}
    record.create(folder / "finished", settings, [{"test_accuracy": 0.5}])
    (folder / "finished" / "params.safetensors").write_bytes(b"x" * 9)
    names = {
        name: str(folder / name)
        for name in ("things", "pipe", "nothing", "linked", "cache", "finished", "new")
    }
    return folder, names | {"file": str(things / "file"), "long": str(folder / ("n" * 300))}


def introduced(program):
    """The first line of a program, which is all that it says before it looks at what is there."""
    found = f"jaxnn {jaxnn.__version__}, jax {jax.__version__}, Python {platform.python_version()}\n"
    return f"{program.__name__.removeprefix('experiments.'):9} {found}"


def ends(program, line, monkeypatch, capsys):
    """The status with which a program ends, and what it says."""
    monkeypatch.setattr(sys, "argv", [program.__name__, *line])
    monkeypatch.setattr(arguments, "on_signal", lambda handler: None)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    with pytest.raises(SystemExit) as end:
        arguments.run(program.main, program.parser())
    return end.value.code, capsys.readouterr()


@pytest.mark.parametrize(
    ("program", "line", "message"), BAD, ids=[f"{p.__name__[12:]} {line[:60]}" for p, line, _ in BAD]
)
def test_a_bad_line_ends_in_one_line_and_nothing_is_written(
    program, line, message, places, monkeypatch, capsys
):
    folder, names = places
    monkeypatch.chdir(folder)
    before = {path: path.lstat() for path in folder.rglob("*")}
    status, printed = ends(program, [word.format(**names) for word in line.split()], monkeypatch, capsys)
    assert status == 2
    assert re.fullmatch(r"error: [^\n]*\n", printed.err), printed.err
    assert message in printed.err
    assert printed.out in ("", introduced(program))  # before jax was imported
    after = {path: path.lstat() for path in folder.rglob("*")}
    assert {p: (s.st_mtime_ns, s.st_size) for p, s in after.items()} == {
        p: (s.st_mtime_ns, s.st_size) for p, s in before.items()
    }


def test_a_folder_without_a_name_is_not_the_current_one(places, monkeypatch, capsys):
    monkeypatch.chdir(places[1]["finished"])
    status, printed = ends(predict, [""], monkeypatch, capsys)
    assert (status, printed.out) == (2, "")
    assert "RUN_DIR: got '', expected the name of a folder" in printed.err


def test_losses_and_numbers_of_things_are_printed_as_one_would_write_them():
    assert [arguments.few_digits(J) for J in (0.12345, 12345.6, 1.5e6, 1e30, float("inf"))] == [
        "0.1235",
        "12345.6000",
        "1.5e+06",
        "1e+30",
        "inf",
    ]
    assert [arguments.counted(n, "scale") for n in (1, 2)] == ["1 scale", "2 scales"]


FRESH = [  # what jax reads when it is imported
    ({"JAX_PLATFORMS": "nonsense"}, "JAX_PLATFORMS: got 'nonsense', expected platforms that are installed"),
    ({"JAX_ENABLE_X64": "perhaps"}, "perhaps"),
]
ENVIRONMENT = [
    ({"XLA_FLAGS": "--nonsense"}, "XLA_FLAGS: got '--nonsense', expected flags of this XLA (Unknown flag"),
    ({"XLA_FLAGS": "nonsense"}, "XLA_FLAGS: got 'nonsense', expected flags of this XLA (Could not open file"),
    ({"JAX_COMPILATION_CACHE_DIR": __file__}, "which is a file; expected a folder"),
    ({"JAXNN_SOURCE_DIR": __file__, "XDG_CACHE_HOME": "{new}"}, "train-images-idx3-ubyte.gz: no such file"),
]


@pytest.mark.parametrize(
    ("environment", "message"), FRESH + ENVIRONMENT, ids=[", ".join(e) for e, _ in FRESH + ENVIRONMENT]
)
def test_a_bad_environment_ends_in_one_line_and_nothing_is_written(
    environment, message, tmp_path, monkeypatch
):
    environment = {name: value.format(new=tmp_path / "new") for name, value in environment.items()}
    line = [
        "--dataset",
        "mnist" if "JAXNN_SOURCE_DIR" in environment else "digits",
        "--out",
        tmp_path / "run",
    ]
    if (environment, message) in FRESH:
        done = run("train", *map(str, line), **environment)
        status, said = done.returncode, done.stderr
    else:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        status, _, said = ended(train, *line)
    assert status == 2
    assert re.fullmatch(r"error: [^\n]*\n", said), said
    assert message in said
    assert not (tmp_path / "run").exists()


LOSSES = {"loss": 0.5, "test_loss": 0.5, "test_accuracy": 0.5}
FORGED = {
    "settings": {"settings": []},
    "an activation": {"settings": {"activation": "jax"}},
    "sizes": {"settings": {"hidden": [-3]}},
    "no step": {"step": None},
    "a step that is none": {"step": "1"},
    "metrics": {"metrics": 5},
    "no metrics": {"metrics": [5]},
    "metrics of another epoch": {"metrics": [{"epoch": 2} | LOSSES]},
    "a loss that is none": {"metrics": [{"epoch": 1} | LOSSES | {"loss": None}]},
    "a step below 0": {"step": -7},
    "a step that is true": {"step": True},
    "a step far away": {"step": 10**30},
    "a step after the epoch": {"step": 180},
    "a best epoch that is none": {"best": 1e9},
    "a best epoch to come": {"best": 1},
    "costs that are not there": {"step": 8},
}


LINE = ["--override", "device", "environment", "versions"]


@pytest.mark.parametrize("forged", FORGED)
def test_a_forged_checkpoint_ends_in_one_line(forged, tmp_path, monkeypatch, capsys):
    settings = {"dataset": "digits", "hidden": [17], "n": [64, 17, 10], "activation": "sigmoid"}
    progress = {"settings": settings, "metrics": [], "step": 8, "best": 0}
    record.create(tmp_path / "run", settings)
    checkpoints.write(tmp_path / "run" / "checkpoints", 1, {"W": jnp.ones(2)}, progress | FORGED[forged])
    status, printed = ends(train, [*LINE, "--out", str(tmp_path / "run")], monkeypatch, capsys)
    assert status == 2
    assert re.fullmatch(r"error: [^\n]*(progress.json|000001): [^\n]*\n", printed.err), printed.err


def test_a_disabled_compiler_is_named(monkeypatch):
    monkeypatch.setenv("JAX_DISABLE_JIT", "1")  # as jax reads it when it is imported
    with jax.disable_jit(), pytest.raises(arguments.UserError, match="JAX_DISABLE_JIT: got '1', expected"):
        arguments.use_device("cpu")


def petabytes(_):
    return jax.jit(lambda: jnp.ones((2**20, 2**20, 2**10)))().sum() > 0


def exabytes(_):
    return numpy.ones(2**57).sum() > 0


def nan(_):
    return float(jnp.log(-jnp.ones(3)).sum()) > 0


def another(_):
    raise RuntimeError("a fault of ours")


@pytest.mark.parametrize(
    ("main", "said"),
    [
        (petabytes, r"error: out of memory \(RESOURCE_EXHAUSTED: [^\n]*\); a smaller network needs less\n"),
        (exabytes, r"error: out of memory \(Unable to allocate 1.00 EiB [^\n]*\)\n"),
        (nan, r"error: JAX_DEBUG_NANS: [^\n]*nan[^\n]*\n"),
    ],
)
def test_what_no_machine_can_do_ends_in_one_line(main, said):
    with jax.debug_nans(main is nan):
        status, _, err = ended(train, main=main)
    assert status == 2
    assert re.fullmatch(said, err), err


def test_jax_may_look_for_nans_itself():
    with jax.debug_nans(True):
        status, _, err = ended(train, "--learning-rate", "1e30", "--activation", "relu", "--hidden", "5")
    assert status == 2
    assert re.fullmatch(r"error: JAX_DEBUG_NANS: [^\n]*nan[^\n]*\n", err), err


def test_a_fault_of_ours_is_not_taken_for_one_of_the_user():
    with pytest.raises(RuntimeError, match="a fault of ours"):
        ended(train, main=another)


NET = mlp(64, 128, 17, g=sigmoid)
GOOD = [Dense(jnp.ones((128, 64)), jnp.ones((128, 1))), Dense(jnp.ones((17, 128)), jnp.ones((17, 1)))]


@pytest.mark.parametrize(
    ("params", "X", "message"),
    [
        (GOOD, jnp.ones((5, 63)), "layer 1: W is (128, 64), its input has 63 columns, expected 64"),
        (GOOD, jnp.ones((5, 65)), "layer 1: W is (128, 64), its input has 65 columns, expected 64"),
        (GOOD, jnp.ones(64), "layer 1: W is (128, 64), its input is (64,), expected (N, 64)"),
        (GOOD, jnp.ones((5, 8, 8)), "layer 1: W is (128, 64), its input is (5, 8, 8), expected (N, 64)"),
        (GOOD, jnp.ones((5, 64), jnp.uint8),
         "layer 1: W is (128, 64) float32, its input is uint8, expected floating point"),
        ([GOOD[0]._replace(W=jnp.ones((64, 64)), b=jnp.ones((64, 1))), GOOD[1]], jnp.ones((5, 64)),
         "layer 2: W is (17, 128), its input has 64 columns, expected 128"),
        (GOOD[:1], jnp.ones((5, 64)), "params: got those of 1 layers, expected 2"),
        ([*GOOD, GOOD[1]], jnp.ones((5, 64)), "params: got those of 3 layers, expected 2"),
        ([GOOD[0], GOOD[1]._replace(b=jnp.ones((1, 17)))], jnp.ones((5, 64)),
         "layer 2: W is (17, 128), b is (1, 17), expected (n, n_prev) and (n, 1)"),
        ([GOOD[0]._replace(W=jnp.ones(128)), GOOD[1]], jnp.ones((5, 64)),
         "layer 1: W is (128,), b is (128, 1), expected (n, n_prev) and (n, 1)"),
    ],
)  # fmt: skip
def test_what_does_not_fit_a_layer_is_named_with_both_shapes(params, X, message, as_a_user):
    with pytest.raises(ShapeError) as error:
        NET.forward(params, X)
    assert str(error.value) == message


@pytest.mark.parametrize("n", [(), (64,), (64, 0), (64, -3, 10), (64, 17.0, 10)])
def test_sizes_that_make_no_network_are_named(n, as_a_user):
    with pytest.raises(ValueError, match=rf"^mlp: got sizes {re.escape(str(n))}, expected"):
        mlp(*n, g=sigmoid)


STEP = training.step(objective.value_and_grad(NET, binary_cross_entropy), optax.sgd(0.1))
X, Y = jnp.ones((5, 64)), jnp.zeros((5, 17))
LIBRARY = {
    "a label of no class": (
        lambda: encoding.one_hot(jnp.array([0, 10]), 10), ValueError, r"^label 1: got 10, expected 0\.\.9$",
    ),
    "a label below 0": (
        lambda: encoding.one_hot(jnp.array([-1, 1]), 10), ValueError, r"^label 0: got -1, expected 0\.\.9$",
    ),
    "fractional labels": (
        lambda: encoding.one_hot(jnp.array([0.5]), 10), TypeError, "labels: got float32, expected integers",
    ),
    "labels in a column": (
        lambda: encoding.one_hot(jnp.array([[0], [1]]), 10), ValueError,
        r"labels: got shape \(2, 1\), expected \(N,\)",
    ),
    "images that are scaled already": (
        lambda: encoding.flatten(jnp.ones((5, 8, 8)), 255), TypeError,
        "images: got float32, expected uint8, from 0 to white",
    ),
    "a true label of no class": (
        lambda: evaluation.confusion_matrix(jnp.array([1, 3]), jnp.array([0, 1]), 3), ValueError,
        "label 1: got 3",
    ),
    "a prediction of no class": (
        lambda: evaluation.confusion_matrix(jnp.array([1]), jnp.array([3]), 3), ValueError, "label 0: got 3",
    ),
    "one label for many images": (
        lambda: objective.value_and_grad(NET, binary_cross_entropy)(GOOD, X, Y[:1]), ShapeError,
        r"Y is \(1, 17\), Z\[L\] is \(5, 17\)",
    ),
    "labels that are not one-hot": (
        lambda: objective.cost(NET, binary_cross_entropy)(GOOD, X, jnp.zeros(5)), ShapeError, r"Y is \(5,\)",
    ),
    "fewer labels than images": (
        lambda: training.epoch(STEP, 2)(training.start(GOOD, optax.sgd(0.1)), jax.random.key(0), X, Y[:4]),
        ValueError, "data: got 5, 4 rows, expected as many",
    ),
    "a batch larger than the data": (
        lambda: training.epoch(STEP, 6)(training.start(GOOD, optax.sgd(0.1)), jax.random.key(0), X, Y),
        ValueError, "data: got 5 rows, expected at least the batch_size of 6",
    ),
    "labels in a list": (lambda: encoding.one_hot([1, 2], 3), TypeError, "labels: got list, expected"),
    "images in a list": (lambda: encoding.flatten([[1]], 16), TypeError, "images: got list, expected"),
    "masked labels": (
        lambda: encoding.one_hot(numpy.ma.masked_array([1, 2], [True, False]), 3), TypeError,
        "labels: got a masked array",
    ),
    "white that is 0": (
        lambda: encoding.flatten(jnp.ones((5, 8, 8), jnp.uint8), 0), ValueError, "white: got 0, expected",
    ),
    "no images": (
        lambda: encoding.flatten(jnp.ones((0, 8, 8), jnp.uint8), 16), ValueError,
        r"images: got shape \(0, 8, 8\), expected one image",
    ),
    "more labels than predictions": (
        lambda: evaluation.confusion_matrix(jnp.array([1, 2]), jnp.array([1]), 3), ValueError,
        "got 2 labels, 1 predictions, expected as many",
    ),
    "no labels": (
        lambda: evaluation.confusion_matrix(jnp.zeros(0, int), jnp.zeros(0, int), 3), ValueError,
        "got 0 labels, 0 predictions",
    ),
    "no examples": (
        lambda: objective.cost(NET, binary_cross_entropy)(GOOD, X[:0], Y[:0]), ShapeError,
        r"Z\[L\] is \(0, 17\), expected one row",
    ),
    "an activation by its name": (
        lambda: mlp(3, 5, 2, g="sigmoid"), TypeError, "g: got 'sigmoid', expected an Activation",
    ),
    "whole numbers for weights": (
        lambda: NET.forward([GOOD[0]._replace(W=jnp.ones((128, 64), int)), GOOD[1]], X), ShapeError,
        r"layer 1: W is \(128, 64\) int32, b is float32, expected floating point",
    ),
    "batches of none": (lambda: training.epoch(STEP, 0), ValueError, "batch_size: got 0, expected 1 or more"),
}  # fmt: skip


@pytest.mark.parametrize("name", LIBRARY)
def test_what_reaches_the_library_and_is_wrong_is_named(name, as_a_user):
    call, kind, message = LIBRARY[name]
    with pytest.raises(kind, match=message):
        call()


def test_labels_that_are_not_known_yet_are_not_looked_at(as_a_user):
    found = jax.jit(lambda labels: encoding.one_hot(labels, 3))(jnp.array([1, 3, -1]))
    assert found.tolist() == [[0, 1, 0], [0, 0, 0], [0, 0, 0]]


def test_there_are_many_of_them():
    assert len(BAD) + len(FRESH) + len(ENVIRONMENT) + len(FORGED) + len(LIBRARY) >= 80
