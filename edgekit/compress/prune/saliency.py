"""How much each channel of a group matters: from its weights, or from gradients on calibration data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from edgekit.compress.prune.slots import Group, stacked
from edgekit.data.split import Split
from edgekit.specs import Array
from edgekit.tasks import TASKS, TrainingBatch
from edgekit.training.checkpoint import TrainedModel

if TYPE_CHECKING:
    from torch import Tensor, nn

Importance = Literal["l1", "l2", "bn-scale", "taylor", "hessian", "random"]
OF_DATA = ("taylor", "hessian")
_BATCH = 32


def saliency(model: TrainedModel, groups: Sequence[Group], how: Importance, split: Split, seed: int = 0) -> list[Array]:
    """The importance of each channel of each group, comparable between groups.

    Args:
        model: In evaluation mode.
        groups: Of its module.
        how: "l1" and "l2": norm of all weights of a channel (Li et al. 2016, arXiv:1608.08710; Fang et al. 2023,
            arXiv:2301.12900); "bn-scale": of the scales of batch normalisation alone (Liu et al. 2017,
            arXiv:1708.06519); "taylor": |weight x gradient| (Molchanov et al. 2019, arXiv:1906.10771); "hessian":
            weight^2 x gradient^2, the diagonal of the Fisher information (LeCun et al. 1989; Theis et al. 2018,
            arXiv:1801.05787); "random".
        split: Calibration samples with labels, for what needs gradients.
        seed: Of "random".

    Returns:
        float64 (channels,) a group, divided by their mean over the group: layers differ in scale, and raw gradients
        would empty the last ones.

    Raises:
        CompressError: if the task has no loss for these samples.
    """
    if how == "random":
        rng = np.random.default_rng(seed)
        return [rng.random(group.count) for group in groups]
    if how in OF_DATA:
        found = gradients(model, groups, split, squared=how == "hessian")
        return [_normed(_sum(found, group)) for group in groups]
    return [_normed(_weights(model.module, group, how)) for group in groups]


def gradients(
    model: TrainedModel, groups: Sequence[Group], split: Split, *, squared: bool
) -> Mapping[tuple[str, str], Tensor]:
    """|weight x gradient|, or its square, of every parameter that groups lie in, meant over batches of a split."""
    tensors = _tensors(model.module, groups)
    total = {key: value.detach().new_zeros(value.shape) for key, value in tensors.items()}
    for slopes in _slopes(model, tensors, split, 1 if squared else _BATCH):
        for key, moved in slopes.items():
            total[key] += moved.square() if squared else moved.abs()
    return total


def signed_saliency(model: TrainedModel, groups: Sequence[Group], split: Split) -> list[Array]:
    """How much the loss of a sample changes without each channel: |sum of weight x gradient|, meant over samples.

    Of the weights that read a head, the sum is the derivative of the loss by a factor on that head's output.

    Args:
        model: In evaluation mode.
        groups: Of its module; the weights of a channel are added up with their signs.
        split: Calibration samples with labels.

    Source: Michel et al. 2019, arXiv:1905.10650, equation 2.
    """
    total = [np.zeros(group.count) for group in groups]
    for count, slopes in enumerate(_slopes(model, _tensors(model.module, groups), split, 1), 1):
        for index, group in enumerate(groups):
            moved = sum(stacked(s, slopes[s.layer, s.tensor]).double().sum(1).numpy() for s in group.slots)
            total[index] += (np.abs(moved) - total[index]) / count
    return total


def _tensors(module: nn.Module, groups: Sequence[Group]) -> dict[tuple[str, str], nn.Parameter]:
    """The parameters that groups lie in."""
    from torch import nn

    wanted = dict.fromkeys((s.layer, s.tensor) for g in groups for s in g.slots)
    there = {key: getattr(module.get_submodule(key[0]), key[1]) for key in wanted}
    return {key: value for key, value in there.items() if isinstance(value, nn.Parameter)}


def _slopes(
    model: TrainedModel, tensors: Mapping[tuple[str, str], nn.Parameter], split: Split, size: int
) -> Iterator[dict[tuple[str, str], Tensor]]:
    """Weight x gradient of each parameter, for each batch of so many samples."""
    import torch

    task = TASKS[model.card.task]
    for inputs, labels in _batches(model, split, size):
        out = model.module(*inputs)
        loss = task.loss(out if isinstance(out, (tuple, list)) else [out], TrainingBatch(tuple(inputs), labels))
        slopes = torch.autograd.grad(loss, list(tensors.values()), allow_unused=True)
        pairs = zip(tensors.items(), slopes, strict=True)
        yield {k: v.detach() * (torch.zeros_like(v) if slope is None else slope) for (k, v), slope in pairs}


def _batches(model: TrainedModel, split: Split, size: int) -> Iterator[tuple[list[Tensor], Tensor | None]]:
    import torch

    for part in split.matched(model.inputs).batches(model.inputs, size):
        labels = None if split.labels is None else torch.from_numpy(part.labels)
        yield [torch.from_numpy(part.feeds[spec.name]) for spec in model.inputs], labels


def _sum(found: Mapping[tuple[str, str], Tensor], group: Group) -> Array:
    total = np.zeros(group.count)
    for slot in group.slots:
        if (slot.layer, slot.tensor) in found:
            total += stacked(slot, found[slot.layer, slot.tensor]).double().sum(1).numpy()
    return total


def _weights(module: nn.Module, group: Group, how: str) -> Array:
    """Norm of what a channel has in every tensor of its group."""
    from torch import nn

    total = np.zeros(group.count)
    slots = [s for s in group.slots if s.tensor not in ("running_mean", "running_var")]
    scales = [s for s in slots if s.tensor == "weight" and _is_norm(module.get_submodule(s.layer))]
    for slot in (scales or slots) if how == "bn-scale" else slots:
        value = getattr(module.get_submodule(slot.layer), slot.tensor)
        if isinstance(value, nn.Parameter):
            rows = stacked(slot, value.detach()).double()
            total += (rows.abs() if how in ("l1", "bn-scale") else rows.square()).sum(1).numpy()
    return np.sqrt(total) if how == "l2" else total


def _is_norm(layer: Any) -> bool:
    from torch import nn

    return isinstance(layer, (nn.modules.batchnorm._NormBase, nn.LayerNorm))


def _normed(values: Array) -> Array:
    return values / max(float(values.mean()), 1e-12)
