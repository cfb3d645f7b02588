"""The shapes in the annotations are executed by the tests."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_module_that_annotates_shapes_is_checked():
    with (ROOT / "pyproject.toml").open("rb") as file:
        options = tomllib.load(file)["tool"]["pytest"]["ini_options"]["addopts"]
    (listed,) = [o.partition("=")[2] for o in options if o.startswith("--jaxtyping-packages")]
    checked = set(listed.split(",")[:-1])
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in (ROOT / "jaxnn").rglob("*.py")
        if "jaxtyping" in path.read_text()
    ]
    assert modules
    assert [m for m in modules if m not in checked and m.rpartition(".")[0] not in checked] == []
