"""What comes from outside and is wrong is named in one line."""

import re

import jax
import jax.numpy as jnp
import pytest

from experiments import arguments, compare_gradients, endure, predict, sweep, train
from jaxnn.activations import sigmoid
from jaxnn.layers import Dense, ShapeError, mlp

NUMBER, RATE = "expected a whole number", "expected a finite number above 0"
BAD = [
    (train, "--hidden -1", NUMBER),
    (train, "--hidden 1e3", NUMBER),
    (train, "--hidden 1000001", NUMBER),
    (train, "--hidden 17,17", NUMBER),
    (train, "--epochs 0", NUMBER),
    (train, "--epochs -3", NUMBER),
    (train, "--epochs 1000001", NUMBER),
    (train, "--batch-size 2.5", NUMBER),
    (train, "--batch-size -8", NUMBER),
    (train, "--seed 0x10", NUMBER),
    (train, "--learning-rate 0", RATE),
    (train, "--learning-rate 1e-50", RATE),
    (train, "--learning-rate 1e39", RATE),
    (train, "--learning-rate half", RATE),
    (train, "--optimizer SGD", "invalid choice: 'SGD'"),
    (train, "--loss mse", "invalid choice: 'mse'"),
    (train, "--dataset cifar10", "invalid choice: 'cifar10'"),
    (train, "--dataset /etc/passwd", "invalid choice"),
    (train, "--device cuda", "invalid choice: 'cuda'"),
    (train, "--save-every -1", "expected seconds of at least 0"),
    (train, "--save-every often", "expected seconds of at least 0"),
    (train, "--save-every nan", "expected seconds of at least 0"),
    (train, "--override seed", "invalid choice: 'seed'"),
    (train, "--override", "expected at least one argument"),
    (train, "--out", "expected one argument"),
    (train, "--resume now", "unrecognized arguments: now"),
    (train, "digits", "unrecognized arguments: digits"),
    (sweep, "--seeds 0", NUMBER),
    (sweep, "--learning-rates 0.1 -1", RATE),
    (sweep, "--memory 0", RATE),
    (sweep, "--scales inf", RATE),
    (predict, "", "the following arguments are required: RUN_DIR"),
    (predict, "a b", "unrecognized arguments: b"),
    (compare_gradients, "--dtype float16", "invalid choice: 'float16'"),
    (endure, "--kills -1", NUMBER),
    (endure, "--runs cifar", "invalid choice: 'cifar'"),
]


@pytest.mark.parametrize(
    ("program", "line", "message"), BAD, ids=[f"{p.__name__[12:]} {line}" for p, line, _ in BAD]
)
def test_a_bad_argument_ends_in_one_line(program, line, message, capsys):
    with pytest.raises(SystemExit, match=r"^2$"):
        program.parser().parse_args(line.split())
    printed = capsys.readouterr()
    assert re.fullmatch(r"error: [^\n]*\n", printed.err)
    assert message in printed.err
    assert printed.out == ""


@pytest.mark.parametrize("setting", [("--resume",), ("--resume", "--out", "/nowhere/else")])
def test_resume_of_nothing_is_refused(setting):
    with pytest.raises(arguments.UserError, match="expected the folder of an interrupted run"):
        train.main(train.parser().parse_args(setting))


def test_a_disabled_compiler_is_named():
    with jax.disable_jit(), pytest.raises(arguments.UserError, match="JAX_DISABLE_JIT: got None, expected"):
        arguments.use_device("cpu")


NET = mlp(64, 128, 17, g=sigmoid)
GOOD = [Dense(jnp.ones((128, 64)), jnp.ones((128, 1))), Dense(jnp.ones((17, 128)), jnp.ones((17, 1)))]


@pytest.mark.parametrize(
    ("params", "X", "message"),
    [
        (GOOD, (5, 63), "layer 1: W is (128, 64), its input has 63 columns, expected 64"),
        ([GOOD[0]._replace(W=jnp.ones((64, 64)), b=jnp.ones((64, 1))), GOOD[1]], (5, 64),
         "layer 2: W is (17, 128), its input has 64 columns, expected 128"),
        (GOOD[:1], (5, 64), "params: got those of 1 layers, expected 2"),
        ([GOOD[0], GOOD[1]._replace(b=jnp.ones((1, 17)))], (5, 64),
         "layer 2: W is (17, 128), b is (1, 17), expected (n, n_prev) and (n, 1)"),
    ],
)  # fmt: skip
def test_what_does_not_fit_a_layer_is_named_with_both_shapes(params, X, message):
    with pytest.raises(ShapeError) as error:
        NET.forward(params, jnp.ones(X))
    assert str(error.value) == message


@pytest.mark.parametrize("n", [(), (64,), (64, 0), (64, -3, 10), (64, 17.0, 10)])
def test_sizes_that_make_no_network_are_named(n):
    with pytest.raises(Exception, match=r"mlp: got sizes|violates type hint|Type-check"):
        mlp(*n, g=sigmoid)
