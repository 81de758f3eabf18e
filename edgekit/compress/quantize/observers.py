"""What one tensor was seen to hold: a histogram that grows with the data's range, and the ranges read from it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from edgekit.errors import CompressError, unknown
from edgekit.specs import Array

Method = Literal["minmax", "percentile", "entropy", "mse"]
METHODS: tuple[Method, ...] = ("minmax", "percentile", "entropy", "mse")
BINS = 8192
_SAMPLE = 1 << 16
_MAX_CHANNELS = 8192
_MASK = 1e20  # exporters write masks as values near the float limits; no activation is so large


@dataclass(frozen=True)
class Range:
    """The interval of real numbers that a quantised tensor represents; zero is always inside.

    Attributes:
        low: At most 0.
        high: At least 0.
    """

    low: float
    high: float

    @property
    def finite(self) -> bool:
        """Whether a scale can be made of it; values near the float limits (masks) are refused too."""
        return bool(np.isfinite([self.low, self.high]).all()) and max(-self.low, self.high) < 1e20


@dataclass
class Observation:
    """A running summary of one tensor; its size does not depend on how much data it saw.

    The histogram spans [-limit, limit]. When a larger value comes, limit doubles and bins are merged in pairs, so one
    pass is enough and nothing is lost but resolution.

    Attributes:
        counts: int64 (BINS,); at most 65,536 evenly spread values of each array are counted.
        limit: A power of two; 0.0 before the first value that is not zero.
        zeros: How many of the counted values were exactly zero; those cost nothing in any quantisation.
        low: Smallest value of all data.
        high: Largest value of all data.
        channel_peak: (channels,) largest magnitude along axis 1; empty where there is no such axis.
        channel_sum: (channels,) sums along axis 1, for means.
        channel_n: How many values each channel summed.
    """

    counts: Array = field(default_factory=lambda: np.zeros(BINS, np.int64))
    limit: float = 0.0
    zeros: int = 0
    low: float = 0.0
    high: float = 0.0
    channel_peak: Array = field(default_factory=lambda: np.zeros(0))
    channel_sum: Array = field(default_factory=lambda: np.zeros(0))
    channel_n: int = 0

    def update(self, values: Array) -> None:
        """Take in one array of any shape; one that is not finite widens the range to infinity for good."""
        if not values.size:
            return
        low, high = float(values.min()), float(values.max())
        if np.isnan(low) or np.isnan(high):
            low, high = -np.inf, np.inf
        self.low, self.high = min(self.low, low), max(self.high, high)
        if not Range(self.low, self.high).finite:
            return
        self._count(_thinned(values))
        if values.ndim >= 2 and values.shape[1] <= _MAX_CHANNELS:
            self._add_channels(values)

    @property
    def channel_mean(self) -> Array:
        """(channels,) means along axis 1; empty where there is no such axis."""
        return self.channel_sum / max(self.channel_n, 1)

    def range(self, method: Method, *, percentile: float = 99.99, levels: int = 256, symmetric: bool = False) -> Range:
        """The interval that a calibrator chooses.

        Args:
            method: "minmax", "percentile", "entropy" or "mse".
            percentile: Share of the values, in percent, that stays inside; for "percentile".
            levels: Number of quantised values.
            symmetric: Whether zero will be in the middle of the quantised values.

        Raises:
            CompressError: for an unknown method.
        """
        if method not in METHODS:
            raise CompressError(unknown("calibration method", method, METHODS))
        seen = Range(self.low, self.high)
        if method == "minmax" or not seen.finite or self.limit == 0:
            return seen
        if method == "percentile":
            found = _percentile_range(self, percentile)
        elif method == "entropy":
            found = _entropy_range(self, levels)
        else:
            found = _mse_range(self, levels, symmetric)
        return Range(max(found.low, self.low), min(found.high, self.high))

    def above(self, floor: float) -> Observation:
        """The same with everything below `floor`, at most 0, raised to it: for readers that cannot tell it apart."""
        if self.low >= floor or not self.limit:
            return self
        counts, first = self.counts.copy(), int(np.searchsorted(self.centres, floor))
        counts[min(first, BINS - 1)] += counts[:first].sum()
        counts[:first] = 0
        return replace(self, counts=counts, low=floor)

    @property
    def centres(self) -> Array:
        """float64 (BINS,) the middle of every bin."""
        return (np.arange(BINS) + 0.5) * (2 * self.limit / BINS) - self.limit

    def to_json(self) -> dict[str, Any]:
        """A form that JSON holds; empty bins are left out."""
        used = np.flatnonzero(self.counts)
        return {
            "bins": used.tolist(),
            "counts": self.counts[used].tolist(),
            **{name: getattr(self, name) for name in ("limit", "zeros", "low", "high", "channel_n")},
            "channel_peak": self.channel_peak.tolist(),
            "channel_sum": self.channel_sum.tolist(),
        }

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Observation:
        """What `to_json` wrote."""
        made = cls(**{name: stored[name] for name in ("limit", "zeros", "low", "high", "channel_n")})
        made.counts[stored["bins"]] = stored["counts"]
        made.channel_peak, made.channel_sum = np.array(stored["channel_peak"]), np.array(stored["channel_sum"])
        return made

    def _count(self, values: Array) -> None:
        peak = max(-self.low, self.high)
        if peak > self.limit:
            self._widen(peak)
        self.zeros += values.size - int(np.count_nonzero(values))
        if self.limit:
            bins = ((values + np.float32(self.limit)) * np.float32(BINS / (2 * self.limit))).astype(np.int32)
            self.counts += np.bincount(np.clip(bins, 0, BINS - 1), minlength=BINS)
        else:
            self.counts[BINS // 2] += values.size

    def _widen(self, peak: float) -> None:
        wanted = float(2.0 ** np.ceil(np.log2(max(peak, 1e-30))))
        while self.limit and self.limit < wanted and self.counts.any():
            merged = np.zeros(BINS, np.int64)
            merged[BINS // 4 : 3 * BINS // 4] = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts, self.limit = merged, self.limit * 2
        self.limit = max(self.limit, wanted)

    def _add_channels(self, values: Array) -> None:
        rows = values.reshape(values.shape[0], values.shape[1], -1)
        peak = np.maximum(rows.max(axis=2), -rows.min(axis=2)).max(axis=0).astype(np.float64)
        total = rows.sum(axis=2, dtype=np.float32).sum(axis=0, dtype=np.float64)
        if self.channel_n and len(self.channel_peak) != len(peak):  # axis 1 is a length, not channels
            self.channel_peak, self.channel_sum = np.zeros(0), np.zeros(0)
            return
        self.channel_peak = np.maximum(self.channel_peak, peak) if self.channel_n else peak
        self.channel_sum = self.channel_sum + total if self.channel_n else total
        self.channel_n += rows.shape[0] * rows.shape[2]


def _thinned(values: Array) -> Array:
    flat = values.reshape(-1)
    stride = -(-flat.size // _SAMPLE)
    return (
        flat[:: stride | 1] if stride > 1 else flat
    )  # odd, so that it does not lock onto a row's or a channel's length


def _percentile_range(seen: Observation, percentile: float) -> Range:
    share = np.cumsum(seen.counts) / seen.counts.sum()
    tail = 1 - percentile / 100
    width = 2 * seen.limit / BINS
    first = int(np.searchsorted(share, tail, side="right"))
    last = int(np.searchsorted(share, 1 - tail, side="left"))
    return Range(min(first * width - seen.limit, 0.0), max((last + 1) * width - seen.limit, 0.0))


def _mse_range(seen: Observation, levels: int, symmetric: bool) -> Range:
    """The interval with the least expected squared error of rounding inside it and clipping outside it."""
    shares = np.linspace(0.1, 1.0, 91)
    low, high = seen.low, seen.high
    if symmetric:
        peaks = shares * max(-low, high)
        best = peaks[np.argmin(_squared_errors(seen, -peaks, peaks, levels - 1))]
        return Range(-float(best), float(best))
    for _ in range(2):  # one bound at a time; the second round settles both
        high = float((shares * seen.high)[np.argmin(_squared_errors(seen, low, shares * seen.high, levels))])
        low = float((shares * seen.low)[np.argmin(_squared_errors(seen, shares * seen.low, high, levels))])
    return Range(low, high)


def _squared_errors(seen: Observation, lows: Array | float, highs: Array | float, levels: int) -> Array:
    """Expected sum of squared errors for candidate bounds; moments of the tails come from running sums.

    Args:
        seen: The histogram.
        lows: (k,) or one number.
        highs: (k,) or one number.
        levels: Number of quantised values.

    Returns:
        float64 (k,).
    """
    lows, highs = np.broadcast_arrays(np.atleast_1d(lows), np.atleast_1d(highs))
    below = _tail(seen.counts, seen.centres, lows)
    above = _tail(seen.counts[::-1], -seen.centres[::-1], -highs)
    inside = seen.counts.sum() - below[0] - above[0] - seen.zeros
    step = (highs - lows) / (levels - 1)
    return np.asarray(np.maximum(inside, 0) * step**2 / 12 + below[1] + above[1])


def _tail(counts: Array, centres: Array, bounds: Array) -> tuple[Array, Array]:
    """How many values lie below each bound, and the sum of their squared distances to it."""
    moments = [np.concatenate([[0.0], np.cumsum(counts * centres**k)]) for k in range(3)]
    at = np.searchsorted(centres, bounds)
    n, first, second = (m[at] for m in moments)
    return n, np.maximum(second - 2 * bounds * first + bounds**2 * n, 0.0)


def _entropy_range(seen: Observation, levels: int) -> Range:
    """The threshold whose quantised distribution diverges least from the clipped one (Kullback-Leibler).

    Source: Migacz 2017, "8-bit inference with TensorRT". Magnitudes are used; for data of both signs half the levels
    are theirs. Exact zeros are left out: they are exact in every quantisation and would drown the rest.
    """
    half = BINS // 2
    counts = seen.counts[half:] + seen.counts[:half][::-1]
    counts = counts.astype(np.float64)
    counts[0] = max(counts[0] - seen.zeros, 0.0)
    used = levels if seen.low >= 0 or seen.high <= 0 else levels // 2
    top = int(np.flatnonzero(counts)[-1]) + 1 if counts.any() else half
    stops = np.unique(np.linspace(min(used, top), top, 128).astype(int))
    best = min(stops, key=lambda stop: _divergence(counts, int(stop), used))
    threshold = best * seen.limit / half
    return Range(max(-threshold, seen.low), min(threshold, seen.high))


def _divergence(counts: Array, stop: int, levels: int) -> float:
    """KL divergence of the clipped distribution from its quantised self, spread over the bins that hold values."""
    inside = counts[:stop]
    clipped = inside.copy()
    clipped[-1] += counts[stop:].sum()
    level = np.arange(stop) * levels // stop
    holds = inside > 0
    share = np.bincount(level, inside, levels) / np.maximum(np.bincount(level, holds, levels), 1)
    spread = np.where(holds, share[level], 0.0)
    if not spread.sum():
        return float("inf")
    p, q = clipped / clipped.sum(), spread / spread.sum()
    where = p > 0
    return float((p[where] * np.log(p[where] / np.maximum(q[where], 1e-12))).sum())
