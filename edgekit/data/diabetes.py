"""Diabetes: 442 patients, 10 measurements each, and how the disease went on after a year. Comes with scikit-learn.

Source: Efron, Hastie, Johnstone and Tibshirani 2004, Least Angle Regression, Annals of Statistics 32.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgekit.data.dataset import DataSet, DataSource, split_samples
from edgekit.data.digits import carried_by_sklearn
from edgekit.errors import DataError, MissingPackageError
from edgekit.specs import TensorSpec

SIZES = {"train": 262, "calibration": 40, "validation": 60, "test": 80}
# Published columns have mean 0 and length 1 over all patients; times sqrt(442) they have unit variance.
_SCALE = np.sqrt(442)


def load(directory: Path | None = None, task: str = "regression") -> DataSet:
    """Load and split the patients.

    Raises:
        DataError: if a directory is given; this data set has no files.
        MissingPackageError: without scikit-learn.
    """
    if directory is not None:
        raise DataError(
            f"data 'diabetes' comes with scikit-learn and takes no path, got {directory}; leave the path out"
        )
    try:
        from sklearn.datasets import load_diabetes
    except ModuleNotFoundError:
        raise MissingPackageError(
            "data 'diabetes' needs scikit-learn; install it: pip install 'edgekit[train]'"
        ) from None
    found = load_diabetes()
    features = (found.data * _SCALE).astype(np.float32)
    splits = split_samples(features, found.target.astype(np.float32), SIZES, "features")
    targets = splits["train"].labels
    assert targets is not None  # split_samples gives every split its labels
    return DataSet(
        name="diabetes",
        task=task,
        inputs=(TensorSpec("features", "float32", ("batch", 10)),),
        classes=("progression",),
        preprocessing=None,
        splits=splits,
        target_scale=(float(targets.mean()), float(targets.std())),
    )


DIABETES = DataSource(
    name="diabetes",
    tasks=("regression",),
    summary="442 patients, 10 measurements, progression after a year; comes with scikit-learn, no download",
    licence="public domain",
    load=load,
    fingerprint=carried_by_sklearn("diabetes"),
)
