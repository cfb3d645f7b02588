"""Anybody's function: a node a statement, in the person's own words; every equation in exactly one node."""

import graphlib
import inspect
import linecache
import os
import re
from collections import Counter
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
import pytest
from jax.extend.core import Literal

from experiments import graph
from jaxnn.activations import sigmoid
from jaxnn.layers import mlp
from jaxnn.losses import binary_cross_entropy
from jaxnn.objective import cost, value_and_grad
from jaxnn.seeing.graphs.layered import placed, sizes_of
from jaxnn.seeing.graphs.lines import lines
from jaxnn.seeing.graphs.scene import Scene
from jaxnn.seeing.graphs.traces import traced
from tests import programs
from tests.seeing import student
from tests.seeing.random_sources import loaded, source_of
from tests.seeing.test_layered import assert_readable

RANDOM = int(os.environ.get("JAXNN_RANDOM_GRAPHS", 10))
FILE = Path(student.__file__)
GIVEN = {"parameter", "input"}
SQUARES = tuple(jnp.eye(3) + k for k in range(3))
WX = jnp.ones((3, 5)), jnp.ones((4, 5))


@pytest.fixture
def as_jax_is():
    """Other people's functions mix types and shapes as JAX lets them."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def steps(scene: Scene) -> list:
    return [node for node in scene.nodes if node.kind not in GIVEN]


def said(node) -> str:
    """All of the statement, as a note has it after its place."""
    return node.note.split("\n")[1]


def counted(node) -> Counter:
    """The primitives of a node: "2 mul, add"."""
    parts = (re.fullmatch(r"(?:(\d+) )?(.+)", part) for part in node.note.split("\n")[-1].split(", "))
    return Counter({part[2]: int(part[1] or 1) for part in parts if part})


def called(equation) -> str:
    name = equation.params.get("name")
    return name if isinstance(name, str) else equation.primitive.name


def assert_whole(scene: Scene, function, arguments):
    """Every equation in one node, edges those of the jaxpr, no cycle, and a picture one can read."""
    equations = jax.make_jaxpr(function)(*arguments).jaxpr.eqns
    assert sum(map(counted, steps(scene)), Counter()) == Counter(map(called, equations))
    order = graphlib.TopologicalSorter({node.id: [] for node in scene.nodes})
    for edge in scene.edges:
        order.add(edge.head, edge.tail)
    assert len(list(order.static_order())) == len(scene.nodes)
    assert len({node.id for node in scene.nodes}) == len(scene.nodes)
    assert_readable(placed(scene, sizes_of(scene)))


@pytest.mark.parametrize("seed", range(RANDOM))
def test_random_functions(tmp_path, seed):
    source, statements, n = source_of(seed)
    f = loaded(tmp_path / "written.py", source)
    trace = traced(f, SQUARES, (0, 1, 2))
    scene = lines("f", trace)
    assert [said(node) for node in steps(scene)] == statements
    assert_whole(scene, f, SQUARES)
    equations = lines("f", trace, "equations")
    assert_whole(equations, f, SQUARES)
    assert 20 <= n <= 80
    assert len(steps(equations)) == n == len(jax.make_jaxpr(f)(*SQUARES).jaxpr.eqns)
    if seed % 2:
        assert max(Counter(edge.tail for edge in equations.edges).values()) >= 3
    for node, statement in zip(steps(scene), statements, strict=True):
        tails = {edge.tail for edge in scene.edges if edge.head == node.id}
        named = {t.title.split()[0] for t in scene.nodes if t.id in tails}
        assert named == set(re.findall(r"\b(?:x\d+|[abc])\b", statement.partition(" = ")[2] or statement))


def test_edges_of_equations_are_those_of_the_jaxpr():
    trace = traced(student.gradient, student.arguments())
    scene = lines("gradient", trace, "equations")
    jaxpr = jax.make_jaxpr(student.gradient)(*student.arguments()).jaxpr
    home = dict(zip(jaxpr.invars, (node.id for node in scene.nodes), strict=False))
    pairs = set()
    for equation, node in zip(jaxpr.eqns, steps(scene), strict=True):
        assert node.title.partition("(")[0] == equation.primitive.name
        pairs |= {(home[v], node.id) for v in equation.invars if not isinstance(v, Literal)}
        home |= dict.fromkeys(equation.outvars, node.id)
    assert {edge[:2] for edge in scene.edges} == pairs


def test_a_gradient_of_ten_lines_is_a_node_a_line():
    loss = traced(student.loss, student.arguments())
    scene = lines("gradient", traced(student.gradient, student.arguments(), (0, 1, 2, 3)), loss=loss)
    source = inspect.getsource(student.gradient).splitlines()[1:]
    assert [node.title.replace("\n", " ") for node in steps(scene)] == [line.strip() for line in source]
    first = inspect.getsourcelines(student.gradient)[1] + 1
    assert [node.note.split("\n")[0] for node in steps(scene)] == [
        f"student.py:{first + k}" for k in range(len(source))
    ]
    kinds = ["parameter"] * 4 + ["input"] * 2 + ["forward"] * 4
    kinds += ["backward", "gradient", "gradient", "backward", "gradient"]
    assert [node.kind for node in scene.nodes] == kinds
    assert [node.shape for node in steps(scene)][-4:] == ["(3, 5)", "(3, 1)", "(4, 5)", "(5, 7), (5, 1)"]
    flows = {(edge.tail, edge.head): edge.kind for edge in scene.edges}
    titles = {node.title.partition(" = ")[0]: node.id for node in scene.nodes}
    assert flows[titles["W1"], titles["Z1"]] == "parameter"
    assert flows[titles["Z1"], titles["A1"]] == "forward"
    assert flows[titles["A1"], titles["dW2"]] == "kept"
    assert flows[titles["W2"], titles["dZ1"]] == "kept"
    assert flows[titles["dZ2"], titles["dZ1"]] == "backward"
    assert flows[titles["dZ2"], titles["dW2"]] == "gradient"


def test_autodiff_goes_back_through_the_same_lines():
    function = jax.value_and_grad(student.loss, argnums=(0, 1, 2, 3))
    scene = lines("loss", traced(function, student.arguments(), (0, 1, 2, 3)))
    source = [line.strip() for line in inspect.getsource(student.loss).splitlines()[1:]]
    titles = [node.title.replace("\n", " ") for node in steps(scene)]
    assert titles == [*source, *(f"∂ {line}" for line in reversed(source))]
    assert [node.kind for node in steps(scene)][4:7] == ["loss", "backward", "backward"]
    assert [node.title for node in scene.nodes if node.kind in GIVEN] == ["W1", "b1", "W2", "b2", "X", "Y"]
    assert_whole(scene, function, student.arguments())


def test_what_jax_derived_goes_forward_where_the_loss_does():
    loss = traced(student.loss, student.arguments())
    scene = lines("derived", traced(student.by_autodiff, student.arguments(), (0, 1, 2, 3)), loss=loss)
    kinds = ["forward"] * 5 + ["backward", "backward", "gradient", "backward", "gradient"]
    assert [node.kind for node in steps(scene)] == kinds


def test_statements_however_they_are_written():
    jax.jit(student.untidy)(*WX)  # JAX keeps what it has traced, with the calls of then
    scene = lines("untidy", traced(student.untidy, WX))
    assert [said(node) for node in steps(scene)] == [
        "Z = X @ W.T",
        "a = jnp.tanh(Z)",
        "b = jnp.cos(a)",
        "c = softly(b) if rate else b",
        "c = c + jnp.sin(b)",
        "c = c + jnp.sin(b)",
        's = "#".join(["no", "comment"]) and jnp.exp(c)',
        "dead = jnp.log1p(s * s)",
        "dead_end = dead + 1",
        "return within(s)",
    ]
    assert [node.title.partition(" ")[0] for node in scene.nodes if node.unused] == ["dead", "dead_end"]
    assert [node.title for node in scene.nodes if node.output] == ["return within(s)"]
    assert dict(counted(steps(scene)[-1])) == {"mul": 1, "sub": 1}, "the jit is opened"


def test_a_loop_is_one_node_and_a_branch_another():
    scene = lines("looping", traced(student.looping, WX))
    assert [(dict(counted(node)), node.unused) for node in steps(scene)[:2]] == [
        ({"scan": 1}, False),
        ({"while": 1}, False),
    ]
    assert said(steps(scene)[2]).startswith("return jax.lax.cond(n > 2")
    assert counted(steps(scene)[2])["cond"] == 1


def test_a_part_of_what_is_called_that_nothing_uses_is_shown():
    arguments = jnp.ones((3, 5)), jnp.ones((2, 3)), jnp.ones((4, 5)), jnp.ones((4, 2))
    scene = lines("backward", traced(student.backward_of_two_layers, arguments))
    assert [(said(node), node.shape) for node in scene.nodes if node.unused] == [
        ("dA_prev = dZ @ W", "(4, 5)")
    ]


def test_the_first_layer_of_a_network_gives_a_dA_that_nothing_uses():
    net = mlp(7, 5, 3, g=sigmoid)
    point = jax.eval_shape(net.init, jax.random.key(0)), jnp.ones((4, 7)), jnp.ones((4, 3))
    loss = traced(cost(net, binary_cross_entropy), point)
    scene = lines("jaxnn", traced(value_and_grad(net, binary_cross_entropy), point), loss=loss)
    assert [(node.title, node.shape) for node in scene.nodes if node.unused] == [
        ("dA_prev = dZ @ W", "(4, 7)")
    ]
    assert [node.title for node in scene.nodes][:4] == [f"params[{l}].{p}" for l in (0, 1) for p in "Wb"]
    assert Counter(node.title for node in steps(scene))["Z = rows(A_prev) @ W.T + b.T"] == 2
    assert [node.shape for node in scene.nodes if node.kind == "gradient"] == [
        "(3, 5)",
        "(3, 1)",
        "(5, 7)",
        "(5, 1)",
    ]


def test_what_a_function_that_only_calls_another_leaves_to_it_is_shown(tmp_path):
    body = "".join(f"    a = jnp.sin(a) + {k}\n" for k in range(50))
    source = f"import jax.numpy as jnp\ndef g(a):\n{body}    return a\ndef f(a, b, c):\n    return g(a)\n"
    scene = lines("f", traced(loaded(tmp_path / "calls.py", source), SQUARES))
    assert [node.title for node in steps(scene)] == [f"a = jnp.sin(a) + {k}" for k in range(50)]


def test_a_function_whose_source_is_nowhere_is_told_by_its_primitives():
    space: dict = {"jnp": jnp}
    exec(compile("def f(x):\n    y = jnp.exp(x)\n    return y + jnp.sin(y) * y", "<nowhere>", "exec"), space)
    scene = lines("f", traced(space["f"], (jnp.ones(3),)))
    assert [node.title for node in steps(scene)] == ["exp(·)", "sin, mul, add"]
    assert_whole(scene, space["f"], (jnp.ones(3),))
    inner = lines("logsumexp", traced(jax.nn.logsumexp, (jnp.ones(3),)))
    assert_whole(inner, jax.nn.logsumexp, (jnp.ones(3),))


def test_what_is_closed_over_and_what_is_no_array():
    mask = jnp.arange(6.0).reshape(2, 3)

    def f(tree, n, *, scale=2):
        return jnp.sum(tree["a<b>"][0] * mask) * n * scale

    scene = lines("f", traced(f, ({"a<b>": [jnp.ones((2, 3))]}, 3)))
    assert [(node.title, node.kind) for node in scene.nodes if node.kind in GIVEN] == [
        ("tree['a<b>'][0]", "parameter"),
        ("mask", "input"),
    ]
    with pytest.raises(AttributeError, match="nothing"):
        traced(lambda n: n.nothing, (jnp.ones(3),))


def test_a_statement_that_is_long_is_cut_and_whole_in_the_note(tmp_path):
    terms = " + ".join(f"jnp.sin({k} * a)" for k in range(40))
    f = loaded(tmp_path / "long.py", f"import jax.numpy as jnp\ndef f(a, b, c):\n    return {terms}\n")
    node = lines("f", traced(f, SQUARES)).nodes[-1]
    assert len(node.title.splitlines()) == 3
    assert max(map(len, node.title.splitlines())) <= 44
    assert node.title.endswith(" …")
    assert said(node) == f"return {terms}"
    assert linecache.getline(str(tmp_path / "long.py"), 3).strip() == said(node)


A, B = jnp.array([[0.2, 0.7, 0.1], [0.5, 0.2, 0.3]]), jnp.array([[0.0, 1.0, 0.0], [0.3, 0.3, 0.4]])
ids, each = jnp.array([1, 0]), jnp.array([1.0, -1.0, 1.0])
LOSSES = {
    "cosine_distance": (A, B),
    "cosine_similarity": (A, B),
    "ctc_loss": (jnp.ones((2, 4, 3)), jnp.zeros((2, 4)), jnp.ones((2, 2), int), jnp.zeros((2, 2))),
    "hinge_loss": (A, each),
    "huber_loss": (A, B),
    "kl_divergence": (jnp.log(A), B),
    "kl_divergence_with_log_targets": (jnp.log(A), jnp.log(A)),
    "l2_loss": (A, B),
    "log_cosh": (A, B),
    "multiclass_hinge_loss": (A, ids),
    "multiclass_perceptron_loss": (A, ids),
    "multiclass_sparsemax_loss": (A, ids),
    "ntxent": (A, ids),
    "perceptron_loss": (A, jnp.sign(A - 0.4)),
    "poly_loss_cross_entropy": (A, B),
    "ranking_softmax_loss": (A, B),
    "safe_softmax_cross_entropy": (A, B),
    "sigmoid_binary_cross_entropy": (A, B),
    "sigmoid_focal_loss": (A, B),
    "smooth_labels": (A, 0.1),
    "softmax_cross_entropy": (A, B),
    "softmax_cross_entropy_with_integer_labels": (A, ids),
    "sparsemax_loss": (A, B),
    "squared_error": (A, B),
    "triplet_margin_loss": (A, B, A + 1),
}


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_losses_that_others_wrote(as_jax_is, name):
    function, arguments = getattr(optax.losses, name), LOSSES[name]

    def mean(*arguments):
        return jnp.mean(function(*arguments))

    for f, own in ((function, function), (jax.value_and_grad(mean), mean)):
        trace = traced(f, arguments)
        scene = lines(name, trace)
        assert_readable(placed(scene, sizes_of(scene)))
        words = re.sub(r"\W", "", Path(inspect.getsourcefile(inspect.unwrap(function)) or "").read_text())
        words += re.sub(r"\W", "", inspect.getsource(own))
        for node in (node for node in steps(scene) if "\n" in node.note):
            assert re.sub(r"\W", "", said(node)) in words or "optax" not in node.note, said(node)
        equations = lines(name, trace, "equations")
        graphlib.TopologicalSorter({e.head: [e.tail] for e in scene.edges}).prepare()
        assert sum(sum(counted(node).values()) for node in steps(scene)) == len(steps(equations))
        assert any(node.output for node in scene.nodes)


def test_each_turn_of_a_loop_and_each_line_of_a_helper_is_a_node():
    """The commonest ways to write a network down."""
    arguments = [(jnp.ones((4, 3)), jnp.ones((4, 1))), (jnp.ones((2, 4)), jnp.ones((2, 1)))], jnp.ones((5, 3))
    scene = lines("looped", traced(student.looped, arguments))
    layer, helper = (
        ["Z = A @ W.T + b.T", "return jnp.tanh(Z)"],
        ["c = a + b", "d = jnp.exp(c)", "return jnp.sum(d * c)"],
    )
    call = "part of return part_by_part(A, A * A) + 1"
    assert [node.title for node in steps(scene)] == [*layer, *layer, call, *helper, call]
    assert [node.shape for node in steps(scene)][:4] == ["(5, 4)", "(5, 4)", "(5, 2)", "(5, 2)"]


def test_the_backward_pass_begins_at_the_result():
    for level in ("lines", "equations"):
        whole = traced(jax.value_and_grad(student.loss), student.arguments())
        scene = lines("loss", whole, level)
        (result,) = (node.id for node in scene.nodes if node.kind == "loss")
        first = next(node.id for node in scene.nodes if node.kind == "backward")
        assert (result, first) in {edge[:2] for edge in scene.edges}


def test_an_equation_says_the_numbers_it_takes():
    scene = lines("f", traced(lambda x: (1 - x) ** 3 / jnp.sum(x), (jnp.ones(4),)), "equations")
    titles = [node.title for node in steps(scene)]
    assert titles == ["sub(1.0, ·)", "integer_pow(·, y=3)", "reduce_sum(·, axes=(0,))", "div(·, ·)"]
    assert [node.shape for node in scene.nodes] == ["(4,)", "(4,)", "(4,)", "()", "(4,)"]


def called_with(*words: object) -> programs.Ended:
    return programs.ended(graph, *words)


def test_the_program_draws_a_function_and_its_gradients(tmp_path):
    places = f"{FILE}:loss", f"{FILE}:arguments", "--argnums", "0,1,2,3", "--gradient"
    ended = called_with(*places, f"{FILE}:gradient")
    assert (ended.status, ended.err) == (0, "")
    assert max(map(len, ended.out.splitlines())) <= 80
    left, right = ended.result.split("\n\ngradient, by hand\n")
    assert left.startswith("loss, and its gradient by JAX\n")
    assert "∂ A1 = sigma(Z1)" in left
    assert "dZ1 = (dZ2 @ W2) * A1 * (1 - A1)" in right
    derived = called_with(*places, f"{FILE}:by_autodiff").result
    assert "by_autodiff, derived by JAX, not line by line by hand\n" in derived
    several = called_with(f"{FILE}:gradient", f"{FILE}:arguments").result
    assert several.startswith("gradient: no single number, so without a gradient\n")
    counting = called_with(f"{FILE}:which", f"{FILE}:squares").result
    assert counting.startswith("which: not of real numbers, so without a gradient\n")
    wasteful = called_with(f"{FILE}:wasteful", f"{FILE}:squares").result
    assert "never used" in wasteful, "though JAX leaves it out of the gradient"
    out = tmp_path / "graph.svg"
    assert called_with(*places, f"{FILE}:gradient", "--out", out, "--level", "equations").status == 0
    assert out.read_bytes().startswith(b"<svg")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["{}:loss"], "{}:loss: expected its arguments after it; write "),
        (["{}:loss", "{}:no"], "{} has no no; it has"),
        (["{}:sigma", "{}:arguments"], "{}:sigma raised TypeError: sigma() takes 1 positional argument"),
        (["{}:loss", "{}:arguments", "--gradient", "{}:softly"], "{}:softly raised TypeError: "),
        (
            ["{}:loss", "{}:arguments", "--argnums", "6"],
            "--argnums: got 6, expected some of 0,1,2,3,4,5; write --argnums 0",
        ),
        (
            ["{}:loss", "{}:arguments", "--argnums", "x"],
            "--argnums: got 'x', expected numbers from 0 on; write",
        ),
        (["{}:loss", "{}:arguments", "--hidden", "3"], "--hidden: expected no such option for a function"),
        (["sys:exit", "sys:api_version"], "sys:exit raised SystemExit: "),
        (["--level", "lines"], "--level: expected no such option for a network"),
        (["{}:endless", "{}:squares", "--level", "equations"], "{}:endless: got "),
        (["nowhere_at_all:f", "{}:arguments"], "cannot import nowhere_at_all: ModuleNotFoundError"),
    ],
)
def test_bad_calls_are_answered_in_a_line(tmp_path, words, line):
    out = tmp_path / "graph.svg"
    ended = called_with(*(word.format(FILE) for word in words), "--out", out)
    assert ended.status == 2
    assert ended.err.startswith("error: " + line.format(FILE))
    assert ended.err.count("\n") == 1
    assert not out.exists()
