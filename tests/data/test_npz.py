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
