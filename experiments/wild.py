"""Gradients of released libraries that are wrong, seen again: by the library, by differences, by gradcheck.

Each row imports its library and nothing else, and is skipped, not passed, where that is not installed.
The differences are central ones in float64, extrapolated (Richardson), of the library's own function.
Exit status 0 if every row that could be run is still wrong as stated, 1 if one is not: the library has
mended it.
"""

import argparse
import warnings
from collections.abc import Callable
from importlib import metadata
from typing import NamedTuple

import numpy as np

from experiments.common.arguments import Parser, UserError, run
from experiments.common.status import through
from experiments.found import layers, models, rules, tapes
from experiments.found.row import Case, Fault, Release, Row

ROWS = (*rules.ROWS, *tapes.ROWS, *models.ROWS, *layers.ROWS)
STEP = 1e-2  # of the first difference, times max(1, |x|)
HALVINGS = 4
TOLERANCE = 1e-5  # relative; all that is listed is wrong by far more


class Seen(NamedTuple):
    """What is seen of a gradient now; fault: None if it is right."""

    fault: Fault | None
    library: str
    differences: str


def differences(loss: Callable, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The gradient by central differences, each step half of the one before, extrapolated; and its error.

    >>> gradient, error = differences(lambda x: float((x**3).sum()), np.array([1.0, 2.0]))
    >>> gradient.round(9), bool((error < 1e-9).all())
    (array([ 3., 12.]), True)
    """
    gradient, error = np.zeros(at.shape), np.zeros(at.shape)
    for place in np.ndindex(at.shape):
        table: list[float] = []
        for halving in range(HALVINGS):
            h = STEP * max(1.0, abs(at[place])) / 2**halving
            sides = [at.copy(), at.copy()]
            sides[0][place] += h
            sides[1][place] -= h
            ahead, behind = (float(loss(x)) for x in sides)
            row = [(ahead - behind) / (2 * h)]
            for order, coarser in enumerate(table, 1):
                row.append(row[-1] + (row[-1] - coarser) / (4**order - 1))
            error[place] = abs(row[-1] - table[-1]) if table else np.inf
            table = row
        gradient[place] = table[-1]
    return gradient, error


def seen(case: Case) -> Seen:
    """What is wrong with the library's gradient, and the worst entry of both."""
    truth, error = differences(case.loss, case.at)
    if not np.allclose(float(case.loss(case.at)), float(case.plain(case.at)), rtol=1e-9, atol=1e-9):
        raise ValueError("the plain form is another function than the library's")
    try:
        library = np.asarray(case.gradient(case.at))
    except Exception as raised:
        told = f"{type(raised).__name__}: {str(raised).splitlines()[0]}"
        return Seen(Fault.RAISES, told, f"a gradient of shape {truth.shape}")
    if library.shape != truth.shape:
        return Seen(Fault.SHAPE, f"shape {library.shape}", f"shape {truth.shape}")
    with np.errstate(invalid="ignore"):
        apart = np.abs(library - truth) - 10 * error - TOLERANCE * (1 + np.abs(truth))
    apart = np.where(np.isfinite(library), apart, np.inf)
    worst = tuple(int(n) for n in np.unravel_index(np.argmax(apart), apart.shape))
    of = f"{np.sum(apart > 0)} of {apart.size}, such as {list(worst) if worst else ''}"
    if not (apart > 0).any():
        fault, of = None, str(list(worst))
    else:
        fault = Fault.NUMBERS if np.isfinite(library).all() else Fault.NAN
    by_differences = f"{truth[worst]:.8g} ± {max(error[worst], 1e-15):.0e}"
    return Seen(fault, f"{of} {library[worst]:.8g}", by_differences)


def by_gradcheck(case: Case) -> str:
    """The verdict of this project's own comparison, and its first line."""
    from jaxnn.gradcheck import BadCall, compare_gradients

    try:
        report = compare_gradients(case.plain, case.gradient, case.at)
    except BadCall as error:
        return f"refused: {error}"
    verdict = {True: "right", False: "wrong", None: "cannot tell"}[report.correct]
    return f"{verdict}: {report.headline}"


def missing(release: Release) -> str | None:
    """The one line that says what to install, or None."""
    try:
        metadata.version(release.package)
    except metadata.PackageNotFoundError:
        return f"pip install {release.package}=={release.version} is missing"
    return None


def parser() -> Parser:
    """The arguments of this program."""
    p = Parser(prog="python -m experiments.wild", description=__doc__)
    p.formatter_class = argparse.RawDescriptionHelpFormatter
    p.add_argument("--only", metavar="TEXT", default="", help="rows whose package or function contains it")
    return p


def main(arguments: argparse.Namespace) -> int:
    """Run every row, print the table."""
    import jax

    rows = [r for r in ROWS if arguments.only in f"{r.release.package} {r.function}"]
    if not rows:
        there = ", ".join(sorted({row.release.package for row in ROWS}))
        raise UserError(f"--only: got {arguments.only[:80]!r}, expected a part of a package's name: {there}")
    with jax.enable_x64(True), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        answers = [told(row) for row in through(rows, "row", len(rows))]
    skipped, still = answers.count(None), answers.count(True)
    print(
        f"\n{still} still wrong as stated, {len(rows) - skipped - still} not, {skipped} skipped, not passed"
    )
    return int(still + skipped < len(rows))


def told(row: Row) -> bool | None:
    """Print one row; whether it is wrong as stated, None if its library is not here."""
    package, version, month = row.release
    print(f"\n{package} {version} ({month})  {row.function}: {row.said}")
    line = missing(row.release)
    if line:
        print(f"  skipped      {line}")
        return None
    if metadata.version(package) != version:
        print(f"  installed    {metadata.version(package)}")
    try:
        case = row.make()
        found = seen(case)
    except Exception as error:
        print(f"  NOT AS STATED: it cannot be run, {type(error).__name__}: {error}")
        return False
    print(f"  library      {found.library}\n  differences  {found.differences}")
    print(f"  gradcheck    {by_gradcheck(case)}")
    same = found.fault is row.fault
    now = found.fault.value if found.fault else "right"
    print(f"  {'still wrong' if same else 'NOT AS STATED'}: {now}")
    return same


if __name__ == "__main__":
    run(main, parser())
