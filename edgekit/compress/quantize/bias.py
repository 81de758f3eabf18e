"""Bias correction: rounded weights shift the mean of every output channel; the shift is known and taken back.

Source: Nagel et al. 2019, arXiv:1906.04721, section 4.2, with input means observed on calibration data.
"""

from __future__ import annotations

import numpy as np

from edgekit.specs import Array


def mean_shift(error: Array, mean: Array, groups: int = 1) -> Array:
    """How much the error of a weight moves the mean of every output channel.

    Padding is taken to hold the mean too; it holds zeros, which makes the shift a little too large at borders.

    Args:
        error: Quantised minus float weight, (out, in / groups, ...).
        mean: (in,) means of the input channels.
        groups: As of the convolution.

    Returns:
        float64 (out,).
    """
    taps = error.reshape(len(error), error.shape[1], -1).sum(axis=2, dtype=np.float64)
    rows = np.repeat(mean.reshape(groups, -1), len(error) // groups, axis=0)
    return np.asarray((taps * rows).sum(axis=1))
