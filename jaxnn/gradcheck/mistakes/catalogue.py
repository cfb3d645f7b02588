"""Every mistake that is known, by the quantity that is wrong (python -m jaxnn.gradcheck --mistakes)."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from jaxnn.gradcheck.mistakes import (
    batch,
    data,
    derivatives,
    entries,
    factors,
    operands,
    outputs,
    penalties,
    precision,
)
from jaxnn.gradcheck.mistakes.finding import (
    UNPREDICTED,
    Finding,
    Leaves,
    Mistake,
    exchanged,
    ways,
    wrong_leaves,
)
from jaxnn.gradcheck.mistakes.steps import cotangents, forms, kernels, moves, paths, systems, turns, values
from jaxnn.gradcheck.tape.scene import Scene


class Family(NamedTuple):
    """Mistakes in one quantity, and the search that tries each of them."""

    quantity: str
    search: Callable[[list[Scene]], Iterator[Finding]]
    mistakes: tuple[Mistake, ...]


AT_DZ = (
    *ways(derivatives.OF_DERIVATIVES),
    *zip((outputs.MISSING, outputs.EXTRA), derivatives.OF_OUTPUT_LAYER, strict=True),
)
AT_PRODUCTS = (*ways(operands.OF_OPERANDS), *((data.TRUNCATED, way) for way in operands.OF_TRUNCATED))
AT_ERROR = (
    *ways(outputs.OF_ERRORS),
    *((operands.MISALIGNED, way) for way in outputs.OF_EXAMPLES),
    *((data.OTHER_CLASSES, way) for way in outputs.OF_CLASSES),
    *((data.INVERTED, way) for way in outputs.OF_INVERTED),
    *((data.SIGNED, way) for way in outputs.OF_SIGNED),
)
FAMILIES: tuple[Family, ...] = (
    Family("numbers that are not finite", outputs.saturated, (outputs.SATURATED, outputs.NOT_FINITE)),
    Family("a factor", factors.scaled, factors.OF_FACTORS),
    Family("the λ term", penalties.penalised, penalties.OF_PENALTIES),
    Family("the entries of a gradient", entries.rearranged, (*entries.OF_ENTRIES, *entries.OF_NUMBERS)),
    Family("examples", batch.weighted, batch.OF_EXAMPLES),
    Family("g′(Z[l])", partial(exchanged, AT_DZ), derivatives.OF_DERIVATIVES),
    Family("what dW[l] and dA[l-1] are made of", partial(exchanged, AT_PRODUCTS), operands.OF_OPERANDS),
    Family("masks", derivatives.masks_forgotten, (derivatives.MASK, derivatives.MULTIPLIER)),
    Family("dZ[L]", partial(outputs.mistaken_error, AT_ERROR), (*outputs.OF_ERRORS, outputs.DIAGONAL)),
    Family("labels and inputs", data.elsewhere, data.OF_DATA),
    Family("the weights that were updated", operands.updated_weights, (operands.UPDATED,)),
    Family("the logarithm of Ŷ", outputs.clipped_log, (outputs.CLIPPED,)),
    Family("what normalises", paths.of_statistics, (paths.STATISTIC,)),
    Family("the turns of a loop", turns.of_turns, turns.OF_TURNS),
)
ON_PATHS: tuple[Family, ...] = (
    Family("the values of the forward pass", values.of_other_values, values.OF_VALUES),
    Family("systems of equations", systems.of_systems, systems.OF_SYSTEMS),
    Family("softmaxes, products and sums", forms.of_forms, forms.OF_FORMS),
    Family("steps that move entries", moves.moved, moves.OF_MOVES),
    Family("what a path is multiplied by", paths.scaled, (paths.LEFT_OUT, paths.MISCOUNTED)),
    Family("any step", paths.mistaken, (paths.WRONG_OPERAND, paths.WRONG_COTANGENT)),
    Family("two paths", paths.both_ignored, ()),
)


def _in_some(scenes: list[Scene]) -> Iterator[Finding]:
    """The mistakes of a step that reaches others too, made in the gradient of some parameters only."""
    wrong = wrong_leaves(scenes)
    looked = [s._replace(only=wrong) for s in scenes]
    if len(wrong) == len(scenes[0].hand):
        return
    on_paths, found = (paths.scaled, paths.mistaken), False
    for search in (*on_paths, values.of_other_values, values.on_the_way_back, systems.of_systems):
        for one in search(looked) if search in on_paths or not found else ():
            found = True
            says = f"{one.says.rstrip('.')}, in the gradient of {{only}} only."
            told = {**one.parts, "only": Leaves(wrong)}
            yield one._replace(rank=one.rank + 1, says=says, where="{only}", parts=told)


LAST: tuple[Family, ...] = (
    Family("what comes back to a value", cotangents.of_cotangents, cotangents.OF_COTANGENTS),
    Family("what comes back, before all of it has", cotangents.of_early, ()),
    Family("what comes back to two values", cotangents.of_exchanged, ()),
    Family("sums that are divided by", cotangents.of_sums, ()),
    Family("what is read on the way back", cotangents.of_reading, ()),
    Family("convolutions", kernels.of_kernels, (kernels.CUT,)),
    Family("the values of the way back", values.on_the_way_back, ()),
    Family("a step, for some parameters", _in_some, ()),
)
DIGITS = (precision.LOW, precision.FEW_DIGITS)  # what is right but for its digits
MISTAKES: dict[str, Mistake] = {
    mistake.id: mistake
    for mistakes in (*(f.mistakes for f in (*FAMILIES, *ON_PATHS, *LAST)), DIGITS, UNPREDICTED)
    for mistake in mistakes
}
