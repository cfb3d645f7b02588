"""Random functions, as a person could have written them: 20 to 80 equations, one to three of a statement."""

import ast
import importlib.util
import random
from pathlib import Path

UNARY = ("jnp.sin({})", "jnp.exp({})", "-{}", "jnp.tanh({})", "jnp.sqrt({})")
BINARY = ("{} + {}", "{} * {}", "{} - {}", "jnp.maximum({}, {})", "{} @ {}")


def source_of(seed: int) -> tuple[str, list[str], int]:
    """The file of a function f(a, b, c) of square matrices, its statements in a line each, its equations.

    The functions of odd seeds read some values again and again.
    """
    rng = random.Random(seed)
    names, hubs, written, equations = ["a", "b", "c"], ["a"], [], 0
    aim = rng.randint(20, 80) - 2
    lines = ["import jax.numpy as jnp", "", "", "def f(a, b, c):"]

    def operand() -> str:
        return rng.choice(hubs if seed % 2 and rng.random() < 0.3 else names[-8:])

    while equations < aim:
        expression = operand()
        for _ in range(min(rng.randint(1, 3), aim - equations)):
            form = rng.choice(UNARY if rng.random() < 0.4 else BINARY)
            expression = f"({form.format(expression, operand())})"
            equations += 1
        name = f"x{len(written)}"
        written.append(f"{name} = {expression}")
        if rng.random() < 0.3:  # over several lines, with a comment
            lines += [f"    {name} = (  # step {len(written)}", f"        {expression}", "    )"]
            written[-1] = ast.unparse(ast.parse(written[-1]))
        else:
            lines.append(f"    {name} = {expression}  # step {len(written)}")
        names.append(name)
        hubs += [name] * (len(written) in (3, 6))
    written.append(f"return jnp.sum({names[-1]} + {names[-2]})")
    lines.append(f"    {written[-1]}")
    return "\n".join(lines) + "\n", written, equations + 2


def loaded(path: Path, source: str):
    """The function of a file."""
    path.write_text(source, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.f
