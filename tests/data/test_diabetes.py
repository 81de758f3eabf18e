from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekit.data.diabetes import SIZES, load
from edgekit.errors import DataError


def test_splits_are_disjoint_and_of_one_scale() -> None:
    data = load()
    assert {k: len(s) for k, s in data.splits.items()} == SIZES
    rows = np.concatenate([s.arrays["features"] for s in data.splits.values()])
    assert len(np.unique(rows, axis=0)) == 442
    np.testing.assert_allclose(rows.std(axis=0), 1, atol=0.01)
    assert data.target_scale is not None
    assert data.target_scale == (pytest.approx(152, abs=10), pytest.approx(77, abs=8))


def test_it_takes_no_path(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="comes with scikit-learn and takes no path"):
        load(tmp_path)
