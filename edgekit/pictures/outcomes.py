"""Which classes are taken for which, how sure a model is of it, and what compression changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgekit.specs import Array
from edgekit.tasks.classification import BINS, calibration_error

MOST_CLASSES = 30
_KEPT_CLASSES = 20
OTHER = "other"


def outcomes(
    labels: Array, answers: Mapping[str, Array], classes: Sequence[str], compared: Sequence[str]
) -> dict[str, Any]:
    """Figures of a classification.

    Args:
        labels: int64 (n,).
        answers: Model -> float64 (n, 3): confidence, whether it is right, and the class, the base first.
        classes: Their names.
        compared: The variants whose confusions are shown beside the base's.
    """
    base = next(iter(answers))
    shown = [base, *compared]
    counts = {name: confusion(labels, a[:, 2].astype(np.int64), len(classes)) for name, a in answers.items()}
    kept = most_confused([counts[name] for name in shown])
    return {
        "n": len(labels),
        "classes": [*(classes[i] for i in kept), *([OTHER] if len(kept) < len(classes) else [])],
        "confusion": {name: fold(counts[name], kept).tolist() for name in shown},
        "reliability": {name: reliability(a) for name, a in answers.items()},
        "changed": {name: changed(answers[base], answers[name]) for name in compared},
        "by_class": {
            "classes": [classes[i] for i in kept],
            "n": [int((labels == i).sum()) for i in kept],
            "right": {name: [int(c[i, i]) for i in kept] for name, c in counts.items()},
        },
    }


def confusion(labels: Array, predicted: Array, classes: int) -> Array:
    """Counts, int64 (true class, predicted class)."""
    return np.bincount(labels * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def most_confused(counts: Sequence[Array]) -> list[int]:
    """The classes to show: all of them up to 30, else the 20 with the most mistakes, in their order."""
    classes = len(counts[0])
    if classes <= MOST_CLASSES:
        return list(range(classes))
    mistakes = sum(c.sum(axis=0) + c.sum(axis=1) - 2 * np.diag(c) for c in counts)
    return sorted(np.argsort(-np.asarray(mistakes), kind="stable")[:_KEPT_CLASSES].tolist())


def fold(counts: Array, kept: Sequence[int]) -> Array:
    """The same counts with all classes that are not kept as one, the last."""
    if len(kept) == len(counts):
        return counts
    place = np.full(len(counts), len(kept))
    place[list(kept)] = np.arange(len(kept))
    folded = np.zeros((len(kept) + 1,) * 2, counts.dtype)
    np.add.at(folded, (place[:, None], place[None, :]), counts)
    return folded


def reliability(answers: Array) -> dict[str, Any]:
    """Confidence against accuracy in bins of equal width; None in a bin without samples.

    Args:
        answers: float64 (n, 3): confidence, whether it is right, and the class.

    Source: Guo et al. 2017, arXiv:1706.04599, section 2.
    """
    confidence, right = answers[:, 0], answers[:, 1]
    bins = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    count = np.bincount(bins, minlength=BINS)
    means = [np.bincount(bins, weights=w, minlength=BINS) / np.maximum(count, 1) for w in (confidence, right)]
    sure, accuracy = ([float(m) if c else None for m, c in zip(mean, count, strict=True)] for mean in means)
    return {
        "error": calibration_error(answers),
        "count": count.tolist(),
        "confidence": sure,
        "accuracy": accuracy,
    }


def changed(before: Array, after: Array) -> dict[str, int]:
    """How many answers compression changed, and which way."""
    other, was, now = before[:, 2] != after[:, 2], before[:, 1] == 1, after[:, 1] == 1
    return {
        "right_to_wrong": int((other & was).sum()),
        "wrong_to_right": int((other & now).sum()),
        "wrong_to_wrong": int((other & ~was & ~now).sum()),
    }
