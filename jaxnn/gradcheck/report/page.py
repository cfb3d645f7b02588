"""A report as one self-contained page."""

import html
import math
from collections.abc import Sequence
from itertools import groupby, zip_longest
from xml.etree import ElementTree

import numpy as np

from jaxnn.gradcheck.report.model import Leaf
from jaxnn.gradcheck.report.text import costs, derived, good_numbers, of_known_numbers, title
from jaxnn.gradcheck.report.words import dimensions, short, ulps

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
_STYLE = """
:root{color-scheme:light}
body{font:16px/1.5 system-ui,sans-serif;color:#1d2733;background:#fff;max-width:60rem;
margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin:0 0 .3rem}h2{font-size:1.1rem;margin:2rem 0 .5rem}
.first{font-size:1.05rem;margin:.2rem 0 1.2rem;overflow-wrap:anywhere}
.cards{display:flex;gap:1rem;flex-wrap:wrap}
.card{flex:1 1 16rem;border:1px solid #d5dce4;border-left:.5rem solid #8794a3;
border-radius:.4rem;padding:.6rem 1rem}
.card b{display:block;font-size:1.25rem}
.good{border-left-color:#1a7f4b}.bad{border-left-color:#b3261e}.dim{border-left-color:#b58900}
.good b{color:#1a7f4b}.bad b{color:#b3261e}.dim b{color:#8a6700}
table{border-collapse:collapse;width:100%;font-size:.9rem}
th,td{text-align:right;padding:.25rem .5rem;border-bottom:1px solid #e4e9ee}
th:first-child,td:first-child,th:nth-child(2),td:nth-child(2){text-align:left}
td{font-variant-numeric:tabular-nums;white-space:nowrap}
tr.bad td:first-child{color:#b3261e;font-weight:600}
.cause{display:grid;grid-template-columns:3fr 2fr;gap:1rem;border-top:1px solid #e4e9ee;
padding:.7rem 0}
.cause code{background:#f3f5f8;padding:.6rem;border-radius:.4rem;align-self:start;
white-space:pre-wrap;font-size:.95rem}
.pictures{display:flex;flex-wrap:wrap;gap:1.2rem}
figure{margin:0}figcaption{font-size:.85rem;margin-bottom:.2rem}
small,.small{color:#5b6875;font-size:.85rem}
.scroll{overflow-x:auto}
.scroll>svg{max-width:max(100%,var(--least,760px));height:auto}
@media(max-width:40rem){.cause{grid-template-columns:1fr}}
@media print{body{margin:0}.card,figure,.cause{break-inside:avoid}}
"""

SVG, XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"
_DRAWN = {
    *("svg", "g", "defs", "symbol", "use", "a", "title", "desc", "style", "text", "tspan", "textPath"),
    *("path", "rect", "circle", "ellipse", "line", "polyline", "polygon", "image", "marker", "clipPath"),
    *("mask", "pattern", "linearGradient", "radialGradient", "stop"),
}  # what draws, and takes the reader nowhere

# errors relative to the largest entry: white where there is none, through blue (rounding) to red
ROUNDING = -8.0

_SHADES = (
    (-20.0, (255, 255, 255)),
    (-17.0, (240, 246, 252)),
    (ROUNDING, (158, 196, 232)),
    (-5.0, (250, 220, 150)),
    (-2.5, (240, 140, 60)),
    (0.0, (170, 20, 30)),
)


def _hex(rgb) -> str:
    return "#" + "".join(f"{round(v):02x}" for v in rgb)


def _shade(log: float) -> str:
    keys, colours = zip(*_SHADES, strict=True)
    return _hex(np.interp(log, keys, channel) for channel in zip(*colours, strict=True))


def _drawn(leaf: Leaf) -> str:
    grid = leaf.picture
    rows, columns = len(grid), len(grid[0]) if grid else 0
    if not columns:
        return ""
    most = ROUNDING if leaf.correct and leaf.accurate else 0.0  # in any precision, what is right is blue
    cell = max(4, min(24, 340 // columns, 240 // rows))
    tall = max(cell, 14) if rows == 1 else cell
    width, height = cell * columns, tall * rows
    parts = [
        f'<svg role="img" aria-label="error of {html.escape(leaf.path)}" width="{width + 2}" '
        f'height="{height + 2}" viewBox="-1 -1 {width + 2} {height + 2}" '
        'xmlns="http://www.w3.org/2000/svg" shape-rendering="crispEdges">'
    ]
    for r, row in enumerate(grid):
        x = 0
        for shade, alike in groupby(_shade(min(v, most)) for v in row):  # neighbours are one rectangle
            wide = cell * len(list(alike))
            parts.append(f'<rect x="{x}" y="{r * tall}" width="{wide}" height="{tall}" fill="{shade}"/>')
            x += wide
    parts.append(
        f'<rect x="-.5" y="-.5" width="{width + 1}" height="{height + 1}" fill="none" '
        'stroke="#8794a3"/></svg>'
    )
    flag = {True: "", False: " · wrong", None: " · cannot tell"}[leaf.correct]
    merged = rows * columns < math.prod(leaf.shape)
    scale = " · each cell is the worst of several entries" if merged else ""
    return (
        f"<figure><figcaption><b>{html.escape(leaf.path)}</b> {dimensions(leaf.shape)}{flag}"
        f"<small>{scale}</small></figcaption>{''.join(parts)}</figure>"
    )


def _legend() -> str:
    stops = "".join(
        f'<stop offset="{(k - _SHADES[0][0]) / 20:.2f}" stop-color="{_hex(rgb)}"/>' for k, rgb in _SHADES
    )
    ticks = "".join(
        f'<text x="{10 + 15 * (k + 20)}" y="34" text-anchor="middle">{label}</text>'
        for k, label in ((-20, "0"), (-15, "1e-15"), (-10, "1e-10"), (-5, "1e-5"), (0, "1"))
    )
    return (
        '<svg width="330" height="40" xmlns="http://www.w3.org/2000/svg" font-size="12" '
        'font-family="system-ui,sans-serif" fill="#5b6875" role="img" aria-label="scale">'
        f'<defs><linearGradient id="s">{stops}</linearGradient></defs>'
        f'<rect x="10" y="4" width="300" height="14" fill="url(#s)" stroke="#8794a3"/>{ticks}</svg>'
    )


def _embedded(picture: str) -> str:
    """An SVG as an element of the page; raises ValueError where it is none, or does more than to draw."""
    try:
        root = ElementTree.fromstring(picture)
        if root.tag != f"{SVG}svg":
            raise ValueError(f"its element is {root.tag!r:.60}")
        for element in root.iter():
            for said in element.findall(f"{SVG}metadata"):  # by matplotlib, of itself
                element.remove(said)
            _check_drawn(element)
            element.tag = element.tag.removeprefix(SVG)
            named = {name.replace(XLINK, "xlink:"): text for name, text in element.attrib.items()}
            element.attrib = {name: text for name, text in named.items() if name[0] != "{"}
        root.set("xmlns", SVG[1:-1])
        return f'<div class="scroll">{ElementTree.tostring(root, "unicode")}</div>'
    except (ElementTree.ParseError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"picture: got {picture!r:.40}, expected an SVG ({error})") from error


def _check_drawn(element: ElementTree.Element) -> None:
    if element.tag.removeprefix(SVG) not in _DRAWN:
        raise ValueError(f"of shapes and text, without {element.tag.removeprefix(SVG)!r:.60}")
    for name, text in element.attrib.items():
        leads = name in ("href", f"{XLINK}href") and not text.startswith(("#", "data:image/"))
        if leads or name.lower().startswith("on"):
            raise ValueError(f"of shapes and text, without {name.replace(XLINK, '')}={text!r:.40}")


def page(report, picture: str = "") -> str:
    """The page, as HTML."""
    e = html.escape
    looks = {True: "good", False: "bad", None: "dim"}
    formula = {True: "right", False: "wrong", None: "cannot tell"}[report.correct]
    good = good_numbers(report)
    numbers = {True: "good", False: "poor", None: "not judged"}[good]
    hand_name, loss_name = map(e, report.names)
    mark = {True: "holds", False: "FAILS", None: "not tried"}
    out = [
        f"""<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{hand_name}: {formula}</title><style>{_STYLE}</style></head><body>
<h1>Is <code>{hand_name}</code> the gradient of the loss <code>{loss_name}</code>?</h1>
<p class="first">{e(report.headline)}</p>
<div class="cards">
<div class="card {looks[report.correct]}"><small>the formula, in float64</small>
<b>{formula}</b>{_entries(report)}</div>
<div class="card {looks[good]}"><small>the numbers, in {e(report.dtype)}</small>
<b>{numbers}</b>{_numbers(report)}</div>
</div>"""
    ]
    if report.causes:
        out += ["<h2>What is the mistake?</h2>", *map(_cause, report.causes)]
    if picture:
        out += ["<h2>Where it is in the computation</h2>", _embedded(picture)]
    if report.steps:
        out.append(_list("The steps handed in", [s.sentence for s in report.steps]))
    bad = [leaf.correct is False for leaf in report.leaves]
    out += [
        f"""<h2>Where the error is</h2>
<p class="small">Error of each entry, relative to the largest entry of its parameter.
Blue is rounding, red is a mistake.<br>{_legend()}</p>
<div class="pictures">{"".join(map(_drawn, report.leaves))}</div>""",
        _table("Parameter by parameter", PARAMETERS, [_row(leaf) for leaf in report.leaves], bad),
        f"""<p class="small">Values, error and bound in float64. ULPs: units in the last place of
{e(report.dtype)}, the precision the gradient was called in.</p>""",
    ]
    if rows := costs(report):
        out.append(_table("What it costs", ", by hand, autodiff", rows))
    tried = [f"{name}: {said}" for name, said in report.points]
    tried += [f"{p.name}: {mark[p.passed]}, {p.sentence}" for p in report.probes]
    out.append(_list("How it was tried", [*tried, *report.notes]))
    return "\n".join([*out, "</body></html>\n"])


PARAMETERS = "parameter, shape, at, by hand, autodiff, error, bound, ULPs, autodiff’s ULPs, entries wrong"


def _row(leaf: Leaf) -> list[str]:
    at, hand, autodiff = ", ".join(map(str, leaf.index)), f"{leaf.hand:.6g}", f"{leaf.autodiff:.6g}"
    errors = [short(leaf.error), short(leaf.bound), ulps(leaf.ulps), ulps(leaf.autodiff_ulps)]
    return [leaf.path, dimensions(leaf.shape), at, hand, autodiff, *errors, str(leaf.wrong)]


def _table(title: str, head: str, rows: list, bad: Sequence[bool] = ()) -> str:
    """A table; the rows that are bad are red."""
    cells = ["".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in rows]
    body = [f'<tr class="bad">{row}' if red else f"<tr>{row}" for row, red in zip_longest(cells, bad)]
    rows = [f"<th>{head.replace(', ', '</th><th>')}</th>", *body]
    return f'<h2>{title}</h2><div class="scroll"><table><tr>{"</tr>".join(rows)}</tr></table></div>'


def _list(title: str, items: list[str]) -> str:
    return f"<h2>{title}</h2><ul>" + "".join(f"<li>{html.escape(item)}</li>" for item in items) + "</ul>"


def _cause(cause) -> str:
    e = html.escape
    return (
        f'<div class="cause"><div><b>{e(title(cause))}</b> <small>{e(cause.confidence)}</small>'
        f'<br>{e(cause.sentence)}<br><span class="small">{e(cause.where)}</span></div>'
        + (f"<code>{e(cause.equation)}</code></div>" if cause.equation else "<span></span></div>")
    )


def _entries(report) -> str:
    if report.correct:
        return f"every entry within the bound{',' * report.estimated} {derived(report)}"
    wrong = [leaf for leaf in report.leaves if leaf.correct is False]
    if not wrong:
        return "nothing tried could tell"
    entries = sum(leaf.wrong for leaf in wrong)
    total = sum(math.prod(leaf.shape) for leaf in report.leaves)
    return f"{entries:,} of {total:,} entries, in {len(wrong)} of {len(report.leaves)} parameters"


def _numbers(report) -> str:
    leaves = of_known_numbers(report)
    if report.accurate is None or not leaves:
        return "the formula decides first"
    worst = max((leaf.ulps for leaf in leaves), default=0.0)
    other = max((leaf.autodiff_ulps for leaf in leaves), default=0.0)
    where = " where the formula is right" if len(leaves) < len(report.leaves) else ""
    return f"worst entry {ulps(worst)} ULPs{where}; autodiff’s worst {ulps(other)}"
