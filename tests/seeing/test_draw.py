"""A drawing, a scan or a photo becomes what the network was trained on; the page computes as Python does."""

import base64
import io
import itertools
import json
import math
import os
import re
import struct
import time
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from PIL import Image, ImageDraw

from experiments import draw, predict, train
from experiments.common import drawn
from experiments.common.arguments import UserError
from jaxnn import activations, datasets, losses
from jaxnn.activations import Activation
from jaxnn.centring import FRAMES, centred, uncentred
from jaxnn.datasets import Examples
from jaxnn.encoding import flatten
from jaxnn.layers import Dense, mlp
from jaxnn.losses import Loss
from jaxnn.objective import value_and_grad
from jaxnn.passes import passes
from jaxnn.scan import ScanError, ink
from jaxnn.seeing.images import pixels
from jaxnn.seeing.pages.pad import S, pad
from jaxnn.training import start, step
from tests.programs import ended

pytestmark = pytest.mark.usefixtures("compiled_plainly")
MNIST, SOURCE = FRAMES["mnist"], os.environ.get("JAXNN_SOURCE_DIR")
needs_mnist = pytest.mark.skipif(
    not SOURCE or not os.path.isdir(os.path.join(SOURCE, "mnist")),
    reason="JAXNN_SOURCE_DIR names no folder with mnist/ in it",
)
SEVEN = ((0.3, 0.3), (0.7, 0.3), (0.45, 0.8))
TWO = ((0.3, 0.35), (0.45, 0.2), (0.65, 0.3), (0.6, 0.5), (0.3, 0.8), (0.72, 0.8))
FORMS = {"seven": SEVEN, "two": TWO, "one": ((0.5, 0.2), (0.48, 0.8)), "bar": ((0.2, 0.5), (0.8, 0.52))}


def drawing(points, size=112, scale=1.0, dx=0.0, dy=0.0, width=8):
    """Strokes of a pen on a black pad, smooth at their edges."""
    many = 4
    image = Image.new("L", (many * size, many * size))
    line = [(many * size * (scale * x + dx), many * size * (scale * y + dy)) for x, y in points]
    brush, r = ImageDraw.Draw(image), many * width * scale / 2
    brush.line(line, fill=255, width=round(2 * r))
    for x, y in line:
        brush.ellipse((x - r, y - r, x + r, y + r), fill=255)
    return np.asarray(image.resize((size, size), Image.Resampling.BOX), np.float32) / 255


def by_blocks(G, frame):
    """The same by another way: cut out, each pixel repeated, blocks counted, pasted where it belongs."""
    rows, columns = (np.flatnonzero((G > 0.05).any(axis=axis)) for axis in (1, 0))
    cut = G[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    height, width = (max(1, int(frame.height * n / max(cut.shape) + 0.5)) for n in cut.shape)
    repeated = cut.repeat(height, 0).repeat(width, 1)
    small = repeated.reshape(height, len(cut), width, -1).mean(axis=(1, 3))
    if frame.by_mass:
        at = [np.average(np.arange(n) + 0.5, weights=cut.sum(axis=1 - k)) * m / n
              for k, (n, m) in enumerate(zip(cut.shape, small.shape, strict=True))]  # fmt: skip
        top, left = (int(np.floor(frame.side / 2 + 1 - a)) for a in at)
    else:
        top, left = (frame.side - height) // 2, (frame.side - width) // 2
    X = np.zeros((frame.side, frame.side))
    top, left = min(top, frame.side - height), min(left, frame.side - width)
    X[top : top + height, left : left + width] = small
    return X


def framed(G, frame=MNIST):
    """What is made of ink of any shape."""
    pad = np.zeros((600, 600), np.float32)
    pad[: len(G), : len(G[0])] = G
    return np.asarray(jax.jit(centred, static_argnums=1)(pad, frame))


def block(top, bottom, left, right):
    G = np.zeros((64, 64))
    G[top:bottom, left:right] = 1
    return G


def mass(X):
    middles = np.arange(len(X)) + 0.5
    return [float(np.average(middles, weights=X.sum(axis=axis))) for axis in (1, 0)]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_centring_is_what_counting_makes_of_it(form, name):
    for scale, dx, dy in ((1, 0, 0), (0.5, 0.05, 0.4), (0.31, 0.6, 0.1)):
        G = drawing(FORMS[form], scale=scale, dx=dx, dy=dy)
        np.testing.assert_allclose(framed(G, FRAMES[name]), by_blocks(G, FRAMES[name]), atol=1e-4)


@pytest.mark.parametrize("form", FORMS)
def test_as_mnist_it_fills_20_pixels_and_its_mass_is_in_the_pixel_in_the_middle(form):
    for scale, dx, dy in ((1, 0, 0), (0.4, 0.5, 0.1), (0.7, 0.1, 0.29)):
        X = framed(drawing(FORMS[form], scale=scale, dx=dx, dy=dy))
        assert max((X.sum(axis=axis) > 1e-6).sum() for axis in (0, 1)) == 20
        rows, columns = (np.flatnonzero(X.sum(axis=axis) > 1e-6) for axis in (1, 0))
        for at, own in zip(mass(X), (rows, columns), strict=True):
            at_an_edge = own[0] == 0 or own[-1] == 27  # nothing is cut off for it
            assert abs(at - 14.5) < 0.51 or at_an_edge


def test_where_and_how_large_it_is_drawn_does_not_matter():
    first = framed(drawing(SEVEN))
    moved = framed(np.roll(drawing(SEVEN), (-9, 17), (0, 1)))
    smaller = framed(drawing(SEVEN, scale=0.5, dx=0.02, dy=0.45))
    larger = framed(np.kron(drawing(SEVEN), np.ones((3, 3))))
    np.testing.assert_allclose(moved, first, atol=1e-5)
    np.testing.assert_allclose(larger, first, atol=1e-5)
    assert np.abs(np.asarray(smaller) - first).mean() < 0.02


@needs_mnist
def test_images_of_mnist_that_are_moved_and_enlarged_are_centred_as_they_were():
    images = datasets.load("mnist").test.images[:200] / np.float32(255)
    rng = np.random.default_rng(0)
    same = 0
    for image in images:
        by, (top, left) = rng.integers(2, 8), rng.integers(0, 300, 2)
        large = np.pad(image.repeat(by, 0).repeat(by, 1), ((top, 0), (left, 0)))
        same += np.abs(framed(large) - image).max() < 1e-4
    assert same / len(images) > 0.85  # of the others the mass is at the edge of a pixel, or faint ink is all


def test_a_bar_stands_where_it_must():
    X = framed(block(5, 15, 40, 42))
    expected = np.zeros((28, 28))
    expected[5:25, 13:17] = 1
    np.testing.assert_allclose(X, expected, atol=1e-6)


def test_as_digits_it_fills_eight_rows_and_five_columns_in_the_middle():
    X = framed(block(30, 34, 10, 13), FRAMES["digits"])
    np.testing.assert_allclose(X, np.tile([0, 0.5, 1, 1, 1, 1, 0.5, 0], (8, 1)), atol=1e-6)


def test_as_digits_a_stroke_stays_a_stroke():
    thin = FRAMES["digits"]._replace(ink=0)
    X = framed(block(10, 50, 30, 34), thin)  # 1.25 · 8 · 4/40 columns
    np.testing.assert_allclose(X, np.tile([0, 0, 0, 0.5, 0.5, 0, 0, 0], (8, 1)), atol=1e-6)
    X = framed(block(10, 50, 30, 34), thin._replace(ink=12))
    np.testing.assert_allclose(X, np.tile([0, 0, 0, 0.75, 0.75, 0, 0, 0], (8, 1)), atol=1e-6)
    X = framed(block(10, 50, 30, 34), FRAMES["digits"])  # no pixel is more than black
    np.testing.assert_allclose(X, np.tile([0, 0, 0, 1, 1, 0, 0, 0], (8, 1)), atol=1e-6)
    X = framed(block(30, 34, 10, 50), FRAMES["digits"])
    np.testing.assert_allclose(X, np.tile([0, 0.5, 1, 1, 1, 1, 0.5, 0], (8, 1)), atol=1e-6)


@pytest.mark.parametrize("name", FRAMES)
@pytest.mark.parametrize("how", [centred, uncentred])
def test_an_empty_pad_and_faint_marks_on_it_are_nothing(name, how):
    assert (np.asarray(how(jnp.zeros((S, S)), FRAMES[name])) == 0).all()
    faint = np.asarray(centred(jnp.full((S, S), 0.04), FRAMES[name]))
    assert (faint == 0).all()
    full = np.asarray(how(jnp.ones((S, S)), FRAMES[name]))
    assert np.isfinite(full).all()
    assert full.max() == pytest.approx(1, abs=1e-5)


def test_uncentred_keeps_the_place_and_all_of_the_ink():
    G = np.random.default_rng(0).random((56, 56)).astype(np.float32)
    expected = G.reshape(28, 2, 28, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(uncentred(jnp.asarray(G), MNIST), expected, atol=1e-6)


# ——— scans


def scan(tmp_path, picture, name="scan.png", **options):
    path = tmp_path / name
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(path, **options)
    return path


def paper(form=SEVEN, height=300, width=420, shade=0.0, dark=0.8, noise=0.0, seed=0):
    """Dark on light paper, darker on one side, off the middle."""
    page = np.zeros((height, width))
    page[60:200, 240:380] = drawing(form, 140)
    light = 0.9 - shade * np.linspace(0, 1, width)[None] - 0.3 * shade * np.linspace(0, 1, height)[:, None]
    noisy = light * (1 - dark * page) + noise * np.random.default_rng(seed).normal(size=page.shape)
    return np.clip(noisy, 0, 1)


def grey8(picture):
    return np.round(255 * picture).astype(np.uint8)


def rgba(picture, colour):
    """The ink of a picture as what is not transparent."""
    alpha = grey8(np.clip((0.9 - picture) / 0.72, 0, 1))
    return Image.fromarray(np.dstack([np.full((*picture.shape, 3), colour, np.uint8), alpha]))


SCANS = {
    "black on white": lambda: Image.fromarray(grey8(paper())),
    "white on black": lambda: Image.fromarray(255 - grey8(paper())),
    "grey paper in shadow": lambda: Image.fromarray(grey8(paper(shade=0.5, dark=0.6, noise=0.02))),
    "pale pencil": lambda: Image.fromarray(grey8(paper(dark=0.15, noise=0.005))),
    "black on nothing": lambda: rgba(paper(), 0),
    "white on nothing": lambda: rgba(paper(), 255),
    "palette": lambda: Image.fromarray(grey8(paper())).convert("RGB").quantize(16),
    "two colours": lambda: Image.fromarray(grey8(paper())).convert("1"),
    "16 bits": lambda: Image.fromarray((60000 * paper()).astype(np.uint16)),
    "dark 16 bits": lambda: Image.fromarray((900 * paper()).astype(np.uint16)),
    "not square": lambda: Image.fromarray(grey8(paper(height=210, width=900))),
    "large": lambda: Image.fromarray(np.kron(grey8(paper()), np.ones((6, 6), np.uint8))),
}


def alike(found, expected) -> float:
    """The correlation of two images, of which one may be a pixel off: a mean is rounded."""
    shifts = itertools.product((-1, 0, 1), repeat=2)
    return max(np.corrcoef(np.roll(found, by, (0, 1)).ravel(), expected.ravel())[0, 1] for by in shifts)


@pytest.mark.parametrize("name", SCANS)
def test_however_it_is_scanned_the_network_sees_the_drawing(name, tmp_path):
    expected = framed(drawing(SEVEN, 140))
    found = framed(ink(scan(tmp_path, SCANS[name]())))
    assert alike(found, expected) > 0.9
    assert found.max() > 0.9
    assert abs(found.mean() / expected.mean() - 1) < 0.25


def test_a_photo_lies_as_the_camera_was_held_and_specks_are_left_out(tmp_path):
    picture = paper(noise=0.02)
    picture[20:22, 20:22] = 0.1  # a speck
    picture[:, :9] = 0.2  # the edge of the table
    turned = Image.fromarray(grey8(picture)).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    expected = framed(drawing(SEVEN, 140))
    found = framed(ink(scan(tmp_path, turned, "a.jpg", exif=exif)))
    assert alike(found, expected) > 0.9


def test_pale_ink_beside_a_black_mark_at_the_edge_is_the_digit(tmp_path):
    picture = paper(dark=0.3)
    picture[:30, :6] = 0
    expected = framed(drawing(SEVEN, 140))
    found = framed(ink(scan(tmp_path, grey8(picture))))
    assert alike(found, expected) > 0.9
    assert found.max() > 0.9


def test_of_any_floats_there_is_ink_or_an_error_and_their_scale_does_not_matter(tmp_path):
    rng = np.random.default_rng(0)
    for k in range(30):
        picture = rng.choice([0, 0.3, 1, rng.random()], rng.integers(1, 3 + k, 2))
        outcomes = []
        for scale in (1, 2.0 ** rng.choice([-100, 40, 100])):
            path = scan(tmp_path, (scale * picture).astype(np.float32), "a.tiff")
            try:
                found = ink(path)
                assert np.all(found >= 0)
                assert found.max() == 1
                outcomes.append(found)
            except ScanError as error:
                outcomes.append(str(error))
        np.testing.assert_array_equal(*outcomes)


def test_a_thin_pen_is_seen(tmp_path):
    thin = 1 - drawing(SEVEN, 500, width=3)
    found = framed(ink(scan(tmp_path, grey8(thin))))
    assert found.max() > 0.7


def png_of(width, height):
    """A PNG that says it is that large, and holds nothing."""

    def chunk(kind, content):
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def saved_bytes(picture, kind, **options):
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


GREY = Image.fromarray(grey8(paper()))
BAD = {
    "empty": (b"", "cannot be read as a picture"),
    "text": (b"<svg onload=alert(1)>\n", "cannot be read as a picture"),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "cannot be read as a picture"),
    "cut off": (saved_bytes(GREY, "PNG")[:400], "cannot be read as a picture"),
    "cut off JPEG": (saved_bytes(GREY, "JPEG")[:900], "cannot be read as a picture"),
    "bomb": (png_of(60_000, 60_000), "cannot be read as a picture"),
    "nothing in it": (png_of(9, 9), "cannot be read as a picture"),
    "large": (png_of(11_000, 11_000), "expected at most 100,000,000"),
    "animated": (
        saved_bytes(GREY, "GIF", save_all=True, append_images=[Image.new("L", GREY.size)]),
        "several pictures in one",
    ),
    "blank": (saved_bytes(Image.new("L", (90, 40), 255), "PNG"), "got nothing that stands out"),
    "one pixel": (saved_bytes(Image.new("L", (1, 1), 7), "PNG"), "got nothing that stands out"),
    "transparent": (saved_bytes(Image.new("RGBA", (30, 30)), "PNG"), "got nothing that stands out"),
    "not a number": (
        saved_bytes(Image.fromarray(np.full((9, 9), np.nan, np.float32)), "TIFF"),
        "pixels that are no numbers",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_is_no_picture_of_a_digit_is_told_in_one_line(name, tmp_path):
    content, why = BAD[name]
    (path := tmp_path / "bad").write_bytes(content)
    with pytest.raises(ScanError) as error:
        ink(path)
    assert why in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("place", ["missing", "."])
def test_what_is_no_file_is_no_picture(place, tmp_path):
    with pytest.raises(ScanError, match="expected a picture"):
        ink(tmp_path / place)


# ——— drawings, and the programs that read them


def saved(drawings, side=S, **other):
    return json.dumps({"format": "jaxnn drawings 1", "side": side, "drawings": drawings} | other)


def kept(G, label, centred=True):
    return {"label": label, "centred": centred, "ink": base64.b64encode(grey8(G).tobytes()).decode()}


GOOD = kept(drawing(SEVEN), 7)
HOSTILE = {
    "not JSON": ("{", "cannot be read"),
    "not text": (b"\xff\xfe\x00", "cannot be read"),
    "deep": ("[" * 100_000, "cannot be read"),
    "another thing": ("[]", "expected the format"),
    "another format": (saved([GOOD], format="jaxnn drawings 2"), "expected the format"),
    "no side": (saved([GOOD], side=None), "side: got None"),
    "a huge side": (saved([GOOD], side=10**9), "side: got 1000000000, expected 8..1024"),
    "a side that is true": (saved([GOOD], side=True), "side: got True"),
    "no drawings": (saved([]), "drawings: expected a list"),
    "a drawing that is none": (saved([GOOD, 7]), "drawing 1: expected its label"),
    "a label too many": (saved([GOOD | {"label": 10}]), "drawing 0: label: got '10', expected 0..9"),
    "a label that is text": (saved([GOOD | {"label": "<b>\n7"}]), "drawing 0: label"),
    "a label that is true": (saved([GOOD | {"label": True}]), "drawing 0: label"),
    "a switch that is a number": (saved([GOOD | {"centred": 1}]), "drawing 0: centred"),
    "too little ink": (saved([GOOD | {"ink": GOOD["ink"][:-4]}]), f"drawing 0: ink: expected {S * S} bytes"),
    "ink that is none": (saved([GOOD | {"ink": "\n" * len(GOOD["ink"])}]), "cannot be read"),
    "not a number": (saved([GOOD], side=float("nan")), "side: got nan"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_that_holds_no_drawings_is_told_in_one_line(name, tmp_path):
    content, why = HOSTILE[name]
    (path := tmp_path / "drawings.json").write_bytes(
        content if isinstance(content, bytes) else content.encode()
    )
    with pytest.raises(UserError) as error:
        drawn.load(path, 10)
    assert why in str(error.value)
    assert "\n" not in str(error.value)


def test_drawings_are_read_as_they_were_saved(tmp_path):
    pads = np.random.default_rng(0).integers(0, 256, (2, S, S))
    text = saved([kept(pads[0] / 255, 3), kept(pads[1] / 255, 0, centred=False)])
    (path := tmp_path / "drawings.json").write_text(text)
    first, second = drawn.load(path, 10)
    assert (first.label, first.centred, second.label, second.centred) == (3, True, 0, False)
    np.testing.assert_array_equal(np.round(255 * first.ink), pads[0])
    np.testing.assert_array_equal(np.round(255 * second.ink), pads[1])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "run"
    assert ended(train, "--epochs", 30, "--out", folder).status == 0
    return folder


def test_drawings_are_scored(trained, tmp_path):
    small = drawing(SEVEN, scale=0.4, dx=0.5, dy=0.05)
    (path := tmp_path / "drawings.json").write_text(saved([kept(small, 7), kept(drawing(FORMS["one"]), 8)]))
    done = ended(predict, trained, "--drawings", path)
    assert (done.status, done.err) == (0, "")
    assert "accuracy  50.00 % of 2 drawings" in done.out
    first, second = done.out.splitlines()[-2:]
    assert first.split()[:2] == ["7", "7"]
    assert second.split()[0] == "8"
    assert "✗" in second
    shown = [float(y) for y in first.split()[2:]]
    assert len(shown) == 10
    assert max(shown) == shown[7] > 0.5
    assert max(map(len, done.out.splitlines()[3:])) <= 80


def test_ones_of_any_size_are_read_as_ones(trained, tmp_path):
    ones = [((0.5, 0.1), (0.5, 0.9)), ((0.4, 0.28), (0.52, 0.1), (0.52, 0.9))]
    drawings = [kept(drawing(points, scale=scale, dx=dx, dy=0.1, width=8 / scale), 1)
                for points in ones for scale, dx in ((0.8, 0), (0.5, 0.1), (0.25, 0.6))]  # fmt: skip
    (path := tmp_path / "drawings.json").write_text(saved(drawings))
    assert "100.00 % of 6 drawings" in (done := ended(predict, trained, "--drawings", path)).out, done.out


def test_a_picture_is_read_and_what_the_network_saw_is_shown(trained, tmp_path):
    path = scan(tmp_path, SCANS["grey paper in shadow"]())
    done = ended(predict, trained, "--image", path)
    assert (done.status, done.err) == (0, "")
    assert "guess     7" in done.out
    lines = done.out.splitlines()[4:]
    rows = [line for line in lines if line.startswith("│")]
    assert [len(row) for row in rows] == [18] * 8
    assert set("".join(rows)) > set(" ▒│")
    assert sum(line.startswith("Ŷ ") for line in lines) == 10
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("line", ["--drawings {bad}", "--image {bad}", "--image {bad} --drawings {bad}"])
def test_what_cannot_be_read_ends_in_one_line_and_status_2(line, trained, tmp_path):
    (bad := tmp_path / "bad").write_text("nothing")
    done = ended(predict, trained, *line.format(bad=bad).split())
    assert (done.status, done.result) == (2, "")
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"loss": "<script>"}, "loss: got '<script>'"),
        ({"n": [63, 10]}, "W[1]"),
        ({"activation": 7}, "activation"),
    ],
)
def test_a_run_that_makes_no_page_is_told_in_one_line(change, why, trained, tmp_path):
    for file in trained.iterdir():
        if file.is_file():
            (tmp_path / file.name).write_bytes(file.read_bytes())
    settings = json.loads((tmp_path / "settings.json").read_text())
    (tmp_path / "settings.json").write_text(json.dumps(settings | change))
    done = ended(draw, tmp_path)
    assert (done.status, done.result) == (2, "")
    assert why in done.err
    assert done.err.count("\n") == 1
    assert not (tmp_path / "draw.html").exists()


# ——— the page

EVERY = {
    kind: sorted(name for name, value in vars(module).items() if isinstance(value, kind))
    for kind, module in ((Activation, activations), (Loss, losses))
}
NETWORKS = [
    ((64, 10), "sigmoid", "cross_entropy"),
    ((64, 7, 10), "sigmoid", "binary_cross_entropy"),
    ((64, 7, 5, 10), "gelu", "cross_entropy"),
    ((64, 5, 6, 7, 10), "tanh", "squared_error"),
]


def page_of(tmp_path, n, g, loss, dataset="digits", first=None, dtype=np.float32, white=16):
    rng = np.random.default_rng(len(n))
    params = [Dense(jnp.asarray(rng.normal(size=(n_l, n_prev)) / 3, dtype),
                    jnp.asarray(rng.normal(size=(n_l, 1)), dtype))
              for n_prev, n_l in itertools.pairwise(n)]  # fmt: skip
    side = FRAMES[dataset].side
    examples = Examples(rng.integers(0, white + 1, (6, side, side)).astype(np.uint8), np.arange(6) % n[-1])
    run = {"dataset": dataset, "n": list(n), "activation": g, "loss": loss}
    (path := tmp_path / "pad.html").write_text(
        pad(run, params, examples, white, "<b>said</b>", first), "utf-8"
    )
    return path, params, examples


LOOK = """const each = ([name, x]) => [name, [x.shape, [...x.data]]];
const plain = (all) => Object.fromEntries(Object.entries(all).map(each));
return [[...paint()], [...X.data], plain(found), plain(params)]"""


def close(got, expected):
    shape, numbers = got
    expected = np.asarray(expected)
    assert tuple(shape) == expected.shape
    assert np.abs(np.asarray(numbers) - expected.ravel()).max() <= 1e-12 * np.abs(expected).max()


@pytest.mark.parametrize(("n", "g", "loss"), NETWORKS)
def test_every_number_of_the_page_is_jaxnns(n, g, loss, browser, tmp_path, x64):
    path, params, examples = page_of(tmp_path, n, g, loss)
    browser.open(path)
    browser.js("strokes = [[[20, 25], [60, 20], [45, 90]]]; choose(4); redraw()")
    G, X, found, _ = browser.js(LOOK)
    G = jnp.asarray(G).reshape(S, S)
    close([[1, 64], X], centred(G, FRAMES["digits"]).reshape(1, -1))
    named = getattr(activations, g), getattr(losses, loss)
    params, Y = jax.tree.map(lambda p: jnp.asarray(p, jnp.float64), params), jnp.eye(10)[jnp.array([4])]
    for name, expected in jax.jit(passes(n, *named))(params, jnp.asarray([X]), Y).items():
        close(found[name], expected)
    browser.js("$('centre').click(); redraw()")
    close([[1, 64], browser.js(LOOK)[1]], uncentred(G, FRAMES["digits"]).reshape(1, -1))
    many = jnp.asarray(examples.images.reshape(6, -1) / 16), jnp.eye(10)[examples.labels]
    one = jnp.asarray([browser.js(LOOK)[1]]), Y
    for where, batch in (("one", one), ("many", many)):
        browser.js(
            "$('alpha').value = '0.3'; $('on').value = arguments[0]; redraw(); $('step').click()", where
        )
        with jax.numpy_dtype_promotion("standard"):
            descend = step(value_and_grad(mlp(*n, g=named[0]), named[1]), optimizer := optax.sgd(0.3))
            (after, _), _ = jax.jit(descend)(start(params, optimizer), *batch)
        now = browser.js(LOOK)[3]
        for l, (W, b) in enumerate(after, 1):
            close(now[f"W[{l}]"], W)
            close(now[f"b[{l}]"], b)
        browser.js("$('back').click()")
        before = browser.js(LOOK)[3]
        assert all(before[f"W[{l}]"][1] == np.ravel(W).tolist() for l, (W, _) in enumerate(params, 1))
    assert browser.errors() == []


def drag(browser, points, kind):
    """Over the pad, by mouse or finger."""
    box = browser.js(
        "$('pad').scrollIntoView({block: 'center'}); return $('pad').getBoundingClientRect().toJSON()"
    )
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
    path = [tuple(np.add(a, np.multiply(t, np.subtract(b, a)))) for a, b in itertools.pairwise(places)
            for t in np.linspace(0, 1, 9)]  # fmt: skip
    if kind == "mouse":
        for k, (x, y) in enumerate(path):
            name = "mouseMoved" if k else "mousePressed"
            browser.command(
                "Input.dispatchMouseEvent", type=name, x=x, y=y, button="left", buttons=1, clickCount=1
            )
        x, y = path[-1]
        browser.command(
            "Input.dispatchMouseEvent", type="mouseReleased", x=x, y=y, button="left", clickCount=1
        )
    else:
        for k, (x, y) in enumerate(path):
            name = "touchMove" if k else "touchStart"
            browser.command("Input.dispatchTouchEvent", type=name, touchPoints=[{"x": x, "y": y}])
        browser.command("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])


def told(browser, id, expected, seconds=5):
    """Wait until the page says so."""
    end = time.monotonic() + seconds
    while (
        said := browser.js("return $(arguments[0]).textContent", id)
    ) != expected and time.monotonic() < end:
        time.sleep(0.05)
    assert said == expected


SMALL = [(0.55 + 0.3 * x, 0.05 + 0.35 * y) for x, y in SEVEN]


def test_without_a_browser_that_starts_the_redraws_are_not_measured(trained, tmp_path, monkeypatch):
    pytest.importorskip("selenium")
    monkeypatch.setenv("PATH", str(tmp_path))
    out = tmp_path / "draw.html"
    for there in (False, True):
        done = ended(draw, trained, "--out", out, "--measure")
        assert done.status == 2
        assert ("cannot be used" if there else "expected chromium, chromedriver and selenium") in done.err
        assert done.err.count("\n") == 1
        assert out.exists() == there
        for name in ("chromium", "chromedriver"):
            (tmp_path / name).write_text("#!/bin/sh\nexit 1\n")
            (tmp_path / name).chmod(0o755)


@pytest.mark.parametrize(("kind", "width"), [("mouse", 1600), ("mouse", 800), ("touch", 390)])
def test_a_seven_that_is_small_and_off_the_middle_is_read_as_a_seven(kind, width, browser, trained):
    done = ended(draw, trained)
    assert (done.status, done.err) == (0, "")
    assert (trained / "draw.html").stat().st_size < 300_000
    browser.open(trained / "draw.html", width, dark=width == 800, still=width == 390)
    top = browser.js("return scrollY")
    drag(browser, SMALL, kind)
    told(browser, "guess", "7")
    assert browser.js("return [strokes.length, strokes[0].length > 5, scrollY === arguments[0]]", top)[
        :2
    ] == [1, True]
    browser.js("$('undo').click()")
    told(browser, "guess", "?")
    drag(browser, SMALL, kind)
    drag(browser, [(0.1, 0.9), (0.2, 0.9)], kind)
    assert browser.js("return strokes.length") == 2
    browser.js("$('clear').click()")
    told(browser, "guess", "?")
    assert browser.overflow() == 0
    assert (browser.errors(), browser.requests()) == ([], [])


@needs_mnist
def test_as_mnist_it_is_read_wherever_it_is_drawn_if_it_is_centred(browser, tmp_path):
    assert ended(train, "--dataset", "mnist", "--epochs", 5, "--out", tmp_path / "run").status == 0
    assert ended(draw, tmp_path / "run").status == 0
    assert (tmp_path / "run" / "draw.html").stat().st_size < 300_000
    browser.open(tmp_path / "run" / "draw.html")
    for scale, dx, dy in ((1, 0, 0), (0.4, 0, 0), (0.4, 0.55, 0.1), (0.5, 0.05, 0.45)):
        for points, digit in ((SEVEN, "7"), (TWO, "2"), (FORMS["one"], "1")):
            line = [[S * (scale * x + dx), S * (scale * y + dy)] for x, y in points]
            browser.js("clear(); strokes = [arguments[0]]; redraw()", line)
            told(browser, "guess", digit)
    assert browser.errors() == []


def test_by_keys_alone_a_seven_is_drawn_labelled_learnt_and_kept(browser, trained, tmp_path):
    from selenium.webdriver.common.keys import Keys

    ended(draw, trained, "--out", tmp_path / "draw.html")
    browser.open(tmp_path / "draw.html")
    browser.command("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))

    def press(*keys):
        browser.driver.switch_to.active_element.send_keys(*keys)

    def reach(id):
        for _ in range(200):
            if browser.js("return document.activeElement.id") == id:
                return
            browser.driver.switch_to.active_element.send_keys(Keys.TAB)
        raise AssertionError(f"{id} cannot be reached by keys")

    reach("pad")
    press(*[Keys.ARROW_UP] * 6, *[Keys.ARROW_LEFT] * 7, " ")
    assert browser.js("return $('told').textContent").startswith("Pen down, 30% across, 33% down")
    press(*[Keys.ARROW_RIGHT] * 14, *[Keys.END, Keys.ARROW_DOWN] * 9, " ")
    assert browser.js("return $('told').textContent").startswith("Pen up")
    told(browser, "guess", "7")
    reach("label")
    press("7")
    told(browser, "keep", "Keep as a 7")
    reach("step")
    press(" ")
    assert "Step 1, on this X: J = " in browser.js("return $('told').textContent")
    browser.driver.switch_to.active_element.send_keys(Keys.TAB)
    assert browser.js("return document.activeElement.id") == "back"
    press(" ")
    assert browser.js("return $('told').textContent") == "Back: 0 steps are left"
    browser.js("$('pad').focus()")
    reach("keep")
    press(" ")
    told(browser, "save", "Save 1 drawing")
    reach("save")
    press(" ")
    path, end = tmp_path / "drawings.json", time.monotonic() + 10
    while not path.exists() and time.monotonic() < end:
        time.sleep(0.05)
    (one,) = drawn.load(path, 10)
    assert one.label == 7
    np.testing.assert_allclose(one.ink.ravel(), browser.js(LOOK)[0], atol=1e-6)
    assert "100.00 % of 1 drawings" in ended(predict, trained, "--drawings", path).out
    assert (browser.errors(), browser.requests()) == ([], [])


def test_test_images_can_be_chosen_misread_ones_are_marked_and_learnt(browser, trained):
    ended(draw, trained)
    browser.open(trained / "draw.html")
    marked = browser.js("return [...document.querySelectorAll('.misread')].map((tile) => tile.ariaLabel)")
    assert marked
    assert all(len({*label.replace(",", "").split()} & set("0123456789")) == 2 for label in marked)
    browser.js("document.querySelector('.misread').click(); redraw()")
    label, guess = browser.js("return [label, found.guess.data[0]]")
    assert marked[0] == f"a {label}, read as {guess}"
    before = browser.js("$('on').value = 'many'; redraw(); return pass(...tests).J.data[0]")
    after = browser.js("for (let k = 0; k < 20; k++) $('step').click(); return pass(...tests).J.data[0]")
    assert after < before
    assert browser.errors() == []


def test_words_of_a_run_are_text_and_a_picture_is_on_the_pad(browser, tmp_path):
    first = jnp.asarray(drawing(TWO, S))
    path, _, _ = page_of(tmp_path, (784, 3, 4, 10), "relu", "cross_entropy", "mnist", first)
    browser.open(path, 390)
    assert "<b>said</b>" in browser.js("return document.body.textContent")
    G, *_ = browser.js(LOOK)
    np.testing.assert_allclose(np.reshape(G, (S, S)), first, atol=1 / 255)
    assert browser.js("return $('clear').click(), paint().some((x) => x)") is False
    assert browser.overflow() == 0
    assert browser.errors() == []


def test_the_equations_are_shown_with_their_numbers(browser, tmp_path):
    path, *_ = page_of(tmp_path, *NETWORKS[2])
    browser.open(path)
    browser.js(
        "strokes = [[[20, 25], [60, 20], [45, 90]]]; choose(4); chosen[1] = 2; chosen[2] = 3; redraw()"
    )
    rows = browser.js(
        "return [...$('sums').rows].map((row) => [...row.cells].map((cell) => cell.textContent))"
    )
    found = browser.js(LOOK)[2]

    def number(text):
        return float(text.rpartition("= ")[2].replace("−", "-"))

    entries = {
        "Z[1]": 2,
        "A[2]": 3,
        "Z[3]": 4,
        "J": 0,
        "dZ[3]": 4,
        "dA[1]": 2,
        "db[2]": 3,
        "dW[3]": 4 * 5 + 3,
    }
    said = {equation.partition(" =")[0]: (shape, numbers) for equation, shape, numbers in rows}
    assert len(said) == 3 * 5 + 2 + 1
    for name, k in entries.items():
        assert said[name][0] == f"({', '.join(map(str, found[name][0]))})"
        assert number(said[name][1]) == pytest.approx(found[name][1][k], rel=1e-2)
    assert [row[0].partition(" =")[0] for row in rows][:7] == [
        "Z[1]",
        "A[1]",
        "Z[2]",
        "A[2]",
        "Z[3]",
        "A[3]",
        "J",
    ]
    assert "gelu(" in said["A[1]"][1]


@pytest.mark.parametrize(("n", "g", "loss"), NETWORKS[1:])
def test_of_J_one_term_is_shown_and_that_there_are_others(n, g, loss, browser, tmp_path):
    path, *_ = page_of(tmp_path, n, g, loss)
    browser.open(path)
    browser.js("strokes = [[[20, 25], [60, 20], [45, 90]]]; choose(4); redraw()")
    J = "return $('sums').querySelector('.J').parentElement.cells[2].textContent"
    text, Y_hat = browser.js(J), browser.js("return [...found['A[' + L + ']'].data]")
    factor, inner, total = re.fullmatch(r"(−?1/1) \(… \+ (.*) \+ …\) = (.*)", text).groups()
    terms = {
        "binary_cross_entropy": lambda y, t: t * math.log(y) + (1 - t) * math.log(1 - y),
        "cross_entropy": lambda y, t: t * math.log(y) if t else 0,
        "squared_error": lambda y, t: (y - t) ** 2 / 2,
    }
    sign = -1 if factor[0] == "−" else 1
    whole = sign * sum(terms[loss](y, k == 4) for k, y in enumerate(Y_hat))
    assert float(total.replace("−", "-")) == pytest.approx(whole, rel=1e-4)
    formula = inner.replace("−", "-").replace("[", "(").replace("]", ")").replace("½ ", "1/2*")
    formula = re.sub(r"(\d) log", r"\1*log", formula.replace(") log", ")*log")).replace(")²", ")**2")
    one = eval(re.sub(r"log ([\d.e-]+)", r"log(\1)", formula), {"log": math.log})
    assert one == pytest.approx(terms[loss](Y_hat[4], 1), rel=1e-3)


def test_images_are_those_that_the_network_was_trained_on(browser, tmp_path):
    """Divided in float32, as `flatten` does, where that rounds."""
    path, _, examples = page_of(tmp_path, (784, 3, 10), "tanh", "squared_error", "mnist", white=255)
    browser.open(path)
    browser.js("$('strip').children[1].click(); redraw()")
    assert browser.js("return [...X.data]") == flatten(jnp.asarray(examples.images), 255)[1].tolist()


def test_a_step_too_far_can_be_taken_back(browser, tmp_path):
    path, *_ = page_of(tmp_path, (64, 7, 10), "relu", "squared_error")
    browser.open(path)
    browser.js("strokes = [[[20, 25], [60, 20], [45, 90]]]; choose(4); $('alpha').value = '1e200'; redraw()")
    before = browser.js(LOOK)[2]
    browser.js("for (let k = 0; k < 3; k++) { $('step').click(); redraw(); }")
    assert not browser.js("return [...found['A[2]'].data].every(Number.isFinite)")
    for _ in range(3):
        assert browser.js("return !$('back').disabled")
        browser.js("$('back').click(); redraw()")
    assert browser.js(LOOK)[2] == before
    assert browser.errors() == []


def test_both_sides_of_an_equation_are_the_same(browser, tmp_path):
    path, *_ = page_of(tmp_path, *NETWORKS[3])
    browser.open(path)
    browser.js(
        "strokes = [[[20, 25], [60, 20], [45, 90]]]; choose(4); chosen[1] = 2; chosen[3] = 3; redraw()"
    )
    cells = "return [...$('sums').rows].map((row) => [...row.cells].map((cell) => cell.textContent))"
    rows = {equation: text for equation, _, text in browser.js(cells)}
    tried = 0
    for equation, text in rows.items():
        if "…" in text or "tanh(" in text or "= " not in text:
            continue
        left, _, right = text.replace("−", "-").replace("·", "*").replace("²", "**2").rpartition(" = ")
        assert eval(left.replace("1/1 (", "1/1*(")) == pytest.approx(float(right), rel=1e-3), equation
        tried += 1
    assert tried >= 6


@pytest.mark.parametrize("showing", ["W", "⊙", "dW"])
def test_each_neuron_shows_its_own_row_as_an_image(showing, browser, tmp_path):
    path, *_ = page_of(tmp_path, (64, 7, 10), "sigmoid", "binary_cross_entropy")
    browser.open(path)
    browser.js("strokes = [[[20, 25], [60, 20], [45, 90]]]; choose(4)")
    browser.js("document.querySelector(`.shown[value='${arguments[0]}']`).click(); redraw()", showing)
    _, _, found, params = browser.js(LOOK)
    _, numbers = {"W": params["W[1]"], "⊙": found.get("A[0] ⊙ W[1]"), "dW": found.get("dW[1]")}[showing]
    rows = np.reshape(numbers, (7, 8, 8))
    for j in (0, 2, 6):
        image = "return [...$('layer1').children[arguments[0]].querySelector('canvas').getContext('2d')"
        seen = np.reshape(browser.js(f"{image}.getImageData(0, 0, 8, 8).data]", j), (8, 8, 4))[..., :3]
        most = np.abs(rows[j] if showing == "W" else rows).max()
        assert np.abs(seen - pixels(rows[j] / most).astype(int)).max() <= 4, "of 60 shades"


def test_clear_takes_the_label_along(browser, tmp_path):
    path, *_ = page_of(tmp_path, *NETWORKS[1])
    browser.open(path)
    label = "redraw(); return [label, $('label').value, $('keep').textContent, $('cost').textContent]"
    browser.js("draw([20, 25], true); draw([60, 90]); choose(7); redraw()")
    assert browser.js(label)[:3] == [7, "7", "Keep as a 7"]
    browser.js("$('clear').click(); draw([50, 20], true); draw([50, 90])")
    assert browser.js(label) == [None, "", "Keep", ""]
    browser.js("$('strip').children[3].click()")
    assert browser.js(label)[0] == 3
    browser.js("draw([50, 20], true); draw([50, 90])")
    assert browser.js(label) == [None, "", "Keep", ""]
    assert browser.errors() == []


def test_a_redraw_computes_what_is_shown(browser, tmp_path):
    path, *_ = page_of(tmp_path, *NETWORKS[1])
    browser.open(path)
    lines = [["t1", "exp", ["x"], []], ["t2", "unknown", ["t1"], []], ["t3", "neg", ["t1"], []]]
    program = {"lines": lines, "outputs": {"y": "t3", "z": "t2"}}
    run = "return run(arguments[0], { x: array([], [0]) }, arguments[1]).y.data[0]"
    assert browser.js(run, program, ["y"]) == -1
    browser.js("strokes = [[[20, 25], [60, 20], [45, 90]]]; redraw()")
    forward = {"A[0]", "Z[1]", "A[1]", "Z[2]", "A[2]", "guess"}
    computed = "redraw(); return Object.keys(found)"
    assert set(browser.js(computed)) == forward
    browser.js("document.querySelector('.shown[value=⊙]').click()")
    assert set(browser.js(computed)) == forward | {"A[0] ⊙ W[1]", "A[1] ⊙ W[2]"}
    browser.js("document.querySelector('.shown[value=dW]').click()")
    assert set(browser.js(computed)) == forward
    browser.js("choose(4)")
    backward = {f"{x}[{l}]" for x in ("dZ", "dW", "db") for l in (1, 2)} | {"J", "dA[1]"}
    assert set(browser.js(computed)) == forward | backward
    assert browser.errors() == []


def test_parameters_in_float64_are_in_the_page_as_they_are(browser, tmp_path, x64):
    path, params, _ = page_of(tmp_path, *NETWORKS[1], dtype=np.float64)
    browser.open(path)
    now = browser.js(LOOK)[3]
    for l, (W, b) in enumerate(params, 1):
        assert W.dtype == np.float64
        assert (now[f"W[{l}]"][1], now[f"b[{l}]"][1]) == (np.ravel(W).tolist(), np.ravel(b).tolist())


@pytest.mark.parametrize(
    ("hash", "given"), [("#4", 3), ("#1", 0), ("#7", None), ("#length", None), ("", None)]
)
def test_an_address_can_choose_a_test_image(hash, given, browser, tmp_path):
    path, *_ = page_of(tmp_path, *NETWORKS[1])
    browser.driver.get("about:blank")
    browser.driver.get(path.as_uri() + hash)
    assert browser.js("redraw(); return [given, label]") == [given, given]
    assert browser.errors() == []


def test_by_keys_images_and_neurons_are_one_stop_each(browser, tmp_path):
    from selenium.webdriver.common.keys import Keys

    path, *_ = page_of(tmp_path, *NETWORKS[2])
    browser.open(path)
    press = lambda *keys: browser.driver.switch_to.active_element.send_keys(*keys)  # noqa: E731
    browser.js("$('pad').focus()")
    for _ in range(12):  # three buttons, images, three more, three layers, the label
        press(Keys.TAB)
        if browser.js("return document.activeElement.id") == "label":
            break
    assert browser.js("return document.activeElement.id") == "label"
    browser.js("$('layer2').children[0].focus()")
    press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    press(Keys.ARROW_RIGHT)
    press(Keys.ARROW_LEFT, " ")
    stops = browser.js("return [...$('layer2').children].map((tile) => tile.tabIndex === 0)")
    assert sum(stops) == 1
    assert browser.js("return $('layer2').children[2] === document.activeElement")
    assert browser.js("return chosen[2]") == stops.index(True) == 2
    assert browser.errors() == []


CONTRASTS = """const lum = (rgb) => { const [r, g, b] = rgb.map((x) => x <= 0.03928 ? x / 12.92 :
  ((x + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
const rgba = (text) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = text; canvas.fillRect(0, 0, 1, 1);
  return [...canvas.getImageData(0, 0, 1, 1).data].map((x) => x / 255); };
const ground = (node) => { for (; node; node = node.parentElement) {
  const found = rgba(getComputedStyle(node).backgroundColor);
  if (found[3] === 1) return found.slice(0, 3); } };
return [...document.querySelectorAll("main *")].filter((node) => node.checkVisibility() && !node.disabled &&
  [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim())).map((node) => {
  const [a, b] = [rgba(getComputedStyle(node).color).slice(0, 3), ground(node)].map(lum);
  const [low, high] = [Math.min(a, b), Math.max(a, b)];
  return [(high + 0.05) / (low + 0.05), node.className, node.textContent.slice(0, 40)]; });"""


@pytest.mark.parametrize("dark", [False, True])
def test_every_text_stands_out_from_its_ground(dark, browser, tmp_path):
    path, *_ = page_of(tmp_path, *NETWORKS[1])
    browser.open(path, dark=dark)
    browser.js("strokes = [[[20, 25], [60, 20], [45, 90]]]; choose(4); redraw(); $('step').click(); redraw()")
    found = browser.js(CONTRASTS)
    assert len(found) > 100
    assert min(found)[0] >= 4.5, min(found)
    assert browser.js("return document.querySelectorAll('.guessed').length") == 1
