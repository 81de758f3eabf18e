"""Classification: one of k classes for a sample."""

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

BINS = 15


def cross_entropy(outputs: Sequence[Tensor], batch: TrainingBatch) -> Tensor:
    """Mean cross-entropy.

    Args:
        outputs: Logits, float (n, classes).
        batch: Labels int64 (n,).
    """
    from torch.nn import functional

    if batch.labels is None:
        raise DataError("classification needs labels; add an array `labels` with one class number a sample")
    return functional.cross_entropy(outputs[0].float(), batch.labels, label_smoothing=batch.label_smoothing)


def _top1(outputs: Sequence[Array], labels: Array, feeds: Feeds) -> Array:
    logits = _logits("top1", outputs, labels)
    return np.asarray(logits.argmax(axis=1) == labels, dtype=np.float64)


def _logits(metric: str, outputs: Sequence[Array], labels: Array) -> Array:
    logits = outputs[0]
    if logits.ndim != 2:
        raise DataError(
            f"metric {metric!r} needs outputs of shape (n, classes), got {logits.shape}; choose another --metric"
        )
    if labels.shape != logits.shape[:1]:
        raise DataError(
            f"metric {metric!r} needs one label a sample, got labels {labels.shape} for outputs {logits.shape}"
        )
    _check_labels(labels, logits.shape[1])
    return logits


def _check_labels(labels: Array, classes: int) -> None:
    """Refuse labels that name no class; float ones are taken where they are whole."""
    wrong = (labels < 0) | (labels >= classes) | (labels != np.floor(labels))
    if wrong.any():
        first = int(wrong.argmax())
        raise DataError(
            f"labels must lie in 0..{classes - 1} for {classes} classes, got {labels[first]} "
            f"({int(wrong.sum())} of {len(labels)} are no class); mend them or take the model that they are for"
        )


def _confidence(outputs: Sequence[Array], labels: Array, feeds: Feeds) -> Array:
    """Columns: confidence of the likeliest class, whether it is right, and which it is."""
    logits = _logits("calibration-error", outputs, labels).astype(np.float64)
    odds, likeliest = np.exp(logits - logits.max(axis=1, keepdims=True)), logits.argmax(axis=1)
    return np.stack([odds.max(axis=1) / odds.sum(axis=1), likeliest == labels, likeliest], axis=1)


def calibration_error(scores: Array) -> float:
    """Expected calibration error: the mean gap between confidence and accuracy, over 15 bins of equal width.

    Args:
        scores: float64 (n, 2 or more): confidence, and 1 for a right answer.

    Source: Guo et al. 2017, arXiv:1706.04599, section 2.
    """
    confidence, right = scores[:, 0], scores[:, 1]
    bins = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    gaps = np.bincount(bins, weights=confidence - right, minlength=BINS)
    return float(np.abs(gaps).sum() / len(scores))


def accuracy_by_class(scores: Array, labels: Array, classes: Sequence[str]) -> dict[str, float | None]:
    """Share of right answers of each class; None for a class without samples.

    Args:
        scores: Of metric top1, float64 (n,).
        labels: int64 (n,).
        classes: Their names.
    """
    found = {name: scores[labels == index] for index, name in enumerate(classes)}
    return {name: float(part.mean()) if len(part) else None for name, part in found.items()}


TOP1 = Metric("top1", True, "", _top1, binary=True)
CALIBRATION_ERROR = Metric("calibration-error", False, "", _confidence, over=calibration_error)

CLASSIFICATION = Task(
    name="classification",
    summary="one of k classes a sample",
    metric="top1",
    also=("calibration-error",),
    loss=cross_entropy,
    outputs=("logits",),
    by_class=True,
)
