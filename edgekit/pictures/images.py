"""How a model's input is an image, and how to look at it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgekit.data import ImagePreprocessing
from edgekit.specs import Array

_CHANNELS = (1, 3)


@dataclass(frozen=True)
class Layout:
    """Where an image has its channels.

    Attributes:
        height: In pixels.
        width: In pixels.
        channels: 1 for grey, 3 for colours.
        first: Whether channels come before height.
    """

    height: int
    width: int
    channels: int
    first: bool

    def shaped(self, height: int, width: int, channels: int) -> tuple[int, int, int]:
        """Three figures in the order of an image's axes."""
        return (channels, height, width) if self.first else (height, width, channels)

    def channels_last(self, images: Array) -> Array:
        """(n, ...) -> (n, height, width, channels)."""
        return images.transpose(0, 2, 3, 1) if self.first else images

    def shown(self, images: Array, preprocessing: ImagePreprocessing | None) -> Array:
        """Images as a person sees them: float32 (n, height, width, channels), 0..1.

        Without preprocessing nobody knows what black and white are: the lowest and highest value are taken.
        """
        images = self.channels_last(images)
        if preprocessing is None or len(preprocessing.mean) != self.channels:
            low, high = float(images.min()), float(images.max())
            return np.asarray((images - low) / ((high - low) or 1.0), np.float32)
        mean, std = (np.asarray(v, np.float32) for v in (preprocessing.mean, preprocessing.std))
        return np.asarray(np.clip(images * std + mean, 0, 1), np.float32)


def layout_of(shape: Sequence[int]) -> Layout | None:
    """The layout of images of this shape, without the batch; None if they are no images.

    >>> layout_of((1, 28, 28)), layout_of((64,))
    (Layout(height=28, width=28, channels=1, first=True), None)
    """
    if len(shape) != 3:
        return None
    if shape[0] in _CHANNELS:
        return Layout(shape[1], shape[2], shape[0], first=True)
    return Layout(shape[0], shape[1], shape[2], first=False) if shape[2] in _CHANNELS else None
