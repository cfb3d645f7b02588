"""A report as one self-contained page: page.html, filled in."""

import html
import math
from collections.abc import Sequence
from itertools import groupby, zip_longest
from pathlib import Path
from string import Template
from xml.etree import ElementTree

import numpy as np

from jaxnn.gradcheck.report import text
from jaxnn.gradcheck.report.formats import dimensions, short, ulps
from jaxnn.gradcheck.report.model import Cause, Leaf

SVG, XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"
_DRAWN = {
    *("svg", "g", "defs", "symbol", "use", "a", "title", "desc", "style", "text", "tspan", "textPath"),
    *("path", "rect", "circle", "ellipse", "line", "polyline", "polygon", "image", "marker", "clipPath"),
    *("mask", "pattern", "linearGradient", "radialGradient", "stop"),
}  # what draws, and takes the reader nowhere

ROUNDING = -8.0
_SHADES = {
    -20.0: (255, 255, 255),
    -17.0: (240, 246, 252),
    ROUNDING: (158, 196, 232),
    -5.0: (250, 220, 150),
    -2.5: (240, 140, 60),
    0.0: (170, 20, 30),
}  # errors relative to the largest entry: white where there is none, through blue (rounding) to red
_LOOKS = {True: "good", False: "bad", None: "dim"}


def _shade(log: float) -> str:
    channels = (np.interp(log, list(_SHADES), channel) for channel in zip(*_SHADES.values(), strict=True))
    return "#" + "".join(f"{round(v):02x}" for v in channels)


def _drawn(leaf: Leaf) -> str:
    grid = leaf.picture
    rows, columns = len(grid), len(grid[0]) if grid else 0
    if not columns:
        return ""
    most = ROUNDING if leaf.correct and leaf.accurate else 0.0  # in any precision, what is right is blue
    cell = max(4, min(24, 340 // columns, 240 // rows))
    tall = max(cell, 14) if rows == 1 else cell
    width, height = cell * columns, tall * rows
    cells = []
    for r, row in enumerate(grid):
        x = 0
        for shade, alike in groupby(_shade(min(v, most)) for v in row):  # neighbours are one rectangle
            wide = cell * len(list(alike))
            cells.append(f'<rect x="{x}" y="{r * tall}" width="{wide}" height="{tall}" fill="{shade}"/>')
            x += wide
    path, flag = html.escape(leaf.path), {True: "", False: " · wrong", None: " · cannot tell"}[leaf.correct]
    merged = rows * columns < math.prod(leaf.shape)
    return (
        f"<figure><figcaption><b>{path}</b> {dimensions(leaf.shape)}{flag}"
        f"<small>{' · each cell is the worst of several entries' * merged}</small></figcaption>"
        f'<svg role="img" aria-label="error of {path}" width="{width + 2}" '
        f'height="{height + 2}" viewBox="-1 -1 {width + 2} {height + 2}" '
        f'xmlns="http://www.w3.org/2000/svg" shape-rendering="crispEdges">{"".join(cells)}'
        f'<rect x="-.5" y="-.5" width="{width + 1}" height="{height + 1}" fill="none" '
        'stroke="#8794a3"/></svg></figure>'
    )


def _embedded(picture: str) -> str:
    """An SVG as an element of the page; raises ValueError where it is none, or does more than to draw."""
    try:
        root = ElementTree.fromstring(picture)
        if root.tag != f"{SVG}svg":
            raise ValueError(f"its element is {root.tag!r:.60}")
        for element in root.iter():
            for data in element.findall(f"{SVG}metadata"):  # by matplotlib, of itself
                element.remove(data)
            _check_drawn(element)
            element.tag = element.tag.removeprefix(SVG)
            named = {name.replace(XLINK, "xlink:"): said for name, said in element.attrib.items()}
            element.attrib = {name: said for name, said in named.items() if name[0] != "{"}
        root.set("xmlns", SVG[1:-1])
        return f'<div class="scroll">{ElementTree.tostring(root, "unicode")}</div>'
    except (ElementTree.ParseError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"picture: got {picture!r:.40}, expected an SVG ({error})") from error


def _check_drawn(element: ElementTree.Element) -> None:
    if element.tag.removeprefix(SVG) not in _DRAWN:
        raise ValueError(f"of shapes and text, without {element.tag.removeprefix(SVG)!r:.60}")
    for name, said in element.attrib.items():
        leads = name in ("href", f"{XLINK}href") and not said.startswith(("#", "data:image/"))
        if leads or name.lower().startswith("on"):
            raise ValueError(f"of shapes and text, without {name.replace(XLINK, '')}={said!r:.40}")


def page(report, picture: str = "") -> str:
    """The page, as HTML."""
    good, bad = text.good_numbers(report), [leaf.correct is False for leaf in report.leaves]
    found, rest = [], []
    if report.causes:
        found += ["<h2>What is the mistake?</h2>", *map(_cause, report.causes)]
    if picture:
        found += ["<h2>Where it is in the computation</h2>", _embedded(picture)]
    if report.steps:
        found.append(_list("The steps handed in", [s.sentence for s in report.steps]))
    if rows := text.costs(report):
        rest.append(_table("What it costs", ", by hand, autodiff", rows))
    mark = {True: "holds", False: "FAILS", None: "not tried"}
    tried = [f"{name}: {said}" for name, said in report.points]
    tried += [f"{p.name}: {mark[p.passed]}, {p.sentence}" for p in report.probes]
    rest.append(_list("How it was tried", [*tried, *report.notes]))
    hand, loss, headline, dtype = map(html.escape, (*report.names, report.headline, report.dtype))
    template = Template(Path(__file__).with_name("page.html").read_text(encoding="utf-8"))
    return template.substitute(
        hand=hand,
        loss=loss,
        headline=headline,
        dtype=dtype,
        formula=text.MARK[report.correct].lower(),
        formula_looks=_LOOKS[report.correct],
        entries=_entries(report),
        numbers=text.NUMBERS[good].lower(),
        numbers_look=_LOOKS[good],
        ulps=_ulps(report),
        found="".join(f"{part}\n" for part in found),
        stops="".join(f'<stop offset="{1 + k / 20:.2f}" stop-color="{_shade(k)}"/>' for k in _SHADES),
        pictures="".join(map(_drawn, report.leaves)),
        parameters=_table("Parameter by parameter", PARAMETERS, list(map(_row, report.leaves)), bad),
        rest="".join(f"{part}\n" for part in rest),
    )


PARAMETERS = "parameter, shape, at, by hand, autodiff, error, bound, ULPs, autodiff’s ULPs, entries wrong"


def _row(leaf: Leaf) -> list[str]:
    shape, at, *off = text.place_and_ulps(leaf)
    numbers = [f"{leaf.hand:.6g}", f"{leaf.autodiff:.6g}", short(leaf.error), short(leaf.bound)]
    return [leaf.path, shape, at, *numbers, *off, str(leaf.wrong)]


def _table(title: str, head: str, rows: list, bad: Sequence[bool] = ()) -> str:
    """A table; the rows that are bad are red."""
    cells = ["".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in rows]
    body = [f'<tr class="bad">{row}' if red else f"<tr>{row}" for row, red in zip_longest(cells, bad)]
    rows = [f"<th>{head.replace(', ', '</th><th>')}</th>", *body]
    return f'<h2>{title}</h2><div class="scroll"><table><tr>{"</tr>".join(rows)}</tr></table></div>'


def _list(title: str, items: list[str]) -> str:
    return f"<h2>{title}</h2><ul>" + "".join(f"<li>{html.escape(item)}</li>" for item in items) + "</ul>"


def _cause(cause: Cause) -> str:
    name, sure, says, where, equation = map(
        html.escape, (text.title(cause), cause.confidence, cause.sentence, cause.where, cause.equation)
    )
    return (
        f'<div class="cause"><div><b>{name}</b> <small>{sure}</small>'
        f'<br>{says}<br><span class="small">{where}</span></div>'
        + (f"<code>{equation}</code></div>" if equation else "<span></span></div>")
    )


def _entries(report) -> str:
    if report.correct:
        return f"every entry within the bound{',' * report.estimated} {text.derived(report)}"
    wrong = [leaf for leaf in report.leaves if leaf.correct is False]
    if not wrong:
        return "nothing tried could tell"
    entries = sum(leaf.wrong for leaf in wrong)
    total = sum(math.prod(leaf.shape) for leaf in report.leaves)
    return f"{entries:,} of {total:,} entries, in {len(wrong)} of {len(report.leaves)} parameters"


def _ulps(report) -> str:
    leaves = text.of_known_numbers(report)
    if report.accurate is None or not leaves:
        return "the formula decides first"
    mine, other = (ulps(max(row)) for row in zip(*((x.ulps, x.autodiff_ulps) for x in leaves), strict=True))
    where = " where the formula is right" if len(leaves) < len(report.leaves) else ""
    return f"worst entry {mine} ULPs{where}; autodiff’s worst {other}"
