"""The program that measures how often the comparison is right: what it plants, and what it counts."""

from collections import Counter

import pytest

from experiments.measure_gradcheck import Tally, rates_of_large, rates_of_layers, rates_of_wrong
from experiments.planted import cases
from experiments.planted.losses import PLANTS
from experiments.planted.plantings import plantings
from experiments.planted.points import large_networks, networks
from jaxnn.gradcheck.report.confidence import GUESS, LIKELY, SURE


def tally(id, ids, word, ended=False, correct=False, seconds=1.0):
    return Tally("wrong 0 0", "", id, 0.5, False, correct, ids, word, ended, 1.0, seconds)


def numbers(lines, words):
    (line,) = [line for line in lines if line.startswith(words)]
    return line.removeprefix(words).split()[:3]


def test_each_word_is_counted_by_how_often_it_is_right():
    tallies = [
        tally("sign", ["sign"], SURE),
        tally("sign", ["sign"], SURE),
        tally("sign", ["stale"], SURE),
        tally("sign", ["stale", "sign"], LIKELY),
        tally("sign", ["sign"], LIKELY),
        tally("sign", ["stale"], GUESS),
        tally("sign", [], None),
        tally("sign", ["sign"], SURE, correct=None),
    ]
    lines = rates_of_wrong(tallies)
    assert numbers(lines, "cause: called sure, and right") == ["2", "of", "3"]
    assert numbers(lines, "cause: called likely, and right") == ["1", "of", "2"]
    assert numbers(lines, "cause: called a guess, and right") == ["0", "of", "1"]
    assert numbers(lines, "cause: sure and wrong") == ["1", "of", "7"]
    assert numbers(lines, "cause: the first named is right ") == ["3", "of", "7"]


def test_of_large_networks_the_first_named_the_searches_that_ended_and_the_time_are_said():
    tallies = [
        tally("sign", ["sign"], SURE, seconds=2.0),
        tally("sign", ["stale"], LIKELY, True, seconds=9.0),
        tally("sign", ["sign"], LIKELY, True, seconds=3.0),
    ]
    lines = rates_of_large(tallies)
    assert numbers(lines, "large networks: the first named is right") == ["2", "of", "3"]
    assert numbers(lines, "  the search ended before all were tried") == ["2", "of", "3"]
    assert lines[-1] == "  seconds a call: median 3"


def test_every_mistake_is_planted_about_as_often(monkeypatch):
    monkeypatch.setattr(cases, "_effect", lambda *_: 1.0)
    ids = plantings(networks()[:5], PLANTS)
    drawn = cases.planted_cases("wrong", networks()[:5], PLANTS, 2 * len(ids) + 5, 0, set())
    keys, counts = set(), Counter()
    for key, case in drawn:
        keys.add(key)
        counts[case.id] += 1
    assert counts.keys() == ids.keys()
    assert set(counts.values()) == {2, 3}
    assert len(keys) == counts.total()


@pytest.mark.parametrize("id", ["sign", "missing-activation-derivative", "entries-clipped"])
def test_large_networks_have_the_mistakes_of_small_ones(id):
    assert {planting.what.split(")")[0] for planting in plantings(large_networks(), ())[id]} == {
        "(784, 512, 512, 10",
        "(784, 512, 512, 512, 512, 10",
    }


def test_of_layers_what_is_found_placed_and_named_by_either_name_is_said():
    tallies = [
        tally("sign or stale", ["stale"], SURE)._replace(placed=True),
        tally("sign", ["stale"], SURE)._replace(placed=True),
        tally("sign", [], None, correct=None)._replace(placed=False),
    ]
    lines = rates_of_layers(tallies)
    assert numbers(lines, "layers: called wrong") == ["2", "of", "3"]
    assert numbers(lines, "  placed in that layer alone") == ["2", "of", "3"]
    assert numbers(lines, "  the first named is right") == ["1", "of", "3"]
    assert numbers(lines, "  sure and wrong") == ["1", "of", "3"]
