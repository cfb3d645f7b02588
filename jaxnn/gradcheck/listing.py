"""The catalogue of mistakes as a text, in Markdown: MISTAKES.md is what it prints."""

import textwrap

from jaxnn.gradcheck.mistakes.catalogue import DIGITS, FAMILIES, LAST, ON_PATHS
from jaxnn.gradcheck.mistakes.finding import UNPREDICTED, Mistake

OPENING = """# What can be wrong with a gradient

Made by `python -m jaxnn.gradcheck --mistakes`; a test holds it up to date. Each
mistake has the id by which a report names it, where it can be made, the equation
that it breaks, and a line of NumPy that makes it: X, Y, W1, b1, Z1, A1 … are those
of the lecture, N is the number of examples, and the second layer is the last one.
`jaxnn/gradcheck/mistakes/` holds the gradient that each predicts.
"""
WIDTH = 80


def _entry(mistake: Mistake) -> str:
    head = f"**{mistake.id}**: {mistake.words} ({mistake.where})"
    if mistake.loose:
        head += "; never sure by its numbers alone"
    lines = [*textwrap.wrap(head + ".", WIDTH, break_on_hyphens=False), ""]
    for what, text in (("broken", mistake.equation), ("made by", mistake.example)):
        lines += textwrap.wrap(text, WIDTH, initial_indent=f"    {what:<9}", subsequent_indent=" " * 13)
    return "\n".join(lines)


def listing() -> str:
    """Every mistake of the catalogue, once, by the quantity that is wrong."""
    out, seen = [OPENING], set()
    sections = [(family.quantity, family.mistakes) for family in (*FAMILIES, *ON_PATHS, *LAST)]
    sections += [("digits", DIGITS), ("what no gradient alone shows, and what has no name", UNPREDICTED)]
    for quantity, mistakes in sections:
        new = [m for m in mistakes if m.id not in seen]
        seen |= {m.id for m in new}
        if new:
            out += [f"## {quantity}\n", *(_entry(m) + "\n" for m in new)]
    return "\n".join(out)
