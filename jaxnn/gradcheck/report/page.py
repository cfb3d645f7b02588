"""A report as one self-contained page."""

import html
import math
from itertools import pairwise
from xml.etree import ElementTree

from jaxnn.gradcheck.report.model import Leaf
from jaxnn.gradcheck.report.text import COSTS, good_numbers, of_known_numbers, step_text, title
from jaxnn.gradcheck.report.words import amount, dimensions, short, ulps

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


def _shade(log: float) -> str:
    log = min(max(log, _SHADES[0][0]), _SHADES[-1][0])
    for (low, a), (high, b) in pairwise(_SHADES):
        if log <= high:
            t = (log - low) / (high - low)
            mixed = (round(x + t * (y - x)) for x, y in zip(a, b, strict=True))
            return "#" + "".join(f"{v:02x}" for v in mixed)
    return "#aa141e"


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
        start = 0
        shades = [_shade(min(v, most)) for v in row]
        for c in range(1, columns + 1):  # neighbours of one shade are one rectangle
            if c == columns or shades[c] != shades[start]:
                parts.append(
                    f'<rect x="{start * cell}" y="{r * tall}" width="{(c - start) * cell}" '
                    f'height="{tall}" fill="{shades[start]}"/>'
                )
                start = c
    parts.append(
        f'<rect x="-.5" y="-.5" width="{width + 1}" height="{height + 1}" fill="none" '
        'stroke="#8794a3"/></svg>'
    )
    flag = {True: "", False: " · wrong", None: " · cannot tell"}[leaf.correct]
    whole = leaf.shape and (rows, columns) not in (_grid_shape(leaf.shape),)
    scale = " · each cell is the worst of several entries" if whole else ""
    return (
        f"<figure><figcaption><b>{html.escape(leaf.path)}</b> {dimensions(leaf.shape)}{flag}"
        f"<small>{scale}</small></figcaption>{''.join(parts)}</figure>"
    )


def _grid_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    rows = shape[0] if len(shape) > 1 else 1
    columns = math.prod(shape) // max(rows, 1)
    return (1, rows) if columns == 1 and len(shape) > 1 else (rows, columns)


def _legend() -> str:
    stops = "".join(
        f'<stop offset="{(k - _SHADES[0][0]) / 20:.2f}" stop-color="#{"".join(f"{v:02x}" for v in rgb)}"/>'
        for k, rgb in _SHADES
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
    hand_name, loss_name = report.names
    out = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width,initial-scale=1">',
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'\">",
        f"<title>{e(hand_name)}: {formula}</title><style>{_STYLE}</style></head><body>",
        f"<h1>Is <code>{e(hand_name)}</code> the gradient of the loss <code>{e(loss_name)}</code>?</h1>",
        f'<p class="first">{e(report.headline)}</p>',
        '<div class="cards">',
        f'<div class="card {looks[report.correct]}"><small>the formula, in float64</small>'
        f"<b>{formula}</b>every entry within the bound derived from the computation</div>"
        if report.correct
        else f'<div class="card {looks[report.correct]}"><small>the formula, in float64</small>'
        f"<b>{formula}</b>{_wrong_count(report)}</div>",
        f'<div class="card {looks[good]}"><small>the numbers, in {e(report.dtype)}'
        f"</small><b>{numbers}</b>{_numbers(report)}</div></div>",
    ]
    if report.causes:
        out.append("<h2>What is the mistake?</h2>")
        for cause in report.causes:
            out.append(
                f'<div class="cause"><div><b>{e(title(cause))}</b> '
                f"<small>{e(cause.confidence)}</small><br>{e(cause.sentence)}"
                f'<br><span class="small">{e(cause.where)}</span></div>'
                + (f"<code>{e(cause.equation)}</code>" if cause.equation else "<span></span>")
                + "</div>"
            )
    if picture:
        out += ["<h2>Where it is in the computation</h2>", _embedded(picture)]
    if report.steps:
        out.append("<h2>The steps handed in</h2><ul>")
        out += [f"<li>{e(step_text(s))}</li>" for s in report.steps]
        out.append("</ul>")
    out.append("<h2>Where the error is</h2>")
    out.append(
        '<p class="small">Error of each entry, relative to the largest entry of its parameter. '
        f"Blue is rounding, red is a mistake.<br>{_legend()}</p>"
    )
    out.append('<div class="pictures">' + "".join(map(_drawn, report.leaves)) + "</div>")
    out.append(
        '<h2>Parameter by parameter</h2><div class="scroll"><table><tr><th>parameter</th>'
        "<th>shape</th><th>at</th><th>by hand</th><th>autodiff</th><th>error</th><th>bound</th>"
        "<th>ULPs</th><th>autodiff’s ULPs</th><th>entries wrong</th></tr>"
    )
    for leaf in report.leaves:
        cells = [e(leaf.path), dimensions(leaf.shape), ", ".join(map(str, leaf.index)),
                 f"{leaf.hand:.6g}", f"{leaf.autodiff:.6g}", short(leaf.error), short(leaf.bound),
                 ulps(leaf.ulps), ulps(leaf.autodiff_ulps), str(leaf.wrong)]  # fmt: skip
        bad = ' class="bad"' if leaf.correct is False else ""
        out.append(f"<tr{bad}>" + "".join(f"<td>{c}</td>" for c in cells) + "</tr>")
    out.append(
        '</table></div><p class="small">Values, error and bound in float64. ULPs: units in the '
        f"last place of {e(report.dtype)}, the precision the gradient was called in.</p>"
    )
    hand, auto = report.cost.get("hand"), report.cost.get("autodiff")
    if auto is not None:
        out.append(
            '<h2>What it costs</h2><div class="scroll"><table>'
            "<tr><th></th><th></th><th>by hand</th><th>autodiff</th></tr>"
        )
        for name, unit, field in COSTS:
            left = "-" if hand is None else amount(getattr(hand, field), unit)
            right = amount(getattr(auto, field), unit)
            out.append(f"<tr><td>{name}</td><td></td><td>{left}</td><td>{right}</td></tr>")
        out.append("</table></div>")
    out.append('<h2>How it was tried</h2><ul class="small">')
    out += [f"<li>{e(name)}: {e(said)}</li>" for name, said in report.points]
    mark = {True: "holds", False: "FAILS", None: "not tried"}
    out += [f"<li>{e(p.name)}: {mark[p.passed]}, {e(p.sentence)}</li>" for p in report.probes]
    out += [f"<li>{e(note)}</li>" for note in report.notes]
    out.append("</ul></body></html>\n")
    return "\n".join(out)


def _wrong_count(report) -> str:
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
