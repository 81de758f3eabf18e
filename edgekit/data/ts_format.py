"""Reads .ts files: labelled series, one a line, as the time series classification archive writes them.

Source: the format's description at timeseriesclassification.com, as of 2024.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgekit.errors import DataError
from edgekit.specs import Array

_MOST_BYTES = 1 << 28


@dataclass(frozen=True)
class LabelledSeries:
    """Series with a class each.

    Attributes:
        series: float32 (time, channels) each; time may differ.
        labels: int64 (n,): numbers of the classes.
        classes: Their names, in the order in which the file declares them.
    """

    series: tuple[Array, ...]
    labels: Array
    classes: tuple[str, ...]


def read_ts(content: bytes, name: str) -> LabelledSeries:
    """Read a file of series of one or more channels with class labels.

    Args:
        content: Of the file.
        name: Of the file, for messages.

    Raises:
        DataError: for what is no .ts file, channels of different length, missing values, or labels that it does not
            declare.
    """
    if len(content) > _MOST_BYTES:
        raise DataError(f"{name} has {len(content):,} bytes; at most {_MOST_BYTES:,} are read")
    try:
        lines = [line.strip() for line in content.decode("utf-8").splitlines()]
    except UnicodeDecodeError as error:
        raise DataError(f"{name} is no text: byte {error.start} is no UTF-8; give a .ts file") from None
    start = next((i for i, line in enumerate(lines) if line.lower() == "@data"), None)
    if start is None:
        raise DataError(f"{name} is no .ts file: it has no line @data; give a file of labelled series")
    classes = _classes(lines[:start], name)
    rows = [(i + 1, line) for i, line in enumerate(lines) if i > start and line and not line.startswith("#")]
    if not rows:
        raise DataError(f"{name} has no series behind @data; give a file with at least one")
    parsed = [_row(line, f"{name}, line {number}", classes) for number, line in rows]
    if len({s.shape[1] for s, _ in parsed}) > 1:
        raise DataError(f"{name}: series differ in their number of channels; give a file where they do not")
    return LabelledSeries(tuple(s for s, _ in parsed), np.array([label for _, label in parsed]), classes)


def _classes(header: list[str], name: str) -> tuple[str, ...]:
    line = next((text.split() for text in header if text.lower().startswith("@classlabel")), [])
    if len(line) < 3 or line[1].lower() != "true":
        raise DataError(f"{name} has no classes: its line @classLabel must be `true` and their names; give another")
    return tuple(line[2:])


def _row(line: str, where: str, classes: tuple[str, ...]) -> tuple[Array, int]:
    *channels, label = line.split(":")
    if label.strip() not in classes:
        raise DataError(f"{where}: {label.strip()[:40]!r} is no class; the file declares {', '.join(classes)}")
    try:
        values = [np.array(channel.split(","), np.float64) for channel in channels]
    except ValueError:
        raise DataError(f"{where}: a value is missing or is no number; fill or remove the series") from None
    if not values or len({len(v) for v in values}) > 1:
        lengths = ", ".join(str(len(v)) for v in values) or "none"
        raise DataError(f"{where}: channels of one series must have one length, got {lengths}")
    with np.errstate(over="ignore"):
        series = np.stack(values, axis=1).astype(np.float32)
    if not np.isfinite(series).all():
        raise DataError(f"{where}: the series holds NaN or Inf; fill or remove it")
    return series, classes.index(label.strip())
