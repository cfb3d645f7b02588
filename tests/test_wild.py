"""The table of wrong gradients found elsewhere, and how one is judged: without any of those libraries."""

import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import jaxnn.gradcheck
from experiments import wild
from experiments.found.row import Case, Fault, Release, Row

TABLE = Path(jaxnn.gradcheck.__file__).with_name("README.md").read_text()
HERE = Release("numpy", "0.0.1", "2001-01")  # a package that is certainly installed, in another version
AT = np.array([1.0, 2.0])


def cube(gradient) -> Case:
    return Case(lambda x: (x**3).sum(), gradient, lambda x: (x**3).sum(), AT)


@pytest.mark.parametrize("row", wild.ROWS, ids=lambda row: row.function)
def test_every_row_says_what_it_is_and_stands_in_the_readme(row):
    package, version, month = row.release
    assert re.fullmatch(r"\d+(\.\d+)+", version)
    assert re.fullmatch(r"20\d\d-\d\d", month)
    assert row.make.__doc__ or row.make.__name__ == "<lambda>"
    assert f"| {package} {version}, {month} | `{row.function}` | {row.said} |" in TABLE


def test_no_row_stands_twice_and_the_readme_has_no_other():
    functions = [(row.release.package, row.function) for row in wild.ROWS]
    assert len(set(functions)) == len(functions)
    assert len(re.findall(r"^\| \S+ [\d.]+, 20", TABLE, re.M)) == len(functions)


@pytest.mark.parametrize(
    ("gradient", "fault"),
    [
        (lambda x: 3 * x**2, None),
        (lambda x: 3 * x**2 + [0, 1e-3], Fault.NUMBERS),
        (lambda x: [3.0, np.nan], Fault.NAN),
        (lambda x: 3 * x[:1] ** 2, Fault.SHAPE),
        (lambda x: [][0], Fault.RAISES),
    ],
)
def test_what_is_wrong_is_seen_by_differences(gradient, fault):
    assert wild.seen(cube(gradient)).fault is fault


def test_the_worst_entry_is_shown_with_the_error_of_the_differences():
    found = wild.seen(cube(lambda x: 3 * x**2 + [0.5, 2.0]))
    assert found.library == "2 of 2, such as [1] 14"
    assert re.fullmatch(r"12 ± \de-1\d", found.differences)


def test_a_plain_form_of_another_function_is_no_row():
    case = Case(lambda x: (x**3).sum(), lambda x: 3 * x**2, lambda x: (x**2).sum(), AT)
    with pytest.raises(ValueError, match="another function"):
        wild.seen(case)


def test_a_library_that_is_still_wrong_and_one_that_has_mended_it(monkeypatch, capsys):
    library = ModuleType("powers")
    vars(library).update(cube=lambda x: (x**3).sum(), slope=lambda x: -3 * x**2)
    monkeypatch.setitem(sys.modules, "powers", library)

    def make() -> Case:
        import powers  # pyright: ignore[reportMissingImports]

        return Case(powers.cube, powers.slope, lambda x: (x**3).sum(), AT)

    rows = (Row(HERE, "powers.cube", Fault.NUMBERS, "the opposite sign", make),)
    monkeypatch.setattr(wild, "ROWS", rows)
    arguments = wild.parser().parse_args([])
    assert wild.main(arguments) == 0
    told = capsys.readouterr().out
    assert f"installed    {np.__version__}" in told
    assert "gradcheck    wrong: " in told
    assert "1 still wrong as stated, 0 not, 0 skipped" in told

    monkeypatch.setattr(wild, "by_gradcheck", lambda case: "")
    library.slope = lambda x: 3 * x**2
    assert wild.main(arguments) == 1
    assert "NOT AS STATED: right" in capsys.readouterr().out
    monkeypatch.delitem(sys.modules, "powers")
    assert wild.main(arguments) == 1
    assert "it cannot be run, ModuleNotFoundError" in capsys.readouterr().out


def test_a_library_that_is_not_installed_is_skipped_not_passed(monkeypatch, capsys):
    absent = Release("no-such-library-of-gradients", "1.2.3", "2026-01")
    row = Row(absent, "f", Fault.NAN, "NaN", lambda: cube(lambda x: x))
    monkeypatch.setattr(wild, "ROWS", (row,))
    assert wild.main(wild.parser().parse_args([])) == 0
    told = capsys.readouterr().out
    assert "skipped      pip install no-such-library-of-gradients==1.2.3 is missing" in told
    assert "0 still wrong as stated, 0 not, 1 skipped, not passed" in told
