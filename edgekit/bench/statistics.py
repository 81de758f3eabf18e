"""Statistics of latencies: percentiles that the sample can carry, intervals of the median, drift.

Latencies are neither normal nor independent: they have a hard floor, a long tail, and neighbours in time that resemble
each other. So everything here ranks rather than averages, and pairs are taken inside one round of measurement.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from edgekit.specs import Array

# Fewest runs after which the largest of them lies above the percentile with 99 % confidence: 1 - q**n >= 0.99.
MIN_RUNS = {50: 1, 90: 44, 95: 90, 99: 459}
MIN_ROUNDS = 8
_DRIFT = 0.05

Interval = tuple[float, float]


@dataclass(frozen=True)
class Latency:
    """One distribution of latencies, in milliseconds; None where the runs are too few to say.

    Attributes:
        ci95_p50: 95 % interval of the median.
    """

    p50: float
    p90: float | None
    p95: float | None
    p99: float | None
    mean: float
    minimum: float
    ci95_p50: Interval | None

    def as_dict(self) -> dict[str, Any]:
        """What JSON holds."""
        return {**vars(self), "ci95_p50": None if self.ci95_p50 is None else list(self.ci95_p50)}


def summarise(values: Array, by_round: Array) -> Latency:
    """Percentiles, mean and interval of latencies.

    Args:
        values: (n,), n >= 1, one a run.
        by_round: (rounds,), the median of each round. The interval comes from these, because runs that follow each
            other at once are not independent and would promise too narrow an interval.
    """
    p50, interval = float(np.median(values)), median_interval(by_round)
    return Latency(
        p50=p50,
        p90=percentile(values, 90),
        p95=percentile(values, 95),
        p99=percentile(values, 99),
        mean=float(values.mean()),
        minimum=float(values.min()),
        ci95_p50=None if interval is None else (min(p50, interval[0]), max(p50, interval[1])),
    )


def percentile(values: Array, percent: int) -> float | None:
    """The percentile of values (n,), or None where n runs cannot tell it with 99 % confidence.

    >>> percentile(np.arange(43.0), 90) is None
    True
    """
    return float(np.percentile(values, percent)) if len(values) >= MIN_RUNS[percent] else None


def median_interval(values: Array, confidence: float = 0.95) -> Interval | None:
    """Interval of the median of values (n,) from order statistics; None below 6 values, which cannot give 95 %.

    The number of values below the median is binomial(n, 1/2), whatever the distribution.
    Source: Conover, Practical Nonparametric Statistics, section 3.2.

    >>> median_interval(np.arange(1.0, 11.0))
    (2.0, 9.0)
    """
    rank = _rank_below(len(values), confidence)
    if rank is None:
        return None
    ordered = np.sort(values)
    return float(ordered[rank - 1]), float(ordered[len(values) - rank])


@cache
def _rank_below(n: int, confidence: float) -> int | None:
    """Largest r for which the r-th smallest and the r-th largest of n values enclose the median, or None."""
    tail, below, rank = (1 - confidence) / 2, 0.0, 0
    log_all = n * math.log(2)
    while rank < n // 2:
        below += math.exp(math.lgamma(n + 1) - math.lgamma(rank + 1) - math.lgamma(n - rank + 1) - log_all)
        if below > tail:
            break
        rank += 1
    return rank or None


def paired_ratio(before: Array, after: Array) -> tuple[float, Interval | None]:
    """Median of before / after over rounds (n,) of each, with its 95 % interval.

    Both sides of a round were measured within milliseconds, so what slows the machine for longer cancels out.
    """
    logs = np.log(before) - np.log(after)
    interval = median_interval(logs) if len(logs) >= MIN_ROUNDS else None
    ratio = math.exp(float(np.median(logs)))
    return ratio, None if interval is None else (math.exp(interval[0]), math.exp(interval[1]))


def drift(values: Array) -> float | None:
    """Relative change of the median from the first to the last third of values (n,), where it is more than noise.

    None below 30 values, where the thirds' intervals overlap, or where the change is under 5 %.
    """
    if len(values) < 30:
        return None
    first, last = values[: len(values) // 3], values[-(len(values) // 3) :]
    a, b = median_interval(first), median_interval(last)
    change = float(np.median(last) / np.median(first) - 1)
    apart = a is not None and b is not None and (a[1] < b[0] or b[1] < a[0])
    return change if apart and abs(change) > _DRIFT else None
