"""The library needs little, and whoever starts a program without what that needs is told."""

import re
import sys
import tomllib

import pytest

from experiments.common import starting
from experiments.common.arguments import told
from tests.test_rooms import DESCENT, GRADCHECK, HOUSE, IMPORTS, MATHEMATICS, MODULES, inside

PROJECT = tomllib.loads((HOUSE / "pyproject.toml").read_text())["project"]
LIGHT = {re.split(r"\W", line)[0] for line in PROJECT["dependencies"]}


def test_the_library_brings_seven_distributions_along():
    assert {"jax", "jaxlib", "jaxtyping", "numpy", "optax", "scipy", "threadpoolctl"} == LIGHT


@pytest.mark.parametrize("room", [GRADCHECK, *MATHEMATICS, *DESCENT, "jaxnn.encoding", "jaxnn.centring"])
def test_the_mathematics_and_the_comparison_need_no_more(room):
    for module in (one for one in MODULES if inside(one, room)):
        others = {name.partition(".")[0] for name in IMPORTS[module]} - {"jaxnn"} - sys.stdlib_module_names
        assert others <= LIGHT, module


MISSING = {  # module: what is to be installed, and by which extra
    "sklearn.datasets": ("scikit-learn", "train"),
    "PIL": ("pillow", "train"),
    "tensorflow_datasets": ("tensorflow-datasets", "train"),
    "jax": ("jax", "train"),
    "torch": ("torch", "bench"),
    "pytest": ("pytest", "test"),
    "selenium.webdriver": ("selenium", "browser"),
}


@pytest.mark.parametrize("module", MISSING)
def test_what_is_missing_is_named_with_what_installs_it(module):
    name, extra = MISSING[module]
    line = f"this program needs {name}; install it with: pip install -e '.[{extra}]'"
    assert told(ModuleNotFoundError(f"No module named {module!r}", name=module)) == line


def test_what_belongs_to_no_extra_is_no_business_of_ours():
    assert told(ModuleNotFoundError("No module named 'mynet'", name="mynet")) is None


COMMANDS = {
    "-m experiments.trian": "did you mean python -m experiments.train?",
    "-X dev -m experiments.compare --json": "did you mean python -m experiments.compare_gradients?",
    "-m experiments train --epochs 3": "write python -m experiments.train --epochs 3",
    "-m experiments.nothing": "python -m experiments lists them",
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_program_that_is_not_there_is_likened_to_one_that_is(command, capsys):
    with pytest.raises(SystemExit) as end:
        starting.check(["python", *command.split()])
    out, err = capsys.readouterr()
    assert (end.value.code, out) == (2, "")
    assert re.fullmatch(r"error: [^\n]*\n", err)
    assert COMMANDS[command] in err


def test_programs_that_are_there_are_started_and_listed(capsys):
    for command in ("experiments.train --epochs 3", "experiments.contenders numpy {}"):
        starting.check(["python", "-m", *command.split()])
    with pytest.raises(SystemExit) as end:
        starting.check(["python", "-m", "experiments"])
    assert end.value.code == 0
    said = capsys.readouterr().out.splitlines()
    programs = [module for module in MODULES if re.fullmatch(r"experiments\.\w+", module)]
    programs = [m for m in programs if MODULES[m].name != "__init__.py"]
    assert [line.split()[2] for line in said] == sorted(programs)


def test_without_jax_all_is_named_that_has_to_be_installed(monkeypatch, capsys):
    monkeypatch.setattr(starting, "find_spec", lambda name: None)
    with pytest.raises(SystemExit):
        starting.check(["python", "-m", "experiments.train"])
    assert capsys.readouterr().err.endswith("install all of it with: pip install -e '.[train]'\n")
