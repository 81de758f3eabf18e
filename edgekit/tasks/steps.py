"""Classification of each step: one of k classes for each step of a series or token of a text."""

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

IGNORED = -100  # what torch's loss passes over; any negative label is no class


def step_cross_entropy(outputs: Sequence[Tensor], batch: TrainingBatch) -> Tensor:
    """Mean cross-entropy over the steps that have a label.

    Args:
        outputs: Logits, float (n, time, classes).
        batch: Labels int64 (n, time); negative for steps that have none, such as padding.
    """
    from torch.nn import functional

    if batch.labels is None:
        raise DataError("step-classification needs labels; add an array `labels` with one class number a step")
    labels = batch.labels.masked_fill(batch.labels < 0, IGNORED).flatten()
    logits = outputs[0].float().flatten(0, 1)
    return functional.cross_entropy(logits, labels, ignore_index=IGNORED, label_smoothing=batch.label_smoothing)


def _right_steps(outputs: Sequence[Array], labels: Array, feeds: Feeds) -> Array:
    return count_right_steps("step-accuracy", outputs, labels)


def count_right_steps(metric: str, outputs: Sequence[Array], labels: Array) -> Array:
    """Steps that are right, and steps that have a label.

    Args:
        metric: Its name, for messages.
        outputs: Logits (n, time, classes) first.
        labels: Integers (n, time); negative for steps that have none.

    Returns:
        float64 (n, 2).

    Raises:
        DataError: for other shapes, or labels that are no class.
    """
    logits = outputs[0]
    if logits.ndim != 3 or labels.shape != logits.shape[:2]:
        raise DataError(
            f"metric {metric!r} needs outputs (n, time, classes) and labels (n, time), "
            f"got {logits.shape} and {labels.shape}; choose another --metric"
        )
    if labels.max(initial=-1) >= logits.shape[2]:
        raise DataError(
            f"labels must lie in 0..{logits.shape[2] - 1} for {logits.shape[2]} classes, or be negative for steps "
            f"without one; got {labels.max()}"
        )
    there = labels >= 0
    right = (logits.argmax(axis=2) == labels) & there
    return np.stack([right.sum(axis=1), there.sum(axis=1)], axis=1).astype(np.float64)


def share_of_right_steps(scores: Array) -> float:
    """Right steps among those with a label: float64 (n, 2) of `right, there`; nan where no step has one."""
    right, there = scores.sum(axis=0)
    return float(right / there) if there else float("nan")


STEP_ACCURACY = Metric("step-accuracy", True, "", _right_steps, over=share_of_right_steps)

STEP_CLASSIFICATION = Task(
    name="step-classification",
    summary="one of k classes a step of a series",
    metric="step-accuracy",
    loss=step_cross_entropy,
    outputs=("logits",),
)
