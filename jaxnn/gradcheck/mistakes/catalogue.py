"""Every mistake that is known, by the quantity that is wrong (python -m jaxnn.gradcheck --mistakes)."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from jaxnn.gradcheck.mistakes import (
    data,
    derivatives,
    entries,
    factors,
    operands,
    outputs,
    paths,
    penalties,
    precision,
)
from jaxnn.gradcheck.mistakes.finding import Finding, Mistake, exchanged, ways
from jaxnn.gradcheck.tape.scene import Scene


class Family(NamedTuple):
    """Mistakes in one quantity, and the search that tries each of them."""

    quantity: str
    search: Callable[[list[Scene]], Iterator[Finding]]
    mistakes: tuple[Mistake, ...]


ACCUMULATED = Mistake(
    "accumulated", "it adds to what earlier calls left",
    "dW is of this call alone: nothing is kept between two calls",
    "self.dW1 += dZ1.T @ X  # and self.dW1 is never set to zero", "any parameter",
)  # fmt: skip
STALE = Mistake(
    "stale", "it uses values of the call before", "dW is taken at the W and X of this call",
    "dW1 = dZ1.T @ self.cache['X']  # cached by an earlier call", "anywhere",
)  # fmt: skip
RESAMPLED = Mistake(
    "mask-resampled", "dropout's mask is drawn again on the way back",
    "A = M ⊙ g(Z), so dZ = dA ⊙ M ⊙ g′(Z) with the M of the forward pass",
    "dA1 = dA1 * (np.random.rand(*A1.shape) < keep) / keep", "a layer with dropout",
)  # fmt: skip
NONLINEAR = Mistake(
    "cotangent-not-linear", "a rule clips its cotangent, or squares it", "vjp(c) is linear in c",
    "def backward(kept, c): return (np.clip(c, -1, 1) * kept,)", "a rule for derivatives",
)  # fmt: skip
UNKNOWN = Mistake(
    "unknown", "none of these: the place is told, no mistake of this list gives the candidate's numbers",
    "dZ[l] = dA[l] ⊙ g′(Z[l]); dW[l] = dZ[l]ᵀ A[l-1]; db[l] = dZ[l]ᵀ 1; dA[l-1] = dZ[l] W[l]", "", "anywhere",
)  # fmt: skip

AT_DZ = (
    *ways(derivatives.OF_DERIVATIVES),
    *zip((outputs.MISSING, outputs.EXTRA), derivatives.OF_OUTPUT_LAYER, strict=True),
)
AT_PRODUCTS = (*ways(operands.OF_OPERANDS), *((data.TRUNCATED, way) for way in operands.OF_TRUNCATED))
AT_ERROR = (
    *ways(outputs.OF_ERRORS),
    *((operands.MISALIGNED, way) for way in outputs.OF_EXAMPLES),
    *((data.OTHER_CLASSES, way) for way in outputs.OF_CLASSES),
)
FAMILIES: tuple[Family, ...] = (
    Family("numbers that are not finite", outputs.saturated, (outputs.SATURATED, outputs.NOT_FINITE)),
    Family("a factor", factors.scaled, factors.OF_FACTORS),
    Family("the λ term", penalties.penalised, penalties.OF_PENALTIES),
    Family("the entries of a gradient", entries.rearranged, (*entries.OF_ENTRIES, *entries.OF_NUMBERS)),
    Family("examples", data.weighted, data.OF_EXAMPLES),
    Family("g′(Z[l])", partial(exchanged, AT_DZ), derivatives.OF_DERIVATIVES),
    Family("what dW[l] and dA[l-1] are made of", partial(exchanged, AT_PRODUCTS), operands.OF_OPERANDS),
    Family("masks", derivatives.masks_forgotten, (derivatives.MASK, derivatives.MULTIPLIER)),
    Family("dZ[L]", partial(outputs.mistaken_error, AT_ERROR), (*outputs.OF_ERRORS, outputs.DIAGONAL)),
    Family("labels and inputs", data.elsewhere, data.OF_DATA),
    Family("the weights that were updated", operands.updated_weights, (operands.UPDATED,)),
    Family("the logarithm of Ŷ", outputs.clipped_log, (outputs.CLIPPED,)),
    Family("the turns of a loop", paths.turns_left_out, (paths.TURNS_LEFT_OUT,)),
)
ON_PATHS: tuple[Family, ...] = (
    Family("what a path is multiplied by", paths.scaled, (paths.LEFT_OUT, paths.MISCOUNTED)),
    Family("any step", paths.mistaken, (paths.WRONG_OPERAND, paths.WRONG_COTANGENT)),
    Family("two paths", paths.both_ignored, ()),
)
DIGITS = (precision.LOW, precision.FEW_DIGITS)  # what is right but for its digits
ELSEWHERE = (ACCUMULATED, STALE, RESAMPLED, NONLINEAR, UNKNOWN)  # what several calls show, or nothing does
MISTAKES: dict[str, Mistake] = {
    mistake.id: mistake
    for mistakes in (*(f.mistakes for f in (*FAMILIES, *ON_PATHS)), DIGITS, ELSEWHERE)
    for mistake in mistakes
}
