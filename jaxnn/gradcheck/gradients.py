"""Is a hand-written gradient right? Two verdicts, the place, the cause."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxnn.gradcheck.calls.call import BadCall, Call, checked, function_name, quiet, widened
from jaxnn.gradcheck.calls.probes import called_repeatedly
from jaxnn.gradcheck.calls.returned import own_copies
from jaxnn.gradcheck.diagnosis.search import diagnosed, tree_of
from jaxnn.gradcheck.diagnosis.steps import LOSS, StepError, check_steps
from jaxnn.gradcheck.mistakes.catalogue import UNKNOWN
from jaxnn.gradcheck.report.headline import headline
from jaxnn.gradcheck.report.model import LIKELY, Cause, Probe
from jaxnn.gradcheck.report.report import Report
from jaxnn.gradcheck.tape.names import names_of
from jaxnn.gradcheck.verdict import points
from jaxnn.gradcheck.verdict.point import Point
from jaxnn.gradcheck.verdict.programs import compiled_sides
from jaxnn.gradcheck.verdict.remarks import remarks
from jaxnn.gradcheck.verdict.rows import leaf_row, second_verdict
from jaxnn.gradcheck.verdict.sides import sides_of
from jaxnn.gradcheck.verdict.trials import (
    SIGNS,
    at_other_sizes,
    nearly,
    told_of,
    tried_points,
    unsteady,
    what_it_says,
)


class GradientMismatch(AssertionError):
    """The hand-written gradient is wrong, or nothing could tell. The message is the report."""

    def __init__(self, report: Report):
        """Keep the report, beside its text."""
        super().__init__(str(report))
        self.report = report


def compare_gradients(
    loss, gradient, *args, argnums: int | tuple[int, ...] = 0, steps=None, names: Sequence[str] | None = None
) -> Report:
    """Compare a hand-written gradient with autodiff: verdicts, place, cause.

    loss: (*args) → scalar, in jax.numpy; gradient: (*args) → a tree like args[argnums], written by
    hand, in jax.numpy or NumPy; steps: optionally what it computed on the way, a dict such as
    {"dZ[2]": …, "dA[1]": …}, or a function (*args) → such a dict; names: optionally what to call the
    leaves of args[argnums], in their order.
    Raises BadCall, in one sentence, when the comparison cannot be made.

    >>> import jax.numpy as jnp
    >>> loss = lambda w, x: jnp.mean((x @ w) ** 2)
    >>> x = jnp.array([[1.0, 2.0], [3.0, -1.0], [0.5, 4.0]])
    >>> report = compare_gradients(loss, lambda w, x: 2 * x.T @ (x @ w) / 3, jnp.ones(2), x)
    >>> report.correct, report.accurate
    (True, True)
    """
    with quiet() as printed:
        call = checked(loss, gradient, args, argnums)
        if names is not None:
            if len(names) != len(call.paths):
                raise BadCall(f"names: got {len(names)}, expected {len(call.paths)}, one for each leaf")
            call = call._replace(paths=tuple(names))
        return reported(call, steps, printed)


def assert_gradients_match(loss, gradient, *args, argnums: int | tuple[int, ...] = 0, steps=None) -> None:
    """Raise GradientMismatch, whose message is the report, unless the gradient is right.

    The arguments are those of compare_gradients. Also raised when nothing could tell: a test that
    cannot fail is none.

    >>> import jax.numpy as jnp
    >>> assert_gradients_match(lambda w: jnp.sum(w**3), lambda w: 3 * w**2, jnp.array([1.0, 2.0]))
    """
    __tracebackhide__ = True  # pytest shows the line that calls it, and the report
    try:
        report = compare_gradients(loss, gradient, *args, argnums=argnums, steps=steps)
    except BadCall as error:
        raise error.with_traceback(None) from None
    if report.correct is not True:
        raise GradientMismatch(report)


def reported(call: Call, steps, printed, belongs: Callable[[list], bool] = lambda _: True) -> Report:
    """The report on a call that is known to make sense; printed: what was held back so far.

    belongs: whether a point of these leaves is one that the functions are meant for.
    """
    eps = float(jnp.finfo(call.dtype).eps)
    leaves = [widened(x) for x in call.leaves]
    elsewhere = points.as_given(call, points.moved(call, leaves, points.near, 1))
    calls = called_repeatedly(call, elsewhere, eps)
    sides = sides_of(call, leaves, calls.repeatable)
    notes = list(sides.notes)
    tried: list[Point] = []
    if calls.repeatable:
        try:
            tried = tried_points(call, leaves, sides, belongs)
        except BadCall as error:
            if not isinstance(error.__cause__, jax.errors.UnexpectedTracerError):
                raise
            kept = Probe("purity", False, "it computes with values that an earlier call left behind")
            probes = [kept if p.name == "purity" else p for p in calls.probes]
            calls = calls._replace(probes=probes, repeatable=False, keeps=True)
    if not calls.repeatable:
        tried = [unsteady(call, leaves, sides.reference(leaves), calls, eps)]
    decisive = next((p for p in tried if p.is_wrong), None)
    told = [
        (t or k) and not b.any()
        for t, k, b in zip(told_of(tried), nearly(tried), tried[0].blank, strict=True)
    ]
    said = [(p.name, what_it_says(p)) for p in tried]
    causes: list[Cause] = []
    correct: bool | None = True if all(told) else None
    if decisive is not None and decisive.name == SIGNS:
        correct = None
        notes.append("right with weights of the signs given, wrong with others, where it may not belong")
    elif decisive is not None or not calls.repeatable:
        correct = False
    elif (resized := at_other_sizes(call, leaves, sides)) is not None:
        said.append((resized.name, what_it_says(resized)))
        if resized.is_wrong:
            correct, decisive = None, resized
            notes.append("right at the sizes given, wrong at others: no point of these sizes can tell")
    shown = decisive or tried[0]
    reference_program, hand_program, probes = compiled_sides(call, sides, tried, calls, eps)
    given = [call.leaves[k] for k in call.dynamic]
    autodiff = None if reference_program is None else reference_program.run(*given)
    rows, accurate = second_verdict(call, sides, tried[0], calls, autodiff)
    if correct is False or decisive is not None:
        causes, trouble = diagnosed(call, sides, shown, calls, eps)
        notes += trouble
    parameters = [
        leaf_row(call, shown, n, rows[n] if shown is tried[0] else None, told[n], correct)
        for n in range(len(call.places))
    ]
    faulty = _steps(shown, steps) if steps is not None else []
    if faulty and causes and causes[0].id == UNKNOWN.id and faulty[0].step not in causes[0].where:
        causes = [_faulty_step(faulty[0])]
    notes += remarks(call, tried, rows, printed, correct)
    report = Report(
        correct,
        accurate,
        "",
        parameters,
        causes,
        faulty,
        [*calls.probes, *probes],
        {
            "hand": None if hand_program is None else hand_program.cost,
            "autodiff": None if reference_program is None else reference_program.cost,
        },
        said,
        notes,
        str(call.dtype),
        (function_name(call.gradient), function_name(call.loss)),
    )
    at = "" if shown.name == "the given point" else shown.name
    return report._replace(
        headline=headline(report, at, "signs" if shown.name == SIGNS else "sizes", shown.blank)
    )


def _faulty_step(error: StepError) -> Cause:
    """The cause that the steps handed in show by themselves, where none has a name."""
    of = "" if error.of == LOSS else f" of {error.of}"
    return Cause(UNKNOWN.id, f"The step that makes {error.step}{of} is wrong.", error.step, LIKELY, "")


def _steps(shown: Point, steps) -> list:
    call = shown.call
    args = call.rebuilt(shown.leaves)
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        handed: Any = steps(*own_copies(args)) if callable(steps) else steps
        found = check_steps(call.loss, args, call.argnums, tree_of(call, shown.hand.values), handed)
    names = dict(zip(names_of(args, call.argnums).parameters, call.paths, strict=True))
    return [error._replace(step=names.get(error.step, error.step)) for error in found]
