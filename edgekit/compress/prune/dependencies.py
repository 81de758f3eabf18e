"""Which channels of a torch module can only go together: Torch-Pruning's dependency graph, every group tried out.

What cannot be followed stays as it is: a group counts only if the module still runs, and its outputs keep their shapes,
after one channel of it was taken out.

Source: Fang et al. 2023, DepGraph, arXiv:2301.12900.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.compress.prune.attention import find_attentions
from edgekit.compress.prune.recurrent import recurrent_groups, recurrent_network
from edgekit.compress.prune.slots import Group, Slot, remove
from edgekit.errors import CompressError, MissingPackageError, brief

if TYPE_CHECKING:
    from torch import Tensor, nn

_NORMS = ("weight", "bias", "running_mean", "running_var")


@dataclass(frozen=True)
class Found:
    """What the dependency graph says of a module.

    Attributes:
        groups: What can be removed together.
        kept: Name of each layer whose channels have to stay -> why.
    """

    groups: tuple[Group, ...]
    kept: dict[str, str]


def require_torch_pruning() -> Any:
    """The package, or the line that installs it."""
    try:
        import torch_pruning
    except ImportError:
        raise MissingPackageError("this needs torch-pruning; install it: pip install 'edgekit[train]'") from None
    return torch_pruning


def find_groups(module: nn.Module, sample: Sequence[Tensor]) -> Found:
    """The groups of channels of convolutions, matrices and embeddings, or of units of recurrent layers.

    Args:
        module: In evaluation mode; not changed.
        sample: Inputs of at least two samples, so that an axis of channels is never taken for that of samples.

    Raises:
        CompressError: if the module cannot be followed at all; the message names the operation.
    """
    shapes = _shapes(module, sample)
    attentions = {f"{a.name}.{part}" for a in find_attentions(module) for part in a.layout.inputs}
    groups, kept = [], {}
    for name, found in _found(module, sample):
        if name in attentions:
            found = "its channels are those of attention heads; `prune: heads` removes whole ones"
        reason = found if isinstance(found, str) else _objection(module, found, sample, shapes)
        if reason:
            kept[name] = reason
        elif isinstance(found, Group):
            groups.append(found)
    return Found(tuple(groups), kept)


def _found(module: nn.Module, sample: Sequence[Tensor]) -> Iterator[tuple[str, Group | str]]:
    """Each group, or why it is none: of a recurrent network by its build, of others by tracing them."""
    recurrent = recurrent_network(module)
    if recurrent is not None:
        yield from ((group.name, group) for group in recurrent_groups(*recurrent))
        return
    copied = copy.deepcopy(module)
    for parameter in copied.parameters():
        parameter.requires_grad_(True)
    _require_gradient(copied, sample)
    yield from _raw_groups(copied, sample)


def _require_gradient(module: nn.Module, sample: Sequence[Tensor]) -> None:
    """Refuse a module whose outputs leave what torch differentiates: the graph is traced through gradients."""
    names = {layer: name for name, layer in module.named_modules()}
    called: list[str] = []
    hooks = [layer.register_forward_hook(lambda m, i, o: called.append(names[m])) for layer in names if layer != module]
    out = module(*sample)
    for hook in hooks:
        hook.remove()
    if all(o.grad_fn is None for o in (out if isinstance(out, (tuple, list)) else (out,))):
        last = called[-1] if called else ""
        raise CompressError(
            f"the dependency graph cannot follow what {type(module).__name__} does behind layer {last!r}: no gradient "
            "comes back through it; prune the exported file instead"
        )


def _raw_groups(module: nn.Module, sample: Sequence[Tensor]) -> Iterator[tuple[str, Group | str]]:
    """Each group that the graph finds, or why it is none."""
    from torch import nn

    names = {layer: name for name, layer in module.named_modules()}
    owners = {
        parameter: (name, own) for name, layer in module.named_modules() for own, parameter in layer._parameters.items()
    }
    graph = _traced(module, sample)
    roots = (nn.modules.conv._ConvNd, nn.Linear, nn.Embedding)
    for found in graph.get_all_groups(root_module_types=roots):
        root = found[0].dep.target.module
        name = names.get(root, "?")
        try:
            yield name, _group(name, graph.get_out_channels(root), found, names, owners)
        except _UnknownError as problem:
            yield name, str(problem)


class _UnknownError(Exception):
    """A layer that this module knows no slots of."""


def _traced(module: nn.Module, sample: Sequence[Tensor]) -> Any:
    pruning = require_torch_pruning()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            graph = pruning.DependencyGraph().build_dependency(module, tuple(sample), verbose=False)
            _map_shuffles(graph)
    except Exception as error:  # tracing anybody's module fails in any way
        said = brief(error, 200)
        raise CompressError(
            f"the dependency graph cannot follow {type(module).__name__}: {type(error).__name__}: {said}; prune the "
            "exported file instead, or use `prune: magnitude`"
        ) from error
    return graph


def _map_shuffles(graph: Any) -> None:
    """Tell the graph of pixel shuffles and unflattened matrices: k channels before each are one after."""
    from torch_pruning.dependency.index_mapping import _FlattenIndexMapping

    for node in list(graph.module2node.values()):
        stride = _gathered(node)
        if stride < 2:
            continue
        for source in node.inputs:
            for dep in source.dependencies:
                if dep.target is node:
                    dep.index_mapping[0] = _FlattenIndexMapping(stride, reverse=True)
            for dep in node.dependencies:
                if dep.target is source:
                    dep.index_mapping[0] = _FlattenIndexMapping(stride, reverse=False)


def _gathered(node: Any) -> int:
    """How many channels a node makes one of; 1 for nearly every node."""
    name = node.grad_fn.name() if hasattr(node.grad_fn, "name") else ""
    if "PixelShuffle" in name:
        return int(node.grad_fn._saved_upscale_factor) ** 2
    return 1


def _group(name: str, count: int, found: Any, names: dict[Any, str], owners: dict[Any, tuple[str, str]]) -> Group:
    """Torch-Pruning's group as slots."""
    slots: dict[tuple[str, str, int], Slot] = {}
    for item in found:
        layer, outputs = item.dep.target.module, "out_channels" in item.dep.handler.__name__
        places = _places(item, count)
        for slot in _slots(layer, outputs, places, names, owners, item.dep.target):
            slots.setdefault((slot.layer, slot.tensor, slot.axis), slot)
    return _joined(Group(name, count, tuple(slots.values())))


def _joined(group: Group) -> Group:
    """The group with channels that share a place counted as one: the four before each pixel shuffle."""
    first = max(group.slots, key=lambda slot: group.count - len(np.unique(slot.places)))
    shared = group.count // len(np.unique(first.places))
    if shared < 2:
        return group
    blocks = np.argsort(first.places[:, 0], kind="stable").reshape(-1, shared)
    if any(len(np.unique(first.places[block])) != first.places.shape[1] for block in blocks):
        raise _UnknownError("its channels are shared unevenly behind it")
    slots = [replace(slot, places=np.stack([np.unique(slot.places[b]) for b in blocks])) for slot in group.slots]
    return Group(group.name, len(blocks), tuple(slots))


def _places(item: Any, count: int) -> Any:
    """(channels of the root, places of each on this layer's axis)."""
    places: list[list[int]] = [[] for _ in range(count)]
    for place, root in zip(item.idxs, item.root_idxs, strict=True):
        places[root].append(place)
    if len({len(each) for each in places}) != 1 or not places[0]:
        raise _UnknownError("its channels lie unevenly in a layer behind it")
    return np.asarray([sorted(each) for each in places], np.int64)


def _slots(
    layer: Any, outputs: bool, places: Any, names: dict[Any, str], owners: dict[Any, tuple[str, str]], node: Any
) -> Iterator[Slot]:
    """The tensors of one layer that a group touches."""
    from torch import nn

    if isinstance(layer, nn.Parameter):
        name, tensor = owners[layer]
        yield Slot(name, tensor, node.pruning_dim % layer.ndim, places)
        return
    if layer not in names:  # an operation without weights
        if type(layer).__name__ == "_OutputOp":
            raise _UnknownError("the model's output has these channels")
        return
    for tensor, axis in _axes(layer, outputs):
        yield Slot(names[layer], tensor, axis, places)


def _axes(layer: Any, outputs: bool) -> list[tuple[str, int]]:
    """Names of a layer's tensors that hold the channels, each with the axis."""
    from torch import nn

    bias = [("bias", 0)] if getattr(layer, "bias", None) is not None and outputs else []
    if isinstance(layer, nn.modules.conv._ConvNd):
        if layer.groups > 1:
            if layer.groups != layer.in_channels or layer.groups != layer.out_channels:
                raise _UnknownError(f"a convolution behind it has {layer.groups} groups")
            return [("weight", 0), *([("bias", 0)] if layer.bias is not None else [])]
        return [("weight", int(outputs == layer.transposed)), *bias]
    if isinstance(layer, nn.Linear):
        return [("weight", 0 if outputs else 1), *bias]
    if isinstance(layer, nn.Embedding):
        return [("weight", 1)]
    if isinstance(layer, nn.modules.batchnorm._NormBase):
        return [(tensor, 0) for tensor in _NORMS if getattr(layer, tensor, None) is not None]
    if isinstance(layer, nn.LayerNorm):
        return [(t, layer.weight.ndim - 1) for t in ("weight", "bias") if getattr(layer, t, None) is not None]
    if isinstance(layer, nn.PReLU):
        return [("weight", 0)] if layer.num_parameters > 1 else []
    raise _UnknownError(f"a {type(layer).__name__} behind it is unknown")


def _objection(module: nn.Module, group: Group, sample: Sequence[Tensor], shapes: list[Any]) -> str:
    """Why a group cannot be pruned, found by taking one channel out; "" if it can."""
    if group.count < 2:
        return "it has one channel"
    tried = copy.deepcopy(module)
    try:
        remove(tried, [(group, np.zeros(1, np.int64))])
        same = _shapes(tried, sample) == shapes
    except (RuntimeError, ValueError, IndexError, TypeError, AttributeError) as error:
        return f"without one of them the model does not run: {brief(error, 120)}"
    return "" if same else "without one of them the outputs have other shapes"


def _shapes(module: nn.Module, sample: Sequence[Tensor]) -> list[Any]:
    import torch

    with torch.inference_mode():
        out = module(*sample)
    return [tuple(o.shape) for o in (out if isinstance(out, (tuple, list)) else (out,))]
