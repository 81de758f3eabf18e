"""Data sets. A new one: one module here, one line in SOURCES, one test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgekit.data.dataset import DataSet, DataSource, ImagePreprocessing
from edgekit.data.diabetes import DIABETES
from edgekit.data.digits import DIGITS
from edgekit.data.fashion_mnist import FASHION_MNIST
from edgekit.data.latent import add_latents, for_model
from edgekit.data.npz import npz_source
from edgekit.data.split import Batch, Split, load_npz
from edgekit.errors import DataError, unknown
from edgekit.specs import TensorSpec

SOURCES: dict[str, DataSource] = {s.name: s for s in (DIGITS, FASHION_MNIST, DIABETES)}


def find_source(name: str) -> DataSource:
    """The data source of this name.

    Raises:
        DataError: if there is none; the message holds the nearest.
    """
    try:
        return SOURCES[name]
    except KeyError:
        raise DataError(unknown("data", name, SOURCES) + "; or the path of an .npz") from None


def resolve_source(data: str) -> DataSource:
    """The source that a recipe's `data` names: a named data set, or an .npz with labels.

    Raises:
        DataError: if there is none.
    """
    return npz_source(Path(data)) if data.endswith(".npz") else find_source(data)


def load_split(data: str, split: str, *, task: str = "", inputs: Sequence[TensorSpec] = ()) -> Split:
    """One split of a named data set, or the whole of an .npz.

    Args:
        data: Name of a data set, or path of an .npz.
        split: "train", "calibration", "validation" or "test"; an .npz has no splits and ignores it.
        task: That the model does, where it is known and the data set can be used for it; sets the range of pixels.
        inputs: Of a model that does the task; noise is added for those that a named data set lacks.

    Raises:
        DataError: if neither is there.
    """
    if data.endswith(".npz") or Path(data).is_file():
        return load_npz(Path(data))
    source = find_source(data)
    known = task in source.tasks
    splits = source.load(None, task if known else source.tasks[0]).splits
    if split not in splits:
        raise DataError(unknown("split", split, splits))
    return add_latents(splits[split], inputs) if known else splits[split]


__all__ = [
    "SOURCES",
    "Batch",
    "DataSet",
    "DataSource",
    "ImagePreprocessing",
    "Split",
    "add_latents",
    "find_source",
    "for_model",
    "load_npz",
    "load_split",
]
