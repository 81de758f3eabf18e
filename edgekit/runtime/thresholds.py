"""From where on a number is unusual, learnt from what it was on calibration data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgekit.runtime.fields import Fields
from edgekit.specs import Array

LEAST_SAMPLES = 20  # fewer say too little about what is usual
_QUANTILE = 0.99


@dataclass(frozen=True)
class Finding:
    """Something unusual about one input.

    Attributes:
        text: What.
        refuse: Whether it is beyond the threshold to refuse.
    """

    text: str
    refuse: bool


@dataclass(frozen=True)
class Threshold:
    """From where on a number is unusual.

    Attributes:
        warn: Above it, it is told.
        refuse: Above it, it is refused where the user wants that.
    """

    warn: float
    refuse: float


def read_threshold(fields: Fields) -> Threshold:
    """What a manifest says of one.

    Raises:
        BundleError: names the field.
    """
    return Threshold(fields.number("threshold_warn"), fields.number("threshold_error"))


def threshold_entry(values: Array, most: float | None = None) -> dict[str, float]:
    """What a manifest says of calibration data's numbers.

    Args:
        values: Any number of them.
        most: What the number can be at most; None where it has no limit.

    Returns:
        To warn: their 99 % quantile. To refuse: as far above the greatest as that lies above their median, or half the
        way from it to `most`.
    """
    greatest = float(values.max())
    beyond = greatest - float(np.median(values)) if most is None else (most - greatest) / 2
    return {"threshold_warn": float(np.quantile(values, _QUANTILE)), "threshold_error": greatest + beyond}


def find_unusual(text: str, value: float, threshold: Threshold) -> Finding | None:
    """A finding, if a number is above its threshold."""
    if value <= threshold.warn:
        return None
    return Finding(f"{text} {value:.3g}, usual is up to {threshold.warn:.3g}", refuse=value > threshold.refuse)
