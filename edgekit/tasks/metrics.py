"""Metrics: one definition for torch models, ONNX sessions, and bare outputs.

A metric is a value a sample and a way to reduce them; that streams, and it gives every figure an interval.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgekit.errors import DataError, unknown
from edgekit.specs import Array, Feeds

Z_95 = 1.959963984540054


@dataclass(frozen=True)
class Metric:
    """How good the outputs are.

    Attributes:
        name: Name in recipes, on the command line and in reports.
        higher_is_better: Its direction.
        unit: Unit of the reduced value; "" for a share between 0 and 1.
        score: (outputs, labels, feeds) of one batch -> float64 (n,), one value a sample.
        needs_labels: Whether labels must be given; without them score gets an empty array.
        reduce: Mean of the scores -> the value; identity for a mean.
        binary: Whether every score is 0 or 1, so that the interval is Wilson's.
    """

    name: str
    higher_is_better: bool
    unit: str
    score: Callable[[Sequence[Array], Array, Feeds], Array]
    needs_labels: bool = True
    reduce: Callable[[float], float] = float
    binary: bool = False

    def drop(self, before: float, after: float) -> float:
        """How much worse `after` is than `before`, in the metric's unit; negative if it is better."""
        return before - after if self.higher_is_better else after - before


@dataclass(frozen=True)
class MetricValue:
    """A metric with how it was measured: n samples and a 95 % interval."""

    name: str
    value: float
    ci95: tuple[float, float]
    n: int
    higher_is_better: bool
    unit: str = ""
    proxy: bool = False

    def as_dict(self) -> dict[str, Any]:
        """As JSON writes it."""
        return {**asdict(self), "ci95": list(self.ci95)}


def summarise(metric: Metric, scores: Array) -> MetricValue:
    """Reduce per-sample scores to a value and its 95 % interval.

    Args:
        metric: What was scored.
        scores: float64 (n,).

    Raises:
        DataError: if there are no scores.

    Source: Wilson 1927 for shares; the normal approximation of the mean otherwise.
    """
    n = len(scores)
    if n == 0:
        raise DataError(f"metric {metric.name!r} has no samples to work on; give data with at least one")
    mean = float(np.mean(scores))
    if metric.binary:
        centre = (mean + Z_95**2 / (2 * n)) / (1 + Z_95**2 / n)
        half = Z_95 / (1 + Z_95**2 / n) * float(np.sqrt(mean * (1 - mean) / n + Z_95**2 / (4 * n * n)))
        low, high = max(0.0, centre - half), min(1.0, centre + half)
    else:
        spread = Z_95 * float(np.std(scores, ddof=1)) / float(np.sqrt(n)) if n > 1 else float("inf")
        low, high = mean - spread, mean + spread
    bounds = sorted((metric.reduce(low), metric.reduce(high)))
    return MetricValue(
        metric.name, metric.reduce(mean), (bounds[0], bounds[1]), n, metric.higher_is_better, metric.unit
    )


def _top1(outputs: Sequence[Array], labels: Array, feeds: Feeds) -> Array:
    logits = outputs[0]
    if logits.ndim != 2:
        raise DataError(
            f"metric 'top1' needs outputs of shape (n, classes), got {logits.shape}; choose another --metric"
        )
    if labels.shape != logits.shape[:1]:
        raise DataError(f"metric 'top1' needs one label a sample, got labels {labels.shape} for outputs {logits.shape}")
    if labels.size and (labels.min() < 0 or labels.max() >= logits.shape[1]):
        raise DataError(
            f"labels must lie in 0..{logits.shape[1] - 1} for {logits.shape[1]} classes, "
            f"got {labels.min()}..{labels.max()}"
        )
    return np.asarray(logits.argmax(axis=1) == labels, dtype=np.float64)


def _squared_error(outputs: Sequence[Array], labels: Array, feeds: Feeds) -> Array:
    prediction = np.asarray(outputs[0], dtype=np.float64).reshape(len(labels), -1)
    wanted = np.asarray(labels, dtype=np.float64).reshape(len(labels), -1)
    if prediction.shape != wanted.shape:
        raise DataError(f"metric 'rmse' needs labels of the outputs' shape, got {wanted.shape} for {prediction.shape}")
    return np.asarray(((prediction - wanted) ** 2).mean(axis=1))


def _next_token_nll(outputs: Sequence[Array], labels: Array, feeds: Feeds) -> Array:
    logits, ids = outputs[0], next(iter(feeds.values()))
    if logits.ndim != 3:
        raise DataError(f"metric 'perplexity' needs outputs of shape (n, length, vocabulary), got {logits.shape}")
    shifted = logits[:, :-1].astype(np.float64)
    shifted -= shifted.max(axis=-1, keepdims=True)
    targets = ids[:, 1:, None].astype(np.int64)
    chosen = np.take_along_axis(shifted, targets, axis=-1)[..., 0]
    nll: Array = np.log(np.exp(shifted).sum(axis=-1)) - chosen
    return np.asarray(nll.mean(axis=1))


METRICS: dict[str, Metric] = {
    m.name: m
    for m in (
        Metric("top1", True, "", _top1, binary=True),
        Metric("rmse", False, "", _squared_error, reduce=lambda mean: float(np.sqrt(max(mean, 0.0)))),
        Metric("perplexity", False, "", _next_token_nll, needs_labels=False, reduce=lambda mean: float(np.exp(mean))),
    )
}


def find_metric(name: str) -> Metric:
    """The metric of this name.

    Raises:
        DataError: if there is none; the message holds the nearest.
    """
    try:
        return METRICS[name]
    except KeyError:
        raise DataError(unknown("metric", name, METRICS)) from None
