"""How far the search for a mistake goes: the same on every machine, and never silent about its end."""

import time
from itertools import count

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.planted.mistakes import planted
from experiments.planted.network import Network, data, init, loss_of
from jaxnn.gradcheck import compare_gradients
from jaxnn.gradcheck.diagnosis import search
from jaxnn.gradcheck.report.confidence import SURE
from jaxnn.gradcheck.tape.budget import Spent, Work
from tests.gradcheck.diagnosing import searched

NET = Network((5, 4, 4, 3), "tanh", "softmax-logits")
ARGS = (init(NET, 1), *data(NET, 6, 1))


def of(id, work=None):
    return searched(loss_of(NET), planted(NET, id).gradient, ARGS, work=work)


def test_work_is_counted_and_ends():
    work = Work(10)
    work.spend(4)
    work.spend(6)
    with pytest.raises(Spent, match="all the work"):
        work.spend(1)
    with pytest.raises(Spent):
        work.spend(0)


def test_with_too_little_work_nothing_is_sure_and_a_note_says_so():
    id, spent = "weights-not-transposed", Work()
    whole = of(id, spent)
    assert (whole.causes[0].id, whole.causes[0].confidence, whole.notes) == (id, SURE, [])
    used = Work().left - spent.left
    for share in (1e-3, 0.1, 0.6, 0.999):
        causes, notes = of(id, Work(share * used))
        assert causes
        assert len(notes) == 1
        assert "ended before all was tried" in notes[0]
        assert not any(c.confidence == SURE for c in causes)
    assert of(id, Work(used + 1)) == whole


def test_the_answer_is_the_same_however_fast_the_clock_runs(monkeypatch):
    before = of("derivative-twice")
    clock, turns = time.thread_time, count()
    monkeypatch.setattr(time, "thread_time", lambda: 20 * clock())
    assert of("derivative-twice") == before
    monkeypatch.setattr(time, "thread_time", lambda: 1e3 * next(turns))
    assert any("it has computed for 600 s" in note for note in of("derivative-twice").notes)


def test_a_family_of_mistakes_that_fails_is_told_of_and_nothing_is_sure(monkeypatch):
    def failing(scenes):
        raise ZeroDivisionError("by nothing")
        yield

    first, *rest = search.FAMILIES
    monkeypatch.setattr(search, "FAMILIES", (first._replace(search=failing), *rest))
    causes, notes = of("derivative-twice")
    assert notes == [
        f"mistakes in {first.quantity} could not be tried (ZeroDivisionError: by nothing): nothing is sure"
    ]
    assert causes[0].id == "derivative-twice"
    assert causes[0].confidence != SURE


def test_what_is_wrong_is_said_by_the_names_that_the_caller_has():
    """Names that are words of the sentences too, or parts of one another."""
    names = ("row_scale", "example_scale", "W", "W1", "every", "the 1/N", "{0}")

    def loss(p, X):
        return jnp.mean((X @ p["W"] * p["row_scale"] + p["example_scale"]) ** 2) + jnp.sum(
            jnp.stack([jnp.sum(p[k] ** 2) for k in names[3:]])
        )

    rng = np.random.default_rng(0)
    p = {k: rng.normal(size=(3, 2) if k == "W" else (1, 2)) for k in names}
    for wrong in ("row_scale", "W"):

        def gradient(p, X, wrong=wrong):
            right = jax.grad(loss)(p, X)
            return {k: 0 * g if k == wrong else g for k, g in right.items()}

        report = compare_gradients(loss, gradient, p, rng.normal(size=(5, 3)))
        assert f"p[{wrong!r}]" in report.causes[0].sentence
        assert not any(f"p[{k!r}]" in report.causes[0].sentence for k in names if k != wrong)
        called = compare_gradients(loss, gradient, p, rng.normal(size=(5, 3)), names=sorted(names))
        assert wrong in called.causes[0].sentence


def test_data_stay_symmetric_and_shares_of_one():
    D = np.random.default_rng(1).normal(size=(5, 5))
    K, a = D @ D.T, np.array([0.4, -1.2, 0.7, 2.0, 0.1])
    report = compare_gradients(lambda a, K: a @ K @ a / 2, lambda a, K: 2 * K @ a, a, K)
    assert (report.causes[0].id, report.causes[0].confidence) == ("factor-two", "sure")
    P, S = np.abs(D) / np.abs(D).sum(), D + 0.3

    def loss(S, P):
        return -jnp.sum(P * (S - jax.nn.logsumexp(S)))

    def gradient(S, P):
        return 2 * (np.exp(S) / np.exp(S).sum() - P)  # of shares that sum to 1, and twice that

    assert compare_gradients(loss, gradient, S, P).causes[0].id == "factor-two"
