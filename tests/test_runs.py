"""A run's folder: what may begin in it, what is read from it, and what is refused, in one line."""

import errno
import json
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save

from jaxnn.layers import Dense
from jaxnn.runs import record

N = (3, 5, 2)
SETTINGS = {"dataset": "digits", "n": [3, 5, 2], "activation": "tanh"}


def arrays() -> dict[str, np.ndarray]:
    numbers = np.arange(32, dtype=np.float32)
    return {
        "W[1]": numbers[:15].reshape(5, 3),
        "b[1]": numbers[15:20].reshape(5, 1),
        "W[2]": numbers[20:30].reshape(2, 5),
        "b[2]": numbers[30:].reshape(2, 1),
    }


def write_arrays(folder, found, sha256=None):
    found = {name: np.ascontiguousarray(array) for name, array in found.items()}
    content = save(found, {"sha256": sha256 or record._sha256(found)})
    (folder / "params.safetensors").write_bytes(content)


def edited(**changes):
    """Write settings with these changes."""
    return lambda folder: (folder / "settings.json").write_text(json.dumps(SETTINGS | changes))


def measured(*lines):
    """Write these lines of metrics."""
    return lambda folder: (folder / "metrics.jsonl").write_text("\n".join(lines))


def saved(**changes):
    """Write parameters with these changes; None takes one out."""
    changes = {f"{name[0]}[{name[1]}]": array for name, array in changes.items()}
    found = {name: array for name, array in (arrays() | changes).items() if array is not None}
    return lambda folder: write_arrays(folder, found)


def test_what_is_written_is_read(tmp_path):
    params = [Dense(jnp.array(arrays()[f"W[{l}]"]), jnp.array(arrays()[f"b[{l}]"])) for l in (1, 2)]
    metrics = [{"epoch": k, "test_accuracy": accuracy} for k, accuracy in enumerate((0.0, 0.5, 1.0), 1)]
    record.create(tmp_path / "a" / "run", SETTINGS, metrics[:2])
    record.append_metrics(tmp_path / "a" / "run", metrics[2])
    record.save_params(tmp_path / "params.safetensors", params)
    assert record.load_settings(tmp_path / "a" / "run") == SETTINGS
    assert record.load_metrics(tmp_path / "a" / "run") == metrics
    found = record.load_params(tmp_path / "params.safetensors", N)
    assert jax.tree.structure(found) == jax.tree.structure(params)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(params), strict=True):
        assert isinstance(one, jax.Array)
        np.testing.assert_array_equal(one, other)


def test_numbers_that_are_not_finite_are_no_metrics(tmp_path):
    record.create(tmp_path, SETTINGS)
    with pytest.raises(ValueError, match="Out of range float"):
        record.append_metrics(tmp_path, {"loss": float("nan")})
    assert (tmp_path / "metrics.jsonl").read_text() == ""


READ = {
    "settings.json": record.load_settings,
    "metrics.jsonl": record.load_metrics,
    "params.safetensors": lambda folder: record.load_params(folder / "params.safetensors", N),
}
LARGEST = [1, 1_000_000]
WRONG = {
    "settings.json": [
        (lambda folder: None, r"no such file; expected the folder that --out of a finished training made"),
        (lambda folder: (folder / "settings.json").mkdir(), "is a folder; expected a file"),
        (lambda folder: os.mkfifo(folder / "settings.json"), "is a named pipe; expected a file"),
        (lambda folder: (folder / "settings.json").symlink_to("/dev/zero"), "is a link; expected a file"),
        (lambda folder: (folder / "settings.json").write_bytes(b"\xff"), r"not the settings .*UnicodeDecode"),
        (
            lambda folder: (folder / "settings.json").write_text("{"),
            r"not the settings of a run \(JSONDecode",
        ),
        (
            lambda folder: (folder / "settings.json").write_text("[]"),
            r"not the settings of a run \(TypeError",
        ),
        (lambda folder: (folder / "settings.json").write_text("{}"), r"\(KeyError: 'dataset'\)$"),
        (
            lambda folder: (folder / "settings.json").write_text(100_000 * "["),
            r"\(ValueError: it is nested too deeply",
        ),
        (edited(padding=1_000_000 * "x"), "got more than 1,000,000 bytes, which is more than it can need"),
        (
            edited(dataset="cifar"),
            "dataset: got 'cifar', expected one of digits, mnist, fashion_mnist, kmnist",
        ),
        (edited(dataset=["digits"]), r"dataset: got \"\['digits'\]\", expected"),
        (edited(n=[64]), r"n: got \[64\], expected the sizes of the layers"),
        (edited(n="64-10\x1b[31m"), r"n: got '64-10\\x1b\[31m', expected"),
        (edited(n=102 * [10]), "n: got 101 layers, expected at most 100"),
        (edited(n=[64, 10.0]), r"n: got \[64, 10.0\]"),
        (edited(n=[64, True]), r"n: got \[64, True\]"),
        (edited(n=[64, 0]), r"n: got \[64, 0\]"),
        (edited(n=[1_000_001, 1]), r"n: got \[1000001, 1\]"),
        (edited(n=500 * [-1]), r"n: got \[[-1, ]{79}, expected"),
        (edited(activation="Activation"), "activation: got 'Activation', expected one of jaxnn.activations"),
        (edited(activation=50 * "x"), f"activation: got '{40 * 'x'}', expected"),
    ],
    "metrics.jsonl": [
        (lambda folder: None, "no such file"),
        (measured(), "expected a line for each epoch, one at least, with its test_accuracy"),
        (measured("x"), "line 1: Expecting value"),
        (measured(300 * "["), "line 1: Expecting value"),
        (measured(100_000 * "["), "got a line of more than 560 bytes"),
        (measured(*10_001 * ['{"test_accuracy": 0.5}']), "got more lines than the 10,000 that its settings"),
        (measured('{"test_accuracy": 0.5, "epoch": true}'), "line 1: epoch: got 'True', expected what"),
        (measured('{"test_accuracy": 0.5, "loss": "1"}'), "line 1: loss: got '1', expected what"),
        (measured('{"test_accuracy": 0.5, "dW": [-1.0]}'), r"line 1: dW: got '\[-1.0\]', expected what"),
        (measured('{"test_accuracy": 0.5}', "{}"), "line 2: expected an epoch's metrics, with its test_acc"),
        (measured("0.5"), "line 1: expected"),
        *(
            (measured(f'{{"test_accuracy": {value}}}'), "line 1: expected .* in 0..1$")
            for value in ("1", "1.0001", "-0.0001", "NaN", '"0.5"')
        ),
    ],
    "params.safetensors": [
        (lambda folder: None, "no such file; this training did not finish"),
        (
            lambda folder: (folder / "networks.jsonl").touch(),
            "no such file; this is a sweep, its best network is in best/",
        ),
        (
            lambda folder: (folder / "params.safetensors").write_bytes(b""),
            r"cannot be read \(got 0 bytes with a header of 0",
        ),
        (lambda folder: (folder / "params.safetensors").write_bytes(save(arrays())), "another sha256"),
        (
            lambda folder: (folder / "params.safetensors").write_bytes(save(arrays(), {"a": "b"})),
            "another sha256",
        ),
        (lambda folder: write_arrays(folder, arrays(), 64 * "0"), "damaged: its arrays have another sha256"),
        (saved(W2=None), r"'W\[2\]': got shape None, expected \(2, 5\)"),
        (saved(W3=np.zeros((1, 2), np.float32)), r"'W\[3\]': got shape \(1, 2\), expected None"),
        (saved(b1=np.zeros(5, np.float32)), r"'b\[1\]': got shape \(5,\), expected \(5, 1\)"),
        (saved(W1=np.zeros((3, 5), np.float32)), r"'W\[1\]': got shape \(3, 5\), expected \(5, 3\)"),
        (saved(W1=np.zeros((5, 3))), r"W\[1\]: got float64, expected float32; JAX_ENABLE_X64 must be what"),
        (saved(b2=np.array([[np.inf], [0]], np.float32)), r"b\[2\]: got numbers that are not finite"),
        (saved(W9=np.zeros(10_000, np.float32)), r"'W\[9\]': got shape \(10000,\), expected None"),
    ],
}


@pytest.mark.parametrize(
    ("name", "damage", "message"), [(name, *case) for name, cases in WRONG.items() for case in cases]
)
def test_what_cannot_be_read_is_named(name, damage, message, tmp_path):
    damage(tmp_path)
    with pytest.raises(record.RunError, match=rf"{name}: .*{message}") as error:
        READ[name](tmp_path)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < len(str(tmp_path)) + 300


def test_the_largest_network_there_can_be(tmp_path):
    edited(n=LARGEST)(tmp_path)
    assert record.load_settings(tmp_path)["n"] == LARGEST


def test_parameters_of_float64_are_read_where_jax_works_in_it(tmp_path, x64):
    found = {name: array.astype(float) for name, array in arrays().items()}
    write_arrays(tmp_path, found)
    assert record.load_params(tmp_path / "params.safetensors", N)[1].W.dtype == jnp.float64


def folder_of(tmp_path, *names):
    for name in names:
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize(
    "names",
    [
        (),
        ("settings.json", "lock", "checkpoints"),
        (".settings.json.part",),
        ("best", "page.html", "timings.json"),
    ],
)
def test_a_run_can_begin_or_go_on(names, tmp_path):
    record.check_new(tmp_path / "new" / "run")
    record.check_new(folder_of(tmp_path, *names))
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("settings.json", "params.safetensors"), "exists and holds a finished run; expected a new folder"),
        (("params.safetensors",), "exists and is not empty"),
        (("settings.json", "thesis.tex"), "exists and is not empty"),
        (("checkpoints", "lock"), "exists and is not empty"),
    ],
)
def test_a_folder_of_something_else_is_refused(names, message, tmp_path):
    with pytest.raises(record.RunError, match=message):
        record.check_new(folder_of(tmp_path, *names))


def test_a_sweep_is_finished_by_another_file(tmp_path):
    folder_of(tmp_path, "settings.json", "networks.jsonl")
    with pytest.raises(record.RunError, match="holds a finished run"):
        record.check_new(tmp_path, "networks.jsonl")


def test_links_are_refused(tmp_path):
    (tmp_path / "lock").symlink_to(tmp_path)
    with pytest.raises(record.RunError, match=r"/lock is a link; expected a folder with files of its own"):
        record.check_new(tmp_path)


def test_where_nothing_can_be_written_nothing_begins(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(os, "access", lambda path, mode: asked.append((path, mode)))
    with pytest.raises(record.RunError, match=r"run cannot be written \(no right to, or read-only: .*\)"):
        record.check_new(tmp_path / "new" / "run")
    assert asked == [(tmp_path, os.W_OK)]


def test_one_holds_a_folder_at_a_time(tmp_path):
    first = record.hold(tmp_path / "new" / "run")
    with pytest.raises(record.RunError, match="run is in use by another run; expected one at a time"):
        record.hold(tmp_path / "new" / "run")
    first.check()
    first.close()
    first.close()
    second = record.hold(tmp_path / "new" / "run")
    with pytest.raises(record.RunError, match="was removed or replaced"):
        first.check()
    del second  # forgotten
    record.hold(tmp_path / "new" / "run").close()


def test_a_folder_that_cannot_be_locked_is_named(tmp_path, monkeypatch):
    import fcntl

    def unable(file, how):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", unable)
    files = len(os.listdir("/dev/fd"))
    with pytest.raises(record.RunError, match=r"cannot be locked \(No locks"):
        record.hold(tmp_path)
    assert len(os.listdir("/dev/fd")) == files


@pytest.mark.parametrize(
    "write",
    [
        record.hold,
        lambda folder: record.create(folder, {}),
        lambda folder: record.append_metrics(folder, {}),
        lambda folder: record.replace(folder / "x", ""),
        lambda folder: record.save_params(folder / "x", []),
        record.check_new,
    ],
)
def test_what_cannot_be_written_is_named(write, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(record.RunError, match=r"file/run.* cannot be (written|used) \(.*(Not a dir|File ex)"):
        write(tmp_path / "file" / "run")
