"""Where a mistake is that has no name: the first quantity of the backward pass that is wrong.

With few examples, dW[l] = dZ[l]ᵀ A[l-1] gives the candidate's own dZ[l] back. So its steps can be
recomputed one by one, each from what the candidate itself had, though it shows none of them.
"""

import math
from itertools import combinations
from typing import NamedTuple

import numpy as np

from jaxnn.gradcheck.diagnosis.deviations import How, how_off, relation
from jaxnn.gradcheck.mistakes.averages import ratio
from jaxnn.gradcheck.mistakes.finding import (
    UNKNOWN,
    UNPLACED,
    Cotangent,
    Finding,
    Leaves,
    Step,
    finding,
    off_entries,
)
from jaxnn.gradcheck.mistakes.steps.jacobians import flat, jacobians
from jaxnn.gradcheck.report.words import extent, joined, spoken
from jaxnn.gradcheck.tape.budget import Spent, Work
from jaxnn.gradcheck.tape.names import Names, handed_in
from jaxnn.gradcheck.tape.paths import near, weight_of
from jaxnn.gradcheck.tape.quantities import as_product, dense_rows
from jaxnn.gradcheck.tape.scene import Scene, backward_with, finite, off_by
from jaxnn.gradcheck.tape.tape import Layer
from jaxnn.gradcheck.tolerances import COMPUTED, FITTED
from jaxnn.gradcheck.verdict.point import VISIBLE

RETURNED = "what the function returns"
MANY = 20  # values of which two at a time are tried


class Fault(NamedTuple):
    """A quantity that does not follow from the candidate's own earlier ones."""

    kind: str  # dZ, dW, db, or "" for a parameter of no layer
    layer: int
    leaf: int
    how: How
    followed: bool = False  # what is below was made of it again, before it was called wrong

    def quantity(self, names: Names) -> str:
        """By its letter, or as the parameter is called."""
        return f"{self.kind}[{self.layer}]" if self.kind else names.parameters[self.leaf]

    def named(self, names: Names) -> str:
        """The same, and what it belongs to."""
        layer = f"layer {self.layer}, " if self.kind == "dZ" else ""
        return self.quantity(names) + (f" ({layer}{names.parameters[self.leaf]})" if self.kind else "")

    def sentence(self, names: Names) -> str:
        """What is the matter with it."""
        return f"{self.quantity(names)} {self.how.says}"


def _recovered(scene: Scene, layer: Layer) -> np.ndarray | None:
    """The dZ[l] of dW[l] = dZ[l]ᵀ A[l-1]; None where no dZ[l] gives the candidate's dW[l]."""
    rows = dense_rows(scene, layer)
    g = as_product(scene, layer, scene.hand[layer.weight])
    if rows is None or g is None:
        return None
    a, _ = rows
    d, _, rank, _ = np.linalg.lstsq(a.T, g.T, rcond=COMPUTED)
    return d if rank == len(a) and near(d.T @ a, g) else None


def faults(scene: Scene) -> list[Fault] | None:
    """The wrong quantities of a chain of dense layers, from the top down; None where it is none."""
    layers = scene.structure.layers
    loop = scene.structure.turns or any(n.name in {"scan", "while"} for n in scene.point.tape.nodes)
    chain = layers and not loop and len({y.weight for y in layers}) == len(layers)
    if not chain or not finite(scene.hand) or any(dense_rows(scene, y) is None for y in layers):
        return None
    scene = scene._replace(work=Work(seconds=math.inf))  # one pass a layer, whatever has been spent
    out: list[Fault] = []
    given: dict[int, np.ndarray] = {}
    for y in reversed(layers):
        turned = (lambda x: x.T) if y.input_side == 1 else (lambda x: x)
        gradient, cotangents = backward_with(scene, given=given)
        expected = cotangents[y.product]
        below = {k for z in layers if z.number < y.number for k in (z.weight, z.bias)}
        passed = not below or below & set(scene.wrong)  # else a wrong dZ[l] was handed down to nothing
        own, found = _faults_of(scene, y, gradient, turned(expected), bool(passed))
        followed = own is not None and cotangents[y.z].shape == expected.shape
        out += [f._replace(followed=followed and f.kind == "dZ") for f in found]
        if followed:
            given = {**given, y.z: turned(own)}
    rest = set(scene.wrong).difference(*((y.weight, y.bias) for y in layers))
    return out + [Fault("", 0, k, how_off(scene.hand[k], scene.reference[k])) for k in sorted(rest)]


def _faults_of(scene: Scene, layer: Layer, gradient, expected: np.ndarray, passed: bool):
    """(the candidate's own dZ[l], where it is wrong and was passed down; the faults of a layer)."""
    n, w, b, hand = layer.number, layer.weight, layer.bias, scene.hand
    terms = np.abs(expected).max(initial=0)  # what db is summed of: the sum itself may cancel
    bound = [of_sides + least for of_sides, least in zip(scene.bound, scene.rounded, strict=True)]
    right_w = not off_by(hand[w], gradient[w], bound[w]).any()
    right_b = b is None or not off_by(hand[b], gradient[b], bound[b], terms).any()
    if right_w:
        return None, [] if b is None or right_b else [Fault("db", n, b, how_off(hand[b], gradient[b]))]
    off = how_off(hand[w], gradient[w])
    silent = b is None or not right_b or near(gradient[b], np.zeros(()), least=terms)
    own = _recovered(scene, layer) if silent and passed else None
    if own is None and right_b:
        return None, [Fault("dW", n, w, off)]
    if own is None:  # both are made of dZ[l]
        return None, [Fault("dZ", n, w, How(f"is wrong: dW[{n}] {off.says}, and db[{n}] too", off.entries))]
    found = [Fault("dZ", n, w, how_off(own, expected, "example", "neuron"))]
    total = own.sum(axis=0)
    if b is not None and np.abs(total - hand[b].ravel()).max(initial=0) > FITTED * np.abs(own).sum():
        found.append(Fault("db", n, b, how_off(hand[b].ravel(), total)))
    return own, found


class Enough(NamedTuple):
    """What a wrong cotangent of one value could do: the system it solves, and whether that tells anything."""

    values: tuple[int, ...]
    rows: np.ndarray
    gap: np.ndarray
    free: int  # entries that anything could make wrong

    @property
    def explains(self) -> bool:
        """Whether what comes back to these values alone explains all that is wrong, and not anything."""
        answer, _, rank, _ = np.linalg.lstsq(self.rows.T, self.gap, rcond=COMPUTED)
        near = np.abs(self.rows.T @ answer - self.gap).max() <= FITTED * np.abs(self.gap).max()
        return bool(near and rank < self.free)


def _causes(scene: Scene) -> list[Enough]:
    """Of every value that all that is wrong depends on, what it could do to what is wrong."""
    if not finite(scene.hand):
        return []
    sizes = np.cumsum([0, *(r.size for r in scene.reference)])
    wrong = np.concatenate([np.arange(sizes[k], sizes[k + 1]) for k in scene.wrong])
    gap = flat(scene.hand) - flat(scene.reference)
    if np.abs(gap).max() <= FITTED * max(np.abs(r).max(initial=0) for r in scene.reference):
        return []  # as faint as what is solved for
    found, views = jacobians(scene), scene.structure.views
    made = {v: rows for v, rows in sorted(found.items()) if v not in views and rows.any()}
    moved = [np.any(rows[:, wrong], axis=0) for rows in made.values()]
    return [Enough((v,), rows, gap, int(np.any(moved, axis=0).sum())) for v, rows in made.items()]


def sufficient(scene: Scene) -> tuple[int, int] | None:
    """(the first, the last) value on the tape whose cotangent, changed alone, explains all that is wrong.

    None where no value does, or where any gradient could be explained so.
    """
    ends = [one.values[0] for one in _causes(scene) if one.explains]
    return (ends[0], ends[-1]) if ends and ends[0] not in handed_in(scene) else None


def together(scene: Scene) -> tuple[int, int] | None:
    """Two values of few entries whose cotangents, changed together, explain all that is wrong."""
    kept: list[Enough] = []
    for one in _causes(scene):
        alike = any(len(one.rows) == len(k.rows) and _spans(one.rows, k.rows) for k in kept)
        if len(one.rows) < one.free and not alike and len(kept) < MANY:
            kept.append(one)
    pairs = sorted(combinations(kept, 2), key=lambda two: sum(len(one.rows) for one in two))
    for a, b in pairs:
        if Enough((), np.concatenate([a.rows, b.rows]), a.gap, a.free).explains:
            return a.values[0], b.values[0]
    return None


def _spans(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether the rows of two arrays span the same."""
    answer = np.linalg.lstsq(a.T, b.T, rcond=COMPUTED)[0]
    return near(a.T @ answer, b.T)


class Entrance(NamedTuple):
    """The steps down to which all is right, as other parameters show, on the way to what is wrong."""

    steps: tuple[Step, ...]
    there: bool  # at these steps themselves
    certain: bool


def entrance(scene: Scene, told: set) -> Entrance | None:
    """Where the way to what is wrong parts from the ways to what is right."""
    tape, right = scene.point.tape, told - set(scene.wrong)
    active = [p for p in tape.parameters if p in tape.active]
    reach = {p: frozenset({k}) for k, p in enumerate(active)}
    rows: dict[tuple, list[int]] = {}
    below = set()
    for place, node in enumerate(tape.nodes):
        read = [i for _, i in tape.edges(node)]
        of = frozenset().union(*(reach.get(i, frozenset()) for i in read))
        reach |= {o: of for o in node.outputs if o in tape.active}
        own = {i for i in read if reach.get(i) and not reach[i] & right}
        if of & right and own:
            below |= own
            rows.setdefault((node.name, node.line, node.spot), []).append(place)
    if not rows or len(rows) > 3:
        return None
    sizes = np.cumsum([0, *(r.size for r in scene.reference)])
    known = np.concatenate([np.arange(int(sizes[k]), int(sizes[k + 1])) for k in sorted(right)])
    found, outs = jacobians(scene), [tape.nodes[p].outputs[0] for places in rows.values() for p in places]
    certain = all(
        o in found and np.linalg.matrix_rank(found[o][:, known], tol=COMPUTED) == len(found[o]) for o in outs
    )
    steps = tuple(Step(tuple(places)) for places in rows.values())
    return Entrance(steps, below <= scene.structure.views.keys(), certain)


def decided(reference: list[np.ndarray], bound: list[np.ndarray]) -> set[int]:
    """The parameters of whose gradient every entry shows: right or wrong, a report says which."""
    tops = [np.abs(r).max(initial=0) for r in reference]
    told = [top > 0 and np.all(b <= min(VISIBLE.values()) * top) for top, b in zip(tops, bound, strict=True)]
    return {k for k, x in enumerate(told) if x}


def _tells(scene: Scene) -> bool:
    """Whether every dZ[l] can be had from dW[l]: few examples, wide layers."""
    rows = [dense_rows(scene, y) for y in scene.structure.layers]
    return all(r is not None and np.linalg.matrix_rank(r[0]) == len(r[0]) for r in rows)


def placed(given: Scene, scenes: list[Scene], names: Names, told: set) -> tuple[list[Finding], Spent | None]:
    """What can be said of a mistake without a name, and why no more; told: what is decided for the caller."""
    able = [s for s in scenes if s.wrong and (not given.wrong or s.wrong == given.wrong)]
    able += [given] * bool(given.wrong and not able)  # a size written into the code is wrong elsewhere
    if not able:
        return [], None
    scene = min(able, key=lambda s: (not _tells(s), weight_of(s)))
    told = told & decided(scene.reference, scene.bound)
    found = faults(scene)
    if found and scene is not given and given.wrong == scene.wrong:
        there = faults(given) or []
        if [f[:3] for f in there] == [f[:3] for f in found]:
            scene, found = given, there  # the rows and entries told are then those of the given point
    alone = bool(found) and len(found) == 1 and (found[0].kind == "dZ" or not found[0].how.vague)
    try:
        of_found = found and (alone or len(found) > 1)
        ends = None if alone else sufficient(scene)
        one = _of_faults(found, scene, given, names, told) if found and of_found and not ends else None
        return [one or _narrowed(scene, given, ends, names, told)], None
    except Spent as why:
        return [_of_leaves(scene, given, names, told)], why


def _of_faults(found: list[Fault], scene: Scene, given: Scene, names: Names, told: set) -> Finding:
    """The topmost is the cause of what is below, unless those steps are wrong themselves."""
    if scene is not given:  # its rows, entries and sizes are none of the caller's
        lasts = [not f.how.entries and scene.sized and _lasts(f.leaf, scene, given) for f in found]
        found = [f if kept else f._replace(how=How("is wrong")) for f, kept in zip(found, lasts, strict=True)]
    first, *rest = found
    if rest and (first.followed or first.kind != "dZ"):
        after = f"; and {'; '.join(f.sentence(names) for f in rest)}."
    elif rest:
        after = ". What is below may be wrong for no other reason."
    elif first.followed and first.layer > 1:
        after = ". What follows from it is right."
    else:
        known = told | set(scene.wrong)
        rest = len(scene.wrong) < len(names.parameters) == len(known)
        after = ". All else is right." if rest else "."
    return finding(
        UNKNOWN if first.kind else UNPLACED,
        "{told}",
        "{quantities}",
        8 if len({f.kind for f in found}) == 1 else 9,
        told=first.sentence(names) + after,
        quantities=joined([f.named(names) for f in found]),
    )


def _lasts(k: int, scene: Scene, given: Scene) -> bool:
    """Whether a leaf that is wrong in a simple way at one scene is so at the caller's as well."""
    here, there = (how_off(s.hand[k], s.reference[k]) for s in (scene, given))
    return here.vague or here.says == there.says


def _of_leaves(scene: Scene, given: Scene, names: Names, told: set) -> Finding:
    """The parameters that are wrong, and how."""
    wrong = tuple(scene.wrong)
    right = tuple(sorted(told.difference(wrong)))
    where = "{of}" if len(wrong) < max(2, len(scene.hand)) else "every parameter"
    shown = given if given.wrong == scene.wrong else scene
    parts = {"of": Leaves(wrong), "told": _extents(shown, names, shown is given), "right": Leaves(right)}
    says = "A mistake that has no name here: {told}." + " The rest ({right}) is right." * bool(right)
    return finding(UNPLACED, says, where, 9, scene=scene, **parts)


def _narrowed(scene: Scene, given: Scene, ends: tuple[int, int] | None, names: Names, told: set) -> Finding:
    """What explains it: one quantity or two; or down to where all is right."""
    one = _of_leaves(scene, given, names, told)
    rest = one.parts["right"] != Leaves(())
    if ends:
        return _between(scene, ends, one)
    if pair := together(scene):
        says = "Both {first} and {second} are wrong, which would explain all: {told}."
        first, second = map(Cotangent, pair)
        return one._replace(says=says, rank=8, parts={**one.parts, "first": first, "second": second})
    if way := entrance(scene, told) if rest else None:
        shows = "as the gradient of {right} shows" if way.certain else "as far as that of {right} shows"
        at = "It goes wrong where the gradient of {of} is made, at" if way.there else "It goes wrong below"
        says = f"{at} {{steps}}: what comes back there is right, {shows} ({{told}})."
        return one._replace(says=says, rank=8, parts={**one.parts, "steps": way.steps})
    return one


def _between(scene: Scene, ends: tuple[int, int], one: Finding) -> Finding:
    """One value, or those from the first to the last, whose cotangent explains it."""
    own = {v for y in scene.structure.layers for v in (y.z, y.a, y.product)}
    what, at = "in {first}", "{first}"
    first, last = map(Cotangent, ends)
    if ends[0] != ends[1]:
        what = at = "between {first} and {last}"
        makers = [scene.point.tape.maker(v) for v in ends]
        first, last = (
            end if v in own or m is None else Step((m,))
            for v, m, end in zip(ends, makers, (first, last), strict=True)
        )
        last = RETURNED if ends[1] in handed_in(scene) else last
    says = f"One mistake {what} would explain all that is wrong: {{told}}."
    mistake = UNKNOWN if own.issuperset(ends) else UNPLACED
    parts = {**one.parts, "first": first, "last": last}
    return one._replace(mistake=mistake, says=says, where=f"{at}, and so {one.where}", rank=8, parts=parts)


def _extents(scene: Scene, names: Names, own: bool) -> str:
    """What is wrong in which parameters; own: whether the scene's entries are the caller's."""
    parts, whole = [], []
    for k in scene.wrong:
        name, off = names.parameters[k], off_entries(scene, k)
        alpha = ratio(scene.hand[k], scene.reference[k], scene, k)
        if alpha is not None and not np.isnan(alpha) and (off.size > 1 or not alpha):
            parts.append(f"{name} is " + (f"{spoken(alpha)} times what it should be" if alpha else "zero"))
        elif off.all():
            how = relation(scene, k) or how_off(scene.hand[k], scene.reference[k])
            whole += [name] * how.vague
            parts += [f"{name} {how.says}"] * (not how.vague)
        else:
            parts.append(f"{extent(off) if own else 'some entries'} of {name}")
    if len(parts) > 4:
        parts = [*parts[:3], f"{len(parts) - 3} parameters more"]
    return "; ".join([f"every entry of {joined(whole)}"] * bool(whole) + parts)
