"""Batches of pairs of texts without the padding that no sample of the batch needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_PAIR = ["source", "mask", "target"]


def without_idle_columns(names: Sequence[str], arrays: Sequence[Tensor], labels: Tensor) -> tuple[list[Tensor], Tensor]:
    """Cut source, mask, target and labels to the longest sample; a split is filled up to its own longest.

    The mask and the labels tell where a sample ends; what they hide changes nothing, so that only time is saved.

    Args:
        names: Of the arrays.
        arrays: int64 (n, length) or (n, target length) each.
        labels: int64 (n, target length), negative behind each sample's end.

    Returns:
        The arrays and the labels; as they were where they are not of pairs.
    """
    if list(names) != _PAIR:
        return list(arrays), labels
    source, mask, target = arrays
    read, written = int(mask.sum(dim=1).max()), int((labels >= 0).sum(dim=1).max())
    return [source[:, :read], mask[:, :read], target[:, :written]], labels[:, :written]
