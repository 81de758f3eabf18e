"""Where the channels of a group lie in the tensors of a module, and taking some of them out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.specs import Array

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Slot:
    """Where the channels of a group lie in one tensor.

    Attributes:
        layer: Name of the layer; "" for the module itself.
        tensor: Name of its parameter or buffer.
        axis: Along which the channels lie.
        places: int64 (channels, k): each channel is at these k places of the axis.
    """

    layer: str
    tensor: str
    axis: int
    places: Array


@dataclass(frozen=True)
class Group:
    """Channels that can only be removed together from every tensor that holds them.

    Attributes:
        name: Of the layer that makes the channels.
        count: How many there are.
        slots: Where they lie.
        round_to: So many must be left, or a multiple of it; 1 where that is free.
    """

    name: str
    count: int
    slots: tuple[Slot, ...]
    round_to: int = 1


Removal = tuple[Group, Array]  # a group and the channels of it that go, int64 (n,)


def remove(module: nn.Module, removals: Iterable[Removal]) -> None:
    """Take channels out of a module.

    Args:
        module: Changed in place.
        removals: What goes; groups that share a tensor are taken out of it at once.
    """
    gone: dict[tuple[str, str], dict[int, list[Array]]] = defaultdict(lambda: defaultdict(list))
    for group, channels in removals:
        for slot in group.slots:
            gone[slot.layer, slot.tensor][slot.axis].append(slot.places[channels].reshape(-1))
    replaced: dict[int, tuple[nn.Parameter, nn.Parameter]] = {}
    for (layer, tensor), axes in gone.items():
        owner = module.get_submodule(layer)
        _replace(owner, tensor, _cut(getattr(owner, tensor).detach(), axes), replaced)
    for layer in {layer for layer, _ in gone}:
        resize(module.get_submodule(layer))
    _tell_recurrent_layers(module)


def _cut(value: Tensor, axes: Mapping[int, Sequence[Array]]) -> Tensor:
    """A tensor without some places of its axes."""
    import torch

    for axis, places in axes.items():
        left = np.setdiff1d(np.arange(value.shape[axis]), np.concatenate(places))
        value = value.index_select(axis, torch.from_numpy(left))
    return value.clone()


def _replace(
    owner: nn.Module, name: str, value: Tensor, replaced: dict[int, tuple[nn.Parameter, nn.Parameter]]
) -> None:
    """Put a tensor in the place of a parameter or buffer; what two layers share stays shared."""
    from torch import nn

    old = getattr(owner, name)
    if isinstance(old, nn.Parameter):
        # the old one is kept with the new one, so that its id is not given to another
        setattr(owner, name, replaced.setdefault(id(old), (old, nn.Parameter(value, old.requires_grad)))[1])
    else:
        setattr(owner, name, value)


def _tell_recurrent_layers(module: nn.Module) -> None:
    """Our recurrent layers know the width of the cells inside them."""
    from edgekit.families.recurrent_module import RecurrentLayer

    for layer in module.modules():
        if isinstance(layer, RecurrentLayer):
            layer.width = int(layer.ahead.hidden_size)


def resize(layer: Any) -> None:
    """Let a layer's numbers say what its tensors are."""
    from torch import nn

    if isinstance(layer, nn.modules.conv._ConvNd):
        _resize_convolution(layer)
    elif isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = layer.weight.shape
    elif isinstance(layer, nn.modules.batchnorm._NormBase):
        layer.num_features = len(layer.running_mean if layer.running_mean is not None else layer.weight)
    elif isinstance(layer, nn.LayerNorm):
        layer.normalized_shape = tuple(layer.weight.shape)
    elif isinstance(layer, nn.Embedding):
        layer.num_embeddings, layer.embedding_dim = layer.weight.shape
    elif isinstance(layer, nn.RNNBase):
        recurrent: Any = layer
        recurrent.hidden_size, recurrent.input_size = recurrent.weight_hh_l0.shape[1], recurrent.weight_ih_l0.shape[1]


def _resize_convolution(layer: Any) -> None:
    """Depthwise layers have a group for each channel; in a transposed one the inputs come first."""
    first, second = layer.weight.shape[:2]
    if layer.groups > 1 and layer.groups == layer.in_channels:
        layer.groups = first
        layer.in_channels, layer.out_channels = first, first * second if layer.transposed else first
    elif layer.transposed:
        layer.in_channels, layer.out_channels = first, second * layer.groups
    else:
        layer.out_channels, layer.in_channels = first, second * layer.groups


def stacked(slot: Slot, value: Tensor) -> Tensor:
    """A tensor by channels: its values of each, (channels, values)."""
    import torch

    places = torch.from_numpy(slot.places)
    found = value.index_select(slot.axis, places.reshape(-1)).movedim(slot.axis, 0)
    return found.reshape(len(places), -1)


def sizes(groups: Sequence[Group], removals: Iterable[Removal]) -> Mapping[str, tuple[int, int]]:
    """Name of each group -> its channels before and after."""
    left = {group.name: group.count for group in groups}
    for group, channels in removals:
        left[group.name] -= len(channels)
    return {group.name: (group.count, left[group.name]) for group in groups}
