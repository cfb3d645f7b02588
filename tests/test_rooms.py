"""The house: which room may look into which, how deep it goes, and how large its parts may be."""

import ast
from functools import cache
from pathlib import Path

import pytest

HOUSE = Path(__file__).parents[1]
GRADCHECK = "jaxnn.gradcheck"
CHAIN = 10  # modules, each of which imports the next one
FILES = 13  # in a folder of jaxnn below the top
LINES, FUNCTION = 420, 80

# (rooms, what they never import)
WALLS = [
    (["jaxnn"], ["experiments", "tests"]),
    ([GRADCHECK], ["jaxnn but its own"]),
    (["jaxnn.datasets"], ["jaxnn.gradcheck", "jaxnn.layers", "jaxnn.losses", "jaxnn.training"]),
    (["jaxnn.activations", "jaxnn.losses", "jaxnn.layers", "jaxnn.objective", "jaxnn.normal"],
     ["jaxnn.training", "jaxnn.runs", "jaxnn.datasets", "optax"]),
    ([f"{GRADCHECK}.report.model"], [GRADCHECK]),
    ([f"{GRADCHECK}.jaxprs"], [f"{GRADCHECK} but its own"]),
    ([f"{GRADCHECK}.bounds", f"{GRADCHECK}.tape"], [f"{GRADCHECK}.verdict"]),
    ([f"{GRADCHECK}.mistakes"], [f"{GRADCHECK}.verdict", f"{GRADCHECK}.calls", f"{GRADCHECK}.diagnosis"]),
    ([f"{GRADCHECK}.verdict"], [f"{GRADCHECK}.mistakes", f"{GRADCHECK}.diagnosis"]),
]  # fmt: skip


def module_of(path: Path) -> str:
    parts = path.relative_to(HOUSE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(p): p for top in ("jaxnn", "experiments") for p in sorted((HOUSE / top).rglob("*.py"))}


def is_of_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def imported(tree: ast.AST) -> set[str]:
    """The modules that are imported anywhere in a file, but for what only the type checker reads."""
    found, todo = set(), [tree]
    while todo:
        node = todo.pop()
        if is_of_types(node):
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "an import names its module in full"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else str(node.module) for name in names}
        todo += ast.iter_child_nodes(node)
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


def test_no_import_goes_round_in_a_circle_or_deeper_than_ten():
    @cache
    def chain(module: str) -> tuple[str, ...]:
        below = (chain(x) for x in sorted(IMPORTS[module] & MODULES.keys()) if x != module)
        return module, *max(below, key=len, default=())

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
    """Every file is a program with --help; folders: what is common, what contends, what is planted."""
    programs = HOUSE / "experiments"
    assert {p.name for p in programs.iterdir() if p.is_dir()} - {"__pycache__"} == {
        "common",
        "contenders",
        "planted",
    }
    for path in programs.glob("*.py"):
        if path.name != "__init__.py":
            assert "def main(" in path.read_text(), path
            assert 'if __name__ == "__main__":' in path.read_text(), path
