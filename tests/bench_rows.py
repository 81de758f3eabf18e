"""Rows of a benchmark with figures that can be told beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgekit.bench import BenchReport, BenchRow, ColdStart, Placement, Samples
from edgekit.bench.records import OperatorTime
from edgekit.bench.statistics import summarise

MACHINE: dict[str, Any] = {
    "cpu": "some <CPU>",
    "cores": 2,
    "cpu_features": ["AVX2", "AVX512F"],
    "memory_bytes": 8_000_000_000,
    "gpu": None,
    "versions": {"onnxruntime": "1.31.1", "edgekit": "0.1.0"},
}


def samples(ms: float, rounds: int = 20, runs: int = 30, seed: int = 0) -> Samples:
    """Runs within 1 % of a median, in rounds."""
    noise = np.random.default_rng(seed).uniform(0.99, 1.01, rounds * runs)
    return Samples(ms * noise, np.repeat(np.arange(rounds), runs))


def row(
    model: str = "a.onnx", ms: float = 2.0, batch: int = 1, taken: Samples | None = None, **changes: Any
) -> BenchRow:
    """A row whose median latency is `ms`."""
    taken = samples(ms) if taken is None else taken
    cold = ColdStart(
        batch=batch,
        session_ms=12.3456,
        first_run_ms=3.21,
        baseline_rss_bytes=50_000_000,
        load_rss_bytes=60_000_000,
        peak_rss_bytes=70_000_000,
        providers_used=("CPUExecutionProvider",),
        placement={"CPUExecutionProvider": Placement(3, 1.0)},
        memcpy_nodes=0,
        operators=(
            OperatorTime("MatMul", "CPUExecutionProvider", 2, 0.75),
            OperatorTime("Relu", "CPUExecutionProvider", 1, 0.25),
        ),
        inputs={"x": f"float32 {batch}x16"},
    )
    held = {
        "model": model,
        "provider": "cpu",
        "threads": 2,
        "cold": cold,
        "latency_ms": summarise(taken.ms, taken.round_medians()),
        "size_bytes": 1234,
        "samples": taken,
        "input_source": "generated",
    }
    return BenchRow(**{**held, **changes})


def report(rows: Sequence[BenchRow], **changes: Any) -> BenchReport:
    """A report of these rows."""
    return BenchReport(**{"rows": tuple(rows), "machine": MACHINE, **changes})
