"""Pictures of parameters of any size, and numbers as they are to be read."""

import base64
import html
import io
import itertools
import json
import re

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest

from jaxnn.gradcheck import compare_gradients
from jaxnn.gradcheck.report.confidence import SURE
from jaxnn.gradcheck.report.model import Cost
from jaxnn.gradcheck.report.words import ulps
from jaxnn.gradcheck.verdict.rows import picture


@pytest.mark.parametrize(
    ("shape", "drawn"),
    [
        ((), (1, 1)),
        ((7,), (7, 1)),
        ((7, 1), (7, 1)),
        ((1, 7), (1, 7)),
        ((3, 5), (3, 5)),
        ((48, 96), (48, 96)),
        ((49, 97), (48, 96)),
        ((1000,), (48, 1)),
        ((1000, 1), (48, 1)),
        ((130, 20), (48, 20)),
        ((20, 300), (20, 96)),
        ((3, 4, 5), (3, 20)),
        ((60, 9, 31), (48, 96)),
    ],
)
def test_a_picture_has_no_more_than_48_by_96_cells(shape, drawn):
    assert np.shape(picture(np.ones(shape))) == drawn


def test_there_is_no_picture_of_nothing():
    assert picture(np.zeros((0, 3))) == []


def test_every_entry_is_in_the_cell_that_stands_where_it_does():
    """An entry that is off alone makes one cell red, in the same proportion from the edges."""
    rows, columns = 131, 209
    hit = set()
    for r, c in itertools.product((*range(0, rows, 13), rows - 1), (*range(0, columns, 11), columns - 1)):
        off = np.zeros((rows, columns))
        off[r, c] = 1e-3
        ((i, j),) = np.argwhere(np.array(picture(off)) > -20)
        assert picture(off)[i][j] == -3.0
        assert abs(i / 48 - r / rows) <= 1 / 48
        assert abs(j / 96 - c / columns) <= 1 / 96
        hit.add((i, j))
    assert {(0, 0), (47, 95), (0, 95), (47, 0)} <= hit


def test_a_cell_is_as_bad_as_the_worst_entry_in_it():
    off = np.full((96, 96), 1e-9)
    off[2, 5], off[3, 5] = 1e-2, 1e-6
    cells = np.array(picture(off))
    assert cells[1, 5] == -2.0
    assert np.sum(cells == -9.0) == cells.size - 1


def test_what_is_not_finite_is_as_bad_as_can_be():
    assert picture(np.array([[np.nan, np.inf, 1.0, 0.0, 1e-30]])) == [[9.0, 9.0, 0.0, -20.0, -20.0]]


def page(report, folder):
    report.to_html(folder / "page.html")
    return (folder / "page.html").read_text(encoding="utf-8")


def drawings(text):
    """The pictures in a page: the colours of their cells, rows × columns × 3, and the size of a cell."""
    shown = r'<img alt="error of [^"]*" width="(\d+)" height="(\d+)" src="data:image/png;base64,([^"]*)">'
    for wide, tall, coded in re.findall(shown, text):
        cells = plt.imread(io.BytesIO(base64.b64decode(coded)))[:, :, :3]
        rows, columns, _ = cells.shape
        assert int(wide) / columns == int(tall) / rows
        yield np.round(255 * cells), int(wide) / columns


def reddened(cells):
    """Where a picture is red."""
    return np.argwhere((cells[:, :, 0] > 150) & (cells[:, :, 1] < 60)).tolist()


def wrong_at(place, shape):
    """A comparison in which one entry of a matrix is wrong."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)
    return compare_gradients(lambda w: jnp.sum(jnp.sin(w)), lambda w: jnp.cos(w).at[place].add(0.5), x)


def test_a_large_parameter_is_drawn_small_and_said_to_be(tmp_path):
    report = wrong_at((70, 150), (100, 200))
    assert report.leaves[0].index == (70, 150)
    assert np.shape(report.leaves[0].picture) == (48, 96)
    text = page(report, tmp_path)
    assert "each cell is the worst of several entries" in text
    ((cells, size),) = drawings(text)
    assert cells.shape[:2] == (48, 96)
    assert size == 4
    ((row, column),) = reddened(cells)
    assert abs(column / 96 - 150 / 200) < 2 / 96
    assert abs(row / 48 - 70 / 100) < 2 / 48
    assert len(text) < 20_000


def test_a_bias_is_a_column_and_all_entries_are_drawn_at_one_scale(tmp_path):
    args = jnp.ones((5, 3)), jnp.ones(5), jnp.ones((2, 5)), jnp.float32(1.0)
    loss = lambda *p: sum(jnp.sum(x**2) for x in p)  # noqa: E731
    gradient = lambda *p: tuple(2.5 * x for x in p)  # noqa: E731
    text = page(compare_gradients(loss, gradient, *args, argnums=(0, 1, 2, 3)), tmp_path)
    pictures = list(drawings(text))
    assert [cells.shape[:2] for cells, _ in pictures] == [(5, 3), (5, 1), (2, 5), (1, 1)]
    assert len({size for _, size in pictures}) == 1
    assert "31 of 31 entries, in 4 of 4 parameters" in text


def test_the_page_holds_the_cause_and_its_equation(tmp_path):
    x, y = jnp.arange(6.0).reshape(3, 2) / 5, jnp.arange(3.0)
    loss = lambda w, x, y: jnp.mean((x @ w - y) ** 2)  # noqa: E731
    report = compare_gradients(loss, lambda w, x, y: 2 * x.T @ (x @ w - y), jnp.array([0.3, -0.7]), x, y)
    (cause,) = report.causes
    text = page(report, tmp_path)
    assert cause.id == "missing-mean"
    assert {cause.id, cause.sentence, cause.equation} <= {
        html.unescape(t) for t in re.split(r"<[^>]*>", text)
    }
    assert cause.confidence == SURE
    assert f"<small>{SURE}</small>" in text
    assert "Blue is rounding, red is a mistake." in text
    assert 'aria-label="scale"' in text
    assert ">wrong<" in text


def test_what_is_only_called_has_no_cost():
    report = compare_gradients(lambda w: jnp.sum(w**2), lambda w: 2 * np.asarray(w), jnp.arange(3.0))
    cost = json.loads(report.to_json())["cost"]
    assert cost["hand"] is None
    assert cost["autodiff"]["flops"] > 0
    (line,) = [line for line in report.to_text(verbose=True).splitlines() if "arithmetic" in line]
    assert line.split()[1] == "-"


@pytest.mark.parametrize(
    ("value", "said"),
    [(None, "-"), (999, "999"), (1000, "1 k"), (2.5e6, "2.5 M"), (3e13, "30 T"), (4e15, "4 P")],
)
def test_sizes_as_they_are_read(value, said):
    report = compare_gradients(lambda w: jnp.sum(w**2), lambda w: 2 * w, jnp.arange(3.0))
    costs = {"hand": None, "autodiff": Cost(value, None, None, 1)}
    verbose = report._replace(cost=costs).to_text(verbose=True)
    (line,) = [t for t in verbose.splitlines() if "arithmetic" in t]
    assert " ".join(line.split()[2:]) == (
        said if value is None else f"{said}FLOP" if " " in said else f"{said} FLOP"
    )


def test_a_small_parameter_is_drawn_entry_by_entry(tmp_path):
    text = page(wrong_at((1, 2), (3, 5)), tmp_path)
    assert "each cell is the worst" not in text
    ((cells, size),) = drawings(text)
    assert (*cells.shape, size) == (3, 5, 3, 24)
    assert reddened(cells) == [[1, 2]]


def test_a_right_parameter_has_no_red_in_it(tmp_path):
    x = jnp.asarray(np.random.default_rng(1).normal(size=(60, 100)), jnp.float32)
    report = compare_gradients(lambda w: jnp.sum(jnp.sin(w) ** 2), lambda w: 2 * jnp.sin(w) * jnp.cos(w), x)
    assert report.correct is True
    for cells, _ in drawings(page(report, tmp_path)):
        assert np.all(cells[:, :, 2] >= 225)  # blue or white


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0.04, "0.0"),
        (99.94, "99.9"),
        (100.4, "100"),
        (99999.0, "99999"),
        (123456.0, "1.2e5"),
        (1e12, "1.0e12"),
        (np.inf, "∞"),
        (np.nan, "?"),
        (-np.inf, "?"),
    ],
)
def test_ulps_as_they_are_read(value, said):
    assert ulps(value) == said


def test_json_of_a_large_parameter_is_small():
    report = wrong_at((0, 0), (300, 400))
    short, long = report.to_json(), report.to_json(pictures=True)
    assert len(short) < 2000
    assert len(long) < 50_000
    assert len(json.loads(long)["leaves"][0].pop("picture")) == 48
    assert "picture" not in json.loads(short)["leaves"][0]
    assert json.loads(short)["schema"] == 1


def test_every_table_scrolls_in_a_box_of_its_own(tmp_path):
    text = page(wrong_at((1, 2), (3, 5)), tmp_path)
    assert "What it costs" in text
    assert text.count("<table>") == text.count('<div class="scroll"><table>') == 2


def test_a_picture_of_the_computation_stands_in_the_page(tmp_path):
    svg = '<svg xmlns="http://www.w3.org/2000/svg"><title>a &lt; b</title></svg>'
    report = wrong_at((0, 0), (3, 5))
    report.to_html(tmp_path / "page.html", '<?xml version="1.0"?>\n' + svg)
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert text.count(svg) == 1
    assert "<?xml" not in text
    assert text.index("What is the mistake?") < text.index(svg) < text.index("Where the error is")
    assert "in the computation" not in page(report, tmp_path)


@pytest.mark.parametrize("picture", ["<b>bold</b>", "graph.svg", "<svg>", "<svg></svg><script></script>", 7])
def test_a_picture_that_is_no_svg_is_not_taken(tmp_path, picture):
    with pytest.raises(ValueError, match=r"picture: got .* expected an SVG"):
        wrong_at((0, 0), (3, 5)).to_html(tmp_path / "page.html", picture)
    assert not (tmp_path / "page.html").exists()


META = '<meta xmlns="{}" http-equiv="refresh" content="0;url=http://127.0.0.1/"/>'
HTML = "http://www.w3.org/1999/xhtml"


@pytest.mark.parametrize(
    "hostile",
    [
        f"<foreignObject>{META.format(HTML)}</foreignObject>",
        f"<desc>{META.format(HTML)}</desc>",
        f"<desc>{META.format('http://www.w3.org/2000/svg')}</desc>",  # to HTML all meta are the same
        "<script>alert(1)</script>",
        '<g onclick="alert(1)"/>',
        '<a href="javascript:alert(1)"/>',
        '<a xmlns:x="http://www.w3.org/1999/xlink" x:href="http://127.0.0.1/"/>',
        '<set attributeName="href" to="javascript:alert(1)"/>',
        "<g>" * 5000 + "</g>" * 5000,
    ],
)
def test_a_picture_that_does_more_than_to_draw_is_not_taken(tmp_path, hostile):
    svg = f'<svg xmlns="http://www.w3.org/2000/svg">{hostile}</svg>'
    with pytest.raises(ValueError, match=r"picture: got .* expected an SVG \("):
        wrong_at((0, 0), (3, 5)).to_html(tmp_path / "page.html", svg)
    assert not (tmp_path / "page.html").exists()


def test_a_picture_may_call_its_elements_as_it_likes_and_have_comments(tmp_path):
    svg = """<!-- <svg onload="alert(1)"> --><s:svg xmlns:s="http://www.w3.org/2000/svg"
        xmlns:xlink="http://www.w3.org/1999/xlink" xmlns:other="http://other"><s:style><![CDATA[</style>]]></s:style>
        <s:metadata><other:date/></s:metadata><s:use xlink:href="#a" other:label="b"/></s:svg>"""
    wrong_at((0, 0), (3, 5)).to_html(tmp_path / "page.html", svg)
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "onload" not in text
    assert "date" not in text[text.index("<svg") : text.index("</svg>")]
    assert text.count("</style>") == 2  # the page's own, and the picture's
    assert '<use xlink:href="#a" />' in text
