"""Numbers as people write them, and how they are written here."""

import contextlib
import re
import unicodedata
from typing import Any

LONGEST = 200  # letters of what is looked at more closely: no person writes more
DASHES = "-‐‑‒–—―−﹣－"
NUMBER = r"(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
BETWEEN = r"\s*(?:,|;|:|×|[xX*|/+_]|->|→|-|\s)\s*"
TIMES_TEN = re.compile(r"(?:(\d+\.?\d*) ?[×xX*·] ?)?\b10 ?(?:\^|\*\*) ?\(?([-+]?\d+)\)?")
SEVERAL = re.compile(rf"{NUMBER}(?:{BETWEEN}{NUMBER})+")


def plain_text(text: str) -> str:
    """Text without brackets, quotes and signs around it, in plain letters; nothing of a very long one.

    >>> plain_text("[17, 5],"), plain_text("1e−3"), plain_text("“10⁻³”")
    ('17, 5', '1e-3', '1e-3')
    """
    if len(text) > LONGEST:
        return ""
    text = re.sub(r"\s+", " ", text)
    text = re.sub("[⁻⁺⁰¹²³⁴-⁹]+", lambda m: f"^{m[0]}", text)
    text = unicodedata.normalize("NFKC", text).translate(dict.fromkeys(map(ord, DASHES), "-"))
    text = TIMES_TEN.sub(lambda m: f"{m[1] or 1}e{m[2]}", text)
    text = re.sub(r"\.\.+", " ", text)
    return text.strip(" \t'\"`´“”‘’„«»()[]{}<>=:~≈+,;").rstrip(".,;")


def repaired(text: str, kind: Any) -> list[str]:
    """Numbers that can be meant by a text, the likeliest first.

    >>> repaired("0,5", float)[1], repaired("60 epochs", int)[1], repaired("50%", float)[1]
    ('0.5', '60', '0.5')
    """
    plain = plain_text(text)
    plain = plain.rpartition("=")[2]
    found = [plain]
    if re.fullmatch(r"-?\d{1,3}([,'_ .]\d{3})+", plain):
        found.append(re.sub(r"[,'_ .]", "", plain))
    if re.fullmatch(r"-?\d*,\d+([eE][-+]?\d+)?", plain):
        found.append(plain.replace(",", "."))
    if power := re.fullmatch(r"(?:(\d[\d.]*) ?[*x×] ?)?(\d+) ?(?:\^|\*\*) ?\(?(-?\d{1,3})\)?", plain):
        with contextlib.suppress(OverflowError, ZeroDivisionError):
            found.append(f"{float(power[1] or 1) * float(power[2]) ** int(power[3]):.12g}")
    if ratio := re.fullmatch(r"(\d[\d.]*) ?/ ?(\d[\d.]*)", plain):
        with contextlib.suppress(ZeroDivisionError, ValueError):
            part = float(ratio[1]) / float(ratio[2])
            found += [f"{part:.6g}"] * (part < 1)
    if re.fullmatch(r"[\d.OolI]+", plain):
        found.append(plain.translate(str.maketrans("OolI", "0011")))
    if unit := re.fullmatch(rf"(-?{NUMBER}|\d+,\d+) ?([^\W\d]+|%)\.?", plain):
        number, factor = float(unit[1].replace(",", ".")), scale(unit[2], kind)
        found.append(f"{number * factor:.12g}")
    if re.fullmatch(r"0[xX][0-9a-fA-F]{1,8}", plain):
        found.append(str(int(plain, 16)))
    if re.fullmatch(rf"-?{NUMBER}", plain):
        found += [f"{float(plain):.12g}"]
        with contextlib.suppress(ValueError, OverflowError):
            found += [str(int(float(plain)))] * (float(plain) == int(float(plain)) and len(plain) < 20)
    return [*dict.fromkeys(found), *(one[1:] for one in found if one.startswith("-"))]


def scale(unit: str, kind: Any) -> float:
    """What a unit after a number stands for: thousands, parts of a hundred, or seconds."""
    if "seconds" in getattr(kind, "expected", ""):
        return {"m": 60, "h": 3600}.get(unit[0].lower(), 1)
    return {"k": 1e3, "K": 1e3, "M": 1e6, "%": 1e-2, "MB": 1e-3, "TB": 1e3}.get(unit, 1)
