"""Is a hand-written gradient, or a rule for derivatives, right? Two verdicts, the place, the cause."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from jaxnn.gradcheck.calls.call import BadCall, Call, checked, confined, function_name, own_copies, widened
from jaxnn.gradcheck.calls.raised import in_full
from jaxnn.gradcheck.calls.repeated import called_repeatedly
from jaxnn.gradcheck.calls.surroundings import quiet
from jaxnn.gradcheck.diagnosis.search import diagnosed, tree_of
from jaxnn.gradcheck.diagnosis.steps import LOSS, StepError, check_steps
from jaxnn.gradcheck.jaxprs.eager import op_by_op
from jaxnn.gradcheck.jaxprs.equations import pulled_back
from jaxnn.gradcheck.mistakes.finding import UNKNOWN
from jaxnn.gradcheck.report.confidence import LIKELY
from jaxnn.gradcheck.report.headline import headline
from jaxnn.gradcheck.report.model import Cause
from jaxnn.gradcheck.report.report import Report
from jaxnn.gradcheck.tape.names import names_of
from jaxnn.gradcheck.verdict import points
from jaxnn.gradcheck.verdict.formula import Formula
from jaxnn.gradcheck.verdict.point import Kind, Point
from jaxnn.gradcheck.verdict.programs import compiled_sides
from jaxnn.gradcheck.verdict.remarks import is_estimate, remarks, what_it_says
from jaxnn.gradcheck.verdict.rows import leaf_row, second_verdict
from jaxnn.gradcheck.verdict.sides import traced
from jaxnn.gradcheck.verdict.trials import formula_of
from jaxnn.gradcheck.vjp import ANY, Rule, called_as_gradient, of_the_rule


class GradientMismatch(AssertionError):
    """The hand-written gradient is wrong, or nothing could tell. The message is the report.

    The line of a test's summary is short: it has room for the parameter and the cause if this is called
    no more than Mismatch there.
    """

    __module__, __qualname__ = "builtins", "Mismatch"

    def __init__(self, report: Report):
        """Keep the report, beside its text."""
        super().__init__(str(report))
        self.report = report

    def __reduce__(self):
        """Made again by name, where that module is not looked into."""
        return _mismatch, (self.report,)


def _mismatch(report: Report) -> GradientMismatch:
    return GradientMismatch(report)


def compare_gradients(
    loss,
    gradient,
    *args,
    argnums: int | tuple[int, ...] = 0,
    steps=None,
    names: Sequence[str] | None = None,
    within: Mapping[str, tuple[float, float]] | None = None,
) -> Report:
    """Compare a hand-written gradient with autodiff: verdicts, place, cause.

    loss: (*args) → scalar, in jax.numpy; gradient: (*args) → a tree like args[argnums], written by
    hand, in jax.numpy or NumPy; steps: optionally what it computed on the way, a dict such as
    {"dZ[2]": …, "dA[1]": …}, or a function (*args) → such a dict; names: optionally what to call the
    leaves of args[argnums], in their order; within: optionally what arguments or leaves are never
    beyond, such as {"p": (0, 1)}: no other point is tried.
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
            call = call._replace(paths=tuple(map(str, names)))
        call = confined(call, within or {})
        return _reported(call, steps, printed)


def assert_gradients_match(
    loss,
    gradient,
    *args,
    argnums: int | tuple[int, ...] = 0,
    steps=None,
    names: Sequence[str] | None = None,
    within: Mapping[str, tuple[float, float]] | None = None,
) -> None:
    """Raise GradientMismatch, whose message is the report, unless the gradient is right.

    The arguments are those of compare_gradients. Also raised when nothing could
    tell: a test that cannot fail is none.

    >>> import jax.numpy as jnp
    >>> assert_gradients_match(lambda w: jnp.sum(w**3), lambda w: 3 * w**2, jnp.array([1.0, 2.0]))
    """
    __tracebackhide__ = True  # pytest shows the line that calls it, and the report
    try:
        report = compare_gradients(
            loss, gradient, *args, argnums=argnums, steps=steps, names=names, within=within
        )
    except BadCall as error:
        raise error.with_traceback(None) from error.__cause__
    if report.correct is not True:
        raise GradientMismatch(report)


def compare_vjp(
    function: Callable,
    *args,
    reference: Callable | None = None,
    argnums: int | tuple[int, ...] | None = None,
    within: Mapping[str, tuple[float, float]] | None = None,
) -> Report:
    """Compare the derivative rule of a function with autodiff of its plain form.

    function: (*args) → arrays, with a custom_vjp or custom_jvp rule; reference: the same function
    without the rule, or None for the one the rule was put on; argnums: None for all arguments that
    are floating point; within: as in compare_gradients. Both are pulled back along one generic cotangent.
    Raises BadCall, in one sentence, when the comparison cannot be made.

    >>> import jax, jax.numpy as jnp
    >>> @jax.custom_vjp
    ... def cube(x):
    ...     return x**3
    >>> cube.defvjp(lambda x: (x**3, x), lambda x, cotangent: (3 * x * cotangent,))
    >>> compare_vjp(cube, jnp.array([0.5, 2.0])).correct
    False
    """
    with quiet() as printed:
        call, rule = called_as_gradient(function, args, reference, argnums)
        call = confined(call, within or {})
        try:
            return _reported(call, None, printed, rule)
        except BadCall as error:
            raise BadCall(of_the_rule(function, str(error), error.__cause__)) from error.__cause__


def _reported(call: Call, steps, printed, rule: Rule = ANY) -> Report:
    """The report on a call that is known to make sense; printed: what was held back so far."""
    calls = called_repeatedly(call, points.close_by(call))

    formula = formula_of(call, calls, rule.belongs)
    shown = formula.shown
    programs = compiled_sides(call, formula)
    rows = second_verdict(call, formula, programs.autodiff and programs.autodiff.run)
    broken, of_rule = rule.probed(call)

    causes, trouble = [], []
    if formula.correct is False or shown.is_wrong:
        causes, trouble = diagnosed(call, formula.sides, shown, formula.calls, call.eps)
    if of_rule and formula.correct is False:
        causes = [of_rule, *(c for c in causes if c.id not in (of_rule.id, UNKNOWN.id))]
    faulty = _steps(shown, steps) if steps is not None else []
    if faulty and causes and causes[0].id == UNKNOWN.id:
        causes = [_faulty_step(faulty[0]), *causes]

    leaves = [leaf_row(formula, n, row) for n, row in enumerate(rows)]
    judged = [leaf.accurate for leaf in leaves if leaf.accurate is not None]
    report = Report(
        formula.correct,
        all(judged) if judged else None,
        "",
        leaves,
        causes,
        faulty,
        [*formula.calls.probes, *programs.probes, *broken],
        {side: p and p.cost for side, p in (("hand", programs.hand), ("autodiff", programs.autodiff))},
        [(p.kind.value, what_it_says(p)) for p in (*formula.tried, formula.resized) if p],
        [
            *formula.notes,
            *trouble,
            *programs.notes,
            *(_by_autodiff(call, formula) if rule is ANY else []),
            *remarks(call, formula.tried, rows, printed, formula.correct),
        ],
        str(call.dtype),
        (function_name(call.gradient), function_name(call.loss)),
        is_estimate(formula.tried, formula.sides),
    )
    at = "" if shown.kind is Kind.GIVEN else shown.kind.value
    kept = "signs" if shown.kind is Kind.SIGNS else "sizes"
    rounded = {n.what for p in formula.tried for n in p.hand.notes if n.kind == "rounded"} - {"float32"}
    seen_in = min(rounded, default="")
    return report._replace(headline=headline(report, at, kept, formula.opening, seen_in))


def _by_autodiff(call: Call, formula: Formula) -> list[str]:
    """What to say of a gradient that is not written by hand, or in part."""
    program = formula.sides.program
    mine = pulled_back(program.closed) if program and formula.correct is not False else Counter()
    if not mine:
        return []
    whole = traced(call, jax.grad(call.loss, call.argnums), [widened(x) for x in call.leaves])
    if pulled_back(whole.closed) <= mine:
        return ["the gradient is autodiff itself: comparing it tests nothing"]
    return ["the gradient calls autodiff for a part of it, which is compared with itself"]


def _faulty_step(error: StepError) -> Cause:
    """The cause that the steps handed in show by themselves, where none has a name."""
    of = "" if error.of == LOSS else f" of {error.of}"
    return Cause(UNKNOWN.id, f"The step that makes {error.step}{of} is wrong.", error.step, LIKELY, "")


def _steps(shown: Point, steps) -> list:
    call = shown.call
    args = call.rebuilt(shown.leaves)
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        try:
            with op_by_op():
                handed: Any = steps(*own_copies(args)) if callable(steps) else steps
        except Exception as error:
            raise BadCall(f"the function steps raised {in_full(error)}") from error
        if not isinstance(handed, dict):
            raise BadCall(
                f"steps must be a dict, or a function that returns one, got {type(handed).__name__}"
            )
        try:
            found = check_steps(call.loss, args, call.argnums, tree_of(call, shown.hand.values), handed)
        except (TypeError, ValueError) as error:
            raise BadCall(str(error)) from error
    names = dict(zip(names_of(args, call.argnums).parameters, call.paths, strict=True))
    return [error._replace(step=names.get(error.step, error.step)) for error in found]
