"""A split: named arrays and labels, checked once against a model's inputs, then fed in batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgekit.data.series import check_lengths
from edgekit.errors import DataError
from edgekit.runtime.arrays import ARRAY_ERRORS, read_npz
from edgekit.specs import Array, Feeds, TensorSpec

SPLIT_SEED = 20240229
_STATES = ("hidden", "cell")


@dataclass(frozen=True)
class Batch:
    """Feeds for one run, with the labels of its samples.

    Attributes:
        feeds: One array a graph input.
        labels: The labels of the first `n` samples; empty where the data has none.
        n: How many samples are real; a model with a fixed batch gets its last batch filled up.
    """

    feeds: Feeds
    labels: Array
    n: int


@dataclass(frozen=True)
class Split:
    """One split of a data set.

    Attributes:
        name: "train", "calibration", "validation" or "test"; or a file's name.
        arrays: One array a graph input; axis 0 counts the samples.
        labels: (n,) or (n, ...); None where there are none.
        whole_feeds: Whether arr[i] is one whole feed rather than a sample to batch.
    """

    name: str
    arrays: Feeds
    labels: Array | None = None
    whole_feeds: bool = False

    def __len__(self) -> int:
        # a model without inputs has one whole feed, the empty one
        return min((len(a) for a in self.arrays.values()), default=int(self.whole_feeds))

    def take(self, count: int) -> Split:
        """The first `count` samples."""
        labels = None if self.labels is None else self.labels[:count]
        return replace(self, arrays={k: v[:count] for k, v in self.arrays.items()}, labels=labels)

    def matched(self, inputs: Sequence[TensorSpec]) -> Split:
        """This split, with its arrays named, typed and ordered as a model's inputs want them.

        One array meets one input whatever its name is. Integers are widened, floats are never narrowed to integers.

        Raises:
            DataError: for a missing or extra name (both lists are given), a wrong rank, dimension or dtype, no samples,
                arrays of different length, or a value that is not finite.
        """
        arrays = self._named(inputs)
        if len({len(a) for a in arrays.values()}) > 1:
            lengths = ", ".join(f"{k}: {len(v)}" for k, v in arrays.items())
            raise DataError(f"data {self.name!r}: arrays differ in their number of samples ({lengths})")
        if len(self) == 0:
            raise DataError(f"data {self.name!r} has no samples; give at least one")
        if self.labels is not None and len(self.labels) != len(self):
            raise DataError(f"data {self.name!r}: {len(self.labels)} labels for {len(self)} samples")
        whole = any(arrays[s.name].ndim == s.rank + 1 for s in inputs) or (self.whole_feeds and not inputs)
        checked = {s.name: self._checked(arrays[s.name], s) for s in inputs}
        if not whole:
            check_lengths(self.name, checked, inputs)
        return replace(self, arrays=checked, whole_feeds=whole)

    def affordable(self, most: int, values: int) -> int:
        """How many samples hold at most so many values together: at least 1, at most `most`."""
        return max(1, min(most, values // max(1, sum(a[:1].size for a in self.arrays.values()))))

    def batches(self, inputs: Sequence[TensorSpec], batch: int) -> Iterator[Batch]:
        """Feeds of at most `batch` samples; call it on what `matched` gave."""
        if self.whole_feeds:
            for i in range(len(self)):
                feeds = {
                    s.name: _sample(a, i, s) if a.ndim == s.rank + 1 else a[i : i + 1] for s, a in self._pairs(inputs)
                }
                yield Batch(feeds, self._labels(i, i + 1), 1)
            return
        fixed = next((s.shape[0] for s in inputs if s.rank and isinstance(s.shape[0], int)), None)
        size = fixed if fixed is not None else batch
        for start in range(0, len(self), size):
            feeds = {s.name: a[start : start + size] for s, a in self._pairs(inputs)}
            count = min(size, len(self) - start)
            if fixed is not None and count < size:
                feeds = {k: np.concatenate([v, np.repeat(v[-1:], size - count, axis=0)]) for k, v in feeds.items()}
            yield Batch(feeds, self._labels(start, start + count), count)

    def _pairs(self, inputs: Sequence[TensorSpec]) -> list[tuple[TensorSpec, Array]]:
        return [(s, self.arrays[s.name]) for s in inputs]

    def _labels(self, start: int, stop: int) -> Array:
        return np.empty(0) if self.labels is None else self.labels[start:stop]

    def _named(self, inputs: Sequence[TensorSpec]) -> dict[str, Array]:
        wanted = [s.name for s in inputs]
        if set(wanted) == set(self.arrays):
            return dict(self.arrays)
        if len(wanted) == len(self.arrays) == 1:
            return {wanted[0]: next(iter(self.arrays.values()))}
        lacking = [s for s in inputs if s.name not in self.arrays]
        if lacking and len(self.arrays) == len(wanted) - len(lacking) and all(map(is_memory, lacking)):
            return {**self.arrays, **{s.name: empty_memory(s, len(self)) for s in lacking}}
        raise DataError(
            f"data {self.name!r} does not fit the model's inputs: the model wants {', '.join(wanted) or 'none'}; "
            f"the data has {', '.join(self.arrays) or 'none'}"
        )

    def _checked(self, array: Array, spec: TensorSpec) -> Array:
        where = f"data {self.name!r}, input {spec.name!r}"
        if spec.is_sequence and array.dtype.hasobject:
            return array
        if array.ndim not in (spec.rank, spec.rank + 1):
            raise DataError(f"{where}: rank {array.ndim} {array.shape} does not fit {spec}")
        per_feed = array.ndim == spec.rank + 1
        dims = array.shape[1:] if per_feed else array.shape
        for axis, (got, want) in enumerate(zip(dims, spec.shape, strict=True)):
            batch_axis = axis == 0 and not per_feed
            if isinstance(want, int) and got != want and not batch_axis:
                raise DataError(f"{where}: shape {array.shape} does not fit {spec}; dimension {axis} must be {want}")
        if spec.dtype != str(array.dtype):
            if not np.can_cast(array.dtype, spec.dtype, "same_kind") or spec.dtype == "object":
                raise DataError(f"{where}: dtype {array.dtype} does not fit {spec}; convert the array to {spec.dtype}")
            array = array.astype(spec.dtype)
        if array.dtype.kind == "f":
            _refuse_non_finite(array, where)
        _refuse_unknown_ids(array, spec, where)
        return array


def _refuse_unknown_ids(array: Array, spec: TensorSpec, where: str) -> None:
    if spec.vocabulary is None or not array.size:
        return
    low, high = int(array.min()), int(array.max())
    if low < 0 or high >= spec.vocabulary:
        raise DataError(
            f"{where}: ids must lie in 0..{spec.vocabulary - 1} for a vocabulary of {spec.vocabulary}, got "
            f"{low}..{high}; take the tokenizer.json that the model was trained with"
        )


def is_memory(spec: TensorSpec) -> bool:
    """Whether it is what a model remembers, of which there is nothing at the beginning: keys and values, or a state."""
    grows = spec.rank > 1 and any(isinstance(d, str) and d.startswith("past") for d in spec.shape[1:])
    return grows or (spec.name in _STATES and all(isinstance(d, int) for d in spec.shape[1:]))


def own_memory(inputs: Sequence[TensorSpec], feeds: Feeds) -> Feeds:
    """What another model was fed, for one that may remember something else: an empty memory where that does not fit."""
    if not any(map(is_memory, inputs)):
        return feeds
    count = len(next(iter(feeds.values())))
    return {
        s.name: empty_memory(s, count) if is_memory(s) and not _holds(s, feeds.get(s.name)) else feeds[s.name]
        for s in inputs
        if is_memory(s) or s.name in feeds
    }


def _holds(spec: TensorSpec, array: Array | None) -> bool:
    """Whether an array has the settled dimensions of an input."""
    return array is not None and all(
        not isinstance(want, int) or want == got for want, got in zip(spec.shape, array.shape, strict=True)
    )


def empty_memory(spec: TensorSpec, count: int) -> Array:
    """An empty memory for so many samples: no keys of none, and a state of zeros."""
    return np.zeros((count, *(d if isinstance(d, int) else 0 for d in spec.shape[1:])), spec.dtype)


def _sample(array: Array, index: int, spec: TensorSpec) -> Array:
    """One whole feed of an input; a sequence is a list of arrays."""
    found: Array = array[index]
    return found if spec.is_sequence else np.asarray(found)


def _refuse_non_finite(array: Array, where: str) -> None:
    for start in range(0, len(array), 1024):
        finite = np.isfinite(array[start : start + 1024])
        if not finite.all():
            sample = start + int(np.argmin(finite.reshape(len(finite), -1).all(axis=1)))
            raise DataError(f"{where}: sample {sample} holds NaN or Inf; remove or mend it")


def load_npz(path: Path) -> Split:
    """The arrays of an .npz, with `labels` taken out if it is there.

    Raises:
        DataError: if it is not there, is no .npz, or holds Python objects.
    """
    if not path.is_file():
        raise DataError(f"data {path} is not there; give an .npz or the name of a data set (`edgekit list data`)")
    try:
        arrays = read_npz(path)
    except ARRAY_ERRORS as error:
        raise DataError(f"data {path} is not a readable .npz of plain arrays: {error}") from error
    scalars = [k for k, v in arrays.items() if v.ndim == 0]
    if scalars:
        raise DataError(f"data {path}: array {scalars[0]!r} is a scalar; axis 0 must count the samples")
    labels = arrays.pop("labels", None)
    return Split(str(path), arrays, labels)
