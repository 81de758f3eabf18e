"""What a torch module costs: multiply-accumulates of one sample, and parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edgekit.data.split import Split
from edgekit.training.checkpoint import TrainedModel

if TYPE_CHECKING:
    from torch import Tensor, nn


def sample_of(model: TrainedModel, split: Split, count: int = 1) -> list[Tensor]:
    """The first samples of a split as the module takes them."""
    import torch

    feeds = next(iter(split.take(count).matched(model.inputs).batches(model.inputs, count))).feeds
    return [torch.from_numpy(feeds[spec.name]) for spec in model.inputs]


def count_macs(module: nn.Module, sample: Sequence[Tensor]) -> int:
    """Multiply-accumulates of convolutions, matrix products and recurrent layers, for one sample."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    was_training, enabled = module.training, torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(False)  # oneDNN's LSTM is one operator that nobody counts
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            module.eval()(*sample)
    finally:
        torch._C._set_mkldnn_enabled(enabled)
    module.train(was_training)
    return int(counter.get_total_flops()) // 2 // len(sample[0])


def count_parameters(module: nn.Module) -> int:
    """Numbers that training sets; what two layers share counts once."""
    return sum(p.numel() for p in module.parameters())


def both(before: int, after: int) -> dict[str, Any]:
    """As `details` of a step holds it."""
    return {"before": before, "after": after, "ratio": before / max(1, after)}


def widths(before: nn.Module, after: nn.Module) -> dict[str, list[int]]:
    """Name of each layer that gives fewer numbers than before -> [before, after]."""
    old = dict(before.named_modules())
    pairs = ((name, _outputs(old[name]), _outputs(layer)) for name, layer in after.named_modules() if name in old)
    return {name: [was, now] for name, was, now in pairs if was is not None and now is not None and was != now}


def _outputs(layer: nn.Module) -> int | None:
    names = ("out_channels", "out_features", "embedding_dim", "hidden_size")
    found = (getattr(layer, name, None) for name in names)
    return next((count for count in found if type(count) is int), None)
