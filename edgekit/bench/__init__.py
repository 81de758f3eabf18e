"""Benchmarks: cold start, placement, latency with intervals, and verdicts of comparisons."""

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
    "ColdStart",
    "Latency",
    "LatencyComparison",
    "Placement",
    "Plan",
    "RowComparison",
    "Samples",
    "Setting",
    "Speedup",
    "Verdict",
    "bench_models",
    "compare_latency",
    "compare_rows",
    "interleave",
    "refuse_other_signatures",
    "speedup",
    "verdict",
]
