"""Batch normalisation of a network that lost channels: its statistics are those of the whole one no more.

Source: Li et al. 2020, EagleEye, arXiv:2007.02491: means and variances estimated anew from data, without labels,
give back most of what removal alone costs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgekit.data.split import Split
from edgekit.training.checkpoint import TrainedModel

if TYPE_CHECKING:
    from torch import nn

SAMPLES, _BATCH = 1024, 128


def estimate_statistics(model: TrainedModel, split: Split) -> bool:
    """Set means and variances of every batch normalisation to those of data, in place.

    Args:
        model: In evaluation mode, and so it is left.
        split: To estimate on; the first 1024 samples, each batch with equal weight.

    Returns:
        Whether there was a normalisation that keeps statistics.
    """
    import torch

    layers = _normalisations(model.module)
    if not layers:
        return False
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the mean over the batches
        layer.train()
    chosen = split.take(SAMPLES).matched(model.inputs)
    with torch.no_grad():
        for batch in chosen.batches(model.inputs, _BATCH):
            model.module(*(torch.from_numpy(batch.feeds[spec.name]) for spec in model.inputs))
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
        layer.eval()
    return True


def _normalisations(module: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    from torch.nn.modules.batchnorm import _BatchNorm

    return [m for m in module.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
