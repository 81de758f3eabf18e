"""Which steps of a series or tokens of a text are there, and which only fill the batch up."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from edgekit.training.objective import LearningBatch


def mean_of_steps(values: Tensor, batch: LearningBatch) -> Tensor:
    """The mean of a value a sample, or a value a step, over what is no padding.

    Args:
        values: (n,) or (n, time).
        batch: Its input `mask` (n, time) is 1, and its input `lengths` (n,) counts the steps, where there are steps.
    """
    if values.ndim < 2:
        return values.mean()
    there = steps_there(values, batch)
    return (values * there).sum() / there.sum().clamp(min=1)


def steps_there(values: Tensor, batch: LearningBatch) -> Tensor:
    """1 for each step that is there, 0 for padding: values (n, time, ...) -> float (n, time)."""
    import torch

    n, time = values.shape[:2]
    labels = batch.mixed.labels
    if "target" in batch.inputs and labels is not None and tuple(labels.shape) == (n, time):
        return (labels >= 0).to(values.dtype)  # a pair's mask is that of its source
    mask, lengths = batch.inputs.get("mask"), batch.inputs.get("lengths")
    if mask is not None and tuple(mask.shape) == (n, time):
        return mask.to(values.dtype)
    if lengths is not None:
        return (torch.arange(time, device=values.device)[None] < lengths[:, None]).to(values.dtype)
    return torch.ones(n, time, dtype=values.dtype, device=values.device)
