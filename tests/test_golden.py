"""The program that holds what the comparison says against what it said before."""

import json
import re
import time

import jax.numpy as jnp
import pytest

from experiments import golden
from experiments.planted.losses import LOSSES, PLANTS
from experiments.planted.points import networks
from jaxnn.gradcheck import compare_gradients

ARGUMENTS = jnp.array([1.0, 2.0])


def compared(before, after, tmp_path, capsys):
    paths = [tmp_path / "before.json", tmp_path / "after.json"]
    for path, reports in zip(paths, (before, after), strict=True):
        path.write_text(json.dumps(reports))
    status = golden.main(golden.parser().parse_args(["compare", *map(str, paths)]))
    return status, capsys.readouterr().out.splitlines()


def test_what_is_the_same_has_no_difference(tmp_path, capsys):
    reports = {"a": {"correct": True, "leaves": [{"wrong": 0}]}, "b": {"correct": None}}
    assert compared(reports, reports, tmp_path, capsys) == (0, ["2 comparisons in both, 0 differ"])


def test_every_difference_is_shown(tmp_path, capsys):
    before = {"a": {"correct": True, "leaves": [{"wrong": 0}, {"wrong": 3}]}, "b": {"notes": []}, "gone": {}}
    after = {
        "a": {"correct": True, "leaves": [{"wrong": 0}, {"wrong": 4}]},
        "b": {"notes": ["new"]},
        "new": {},
    }
    status, lines = compared(before, after, tmp_path, capsys)
    assert status == 1
    assert lines == [
        "a",
        "  leaves[1].wrong: 3 → 4",
        "b",
        "  notes: [] → ['new']",
        f"gone: only in {tmp_path / 'before.json'}",
        f"new: only in {tmp_path / 'after.json'}",
        "2 comparisons in both, 4 differ",
    ]


def test_neither_places_nor_costs_are_kept():
    report = compare_gradients(lambda w: jnp.sum(jnp.sin(w)), lambda w: jnp.cos(w) * 2, ARGUMENTS)
    fields = golden.said(report)
    assert fields["correct"] is False
    assert "cost" not in fields
    moved = report._replace(notes=["a kink at program.py:17: one tie"])
    assert golden.said(moved)["notes"] == ["a kink at LINE: one tie"]
    assert not re.search(r"\.py:\d", json.dumps(fields))


@pytest.mark.parametrize("place", [0, 3])
def test_every_mistake_of_a_network_is_planted_once_and_every_right_form(place):
    keys = [key for key, *_ in golden.planted(place)]
    ids = [key.split()[3] for key in keys]
    assert len(keys) == len(set(keys))
    assert ids.count("right") == 5
    assert len(set(ids)) == len(ids) - 4
    assert {"sign", "bias-missing"} < set(ids)
    assert all(key.startswith(f"network {place} ") for key in keys)
    assert len(networks()) > place


def test_every_mistake_of_a_loss_is_planted_and_its_right_form():
    keys = [key for key, *_ in golden.planted_in_losses()]
    assert len(set(keys)) == len(keys) == len(PLANTS) + len(LOSSES)
    assert sum(key.split()[2] == "right" for key in keys) == len(LOSSES)


def test_all_clocks_that_a_comparison_can_read_run_faster(monkeypatch):
    for k, name in enumerate(golden.CLOCKS):
        monkeypatch.setattr(time, name, lambda k=k: 1.0 + k)
    golden.quicken(20)
    assert [getattr(time, name)() for name in golden.CLOCKS] == [20, 40, 60, 80]


def test_each_process_that_compares_has_its_clocks_faster(monkeypatch, tmp_path):
    begun = []

    class Pool:
        def __init__(self, processes, context, begin, arguments):
            begun.append((processes, begin, arguments))
            raise StopIteration

    monkeypatch.setattr(golden, "ProcessPoolExecutor", Pool)
    line = [
        "write",
        str(tmp_path / "said.json"),
        "--tests",
        str(tmp_path),
        "--processes",
        "3",
        "--clock",
        "20",
    ]
    with pytest.raises(StopIteration):
        golden.main(golden.parser().parse_args(line))
    assert begun == [(3, golden.quicken, (20.0,))]
