"""Labels: which of them are one, and which must stay, with the reason."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgekit.specs import Array

_REASONS = 3


@dataclass(frozen=True)
class Solution:
    """What a partition came to.

    Attributes:
        root: int64 (labels,): the smallest label of those that are one with each.
        reasons: Why a label must stay, by root; the others may go.
    """

    root: Array
    reasons: dict[int, tuple[str, ...]]

    def blocked(self, labels: Array) -> Array:
        """Which of some labels must stay, bool of their shape."""
        return np.isin(self.root[labels], np.fromiter(self.reasons, np.int64, len(self.reasons)))


class Partition:
    """Labels are made one by one, unified in pairs of arrays, and blocked; `solve` tells what follows from it."""

    def __init__(self) -> None:
        self._count = 0
        self._pairs: list[tuple[Array, Array]] = []
        self._blocks: list[tuple[Array, str]] = []

    def fresh(self, count: int) -> Array:
        """New labels, int64 (count,)."""
        made = np.arange(self._count, self._count + count, dtype=np.int64)
        self._count += count
        return made

    def unify(self, one: Array, other: Array) -> None:
        """Labels of two arrays of one shape (or one that broadcasts) are the same channel, position by position."""
        left, right = np.broadcast_arrays(one, other)
        self._pairs.append((left.ravel(), right.ravel()))

    def block(self, labels: Array, reason: str) -> None:
        """These labels must stay."""
        self._blocks.append((np.unique(labels), reason))

    def solve(self) -> Solution:
        """Connected components by label propagation with pointer jumping, all in NumPy."""
        root = np.arange(self._count, dtype=np.int64)
        if self._pairs:
            one = np.concatenate([a for a, _ in self._pairs])
            other = np.concatenate([b for _, b in self._pairs])
            root = _connect(root, one, other)
        reasons: dict[int, tuple[str, ...]] = {}
        for labels, reason in self._blocks:
            for r in np.unique(root[labels]).tolist():
                known = reasons.get(r, ())
                if reason not in known and len(known) < _REASONS:
                    reasons[r] = (*known, reason)
        return Solution(root, reasons)


def _connect(root: Array, one: Array, other: Array) -> Array:
    while True:
        low = np.minimum(root[one], root[other])
        before = root.copy()
        np.minimum.at(root, root[one], low)
        np.minimum.at(root, root[other], low)
        while not np.array_equal(root, root[root]):
            root = root[root]
        if np.array_equal(root, before):
            return root
