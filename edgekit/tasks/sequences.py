"""Sequences of ids that a model gives: whether they are right, and how far they are from right."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgekit.errors import DataError
from edgekit.specs import Array, Feeds
from edgekit.tasks.metric import Metric

NOTHING = -1  # what fills up a sequence that is shorter than the longest


def edit_distance(first: Sequence[int], second: Sequence[int]) -> int:
    """How many ids must be put in, taken out or replaced to make one sequence the other.

    >>> edit_distance([1, 2, 3], [2, 3, 4])
    2

    Source: Levenshtein 1966; Wagner and Fischer 1974, Journal of the ACM 21(1).
    """
    before = list(range(len(second) + 1))
    for row, ours in enumerate(first, start=1):
        now = [row]
        for column, theirs in enumerate(second, start=1):
            replaced = before[column - 1] + (ours != theirs)
            now.append(min(replaced, before[column] + 1, now[-1] + 1))
        before = now
    return before[-1]


def _all_right(outputs: Sequence[Array], labels: Array, feeds: Feeds) -> Array:
    pairs = _pairs("sequence-accuracy", outputs, labels)
    return np.array([float(got == wanted) for got, wanted in pairs])


def _distances(outputs: Sequence[Array], labels: Array, feeds: Feeds) -> Array:
    """Columns: edit distance, length of the right sequence."""
    pairs = _pairs("edit-distance", outputs, labels)
    return np.array([[edit_distance(got, wanted), len(wanted)] for got, wanted in pairs], dtype=np.float64)


def error_rate(scores: Array) -> float:
    """All edits over all ids that are right: the word error rate where ids are words.

    Args:
        scores: float64 (n, 2): edits, ids.
    """
    edits, ids = scores.sum(axis=0)
    return float(edits / ids) if ids else float("nan")


def _pairs(metric: str, outputs: Sequence[Array], labels: Array) -> list[tuple[list[int], list[int]]]:
    """What the model gave and what was right, without the filling."""
    given = outputs[0]
    ids = given.argmax(axis=-1) if given.dtype.kind == "f" else given
    if ids.ndim != 2 or labels.ndim != 2 or len(ids) != len(labels) or labels.dtype.kind not in "iu":
        raise DataError(
            f"metric {metric!r} needs ids (n, length) or logits (n, length, vocabulary), and labels int (n, length) "
            f"filled up with {NOTHING}; got {given.dtype} {given.shape} and labels {labels.dtype} {labels.shape}"
        )
    if given.dtype.kind == "f" and ids.shape == labels.shape:  # a logit a label: nothing was asked beyond the end
        ids = np.where(labels == NOTHING, NOTHING, ids)
    return [(_kept(a), _kept(b)) for a, b in zip(ids, labels, strict=True)]


def _kept(row: Array) -> list[int]:
    return [int(i) for i in row[row != NOTHING]]


SEQUENCE_ACCURACY = Metric("sequence-accuracy", True, "", _all_right, binary=True)
EDIT_DISTANCE = Metric("edit-distance", False, "", _distances, over=error_rate)
