"""Checkpoints: which are there, which counts, which are kept, and what is saved in one."""

import json

import numpy as np
import pytest

from jaxnn.runs import checkpoints, record, seals

W = {"W": np.ones(3)}


def saver_of(folder, **arguments):
    return checkpoints.Saver(folder, every=0.0, **arguments)


def there(folder):
    return sorted(path.name for path in folder.iterdir())


def test_only_names_that_a_checkpoint_has_count(tmp_path):
    for name in ("000002", "000010", "1000000", "0000012", "12345", ".part-000003", "best"):
        (tmp_path / name).mkdir()
    assert checkpoints.numbers(tmp_path) == [1000000, 10, 2]
    assert checkpoints.numbers(tmp_path / "new") == []
    assert checkpoints.newest(tmp_path / "new", print) is None


def test_a_folder_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(record.RunError, match=r"file: cannot be read \(Not a directory\)"):
        checkpoints.numbers(tmp_path / "file")


@pytest.mark.parametrize(
    ("progress", "why"),
    [
        ("[]", "progress.json: not a table"),
        ("{", "progress.json: Expecting property name"),
        (100_000 * "[", "progress.json: maximum recursion"),
        (None, "SHA256SUMS: no such file"),
    ],
)
def test_the_newest_one_that_is_whole_counts(progress, why, tmp_path):
    good, bad = (checkpoints.write(tmp_path, number, W, {"step": number}) for number in (4, 11))
    if progress:
        (bad / "progress.json").write_text(progress)
        (bad / seals.SEAL).write_bytes(seals.text(bad))
    else:
        (bad / seals.SEAL).unlink()
    skipped = []
    assert checkpoints.newest(tmp_path, skipped.append) == (good, {"step": 4})
    (line,) = skipped
    assert line.startswith(f"{bad}: damaged ({why}")
    assert line.endswith("), skipped")


def test_what_is_saved_comes_back(tmp_path):
    tree = {"W": np.arange(6, dtype=np.float32).reshape(3, 2), "steps": [np.int32(4), np.ones(1)]}
    written = checkpoints.write(tmp_path, 1, tree, {"costs": [np.arange(2.0)], "name": "ä"})
    newest = checkpoints.newest(tmp_path, print)
    assert newest == (written, {"costs": [[0.0, 1.0]], "name": "ä"})
    found = checkpoints.restore(newest, tree)
    for one, other in ((found["W"], tree["W"]), *zip(found["steps"], tree["steps"], strict=True)):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("template", [{}, {"W": np.ones(3), "b": np.ones(1)}, {"b": np.ones(3)}])
def test_other_arrays_are_refused(template, tmp_path):
    newest = checkpoints.Checkpoint(checkpoints.write(tmp_path, 1, W, {}), {})
    name = "W" if "W" not in template else "b"
    name = "b" if name == "W" and "b" in template else name
    with pytest.raises(record.RunError, match=rf"000001: {name}: got .*, expected .*"):
        checkpoints.restore(newest, template)


def test_a_run_that_goes_on_keeps_what_it_came_from(tmp_path):
    for number in (1, 2, 3, 4):
        checkpoints.write(tmp_path, number, W, {})
    third = checkpoints.Checkpoint(tmp_path / "000003", {})
    saver = saver_of(tmp_path, continued=third)
    saver.wait()
    assert there(tmp_path) == ["000001", "000002", "000003"]
    saver.save(W, {})
    saver.close()
    assert there(tmp_path) == ["000002", "000003", "000005"]


def test_a_run_that_begins_keeps_nothing_and_takes_no_number_twice(tmp_path):
    checkpoints.write(tmp_path, 7, W, {})
    (tmp_path / ".part-file").touch()
    (tmp_path / ".part-link").symlink_to(tmp_path)
    saver = saver_of(tmp_path)
    saver.wait()
    assert there(tmp_path) == []
    saver.save(W, {})
    saver.close()
    assert there(tmp_path) == ["000008"]


@pytest.mark.parametrize("finite", [True, False])
def test_costs_that_are_not_finite_are_saved_where_it_is_asked_for(finite, tmp_path):
    saver = saver_of(tmp_path, finite=finite)
    saver.save(W, {"costs": [np.array([0.5, np.inf])]})
    saver.close()
    assert saver.diverged == finite
    assert there(tmp_path) == ([] if finite else ["000001"])
    if not finite:
        saved = json.loads((tmp_path / "000001" / "progress.json").read_text())
        assert saved == {"costs": [[0.5, float("inf")]]}
