"""What is asked of a scenario and what LoadGen answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from edgekit.errors import ModelError


class Scenario(StrEnum):
    """MLPerf's four ways in which samples arrive."""

    SINGLE_STREAM = "single-stream"
    MULTI_STREAM = "multi-stream"
    SERVER = "server"
    OFFLINE = "offline"


# Fewest queries after which LoadGen accepts a run: single-stream tells p90 from 64 on and MLPerf asks for 100; the 99th
# percentile needs 662 (multi-stream), or 459 of which none is late (server).
# Source: MLPerf Inference Rules, "Early Stopping"; loadgen/mlperf.conf.
_MIN_QUERIES = {
    Scenario.SINGLE_STREAM: 100,
    Scenario.MULTI_STREAM: 662,
    Scenario.SERVER: 459,
    Scenario.OFFLINE: 1,
}
MLPERF_SECONDS = 600.0
_MLPERF_OFFLINE_SAMPLES = 24576
_OFFLINE_BATCH = 8


@dataclass(frozen=True)
class LoadPlan:
    """How LoadGen loads the model.

    Attributes:
        scenario: How samples arrive: one after the other, `samples_per_query` at once, at random times, or all at once.
        min_seconds: Least duration of the run.
        min_queries: Least number of queries; None means the fewest that LoadGen accepts. Offline counts samples.
        target_qps: Queries a second of server; None means half of what one run after the other would give.
        latency_bound_ms: What 99 % of the server's queries must keep.
        samples_per_query: Of multi-stream.
        streams: Threads that run the model side by side, in server and offline.
    """

    scenario: Scenario
    min_seconds: float = 10.0
    min_queries: int | None = None
    target_qps: float | None = None
    latency_bound_ms: float = 100.0
    samples_per_query: int = 8
    streams: int = 1

    def check(self) -> None:
        """Refuse what LoadGen cannot do, before anything is loaded.

        Raises:
            ModelError: for a figure that is not above 0.
        """
        for name, value in vars(self).items():
            if isinstance(value, (int, float)) and not 0 < value < float("inf"):
                raise ModelError(f"{name} of a scenario is {value}; it must be a number above 0")

    @property
    def fewest_queries(self) -> int:
        """The least number of queries that is asked for."""
        return self.min_queries if self.min_queries is not None else _MIN_QUERIES[self.scenario]

    def batch(self, asked: int | None, fixed: int | None) -> int:
        """Samples in one run: as asked for, as the model fixes it, or what suits the scenario."""
        usual = {Scenario.MULTI_STREAM: self.samples_per_query, Scenario.OFFLINE: _OFFLINE_BATCH}
        return asked or fixed or usual.get(self.scenario, 1)


def official(scenario: Scenario, **changes: Any) -> LoadPlan:
    """The plan of MLPerf's rules: ten minutes, and for offline 24576 samples.

    Source: loadgen/mlperf.conf of mlcommons/inference.
    """
    samples = _MLPERF_OFFLINE_SAMPLES if scenario is Scenario.OFFLINE else None
    return LoadPlan(scenario, MLPERF_SECONDS, samples, **changes)


@dataclass(frozen=True)
class Figure:
    """The one figure by which a scenario is judged, such as the 90th percentile of latency."""

    name: str
    value: float
    unit: str


@dataclass(frozen=True)
class ScenarioResult:
    """One model under LoadGen.

    Attributes:
        valid: LoadGen's own verdict.
        reasons: Why it is INVALID, in LoadGen's words.
        figure: What the scenario is judged by.
        early_stopping_ms: LoadGen's estimate of the figure's percentile with 99 % confidence, which MLPerf takes as the
            result; None where the scenario has none or the queries are too few.
        latency_ms: Percentiles of the queries' latency; empty for offline, which has one query.
        per_second: Rates that LoadGen tells, by name.
        queries: Completed queries.
        completed_samples: Samples of all queries together.
        run_ms: Median of one run of the model alone, before LoadGen started.
        settings: What LoadGen was told.
        samples: How many different samples there are.
        logs: Where LoadGen's logs were put, if anywhere.
    """

    model: str
    provider: str
    providers_used: tuple[str, ...]
    scenario: Scenario
    valid: bool
    reasons: tuple[str, ...]
    figure: Figure
    early_stopping_ms: float | None
    latency_ms: Mapping[str, float]
    per_second: Mapping[str, float]
    queries: int
    completed_samples: int
    batch: int
    threads: int
    streams: int
    run_ms: float
    settings: Mapping[str, Any]
    samples: int
    inputs: Mapping[str, str]
    input_source: str
    loadgen: str
    notes: tuple[str, ...] = ()
    logs: str | None = None

    @property
    def verdict(self) -> str:
        """VALID or INVALID, as LoadGen says."""
        return "VALID" if self.valid else "INVALID"

    def as_dict(self) -> dict[str, Any]:
        """What JSON holds."""
        plain = {k: list(v) if isinstance(v, tuple) else v for k, v in vars(self).items()}
        return {**plain, "valid": self.valid, "verdict": self.verdict, "figure": vars(self.figure)}


@dataclass(frozen=True)
class ScenarioReport:
    """Every run, and once what holds for all of them; `complete` is False when the user stopped it."""

    results: tuple[ScenarioResult, ...]
    machine: Mapping[str, object]
    complete: bool = True
    notes: tuple[str, ...] = field(default=())

    def as_dict(self) -> dict[str, Any]:
        """What JSON holds."""
        return {
            "scenarios": [r.as_dict() for r in self.results],
            "machine": dict(self.machine),
            "notes": list(self.notes),
            "complete": self.complete,
        }
