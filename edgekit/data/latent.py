"""Inputs that a model has and data has not: noise from a standard normal distribution, the same in every run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from zlib import crc32

import numpy as np

from edgekit.data.dataset import DataSet
from edgekit.data.split import SPLIT_SEED, Split, is_memory
from edgekit.specs import Array, TensorSpec


def for_model(data: DataSet, inputs: Sequence[TensorSpec]) -> DataSet:
    """The data as a model takes it: with noise for the inputs that the data lacks.

    What the data holds and the model does not take (the pictures, for a generator) becomes the labels: it is what the
    outputs are judged by.

    Args:
        data: As its source gives it.
        inputs: Of the model.
    """
    held = {spec.name for spec in data.inputs}
    latents = tuple(s.name for s in inputs if s.name not in held)
    if not latents or _is_the_data(inputs, [s.shape[1:] for s in data.inputs]):
        return data
    splits = {name: add_latents(split, inputs) for name, split in data.splits.items()}
    return replace(data, splits=splits, latents=latents)


def add_latents(split: Split, inputs: Sequence[TensorSpec]) -> Split:
    """A split with noise for the float inputs of a model that it lacks."""
    lacking = [s for s in inputs if s.name not in split.arrays and _can_be_drawn(s)]
    if not lacking or _is_the_data(inputs, [a.shape[1:] for a in split.arrays.values()]):
        return split
    drawn = {s.name: _normal(split, s) for s in lacking}
    taken = {s.name: split.arrays[s.name] for s in inputs if s.name in split.arrays}
    left = [a for name, a in split.arrays.items() if name not in taken]
    return replace(split, arrays={**taken, **drawn}, labels=left[0] if left else split.labels)


def _is_the_data(inputs: Sequence[TensorSpec], held: Sequence[tuple[int | str, ...]]) -> bool:
    """Whether the model's one input is the data's one array under another name, as `Split.matched` takes it."""
    return len(inputs) == len(held) == 1 and inputs[0].shape[1:] == held[0]


def _can_be_drawn(spec: TensorSpec) -> bool:
    settled = all(isinstance(d, int) for d in spec.shape[1:])
    return spec.dtype == "float32" and spec.rank >= 2 and settled and not is_memory(spec)


def _normal(split: Split, spec: TensorSpec) -> Array:
    seed = [SPLIT_SEED, crc32(split.name.encode()), crc32(spec.name.encode())]
    shape = (len(split), *(int(d) for d in spec.shape[1:]))
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
