"""Series and sounds -> the input of a model."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.errors import InputError
from edgekit.specs import Array, Feeds, TensorSpec

MOST_SOUND_BYTES = 1 << 30


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
        if values.ndim != 2 or values.shape[1] != len(self._mean) or not len(values):
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


def read_wave(given: Any, rate: int | None = None) -> Array:
    """The samples of a PCM .wav file.

    Args:
        given: Its path or bytes.
        rate: Samples a second that it must have; None for any.

    Returns:
        float32 (time, channels) in -1..1.

    Raises:
        InputError: if it is none.
    """
    import wave

    name, source = _source_of(given)
    try:
        with wave.open(source) as file:
            width, channels, found, count = (
                file.getsampwidth(),
                file.getnchannels(),
                file.getframerate(),
                file.getnframes(),
            )
            if width * channels * count > MOST_SOUND_BYTES:
                raise InputError(f"{name} says that it has {count:,} samples; that is too long")
            content = file.readframes(count)
    except FileNotFoundError:
        raise InputError(f"{name} is not there") from None
    except (wave.Error, EOFError, OSError, ZeroDivisionError) as error:
        raise InputError(f"{name} is no PCM .wav file ({str(error) or 'it ends too early'})") from error
    if rate is not None and found != rate:
        raise InputError(f"{name} has {found} samples a second, and the model takes {rate}; convert it")
    return _of_pcm(content[: len(content) // (width * channels) * width * channels], width).reshape(-1, channels)


def _of_pcm(content: bytes, width: int) -> Array:
    """Little-endian integers of 8 (unsigned), 16, 24 or 32 bits -> float32 in -1..1."""
    if width == 1:
        return np.asarray((np.frombuffer(content, np.uint8).astype(np.float32) - 128) / 128)
    if width == 3:  # no type of numpy: put them into the upper bytes of 32 bits
        wide = np.zeros((len(content) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(content, np.uint8).reshape(-1, 3)
        return np.asarray((wide.view("<i4")[:, 0] / 2**31).astype(np.float32))
    return np.asarray((np.frombuffer(content, f"<i{width}") / 2 ** (8 * width - 1)).astype(np.float32))


def _source_of(given: Any) -> tuple[str, Any]:
    if isinstance(given, bytes):
        return "the sound", io.BytesIO(given)
    if isinstance(given, (str, os.PathLike)):
        return str(given), str(Path(given))
    raise InputError(f"the model takes numbers steps x channels, or a .wav file, got {type(given).__name__}")
