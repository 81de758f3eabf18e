"""Series and sounds -> the input of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgekit.errors import InputError
from edgekit.runtime.waves import read_wave
from edgekit.specs import Array, Feeds, TensorSpec


class SeriesPreparation:
    """From a series to the inputs of a model.

    Args:
        entry: The manifest's.
        inputs: Of the model.
    """

    def __init__(self, entry: Mapping[str, Any], inputs: Sequence[TensorSpec]) -> None:
        specs = {spec.name: spec for spec in inputs}
        self._mean, self._std = (np.asarray(entry[key], np.float32) for key in ("mean", "std"))
        self._input = str(entry["input"])
        self._steps = specs[self._input].shape[1]
        self._lengths: str | None = entry.get("lengths")
        self._rate = entry.get("sample_rate")

    @property
    def fill(self) -> dict[str, float]:
        """Input -> value behind a series' end; {} without lengths, as nothing would tell the model where that is."""
        return {self._input: 0.0} if self._lengths else {}

    def row(self, given: Any) -> dict[str, Array]:
        """Prepare a series.

        Args:
            given: Numbers (time, channels), or (time,) of one channel; or a .wav file's path or bytes.

        Returns:
            float32 (time, channels), and its length where the model takes it.

        Raises:
            InputError: if it is no such thing, empty, or not finite.
        """
        values = given if isinstance(given, np.ndarray) else read_wave(given, self._rate)
        values = values[:, None] if values.ndim == 1 else values
        if not values.size:
            raise InputError("the series is empty; give at least one step")
        if values.ndim != 2 or values.shape[1] != len(self._mean):
            got = "x".join(map(str, values.shape)) or "scalar"
            raise InputError(f"the series has shape {got}, and the model takes steps x {len(self._mean)} channels")
        if values.dtype.kind not in "uif" or not np.isfinite(values).all():
            raise InputError(f"the series must hold finite numbers, got dtype {values.dtype.name} with others")
        if isinstance(self._steps, int) and not (
            len(values) <= self._steps if self._lengths else len(values) == self._steps
        ):
            raise InputError(f"the series has {len(values):,} steps, and the model takes {self._steps:,}")
        row = {self._input: ((values - self._mean) / self._std).astype(np.float32)}
        return {**row, self._lengths: np.asarray(len(values), np.int64)} if self._lengths else row

    def complete(self, feeds: Feeds) -> dict[str, Array]:
        """The batch as it is."""
        return dict(feeds)
