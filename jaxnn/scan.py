"""A scan or a photo of a digit becomes ink from 0 to 1, as if it had been drawn on a pad."""

import os
import warnings
from pathlib import Path

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageOps
from scipy import ndimage

BOX = Image.Resampling.BOX  # each pixel is the mean of those that it stands for
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")
MOST = 100_000_000  # bytes of a file, and pixels of a picture
SPECK = 0.02  # of the ink of the largest part: what has less is dirt
STROKE = 0.08  # of the digit's longer side: thinner strokes are made as wide as this


class ScanError(ValueError):
    """A picture that cannot be read: one line that says what, got and expected."""


def ink(path: Path) -> Float[np.ndarray, "height width"]:
    """The ink in a picture of a digit, cut out.

    That is what is darker, or else lighter, than what is around it, whichever stands out more. Specks are
    left out, and so is what goes over the edge, unless that is all. Raises ScanError.
    """
    image = _grey(path)
    image.thumbnail((560, 560), BOX)
    grey, small = np.asarray(image), image.copy()
    small.thumbnail((64, 64), BOX)
    wider = np.pad(np.asarray(small), 15, mode="symmetric")  # of less than 15 pixels SciPy's own goes wrong
    around = ndimage.median_filter(wider, size=31)[15:-15, 15:-15]
    out = grey - np.asarray(Image.fromarray(around).resize(image.size, Image.Resampling.BILINEAR))
    out = out * np.sign(np.sum(out**3))  # how far each pixel stands out
    level, noise = _level(out), np.median(np.abs(out))  # of ink, of paper
    if level <= max(6 * noise, 1e-6):
        raise ScanError(f"{path}: got nothing that stands out, expected a digit")
    found = _digit(np.where(out > max(level / 20, 4 * noise), out, 0))
    return _widened(np.minimum(found / _level(found), 1))  # what is left out may have been darker


def _level(out):
    return np.median(out[out >= np.max(out) / 2])


def _digit(found):
    parts = np.empty(found.shape, int)
    ndimage.label(found > 0, np.ones((3, 3)), output=parts)
    sums = np.bincount(parts.ravel(), found.ravel())
    at_edge = np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]])
    inside = np.where(np.isin(np.arange(len(sums)), at_edge), 0, sums)
    if np.sum(inside) > np.sum(sums) / 4:
        sums = inside
    kept = (sums > SPECK * np.max(sums))[parts]
    rows, columns = (np.flatnonzero(kept.any(axis=axis)) for axis in (1, 0))
    return np.where(kept, found, 0)[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.float32)


def _widened(found):
    inside = np.pad(found > 0.5, 1)
    width = 4 * np.mean(np.asarray(ndimage.distance_transform_edt(inside))[inside])
    r = max(0, round((STROKE * max(found.shape) - width) / 2))
    y, x = np.mgrid[-r : r + 1, -r : r + 1]
    return ndimage.grey_dilation(np.pad(found, r), footprint=x * x + y * y <= r * r)


def _grey(path: Path) -> Image.Image:
    """The picture in greys, the largest of which is 1 or -1."""
    if not os.path.isfile(path) or os.path.getsize(path) > MOST:
        raise ScanError(f"{path}: got no file of at most {MOST:,} bytes, expected a picture")
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > MOST:
                raise ValueError(f"{image.width} × {image.height} pixels, expected at most {MOST:,}")
            if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:  # a phone adds another one
                raise ValueError("several pictures in one")
            whole = ImageOps.exif_transpose(image)
            if not whole.mode.startswith(("I", "F")):
                whole = _opaque(whole).convert("L")
            grey = np.asarray(whole, np.float32)
            if not np.isfinite(grey).all():
                raise ValueError("pixels that are no numbers")
            return Image.fromarray(grey / max(np.max(np.abs(grey)), np.finfo(np.float32).tiny))
    except Exception as error:  # Pillow has many for a file that is not what it seems
        why = " ".join(str(error).split())[-120:]
        got = f"{path}: cannot be read as a picture ({type(error).__name__}: {why})"
        raise ScanError(f"{got}; expected PNG, JPEG or the like") from error


def _opaque(image: Image.Image) -> Image.Image:
    """On white if what is not transparent is dark, else on black."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    alpha = np.asarray(image.getchannel("A"), float) + 1e-9
    ground = "white" if np.average(np.asarray(image.convert("L")), weights=alpha) < 127.5 else "black"
    return Image.alpha_composite(Image.new("RGBA", image.size, ground), image)
