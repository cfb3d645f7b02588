"""The lecture says all that it has to, and wrong answers are told apart."""

import ast
import contextlib
import doctest
import html
import html.parser
import itertools
import json
import math
import os
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import lecture as program
from experiments.lesson import byhand
from experiments.lesson import screens as lesson
from experiments.lesson.screens import TWO, Screen, asked, missed, screens
from experiments.lesson.screens import html as page_of
from jaxnn import datasets
from jaxnn.activations import sigmoid
from jaxnn.layers import Dense, mlp
from jaxnn.losses import binary_cross_entropy
from jaxnn.objective import cost, value_and_grad
from tests.programs import ended, run

SOURCE = os.environ.get("JAXNN_SOURCE_DIR")
needs_mnist = pytest.mark.skipif(
    not SOURCE or not os.path.isdir(os.path.join(SOURCE, "mnist")),
    reason="JAXNN_SOURCE_DIR names no folder with mnist/ in it",
)

# What the lecture says, row by row, and of what shape; N, n0, height and width are those of the data set.
ROWS = {
    "1 neuron": ["z = X wᵀ + b", "ŷ = σ(z)", "X (N, n_x)", "w (1, n_x)", "b (1, 1)", "ŷ (N, 1)"],
    "2 X": ["({N}, {height}, {width}) to ({N}, {n0})", "X has the shape ({N}, {n0})", "flattened"],
    "3 Y": ["one-hot", "Y has the shape ({N}, 10)"],
    "4 W, b": ["W[l] is (n[l], n[l-1]) and b[l] is (n[l], 1)"],
    "5 Z": ["Z[l] = A[l-1] W[l]ᵀ + b[l]ᵀ", "Z[l] and A[l] are (N, n[l])"],
    "6 A": ["A[l] = g(Z[l])"],
    "7 network": [
        "{n0}-17-10",
        *(
            f"{name} has the shape {shape}"
            for name, shape in {
                "Z[1]": "({N}, 17)",
                "A[1]": "({N}, 17)",
                "Z[2]": "({N}, 10)",
                "A[2]": "({N}, 10)",
                "W[1]": "(17, {n0})",
                "b[1]": "(17, 1)",
                "W[2]": "(10, 17)",
                "b[2]": "(10, 1)",
            }.items()
        ),
    ],
    "8 layers": ["any number of layers", "fully connected", "feed-forward", "{n0}-17-12-10", "(12, 17)"],
    "9 graph": ["The graph", "forward from X to J, and backward from J to each dW and db"],
    "10 cost": ["binary cross-entropy", "J = −1/N Σ [Y log Ŷ + (1−Y) log(1−Ŷ)] =", "its shape is ()"],
    "11 slope": ["σ′ = σ(1 − σ) = A(1 − A)", "0.2500"],
    "12 layer 2": [
        "dZ[2] = 1/N (Ŷ − Y) ({N}, 10), as Z[2]",
        "dW[2] = dZ[2]ᵀ A[1] (10, 17), as W[2]",
        "db[2] = dZ[2]ᵀ 1 (10, 1), as b[2]",
    ],
    "13 layer 1": [
        "dA[1] = dZ[2] W[2] ({N}, 17), as A[1]",
        "dZ[1] = dA[1] ⊙ A[1] ⊙ (1 − A[1]) ({N}, 17), as Z[1]",
        "dW[1] = dZ[1]ᵀ X (17, {n0}), as W[1]",
        "db[1] = dZ[1]ᵀ 1 (17, 1), as b[1]",
    ],
    "14 step": ["For each epoch", "W := W − α dW", "b := b − α db"],
    "15 autodiff": [f"d{name} held against jax.grad: " for name in ("W[2]", "b[2]", "W[1]", "b[1]")],
}


@contextlib.contextmanager
def as_a_program():
    with jax.enable_x64(True), jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(scope="module")
def digits():
    return datasets.load("digits")


@pytest.fixture(scope="module")
def facts(digits):
    with as_a_program():
        return program.facts(digits, 3)


@pytest.fixture(scope="module")
def shown(facts) -> list[Screen]:
    with as_a_program():
        return list(screens(facts))


@pytest.fixture(scope="module")
def a_page(shown, tmp_path_factory):
    path = tmp_path_factory.mktemp("lecture") / "lecture.html"
    with as_a_program():
        path.write_text(page_of('The lecture, executed on <digits> & "more"', shown), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def steps() -> dict[str, byhand.Step]:
    with as_a_program():
        return {step.name: step for step in byhand.steps()}


def words(text: str) -> str:
    return " ".join(text.split())


class Seen(html.parser.HTMLParser):
    """The text of a page, and whether its tags are closed in their order."""

    def __init__(self):
        super().__init__()
        self.text, self.open, self.wrong, self.addresses = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.addresses += [value for name, value in attrs if name in ("src", "href", "action", "data")]
        if tag not in ("meta", "link", "input", "br", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append((tag, self.getpos()))

    def handle_data(self, data):
        if not {"script", "style"} & {*self.open}:
            self.text.append(data)


def seen(path) -> Seen:
    found = Seen()
    found.feed(path.read_text(encoding="utf-8"))
    return found


def said(capsys, shown, answers=None) -> str:
    """What the terminal says of screens, where these answers are given, and then none."""
    given = iter(answers or [])
    program.go_through(shown, None if answers is None else lambda prompt: next(given, None))
    return capsys.readouterr().out


def holds(text: str, row: str, **sizes):
    for statement in ROWS[row]:
        expected = statement.format(**sizes)
        assert words(expected) in words(text), expected


@pytest.mark.parametrize("row", ROWS)
def test_every_row_of_the_lecture_appears(capsys, shown, a_page, row):
    sizes = {"N": 1438, "n0": 64, "height": 8, "width": 8}
    holds(said(capsys, shown), row, **sizes)
    holds(" ".join(seen(a_page).text), row, **sizes)


@needs_mnist
def test_the_lecture_is_about_mnist_unless_another_is_named(tmp_path, monkeypatch):
    """On some of its images: what is said does not depend on how many there are, and all take long."""
    load = datasets.load

    def some(*given):
        data = load(*given)
        assert (data.name, len(data.train.images)) == ("mnist", 60_000)
        return data._replace(train=data.train._make(array[:2000] for array in data.train))

    monkeypatch.setattr(datasets, "load", some)
    done = ended(program, "--yes", "--data-dir", tmp_path)
    assert done.status == 0, done.err
    for row in ROWS:
        holds(done.out, row, N=2000, n0=784, height=28, width=28)
    assert max(map(len, done.out.splitlines())) <= 80
    differences = [float(x) for x in re.findall(r"held against jax.grad: (\S+)", done.out)]
    assert len(differences) == 4
    assert max(differences) <= 1e-12


def test_through_a_pipe_nothing_is_asked_even_where_the_terminal_knows_no_letters():
    done = run("lecture", "--dataset", "digits", "--seed", "3", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.isascii()
    assert "W[1] has the shape (17, 64)." in done.stdout
    assert "[Enter]" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_the_numbers_are_those_of_the_data(capsys, shown, digits, x64):
    """Computed again, in NumPy, from the same first weights."""
    params = mlp(64, 17, 10, g=sigmoid).init(jax.random.key(3))
    (W1, b1), (W2, b2) = [map(np.asarray, layer) for layer in params]
    X, Y = digits.train.images.reshape(1438, 64) / 16, np.eye(10)[digits.train.labels]
    text, J = said(capsys, shown), []
    for _ in range(11):
        A1 = 1 / (1 + np.exp(-(X @ W1.T + b1.T)))
        Y_hat = 1 / (1 + np.exp(-(A1 @ W2.T + b2.T)))
        J.append(-(Y * np.log(Y_hat) + (1 - Y) * np.log(1 - Y_hat)).sum() / 1438)
        dZ2 = (Y_hat - Y) / 1438
        dZ1 = dZ2 @ W2 * A1 * (1 - A1)
        if len(J) == 1:
            steepest = {"dW[2]": dZ2.T @ A1, "db[2]": dZ2.sum(0), "dW[1]": dZ1.T @ X, "db[1]": dZ1.sum(0)}
        W2, b2 = W2 - 0.5 * dZ2.T @ A1, b2 - 0.5 * dZ2.sum(0)[:, None]
        W1, b1 = W1 - 0.5 * dZ1.T @ X, b1 - 0.5 * dZ1.sum(0)[:, None]
    assert [f"{value:.4f}" for value in J] == re.findall(r"^ +\d+ +(\d\.\d{4})  #+$", text, re.M)
    assert sorted(J, reverse=True) == J
    for name, array in steepest.items():
        (largest,) = re.findall(rf"{re.escape(name)} +\(\d+, \d+\) +(\S+)", text.split("largest entry")[-1])
        assert float(largest) == pytest.approx(np.abs(array).max(), abs=1e-6)


@pytest.mark.parametrize("N", [9, 1438, 60_000])
def test_columns_stand_below_each_other_whatever_N_is(facts, N):
    with as_a_program():
        lines = "\n".join(part.lines for screen in screens(facts | {"N": N}) for part in screen.parts)
    of_dA, of_A, of_dZ = re.findall(rf"^(?:{N} d|)[AZ]\[1\] .*\.{{3}}$", lines, re.M)[-3:]
    assert of_dA.startswith(f"{N} dA[1] ")
    assert of_dZ.startswith(f"{N} dZ[1] ")
    dots = [[k for k, letter in enumerate(line) if letter == "."] for line in (of_dA, of_A, of_dZ)]
    assert dots[0] == dots[1] == dots[2]


def test_a_weight_that_is_tried_shows_its_derivative(facts):
    tried = facts["nudged"]()
    quotient = (tried.J[1] - tried.J[0]) / tried.by
    assert quotient == pytest.approx(facts["at"]("dW[2]")[tried.i, tried.j], rel=1e-3)
    for name in ("dW[1]", "db[1]", "dW[2]", "db[2]"):
        assert facts["apart"](name) <= 1e-12


SHAPES = {
    "X": (1438, 64),
    "Y": (1438, 10),
    "A[0]": (1438, 64),
    "W[1]": (17, 64),
    "b[1]": (17, 1),
    "Z[1]": (1438, 17),
    "A[1]": (1438, 17),
    "W[2]": (10, 17),
    "b[2]": (10, 1),
    "Z[2]": (1438, 10),
    "A[2]": (1438, 10),
}
WRONG = [  # what is asked, the answer, what is said of it
    ("X", "64, 1438", "Transposed"),
    ("X", "1438,8,8", "Flatten each image: its 8 rows of 8 pixels"),
    ("X", "8x8", "Flatten"),
    ("X", "(1438, 8)", "Flatten"),
    ("X", "1438, 10", "those of Y"),
    ("X", "1,438, 10", "those of Y"),
    ("X", "1438, 99", "X has a column for each pixel"),
    ("X", "17, 64", "N is missing"),
    ("Y", "10,1438", "Transposed"),
    ("Y", "1438", "One-hot"),
    ("Y", "1438,1", "One-hot"),
    ("Y", "1438, 64", "those of X"),
    ("Y", "1438, 9", "column for each class"),
    ("W[1]", "64, 17", "Transposed"),
    ("W[1]", "1438, 64", "N is no size of W[1]"),
    ("W[1]", "17, 1438", "N is no size of W[1]"),
    ("W[1]", "10, 17", "those of layer 2"),
    ("W[1]", "17, 10", "those of layer 2"),
    ("W[1]", "17, 8", "number of rows is right. W[1] has a column for each number that goes into it"),
    ("W[1]", "12, 64", "number of columns is right. W[1] has a row for each neuron"),
    ("W[2]", "17, 10", "Transposed"),
    ("W[2]", "17, 64", "those of layer 1"),
    ("b[1]", "17", "column, with two sizes"),
    ("b[1]", "1, 17", "column, with two sizes"),
    ("b[1]", "1438, 1", "N is no size of b[1]"),
    ("b[1]", "10, 1", "those of layer 2"),
    ("b[2]", "10,10", "b[2] has one column"),
    ("Z[1]", "17, 1438", "Transposed"),
    ("Z[1]", "1438, 10", "those of layer 2"),
    ("Z[1]", "17, 64", "N is missing"),
    ("Z[2]", "1438, 1438", "N says how many rows"),
    ("A[2]", "10, 10", "N is missing"),
    ("A[2]", "3, 3", "A[2] has a row for each image, and a column for each neuron"),
    *(("A[1]", answer, TWO) for answer in ("", "  ", "-17,64", "1,2,3,4,5", "9" * 5000, "1e3,17", "n, m")),
    *(
        ("W[1]", answer, TWO)
        for answer in ("١٧,٦٤", "\x00", "<script>", "17.0,64.0", "17", "{{7*7}}", "(" * 41)
    ),
]
RIGHT = [
    *(
        ("W[1]", answer)
        for answer in ("17,64", "(17, 64)", "17x64", "17 × 64", "[17,64]", " 17  64 ", "017,64")
    ),
    *(("X", answer) for answer in ("1,438, 64", "(1,438 64)")),
]


@pytest.mark.parametrize(("name", "answer", "rule"), WRONG)
def test_a_wrong_shape_is_told_which_rule_it_missed(facts, name, answer, rule):
    assert facts["shape"].items() >= SHAPES.items()
    question = asked(name, facts["shape"], (1438, 8, 8))
    assert rule in missed(question, answer)
    right = ",".join(map(str, SHAPES[name]))
    assert right not in missed(question, answer).replace(" ", "")


@pytest.mark.parametrize(("name", "answer"), RIGHT)
def test_a_right_shape_can_be_written_in_many_ways(name, answer):
    assert missed(asked(name, SHAPES, (1438, 8, 8)), answer) == ""


def test_every_shape_is_asked_before_it_is_shown(shown):
    questions = [
        (k, part.question) for k, screen in enumerate(shown) for part in screen.parts if part.question
    ]
    assert [q.name for _, q in questions] == [name for name in SHAPES if name != "A[0]"]
    for k, question in questions:
        assert question.shape == SHAPES[question.name]
        before = " ".join(part.text + part.lines for screen in shown[:k] for part in screen.parts)
        for part in shown[k].parts:
            if part.question == question:
                break
            before += part.text + part.lines
        assert f"{question.name} is {question.shape}" not in before
        assert question.name not in {v.id for v in graphs(shown[:k])}


def graphs(shown):
    return [
        node for screen in shown for part in screen.parts if part.graph for node in part.graph.scene.nodes
    ]


def test_the_graph_grows_to_all_of_it(shown):
    drawn = [part.graph for screen in shown for part in screen.parts if part.graph]
    names = [{node.id for node in graph.scene.nodes} for graph in drawn]
    assert len(names) == 8
    assert all(before < after for before, after in itertools.pairwise(names))
    assert {*SHAPES, "J", "dW[1]", "db[1]", "dZ[1]", "dA[1]", "dZ[2]"} - {"X"} <= names[-1]
    assert len(names[-1]) == 18
    for graph in drawn:
        assert len(graph.boxes) == len(graph.scene.nodes)
        assert len(graph.routes) == len(graph.scene.edges)
        assert max(box.x + box.width for box in graph.boxes) <= graph.width


def test_two_wrong_tries_then_the_shape_is_shown(capsys, shown):
    text = said(capsys, shown, ["\n", "64,1438\n", "huh\n", "\n", " 1438x10 \n"])
    assert text.count("Transposed. The rows come first") == 1
    assert text.count("X has the shape (1438, 64).") == 1
    assert text.index("Transposed.") < text.index(words(TWO)[:40]) < text.index("X has the shape")
    assert "Right.\nY has the shape (1438, 10)." in text
    assert "4. A layer" not in text  # the input ended at the end of screen 3
    assert max(map(len, text.splitlines())) <= 80


def test_the_end_of_the_input_ends_the_lecture(capsys, shown):
    text = said(capsys, shown, [])
    assert "1. A single neuron" in text
    assert "2. The images" not in text
    text = said(capsys, shown, ["\n", "1,2\n"])
    assert "X has the shape" not in text


def test_where_there_is_no_data_digits_are_offered(tmp_path):
    out = tmp_path / "lecture.html"
    done = ended(program, "--html", out, "--source-dir", tmp_path, "--data-dir", tmp_path / "kept")
    assert done.status == 2
    assert re.fullmatch(r"error: .*train-images.*--dataset digits, which is bundled\n", done.err), done.err
    assert not out.exists()


def test_the_page_is_whole_small_and_asks_for_nothing(a_page, facts):
    content = a_page.read_text(encoding="utf-8")
    assert len(content.encode()) <= 300_000
    found = seen(a_page)
    assert (found.open, found.wrong) == ([], [])
    assert all(address.startswith(("#", "data:")) for address in found.addresses)
    assert "default-src 'none'; script-src 'sha256-" in html.unescape(content)
    assert "The lecture, executed on &lt;digits&gt; &amp;" in content


def test_the_page_can_be_read_without_its_script(a_page, steps):
    text = words(" ".join(seen(a_page).text))
    for step in steps.values():
        assert words(step.equation) in text
        if step.name.endswith(":="):
            name = step.name.removesuffix(" :=")
            assert text.count(f"the new {name} {step.right.shape}") == 1
        assert words(step.worked.replace("-", "−")) in text
        assert f"{step.right[step.entry]:.4f}".replace("-", "−") in text


def test_the_sizes_of_the_tiny_network_all_differ():
    assert len({byhand.N, *byhand.n}) == 4


def test_every_step_is_there_and_right(steps, x64):
    """Held against jax.grad, of the cost by the parameters and of what is left of the forward by Z and A."""
    X, Y, W1, b1, W2, b2 = (jnp.array(values, float) for values in byhand.GIVEN.values())
    right = {name: step.right for name, step in steps.items()}
    params = [Dense(W1, b1), Dense(W2, b2)]
    net, loss = mlp(*byhand.n, g=sigmoid), binary_cross_entropy
    (dW1, db1), (dW2, db2) = jax.grad(cost(net, loss))(params, X, Y)
    Z1 = X @ W1.T + b1.T
    A1 = jax.nn.sigmoid(Z1)
    Z2 = A1 @ W2.T + b2.T
    expected = {"Z[1]": Z1, "A[1]": A1, "Z[2]": Z2, "Ŷ": jax.nn.sigmoid(Z2)}
    expected["J"] = cost(net, loss)(params, X, Y).reshape(1, 1)
    expected["dZ[2]"] = jax.grad(loss.forward)(Z2, Y)
    expected |= {"dW[2]": dW2, "db[2]": db2}
    expected["dA[1]"] = jax.grad(lambda A: loss.forward(A @ W2.T + b2.T, Y))(A1)
    expected["dZ[1]"] = jax.grad(lambda Z: loss.forward(jax.nn.sigmoid(Z) @ W2.T + b2.T, Y))(Z1)
    expected |= {"dW[1]": dW1, "db[1]": db1}
    _, ((hand_W1, hand_b1), (hand_W2, hand_b2)) = value_and_grad(net, loss)(params, X, Y)
    expected |= {"W[2] :=": W2 - 0.5 * hand_W2, "b[2] :=": b2 - 0.5 * hand_b2}
    expected |= {"W[1] :=": W1 - 0.5 * hand_W1, "b[1] :=": b1 - 0.5 * hand_b1}
    assert list(right) == list(expected)
    for name, array in expected.items():
        np.testing.assert_allclose(right[name], array, rtol=1e-12, atol=0, err_msg=name)


def test_the_numbers_in_the_page_are_those(a_page, steps):
    data = json.loads(re.search(r'id="data">(.*?)</script>', a_page.read_text(encoding="utf-8"))[1])
    assert data["steps"].keys() == steps.keys()
    for name, (right, entry, mistakes) in data["steps"].items():
        np.testing.assert_array_equal(right, steps[name].right)
        assert tuple(entry) == steps[name].entry
        for (words_, array), (expected, its) in zip(mistakes, steps[name].mistakes, strict=True):
            assert words_ == expected
            np.testing.assert_array_equal(array, its)


def test_every_mistake_is_told_from_the_right_number_and_from_every_other(steps):
    assert sum(len(step.mistakes) for step in steps.values()) >= 60
    for step in steps.values():
        assert step.mistakes, step.name
        arrays = [step.right, *(array for _, array in step.mistakes)]
        values = [float(array[step.entry]) for array in arrays]
        apart = min(abs(a - b) for k, a in enumerate(values) for b in values[:k])
        assert apart > 4 * byhand.WITHIN, step.name  # and so they are from matrices that are shown rounded


def made(steps, name: str, words_: str) -> np.ndarray:
    (array,) = (array for said_, array in steps[name].mistakes if words_ in said_)
    return array


def test_mistakes_are_what_they_say(steps):
    """In NumPy, by the formula with the mistake in it."""
    X, Y, W1, _, W2, _ = (np.array(values) for values in byhand.GIVEN.values())
    a = {name: step.right for name, step in steps.items()}
    Y_hat, A1, Z1 = a["Ŷ"], a["A[1]"], a["Z[1]"]
    log = Y * np.log(Y_hat) + (1 - Y) * np.log(1 - Y_hat)
    expected = {
        ("Z[1]", "forgotten"): X @ W1.T,
        ("Z[2]", "Z[1] stands"): Z1 @ W2.T + np.array(byhand.GIVEN["b[2]"]).T,
        ("A[1]", "tanh"): np.tanh(Z1),
        ("A[1]", "e^z"): 1 / (1 + np.exp(Z1)),
        ("Ŷ", "σ′"): Y_hat * (1 - Y_hat),
        ("Ŷ", "softmax"): np.exp(a["Z[2]"]) / np.exp(a["Z[2]"]).sum(1, keepdims=True),
        ("J", "1/N"): -log.sum(keepdims=True),
        ("J", "outputs, too"): -log.mean(keepdims=True),
        ("J", "(1 − Y) log(1 − Ŷ) is forgotten"): -(Y * np.log(Y_hat)).sum(keepdims=True) / 5,
        ("J", "swapped"): -((1 - Y) * np.log(Y_hat) + Y * np.log(1 - Y_hat)).sum(keepdims=True) / 5,
        ("J", "squared"): ((Y_hat - Y) ** 2).sum(keepdims=True) / 2 / 5,
        ("dZ[2]", "1/N"): Y_hat - Y,
        ("dZ[2]", "outputs, too"): (Y_hat - Y) / 10,
        ("dZ[2]", "σ′"): (Y_hat - Y) / 5 * Y_hat * (1 - Y_hat),
        ("dZ[2]", "Y is forgotten"): Y_hat / 5,
        ("dZ[2]", "Z[2] stands"): (a["Z[2]"] - Y) / 5,
        ("dZ[2]", "sign"): (Y - Y_hat) / 5,
        ("dW[2]", "Z[1] stands"): a["dZ[2]"].T @ Z1,
        ("dW[2]", "transposed"): A1.T @ a["dZ[2]"],
        ("db[2]", "along the row"): a["dZ[2]"].sum(1, keepdims=True),
        ("db[2]", "mean"): a["dZ[2]"].mean(0)[:, None],
        ("db[2]", "Ŷ stands"): Y_hat.sum(0)[:, None],
        ("dA[1]", "dW[2] stands"): a["dZ[2]"] @ a["dW[2]"],
        ("dZ[1]", "missing"): a["dA[1]"],
        ("dZ[1]", "twice"): a["dA[1]"] * (A1 * (1 - A1)) ** 2,
        ("dZ[1]", "tanh"): a["dA[1]"] * (1 - A1**2),
        ("dZ[1]", "Z[1] stands"): a["dA[1]"] * Z1 * (1 - Z1),
        ("dZ[1]", "1 − A[1] is forgotten"): a["dA[1]"] * A1,
        ("dW[1]", "σ′ is missing"): a["dA[1]"].T @ X,
        ("dW[1]", "transposed"): X.T @ a["dZ[1]"],
        ("db[1]", "σ′ is missing"): a["dA[1]"].sum(0)[:, None],
        ("db[1]", "along the row"): a["dZ[1]"].sum(1, keepdims=True),
        ("W[1] :=", "uphill"): W1 + 0.5 * a["dW[1]"],
        ("W[1] :=", "α is forgotten"): W1 - a["dW[1]"],
        ("W[2] :=", "twice"): W2 - 0.5 * a["dW[2]"] / 5,
        ("W[2] :=", "without"): -0.5 * a["dW[2]"],
    }
    for (name, words_), array in expected.items():
        np.testing.assert_allclose(made(steps, name, words_), array, rtol=1e-12, err_msg=f"{name}: {words_}")


def test_what_is_worked_out_gives_the_entry(steps):
    for step in steps.values():
        if step.name == "J":
            continue
        for a, b in (("−", "-"), ("·", "*"), ("1/5 (", "1/5 * (")):
            step = step._replace(worked=step.worked.replace(a, b))
        value = eval_of(step.worked)
        assert value == pytest.approx(step.right[step.entry], abs=byhand.WITHIN / 2), step.worked


def eval_of(text: str) -> float:
    """A sum of products, or σ of a number."""
    if inner := re.fullmatch(r"σ\((.*)\)", text):
        return 1 / (1 + math.exp(-eval_of(inner[1])))
    ast.parse(text, mode="eval")
    return float(eval(text, {"__builtins__": {}}))


def test_the_entries_that_are_marked_are_those_it_depends_on(steps):
    X, W1 = steps["Z[1]"].made_of[0], steps["Z[1]"].made_of[1]
    i, j = steps["Z[1]"].entry
    assert X[2].nonzero()[0].tolist() == [i] * 3
    assert W1[2].nonzero()[0].tolist() == [j] * 3
    dZ, A = steps["dW[2]"].made_of
    i, j = steps["dW[2]"].entry
    assert dZ[2][:, i].all()
    assert dZ[2].sum() == 5
    assert A[2][:, j].all()
    assert A[2].sum() == 5


def answered(browser, kind: str, name: str, answer: str) -> str:
    """What the page says to an answer, written into its field."""
    return browser.js(
        """const form = document.querySelector(
          `.ask[data-kind="${arguments[0]}"][data-name="${arguments[1]}"]`);
        location.hash = form.parentElement.id;
        form.querySelector("input").value = arguments[2];
        form.requestSubmit();
        return form.querySelector("p").textContent""",
        kind,
        name,
        answer,
    )


def test_a_wrong_number_is_answered_with_its_mistake(browser, a_page, steps):
    browser.open(a_page)
    for name, step in steps.items():
        for mistake, array in step.mistakes:
            assert f"when {mistake}." in answered(browser, "steps", name, f"{array[step.entry]:.3f}")
        assert "Write a number" in answered(browser, "steps", name, "<b>1</b>")
        assert answered(browser, "steps", name, f"{step.right[step.entry]:.3f}".replace("-", "−")) == "Right."
    assert "the entry in row 2, column 1" in answered(
        browser, "steps", "dA[1]", f"{steps['dA[1]'].right[1, 0]:.3f}"
    )
    assert browser.errors() == []
    assert browser.requests() == []


def test_only_the_right_number_with_too_few_decimals_is_close(browser, a_page, steps):
    browser.open(a_page)
    step = steps["W[2] :="]
    right = float(step.right[step.entry])
    for answer in (f"{right:.0f}", f"{right:.1f}", f"{right:.2f}", f"{right:.2f}".replace("-", "−")):
        assert answered(browser, "steps", step.name, answer).startswith("Close. Three decimals"), answer
    for far in (f"{right + 0.004:.3f}", f"{right - 0.006:.4f}", f"{right + 0.01:.2f}", f"{right + 0.1:.1f}"):
        assert answered(browser, "steps", step.name, far).startswith("Not yet. It is made of"), far


def test_the_page_judges_shapes_as_the_terminal_does(browser, a_page):
    browser.open(a_page)
    for name, answer, _ in WRONG:
        words_ = missed(asked(name, SHAPES, (1438, 8, 8)), answer[:60].strip())
        assert answered(browser, "shapes", name, answer.replace("\x00", "?")) == words_, (name, answer)
    for name, answer in RIGHT:
        assert answered(browser, "shapes", name, answer) == "Right.", answer


def test_the_page_works_by_keyboard_alone(browser, a_page):
    from selenium.webdriver import ActionChains, Keys

    def press(*keys):
        ActionChains(browser.driver).send_keys(*keys).perform()

    def title():
        return browser.js("return document.querySelector('section:not([hidden]) h2').textContent")

    def visible(text: str):
        return browser.js("return document.querySelector('main').innerText").count(text)

    browser.open(a_page, width=390, still=True)
    press(Keys.ARROW_RIGHT)
    assert title() == "2. The images, X"
    while browser.js("return document.activeElement.tagName") != "INPUT":
        press(Keys.TAB)
    press("64,1438", Keys.ENTER)
    assert visible("Transposed.") == 1
    assert not visible("X has the shape")
    assert not visible("From (1438, 8, 8) to")
    press(*[Keys.BACKSPACE] * 7, "1438,64", Keys.ENTER)
    assert visible("Right.") == 1
    assert visible("X has the shape (1438, 64)") == 1
    assert visible("From (1438, 8, 8) to") == 1
    while browser.js("return document.activeElement.id") != "on":
        press(Keys.TAB)
    press(Keys.ENTER)
    assert title() == "3. The labels, Y"
    press(Keys.ARROW_LEFT, Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    assert title() == "1. A single neuron"
    assert browser.errors() == []


def test_nothing_stands_out_of_a_narrow_window(browser, a_page):
    browser.open(a_page, width=390)
    for name in browser.js("return [...document.querySelectorAll('section')].map(section => section.id)"):
        browser.js(
            """location.hash = arguments[0]; show(here());
            document.querySelectorAll("details").forEach(answer => { answer.open = true; })""",
            name,
        )
        assert browser.js("return document.querySelector('section:not([hidden])').id") == name
        assert browser.overflow() == 0, name
        hidden = """return [...document.querySelectorAll("section:not([hidden]) pre")]
            .filter(pre => pre.scrollWidth > pre.clientWidth).map(pre => pre.textContent)"""
        assert not [lines for lines in browser.js(hidden) if re.search(r"\), as d?[A-Z]", lines)], name


def test_the_whole_graph_is_seen_in_a_window_of_middle_width(browser, a_page):
    browser.open(a_page, width=800)
    browser.js("location.hash = 's12'; show(here())")
    cut = """const box = document.querySelector("section:not([hidden]) .wide");
        return [box.scrollWidth - box.clientWidth, box.firstElementChild.viewBox.baseVal.width]"""
    browser.js("document.querySelectorAll('details').forEach(answer => { answer.open = true; })")
    over, natural = browser.js(cut)
    assert over == 0
    assert natural > 800


def test_the_examples_in_the_lesson_are_right():
    assert doctest.testmod(lesson).failed == 0 < doctest.testmod(lesson).attempted
