"""The faulty step itself, where a candidate shows its intermediates.

Each step is done again from the candidate's own inputs to it. So a step that is right is not
blamed for what an earlier one got wrong.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.gradcheck.report.words import apart, joined
from jaxnn.gradcheck.tape.backward import point
from jaxnn.gradcheck.tape.layers import structure
from jaxnn.gradcheck.tape.names import names_of
from jaxnn.gradcheck.tape.tape import Structure, Tape
from jaxnn.gradcheck.tape.trace import consumers, trace

SLACK = 200  # rounding units of the step's dtype, of the largest entry, that a right step may be off

LOSS = "the loss"


class StepError(NamedTuple):
    """A step that does not follow from the candidate's own inputs to it."""

    step: str  # what is wrong: "dZ[1]", "[0][0]"
    of: str  # what it is made of: those of the steps handed in, or the loss
    entry: tuple[int, ...]  # the worst
    hand: float
    right: float
    error: float  # |hand − right| over the largest entry

    @property
    def sentence(self) -> str:
        """The same in words."""
        index = f"[{', '.join(map(str, self.entry))}]" if self.entry else ""
        hand, right = apart(self.hand, self.right)
        made = "made rightly" if self.of == LOSS else f"made rightly of {self.of}, as it was by hand"
        return (
            f"{self.step} is where it goes wrong: {self.step}{index} is {hand} by hand; {made}, it is {right}"
        )


def check_steps(
    loss: Callable, args: tuple, argnums: int | tuple[int, ...], hand: Any, steps: Mapping[str, Any]
) -> list[StepError]:
    """The wrong steps of a backward pass, the one nearest to the loss first; [] if all are right.

    `hand` is the candidate's gradient, a tree like args[argnums]; `steps` its intermediates, by
    name: "dZ[2]", "dA[1]" (or dZ2, dA1) of dense layers; or any x tagged in the loss by
    `jax.ad_checkpoint.checkpoint_name(x, "h")`, as "dh". Raises ValueError for a name that the loss
    has not, and for a shape that is not that of the quantity.

    >>> import jax.numpy as jnp
    >>> def loss(W, X, Y): return jnp.sum((jnp.tanh(X @ W.T) - Y) ** 2)
    >>> W, X, Y = jnp.ones((2, 3)), jnp.ones((4, 3)) / 7, jnp.zeros((4, 2))
    >>> A = jnp.tanh(X @ W.T)
    >>> dA = 2 * (A - Y)
    >>> dZ = dA * (1 - A)                     # 1 − A² was meant
    >>> [e.step for e in check_steps(loss, (W, X, Y), 0, dZ.T @ X, {"dA1": dA, "dZ1": dZ})]
    ['dZ1']
    """
    with jax.enable_x64(True):
        wide = jax.tree.map(_wide, args)
        tape = trace(loss, wide, argnums, merge=False)
        layout = structure(tape)
        values = {name: _value_of(tape, layout, name) for name in steps}
        given = {name: np.asarray(_wide(x)) for name, x in steps.items()}
        for name, x in given.items():
            shape = tape.shapes[values[name]].shape
            if x.shape != shape:
                raise ValueError(
                    f"step {name} has the shape {x.shape}; the loss's is {shape}: hand it in as the "
                    "cotangent of that quantity"
                )
        here = point(tape, wide)
        change = here.change._replace(
            given={values[n]: x for n, x in given.items()}, free=dict.fromkeys(values.values(), 0.0)
        )
        gradient, cotangents, *_ = here.programs.pull(change)
    depth = {o: place for place, node in enumerate(tape.nodes) for o in node.outputs}
    quantities = [(n, values[n], steps[n], cotangents[values[n]]) for n in steps]
    quantities.sort(key=lambda quantity: -depth[quantity[1]])
    own = names_of(wide, argnums).parameters, tape.parameters, jax.tree.leaves(hand), gradient
    shown, readers = {v: name for name, v in values.items()}, consumers(tape.nodes)
    found = (
        _compared(name, _made_of(tape, readers, shown, value), mine, right)
        for name, value, mine, right in (*quantities, *zip(*own, strict=True))
    )
    return [error for error in found if error]


def _made_of(tape: Tape, readers: dict, shown: dict[int, str], value: int) -> str:
    """The steps handed in that a cotangent is made of: the first met on every way to the loss."""
    met, seen, todo = [], {value}, [value]
    while todo:
        for place in readers.get(todo.pop(), []):
            new = set(tape.nodes[place].outputs) - seen
            seen |= new
            met += [shown[v] for v in new if v in shown]
            todo += new - shown.keys()
    return joined(sorted(met)) if met else LOSS


def _wide(x) -> np.ndarray:
    x = np.asarray(x)
    return x.astype(np.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x


def _rounding(x) -> float:
    dtype = np.asarray(x).dtype
    return float(jnp.finfo(dtype).eps) if jnp.issubdtype(dtype, jnp.floating) else 0.0


def _value_of(tape: Tape, layout: Structure, name: str) -> int:
    """The value whose cotangent a step's name means."""
    tags = {n.params["name"]: n.outputs[0] for n in tape.nodes if n.name == "name"}
    plain = name.removeprefix("d")
    for tag in (name, plain):
        if tag in tags:
            return tags[tag]
    known = {f"{kind}{y.number}": v for y in layout.layers for kind, v in (("Z", y.z), ("A", y.a))}
    found = known.get(re.sub(r"[\[\]]", "", plain))
    if found is None:
        names = sorted({*tags, *(f"d{k[0]}[{k[1:]}]" for k in known)})
        raise ValueError(f"no step {name!r} in the loss; it has {', '.join(names) or 'none by name'}")
    return found


def _compared(name: str, of: str, hand, right: np.ndarray) -> StepError | None:
    rounding, hand = _rounding(hand), np.asarray(_wide(hand))
    top = max(np.abs(right).max(initial=0), np.finfo(float).tiny)
    with np.errstate(all="ignore"):
        gap = np.nan_to_num(np.abs(hand - right) / top, nan=np.inf, posinf=np.inf)
    if not gap.size or gap.max() <= SLACK * rounding:
        return None
    index = tuple(map(int, np.unravel_index(np.argmax(gap), gap.shape)))
    return StepError(name, of, index, float(hand[index]), float(right[index]), float(gap[index]))
