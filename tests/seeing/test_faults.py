"""The page of a comparison shows the graph of the network, and in it the step at fault."""

import re
import xml.etree.ElementTree as ET

import pytest

from experiments import compare_gradients
from tests.programs import ended

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize(
    ("words", "marked"),
    [
        (["--plant", "layer-sign", "--hidden", 9, "--layer", 1], ["dZ[1]"]),
        (["--plant", "updated-weights", "--hidden", 9], ["dA[1]"]),
        (["--plant", "missing-mean", "--hidden", 9], ["dW[2]", "db[2]", "dW[1]", "db[1]"]),
        (["--hidden", 9], []),
    ],
)
def test_the_step_at_fault_is_marked(tmp_path, words, marked):
    file = tmp_path / "report.html"
    done = ended(compare_gradients, *words, "--examples", 33, "--json", "--html", file)
    assert done.status == bool(marked)
    text = file.read_text(encoding="utf-8")
    assert len(text) <= 300_000
    (graph,) = map(ET.fromstring, re.findall(r"<svg[^>]*>\n<title>Compute graph.*?</svg>", text, re.DOTALL))
    said = ["".join(words.itertext()) for words in graph.iter(f"{SVG}text")]
    assert [line[2:].partition(":")[0] for line in said if line.startswith("✗ ")] == marked
    assert [line for line in said if line.startswith("✗ ") and line.endswith("the same")] == [
        f"✗ {name}: the same" for name in marked[1:]
    ]
    assert any("(33, 9)" in line for line in said)
