"""Benchmarks: cold start, placement, latency with intervals, and verdicts of comparisons."""

from edgekit.bench.against import Changes, RowChange, changes_since
from edgekit.bench.compare import (
    LatencyComparison,
    RowComparison,
    Speedup,
    Verdict,
    compare_latency,
    compare_rows,
    speedup,
    verdict,
)
from edgekit.bench.kept import KeptReport, read_report
from edgekit.bench.measure import Plan, Samples, interleave
from edgekit.bench.records import BenchInterrupted, BenchReport, BenchRequest, BenchRow, ColdStart, Placement, Setting
from edgekit.bench.run import bench_models
from edgekit.bench.signature import refuse_other_signatures
from edgekit.bench.statistics import Latency

__all__ = [
    "BenchInterrupted",
    "BenchReport",
    "BenchRequest",
    "BenchRow",
    "Changes",
    "ColdStart",
    "KeptReport",
    "Latency",
    "LatencyComparison",
    "Placement",
    "Plan",
    "RowChange",
    "RowComparison",
    "Samples",
    "Setting",
    "Speedup",
    "Verdict",
    "bench_models",
    "changes_since",
    "compare_latency",
    "compare_rows",
    "interleave",
    "read_report",
    "refuse_other_signatures",
    "speedup",
    "verdict",
]
