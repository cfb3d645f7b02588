"""Interruption and damage, in the short form; the long one is `python -m experiments.endure`."""

import argparse
import errno
import json
import os
import random
import re
import shutil
import threading
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments import endure, train
from experiments.common import arguments
from experiments.common.continuation import Pauses, begun
from jaxnn.activations import sigmoid
from jaxnn.layers import Dense, mlp
from jaxnn.losses import binary_cross_entropy
from jaxnn.objective import value_and_grad
from jaxnn.runs import checkpoints, divergence, files, record, seals
from jaxnn.training import start
from tests.programs import ROOT, ended

pytestmark = pytest.mark.usefixtures("compiled_plainly")
DIGITS = argparse.Namespace(runs=["digits"], data_dir=None, source_dir=None, seed=0)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What a run ends with that is left alone, for all the parts below."""
    return endure.uninterrupted(DIGITS, tmp_path_factory.mktemp("alone"))


@pytest.mark.parametrize(
    ("part", "number", "said"),
    [
        (endure.kills, 1, "runs to the end  1, bit-identical: 1\n"),
        (endure.blocked, 1, "left with status 76: 1\n"),
        (endure.damages, 20, "noticed          20; the newest good one loaded: 20\n"),
        (endure.files, 200, "200, uncaught exceptions and long errors: 0\n"),
        (endure.hostile, 12, "hostile files      12; "),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_nothing_is_lost(part, number, said, alone, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(endure, "uninterrupted", lambda *_: alone)
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):  # as optax needs it
        part(number, random.Random(1), tmp_path, DIGITS)  # what it answers depends on seconds and bytes, too
    printed = capsys.readouterr().out
    assert said in printed
    assert "wrong: " not in printed
    assert re.findall(r"bit-identical: (\d+)", printed) == ["1"] * ("runs to the end" in printed)
    assert str(number) in printed.splitlines()[0]


def test_whichever_call_fails_a_run_goes_on_and_loses_nothing(tmp_path, capsys, monkeypatch):
    """A slice of what `python -m experiments.endure --faults` does with every call of files."""
    monkeypatch.chdir(ROOT)
    arguments = argparse.Namespace(seed=0, runs=["digits", "sweep"])
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):  # as optax needs it
        passed = endure.faults(2, random.Random(5), tmp_path, arguments)
    printed = capsys.readouterr().out
    assert passed, printed
    assert re.search("faults +train: 10, 2 of [0-9]{3} calls\n", printed)
    assert re.search("faults +sweep: 10, 2 of [0-9]{3} calls\n", printed)
    assert re.search("train: 2 of [0-9]{2,3} arrays, out of memory\n", printed)
    assert re.search("sweep: 2 of [0-9]{3} arrays, out of memory\n", printed)
    assert "runs to the end  24, bit-identical: 24\n" in printed


SMALL = ["--hidden", "5", "--epochs", "3"]


def trained(folder, *args):
    small = SMALL if "--hidden" not in args else [x for x in SMALL if x not in ("--hidden", "5")]
    return train.main(train.parser().parse_args([*small, "--out", str(folder), *args]))


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """A run of digits that was interrupted in its second epoch."""
    folder = tmp_path_factory.mktemp("runs") / "interrupted"

    def call(self, tree, done, where):
        if len(done.metrics) == 1:
            self.save(tree, done)
            raise arguments.Interrupted(where, 76)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pauses, "__call__", call)
        with pytest.raises(arguments.Interrupted, match="epoch 2"):
            trained(folder)
    return folder


@pytest.fixture
def copy(interrupted, tmp_path):
    return shutil.copytree(interrupted, tmp_path / "copy")


def test_a_run_goes_on_with_its_own_settings(copy, tmp_path):
    assert train.main(train.parser().parse_args(["--out", str(copy), "--resume"])) == 0
    trained(tmp_path / "whole")
    assert endure.outcome(copy) == endure.outcome(tmp_path / "whole")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--learning-rate", "0.1"], r"learning_rate 0.5 \(got 0.1\).* or --override learning_rate"),
        (["--seed", "1", "--hidden", "6"], r"hidden \[5\] \(got \[6\]\); seed 0 \(got 1\); expected"),
        (["--dataset", "mnist", "--override", "epochs"], r"dataset digits \(got mnist\)"),
        (["--epochs", "1", "--override", "epochs"], "got 1, expected more than the 1 that are done"),
    ],
)
def test_other_settings_are_listed_and_refused(args, message, copy):
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    with pytest.raises(arguments.UserError, match=message):
        trained(copy, *args)
    assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()} == before


def test_other_settings_are_taken_where_they_are_named(copy):
    assert (
        trained(copy, "--epochs", "4", "--learning-rate", "0.1", "--override", "learning_rate", "epochs") == 0
    )
    assert len(record.load_metrics(copy)) == 4
    assert record.load_settings(copy)["learning_rate"] == 0.1


def test_another_device_or_version_is_refused(copy, monkeypatch):
    monkeypatch.setenv("JAX_DEFAULT_MATMUL_PRECISION", "highest")
    with pytest.raises(arguments.UserError, match=r"environment \{\} \(got .*--override environment"):
        trained(copy)


def test_resume_begins_nothing(tmp_path):
    with pytest.raises(arguments.UserError, match="expected the folder of an interrupted run"):
        trained(tmp_path / "new", "--resume")
    assert not (tmp_path / "new").exists()


def test_two_runs_in_one_folder(copy):
    held = record.hold(copy)
    with pytest.raises(record.RunError, match="is in use by another run"):
        trained(copy)
    held.close()
    assert trained(copy) == 0


@pytest.mark.parametrize("again", [False, True])
def test_a_folder_that_is_removed_is_noticed_and_not_made_again(again, tmp_path):
    folder = tmp_path / "run"
    held = record.hold(folder)
    held.check()
    shutil.rmtree(folder)
    if again:
        record.hold(folder).close()
    with pytest.raises(record.RunError, match="was removed or replaced"):
        held.check()
    with pytest.raises(record.RunError, match="No such file"):
        checkpoints.write(tmp_path / "gone" / "checkpoints", 1, {"W": np.ones(3)}, {})
    assert not (tmp_path / "gone").exists()


def test_a_run_that_began_meanwhile_is_left_alone(tmp_path):
    record.create(tmp_path, {})
    with pytest.raises(arguments.UserError, match="another run has begun"):
        begun(tmp_path)


@pytest.mark.parametrize("link", ["x", ".x.part"])
def test_a_link_in_the_place_of_a_file_is_replaced(link, tmp_path):
    (tmp_path / "elsewhere").write_text("mine")
    (tmp_path / link).symlink_to(tmp_path / "elsewhere")
    files.replace(tmp_path / "x", b"new")
    assert (tmp_path / "x").read_text() == "new"
    assert (tmp_path / "elsewhere").read_text() == "mine"


def test_a_file_in_the_place_of_a_checkpoint_is_skipped_and_cleared(copy):
    there = checkpoints.numbers(copy / "checkpoints")
    shutil.rmtree(copy / "checkpoints" / f"{there[0]:06}")
    (copy / "checkpoints" / f"{there[0]:06}").write_text("")
    checkpoints.write(copy / "checkpoints", 7, {"W": np.ones(3)}, {})
    checkpoints.clear(copy / "checkpoints", {7})
    assert [path.name for path in (copy / "checkpoints").iterdir()] == ["000007"]


@pytest.mark.parametrize("hidden", [["5", "--help"], "--help", ["5", "x"], ["5", "--seed", "1"], {}])
def test_forged_settings_are_refused_in_one_line(hidden, copy):
    newest = checkpoints.newest(copy / "checkpoints", print)
    newest.progress["settings"]["hidden"] = hidden
    (newest.folder / "progress.json").write_text(json.dumps(newest.progress))
    (newest.folder / seals.SEAL).write_bytes(seals.text(newest.folder))
    with pytest.raises(arguments.UserError, match=r"not the settings of a run .*hidden: "):
        train.main(train.parser().parse_args(["--out", str(copy)]))


def test_forged_arrays_are_refused_in_one_line(copy):
    newest = checkpoints.newest(copy / "checkpoints", print)
    forged = newest.folder / checkpoints.ARRAYS
    forged.write_bytes(forged.read_bytes().replace(b"F32", b"I32"))
    (newest.folder / seals.SEAL).write_bytes(seals.text(newest.folder))
    done = ended(train, "--out", copy)
    assert done.status == 2
    assert re.fullmatch("error: .*: got int32 .*, expected float32 .*\n", done.err)


def test_a_checkpoint_of_another_network_is_refused(copy):
    newest = checkpoints.newest(copy / "checkpoints", print)
    other = {"state": Dense(jnp.zeros((6, 64)), jnp.zeros((6, 1)))}
    with pytest.raises(record.RunError, match="got no such array, expected float32"):
        checkpoints.restore(newest, other)


@pytest.mark.parametrize("W", [np.zeros((3, 2), np.float32), np.zeros((2, 3), np.float64)])
def test_a_checkpoint_of_another_shape_or_dtype_is_refused(W, tmp_path):
    checkpoints.write(tmp_path, 1, {"W": W}, {})
    newest = checkpoints.newest(tmp_path, print)
    with pytest.raises(record.RunError, match=r"W: got float\d+ .*, expected float32 \(2, 3\)"):
        checkpoints.restore(newest, {"W": np.zeros((2, 3), np.float32)})


def test_where_nothing_is_whole_nothing_begins(copy):
    for path in copy.glob("checkpoints/*/progress.json"):
        path.write_text("{}")
    with pytest.raises(record.RunError, match="no checkpoint in it is whole; delete it"):
        trained(copy)


def test_a_link_out_of_the_folder_is_not_followed(copy, tmp_path):
    (copy / "checkpoints").rename(tmp_path / "elsewhere")
    (copy / "checkpoints").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(record.RunError, match="is a link; expected"):
        trained(copy)


def test_a_save_begins_early_by_what_could_delay_it(tmp_path, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: clock[-1])
    saver = checkpoints.Saver(tmp_path, every=10.0)
    saver.begin()
    assert saver.due()  # nothing tells how long a write takes
    saver.save({"W": np.ones(3)}, {})
    saver.wait()
    saver.taken = 1.0  # so it has to begin before 108
    for now, due in ((100.5, False), (107.5, True), (107.7, False), (107.9, True), (109.0, True)):
        clock.append(now)  # asked next after a pause as long as the last
        assert saver.due() == due, now
    saver.close()


W = {"W": np.ones(3)}


def no_space(*arguments):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_training_goes_on_while_a_checkpoint_is_written(tmp_path, monkeypatch):
    write, may_end = checkpoints.write, threading.Event()

    def held_up(*arguments):
        assert may_end.wait(20), "who saves waits for the write"
        return write(*arguments)

    monkeypatch.setattr(checkpoints, "write", held_up)
    saver = checkpoints.Saver(tmp_path, every=0.0)
    saver.save(W, {})
    assert not saver.pending.done()
    assert not saver.due()
    may_end.set()
    saver.wait()
    assert checkpoints.numbers(tmp_path) == [1]
    saver.close()


def test_a_write_that_fails_is_told_to_who_waits_for_it(tmp_path, monkeypatch):
    saver = checkpoints.Saver(tmp_path, every=0.0)
    monkeypatch.setattr(seals, "seal", no_space)
    saver.save(W, {})
    for tells in (saver.wait, saver.begin, lambda: saver.save(W, {})):
        with pytest.raises(record.RunError, match=r"000001: cannot be written \(No space left on device\)"):
            tells()
    saver.close()
    assert not any(tmp_path.iterdir())


class Step(NamedTuple):
    step: int
    costs: list


def test_saved_is_said_of_what_is_on_the_disk(tmp_path, monkeypatch):
    where = argparse.Namespace(out=tmp_path, save_every=100.0)
    with Pauses(where, None, {}, None) as pause:
        pause.interruption.signal = 15
        with pytest.raises(arguments.Interrupted, match=r"interrupted at step 3, and saved"):
            pause(W, Step(3, []), "step 3")
        assert checkpoints.newest(tmp_path / "checkpoints", print).progress == {
            "settings": {},
            "step": 3,
            "costs": [],
        }
        monkeypatch.setattr(seals, "seal", no_space)
        with pytest.raises(record.RunError, match="cannot be written"):
            pause(W, Step(4, []), "step 4")


def test_leftovers_are_cleared_and_few_are_kept(tmp_path):
    (tmp_path / ".part-000001" / "arrays").mkdir(parents=True)
    saver = checkpoints.Saver(tmp_path, every=0.0)
    for k in range(5):
        saver.save({"W": np.ones(k + 1)}, {"k": k})
    saver.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000003", "000004", "000005"]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_not_saved(bad, tmp_path):
    saver = checkpoints.Saver(tmp_path, every=0.0)
    saver.save({"W": np.ones(3)}, {})
    saver.save({"W": np.array([1, bad, 1])}, {})
    saver.close()
    assert saver.diverged
    assert [path.name for path in tmp_path.iterdir()] == ["000001"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_disk_that_takes_no_more_leaves_the_last_good_checkpoint(number, tmp_path, monkeypatch):
    def full(folder):
        (folder / seals.SEAL).write_text("half")
        raise OSError(number, os.strerror(number))

    checkpoints.write(tmp_path, 1, {"W": np.ones(3)}, {})
    monkeypatch.setattr(seals, "seal", full)
    with pytest.raises(record.RunError, match=rf"cannot be written \({os.strerror(number)}\)"):
        checkpoints.write(tmp_path, 2, {"W": np.ones(3)}, {})
    assert [path.name for path in tmp_path.iterdir()] == ["000001"]
    assert checkpoints.newest(tmp_path, print)


@pytest.mark.parametrize("layer", [1, 2, 3])
def test_the_layer_where_a_divergence_begins_is_named(layer):
    net, optimizer = mlp(3, 4, 5, 2, g=sigmoid), optax.sgd(0.1, momentum=0.9)
    gradient = value_and_grad(net, binary_cross_entropy)
    state = start(net.init(jax.random.key(0)), optimizer)
    state.params[layer - 1] = state.params[layer - 1]._replace(b=state.params[layer - 1].b.at[0].set(jnp.nan))
    show = divergence.computed(net, gradient, optimizer)
    after, J = state, jnp.array([1.0, jnp.nan])
    found = divergence.origin(state, 6, [(8, after, J)], lambda k: (jnp.ones((2, 3)), jnp.ones((2, 2))), show)
    assert found == (6, f"Z[{layer}]")


def test_a_run_interrupted_before_its_first_save_begins_again_with_its_own_settings(copy, tmp_path):
    shutil.rmtree(copy / "checkpoints")
    with pytest.raises(arguments.UserError, match=r"hidden \[5\] \(got \[6\]\)"):
        train.main(train.parser().parse_args(["--out", str(copy), "--hidden", "6"]))
    assert train.main(train.parser().parse_args(["--out", str(copy)])) == 0
    trained(tmp_path / "whole")
    assert endure.outcome(copy) == endure.outcome(tmp_path / "whole")
