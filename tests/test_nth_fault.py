"""The nth call of files fails: a slice of what `python -m experiments.endure --faults` does with every n."""

import argparse
import random
import re

import jax
import pytest

from experiments import endure
from tests.programs import ROOT

pytestmark = pytest.mark.usefixtures("compiled_plainly")


def test_whichever_call_fails_a_run_goes_on_and_loses_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    arguments = argparse.Namespace(seed=0, runs=["digits", "sweep"])
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):  # as optax needs it
        passed = endure.faults(2, random.Random(5), tmp_path, arguments)
    printed = capsys.readouterr().out
    assert passed, printed
    assert re.search("faults +train: 10, 2 of [0-9]{3} calls\n", printed)
    assert re.search("faults +sweep: 10, 2 of [0-9]{3} calls\n", printed)
    assert re.search("train: 2 of [0-9]{2,3} arrays, out of memory\n", printed)
    assert re.search("sweep: 2 of [0-9]{3} arrays, out of memory\n", printed)
    assert "runs to the end  24, bit-identical: 24\n" in printed
