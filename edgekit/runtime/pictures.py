"""Pictures -> the input of a model, exactly as training prepared them; Pillow only where a file has to be read."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.errors import InputError, MissingPackageError, brief
from edgekit.runtime.image import RESAMPLING, WHITE, ImagePreprocessing
from edgekit.specs import Array

MOST_PIXELS = 64_000_000  # of a picture file; a phone's largest today is 200 million, which no model looks at
MOST_PICTURE_BYTES = 256 << 20
# What cameras, phones and screens write. Pillow reads more, by code that few people look at.
_COMMON, _RARER = ("PNG", "JPEG", "BMP", "GIF", "PPM"), ("WEBP", "TIFF", "AVIF")
_WHITE_16 = 65535
_WITH_ALPHA = 4  # channels
_ALPHA_MODES = ("LA", "La", "PA", "RGBA", "RGBa")
_ORIENTATION = 0x0112  # of EXIF
_GREY = (19595, 38470, 7471)  # ITU-R 601-2 luma in 16 bits, as Pillow has it


@dataclass(frozen=True)
class PicturePreparation(ImagePreprocessing):
    """From a picture of any size to one input.

    Attributes:
        input: Name of the input.
    """

    input: str = ""

    def row(self, given: Any) -> dict[str, Array]:
        """Prepare a picture.

        Args:
            given: A path, a file's bytes, a Pillow image, or its pixels (height, width[, channels]); what is
                transparent is laid on `background`.

        Returns:
            The input's name -> float32 (channels, height, width).

        Raises:
            InputError: if it is no picture, or too large.
            MissingPackageError: if Pillow is needed and not there.
        """
        read = given if isinstance(given, np.ndarray) else read_pixels(given, self.channels, self.background)
        pixels = self._in_channels(read)
        if not pixels.shape[:2] == (self.height, self.width) == self._target(*pixels.shape[:2]):
            pixels = self._resized(pixels)
        return {self.input: self(pixels[None])[0]}

    def _in_channels(self, pixels: Array) -> Array:
        """Pixels (height, width[, 3 or 4]) in grey or colour."""
        if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (1, 3, 4)) or not pixels.size:
            got = "x".join(map(str, pixels.shape)) or "scalar"
            raise InputError(
                f"pixels must be height x width or height x width x 3, got {got}; give a batch as a list, and prepared "
                f"inputs as {{{self.input!r}: array}}"
            )
        if pixels.dtype.kind not in "uif":
            raise InputError(f"pixels must be numbers, got dtype {pixels.dtype.name}")
        if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
            raise InputError(f"the picture has {int((~np.isfinite(pixels)).sum())} pixels that are NaN or infinite")
        planes = pixels.reshape(*pixels.shape[:2], -1)
        if planes.shape[2] == _WITH_ALPHA:
            planes = lay_on(planes, self.background)
        if self.channels == 1 and planes.shape[2] > 1:
            return _grey(planes)
        return np.repeat(planes, 3, axis=2) if planes.shape[2] < self.channels else planes

    def _resized(self, pixels: Array) -> Array:
        height, width = self._target(*pixels.shape[:2])
        if pixels.shape[:2] != (height, width):
            pixels = _resample(pixels, height, width, self.resample)
        return _middle(pixels, self.height, self.width)

    def _target(self, height: int, width: int) -> tuple[int, int]:
        wanted = self.resize or (self.height, self.width)
        if len(wanted) == 2:
            return wanted[0], wanted[1]
        short, long = wanted[0], int(wanted[0] * max(height, width) / min(height, width))
        if short * long > MOST_PIXELS:
            raise InputError(f"the picture of {width}x{height} pixels is too narrow to be resized; cut it")
        return (long, short) if width <= height else (short, long)


def read_pixels(given: Any, channels: int, background: int = WHITE) -> Array:
    """The pixels of a picture, turned upright as its EXIF says.

    Args:
        given: A path, a file's bytes, or a Pillow image.
        channels: 1 for grey, 3 for RGB.
        background: Grey level of what transparent pixels are laid on.

    Returns:
        uint8 (height, width) or (height, width, 3).

    Raises:
        InputError: if it is no picture, or several, or has more than MOST_PIXELS; it is not decoded before that is
            known.
        MissingPackageError: without Pillow.
    """
    name, library = _title(given), import_pillow()
    try:
        if isinstance(given, library.Image):
            return _decoded(given, name, channels, background)
        with _opened(io.BytesIO(given) if isinstance(given, bytes) else Path(given), library) as picture:
            _refuse_several(picture, name)
            return _decoded(picture, name, channels, background)
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{name} is not there") from None
    except library.UnidentifiedImageError:
        known = ", ".join((*_COMMON, *_RARER))
        raise InputError(f"{name} is no picture that can be read; it is none of {known}") from None
    except (library.DecompressionBombError, library.DecompressionBombWarning) as error:
        raise _too_large(name, str(error).removeprefix("Image size ").split(" ")[0].strip("(")) from error
    except Exception as error:  # Pillow raises what its decoders raise, down to struct.error
        raise InputError(f"{name} is no picture that can be read ({brief(error, 160)})") from error


def picture_size(content: bytes) -> tuple[int, int]:
    """(width, height) of a picture file by its head, before anything is decoded; (0, 0) where it is none.

    Raises:
        MissingPackageError: without Pillow.
    """
    library = import_pillow()
    try:
        with _opened(io.BytesIO(content), library) as picture:
            return picture.width, picture.height
    except Exception:  # `read_pixels` says what is wrong with it
        return 0, 0


def import_pillow() -> Any:
    """PIL.Image.

    Raises:
        MissingPackageError: without Pillow.
    """
    try:
        from PIL import Image
    except ModuleNotFoundError:
        raise MissingPackageError("pictures need Pillow; install it: pip install pillow") from None
    return Image


def _opened(source: Any, library: Any) -> Any:
    """A picture of which only the head has been read; rarer formats load all of Pillow's plugins."""
    try:
        return library.open(source, formats=_COMMON)
    except library.UnidentifiedImageError:
        library.init()
        return library.open(source, formats=[name for name in _RARER if name in library.OPEN])


def _title(given: Any) -> str:
    if isinstance(given, (str, os.PathLike)):
        size = os.path.getsize(given) if os.path.exists(given) else 0
        name = str(given)
    elif isinstance(given, bytes):
        size, name = len(given), "the picture"
    elif type(given).__module__.startswith("PIL."):
        size, name = 1, "the picture"
    else:
        raise InputError(
            f"a picture is a path, a file's bytes, a Pillow image or an array of pixels, got {type(given).__name__}"
        )
    if size > MOST_PICTURE_BYTES:
        raise InputError(f"{name} has {size:,} bytes, and {MOST_PICTURE_BYTES:,} are the most")
    if not size and isinstance(given, bytes):
        raise InputError("the picture has no bytes")
    return name


def _refuse_several(picture: Any, name: str) -> None:
    """A phone's photo may have another one behind it (MPO), which nobody means; of an animation nobody knows which."""
    if picture.format != "MPO" and getattr(picture, "is_animated", False):
        raise InputError(
            f"{name} holds several pictures (frames or pages), and the model takes one; save that as a file of its own"
        )


def _decoded(picture: Any, name: str, channels: int, background: int) -> Array:
    width, height = picture.size
    if width * height > MOST_PIXELS:
        raise _too_large(name, f"{width}x{height}")
    if picture.getexif().get(_ORIENTATION, 1) != 1:
        from PIL import ImageOps

        picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith(("I", "F")):
        picture = _in_eight_bits(picture, name)
    if picture.mode in _ALPHA_MODES or "transparency" in picture.info:
        laid = lay_on(np.asarray(picture.convert("RGBA")), background)
        return _grey(laid) if channels == 1 else laid
    return np.asarray(picture.convert("L" if channels == 1 else "RGB"))


def _in_eight_bits(picture: Any, name: str) -> Any:
    """A grey picture of 16 bits with white at 255; Pillow's own conversion cuts all that is brighter than 255 off."""
    levels = np.asarray(picture)
    if levels.dtype.kind not in "ui" or levels.min() < 0 or levels.max() > _WHITE_16:
        raise InputError(f"{name} has pixels of {levels.dtype.name} that are no 16 bits; save it with 8 bits a channel")
    scaled = (levels.astype(np.uint32) * 255 + _WHITE_16 // 2) // _WHITE_16
    return import_pillow().fromarray(scaled.astype(np.uint8))


def _too_large(name: str, pixels: str) -> InputError:
    return InputError(f"{name} has {pixels} pixels, and {MOST_PIXELS:,} are the most; make it smaller")


def lay_on(pixels: Array, background: int) -> Array:
    """Pixels without their alpha, as over a grey level: Pillow's paste with a mask, to the bit.

    Args:
        pixels: uint8 (height, width, 4): red, green, blue, and alpha from 0 (transparent) to 255.
        background: 0 (black) to 255 (white).

    Returns:
        uint8 (height, width, 3).

    Raises:
        InputError: for another dtype, of which nobody knows what is opaque.
    """
    if pixels.dtype != np.uint8:
        raise InputError(
            f"pixels with alpha must be uint8, got {pixels.dtype.name}; give height x width x 3 without it"
        )
    alpha = pixels[..., 3:].astype(np.uint16)
    sums = pixels[..., :3] * alpha + background * (WHITE - alpha) + np.uint16(128)
    return np.asarray((sums + (sums >> 8)) >> 8).astype(np.uint8)


def _grey(planes: Array) -> Array:
    """Pillow's grey of uint8 (height, width, 3), to the bit; of others the same weights."""
    red, green, blue = (planes[..., i] for i in range(3))
    if planes.dtype != np.uint8:
        return np.asarray((red * _GREY[0] + green * _GREY[1] + blue * _GREY[2]) / 65536)
    weighted = red.astype(np.uint32) * _GREY[0] + green.astype(np.uint32) * _GREY[1] + blue.astype(np.uint32) * _GREY[2]
    return np.asarray((weighted + 0x8000) >> 16).astype(np.uint8)


def _resample(pixels: Array, height: int, width: int, method: str) -> Array:
    if pixels.dtype != np.uint8:
        raise InputError(
            f"the picture has {pixels.shape[1]}x{pixels.shape[0]} pixels of {pixels.dtype.name}, and the model takes "
            f"{width}x{height}; only uint8 is resized"
        )
    library = import_pillow()
    flat = np.ascontiguousarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels)
    return np.asarray(library.fromarray(flat).resize((width, height), library.Resampling(RESAMPLING[method])))


def _middle(pixels: Array, height: int, width: int) -> Array:
    """The middle of a picture; borders that it does not reach are 0."""
    missing = [max(0, height - pixels.shape[0]), max(0, width - pixels.shape[1])]
    padded = np.pad(pixels, [(-(-m // 2), m // 2) for m in missing] + [(0, 0)] * (pixels.ndim - 2))
    top, left = (padded.shape[0] - height) // 2, (padded.shape[1] - width) // 2
    return padded[top : top + height, left : left + width]
