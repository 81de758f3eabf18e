"""Whether the statistics of batch normalisation get the time to follow what a model is trained on.

In evaluation a normalisation uses running averages, which each training step moves by its momentum. Networks that were
trained for hundreds of thousands of steps come with a small one, and after a short fine-tuning they are then evaluated
on the statistics of their old data, however low the loss of training has become.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgekit import progress

if TYPE_CHECKING:
    from torch import nn

_MOST_LEFT = 1 / 3


def warn_of_slow_statistics(module: nn.Module, steps: int) -> None:
    """Say so, where more than a third of a running average will be what it was before training.

    Args:
        module: In training; what is frozen in it keeps its statistics on purpose.
        steps: Of the whole training.
    """
    found = _slowest(module)
    if found is None:
        return
    name, momentum = found
    left = (1 - momentum) ** steps
    if left > _MOST_LEFT:
        progress.warn(
            f"batch normalisation {name!r} has momentum {momentum:g}: after the {steps:,} steps of this training "
            f"{left:.0%} of its statistics are still those from before it; train longer, or raise the momentum "
            f"(0.1 is usual)"
        )


def _slowest(module: nn.Module) -> tuple[str, float] | None:
    """Name and momentum of the normalisation in training whose running averages move least a step."""
    from torch.nn.modules.batchnorm import _BatchNorm

    from edgekit.training.start import frozen_modules

    still = set(map(id, frozen_modules(module)))
    moving = [
        (name, layer.momentum)  # without one, the averages are plain means
        for name, layer in module.named_modules()
        if isinstance(layer, _BatchNorm) and layer.momentum and layer.track_running_stats and id(layer) not in still
    ]
    return min(moving, key=lambda each: each[1], default=None)
