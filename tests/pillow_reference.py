"""How a picture is prepared, written by itself with Pillow: what the runtime and the samples are held against."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from edgekit.data import ImagePreprocessing
from edgekit.runtime.image import RESAMPLING
from edgekit.specs import Array


def read_picture(path: Path, preprocessing: ImagePreprocessing) -> Array:
    """Read a picture file, turn it upright, lay it on its background, and prepare it: float32 (1, channels, h, w)."""
    with Image.open(path) as file:
        picture = ImageOps.exif_transpose(file)
        if picture.has_transparency_data:
            seen = picture.convert("RGBA")
            picture = Image.new("RGB", seen.size, (preprocessing.background,) * 3)
            picture.paste(seen, mask=seen.getchannel("A"))
        pixels = np.asarray(picture.convert("L" if preprocessing.channels == 1 else "RGB"))
    return preprocessing(resized(pixels, preprocessing)[None])


def resized(pixels: Array, preprocessing: ImagePreprocessing) -> Array:
    """Resize a picture as the preprocessing says, and cut its middle out.

    Args:
        pixels: uint8 (height, width) or (height, width, channels), of any size.
        preprocessing: Whose `resize` has one number for the shorter edge, two for (height, width), none to stretch the
            picture to the input's size.

    Returns:
        uint8 (preprocessing.height, preprocessing.width[, channels]); borders that the picture does not reach are 0.
    """
    height, width = _target(pixels.shape[0], pixels.shape[1], preprocessing)
    resample = Image.Resampling(RESAMPLING[preprocessing.resample])
    picture = Image.fromarray(np.ascontiguousarray(pixels)).resize((width, height), resample)
    return _middle(np.asarray(picture), preprocessing.height, preprocessing.width)


def _target(height: int, width: int, preprocessing: ImagePreprocessing) -> tuple[int, int]:
    wanted = preprocessing.resize or (preprocessing.height, preprocessing.width)
    if len(wanted) == 2:
        return wanted[0], wanted[1]
    short, long = wanted[0], int(wanted[0] * max(height, width) / min(height, width))
    return (long, short) if width <= height else (short, long)


def _middle(pixels: Array, height: int, width: int) -> Array:
    missing = [max(0, height - pixels.shape[0]), max(0, width - pixels.shape[1])]
    padded = np.pad(pixels, [(-(-m // 2), m // 2) for m in missing] + [(0, 0)] * (pixels.ndim - 2))
    top, left = (padded.shape[0] - height) // 2, (padded.shape[1] - width) // 2
    return padded[top : top + height, left : left + width]
