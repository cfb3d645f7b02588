"""Compare any hand-written gradient with autodiff: two verdicts, the place, the cause.

>>> import jax.numpy as jnp
>>> from jaxnn.gradcheck import compare_gradients
>>> report = compare_gradients(lambda w: jnp.sum(w**2), lambda w: w, jnp.array([1.0, 2.0]))
>>> report.correct
False
>>> leaf = report.leaves[0]
>>> leaf.path, leaf.index, leaf.hand, leaf.autodiff
('w', (1,), 2.0, 4.0)
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxnn.gradcheck.calls.call import BadCall
    from jaxnn.gradcheck.gradients import (
        GradientMismatch,
        assert_gradients_match,
        compare_gradients,
        compare_vjp,
    )
    from jaxnn.gradcheck.report.model import Cause, Leaf
    from jaxnn.gradcheck.report.report import Report

__all__ = [
    "BadCall",
    "Cause",
    "GradientMismatch",
    "Leaf",
    "Report",
    "assert_gradients_match",
    "compare_gradients",
    "compare_vjp",
]

_HOMES = {"BadCall": "calls.call", "Cause": "report.model", "Leaf": "report.model", "Report": "report.report"}


def __getattr__(name: str):
    """Import jax only when something is used, so that --help answers at once."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'gradients')}"), name)
