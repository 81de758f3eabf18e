"""In which precision to train: bfloat16 where the machine computes faster in it, float32 elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgekit import machine

if TYPE_CHECKING:
    from torch import Tensor, nn

FLOAT32, BFLOAT16, FLOAT16 = "32-true", "bf16-mixed", "16-mixed"

# Operations of a forward pass over one batch from which AMX gains more than the conversions cost; measured on a Xeon
# with AMX: 0.07 GFLOP takes 1.4 times as long in bfloat16, 0.7 GFLOP a third, 1.9 GFLOP two fifths.
_WORTH_IT = 0.25e9


def automatic_precision(module: nn.Module, sample: Sequence[Tensor], batch_size: int, accelerator: str) -> str:
    """Lightning's precision for a model on this machine.

    Args:
        module: What will be trained.
        sample: Inputs of it, on the CPU; axis 0 counts the samples.
        batch_size: Of training.
        accelerator: Lightning's name of it, such as "auto" or "cpu".

    Returns:
        "bf16-mixed" on GPUs that have it and, for models that are large enough, on CPUs with AMX; "16-mixed" on other
        GPUs; "32-true" elsewhere.
    """
    import torch

    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return BFLOAT16 if torch.cuda.is_bf16_supported(including_emulation=False) else FLOAT16
    if accelerator not in ("auto", "cpu") or not machine.cpu_features().get("AMX-BF16"):
        return FLOAT32
    return BFLOAT16 if forward_flops(module, sample) * batch_size >= _WORTH_IT else FLOAT32


def forward_flops(module: nn.Module, sample: Sequence[Tensor]) -> float:
    """Floating-point operations of the matrix products and convolutions of a forward pass, for one sample."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    was_training = module.training
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module.eval()(*sample)
    module.train(was_training)
    return float(counter.get_total_flops()) / len(sample[0])
