"""What was found, in its order, said once: in sentences, by the names that the caller has for things."""

from jaxnn.gradcheck.mistakes.finding import UNKNOWN, Argument, Cotangent, Finding, Leaves, Part, Step, Value
from jaxnn.gradcheck.mistakes.steps.paths import STATISTIC
from jaxnn.gradcheck.mistakes.steps.turns import LEFT_OUT, TURNS_LEFT_OUT
from jaxnn.gradcheck.report.confidence import GUESS, LIKELY, SURE
from jaxnn.gradcheck.report.model import Cause
from jaxnn.gradcheck.report.words import capital, joined
from jaxnn.gradcheck.tape.names import Names, cotangent_name, described, named
from jaxnn.gradcheck.tape.scene import Scene
from jaxnn.gradcheck.tape.trace import reached

PATHS_LEFT_OUT = {mistake.id for mistake in (STATISTIC, TURNS_LEFT_OUT)}


def in_words(part: Part, scene: Scene | None, names: Names):
    """A part of a finding by its name; a number stays one, to be formatted where it stands."""
    match part:
        case Leaves(numbers):
            return joined([names.parameters[k] for k in numbers])
        case Argument(number):
            return names.arguments[number]
        case Step(places) if scene:
            return described(scene, places)
        case Value(numbers) if scene:
            return named(scene, numbers, names)
        case Cotangent(value) if scene:
            return cotangent_name(scene, value, names)
        case tuple():
            return joined(list(dict.fromkeys(str(in_words(p, scene, names)) for p in part)))
    return part


def at_home(scene: Scene | None, homes: list[Scene]) -> Scene | None:
    """The caller's own scene of the same steps; where there is none, its sizes are not to be spoken of."""
    steps = scene and [n.name for n in scene.point.tape.nodes]
    same = (home for home in homes if [n.name for n in home.point.tape.nodes] == steps)
    return next(same, scene and scene._replace(sized=False))


def told(finding: Finding, names: Names, homes: list[Scene]) -> tuple[str, str]:
    """(the sentence, where it is), by the sizes of the caller's own scenes."""
    scene = at_home(finding.scene, homes)
    words = {k: in_words(part, scene, names) for k, part in finding.parts.items()}
    says = capital(finding.says.format(**words)) + _whose_layer(finding.parts.get("l"), homes[0], names)
    return says, finding.where.format(**words)


def _whose_layer(number: Part | None, home: Scene, names: Names) -> str:
    """Which layer it is, where layers stand beside each other and are no network's."""
    layers, nodes = home.structure.layers, home.point.tape.nodes
    fed = reached(nodes, [y.product for y in layers])
    if not isinstance(number, int) or all(y.before in fed for y in layers[1:]):
        return ""
    y = layers[number - 1]
    return f" Layer {number} is the product with {names.parameters[y.weight]} at {nodes[y.place].line}."


def ranked(findings: list[Finding], names: Names, homes: list[Scene], whole: bool) -> list[Cause]:
    """One cause a mistake, the simplest first, and how sure it is.

    homes: the caller's scene, as every tape has it; whole: more than one point was looked at, and every
    mistake tried.
    """
    best: dict[str, Finding] = {}
    for f in sorted(findings, key=lambda f: f.rank):
        best.setdefault(f.mistake.id, f)
    exact = [f for f in best.values() if not f.mistake.loose]
    left_out = best.get(LEFT_OUT.id)
    if left_out and exact and exact[0].mistake.id not in PATHS_LEFT_OUT:
        # what it says of a path is the same as nothing there: more than that is not to be told
        says = f"{left_out.says.rstrip('.')}, or what is, adds up to nothing."
        exact = [left_out._replace(says=says), *exact]
    chosen = exact or list(best.values())
    causes = []
    for f in chosen:
        confidence = GUESS
        if whole and f.sure and f is chosen[0] and f.mistake.id != UNKNOWN.id:
            confidence = SURE if exact and len(chosen) == 1 else LIKELY
        causes.append(Cause(f.mistake.id, *told(f, names, homes), confidence, f.mistake.equation))
    return causes
