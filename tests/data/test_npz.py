from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.data.npz import fingerprint, load, npz_source
from edgekit.errors import DataError


def saved(path: Path, **arrays: Any) -> Path:
    np.savez(path / "d.npz", **arrays)
    return path / "d.npz"


def refusal(path: Path) -> str:
    with pytest.raises(DataError) as error:
        load(path)
    return str(error.value)


def samples(n: int = 100) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).standard_normal((n, 5)).astype(np.float32)


def test_four_disjoint_splits_of_all_samples(tmp_path: Path) -> None:
    path = saved(tmp_path, x=samples(), labels=np.arange(100) % 3)
    data = load(path)
    assert {k: len(s) for k, s in data.splits.items()} == {
        "test": 15,
        "validation": 10,
        "calibration": 10,
        "train": 65,
    }
    assert data.classes == ("0", "1", "2")
    assert data.inputs[0].shape == ("batch", 5)
    rows = np.concatenate([s.arrays["x"] for s in data.splits.values()])
    np.testing.assert_array_equal(np.unique(rows, axis=0), np.unique(samples(), axis=0))


def test_splits_and_labels_stay_together_and_are_the_same_each_time(tmp_path: Path) -> None:
    x = samples()
    path = saved(tmp_path, x=x, labels=np.arange(100) % 7)
    first, again = load(path), load(path)
    for name, split in first.splits.items():
        np.testing.assert_array_equal(split.arrays["x"], again.splits[name].arrays["x"])
        for row, label in zip(split.arrays["x"], split.labels, strict=True):  # type: ignore[arg-type]
            assert int(np.flatnonzero((x == row).all(axis=1))[0]) % 7 == label


def test_labels_missing(tmp_path: Path) -> None:
    path = saved(tmp_path, x=samples())
    assert refusal(path) == (
        f"data {path} has no labels; training needs an array `labels` with one class number a sample"
    )


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"labels": np.arange(30)}, "needs exactly one array beside `labels`, got none"),
        ({"x": samples(), "y": samples(), "labels": np.zeros(100, int)}, "beside `labels`, got x, y"),
        ({"x": samples(19), "labels": np.zeros(19, int)}, "has 19 samples; at least 20 are needed"),
        ({"x": samples(0), "labels": np.zeros(0, int)}, "has 0 samples; at least 20 are needed"),
        ({"x": samples(), "labels": np.zeros(100)}, "labels must be integers of shape (n,), got float64 (100,)"),
        ({"x": samples(), "labels": np.zeros((100, 2), int)}, "labels must be integers of shape (n,), got int64"),
        ({"x": samples(), "labels": np.full(100, -1)}, "labels must count the classes from 0 on, got -1"),
        ({"x": samples(), "labels": np.zeros(99, int)}, "99 labels for 100 samples"),
        ({"x": samples() * np.nan, "labels": np.zeros(100, int)}, "sample 0 holds NaN or Inf"),
        ({"x": np.array(["a"] * 100), "labels": np.zeros(100, int)}, "array 'x' must hold numbers, got dtype <U1"),
        ({"x": samples(), "labels": np.full(100, 10**9)}, "got class 1000000000 for 100 samples"),
    ],
)
def test_what_cannot_be_trained_on(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    path = saved(tmp_path, **arrays)
    said = refusal(path)
    assert said.startswith(f"data {path}") or said.startswith(f"data '{path}'")
    assert message in said


def test_fingerprint_follows_the_content_not_the_place(tmp_path: Path) -> None:
    path = saved(tmp_path, x=samples(), labels=np.zeros(100, int))
    first = fingerprint(path)
    assert npz_source(path).fingerprint(None) == first
    moved = path.rename(tmp_path / "other.npz")
    assert fingerprint(moved) == first
    assert fingerprint(saved(tmp_path, x=samples() + 1, labels=np.zeros(100, int))) != first


def test_fingerprint_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is not there; give an \.npz"):
        fingerprint(tmp_path / "no.npz")


def series(n: int = 40) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).standard_normal((n, 6, 2)).astype(np.float32)


def test_series_of_one_length_are_open_in_time(tmp_path: Path) -> None:
    data = load(saved(tmp_path, series=series(), labels=np.arange(40) % 2))
    assert [str(s) for s in data.inputs] == ["series: float32 batchxtimex2"]


def test_series_and_their_lengths_stay_together(tmp_path: Path) -> None:
    x, lengths = series(), np.arange(40, dtype=np.int32) % 6 + 1
    data = load(saved(tmp_path, series=x, lengths=lengths, labels=np.arange(40) % 2))
    assert [str(s) for s in data.inputs] == ["series: float32 batchxtimex2", "lengths: int64 batch"]
    assert {name: len(split) for name, split in data.splits.items()} == {
        "test": 6,
        "validation": 4,
        "calibration": 4,
        "train": 26,
    }
    for split in data.splits.values():
        for row, length in zip(split.arrays["series"], split.arrays["lengths"], strict=True):
            assert lengths[int(np.flatnonzero((x == row).all(axis=(1, 2)))[0])] == length


def test_labels_of_steps(tmp_path: Path) -> None:
    labels = np.where(np.arange(6) < 4, np.arange(40)[:, None] % 3, -1)
    path = saved(tmp_path, series=series(), labels=labels)
    assert npz_source(path).tasks[0] == "step-classification"
    data = load(path, "step-classification")
    assert data.classes == ("0", "1", "2")
    assert data.splits["train"].labels is not None
    assert data.splits["train"].labels.shape == (26, 6)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"lengths": np.full(40, 7)},
            "sample 0 has length 7; lengths must lie in 1..6, the steps that the arrays have",
        ),
        ({"lengths": np.arange(40) % 6}, "sample 0 has length 0; lengths must lie in 1..6"),
        ({"lengths": np.full(40, -1)}, "sample 0 has length -1; lengths must lie in 1..6"),
        ({"lengths": np.full(39, 3)}, "arrays differ in their number of samples (series: 40, lengths: 39)"),
        ({"lengths": np.full((40, 1), 3)}, "array 'lengths' must be (n,), got (40, 1)"),
        ({"lengths": np.full(40, 2.5)}, "dtype float64 does not fit lengths: int64 batch"),
        ({"series": series() * np.nan}, "input 'series': sample 0 holds NaN or Inf; remove or mend it"),
        ({"series": series()[..., 0]}, "array 'series' must be (n, time, channels), got (40, 6)"),
    ],
)
def test_series_that_are_none(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    said = refusal(saved(tmp_path, **{"series": series(), "labels": np.arange(40) % 2, **arrays}))
    assert message in said
    assert "\n" not in said


def test_labels_that_are_not_one_a_step(tmp_path: Path) -> None:
    path = saved(tmp_path, series=series(), labels=np.zeros((40, 5), int))
    with pytest.raises(DataError, match=r"labels of steps must be integers of shape \(40, 6\), one a step"):
        load(path, "step-classification")
