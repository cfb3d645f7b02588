"""One process, many devices: the same training on each of them, and nothing sent that need not be."""

import argparse
import itertools
import json
import os
import re
import subprocess
import sys

import jax
import numpy as np
import optax
import pytest

from experiments import train
from experiments.check_layout import integers, products, truth
from experiments.common import continuation
from experiments.common.arguments import UserError
from experiments.common.devices import Axes, layout_of, mesh_over
from jaxnn.activations import sigmoid
from jaxnn.devices import Refused, layout
from jaxnn.devices.collectives import Sent, sent, totals
from jaxnn.devices.in_order import check
from jaxnn.devices.mesh import mesh_of, placed
from jaxnn.devices.split import step, steps_on
from jaxnn.layers import Dense, mlp
from jaxnn.losses import cross_entropy
from jaxnn.objective import value_and_grad
from jaxnn.training import start, steps_from
from jaxnn.training import step as training_step
from tests.programs import ROOT, ended

SIMULATED = "--xla_force_host_platform_device_count="


@pytest.fixture(scope="module")
def found():
    """What tests/many_devices.py has found on eight devices."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.many_devices"],
        capture_output=True,
        encoding="utf-8",
        cwd=ROOT,
        env=os.environ | {"XLA_FLAGS": f"{SIMULATED}8", "JAX_PLATFORMS": "cpu"},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(("network", "rows"), [("dense", 384), ("large", 1024), ("attention", 192)])
def test_a_step_sends_the_gradient_and_the_cost_once_and_fetches_its_own_rows(found, network, rows):
    for n, program in found[network].items():
        sent = [] if n == "1" else [["all-reduce", 4 * program["P"] + 4]]
        assert program["sent"] == sent
        assert program["fetched"] == [rows // int(n)]
    if one := found[network].get("1"):
        np.testing.assert_allclose(found[network]["8"]["J"], one["J"], rtol=1e-5)
        assert found[network]["8"]["temporaries"] < one["temporaries"] / 3


def test_a_batch_that_does_not_divide_is_split_all_the_same(found):
    one, eight = found["uneven"]["1"], found["uneven"]["8"]
    assert eight["sent"] == [["all-reduce", 4 * eight["P"] + 4]]
    assert eight["fetched"] == [2 * 13]
    np.testing.assert_allclose(eight["J"], one["J"], rtol=1e-5)


def test_whole_numbers_have_the_same_bits_in_every_layout(found):
    for status, printed, err in found["exact"]:
        assert status == 0, err + printed
        assert "\nsame      " in printed
        assert printed.endswith("all       1 layouts have the same bits, those that NumPy works out\n")


def test_a_step_that_is_not_split_is_told(found):
    status, printed, err = found["unsplit"]
    assert status == 2
    assert (
        "\nsends     data=8: a step sends nothing\n          expected 1 all-reduce of 7,460 bytes\n"
        in printed
    )
    assert err == "error: 1 of 1 layouts: other bits, or other bytes sent, than expected\n"


def test_in_order_the_bits_are_those_of_one_device(found):
    assert len(set(found["in order"])) == 1
    assert len(set(found["elastic"])) == 1


def test_a_table_says_what_each_device_holds_and_what_is_sent(found):
    status, printed, err = found["layout"]
    assert status == 0, err
    assert "device    4 × cpu" in printed
    assert "layout    fsdp=2,model=2: of the 8 rows of a batch\n          each device has 4\n" in printed
    assert max(map(len, printed[printed.index("layout  ") :].splitlines())) <= 80
    assert "          W[1] (16, 64): (8, 32) on each\n" in printed
    assert "          W[2] (8, 16): (4, 8) on each\n" in printed
    assert "          W[3] (10, 8): (5, 8) on each\n" in printed
    assert {180, 32} < {
        *found["evaluated"]
    }  # of the 359 test images, and of those the gradient is measured on
    assert "of 5,064 bytes of parameters and optimizer state\n          each holds 1,380; a step" in printed


def test_on_one_device_the_program_is_the_one_without_a_mesh():
    """Instruction by instruction, so that its bits and its time are the same."""
    net, optimizer = mlp(7, 6, 5, g=sigmoid), optax.adam(0.01)
    gradient, mesh = value_and_grad(net, cross_entropy), mesh_of(jax.devices()[:1])
    X, Y = np.ones((96, 7), np.float32), np.eye(5, dtype=np.float32)[np.arange(96) % 5]
    plain = (start(net.init(jax.random.key(0)), optimizer), jax.random.key(1), np.int32(0), X, Y)

    def instructions(program, rest):
        with jax.numpy_dtype_promotion("standard"):  # as optax needs it
            text = jax.jit(program).lower(*rest).compile().as_text()
        return re.findall(r"^ *(?:ROOT )?%?[\w.-]+ = (\(.*?\)|\S+) ([\w-]+)\(", text, re.M)

    before = instructions(steps_from(training_step(gradient, optimizer), 32, 3), plain)
    here = instructions(steps_on(mesh, step(gradient, optimizer, mesh), 32, 3), placed(mesh, plain))
    assert len(here) > 50
    assert here == before


def test_layouts_are_all_products():
    assert len([*products(8)]) == 13
    assert all(np.prod([*sizes.values()]) == 12 for sizes in products(12))
    assert {"members": 1, "data": 2, "fsdp": 3, "model": 2} in products(12)


@pytest.mark.parametrize("devices", [1, 6, 32])
def test_the_numbers_of_the_network_of_whole_numbers_are_exact(devices):
    for array in truth(integers(devices)):
        np.testing.assert_array_equal(np.float64(np.float32(array)), array)


TEXT = """
  %a = (f32[], f32[17,64]{1,0}) all-reduce(%b, %c), channel_id=1, replica_groups={{0,1}}
  ROOT %d = f32[8,16]{1,0} all-gather-start(%e), dimensions={0}
  %f = (bf16[4]{0}, bf16[8]{0}) all-gather-start(%g), dimensions={0}
  %h = bf16[8]{0} all-gather-done(%f)
  %i = f32[3]{0} add(%j, %all-reduce.3)
"""


def test_collectives_are_counted_in_the_text_of_a_program():
    gathered = [Sent("all-gather", 512), Sent("all-gather", 16)]
    assert sent(TEXT) == [Sent("all-reduce", 4 + 4 * 17 * 64), *gathered]
    assert totals(sent(TEXT)) == {"all-reduce": 4356, "all-gather": 528}


def named(**sizes):
    return argparse.Namespace(shape={"members": 1, "data": 1, "fsdp": 1, "model": 1} | sizes)


def shapes(*n):
    return [
        Dense(jax.ShapeDtypeStruct((m, k), float), jax.ShapeDtypeStruct((m, 1), float))
        for k, m in itertools.pairwise(n)
    ]


def specs_of(params, mesh):
    found = layout.stored(mesh, params, params)
    specs = jax.tree.leaves(found, is_leaf=lambda node: isinstance(node, jax.sharding.PartitionSpec))
    return [tuple(spec) for spec in specs]


def test_two_dense_layers_in_a_row_are_split_by_rows_and_columns():
    params = [{"gamma": jax.ShapeDtypeStruct((1, 5), float)}, *shapes(5, 6, 9, 4)]
    whole, fsdp = (None, None), ("fsdp", None)
    pair = [("model", None), ("model", None), (None, "model"), whole]
    assert specs_of(params, named(model=3)) == [whole, *pair, whole, whole]
    assert specs_of(params, named(model=3, fsdp=2)) == [whole, *pair, fsdp, fsdp]


@pytest.mark.parametrize(
    ("n", "sizes", "said"),
    [
        (
            (5, 6, 4),
            {"model": 4},
            "model=4: got 6 neurons to split, expected 1 or 2 or 3; or a multiple of 4 neurons, such as 8",
        ),
        ((5, 6), {"model": 2}, "model=2: got no two dense layers in a row, expected such"),
        ((5, 6), {"fsdp": 7}, "fsdp=7: got axes of 1, 5, 6 to split, expected 1 or 2 or 3 or 5 or 6"),
    ],
)
def test_what_does_not_divide_is_one_line_with_numbers_that_would(n, sizes, said):
    with pytest.raises(Refused, match=re.escape(said)):
        specs_of(shapes(*n), named(**sizes))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rows=2", "expected sizes of data, fsdp, model, each once, 1 at least, such as data,model=2"),
        ("data=2,data=4", "each once"),
        ("data=two", "each once"),
        ("data=0", "each once, 1 at least"),
        ("fspd=8", "expected fsdp=8 in place of fspd=8"),
        ("data,model", "expected a number for all but one"),
        ("", "each once"),
    ],
)
def test_a_layout_that_is_none_is_refused(text, said):
    with pytest.raises(argparse.ArgumentTypeError, match=said):
        Axes(("data", "fsdp", "model"))(text)


@pytest.mark.parametrize(
    ("devices", "text", "shape"),
    [
        (None, None, "data=8"),
        (3, None, "data=3"),
        (None, "data,model=2", "data=4,model=2"),
        (None, "model=2", "model=2"),
        (4, "fsdp", "fsdp=4"),
        (None, "data=2,fsdp=2,model", "data=2,fsdp=2,model=2"),
        (None, "data=1", "one device"),
    ],
)
def test_a_number_may_be_left_out(devices, text, shape, monkeypatch):
    assert layout_of(asked(monkeypatch, devices, text)) == shape


@pytest.mark.parametrize(
    ("devices", "text", "said"),
    [
        (9, None, "--devices: got 9, expected at most 8 devices: all there are"),
        (None, "data=4,model=4", "--layout: got 16, expected at most 8 devices: all there are"),
        (None, "data,model=3", "expected sizes whose product is 8, each one of 1, 2, 4, 8"),
        (6, "data=2,model=2", "expected sizes whose product is 6, each one of 1, 2, 3, 6"),
    ],
)  # fmt: skip
def test_what_the_devices_do_not_give_is_one_line(devices, text, said, monkeypatch):
    with pytest.raises(UserError) as raised:
        asked(monkeypatch, devices, text)
    assert str(raised.value).endswith(said)


def asked(monkeypatch, devices, text):
    """The mesh for these arguments where there are eight devices."""
    eight = [argparse.Namespace(id=k, process_index=0) for k in range(8)]
    monkeypatch.setattr(
        "jaxnn.devices.mesh.mesh_of",
        lambda there, **sizes: argparse.Namespace(shape=sizes, size=np.prod([*sizes.values()])),
    )
    given = text and Axes(("data", "fsdp", "model"))(text)
    return mesh_over(eight, argparse.Namespace(devices=devices, layout=given))


def test_what_cannot_be_summed_in_order_is_one_line():
    one = mesh_of(jax.devices()[:1])
    check(one, 48)
    with pytest.raises(
        Refused, match="--batch-size: got 100, expected a multiple of 8, 16 at least, such as 104"
    ):
        check(one, 100)
    three, split = ({"data": 3}, 3), ({"data": 4, "model": 2}, 8)
    for (shape, size), said in ((three, "data=3"), (split, "data=4,model=2")):
        with pytest.raises(Refused, match=f"got the layout {said}, "):
            check(argparse.Namespace(shape=shape, size=size), 48)
    done = ended(train, "--reproducible")
    assert done.status == 2
    assert done.err.endswith("16 at least, such as 16, with --reproducible\n")


def test_the_number_of_simulated_devices_is_no_setting(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", f" --xla_cpu_use_thunk_runtime=true  {SIMULATED}4 ")
    assert continuation.of_environment("XLA_FLAGS") == "--xla_cpu_use_thunk_runtime=true"
    monkeypatch.setenv("XLA_FLAGS", f"{SIMULATED}4")
    assert not continuation.of_environment("XLA_FLAGS")
