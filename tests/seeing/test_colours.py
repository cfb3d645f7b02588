"""Colours can be read, and told apart by eyes that see fewer of them."""

import base64
import io
import itertools

import numpy as np
import pytest
from PIL import Image

from jaxnn.seeing.colours import COLOURS, css
from jaxnn.seeing.images import pixels, source

WORDS = ("text", "muted", "forward", "backward", "parameter", "wrong")
SERIES = ("forward", "backward", "parameter")
GROUNDS = ("ground", "card")

# Machado, Oliveira and Fernandes, "A physiologically-based model for simulation of color vision deficiency",
# IEEE TVCG 15 (2009), severity 1: on linear RGB
EYES = {
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "all colours": np.eye(3),
}


def linear(colour: str) -> np.ndarray:
    rgb = np.array([int(colour[k : k + 2], 16) for k in (1, 3, 5)]) / 255
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def luminance(colour: str) -> float:
    return float(linear(colour) @ [0.2126, 0.7152, 0.0722])


def lab(rgb: np.ndarray) -> np.ndarray:
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ rgb
    t = xyz / [0.9505, 1.0, 1.089]
    f = np.where(t > (6 / 29) ** 3, np.cbrt(t), t / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize(("word", "ground"), list(itertools.product(WORDS, GROUNDS)))
def test_words_stand_out_from_their_ground(word, ground):
    for colour, behind in zip(COLOURS[word], COLOURS[ground], strict=True):
        light, dark = sorted((luminance(colour), luminance(behind)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5  # WCAG 2, 1.4.3


@pytest.mark.parametrize("eyes", EYES)
def test_what_goes_forward_and_what_goes_back_look_different(eyes):
    for k in (0, 1):
        seen = [lab(np.clip(EYES[eyes] @ linear(COLOURS[name][k]), 0, 1)) for name in SERIES]
        for a, b in itertools.combinations(seen, 2):
            assert np.linalg.norm(a - b) >= 27


def test_both_grounds_have_every_colour():
    for name, (light, dark) in COLOURS.items():
        assert f"--{name}:{light}" in css()
        assert f"--{name}:{dark}" in css()


def test_an_image_in_a_page_has_the_very_colours():
    t = np.linspace(-1.2, 1.2, 28 * 28).reshape(28, 28)
    for grey in (False, True):
        there = pixels(t, grey)
        png = base64.b64decode(source(there).partition(",")[2])
        assert (np.asarray(Image.open(io.BytesIO(png)).convert("RGB")) == there).all()
