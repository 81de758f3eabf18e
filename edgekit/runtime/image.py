"""From stored pixels to a model's input: what training, calibration, evaluation and apps have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Self

import numpy as np

from edgekit.specs import Array

RESAMPLING = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "box": 4, "hamming": 5}  # Pillow's numbers
WHITE = 255  # of pictures of 8 bits, what files and cameras give


@dataclass(frozen=True)
class ImagePreprocessing:
    """From stored pixels to the model's input: the one object that training, calibration, evaluation and apps use.

    Attributes:
        height: Of the input, in pixels.
        width: Of the input, in pixels.
        channels: 1 for grey, 3 for RGB.
        scale: Pixels are multiplied by it.
        mean: One a channel; subtracted after scaling.
        std: One a channel; divided by at the end.
        resize: Before that, for pictures of any size (see `runtime.pictures`): (shorter edge,) keeps the sides' ratio
            and cuts the middle out, (height, width) stretches, () stretches to the input's size.
        resample: How: nearest, bilinear, bicubic, lanczos, box or hamming.
        background: Grey level, 0..255, of what transparent pixels are laid on before anything else.
    """

    height: int
    width: int
    channels: int
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: tuple[int, ...] = ()
    resample: str = "bilinear"
    background: int = WHITE

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Self:
        """What metadata and manifests hold, as the object; keys that are not its own are passed over."""
        kept = [(f.name, told[f.name]) for f in fields(cls) if f.name in told]
        typed: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in kept}
        return cls(**typed)

    def __call__(self, pixels: Array) -> Array:
        """Prepare images.

        Args:
            pixels: Any integer or float type, shape (n, height, width) or (n, height, width, channels).

        Returns:
            float32 (n, channels, height, width).
        """
        shaped = pixels.reshape(len(pixels), self.height, self.width, self.channels).transpose(0, 3, 1, 2)
        mean, std = self._planes()
        return np.ascontiguousarray((shaped.astype(np.float32) * np.float32(self.scale) - mean) / std)

    def inverse(self, images: Array) -> Array:
        """The stored pixels of prepared images: float32 (n, channels, height, width), not rounded, axes as they are."""
        mean, std = self._planes()
        return np.asarray((images * std + mean) / np.float32(self.scale))

    def _planes(self) -> tuple[Array, Array]:
        """Mean and standard deviation: float32 (1, channels, 1, 1) each."""
        mean, std = (np.asarray(v, np.float32).reshape(1, -1, 1, 1) for v in (self.mean, self.std))
        return mean, std

    def for_task(self, task: str) -> Self:
        """The range of pixels that a task works in: 0..1 to reconstruct, -1..1 to generate, else as it is."""
        if task == "reconstruction":
            return replace(self, mean=(0.0,) * self.channels, std=(1.0,) * self.channels)
        if task == "generation":
            return replace(self, mean=(0.5,) * self.channels, std=(0.5,) * self.channels)
        return self

    def as_dict(self) -> dict[str, Any]:
        """As metadata and manifests hold it."""
        unused = {"resize", "resample"} if not self.resize else set()
        unused |= {"background"} if self.background == WHITE else set()
        return {"kind": "image", **{k: v for k, v in asdict(self).items() if k not in unused}}
