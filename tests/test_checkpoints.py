"""Checkpoints: which are there, which counts, which are kept, and what is saved in one."""

import json
import re

import jax
import jax.numpy as jnp
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
    with pytest.raises(record.RunError, match=r"file: cannot be read \(a file; expected a folder"):
        checkpoints.numbers(tmp_path / "file")


@pytest.mark.parametrize(
    ("progress", "why"),
    [
        ("[]", "progress.json: not a table"),
        ("{", "progress.json: Expecting property name"),
        (100_000 * "[", "progress.json: it is nested too deeply"),
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
    written = checkpoints.write(tmp_path, 1, tree, {"name": "ä"})
    newest = checkpoints.newest(tmp_path, print)
    assert newest == (written, {"name": "ä"})
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
    saver.save(W, {}, [np.array([0.5, np.inf], np.float32), np.array([3], np.float32)])
    saver.close()
    assert saver.diverged == finite
    assert there(tmp_path) == ([] if finite else ["000001"])
    if not finite:
        newest = checkpoints.newest(tmp_path, print)
        found, (costs,) = checkpoints.restored(newest, W, (3,))
        np.testing.assert_array_equal(costs, [0.5, np.inf, 3])
        np.testing.assert_array_equal(found["W"], W["W"])


def test_every_dtype_and_keys_of_random_numbers_come_back(tmp_path):
    kinds = (np.float64, jnp.bfloat16, np.float16, np.int8, np.uint32, bool)
    tree = {
        "arrays": [np.ones((2, 3), kind) for kind in kinds],
        "key": jax.random.key(7),
        "keys": jax.random.split(jax.random.key(8, impl="rbg"), 3),
        "nothing": np.zeros((0, 4), np.float32),
        "scalar": np.float64(0.1),
    }
    checkpoints.write(tmp_path, 1, tree, {})
    template = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree)
    found = checkpoints.restore(checkpoints.newest(tmp_path, print), template)
    for one, other in zip(found["arrays"], tree["arrays"], strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    assert found["nothing"].shape == (0, 4)
    assert found["scalar"] == np.float64(0.1)
    for name in ("key", "keys"):
        assert (found[name] == tree[name]).all()
    other = template | {"key": jax.ShapeDtypeStruct((), jax.random.key(0, impl="rbg").dtype)}
    with pytest.raises(record.RunError, match=r"key.rbg: got no such array, expected uint32 \(4,\)"):
        checkpoints.restore(checkpoints.newest(tmp_path, print), other)


def test_what_an_earlier_version_saved_is_refused(tmp_path):
    (tmp_path / "000003" / "arrays").mkdir(parents=True)
    with pytest.raises(record.RunError, match=r"000003: saved by an earlier version of jaxnn.* or delete "):
        checkpoints.newest(tmp_path, print)


def test_of_many_damaged_ones_a_few_are_told(tmp_path):
    for number in range(2000):
        (tmp_path / f"{number + 2:06}").mkdir()
    (tmp_path / (255 * "9")).mkdir()
    good = checkpoints.write(tmp_path, 1, W, {})
    lines = []
    assert checkpoints.newest(tmp_path, lines.append).folder == good
    assert len(lines) == 4
    assert lines[-1] == f"{tmp_path}: 1997 older ones are damaged, too, and skipped"


def declared(header, rest=b""):
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(content).to_bytes(8, "little") + content + rest


def entry(dtype="F32", shape=(3,), offsets=(0, 12)):
    return {"dtype": dtype, "shape": [*shape], "data_offsets": [*offsets]}


FORGED = {
    "nothing": (b"", "got 0 bytes with a header of 0"),
    "a huge header": (b"\xff" * 8 + b"{}", "with a header of 18,446,744,073,709,551,615, expected one of"),
    "no JSON": (declared(b"{W}"), "Expecting property name"),
    "nested": (declared(b"[" * 100_000), "its header is nested too deeply"),
    "a list": (declared([]), "its header is no table"),
    "a name twice": (declared(b'{"W":1,"W":2}'), "a name stands twice in it"),
    "texts": (declared({"__metadata__": {"a": 1}}), "the texts in its header are no texts"),
    "no entry": (declared({"W": 5}), "'W': expected a dtype that is known"),
    "a dtype": (declared({"W": entry("F33")}), "'W': expected a dtype that is known"),
    "a size": (declared({"W": entry(shape=(-3,))}), "'W': expected a dtype that is known"),
    "a size that is true": (declared({"W": entry(shape=(True,), offsets=(0, 4))}), "'W': expected a dtype"),
    "many axes": (declared({"W": entry(shape=33 * (1,), offsets=(0, 4))}), "'W': expected a dtype"),
    "other bytes": (declared({"W": entry(shape=(4,))}), r"'W': got 12 bytes, expected those of float32 \(4,"),
    "exabytes": (declared({"W": entry(shape=(2**61,))}), "'W': got 12 bytes, expected those"),
    "a gap": (declared({"W": entry(offsets=(4, 16))}, bytes(16)), "'W': begins at 4, expected 0"),
    "an overlap": (
        declared({"W": entry(), "b": entry(offsets=(8, 20))}, bytes(20)),
        "'b': begins at 8, expected 12",
    ),
    "too short": (declared({"W": entry()}, bytes(11)), "got 11 bytes of arrays, expected 12 as its header"),
    "too long": (declared({"W": entry()}, bytes(13)), "got 13 bytes of arrays, expected 12 as its header"),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_header_that_does_not_fit_its_file_is_refused(name, tmp_path):
    content, why = FORGED[name]
    path = checkpoints.write(tmp_path, 1, W, {})
    (path / checkpoints.ARRAYS).write_bytes(content)
    (path / seals.SEAL).write_bytes(seals.text(path))
    assert re.search(why, checkpoints.whole(path))
