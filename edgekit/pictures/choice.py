"""Which test samples are shown: by a fixed rule, so that nobody picks the pretty ones."""

from __future__ import annotations

import numpy as np

from edgekit.specs import Array

_CLASSES = 6
_CHANGED = 2
RULE = (
    f"Shown are the first test sample of each of the first {_CLASSES} classes, and the {_CHANGED} samples that "
    "compression changed most."
)


def first_of_classes(labels: Array, count: int = _CLASSES) -> list[int]:
    """Index of the first sample of each of the lowest classes."""
    _, first = np.unique(labels, return_index=True)
    return [int(i) for i in first[:count]]


def most_changed(change: Array, count: int = _CHANGED, without: list[int] | None = None) -> list[int]:
    """Indices of the samples that changed most, the most changed first.

    Args:
        change: float (n,), how much each sample changed.
        count: How many at most.
        without: Indices that are shown anyway.
    """
    order = np.argsort(-change, kind="stable")
    return [int(i) for i in order if int(i) not in (without or [])][:count]


def shown_classified(labels: Array, before: Array, after: Array) -> list[int]:
    """Samples of a classification: an answer that changed counts more than any change of confidence.

    Args:
        labels: int64 (n,).
        before: float64 (n, 3): confidence, whether it is right, and the class.
        after: The same of the compressed model.
    """
    first = first_of_classes(labels)
    change = (before[:, 2] != after[:, 2]) + np.abs(before[:, 0] - after[:, 0])
    return first + most_changed(change, without=first)
