from __future__ import annotations

import numpy as np
import pytest

from edgekit.errors import DataError
from edgekit.tasks import find_metric
from edgekit.tasks.metric import summarise

SNR = find_metric("snr")
RNG = np.random.default_rng(0)


def snr(original: np.ndarray, compressed: np.ndarray) -> float:
    return summarise(SNR, SNR.score([compressed], original, {})).value


def test_a_known_ratio() -> None:
    """An error of a tenth of every value: 20 dB."""
    x = RNG.standard_normal((8, 1, 4, 4)).astype(np.float32)
    assert snr(x, 1.1 * x) == pytest.approx(20, abs=1e-4)


def test_it_is_over_all_samples() -> None:
    x = np.array([[1.0], [10.0]])
    assert snr(x, x + 1) == pytest.approx(10 * np.log10(101 / 2))


def test_equal_outputs_and_no_signal_are_numbers() -> None:
    x, zero = np.ones((2, 3)), np.zeros((2, 3))
    assert snr(x, x) == 200
    assert snr(zero, zero) == 200
    assert snr(zero, x) == -200


def test_outputs_of_another_shape() -> None:
    with pytest.raises(DataError, match="metric 'snr' compares outputs with those of the original"):
        SNR.score([np.zeros((2, 3))], np.zeros((2, 4)), {})
