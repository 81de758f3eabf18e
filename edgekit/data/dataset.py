"""Data sets: where they come from, how they are split, what a model sees of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgekit.data.series import SeriesPreprocessing
from edgekit.data.split import SPLIT_SEED, Split
from edgekit.errors import DataError
from edgekit.runtime.image import ImagePreprocessing
from edgekit.specs import Array, TensorSpec

if TYPE_CHECKING:
    from edgekit.data.text.config import TextConfig
    from edgekit.data.text.pairs import PairPreprocessing
    from edgekit.data.text.preprocessing import TextPreprocessing

# What is cut from each class of a published training split; the rest is trained on.
_SHARES = {"calibration": 0.1, "validation": 0.15}


@dataclass(frozen=True)
class DataSet:
    """A data set, loaded and split.

    Attributes:
        name: Name in recipes.
        task: Name of the task that its labels are for.
        inputs: What a model gets; axis 0 is the batch.
        classes: Names of the classes, in the order of the labels; of the targets, for numbers.
        preprocessing: What was done to the stored samples; None where they go in as they are.
        splits: "train", "calibration", "validation" and "test": disjoint, the same on every machine.
        target_scale: (mean, standard deviation) of the numbers to predict, on the training split; None for classes.
        latents: Inputs of the model that are drawn from a standard normal distribution (see `data.latent`).
    """

    name: str
    task: str
    inputs: tuple[TensorSpec, ...]
    classes: tuple[str, ...]
    preprocessing: ImagePreprocessing | SeriesPreprocessing | TextPreprocessing | PairPreprocessing | None
    splits: dict[str, Split]
    target_scale: tuple[float, float] | None = None
    latents: tuple[str, ...] = ()

    @property
    def of_pictures(self) -> ImagePreprocessing | None:
        """What was done to its pictures; None where it has none, or they go in as they are."""
        return self.preprocessing if isinstance(self.preprocessing, ImagePreprocessing) else None


@dataclass(frozen=True)
class DataSource:
    """Where a data set comes from.

    Attributes:
        name: Name in recipes and on the command line.
        tasks: Names of the tasks that it can be used for; the first is what its labels are for.
        summary: One line for `edgekit list data`.
        licence: Of the data.
        load: (optional directory, task) -> the data set.
        fingerprint: Optional directory -> text that changes when the data does; cheap, for cache keys.
        text: How its texts become ids; None for what is no text.
    """

    name: str
    tasks: tuple[str, ...]
    summary: str
    licence: str
    load: Callable[[Path | None, str], DataSet]
    fingerprint: Callable[[Path | None], str]
    text: TextConfig | None = None

    def task_for(self, tasks: Sequence[str]) -> str:
        """The first of its tasks that is among these.

        Raises:
            DataError: if there is none.
        """
        found = next((task for task in self.tasks if task in tasks), None)
        if found is None:
            raise DataError(f"data {self.name!r} is for {', '.join(self.tasks)}, not for {', '.join(tasks)}")
        return found


def split_samples(samples: Array, labels: Array, sizes: dict[str, int], input_name: str = "image") -> dict[str, Split]:
    """Shuffle with the fixed seed and cut into disjoint splits of these sizes, in this order.

    Args:
        samples: float32 (n, ...), as the model gets them.
        labels: Integers (n,), or floats (n,) or (n, targets).
        sizes: Split name -> samples; they add up to at most n.
        input_name: Of the graph's input.
    """
    order = np.random.default_rng(SPLIT_SEED).permutation(len(samples))
    kept = labels.astype(np.int64 if labels.dtype.kind in "iu" else np.float32)
    splits, start = {}, 0
    for name, size in sizes.items():
        chosen = order[start : start + size]
        start += size
        splits[name] = Split(name, {input_name: samples[chosen]}, kept[chosen])
    return splits


def cut_by_class(labels: Array) -> dict[str, Array]:
    """Cut a published training split into train, calibration and validation, each class by the same shares.

    Args:
        labels: int64 (n,).

    Returns:
        Split -> indices, in ascending order; the same on every machine.
    """
    rng = np.random.default_rng(SPLIT_SEED)
    parts: dict[str, list[Array]] = {name: [] for name in ("train", *_SHARES)}
    for label in np.unique(labels):
        left = rng.permutation(np.flatnonzero(labels == label))
        total = len(left)
        for name, share in _SHARES.items():
            count = max(1, round(share * total))
            parts[name].append(left[:count])
            left = left[count:]
        parts["train"].append(left)
    return {name: np.sort(np.concatenate(found)) for name, found in parts.items()}
