"""Handwritten digits, 8x8 grey: 1797 samples that scikit-learn carries. The default: no download.

Source: Alpaydin and Kaynak 1998, Optical Recognition of Handwritten Digits, UCI repository (test part).
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from edgekit.data.dataset import DataSet, DataSource, split_samples
from edgekit.errors import DataError, MissingPackageError
from edgekit.runtime.image import ImagePreprocessing
from edgekit.specs import TensorSpec

PREPROCESSING = ImagePreprocessing(
    height=8, width=8, channels=1, scale=1 / 16, mean=(0.3053,), std=(0.376,), background=0
)
SIZES = {"train": 1000, "calibration": 200, "validation": 237, "test": 360}


def load(directory: Path | None = None, task: str = "classification") -> DataSet:
    """Load and split the digits.

    Raises:
        DataError: if a directory is given; this data set has no files.
        MissingPackageError: without scikit-learn.
    """
    if directory is not None:
        raise DataError(f"data 'digits' comes with scikit-learn and takes no path, got {directory}; leave the path out")
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError:
        raise MissingPackageError(
            "data 'digits' needs scikit-learn; install it: pip install 'edgekit[train]'"
        ) from None
    found, preprocessing = load_digits(), PREPROCESSING.for_task(task)
    return DataSet(
        name="digits",
        task=task,
        inputs=(TensorSpec("image", "float32", ("batch", 1, 8, 8)),),
        classes=tuple(str(d) for d in range(10)),
        preprocessing=preprocessing,
        splits=split_samples(preprocessing(found.images), found.target, SIZES),
    )


def carried_by_sklearn(name: str) -> Callable[..., str]:
    """The fingerprint of data that scikit-learn carries: its version."""

    def fingerprint(directory: Path | None = None) -> str:
        try:
            return f"{name} from scikit-learn {metadata.version('scikit-learn')}"
        except metadata.PackageNotFoundError:
            return name

    return fingerprint


fingerprint = carried_by_sklearn("digits")

DIGITS = DataSource(
    name="digits",
    tasks=("classification", "reconstruction", "generation"),
    summary="1,797 handwritten digits 8x8, 10 classes; comes with scikit-learn, no download",
    licence="BSD-3-Clause",
    load=load,
    fingerprint=fingerprint,
)
