"""What comes before a program: whether there is such a one, whether it can run here, and quick imports."""

import atexit
import contextlib
import gc
import re
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from experiments.common.suggestions import near
from jaxnn.gradcheck.report import colours

HERE = Path(__file__).parents[1]


def check(command: list[str]) -> None:
    """Leave with a line if `python ... -m experiments.NAME ...` names no program, or jax is missing."""
    place = next((k for k, word in enumerate(command) if re.fullmatch("-[a-zA-Z]*m", word)), len(command))
    module, *words = [*command[place + 1 :], ""]
    there = {path.stem: path for path in sorted(HERE.glob("*.py")) if path.stem != "__init__"}
    name = module.removeprefix("experiments.")
    if module == "experiments" and not words[0]:
        for program, path in there.items():
            said = path.read_text("utf-8").split('"""')[1].splitlines()[0]
            print(f"python -m experiments.{program:17} {said}")
        sys.exit(0)
    if name == "experiments":
        name = words.pop(0)
    if name not in there and "." not in name and not (HERE / name / "__main__.py").exists():
        found = near(name, there, {})
        advice = (
            f"did you mean python -m experiments.{found[0]}?" if found else "python -m experiments lists them"
        )
        refuse(f"got {name[:60]!r}, which is no program here; {advice}")
    if module == "experiments":
        whole = f"python -m experiments.{name} {' '.join(words)}".rstrip()
        refuse(f"a point stands before the name of a program; write {whole}")
    if find_spec("jax") is None:
        refuse("the programs need jax, and more; install all of it with: pip install -e '.[train]'")


def refuse(line: str) -> None:
    """Say why, and leave."""
    print(colours.error(sys.stderr), line, file=sys.stderr)
    sys.exit(2)


@contextlib.contextmanager
def no_garbage() -> Iterator[None]:
    """Within it jax is imported: where that is the first time, nobody looks for garbage in its modules.

    Nor does anybody at the end of the process, which would take another fifth of a second.
    """
    if "jax" in sys.modules:
        yield
        return
    atexit.register(gc.freeze)
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
