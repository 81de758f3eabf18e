"""Reordering the channels of a group: the function stays the same, and neighbours become others."""

from __future__ import annotations

from collections.abc import Collection
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from edgekit.compress.prune.slots import Group, stacked
from edgekit.specs import Array

if TYPE_CHECKING:
    from torch import nn

_PASSES = 2


def permute(module: nn.Module, group: Group, order: Array) -> None:
    """Put channels in another order wherever they lie.

    Args:
        module: Changed in place.
        group: Of its channels.
        order: Which channel comes to each place, int64 (channels,).
    """
    import torch

    with torch.no_grad():
        for slot in group.slots:
            value = getattr(module.get_submodule(slot.layer), slot.tensor)
            index = np.arange(value.shape[slot.axis])
            index[slot.places.reshape(-1)] = slot.places[order].reshape(-1)
            value.copy_(value.index_select(slot.axis, torch.from_numpy(index)))


def search_order(module: nn.Module, group: Group, names: Collection[str], few: int, many: int) -> Array | None:
    """An order of a group's channels in which the largest weights of every few neighbours are larger.

    Channels of two groups of neighbours are swapped while the magnitude that stays grows.

    Args:
        module: Where they lie.
        group: Of channels.
        names: The weights that are made sparse.
        few: How many of each neighbours stay.
        many: How many neighbours there are.

    Returns:
        int64 (channels,); None where no order matters.

    Source: Pool and Yu 2021, Channel Permutations for N:M Sparsity, NeurIPS; swaps of pairs in place of their search.
    """
    read = [
        stacked(slot, getattr(module.get_submodule(slot.layer), slot.tensor).detach()).abs().numpy()
        for slot in group.slots
        if slot.axis == 1 and slot.places.shape[1] == 1 and f"{slot.layer}.{slot.tensor}".lstrip(".") in names
    ]
    if not read or group.count % many or group.count == many:
        return None
    columns = np.concatenate(read, axis=1).astype(np.float64)
    stripes = np.arange(group.count).reshape(-1, many)
    for _ in range(_PASSES):
        swaps = [_swap(columns, stripes, one, other, few) for one, other in combinations(range(len(stripes)), 2)]
        if not any(swaps):
            break
    return stripes.reshape(-1)


def _swap(columns: Array, stripes: Array, one: int, other: int, few: int) -> bool:
    """Swap the two channels of two stripes that gain most; False where none gains."""
    many = stripes.shape[1]
    now = _stay(columns[stripes[one]], few) + _stay(columns[stripes[other]], few)
    best, place = now * (1 + 1e-9), None
    for i in range(many):
        for j in range(many):
            first, second = stripes[one].copy(), stripes[other].copy()
            first[i], second[j] = second[j], first[i]
            then = _stay(columns[first], few) + _stay(columns[second], few)
            if then > best:
                best, place = then, (i, j)
    if place is None:
        return False
    i, j = place
    stripes[one, i], stripes[other, j] = stripes[other, j], stripes[one, i]
    return True


def _stay(columns: Array, few: int) -> float:
    """Sum of the largest of each row: (many, rows) -> what stays."""
    return float(np.partition(columns, len(columns) - few, axis=0)[len(columns) - few :].sum())
