"""Classification: one of k classes for a sample."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgekit.tasks.task import Task

if TYPE_CHECKING:
    from torch import Tensor


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy.

    Args:
        logits: float (n, classes).
        labels: int64 (n,).
    """
    from torch.nn import functional

    return functional.cross_entropy(logits.float(), labels)


CLASSIFICATION = Task(
    name="classification",
    summary="one of k classes a sample",
    metric="top1",
    loss=cross_entropy,
    output="logits",
)
