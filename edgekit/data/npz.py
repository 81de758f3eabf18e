"""A data set of the user's own: an .npz with one array of samples and `labels`, split here."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgekit.data.dataset import DataSet, DataSource, split_samples
from edgekit.data.split import Split, load_npz
from edgekit.errors import DataError
from edgekit.files import sha256_of
from edgekit.specs import Array, TensorSpec

# Shares of the samples, in the order in which they are cut off; the rest is for training.
_SHARES = {"test": 0.15, "validation": 0.1, "calibration": 0.1}
_LEAST = 20


def npz_source(path: Path) -> DataSource:
    """Classification data in one .npz: samples (n, ...) as the model gets them, and integer `labels` (n,)."""
    return DataSource(
        name=str(path),
        task="classification",
        summary=f"samples and labels of {path}",
        licence="your own",
        load=lambda directory: load(path),
        fingerprint=lambda directory: fingerprint(path),
    )


def load(path: Path) -> DataSet:
    """Load and split an .npz.

    Raises:
        DataError: if it is not there or damaged, has no labels, more than one array of samples, too few samples, values
            that are not finite, or labels that are no class numbers from 0 on.
    """
    whole = load_npz(path)
    if whole.labels is None:
        raise DataError(f"data {path} has no labels; training needs an array `labels` with one class number a sample")
    if len(whole.arrays) != 1:
        raise DataError(f"data {path} needs exactly one array beside `labels`, got {', '.join(whole.arrays) or 'none'}")
    name, samples = next(iter(whole.arrays.items()))
    if samples.dtype.kind not in "fiub":
        raise DataError(f"data {path}: array {name!r} must hold numbers, got dtype {samples.dtype}")
    samples = samples.astype(np.float32)
    if len(samples) < _LEAST:
        raise DataError(
            f"data {path} has {len(samples)} samples; at least {_LEAST} are needed for four disjoint splits"
        )
    labels = _class_numbers(whole.labels, path)
    spec = TensorSpec(name, "float32", ("batch", *samples.shape[1:]))
    Split(str(path), {name: samples}, labels).matched([spec])
    sizes = {split: max(1, int(share * len(samples))) for split, share in _SHARES.items()}
    sizes["train"] = len(samples) - sum(sizes.values())
    classes = tuple(str(c) for c in range(int(labels.max()) + 1))
    return DataSet(str(path), "classification", (spec,), classes, None, split_samples(samples, labels, sizes, name))


def fingerprint(path: Path) -> str:
    """The hash of the file."""
    if not path.is_file():
        raise DataError(f"data {path} is not there; give an .npz or the name of a data set (`edgekit list data`)")
    return sha256_of(path)


def _class_numbers(labels: Array, path: Path) -> Array:
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise DataError(f"data {path}: labels must be integers of shape (n,), got {labels.dtype} {labels.shape}")
    if labels.min() < 0:
        raise DataError(f"data {path}: labels must count the classes from 0 on, got {labels.min()}")
    if labels.max() >= len(labels):
        raise DataError(
            f"data {path}: labels must count the classes from 0 on, got class {labels.max()} for {len(labels)} samples"
        )
    return labels.astype(np.int64)
