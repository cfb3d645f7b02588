"""Mistakes in the way back through a system of equations."""

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import numpy as np

from jaxnn.gradcheck.jaxprs.equations import kind_of
from jaxnn.gradcheck.mistakes.finding import Cotangent, Mistake, Step, Value
from jaxnn.gradcheck.mistakes.steps.guesses import Guess, first_that_holds, guess
from jaxnn.gradcheck.tape.paths import near
from jaxnn.gradcheck.tape.scene import Scene, gradient_with

UNTRANSPOSED = Mistake(
    "system-not-transposed", "A x = b is solved with A on the way back, where Aᵀ belongs",
    "A x = b, so Aᵀ db = dx and dA = −db xᵀ", "db = np.linalg.solve(A, dx); dA = -np.outer(db, x)",
    "a system of equations, an inverse",
)  # fmt: skip
SOLVING = {"custom_linear_solve", "triangular_solve"}


class System(NamedTuple):
    """The values A, x and b of A x = b, and the step that makes x."""

    place: int
    matrix: int
    x: int
    b: int


def _systems(scene: Scene) -> Iterator[System]:
    """Those that are solved in a loss; x and b are found by what they are."""
    tape, values = scene.point.tape, scene.point.values
    for place, node in enumerate(tape.nodes):
        for x in node.outputs if node.name in SOLVING else ():
            shape = values[x].shape
            before = [v for v in values if v < x and kind_of(values[v]) == "f"]
            squares = [v for v in before if values[v].shape == (*shape[:1], *shape[:1]) != ()]
            sides = [v for v in before if values[v].shape == shape]
            for a, b in ((a, b) for a in squares if a in tape.active for b in sides):
                if near(values[a] @ values[x], values[b]):
                    yield System(place, a, x, b)


def _solved_again(system: System, scene: Scene) -> list[np.ndarray] | None:
    """The gradient with the same matrix on the way back."""
    a, x, dx = (
        scene.point.values[system.matrix],
        scene.point.values[system.x],
        scene.point.cotangents[system.x],
    )
    wrong, right = np.linalg.solve(a, dx), np.linalg.solve(a.T, dx)
    off = (wrong - right).reshape(len(a), -1)
    added = {system.matrix: -off @ x.reshape(len(a), -1).T}
    if system.b in scene.point.tape.active:
        added[system.b] = wrong - right
    return gradient_with(scene, added=added)


@first_that_holds
def of_systems(probe: Scene) -> Iterator[Guess]:
    """A system that is solved with A on the way back."""
    says = "On the way back through {step}, the system is solved with {a}, where its transpose belongs."
    for system in _systems(probe):
        parts = {"step": Step((system.place,)), "a": Value((system.matrix,)), "x": Cotangent(system.b)}
        yield guess(UNTRANSPOSED, says, "{x}", 1.0, partial(_solved_again, system), **parts)


OF_SYSTEMS = (UNTRANSPOSED,)
