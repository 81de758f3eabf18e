"""Drift: how far the outputs of a compressed model are from those of the original for the same inputs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgekit.errors import DataError
from edgekit.specs import Array, Feeds
from edgekit.tasks.metric import Metric

_MOST_DB = 200.0  # what equal outputs are given: infinity is no number in JSON


def _energies(outputs: Sequence[Array], labels: Array, feeds: Feeds) -> Array:
    """Signal and error of each sample: float64 (n, 2). The labels are the original's first output."""
    if outputs[0].shape != labels.shape:
        raise DataError(
            f"metric 'snr' compares outputs with those of the original, got {outputs[0].shape} for {labels.shape}; "
            "it is the drift that `edgekit run` reports"
        )
    wanted = labels.reshape(len(labels), -1).astype(np.float64)
    error = outputs[0].reshape(len(labels), -1).astype(np.float64) - wanted
    return np.stack([np.square(wanted).sum(axis=1), np.square(error).sum(axis=1)], axis=1)


def signal_to_noise_db(scores: Array) -> float:
    """Ratio of signal to error over all samples in dB, held within -200 (nothing is right) and 200 (nothing is wrong).

    Args:
        scores: float64 (n, 2): energy of the signal, energy of the error.
    """
    signal, error = scores.sum(axis=0)
    if error == 0 or signal == 0:
        return _MOST_DB if error == 0 else -_MOST_DB
    return float(np.clip(10 * np.log10(signal / error), -_MOST_DB, _MOST_DB))


SNR = Metric("snr", True, "dB", _energies, over=signal_to_noise_db)
