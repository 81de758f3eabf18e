"""Whether calibration data looks like the data a model is judged on; ranges of other data fit neither."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edgekit.data.split import Split
from edgekit.progress import warn
from edgekit.specs import Array

_SHIFT = 1.0  # means this many standard deviations apart
_STRETCH = 3.0  # one spread this many times the other
_SAMPLES = 256


def warn_of_shift(calibration: Split | None, evaluation: Split | None) -> None:
    """Warn where an input's values differ in place or spread between calibration and evaluation data."""
    if calibration is not None and evaluation is not None:
        for sentence in shifts(calibration, evaluation):
            warn(sentence)


def shifts(calibration: Split, evaluation: Split) -> Iterator[str]:
    """One sentence for each float input that both have and that differs."""
    for name in calibration.arrays.keys() & evaluation.arrays.keys():
        ours, theirs = calibration.arrays[name][:_SAMPLES], evaluation.arrays[name][:_SAMPLES]
        if ours.dtype.kind != "f" or theirs.dtype.kind != "f":
            continue
        (mean, spread), (other_mean, other_spread) = _moments(ours), _moments(theirs)
        widest = max(spread, other_spread)
        stretched = widest > _STRETCH * min(spread, other_spread)
        if widest and (abs(mean - other_mean) > _SHIFT * widest or stretched):
            yield (
                f"input {name!r}: calibration data has mean {mean:.3g} and spread {spread:.3g}, evaluation data "
                f"{other_mean:.3g} and {other_spread:.3g}; calibrate on data prepared like that the model will see"
            )


def _moments(array: Array) -> tuple[float, float]:
    values = array.astype(np.float64)
    return float(np.nanmean(values)), float(np.nanstd(values))
