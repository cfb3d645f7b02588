"""What a gradient keeps between calls is told from what it draws anew, in coarse precision too."""

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.planted.mistakes import planted
from experiments.planted.network import Network, data, init, loss_of
from jaxnn.gradcheck import compare_gradients
from jaxnn.gradcheck.calls.call import checked
from jaxnn.gradcheck.calls.repeated import called_repeatedly


@pytest.mark.parametrize(
    ("id", "dtype"), [("accumulated", "bfloat16"), ("stale", "bfloat16"), ("mask-resampled", "float32")]
)
def test_one_example_whose_mask_is_all_zeros(id, dtype):
    """The right gradient is zero in two layers of three, and bfloat16 has 8 digits."""
    net = Network((4, 3, 5, 2), masked=True)
    params, (X, Y, masks) = init(net), data(net, 1)
    cast = lambda *xs: tuple(jnp.asarray(x, dtype) for x in xs)  # noqa: E731
    args = (tuple(cast(*p) for p in params), *cast(X, Y), cast(masks[0], np.zeros_like(masks[1])))
    report = compare_gradients(loss_of(net), planted(net, id).gradient, *args)
    assert report.correct is False
    assert [c.id for c in report.causes] == [id]
    assert report.causes[0].sentence[0].isupper()


@pytest.mark.parametrize(("roundings", "agree"), [(20, True), (400, False)])
def test_calls_that_differ_by_roundings_agree(roundings, agree):
    """Some machines add in no fixed order."""
    made = []

    def gradient(w):
        made.append(w)
        return 2 * w * (1 + len(made) % 2 * roundings * 2.0**-23)

    call = checked(lambda w: jnp.sum(w**2), gradient, (jnp.array([1.0, -2.0, 0.5]),), 0)
    calls = called_repeatedly(call, [2 * call.leaves[0]])
    assert calls.repeatable is agree
    assert [p.passed for p in calls.probes] == [agree, agree]


@pytest.mark.parametrize("wrong", [lambda k: k == 0, lambda k: k % 2 == 0, lambda k: k % 2 == 1])
def test_a_gradient_that_is_right_at_some_calls_only(wrong):
    """Zero at its first call, or at every other one."""
    made = []

    def gradient(w):
        made.append(w)
        return 0 * w if wrong(len(made) - 1) else 3 * w**2

    report = compare_gradients(lambda w: jnp.sum(w**3), gradient, jnp.array([1.0, 2.0, -0.5]))
    assert report.correct is False
