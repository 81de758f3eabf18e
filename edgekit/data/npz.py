"""A data set of the user's own: an .npz with one array of samples and `labels`, split here.

Series are an array `series` (n, time, channels), with `lengths` (n,) beside it where they end before the last step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
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
_SERIES, _LENGTHS = "series", "lengths"


# What the samples of a task must lie in.
_RANGES = {"reconstruction": (0.0, 1.0), "generation": (-1.0, 1.0)}


def npz_source(path: Path) -> DataSource:
    """Data in one .npz: samples (n, ...) as the model gets them, and `labels`: class numbers, or numbers to predict."""
    return DataSource(
        name=str(path),
        tasks=_tasks(path),
        summary=f"samples and labels of {path}",
        licence="your own",
        load=lambda directory, task: load(path, task),
        fingerprint=lambda directory: fingerprint(path),
    )


def load(path: Path, task: str = "classification", *, unlabelled: Sequence[str] = ()) -> DataSet:
    """Load and split an .npz.

    Args:
        path: The file.
        task: What it is for.
        unlabelled: The classes, or names of the targets, where the file has no labels and they will come from
            elsewhere; all labels are 0 until then.

    Raises:
        DataError: if it is not there or damaged, lacks the labels that the task needs, has more than one array of
            samples, too few samples, values that are not finite or outside of the task's range, or labels that do not
            fit the task.
    """
    whole = load_npz(path)
    name, samples = _samples(whole, path)
    low, high = _RANGES.get(task, (-np.inf, np.inf))
    if samples.min() < low or samples.max() > high:
        raise DataError(
            f"data {path}: values of {name!r} must lie in {low:g}..{high:g} for {task}, "
            f"got {samples.min():g}..{samples.max():g}"
        )
    ours = whole.labels is not None or not unlabelled
    labels = _labels(whole, task, path) if ours else np.zeros(len(whole), np.int64)
    inputs = _inputs(name, samples, whole)
    matched = Split(str(path), {**whole.arrays, name: samples}, labels).matched(inputs)
    sizes = {split: max(1, int(share * len(samples))) for split, share in _SHARES.items()}
    sizes["train"] = len(samples) - sum(sizes.values())
    splits = split_samples(samples, labels, sizes, name)
    if _LENGTHS in matched.arrays:
        ends = split_samples(matched.arrays[_LENGTHS], labels, sizes, _LENGTHS)
        splits = {k: replace(v, arrays={**v.arrays, **ends[k].arrays}) for k, v in splits.items()}
    classes = _classes(labels, task) if ours else tuple(unlabelled)
    return DataSet(str(path), task, inputs, classes, None, splits, _target_scale(splits, task) if ours else None)


def _inputs(name: str, samples: Array, whole: Split) -> tuple[TensorSpec, ...]:
    """What the model takes: series of any number of steps where the array is called so, samples of one shape else."""
    if name != _SERIES:
        return (TensorSpec(name, "float32", ("batch", *samples.shape[1:])),)
    series = TensorSpec(name, "float32", ("batch", "time", *samples.shape[2:]))
    return (series, TensorSpec(_LENGTHS, "int64", ("batch",))) if _LENGTHS in whole.arrays else (series,)


def _tasks(path: Path) -> tuple[str, ...]:
    """What its labels are for comes first; a file that is not there is told of later, by what loads it."""
    labels = load_npz(path).labels if path.is_file() else None
    if labels is not None and labels.dtype.kind == "i" and labels.ndim == 2:
        return ("step-classification", "regression")
    if labels is None or labels.dtype.kind in "iub":
        return ("classification", "reconstruction", "generation")
    return ("regression", "reconstruction", "generation")


def _samples(whole: Split, path: Path) -> tuple[str, Array]:
    lengths = {_LENGTHS} if _SERIES in whole.arrays else set()
    names = [name for name in whole.arrays if name not in lengths]
    if len(names) != 1:
        raise DataError(f"data {path} needs exactly one array beside `labels`, got {', '.join(whole.arrays) or 'none'}")
    name, samples = names[0], whole.arrays[names[0]]
    ends = whole.arrays.get(_LENGTHS, np.empty(0))
    if name == _SERIES and ends.ndim != 1:
        raise DataError(f"data {path}: array 'lengths' must be (n,), got {ends.shape}")
    if name == _SERIES and samples.ndim != 3:
        raise DataError(f"data {path}: array 'series' must be (n, time, channels), got {samples.shape}")
    if samples.dtype.kind not in "fiub":
        raise DataError(f"data {path}: array {name!r} must hold numbers, got dtype {samples.dtype}")
    if len(samples) < _LEAST:
        raise DataError(
            f"data {path} has {len(samples)} samples; at least {_LEAST} are needed for four disjoint splits"
        )
    return name, samples.astype(np.float32)


def _labels(whole: Split, task: str, path: Path) -> Array:
    if task in _RANGES:
        return np.zeros(len(whole), np.int64)
    if whole.labels is None:
        raise DataError(f"data {path} has no labels; training needs an array `labels` with one class number a sample")
    if task == "step-classification":
        return _step_labels(whole.labels, next(iter(whole.arrays.values())), path)
    return _class_numbers(whole.labels, path) if task == "classification" else _numbers(whole.labels, path)


def _step_labels(labels: Array, samples: Array, path: Path) -> Array:
    """Class numbers (n, time), negative for steps that have none."""
    if labels.dtype.kind != "i" or labels.shape != samples.shape[:2]:
        raise DataError(
            f"data {path}: labels of steps must be integers of shape {samples.shape[:2]}, one a step and negative for "
            f"none, got {labels.dtype} {labels.shape}"
        )
    if not 0 <= labels.max() < labels.size:
        raise DataError(f"data {path}: labels must count the classes from 0 on, got {labels.max()} at most")
    return labels.astype(np.int64)


def _numbers(labels: Array, path: Path) -> Array:
    if labels.ndim not in (1, 2) or labels.dtype.kind not in "fiu" or not np.isfinite(labels).all():
        raise DataError(
            f"data {path}: labels must be finite numbers of shape (n,) or (n, targets), "
            f"got {labels.dtype} {labels.shape}"
        )
    return labels.astype(np.float32)


def _classes(labels: Array, task: str) -> tuple[str, ...]:
    if task == "regression":
        return tuple(f"target{i}" for i in range(labels[0].size))
    return tuple(str(c) for c in range(int(labels.max()) + 1)) if task.endswith("classification") else ()


def _target_scale(splits: dict[str, Split], task: str) -> tuple[float, float] | None:
    labels = splits["train"].labels
    if task != "regression" or labels is None:
        return None
    return float(labels.mean()), float(labels.std()) or 1.0


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
