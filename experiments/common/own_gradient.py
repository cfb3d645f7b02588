"""The gradient of pieces of one's own, compared with autodiff before anything is trained or written."""

import argparse
import contextlib
import sys
from collections.abc import Callable

from experiments.common import own
from experiments.common.arguments import UserError
from jaxnn.gradcheck.calls.raised import in_full


def pieces_of(arguments: argparse.Namespace, task, begin: Callable, checkpoint) -> dict:
    """Of pieces of one's own: their files, and what the comparison of the backward says, which is printed.

    Raises UserError, before anything is written, where it is wrong.
    """
    found = own.files(vars(arguments))
    if not found:
        return {}
    before = checkpoint.progress["settings"] if checkpoint else {}
    if before.get("files") == found:
        said = before.get("compared")
    elif arguments.gradient == "autodiff":
        said = "not used: the gradient is jax.grad's"
    elif arguments.trust_gradient:
        said = "trusted, not compared"
    else:
        print(f"comparing the backward with autodiff, on {own.FEW} training examples")
        said = compared(task, ", ".join(getattr(arguments, name) for name in found), begin().params)
    return {"files": found, "compared": said}


def compared(task, pieces: str, params) -> str:
    """What the comparison of the task's gradient with autodiff says, at these parameters.

    Raises UserError, which has the report, where it is wrong.
    """
    import jax

    from experiments.common.task import encode
    from jaxnn.gradcheck import BadCall, compare_gradients
    from jaxnn.objective import cost

    instead = "--trust-gradient trains with it as it is, --gradient autodiff by jax.grad"
    few = jax.device_put([array[: own.FEW] for array in task.data.train])
    key = (jax.random.key(0),) if task.keyed else ()
    J = cost(task.net, task.loss)

    def loss(params, X, Y):
        return J(params, X, Y, *key)

    def backward(params, X, Y):
        return task.gradient(params, X, Y, *key)[1]

    try:
        with contextlib.redirect_stdout(sys.stderr):  # what it prints is no part of the output
            report = compare_gradients(loss, backward, params, *encode(task.data, *few))
    except Exception as error:
        why = str(error) if isinstance(error, BadCall) else in_full(error)
        raise UserError(f"{pieces}: the gradient cannot be compared: {why}; {instead}") from error
    if report.correct is False:
        raise UserError(f"{pieces}: the backward written by hand is wrong; {instead}", str(report))
    return "right" if report.correct else f"not to be told: {report.headline.splitlines()[0]}"
