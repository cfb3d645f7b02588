"""The graph of the lecture's networks: all of it is there, its numbers are right, its forms can be read."""

import functools
import hashlib
import io
import itertools
import math
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET

import jax
import jax.numpy as jnp
import matplotlib.image
import numpy as np
import pytest
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from experiments import graph
from jaxnn.layers import mlp
from jaxnn.objective import cost
from jaxnn.runs import record
from jaxnn.seeing.graphs.drawing import Shape, Words, drawing
from jaxnn.seeing.graphs.layered import beside, sizes_of
from jaxnn.seeing.graphs.network import network, numbers
from jaxnn.seeing.graphs.png import png
from jaxnn.seeing.graphs.scene import Box, Edge, Node, Placed, Scene
from jaxnn.seeing.graphs.svg import svg
from jaxnn.seeing.graphs.text import listing, text
from tests.programs import ROOT, ended
from tests.seeing import student
from tests.test_activations import ACTIVATIONS
from tests.test_losses import LOSSES

SIZES = (3072, 1024, 512, 256, 128, 64, 10)
SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = "</title><script>alert(1)</script> & \"'>\x00\ud800 $x_1$ <![CDATA[ ]]> 漢字"


def some_arrays(n, rng, scale=1.0) -> dict:
    """Arrays of one example, that need not belong together."""
    shapes = {"A[0]": (1, n[0]), "Y": (1, n[-1]), "J": ()}
    for l in range(1, len(n)):
        shapes |= {f"{name}[{l}]": (n[l], n[l - 1]) for name in ("W", "dW")}
        shapes |= {f"{name}[{l}]": (n[l], 1) for name in ("b", "db")}
        shapes |= {f"{name}[{l}]": (1, n[l]) for name in ("Z", "A", "dZ", "dA")}
    return {name: rng.normal(size=shape) * scale for name, shape in shapes.items()}


def drawn(depth=2, activation="sigmoid", loss="binary_cross_entropy", **more) -> Placed:
    n = (*(16, 7, 5, 6, 4, 8, 3)[:depth], 3)
    return network(n, activation, loss, some_arrays(n, np.random.default_rng(depth)), **more)


PAIRS = [(name, [*LOSSES][k % len(LOSSES)]) for k, name in enumerate(ACTIVATIONS)]


@pytest.mark.parametrize(
    ("depth", "activation", "loss"), [(1, "gelu", "cross_entropy"), (3, "sigmoid", "binary_cross_entropy")]
)
def test_the_numbers_are_those_of_autodiff(depth, activation, loss, x64):
    n = (*(9, 5, 4, 7, 3)[:depth], 2)
    g, the_loss, rng = ACTIVATIONS[activation], LOSSES[loss], np.random.default_rng(depth)
    net = mlp(*n, g=g)
    shapes = jax.eval_shape(net.init, jax.random.key(0))
    params = jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape)), shapes)
    X, Y = jnp.asarray(rng.normal(size=(1, 9))), jnp.asarray(np.eye(2)[[1]])
    arrays = jax.jit(lambda *point: numbers(n, g, the_loss, *point))(params, X, Y)
    placed = network(n, activation, loss, arrays)
    value = {node.id: node.value for node in placed.scene.nodes}
    J, grads = jax.jit(jax.value_and_grad(cost(net, the_loss)))(params, X, Y)
    np.testing.assert_allclose(value["J"], J, rtol=1e-12)
    for l, (p, d) in enumerate(zip(params, grads, strict=True), 1):
        np.testing.assert_array_equal(value[f"W[{l}]"].reshape(p.W.shape), p.W)
        np.testing.assert_array_equal(value[f"b[{l}]"], p.b[:, 0])
        for name, expected in ((f"dW[{l}]", d.W), (f"db[{l}]", d.b[:, 0])):
            scale = float(jnp.abs(expected).max())
            np.testing.assert_allclose(
                value[name].reshape(expected.shape), expected, rtol=1e-12, atol=1e-12 * scale
            )


def test_of_several_examples_the_first_is_shown():
    arrays = {"Z[1]": np.arange(6.0).reshape(3, 2), "A[0]": np.arange(15.0).reshape(3, 5)}
    nodes = {node.id: node for node in network((5, 2), "tanh", "squared_error", arrays).scene.nodes}
    assert nodes["Z[1]"].value.tolist() == [0, 1]
    assert nodes["A[0]"].value.tolist() == [0, 1, 2, 3, 4]


def shapes_of(value) -> list[Shape]:
    node = Node("v", "forward", "v", "()", value=value)
    placed = Placed(Scene("one", (node,), ()), (Box(20, 10, 160, 120),), (), 200, 140)
    return [mark for mark in drawing(placed)[0] if isinstance(mark, Shape)]


def test_bars_stand_up_where_numbers_are_positive_and_hang_down_where_they_are_not():
    (bars,) = (s for s in shapes_of(np.array([3.0, -1.0])) if s.fill == "forward" and not s.title)
    (_, (start,)), (_, points) = bars.path
    tops = sorted({y for _, y in points} - {start[1]})
    assert tops[0] < start[1] < tops[1], "y goes down"
    assert start[1] - tops[0] == pytest.approx(3 * (tops[1] - start[1]))


def test_a_number_is_told_where_it_stands():
    spots = {
        s.title: s.path[0][1][0] for s in shapes_of(np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])) if s.title
    }
    assert spots["v 0, 2: 3.0"][0] > spots["v 0, 1: 2.0"][0], "columns go right"
    assert spots["v 1, 0: 4.0"][1] > spots["v 0, 0: 1.0"][1], "rows go down"


@pytest.mark.parametrize("depth", range(1, 7))
def test_everything_of_the_lecture_is_there_with_its_shape(depth):
    n = (*SIZES[:depth], 10)
    found = {node.id: node.shape for node in network(n, "relu", "cross_entropy", {}).scene.nodes}
    expected = {"A[0]": f"(N, {n[0]})", "Y": "(N, 10)", "J": "()"}
    for l in range(1, depth + 1):
        expected |= {f"{d}W[{l}]": f"({n[l]}, {n[l - 1]})" for d in ("", "d")}
        expected |= {f"{d}b[{l}]": f"({n[l]}, 1)" for d in ("", "d")}
        expected |= {f"{name}[{l}]": f"(N, {n[l]})" for name in ("Z", "A", "dZ", "dA")}
    del expected[f"dA[{depth}]"]  # it starts at the loss, with dZ[L]
    assert found == expected
    assert network(n, "relu", "cross_entropy", {}, N=32).scene.nodes[0].shape == f"(32, {n[0]})"


def test_the_edges_of_two_layers():
    edges = {(e.tail, e.head): e.kind for e in network((3, 5, 2), "sigmoid", "cross_entropy", {}).scene.edges}
    by_kind = {
        kind: sorted(f"{a} {b}" for (a, b), k in edges.items() if k == kind) for kind in {*edges.values()}
    }
    assert by_kind == {
        "forward": ["A[0] Z[1]", "A[1] Z[2]", "A[2] J", "Y J", "Z[1] A[1]", "Z[2] A[2]"],
        "parameter": ["W[1] Z[1]", "W[2] Z[2]", "b[1] Z[1]", "b[2] Z[2]"],
        "backward": ["J dZ[2]", "dA[1] dZ[1]", "dZ[2] dA[1]"],
        "gradient": ["dZ[1] dW[1]", "dZ[1] db[1]", "dZ[2] dW[2]", "dZ[2] db[2]"],
        "kept": ["A[0] dW[1]", "A[1] dW[2]", "A[1] dZ[1]", "A[2] dZ[2]", "W[2] dA[1]", "Y dZ[2]"],
    }


def inside(box: Box, p, q) -> bool:
    """Whether a level or upright line from p to q goes through a box."""
    (x0, x1), (y0, y1) = (sorted(pair) for pair in zip(p, q, strict=True))
    return (
        x1 > box.x + 0.1
        and x0 < box.x + box.width - 0.1
        and y1 > box.y + 0.1
        and y0 < box.y + box.height - 0.1
    )


@pytest.mark.parametrize(
    ("depth", "activation"), [(1, "gelu"), (2, "sigmoid"), (4, "tanh"), (6, "leaky_relu")]
)
def test_nothing_is_drawn_over_anything(depth, activation):
    placed = drawn(depth, activation)
    for a, b in itertools.combinations(placed.boxes, 2):
        apart_x, apart_y = (
            max(a.x, b.x) - min(a.x + a.width, b.x + b.width),
            max(a.y, b.y) - min(a.y + a.height, b.y + b.height),
        )
        assert max(apart_x, apart_y) >= 8
    for box in placed.boxes:
        assert box.x >= 8
        assert box.y >= 8
        assert box.x + box.width <= placed.width - 8
        assert box.y + box.height <= placed.height - 8
    at = dict(zip((node.id for node in placed.scene.nodes), placed.boxes, strict=True))
    for edge, route in zip(placed.scene.edges, placed.routes, strict=True):
        for p, q in itertools.pairwise(route):
            assert p[0] == q[0] or p[1] == q[1], edge
            assert not any(inside(box, p, q) for box in placed.boxes), edge
        for end, box in ((route[0], at[edge.tail]), (route[-1], at[edge.head])):
            assert end[0] in (box.x, box.x + box.width) or end[1] in (box.y, box.y + box.height), edge


FONTS = {
    "plain": FontProperties(family="DejaVu Sans"),
    "bold": FontProperties(family="DejaVu Sans", weight="bold"),
    "mono": FontProperties(family="DejaVu Sans Mono"),
}


def true_width(words: Words) -> float:
    """In the font that is asked for; what is raised is smaller still."""
    font = FONTS[words.font].copy()
    font.set_size(words.size)
    return text_to_path.get_text_width_height_descent(words.text, font, ismath=False)[0]


@pytest.mark.parametrize(("activation", "loss"), PAIRS)
def test_text_is_inside_its_frame_and_large_enough(activation, loss):
    n = (1_000_000, 1024, 10)
    placed = network(n, activation, loss, {"J": np.array(12.5)})
    marks, _, _ = drawing(placed)
    down = next(m.at[1] for m in marks if isinstance(m, Words) and m.text == "W[1]") - 17 - placed.boxes[1].y
    seen = 0
    for box in placed.boxes:
        for words in (m for m in marks if isinstance(m, Words) and m.middle):
            x, y = words.at
            if box.x < x < box.x + box.width and box.y < y - down < box.y + box.height:
                assert true_width(words) <= box.width - 2, words.text
                assert words.size >= 7, words.text
                seen += 1
    assert seen > 2 * len(placed.boxes)


@pytest.mark.parametrize(
    ("depth", "activation", "loss"), [(1 + k % 6, *pair) for k, pair in enumerate([*PAIRS, *PAIRS[::-1]])]
)
def test_the_text_has_at_most_80_columns(depth, activation, loss):
    rng = np.random.default_rng(depth)
    for n, scale in (((*SIZES[:depth], 10), -1.2345e-200), ((*(784, 17, 10, 5, 4, 3)[:depth], 2), 1.0)):
        small = some_arrays([min(size, 12) for size in n], rng, scale)
        small |= {"A[0]": np.zeros((1, n[0])), "W[1]": np.zeros((12, n[0])), "dW[1]": np.zeros((12, n[0]))}
        mark = {"dW[1]": "The whole gradient is N times too large: the 1/N of the mean is missing"}
        said = text(network(n, activation, loss, small, marks=mark).scene)
        assert max(map(len, said.splitlines())) <= 80
        for l in range(1, depth + 1):
            for name in ("Z", "A", "dZ", "dW", "db"):
                assert f"{name}[{l}] = " in said
            assert f"({n[l]}, {n[l - 1]})" in said
        assert f"J = {small['J']:.6g} " in said
        assert "✗ The whole" in said


def test_any_scene_is_listed_in_80_columns():
    nodes = (
        Node("a", "input", "x" * 100, "(2, 3)", unused=True),
        Node("b", "forward", "y = a" + " + a" * 60, "(3,)", mark="wrong here", output=True),
    )
    said = listing(Scene("t" * 300, nodes, (Edge("a", "b", "forward"),)))
    assert max(map(len, said.splitlines())) <= 80
    assert "never used" in said
    assert "from 1 · result · ✗ wrong here" in " ".join(said.split())


@pytest.mark.parametrize("depth", [1, 2, 6])
def test_an_svg_is_sound_and_says_every_number_exactly(depth):
    placed = drawn(depth)
    root = ET.fromstring(svg(placed))
    assert root.get("role") == "img"
    assert root.find(f"{SVG}title").text == f"Compute graph: {placed.scene.title}"
    assert "Z[1] = A[0] W[1]ᵀ + b[1]ᵀ · (N, " in root.find(f"{SVG}desc").text
    assert not [part for part in root.iter() if part.get("id")]
    for part in root.iter():
        assert all(name.startswith("jg") for name in part.get("class", "").split())
    said = [part.text for part in root.iter(f"{SVG}title")]
    for node in placed.scene.nodes:
        value = node.value[:3] if node.value.ndim == 3 else node.value
        for at, number in np.ndenumerate(value) if value.size <= 200 and value.ndim else ():
            place = f"{at[0]}, {at[1]}, {at[2]}" if value.ndim == 3 else ", ".join(map(str, at))
            assert f"{node.title} {place}: {float(number)!r}" in said
    assert f"J = {float(next(node.value for node in placed.scene.nodes if node.id == 'J'))!r}" in said


def test_the_lecture_s_network_makes_a_small_file():
    n = (784, 17, 10)
    found = svg(network(n, "sigmoid", "binary_cross_entropy", some_arrays(n, np.random.default_rng(0))))
    assert len(found.encode()) < 100_000


def pictures() -> bytes:
    """Of a network, of a function and of its gradient, in every form."""
    places = [f"{student.__file__}:{name}" for name in ("loss", "arguments", "gradient")]
    asked = graph.parser().parse_args([*places[:2], "--gradient", places[2], "--argnums", "0,1,2,3"])
    function = functools.reduce(beside, graph.of_function(asked))
    return svg(drawn()).encode() + png(drawn()) + svg(function).encode() + listing(function.scene).encode()


def test_the_same_bytes_in_each_process():
    code = """
import hashlib
from tests.seeing.test_graph import pictures
print(hashlib.sha256(pictures()).hexdigest())
"""
    there = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | {"PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert there.stdout.strip() == hashlib.sha256(pictures()).hexdigest()


def test_what_is_wrong_is_said_by_colour_sign_and_words():
    words = "The whole gradient is N times too large"
    plain, marked = drawn(), drawn(marks={"dW[2]": words})
    assert "✗" not in svg(plain)
    root = ET.fromstring(svg(marked))
    texts = ["".join(part.itertext()) for part in root.iter(f"{SVG}text")]
    assert "✗" in texts
    assert f"✗ dW[2]: {words}" in texts
    assert sum("jg-line-wrong" in part.get("class", "") for part in root.iter()) == 1


def test_hostile_names_are_text():
    nodes = (
        Node("a", "input", HOSTILE, HOSTILE, note=HOSTILE, unused=True),
        Node(
            "b", "forward", HOSTILE, "()", HOSTILE, np.array([np.nan, np.inf]), HOSTILE, HOSTILE, output=True
        ),
    )
    sizes = sizes_of(Scene("", nodes, ()))
    boxes = tuple(Box(20, 20 + 100 * k, w, h) for k, (w, h) in enumerate(sizes))
    for letters in (True, False):
        scene = Scene(HOSTILE, nodes, (Edge("a", "b", "kept"),), letters)
        placed = Placed(scene, boxes, (((40, 70), (45, 90), (40, 120)),), 200, 200)
        root = ET.fromstring(svg(placed))
        assert not [part for part in root.iter() if "script" in part.tag]
        shown = HOSTILE.replace("\x00", "\ufffd").replace("\ud800", "\ufffd")
        assert any(part.text == shown for part in root.iter(f"{SVG}title"))
        assert png(placed)[:4] == b"\x89PNG"


def test_a_png_can_be_read():
    placed = drawn()
    pixels = matplotlib.image.imread(io.BytesIO(png(placed)), format="png")
    _, width, height = drawing(placed)
    assert pixels.shape[:2] == (math.floor(2 * height), math.floor(2 * width))
    assert len(np.unique(pixels[::9, ::9].reshape(-1, pixels.shape[2]), axis=0)) > 20


@pytest.fixture(scope="module")
def a_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("a_run")
    settings = {"dataset": "digits", "n": [64, 7, 10], "activation": "tanh", "loss": "cross_entropy"}
    record.create(folder, settings, [{"test_accuracy": 0.5}])
    record.save_params(
        folder / "params.safetensors", mlp(64, 7, 10, g=ACTIVATIONS["tanh"]).init(jax.random.key(3))
    )
    return folder


def test_the_program_draws_a_network_and_a_run(a_run, tmp_path):
    first = ended(graph, "--hidden", 5, 4, "--activation", "leaky_relu", "--example", 2)
    assert first.status == 0, first.err
    assert first.result.startswith("64-5-4-10, leaky_relu, binary_cross_entropy: test image 2 of digits")
    assert max(map(len, first.result.splitlines())) <= 80
    for suffix, begin in ((".svg", b"<svg"), (".png", b"\x89PNG"), (".txt", b"64-7-10, tanh, cross_entropy")):
        file = tmp_path / f"graph{suffix}"
        done = ended(graph, a_run, "--out", file)
        assert (done.status, done.out.splitlines()[1:]) == (0, [f"wrote {file}"]), done.err
        assert file.read_bytes().startswith(begin)
    shown = ET.fromstring((tmp_path / "graph.svg").read_text(encoding="utf-8"))
    W = record.load_params(a_run / "params.safetensors", (64, 7, 10))[1].W
    said = {part.text for part in shown.iter(f"{SVG}title")}
    assert f"W[2] 4, 6: {float(W[4, 6])!r}" in said


def with_settings(folder, **settings):
    known = {"dataset": "digits", "n": [64, 7, 10], "activation": "tanh", "loss": "cross_entropy"}
    record.create(folder, known | settings, [{"test_accuracy": 0.5}])
    return folder


def test_the_program_says_in_a_line_what_is_wrong(a_run, tmp_path):
    n = [9, 7, 10]
    small = with_settings(tmp_path / "small", n=n)
    record.save_params(small / "params.safetensors", mlp(*n, g=ACTIVATIONS["tanh"]).init(jax.random.key(0)))
    other = with_settings(tmp_path / "loss", loss="hinge")
    shutil.copy(a_run / "params.safetensors", other)
    cases = {
        "ends in .svg, .png, .txt": ["--out", tmp_path / "graph.pdf"],
        "expected a file in a folder that is there": ["--out", tmp_path / "nowhere" / "graph.svg"],
        "got '/dev/null', expected a file": ["--out", "/dev/null"],
        "got '', expected the name of a folder": [""],
        "--argnums: got '--'": ["--argnums=--"],
        "no such file": [tmp_path / "none"],
        "loss: got 'hinge', expected one of": [other],
        "this training did not finish": [with_settings(tmp_path / "unfinished")],
        "expected 64 inputs and 10 outputs": [small],
        "--example: got 359": [a_run, "--example", 359],
        "--activation: a run has its own": [a_run, "--activation", "relu"],
        "expected one folder": [a_run, a_run, a_run],
    }
    for words, arguments in cases.items():
        out = tmp_path / "graph.svg"
        done = ended(graph, *arguments, *([] if "--out" in arguments else ["--out", out]))
        assert done.status == 2, (words, done)
        assert words in done.err
        assert done.err.count("\n") == 1
        assert not out.exists()
