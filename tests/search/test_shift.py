"""The warning about calibration data that is unlike evaluation data."""

from __future__ import annotations

import numpy as np

from edgekit.data.split import Split
from edgekit.search.shift import shifts


def split(array: np.ndarray, name: str = "image") -> Split:
    return Split("data", {name: array})


def test_says_nothing_of_data_of_one_kind() -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((100, 8)).astype(np.float32) for _ in range(2))
    assert list(shifts(split(a), split(b))) == []


def test_names_the_input_that_was_not_scaled() -> None:
    rng = np.random.default_rng(0)
    scaled = rng.random((100, 8)).astype(np.float32)
    (sentence,) = shifts(split(scaled * 255), split(scaled))
    assert "input 'image'" in sentence
    assert "calibrate on data prepared like that" in sentence


def test_integers_and_constants_are_left_alone() -> None:
    ids = np.arange(10).reshape(5, 2)
    assert list(shifts(split(ids), split(ids * 100))) == []
    assert list(shifts(split(np.zeros((5, 2), np.float32)), split(np.zeros((5, 2), np.float32)))) == []
