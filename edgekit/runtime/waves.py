"""The samples of .wav files: whole numbers of 8 to 32 bits, and floats.

Python's own `wave` reads neither floats nor, before 3.12, the extensible header that recorders write for 24 bits.

Source: Multimedia Programming Interface and Data Specifications 1.0 (1991), "WAVE"; Microsoft, WAVEFORMATEXTENSIBLE.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.errors import InputError
from edgekit.specs import Array

MOST_SOUND_BYTES = 1 << 30
_WHOLE, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_WIDTHS = {_WHOLE: (8, 16, 24, 32), _FLOAT: (32, 64)}  # bits
_CONVERT = "convert it: ffmpeg -i IN -c:a pcm_s16le OUT.wav"


@dataclass(frozen=True)
class _Format:
    """How samples are stored: the kind of numbers, channels, samples a second, and bits of each."""

    kind: int
    channels: int
    rate: int
    bits: int


def read_wave(given: Any, rate: int | None = None) -> Array:
    """The samples of a .wav file.

    Args:
        given: Its path or bytes.
        rate: Samples a second that it must have; None for any.

    Returns:
        float32 (time, channels), whole numbers scaled to -1..1.

    Raises:
        InputError: if it is none, holds no sample, or is stored in another way.
    """
    name, content = _content_of(given)
    try:
        told, body = _parts(content)
    except (ValueError, struct.error) as error:
        raise InputError(f"{name} is no .wav file ({error if str(error) else 'it ends too early'})") from error
    if told.bits not in _WIDTHS.get(told.kind, ()) or not told.channels:
        how = f"format {told.kind}, {told.bits} bits, {told.channels} channels"
        raise InputError(f"{name} is stored as {how}, and PCM and floats are read; {_CONVERT}")
    if rate is not None and told.rate != rate:
        raise InputError(f"{name} has {told.rate} samples a second, and the model takes {rate}; convert it")
    step = told.bits // 8 * told.channels
    if len(body) < step:
        raise InputError(f"{name} holds no samples; record it again")
    return _samples_of(body[: len(body) // step * step], told).reshape(-1, told.channels)


def _content_of(given: Any) -> tuple[str, bytes]:
    if isinstance(given, bytes):
        return "the sound", given
    if not isinstance(given, (str, os.PathLike)):
        raise InputError(f"the model takes numbers steps x channels, or a .wav file, got {type(given).__name__}")
    try:
        if os.path.getsize(given) > MOST_SOUND_BYTES:
            raise InputError(f"{given} has more than {MOST_SOUND_BYTES:,} bytes; cut it")
        return str(given), Path(given).read_bytes()
    except FileNotFoundError:
        raise InputError(f"{given} is not there") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{given} cannot be read ({getattr(error, 'strerror', None) or error})") from error


def _parts(content: bytes) -> tuple[_Format, bytes]:
    """The format and the bytes of the samples; a file that was cut holds what is left of them."""
    if content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        raise ValueError("it does not begin as one" if content else "it is empty")
    told = None
    for kind, body in _chunks(content):
        if kind == b"fmt ":
            told = _format_of(body)
        elif kind == b"data" and told is not None:
            return told, body
    raise ValueError("it has no samples" if told else "it does not say how samples are stored")


def _chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = 12
    while place + 8 <= len(content):
        kind, size = struct.unpack_from("<4sI", content, place)
        yield kind, content[place + 8 : place + 8 + size]
        place += 8 + size + size % 2


def _format_of(body: bytes) -> _Format:
    kind, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", body)
    return _Format(struct.unpack_from("<H", body, 24)[0] if kind == _EXTENSIBLE else kind, channels, rate, bits)


def _samples_of(body: bytes, told: _Format) -> Array:
    """Little-endian floats, or whole numbers of 8 (unsigned), 16, 24 or 32 bits -> float32."""
    if told.kind == _FLOAT:
        return np.frombuffer(body, f"<f{told.bits // 8}").astype(np.float32)
    if told.bits == 8:
        return np.asarray((np.frombuffer(body, np.uint8).astype(np.float32) - 128) / 128)
    if told.bits == 24:  # no type of numpy: put them into the upper bytes of 32 bits
        wide = np.zeros((len(body) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(body, np.uint8).reshape(-1, 3)
        return np.asarray((wide.view("<i4")[:, 0] / 2**31).astype(np.float32))
    return np.asarray((np.frombuffer(body, f"<i{told.bits // 8}") / 2 ** (told.bits - 1)).astype(np.float32))
