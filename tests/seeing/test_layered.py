"""Pictures of any graph: nothing overlaps, no line goes through a box, everything flows down."""

import itertools
import random

import numpy as np
import pytest

from jaxnn.seeing.graphs.layered import beside, placed, sizes_of
from jaxnn.seeing.graphs.scene import Edge, Node, Placed, Scene


def scene_of(pairs, n: int, title: str = "") -> Scene:
    nodes = tuple(Node(f"v{k}", "forward", f"step {k} <&\"'" * (1 + k % 5), "(2, 3)") for k in range(n))
    return Scene(title, nodes, tuple(Edge(f"v{a}", f"v{b}", "forward") for a, b in pairs))


def some_graph(seed: int) -> Scene:
    """20 to 80 nodes, numbered from above; of every second graph some nodes are read by many."""
    rng = random.Random(seed)
    n = rng.randint(20, 80)
    hubs = rng.sample(range(n // 2), 3) if seed % 2 else []
    pairs = [(rng.randrange(max(0, b - 12), b), b) for b in range(1, n) for _ in range(rng.randint(0, 3))]
    pairs += [(a, b) for a in hubs for b in range(a + 1, n) if rng.random() < 0.2]
    return scene_of(dict.fromkeys(pairs), n)


def on_the_way(p, q):
    """Points of the line from p to q."""
    return np.linspace(p, q, 17)


def assert_readable(picture: Placed):
    boxes = dict(zip((node.id for node in picture.scene.nodes), picture.boxes, strict=True))
    corners = np.array(picture.boxes).reshape(-1, 4)
    left, top, right, bottom = *corners[:, :2].T, *(corners[:, :2] + corners[:, 2:]).T
    wide = (left < right[:, None]) & (left[:, None] < right)
    high = (top < bottom[:, None]) & (top[:, None] < bottom)
    assert (wide & high).sum() == len(corners), "boxes overlap"
    for edge, route in zip(picture.scene.edges, picture.routes, strict=True):
        tail, head = boxes[edge.tail], boxes[edge.head]
        others = np.array([id not in edge[:2] for id in boxes])
        assert route[0] == pytest.approx((tail.x + tail.width / 2, tail.y + tail.height), abs=0.2)
        assert route[-1] == pytest.approx((head.x + head.width / 2, head.y), abs=0.2)
        for p, q in itertools.pairwise(route):
            assert p[1] < q[1], "everything flows down"
            x, y = on_the_way(p, q).T[..., None]
            assert ((x > 0) & (x < picture.width)).all()
            assert not ((left < x) & (x < right) & (top < y) & (y < bottom) & others).any(), edge
    for box in picture.boxes:
        assert box.x >= 0
        assert box.y >= 0
        assert box.x + box.width <= picture.width
        assert box.y + box.height <= picture.height


@pytest.mark.parametrize("seed", range(6))
def test_nothing_overlaps_and_lines_go_round_boxes(seed):
    scene = some_graph(seed)
    picture = placed(scene, sizes_of(scene))
    assert picture.scene == scene
    assert [(box.width, box.height) for box in picture.boxes] == sizes_of(scene)
    assert_readable(picture)
    assert picture == placed(scene, sizes_of(scene))


def test_a_long_line_stands_between_boxes_of_its_layers():
    """From the first to the last of a chain, past one that is as wide as it can be."""
    scene = scene_of([(0, 1), (1, 2), (2, 3), (0, 3)], 4)
    picture = placed(scene, [(60, 40), (60, 90), (900, 40), (60, 40)])
    assert_readable(picture)
    assert len(picture.routes[3]) == 4
    assert [len(route) for route in picture.routes[:3]] == [2, 2, 2]


def test_what_is_given_stands_above_its_first_use():
    scene = scene_of([(0, 2), (2, 3), (3, 4), (1, 4)], 5)
    boxes = placed(scene, sizes_of(scene)).boxes
    assert boxes[0].y < boxes[1].y
    assert boxes[1].y + boxes[1].height / 2 == boxes[3].y + boxes[3].height / 2


@pytest.mark.parametrize("n", [0, 1, 3])
def test_few_nodes_and_no_lines(n):
    picture = placed(scene_of([], n), [(60, 40)] * n)
    assert_readable(picture)
    assert picture.width > 0


def test_two_pictures_stand_side_by_side():
    left, right = (
        placed(scene, sizes_of(scene)) for scene in (some_graph(1), scene_of([(0, 1)], 2, "the other"))
    )
    both = beside(left, right)
    assert_readable(both)
    assert len({node.id for node in both.scene.nodes}) == len(left.boxes) + 2
    assert min(box.x for box in both.boxes[len(left.boxes) :]) > left.width
    assert both.scene.title == "; the other"
