"""With the intermediates handed in, the faulty step is the one that is named."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.ad_checkpoint import checkpoint_name

from experiments.planted.network import ACTIVATIONS, COSTS, Network, data, init, loss_of
from jaxnn.gradcheck import compare_gradients
from jaxnn.gradcheck.diagnosis.steps import check_steps

NETS = (
    Network((5, 4, 3), "tanh", "bce-naive"),
    Network((6, 4, 4, 2), "sigmoid", "softmax-naive"),
    Network((4, 5, 3, 4, 2), "softplus", "squared"),
)


def shown(net, params, X, Y, wrong=(), fault=lambda x: 1.01 * x):
    """(gradient, steps) with every step by name; the steps in `wrong` are changed on the way."""
    g = ACTIVATIONS[net.hidden]
    steps = {}

    def noted(name, value):
        steps[name] = fault(value) if name in wrong else value
        return steps[name]

    Z, A = [None], [X]
    for l, (W, b) in enumerate(params, 1):
        Z.append(A[-1] @ W.T + b.T)
        A.append(COSTS[net.cost].output(Z[-1]) if l == len(params) else g.forward(Z[-1]))
    L = len(params)
    dZ = noted(f"dZ[{L}]", COSTS[net.cost].error(Z[-1], Y) / X.shape[0])
    gradient = [None] * L
    for l in range(L, 0, -1):
        W, b = params[l - 1]
        dW = dZ.T @ A[l - 1]
        db = jnp.sum(dZ, axis=0)[:, None]
        gradient[l - 1] = (dW * 1.01 if f"dW[{l}]" in wrong else dW, db * 1.01 if f"db[{l}]" in wrong else db)
        if l > 1:
            dA = noted(f"dA[{l - 1}]", dZ @ W)
            dZ = noted(f"dZ[{l - 1}]", dA * g.slope(Z[l - 1], A[l - 1]))
    return tuple(gradient), steps


def leaf(name):
    return f"[{int(name[3:-1]) - 1}][{'Wb'.index(name[1])}]"


@pytest.mark.parametrize(
    ("net", "dtype"),
    [(NETS[0], np.float64), (NETS[1], np.float32)],
    ids=["2 layers, float64", "3 layers, float32"],
)
def test_only_the_faulty_step_is_flagged(net, dtype):
    with jax.enable_x64(True):
        args = jax.tree.map(lambda x: jnp.asarray(x, dtype), (init(net, 3), *data(net, 5, 3)))
        gradient, steps = shown(net, *args)
        assert check_steps(loss_of(net), args, 0, gradient, steps) == []
        layers = range(1, len(net.sizes))
        for name in [*steps, *(f"d{k}[{l}]" for k in "Wb" for l in layers)]:
            gradient, steps = shown(net, *args, wrong={name})
            found = check_steps(loss_of(net), args, 0, gradient, steps)
            expected = name if name[1] in "ZA" else leaf(name)
            assert [e.step for e in found] == [expected]
            assert found[0].error == pytest.approx(0.01, rel=0.2)


@pytest.mark.parametrize(
    ("wrong", "of"), [("dZ[3]", ""), ("dA[2]", " of dZ[3]"), ("dZ[2]", " of dA[2]"), ("dA[1]", " of dZ[2]")]
)
def test_the_report_names_the_step_that_is_wrong_and_what_it_is_made_of(wrong, of):
    net = Network((5, 4, 3, 2), "tanh", "bce-logits")
    args = (init(net, 2), *data(net, 7, 2))

    def made(*args):
        return shown(net, *args, wrong={wrong}, fault=lambda x: x * x)

    names = [f"{k}[{l}]" for l in (1, 2, 3) for k in "Wb"]
    report = compare_gradients(
        loss_of(net), lambda *a: made(*a)[0], *args, steps=lambda *a: made(*a)[1], names=names
    )
    (step,) = report.steps
    assert step.step == wrong
    assert step.sentence.startswith(f"{wrong} is where it goes wrong")
    assert f"made rightly{of}, " in step.sentence
    assert wrong in report.causes[0].where
    assert report.headline.endswith(
        (
            f"The step that makes {wrong}{of} is wrong",
            f"{wrong} is squared",
            f"{wrong} is wrong in every entry",
        )
    )


def test_a_wrong_parameter_has_the_name_of_the_report_and_its_own_layers_step():
    net = NETS[1]
    args = (init(net, 3), *data(net, 5, 3))
    gradient = lambda *a: shown(net, *a, wrong={"dW[2]"})[0]  # noqa: E731
    steps = lambda *a: shown(net, *a)[1]  # noqa: E731
    (step,) = compare_gradients(loss_of(net), gradient, *args, steps=steps).steps
    assert (step.step, step.of) == ("params[1][0]", "dZ[2]")


def test_two_faults_are_both_flagged_the_upper_first():
    net = NETS[2]
    args = (init(net, 1), *data(net, 3, 1))
    with jax.enable_x64(True):
        gradient, steps = shown(net, *args, wrong={"dZ[2]", "dA[3]"})
        found = check_steps(loss_of(net), args, 0, gradient, steps)
    assert [e.step for e in found] == ["dA[3]", "dZ[2]"]


def test_a_quantity_tagged_in_the_loss_is_known_by_its_name():
    def loss(w, x):
        h = checkpoint_name(jnp.sin(w * x), "wave")
        return jnp.sum(h**3)

    w, x = np.array([0.3, 0.7]), np.array([1.1, -0.4])
    dh = 3 * np.sin(w * x) ** 2
    right = dh * np.cos(w * x) * x
    assert check_steps(loss, (w, x), 0, right, {"dwave": dh}) == []
    (error,) = check_steps(loss, (w, x), 0, right * np.array([1, 2]), {"dwave": dh})
    assert error.entry == (1,)
    assert error.step != "dwave"
    (error,) = check_steps(loss, (w, x), 0, 2 * right, {"dwave": 2 * dh})
    assert error.step == "dwave"


def test_a_step_of_zeros_is_right():
    def loss(w, x):
        return jnp.sum(checkpoint_name(w * x, "wave") * 0.0)

    w, x = np.array([0.3, 0.7]), np.array([1.1, -0.4])
    assert check_steps(loss, (w, x), 0, np.zeros(2), {"dwave": np.zeros(2, int)}) == []


def test_an_unknown_name_and_a_wrong_shape_get_a_sentence():
    net = NETS[0]
    args = (init(net), *data(net, 3))
    with pytest.raises(ValueError, match=r"no step 'dQ' in the loss; it has dA\[1\], dA\[2\], dZ\[1\]"):
        check_steps(loss_of(net), args, 0, args[0], {"dQ": np.zeros(3)})
    with pytest.raises(ValueError, match=r"step dZ1 has the shape \(4,\); the loss's is \(3, 4\)"):
        check_steps(loss_of(net), args, 0, args[0], {"dZ1": np.zeros(4)})
