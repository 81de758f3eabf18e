"""Data sets: where they come from, how they are split, what a model sees of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.data.split import Split
from edgekit.specs import Array, TensorSpec

SPLIT_SEED = 20240229


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
    """

    height: int
    width: int
    channels: int
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, pixels: Array) -> Array:
        """Prepare images.

        Args:
            pixels: Any integer or float type, shape (n, height, width) or (n, height, width, channels).

        Returns:
            float32 (n, channels, height, width).
        """
        shaped = pixels.reshape(len(pixels), self.height, self.width, self.channels).transpose(0, 3, 1, 2)
        mean = np.asarray(self.mean, np.float32).reshape(1, -1, 1, 1)
        std = np.asarray(self.std, np.float32).reshape(1, -1, 1, 1)
        return np.ascontiguousarray((shaped.astype(np.float32) * np.float32(self.scale) - mean) / std)

    def as_dict(self) -> dict[str, Any]:
        """As metadata and manifests hold it."""
        return {"kind": "image", **asdict(self)}


@dataclass(frozen=True)
class DataSet:
    """A data set, loaded and split.

    Attributes:
        name: Name in recipes.
        task: Name of the task that its labels are for.
        inputs: What a model gets; axis 0 is the batch.
        classes: Names of the classes, in the order of the labels.
        preprocessing: What was done to the stored samples; None where they go in as they are.
        splits: "train", "calibration", "validation" and "test": disjoint, the same on every machine.
    """

    name: str
    task: str
    inputs: tuple[TensorSpec, ...]
    classes: tuple[str, ...]
    preprocessing: ImagePreprocessing | None
    splits: dict[str, Split]


@dataclass(frozen=True)
class DataSource:
    """Where a data set comes from.

    Attributes:
        name: Name in recipes and on the command line.
        task: Name of the task that its labels are for.
        summary: One line for `edgekit list data`.
        licence: Of the data.
        load: Optional directory -> the data set.
        fingerprint: Optional directory -> text that changes when the data does; cheap, for cache keys.
    """

    name: str
    task: str
    summary: str
    licence: str
    load: Callable[[Path | None], DataSet]
    fingerprint: Callable[[Path | None], str]


def split_samples(samples: Array, labels: Array, sizes: dict[str, int], input_name: str = "image") -> dict[str, Split]:
    """Shuffle with the fixed seed and cut into disjoint splits of these sizes, in this order.

    Args:
        samples: float32 (n, ...), as the model gets them.
        labels: Integers (n,).
        sizes: Split name -> samples; they add up to at most n.
        input_name: Of the graph's input.
    """
    order = np.random.default_rng(SPLIT_SEED).permutation(len(samples))
    splits, start = {}, 0
    for name, size in sizes.items():
        chosen = order[start : start + size]
        start += size
        splits[name] = Split(name, {input_name: samples[chosen]}, labels[chosen].astype(np.int64))
    return splits
