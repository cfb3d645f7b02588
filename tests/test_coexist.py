"""Strange calls, and comparisons between a caller's own programs: a few of many, drawn by a seed."""

import subprocess
import sys

from experiments import coexist, fuzz
from tests.programs import ROOT


def test_nothing_but_reports_and_sentences_come_out():
    said = [fuzz.told(fuzz.drawn(2, k)) for k in range(8)]
    assert {"right", "wrong", "cannot tell", "refused", "stopped"}.issuperset(said), said


def test_what_should_not_come_out_is_told():
    odd = fuzz.Odd("", lambda: {}["a key"])
    assert fuzz.told(odd) == "KeyError came out"


def test_programs_give_the_same_bits_with_comparisons_between_them():
    command = [sys.executable, "-m", "experiments.coexist", "--comparisons", "1", "--seed", "5"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "\n1 comparisons (" in done.stdout
    assert "other bits than without them: 0" in done.stdout
    assert "compiled again because of them: 0" in done.stdout


def test_other_bits_are_told(monkeypatch, capsys):
    a, b = coexist.Run("a map", "1", 1), coexist.Run("a map", "2", 1)
    monkeypatch.setattr(coexist, "mixed", lambda *_: ([a], coexist.Counter(["True"])))
    monkeypatch.setattr(coexist, "alone", lambda *_: [b])
    monkeypatch.setattr(sys, "argv", ["coexist", "--comparisons", "1"])
    assert coexist.main(coexist.parser().parse_args()) == 1
    assert "other bits than without them: 1 {'a map': 1}" in capsys.readouterr().out
