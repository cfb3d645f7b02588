"""The house: which room may look into which, how deep it goes, and how large its parts may be."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

HOUSE = Path(__file__).parents[1]
GRADCHECK = "jaxnn.gradcheck"
CHAIN = 10  # modules, each of which imports the next one
FILES = 13  # in a folder of jaxnn below the top
LINES, FUNCTION = 420, 80

REPORT, JAXPRS, CALLS, BOUNDS, TAPE, VERDICT, MISTAKES, DIAGNOSIS = (
    f"{GRADCHECK}.{room}"
    for room in ("report", "jaxprs", "calls", "bounds", "tape", "verdict", "mistakes", "diagnosis")
)
MATHEMATICS = [
    f"jaxnn.{name}" for name in ("activations", "losses", "layers", "objective", "passes", "normal", "shapes")
]
DESCENT = [f"jaxnn.{name}" for name in ("training", "shuffling", "per_example", "families", "evaluation")]

# (rooms, what they never import; "X but its own": X, but for what the room itself holds)
WALLS = [
    (["jaxnn"], ["experiments", "tests"]),
    ([GRADCHECK], ["jaxnn but its own"]),
    (MATHEMATICS, ["jaxnn.training", "optax"]),
    (MATHEMATICS + DESCENT, ["jaxnn.runs", "jaxnn.datasets", GRADCHECK]),
    (["jaxnn.devices"], ["jaxnn.runs", "jaxnn.datasets", GRADCHECK, "jaxnn.seeing"]),
    (MATHEMATICS + DESCENT, ["jaxnn.devices"]),
    (["jaxnn.runs", "jaxnn.datasets"], [GRADCHECK, "jaxnn.devices"]),
    (["jaxnn.datasets"], ["jaxnn.layers", "jaxnn.losses", "jaxnn.training", "jax"]),
    ([f"{REPORT}.model", JAXPRS], [f"{GRADCHECK} but its own"]),
    ([REPORT], [CALLS, BOUNDS, TAPE, VERDICT, MISTAKES, DIAGNOSIS]),
    ([CALLS], [BOUNDS, TAPE, VERDICT, MISTAKES, DIAGNOSIS]),
    ([BOUNDS, TAPE], [CALLS, VERDICT, MISTAKES, DIAGNOSIS]),
    ([MISTAKES], [CALLS, VERDICT, DIAGNOSIS]),
    ([VERDICT], [TAPE, MISTAKES, DIAGNOSIS]),
    (["experiments.common"], ["experiments but its own"]),
    (["experiments.planted"], ["experiments but its own", GRADCHECK]),
    (["experiments.lesson"], ["experiments but its own"]),
    (["experiments.found"], ["experiments but its own", "jaxnn"]),
    (MATHEMATICS + DESCENT + ["jaxnn.runs", "jaxnn.datasets", GRADCHECK], ["jaxnn.seeing"]),
]


def module_of(path: Path) -> str:
    parts = path.relative_to(HOUSE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(p): p for top in ("jaxnn", "experiments") for p in sorted((HOUSE / top).rglob("*.py"))}


def imported(tree: ast.AST) -> set[str]:
    """The modules that are imported anywhere in a file, when it is loaded or later, or for types alone."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "an import names its module in full"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else str(node.module) for name in names}
    return found


IMPORTS = {module: imported(ast.parse(path.read_text())) for module, path in MODULES.items()}


def inside(module: str, room: str) -> bool:
    return module == room or module.startswith(room + ".")


def forbidden(module: str, wall: str, room: str) -> bool:
    outer, _, own = wall.partition(" but ")
    return inside(module, outer) and not (own and inside(module, room))


@pytest.mark.parametrize(("rooms", "walls"), WALLS)
def test_no_room_looks_into_one_that_it_should_not(rooms, walls):
    for room in rooms:
        here = [module for module in MODULES if inside(module, room)]
        assert here, f"{room} is gone"
        for module in here:
            seen = {x for x in IMPORTS[module] for wall in walls if forbidden(x, wall, room)}
            assert not seen, f"{module} imports {', '.join(sorted(seen))}"


def test_gradcheck_imports_no_room_by_its_face_or_by_its_name():
    """So that the imports, as they are read here, are all there are."""
    for module in (
        m for m in MODULES if inside(m, GRADCHECK) and m not in (GRADCHECK, f"{GRADCHECK}.__main__")
    ):
        assert GRADCHECK not in IMPORTS[module], module
        if module != f"{GRADCHECK}.importing":  # which imports what a person names
            assert not re.search("import_module|__import__", MODULES[module].read_text()), module


def test_no_import_goes_round_in_a_circle_or_deeper_than_ten():
    @cache
    def chain(module: str) -> tuple[str, ...]:
        below = (chain(x) for x in sorted(IMPORTS[module] & MODULES.keys()) if x != module)
        floor = () if MODULES[module].name == "__init__.py" else (module,)  # a room's face is none
        return *floor, *max(below, key=len, default=())

    longest = max(map(chain, MODULES), key=len)  # a circle would not end
    assert len(longest) <= CHAIN, " > ".join(longest)


def test_every_folder_says_in_one_line_what_it_is():
    for folder in {path.parent for path in MODULES.values()}:
        said = ast.get_docstring(ast.parse((folder / "__init__.py").read_text()))
        assert said, f"{folder}/__init__.py"
        assert len(said.splitlines()[0]) <= 110


def test_no_folder_has_more_files_than_can_be_overlooked():
    below = {path.parent for module, path in MODULES.items() if module.startswith("jaxnn.")}
    for folder in below - {HOUSE / "jaxnn"}:
        assert len(list(folder.glob("*.py"))) <= FILES, folder


@pytest.mark.parametrize("module", MODULES)
def test_files_and_functions_can_be_read_at_one_sitting(module):
    text = MODULES[module].read_text()
    assert len(text.splitlines()) <= LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= FUNCTION, f"{node.name} has {length} lines"


def test_the_folder_of_programs_holds_programs_and_little_else():
    """Every file is a program with --help; folders: what is common, contends, is found, taught, planted."""
    programs = HOUSE / "experiments"
    assert {p.name for p in programs.iterdir() if p.is_dir()} - {"__pycache__"} == {
        "common",
        "contenders",
        "found",
        "lesson",
        "planted",
    }
    for path in (p for p in programs.iterdir() if p.is_file() and p.name not in {"__init__.py", "README.md"}):
        assert path.suffix == ".py", path
        text = path.read_text()
        assert "\ndef parser() -> Parser:" in text, path
        assert "\ndef main(" in text, path
        assert text.endswith('\n\nif __name__ == "__main__":\n    run(main, parser())\n'), path
