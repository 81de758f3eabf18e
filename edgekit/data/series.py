"""Series of one or more channels: normalised by what the training split has, padded to one length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgekit.errors import DataError
from edgekit.specs import Array, Feeds, TensorSpec


@dataclass(frozen=True)
class SeriesPreprocessing:
    """From stored series to the model's input: the one object that training, calibration, evaluation and apps use.

    Attributes:
        mean: One a channel; subtracted.
        std: One a channel; divided by.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, series: Sequence[Array]) -> SeriesPreprocessing:
        """The statistics of series (time, channels) over all steps; a channel that never changes keeps its unit."""
        steps = np.concatenate(series).astype(np.float64)
        spread = steps.std(axis=0)
        std = np.where(spread > 0, spread, 1.0)
        return cls(tuple(map(float, steps.mean(axis=0).round(6))), tuple(map(float, std.round(6).clip(min=1e-6))))

    def __call__(self, series: Sequence[Array]) -> tuple[Array, Array]:
        """Prepare series.

        Args:
            series: (time, channels) each; time may differ.

        Returns:
            float32 (n, longest, channels), zeros behind each series' end; int64 (n,), the lengths.
        """
        lengths = np.array([len(s) for s in series], np.int64)
        out = np.zeros((len(series), int(lengths.max()), len(self.mean)), np.float32)
        mean, std = np.asarray(self.mean, np.float32), np.asarray(self.std, np.float32)
        for row, values in zip(out, series, strict=True):
            row[: len(values)] = (values - mean) / std
        return out, lengths

    def as_dict(self) -> dict[str, Any]:
        """As metadata and manifests hold it."""
        return {"kind": "series", **asdict(self)}


def check_lengths(name: str, arrays: Feeds, inputs: Sequence[TensorSpec]) -> None:
    """Refuse an input `lengths` that says more steps than the arrays beside it have, or none.

    Args:
        name: Of the data, for messages.
        arrays: By name of the input.
        inputs: Of the model.

    Raises:
        DataError: for the first sample of which that is so.
    """
    if not any(s.name == "lengths" and s.rank == 1 for s in inputs):
        return
    lengths = arrays["lengths"]
    steps = min((arrays[s.name].shape[1] for s in inputs if s.rank > 1), default=int(lengths.max(initial=1)))
    wrong = np.flatnonzero((lengths < 1) | (lengths > steps))
    if len(wrong):
        raise DataError(
            f"data {name!r}, input 'lengths': sample {wrong[0]} has length {lengths[wrong[0]]}; lengths must lie in "
            f"1..{steps}, the steps that the arrays have"
        )
