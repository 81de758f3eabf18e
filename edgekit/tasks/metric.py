"""A metric is a score a sample and a way to reduce them: that streams, and it gives every figure an interval."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgekit.errors import DataError
from edgekit.specs import Array, Feeds

Z_95 = 1.959963984540054
_GROUPS = 20


@dataclass(frozen=True)
class Metric:
    """How good the outputs are: one definition for torch models, ONNX sessions, and bare outputs.

    Attributes:
        name: Name in recipes, on the command line and in reports.
        higher_is_better: Its direction.
        unit: Unit of the reduced value; "" for a share between 0 and 1.
        score: (outputs, labels, feeds) of one batch -> float64 (n,), one value a sample; (n, k) if `over` reduces them.
        needs_labels: Whether labels must be given; without them score gets an empty array.
        reduce: Mean of the scores -> the value; identity for a mean.
        binary: Whether every score is 0 or 1, so that the interval is Wilson's.
        over: All scores -> the value, for what is no function of their mean.
        needs_judge: Whether a classifier of the data must be bound to it first (`edgekit.judge`).
    """

    name: str
    higher_is_better: bool
    unit: str
    score: Callable[[Sequence[Array], Array, Feeds], Array]
    needs_labels: bool = True
    reduce: Callable[[float], float] = float
    binary: bool = False
    over: Callable[[Array], float] | None = None
    needs_judge: bool = False

    def value(self, scores: Array) -> float:
        """All scores -> the value."""
        return self.over(scores) if self.over else self.reduce(float(np.mean(scores)))

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
        scores: float64 (n,) or (n, k).

    Raises:
        DataError: if there are no scores.

    Source: Wilson 1927 for shares; the normal approximation for means; else the delete-group jackknife.
    """
    if len(scores) == 0:
        raise DataError(f"metric {metric.name!r} has no samples to work on; give data with at least one")
    value = metric.value(scores)
    bounds = sorted(_interval(metric, scores, value))
    return MetricValue(metric.name, value, (bounds[0], bounds[1]), len(scores), metric.higher_is_better, metric.unit)


def _interval(metric: Metric, scores: Array, value: float) -> tuple[float, float]:
    n, mean = len(scores), float(np.mean(scores))
    if metric.over is not None:
        half = jackknife(lambda kept: metric.value(scores[kept]), n)
        return value - half, value + half
    if metric.binary:
        low, high = wilson(mean, n)
    else:
        spread = Z_95 * float(np.std(scores, ddof=1)) / float(np.sqrt(n)) if n > 1 else float("inf")
        low, high = mean - spread, mean + spread
    return metric.reduce(low), metric.reduce(high)


def wilson(share: float, n: int) -> tuple[float, float]:
    """The 95 % interval of a share of n samples (Wilson 1927)."""
    centre = (share + Z_95**2 / (2 * n)) / (1 + Z_95**2 / n)
    half = Z_95 / (1 + Z_95**2 / n) * float(np.sqrt(share * (1 - share) / n + Z_95**2 / (4 * n * n)))
    return max(0.0, centre - half), min(1.0, centre + half)


def jackknife(statistic: Callable[[Array], float], n: int) -> float:
    """Half the 95 % interval of a statistic of n samples; infinite for one sample.

    The samples are dealt into up to 20 groups, and the statistic is taken anew without each of them.

    Args:
        statistic: Mask of the samples that stay, bool (n,) -> value.
        n: Number of samples.

    Source: Shao and Tu 1995, The Jackknife and Bootstrap, section 2.3.
    """
    groups = min(_GROUPS, n)
    if groups < 2:
        return float("inf")
    dealt = np.arange(n) % groups
    without = np.array([statistic(dealt != g) for g in range(groups)])
    variance = (groups - 1) / groups * float(np.square(without - without.mean()).sum())
    return _t_95(groups - 1) * math.sqrt(variance)


def _t_95(freedom: int) -> float:
    """Student's t at 97.5 % (Abramowitz and Stegun 1964, 26.7.5), to 1 % from 3 degrees of freedom on."""
    z, v = Z_95, freedom
    first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / v + second / v**2 + third / v**3
