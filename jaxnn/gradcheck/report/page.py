"""A report as one self-contained page: page.html, filled in."""

import base64
import contextlib
import html
import math
import platform
import struct
import zlib
from collections.abc import Sequence
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from itertools import zip_longest
from pathlib import Path
from string import Template
from xml.etree import ElementTree

import numpy as np

from jaxnn.gradcheck.report import text
from jaxnn.gradcheck.report.model import Cause, Leaf
from jaxnn.gradcheck.report.words import dimensions, short, ulps

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


def _shaded(logs: np.ndarray) -> np.ndarray:
    """The colours of errors, as bytes along a last axis."""
    channels = [np.interp(logs, list(_SHADES), channel) for channel in zip(*_SHADES.values(), strict=True)]
    return np.stack(channels, -1).round().astype(np.uint8)


def _png(colours: np.ndarray) -> bytes:
    """A picture of one pixel a colour. Source: PNG specification, third edition, sections 5 and 11."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    tall, wide, _ = colours.shape
    header = struct.pack(">IIBBBBB", wide, tall, 8, 2, 0, 0, 0)  # 8 bits each of red, green and blue
    rows = np.pad(colours.reshape(tall, -1), ((0, 0), (1, 0))).tobytes()  # each begins with a zero: as it is
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _drawn(leaf: Leaf, cell: int) -> str:
    """The errors of a parameter, in cells of so many pixels."""
    if not leaf.picture:
        return ""
    most = ROUNDING if leaf.correct and leaf.accurate is not False else 0.0  # what is right is blue
    colours = _shaded(np.minimum(leaf.picture, most))
    tall, wide, _ = colours.shape
    path, flag = html.escape(leaf.path), {True: "", False: " · wrong", None: " · cannot tell"}[leaf.correct]
    merged = tall * wide < math.prod(leaf.shape)
    return (
        f"<figure><figcaption><b>{path}</b> {dimensions(leaf.shape)}{flag}"
        f"<small>{' · each cell is the worst of several entries' * merged}</small></figcaption>"
        f'<img alt="error of {path}" width="{cell * wide}" height="{cell * tall}" '
        f'src="data:image/png;base64,{base64.b64encode(_png(colours)).decode()}"></figure>'
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
    good, bad = report.accurate, [leaf.correct is False for leaf in report.leaves]
    sizes = [(len(x.picture), len(x.picture[0])) for x in report.leaves if x.picture]
    tallest, widest = map(max, zip(*sizes, strict=True)) if sizes else (1, 1)
    cell = max(4, min(24, 240 // tallest, 340 // widest))  # of one size in all pictures
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
        stops="".join(f'<stop offset="{1 + k / 20:.2f}" stop-color="rgb{v}"/>' for k, v in _SHADES.items()),
        pictures="".join(_drawn(leaf, cell) for leaf in report.leaves),
        parameters=_table("Parameter by parameter", PARAMETERS, list(map(_row, report.leaves)), bad),
        rest="".join(f"{part}\n" for part in rest),
        made=f"{datetime.now().astimezone():%d %B %Y, %H:%M %Z}, by {_versions()}",
    )


def _versions() -> str:
    """Of what made the report; jaxnn has none where its sources are run as they are."""
    told = []
    for name in ("jaxnn", "jax"):
        with contextlib.suppress(PackageNotFoundError):
            told.append(f"{name} {version(name)}")
    return ", ".join([*told, f"Python {platform.python_version()}"])


PARAMETERS = "parameter, shape, at, by hand, autodiff, error, bound, ULPs, autodiff’s ULPs, entries wrong"


def _row(leaf: Leaf) -> list[str]:
    at, off = ", ".join(map(str, leaf.index)), (ulps(leaf.ulps), ulps(leaf.autodiff_ulps))
    numbers = [f"{leaf.hand:.6g}", f"{leaf.autodiff:.6g}", short(leaf.error), short(leaf.bound)]
    return [leaf.path, dimensions(leaf.shape), at, *numbers, *off, str(leaf.wrong)]


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
    leaves = [leaf for leaf in report.leaves if leaf.accurate is not None]
    if not leaves:
        return "the formula decides first"
    mine, other = (ulps(max(row)) for row in zip(*((x.ulps, x.autodiff_ulps) for x in leaves), strict=True))
    where = " where the formula is right" if len(leaves) < len(report.leaves) else ""
    return f"worst entry {mine} ULPs{where}; autodiff’s worst {other}"
