"""The list of mistakes, as a text and as the file beside the code."""

import re
from pathlib import Path

import pytest

import jaxnn.gradcheck
from jaxnn.gradcheck.__main__ import main
from jaxnn.gradcheck.listing import listing
from jaxnn.gradcheck.mistakes.catalogue import FAMILIES, LAST, MISTAKES, ON_PATHS
from jaxnn.gradcheck.mistakes.finding import UNKNOWN

FILE = Path(jaxnn.gradcheck.__file__).with_name("MISTAKES.md")


def test_the_file_is_what_is_printed_today(capsys):
    """After a change: python -m jaxnn.gradcheck --mistakes > jaxnn/gradcheck/MISTAKES.md"""
    assert FILE.read_text("utf-8") == listing() + "\n"
    assert main(["--mistakes"]) == 0
    assert capsys.readouterr().out == FILE.read_text("utf-8")


def test_every_mistake_is_listed_once_and_explained():
    ids = re.findall(r"^\*\*(.+?)\*\*:", listing(), flags=re.M)
    assert len(ids) == len(set(ids))
    assert set(ids) == set(MISTAKES)
    for mistake in MISTAKES.values():
        assert re.fullmatch("[a-z0-9]+(-[a-z0-9]+)*", mistake.id)
        assert mistake.words
        assert mistake.where
        assert mistake.equation
        assert mistake.example or mistake is UNKNOWN
        assert "\n" not in mistake.example
    assert max(map(len, listing().splitlines())) <= 84


def test_an_id_is_one_entry():
    entries = {}
    for family in (*FAMILIES, *ON_PATHS, *LAST):
        for mistake in family.mistakes:
            assert entries.setdefault(mistake.id, mistake) is mistake


def test_the_examples_are_python():
    for mistake in MISTAKES.values():
        compile(mistake.example, mistake.id, "exec")


def test_the_list_goes_alone(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["--mistakes", "a:b", "a:c", "a:d"])
    assert "goes alone" in capsys.readouterr().err
