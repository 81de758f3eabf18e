"""N:M sparsity: of every M weights along a layer's inputs at most N are not zero; TensorRT has kernels for 2:4."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from edgekit.compress.finetune import fine_tune
from edgekit.compress.prune.cost import sample_of
from edgekit.compress.prune.dependencies import find_groups
from edgekit.compress.prune.magnitude import compressed_bytes, masked, prunable, zeros_of
from edgekit.compress.prune.normalisation import estimate_statistics
from edgekit.compress.prune.outcome import AFTER_QUANTIZE, link
from edgekit.compress.prune.permute import permute, search_order
from edgekit.compress.technique import ExcludedNode, StepConfig, StepResult, TorchStep, technique
from edgekit.errors import CompressError
from edgekit.training.checkpoint import TrainedModel
from edgekit.training.config import FineTuneConfig
from edgekit.training.extras import SPARSITY

if TYPE_CHECKING:
    from torch import Tensor, nn

_PATTERN = re.compile(r"(\d+):(\d+)")


class NmConfig(StepConfig):
    """How to make weights N:M sparse."""

    prune: Literal["nm"] = "nm"
    pattern: Annotated[str, Field(description="N:M: of every M weights N stay; TensorRT has kernels for 2:4")] = "2:4"
    permute: Annotated[
        bool, Field(description="reorder channels first, so that less is lost; the function stays the same")
    ] = True
    finetune: Annotated[FineTuneConfig | None, Field(description="training after it; null for none")] = FineTuneConfig()

    @model_validator(mode="after")
    def _reads(self) -> Self:
        found = _PATTERN.fullmatch(self.pattern)
        if not found or not 0 < int(found[1]) < int(found[2]) <= 32:
            raise ValueError(f'pattern: got {self.pattern!r}; write N:M with 0 < N < M <= 32, such as "2:4"')
        return self

    @property
    def numbers(self) -> tuple[int, int]:
        """(N, M)."""
        few, many = self.pattern.split(":")
        return int(few), int(many)


@technique(
    NmConfig,
    stage="torch",
    summary="of every 4 weights 2 become zero, for TensorRT's sparse kernels; no faster in ONNX Runtime on a CPU",
    paper="Mishra et al. 2021, arXiv:2104.08378; permutations: Pool and Yu 2021, NeurIPS",
    not_after=AFTER_QUANTIZE,
)
def prune_nm(config: NmConfig, step: TorchStep) -> StepResult:
    """Set weights to zero in the pattern, and hold them there while the model trains on.

    Raises:
        CompressError: if no layer has a number of inputs that the pattern divides.
    """
    few, many = config.numbers
    module = copy.deepcopy(step.model.module)
    names, excluded = _divisible(module, many)
    gained = _reorder(step, module, names, few, many) if config.permute else 1.0
    masks = {name: largest(module.get_parameter(name).detach(), few, many) for name in names}
    card = replace(step.model.card, edits={**step.model.card.edits, SPARSITY: config.pattern})
    pruned = TrainedModel(masked(module, masks).eval(), card)
    links = [link(step, pruned, "pruned")]
    if config.finetune is None and estimate_statistics(pruned, step.load_data().splits["calibration"]):
        links.append(link(step, pruned, "normalised anew"))
    tuned = fine_tune(step, pruned, config.finetune)
    links += [link(step, tuned, "fine-tuned")] if config.finetune else []
    return _told(config, step, tuned, links, names, excluded, gained)


def _divisible(module: nn.Module, many: int) -> tuple[list[str], tuple[ExcludedNode, ...]]:
    """The weights whose inputs come in whole groups, and why the others stay.

    Raises:
        CompressError: if there is none.
    """
    names = prunable(module)
    inputs = {name: module.get_parameter(name).shape[1] for name in names}
    fit = [name for name in names if inputs[name] % many == 0]
    if not fit:
        raise CompressError(f"no layer has a number of inputs that {many} divides; got {sorted(set(inputs.values()))}")
    reasons = {n: f"its number of inputs, {inputs[n]}, is no multiple of {many}" for n in names if n not in fit}
    return fit, tuple(ExcludedNode(name, why) for name, why in reasons.items())


def largest(weight: Tensor, few: int, many: int) -> Tensor:
    """The largest `few` of every `many` neighbours along axis 1: bool of the same shape, True where they stay."""
    import torch

    last = weight.abs().movedim(1, -1)
    groups = last.reshape(*last.shape[:-1], -1, many)
    chosen = groups.topk(few, dim=-1).indices
    mask = torch.zeros_like(groups, dtype=torch.bool).scatter_(-1, chosen, True)
    return mask.reshape(last.shape).movedim(-1, 1).contiguous()


def _reorder(step: TorchStep, module: nn.Module, names: Sequence[str], few: int, many: int) -> float:
    """Reorder channels so that larger weights stay; the magnitude that stays, over that without it."""
    kept = partial(_kept, module, names, few, many)
    before = kept()
    for group in find_groups(module, sample_of(step.model, step.load_data().splits["calibration"], 2)).groups:
        order = search_order(module, group, [n for n in names if n.endswith("weight")], few, many)
        if order is not None:
            permute(module, group, order)
    return kept() / max(before, 1e-12)


def _kept(module: nn.Module, names: Sequence[str], few: int, many: int) -> float:
    values = (module.get_parameter(name).detach() for name in names)
    return float(np.sum([float((v.abs() * largest(v, few, many)).sum()) for v in values]))


def _told(
    config: NmConfig,
    step: TorchStep,
    model: TrainedModel,
    links: list[dict[str, Any]],
    names: Sequence[str],
    excluded: tuple[ExcludedNode, ...],
    gained: float,
) -> StepResult:
    zeros, total = zeros_of(model.module, names)
    before, after = (compressed_bytes(m.module) for m in (step.model, model))
    layers = f"{len(names)} layer{'s' if len(names) > 1 else ''}"
    reason = (
        f"{config.pattern} sparse in {layers} ({100 * zeros / total:.0f} % zeros there), marked for TensorRT's sparse "
        f"kernels; ONNX Runtime on a CPU runs no faster for it, zipped the weights are "
        f"{before / max(1, after):.2f} times smaller"
    )
    details = {
        "links": links,
        "sparsity": zeros / total,
        "pattern": config.pattern,
        "magnitude_gained": gained,
        "compressed_bytes": {"before": before, "after": after, "ratio": before / max(1, after)},
    }
    return StepResult(True, reason, excluded, details)
