"""What changed since a report that was kept: regressions, row by row."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from edgekit.bench.compare import Speedup, Verdict, verdict
from edgekit.bench.kept import KeptReport, KeptRow
from edgekit.bench.records import BenchReport, BenchRow, Setting
from edgekit.bench.statistics import MIN_ROUNDS, Interval
from edgekit.specs import Array

# Two runs on one machine differ by more than two models measured in turns: nothing that disturbs them cancels out.
TOLERANCE = 0.05
_RESAMPLES = 1000
_STOPPED = ("it was stopped before it was complete",)
# Facts that can change a latency; what is installed beside ONNX Runtime cannot.
_UNTIMED_FACTS = ("memory_bytes", "python", "versions")
_TIMED_PACKAGES = ("onnxruntime", "edgekit")


@dataclass(frozen=True)
class RowChange:
    """One row now against the same row then; a speed-up below 1 is slower."""

    model: str
    setting: Setting
    before_ms: float
    after_ms: float
    speedup: Speedup
    verdict: Verdict

    def as_dict(self) -> dict[str, Any]:
        """What JSON holds."""
        interval = self.speedup.ci95
        return {
            "model": self.model,
            **self.setting._asdict(),
            "before_ms": self.before_ms,
            "after_ms": self.after_ms,
            "speedup": self.speedup.ratio,
            "ci95": None if interval is None else list(interval),
            "verdict": str(self.verdict),
        }


@dataclass(frozen=True)
class Changes:
    """A report against one that was kept.

    Attributes:
        path: Of the report that was kept.
        rows: What both have.
        missing: Rows that only the old report has, in words.
        new: Rows that only the new report has, in words.
        differences: What differs between the two machines, in words.
    """

    path: Path
    rows: tuple[RowChange, ...]
    missing: tuple[str, ...] = ()
    new: tuple[str, ...] = ()
    differences: tuple[str, ...] = ()

    @property
    def regressions(self) -> tuple[RowChange, ...]:
        """The rows that are slower now."""
        return tuple(row for row in self.rows if row.verdict is Verdict.SLOWER)

    def as_dict(self) -> dict[str, Any]:
        """What JSON holds."""
        return {
            "report": str(self.path),
            "rows": [row.as_dict() for row in self.rows],
            "regressions": len(self.regressions),
            "missing": list(self.missing),
            "new": list(self.new),
            "machine_differences": list(self.differences),
        }


def changes_since(kept: KeptReport, report: BenchReport, tolerance: float | None = None) -> Changes:
    """Each row of a report against the row of the same model, setting and inputs in a report that was kept.

    Args:
        kept: The old report.
        report: The new one.
        tolerance: How much slower or faster is no change yet, as a share; TOLERANCE where it is not given.
    """
    margin = TOLERANCE if tolerance is None else tolerance
    pairs = _paired(kept.rows, report.rows)
    old, new = {id(a) for a, _ in pairs}, {id(b) for _, b in pairs}
    return Changes(
        path=kept.path,
        rows=tuple(_change(a, b, margin) for a, b in pairs),
        missing=tuple(_label(row, report.rows) for row in kept.rows if id(row) not in old),
        new=tuple(_label(row, kept.rows) for row in report.rows if id(row) not in new),
        differences=(*_differences(kept.machine, report.machine), *_STOPPED[: not kept.complete]),
    )


def _paired(old: Sequence[KeptRow], new: Sequence[BenchRow]) -> list[tuple[KeptRow, BenchRow]]:
    """Rows of one path first; then rows of one file name, where that names one model on each side."""
    found: dict[int, tuple[KeptRow, BenchRow]] = {}
    for by_name in (False, True):
        left = [row for row in old if all(row is not a for a, _ in found.values())]
        open_rows = [row for row in new if id(row) not in found]
        for row in open_rows:
            match = next((a for a in left if _is_same(a, row, by_name, left, open_rows)), None)
            if match is not None:
                left = [a for a in left if a is not match]
                found[id(row)] = (match, row)
    return [found[id(row)] for row in new if id(row) in found]


def _is_same(a: KeptRow, b: BenchRow, by_name: bool, old: Sequence[KeptRow], new: Sequence[BenchRow]) -> bool:
    if a.setting != b.setting or _inputs(a) != _inputs(b):
        return False
    if not by_name:
        return a.model == b.model
    name = PurePath(b.model).name
    return PurePath(a.model).name == name and all(
        len({row.model for row in rows if PurePath(row.model).name == name}) == 1 for rows in (old, new)
    )


def _label(row: KeptRow | BenchRow, others: Sequence[KeptRow | BenchRow]) -> str:
    """A row in words; with its threads and inputs where the other side has it with others."""
    name = PurePath(row.model).name
    named = [o for o in others if PurePath(o.model).name == name]
    alike = [o for o in named if o.setting._replace(threads=row.setting.threads) == row.setting]
    threads = f", {row.setting.threads} threads" if any(o.setting != row.setting for o in alike) else ""
    inputs = _inputs(row)
    differ = any(_inputs(other) != inputs for other in alike)
    shapes = f" with {', '.join(f'{n} {shape}' for n, shape in inputs.items())}" if differ else ""
    return f"{row.model} on {row.setting}{threads}{shapes}"


def _inputs(row: KeptRow | BenchRow) -> dict[str, str]:
    return dict(row.inputs if isinstance(row, KeptRow) else row.cold.inputs)


def _change(before: KeptRow, after: BenchRow, margin: float) -> RowChange:
    ratio = before.p50_ms / after.latency_ms.p50
    gain = Speedup(ratio, _interval(before, after, ratio), 0)
    return RowChange(
        after.model, after.setting, before.p50_ms, after.latency_ms.p50, gain, verdict(gain, margin=margin)
    )


def _interval(before: KeptRow, after: BenchRow, ratio: float) -> Interval | None:
    """From the rounds of both where they were kept, else from the intervals of both medians."""
    then = None if before.samples is None else before.samples.round_medians()
    now = after.samples.round_medians()
    if then is not None and min(len(then), len(now)) >= MIN_ROUNDS:
        low, high = ratio_interval(then, now)
        return min(low, ratio), max(high, ratio)
    if before.ci95 is None or after.latency_ms.ci95_p50 is None:
        return None
    return ratio_of_intervals(before.p50_ms, before.ci95, after.latency_ms.p50, after.latency_ms.ci95_p50)


def ratio_interval(before: Array, after: Array, seed: int = 0) -> Interval:
    """95 % interval of median(before) / median(after) of rounds (n,) and (m,) that were not taken together.

    Blocks of neighbours are drawn rather than single rounds, for neighbours in time resemble each other.
    Source: Politis and Romano 1992, A circular block-resampling procedure for stationary data.
    """
    rng = np.random.default_rng(seed)
    ratios = _block_medians(before, rng) / _block_medians(after, rng)
    low, high = np.percentile(ratios, (2.5, 97.5))
    return float(low), float(high)


def _block_medians(values: Array, rng: np.random.Generator) -> Array:
    """Medians of resamples of values (n,): float64 (resamples,)."""
    n = len(values)
    length = max(1, math.isqrt(n))
    starts = rng.integers(n, size=(_RESAMPLES, math.ceil(n / length)))
    drawn = (starts[..., None] + np.arange(length)).reshape(_RESAMPLES, -1)[:, :n] % n
    return np.asarray(np.median(values[drawn], axis=1))


def ratio_of_intervals(before: float, before_ci95: Interval, after: float, after_ci95: Interval) -> Interval:
    """95 % interval of before / after from an interval of each, in logarithms.

    Source: Zou and Donner 2008, Construction of confidence limits about effect measures (MOVER).

    >>> [round(bound, 3) for bound in ratio_of_intervals(2.0, (1.9, 2.1), 1.0, (0.95, 1.05))]
    [1.863, 2.147]
    """
    (low, high), (after_low, after_high) = before_ci95, after_ci95
    ratio = math.log(before / after)
    down = math.hypot(math.log(before / low), math.log(after_high / after))
    up = math.hypot(math.log(high / before), math.log(after / after_low))
    return math.exp(ratio - down), math.exp(ratio + up)


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    for key in [k for k in {**old, **new} if k not in _UNTIMED_FACTS]:
        if _settled(old.get(key)) != _settled(new.get(key)):
            yield f"{key.replace('_', ' ')} was {_told(old.get(key))}, is {_told(new.get(key))}"
    then, now = old.get("versions") or {}, new.get("versions") or {}
    for package in [p for p in {**then, **now} if p.startswith(_TIMED_PACKAGES)]:
        if then.get(package) != now.get(package):
            yield f"{package} was {_told(then.get(package))}, is {_told(now.get(package))}"


def _settled(value: Any) -> Any:
    """A fact as JSON gives it back."""
    if isinstance(value, (list, tuple)):
        return [_settled(v) for v in value]
    return {k: _settled(v) for k, v in value.items()} if isinstance(value, Mapping) else value


def _told(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_told, value)) or "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_told(v)}" for k, v in value.items()) or "none"
    return "not known" if value is None else str(value)
