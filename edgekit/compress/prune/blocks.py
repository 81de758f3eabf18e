"""Residual blocks that can be left out, because what goes into one fits where its result goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.data.split import Split
from edgekit.specs import Array
from edgekit.training.checkpoint import TrainedModel

if TYPE_CHECKING:
    from torch import Tensor, nn

_BATCH = 16


@dataclass(frozen=True)
class Stack:
    """A container whose children, or pairs of them, are blocks that can be left out.

    Attributes:
        path: Of the container inside the module.
        blocks: Indices of the children of each block, in their order.
    """

    path: str
    blocks: tuple[tuple[int, ...], ...]

    def kept(self, count: int, gone: Sequence[int]) -> list[int]:
        """Indices of the children that stay, of so many, when some blocks go."""
        left_out = {child for block in gone for child in self.blocks[block]}
        return [index for index in range(count) if index not in left_out]


def find_stacks(module: nn.Module) -> list[Stack]:
    """The stacks of blocks of a module: transformers' lists, pairs of attention and MLP, residual blocks of a stage."""
    from torch import nn

    found = []
    for path, container in module.named_modules():
        if isinstance(container, nn.ModuleList) and _is_stack(container):
            found.append(Stack(path, tuple((i,) for i in range(len(container)))))
        elif isinstance(container, nn.Sequential):
            blocks = _blocks_of(container)
            found += [Stack(path, blocks)] if blocks else []
    return found


def _is_stack(container: Any) -> bool:
    """Several blocks of one kind that hold an attention each: a list of other layers may have any wiring."""
    from edgekit.compress.prune.attention import find_attentions

    kinds = {type(child) for child in container}
    return len(container) > 1 and len(kinds) == 1 and all(find_attentions(child) for child in container)


def _blocks_of(container: Any) -> tuple[tuple[int, ...], ...]:
    """Blocks of a chain of layers: attention with the MLP behind it, or a residual block whose shortcut is nothing."""
    from torch import nn

    from edgekit.compress.prune.attention import find_attentions
    from edgekit.families.layers import PreNorm, Residual

    children = list(container)
    pairs = [
        (i, i + 1)
        for i, (first, second) in enumerate(pairwise(children))
        if isinstance(first, PreNorm) and isinstance(second, PreNorm) and find_attentions(first)
    ]
    alone = [
        (i,)
        for i, child in enumerate(children)
        if isinstance(child, Residual) and isinstance(child.shortcut, nn.Identity)
    ]
    return tuple([*pairs, *alone])


def influence(model: TrainedModel, stack: Stack, split: Split) -> Array:
    """How much each block turns what goes through it: 1 - mean cosine of a token before and after, float64 (blocks,).

    Source: Men et al. 2024 (ShortGPT), arXiv:2403.03853, equation 1. Pictures (n, c, h, w) count a place as a token.
    """
    import torch

    container: Any = model.module.get_submodule(stack.path)
    before: dict[int, Tensor] = {}
    turned: list[list[float]] = [[] for _ in stack.blocks]

    def enter(index: int) -> Any:
        return lambda layer, inputs: before.__setitem__(index, _tokens(inputs[0]))

    def leave(index: int) -> Any:
        return lambda layer, inputs, out: turned[index].append(_turn(before.pop(index), _tokens(_first(out))))

    hooks = [container[block[0]].register_forward_pre_hook(enter(i)) for i, block in enumerate(stack.blocks)]
    hooks += [container[block[-1]].register_forward_hook(leave(i)) for i, block in enumerate(stack.blocks)]
    try:
        with torch.inference_mode():
            for part in split.matched(model.inputs).batches(model.inputs, _BATCH):
                model.module(*(torch.from_numpy(part.feeds[spec.name]) for spec in model.inputs))
    finally:
        for hook in hooks:
            hook.remove()
    return np.array([float(np.mean(each)) for each in turned])


def _first(out: Any) -> Tensor:
    found: Tensor = out[0] if isinstance(out, (tuple, list)) else out
    return found


def _tokens(x: Tensor) -> Tensor:
    """(tokens, width); copied, for a layer behind may work in place."""
    flat = x.movedim(1, -1) if x.ndim == 4 else x
    return flat.reshape(-1, flat.shape[-1]).clone()


def _turn(before: Tensor, after: Tensor) -> float:
    from torch.nn.functional import cosine_similarity

    return 1 - float(cosine_similarity(before, after, dim=1).mean())
