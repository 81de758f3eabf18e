from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekit.data import SOURCES, ImagePreprocessing, find_source, load_split
from edgekit.data.dataset import split_samples
from edgekit.data.digits import SIZES, load
from edgekit.errors import DataError


def test_unknown_names_give_the_nearest() -> None:
    with pytest.raises(DataError, match=r"unknown data 'digit'; did you mean 'digits'\? .*; or the path of an \.npz"):
        find_source("digit")
    with pytest.raises(
        DataError, match=r"unknown split 'tst'; did you mean 'test'\? allowed: calibration, test, train"
    ):
        load_split("digits", "tst")
    with pytest.raises(DataError, match=r"data nothing\.npz is not there"):
        load_split("nothing.npz", "test")


def test_each_source_says_what_it_is() -> None:
    for name, source in SOURCES.items():
        assert source.name == name
        assert source.licence
        assert source.summary


def test_digits_takes_no_path(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="comes with scikit-learn and takes no path"):
        load(tmp_path)


def test_digits_splits_are_disjoint_the_same_each_time_and_typed() -> None:
    first, again = load(), load()
    seen: set[bytes] = set()
    for name, size in SIZES.items():
        split = first.splits[name]
        assert split.arrays["image"].shape == (size, 1, 8, 8)
        assert split.arrays["image"].dtype == np.float32
        assert split.labels is not None
        assert set(split.labels.tolist()) == set(range(10))
        np.testing.assert_array_equal(split.arrays["image"], again.splits[name].arrays["image"])
        rows = {row.tobytes() for row in split.arrays["image"]}
        assert not rows & seen
        seen |= rows
    assert len(seen) == sum(SIZES.values()) == 1797


def test_digits_are_prepared_as_their_preprocessing_says() -> None:
    from sklearn.datasets import load_digits

    pixels = load_digits().images
    wanted = {((p / 16 - 0.3053) / 0.376).astype(np.float32).round(5).tobytes() for p in pixels}
    test = load().splits["test"].arrays["image"]
    assert {row.round(5).tobytes() for row in test[:, 0]} <= wanted
    assert abs(float(load().splits["train"].arrays["image"].mean())) < 0.02


def test_preprocessing_of_colour_images_against_numpy() -> None:
    prepare = ImagePreprocessing(2, 3, 3, 1 / 255, (0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
    pixels = np.random.default_rng(0).integers(0, 256, (4, 2, 3, 3), dtype=np.uint8)
    wanted = ((pixels / 255 - [0.1, 0.2, 0.3]) / [0.5, 0.6, 0.7]).transpose(0, 3, 1, 2)
    got = prepare(pixels)
    assert got.shape == (4, 3, 2, 3)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


def test_splits_are_cut_in_the_order_given() -> None:
    x = np.arange(10, dtype=np.float32)[:, None]
    splits = split_samples(x, np.arange(10), {"a": 3, "b": 7})
    together = np.concatenate([splits["a"].arrays["image"], splits["b"].arrays["image"]])[:, 0]
    assert sorted(together.tolist()) == list(range(10))
    np.testing.assert_array_equal(splits["b"].arrays["image"][:, 0], splits["b"].labels)
