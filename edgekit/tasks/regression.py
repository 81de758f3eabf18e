"""Regression: numbers for a sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from edgekit.errors import DataError
from edgekit.specs import Array, Feeds
from edgekit.tasks.metric import Metric
from edgekit.tasks.task import Task, TrainingBatch

if TYPE_CHECKING:
    from torch import Tensor


def squared_error(outputs: Sequence[Tensor], batch: TrainingBatch) -> Tensor:
    """Mean squared error.

    Args:
        outputs: Predictions, float (n, targets).
        batch: Labels float (n,) or (n, targets).
    """
    from torch.nn import functional

    if batch.labels is None:
        raise DataError("regression needs labels; add an array `labels` with the numbers to predict")
    return functional.mse_loss(outputs[0].float(), batch.labels.reshape(outputs[0].shape).float())


def _squared_error(outputs: Sequence[Array], labels: Array, feeds: Feeds) -> Array:
    prediction, wanted = _pair("rmse", outputs, labels)
    return np.asarray(np.square(prediction - wanted).mean(axis=1))


def _error_and_target(outputs: Sequence[Array], labels: Array, feeds: Feeds) -> Array:
    """Columns: squared error summed over the targets, then each target."""
    prediction, wanted = _pair("r2", outputs, labels)
    return np.concatenate([np.square(prediction - wanted).sum(axis=1, keepdims=True), wanted], axis=1)


def explained_variance(scores: Array) -> float:
    """R2, the coefficient of determination: 1 is perfect, 0 is no better than the mean of these targets.

    Args:
        scores: float64 (n, 1 + targets): squared error, and the targets.
    """
    wanted = scores[:, 1:]
    spread = float(np.square(wanted - wanted.mean(axis=0)).sum())
    return 1.0 - float(scores[:, 0].sum()) / spread if spread else float("nan")


def _pair(metric: str, outputs: Sequence[Array], labels: Array) -> tuple[Array, Array]:
    prediction = np.asarray(outputs[0], dtype=np.float64).reshape(len(labels), -1)
    wanted = np.asarray(labels, dtype=np.float64).reshape(len(labels), -1)
    if prediction.shape != wanted.shape:
        raise DataError(
            f"metric {metric!r} needs labels of the outputs' shape, got {wanted.shape} for {prediction.shape}"
        )
    return prediction, wanted


def _root(mean: float) -> float:
    return float(np.sqrt(max(mean, 0.0)))


RMSE = Metric("rmse", False, "units", _squared_error, reduce=_root)
R2 = Metric("r2", True, "", _error_and_target, over=explained_variance)

REGRESSION = Task(
    name="regression",
    summary="numbers for a sample",
    metric="rmse",
    also=("r2",),
    loss=squared_error,
    outputs=("prediction",),
)
