"""Mistakes on one path of the tape, in every turn of its loop: left out, or counted otherwise.

A step of the backward pass takes what comes back from above, times a local derivative (or with an
operand), and hands it down. So on one edge a mistake leaves it out, counts it otherwise, or puts
another value of the same shape in the place of one of the two (see values).
"""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from jaxnn.gradcheck.mistakes.finding import Finding, holds
from jaxnn.gradcheck.mistakes.numbers import factor_names, of_arguments, tidy
from jaxnn.gradcheck.report.words import joined, spoken
from jaxnn.gradcheck.tape.names import cotangent_name, described
from jaxnn.gradcheck.tape.paths import Path, near, paths_of, reaching, smallest, value_below
from jaxnn.gradcheck.tape.scene import Scene, gradient_with

PAIRED = 40  # paths up to which two at a time are tried

DROPPED = "is not differentiated"


def scaled(scenes: list[Scene]) -> Iterator[Finding]:
    """One path of the tape is not differentiated, or with another factor; or two are not."""
    probe = smallest(scenes)
    if probe is None:
        return
    for path, without in _different(probe):
        for edges, alpha, words in _counted(scenes, probe, path, without):
            if holds(scenes, partial(_with_gain, edges, alpha)):
                yield Finding(
                    "unknown",
                    f"The path through {described(probe, path.places)} {words}.",
                    cotangent_name(probe, value_below(probe, path)),
                    (2.1 if words == DROPPED else 3) + 1e-3 * path.places[0] / len(probe.point.tape.nodes),
                )


def _different(scene: Scene) -> list[tuple[Path, list[np.ndarray]]]:
    """The paths that lead to what is wrong, those of one step that leave the same but once."""
    out: list[tuple[Path, list[np.ndarray]]] = []
    for path, without in reaching(scene):
        known = [others for other, others in out if len(path.on) == len(other.on) == 1]
        if not any(all(near(w, o) for w, o in zip(without, others, strict=True)) for others in known):
            out.append((path, without))
    return out


def _counted(scenes, probe: Scene, path: Path, without) -> Iterator[tuple[list, Callable, str]]:
    """How a path may be counted: on which edges, by which factor at a scene, and in words."""
    edges = path.edges
    if len(edges) > 1:
        yield edges, lambda s: 0.0, DROPPED
        yield edges, lambda s: -1.0, "counts −1 times: its sign is wrong"
        yield edges, lambda s: 2.0, "counts 2 times"
        if probe.structure.turns:
            yield edges[:-1], lambda s: 0.0, "is differentiated in the last turn only"
            yield edges[1:], lambda s: 0.0, "is differentiated in the first turn only"
        if probe.structure.turns and len(edges) > 2:
            yield edges[-1:], lambda s: 0.0, "is not differentiated in the last turn"
            yield edges[:1], lambda s: 0.0, "is not differentiated in the first turn"
        return
    alpha = _gain(probe, path)
    if abs(alpha - 1) < 1e-9 or not near(*_predicted(probe, without, alpha)):
        return
    known = {id(s): _gain(s, path) for s in scenes}
    alphas = [known[id(s)] for s in scenes]
    if all(abs(a - alpha) <= 1e-7 * abs(alpha) for a in alphas):
        times = "−1 times: its sign is wrong" if alpha == -1 else f"{spoken(alpha)} times"
        words = DROPPED if abs(alpha) < 1e-9 else f"counts {times}"
        yield edges, lambda s: alpha, words
        return
    told = [words for _, words, _, sure in factor_names(scenes, alphas) if sure]
    told = [words.replace("is ", "is, in the backward pass, ", 1) for words in told]
    for words in told or [f"counts {words} times" for words in of_arguments(scenes, alphas)[:1]]:
        yield edges, lambda s: known[id(s)], words


def _predicted(scene: Scene, without, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    pairs = zip(scene.reference, without, strict=True)
    return (
        np.concatenate([(w + alpha * (r - w)).ravel() for r, w in pairs]),
        np.concatenate([h.ravel() for h in scene.hand]),
    )


def both_ignored(scenes: list[Scene]) -> Iterator[Finding]:
    """Two paths of the tape that are not differentiated, as where a mean and a variance are constants."""
    probe = smallest(scenes)
    ends = [path for path, _ in _different(probe)] if probe else []
    if probe is None or len(ends) > PAIRED:
        return
    for n, one in enumerate(ends):
        for other in ends[n + 1 :]:
            if holds(scenes, partial(_with_gain, [*one.edges, *other.edges], lambda s: 0.0)):
                told = [described(probe, path.places) for path in (one, other)]
                where = joined(sorted({cotangent_name(probe, value_below(probe, p)) for p in (one, other)}))
                sentence = f"Neither the path through {told[0]} nor that through {told[1]} is differentiated."
                yield Finding("unknown", sentence, where, 4)
                return


def _with_gain(edges: list, alpha: Callable[[Scene], float], scene: Scene):
    return gradient_with(scene, gains=dict.fromkeys(edges, alpha(scene)))


def _gain(scene: Scene, path: Path) -> float:
    """α of g = without + α · path."""
    without = gradient_with(scene, gains=dict.fromkeys(path.edges, 0.0))
    parts = [r - np.asarray(w) for r, w in zip(scene.reference, without, strict=True)]
    size = sum(np.vdot(p, p) for p in parts)
    pairs = zip(parts, scene.hand, without, strict=True)
    alpha = sum(np.vdot(p, g - np.asarray(w)) for p, g, w in pairs)
    return tidy(float(alpha / size)) if size else 1.0


def turns_left_out(scenes: list[Scene]) -> Iterator[Finding]:
    """Some turns of a loop add nothing to a parameter's gradient, as where a sum is overwritten."""
    probe = smallest(scenes)
    if probe is None:
        return
    views, nodes = probe.structure.views, probe.point.tape.nodes
    into: dict[int, list[Path]] = {}
    for path in paths_of(probe):
        leaf = views.get(value_below(probe, path))
        if leaf in probe.wrong and nodes[path.places[0]].outputs[0] not in views:
            into.setdefault(leaf, []).append(path)
    paths = [found[0] for found in into.values() if len(found) == 1]
    turns = {len(path.on) for path in paths}
    if sorted(into) != probe.wrong or len(paths) < len(into) or len(turns) > 1 or turns == {1}:
        return
    (count,) = turns
    parts = [_of_turns(paths, {t}, probe) for t in range(count)]
    table = np.stack([np.concatenate([p[k].ravel() for k in probe.wrong]) for p in parts], axis=1)
    hand = np.concatenate([probe.hand[k].ravel() for k in probe.wrong])
    weights = np.linalg.lstsq(table, hand, rcond=1e-10)[0]
    there = {t for t in range(count) if abs(weights[t] - 1) < 1e-6}
    if any(abs(w) > 1e-6 for t, w in enumerate(weights) if t not in there):
        return
    if holds(scenes, partial(_of_turns, paths, there)):
        names = [probe.structure.names[k] for k in probe.wrong]
        told = joined([str(t) for t in sorted(there)]) if there else "none"
        why = ""
        if there == {0}:
            why = ": it is overwritten in every turn where it should be added to"
        elif there == {count - 1}:
            why = ": nothing is handed down from one turn to the turn before"
        yield Finding(
            "unknown",
            f"The gradient of {joined(names)} has only turn{'s' * (len(there) > 1)} {told} of the loop's "
            f"{count}, counted from 0{why}.",
            joined(names),
            2.0,
        )


def _of_turns(paths: list[Path], there: set[int], scene: Scene) -> list[np.ndarray]:
    """The gradient with the parts of some turns only, on paths that end in parameters."""
    off = [e for path in paths for t, e in enumerate(path.edges) if t not in there]
    return gradient_with(scene, gains=dict.fromkeys(off, 0.0))
